"""When to read a track next. Pure: moments are seconds on the monotonic clock."""

from collections.abc import Iterator

_QUICKEST_START = 1.0
MOMENT = 0.02
"""What is due within so many seconds comes up together and is one; so late is each at the most for that."""
_TOGETHER = 0.01
"""Within how many seconds reads are put together: waking up for each costs a good part of reading it."""
_HEADROOM = 1.05
"""How much further apart reads are put than the rate allows, so that a delay is made up for in time."""


def first_reads(count: int, *, interval: float, spacing: float) -> Iterator[float]:
    """Yield how many seconds after the start each of `count` tracks is read for the first time.

    They are spread over one interval so that they stay spread, a few come quickly one after the other, and
    never more than the rate allows (`spacing`), but for those that are a moment apart and come together.
    """
    step = max(spacing * _HEADROOM, min(_QUICKEST_START, interval / count)) if count else 0.0
    together = max(1, int(_TOGETHER / step)) if count else 1
    yield from (index // together * together * step for index in range(count))


def next_read(previous: float, *, now: float, period: float) -> float:
    """Return when a track is due again that was due at `previous`.

    The phase is kept: a look that came late does not move the later ones.
    """
    due = previous + period
    if due > now:
        return due
    missed = (now - previous) // period
    due = previous + (missed + 1) * period
    return due if due > now else due + period  # NB: 1.0 // 0.1 is 9.0, which would be due at once again


def period_of(interval: float, *, unfinished: int, spacing: float) -> float:
    """Return the interval at which each of so many tracks can be read.

    When there are more unfinished ones than the rate can serve in one interval, all wait equally longer.
    """
    return max(interval, unfinished * spacing * _HEADROOM)
