"""``deliver``: what a delivery costs, from the commit of its event to the commit of its acceptance.

Two cases, against a receiver in another process:

- A webhook, four requests at once, beside a bare loop of as many aiohttp POSTs of the same bodies. ``record``
  commits events one after the other, ``deliver`` empties the outbox so filled. ``whole`` does both at once,
  with eight events recorded side by side, as the poller's turns are when many tracks end together: the store
  commits together what waits for it together.
- A burst of events to a Slack, a Discord and a webhook target, with the longest time that the loop stood
  still. The services' pace is kept: Slack takes a message a second.

The parts are the daemon's own (`notifier.engine`) on a real state file, with a log at `info` to a real file.
Aims: ``whole`` costs at most 3 times the CPU of the bare loop; a burst of 500 stalls the loop for at most
100 ms. CPU is that of the whole process, so the store's thread is in it.

Keys of the JSON line: ``bench``, ``loop``, ``events``, ``rounds``, ``concurrency``, ``body_bytes``; ``bare``,
``record``, ``deliver`` and ``whole``, each with ``cpu_us`` and ``wall_us`` for one event, and ``per_second``;
``cpu_ratio`` and ``wall_ratio`` of the whole to the bare loop, ``deliver_cpu_ratio`` and
``deliver_wall_ratio`` without the recording; ``burst`` with ``events``, ``seconds``, ``posts`` by target,
``stall_ms``, and ``still_ms``, the longest stall of the same loop with nothing to do.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import aiohttp
import click
from yarl import URL

from notifier import log
from notifier.clock import SystemClock
from notifier.engine import Engine
from notifier.event import Event, EventType, TrackNews, public_json, track_event
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Owed, Store
from notifier.track import Track, parse
from notifier.transition import Sighting
from tests.bench.measuring import (
    Cost,
    cost_of,
    keep_to_one_core,
    longest_stall,
    loop_factory,
    median,
    print_json_line,
    print_table,
)
from tests.bench.receiver import Receiver, receiving
from tests.support.tracks import audio_id, completed

_CONCURRENCY = 4
_TURNS = 8
"""How many reads of tracks the daemon has under way at once by default."""
_PATHS = {"archive": "/webhook/archive", "band-room": "/slack/band-room", "studio": "/discord/studio"}
_WATCHLIST = """\
useapi: {{token: user:123-bench}}
targets:
  archive: {{type: webhook, url: "{url}/webhook/archive", concurrency: 4}}
  band-room: {{type: slack, url: "{url}/slack/band-room"}}
  studio: {{type: discord, url: "{url}/discord/studio"}}
watch: []
"""
_WEBHOOK = ("archive",)
_EVERYONE = tuple(_PATHS)
_PROMPT = "A slow synthwave intro: warm pads, a distant saxophone, rain on the windows"
_LOOK_EVERY = 0.02
_STILL_FOR = 1.0
_MOST_CPU = 3.0
_LONGEST_STALL = 0.1
_JSON = {"Content-Type": "application/json"}

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A track that has completed, as the poller hands it to the store."""

    number: int
    track: Track
    event: Event

    @property
    def body(self) -> bytes:
        """What a webhook receives of it."""
        return public_json(self.event).encode()


@dataclass(frozen=True, slots=True)
class _Webhook:
    """What one delivery costs, and its parts."""

    events: int
    rounds: int
    bare: Cost
    record: Cost
    deliver: Cost
    whole: Cost

    def parts(self) -> dict[str, Cost]:
        return {"bare": self.bare, "record": self.record, "deliver": self.deliver, "whole": self.whole}


@dataclass(frozen=True, slots=True)
class _Burst:
    """What became of events to all targets at once; in seconds."""

    events: int
    seconds: float
    posts: dict[str, int]
    stall: float
    still: float

    def as_json(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "seconds": round(self.seconds, 2),
            "posts": self.posts,
            "stall_ms": round(self.stall * 1e3, 1),
            "still_ms": round(self.still * 1e3, 1),
        }


