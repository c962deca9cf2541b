import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifier.bookmark import Bookmark, Gap
from notifier.event import Alert, EventType, Problem, TrackNews, track_event
from notifier.store import Owed, StorageError, Store
from notifier.store.database import STEPS, open_database
from notifier.track import parse
from notifier.transition import Sighting
from tests.support.tracks import audio_id, completed

NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ME, YOU = "me@example.com", "you@example.com"
AT_REST = Bookmark(NOON, ("a", "b"), True)
IN_A_GAP = Bookmark(NOON, ("a",), False, Gap(("c",), ("d",), 50, ("e", "f"), False, True, False))


async def end(store: Store, number: int, *, now: datetime = NOON) -> None:
    """Let a track be ready, told to a target and taken by it."""
    news = TrackNews(audio_id(number), "x", "COMPLETED", None, None)
    owed = Owed(track_event(EventType.COMPLETED, news, now), ())
    sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=now)
    await store.record(audio_id(number), sighting, parse(completed(number)), [owed], now=now)


@pytest.mark.parametrize("bookmark", [AT_REST, IN_A_GAP, None])
async def test_a_bookmark_is_kept_with_what_the_look_has_brought(
    store: Store, bookmark: Bookmark | None
) -> None:
    assert await store.accounts() == {}
    found = await store.discover(ME, bookmark, [audio_id(1), audio_id(2)], now=NOON)
    assert found == {audio_id(1): None, audio_id(2): None}
    async with Store(store.path) as restarted:
        row = (await restarted.accounts())[ME]
        assert (row.bookmark, row.looked_at, row.trouble) == (bookmark, NOON, None)
        assert (row.found, row.last_found, row.under_way) == (2, NOON, 2)
        assert await restarted.under_way() == {audio_id(1): ME, audio_id(2): ME}


async def test_a_track_is_found_once(store: Store) -> None:
    await store.discover(ME, None, [audio_id(1)], now=NOON)
    assert [*await store.discover(ME, AT_REST, [audio_id(1), audio_id(2)], now=NOON + DAY)] == [audio_id(2)]
    row = (await store.accounts())[ME]
    assert (row.found, row.last_found) == (2, NOON + DAY)


async def test_what_was_watched_before_it_was_found_is_remembered(store: Store) -> None:
    await end(store, 1)
    await store.mark_watched([], now=NOON)
    found = await store.discover(ME, AT_REST, [audio_id(1)], now=NOON)
    assert found == {audio_id(1): (await store.sightings())[audio_id(1)]}
    (row,) = await store.tracks()
    assert row.unwatched_since is None


async def test_what_was_found_and_the_place_stand_or_fall_together(store: Store) -> None:
    await store.discover(ME, AT_REST, [], now=NOON)
    with pytest.raises(StorageError):
        await store.discover(ME, IN_A_GAP, [audio_id(1), object()], now=NOON)  # type: ignore[list-item]
    assert (await store.accounts())[ME].bookmark == AT_REST
    assert await store.under_way() == {}


async def test_trouble_leaves_the_last_look_as_it_was(store: Store) -> None:
    await store.discover(ME, AT_REST, now=NOON)
    await store.discover(ME, AT_REST, now=NOON + DAY, trouble="HTTP 404")
    row = (await store.accounts())[ME]
    assert (row.bookmark, row.looked_at, row.trouble) == (AT_REST, NOON, "HTTP 404")
    await store.discover(ME, AT_REST, now=NOON + 2 * DAY)
    row = (await store.accounts())[ME]
    assert (row.looked_at, row.trouble) == (NOON + 2 * DAY, None)


async def test_what_has_ended_is_under_way_no_more(store: Store) -> None:
    await store.discover(ME, AT_REST, [audio_id(1), audio_id(2)], now=NOON)
    await end(store, 1)
    assert await store.under_way() == {audio_id(2): ME}
    row = (await store.accounts())[ME]
    assert (row.found, row.under_way) == (2, 1)


async def test_an_account_that_leaves_the_watchlist_is_forgotten_but_not_what_it_has_brought(
    store: Store,
) -> None:
    for account in (ME, YOU):
        await store.discover(account, AT_REST, now=NOON)
        await store.report(Alert(Problem.ACCOUNT_UNREADABLE, account, "x"), (), now=NOON)
    await store.discover(ME, AT_REST, [audio_id(1), audio_id(2)], now=NOON)
    await end(store, 1)
    await end(store, 2)
    await store.mark_watched([audio_id(2)], now=NOON + DAY, accounts=[YOU])
    assert [*await store.accounts()] == [YOU]
    assert await store.problems() == {(Problem.ACCOUNT_UNREADABLE, YOU)}
    assert await store.followed([ME, YOU]) == {audio_id(1): ME, audio_id(2): ME}
    unwatched = {row.audio_id: row.unwatched_since for row in await store.tracks()}
    assert unwatched == {audio_id(1): NOON + DAY, audio_id(2): None}
    await store.mark_watched([], now=NOON + DAY, accounts=[ME])
    assert [row.unwatched_since for row in await store.tracks()] == [None, None]


async def test_problems_of_tracks_that_an_account_has_brought_stay_while_it_is_followed(store: Store) -> None:
    await store.discover(ME, AT_REST, [audio_id(1)], now=NOON)
    await store.report(Alert(Problem.TRACK_STALLED, audio_id(1), "x"), (), now=NOON)
    await store.mark_watched([], now=NOON, accounts=[ME])
    assert await store.problems() == {(Problem.TRACK_STALLED, audio_id(1))}
    await store.mark_watched([], now=NOON)
    assert await store.problems() == set()


async def test_what_was_found_is_forgotten_so_long_after_its_end_unless_it_has_an_entry(store: Store) -> None:
    await store.discover(ME, AT_REST, [audio_id(number) for number in (1, 2, 3, 4)], now=NOON)
    await end(store, 1)
    await end(store, 2)
    await end(store, 3, now=NOON + DAY)
    await store.mark_watched([audio_id(2)], now=NOON, accounts=[ME])
    assert await store.forget(unwatched_before=NOON - DAY, watched=[audio_id(2)]) == 0
    await store.forget(unwatched_before=NOON, watched=[audio_id(2)])
    assert sorted(await store.sightings()) == [audio_id(2), audio_id(3)]
    assert await store.followed([ME]) == {audio_id(2): ME, audio_id(3): ME}
    assert (await store.accounts())[ME].found == 2


def test_a_state_file_of_version_2_learns_of_accounts(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = open_database(path, steps=STEPS[:2])
    connection.execute("INSERT INTO fact (name, value) VALUES ('salt', 'kept')")
    connection.close()
    connection = open_database(path)
    assert connection.execute("SELECT count(*) FROM account").fetchone() == (0,)
    assert connection.execute("SELECT value FROM fact").fetchall() == [("kept",)]
    connection.close()


async def test_a_bookmark_is_no_longer_than_a_page_of_a_book(store: Store) -> None:
    names = tuple(audio_id(number) for number in range(300))
    await store.discover(ME, Bookmark(NOON, names, False, Gap(names, names[:50], 50)), now=NOON)
    connection = sqlite3.connect(store.path)
    ((text,),) = connection.execute("SELECT bookmark FROM account").fetchall()
    connection.close()
    assert len(text) < 64 * 1024
    assert json.loads(text)["known"] == list(names)
