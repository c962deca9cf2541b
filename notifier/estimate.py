"""How long tracks took to be made, and what that says of one that is not ready yet.

Pure: knows no clock and no store. What it says is as good as what was seen; of what it has hardly seen it
says nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from notifier.text import minutes
from notifier.track import Track

_MOST = 100
"""How many tracks of a model count, the latest ones: models and their load change."""
_FEWEST = 3
_RARE = 20
"""A track takes longer than usual when fewer than one in so many took that long."""
_STEP = timedelta(seconds=10)
_COARSE_FROM, _COARSE_STEP = timedelta(minutes=10), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Making:
    """How long a track took that is ready."""

    model: str | None
    took: timedelta


@dataclass(frozen=True, slots=True)
class Left:
    """A track is likely to be ready about so much later: half of those that took as long already were."""

    about: timedelta

    def __str__(self) -> str:
        """Return it as people are told, no more exact than it is."""
        step = _STEP if self.about < _COARSE_FROM else _COARSE_STEP
        if self.about < _STEP:
            return "ready any moment"
        return f"about {minutes((round(self.about / step) * step).total_seconds())} left"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A track takes longer than nearly all others did; when it will be ready, nobody can say."""

    usual: timedelta

    def __str__(self) -> str:
        """Return it as people are told."""
        return f"longer than usual ({minutes(self.usual.total_seconds())})"


def making_of(track: Track) -> Making | None:
    """Return how long a track took; None when it is not ready or does not say."""
    return Making(track.text("model"), track.took) if track.is_completed and track.took else None


class Experience:
    """What was seen of each model. Made of tracks that are ready, the latest first."""

    def __init__(self, makings: Iterable[Making] = ()) -> None:
        self._took: defaultdict[str | None, list[timedelta]] = defaultdict(list)
        for making in makings:
            if len(self._took[making.model]) < _MOST:
                self._took[making.model].append(making.took)

    def time_left(self, model: str | None, age: timedelta) -> Left | Overdue | None:
        """Say when a track of some age will be ready; None with too few of its model seen.

        Only those count that took longer than it already has: an old track is not overdue by the average of
        all, and a young one is not promised the luck of the quickest.
        """
        took = self._took.get(model, [])
        if len(took) < _FEWEST:
            return None
        longer = [length for length in took if length > age]
        if not longer or len(longer) * _RARE < len(took):
            return Overdue(_middle(took))
        return Left(_middle(longer) - age)


def _middle(lengths: Sequence[timedelta]) -> timedelta:
    in_order = sorted(lengths)
    return (in_order[(len(in_order) - 1) // 2] + in_order[len(in_order) // 2]) / 2
