"""When a watched track is worth a read: what is known of how long tracks take, applied to those under way.

Knows no clock and no network; moments are seconds on the clock that the schedule counts on. What it says is
an offer: where it has nothing to say, tracks are read at their interval.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from notifier.cadence import MOMENT
from notifier.durations import Durations, Ending
from notifier.hazard import HORIZON
from notifier.inspection import Course, gain, next_gap, saved_after
from notifier.text import one_line, shorten
from notifier.track import Track
from notifier.transition import Gone

_LONGEST_MODEL = 64
_TOLERANCE = 2.0
"""By how many seconds what the API dates may differ from what was seen: it dates to the second."""
_TICK = 1.0
"""How exactly the API's clock is known, in seconds."""


@dataclass(slots=True, weakref_slot=True)
class Budget:
    """How many reads fewer than at the interval were made, of a track or of all that one answer tells of."""

    saved: float = 0.0
    read_at: float = float("-inf")

    def spend(self, at: float, interval: float) -> None:
        """Note a read that was due at a moment."""
        if at - self.read_at < MOMENT:
            return
        gap = at - self.read_at if self.read_at > float("-inf") else interval
        self.saved = saved_after(self.saved, gap, interval=interval)
        self.read_at = at


@dataclass(slots=True)
class Life:
    """What is known of a track under way."""

    model: str
    born: float
    """When the request for it was made."""
    first: float
    """When it was first seen."""
    seen: float
    """When it was last seen, unfinished: when that was due whose answer told."""
    heard: float
    """When that answer came."""
    budget: Budget
    read_at: float
    """When it was last due to be read by itself."""
    interval: float
    is_placed: bool
    """Whether its model was foreseen when it was first seen: later there is nothing saved to spend."""
    is_regular: bool = True
    """Whether the read before that had an answer: else a lag is the outage's."""

    @property
    def is_seen(self) -> bool:
        """Whether the track was told of since it was last due, be it by the answer to another's turn."""
        return self.heard >= self.read_at

    def see(self, due: float, now: float) -> None:
        """Note that an answer to what was due at a moment has told of the track, unfinished."""
        self.seen, self.heard = due, now


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that count; a reload replaces them."""

    is_on: bool = True
    """Whether reads are placed by what was learned; it is learned in any case."""
    stalled_after: timedelta = timedelta(minutes=30)
    max_interval: timedelta = timedelta(minutes=5)
    reads_lists: bool = False
    """Whether one answer may tell of all tracks of an account."""


class Foresight:
    """Says when tracks under way are to be read, and learns from their ends."""

    def __init__(self, terms: Terms | None = None) -> None:
        self.terms = terms or Terms()
        self.durations = Durations()
        self.is_listed: Callable[[str], bool] = lambda _account: True
        """Says of which accounts the list is of use; else each track spends what it has saved itself."""
        self._budgets: WeakValueDictionary[str, Budget] = WeakValueDictionary()

    def meet(
        self, track: Track, account: str, *, at: float, now: float, api_now: datetime, interval: float
    ) -> Life | None:
        """Return what is known of a track that is seen for the first time, by a read that was due at `at`.

        None for one that does not say when it was made, or says what cannot be.
        """
        age = _age(track, api_now)
        if age is None:
            return None
        model = _model(track)
        is_placed = self.durations.standing(model).is_proven
        life = Life(model, min(now - age, at), at, at, now, Budget(), at, interval, is_placed)
        if self.terms.reads_lists and self.is_listed(account):
            life.budget = self._budgets.setdefault(account, life.budget)
        life.budget.spend(at, interval)
        return life

    def places(self, life: Life) -> bool:
        """Say whether the reads of a track are placed; else they come at its interval."""
        return self.terms.is_on and life.is_placed and self.durations.standing(life.model).is_proven

    def next_read(self, life: Life, *, interval: float, is_stalled: bool) -> float:
        """Return when a track is to be read next as things stand."""
        if not life.is_seen:
            return life.read_at + interval
        return self._place(life, life.seen, life.budget.saved, interval, is_stalled=is_stalled)

    def read_after(self, life: Life, due: float, *, interval: float, is_stalled: bool) -> float:
        """Return when a track is to be read next that a read due at a moment will find unfinished."""
        budget = Budget(life.budget.saved, life.budget.read_at)
        budget.spend(due, interval)
        return self._place(life, due, budget.saved, interval, is_stalled=is_stalled)

    def _place(self, life: Life, seen: float, saved: float, interval: float, *, is_stalled: bool) -> float:
        course = Course(life.first - life.born, seen - life.born, saved)
        stretch = self.durations.standing(life.model).stretch
        gap = next_gap(self.durations.curve(life.model), course, interval=interval, stretch=stretch)
        read = seen + min(gap, max(interval, self.terms.max_interval.total_seconds()))
        stalls = life.born + self.terms.stalled_after.total_seconds() + min(_TICK, interval)
        if is_stalled or not seen < stalls < read:
            return read
        return max(stalls, seen + interval * max(0.5, 1.0 - saved))  # lest it is told late

    def begin(self, life: Life, due: float, *, interval: float) -> None:
        """Note that a turn begins that was due at a moment."""
        life.budget.spend(due, interval)
        life.is_regular = life.is_seen
        life.read_at = due
        life.interval = interval

    def ending(
        self,
        audio_id: str,
        life: Life | None,
        current: Track | Gone,
        *,
        at: float,
        now: float,
        api_now: datetime,
    ) -> Ending | None:
        """Return what is learned from how a track is found by a read that was due at `at`.

        A track that has not ended, or is gone, counts with how long it was seen. None when nothing is known.
        """
        if isinstance(current, Gone) or not current.is_final:
            if life is None:
                return None
            return self.unfinished(audio_id, life, at=None if isinstance(current, Gone) else at)
        took = _took(current, life, now=now, api_now=api_now)
        if took is None:
            return None
        ending = Ending(audio_id, _model(current), took, is_end=True)
        return ending if life is None else self._judged(ending, life, at)

    def unfinished(self, audio_id: str, life: Life, at: float | None = None) -> Ending:
        """Return what is learned from a track that had no end up to a moment, or to when it was last seen."""
        until = life.seen if at is None else at
        return Ending(audio_id, life.model, max(0.0, until - life.born), is_end=False)

    def _judged(self, ending: Ending, life: Life, at: float) -> Ending:
        """Return an end with what it says of when it was told, and of what was known before."""
        entry, told = life.first - life.born, max(ending.seconds, at - life.born)
        assessed = self.durations.assessed(ending, entry=entry, interval=life.interval)
        gained = gain(ending.seconds, told=told, entry=entry, interval=life.interval)
        return assessed.told(gained) if life.is_regular else assessed


def _age(track: Track, api_now: datetime) -> float | None:
    """Return how many seconds ago a track was made; None when it does not say, or says what cannot be."""
    if track.created_at is None:
        return None
    age = (api_now - track.created_at).total_seconds()
    return max(0.0, age) if -_TOLERANCE <= age < HORIZON else None


def _model(track: Track) -> str:
    name = shorten(one_line((track.text("model") or "")[: 4 * _LONGEST_MODEL]), _LONGEST_MODEL)
    return sys.intern(name.encode("utf-8", "replace").decode())


def _took(track: Track, life: Life | None, *, now: float, api_now: datetime) -> float | None:
    """Return how long a track took as it says, unless that contradicts what was seen: then, about that."""
    age = _age(track, api_now)
    if age is None:
        return None
    if life is not None:
        age = min(age, now - life.born)  # NB: it may say another time now at which it was made
    unfinished = life.seen - life.born if life is not None else 0.0
    took = track.took.total_seconds() if track.took is not None else None
    if took is not None and unfinished - _TOLERANCE <= took <= age + _TOLERANCE:
        return took
    return (unfinished + max(unfinished, age)) / 2 if life is not None else None
