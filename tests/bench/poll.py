"""``poll``: what a poll costs the daemon that has one core, with few watches and with very many.

The daemon is the real ``notifier run``, a process of its own. useapi.net is this process, on another core and
cheap enough not to matter. For each number of watches, polled together at ``--rate``, in turn:

- ``bare``: a loop of aiohttp GETs whose answers are parsed, as many a second as the daemon polls, on its core
  against the same server, while the daemon is stopped; ``flat_out``: the same, 64 at a time and as quickly as
  can be, which never sleeps and so never wakes up; then ``--seconds`` of the daemon, once it has caught up;
  and so on, ``--rounds`` times. Figures are medians; ``ratio`` is that of the CPU of a poll to that of a GET
  at the same rate, ``ratio_flat_out`` to that of one flat out.
- ``lateness`` is the daemon's own histogram, from due to the request, of all rounds; ``interval_off`` is
  measured at the API: how far from the interval apart two reads of a track came.
- A stall of the loop is seen from outside: as the slowest answer of ``/healthz``, which is asked again 25 ms
  after each answer. ``waited_ms`` is for how long in all the daemon wanted a core that others had.
- ``memory`` is that of the daemon without that of one with 10 watches, for each watch, when all were read.
- ``most``: then all watches are due more often than the core can do, and as many are read as it can.

Aims, on a core that is not shared: a ratio of at most 1.5 and the p99 of lateness under 50 ms with 10,000
watches and 1,000 polls a second; at most 4 KiB a watch; no stall over 250 ms.

Keys of the JSON line: ``bench``, ``loop``, ``rate``, ``rounds``, ``seconds``, and ``sizes``, a list of
``watches``, ``interval_s``, ``per_second``, ``cpu_us`` for a poll, ``core`` (the share of it that is used),
``bare_cpu_us``, ``flat_out_cpu_us``, ``ratio``, ``ratio_flat_out``, ``lateness_ms`` and ``interval_off_ms``
(p50, p99), ``stall_ms``, ``waited_ms``, ``rss_mib``, ``bytes_a_watch``, and ``most`` with ``per_second`` and
``cpu_us``.
"""

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tests.bench.bare import Bare, bare
from tests.bench.cheaphttp import address, listen
from tests.bench.daemon import Daemon, ask, asked_meanwhile, buckets, quantile, running
from tests.bench.measuring import keep_to_one_core, print_json_line, print_table
from tests.bench.world import BASE, World, write_watchlist
from tests.support.servers import free_port

_FEW = 10
_SIZES = (100, 1_000, 10_000, 50_000)
_GETS = 1_024
_PATIENCE = 300.0
_SHORTEST = 0.05
_MORE_THAN_THERE_IS = 6
"""How many times as many polls are asked for as before, to find out how many there can be."""
_LATENESS = "notifier_poll_lateness_seconds"
_MIB = 2**20
_HEAD = """\
useapi: {{token: user:123-bench, base_url: "{url}{base}", rate: {rate}/s, concurrency: 64}}
poll: {{interval: {interval}s, max_interval: 1h, stalled_after: 3650d, list: never, cadence: fixed}}
targets: {{hook: {{type: webhook, url: "{url}/hook"}}}}
http: 127.0.0.1:{port}
"""


@dataclass(slots=True)
class _Rounds:
    """What the rounds of one number of watches have shown; in seconds."""

    bare: list[float] = field(default_factory=list)
    flat_out: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    lateness: dict[float, float] = field(default_factory=dict)
    """How many polls were at most so late, by the limits of the buckets."""
    waited: float = 0.0


@click.command()
@click.option("--watches", type=click.IntRange(_FEW), multiple=True, default=_SIZES, show_default=True)
@click.option("--rate", type=click.FloatRange(1), default=1_000, show_default=True, help="Polls a second.")
@click.option("--seconds", type=click.FloatRange(0.1), default=6.0, show_default=True, help="Of one round.")
@click.option(
    "--settle", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds before a round."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Medians of so many.")
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    help="The event loop; default: the daemon's, which is uvloop where it is installed.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state file; default: the system's temporary directory.",
)
def poll(
    watches: tuple[int, ...],
    rate: float,
    seconds: float,
    settle: float,
    rounds: int,
    loop: str,
    directory: str | None,
) -> None:
    """Measure polls beside bare GETs, with few watches and with very many."""
    bench = Bench(rate, seconds, settle, rounds, loop)
    with tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place:
        sizes = asyncio.run(bench.run(Path(place), watches))
    _show(rate, sizes)
    setting = {"loop": loop, "rate": rate, "rounds": rounds, "seconds": seconds}
    print_json_line({"bench": "poll", **setting, "sizes": sizes})


