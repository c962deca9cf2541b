"""How long tracks took, in the state file."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifier.durations import Ending
from notifier.event import EventType, TrackNews, track_event
from notifier.store import Owed, StorageError, Store
from notifier.store import durations as stored
from notifier.store.database import open_database
from notifier.track import parse
from notifier.transition import Sighting
from tests.support.tracks import completed

NOW = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)
READY = Sighting("COMPLETED", is_final=True, name="n", first_seen=NOW)
ENDING = Ending("t", "music-2.6", 202.0, is_end=True, gain=0.25, on_paper=-0.5, is_surprise=True)


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_database(path)) as connection:
        yield connection


async def test_how_long_a_track_took_is_kept_with_its_end(tmp_path: Path) -> None:
    async with Store(tmp_path / "state.db") as store:
        await store.record("t", READY, parse(completed()), [], now=NOW, ending=ENDING)
        censored = Ending("u", "", 1800.5, is_end=False)
        await store.record("u", READY, None, [], now=NOW, ending=censored)
        await store.record("v", READY, None, [], now=NOW)
    async with Store(tmp_path / "state.db") as store:
        assert await store.endings() == [ENDING, censored]


async def test_neither_is_there_without_the_other(tmp_path: Path) -> None:
    async with Store(tmp_path / "state.db") as store:
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON duration BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
            )
        event = track_event(EventType.COMPLETED, TrackNews("t", "n", "COMPLETED", None, None), NOW)
        with pytest.raises(StorageError, match="disk is full"):
            await store.record("t", READY, None, [Owed(event, ("a",))], now=NOW, ending=ENDING)
        assert await store.sightings() == {}
        assert await store.deliveries() == []


def test_a_track_has_one_row_the_latest(tmp_path: Path) -> None:
    with connected(tmp_path / "state.db") as connection:
        stored.record(connection, replace(ENDING, is_end=False, seconds=1800.0))
        stored.record(connection, replace(ENDING, audio_id="other"))
        stored.record(connection, ENDING)
        assert [one.audio_id for one in stored.endings(connection)] == ["other", "t"]
        assert stored.endings(connection)[-1] == ENDING


def test_the_latest_hundred_of_each_model_are_kept_and_no_more_than_two_thousand(tmp_path: Path) -> None:
    with connected(tmp_path / "state.db") as connection:
        connection.execute("BEGIN")
        for number in range(150):
            stored.record(connection, replace(ENDING, audio_id=f"{number}"))
        for number in range(2, 5):
            stored.record(connection, replace(ENDING, audio_id=f"other {number}", model="lyria"))
        kept = [one.audio_id for one in stored.endings(connection)]
        assert kept == [*(str(number) for number in range(50, 150)), "other 2", "other 3", "other 4"]
        for number in range(2100):
            stored.record(connection, replace(ENDING, audio_id=f"new {number}", model=f"made up {number}"))
        kept = [one.audio_id for one in stored.endings(connection)]
        assert kept == [f"new {number}" for number in range(100, 2100)]
        connection.execute("COMMIT")
