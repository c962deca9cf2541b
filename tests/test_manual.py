"""The manual page: right roff, with all the commands and options there are, and the same on every day."""

import re
import subprocess
from collections.abc import Iterator

import click

from notifier.cli import main
from notifier.cli.manual import escape, page
from tests.support.machine import needs
from tests.support.process import COMMAND, environment


def roff() -> str:
    return "\n".join(page(click.Context(main, info_name="notifier"))) + "\n"


def rendered(text: str) -> str:
    """Return what a reader sees, on lines long enough for every paragraph."""
    needs("mandoc")
    shown = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=1000"], input=text, capture_output=True, text=True, check=True
    )
    return re.sub(".\b", "", shown.stdout)


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join([*above, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


def test_the_page_is_free_of_warnings() -> None:
    needs("mandoc")
    arguments = ["mandoc", "-T", "lint", "-W", "warning"]
    checked = subprocess.run(arguments, input=roff(), capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_every_command_is_there_with_what_it_does_and_all_its_options() -> None:
    text = rendered(roff())
    for name, command in commands(main, "notifier"):
        section = re.search(rf"^ +{name}( [^a-z\n].*)?\n +(.*)\n([^┃]*?)(?=^ +notifier |^[A-Z])", text, re.M)
        assert section, name
        assert section[2] == " ".join((command.help or "").split("\n\n")[0].split())
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1] in section[3]
                assert parameter.help is not None
                assert parameter.help in text


def test_what_no_command_says_of_itself_is_there_too() -> None:
    text = rendered(roff())
    for section, word in (
        ("EXIT STATUS", "78"),
        ("ENVIRONMENT", "NOTIFIER_CONFIG"),
        ("FILES", "/etc/notifier/watchlist.yaml"),
        ("SIGNALS", "SIGHUP"),
        ("SEE ALSO", "systemctl(1)"),
    ):
        assert re.search(rf"^{section}\n(\n| .*\n)*? +{re.escape(word)}", text, re.MULTILINE), section


def test_the_page_is_the_same_on_every_day() -> None:
    needs("faketime")
    arguments = ["faketime", "2031-05-06", str(COMMAND), "man"]
    printed = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=True)
    assert printed.stdout == roff()


def test_no_text_is_taken_for_roff() -> None:
    text = ".SH no section\n'br \\fBnot bold\\fR -- \\n(.x ..."
    shown = rendered(f'.TH X 1 "2026-11-25"\n.SH NAME\nx \\- y\n.nf\n{escape(text)}\n.fi\n')
    assert [line.strip() for line in shown.splitlines() if line.strip()][3:-1] == text.splitlines()
