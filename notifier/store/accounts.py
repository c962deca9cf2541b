"""The transactions around accounts that are followed, each a function of a connection that is inside one."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from notifier.bookmark import Bookmark, Gap
from notifier.clock import from_rfc3339, to_rfc3339
from notifier.store import reading
from notifier.store.rows import AccountRow
from notifier.transition import Sighting

_UNDER_WAY = (
    "SELECT followed.audio_id, account FROM followed LEFT JOIN track ON track.audio_id = followed.audio_id"
    " WHERE coalesce(track.is_final, 0) = 0 ORDER BY found_at, followed.audio_id"
)
_LIVING = (
    "SELECT account.account, bookmark, looked_at, trouble, count(followed.audio_id), max(found_at),"
    " count(followed.audio_id) FILTER (WHERE coalesce(track.is_final, 0) = 0)"
    " FROM account LEFT JOIN followed ON followed.account = account.account"
    " LEFT JOIN track ON track.audio_id = followed.audio_id GROUP BY account.account"
)


def accounts(connection: sqlite3.Connection) -> dict[str, AccountRow]:
    """Return what is known of each account's list, by its address."""
    return {
        account: AccountRow(
            account,
            None if bookmark is None else read_bookmark(json.loads(bookmark)),
            _moment(looked),
            trouble,
            found,
            _moment(last),
            under_way,
        )
        for account, bookmark, looked, trouble, found, last, under_way in connection.execute(_LIVING)
    }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else from_rfc3339(text)


def read_bookmark(members: Mapping[str, Any]) -> Bookmark:
    """Return the bookmark that `discover` wrote."""
    gap = members["gap"]
    names = {name: tuple(gap[name]) for name in ("seen", "tail", "held")} if gap is not None else {}
    return Bookmark(
        from_rfc3339(members["since"]),
        tuple(members["known"]),
        members["is_whole"],
        None if gap is None else Gap(**{**gap, **names}),
    )


def discover(
    connection: sqlite3.Connection,
    account: str,
    bookmark: Bookmark | None,
    found: Iterable[str],
    *,
    trouble: str | None,
    now: datetime,
) -> dict[str, Sighting | None]:
    """Remember how far a list is known together with what it has brought.

    Returns what is new of it, with what is remembered of each from a time before.
    """
    members = None if bookmark is None else {**asdict(bookmark), "since": to_rfc3339(bookmark.since)}
    connection.execute(
        "INSERT INTO account (account, bookmark, looked_at, trouble) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (account) DO UPDATE SET bookmark = excluded.bookmark, trouble = excluded.trouble,"
        " looked_at = coalesce(excluded.looked_at, looked_at)",
        (
            account,
            None if members is None else json.dumps(members),
            None if trouble is not None else to_rfc3339(now),
            trouble,
        ),
    )
    new = [one for one in found if _is_new(connection, account, one, now)]
    return {audio_id: reading.sighting(connection, audio_id) for audio_id in new}


def _is_new(connection: sqlite3.Connection, account: str, audio_id: str, now: datetime) -> bool:
    """Note a track as found; False when it was found before."""
    is_new = connection.execute(
        "INSERT INTO followed (audio_id, account, found_at) VALUES (?, ?, ?)"
        " ON CONFLICT (audio_id) DO NOTHING",
        (audio_id, account, to_rfc3339(now)),
    ).rowcount
    if is_new:
        connection.execute("UPDATE track SET unwatched_since = NULL WHERE audio_id = ?", (audio_id,))
    return bool(is_new)


def under_way(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the tracks that were found and have not ended, with their accounts, in the order of finding."""
    return dict(connection.execute(_UNDER_WAY).fetchall())


def followed(connection: sqlite3.Connection, accounts: Collection[str]) -> dict[str, str]:
    """Return all tracks that some accounts have brought, with their accounts."""
    rows = connection.execute("SELECT audio_id, account FROM followed") if accounts else ()
    return {audio_id: account for audio_id, account in rows if account in accounts}


def keep_only(connection: sqlite3.Connection, accounts: Collection[str]) -> None:
    """Forget how far the lists of all other accounts are known, and their problems."""
    known = connection.execute("SELECT account FROM account").fetchall()
    gone = [row for row in known if row[0] not in accounts]
    connection.executemany("DELETE FROM account WHERE account = ?", gone)
    problems = connection.execute(
        "SELECT subject FROM problem WHERE problem = 'account_unreadable'"
    ).fetchall()
    connection.executemany(
        "DELETE FROM problem WHERE problem = 'account_unreadable' AND subject = ?",
        [row for row in problems if row[0] not in accounts],
    )


def retire(connection: sqlite3.Connection, ended_before: datetime, listed: Collection[str]) -> None:
    """Let tracks count as off the watchlist that were found, have ended long ago and have no entry."""
    rows = connection.execute(
        "SELECT track.audio_id FROM track JOIN followed ON followed.audio_id = track.audio_id"
        " WHERE is_final = 1 AND unwatched_since IS NULL AND changed_at <= ?",
        (to_rfc3339(ended_before),),
    ).fetchall()
    connection.executemany(
        "UPDATE track SET unwatched_since = changed_at WHERE audio_id = ?",
        [row for row in rows if row[0] not in listed],
    )


def forget(connection: sqlite3.Connection, before: datetime) -> int:
    """Delete what was found before a moment and is no track any more; return how many rows went."""
    return connection.execute(
        "DELETE FROM followed WHERE found_at <= ? AND audio_id NOT IN (SELECT audio_id FROM track)",
        (to_rfc3339(before),),
    ).rowcount
