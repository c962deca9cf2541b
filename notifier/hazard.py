"""How likely a track ends at each age: the hazard, as it is believed and as it is counted.

Pure: knows no clock and no store. Ages are seconds since the request was made.

**The curve.** `h(t) dt` is the chance that a track which is unfinished at age `t` ends within the next
`dt`. It is taken as constant in each of the bins between `EDGES`, eight to an octave: fine where tracks end
quickly, coarse in the long tail. With `H(t)` its integral, `S(t) = exp(-H(t))` is the share of tracks that
take longer than `t`, and `f = h S` the density of how long they take.

**The estimate.** In a bin in which `d` tracks ended and all that were there spent `E` seconds in sum, the
likelihood of a constant hazard is `h^d exp(-h E)`, whatever became of them later: a track that is
unfinished, missing or off the watchlist counts with the time for which it was seen and with no end (it is
*censored*), and nothing has to be assumed about when it would have ended. With the conjugate prior, a gamma
distribution of shape `a` and rate `b`, the mean of the posterior is `(d + a) / (E + b)`. The prior is that
of `weight` imaginary tracks whose durations follow another curve: `a = weight * share ending in the bin`,
`b = weight * seconds spent there`. So few samples bend the curve a little and many decide it, bin by bin;
and where nobody has ever been, the other curve's hazard stands.

**Forgetting.** A bin keeps `KEPT` of what it holds each time a track passes through, so that the last few
dozen that came this far decide: models and their load change. Bins of ages that few tracks reach forget as
slowly as they are visited.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

_A_DAY = 86_400.0
_TO_AN_OCTAVE = 8
EDGES: Sequence[float] = (
    0.0,
    *(2 ** (step / _TO_AN_OCTAVE) for step in range(math.ceil(math.log2(_A_DAY) * _TO_AN_OCTAVE) + 1)),
)
"""Where bins begin and end, in seconds of age."""
HORIZON = EDGES[-1]
"""Beyond this age nothing is claimed."""
_WIDTHS = tuple(end - begin for begin, end in pairwise(EDGES))
_BINS = len(_WIDTHS)

KEPT = 0.98
"""What a bin keeps when a track passes: about fifty tracks count."""
KEPT_AFTER_SURPRISE = 0.8
"""What it keeps when that track ended so early or so late that another behaviour is likely."""
_SPREAD = (0.25, 0.5, 0.25)
"""Over which bins an end is spread: its own and its neighbours, lest the curve follows chance."""
_LEAST = 1e-9
"""The smallest share of imaginary tracks that reach a bin: where none comes the hazard would be anything."""
_TINY = 1e-300


class Hazard:
    """A curve: the hazard in each bin, and the integrals of it that placing reads needs."""

    __slots__ = ("_ahead", "_hazards", "_roots", "_survivals")

    def __init__(self, hazards: Sequence[float]) -> None:
        self._hazards = hazards
        amounts = [hazard * width for hazard, width in zip(hazards, _WIDTHS, strict=True)]
        self._survivals = [math.exp(-amount) for amount in accumulate(amounts, initial=0.0)]
        roots = [math.sqrt(hazard) for hazard in hazards]
        self._roots = [
            *accumulate((root * width for root, width in zip(roots, _WIDTHS, strict=True)), initial=0.0)
        ]
        parts = [
            (before - after) / root if root else 0.0
            for root, (before, after) in zip(roots, pairwise(self._survivals), strict=True)
        ]
        self._ahead = [*accumulate(reversed(parts), initial=0.0)][::-1]

    def survival(self, age: float) -> float:
        """Return the share of tracks that take longer, `S`."""
        index = _bin(age)
        return self._survivals[index] * math.exp(-self._hazards[index] * (age - EDGES[index]))

    def root(self, age: float) -> float:
        """Return the integral of `sqrt(h)` from 0 to an age."""
        index = _bin(age)
        return self._roots[index] + math.sqrt(self._hazards[index]) * (age - EDGES[index])

    def age_of(self, root: float) -> float:
        """Return the age at which the integral of `sqrt(h)` reaches a value; infinite when it never does."""
        if root >= self._roots[-1]:
            return math.inf
        index = bisect_right(self._roots, root) - 1
        return EDGES[index] + (root - self._roots[index]) / math.sqrt(self._hazards[index])

    def ahead(self, age: float) -> float:
        """Return the integral of `sqrt(f S)` from an age on, for those that reach it."""
        index = _bin(age)
        survival, root = self.survival(age), math.sqrt(self._hazards[index])
        in_this_bin = (survival - self._survivals[index + 1]) / root if root else 0.0
        return (in_this_bin + self._ahead[index + 1]) / max(survival, _LEAST)

    def imagined(self) -> Iterator[tuple[float, float]]:
        """Yield for each bin the share of tracks that end there, and the seconds that one spends there."""
        for hazard, width, (before, after) in zip(
            self._hazards, _WIDTHS, pairwise(self._survivals), strict=True
        ):
            spent = (before - after) / hazard if hazard * width > _LEAST else before * width
            spent = max(spent, _LEAST * width)
            yield hazard * spent, spent


def log_normal(median: float, spread: float) -> Hazard:
    """Return the curve of durations whose logarithm is normal around a median."""
    return _of_shares(
        [0.5 * math.erfc(math.log(age / median) / spread / math.sqrt(2)) if age else 1.0 for age in EDGES]
    )


def steady(mean: float) -> Hazard:
    """Return the curve of tracks that may end at any moment."""
    return Hazard([1 / mean] * _BINS)


def mixed(one: Hazard, other: Hazard, *, share: float) -> Hazard:
    """Return the curve of tracks of which such a share follow one curve and the rest another."""
    return _of_shares([share * one.survival(age) + (1 - share) * other.survival(age) for age in EDGES])


def _of_shares(longer: Sequence[float]) -> Hazard:
    """Return the curve by which such shares of tracks take longer than each edge."""
    return Hazard(
        [
            max(0.0, math.log(max(before, _TINY) / max(after, _TINY))) / width
            for (before, after), width in zip(pairwise(longer), _WIDTHS, strict=True)
        ]
    )


class Tally:
    """What was counted: ends, and seconds spent unfinished, by age."""

    __slots__ = ("_ends", "_spent")

    def __init__(self) -> None:
        self._ends = [0.0] * _BINS
        self._spent = [0.0] * _BINS

    def count(self, age: float, *, is_end: bool, since: float = 0.0, kept: float = KEPT) -> None:
        """Count a track that was unfinished from one age to another, and whether it ended then."""
        age = min(age, HORIZON)
        for index in range(_bin(since), _bin(age) + 1):
            begin, end = max(since, EDGES[index]), min(age, EDGES[index + 1])
            share = max(0.0, end - begin) / _WIDTHS[index]
            kept_here = kept**share if share < 1 else kept
            self._ends[index] *= kept_here
            self._spent[index] = self._spent[index] * kept_here + share * _WIDTHS[index]
        if is_end and age < HORIZON:
            for index, share in enumerate(_SPREAD, start=_bin(age) - 1):
                self._ends[min(max(index, 0), _BINS - 1)] += share

    def hazard(self, prior: Hazard, weight: float) -> Hazard:
        """Return what is to be believed after all that, and after so many tracks imagined by the prior."""
        return Hazard(
            [
                (ends + weight * share) / (spent + weight * seconds)
                for ends, spent, (share, seconds) in zip(
                    self._ends, self._spent, prior.imagined(), strict=True
                )
            ]
        )


def _bin(age: float) -> int:
    return min(bisect_right(EDGES, max(0.0, age)) - 1, _BINS - 1)
