"""``notifier run`` as a process of its own, and what the system says of it from outside."""

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.cheaphttp import content_length
from tests.support.process import environment

LOOK_EVERY = 0.02
_ASK_EVERY = 0.025
_SECOND = 1e9
_READY = "daemon.started"
_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""An installed program has its bytecode; a checkout keeps it from its first run on."""


class Daemon:
    """One life of the daemon. Its log, which is JSON, goes to a file that later lives add to."""

    def __init__(self, watchlist: Path, log: Path, core: int | None, loop: str) -> None:
        self._log = log
        self._seen = log.stat().st_size if log.exists() else 0
        self.began = time.monotonic()
        with log.open("ab") as stream, on_core(core):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "notifier", "run", "-c", str(watchlist)],
                stdin=subprocess.DEVNULL,
                stderr=stream,
                env=environment({**_COMPILED, **_with_loop(loop, log.parent)}),
            )
        self._place = Path("/proc", str(self._process.pid))

    def cpu(self) -> float:
        """Return the seconds of CPU that all its threads have had."""
        return self._schedstat(0)

    def waited(self) -> float:
        """Return the seconds for which its threads wanted a CPU that others had."""
        return self._schedstat(1)

    def _schedstat(self, field: int) -> float:
        files = self._place.glob("task/*/schedstat")
        return sum(int(file.read_text().split()[field]) for file in files) / _SECOND

    def memory(self) -> int:
        """Return the bytes that it has in memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", (self._place / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def switches(self) -> int:
        """Return how often its threads have gone to sleep and been woken."""
        texts = [file.read_text() for file in self._place.glob("task/*/status")]
        found = (re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE) for text in texts)
        return sum(int(one[1]) for one in found if one is not None)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it do nothing for the length of a block."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def files(self) -> int:
        """Return how many files and sockets it has open."""
        return len(os.listdir(self._place / "fd"))

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(os.listdir(self._place / "task"))

    def log(self) -> list[dict[str, Any]]:
        """Return the records of this life so far."""
        with self._log.open("rb") as stream:
            stream.seek(self._seen)
            lines = stream.read().decode().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def count(self, event: str) -> int:
        """Return how often an event was logged in this life."""
        return sum(record["event"] == event for record in self.log())

    async def until(self, condition: Callable[[], bool], *, within: float, what: str) -> None:
        """Wait for something that it brings about. Raises RuntimeError when it ends or is too slow."""
        late = time.monotonic() + within
        while not condition():
            if not self.is_alive() or time.monotonic() > late:
                end = self._log.read_text()[-2000:]
                raise RuntimeError(f"{what} did not happen within {within:.0f} s; the log ends so:\n{end}")
            await asyncio.sleep(LOOK_EVERY)

    async def started(self) -> None:
        """Wait until it has started."""
        await self.until(lambda: self.count(_READY) > 0, within=60, what="the start")

    async def reload(self) -> float:
        """Ask it to read the watchlist again; return how many seconds that took."""
        before, began = self.count("config.reloaded"), time.monotonic()
        self.signal(signal.SIGHUP)
        await self.until(lambda: self.count("config.reloaded") > before, within=60, what="the reload")
        return time.monotonic() - began

    def is_alive(self) -> bool:
        """Say whether it has not ended."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        return await asyncio.to_thread(self._process.wait, 60)


@contextlib.asynccontextmanager
async def running(watchlist: Path, log: Path, core: int | None, loop: str = "auto") -> AsyncIterator[Daemon]:
    """Run a daemon for the length of a block; however the block ends, it does."""
    daemon = Daemon(watchlist, log, core, loop)
    try:
        yield daemon
    finally:
        if daemon.is_alive():
            daemon.signal(signal.SIGKILL)
        await daemon.ended()


def _with_loop(name: str, place: Path) -> dict[str, str]:
    """Return what makes the daemon take a loop, which takes uvloop's where that can be imported."""
    if name != "asyncio":
        return {}
    hidden = place / "without-uvloop"
    hidden.mkdir(exist_ok=True)
    (hidden / "uvloop.py").write_text("raise ImportError\n", encoding="utf-8")
    return {"PYTHONPATH": str(hidden)}


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Start processes on a core for the length of a block."""
    own = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


async def asked_meanwhile(port: int, work: Awaitable[None], answers: list[float]) -> None:
    """Do the work and ask the daemon meanwhile how it is; note how many seconds each answer takes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask_on() -> None:
        while True:
            began = time.perf_counter()
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(content_length(head))
            answers.append(time.perf_counter() - began)
            await asyncio.sleep(_ASK_EVERY)

    asking = asyncio.create_task(ask_on())
    try:
        await work
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        writer.close()


async def ask(url: str) -> str:
    """Return what is to be read at an address."""

    def read() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


def buckets(metrics: str, name: str) -> dict[float, float]:
    """Return how many observations of a histogram were at most so large, by the limits of its buckets."""
    found = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\S+)$', metrics, re.MULTILINE)
    return {float(limit): float(count) for limit, count in found}


def quantile(share: float, before: dict[float, float], after: dict[float, float]) -> float:
    """Return what a share of the observations between two looks did not exceed, evenly within a bucket."""
    counts = {limit: after[limit] - before.get(limit, 0) for limit in sorted(after)}
    wanted = share * max(counts.values())
    lower, below = 0.0, 0.0
    for limit, count in counts.items():
        if count >= wanted and count > below:
            part = (wanted - below) / (count - below)
            return lower if limit == math.inf else lower + (limit - lower) * part
        lower, below = limit, count
    return lower
