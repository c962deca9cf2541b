"""What all benches share: two cores kept apart, the cost of some work, and how long the loop stood still."""

import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_TICK = 0.005


@dataclass(frozen=True, slots=True)
class Cost:
    """What one unit of work took, in seconds; the CPU of all threads of this process together."""

    cpu: float
    wall: float

    def as_json(self) -> dict[str, float]:
        """Return the cost as the JSON line has it."""
        return {
            "cpu_us": round(self.cpu * 1e6, 1),
            "wall_us": round(self.wall * 1e6, 1),
            "per_second": round(1 / self.wall, 1),
        }


async def cost_of(work: Awaitable[None], *, units: int) -> Cost:
    """Do the work and return what each of its units cost."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await work
    return Cost((time.process_time() - cpu) / units, (time.perf_counter() - wall) / units)


def median(costs: Iterable[Cost]) -> Cost:
    """Return the middle cost of several rounds, for CPU and time each by itself."""
    taken = [*costs]
    return Cost(statistics.median(cost.cpu for cost in taken), statistics.median(cost.wall for cost in taken))


async def longest_stall(work: Awaitable[None]) -> float:
    """Do the work and return the longest that the loop kept a task waiting which wants to run every 5 ms."""
    gc.collect()
    stalls = [0.0]

    async def watch() -> None:
        while True:
            due = time.perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            stalls.append(time.perf_counter() - due)

    watching = asyncio.create_task(watch())
    try:
        await work
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return max(stalls)


def keep_to_one_core() -> int | None:
    """Keep this process on one core and return another for the other side; None where there is only one."""
    own, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {own})
    return others[0] if others else None


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes an event loop; ``auto`` is what the daemon takes: uvloop where it is installed."""
    if name == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 - an extra that need not be installed
    except ImportError:
        if name == "uvloop":
            raise
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns: the first flush left, figures flush right."""
    lines = [columns, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    for first, *others in lines:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def print_json_line(result: dict[str, Any]) -> None:
    """Print what scripts read: the last line of a bench."""
    print(json.dumps(result))
