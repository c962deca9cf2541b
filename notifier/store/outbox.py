"""The transactions of the outbox, each a function of a connection that is inside one."""

import json
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from notifier.clock import from_rfc3339, to_rfc3339
from notifier.delivery import Delivery, DeliveryState
from notifier.event import Alert, Event, Problem, data_json, from_stored
from notifier.store import accounts, gates
from notifier.store.rows import Owed, Settlement, stored
from notifier.track import Track, compact_json
from notifier.transition import Sighting

_PROOF = 65_536
_OWED = (
    "SELECT delivery.id, attempt_count, counts_from, event.id, type, detected_at, data"
    " FROM delivery JOIN event ON event.id = event_id"
)


def record(
    connection: sqlite3.Connection,
    audio_id: str,
    sighting: Sighting,
    track: Track | None,
    *,
    owed: Iterable[Owed],
    now: datetime,
) -> None:
    """Remember a changed track together with the deliveries that its events are owed."""
    connection.execute(
        "INSERT INTO track"
        " (audio_id, name, status, is_final, first_seen, changed_at, stalled_at, as_returned)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (audio_id) DO UPDATE SET name = excluded.name,"
        " status = excluded.status, is_final = excluded.is_final, changed_at = excluded.changed_at,"
        " stalled_at = excluded.stalled_at, as_returned = coalesce(excluded.as_returned, as_returned)",
        (
            audio_id,
            _storable(sighting.name),
            _storable(sighting.status),
            sighting.is_final,
            to_rfc3339(sighting.first_seen),
            to_rfc3339(now),
            stored(sighting.stalled_at),
            compact_json(track.fields) if track is not None else None,
        ),
    )
    for each in owed:
        owe(connection, each, now)


def _storable(text: str | None) -> str | None:
    """Return text that SQLite can encode: lone surrogates become U+FFFD."""
    return None if text is None else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def owe(connection: sqlite3.Connection, owed: Owed, now: datetime) -> None:
    """Put an event into the outbox, pending for each of its targets. Doing it again changes nothing."""
    event = owed.event
    connection.execute(
        "INSERT INTO event (id, type, audio_id, name, detected_at, data) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (
            event.id,
            event.type.value,
            event.audio_id,
            _storable(event.name),
            to_rfc3339(event.detected_at),
            data_json(event),
        ),
    )
    connection.executemany(
        "INSERT INTO delivery (event_id, target, created_at, counts_from) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (event_id, target) DO NOTHING",
        [(event.id, target, to_rfc3339(now), to_rfc3339(event.detected_at)) for target in owed.targets],
    )


def report(
    connection: sqlite3.Connection,
    alert: Alert,
    event: Event,
    *,
    targets: tuple[str, ...],
    now: datetime,
    told: Collection[str] = (),
) -> Event | None:
    """Note that a problem has begun or is over and owe the alert; None when that was known already.

    What was `told` before it could be written down counts as delivered.
    """
    key = (alert.problem.value, alert.subject)
    if alert.is_resolved:
        changed = connection.execute("DELETE FROM problem WHERE problem = ? AND subject = ?", key).rowcount
    else:
        changed = connection.execute(
            "INSERT INTO problem (problem, subject, summary, since) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (problem, subject) DO NOTHING",
            (*key, _storable(alert.summary), to_rfc3339(now)),
        ).rowcount
    if not changed:
        return None
    if targets:
        owe(connection, Owed(event, targets), now)
    for target in told:
        settle(connection, _told(connection, event, target, now))
    return event


def _told(connection: sqlite3.Connection, event: Event, target: str, now: datetime) -> Settlement:
    """Return what a delivery came to that was made while nothing could be written down."""
    rows = connection.execute(
        "SELECT id FROM delivery WHERE event_id = ? AND target = ?", (event.id, target)
    ).fetchall()
    return Settlement(
        target=target,
        deliveries=tuple(row[0] for row in rows),
        at=now,
        status=None,
        answer="told while the state file could not be written",
        error="",
        outcome="delivered",
        state=DeliveryState.DELIVERED,
    )


def due(
    connection: sqlite3.Connection, target: str, limit: int, under_way: Collection[int]
) -> list[Delivery]:
    """Return the oldest pending deliveries of a target that are not under way, in the order of events."""
    rows = connection.execute(
        f"{_OWED} WHERE target = ? AND state = 'pending' ORDER BY delivery.id LIMIT ?",
        (target, limit + len(under_way)),
    )
    waiting = [_owed(row) for row in rows if row[0] not in under_way]
    return waiting[:limit]


