"""What is read of the state file: the gates, the tracks, the outbox as people see it."""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime

from notifier.clock import from_rfc3339
from notifier.delivery import DeliveryState
from notifier.event import Problem
from notifier.gate import GateState
from notifier.store.rows import AttemptRow, Backlog, DeliveryRow, StoredGate, TrackRow
from notifier.transition import Sighting

_DELIVERY = (
    "SELECT delivery.id, event_id, event.type, event.audio_id, event.name, target, delivery.state,"
    " attempt_count, created_at, gate.state, gate.until, last_status, last_error"
    " FROM delivery JOIN event ON event.id = event_id LEFT JOIN gate ON gate.name = target"
)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else from_rfc3339(text)


def sightings(connection: sqlite3.Connection) -> dict[str, Sighting]:
    """Return what is remembered of every track."""
    rows = connection.execute("SELECT audio_id, status, is_final, name, first_seen, stalled_at FROM track")
    return {
        audio_id: Sighting(status, bool(is_final), name, from_rfc3339(first), _moment(stalled))
        for audio_id, status, is_final, name, first, stalled in rows
    }


def sighting(connection: sqlite3.Connection, audio_id: str) -> Sighting | None:
    """Return what is remembered of one track."""
    row = connection.execute(
        "SELECT status, is_final, name, first_seen, stalled_at FROM track WHERE audio_id = ?", (audio_id,)
    ).fetchone()
    if row is None:
        return None
    status, is_final, name, first, stalled = row
    return Sighting(status, bool(is_final), name, from_rfc3339(first), _moment(stalled))


def tracks(connection: sqlite3.Connection) -> list[TrackRow]:
    """Return every track, as ``status`` shows it."""
    rows = connection.execute(
        "SELECT audio_id, name, status, is_final, first_seen, stalled_at, changed_at, unwatched_since"
        " FROM track ORDER BY first_seen, audio_id"
    )
    return [
        TrackRow(
            audio_id,
            name,
            Sighting(status, bool(is_final), name, from_rfc3339(first), _moment(stalled)),
            from_rfc3339(changed),
            _moment(unwatched),
        )
        for audio_id, name, status, is_final, first, stalled, changed, unwatched in rows
    ]


def as_returned(connection: sqlite3.Connection, audio_id: str) -> str | None:
    """Return the JSON of a track as it was last written down."""
    row = connection.execute("SELECT as_returned FROM track WHERE audio_id = ?", (audio_id,)).fetchone()
    return None if row is None else row[0]


def gates(connection: sqlite3.Connection) -> dict[str, StoredGate]:
    """Return every gate by its name."""
    rows = connection.execute(
        "SELECT name, state, reason, since, until, told_until, failures, fingerprint FROM gate"
    )
    return {
        name: StoredGate(
            name,
            GateState(state),
            reason,
            from_rfc3339(since),
            _moment(until),
            _moment(told),
            failures,
            fingerprint,
        )
        for name, state, reason, since, until, told, failures, fingerprint in rows
    }


def problems(connection: sqlite3.Connection) -> set[tuple[Problem, str]]:
    """Return the open problems and their subjects."""
    rows = connection.execute("SELECT problem, subject FROM problem")
    return {(Problem(problem), subject) for problem, subject in rows}


def backlogs(connection: sqlite3.Connection) -> dict[str, Backlog]:
    """Return how the outbox stands, by target.

    NB: the counts come from the index alone; only what is pending is looked at, which is little of it all.
    """
    counts: dict[str, dict[str, int]] = {}
    for target, state, count in connection.execute(
        "SELECT target, state, count(*) FROM delivery GROUP BY target, state"
    ):
        counts.setdefault(target, {})[state] = count
    return {
        target: Backlog(
            by_state.get(DeliveryState.PENDING, 0),
            by_state.get(DeliveryState.DEAD, 0),
            by_state.get(DeliveryState.DELIVERED, 0),
            _oldest_pending(connection, target) if DeliveryState.PENDING in by_state else None,
        )
        for target, by_state in counts.items()
    }


