"""Where the next read of a track is best placed, given how likely it ends at each age.

Pure: durations are seconds, ages seconds since the request was made. What is believed of the ends of tracks
comes as a `Hazard`; what counts as a good trade between requests and lag is the `interval` that a person
wrote.

**The problem** is that of inspecting a system whose failure shows only when somebody looks: Barlow, Hunter
and Proschan, "Optimum checking procedures", J. SIAM 11 (1963) 1078-1095. With reads at ages `t1 < t2 < …` a
track that ends at `T` is told at the first `t_i >= T`, so that with `S(t) = P(T > t)`

    expected lag       = sum over i of (t_(i+1) - t_i) S(t_i)  -  E[T]
    expected requests  = sum over i of S(t_i).

**The solution** by which reads are placed here is Keller's, "Optimum checking schedules for systems subject
to random failure", Management Science 21 (1974) 256-260: describe the reads by their density `n(t)`. A
track that ends at `t` waits for half a gap, `1 / 2n(t)`. Then lag is `integral of f / 2n` and requests are
`integral of n S`; the first at its least for a given second, by the calculus of variations, where

    n(t) = m sqrt(h(t)),        h = f / S the hazard,

and the next read is where the integral of `n` from the last one reaches 1. No root has to be found, nothing
has to be iterated (the exact recursion of 1963 is unstable for a hazard that was counted and not assumed),
and the simulator finds it within a few per cent of the exact optimum by dynamic programming where more than
a handful of reads remain.

**The price.** Fixed reads at `interval` have a mean lag of `L = interval / 2`: that is the promise. Let `A`
be the integral of `sqrt(f S)` from the age of the first read on, for tracks that reach it. Then the lag is
`A / 2m`, so `m = A / 2L = A / interval` keeps the promise, and costs `m A = A^2 / interval` requests. By
the inequality of Cauchy and Schwarz `A^2 = (integral of sqrt(f) sqrt(S))^2 <= integral of f * integral of S
= E[T]`, what remains to be waited for: a right curve never costs more than the `E[T] / interval` of fixed
reads, and the same only where the hazard is constant and nothing can be foreseen. For durations that are
log-normal with a spread `s` of their logarithm around 200 s the ratio `A^2 / E[T]` is 0.2 for `s = 0.1`,
0.37 for 0.2, 0.5 for 0.3, 0.73 for 0.5.

**Guards**, since the curve may be wrong:

- *Requests.* A track earns one read an interval and spends one with each: `saved` is what is left. A read
  may come sooner than an interval after the last only by what was saved. So at every age no more reads were
  made than fixed polling would have made, whatever is believed.
- *Lag.* Of every track that has ended it is known when fixed reads would have told it, and when reads by
  the curve as it was before would have: nothing is staked on a curve that has not shown on paper, on the
  last tracks that ended, that it tells sooner than fixed reads, and nothing any more as soon as it shows
  that no longer (`proof`). Until then reads are fixed. `credit` sums up by how many intervals sooner than
  by fixed reads ends were told indeed; it sets which part of the promised lag is aimed at, so that a debt
  is paid back with the requests that were saved.
- *Closeness.* No two reads are closer than half an interval.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from notifier.hazard import HORIZON, Hazard

_CREDITS: Final = (-20.0, 4.0)
"""The least and the most credit, in intervals."""
_PROOFS: Final = (-3.0, 4.0)
"""The least and the most proof, in intervals; what it begins with is the least."""
_CLOSEST = 0.5
"""The shortest gap, in intervals."""
_LONGEST = 10.0
"""The longest gap, in intervals."""
_STRETCHES = ((-2.0, 0.4), (1.0, 1.0), (4.0, 1.3))
"""Which part of the promised lag is aimed at with which credit; straight lines between."""
_ON_PAPER = 0.6
"""Which part of it is aimed at on paper."""
_FADING = 0.98
"""What is kept of a credit with each end."""


@dataclass(frozen=True, slots=True)
class Course:
    """How the reads of a track have gone so far."""

    entry: float
    """The age at the first read."""
    seen: float
    """The age at which the track was last seen, unfinished."""
    saved: float = 0.0
    """How many reads fewer were made than at the interval."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What foresight has come to so far, all in intervals."""

    proof: float = _PROOFS[0]
    credit: float = 0.0
    is_proven: bool = False
    """Whether reads are placed by the curve; else they are fixed."""

    def after(self, gained: float, on_paper: float) -> "Standing":
        """Return the standing after an end that was told, and would have been, so many intervals sooner.

        Old merits fade, lest they pay for much lag at once; debts stay until they are paid.
        """
        proof = _within(_PROOFS, _faded(self.proof) + on_paper)
        is_proven = proof > 0 or (self.is_proven and proof > _PROOFS[0])
        return Standing(proof, _within(_CREDITS, _faded(self.credit) + gained), is_proven)

    @property
    def stretch(self) -> float:
        """Which part of the promised lag is aimed at."""
        return _at(_STRETCHES, self.credit)


def next_gap(curve: Hazard, course: Course, *, interval: float, stretch: float) -> float:
    """Return how many seconds after the track was last seen it is to be read next.

    At an age beyond all experience, and for one that is not possible, that is the interval.
    """
    ahead = curve.ahead(course.entry)
    if not 0 <= course.seen < HORIZON or not ahead:
        return interval
    root = curve.root(course.seen) + interval * stretch / ahead
    gap = min(curve.age_of(root) - course.seen, interval * _LONGEST)
    return max(gap, interval * max(_CLOSEST, 1.0 - course.saved))


def saved_after(saved: float, gap: float, *, interval: float) -> float:
    """Return how many reads are saved after one that came so many seconds after the one before."""
    return max(0.0, saved + gap / interval - 1.0)


def gain(end: float, *, told: float, entry: float, interval: float) -> float:
    """Return by how many intervals sooner an end was told than reads at the interval would have told it.

    All are ages, or all are moments: when it ended, when it was told, and when the first read was.
    """
    fixed = entry + max(0, math.ceil((end - entry) / interval)) * interval
    return (fixed - told) / interval


def gain_on_paper(curve: Hazard, end: float, *, entry: float, interval: float) -> float:
    """Return by how many intervals sooner than fixed reads reads by a curve would have told an end."""
    course = Course(entry, entry)
    while course.seen < end < HORIZON:
        gap = next_gap(curve, course, interval=interval, stretch=_ON_PAPER)
        course = Course(entry, course.seen + gap, saved_after(course.saved, gap, interval=interval))
    return gain(end, told=course.seen, entry=entry, interval=interval) if end < HORIZON else 0.0


def _faded(amount: float) -> float:
    return amount * _FADING if amount > 0 else amount


def _within(bounds: tuple[float, float], amount: float) -> float:
    return min(bounds[1], max(bounds[0], amount))


def _at(points: tuple[tuple[float, float], ...], place: float) -> float:
    """Return the height of straight lines between points, level beyond the first and the last."""
    if place <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if place <= right:
            return low + (high - low) * (place - left) / (right - left)
    return points[-1][1]