class Bench:
    """Does the measuring."""

    def __init__(self, rate: float, seconds: float, settle: float, rounds: int, loop: str) -> None:
        self._rate = rate
        self._seconds = seconds
        self._settle = settle
        self._rounds = rounds
        self._loop = loop
        self._port = free_port()
        self._metrics = f"http://127.0.0.1:{self._port}/metrics"
        self._core = keep_to_one_core()

    async def run(self, place: Path, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
        """Measure each number of watches."""
        few = await self._memory_of_few(place)
        return [await self._size(place, watches, few) for watches in sizes]

    def _write(self, place: Path, watches: int, url: str, *, interval: float, rate: float) -> Path:
        head = _HEAD.format(url=url, base=BASE, rate=max(1, round(rate)), interval=interval, port=self._port)
        return write_watchlist(place, head, watches)

    def _interval(self, watches: int, *, times: float = 1) -> float:
        return max(_SHORTEST, watches / (self._rate * times))

    async def _memory_of_few(self, place: Path) -> int:
        world, own = World(), _made(place / "few")
        async with await listen(world.take) as server:
            watchlist = self._write(own, _FEW, address(server), interval=1, rate=self._rate)
            async with running(watchlist, own / "log", self._core, self._loop) as daemon:
                await daemon.until(lambda: world.polled == _FEW, within=_PATIENCE, what="a poll of each")
                await ask(self._metrics)
                return daemon.memory()

    async def _size(self, place: Path, watches: int, few: int) -> dict[str, Any]:
        world, own, interval = World(), _made(place / str(watches)), self._interval(watches)
        async with await listen(world.take) as server:
            url = address(server)
            watchlist = self._write(own, watches, url, interval=interval, rate=self._rate * 3)
            with bare(url, self._core, self._loop) as loop:
                await loop.flat_out(_GETS)  # lest it starts while the daemon does, on the same core
                async with running(watchlist, own / "log", self._core, self._loop) as daemon:
                    await daemon.until(
                        lambda: world.polled >= watches, within=_PATIENCE, what="a poll of each"
                    )
                    await asyncio.sleep(self._settle)
                    memory = daemon.memory()
                    rounds = await self._steady(world, daemon, loop, interval)
                    self._write(
                        own,
                        watches,
                        url,
                        interval=self._interval(watches, times=_MORE_THAN_THERE_IS),
                        rate=self._rate * _MORE_THAN_THERE_IS,
                    )
                    await daemon.reload()
                    most = await self._most(world, daemon)
        return {
            "watches": watches,
            "interval_s": interval,
            **_figures(rounds),
            "rss_mib": round(memory / _MIB, 1),
            "bytes_a_watch": round((memory - few) / max(1, watches - _FEW)),
            "most": most,
        }

    async def _steady(self, world: World, daemon: Daemon, loop: Bare, interval: float) -> _Rounds:
        rounds = _Rounds()
        for _ in range(self._rounds):
            with daemon.stopped():
                rounds.bare.append((await loop.spaced(_GETS, self._rate)).cpu)
                rounds.flat_out.append((await loop.flat_out(_GETS)).cpu)
            await asyncio.sleep(self._settle)
            before = buckets(await ask(self._metrics), _LATENESS)
            world.forget()
            cpu, waited, began = daemon.cpu(), daemon.waited(), time.monotonic()
            await asked_meanwhile(self._port, asyncio.sleep(self._seconds), rounds.stalls)
            took = time.monotonic() - began
            rounds.cpu.append((daemon.cpu() - cpu) / max(1, world.polls))
            rounds.per_second.append(world.polls / took)
            rounds.waited += daemon.waited() - waited
            for limit, count in buckets(await ask(self._metrics), _LATENESS).items():
                rounds.lateness[limit] = rounds.lateness.get(limit, 0) + count - before[limit]
            rounds.off += (abs(gap - interval) for gap in world.gaps)
        return rounds

    async def _most(self, world: World, daemon: Daemon) -> dict[str, float]:
        await asyncio.sleep(self._settle)
        world.forget()
        cpu, began = daemon.cpu(), time.monotonic()
        await asyncio.sleep(self._seconds)
        took = time.monotonic() - began
        return {
            "per_second": round(world.polls / took),
            "cpu_us": _us((daemon.cpu() - cpu) / max(1, world.polls)),
        }


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _figures(rounds: _Rounds) -> dict[str, Any]:
    ratios = (poll / get for poll, get in zip(rounds.cpu, rounds.bare, strict=True))
    to_flat_out = (poll / get for poll, get in zip(rounds.cpu, rounds.flat_out, strict=True))
    cpu, per_second = statistics.median(rounds.cpu), statistics.median(rounds.per_second)
    off = sorted(rounds.off) or [0.0]
    return {
        "per_second": round(per_second, 1),
        "cpu_us": _us(cpu),
        "core": round(cpu * per_second, 2),
        "bare_cpu_us": _us(statistics.median(rounds.bare)),
        "flat_out_cpu_us": _us(statistics.median(rounds.flat_out)),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_flat_out": round(statistics.median(to_flat_out), 2),
        "lateness_ms": {f"p{share}": _ms(quantile(share / 100, {}, rounds.lateness)) for share in (50, 99)},
        "interval_off_ms": {f"p{share}": _ms(off[len(off) * share // 100]) for share in (50, 99)},
        "stall_ms": _ms(max(rounds.stalls, default=0.0)),
        "waited_ms": _ms(rounds.waited),
    }


def _us(seconds: float) -> float:
    return round(seconds * 1e6)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)


def _show(rate: float, sizes: list[dict[str, Any]]) -> None:
    """Print the figures for people."""
    print(f"polls at {rate:g} a second on one core, CPU beside a bare GET's in the same run\n")
    columns = ("watches", "a second", "CPU µs", "bare", "flat out", "ratio", "to flat out")
    more = ("late p50 ms", "p99", "stall ms", "bytes a watch", "at most a second", "CPU µs")
    print_table((*columns, *more), map(_row, sizes))
    print()


def _row(size: dict[str, Any]) -> tuple[str, ...]:
    keys = ("watches", "per_second", "cpu_us", "bare_cpu_us", "flat_out_cpu_us", "ratio", "ratio_flat_out")
    late, most = size["lateness_ms"], size["most"]
    figures = (*(size[key] for key in keys), late["p50"], late["p99"], size["stall_ms"])
    return tuple(map(str, (*figures, size["bytes_a_watch"], most["per_second"], most["cpu_us"])))
