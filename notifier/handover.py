"""The state file while one release takes over from another: a copy before, and the way back.

`systemd/install.sh` runs this file with the service stopped, by the Python of the system: it needs nothing of
the program, lest it fails together with a release. Usage: ``handover.py keep|take-back|let-go STATE_FILE``.

A later release may take the state file to a later version, which the earlier one refuses to read. To go back,
the copy is brought up to date with all that the two versions both know of; so what the later release was told
and has told in its short life stays known, and nothing is told twice.
"""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path


class NoWayBackError(Exception):
    """What the later release wrote does not fit into the earlier version."""


def copy_of(state_file: Path) -> Path:
    """Return where the copy of a state file is."""
    return state_file.with_name(f"{state_file.name}.before")


def keep(state_file: Path) -> str:
    """Copy the state file as it is now, with what is in its log: all of it, or there is no copy.

    A copy of another version is what an upgrade left that was cut off: the only way back from that, if it is
    needed. It is put aside; return where.
    """
    copy = copy_of(state_file)
    said = _put_aside(copy) if _is_needed(copy, state_file) else ""
    unfinished = copy.with_name(f"{copy.name}.new")
    for one in (copy, unfinished):
        _remove(one)
    if state_file.exists():
        _copy(state_file, unfinished, copy)
    return said


def _is_needed(copy: Path, state_file: Path) -> bool:
    return copy.exists() and not (state_file.exists() and _is_of_same_version(copy, state_file))


def _put_aside(copy: Path) -> str:
    aside = copy.with_name(f"{copy.name}.old")
    os.replace(copy, aside)
    return f"an earlier upgrade was cut off; the state file of before it is {aside}"


def _copy(state_file: Path, unfinished: Path, copy: Path) -> None:
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with _opened(state_file) as source, _opened(unfinished) as target:
            source.backup(target)
            # NB: what is written to a copy with a log of its own lies in two files, and one is moved.
            target.execute("PRAGMA journal_mode = DELETE")
        os.replace(unfinished, copy)
    finally:
        _remove(unfinished)


def take_back(state_file: Path) -> str:
    """Leave the state file as the release that `keep` was called for can read it; say what was done.

    A file of the same version stays untouched. Whatever happens in between, it is the one file or the other.
    """
    copy = copy_of(state_file)
    if not copy.exists():
        return ""
    if not state_file.exists():
        os.replace(copy, state_file)
        return f"{state_file} was gone and is back"
    said = ""
    if not _is_of_same_version(state_file, copy):
        said = _bring_up_to_date(copy, state_file)
        _remove_log(state_file)
        os.replace(copy, state_file)
    let_go(state_file)
    return said


def _is_of_same_version(one: Path, other: Path) -> bool:
    try:
        return _version(one) == _version(other)
    except sqlite3.OperationalError:  # somebody else has it
        raise
    except sqlite3.DatabaseError:  # it is damaged
        return False


def _bring_up_to_date(copy: Path, state_file: Path) -> str:
    try:
        with _opened(state_file) as later:
            later.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with _opened(copy) as earlier:
            _adopt(earlier, state_file)
    except (sqlite3.Error, NoWayBackError) as error:
        return (
            f"{state_file} is as it was before the upgrade ({error}): "
            "what was told since then may be told again"
        )
    return f"{state_file} is of the earlier version again, and knows what was told since then"


def let_go(state_file: Path) -> None:
    """Delete the copy."""
    _remove(copy_of(state_file))


def _adopt(earlier: sqlite3.Connection, later: Path) -> None:
    """Replace all rows by those of the later file, in the columns that both have; all of them or none."""
    earlier.execute("ATTACH ? AS later", (str(later),))
    earlier.execute("BEGIN IMMEDIATE")
    try:
        for (table,) in earlier.execute(
            "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name = 'sqlite_sequence'"
        ).fetchall():
            _adopt_table(earlier, table)
        if earlier.execute("PRAGMA main.foreign_key_check").fetchone():
            raise NoWayBackError("rows of one table do not fit those of another")
        earlier.execute("COMMIT")
    except BaseException:
        if earlier.in_transaction:  # a full disk has ended it already
            earlier.execute("ROLLBACK")
        raise


def _adopt_table(earlier: sqlite3.Connection, table: str) -> None:
    columns = _columns(earlier, "later", table)
    shared = ", ".join(f'"{name}"' for name in _columns(earlier, "main", table) if name in columns)
    if not shared:
        raise NoWayBackError(f"there is no table {table} any more")
    earlier.execute(f'DELETE FROM main."{table}"')  # noqa: S608 - names out of the file's own schema
    earlier.execute(f'INSERT INTO main."{table}" ({shared}) SELECT {shared} FROM later."{table}"')  # noqa: S608


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM pragma_table_info(?, ?) ORDER BY cid", (table, schema)
    ).fetchall()
    return [str(name) for (name,) in rows]


def _version(file: Path) -> int:
    with _opened(file) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that is there, for a block; SQLite takes up what its log holds."""
    with contextlib.closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    ) as connection:
        connection.execute("PRAGMA temp_store = MEMORY")
        yield connection


def _remove(file: Path) -> None:
    _remove_log(file)
    file.unlink(missing_ok=True)


def _remove_log(file: Path) -> None:
    for suffix in ("-journal", "-wal", "-shm"):
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Do as the command line says; return the exit code."""
    step, name = arguments
    state_file = Path(name)
    try:
        match step:
            case "keep":
                said = keep(state_file)
            case "take-back":
                said = take_back(state_file)
            case _:
                said = ""
                let_go(state_file)
    except (OSError, sqlite3.Error) as error:
        print(f"{state_file}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if said:
        print(said)  # noqa: T201 - for the installer
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
