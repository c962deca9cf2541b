"""What README.md and config/ show works as shown."""

import re
from pathlib import Path

import pytest

from notifier.cli import main
from notifier.loading import load_content
from notifier.secret import Sources

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, without the indentation of the list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_watchlist_in_the_readme_is_valid(text: str) -> None:
    loaded = load_content(text.encode(), "README.md", resolve=False, sources=Sources({}))
    assert loaded.config.watch
    assert loaded.warnings == ()


def test_the_two_set_up_commands_stand_where_a_newcomer_looks() -> None:
    for name, command in (("run", "notifier demo"), ("test", "pytest")):
        found = re.search(rf"<!-- newcomer: {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
        assert found is not None
        assert command in found[1].splitlines()[-1]


def test_every_command_that_exists_is_in_the_readme_and_no_other() -> None:
    table = README.partition("## Commands")[2].partition("##")[0]
    named = set(re.findall(r"^\| `notifier (\w+)", table, re.MULTILINE))
    assert named == set(main.commands)


def test_every_link_to_a_file_leads_to_one() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).is_file(), target