def least_tried(connection: sqlite3.Connection, target: str, under_way: Collection[int]) -> list[Delivery]:
    """Return a pending delivery of a target that was tried least often and is not under way, if there is one.

    One that comes after another one of the same track only if there is no other: who hears last that a track
    takes long takes that for true.
    NB: any of several, since those that came one after the other may be alike.
    """
    found = connection.execute(
        "SELECT delivery.id FROM delivery JOIN event ON event.id = event_id"
        " WHERE target = ? AND state = 'pending' AND delivery.id NOT IN (SELECT value FROM json_each(?))"
        " ORDER BY EXISTS ("
        "  SELECT 1 FROM event AS former JOIN delivery AS before ON before.event_id = former.id"
        "  WHERE former.audio_id IS event.audio_id AND before.target = delivery.target"
        "  AND before.state = 'pending' AND before.id < delivery.id"
        " ), attempt_count, random() LIMIT 1",
        (target, json.dumps([*under_way])),
    ).fetchall()
    return [_owed(row) for one in found for row in connection.execute(f"{_OWED} WHERE delivery.id = ?", one)]


def _owed(row: tuple[Any, ...]) -> Delivery:
    delivery, count, counts_from, event, event_type, detected_at, data = row
    return Delivery(
        delivery, from_stored(event, event_type, detected_at, data), count, from_rfc3339(counts_from)
    )


def settle(connection: sqlite3.Connection, settlement: Settlement) -> dict[str, list[int]]:
    """Write down an attempt and what follows from it; return what is dead letters now, of each target."""
    at, is_settled = to_rfc3339(settlement.at), settlement.state is not DeliveryState.PENDING
    is_delivered = settlement.state is DeliveryState.DELIVERED
    for delivery in settlement.deliveries:
        changed = connection.execute(
            "UPDATE delivery SET attempt_count = attempt_count + 1, state = ?, settled_at = ?,"
            " last_status = ?, last_error = ? WHERE id = ? AND state = 'pending'",
            (
                settlement.state.value,
                at if is_settled else None,
                settlement.status,
                None if is_delivered else settlement.error,
                delivery,
            ),
        ).rowcount
        if changed:  # NB: a person may have dropped it while the attempt was under way
            connection.execute(
                "INSERT INTO attempt (delivery_id, at, status, answer, outcome) VALUES (?, ?, ?, ?, ?)",
                (delivery, at, settlement.status, settlement.answer, settlement.outcome),
            )
    if settlement.gate is not None:
        gates.save_end(connection, settlement.gate)
    dead = {}
    if settlement.state is DeliveryState.DEAD:
        dead[settlement.target] = list(settlement.deliveries)
    if settlement.expires is not None:
        dead |= _expire_behind(connection, settlement, settlement.expires)
    return dead


def _expire_behind(
    connection: sqlite3.Connection, settlement: Settlement, before: datetime
) -> dict[str, list[int]]:
    spared = settlement.under_way - set(settlement.deliveries)
    given_up = {
        name: expire(connection, name, before, at=settlement.at, why=settlement.given_up, spared=spared)
        for name in settlement.behind
    }
    return {target: deliveries for target, deliveries in given_up.items() if deliveries}


def expire(
    connection: sqlite3.Connection,
    target: str,
    counted_before: datetime,
    *,
    at: datetime,
    why: str,
    spared: Collection[int] = (),
) -> list[int]:
    """Give up the pending deliveries of a target whose time counts from before a moment."""
    rows = connection.execute(
        "SELECT id FROM delivery WHERE target = ? AND state = 'pending' AND counts_from <= ? ORDER BY id",
        (target, to_rfc3339(counted_before)),
    ).fetchall()
    given_up = [row[0] for row in rows if row[0] not in spared]
    connection.executemany(
        "UPDATE delivery SET state = 'dead', settled_at = ?, last_error = ? WHERE id = ?",
        [(to_rfc3339(at), why, delivery) for delivery in given_up],
    )
    return given_up


def leap(connection: sqlite3.Connection, unlived: timedelta, now: datetime) -> None:
    """Let no delivery and no pause count as older by what the wall clock has moved beside living."""
    for query, update in (
        (
            "SELECT id, counts_from FROM delivery WHERE state = 'pending'",
            "UPDATE delivery SET counts_from = ? WHERE id = ?",
        ),
        ("SELECT name, since FROM gate WHERE state = 'paused'", "UPDATE gate SET since = ? WHERE name = ?"),
    ):
        moments = connection.execute(query).fetchall()
        connection.executemany(update, [(_leapt(moment, unlived, now), key) for key, moment in moments])