@click.command()
@click.option("--events", type=click.IntRange(1), default=2000, show_default=True, help="Events a round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Medians of so many.")
@click.option(
    "--burst", type=click.IntRange(1), help="Events to three targets; default: 500, or --events if fewer."
)
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
def deliver(events: int, rounds: int, burst: int | None, loop: str, directory: str | None) -> None:
    """Measure deliveries from commit to commit, beside bare POSTs."""
    core = keep_to_one_core()
    with (
        receiving(core) as receiver,
        tempfile.TemporaryDirectory(prefix="notifier-bench-", dir=directory) as place,
        Path(place, "log").open("w", encoding="utf-8") as stream,
        asyncio.Runner(loop_factory=loop_factory(loop)) as runner,
    ):
        log.configure("info", "json", stream=stream)
        bench = _Bench(receiver, Path(place))
        webhook = runner.run(bench.webhook(events, rounds))
        flood = runner.run(bench.burst(burst or min(500, events)))
        loop = type(runner.get_loop()).__module__.partition(".")[0]
    _show(webhook, flood)
    print_json_line({"bench": "deliver", "loop": loop, **_as_json(webhook), "burst": flood.as_json()})


class _Bench:
    """Does the measuring; each piece of work on a state file of its own."""

    def __init__(self, receiver: Receiver, place: Path) -> None:
        self._receiver = receiver
        self._place = place

    async def webhook(self, events: int, rounds: int) -> _Webhook:
        """Measure every part in turn, round by round."""
        bare, record, deliver, whole = [], [], [], []
        for _ in range(rounds):
            bare.append(await self._bare(events))
            recorded, delivered = await self._record_then_deliver(events)
            record.append(recorded)
            deliver.append(delivered)
            whole.append(await self._whole(events))
        return _Webhook(events, rounds, median(bare), median(record), median(deliver), median(whole))

    async def _bare(self, events: int) -> Cost:
        """POST the bodies with aiohttp alone."""
        bodies = iter([one.body for one in _finish(events)])
        url = URL(self._receiver.url + "/webhook/bare")
        async with aiohttp.ClientSession() as session:

            async def post() -> None:
                for body in bodies:
                    async with session.post(url, data=body, headers=_JSON) as response:
                        await response.read()

            async def post_all() -> None:
                await asyncio.gather(*(post() for _ in range(_CONCURRENCY)))

            return await cost_of(post_all(), units=events)

    async def _record_then_deliver(self, events: int) -> tuple[Cost, Cost]:
        """Fill the outbox, then empty it."""
        finished = _finish(events)
        async with self._engine() as engine:
            record = await cost_of(_record(engine, finished, _WEBHOOK), units=events)
            engine.deliverer.wake(_WEBHOOK)
            deliver = await cost_of(_accepted(engine, events, _WEBHOOK), units=events)
        return record, deliver

    async def _whole(self, events: int) -> Cost:
        """Fill the outbox while it is emptied."""
        async with self._engine() as engine:
            work = _record_and_deliver(engine, _finish(events), _WEBHOOK)
            return await cost_of(work, units=events)

    async def burst(self, events: int) -> _Burst:
        """Tell all targets of many events at once, and watch the loop meanwhile."""
        async with self._engine() as engine:
            idle = await longest_stall(asyncio.sleep(_STILL_FOR))
            work = _record_and_deliver(engine, _finish(events), _EVERYONE)
            before = self._receiver.counts()
            started = time.perf_counter()
            busy = await longest_stall(work)
            seconds = time.perf_counter() - started
            after = self._receiver.counts()
        posts = {target: after[path] - before[path] for target, path in _PATHS.items()}
        return _Burst(events, seconds, posts, busy, idle)

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[Engine]:
        """Run the daemon's parts for the length of a block."""
        watchlist = _WATCHLIST.format(url=self._receiver.url).encode()
        loaded = load_content(watchlist, "watchlist.yaml", resolve=True, sources=Sources({}))
        masker = Masker(loaded.secrets)
        log.mask_with(masker)
        with tempfile.TemporaryDirectory(dir=self._place) as directory:
            async with Store(Path(directory, "state.db")) as store:
                engine = Engine(
                    loaded.config, store, masker=masker, clock=SystemClock(), rng=random.Random(1)
                )
                await engine.start()
                try:
                    yield engine
                finally:
                    await engine.stop()


