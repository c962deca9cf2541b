import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
import structlog
from yarl import URL

from notifier.foresight import Budget, Foresight, Life
from notifier.schedule import Schedule, _MonotonicZone, _Trigger
from notifier.transition import Sighting
from notifier.useapi import account_of
from notifier.watched import Watched
from tests.support.servers import PATIENCE
from tests.support.tracks import audio_id

TICK = timedelta(milliseconds=50)
HOUR = timedelta(hours=1)


def watch(number: int, interval: timedelta = TICK, account: str = "me@example.com") -> Watched:
    return Watched(audio_id(number, account), None, interval, frozenset(), (), URL("http://127.0.0.1:9/"))


def finish(one: Watched) -> None:
    one.sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=datetime.now().astimezone())


def hint(schedule: Schedule, one: Watched) -> bool:
    one.hinted_at = time.monotonic()
    return schedule.hasten(one.audio_id)


async def until_at_rest(schedule: Schedule, one: Watched) -> None:
    """Wait until a hint would begin a turn of its own: none is under way."""
    trigger = schedule._triggers[one.audio_id]
    async with asyncio.timeout(PATIENCE):
        while trigger.is_under_way:
            await asyncio.sleep(0)


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
        held = self.held
        await asyncio.sleep(0)
        if held is not None:
            await held.wait()

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


async def test_watches_of_one_account_are_read_for_the_first_time_at_once_where_one_answer_may_do() -> None:
    turns, dues = Turns(), defaultdict(set)
    async with running(turns) as schedule:

        def note(turned: Watched) -> None:
            dues[account_of(turned.audio_id)].add(schedule._triggers[turned.audio_id].due)

        turns.on_turn = note
        schedule.is_shared = True
        await schedule.add(watch(n, HOUR, f"{n % 3}@example.com") for n in range(12))
        await turns.until(lambda: len(turns.order) == 12)
    assert [max(due) - min(due) < 0.001 for due in dues.values()] == [True] * 3
    first, second, third = (min(due) for due in dues.values())
    assert first + 0.9 < second < third - 0.9


def trigger_of(one: Watched, *, requests: int = 1) -> Callable[[float], tuple[bool, float]]:
    """Return what says of a watch that comes up whether it is due later instead, and when it comes up."""
    schedule = Schedule(Turns(), spacing=timedelta(seconds=1), requests=lambda: requests)
    trigger = _Trigger(schedule, one, 100.0, "job")
    zone = _MonotonicZone()

    def come_up(at: float) -> tuple[bool, float]:
        moment = zone.at(at)
        first, second = (trigger.get_next_fire_time(moment, moment) for _ in range(2))
        assert first is not None
        assert first == second
        return trigger.is_early, zone.seconds(first)

    return come_up


def test_a_watch_that_is_told_of_with_others_is_not_due_before_its_next_read_from_then() -> None:
    one = watch(1, timedelta(seconds=15))
    come_up = trigger_of(one)
    assert come_up(100) == (False, 115)
    one.phase = 100  # its own turn
    assert come_up(115) == (False, 130)
    one.phase = 120  # that of another one
    assert come_up(130) == (True, 135)
    assert come_up(135) == (False, 150)
    one.phase = 135.01  # at the same moment as its own
    assert come_up(150) == (False, 165)
    one.phase = 164.99  # just before
    assert come_up(165) == (True, 179.99)


def test_a_watch_that_comes_up_because_somebody_wanted_it_to_is_due() -> None:
    one = watch(1, timedelta(seconds=15))
    come_up = trigger_of(one)
    come_up(100)
    one.phase = 107
    assert come_up(108) == (False, 123)


def test_the_period_is_stretched_by_the_requests_that_a_round_takes_whatever_it_reads() -> None:
    assert trigger_of(watch(1, timedelta(seconds=15)), requests=2)(100) == (False, 115)
    assert trigger_of(watch(1, timedelta(seconds=15)), requests=100)(100) == (False, 205)


async def test_a_hastened_watch_is_due_now_and_an_interval_later_again() -> None:
    turns, period = Turns(), 0.2
    one, other = watch(1, timedelta(seconds=period)), watch(2, HOUR)
    dues: list[float] = []
    async with running(turns) as schedule:
        turns.on_turn = lambda turned: dues.append(schedule._triggers[turned.audio_id].due)
        await schedule.add([one])
        for _ in range(3):
            count = turns.counts[one.audio_id] + 2
            await turns.until(lambda count=count: turns.counts[one.audio_id] >= count)  # type: ignore[misc]
            await until_at_rest(schedule, one)
            assert hint(schedule, one)
        await turns.until(lambda: turns.counts[one.audio_id] >= 12)
        off_beat = [a for a, b in pairwise(dues) if not 0.001 < (b - a + 0.002) % period < 0.003]
        assert len(off_beat) <= 3
        await schedule.add([other])
        await turns.until(lambda: turns.counts[other.audio_id] == 1)
        await until_at_rest(schedule, other)
        assert hint(schedule, other)
        await turns.until(lambda: turns.counts[other.audio_id] == 2)


