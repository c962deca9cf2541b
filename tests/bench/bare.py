"""A bare loop of aiohttp GETs whose answers are parsed, as a process of its own: the least that polls cost.

It runs when it is told to and waits otherwise, so that it can be measured in turn with something else on the
same core. Ends when its standard input does, which is when whoever started it has ended.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice

import aiohttp
from yarl import URL

from tests.bench.daemon import on_core
from tests.bench.measuring import Cost, cost_of, loop_factory
from tests.bench.world import BARE
from tests.support.tracks import audio_id

_WARM_UP = 200
_TRACKS = 100
_TOGETHER = 64
_HEADERS = {"Authorization": "Bearer user:123-bench", "Accept": "application/json"}


class Bare:
    """The process as its starter sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    async def flat_out(self, count: int) -> Cost:
        """Return what a GET costs, 64 at a time one after the other."""
        return await self._measure(count, 0)

    async def spaced(self, count: int, rate: float) -> Cost:
        """Return what a GET costs when so many a second are begun one by one."""
        return await self._measure(count, rate)

    async def _measure(self, count: int, rate: float) -> Cost:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count} {rate}\n")
        self._process.stdin.flush()
        cpu, wall = json.loads(await asyncio.to_thread(self._process.stdout.readline))
        return Cost(cpu, wall)


@contextlib.contextmanager
def bare(url: str, core: int | None, loop: str) -> Iterator[Bare]:
    """Have such a process for the length of a block, on a core where there is one to choose."""
    command = [sys.executable, "-m", "tests.bench.bare", url, loop]
    with on_core(core):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None
        try:
            yield Bare(process)
        finally:
            process.stdin.close()


class _Loop:
    """Asks for tracks in turn; made inside the event loop."""

    def __init__(self, url: str) -> None:
        self._urls = cycle([URL(f"{url}{BARE}/music/{audio_id(number)}") for number in range(_TRACKS)])
        self._session = aiohttp.ClientSession(headers=_HEADERS)

    async def get(self, count: int) -> None:
        """Ask so often, one after the other."""
        for url in islice(self._urls, count):
            async with self._session.get(url) as response:
                json.loads(await response.read())

    async def flat_out(self, count: int) -> None:
        """Ask about so often, many at a time."""
        await asyncio.gather(*(self.get(count // _TOGETHER) for _ in range(_TOGETHER)))

    async def spaced(self, count: int, rate: float) -> None:
        """Ask so often, evenly spread."""
        began, asking = time.perf_counter(), set()
        for number in range(count):
            await asyncio.sleep(began + number / rate - time.perf_counter())
            task = asyncio.create_task(self.get(1))
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.gather(*asking)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _made(url: str) -> _Loop:
    return _Loop(url)


def _serve(url: str, loop: str) -> None:
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        asking = runner.run(_made(url))
        for line in sys.stdin:
            count, rate = line.split()
            whole = int(count) // _TOGETHER * _TOGETHER
            runner.run(asking.flat_out(_WARM_UP))
            work = asking.spaced(whole, float(rate)) if float(rate) else asking.flat_out(whole)
            cost = runner.run(cost_of(work, units=whole))
            print(json.dumps([cost.cpu, cost.wall]), flush=True)
        runner.run(asking.close())


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
