"""What a look at a track means beside the last one: the whole of detection, as pure functions.

Knows nothing of HTTP, of targets or of storage.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from notifier.event import EventType
from notifier.track import Status, Track


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is remembered of a track between two looks; one row of the state file."""

    status: str
    is_final: bool
    name: str | None
    first_seen: datetime
    stalled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """A look that found no track, now for good."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a look changed: the sighting to remember and the events to tell, in order."""

    sighting: Sighting
    events: tuple[EventType, ...]


def detect(
    previous: Sighting | None,
    current: Track | Gone,
    *,
    now: datetime,
    stalled_after: timedelta,
    api_now: datetime | None = None,
) -> Change | None:
    """Compare a look with the last one; None when nothing changed and nothing needs to be written.

    A final track stays final: whatever is seen later changes nothing, so each end is told once. `api_now` is
    what the API's own clock says, if that is known; the moments in a track are its.
    """
    if previous is not None and previous.is_final:
        return None
    before = previous or Sighting(Status.UNKNOWN, is_final=False, name=None, first_seen=now)
    match current:
        case Gone():
            after = replace(before, status=Status.MISSING, is_final=True)
            events: tuple[EventType, ...] = (EventType.MISSING,)
        case Track(is_final=True):
            after = _seen(before, current)
            events = (EventType.COMPLETED if current.is_completed else EventType.FAILED,)
        case Track():
            after = _seen(before, current)
            events = ()
            if before.stalled_at is None and _age(current, before, now, api_now or now) >= stalled_after:
                after = replace(after, stalled_at=now)
                events = (EventType.STALLED,)
    return None if after is previous else Change(after, events)


def _seen(before: Sighting, track: Track) -> Sighting:
    """Return the sighting as the track has it now: the same one when nothing is new, as nearly always."""
    name = track.name or before.name
    if (track.status, track.is_final, name) == (before.status, before.is_final, before.name):
        return before
    return replace(before, status=track.status, is_final=track.is_final, name=name)


def _age(track: Track, before: Sighting, now: datetime, api_now: datetime) -> timedelta:
    """Return how long the track has been unfinished; a clock that went back makes it 0 at the least."""
    created_at = track.created_at
    age = api_now - created_at if created_at is not None else now - before.first_seen
    return max(age, timedelta(0))
