"""Runs transactions in a thread of their own, so that a slow disk never stops the event loop.

Work that is waiting when the thread is free is committed together: each piece keeps its own savepoint, all
share one sync of the disk. A caller hears of success only after the commit.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from notifier.store.database import StorageError, explain

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_MOST_TOGETHER = 256
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class _Piece:
    work: Work[Any]
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Engine:
    """Owns the connection. `open` is called in the thread, since a connection belongs to one."""

    def __init__(
        self, path: Path, connect: Callable[[Path], sqlite3.Connection], *, is_read_only: bool
    ) -> None:
        self._path = path
        self._begin = "BEGIN" if is_read_only else "BEGIN IMMEDIATE"
        self._connect = connect
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._is_closing = False
        self._opened: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Start the thread and open the file. Raises StorageError."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await asyncio.shield(self._opened)

    async def run(self, work: Work[T]) -> T:
        """Run work in a transaction and return its result once that is on the disk.

        Raises StorageError when the transaction failed; then nothing of it happened. Any other exception of
        the work comes through as it is, likewise with nothing done.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Piece(work, done, loop))
        return await done

    async def close(self) -> None:
        """Finish what is waiting and close the file; wait no longer for somebody else's lock on it."""
        self._is_closing = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        assert self._loop is not None  # noqa: S101 - set by open() before the thread starts
        assert self._opened is not None  # noqa: S101
        try:
            connection = self._connect(self._path)
        except Exception as error:
            self._loop.call_soon_threadsafe(_fail, self._opened, error)
            return
        self._loop.call_soon_threadsafe(_succeed, self._opened, None)
        try:
            while (pieces := self._next()) is not None:
                self._together(connection, pieces)
        finally:
            connection.close()

    def _next(self) -> list[_Piece] | None:
        """Wait for work and take all that is there, in order; None when it is time to close."""
        first = self._queue.get()
        if first is None:
            return None
        pieces = [first]
        while len(pieces) < _MOST_TOGETHER:
            try:
                piece = self._queue.get_nowait()
            except queue.Empty:
                break
            if piece is None:
                self._queue.put(None)
                break
            pieces.append(piece)
        return pieces

    def _together(self, connection: sqlite3.Connection, pieces: list[_Piece]) -> None:
        results: list[tuple[_Piece, Any, BaseException | None]] = []
        try:
            self._start(connection)
            for piece in pieces:
                results.append((piece, *_in_savepoint(connection, piece.work)))
            connection.execute("COMMIT")
        except Exception as error:
            _roll_back(connection)
            results = [(piece, None, error) for piece in pieces]
        for piece, result, error_of_piece in results:
            self._answer(piece, result, error_of_piece)

    def _start(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction, with patience for others who hold the file."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                connection.execute(self._begin)
            except sqlite3.OperationalError as error:
                is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_locked or self._is_closing or time.monotonic() > deadline:
                    raise
            else:
                return

    def _answer(self, piece: _Piece, result: Any, error: BaseException | None) -> None:
        if isinstance(error, sqlite3.Error):
            failure = StorageError(explain(error, self._path))
            failure.__cause__ = error
            error = failure
        try:
            if error is None:
                piece.loop.call_soon_threadsafe(_succeed, piece.done, result)
            else:
                piece.loop.call_soon_threadsafe(_fail, piece.done, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _in_savepoint(connection: sqlite3.Connection, work: Work[Any]) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT piece")
    try:
        result = work(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise  # SQLite gave the whole transaction up, as it does on a full disk
        connection.execute("ROLLBACK TO piece")
        connection.execute("RELEASE piece")
        return None, error
    connection.execute("RELEASE piece")
    return result, None


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            return  # the next BEGIN says what is wrong


def _succeed(done: "asyncio.Future[Any]", result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[Any]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