def test_a_hint_is_followed_although_a_list_has_just_told_of_the_track() -> None:
    one = watch(1, timedelta(seconds=15))
    come_up = trigger_of(one)
    come_up(100)
    one.phase = one.told_of = 107
    one.hinted_at = 114.99
    assert come_up(115) == (False, 130)
    one.phase = one.told_of = 117
    assert come_up(130) == (True, 132)


async def test_a_read_that_began_before_the_hint_is_followed_by_another_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns = Turns()
    turns.held = asyncio.Event()
    one = watch(1, HOUR)
    async with running(turns) as schedule:
        await schedule.add([one])
        await turns.until(lambda: turns.counts[one.audio_id] == 1)
        assert hint(schedule, one)
        assert hint(schedule, one)
        other = watch(2, HOUR)
        await schedule.add([other])
        await turns.until(
            lambda: turns.counts[other.audio_id] == 1
        )  # the scheduler has looked at what is due
        turns.held.set()
        await turns.until(lambda: turns.counts[one.audio_id] == 2)
        await until_at_rest(schedule, one)
        assert turns.counts[one.audio_id] == 2
    assert caplog.messages == []  # APScheduler was not asked for a second turn at once


async def test_a_turn_that_asks_after_the_hint_is_enough() -> None:
    turns = Turns()
    turns.held = asyncio.Event()
    one = watch(1, HOUR)
    async with running(turns) as schedule:
        await schedule.add([one])
        await turns.until(lambda: turns.counts[one.audio_id] == 1)
        assert hint(schedule, one)
        one.told_of = time.monotonic()
        turns.held.set()
        await until_at_rest(schedule, one)
        assert turns.counts[one.audio_id] == 1


async def test_a_hint_that_cannot_be_followed_is_not_tried_again_and_again() -> None:
    turns = Turns()
    one = watch(1, HOUR)
    async with running(turns) as schedule:
        await schedule.add([one])
        await turns.until(lambda: turns.counts[one.audio_id] == 1)
        await until_at_rest(schedule, one)
        assert hint(schedule, one)
        await turns.until(lambda: turns.counts[one.audio_id] == 2)
        await until_at_rest(schedule, one)
        assert one.is_hinted
        assert turns.counts[one.audio_id] == 2


async def test_nothing_is_hastened_that_is_unknown_or_final() -> None:
    turns = Turns()
    one = watch(1, HOUR)
    async with running(turns) as schedule:
        await schedule.add([one])
        await turns.until(lambda: turns.counts[one.audio_id] == 1)
        assert not schedule.hasten("nobody")
        finish(one)
        assert not hint(schedule, one)
        await until_at_rest(schedule, one)
        assert turns.counts[one.audio_id] == 1


async def test_the_heart_beats_while_the_scheduler_makes_progress() -> None:
    turns = Turns()
    async with running(turns) as schedule:
        await schedule.add([watch(1)])
        first = schedule.last_beat
        await turns.until(lambda: schedule.last_beat > first)


async def test_hints_that_find_the_gate_closed_come_again_no_faster_than_the_rate() -> None:
    dues: list[float] = []
    is_closed, all_came = True, asyncio.Event()

    async def turn(watch: Watched, *, lateness: float) -> None:
        dues.append(round(time.monotonic() - lateness, 2))
        if not is_closed:
            watch.told_of = time.monotonic()
        if len(dues) >= 15:
            all_came.set()

    schedule = Schedule(turn, spacing=timedelta(milliseconds=100), is_shared=True)
    schedule.closed_for = lambda _account: 0.0 if is_closed else None
    watches = [watch(number, HOUR) for number in range(5)]
    for one in watches:
        one.hinted_at = time.monotonic()
    schedule.start()
    await schedule.add(watches)
    async with asyncio.timeout(PATIENCE):
        await all_came.wait()
        is_closed = False
        while any(one.is_hinted for one in watches):
            await asyncio.sleep(0)
    schedule.stop()
    first, again = dues[:5], dues[5:15]
    assert len({*first}) == 1
    assert all(later - earlier > 0.05 for earlier, later in pairwise(again))


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


# ------------------------------------------------------------------------------------------- looks at lists


class List:
    """Something to look at, and how often that was done."""

    def __init__(self, interval: timedelta = TICK) -> None:
        self.account = "me@example.com"
        self.interval = interval
        self.done_at = float("-inf")
        self.looks = 0
        self.held: asyncio.Event | None = None
        self._changed = asyncio.Condition()

    async def look(self, _looked: "List") -> None:
        async with self._changed:
            self.looks += 1
            self.done_at = time.monotonic()
            self._changed.notify_all()
        if self.held is not None:
            await self.held.wait()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.looks >= count)


