"""What is known of how long tracks take, model by model, and what that was worth so far.

Pure: knows no clock and no store. The same ends in the same order always come to the same knowledge, so
that it can be made anew from what the state file keeps.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from notifier.hazard import HORIZON, KEPT, KEPT_AFTER_SURPRISE, Hazard, Tally, log_normal, mixed, steady
from notifier.inspection import Standing, gain_on_paper

_EXAMPLE = 200.0
"""How many seconds the track of the vendor's example took.

Source: https://useapi.net/docs/api-pixverse-v2/get-pixverse-music-audio_id
"""
_PRIOR = mixed(log_normal(_EXAMPLE, 0.8), steady(_EXAMPLE * 1.25), share=0.7)
"""What is believed before anything was seen: about as long as the example, or half or twice that; and three
in ten may end at any moment, so that no age seems safe."""
_IMAGINED = 1.0
"""How many tracks the prior counts for."""
_POOLED = 3.0
"""How many tracks all models together count for beside a model's own."""
_MODELS = 50
"""How many models are known at once: an API that makes one up each time fills no memory."""
_MOST_UNFINISHED = 10_000
_STALE = 10
"""After how many ends of other models a curve is drawn anew, at the latest."""
_UNPROVEN = Standing()
_SURPRISE = 0.02
"""A duration that fewer than one in fifty should have fallen short of, or exceeded, is a surprise."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How long a track took, or for how long it was seen without an end."""

    audio_id: str
    model: str
    """Empty when the API names none."""
    seconds: float
    """From the request to the end, or to when it was last seen unfinished."""
    is_end: bool
    """Whether it is ready or has failed then: people wait for the one as for the other."""
    gain: float | None = None
    """By how many intervals sooner it was told than by fixed reads; None when that cannot be said."""
    on_paper: float = 0.0
    """By how many it would have been, by what was known before."""
    is_surprise: bool = False
    """Whether hardly any other took so long, or so little, by what was known before."""

    def told(self, gain: float) -> "Ending":
        """Return the same, told by so many intervals sooner than by fixed reads."""
        return replace(self, gain=gain)


class _Model:
    """What is known of one model."""

    __slots__ = ("curve", "drawn_at", "standing", "tally")

    def __init__(self) -> None:
        self.tally = Tally()
        self.standing = Standing()
        self.curve: Hazard | None = None
        self.drawn_at = 0


class Durations:
    """What was seen of all models; an unknown one is believed to be like the rest, or like the example."""

    def __init__(self, endings: Iterable[Ending] = ()) -> None:
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._pool = Tally()
        self._pooled: Hazard | None = None
        self._pooled_at = 0
        self._unfinished: OrderedDict[str, float] = OrderedDict()
        """Up to which age tracks are counted that had no end yet."""
        self._count = 0
        for ending in endings:
            self.learn(ending)

    def assessed(self, ending: Ending, *, entry: float, interval: float) -> Ending:
        """Return an end that is not learned from yet with what it says of what was known before."""
        curve = self.curve(ending.model)
        shorter = 1.0 - curve.survival(min(ending.seconds, HORIZON))
        return replace(
            ending,
            on_paper=gain_on_paper(curve, ending.seconds, entry=entry, interval=interval),
            is_surprise=not _SURPRISE <= shorter <= 1 - _SURPRISE,
        )

    def learn(self, ending: Ending) -> None:
        """Take an end, or the lack of one so far, into account; a track may have the one after the other."""
        model = self._known(ending.model)
        since = self._unfinished.pop(ending.audio_id, 0.0)
        kept = KEPT_AFTER_SURPRISE if ending.is_surprise else KEPT
        model.tally.count(ending.seconds, is_end=ending.is_end, since=since, kept=kept)
        self._pool.count(ending.seconds, is_end=ending.is_end, since=since, kept=KEPT)
        if not ending.is_end:
            self._unfinished[ending.audio_id] = max(since, ending.seconds)
            _shorten(self._unfinished, _MOST_UNFINISHED)
        elif ending.gain is not None:
            model.standing = model.standing.after(ending.gain, ending.on_paper)
        model.curve = None
        self._count += 1

    def curve(self, name: str) -> Hazard:
        """Return how likely a track of a model ends at each age."""
        model = self._models.get(name)
        if model is None:
            return self._curve_of_all()
        if model.curve is None or self._count - model.drawn_at > min(model.drawn_at // 20, _STALE):
            model.curve = model.tally.hazard(self._curve_of_all(), weight=_POOLED)
            model.drawn_at = self._count
        return model.curve

    def standing(self, name: str) -> Standing:
        """Return what foresight has come to with a model so far."""
        model = self._models.get(name)
        return _UNPROVEN if model is None else model.standing

    def _curve_of_all(self) -> Hazard:
        if self._pooled is None or self._count - self._pooled_at > min(self._pooled_at // 20, _STALE):
            self._pooled = self._pool.hazard(_PRIOR, weight=_IMAGINED)
            self._pooled_at = self._count
        return self._pooled

    def _known(self, name: str) -> _Model:
        model = self._models.setdefault(name, _Model())
        self._models.move_to_end(name)
        _shorten(self._models, _MODELS)
        return model


def _shorten(known: OrderedDict[str, Any], most: int) -> None:
    while len(known) > most:
        known.popitem(last=False)
