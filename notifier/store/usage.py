"""Usage of the API by the hour. Each a function of a connection inside a transaction."""

import sqlite3
from datetime import datetime

from notifier.clock import from_rfc3339, to_rfc3339
from notifier.usage import Usage


def add(connection: sqlite3.Connection, hour: datetime, usage: Usage, *, kept_from: datetime) -> None:
    """Add to an hour, and forget those before a moment."""
    connection.execute(
        "INSERT INTO usage (hour, track, list, fixed) VALUES (?, ?, ?, ?) ON CONFLICT (hour) DO UPDATE SET"
        " track = track + excluded.track, list = list + excluded.list, fixed = fixed + excluded.fixed",
        (to_rfc3339(hour), round(usage.track), round(usage.list), usage.fixed),
    )
    connection.execute("DELETE FROM usage WHERE hour < ?", (to_rfc3339(kept_from),))


def by_hour(connection: sqlite3.Connection, since: datetime) -> dict[datetime, Usage]:
    """Return the usage of each hour from a moment on."""
    rows = connection.execute(
        "SELECT hour, track, list, fixed FROM usage WHERE hour >= ?", (to_rfc3339(since),)
    )
    return {from_rfc3339(hour): Usage(track, pages, fixed) for hour, track, pages, fixed in rows}
