import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from notifier.cadence import MOMENT
from notifier.timetable import Scheduler, Tasks, Timetable
from tests.support.servers import PATIENCE

START = datetime(2000, 1, 1, tzinfo=UTC)


class Zone:
    def seconds(self, moment: datetime) -> float:
        return (moment - START).total_seconds()

    def own(self, seconds: float) -> datetime:
        return START + timedelta(seconds=seconds)


@dataclass
class Job:
    """What of a job both stores look at."""

    id: str
    next_run_time: datetime


names = st.sampled_from(["a", "b", "c", "d", "e"])
moments = st.integers(0, 50).map(lambda tenths: START + timedelta(milliseconds=tenths * 100))
steps = st.one_of(
    st.tuples(st.just("add"), names, moments),
    st.tuples(st.just("update"), names, moments),
    st.tuples(st.just("remove"), names, moments),
    st.tuples(st.just("due"), names, moments),
)


def does(store: Timetable | MemoryJobStore, step: str, name: str, moment: datetime) -> object:
    """Take a step as the scheduler does, which moves on or removes all that was due."""
    match step:
        case "add":
            return store.add_job(Job(name, moment))
        case "update":
            return store.update_job(Job(name, moment))
        case "remove":
            return store.remove_job(name)
    due = sorted(job.id for job in store.get_due_jobs(moment))
    for index, one in enumerate(due):
        if index % 3:
            store.update_job(Job(one, moment + timedelta(seconds=index)))
        else:
            store.remove_job(one)
    return due


@given(st.lists(steps, max_size=60))
def test_a_timetable_says_what_apschedulers_own_store_would(steps: list[tuple[str, str, datetime]]) -> None:
    mine, theirs = Timetable(Zone()), MemoryJobStore()
    for step in steps:
        try:
            expected = does(theirs, *step)
        except (ConflictingIdError, JobLookupError) as error:
            with pytest.raises(type(error)):
                does(mine, *step)
            continue
        assert does(mine, *step) == expected
        assert sorted(job.id for job in mine.get_all_jobs()) == sorted(
            job.id for job in theirs.get_all_jobs()
        )
        assert (mine.lookup_job(step[1]) is None) == (theirs.lookup_job(step[1]) is None)
        mine_next, theirs_next = mine.get_next_run_time(), theirs.get_next_run_time()
        assert (mine_next is None) == (theirs_next is None)
        if mine_next is not None:
            later = (mine_next - theirs_next).total_seconds()
            assert -1e-6 <= later <= MOMENT + 1e-6


def test_what_is_due_within_a_moment_comes_up_together_and_in_order() -> None:
    table = Timetable(Zone())
    for number in range(100, 0, -1):
        table.add_job(Job(f"{number}", START + timedelta(milliseconds=number)))
    wakings: list[list[int]] = []
    while (moment := table.get_next_run_time()) is not None:
        due = table.get_due_jobs(moment)
        wakings.append([int(job.id) for job in due])
        for job in due:
            table.remove_job(job.id)
    assert wakings == [[*range(first, first + 20)] for first in range(1, 101, 20)]


def test_very_many_that_are_due_at_once_come_up_bit_by_bit_and_none_is_forgotten() -> None:
    table = Timetable(Zone())
    for number in range(1000):
        table.add_job(Job(f"{number}", START))
    wakings: list[list[int]] = []
    while (moment := table.get_next_run_time()) is not None:
        assert moment <= START, "at once"
        due = table.get_due_jobs(START)
        wakings.append([int(job.id) for job in due])
        for job in due:
            table.remove_job(job.id)
    assert [number for waking in wakings for number in waking] == [*range(1000)]
    assert max(map(len, wakings)) <= 250


def test_jobs_that_come_and_go_long_before_they_are_due_leave_nothing_behind() -> None:
    table = Timetable(Zone())
    table.add_job(Job("stays", START))
    for number in range(1000):
        table.add_job(job := Job("comes and goes", START + timedelta(days=number)))
        table.update_job(job)
        table.remove_job(job.id)
    assert [job.id for job in table.get_all_jobs()] == ["stays"]
    assert len(table._heap) < 200


async def test_a_job_that_fails_is_logged_and_can_be_run_again(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("a bug")

    def failures() -> int:
        return sum(
            record.levelno == logging.ERROR and record.exc_info is not None for record in caplog.records
        )

    scheduler = AsyncIOScheduler(executors={"default": Tasks()}, timezone=UTC)
    scheduler.start()
    for count in (1, 2):
        scheduler.add_job(fail, DateTrigger(datetime.now(UTC)), id="job", misfire_grace_time=None)
        async with asyncio.timeout(PATIENCE):
            while failures() < count:
                await asyncio.sleep(0)
    scheduler.shutdown(wait=False)
    await asyncio.sleep(0)
    assert failures() == 2


async def test_a_job_with_nothing_to_do_begins_no_task_and_can_be_run_again() -> None:
    scheduler, runs = AsyncIOScheduler(executors={"default": Tasks()}, timezone=UTC), 0

    def do_nothing() -> None:
        nonlocal runs
        runs += 1

    scheduler.start()
    before = asyncio.all_tasks()
    for count in (1, 2):
        scheduler.add_job(do_nothing, DateTrigger(datetime.now(UTC)), id="job", misfire_grace_time=None)
        async with asyncio.timeout(PATIENCE):
            while runs < count:
                await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        await asyncio.sleep(0)  # its end is noted right after its beginning
    scheduler.shutdown(wait=False)


def test_what_could_not_be_dealt_with_is_due_again_but_for_the_first_of_it_which_failed() -> None:
    table = Timetable(Zone())
    for number in range(5):
        table.add_job(Job(f"{number}", START))
    due = table.get_due_jobs(START)
    table.update_job(Job(due[0].id, START + timedelta(hours=1)))
    table.take_back(START)
    assert [job.id for job in table.get_due_jobs(START)] == ["2", "3", "4"]
    for number in (2, 3, 4):
        table.remove_job(f"{number}")
    assert table.get_due_jobs(START + timedelta(seconds=59)) == []
    assert [job.id for job in table.get_due_jobs(START + timedelta(seconds=60))] == ["1"]
    table.remove_job("1")
    table.take_back(START)
    assert [job.id for job in table.get_due_jobs(START + timedelta(hours=2))] == ["0"]


class Failing(BaseTrigger):  # type: ignore[misc]
    """Says when it is due once, and then fails."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now
        raise LookupError("a bug")


async def test_a_trigger_that_fails_stops_no_other_job() -> None:
    scheduler, runs = Scheduler(Timetable(Zone()), timezone=UTC), {"before": 0, "after": 0}

    async def run(name: str) -> None:
        runs[name] += 1

    with structlog.testing.capture_logs() as logs:
        scheduler.start(paused=True)
        scheduler.add_job(run, IntervalTrigger(seconds=0.05), args=("before",), id="before")
        scheduler.add_job(run, Failing(), args=("never",), id="failing", misfire_grace_time=None)
        scheduler.add_job(run, IntervalTrigger(seconds=0.05), args=("after",), id="after")
        scheduler.resume()
        async with asyncio.timeout(PATIENCE):
            while min(runs.values()) < 3:
                await asyncio.sleep(0.01)
        scheduler.shutdown(wait=False)
        await asyncio.sleep(0)
    assert [record["event"] for record in logs] == ["schedule.failed"]
