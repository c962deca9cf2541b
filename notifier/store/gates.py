"""The transactions of the gates, each a function of a connection that is inside one.

A target's row says how the gate of its remote end stands; rows with one fingerprint are written together.
"""

import sqlite3
from datetime import datetime, timedelta

from notifier.clock import from_rfc3339, to_rfc3339
from notifier.gate import GateState
from notifier.store.rows import StoredGate, stored


def save_gate(connection: sqlite3.Connection, gate: StoredGate) -> None:
    """Remember how a gate stands under its name; writes nothing when an open gate stays open."""
    connection.execute(
        "INSERT INTO gate (name, state, reason, since, until, told_until, failures, fingerprint)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state,"
        " reason = excluded.reason, since = excluded.since, until = excluded.until,"
        " told_until = excluded.told_until, failures = excluded.failures,"
        " fingerprint = coalesce(excluded.fingerprint, fingerprint)"
        " WHERE NOT (state = 'open' AND excluded.state = 'open' "
        " AND (excluded.fingerprint IS NULL OR fingerprint IS excluded.fingerprint))",
        (gate.name, *_columns(gate), gate.fingerprint),
    )


def save_end(connection: sqlite3.Connection, gate: StoredGate) -> None:
    """Remember how the gate of a remote end stands, in the rows of all targets that ever had it."""
    connection.execute(
        "UPDATE gate SET state = ?, reason = ?, since = ?, until = ?, told_until = ?, failures = ?"
        " WHERE fingerprint = ?",
        (*_columns(gate), gate.fingerprint),
    )


def _columns(gate: StoredGate) -> tuple[str | int | None, ...]:
    since, until, told = to_rfc3339(gate.since), stored(gate.until), stored(gate.told_until)
    return gate.state.value, gate.reason, since, until, told, gate.failures


def begin(connection: sqlite3.Connection, gate: StoredGate) -> None:
    """Note that a target has another remote end than before; the time that it was paused does not count."""
    row = connection.execute("SELECT state, since FROM gate WHERE name = ?", (gate.name,)).fetchone()
    if row is not None and row[0] == GateState.PAUSED:
        _spare(connection, gate.name, since=from_rfc3339(row[1]), now=gate.since)
    save_gate(connection, gate)
    save_end(connection, gate)


def reopen(connection: sqlite3.Connection, target: str, now: datetime) -> bool:
    """Un-pause a target, and with it all with the same remote end; False when it was not paused.

    The time it was paused does not count. What the other side asked for is waited out all the same.
    """
    paused = connection.execute(
        "SELECT name, since FROM gate WHERE state = 'paused' AND (name = ?1 OR fingerprint ="
        " (SELECT fingerprint FROM gate WHERE name = ?1 AND state = 'paused'))",
        (target,),
    ).fetchall()
    for name, since in paused:
        _spare(connection, name, since=from_rfc3339(since), now=now)
        _open(connection, name, now)
    return bool(paused)


def _open(connection: sqlite3.Connection, name: str, now: datetime) -> None:
    """End pause and back-off; what the other side asked for stays."""
    connection.execute(
        "UPDATE gate SET state = CASE WHEN told_until > ?1 THEN 'waiting' ELSE 'open' END,"
        " until = CASE WHEN told_until > ?1 THEN told_until END, failures = 0, since = ?1 WHERE name = ?2",
        (to_rfc3339(now), name),
    )


def _spare(connection: sqlite3.Connection, target: str, *, since: datetime, now: datetime) -> None:
    """Let the time not count that a target's deliveries have waited in a pause."""
    rows = connection.execute(
        "SELECT id, counts_from FROM delivery WHERE target = ? AND state = 'pending'", (target,)
    ).fetchall()
    for row_id, counts_from in rows:
        counted = from_rfc3339(counts_from)
        paused = max(now - max(since, counted), timedelta(0))
        connection.execute(
            "UPDATE delivery SET counts_from = ? WHERE id = ?", (to_rfc3339(counted + paused), row_id)
        )


def end_back_off(connection: sqlite3.Connection, target: str, now: datetime) -> None:
    """End our own wait for a target's remote end; what the other side asked for stays."""
    rows = connection.execute(
        "SELECT name FROM gate WHERE state = 'waiting' AND (name = ?1 OR fingerprint ="
        " (SELECT fingerprint FROM gate WHERE name = ?1))",
        (target,),
    )
    for (name,) in rows.fetchall():
        _open(connection, name, now)
