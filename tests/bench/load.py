"""``load``: much at once while many watches are polled by a daemon that has one core.

The daemon is the real ``notifier run``, a process of its own. useapi.net and the receivers are this process,
on another core and cheap enough not to matter. What polls cost is measured by ``poll``, what a start takes by
``start``; here all tracks are polled at their interval, and in turn:

- ``burst``: so many tracks that are polled one after the other complete at one moment, for three targets: one
  well, one that closes every connection unanswered until the others have all, one that takes its time. The
  clock starts when the first of them is read.
- ``reload``: the same file with one name changed, while all is polled on.

A stall of the loop is seen from outside: as the slowest answer of ``/healthz``, which is asked again 25 ms
after each answer. ``still_ms`` is the longest stall of the bench's own loop meanwhile, ``waited_ms`` for how
long in all the daemon wanted a core that others had: what else the machine does is in the figures too.

Aims, on a core that is not shared: no stall over 250 ms; nothing lost, nothing repeated.

Keys of the JSON line: ``bench``, ``watches``, ``interval_s``, ``rate``; ``burst`` with ``tracks``,
``well_s``, ``all_s``, ``posts`` by target, ``posts_while_dead``, ``lost``, ``repeated``; ``reload`` with
``seconds`` and ``per_second``; both with ``stall_ms``, ``still_ms`` and ``waited_ms``; ``stop_s``.
"""

import asyncio
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tests.bench.cheaphttp import NO_CONTENT, Request, address, listen
from tests.bench.daemon import Daemon, asked_meanwhile, running
from tests.bench.measuring import (
    keep_to_one_core,
    longest_stall,
    print_json_line,
    print_table,
)
from tests.bench.world import BASE, World, write_watchlist
from tests.support.servers import free_port
from tests.support.tracks import audio_id

_TARGETS = ("well", "dead", "slow")
_SLOW = 0.1
_PATIENCE = 300.0
_HEAD = """\
useapi: {{token: user:123-bench, base_url: "{url}{base}", rate: {rate}/s, concurrency: 64}}
poll: {{interval: {interval}s, stalled_after: 3650d, list: never, cadence: fixed}}
delivery: {{first_retry: 1s, max_retry: 5s}}
targets:
  well: {{type: webhook, url: "{url}/well"}}
  dead: {{type: webhook, url: "{url}/dead"}}
  slow: {{type: webhook, url: "{url}/slow"}}
http: 127.0.0.1:{port}
"""


