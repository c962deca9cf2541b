"""The clocks of the daemon, what to do when one of them leaps, and how a moment is written down.

The wall clock says when something happened and may jump; the monotonic clock says how long to wait and
never does. Code that decides takes moments as arguments; only the shell around it holds a `Clock`.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

_LEAST_LEAP = timedelta(seconds=1)
"""Less is drift, which a time server corrects little by little."""
_STEADY = 0.1


class Clock(Protocol):
    """Where the shell reads the time, so that a test or the demo can hand it another one."""

    def now(self) -> datetime:
        """Return the wall clock's moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that only ever goes forward, also while the machine is suspended."""
        ...

    def awake(self) -> float:
        """Return seconds in which the machine was not suspended."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when the machine was awake for so many seconds more."""
        ...


@dataclass(frozen=True, slots=True)
class Leap:
    """What happened to the clocks beside the passing of time."""

    jump: timedelta
    """By how much the wall clock was set forward, or back if negative."""
    slept: timedelta
    """How long the machine was suspended."""

    @property
    def unlived(self) -> timedelta:
        """By how much the wall clock has moved more than this process has lived."""
        return self.jump + self.slept


class LeapWatch:
    """Notices leaps. `look` often: what is told is since the look before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before = self._read()

    def look(self) -> Leap | None:
        """Return what happened to the clocks since the last look, None when nothing did."""
        after = self._read()
        if after.took > _STEADY:
            return None  # NB: stopped between two readings, which differ by that and not by a leap
        leap = self._between(self._before, after)
        self._before = after
        return leap

    def has_leapt(self) -> bool:
        """Say whether the next look will tell of something."""
        return self._between(self._before, self._read()) is not None

    def _between(self, before: "_Reading", after: "_Reading") -> Leap | None:
        passed = timedelta(seconds=after.monotonic - before.monotonic)
        jump = after.now - before.now - passed
        slept = passed - timedelta(seconds=after.awake - before.awake)
        if max(abs(jump), slept) < _LEAST_LEAP:
            return None
        return Leap(jump, slept)

    def _read(self) -> "_Reading":
        clock = self._clock
        began = clock.monotonic()
        now, awake, monotonic = clock.now(), clock.awake(), clock.monotonic()
        return _Reading(now, monotonic, awake, monotonic - began)


@dataclass(frozen=True, slots=True)
class _Reading:
    """All clocks at one moment; `took` is how long it took to read them."""

    now: datetime
    monotonic: float
    awake: float
    took: float


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """Return the wall clock's moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds on a clock that only ever goes forward, also while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def awake(self) -> float:
        """Return seconds in which the machine was not suspended; the event loop counts in these."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return when the machine was awake for so many seconds more."""
        import asyncio  # noqa: PLC0415 - who only asks for the time does without

        await asyncio.sleep(seconds)


def until_next_second(seconds: float) -> float:
    """Return how long to sleep until a whole second of a clock, which is half a second away at the least.

    What is done every second is done in the same moment then: to wake up costs more than most of it.
    """
    pause = 1.0 - seconds % 1.0
    return pause if pause >= 0.5 else pause + 1.0


def to_rfc3339(moment: datetime) -> str:
    """Write an aware moment as RFC 3339 in UTC with milliseconds: ``2026-06-23T12:38:20.123Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def from_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 moment as aware UTC; other forms of ISO 8601 pass, and no offset is taken as UTC.

    Raises ValueError for anything else, also for moments outside the years 1 to 9999.
    """
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error
