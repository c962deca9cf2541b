"""What the API was asked, beside what reading each track at its fixed interval would have asked. Pure.

Fixed reads are counted by the time that passes: at each sighting of a track, however it came about, as many
as its interval fits into the time since the one before, and one for the first. An interval is longer where
the rate allows no more; time in which the API could not be asked, or the machine slept, does not count.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from notifier.duration import spell_compact

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
KEPT = timedelta(days=30)
"""How long it is kept by the hour."""
_NEVER = float("-inf")
_FEWEST_FIXED = 10.0
"""With fewer fixed reads to compare with nothing is said of what is saved."""


class Metered(Protocol):
    """What fixed polling would read at its interval: a watch, or the list of an account that is followed."""

    interval: timedelta
    metered_at: float
    """When it was last seen, in seconds of time that counts; -inf before."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests by kind, and what fixed polling would have made."""

    track: float = 0.0
    list: float = 0.0
    fixed: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.track + other.track, self.list + other.list, self.fixed + other.fixed)

    def __mul__(self, share: float) -> "Usage":
        return Usage(self.track * share, self.list * share, self.fixed * share)

    def __bool__(self) -> bool:
        return bool(self.track or self.list or self.fixed)

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return round(self.track + self.list)

    @property
    def saved(self) -> float | None:
        """Which part of the fixed reads was not needed, negative when more was asked; None with too few."""
        if self.fixed < _FEWEST_FIXED:
            return None
        return 1 - (self.track + self.list) / self.fixed


NOTHING = Usage()


class Meter:
    """Counts, each in no time. `now` is in seconds of time that counts."""

    def __init__(self, *, now: Callable[[], float], period: Callable[[float], float]) -> None:
        self._now = now
        self._period = period
        """Returns how many seconds fixed polling would let pass where an interval says so many."""
        self.written = NOTHING
        """What of it is written down."""
        self.track = 0
        self.list = 0
        self.fixed = 0.0

    def seen(self, metered: Metered) -> None:
        """Note that an answer told of something, in whose place there would have been fixed reads."""
        now, before = self._now(), metered.metered_at
        metered.metered_at = now
        if before == _NEVER:
            self.fixed += 1
        elif now > before:
            self.fixed += (now - before) / self._period(metered.interval.total_seconds())

    @property
    def counted(self) -> Usage:
        """What was counted, written down or not."""
        return Usage(self.track, self.list, self.fixed)

    @property
    def unwritten(self) -> Usage:
        """What was counted and is not written down yet."""
        return self.counted + self.written * -1

    def wrote(self, usage: Usage) -> None:
        """Note that so much is written down."""
        self.written += usage


def hour_of(now: datetime) -> datetime:
    """Return when the hour began that a moment lies in."""
    return now.replace(minute=0, second=0, microsecond=0)


def of_the_last(length: timedelta, hours: Mapping[datetime, Usage], now: datetime) -> Usage:
    """Return the usage of the last so many hours; of the first one, as much as its share is."""
    current = hour_of(now)
    first = current - length
    inside = sum((usage for hour, usage in hours.items() if first < hour <= current), NOTHING)
    return inside + hours.get(first, NOTHING) * (1 - (now - current) / HOUR)


def rhythm(intervals: Collection[timedelta]) -> str:
    """Say how often each track would be read if all were read at these fixed intervals."""
    return f"every {spell_compact(*intervals)}" if len(intervals) == 1 else "at its interval"


def words(usage: Usage, when: str, how: str) -> str:
    """Say how much was asked `when`, and how much that saves against reading each track `how`."""
    noun = "request" if usage.requests == 1 else "requests"
    said = f"{usage.requests:,} {noun} {when}"
    if usage.saved is None:
        return said
    percent = round(abs(usage.saved) * 100)
    if percent == 0:
        return f"{said}, as many as reading each track {how} takes"
    return f"{said}, {percent} % {'fewer' if usage.saved > 0 else 'more'} than reading each track {how}"
