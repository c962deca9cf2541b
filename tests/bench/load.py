"""``load``: many watches from one file, polled as often as their interval asks by a daemon that has one core.

The daemon is the real ``notifier run``, a process of its own. useapi.net and the receivers are this process,
on another core and cheap enough not to matter. In turn:

- ``few``: a daemon with a few watches, for what each of many takes beside it.
- ``start``: from the exec of the process to its first request, and until every track was read, which is also
  written down.
- ``steady``: two intervals later, all watches polled at their interval. ``lateness`` is the daemon's own
  histogram, from due to the request; ``interval_off`` is measured at the API: how far from the interval apart
  two reads of a track came.
- ``burst``: so many tracks that are polled one after the other complete at one moment, for three targets: one
  well, one that closes every connection unanswered until the others have all, one that takes its time. The
  clock starts when the first of them is read.
- ``reload``: the same file with one name changed, while all is polled on.

A stall of the loop is seen from outside: as the slowest answer of ``/healthz``, which is asked again 25 ms
after each answer. ``still_ms`` is the longest stall of the bench's own loop meanwhile, ``waited_ms`` for how
long in all the daemon wanted a core that others had: what else the machine does is in the figures too.

Aims, on a core that is not shared: ``per_second`` is what the interval asks for, the p99 of ``lateness``
under 100 ms, no stall over 250 ms, at most 12 KiB a watch; nothing lost, nothing repeated.

Keys of the JSON line: ``bench``, ``watches``, ``interval_s``, ``rate``; ``start`` with ``few_s``,
``first_poll_s`` and ``all_polled_s``; ``steady`` with ``seconds``, ``per_second``, ``cpu_us`` for a poll,
``core`` (the share of it that is used), ``lateness_ms`` and ``interval_off_ms`` (p50, p99), ``rss_mib``,
``few_rss_mib``, ``kib_a_watch``; ``burst`` with ``tracks``, ``well_s``, ``all_s``, ``posts`` by target,
``posts_while_dead``, ``lost``, ``repeated``; ``reload`` with ``seconds`` and ``per_second``; each of the last
three with ``stall_ms``, ``still_ms`` and ``waited_ms``; ``stop_s``.
"""

import asyncio
import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tests.bench.cheaphttp import NO_CONTENT, Request, address, listen, response
from tests.bench.daemon import Daemon, ask, asked_meanwhile, buckets, quantile, running
from tests.bench.measuring import (
    keep_to_one_core,
    longest_stall,
    print_json_line,
    print_table,
)
from tests.support.servers import free_port
from tests.support.tracks import audio_id, completed, track

_FEW = 10
_TARGETS = ("well", "dead", "slow")
_SLOW = 0.1
_WARM_UP = 2
"""How many intervals pass before the load counts as steady: the first one brings a change of every track."""
_PATIENCE = 300.0
_LATENESS = "notifier_poll_lateness_seconds"
_PROMPT = "A slow synthwave intro: warm pads, a distant saxophone, rain on the windows"
_MIB = 2**20
_HEAD = """\
useapi: {{token: user:123-bench, base_url: "{url}/v2/pixverse", rate: {rate}/s, concurrency: 64}}
poll: {{interval: {interval}s, stalled_after: 3650d}}
delivery: {{first_retry: 1s, max_retry: 5s}}
targets:
  well: {{type: webhook, url: "{url}/well"}}
  dead: {{type: webhook, url: "{url}/dead"}}
  slow: {{type: webhook, url: "{url}/slow"}}
http: 127.0.0.1:{port}
watch:
"""


