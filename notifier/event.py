"""An event: a fact worth telling, with an id that never changes and the JSON that the world sees of it.

Knows no chat service and no database; both store and tell exactly what stands here.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from notifier.clock import from_rfc3339, to_rfc3339
from notifier.track import NotATrackError, Track, compact_json, parse


class EventType(StrEnum):
    """What can be told; the values are what payloads, the log and the state file say."""

    COMPLETED = "track.completed"
    FAILED = "track.failed"
    MISSING = "track.missing"
    STALLED = "track.stalled"
    ALERT = "notifier.alert"
    TEST = "notifier.test"


EVENTS = {
    "completed": EventType.COMPLETED,
    "failed": EventType.FAILED,
    "missing": EventType.MISSING,
    "stalled": EventType.STALLED,
}
"""What the watchlist's `events` may name."""


class Problem(StrEnum):
    """What the daemon can have to report about itself."""

    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - a problem's name
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    ACCOUNT_UNREADABLE = "account_unreadable"
    TRACK_UNREADABLE = "track_unreadable"
    TRACK_MISSING = "track_missing"
    TRACK_STALLED = "track_stalled"
    TARGET_PAUSED = "target_paused"
    DELIVERY_DEAD = "delivery_dead"
    CONFIG_REJECTED = "config_rejected"
    STORAGE_FAILED = "storage_failed"


@dataclass(frozen=True, slots=True)
class TrackNews:
    """What an event tells of a track."""

    audio_id: str
    name: str
    status: str
    previous_status: str | None
    track: Track | None


@dataclass(frozen=True, slots=True)
class Alert:
    """What an event tells of the daemon itself: a problem has begun, or is over."""

    problem: Problem
    subject: str
    summary: str
    is_resolved: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. Every delivery and every attempt of it carries the same id."""

    id: str
    type: EventType
    detected_at: datetime
    about: TrackNews | Alert
    stored_data: str | None = field(default=None, compare=False, repr=False)
    """What `data_json` wrote of it, if it comes from the state file: written once, told to many."""

    @property
    def audio_id(self) -> str | None:
        """The track that the event tells of, if it tells of one."""
        match self.about:
            case TrackNews(audio_id=audio_id):
                return audio_id
            case Alert(problem=Problem.TRACK_MISSING | Problem.TRACK_STALLED | Problem.TRACK_UNREADABLE):
                return self.about.subject
            case Alert():
                return None

    @property
    def name(self) -> str:
        """What people call the track, or for an alert its problem."""
        match self.about:
            case TrackNews(name=name):
                return name
            case Alert(problem=problem):
                return problem.value


def track_event(event_type: EventType, about: TrackNews, detected_at: datetime) -> Event:
    """Make the event of a track. Its id follows from track and type, so a fact found twice is one event."""
    if event_type is EventType.TEST:
        return Event(_fresh_id(), event_type, detected_at, about)
    digest = hashlib.sha256(f"{event_type}\0{about.audio_id}".encode(errors="surrogatepass")).hexdigest()
    return Event(f"evt_{digest[:32]}", event_type, detected_at, about)


def alert_event(alert: Alert, detected_at: datetime) -> Event:
    """Make the event of an alert; each has an id of its own, since a problem may come back."""
    return Event(_fresh_id(), EventType.ALERT, detected_at, alert)


def _fresh_id() -> str:
    return f"evt_{uuid.uuid4().hex}"


def public_data(event: Event) -> dict[str, Any]:
    """Return the ``data`` member of the public JSON."""
    match event.about:
        case TrackNews() as news:
            return {
                "audio_id": news.audio_id,
                "name": news.name,
                "status": news.status,
                "previous_status": news.previous_status,
                "detected_at": to_rfc3339(event.detected_at),
                "track": None if news.track is None else news.track.fields,
            }
        case Alert() as alert:
            return {
                "problem": alert.problem.value,
                "subject": alert.subject,
                "summary": alert.summary,
                "resolved": alert.is_resolved,
                "detected_at": to_rfc3339(event.detected_at),
            }


def public_json(event: Event) -> str:
    """Return what a generic webhook receives: always valid JSON, also when encoded as UTF-8."""
    moment = to_rfc3339(event.detected_at)
    return f'{{"type":"{event.type.value}","timestamp":"{moment}","data":{data_json(event)}}}'


def data_json(event: Event) -> str:
    """Return the ``data`` member alone, which is what the state file keeps."""
    return compact_json(public_data(event)) if event.stored_data is None else event.stored_data


def from_stored(event_id: str, event_type: str, detected_at: str, data: str) -> Event:
    """Rebuild an event from what `data_json` wrote. Raises ValueError or KeyError when it did not."""
    members: Mapping[str, Any] = json.loads(data)
    about = _alert(members) if event_type == EventType.ALERT else _news(members)
    return Event(event_id, EventType(event_type), from_rfc3339(detected_at), about, data)


def _alert(members: Mapping[str, Any]) -> Alert:
    return Alert(Problem(members["problem"]), members["subject"], members["summary"], members["resolved"])


def _news(members: Mapping[str, Any]) -> TrackNews:
    try:
        track = parse(members["track"])
    except NotATrackError:
        track = None
    return TrackNews(
        members["audio_id"], members["name"], members["status"], members["previous_status"], track
    )