def _oldest_pending(connection: sqlite3.Connection, target: str) -> datetime | None:
    (oldest,) = connection.execute(
        "SELECT min(created_at) FROM delivery WHERE target = ? AND state = 'pending'", (target,)
    ).fetchone()
    return _moment(oldest)


def newest_errors(connection: sqlite3.Connection) -> dict[str, str]:
    """Return why the last dead letter of each target was given up."""
    rows = connection.execute(
        "SELECT target, last_error, max(settled_at) FROM delivery"
        " WHERE state = 'dead' AND last_error IS NOT NULL GROUP BY target"
    )
    return {target: error for target, error, _ in rows}


def deliveries(
    connection: sqlite3.Connection,
    *,
    target: str | None = None,
    state: str | None = None,
    ids: Sequence[int] | None = None,
    newest: int | None = None,
) -> list[DeliveryRow]:
    """Return deliveries in the order of their events, filtered; `newest` bounds their number."""
    conditions, values = ["1"], []
    if target is not None:
        conditions.append("target = ?")
        values.append(target)
    if state is not None:
        conditions.append("delivery.state = ?")
        values.append(state)
    if ids is not None:
        conditions.append(f"delivery.id IN ({','.join(str(int(one)) for one in ids)})")
    limit = f" LIMIT {int(newest)}" if newest is not None else ""
    rows = connection.execute(
        f"{_DELIVERY} WHERE {' AND '.join(conditions)} ORDER BY delivery.id DESC{limit}", values
    ).fetchall()
    return [_delivery(row) for row in reversed(rows)]


def _delivery(row: tuple[object, ...]) -> DeliveryRow:
    (
        row_id,
        event_id,
        event_type,
        audio_id,
        name,
        target,
        state,
        count,
        created,
        gate,
        until,
        status,
        error,
    ) = row
    return DeliveryRow(
        row_id,  # type: ignore[arg-type] # SQLite's STRICT tables hold what schema.sql says
        event_id,  # type: ignore[arg-type]
        event_type,  # type: ignore[arg-type]
        audio_id,  # type: ignore[arg-type]
        name,  # type: ignore[arg-type]
        target,  # type: ignore[arg-type]
        DeliveryState(str(state)),
        count,  # type: ignore[arg-type]
        from_rfc3339(str(created)),
        _next_attempt(str(state), gate, until, str(created)),
        status,  # type: ignore[arg-type]
        error,  # type: ignore[arg-type]
    )


def _next_attempt(state: str, gate: object, until: object, created: str) -> datetime | None:
    """Return when a delivery is tried next: with its target's gate, and never while that is paused."""
    if state != DeliveryState.PENDING or gate == GateState.PAUSED:
        return None
    return from_rfc3339(str(until)) if gate == GateState.WAITING and until else from_rfc3339(created)


def attempts(connection: sqlite3.Connection, delivery: int) -> list[AttemptRow]:
    """Return the attempts of a delivery, oldest first."""
    rows = connection.execute(
        "SELECT at, status, answer, outcome FROM attempt WHERE delivery_id = ? ORDER BY id", (delivery,)
    )
    return [AttemptRow(from_rfc3339(at), status, answer, outcome) for at, status, answer, outcome in rows]


def ids_in_state(connection: sqlite3.Connection, state: str, target: str | None) -> Iterator[int]:
    """Yield the deliveries in a state, of one target or of all."""
    rows = connection.execute(
        "SELECT id FROM delivery WHERE state = ? AND (? IS NULL OR target = ?) ORDER BY id",
        (state, target, target),
    )
    yield from (row[0] for row in rows.fetchall())


def salt(connection: sqlite3.Connection) -> str | None:
    """Return the state file's random text for fingerprints; None while it has none."""
    row = connection.execute("SELECT value FROM fact WHERE name = 'salt'").fetchone()
    return None if row is None else str(row[0])


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another process has changed the state file."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
