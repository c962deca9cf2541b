"""``detect``: from the moment at which the API first says that a track is ready until the webhook arrives.

The daemon is the real ``notifier run``, a process of its own on one core. useapi.net and the receiver are
this process, on another one, so that both moments are of one clock: when the changed answer is sent, and when
the request to the receiver has come whole. How long it takes until the daemon asks is not in it. One track
after the other becomes ready; after each, ``commit`` is measured: how long the store takes to record one that
is ready, in this process and in the same directory, from the call to the return. Then the API calls for as
many tracks, 80 at the most: ``callback`` is from the moment at which such a call begins to connect until the
webhook arrives; the read that it leads to is in it.

Aim: a median under 10 ms. Most of it is the commit's wait for the disk, which no event leaves before.

Keys of the JSON line: ``bench``, ``events``, ``watches``, ``interval_s``, ``lag_ms``, ``commit_ms`` and
``callback_ms``, each with p50 and p99.
"""

import asyncio
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from notifier.event import EventType, TrackNews, track_event
from notifier.store import Owed, Store
from notifier.track import parse
from notifier.transition import Sighting
from tests.bench.cheaphttp import Request, address, listen
from tests.bench.daemon import Daemon, running
from tests.bench.measuring import keep_to_one_core, print_json_line, print_table
from tests.bench.world import BASE, PROMPT, World, accept, write_watchlist
from tests.support.servers import free_port
from tests.support.tracks import audio_id, completed

_PATIENCE = 60.0
_SHARES = (50, 99)
_HEAD = """\
useapi: {{token: user:123-bench, base_url: "{url}{base}", rate: {rate}/s, concurrency: 64}}
poll: {{interval: {interval}s, stalled_after: 3650d, list: never, cadence: fixed}}
targets: {{hook: {{type: webhook, url: "{url}/hook"}}}}
callback: {{listen: "127.0.0.1:{port}", path: "{path}"}}
"""
_PATH = "/hooks/useapi/9f3c1b7e24d8a6050c1e"
_MOST_CALLS = 80
"""With more in a row some would be dropped."""


@click.command()
@click.option("--events", type=click.IntRange(1), default=200, show_default=True)
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state files; default: the system's temporary directory.",
)
def detect(events: int, interval: float, directory: str | None) -> None:
    """Measure from the API's changed answer to the webhook, beside the store's commit."""
    with tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place:
        result = asyncio.run(_Bench(events, interval).run(Path(place)))
    print(f"from the changed answer to the webhook, {events} events, one at a time\n")
    names = ("lag_ms", "commit_ms", "callback_ms")
    print_table(
        ("", "p50 ms", "p99 ms"),
        [(name.removesuffix("_ms"), *map(str, result[name].values())) for name in names],
    )
    print()
    print_json_line(result)


class _Bench:
    """Does the measuring."""

    def __init__(self, events: int, interval: float) -> None:
        self._events, self._calls = events, min(events, _MOST_CALLS)
        self._port = free_port()
        self._interval = interval
        self._core = keep_to_one_core()
        self._world = World({"hook": self._arrive})
        self._arrived_at: dict[str, float] = {}

    def _arrive(self, request: Request) -> None:
        self._arrived_at.setdefault(json.loads(request.body)["data"]["audio_id"], time.monotonic())
        accept(request)

    async def run(self, place: Path) -> dict[str, Any]:
        """Let one track after the other become ready."""
        world, watches = self._world, self._events + self._calls
        rate = max(1, round(watches / self._interval * 1.25))
        lags, commits, calls = [], [], []
        async with await listen(world.take) as server, Store(place / "beside.db") as store:
            at = {"url": address(server), "base": BASE, "port": self._port, "path": _PATH}
            head = _HEAD.format(**at, rate=rate, interval=self._interval)
            watchlist = write_watchlist(place, head, watches)
            async with running(watchlist, place / "log", self._core) as daemon:
                await daemon.until(lambda: world.polled == watches, within=_PATIENCE, what="all polls")
                for number in range(self._events):
                    lags.append(await self._lag(daemon, number))
                    commits.append(await _commit(store, number))
                for number in range(self._events, watches):
                    calls.append(await self._call(daemon, number))
        return {
            "bench": "detect",
            "events": self._events,
            "watches": watches,
            "interval_s": self._interval,
            "lag_ms": _quantiles(lags),
            "commit_ms": _quantiles(commits),
            "callback_ms": _quantiles(calls),
        }

    async def _lag(self, daemon: Daemon, number: int) -> float:
        identifier = audio_id(number)
        self._world.completed = {identifier}
        await daemon.until(lambda: identifier in self._arrived_at, within=_PATIENCE, what="a message")
        return self._arrived_at[identifier] - self._world.told_at[identifier]

    async def _call(self, daemon: Daemon, number: int) -> float:
        """Let the API call for a track that is ready; return how long after that the webhook arrived."""
        identifier = audio_id(number)
        self._world.completed = {identifier}
        began = time.monotonic()
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        body = json.dumps(completed(number, prompt=PROMPT)).encode()
        head = f"POST {_PATH} HTTP/1.1\r\nHost: any\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await daemon.until(lambda: identifier in self._arrived_at, within=_PATIENCE, what="a message")
        writer.close()
        return self._arrived_at[identifier] - began


async def _commit(store: Store, number: int) -> float:
    track, at = parse(completed(number, prompt=PROMPT)), datetime.now(UTC)
    about = TrackNews(audio_id(number), f"Track {number}", track.status, "GENERATING", track)
    owed = [Owed(track_event(EventType.COMPLETED, about, at), ("hook",))]
    sighting = Sighting(track.status, is_final=True, name=track.name, first_seen=at)
    began = time.perf_counter()
    await store.record(audio_id(number), sighting, track, owed, now=at)
    return time.perf_counter() - began


def _quantiles(seconds: list[float]) -> dict[str, float]:
    in_order = sorted(seconds)
    return {f"p{share}": round(in_order[len(in_order) * share // 100] * 1e3, 2) for share in _SHARES}
