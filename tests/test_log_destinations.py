"""What the real daemon writes into the journal, onto a terminal and into a container's pipe."""

import asyncio
import json
import os
import re
import select
import signal
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from tests.support.process import command, environment
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Server
from tests.support.tracks import answer, audio_id, completed, path_of

FORGED = "\x1b[2J\r\n<0>event=daemon.crashed level=critical\n\x9b31m\u202e\u2028{}"
"""What would clear a screen, and begin a line of its own wherever a line could be begun."""
NAMES = ["daemon.started", "delivery.delivered", "poll.failed", "track.completed", "daemon.stopped"]
COLOR = re.compile(r"\x1b\[[0-9;]*m")


async def written(scene: Scene, ends: tuple[int, int], extra: Mapping[str, str]) -> list[str]:
    """Run the daemon with a stderr until it has said all that it has to; return the lines."""
    reader, writer = ends
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "notifier", "run", "-c", str(scene.file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=writer,
        env=environment(extra),
    )
    os.close(writer)
    os.set_blocking(reader, False)
    seen, is_stopping = b"", False
    try:
        async with asyncio.timeout(PATIENCE):
            while process.returncode is None or not seen.endswith(b"\n"):
                seen += await asyncio.to_thread(some_of, reader)
                if not is_stopping and all(name.encode() in seen for name in NAMES[:-1]):
                    process.send_signal(signal.SIGTERM)
                    is_stopping = True
            seen += some_of(reader)
    finally:
        if process.returncode is None:
            process.kill()
        os.close(reader)
    assert await process.wait() == 0
    lines = seen.decode().replace("\r\n", "\n").split("\n")
    assert lines.pop() == ""
    assert sorted({name for line in lines for name in NAMES if name in line}) == sorted(NAMES)
    return lines


def some_of(reader: int) -> bytes:
    """Return what there is to read, and wait a little where there is nothing."""
    try:
        return os.read(reader, 1 << 16) if select.select([reader], [], [], 0.1)[0] else b""
    except OSError:  # a terminal that nobody holds any more
        return b""


def scene_in(directory: Path, api: Server, receiver: Server) -> Scene:
    """Let one track be ready and one be unreadable, both with a text that wants to be more than a value."""
    directory.mkdir()
    scene = Scene(directory, api, receiver)
    scene.target("archive", "/webhook/archive")
    api.reply(path_of(audio_id(1)), answer(completed(1)))
    api.reply(path_of(audio_id(2)), answer({"error": FORGED}, 422))
    file = scene.write(1, 2)
    watchlist = json.loads(file.read_text())
    watchlist["watch"][0]["name"] = FORGED
    file.write_text(json.dumps(watchlist))
    return scene


async def test_a_line_is_a_line_wherever_it_is_read(tmp_path: Path, api: Server, receiver: Server) -> None:
    pipe, journal, terminal = os.pipe(), os.pipe(), os.openpty()
    about = os.fstat(journal[1])
    streams: list[tuple[tuple[int, int], dict[str, str]]] = [
        (pipe, {}),
        (journal, {"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"}),
        (terminal, {}),
    ]
    for_containers, for_journal, for_people = await asyncio.gather(
        *(
            written(scene_in(tmp_path / str(number), api, receiver), ends, extra)
            for number, (ends, extra) in enumerate(streams)
        )
    )
    are_json(for_containers)
    are_for_the_journal(for_journal)
    assert any(COLOR.search(line) for line in for_people)
    are_for_people([COLOR.sub("", line) for line in for_people])


async def test_a_release_that_cannot_even_begin_says_so_in_one_line(
    tmp_path: Path, api: Server, receiver: Server
) -> None:
    """As when an upgrade of the system took a library away."""
    broken = tmp_path / "libraries" / "apscheduler"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not for this Python')\n")
    scene = scene_in(tmp_path / "scene", api, receiver)
    code, out, err = await command(
        "run", "-c", str(scene.file), extra={"PYTHONPATH": str(tmp_path / "libraries")}
    )
    (line,) = err.splitlines()
    record = json.loads(line)
    assert (code, out, record["event"], record["level"]) == (1, "", "daemon.crashed", "critical")
    assert record["exception"].endswith("ImportError: not for this Python")


def are_json(lines: list[str]) -> None:
    for record in map(json.loads, lines):
        assert [*record][:3] == ["event", "level", "timestamp"]
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() == timedelta(0)
    assert all(line.isprintable() for line in lines)


def are_for_the_journal(lines: list[str]) -> None:
    priorities = {"info": 6, "warning": 4, "error": 3}
    for line in lines:
        found = re.match(r"<([0-7])>event=([a-z_.]+) level=([a-z]+) ?", line)
        assert found is not None, line
        assert int(found[1]) == priorities[found[3]]
        assert found[2] != "daemon.crashed"
        assert "timestamp=" not in line
        assert line.isprintable()


def are_for_people(lines: list[str]) -> None:
    for line in lines:
        time, level, name = line.split()[:3]
        assert datetime.fromisoformat(time).utcoffset() == timedelta(0)
        assert level in {"info", "warning", "error"}
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
        assert name != "daemon.crashed"
        assert line.isprintable()
