from collections.abc import AsyncIterator

import pytest

from notifier.store import Store
from notifier.useapi import Page, Unlistable
from tests.support.catalogue import ME, Catalogue
from tests.support.gatherings import Bench, gathering_at
from tests.support.servers import Reply, Server
from tests.support.tracks import audio_id, completed, failed


@pytest.fixture
async def bench(api: Server, store: Store) -> AsyncIterator[Bench]:
    async with gathering_at(api, store) as bench:
        yield bench


async def test_fifty_tracks_of_an_account_cost_a_request_a_tick(bench: Bench) -> None:
    api = Catalogue(bench.api, range(1, 51))
    watches = bench.watches(range(1, 51))
    for _ in range(9):
        await bench.tick(watches)
        assert api.asked() == ["+0"]
    api.put(completed(7))
    api.put(failed(8))
    await bench.tick(watches)
    requests = api.asked()
    assert requests[0] == "+0"
    assert len(requests) == 2, "now and then a track is asked itself whether its list is right"
    assert sorted(await bench.told()) == [("track.completed", audio_id(7)), ("track.failed", audio_id(8))]
    assert bench.gathering.requests == 1


async def test_what_the_pages_did_not_hold_is_read_by_itself_in_the_same_turn(bench: Bench) -> None:
    api = Catalogue(bench.api, [1, 2, 3])
    api.hidden.add(audio_id(2))
    watches = bench.watches([1, 2, 3])
    await bench.tick(watches)
    assert api.asked() == ["+0", "2"]
    api.put(completed(2))
    await bench.tick(watches)
    assert api.asked() == ["+0", "2"]
    assert await bench.told() == [("track.completed", audio_id(2))]


async def test_a_track_that_no_list_holds_is_missing_when_it_says_so_itself(bench: Bench) -> None:
    api = Catalogue(bench.api, [1, 2, 3])
    watches = bench.watches([1, 2, 3, 4])
    for _ in range(2):
        await bench.tick(watches)
    assert await bench.told() == []
    await bench.tick(watches)
    assert await bench.told() == [("track.missing", audio_id(4))]
    assert [asked for asked in api.asked() if asked != "+0"] == ["4", "4", "4"]


async def test_an_api_without_lists_is_read_track_by_track_in_the_same_turn(bench: Bench) -> None:
    api = Catalogue(bench.api, range(1, 6))
    api.list_replies = lambda _request: Reply(404)
    watches = bench.watches(range(1, 6))
    await bench.tick(watches)
    assert sorted(api.asked()) == ["+0", "1", "2", "3", "4", "5"]
    assert all(watch.sighting is not None for watch in watches)
    await bench.tick(watches)
    assert sorted(api.asked()) == ["1", "2", "3", "4", "5"]
    assert bench.gathering.requests == 5


async def test_whoever_asked_for_a_page_all_of_it_is_heard_and_told(bench: Bench) -> None:
    api = Catalogue(bench.api, range(1, 61))
    heard: list[tuple[str, int, int]] = []

    async def hear(account: str, page: Page) -> None:
        heard.append((account, page.offset, len(page.entries)))

    bench.gathering.heard = hear
    watches = bench.watches([60, 59])
    api.put(completed(59))
    looked = await bench.gathering.look(ME)
    assert isinstance(looked, Page)
    assert looked.next_offset == 50
    assert await bench.told() == [("track.completed", audio_id(59))]
    await bench.gathering.look(ME, 50)
    watches.append(bench.watch(58))
    await bench.tick(watches)
    assert heard == [(ME, 0, 50), (ME, 50, 10), (ME, 0, 50)]
    assert api.asked() == ["+0", "+50", "+0"]
    api.list_replies = lambda _request: Reply(400, '{"error": "no"}')
    assert await bench.gathering.look("other@example.com") == Unlistable("HTTP 400: no", is_permanent=True)
