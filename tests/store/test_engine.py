"""Pieces of work that are committed together, and what becomes of them when one fails."""

import asyncio
import sqlite3
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from notifier.store.database import CorruptError, StorageError
from notifier.store.engine import Engine
from tests.support.servers import PATIENCE


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    connection.execute("CREATE TABLE IF NOT EXISTS done (number INTEGER PRIMARY KEY)")
    return connection


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path / "db", connect, is_read_only=False)
    await engine.open()
    yield engine
    await engine.close()


def add(number: int) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: connection.execute("INSERT INTO done VALUES (?)", (number,)).rowcount


async def together(engine: Engine, *numbers: int) -> list[object]:
    """Let pieces of work queue up behind one that takes its time, and return what became of each."""
    began, may_end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(_connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(began.set)
        may_end.wait()

    first = asyncio.create_task(engine.run(wait))
    await began.wait()
    rest = [asyncio.create_task(engine.run(add(number))) for number in numbers]
    await asyncio.sleep(0)
    may_end.set()
    await first
    return [*await asyncio.gather(*rest, return_exceptions=True)]


async def done(engine: Engine) -> list[int]:
    rows = await engine.run(lambda connection: connection.execute("SELECT number FROM done").fetchall())
    return [number for (number,) in rows]


async def test_pieces_that_wait_together_are_all_done(engine: Engine) -> None:
    assert await together(engine, 1, 2, 3) == [1, 1, 1]
    assert await done(engine) == [1, 2, 3]


async def test_a_piece_that_fails_takes_none_of_the_others_with_it(engine: Engine) -> None:
    first, second, again, third = await together(engine, 1, 2, 1, 3)
    assert (first, second, third) == (1, 1, 1)
    assert isinstance(again, StorageError)
    assert await done(engine) == [1, 2, 3]


async def test_errors_of_the_work_itself_come_through_as_they_are(engine: Engine) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO done VALUES (7)")
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await engine.run(work)
    assert await done(engine) == []


async def test_a_file_that_cannot_be_written_to_fails_all_at_once(engine: Engine, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = [asyncio.create_task(engine.run(add(number))) for number in (1, 2, 3)]
    closing = asyncio.create_task(engine.close())  # which ends the patience
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StorageError] * 3
    await closing
    other.execute("ROLLBACK")
    assert other.execute("SELECT count(*) FROM done").fetchone() == (0,)
    other.close()


async def test_who_waits_behind_a_lock_that_lasts_hears_of_it_soon_and_not_each_after_the_whole_patience(
    tmp_path: Path,
) -> None:
    """Else the alert about it would wait once more for what it is to tell of."""
    patience, tries = 1.0, list[str]()

    def counting(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA busy_timeout = 20")
        connection.set_trace_callback(tries.append)
        return connection

    engine = Engine(tmp_path / "db", counting, is_read_only=False, patience=patience)
    await engine.open()
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    counts, began = list[int](), time.monotonic()
    for number in range(3):
        tries.clear()
        with pytest.raises(StorageError, match="another process has locked it"):
            await engine.run(add(number))
        counts.append(len(tries))
        assert time.monotonic() - began >= patience
    first, *others = counts
    assert first > 1
    assert others == [1, 1]
    other.execute("ROLLBACK")
    assert await engine.run(add(7)) == 1
    other.execute("BEGIN IMMEDIATE")
    tries.clear()
    asked = asyncio.create_task(engine.run(add(8)))
    async with asyncio.timeout(PATIENCE):
        while len(tries) < 2:  # the patience is whole again
            await asyncio.sleep(0.005)
    other.close()
    assert await asked == 1
    await engine.close()


async def test_what_is_told_of_a_damaged_file_holds_nobody_who_was_told_before(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "db", connect, is_read_only=False)
    await engine.open()

    def damaged(_connection: sqlite3.Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    depths = []
    for _ in range(20):
        with pytest.raises(CorruptError) as caught:
            await engine.run(damaged)
        depths.append(len([*traceback.walk_tb(caught.value.__traceback__)]))
    assert max(depths[1:]) == depths[1]
    await engine.close()
