import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from yarl import URL

from notifier.schedule import Schedule, _MonotonicZone
from notifier.transition import Sighting
from notifier.watched import Watched
from tests.support.servers import PATIENCE
from tests.support.tracks import audio_id

TICK = timedelta(milliseconds=50)
HOUR = timedelta(hours=1)


def watch(number: int, interval: timedelta = TICK) -> Watched:
    return Watched(audio_id(number), None, interval, frozenset(), (), URL("http://127.0.0.1:9/"))


def finish(one: Watched) -> None:
    one.sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=datetime.now().astimezone())


class Turns:
    """Counts turns and lets a test wait for them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.order: list[str] = []
        self.lateness: list[float] = []
        self.on_turn: Callable[[Watched], None] = lambda _watch: None
        self.held: asyncio.Event | None = None
        self._changed = asyncio.Condition()

    async def __call__(self, watch: Watched, *, lateness: float) -> None:
        async with self._changed:
            self.counts[watch.audio_id] += 1
            self.order.append(watch.audio_id)
            self.lateness.append(lateness)
            self.on_turn(watch)
            self._changed.notify_all()
        if self.held is not None:
            await self.held.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)


@asynccontextmanager
async def running(turns: Turns, spacing: timedelta = timedelta(microseconds=100)) -> AsyncIterator[Schedule]:
    schedule = Schedule(turns, spacing=spacing)
    schedule.start()
    yield schedule
    schedule.stop()
    await asyncio.sleep(0)


async def test_a_watch_is_turned_until_its_track_is_final_and_then_no_more() -> None:
    turns = Turns()
    one, other = watch(1), watch(2)
    turns.on_turn = lambda turned: finish(one) if turns.counts[one.audio_id] == 3 and turned is one else None
    async with running(turns) as schedule:
        await schedule.add([one, other])
        await turns.until(lambda: turns.counts[other.audio_id] >= 8)
        assert turns.counts[one.audio_id] == 3
        assert one.audio_id not in schedule
        assert len(schedule) == 1
    assert min(turns.lateness) >= 0


async def test_first_reads_come_in_order_and_all_of_a_thousand_come() -> None:
    turns = Turns()
    watches = [watch(number, HOUR) for number in range(1000)]
    async with running(turns) as schedule:
        schedule.spacing = 0.0001
        await schedule.add(watches[:5])
        await turns.until(lambda: len(turns.order) == 5)
        assert turns.order == [one.audio_id for one in watches[:5]]
    turns = Turns()
    async with running(turns) as schedule:
        await schedule.add(watch(number, timedelta(milliseconds=500)) for number in range(1000))
        await turns.until(lambda: len(turns.counts) == 1000)


async def test_a_slow_turn_is_never_taken_twice_at_once() -> None:
    turns = Turns()
    turns.held = asyncio.Event()
    slow, quick = watch(1), watch(2)
    async with running(turns) as schedule:
        await schedule.add([slow])
        await turns.until(lambda: turns.counts[slow.audio_id] == 1)
        held, turns.held = turns.held, None
        await schedule.add([quick])
        await turns.until(lambda: turns.counts[quick.audio_id] >= 5)
        assert turns.counts[slow.audio_id] == 1
        held.set()
        await turns.until(lambda: turns.counts[slow.audio_id] >= 2)


async def test_a_removed_watch_is_turned_no_more_and_adding_twice_changes_nothing() -> None:
    turns = Turns()
    one, other = watch(1), watch(2)
    async with running(turns) as schedule:
        await schedule.add([one, other])
        await schedule.add([one])
        await turns.until(lambda: turns.counts[one.audio_id] >= 1)
        schedule.remove(one.audio_id)
        schedule.remove("nobody")
        seen = turns.counts[one.audio_id]
        await turns.until(lambda: turns.counts[other.audio_id] >= 6)
        assert turns.counts[one.audio_id] == seen


async def test_a_shorter_interval_counts_at_once() -> None:
    turns = Turns()
    one = watch(1, HOUR)
    async with running(turns) as schedule:
        await schedule.add([one])
        await turns.until(lambda: turns.counts[one.audio_id] == 1)
        one.interval = TICK
        schedule.quicken(one)
        await turns.until(lambda: turns.counts[one.audio_id] >= 4)


async def test_the_heart_beats_while_the_scheduler_makes_progress() -> None:
    turns = Turns()
    async with running(turns) as schedule:
        await schedule.add([watch(1)])
        first = schedule.last_beat
        await turns.until(lambda: schedule.last_beat > first)


def test_the_schedulers_clock_is_the_monotonic_one() -> None:
    zone = _MonotonicZone()
    before = time.monotonic()
    now = zone.seconds(datetime.now(zone))
    assert before - 0.001 <= now <= time.monotonic() + 0.001
    assert zone.seconds(zone.at(12.5)) == 12.5
    assert zone.at(2.0) - zone.at(1.0) == timedelta(seconds=1)


async def test_a_turn_that_would_begin_at_a_stop_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Turns()) as schedule:
        await schedule.add([watch(1)])
    for _ in range(5):
        await asyncio.sleep(0)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
