"""``start``: from the exec of the daemon to its first poll, with few watches and with very many.

The daemon is the real ``notifier run``, a process of its own. In the same run, in turn with it, another
process does what no start can do without: it imports the libraries that the daemon has, and loads the same
watchlist with PyYAML's loader on libyaml. ``ratio`` is that of the daemon's CPU to that of the other process,
``wall_ratio`` that of the times. Figures are medians of ``--rounds``; a state file is there from a start
before, as nearly always. A daemon has its bytecode, as an installed one has.

Aim: a ratio of at most 1.3 with 10,000 watches.

Keys of the JSON line: ``bench``, ``rounds``, and ``sizes``, a list of ``watches``, ``first_poll_s``,
``cpu_s``, ``bare_s``, ``bare_cpu_s``, ``ratio`` and ``wall_ratio``.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.bench.cheaphttp import address, listen
from tests.bench.daemon import on_core, running
from tests.bench.measuring import keep_to_one_core, print_json_line, print_table
from tests.bench.world import BASE, World, write_watchlist
from tests.support.process import environment

_SIZES = (10, 1_000, 10_000)
_PATIENCE = 300.0
_HEAD = """\
useapi: {{token: user:123-bench, base_url: "{url}{base}", rate: 1000/s}}
poll: {{interval: 1m, stalled_after: 3650d, list: never, cadence: fixed}}
targets: {{hook: {{type: webhook, url: "{url}/hook"}}}}
"""
_BARE = """\
import json, sqlite3, sys, time
import aiohttp, aiohttp.web, apscheduler.schedulers.asyncio, click, jinja2, prometheus_client, pydantic
import structlog, yaml
try:
    import uvloop
except ImportError:
    pass
with open(sys.argv[1], encoding="utf-8") as file:
    yaml.load(file, Loader=yaml.CSafeLoader)
print(json.dumps([time.monotonic(), time.process_time()]))
"""
"""What no start can do without; its CPU counts from the exec on."""


@dataclass(frozen=True, slots=True)
class _Start:
    """What a start took, in seconds."""

    wall: float
    cpu: float


@click.command()
@click.option("--watches", type=click.IntRange(1), multiple=True, default=_SIZES, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Medians of so many.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state file; default: the system's temporary directory.",
)
def start(watches: tuple[int, ...], rounds: int, directory: str | None) -> None:
    """Measure starts beside importing the libraries and loading the same YAML."""
    core = keep_to_one_core()
    with tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place:
        sizes = [asyncio.run(_size(Path(place), count, rounds, core)) for count in watches]
    print(f"from the exec to the first poll, medians of {rounds}\n")
    print_table(("watches", *[*sizes[0]][1:]), [tuple(map(str, size.values())) for size in sizes])
    print()
    print_json_line({"bench": "start", "rounds": rounds, "sizes": sizes})


async def _size(place: Path, watches: int, rounds: int, core: int | None) -> dict[str, Any]:
    own = place / str(watches)
    own.mkdir()
    await _daemon(own, watches, core)  # which leaves bytecode and a state file behind
    daemons, bares = [], []
    for _ in range(rounds):
        bares.append(await asyncio.to_thread(_bare, own / "watchlist.yaml", core))
        daemons.append(await _daemon(own, watches, core))
    pairs = [*zip(daemons, bares, strict=True)]
    return {
        "watches": watches,
        "first_poll_s": round(statistics.median(one.wall for one in daemons), 3),
        "cpu_s": round(statistics.median(one.cpu for one in daemons), 3),
        "bare_s": round(statistics.median(one.wall for one in bares), 3),
        "bare_cpu_s": round(statistics.median(one.cpu for one in bares), 3),
        "ratio": round(statistics.median(daemon.cpu / bare.cpu for daemon, bare in pairs), 2),
        "wall_ratio": round(statistics.median(daemon.wall / bare.wall for daemon, bare in pairs), 2),
    }


async def _daemon(place: Path, watches: int, core: int | None) -> _Start:
    """Start a daemon, and stop it at once when the first request has come."""
    world = World()
    async with await listen(world.take) as server:
        watchlist = write_watchlist(place, _HEAD.format(url=address(server), base=BASE), watches)
        async with running(watchlist, place / "log", core) as daemon:
            used: list[float] = []
            world.on_first_poll = lambda: used.append(daemon.cpu())
            await daemon.until(lambda: bool(used), within=_PATIENCE, what="a poll")
            assert world.began_at is not None
            return _Start(world.began_at - daemon.began, used[0])


def _bare(watchlist: Path, core: int | None) -> _Start:
    began = time.monotonic()
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-c", _BARE, str(watchlist)], stdout=subprocess.PIPE, env=environment()
        )
    out, _ = process.communicate()
    ended, cpu = json.loads(out)
    return _Start(ended - began, cpu)
