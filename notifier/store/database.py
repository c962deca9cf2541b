"""The state file as a file: opening, its version, its lock, and what is wrong when that fails.

Source of the pragmas: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from notifier.text import one_line

_APPLICATION_ID = 0x50585631  # "PXV1"
_BUSY_TIMEOUT_MS = 30_000
_SHORT_TIMEOUT_MS = 500
"""The patience of one try once the file is open; whoever tries decides how often."""
_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES})
_LOCK_TRIES = 20
_LOCK_PAUSE = 0.05

STEPS: Sequence[str] = tuple(
    files(__package__).joinpath(name).read_text(encoding="utf-8")
    for name in ("schema.sql", "schema-2.sql", "schema-3.sql", "schema-4.sql", "schema-5.sql")
)
"""What takes a state file from each version to the next; version N has the first N steps behind it."""


class StorageError(Exception):
    """The state file cannot be read or written; the message says which and why."""


class CorruptError(StorageError):
    """The state file is damaged; whatever else is written to it makes that worse."""


class InUseError(Exception):
    """Another daemon holds the state file."""


def open_database(path: Path, *, steps: Sequence[str] = STEPS) -> sqlite3.Connection:
    """Open the state file for writing, make it or bring it to this version first. Raises StorageError."""
    with _explained(path):
        _create_private(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_MS / 1000)
        try:
            _check_identity(connection, path, steps)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _keep_off_other_disks(connection)
            _check_integrity(connection, path)
            _migrate(connection, steps)
            connection.execute(f"PRAGMA busy_timeout = {_SHORT_TIMEOUT_MS}")
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the state file as `open_as_it_is` does, and read one of an earlier version as one of this version.

    So that whoever only looks can do so between an upgrade and the daemon's next start. Raises StorageError.
    """
    connection = open_as_it_is(path)
    with _explained(path):
        try:
            is_earlier = _version(connection) < len(STEPS)
            return _brought_up_to_date(connection) if is_earlier else connection
        except BaseException:
            connection.close()
            raise


def open_as_it_is(path: Path) -> sqlite3.Connection:
    """Open the state file without changing anything on the disk. Raises StorageError."""
    has_log = path.with_name(f"{path.name}-wal").exists()
    # NB: without a write-ahead log nobody writes; SQLite would create one even to read, so forbid that.
    mode = "mode=ro" if has_log else "mode=ro&immutable=1"
    with _explained(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None, timeout=5
        )
        try:
            _keep_off_other_disks(connection)
            _check_identity(connection, path, STEPS)
        except BaseException:
            connection.close()
            raise
    return connection


def _brought_up_to_date(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy in memory that is of this version, in the place of a connection."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.backup(copy)
        _migrate(copy, STEPS)
    except BaseException:
        copy.close()
        raise
    connection.close()
    return copy


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _keep_off_other_disks(connection: sqlite3.Connection) -> None:
    """Let SQLite keep what is large and passing in memory: a container may have nowhere else to write."""
    connection.execute("PRAGMA temp_store = MEMORY")


def _create_private(path: Path) -> None:
    """Make the directory and the file for their owner's eyes only; leave existing ones as they are."""
    _make_private(path.parent)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _make_private(directory: Path) -> None:
    """Make a directory and those above it that are missing, none of which others may enter or change."""
    for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(exist_ok=True)  # raises where something else stands in its place


def _check_identity(connection: sqlite3.Connection, path: Path, steps: Sequence[str]) -> None:
    version = _version(connection)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and (tables or version):
        raise StorageError(f"{path} is a database of another program")
    if version > len(steps):
        raise StorageError(
            f"{path} was written by a newer version (schema {version}, this one knows {len(steps)}): "
            "upgrade pixverse-notifier or restore a backup"
        )


def _check_integrity(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise CorruptError(_corrupt(path, verdict))


def _migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Take every missing step in one transaction: the file is at the old version or at the new one."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        for step in steps[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        if version < len(steps):
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script; ``executescript`` would commit the transaction that a migration needs."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"{path} cannot be written: {path.parent} is not a directory") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def explained(error: sqlite3.Error, path: Path) -> StorageError:
    """Return an error of SQLite in the words of the person who has to mend it."""
    text = str(error)
    if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
        return CorruptError(_corrupt(path, text))
    return StorageError(f"{path} {_meaning(text, path)}")


def _corrupt(path: Path, how: str) -> str:
    found = one_line(how.removeprefix("*** in database main ***"))
    return f"{path} is corrupt ({found}): restore a backup or move the file away"


def _meaning(text: str, path: Path) -> str:
    if "disk is full" in text:
        return "cannot be written: the disk is full"
    if "unable to open" in text and not os.access(path, os.R_OK):
        return "cannot be read: permission denied"
    if "readonly" in text:
        return "cannot be written: it is read-only for this user"
    if "locked" in text:
        return "cannot be used: another process has locked it"
    return f"cannot be used: {text}"


class Footing:
    """The very files that a connection has open, to tell whether they still stand where they stood.

    NB: SQLite goes on writing to a file that was deleted, moved or replaced, and nothing of it is there after
    a restart. The write-ahead log counts as well: it holds what is committed last.
    """

    def __init__(self, path: Path) -> None:
        self._files = {one: _identity(one) for one in (path, path.with_name(f"{path.name}-wal"))}

    def check(self) -> None:
        """Raise StorageError when a file has gone or is another one now."""
        for file, known in self._files.items():
            found = _identity(file)
            if known is None:
                self._files[file] = found  # NB: the log is made by the first transaction
            elif found is None:
                raise StorageError(
                    f"{file} has vanished while in use: put it back; "
                    "a restart begins a new one, which knows nothing of what was told"
                )
            elif found != known:
                raise StorageError(
                    f"{file} was replaced while in use: restart the notifier to use the new one"
                )


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        about = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{file} cannot be used: {error.strerror}") from error
    return about.st_dev, about.st_ino


class RunLock:
    """Holds the state file for one daemon until the process ends, however it ends."""

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file
        self._path = _lock_path(state_file)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises InUseError when another process has it, StorageError when it cannot exist."""
        with _explained(self._state_file):
            _make_private(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                raise InUseError(f"another notifier is running on {self._state_file}") from None
            raise StorageError(f"{self._state_file} cannot be locked: {error.strerror}") from error
        self._descriptor = descriptor

    def _lock(self, descriptor: int) -> None:
        """Lock for ourselves; whoever only asks whether a daemon runs holds the lock for a moment."""
        for tries_left in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if tries_left == 0:
                    raise
                time.sleep(_LOCK_PAUSE)
            else:
                return

    def release(self) -> None:
        """Give the lock back. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock_path(state_file: Path) -> Path:
    return state_file.with_name(f"{state_file.name}.lock")


def is_running(state_file: Path) -> bool:
    """Say whether a daemon holds the state file, without a trace. Raises StorageError where it is hidden."""
    try:
        descriptor = os.open(_lock_path(state_file), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"{_lock_path(state_file)} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return True
        raise StorageError(f"{_lock_path(state_file)} cannot be locked: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return False
