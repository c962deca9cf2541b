"""How far an account's list is to be relied on. Pure: moments are monotonic seconds, passed in.

A list that misbehaves is left alone for a time that doubles, and is good again once it has been well for as
long as that. What it says of a track is doubted where only the track itself can tell.
"""

from datetime import datetime, timedelta
from random import Random

from notifier.delivery import Backoff
from notifier.track import Status, Track
from notifier.transition import Sighting

_BACKOFF = Backoff(timedelta(minutes=5), timedelta(hours=6))
_NEWS = timedelta(seconds=5)
"""How old a change has to be for a list not to have missed it by a moment."""
_ORDER = (Status.QUEUED, Status.GENERATING)
_ENDS = (Status.COMPLETED, Status.FAILED)


class Trust:
    """Whether one account's list may be read in place of its tracks."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._failures = 0
        self._until = float("-inf")
        self._good_from = float("-inf")

    def holds(self, now: float) -> bool:
        """Say whether the list is not left alone just now."""
        return now >= self._until

    def lose(self, now: float) -> timedelta:
        """Leave the list alone from now on; return for how long."""
        if now >= self._good_from:
            self._failures = 0
        self._failures += 1
        wait = _BACKOFF.delay(self._failures, self._rng)
        self._until = now + wait.total_seconds()
        self._good_from = self._until + wait.total_seconds()
        return wait


def is_doubtful(before: Sighting | None, listed: Track) -> bool:
    """Say whether the track itself has to be asked before what a list says of it is told.

    What the track has said itself is no news, however odd: it may last.
    """
    if before is not None and listed.status == before.status and not listed.is_final:
        return False
    if listed.status not in _ORDER and listed.status not in _ENDS:
        return True
    if listed.is_final is not (listed.status in _ENDS):
        return True
    if listed.is_completed:
        return listed.text("url") is None
    if listed.is_final:
        return listed.text("fail_code") is None and listed.text("fail_reason") is None
    return goes_back(before, listed)


def goes_back(before: Sighting | None, now: Track) -> bool:
    """Say whether a track seems to be where it had been before."""
    if before is None or before.status not in _ORDER or now.status not in _ORDER:
        return False
    return _ORDER.index(Status(now.status)) < _ORDER.index(Status(before.status))


def contradicts(listed: Track, read: Track, *, before: Sighting | None, listed_at: datetime) -> bool:
    """Say whether what a list said of a track cannot have been so, as the track says right afterwards.

    `listed_at` is by the API's clock. A change in the moment between the two is none of the list's fault.
    """
    if listed.is_final:
        return not read.is_final or read.is_completed != listed.is_completed
    if read.is_final:
        return read.updated_at is None or read.updated_at < listed_at - _NEWS
    return goes_back(before, listed) and not goes_back(before, read)