def _leapt(moment: str, unlived: timedelta, now: datetime) -> str:
    """Return since when something lasts by the clock as it is now.

    NB: which of the clock's two readings was right when it began, nobody knows; the one counts by which it
    has lasted less.
    """
    age = now - from_rfc3339(moment)
    ages = [possible for possible in (age, age - unlived) if possible >= timedelta(0)]
    return to_rfc3339(now - min(ages, default=timedelta(0)))


def replay(connection: sqlite3.Connection, ids: Sequence[int], now: datetime) -> list[int]:
    """Make deliveries pending again, with all their time before them; return those that exist undelivered.

    A wait that was only our own back-off ends, so that the attempt comes at once; one that the other side
    named does not.
    """
    replayed = []
    for delivery in ids:
        row = connection.execute(
            "UPDATE delivery SET state = 'pending', counts_from = ?, settled_at = NULL"
            " WHERE id = ? AND state <> 'delivered' RETURNING target",
            (to_rfc3339(now), delivery),
        ).fetchone()
        if row is None:
            continue
        replayed.append(delivery)
        gates.end_back_off(connection, row[0], now)
    return replayed


def drop(connection: sqlite3.Connection, ids: Sequence[int]) -> list[int]:
    """Delete deliveries for good; return those that existed."""
    return [
        delivery
        for delivery in ids
        if connection.execute("DELETE FROM delivery WHERE id = ?", (delivery,)).rowcount
    ]


def mark_watched(
    connection: sqlite3.Connection, listed: Collection[str], followed: Collection[str], now: datetime
) -> None:
    """Note which tracks the watchlist names now, or the accounts on it, and since when not the others."""
    accounts.keep_only(connection, followed)
    watched = {*listed, *accounts.followed(connection, followed)}
    rows = connection.execute("SELECT audio_id, unwatched_since FROM track").fetchall()
    returned = [(audio_id,) for audio_id, since in rows if since is not None and audio_id in watched]
    removed = [
        (to_rfc3339(now), audio_id) for audio_id, since in rows if since is None and audio_id not in watched
    ]
    connection.executemany("UPDATE track SET unwatched_since = NULL WHERE audio_id = ?", returned)
    connection.executemany("UPDATE track SET unwatched_since = ? WHERE audio_id = ?", removed)
    problems = connection.execute(
        "SELECT DISTINCT subject FROM problem WHERE problem IN"
        " ('track_missing', 'track_stalled', 'track_unreadable')"
    ).fetchall()
    connection.executemany(
        "DELETE FROM problem WHERE subject = ? AND problem IN"
        " ('track_missing', 'track_stalled', 'track_unreadable')",
        [subject for subject in problems if subject[0] not in watched],
    )


def prove(connection: sqlite3.Connection) -> None:
    """Write something that is nowhere yet."""
    connection.execute(
        "INSERT INTO fact (name, value) VALUES ('proof', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (secrets.token_hex(_PROOF // 2),),
    )


def forget(connection: sqlite3.Connection, unwatched_before: datetime, listed: Collection[str]) -> int:
    """Delete tracks off the watchlist since before a moment, with what was sent; pending ones stay.

    So are those deleted that an account has brought and that ended as long ago, unless the watchlist names
    them, and alerts of no track that are as old. Returns how many rows went.
    """
    accounts.retire(connection, unwatched_before, listed)
    moment = to_rfc3339(unwatched_before)
    events = connection.execute(
        "DELETE FROM event WHERE detected_at <= ? AND (audio_id IS NULL OR audio_id NOT IN"
        " (SELECT audio_id FROM track WHERE unwatched_since IS NULL OR unwatched_since > ?))"
        " AND NOT EXISTS"
        " (SELECT 1 FROM delivery WHERE delivery.event_id = event.id AND state = 'pending')",
        (moment, moment),
    ).rowcount
    tracks = connection.execute(
        "DELETE FROM track WHERE unwatched_since <= ? AND NOT EXISTS"
        " (SELECT 1 FROM event WHERE event.audio_id = track.audio_id)",
        (moment,),
    ).rowcount
    return events + tracks + accounts.forget(connection, unwatched_before)


def forget_problems(connection: sqlite3.Connection, problems: Collection[tuple[Problem, str]]) -> None:
    """Close problems with their subjects, telling nobody."""
    connection.executemany(
        "DELETE FROM problem WHERE problem = ? AND subject = ?",
        [(problem.value, subject) for problem, subject in problems],
    )
