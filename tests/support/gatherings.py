"""Turns of many tracks taken together at a real API, by a clock that stands still."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta

from notifier.gathering import Gathering
from notifier.metrics import Metrics
from notifier.poller import Poller
from notifier.store import Store
from notifier.upstream import Upstream
from notifier.watched import Watched
from tests.support.catalogue import ME
from tests.support.clocks import ManualClock
from tests.support.polling import ALL, asking
from tests.support.servers import Server
from tests.support.tracks import audio_id


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
    clock = ManualClock()
    async with asking(api, store, clock, reads_lists=is_on) as asker:
        yield Bench(api, store, clock, asker.upstream, asker.poller, asker.gathering, asker.metrics)
