"""How long tracks took, as far as that is kept. Each a function of a connection inside a transaction."""

import sqlite3

from notifier.durations import Ending

_OF_A_MODEL = 100
"""How many tracks of a model are kept: earlier ones hardly count any more."""
_IN_ALL = 2000
"""Out of how many of the latest, lest an API that makes models up fills the disk."""


def record(connection: sqlite3.Connection, ending: Ending) -> None:
    """Remember how long a track took, and forget what is too old to count."""
    connection.execute("DELETE FROM duration WHERE audio_id = ?", (ending.audio_id,))
    connection.execute(
        "INSERT INTO duration (audio_id, model, seconds, is_end, gain, on_paper, is_surprise)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            ending.audio_id,
            ending.model,
            ending.seconds,
            ending.is_end,
            ending.gain,
            ending.on_paper,
            ending.is_surprise,
        ),
    )
    connection.execute(
        "DELETE FROM duration WHERE model = ? AND id <="
        " (SELECT id FROM duration WHERE model = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (ending.model, ending.model, _OF_A_MODEL),
    )
    connection.execute("DELETE FROM duration WHERE id <= (SELECT max(id) FROM duration) - ?", (_IN_ALL,))


def endings(connection: sqlite3.Connection) -> list[Ending]:
    """Return what is kept, in the order of its coming."""
    rows = connection.execute(
        "SELECT audio_id, model, seconds, is_end, gain, on_paper, is_surprise FROM duration ORDER BY id"
    )
    return [
        Ending(
            audio_id, model, seconds, is_end=bool(is_end), gain=gain, on_paper=on_paper, is_surprise=bool(odd)
        )
        for audio_id, model, seconds, is_end, gain, on_paper, odd in rows
    ]
