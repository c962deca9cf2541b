import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import command, environment
from tests.support.servers import PATIENCE

NAMES = ("Intro theme", "Rooftop chase", "Boss fight", "Yesterday's ballad", "Lost tape", "Endless drone")


async def test_the_demo_shows_every_message_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code, out, err = await command("demo", "--speed", "25", extra={"TMPDIR": str(tmp_path)})
    assert (code, err) == (0, ""), out
    assert "19 messages received, 0 lost, 0 repeated" in out
    for expected in (
        "✅ Intro theme is ready",
        "❌ Boss fight failed",
        "❌ Lost tape is missing",
        "⚠️ Endless drone is still GENERATING",
        "track.completed  Yesterday's ballad  new → COMPLETED",
        "answers 503 for a while",
        "answers 429: retry after",
    ):
        assert expected in out
    assert all(name in out for name in NAMES)
    assert "\x1b[" not in out
    assert list(tmp_path.iterdir()) == []


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_text(errors="replace")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_demo_that_is_ended_early_leaves_no_daemon_and_no_files(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "notifier", "demo"),
        stdout=asyncio.subprocess.PIPE,
        env=environment({"TMPDIR": str(tmp_path)}),
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while b"archive" not in await process.stdout.readline():
            pass  # the daemon is at work once the first message has come
        process.send_signal(number)
        await process.stdout.read()
        assert await process.wait() == 1
    assert list(tmp_path.iterdir()) == []
    assert [one for one in command_lines() if str(tmp_path) in one] == []
