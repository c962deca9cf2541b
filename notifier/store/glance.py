"""What the status page reads of the state file, in reads that stay cheap with thousands of rows."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from notifier.clock import from_rfc3339
from notifier.delivery import DeliveryState
from notifier.event import Event, from_stored
from notifier.store import accounts, reading
from notifier.store.rows import AccountRow, Backlog, StoredGate
from notifier.track import NotATrackError, Track, parse

_MOST_ATTEMPTS = 500
"""How many attempts are looked through for the last deliveries: many may be of the same."""


class TrackLine(NamedTuple):
    """A track in a list of thousands: moments are as the state file has them, which sorts them as text.

    NB: a tuple, which is made in a third of the time.
    """

    audio_id: str
    name: str | None
    status: str
    is_final: bool
    first_seen: str = ""
    changed_at: str = ""
    """Both are empty for a track that was never read."""


@dataclass(frozen=True, slots=True)
class Told:
    """A delivery with its event and what the last attempt came to, if there was one."""

    id: int
    event: Event
    target: str
    state: DeliveryState
    attempt_count: int
    at: datetime
    """When it was last tried, else when it was given up."""
    status: int | None
    answer: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Glance:
    """The state file at one moment."""

    tracks: Sequence[TrackLine]
    gates: Mapping[str, StoredGate]
    backlogs: Mapping[str, Backlog]
    recent: Sequence[Told]
    """The last deliveries that were tried and are no dead letters, the latest first."""
    dead: Sequence[Told]
    """The last dead letters, the latest first."""
    accounts: Mapping[str, AccountRow] = field(default_factory=dict)
    followed: Mapping[str, str] = field(default_factory=dict)
    """The tracks that accounts have brought, with the accounts."""


_TOLD = (
    "SELECT delivery.id, event.id, event.type, event.detected_at, event.data, target, delivery.state,"
    " attempt_count, coalesce(attempt.at, settled_at, created_at), attempt.status, attempt.answer, last_error"
)
_RECENT = (
    _TOLD + " FROM attempt JOIN delivery ON delivery.id = delivery_id"  # noqa: S608 - constants
    " JOIN event ON event.id = event_id"
    " WHERE attempt.id IN (SELECT max(attempt_id) FROM"
    " (SELECT id AS attempt_id, delivery_id FROM attempt ORDER BY id DESC LIMIT ?)"
    " JOIN delivery ON delivery.id = delivery_id AND delivery.state <> 'dead'"
    " GROUP BY delivery_id ORDER BY 1 DESC LIMIT ?) ORDER BY attempt.id DESC"
)
_DEAD = (
    _TOLD + " FROM delivery JOIN event ON event.id = event_id"  # noqa: S608 - constants
    " LEFT JOIN attempt ON attempt.id ="
    " (SELECT max(id) FROM attempt WHERE delivery_id = delivery.id)"
    " WHERE target = ? AND delivery.state = 'dead' ORDER BY delivery.id DESC LIMIT ?"
)
_DOCUMENTS = (
    "SELECT audio_id, as_returned FROM track WHERE as_returned IS NOT NULL"
    " AND audio_id IN (SELECT value FROM json_each(?))"
)


def revision(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return what changes whenever anybody has changed the state file: others, or this connection."""
    return reading.data_version(connection), connection.total_changes


def glance(
    connection: sqlite3.Connection, *, recent: int, dead: int, followed: Collection[str] = ()
) -> Glance:
    """Return the state file as the page shows it, with so many deliveries of each kind."""
    backlogs = reading.backlogs(connection)
    return Glance(
        _tracks(connection),
        reading.gates(connection),
        backlogs,
        _recent(connection, recent),
        _dead(connection, [target for target, backlog in backlogs.items() if backlog.dead], dead),
        accounts.accounts(connection) if followed else {},
        accounts.followed(connection, followed),
    )


def _tracks(connection: sqlite3.Connection) -> list[TrackLine]:
    # NB: only columns in front of the JSON: what is behind it costs reading all of it
    rows = connection.execute("SELECT audio_id, name, status, is_final, first_seen, changed_at FROM track")
    return [*map(TrackLine._make, rows)]


def _recent(connection: sqlite3.Connection, most: int) -> list[Told]:
    rows = connection.execute(_RECENT, (_MOST_ATTEMPTS, most))
    return [_told(row) for row in rows]


def _dead(connection: sqlite3.Connection, targets: Collection[str], most: int) -> list[Told]:
    """Return the last dead letters; asked for by target, since that is what there is an index for."""
    rows = chain.from_iterable(connection.execute(_DEAD, (target, most)) for target in targets)
    found = sorted((_told(row) for row in rows), key=lambda told: (told.at, told.id), reverse=True)
    return found[:most]


def _told(row: Sequence[object]) -> Told:
    number, event_id, kind, detected_at, data, target, state, count, at, status, answer, error = row
    return Told(
        number,  # type: ignore[arg-type] # SQLite's STRICT tables hold what schema.sql says
        from_stored(str(event_id), str(kind), str(detected_at), str(data)),
        str(target),
        DeliveryState(str(state)),
        count,  # type: ignore[arg-type]
        from_rfc3339(str(at)),
        status,  # type: ignore[arg-type]
        "" if answer is None else str(answer),
        error,  # type: ignore[arg-type]
    )


def documents(connection: sqlite3.Connection, audio_ids: Sequence[str]) -> dict[str, Track]:
    """Return tracks as the API last returned them, by audio_id; those it never returned are left out."""
    found: dict[str, Track] = {}
    for audio_id, text in connection.execute(_DOCUMENTS, (json.dumps(audio_ids),)):
        try:
            found[audio_id] = parse(json.loads(text))
        except (NotATrackError, ValueError, RecursionError):
            continue  # written by another version, or by hand
    return found