def _finish(events: int) -> list[_Finished]:
    """Let tracks complete that nobody has heard of."""
    return [_finished(number) for number in islice(_numbers, events)]


def _finished(number: int) -> _Finished:
    track = parse(completed(number, prompt=_PROMPT))
    about = TrackNews(audio_id(number), f"Track {number}", track.status, "GENERATING", track)
    return _Finished(number, track, track_event(EventType.COMPLETED, about, datetime.now(UTC)))


async def _record(engine: Engine, finished: Sequence[_Finished], targets: tuple[str, ...]) -> None:
    for one in finished:
        await _record_one(engine, one, targets)


async def _record_and_deliver(
    engine: Engine, finished: Sequence[_Finished], targets: tuple[str, ...]
) -> None:
    left = iter(finished)

    async def turns() -> None:
        for one in left:
            await _record_one(engine, one, targets)
            engine.deliverer.wake(targets)

    await asyncio.gather(*(turns() for _ in range(_TURNS)))
    await _accepted(engine, len(finished), targets)


async def _record_one(engine: Engine, one: _Finished, targets: tuple[str, ...]) -> None:
    at = one.event.detected_at
    sighting = Sighting(one.track.status, one.track.is_final, one.track.name, first_seen=at)
    owed = [Owed(one.event, targets)]
    await engine.store.record(audio_id(one.number), sighting, one.track, owed, now=at)


async def _accepted(engine: Engine, events: int, targets: tuple[str, ...]) -> None:
    """Wait until every event is accepted by every target, and that is written down."""
    while _accepted_count(engine) < events * len(targets):
        await asyncio.sleep(_LOOK_EVERY)


def _accepted_count(engine: Engine) -> float:
    (family,) = engine.metrics.delivery_seconds.collect()
    return sum(sample.value for sample in family.samples if sample.name.endswith("_count"))


def _show(webhook: _Webhook, burst: _Burst) -> None:
    """Print the figures for people."""
    print(f"a webhook: one delivery of {webhook.events}, median of {webhook.rounds} rounds")
    print_table(
        ("", "CPU µs", "wall µs", "a second", "CPU ratio", "wall ratio"),
        (_row(name, cost, webhook.bare) for name, cost in webhook.parts().items()),
    )
    print(f"aim: the whole at no more than {_MOST_CPU:.1f} times the bare loop's CPU\n")
    posts = ", ".join(f"{target} {count}" for target, count in burst.posts.items())
    print(f"{burst.events} events to three targets: {burst.seconds:.1f} s, requests: {posts}")
    print(f"longest stall of the loop: {burst.stall * 1e3:.1f} ms; idle: {burst.still * 1e3:.1f} ms")
    print(f"aim: no more than {_LONGEST_STALL * 1e3:.0f} ms\n")


def _as_json(webhook: _Webhook) -> dict[str, Any]:
    bare, deliver, whole = webhook.bare, webhook.deliver, webhook.whole
    return {
        "events": webhook.events,
        "rounds": webhook.rounds,
        "concurrency": _CONCURRENCY,
        "body_bytes": len(_finished(0).body),
        **{name: cost.as_json() for name, cost in webhook.parts().items()},
        "cpu_ratio": round(whole.cpu / bare.cpu, 2),
        "wall_ratio": round(whole.wall / bare.wall, 2),
        "deliver_cpu_ratio": round(deliver.cpu / bare.cpu, 2),
        "deliver_wall_ratio": round(deliver.wall / bare.wall, 2),
    }


def _row(name: str, cost: Cost, bare: Cost) -> tuple[str, ...]:
    ratios = (cost.cpu / bare.cpu, cost.wall / bare.wall)
    figures = (f"{cost.cpu * 1e6:.0f}", f"{cost.wall * 1e6:.0f}", f"{1 / cost.wall:.0f}")
    return (name, *figures, *(f"{ratio:.2f}" for ratio in ratios))
