"""Turns of many tracks taken together at a real API, by a clock that stands still."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from notifier.config import Useapi
from notifier.document import Scalar
from notifier.event import EventType
from notifier.gathering import Gathering
from notifier.metrics import Metrics
from notifier.mistake import Place
from notifier.poller import Limits, Poller
from notifier.store import Store
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.usage import Meter
from notifier.useapi import UseApi
from notifier.watched import Watched
from tests.support.catalogue import ME
from tests.support.clocks import ManualClock
from tests.support.servers import Server
from tests.support.tracks import audio_id

MINUTE = timedelta(minutes=1)
ALL = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.MISSING, EventType.STALLED})


def scalar(text: str) -> Scalar:
    return Scalar(text, Place(1, 1))


@dataclass
class Bench:
    """Turns taken together, at an API that knows lists."""

    api: Server
    store: Store
    clock: ManualClock
    upstream: Upstream
    poller: Poller
    gathering: Gathering
    metrics: Metrics

    def watch(self, number: int, account: str = ME) -> Watched:
        identifier = audio_id(number, account)
        url = self.poller.reader.url_of(identifier)
        watch = Watched(identifier, None, timedelta(seconds=15), ALL, ("band-room",), url)
        self.gathering.enter(watch)
        return watch

    def watches(self, numbers: Iterable[int], account: str = ME) -> list[Watched]:
        return [self.watch(number, account) for number in numbers]

    async def tick(self, watches: Iterable[Watched], *, after: float = 15.0) -> None:
        """Let these be due together some seconds later."""
        self.clock.move(after)
        await asyncio.gather(*(self.gathering.turn(watch) for watch in watches))

    async def told(self) -> list[tuple[str, str | None]]:
        """Return what was told of which track, in order."""
        return [(row.type, row.audio_id) for row in await self.store.deliveries()]


@contextlib.asynccontextmanager
async def gathering_at(api: Server, store: Store, *, is_on: bool = True) -> AsyncIterator[Bench]:
    """Take turns at an API, with lists or without."""
    clock, metrics = ManualClock(), Metrics()
    api.now = clock.now
    reporter = Reporter(store, clock, ())
    reader = UseApi(Useapi(token=scalar("user:1-abc"), base_url=scalar(f"{api.url}/v2/pixverse")), clock)
    upstream = Upstream(
        interval=timedelta(seconds=15),
        max_interval=5 * MINUTE,
        spacing=timedelta(milliseconds=1),
        clock=clock,
        rng=Random(1),
        report=reporter.report,
        remember=store.save_gate,
    )
    poller = Poller(
        reader=reader,
        store=store,
        upstream=upstream,
        limits=Limits(3, 30 * MINUTE, 5 * MINUTE, asyncio.Semaphore(8)),
        clock=clock,
        rng=Random(1),
        metrics=metrics,
        wake=lambda _targets: None,
        reporter=reporter,
        meter=Meter(now=clock.awake, period=float),
    )
    gathering = Gathering(poller, upstream=upstream, clock=clock, rng=Random(1), is_on=is_on)
    try:
        yield Bench(api, store, clock, upstream, poller, gathering, metrics)
    finally:
        await reader.close()
