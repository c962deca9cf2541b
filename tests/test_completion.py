"""What Tab gives in real shells, and that it is quick and silent whatever is wrong."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from notifier.cli import main
from notifier.cli.completion import Bash
from notifier.delivery import DeliveryState
from notifier.store import Owed, Settlement, Store
from notifier.track import parse
from notifier.transition import Sighting
from tests.support.hostile import NOW
from tests.support.machine import needs
from tests.support.process import command
from tests.support.shells import around, terminal
from tests.support.tracks import audio_id, completed
from tests.targets.given import news

Tab = Callable[[str], list[list[str]]]
WATCHLIST = """\
useapi: {{token: "${{env:TOKEN}}"}}
targets:
  archive: {{type: webhook, url: "${{file:{fifo}}}"}}
  band-room: {{type: slack, url: "${{credential:slack-url}}"}}
watch:
  - {{audio_id: '{first}', name: 'Intro: theme, "loud"'}}
  - {strange}
state: {state}
"""
STRANGE = "user:9-pixverse:$(touch${IFS}pwned);*'`&@example.com-music:9"
"""An audio_id as a shell must never read one."""
LINES = {
    "notifier test --event failed archive b": ["test", "--event", "failed", "archive", "band-room"],
    "notifier deliveries --target=ar": ["deliveries", "--target=archive"],
    "notifier watch remove user:9": ["watch", "remove", STRANGE],
}
"""What is typed before Tab in a real shell, and the words after it."""

OFFERED = {
    "notifier completion ": ["bash", "zsh", "fish"],
    "notifier deliveries r": ["retry"],
    "notifier deliveries --sta": ["--state-file", "--state"],
    "notifier deliveries list --state d": ["delivered", "dead"],
    "notifier deliveries retry ": ["2"],
    "notifier deliveries retry 2 ": [],
    "notifier deliveries --target band-room retry ": [],
    "notifier deliveries --target archive drop ": ["2"],
    "notifier resume ": ["archive", "band-room"],
    "notifier resume 'ban": ["band-room"],
    "notifier test archive ": ["band-room"],
    "notifier test --event ": ["completed", "failed"],
    "notifier check --res": ["--resolve"],
    "notifier watch ": ["add", "remove"],
    "notifier watch remove user:9-": [STRANGE],
    "notifier watch add --notify ar": ["archive"],
    "notifier watch add --notify archive --notify ": ["band-room"],
    "notifier watch add --event=st": ["--event=stalled"],
}
"""What is offered where the cursor stands at the end of a line."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a watchlist, two deliveries, the second of them dead, and the shells' scripts.

    A reference leads to a pipe that nobody writes to: who resolved it would wait for ever.
    """
    path = tmp_path_factory.mktemp("completion")
    os.mkfifo(path / "fifo")
    text = WATCHLIST.format(
        fifo=path / "fifo",
        first=audio_id(1),
        strange=json.dumps(STRANGE.replace("$", "$$")),
        state=path / "state.db",
    )
    (path / "watchlist.yaml").write_text(text)
    asyncio.run(fill(path / "state.db"))
    for shell, file in (("bash", "notifier"), ("zsh", "_notifier"), ("fish", "notifier.fish")):
        (path / file).write_text(CliRunner().invoke(main, ["completion", shell]).output)
    return path


async def fill(state: Path) -> None:
    async with Store(state) as store:
        sighting = Sighting("COMPLETED", is_final=True, name="Track 1", first_seen=NOW)
        owed = [Owed(news(fields=completed(1)), ("band-room", "archive"))]
        await store.record(audio_id(1), sighting, parse(completed(1)), owed, now=NOW)
        await store.settle(
            Settlement("archive", (2,), NOW, 422, "bad", "HTTP 422: bad", "rejected", DeliveryState.DEAD)
        )


def in_zsh(directory: Path) -> str:
    return f"fpath=({directory} $fpath); autoload -Uz compinit; compinit -D -u"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_commands_options_and_values(directory: Path, shell: str) -> None:
    needs(shell)
    options, setup = {
        "bash": (["--norc", "--noprofile"], f"source {directory}/notifier"),
        "zsh": (["-f"], in_zsh(directory)),
    }[shell]
    variables = {"NOTIFIER_CONFIG": str(directory / "watchlist.yaml")}
    with terminal([shell, *options, "-i"], setup, variables) as typed:
        for line, words in LINES.items():
            assert typed.completed(line) == ["notifier", *words]
        for option in ("-c ", "--config="):
            words = typed.completed(f"notifier check {option}{directory}/watch")
            assert words[-1].removeprefix("--config=") == f"{directory}/watchlist.yaml"


def test_tab_completes_commands_options_and_values_in_fish(directory: Path) -> None:
    needs("fish")
    variables = around({"NOTIFIER_CONFIG": str(directory / "watchlist.yaml"), "HOME": str(directory)})
    files = [f"notifier check {option}{directory}/watch" for option in ("-c ", "--config=")]
    asked = "".join(f'complete -C "{line}"; echo END; ' for line in [*LINES, *files])
    arguments = ["fish", "--no-config", "-c", f"source {directory}/notifier.fish; {asked}"]
    done = subprocess.run(arguments, env=variables, capture_output=True, text=True, check=True)
    *answers, file, with_option, end = done.stdout.split("END\n")
    assert (done.stderr, end) == ("", "")
    for line, words, offered in zip(LINES, LINES.values(), answers, strict=True):
        assert [one.split("\t")[0] for one in offered.splitlines()] == [words[-1]], line
    assert file == f"{directory}/watchlist.yaml\n"
    assert with_option == f"--config={file}"


@pytest.fixture
def tab(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tab:
    """Return what answers a shell, which nobody may hear of."""

    def press(line: str) -> list[list[str]]:
        monkeypatch.setenv("COMP_LINE", line)
        answer = Bash(main, {}, "notifier", "_NOTIFIER_COMPLETE").complete()
        assert capfd.readouterr() == ("", "")
        return [one.split("\t") for one in answer.splitlines()]

    return press


@pytest.mark.parametrize(("line", "words"), OFFERED.items())
def test_what_may_stand_at_the_cursor_is_offered(
    directory: Path, tab: Tab, monkeypatch: pytest.MonkeyPatch, line: str, words: list[str]
) -> None:
    monkeypatch.setenv("NOTIFIER_CONFIG", str(directory / "watchlist.yaml"))
    assert [(kind, word) for kind, word, _ in tab(line)] == [("plain", word) for word in words]


def test_words_come_with_what_they_mean(directory: Path, tab: Tab) -> None:
    file = directory / "watchlist.yaml"
    assert tab(f"notifier resume -c {file} b") == [["plain", "band-room", "slack"]]
    assert tab(f"notifier deliveries -c {file} show ") == [
        ["plain", "2", "Intro theme to archive: HTTP 422: bad"]
    ]


def test_a_mistake_in_the_watchlist_takes_no_target_away(tmp_path: Path, tab: Tab) -> None:
    file = tmp_path / "watchlist.yaml"
    file.write_text("targets: {one: {type: slakc}, two: }\nwatch: 3\n")
    assert tab(f"notifier test -c {file} ") == [["plain", "one", "slakc"], ["plain", "two", ""]]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "notifier resume -c {tmp}/absent ",
        "notifier resume -c {tmp}/binary ",
        "notifier deliveries -c {tmp}/binary retry ",
        "notifier deliveries -c {valid} --state-file {tmp}/binary retry ",
        "notifier resume --x=",
    ],
)
def test_whatever_is_wrong_tab_says_nothing(directory: Path, tmp_path: Path, tab: Tab, line: str) -> None:
    (tmp_path / "binary").write_bytes(b"\x00\xff" * 9999)
    assert tab(line.format(tmp=tmp_path, valid=directory / "watchlist.yaml")) == []


async def test_tab_waits_for_no_more_than_it_needs(directory: Path) -> None:
    variables = {"PYTHONPROFILEIMPORTTIME": "1", "_NOTIFIER_COMPLETE": "bash_complete"}
    asking = {**variables, "COMP_LINE": f"notifier resume -c {directory}/watchlist.yaml b"}
    code, output, imported = await command(extra=asking, by_name=True)
    assert (code, output) == (0, "plain\tband-room\tslack\n")
    modules = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "notifier.cli.words" in modules
    assert modules & {"aiohttp", "asyncio", "jinja2", "pydantic", "rich", "structlog"} == set()


async def test_a_disk_that_hangs_does_not_keep_the_shell(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    asking = {"_NOTIFIER_COMPLETE": "bash_complete", "COMP_LINE": f"notifier resume -c {tmp_path}/fifo "}
    assert await command(extra=asking, by_name=True) == (0, "", "")
