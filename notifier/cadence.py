"""When to read a track next. Pure: moments are seconds on the monotonic clock."""

from collections.abc import Iterator

_QUICKEST_START = 1.0


def first_reads(count: int, *, interval: float, spacing: float) -> Iterator[float]:
    """Yield how many seconds after the start each of `count` tracks is read for the first time.

    They are spread over one interval so that they stay spread, a few come quickly one after the other, and
    never closer than the rate allows (`spacing`).
    """
    step = max(spacing, min(_QUICKEST_START, interval / count)) if count else 0.0
    yield from (index * step for index in range(count))


def next_read(previous: float, *, now: float, interval: float, unfinished: int, spacing: float) -> float:
    """Return when a track is due again that was due at `previous`.

    The phase is kept: a look that came late does not move the later ones. When there are more unfinished
    tracks than the rate can serve in one interval, all wait equally longer.
    """
    period = max(interval, unfinished * spacing)
    due = previous + period
    if due > now:
        return due
    missed = (now - previous) // period
    due = previous + (missed + 1) * period
    return due if due > now else due + period  # NB: 1.0 // 0.1 is 9.0, which would be due at once again
