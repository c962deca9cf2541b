"""The state file: tracks, events, the outbox, gates and problems. Each public coroutine is one transaction.

Nothing else in the program knows SQL. A coroutine returns after its transaction is on the disk; when it
raises StorageError, nothing of the transaction happened.
"""

import secrets
import sqlite3
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from notifier.bookmark import Bookmark
from notifier.delivery import Delivery
from notifier.durations import Ending
from notifier.event import Alert, Event, Problem, alert_event
from notifier.store import accounts, durations, gates, glance, outbox, reading, usage
from notifier.store.database import (
    InUseError,
    RunLock,
    StorageError,
    is_running,
    open_database,
    open_for_reading,
)
from notifier.store.engine import Engine
from notifier.store.glance import Glance, Told, TrackLine
from notifier.store.rows import (
    AccountRow,
    AttemptRow,
    Backlog,
    DeliveryRow,
    Owed,
    Settlement,
    StoredGate,
    TrackRow,
)
from notifier.track import Track
from notifier.transition import Sighting
from notifier.usage import Usage

T = TypeVar("T")


class Store:
    """An open state file. Use it as an async context manager, or `open` and `close` it."""

    def __init__(self, path: Path, *, is_read_only: bool = False) -> None:
        self.path = path
        self.trouble: str | None = None
        """Why transactions fail, or None while they succeed; only something really written ends it."""
        self._engine = Engine(
            path, open_for_reading if is_read_only else open_database, is_read_only=is_read_only
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def silence(self) -> float:
        """For how many seconds a transaction has been going on; a disk that hangs lets none fail."""
        return self._engine.silence

    async def open(self) -> None:
        """Open the file; to write, make it or bring it up to date first. Raises StorageError."""
        await self._engine.open()

    async def close(self) -> None:
        """Finish what is under way and close the file."""
        await self._engine.close()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def counted(connection: sqlite3.Connection) -> tuple[T, bool]:
            before = connection.total_changes
            result = work(connection)
            return result, connection.total_changes > before

        try:
            result, has_written = await self._engine.run(counted)
        except StorageError as error:
            self.trouble = str(error)
            raise
        if has_written:
            self.trouble = None
        return result

    async def prove(self) -> None:
        """Write more than most tracks take, to find out whether the disk is well. Raises StorageError."""
        await self._run(outbox.prove)

    async def record(
        self,
        audio_id: str,
        sighting: Sighting,
        track: Track | None,
        owed: Sequence[Owed],
        *,
        now: datetime,
        alerts: Sequence[tuple[Alert, tuple[str, ...]]] = (),
        ending: Ending | None = None,
    ) -> None:
        """Remember a changed track, how long it took and what its events and alerts are owed."""

        def work(connection: sqlite3.Connection) -> None:
            outbox.record(connection, audio_id, sighting, track, owed=owed, now=now)
            if ending is not None:
                durations.record(connection, ending)
            for alert, targets in alerts:
                outbox.report(connection, alert, alert_event(alert, now), targets=targets, now=now)

        await self._run(work)

    async def report(
        self,
        alert: Alert,
        targets: tuple[str, ...],
        *,
        now: datetime,
        event: Event | None = None,
        told: Collection[str] = (),
    ) -> Event | None:
        """Note that a problem has begun or is over and owe the alert; None when that was known already.

        `event` is the alert's if it was made before; those `told` have it already.
        """
        event = event or alert_event(alert, now)
        return await self._run(
            lambda connection: outbox.report(connection, alert, event, targets=targets, now=now, told=told)
        )

    async def due(self, target: str, *, limit: int, under_way: Collection[int] = ()) -> list[Delivery]:
        """Return the oldest pending deliveries of a target that are not under way, in the order of events."""
        return await self._run(lambda connection: outbox.due(connection, target, limit, under_way))

    async def least_tried(self, target: str, *, under_way: Collection[int] = ()) -> list[Delivery]:
        """Return a pending delivery of a target that was tried least often and is not under way, if any."""
        return await self._run(lambda connection: outbox.least_tried(connection, target, under_way))

    async def settle(self, settlement: Settlement) -> dict[str, list[int]]:
        """Write down an attempt and what follows from it; return what is dead letters now, of each target."""
        return await self._run(partial(outbox.settle, settlement=settlement))

    async def expire(
        self, target: str, *, counted_before: datetime, at: datetime, why: str, spared: Collection[int] = ()
    ) -> list[int]:
        """Give up the pending deliveries of a target, but some, whose time counts from before a moment."""
        return await self._run(
            lambda connection: outbox.expire(
                connection, target, counted_before, at=at, why=why, spared=spared
            )
        )

    async def leap(self, unlived: timedelta, *, now: datetime) -> None:
        """Let no delivery and no pause count as older by what the wall clock has moved beside living."""
        await self._run(lambda connection: outbox.leap(connection, unlived, now))

    async def save_gate(self, gate: StoredGate) -> None:
        """Remember how a gate stands, under its name."""
        await self._run(partial(gates.save_gate, gate=gate))

    async def save_end(self, gate: StoredGate) -> None:
        """Remember how the gate of a remote end stands, by its fingerprint."""
        await self._run(partial(gates.save_end, gate=gate))

    async def begin(self, gate: StoredGate) -> None:
        """Note that a target has another remote end than before, and how that one's gate stands."""
        await self._run(partial(gates.begin, gate=gate))

    async def reopen(self, target: str, *, now: datetime) -> bool:
        """Un-pause a target, and with it all with the same remote end; False when it was not paused."""
        return await self._run(lambda connection: gates.reopen(connection, target, now))

    async def replay(self, ids: Sequence[int], *, now: datetime) -> list[int]:
        """Make deliveries pending again, with all their time before them; return those that could be."""
        return await self._run(lambda connection: outbox.replay(connection, ids, now))

    async def drop(self, ids: Sequence[int]) -> list[int]:
        """Delete deliveries for good; return those that existed."""
        return await self._run(lambda connection: outbox.drop(connection, ids))

    async def mark_watched(
        self, watched: Collection[str], *, now: datetime, accounts: Collection[str] = ()
    ) -> None:
        """Note which tracks and accounts the watchlist names now and since when it does not name others."""
        await self._run(lambda connection: outbox.mark_watched(connection, watched, accounts, now))

    async def forget(self, *, unwatched_before: datetime, watched: Collection[str] = ()) -> int:
        """Delete what is off the watchlist since before a moment and settled; return how many rows went.

        What an account has brought is deleted as long after its end, unless it is `watched` by itself.
        """
        return await self._run(lambda connection: outbox.forget(connection, unwatched_before, watched))

    async def discover(
        self,
        account: str,
        bookmark: Bookmark | None,
        found: Sequence[str] = (),
        *,
        now: datetime,
        trouble: str | None = None,
    ) -> dict[str, Sighting | None]:
        """Remember how far an account's list is known together with the tracks that it has brought.

        With `trouble` the list could not be read. Returns the tracks that were not found before, with what
        is remembered of those that were watched.
        """
        return await self._run(
            lambda connection: accounts.discover(
                connection, account, bookmark, found, trouble=trouble, now=now
            )
        )

    async def accounts(self) -> dict[str, AccountRow]:
        """Return what is known of each account that is followed, by its address."""
        return await self._run(accounts.accounts)

    async def under_way(self) -> dict[str, str]:
        """Return the tracks that accounts have brought and that have not ended, with their accounts."""
        return await self._run(accounts.under_way)

    async def followed(self, accounts_: Collection[str]) -> dict[str, str]:
        """Return all tracks that some accounts have brought, with their accounts."""
        return await self._run(lambda connection: accounts.followed(connection, accounts_))

    async def forget_problems(self, problems: Collection[tuple[Problem, str]]) -> None:
        """Close problems with their subjects, telling nobody."""
        await self._run(lambda connection: outbox.forget_problems(connection, problems))

    async def sightings(self) -> dict[str, Sighting]:
        """Return what is remembered of every track, by audio_id."""
        return await self._run(reading.sightings)

    async def learn(self, endings: Sequence[Ending]) -> None:
        """Remember for how long tracks were watched that left the watchlist unfinished."""

        def work(connection: sqlite3.Connection) -> None:
            for ending in endings:
                durations.record(connection, ending)

        await self._run(work)

    async def endings(self) -> list[Ending]:
        """Return how long tracks took, as far as it is kept, in the order of their ends."""
        return await self._run(durations.endings)

    async def as_returned(self, audio_id: str) -> str | None:
        """Return the JSON of a track as it was last written down."""
        return await self._run(lambda connection: reading.as_returned(connection, audio_id))

    async def tracks(self) -> list[TrackRow]:
        """Return every track, as ``status`` shows it."""
        return await self._run(reading.tracks)

    async def gates(self) -> dict[str, StoredGate]:
        """Return every gate by its name."""
        return await self._run(reading.gates)

    async def problems(self) -> set[tuple[Problem, str]]:
        """Return the problems that alerts were told of and that are not over, with their subjects."""
        return await self._run(reading.problems)

    async def backlogs(self) -> dict[str, Backlog]:
        """Return how the outbox stands, by target."""
        return await self._run(reading.backlogs)

    async def newest_errors(self) -> dict[str, str]:
        """Return why the last dead letter of each target was given up."""
        return await self._run(reading.newest_errors)

    async def deliveries(
        self, *, target: str | None = None, state: str | None = None, ids: Sequence[int] | None = None
    ) -> list[DeliveryRow]:
        """Return deliveries in the order of their events, filtered."""
        return await self._run(partial(reading.deliveries, target=target, state=state, ids=ids))

    async def attempts(self, delivery: int) -> list[AttemptRow]:
        """Return the attempts of a delivery, oldest first."""
        return await self._run(lambda connection: reading.attempts(connection, delivery))

    async def ids_in_state(self, state: str, *, target: str | None = None) -> list[int]:
        """Return the deliveries in a state, of one target or of all."""
        return await self._run(lambda connection: list(reading.ids_in_state(connection, state, target)))

    async def add_usage(self, hour: datetime, used: Usage, *, kept_from: datetime) -> None:
        """Add to what the API was asked in an hour, and forget hours before a moment."""
        await self._run(lambda connection: usage.add(connection, hour, used, kept_from=kept_from))

    async def usage(self, *, since: datetime) -> dict[datetime, Usage]:
        """Return what the API was asked, by the hour."""
        return await self._run(lambda connection: usage.by_hour(connection, since))

    async def data_version(self) -> int:
        """Return a number that changes when another process has changed the state file."""
        return await self._run(reading.data_version)

    async def revision(self) -> tuple[int, int]:
        """Return what changes whenever anybody has changed the state file."""
        return await self._run(glance.revision)

    async def glance(self, *, recent: int, dead: int, followed: Collection[str] = ()) -> Glance:
        """Return the whole at one moment, with the last deliveries and dead letters, so many of each.

        What accounts have brought is told of those that are `followed`.
        """
        return await self._run(partial(glance.glance, recent=recent, dead=dead, followed=followed))

    async def documents(self, audio_ids: Sequence[str]) -> dict[str, Track]:
        """Return tracks as the API last returned them, by audio_id."""
        return await self._run(lambda connection: glance.documents(connection, audio_ids))

    async def salt(self) -> str:
        """Return the state file's own random text for fingerprints, the same one for ever."""

        def work(connection: sqlite3.Connection) -> str:
            connection.execute(
                "INSERT INTO fact (name, value) VALUES ('salt', ?) ON CONFLICT (name) DO NOTHING",
                (secrets.token_hex(16),),
            )
            (value,) = connection.execute("SELECT value FROM fact WHERE name = 'salt'").fetchone()
            return str(value)

        return await self._run(work)

    async def known_salt(self) -> str | None:
        """Return the same without making one."""
        return await self._run(reading.salt)


__all__ = [
    "AccountRow",
    "AttemptRow",
    "Backlog",
    "DeliveryRow",
    "Glance",
    "InUseError",
    "Owed",
    "RunLock",
    "Settlement",
    "StorageError",
    "Store",
    "StoredGate",
    "Told",
    "TrackLine",
    "TrackRow",
    "is_running",
]
