"""Runs transactions in a thread of their own, so that a slow disk never stops the event loop.

Work that is waiting when the thread is free is committed together, with one sync of the disk; where a piece
fails, each is done again by itself. A caller hears of success only after the commit.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from notifier.store.database import CorruptError, Footing, explained

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_MOST_TOGETHER = 256
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class _Piece:
    work: Work[Any]
    done: "asyncio.Future[Any]"


_Result = tuple[_Piece, Any, BaseException | None]


class _NotBegunError(Exception):
    """No transaction can begin, so that none of the pieces has to be tried by itself."""


class Engine:
    """Owns the connection. `open` is called in the thread, since a connection belongs to one."""

    def __init__(
        self,
        path: Path,
        connect: Callable[[Path], sqlite3.Connection],
        *,
        is_read_only: bool,
        patience: float = _PATIENCE,
    ) -> None:
        self._path = path
        self._is_read_only = is_read_only
        self._footing: Footing | None = None
        self._patience = patience
        self._is_out_of_patience = False
        """Whether somebody holds the file for so long already that nobody is to wait for him once more."""
        self._corruption: CorruptError | None = None
        """What ended all work on the file; only another one mends it."""
        self._connect = connect
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._asked: dict[asyncio.Future[Any], float] = {}
        """Since when whoever waits for an answer does so, the first one first."""
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

        The work may be done twice, the first time in vain; it must not use anything up.
        Raises StorageError when the transaction failed; then nothing of it happened. Any other exception of
        the work comes through as it is, likewise with nothing done.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked[done] = time.monotonic()
        self._queue.put(_Piece(work, done))
        try:
            return await done
        finally:
            del self._asked[done]

    @property
    def silence(self) -> float:
        """For how many seconds somebody has been waiting for an answer by now; 0 when nobody is."""
        return time.monotonic() - next(iter(self._asked.values()), time.monotonic())

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
            self._footing = None if self._is_read_only else Footing(self._path)
        except Exception as error:
            self._loop.call_soon_threadsafe(_fail, self._opened, error)
            return
        self._loop.call_soon_threadsafe(_succeed, self._opened, None)
        try:
            while (pieces := self._next()) is not None:
                self._together(connection, pieces, time.monotonic() + self._patience)
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

    def _together(self, connection: sqlite3.Connection, pieces: Sequence[_Piece], until: float) -> None:
        """Commit pieces together, or each by itself where one of them fails."""
        try:
            self._start(connection, until)
            results = self._commit(connection, pieces)
        except _NotBegunError as error:
            self._answer([(piece, None, error.__cause__) for piece in pieces])
        except Exception as error:
            if len(pieces) == 1:
                self._answer([(pieces[0], None, error)])
                return
            for piece in pieces:
                self._together(connection, [piece], until)
        else:
            self._answer([(piece, result, None) for piece, result in zip(pieces, results, strict=True)])

    def _start(self, connection: sqlite3.Connection, until: float) -> None:
        """Begin a transaction, with patience for others who hold the file."""
        if self._corruption is not None:
            # NB: a new one each time, since an error remembers everybody who was told of it
            raise _NotBegunError from CorruptError(str(self._corruption))
        while True:
            try:
                connection.execute("BEGIN" if self._is_read_only else "BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_locked or self._is_closing or self._is_out_of_patience or time.monotonic() > until:
                    self._is_out_of_patience = is_locked
                    raise _NotBegunError from error
            else:
                self._is_out_of_patience = False
                return

    def _commit(self, connection: sqlite3.Connection, pieces: Sequence[_Piece]) -> list[Any]:
        try:
            results = [piece.work(connection) for piece in pieces]
            if self._footing is not None:
                self._footing.check()
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        return results

    def _answer(self, results: Sequence[_Result]) -> None:
        """Hand all results over to the loop at once: waking it costs more than what it then does."""
        assert self._loop is not None  # noqa: S101 - set by open()
        told = [(piece.done, result, self._explained(error)) for piece, result, error in results]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_answer_all, told)

    def _explained(self, error: BaseException | None) -> BaseException | None:
        if not isinstance(error, sqlite3.Error):
            return error
        failure = explained(error, self._path)
        failure.__cause__ = error
        if isinstance(failure, CorruptError):
            self._corruption = failure
        return failure


def _answer_all(told: Sequence[tuple["asyncio.Future[Any]", Any, BaseException | None]]) -> None:
    for done, result, error in told:
        if error is None:
            _succeed(done, result)
        else:
            _fail(done, error)


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
