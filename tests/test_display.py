"""What the commands print on a real terminal."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from notifier.gate import GateState
from notifier.store import Store, StoredGate
from notifier.transition import Sighting
from tests.support.process import command, environment
from tests.support.tracks import audio_id


def on_a_terminal(*arguments: str, **extra: str) -> str:
    """Run a command on a pseudo terminal of 120 columns and return what it wrote there."""
    ours, theirs = pty.openpty()
    variables = environment({"TERM": "xterm-256color", "COLUMNS": "120", **extra})
    process = subprocess.Popen(
        [sys.executable, "-m", "notifier", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal is gone with its last user
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


@pytest.fixture
def watchlist(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_text(
        f"""useapi: {{token: "${{env:T}}"}}
targets: {{archive: {{type: webhook, url: "${{env:U}}"}}}}
watch: [{{audio_id: "{audio_id(1)}", name: "Name with \\e[31m an escape"}}]
state: {tmp_path}/state.db
"""
    )
    return file


def test_status_is_a_table_with_headings_and_colour(watchlist: Path) -> None:
    shown = on_a_terminal("status", "-c", str(watchlist))
    assert "\x1b[1mTracks" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(r"name +status +changed +audio_id", plain)
    assert re.search(r"archive +webhook +open +0 +0 +0", plain)
    assert f"Name with [31m an escape  UNKNOWN  —        {audio_id(1)}" in plain
    assert "1 thing needs you; not running: 1 track under way, 0 done, nothing waiting" in plain
    assert "no deliveries" in on_a_terminal("deliveries", "-c", str(watchlist))


def test_no_color_is_honoured(watchlist: Path) -> None:
    shown = on_a_terminal("status", "-c", str(watchlist), NO_COLOR="1")
    assert "UNKNOWN" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_json_has_no_colour_on_a_terminal_either(watchlist: Path) -> None:
    assert "\x1b" not in on_a_terminal("status", "--json", "-c", str(watchlist))


async def many(path: Path, count: int) -> None:
    """Write a state file in which the first forty tracks are under way and the others have ended."""
    now = datetime.now(UTC)
    async with Store(path) as store:
        for number in range(1, count + 1):
            is_final = number > 40
            status = "FAILED" if is_final and number % 9 == 0 else "COMPLETED" if is_final else "GENERATING"
            begun = now - timedelta(minutes=number + 1)
            stalled = now if number == 7 else None
            sighting = Sighting(status, is_final=is_final, name=None, first_seen=begun, stalled_at=stalled)
            await store.record(audio_id(number), sighting, None, [], now=begun)


LONG = "user:1234-pixverse:{}@example.com-music:{}"


@pytest.mark.parametrize("columns", [80, 120])
async def test_of_many_tracks_those_are_shown_that_are_looked_for(tmp_path: Path, columns: int) -> None:
    await many(tmp_path / "state.db", 200)
    names = "長い名前" * 30
    watch = [{"audio_id": audio_id(number), "name": f"{number} {names}"} for number in range(1, 201)]
    watch.append({"audio_id": LONG.format("very" * 30, 201)})
    file = tmp_path / "watchlist.yaml"
    targets = {f"target-{'x' * 57}": {"type": "webhook", "url": "https://example.com/"}}
    state = str(tmp_path / "state.db")
    file.write_text(
        json.dumps({"useapi": {"token": "t"}, "targets": targets, "state": state, "watch": watch})
    )
    shown = await asyncio.to_thread(
        on_a_terminal, "status", "-c", str(file), COLUMNS=str(columns), NO_COLOR="1"
    )
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "").splitlines()
    assert max(cell_len(line) for line in lines) <= columns
    assert lines[0] == "1 thing needs you; not running: 41 tracks under way, 160 done, nothing waiting"
    rows = lines[lines.index(next(line for line in lines if line.startswith("Tracks"))) + 2 :]
    numbers = [line.split()[0] for line in rows[:17]]
    under_way = ["7", *map(str, range(40, 29, -1))]
    assert numbers == [*under_way, "41", "42", "43", "44", "45"]
    assert all(f"-music:{number}" in line for number, line in zip(numbers, rows, strict=False))
    rest = " ".join(rows[17:19])
    assert rest.startswith("and 184 more: 138 COMPLETED, 28 GENERATING, 17 FAILED, 1 UNKNOWN; all of them: ")
    assert len(lines) < 40, "no more than a screen"
    if columns == 80:
        everything = await asyncio.to_thread(on_a_terminal, "status", "--all", "-c", str(file), NO_COLOR="1")
        assert len(re.findall(r"-music:\d+\s", everything)) == 201


async def test_elsewhere_every_track_is_a_line_with_all_of_its_name_and_id(tmp_path: Path) -> None:
    await many(tmp_path / "state.db", 60)
    code, out, _ = await command(
        "status", "--state-file", str(tmp_path / "state.db"), "-c", str(tmp_path / "none.yaml")
    )
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines() if line.count("\t") == 3]
    assert [row[3] for row in rows[:2]] == [audio_id(7), audio_id(40)]
    assert {row[3] for row in rows} == {audio_id(number) for number in range(1, 61)}


@pytest.mark.parametrize("columns", [80, 120])
async def test_what_others_made_up_leaves_the_targets_on_the_screen(tmp_path: Path, columns: int) -> None:
    now = datetime.now(UTC)
    async with Store(tmp_path / "state.db") as store:
        for number in range(60):
            sighting = Sighting(f"STATUS {number} " * 10, is_final=False, name=None, first_seen=now)
            await store.record(audio_id(number), sighting, None, [], now=now)
        reason = f"HTTP 404: {'gone ' * 60}"
        await store.save_gate(StoredGate("archive", GateState.PAUSED, reason, now))
    file = tmp_path / "watchlist.yaml"
    target = {"type": "webhook", "url": "https://example.com/"}
    names = ("archive", "office", "room", "studio")
    watchlist = {
        "useapi": {"token": "t"},
        "targets": dict.fromkeys(names, target),
        "state": str(tmp_path / "state.db"),
        "watch": [audio_id(number) for number in range(60)],
    }
    file.write_text(json.dumps(watchlist))
    shown = await asyncio.to_thread(
        on_a_terminal, "status", "-c", str(file), COLUMNS=str(columns), NO_COLOR="1"
    )
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "").splitlines()
    text = " ".join("\n".join(lines).split())
    summed_up = text.partition("and 48 more: ")[2].partition("; all of them")[0]
    assert re.fullmatch(r"(1 STATUS \d+ STATUS?…, ){5}43 others", summed_up)
    assert len(lines) < 40, "no more than a screen"


async def test_of_many_things_that_need_somebody_the_first_are_told_and_the_rest_counted(
    tmp_path: Path,
) -> None:
    names = [f"room-{number}" for number in range(20)]
    async with Store(tmp_path / "state.db") as store:
        for name in names:
            await store.save_gate(StoredGate(name, GateState.PAUSED, "HTTP 404: gone", datetime.now(UTC)))
    file = tmp_path / "watchlist.yaml"
    targets = {name: {"type": "webhook", "url": "https://example.com/"} for name in names}
    state = str(tmp_path / "state.db")
    file.write_text(json.dumps({"useapi": {"token": "t"}, "targets": targets, "state": state, "watch": []}))
    shown = await asyncio.to_thread(on_a_terminal, "status", "-c", str(file), NO_COLOR="1")
    assert "20 things need you" in shown
    assert re.findall(r"target (room-\d+) has been paused", shown) == names[:6]
    assert re.search(r"14 more.*\n.*all of them: notifier status --all", shown)
    shown = await asyncio.to_thread(on_a_terminal, "status", "--all", "-c", str(file), NO_COLOR="1")
    assert re.findall(r"target (room-\d+) has been paused", shown) == names