class Receivers:
    """The three targets."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.is_dead = True
        self.posts = Counter[str]()
        self.taken: dict[str, Counter[str]] = {target: Counter() for target in _TARGETS}
        """How often each target has taken each message."""

    def take(self, request: Request) -> None:
        """Do with a message what its receiver does."""
        target = request.path[1:]
        self.posts[target] += 1
        if target == "dead" and self.is_dead:
            request.connection.drop()
            return
        self.taken[target][request.header("webhook-id")] += 1
        self._loop.call_later(_SLOW if target == "slow" else 0, request.connection.send, NO_CONTENT)


@dataclass(slots=True)
class _Phase:
    """Some time under load, as seen from outside."""

    seconds: float
    waited: float
    polls: int
    stall: float
    still: float
    more: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            **self.more,
            "stall_ms": _ms(self.stall),
            "still_ms": _ms(self.still),
            "waited_ms": round(self.waited * 1e3),
        }


@click.command()
@click.option("--watches", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--interval", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds.")
@click.option("--rate", type=click.IntRange(1), help="Ceiling a second; default: 1.25 times what is needed.")
@click.option(
    "--burst", type=click.IntRange(1), help="Tracks that complete; default: a tenth of the watches."
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state file; default: the system's temporary directory.",
)
def load(watches: int, interval: float, rate: int | None, burst: int | None, directory: str | None) -> None:
    """Measure a burst and a reload while many watches are polled on one core."""
    needed = watches / interval
    bench = Bench(watches, interval, rate or max(1, round(needed * 1.25)), burst or max(1, watches // 10))
    with tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place:
        result = asyncio.run(bench.run(Path(place)))
    _show(result)
    print_json_line(result)


class Bench:
    """Does the measuring."""

    def __init__(self, watches: int, interval: float, rate: int, burst: int) -> None:
        self._watches = watches
        self._interval = interval
        self._rate = rate
        self._burst = min(burst, watches)
        self._port = free_port()
        self._core = keep_to_one_core()

    async def run(self, place: Path) -> dict[str, Any]:
        """Measure all there is to measure."""
        self._receivers = receivers = Receivers()
        self._world = world = World(dict.fromkeys(_TARGETS, receivers.take))
        async with await listen(world.take) as server:
            self._head = _HEAD.format(
                url=address(server), base=BASE, rate=self._rate, interval=self._interval, port=self._port
            )
            watchlist = write_watchlist(place, self._head, self._watches)
            async with running(watchlist, place / "log", self._core) as daemon:
                await daemon.until(
                    lambda: world.polled >= self._watches, within=_PATIENCE, what="a poll of each"
                )
                burst = await self._finish(daemon)
                reload = await self._reload(daemon, place)
                stopping = time.monotonic()
                daemon.signal(signal.SIGTERM)
                await daemon.ended()
        return {
            "bench": "load",
            "watches": self._watches,
            "interval_s": self._interval,
            "rate": self._rate,
            "burst": burst.as_json(),
            "reload": reload.as_json(),
            "stop_s": round(time.monotonic() - stopping, 2),
        }

    async def _finish(self, daemon: Daemon) -> _Phase:
        """Let tracks complete, and the dead receiver live again when the others have all."""
        receivers, well, end, dead = self._receivers, 0.0, 0.0, 0

        async def all_come() -> None:
            nonlocal well, dead, end
            self._world.completed = frozenset(audio_id(number) for number in range(self._burst))
            await self._until_taken(daemon, "well")
            well = self._since_told()
            await self._until_taken(daemon, "slow")
            receivers.is_dead, dead = False, receivers.posts["dead"]
            await self._until_taken(daemon, "dead")
            end = self._since_told()

        phase = await self._phase(daemon, all_come())
        phase.more = {
            "tracks": self._burst,
            "well_s": round(well, 2),
            "all_s": round(end, 2),
            "posts": dict(receivers.posts),
            "posts_while_dead": dead,
            "lost": sum(self._burst - len(taken) for taken in receivers.taken.values()),
            "repeated": sum(taken.total() - len(taken) for taken in receivers.taken.values()),
        }
        return phase

    def _since_told(self) -> float:
        return time.monotonic() - min(self._world.told_at.values())

    async def _until_taken(self, daemon: Daemon, target: str) -> None:
        taken = self._receivers.taken[target]
        await daemon.until(
            lambda: len(taken) >= self._burst, within=_PATIENCE, what=f"{self._burst} messages to {target}"
        )

    async def _reload(self, daemon: Daemon, place: Path) -> _Phase:
        write_watchlist(place, self._head, self._watches, first="Another name")

        async def reload() -> None:
            await daemon.reload()

        phase = await self._phase(daemon, reload())
        phase.more = {
            "seconds": round(phase.seconds, 2),
            "per_second": round(phase.polls / phase.seconds, 1),
        }
        return phase

    async def _phase(self, daemon: Daemon, work: Awaitable[None]) -> _Phase:
        """Do the work and return what it was like meanwhile."""
        self._world.forget()
        stalls = [0.0]
        waited, began = daemon.waited(), time.monotonic()
        still = await longest_stall(asked_meanwhile(self._port, work, stalls))
        return _Phase(
            time.monotonic() - began,
            daemon.waited() - waited,
            self._world.polls,
            max(stalls),
            still,
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)


def _show(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    burst, reload = result["burst"], result["reload"]
    print(f"{result['watches']} watches every {result['interval_s']:g} s, at most {result['rate']} a second")
    print(f"{burst['tracks']} tracks complete: the well target has all after {burst['well_s']} s, ", end="")
    print(f"all three after {burst['all_s']} s; requests to the dead one: {burst['posts_while_dead']}")
    print(f"lost {burst['lost']}, repeated {burst['repeated']}")
    print(f"reload: {reload['seconds']} s, polled meanwhile at {reload['per_second']} a second")
    print_table(
        ("", "longest stall ms", "bench's own ms", "waited for a core ms"),
        [
            (name, *(str(result[name][key]) for key in ("stall_ms", "still_ms", "waited_ms")))
            for name in ("burst", "reload")
        ],
    )
    print()
