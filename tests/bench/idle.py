"""``idle``: what a daemon costs that has nothing to do: all its tracks are final.

The daemon is the real ``notifier run``, a process of its own, with the status page on and nobody who looks at
it. The state file says of every track that it has completed, so that not one request is made; ``few`` is
the same with 10 tracks, for what each of many takes beside it.

Aim: less than 0.1 % of a core.

Keys of the JSON line: ``bench``, ``tracks``, ``seconds``, ``cpu_percent``, ``wakings_a_second`` (of all
threads), ``requests``, ``rss_mib``, ``few_rss_mib`` and ``bytes_a_track``.
"""

import asyncio
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from notifier.store import Store
from notifier.track import parse
from notifier.transition import Sighting
from tests.bench.cheaphttp import address, listen
from tests.bench.daemon import running
from tests.bench.measuring import keep_to_one_core, print_json_line
from tests.bench.world import BASE, PROMPT, World, write_watchlist
from tests.support.servers import free_port
from tests.support.tracks import audio_id, completed

_FEW = 10
_MIB = 2**20
_HEAD = """\
useapi: {{token: user:123-bench, base_url: "{url}{base}"}}
targets: {{hook: {{type: webhook, url: "{url}/hook"}}}}
http: 127.0.0.1:{port}
"""


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a daemon took that had nothing to do."""

    cpu: float
    """Seconds a second."""
    wakings: float
    """A second."""
    memory: int
    requests: int


@click.command()
@click.option("--tracks", type=click.IntRange(_FEW), default=10_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=60.0, show_default=True)
@click.option("--settle", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds before.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state file; default: the system's temporary directory.",
)
def idle(tracks: int, seconds: float, settle: float, directory: str | None) -> None:
    """Measure a daemon with nothing to do."""
    core = keep_to_one_core()
    with tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place:
        few = asyncio.run(_rest(Path(place, "few"), _FEW, 0.1, settle, core))
        many = asyncio.run(_rest(Path(place, "many"), tracks, seconds, settle, core))
    result: dict[str, Any] = {
        "bench": "idle",
        "tracks": tracks,
        "seconds": seconds,
        "cpu_percent": round(many.cpu * 100, 3),
        "wakings_a_second": round(many.wakings, 1),
        "requests": many.requests,
        "rss_mib": round(many.memory / _MIB, 1),
        "few_rss_mib": round(few.memory / _MIB, 1),
        "bytes_a_track": round((many.memory - few.memory) / max(1, tracks - _FEW)),
    }
    print(f"{tracks} tracks that are final: {result['cpu_percent']} % of a core over {seconds:g} s, ", end="")
    print(f"{result['wakings_a_second']} wakings a second, {many.requests} requests")
    print(f"memory: {result['rss_mib']} MiB, {result['bytes_a_track']} bytes a track\n")
    print_json_line(result)


async def _rest(place: Path, tracks: int, seconds: float, settle: float, core: int | None) -> _Rest:
    place.mkdir()
    await _complete(place / "state.db", tracks)
    world = World()
    async with await listen(world.take) as server:
        head = _HEAD.format(url=address(server), base=BASE, port=free_port())
        async with running(write_watchlist(place, head, tracks), place / "log", core) as daemon:
            await daemon.started()
            await asyncio.sleep(settle)
            cpu, switches = daemon.cpu(), daemon.switches()
            await asyncio.sleep(seconds)
            return _Rest(
                (daemon.cpu() - cpu) / seconds,
                (daemon.switches() - switches) / seconds,
                daemon.memory(),
                world.polls,
            )


async def _complete(state: Path, tracks: int) -> None:
    """Write down that tracks have completed, and been told."""
    now = datetime.now(UTC)
    async with Store(state) as store:

        async def record(number: int) -> None:
            track = parse(completed(number, prompt=PROMPT))
            sighting = Sighting(track.status, is_final=True, name=track.name, first_seen=now)
            await store.record(audio_id(number), sighting, track, [], now=now)

        await asyncio.gather(*map(record, range(tracks)))