async def test_a_list_is_looked_at_an_interval_after_the_last_look_until_it_is_removed() -> None:
    one, other = List(), List()
    async with running(Turns()) as schedule:
        schedule.add_look("one", one, one.look, delay=0)
        schedule.add_look("other", other, other.look, delay=0)
        await one.until(3)
        schedule.remove_look("one")
        seen = one.looks
        await other.until(other.looks + 3)
        assert one.looks == seen
        schedule.remove_look("one")
        schedule.hasten_look("one")
        assert len(schedule) == 0


async def test_somebody_elses_look_puts_the_next_one_off() -> None:
    one, clock = List(HOUR), List()
    async with running(Turns()) as schedule:
        one.done_at = time.monotonic()
        schedule.add_look("one", one, one.look, delay=0)
        schedule.add_look("clock", clock, clock.look, delay=0)
        await clock.until(3)
        assert one.looks == 0


async def test_a_look_that_somebody_wants_comes_at_once_and_never_two_at_a_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, clock = List(HOUR), List()
    async with running(Turns()) as schedule:
        schedule.add_look("one", one, one.look, delay=0)
        await one.until(1)
        one.held = asyncio.Event()
        one.done_at = float("-inf")
        schedule.hasten_look("one")
        await one.until(2)
        for _ in range(3):
            schedule.hasten_look("one")
        schedule.add_look("clock", clock, clock.look, delay=0)
        await clock.until(3)
        assert one.looks == 2
        one.held.set()
    assert caplog.records == []


async def test_a_shorter_interval_of_a_list_counts_from_its_last_look() -> None:
    one, clock = List(HOUR), List()
    async with running(Turns()) as schedule:
        schedule.add_look("one", one, one.look, delay=0)
        await one.until(1)
        one.interval = 4 * TICK
        schedule.hasten_look("one")
        schedule.add_look("clock", clock, clock.look, delay=0)
        await one.until(2)
        assert clock.looks >= 2, "the interval passes all the same"


# ------------------------------------------------------------------------------------- errors of our own


class Failing(Foresight):
    """A foresight with a bug in one of its ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self._way = way

    def places(self, _life: Life) -> bool:
        if self._way == "places":
            raise ZeroDivisionError("a bug")
        return True

    def next_read(self, _life: Life, *, interval: float, is_stalled: bool) -> float:
        if self._way == "next_read":
            raise KeyError("a bug")
        return float("nan") if self._way == "nonsense" else 0.0

    def read_after(self, _life: Life, due: float, *, interval: float, is_stalled: bool) -> float:
        return float("-inf")

    def begin(self, _life: Life, due: float, *, interval: float) -> None:
        if self._way == "begin":
            raise LookupError("a bug")


@pytest.mark.parametrize("way", ["places", "next_read", "nonsense", "begin"])
async def test_a_watch_that_our_own_error_befalls_is_read_at_its_interval_and_so_are_the_others(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    turns, one, other = Turns(), watch(1), watch(2)
    one.life = Life("music", 0, 0, 0, 0, Budget(), 0, 0.05, is_placed=True)
    schedule = Schedule(turns, spacing=timedelta(microseconds=100), foresight=Failing(way))
    with structlog.testing.capture_logs() as logs:
        schedule.start()
        await schedule.add([one, other])
        await turns.until(lambda: min(turns.counts[x.audio_id] for x in (one, other)) >= 4)
        schedule.stop()
        await asyncio.sleep(0)
    assert [(record["event"], record["audio_id"]) for record in logs] == [("schedule.failed", one.audio_id)]
    assert logs[0]["log_level"] == "error"
    assert caplog.messages == []


class Faltering(List):
    """Fails the first time that somebody asks how often it is to be looked at."""

    has_failed = False

    @property
    def interval(self) -> timedelta:
        if not self.has_failed:
            self.has_failed = True
            raise LookupError("a bug")
        return TICK

    @interval.setter
    def interval(self, _interval: timedelta) -> None:
        return


async def test_a_look_that_our_own_error_befalls_comes_again_and_so_do_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, other = Faltering(), List()
    with structlog.testing.capture_logs() as logs:
        async with running(Turns()) as schedule:
            schedule.add_look("one", one, one.look, delay=0)
            schedule.add_look("other", other, other.look, delay=0)
            await one.until(3)
            await other.until(3)
    assert [(record["event"], record["account"]) for record in logs] == [("schedule.failed", "one")]
    assert caplog.messages == []


async def test_what_is_due_in_ten_thousand_years_can_be_scheduled() -> None:
    """At one request in ten years, the least that a rate may say."""
    turns, decade = Turns(), timedelta(days=3650)
    async with running(turns, spacing=decade) as schedule:
        await schedule.add(watch(number) for number in range(1000))
        await turns.until(lambda: len(turns.counts) == 1)
        schedule.add_look("list", looked := List(), looked.look, delay=0)
        await looked.until(2)
