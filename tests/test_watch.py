"""``watch add`` and ``watch remove`` as scripts use them, also while the daemon runs."""

import asyncio
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from notifier.cli import main
from tests.support.process import command, daemon
from tests.support.scenes import Scene, tracks_told
from tests.support.servers import Server
from tests.support.tracks import audio_id, path_of

BEFORE = b"""\
\xef\xbb\xbf# Who is told of what.\r
useapi: {token: "${file:/nowhere/at/all}"}\r
targets:\r
  band-room: {type: slack, url: "${env:NOT_SET}"}   # the band\r
  studio: {type: discord, url: "${credential:none}"}\r
watch:\r
  # The first one.\r
  - audio_id: user:123-pixverse:me@example.com-music:1\r
    name: "Intro"\r
    notify: [ studio, band-room ]\r
    interval: 60\r
  # The second one.\r
  - user:123-pixverse:me@example.com-music:2   # short\r
"""
ONE, TWO, THREE = (f"user:123-pixverse:me@example.com-music:{number}" for number in (1, 2, 3))
ADDED = f"""\
  - audio_id: {THREE}\r
    name: "It's: new"\r
    notify: [band-room]\r
    events: [completed, stalled]\r
    interval: 20s\r
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_bytes(BEFORE)
    return file


def run(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["watch", *arguments, "-c", str(file)])


def test_a_track_is_added_with_its_options_and_nothing_else_changes(file: Path) -> None:
    options = (
        "--name",
        "It's: new",
        *["--notify", "band-room"] * 2,
        "--event",
        "completed",
        "--event",
        "stalled",
    )
    done = run(file, "add", THREE, *options, "--interval", "20s")
    assert (done.exit_code, done.output) == (0, f"{THREE} is watched now; told: band-room\n")
    assert file.read_bytes() == BEFORE + ADDED.encode()


def test_a_track_alone_is_a_line_and_every_target_is_told(file: Path) -> None:
    done = run(file, "add", THREE, "--name", "")
    assert (done.exit_code, done.output) == (0, f"{THREE} is watched now; told: band-room, studio\n")
    assert file.read_bytes() == BEFORE + f"  - {THREE}\r\n".encode()


def test_a_track_is_removed_with_its_lines_only(file: Path) -> None:
    done = run(file, "remove", ONE)
    assert (done.exit_code, done.output) == (0, f"{ONE} is not watched any more\n")
    start, end = BEFORE.index(b"  - audio_id"), BEFORE.index(b"  # The second")
    assert file.read_bytes() == BEFORE[:start] + BEFORE[end:]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--name", "Intro"),
        ("--notify", "band-room", "--notify", "studio", "--interval", "1m"),
    ],
)
def test_adding_again_what_is_there_is_no_failure(file: Path, options: tuple[str, ...]) -> None:
    """A script that was interrupted tries again."""
    done = run(file, "add", ONE, *options)
    assert (done.exit_code, done.output) == (0, f"{ONE} is watched already\n")
    assert file.read_bytes() == BEFORE


@pytest.mark.parametrize(
    ("track", "options", "difference"),
    [
        (ONE, ("--name", "Outro"), "its name is 'Intro'"),
        (ONE, ("--notify", "studio"), "it tells studio, band-room"),
        (ONE, ("--event", "failed"), "it tells the default events"),
        (ONE, ("--interval", "1s"), "its interval is 1m"),
        (TWO, ("--name", "A", "--notify", "studio"), "without a name and it tells the default targets"),
        (TWO, ("--interval", "15s"), "its interval is the default one"),
    ],
)
def test_adding_again_in_another_way_says_what_differs(
    file: Path, track: str, options: tuple[str, ...], difference: str
) -> None:
    done = run(file, "add", track, *options)
    expected = f"notifier: {track} is watched already, {difference}; nothing was changed\n"
    assert (done.exit_code, done.output) == (1, expected)
    assert file.read_bytes() == BEFORE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "null"), "'null' is not an audio_id: expected user:ID-pixverse:EMAIL-music:NUMBER"),
        (("add", ""), "'' is not an audio_id"),
        (("add",), "Missing argument"),
        (("add", THREE, "--notify", "band-rom"), "unknown target 'band-rom', did you mean 'band-room'?"),
        (("add", THREE, "--event", "finished"), "'finished' is not one of"),
        (("add", THREE, "--interval", "soon"), "'soon' is not a duration"),
        (("add", THREE, "--name", " "), "is empty"),
        (("add", THREE, "--name", "\udc80"), "is not UTF-8 text"),
        (("remove",), "Missing argument"),
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(
    file: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(file, *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert file.read_bytes() == BEFORE


def test_what_would_make_the_watchlist_invalid_is_refused(file: Path) -> None:
    done = run(file, "add", THREE, "--interval", "1h")
    reason = "watch[2].interval: 1h is above the default poll.max_interval, 5m"
    assert (done.exit_code, done.output) == (1, f"notifier: {reason}; nothing was changed\n")
    assert file.read_bytes() == BEFORE


def test_a_track_that_is_not_there_cannot_be_removed(file: Path) -> None:
    done = run(file, "remove", THREE)
    suggestion = f"did you mean '{TWO}'?"
    assert (done.exit_code, done.output) == (1, f"notifier: {file} does not watch {THREE}, {suggestion}\n")


@pytest.mark.parametrize("what", [("add", THREE), ("remove", ONE)])
def test_a_watchlist_with_mistakes_is_not_touched(file: Path, what: tuple[str, ...]) -> None:
    wrong = BEFORE.replace(b"type: slack", b"type: slakc")
    file.write_bytes(wrong)
    done = run(file, *what)
    assert done.exit_code == 1
    first, last = done.output.splitlines()
    assert re.match(re.escape(f"{file}:4:21: targets.band-room.type: unknown type 'slakc'"), first)
    assert last == "notifier: the watchlist has mistakes; nothing was changed"
    assert file.read_bytes() == wrong


def test_a_watchlist_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = run(tmp_path / "watchlist.yaml", "add", THREE)
    assert (done.exit_code, [*tmp_path.iterdir()]) == (1, [])
    assert done.output == f"notifier: {tmp_path}/watchlist.yaml does not exist; nothing was changed\n"


def test_a_list_that_only_a_person_can_change_is_left_to_one(file: Path) -> None:
    text = BEFORE.replace(b"- audio_id:", b"- &one\r\n    audio_id:").replace(
        TWO.encode(), b"{<<: *one, audio_id: x}"
    )
    text = text.replace(b"audio_id: x", f"audio_id: {TWO!r}".encode())
    file.write_bytes(text)
    done = run(file, "remove", ONE)
    reason = "'watch' is written in a way that only a person can change"
    assert (done.exit_code, done.output) == (1, f"notifier: {file}: {reason}; nothing was changed\n")
    assert file.read_bytes() == text


def test_what_is_valid_but_hardly_meant_is_said_of_the_new_entry_alone(file: Path) -> None:
    run(file, "add", THREE, "--interval", "1s")
    done = run(file, "add", f"{THREE}4", "--interval", "2s")
    assert done.exit_code == 0
    assert [line for line in done.stderr.splitlines() if "watch[2]" in line] == []
    assert f"{file}:17:15: watch[3].interval: warning: the vendor asks" in done.stderr


async def test_scripts_that_add_at_the_same_time_lose_none(file: Path) -> None:
    tracks = [f"{THREE}{number}" for number in range(3)]
    arguments = ("-c", str(file), "--name", "Ours")
    done = await asyncio.gather(*(command("watch", "add", track, *arguments) for track in tracks))
    assert [(code, err) for code, _, err in done] == [(0, "")] * 3
    text = file.read_bytes()
    assert text.startswith(BEFORE)
    assert sorted(re.findall(r"audio_id: (\S+)", text[len(BEFORE) :].decode())) == tracks


async def test_a_running_daemon_polls_what_is_added_and_polls_no_more_what_is_removed(
    tmp_path: Path, api: Server, receiver: Server
) -> None:
    scene = Scene(tmp_path, api, receiver)
    scene.target("room", "/slack")
    scene.complete(1)
    config = ("-c", str(scene.file))
    async with daemon(scene.write(3)) as running:
        done = await command("watch", "add", audio_id(1), "--name", "Track 1", *config)
        assert done == (0, f"{audio_id(1)} is watched now; told: room\n", "")
        (told,) = await receiver.until_count("/slack", 1)
        assert tracks_told(told) == ["Track 1"]
        assert (await command("watch", "remove", audio_id(3), *config))[0] == 0
        await running.logged("config.reloaded", 2)
        assert (await command("watch", "add", audio_id(2), *config))[0] == 0
        count = len(api.to(path_of(audio_id(3))))
        await api.until_count(path_of(audio_id(2)), 10)
        assert len(api.to(path_of(audio_id(3)))) == count
        assert await running.stop() == 0