class World:
    """useapi.net and the receivers."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._generating = response(json.dumps(track(prompt=_PROMPT)).encode())
        self._last: dict[str, float] = {}
        self.completed: frozenset[str] = frozenset()
        self.told_at: float | None = None
        """When it was first said that one of these has completed."""
        self.is_dead = True
        self.forget()
        self.taken: dict[str, Counter[str]] = {target: Counter() for target in _TARGETS}
        """How often each target has taken each message."""

    def forget(self) -> None:
        """Measure from now on."""
        self.polls: list[float] = []
        self.off: list[float] = []
        self.posts = Counter[str]()

    @property
    def polled(self) -> int:
        """How many tracks have been read."""
        return len(self._last)

    def take(self, request: Request) -> None:
        """Answer a request."""
        target = request.path[1:]
        if target in self.taken:
            self._message(target, request)
        else:
            self._read(request)

    def _read(self, request: Request) -> None:
        now, identifier = time.monotonic(), request.path.rpartition("/")[2]
        before = self._last.get(identifier)
        if before is not None:
            self.off.append(abs(now - before - self._interval))
        self._last[identifier] = now
        self.polls.append(now)
        is_completed = identifier in self.completed
        if is_completed and self.told_at is None:
            self.told_at = now
        request.connection.send(_completed(identifier) if is_completed else self._generating)

    def _message(self, target: str, request: Request) -> None:
        self.posts[target] += 1
        if target == "dead" and self.is_dead:
            request.connection.drop()
            return
        self.taken[target][request.header("webhook-id")] += 1
        self._loop.call_later(_SLOW if target == "slow" else 0, request.connection.send, NO_CONTENT)


def _completed(identifier: str) -> bytes:
    return response(json.dumps(completed(int(identifier.rpartition(":")[2]), prompt=_PROMPT)).encode())


@dataclass(slots=True)
class _Phase:
    """Some time under load, as seen from outside."""

    seconds: float
    cpu: float
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
@click.option("--watches", type=click.IntRange(_FEW), default=10_000, show_default=True)
@click.option("--interval", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds.")
@click.option("--rate", type=click.IntRange(1), help="Ceiling a second; default: 1.25 times what is needed.")
@click.option("--seconds", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Steady load.")
@click.option(
    "--burst", type=click.IntRange(1), help="Tracks that complete; default: a tenth of the watches."
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state file; default: the system's temporary directory.",
)
def load(
    watches: int, interval: float, rate: int | None, seconds: float, burst: int | None, directory: str | None
) -> None:
    """Measure the daemon with many watches on one core."""
    needed = watches / interval
    bench = Bench(watches, interval, rate or max(1, round(needed * 1.25)), burst or max(1, watches // 10))
    with tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place:
        result = asyncio.run(bench.run(Path(place), seconds))
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

    async def run(self, place: Path, seconds: float) -> dict[str, Any]:
        """Measure all there is to measure."""
        few_start, few_memory = await self._few(place)
        self._world = world = World(self._interval)
        async with await listen(world.take) as server:
            self._url = address(server)
            watchlist = self._write(place, self._watches)
            async with running(watchlist, place / "log", self._core) as daemon:
                start = await self._start(daemon, few_start)
                steady = await self._steady(daemon, seconds, few_memory)
                burst = await self._finish(daemon)
                reload = await self._reload(daemon, watchlist)
                stopping = time.monotonic()
                daemon.signal(signal.SIGTERM)
                await daemon.ended()
        return {
            "bench": "load",
            "watches": self._watches,
            "interval_s": self._interval,
            "rate": self._rate,
            "start": start,
            "steady": steady.as_json(),
            "burst": burst.as_json(),
            "reload": reload.as_json(),
            "stop_s": round(time.monotonic() - stopping, 2),
        }

    def _write(self, place: Path, watches: int, *, first: str = "Track 0") -> Path:
        head = _HEAD.format(url=self._url, rate=self._rate, interval=self._interval, port=self._port)
        names = [first, *(f"Track {number}" for number in range(1, watches))]
        entries = (
            f"  - audio_id: {audio_id(number)}\n    name: {name}\n" for number, name in enumerate(names)
        )
        watchlist = place / "watchlist.yaml"
        watchlist.write_text(f"state: {place / 'state.db'}\n{head}{''.join(entries)}", encoding="utf-8")
        watchlist.chmod(0o600)
        return watchlist

    async def _few(self, place: Path) -> tuple[float, int]:
        """Return when the first request of a small daemon comes, and the memory that it takes."""
        (place / "few").mkdir()
        self._world = world = World(self._interval)
        async with await listen(world.take) as server:
            self._url = address(server)
            watchlist = self._write(place / "few", _FEW)
            async with running(watchlist, place / "few" / "log", self._core) as daemon:
                await daemon.until(lambda: world.polled == _FEW, within=_PATIENCE, what="a poll of each")
                await ask(f"http://127.0.0.1:{self._port}/metrics")
                return world.polls[0] - daemon.began, daemon.memory()

    async def _start(self, daemon: Daemon, few: float) -> dict[str, float]:
        world = self._world
        await daemon.until(lambda: world.polled >= self._watches, within=_PATIENCE, what="a poll of each")
        return {
            "few_s": round(few, 2),
            "first_poll_s": round(world.polls[0] - daemon.began, 2),
            "all_polled_s": round(time.monotonic() - daemon.began, 2),
        }

    async def _steady(self, daemon: Daemon, seconds: float, few_memory: int) -> _Phase:
        await asyncio.sleep(_WARM_UP * self._interval)
        metrics = f"http://127.0.0.1:{self._port}/metrics"
        before = buckets(await ask(metrics), _LATENESS)
        phase = await self._phase(daemon, asyncio.sleep(seconds))
        off, memory = sorted(self._world.off) or [0.0], daemon.memory()
        after = buckets(await ask(metrics), _LATENESS)
        phase.more = {
            "seconds": round(phase.seconds, 1),
            "per_second": round(phase.polls / phase.seconds, 1),
            "cpu_us": round(phase.cpu / max(1, phase.polls) * 1e6),
            "core": round(phase.cpu / phase.seconds, 2),
            "lateness_ms": {f"p{share}": _ms(quantile(share / 100, before, after)) for share in (50, 99)},
            "interval_off_ms": {f"p{share}": _ms(off[len(off) * share // 100]) for share in (50, 99)},
            "rss_mib": round(memory / _MIB, 1),
            "few_rss_mib": round(few_memory / _MIB, 1),
            "kib_a_watch": round((memory - few_memory) / 1024 / max(1, self._watches - _FEW), 2),
        }
        return phase

    async def _finish(self, daemon: Daemon) -> _Phase:
        """Let tracks complete, and the dead receiver live again when the others have all."""
        world, well, end, dead = self._world, 0.0, 0.0, 0

        async def all_come() -> None:
            nonlocal well, dead, end
            world.completed = frozenset(audio_id(number) for number in range(self._burst))
            await self._until_taken(daemon, "well")
            well = self._since_told()
            await self._until_taken(daemon, "slow")
            world.is_dead, dead = False, world.posts["dead"]
            await self._until_taken(daemon, "dead")
            end = self._since_told()

        phase = await self._phase(daemon, all_come())
        phase.more = {
            "tracks": self._burst,
            "well_s": round(well, 2),
            "all_s": round(end, 2),
            "posts": dict(world.posts),
            "posts_while_dead": dead,
            "lost": sum(self._burst - len(taken) for taken in world.taken.values()),
            "repeated": sum(taken.total() - len(taken) for taken in world.taken.values()),
        }
        return phase

    def _since_told(self) -> float:
        return time.monotonic() - (self._world.told_at or time.monotonic())

    async def _until_taken(self, daemon: Daemon, target: str) -> None:
        taken = self._world.taken[target]
        await daemon.until(
            lambda: len(taken) >= self._burst, within=_PATIENCE, what=f"{self._burst} messages to {target}"
        )

    async def _reload(self, daemon: Daemon, watchlist: Path) -> _Phase:
        self._write(watchlist.parent, self._watches, first="Another name")

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
        cpu, waited, began = daemon.cpu(), daemon.waited(), time.monotonic()
        still = await longest_stall(asked_meanwhile(self._port, work, stalls))
        return _Phase(
            time.monotonic() - began,
            daemon.cpu() - cpu,
            daemon.waited() - waited,
            len(self._world.polls),
            max(stalls),
            still,
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)


def _show(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    start, steady, burst, reload = (result[part] for part in ("start", "steady", "burst", "reload"))
    late, off = steady["lateness_ms"], steady["interval_off_ms"]
    print(f"{result['watches']} watches every {result['interval_s']:g} s, at most {result['rate']} a second")
    print(f"start to the first poll: {start['first_poll_s']} s; with {_FEW} watches {start['few_s']} s")
    print(
        f"polls: {steady['per_second']} a second, CPU {steady['cpu_us']} µs, {steady['core']:.0%} of a core"
    )
    print(f"lateness: p50 {late['p50']} ms, p99 {late['p99']} ms")
    print(f"from the interval: p50 {off['p50']} ms, p99 {off['p99']} ms")
    print(f"memory: {steady['rss_mib']} MiB, {steady['kib_a_watch']} KiB a watch")
    print(f"{burst['tracks']} tracks complete: the well target has all after {burst['well_s']} s, ", end="")
    print(f"all three after {burst['all_s']} s; requests to the dead one: {burst['posts_while_dead']}")
    print(f"lost {burst['lost']}, repeated {burst['repeated']}")
    print(f"reload: {reload['seconds']} s, polled meanwhile at {reload['per_second']} a second")
    print_table(
        ("", "longest stall ms", "bench's own ms", "waited for a core ms"),
        [
            (name, *(str(result[name][key]) for key in ("stall_ms", "still_ms", "waited_ms")))
            for name in ("steady", "burst", "reload")
        ],
    )
    print()
