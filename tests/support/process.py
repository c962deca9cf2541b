"""The real command as a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.servers import PATIENCE

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SSL_CERT_FILE": os.devnull,
}
"""Trusts nobody whom a test does not name: reading the authorities of the system takes a tenth of a start."""
COMMAND = Path(sys.executable).with_name("notifier")
"""The command as it is installed beside Python."""
PASSED_ON = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE")
"""What lets a process count its coverage."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a process of a test sees of this machine: as little as possible."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**ENVIRONMENT, **passed_on, **(extra or {})}


async def command(
    *arguments: str,
    extra: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    by_name: bool = False,
    within: Sequence[str] = (),
) -> tuple[int, str, str]:
    """Run ``notifier ARGUMENTS`` to its end; return exit code, stdout and stderr.

    `by_name` runs the installed command, which goes by a name that Python's own start has not; `within` is a
    command that runs another one in its own place.
    """
    process = await asyncio.create_subprocess_exec(
        *within,
        *([COMMAND] if by_name else [sys.executable, "-m", "notifier"]),
        *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(extra),
    )
    try:
        async with asyncio.timeout(PATIENCE * 2):
            out, err = await process.communicate(stdin)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Daemon:
    """``notifier run`` with its log, which is JSON since stderr is a pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._changed:
                self.lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the log so far, of one event or of all."""
        records = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [record for record in records if event in (None, record["event"])]

    async def logged(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until an event was logged so often."""
        await self.until(lambda: len(self.records(event)) >= count, event)
        return self.records(event)

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait until a line of the log makes the condition true."""
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                await self._changed.wait_for(lambda: condition() or self._reader.done())
        except TimeoutError:
            raise AssertionError(f"{what} was not logged:\n" + "\n".join(self.lines)) from None
        assert condition(), f"{what} was not logged:\n" + "\n".join(self.lines)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is still somebody to get it.

        NB: `send_signal` would look whether the process has ended, and take its exit code from asyncio.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def reload(self) -> None:
        """Send SIGHUP."""
        self.signal(signal.SIGHUP)

    async def stop(self) -> int:
        """Send SIGTERM and wait for the end."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the end of the process and of its log; return the exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reader
        return code


@contextlib.asynccontextmanager
async def daemon(
    config: Path,
    *arguments: str,
    extra: Mapping[str, str] | None = None,
    is_up: bool = True,
    within: Sequence[str] = (),
) -> AsyncIterator[Daemon]:
    """Run the daemon for the length of a block; by default the block begins when it has started.

    `within` is a command that runs another one in its own place: in a namespace, or under a tracer.
    """
    process = await asyncio.create_subprocess_exec(
        *within,
        sys.executable,
        "-m",
        "notifier",
        "run",
        "-c",
        str(config),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(extra),
    )
    running = Daemon(process)
    try:
        if is_up:
            await running.logged("daemon.started")
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await running.ended()
