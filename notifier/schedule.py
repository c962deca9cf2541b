"""The schedule: one APScheduler job for each unfinished watch. The only place that knows APScheduler.

A job is added once and its trigger decides each next time; nothing is re-added or modified after a run. The
scheduler counts on the monotonic clock, so that a jump of the wall clock neither stops nor hastens it.
Source: https://apscheduler.readthedocs.io/en/3.x/userguide.html
"""

import asyncio
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from inspect import signature
from itertools import count, islice
from typing import Any, Protocol, TypeVar

import structlog
from apscheduler.jobstores.base import JobLookupError
from apscheduler.triggers.base import BaseTrigger

from notifier import cadence
from notifier.cadence import MOMENT
from notifier.clock import until_next_second
from notifier.foresight import Foresight
from notifier.timetable import Scheduler, Timetable
from notifier.useapi import account_of
from notifier.watched import Watched

T = TypeVar("T", bound="Looked")

_ADDED_TOGETHER = 100
_LOOK_AGAIN = 1.0
"""After how many seconds at the least a hint is followed again: until then another may be the probe."""

log = structlog.get_logger()


class Turn(Protocol):
    """What is called when a watch is due."""

    async def __call__(self, watch: Watched, *, lateness: float) -> None:
        """Take a turn that comes `lateness` seconds after its due time."""
        ...


class _MonotonicZone(tzinfo):
    """A time zone whose clock is the monotonic one.

    NB: ``datetime.now(zone)`` asks the zone to turn the wall clock's UTC into its own time. This one looks at
    the monotonic clock instead, which makes every "now" of the scheduler monotonic. Its moments mean nothing
    outside the scheduler.
    """

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, _moment: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _moment: datetime | None) -> str:
        return "monotonic"

    def fromutc(self, _moment: datetime) -> datetime:
        return self.at(time.monotonic())

    def at(self, seconds: float) -> datetime:
        """Return the moment at a reading of the monotonic clock.

        NB: as one of UTC, which this zone does not differ from; two of UTC are compared in no time.
        What would lie beyond all calendars, as very many tracks at a very low rate may, is due in centuries.
        """
        return _EPOCH + timedelta(seconds=min(seconds, _FARTHEST))

    def own(self, seconds: float) -> datetime:
        """Return the same as a moment of this zone, which nobody converts once more."""
        return self.at(seconds).replace(tzinfo=self)

    def seconds(self, moment: datetime) -> float:
        """Return the reading of the monotonic clock at a moment."""
        return (moment - _EPOCH).total_seconds()


_ZONE = _MonotonicZone()
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FARTHEST = timedelta(days=365 * 1000).total_seconds()


