"""Pieces of work that are committed together, and what becomes of them when one fails."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from notifier.store.database import StorageError
from notifier.store.engine import Engine


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
