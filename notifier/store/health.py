"""How the state file is as a file, seen without a trace: version, integrity, owners, room on the disk."""

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from notifier.store.database import STEPS, explained, open_as_it_is

_INSTRUCTIONS = 10_000
"""After how many steps of SQLite's the time is looked at."""


@dataclass(frozen=True, slots=True)
class FileHealth:
    """How a state file is that can be opened."""

    version: int
    newest: int
    """The version that this program makes."""
    size: int
    verdict: str | None
    """What SQLite says of its pages, ``ok`` if all is well; None when looking took too long."""


def look(path: Path, *, seconds: float) -> FileHealth:
    """Look at a state file, at its pages for so long at the most. Raises StorageError."""
    connection = open_as_it_is(path)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return FileHealth(version, len(STEPS), path.stat().st_size, _verdict(connection, seconds))
    except sqlite3.Error as error:
        raise explained(error, path) from error
    finally:
        connection.close()


def _verdict(connection: sqlite3.Connection, seconds: float) -> str | None:
    until = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > until, _INSTRUCTIONS)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    return str(verdict)


def files_of(path: Path) -> list[Path]:
    """Return the directory of a state file and those of its files that exist."""
    beside = (path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", ".lock")))
    return [one for one in (path.parent, *beside) if one.exists()]


def may_write(path: Path, uid: int, gid: int) -> bool:
    """Say whether a user may write a file or a directory, by its owner and mode. Raises OSError."""
    about = path.stat()
    if uid == 0:
        return True
    if about.st_uid == uid:
        return bool(about.st_mode & 0o200)
    return bool(about.st_mode & (0o020 if about.st_gid == gid else 0o002))


def room(path: Path) -> int:
    """Return how many bytes may still be written where a file is, or would be. Raises OSError."""
    place = next(one for one in (path, *path.parents) if one.exists())
    about = os.statvfs(place)
    return about.f_bavail * about.f_frsize