class _Lasting(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """A trigger that goes on whatever happens to it.

    An error that APScheduler got would stop it altogether, and nobody would be read any more.
    """

    __slots__ = ("has_failed",)

    def __init__(self) -> None:
        self.has_failed = False

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        try:
            return self._next_fire_time(previous_fire_time, now)
        except Exception:
            self.complain()
            return self._next_without_thought(_ZONE.seconds(previous_fire_time or now), _ZONE.seconds(now))

    def complain(self) -> None:
        """Log the error that is being handled, but for one that comes again."""
        if not self.has_failed:
            log.exception("schedule.failed", **self._about())
        self.has_failed = True

    @abstractmethod
    def _next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None: ...

    @abstractmethod
    def _next_without_thought(self, due: float, now: float) -> datetime:
        """Return when an interval is over, and let what is due now begin."""

    @abstractmethod
    def _about(self) -> dict[str, str]: ...


class _Trigger(_Lasting):
    """Asks the cadence when a watch is due; lives as long as its job."""

    __slots__ = (
        "_answer",
        "_is_as_planned",
        "_planned",
        "_schedule",
        "due",
        "first",
        "is_early",
        "is_under_way",
        "job_id",
        "period",
        "watch",
    )

    def __init__(self, schedule: "Schedule", watch: Watched, first: float, job_id: str) -> None:
        super().__init__()
        self.job_id = job_id
        """NB: another one for a watch that returns, or APScheduler would take its first turn for the second
        one at a time while a turn of before is under way, and skip it."""
        self._schedule = schedule
        self.watch = watch
        self.first = first
        self.due = first
        self.is_early = False
        """Whether what was due is due later instead: an answer to others has told of the track meanwhile."""
        self.is_under_way = False
        """Whether a turn has been begun and has not ended."""
        self._planned = first
        """When it is to be due next, unless somebody brings that forward."""
        self._is_as_planned = True
        self.period = 0.0
        """How many seconds apart its reads came when it was last due, if nothing is known better."""
        self._answer: datetime | None = None
        """What was said when it was last due."""

    def _next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        if previous is None:
            return _ZONE.at(self.first)
        due = _ZONE.seconds(previous)
        if due != self.due or self._answer is None:  # NB: it is asked twice about each
            self._come_up(due, now=_ZONE.seconds(now))
            self._answer = _ZONE.at(self._planned)
        return self._answer

    def _next_without_thought(self, due: float, now: float) -> datetime:
        self.due, self.period = due, self.watch.interval.total_seconds()
        self.is_early, self.is_under_way, self._is_as_planned = False, True, True
        self._planned = max(due, now) + self.period
        self._answer = _ZONE.at(self._planned)
        return self._answer

    def _about(self) -> dict[str, str]:
        return {"audio_id": self.watch.audio_id}

    def _come_up(self, due: float, *, now: float) -> None:
        """Settle whether a turn begins that is due, and plan when the next one is."""
        self._is_as_planned = abs(due - self._planned) < MOMENT
        self.due = due
        self.period = self._schedule.period(self.watch)
        wanted = self._schedule.wanted(self.watch, self.period)
        later = self._later() if wanted is None else self._later_as_wanted(wanted)
        self.is_early = later is not None
        self.is_under_way = self.is_under_way or not self.is_early
        self._planned = later or self._next(due, now=now)

    def _next(self, due: float, *, now: float) -> float:
        """Return when it is due next if it is due now: at its interval, unless a read sooner is worth it."""
        ordinary = self._after(max(due, self.watch.phase), now=now)
        sooner = self._schedule.wanted(self.watch, self.period, after=due)
        return ordinary if sooner is None or sooner <= now else min(ordinary, sooner)

    def _later_as_wanted(self, wanted: float) -> float | None:
        """Return when it is due instead, if a read is not worth it yet: looked at anew after an interval.

        What is learned meanwhile counts, and a read that has failed is followed by one after an interval.
        """
        if not self._is_as_planned or self.watch.is_hinted or wanted <= self.due + MOMENT:
            return None
        return min(wanted, self._after(self.due, now=self.due))

    def _later(self) -> float | None:
        """Return when it is due instead, if it was told of with others since it was planned."""
        if not self._is_as_planned or self.watch.is_hinted or self.watch.phase == float("-inf"):
            return None
        later = self._after(self.watch.phase, now=self.watch.phase)
        return later if later > self.due + MOMENT else None

    def _after(self, previous: float, *, now: float) -> float:
        return cadence.next_read(previous, now=now, period=self.period)


class Looked(Protocol):
    """What is looked at every so often, unless somebody has looked meanwhile."""

    interval: timedelta
    done_at: float
    """When somebody last looked, in seconds in which the machine was awake; -inf when one is due."""

    @property
    def account(self) -> str:
        """Whose list it is."""
        ...


class _LookTrigger(_Lasting):
    """Fires an interval after the last look, whoever has looked."""

    __slots__ = ("first", "is_under_way", "job_id", "key", "looked")

    def __init__(self, looked: Looked, first: float, key: str, job_id: str) -> None:
        super().__init__()
        self.key = key
        self.looked = looked
        self.first = first
        self.job_id = job_id
        self.is_under_way = False

    def _next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        if previous is None:
            return _ZONE.at(self.first)
        self.is_under_way = True  # NB: asked when a look begins
        interval, moment = self.looked.interval.total_seconds(), _ZONE.seconds(now)
        later = self.looked.done_at + interval
        return _ZONE.at(later if self.is_early(moment) else moment + interval)

    def _next_without_thought(self, _due: float, now: float) -> datetime:
        self.is_under_way = True
        return _ZONE.at(now + self.looked.interval.total_seconds())

    def _about(self) -> dict[str, str]:
        return {"account": self.key}

    def is_early(self, now: float) -> bool:
        """Say whether what was due is due later instead: somebody has looked meanwhile."""
        return self.looked.done_at + self.looked.interval.total_seconds() > now + MOMENT


class _Pulse(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """Fires every four seconds, since each beat costs more than all that is done in a second beside.

    NB: APScheduler's own triggers would misread the moments of our zone.
    """

    __slots__ = ()

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        seconds = _ZONE.seconds(now)
        return _ZONE.at(seconds + until_next_second(seconds) + 3.0)


class Schedule:
    """Calls `turn` for each watch when it is due, with how many seconds late that is."""

    def __init__(
        self,
        turn: Turn,
        *,
        spacing: timedelta,
        requests: Callable[[], int] | None = None,
        is_shared: bool = False,
        foresight: Foresight | None = None,
    ) -> None:
        self._turn = turn
        self._foresight = foresight
        self.spacing = spacing.total_seconds()
        self.requests = requests or self.__len__
        """How many requests it takes to read all: there may be fewer than watches."""
        self.is_shared = is_shared
        """Whether watches of one account are read for the first time together, since one answer may do."""
        self.interval_of: Callable[[Watched], timedelta] = _own_interval
        """How often a watch is to be read."""
        self.closed_for: Callable[[str], float | None] = _is_open
        """For how many seconds nobody may ask of an account; None when everybody may."""
        self._triggers: dict[str, _Trigger] = {}
        self._looks: dict[str, _LookTrigger] = {}
        self._in_vain: set[str] = set()
        """Jobs of what was hinted at while nobody might ask: they come again until somebody may."""
        self._tried_again_at = float("-inf")
        """When the last of them that was put off is due."""
        self._numbers = count(1)
        self._job = partial(self._run)
        """NB: one for all jobs and no method, whose name and place APScheduler would note down with each."""
        # NB: else it is found out anew for each, which takes longer than all else that a job needs
        self._job.__signature__ = signature(self._run)  # type: ignore[attr-defined]
        self._scheduler = Scheduler(
            Timetable(_ZONE),
            timezone=_ZONE,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self.last_beat = time.monotonic()

    def __len__(self) -> int:
        """Return how many watches there are."""
        return len(self._triggers)

    def __contains__(self, audio_id: str) -> bool:
        return audio_id in self._triggers

    def wanted(self, watch: Watched, period: float, *, after: float | None = None) -> float | None:
        """Return when foresight wants a track to be read next, also after a read that is due at a moment.

        None where it has nothing to say: then that is after a period.
        """
        if self._foresight is None or watch.life is None or not self._foresight.places(watch.life):
            return None
        is_stalled = watch.sighting is not None and watch.sighting.stalled_at is not None
        if after is None:
            return self._foresight.next_read(watch.life, interval=period, is_stalled=is_stalled)
        return self._foresight.read_after(watch.life, after, interval=period, is_stalled=is_stalled)

    def period(self, watch: Watched) -> float:
        """Return how many seconds apart a track is read where nothing else is known, as the rate allows."""
        interval = self.interval_of(watch).total_seconds()
        return cadence.period_of(interval, unfinished=self.requests(), spacing=self.spacing)

    def start(self) -> None:
        """Start calling. Must be called inside the event loop."""
        self._scheduler.start()
        self._scheduler.add_job(self._beat, _Pulse(), id=":heartbeat")

    def stop(self) -> None:
        """Stop calling, and cancel the turns that are under way. No error when it never started."""
        if self._scheduler.running:
            self._scheduler.pause()  # NB: a turn that is cancelled before it began would be logged as failed
            self._scheduler.shutdown(wait=False)

    async def _beat(self) -> None:
        self.last_beat = time.monotonic()

    async def add(self, watches: Iterable[Watched], *, delay: float = 0.0) -> None:
        """Add watches, their first reads spread out from a delay on. One that is there is left alone.

        Others get their turns while many are added.
        """
        new = [watch for watch in watches if watch.audio_id not in self._triggers]
        interval = min((watch.interval.total_seconds() for watch in new), default=0.0)
        start = time.monotonic() + delay
        together = self._together(new)
        offsets = cadence.first_reads(len(together), interval=interval, spacing=self.spacing)
        triggers = (
            self._trigger(watch, start + offset)
            for watches, offset in zip(together, offsets, strict=True)
            for watch in watches
        )
        while some := [*islice(triggers, _ADDED_TOGETHER)]:
            began = time.monotonic()
            self._add_jobs(some)
            await asyncio.sleep(time.monotonic() - began)  # as long as it took, for what is due meanwhile

    def _together(self, watches: Sequence[Watched]) -> Collection[Sequence[Watched]]:
        """Return which watches are to be read for the first time at the same moment, in order."""
        if not self.is_shared:
            return [[watch] for watch in watches]
        by_account: defaultdict[str, list[Watched]] = defaultdict(list)
        for watch in watches:
            by_account[account_of(watch.audio_id)].append(watch)
        return by_account.values()

    def _trigger(self, watch: Watched, first: float) -> _Trigger:
        return _Trigger(self, watch, first, str(next(self._numbers)))

    def _add_jobs(self, triggers: Iterable[_Trigger]) -> None:
        self._scheduler.pause()  # NB: lest it looks for what is due after each that is added
        for trigger in triggers:
            watch = trigger.watch
            self._triggers[watch.audio_id] = trigger
            self._scheduler.add_job(self._job, trigger, args=(watch, trigger), id=trigger.job_id, name="turn")
        self._scheduler.resume()

    def remove(self, audio_id: str) -> None:
        """Remove a watch; a turn that is under way ends by itself. No error when there is none."""
        trigger = self._triggers.pop(audio_id, None)
        if trigger is not None:
            self._remove_job(trigger.job_id)

    def _remove_job(self, job_id: str) -> None:
        self._in_vain.discard(job_id)
        try:
            self._scheduler.remove_job(job_id)
        except JobLookupError:
            return

    def quicken(self, watch: Watched) -> None:
        """Let a shorter interval count from now on instead of after the next read."""
        trigger = self._triggers.get(watch.audio_id)
        if trigger is None:
            return
        job = self._scheduler.get_job(trigger.job_id)
        soon = max(time.monotonic(), trigger.due + watch.interval.total_seconds())
        if job is not None and soon < _ZONE.seconds(job.next_run_time):
            job.modify(next_run_time=_ZONE.at(soon))

    def hasten(self, audio_id: str) -> bool:
        """Let a watch be due now, and an interval after that again; False when it is not read any more.

        Whoever calls has noted the hint on the watch: a turn that is under way and does not ask after it is
        followed by another one.
        """
        trigger = self._triggers.get(audio_id)
        if trigger is None or trigger.watch.is_final:
            return False
        job = None if trigger.is_under_way else self._scheduler.get_job(trigger.job_id)
        now = time.monotonic()
        if job is not None and now < _ZONE.seconds(job.next_run_time):
            job.modify(next_run_time=_ZONE.at(now))
        return True

    def _run(self, watch: Watched, trigger: _Trigger) -> Coroutine[Any, Any, None] | None:
        """Return the turn that begins, or None when what was due is due later instead."""
        if trigger.is_early and not watch.is_final:
            return None
        return self._take(watch, trigger)

    async def _take(self, watch: Watched, trigger: _Trigger) -> None:
        try:
            self._begin(watch, trigger)
            await self._take_turns(watch, due=trigger.due)
        except asyncio.CancelledError:
            return  # NB: only `stop` cancels, and APScheduler would log a cancelled job as a failed one
        finally:
            trigger.is_under_way = False
        if watch.is_final and self._triggers.get(watch.audio_id) is trigger:
            self.remove(watch.audio_id)
        elif watch.is_hinted:
            self._try_again(account_of(watch.audio_id), trigger.job_id)
        else:
            self._in_vain.discard(trigger.job_id)

    def _try_again(self, account: str, job_id: str) -> None:
        """Let what was hinted at in vain be due again, until the API may be asked.

        NB: also before that, or one that always fails would be the probe each time, a moment earlier.
        """
        wait = self.closed_for(account)
        job = None if wait is None else self._scheduler.get_job(job_id)
        if wait is None or job is None:
            self._in_vain.discard(job_id)
            return
        self._in_vain.add(job_id)
        soon = self._slot(time.monotonic() + max(_LOOK_AGAIN, wait / 2))
        if soon < _ZONE.seconds(job.next_run_time):
            job.modify(next_run_time=_ZONE.at(soon))

    def _slot(self, at: float) -> float:
        """Return when one of those that were hinted at in vain is due again: at the rate, as their reads are.

        NB: thousands that all came up each second held up the loop until APScheduler skipped their turns.
        """
        latest = at + (len(self._in_vain) - 1) * self.spacing
        self._tried_again_at = min(max(at, self._tried_again_at + self.spacing), latest)
        return self._tried_again_at

    def _begin(self, watch: Watched, trigger: _Trigger) -> None:
        """Note for foresight that a turn begins."""
        if self._foresight is None or watch.life is None:
            return
        try:
            self._foresight.begin(watch.life, trigger.due, interval=trigger.period)
        except Exception:  # NB: as above; the turn is worth more than what is foreseen of others
            trigger.complain()

    async def _take_turns(self, watch: Watched, *, due: float) -> None:
        """Take a turn, and another one for what somebody has hinted at since the request of that one left."""
        is_hinted_meanwhile = True
        while is_hinted_meanwhile and not watch.is_final:
            hinted_at = watch.hinted_at
            await self._turn(watch, lateness=time.monotonic() - due)
            is_hinted_meanwhile = watch.is_hinted and watch.hinted_at != hinted_at
            due = time.monotonic()

    def add_look(self, key: str, looked: T, look: Callable[[T], Awaitable[None]], *, delay: float) -> None:
        """Call `look` after a delay, and then an interval after the last look each time."""
        first = time.monotonic() + delay
        trigger = self._looks[key] = _LookTrigger(looked, first, key, f"{next(self._numbers)} {key}")
        self._scheduler.add_job(self._run_look, trigger, args=(trigger, look), id=trigger.job_id)

    def remove_look(self, key: str) -> None:
        """Look no more. No error when that is so."""
        trigger = self._looks.pop(key, None)
        if trigger is not None:
            self._remove_job(trigger.job_id)

    def hasten_look(self, key: str) -> None:
        """Look now, unless a look is under way, whose beginner sees to it. No error when there is none."""
        trigger = self._looks.get(key)
        job = None if trigger is None or trigger.is_under_way else self._scheduler.get_job(trigger.job_id)
        if job is not None:
            job.modify(next_run_time=_ZONE.at(time.monotonic()))

    async def _run_look(self, trigger: _LookTrigger, look: Callable[[Any], Awaitable[None]]) -> None:
        try:
            if not trigger.is_early(time.monotonic()):
                await look(trigger.looked)
        except asyncio.CancelledError:
            return  # NB: as above
        finally:
            trigger.is_under_way = False
        if trigger.looked.done_at == float("-inf"):
            self._try_again(trigger.looked.account, trigger.job_id)
        else:
            self._in_vain.discard(trigger.job_id)


def _is_open(_account: str) -> None:
    return None


def _own_interval(watch: Watched) -> timedelta:
    return watch.interval
