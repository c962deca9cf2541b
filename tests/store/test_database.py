import asyncio
import fcntl
import multiprocessing
import multiprocessing.synchronize
import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifier.store import InUseError, RunLock, StorageError, Store, is_running
from notifier.store.database import STEPS, open_database, open_for_reading
from notifier.store.engine import Engine


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def test_a_new_file_is_private_durable_and_at_this_version(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    connection = open_database(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    connection.close()


def test_an_old_file_is_taken_to_a_later_version_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = open_database(path)
    connection.execute("INSERT INTO fact (name, value) VALUES ('salt', 'kept')")
    connection.close()

    later = [*STEPS, "ALTER TABLE fact ADD COLUMN note TEXT;\nCREATE TABLE further (a TEXT);\n"]
    connection = open_database(path, steps=later)
    assert columns(connection, "fact") == ["name", "value", "note"]
    assert connection.execute("SELECT value FROM fact").fetchall() == [("kept",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)
    connection.close()


def test_a_step_that_fails_leaves_the_old_version_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_database(path).close()
    broken = [*STEPS, "CREATE TABLE further (a TEXT);\nINSERT INTO nowhere VALUES (1);\n"]
    with pytest.raises(StorageError, match="no such table: nowhere"):
        open_database(path, steps=broken)
    connection = open_database(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    assert columns(connection, "further") == []
    connection.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_database(path, steps=[*STEPS, "CREATE TABLE further (a TEXT);\n"]).close()
    with pytest.raises(
        StorageError, match=rf"newer version \(schema {len(STEPS) + 1}, this one knows {len(STEPS)}\)"
    ):
        open_database(path)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is a database of another program"):
        open_database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"x" * 5000, b"SQLite format 3\x00" + b"\xff" * 5000], ids=["no database", "damaged"]
)
def test_a_corrupt_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"is corrupt .*: restore a backup or move the file away"):
        open_database(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = open_database(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    os.truncate(path, 8192)
    with pytest.raises(StorageError, match="corrupt"):
        open_database(path)


def test_a_directory_that_cannot_exist_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be written: .*/file is not a directory"):
        open_database(tmp_path / "file" / "state.db")


def test_reading_leaves_no_files_behind(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_database(path).close()
    before = sorted(tmp_path.iterdir())
    connection = open_for_reading(path)
    assert connection.execute("SELECT count(*) FROM delivery").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM delivery")
    connection.close()
    assert sorted(tmp_path.iterdir()) == before == [path]


async def test_reading_sees_what_a_running_daemon_has_committed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with Store(path) as daemon:
        salt = await daemon.salt()
        async with Store(path, is_read_only=True) as reader:
            assert await reader.tracks() == []
            connection = open_for_reading(path)
            assert connection.execute("SELECT value FROM fact").fetchone() == (salt,)
            connection.close()


def hold(
    path: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event
) -> None:
    RunLock(path).acquire()
    ready.set()
    done.wait(60)


def test_one_daemon_holds_a_state_file_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(path, ready, done))
    holder.start()
    try:
        assert ready.wait(60)
        assert is_running(path)
        with pytest.raises(InUseError, match=f"another notifier is running on {path}"):
            RunLock(path).acquire()
    finally:
        holder.kill()
        holder.join()
    assert not is_running(path)
    lock = RunLock(path)
    lock.acquire()
    lock.release()


def test_asking_whether_a_daemon_runs_creates_nothing(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "state.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_whether_a_daemon_runs_is_not_guessed_where_it_is_hidden(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "state.db")
    lock.acquire()
    os.seteuid(65534)
    try:
        with pytest.raises(StorageError, match="cannot be read: Permission denied"):
            is_running(tmp_path / "state.db")
    finally:
        os.seteuid(0)
        lock.release()


async def test_a_disk_that_refuses_is_told_and_remembered_until_it_recovers(tmp_path: Path) -> None:
    async with Store(tmp_path / "state.db") as store:
        blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        blocker.execute(
            "CREATE TRIGGER full BEFORE INSERT ON fact BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
        with pytest.raises(StorageError, match="the disk is full"):
            await store.salt()
        assert store.trouble is not None
        assert "the disk is full" in store.trouble
        assert await store.tracks() == []
        assert store.trouble is not None, "reading proves nothing"
        with pytest.raises(StorageError):
            await store.prove()
        blocker.execute("DROP TRIGGER full")
        blocker.close()
        await store.prove()
        assert store.trouble is None
        await store.prove()
        assert len(await store.salt()) == 32


def insertion(name: str, *, fails: bool) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO fact (name, value) VALUES (?, 'x')", (name,))
        if fails:
            raise LookupError(name)

    return work


async def test_work_that_fails_takes_nothing_of_its_neighbours_with_it(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "state.db", open_database, is_read_only=False)
    await engine.open()
    works = [insertion(str(number), fails=number % 5 == 0) for number in range(50)]
    results = await asyncio.gather(*(engine.run(work) for work in works), return_exceptions=True)
    stored = await engine.run(lambda connection: connection.execute("SELECT name FROM fact").fetchall())
    await engine.close()
    assert [isinstance(result, LookupError) for result in results] == [n % 5 == 0 for n in range(50)]
    assert sorted(int(name) for (name,) in stored) == [n for n in range(50) if n % 5]


async def test_what_was_asked_before_the_end_is_done_before_the_end(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "state.db", open_database, is_read_only=False)
    await engine.open()
    asked = [asyncio.ensure_future(engine.run(insertion(str(n), fails=False))) for n in range(300)]
    await asyncio.sleep(0)
    await engine.close()
    assert await asyncio.gather(*asked) == [None] * 300
    connection = open_for_reading(tmp_path / "state.db")
    assert connection.execute("SELECT count(*) FROM fact").fetchone() == (300,)
    connection.close()


async def test_closing_does_not_wait_for_somebody_elses_lock(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    await store.open()
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asked = asyncio.ensure_future(store.salt())
    await asyncio.sleep(0)
    async with asyncio.timeout(15):  # half of the patience that it would have otherwise
        await store.close()
    with pytest.raises(StorageError, match="locked"):
        await asked
    other.close()


async def test_a_lock_that_goes_away_in_time_costs_nothing(tmp_path: Path) -> None:
    async with Store(tmp_path / "state.db") as store:
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asked = asyncio.ensure_future(store.salt())
        done, _ = await asyncio.wait([asked], timeout=1.2)
        assert not done
        other.close()
        assert len(await asked) == 32
        assert store.trouble is None


def test_somebody_who_only_asks_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    lock_file = tmp_path / "state.db.lock"
    lock_file.touch()
    with lock_file.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        release = threading.Timer(0.2, lambda: fcntl.flock(asking, fcntl.LOCK_UN))
        release.start()
        lock = RunLock(path)
        lock.acquire()
        release.join()
        lock.release()


def test_a_wait_that_was_told_stays_one_when_a_file_of_version_1_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old = open_database(path, steps=STEPS[:1])
    old.execute(
        "INSERT INTO gate (name, state, since, until, was_told, failures) VALUES"
        " ('told', 'waiting', 'x', '2026-06-23T13:00:00.000Z', 1, 1),"
        " ('ours', 'waiting', 'x', '2026-06-23T14:00:00.000Z', 0, 2)"
    )
    old.close()
    new = open_database(path)
    rows = new.execute("SELECT name, until, told_until, failures FROM gate ORDER BY name").fetchall()
    new.close()
    assert rows == [
        ("ours", "2026-06-23T14:00:00.000Z", None, 2),
        ("told", "2026-06-23T13:00:00.000Z", "2026-06-23T13:00:00.000Z", 1),
    ]


@pytest.mark.parametrize("version", range(1, len(STEPS)))
async def test_a_file_of_an_earlier_version_can_be_looked_at_before_the_daemon_takes_it_over(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "state.db"
    connection = open_database(path, steps=STEPS[:version])
    connection.execute(
        "INSERT INTO track (audio_id, status, is_final, first_seen, changed_at)"
        " VALUES ('a', 'QUEUED', 0, '2026-06-23T12:00:00.000Z', '2026-06-23T12:00:00.000Z')"
    )
    connection.close()
    before = path.read_bytes()
    async with Store(path, is_read_only=True) as store:
        assert [row.audio_id for row in await store.tracks()] == ["a"]
        assert (await store.gates(), await store.accounts()) == ({}, {})
        assert await store.usage(since=datetime(2026, 1, 1, tzinfo=UTC)) == {}
    assert path.read_bytes() == before
