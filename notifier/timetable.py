"""What APScheduler keeps its jobs in and runs them with, made for very many that each come up all the time.

Jobs are kept in a heap, which costs the same for ten as for fifty thousand, and begun as bare tasks. Those
that are due within the same moment come up together: to wake up for each costs a good part of what it does.
Source: https://apscheduler.readthedocs.io/en/3.x/extending.html
"""

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import ceil
from typing import Any, Protocol

import structlog
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from notifier.cadence import MOMENT

_MOST_TOGETHER = 250
"""How many jobs are begun at once; before the others the loop sees to whatever else there is."""
_LEAST_LEFT_OVER = 100
_PUT_OFF = 60.0
"""For how many seconds a job is left alone that nobody could be asked about when it is due next."""
_AGAIN = 1.0

log = structlog.get_logger()


class Zone(Protocol):
    """The time zone that the scheduler counts in."""

    def seconds(self, moment: datetime) -> float:
        """Return a moment as a number of seconds."""
        ...

    def own(self, seconds: float) -> datetime:
        """Return the moment as the scheduler's own "now" has it."""
        ...


_Entry = tuple[float, int, Any]
"""When a job is due, a number that keeps those of one moment in order, and the job."""


class Timetable(BaseJobStore):  # type: ignore[misc] # APScheduler has no types
    """Holds jobs by when they are due. What it says is due, the scheduler updates or removes."""

    def __init__(self, zone: Zone) -> None:
        super().__init__()
        self._zone = zone
        self._heap: list[_Entry] = []
        self._entries: dict[str, _Entry] = {}
        """The valid entry of each job; others in the heap are left over."""
        self._numbers = count()
        self._handed_out: list[_Entry] = []
        """What was said to be due the last time."""

    def lookup_job(self, job_id: str) -> Any:
        """Return a job, or None."""
        entry = self._entries.get(job_id)
        return None if entry is None else entry[2]

    def get_due_jobs(self, now: datetime) -> list[Any]:
        """Return the jobs that are due, in order; the first of very many, and the others when asked again."""
        due: list[_Entry] = []
        moment = self._zone.seconds(now)
        while self._heap and self._heap[0][0] <= moment and len(due) < _MOST_TOGETHER:
            entry = heappop(self._heap)
            if self._is_valid(entry):
                due.append(entry)
        self._handed_out = due
        return [job for _, _, job in due]

    def take_back(self, now: datetime) -> None:
        """Take what was said to be due and neither updated nor removed, since that failed, for due still.

        The first of it is what failed, and is put off, so that the others are not held up by it again.
        """
        left = [entry for entry in self._handed_out if self._is_valid(entry)]
        self._handed_out = []
        for number, (due, _, job) in enumerate(left):
            self._enter(job, due if number else self._zone.seconds(now) + _PUT_OFF)

    def get_next_run_time(self) -> datetime | None:
        """Return when to look for due jobs next: at the end of the moment in which the first one is due."""
        while self._heap and not self._is_valid(self._heap[0]):
            heappop(self._heap)
        return self._zone.own(ceil(self._heap[0][0] / MOMENT) * MOMENT) if self._heap else None

    def get_all_jobs(self) -> list[Any]:
        """Return all jobs."""
        return [entry[2] for entry in self._entries.values()]

    def add_job(self, job: Any) -> None:
        """Take a job. Raises ConflictingIdError."""
        if job.id in self._entries:
            raise ConflictingIdError(job.id)
        self._enter(job, self._zone.seconds(job.next_run_time))

    def update_job(self, job: Any) -> None:
        """Take a job that is due at another time now. Raises JobLookupError."""
        if job.id not in self._entries:
            raise JobLookupError(job.id)
        self._enter(job, self._zone.seconds(job.next_run_time))

    def remove_job(self, job_id: str) -> None:
        """Forget a job. Raises JobLookupError."""
        if self._entries.pop(job_id, None) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Forget all jobs."""
        self._heap.clear()
        self._entries.clear()

    def shutdown(self) -> None:
        """Forget all jobs."""
        self.remove_all_jobs()

    def _enter(self, job: Any, due: float) -> None:
        entry = (due, next(self._numbers), job)
        self._entries[job.id] = entry
        heappush(self._heap, entry)
        if len(self._heap) > _LEAST_LEFT_OVER + 2 * len(self._entries):
            self._heap = sorted(self._entries.values())

    def _is_valid(self, entry: _Entry) -> bool:
        return self._entries.get(entry[2].id) is entry


class Scheduler(AsyncIOScheduler):  # type: ignore[misc] # APScheduler has no types
    """Goes on after an error in its midst, after which APScheduler's own would never look at a job again."""

    def __init__(self, timetable: Timetable, **options: Any) -> None:
        super().__init__(jobstores={"default": timetable}, executors={"default": Tasks()}, **options)
        self._timetable = timetable

    def _process_jobs(self) -> float | None:
        """Begin what is due; return after how many seconds to look again."""
        try:
            wait: float | None = super()._process_jobs()
        except Exception:
            log.exception("schedule.failed")
            self._timetable.take_back(datetime.now(self.timezone))
            return _AGAIN
        return wait


class Tasks(BaseExecutor):  # type: ignore[misc] # APScheduler has no types
    """Begins each job as a task of its own, unless there is nothing to do and it is None.

    Nobody hears of its end, but of an error in the log.
    """

    def start(self, scheduler: Any, alias: str) -> None:
        """Begin, inside the event loop."""
        super().start(scheduler, alias)
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[None]] = set()

    def shutdown(self, wait: bool = True) -> None:
        """Cancel what is under way."""
        for task in self._under_way:
            task.cancel()

    def _do_submit_job(self, job: Any, _run_times: list[datetime]) -> None:
        work: Coroutine[Any, Any, None] | None = job.func(*job.args)
        if work is None:
            self._loop.call_soon(self._run_job_success, job.id, ())  # NB: it counts as begun only after this
            return
        task = self._loop.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(partial(self._ended, job.id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._run_job_success(job_id, ())
        else:
            self._run_job_error(job_id, error, error.__traceback__)
