import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
import structlog.testing

from notifier.store import Store
from notifier.useapi import Page, Unlistable
from tests.support.catalogue import ME, Catalogue
from tests.support.gatherings import Bench, gathering_at
from tests.support.polling import MINUTE
from tests.support.servers import PATIENCE, Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id, completed, failed, not_found, path_of, track


async def times_closed(bench: Bench) -> int:
    """Let the tracks of the list be due a hundred times; return how often they had to wait for the gate."""
    watches, closed = bench.watches(LISTED), 0
    for _ in range(100):
        before = bench.clock.monotonic()
        await bench.tick(watches)
        closed += bench.clock.monotonic() - before > 20
    return closed


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


async def test_tracks_in_a_status_that_nobody_knows_are_asked_once_themselves_and_then_with_the_others(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api)
    for number in range(1, 6):
        api.put(track(number, audio_status=77, audio_status_name="MODERATING"))
    watches = bench.watches(range(1, 6))
    await bench.tick(watches)
    assert sorted(api.asked()) == ["+0", "1", "2", "3", "4", "5"]
    await bench.tick(watches)
    await bench.tick(watches)
    assert api.asked() == ["+0", "+0"]


async def test_what_ends_together_is_told_in_the_order_in_which_it_was_made(bench: Bench) -> None:
    api = Catalogue(bench.api, range(1, 31))
    watches = bench.watches(range(30, 0, -1))
    await bench.tick(watches)
    for number in range(1, 31):
        api.put(completed(number))
    await bench.tick(watches)
    assert await bench.told() == [("track.completed", audio_id(number)) for number in range(1, 31)]


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


async def test_a_track_that_is_gone_is_missing_although_a_list_goes_on_to_show_it(bench: Bench) -> None:
    api = Catalogue(bench.api, [1, 2])
    watches = bench.watches([1, 2])
    for number in (1, 2):
        bench.api.reply(path_of(audio_id(number)), not_found(audio_id(number)))
    for _ in range(9):
        await bench.tick(watches)
    assert api.asked() == ["+0"] * 9
    for _ in range(4):
        await bench.tick(watches)
    assert sorted(await bench.told()) == [("track.missing", audio_id(number)) for number in (1, 2)]


async def test_a_track_that_no_list_holds_and_whose_read_hangs_holds_up_no_other(bench: Bench) -> None:
    api = Catalogue(bench.api, [1, 2, 3])
    api.hidden |= {audio_id(number) for number in (1, 2, 3)}
    watches = bench.watches([1, 2, 3])
    await bench.tick(watches)
    hung = asyncio.Event()
    bench.api.reply(path_of(audio_id(1)), replace(answer(completed(1)), delay_until=hung))
    for number in (2, 3):
        api.put(completed(number))
    turns = asyncio.create_task(bench.tick(watches[:2]))
    await bench.api.until(lambda: len(bench.api.to(path_of(audio_id(1)))) == 2)
    await bench.tick(watches[2:], after=0)
    async with asyncio.timeout(PATIENCE):
        while len(await bench.told()) < 2:
            await asyncio.sleep(0)
    assert [watch.is_final for watch in watches] == [False, True, True]
    hung.set()
    await turns
    assert watches[0].is_final


async def test_a_turn_lasts_as_long_as_its_track_is_read_be_it_by_the_turn_of_another_one(
    bench: Bench,
) -> None:
    """The first of them is told of by another's page while it waits, and goes on for the one that is left."""
    api = Catalogue(bench.api, [1, 2, 3])
    api.hidden |= {audio_id(2), audio_id(3)}
    watches = bench.watches([1, 2, 3])
    await bench.tick(watches)
    listed, read = asyncio.Event(), asyncio.Event()
    api.list_replies = lambda request: replace(api.page(api.of(ME), request), delay_until=listed)
    bench.api.reply(path_of(audio_id(2)), replace(answer(completed(2)), delay_until=read))
    bench.clock.move(15)
    looking = asyncio.create_task(bench.gathering.look(ME))
    await bench.api.until_count(MUSIC, 2)
    first, second = (asyncio.create_task(bench.gathering.turn(watch)) for watch in watches[:2])
    await asyncio.sleep(0)
    listed.set()
    await bench.api.until_count(path_of(audio_id(2)), 2)
    assert not second.done()
    read.set()
    await asyncio.gather(looking, first, second)
    assert watches[1].is_final
    assert bench.gathering.unfinished(ME) == 2


async def test_tracks_that_come_while_the_last_of_before_is_read_are_told_of_together(bench: Bench) -> None:
    api = Catalogue(bench.api, [1, 2, 3])
    held = asyncio.Event()
    bench.api.reply(path_of(audio_id(1)), replace(answer(track(1)), delay_until=held))
    former = bench.watch(1)
    reading = asyncio.create_task(bench.gathering.turn(former))
    await bench.api.until_count(path_of(audio_id(1)), 1)
    former.is_watched = False
    bench.gathering.leave(former)
    watches = bench.watches([2, 3])
    held.set()
    await reading
    api.asked()
    await bench.tick(watches)
    assert api.asked() == ["+0"]


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


async def test_pages_that_were_short_for_a_while_are_of_use_again_as_soon_as_they_are_not(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api, range(1, 61))
    watches = bench.watches(range(1, 61))
    await bench.tick(watches)
    api.page_size = 1
    await bench.tick(watches)
    api.page_size = 50
    await bench.tick(watches)
    assert len(api.asked()) > 60
    await bench.tick(watches)
    assert len(api.asked()) == 2


LISTED = [*range(1, 6)]


def list_fails(api: Catalogue, *replies: Reply | None) -> None:
    """Let lists answer like this one after the other, the last one from then on; None for as they should."""
    queue = deque(replies)
    api.list_replies = lambda _request: queue.popleft() if len(queue) > 1 else queue[0]


async def test_a_watch_that_is_alone_is_read_by_itself_and_at_once(bench: Bench) -> None:
    api = Catalogue(bench.api, [1])
    alone, other = bench.watch(1), bench.watch(2, "you@example.com")
    api.put(track(2), account="you@example.com")
    before = bench.clock.monotonic()
    await bench.gathering.turn(alone)
    await bench.gathering.turn(other)
    assert api.asked() == ["1", "2"]
    assert bench.clock.monotonic() == before
    assert bench.gathering.requests == 2


async def test_what_becomes_due_while_the_first_one_waits_is_answered_with_it(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    bench.upstream.reconfigure(
        interval=timedelta(seconds=15), max_interval=5 * MINUTE, spacing=timedelta(seconds=1)
    )
    watches = bench.watches(LISTED)
    bench.upstream.token.enter(bench.clock.monotonic())
    bench.clock.standing = asyncio.Event()
    turns = []
    for watch in watches:
        turns.append(asyncio.create_task(bench.gathering.turn(watch)))
        for _ in range(5):
            await asyncio.sleep(0)
    assert api.asked() == []
    bench.clock.standing.set()
    await asyncio.gather(*turns)
    assert api.asked() == ["+0"]
    assert all(watch.sighting is not None for watch in watches)


async def test_what_becomes_due_while_a_page_is_under_way_that_tells_of_it_needs_no_other(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api, LISTED)
    held = asyncio.Event()
    api.list_replies = lambda request: replace(api.page(api.of(ME), request), delay_until=held)
    watches = bench.watches(LISTED)
    turns = [asyncio.create_task(bench.gathering.turn(watches[0]))]
    await bench.api.until(lambda: len(bench.api.requests) == 1)
    turns += [asyncio.create_task(bench.gathering.turn(watch)) for watch in watches[1:]]
    await asyncio.sleep(0)
    held.set()
    await asyncio.gather(*turns)
    assert api.asked() == ["+0"]
    assert all(watch.sighting is not None for watch in watches)


async def test_nothing_is_remembered_of_a_track_that_leaves_while_a_page_is_under_way(bench: Bench) -> None:
    api = Catalogue(bench.api, range(1, 61))
    watches = bench.watches(range(51, 61))
    held = asyncio.Event()
    api.list_replies = lambda request: replace(api.page(api.of(ME), request), delay_until=held)
    api.asked()
    turn = asyncio.create_task(bench.tick(watches))
    await bench.api.until(lambda: len(bench.api.requests) == 1)
    for watch in watches[:5]:
        watch.is_watched = False
        bench.gathering.leave(watch)
    held.set()
    await turn
    assert bench.gathering.requests == 1


async def test_a_turn_of_before_that_ends_late_takes_no_track_out_that_has_returned(bench: Bench) -> None:
    Catalogue(bench.api, [1])
    of_before = bench.watch(1)
    bench.gathering.leave(of_before)
    bench.watch(1)
    bench.gathering.leave(of_before)
    assert bench.gathering.requests == 1


async def test_a_page_tells_of_tracks_that_are_not_due_and_their_next_read_counts_from_it(
    bench: Bench,
) -> None:
    Catalogue(bench.api, LISTED)
    due, *others = bench.watches(LISTED)
    bench.clock.move(7)
    await bench.gathering.turn(due, lateness=2)
    assert {watch.phase for watch in others} == {due.phase} == {bench.clock.monotonic() - 2}
    assert {watch.seen_at for watch in others} == {bench.clock.monotonic()}
    (family,) = bench.metrics.poll_lateness.collect()
    assert [one.value for one in family.samples if one.name.endswith(("_count", "_sum"))] == [1, 2]


async def test_a_list_that_is_of_no_use_is_left_alone_for_longer_each_time_and_then_used_again(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api, LISTED)
    list_fails(api, Reply(404), Reply(400), Reply(404), None)
    watches = bench.watches(LISTED)
    asked_at = []
    with structlog.testing.capture_logs() as logged:
        for _ in range(200):
            await bench.tick(watches)
            if "+0" in api.asked():
                asked_at.append(bench.clock.monotonic())
    waits = [later - earlier for earlier, later in pairwise(asked_at[:4])]
    for wait, doubled in zip(waits, [300, 600, 1200], strict=True):
        assert doubled <= wait <= doubled * 1.2 + 15
    assert len(asked_at) == 4 + len(range(199)) - int((asked_at[3] - 1000) / 15) + 1
    told = [(record["event"], record.get("error")) for record in logged if "list" in record["event"]]
    assert told == [
        ("list.unusable", "HTTP 404"),
        ("list.unusable", "HTTP 400"),
        ("list.unusable", "HTTP 404"),
        ("list.usable", None),
    ]
    assert {record["account"] for record in logged if "list" in record["event"]} == {ME}


async def test_tracks_that_come_down_to_single_reads_spread_over_the_time_that_these_take(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api, LISTED)
    list_fails(api, Reply(404))
    bench.upstream.reconfigure(
        interval=timedelta(seconds=15), max_interval=5 * MINUTE, spacing=timedelta(milliseconds=500)
    )
    watches = bench.watches(LISTED)
    await bench.tick(watches)
    phases = sorted(watch.phase for watch in watches)
    assert [later - earlier for earlier, later in pairwise(phases)] == pytest.approx([0.5] * 4)


@pytest.mark.parametrize(
    ("reply", "waits"),
    [
        (Reply(401, '{"error": "Unauthorized"}'), 300),
        (Reply(402), 300),
        (Reply(429, headers={"Retry-After": "77"}), 77),
        (Reply(503), 15),
        (Reply(drop=True), 15),
    ],
    ids=["401", "402", "429", "503", "no answer"],
)
async def test_what_closes_the_gate_for_tracks_closes_it_when_it_comes_of_a_list(
    bench: Bench, reply: Reply, waits: float
) -> None:
    api = Catalogue(bench.api, LISTED)
    list_fails(api, reply, *([reply] if reply.drop else []), None)
    watches = bench.watches(LISTED)
    before = bench.clock.monotonic() + 15
    await bench.tick(watches)
    waited = bench.clock.monotonic() - before
    assert waits <= waited <= waits * 1.2, "by the one that goes first as the probe"
    assert [asked for asked in api.asked() if asked != "+0"] in [[str(number)] for number in LISTED]
    assert bench.upstream.token.failures == 0
    await bench.tick(watches)
    assert api.asked() == ["+0"]


async def test_an_account_in_trouble_that_a_list_tells_of_holds_up_nobody_else(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    api.put(track(9), account="you@example.com")
    other = bench.watch(9, "you@example.com")
    list_fails(api, Reply(596, '{"error": "account"}'))
    watches = bench.watches(LISTED)
    bench.clock.standing = asyncio.Event()
    turns = [asyncio.create_task(bench.gathering.turn(watch)) for watch in watches]
    await bench.api.until(lambda: len(bench.api.requests) == 1)
    while not bench.upstream.accounts_in_trouble():
        await asyncio.sleep(0.01)
    await bench.gathering.turn(other)
    assert other.sighting is not None
    bench.clock.standing.set()
    await asyncio.gather(*turns)
    assert bench.upstream.accounts_in_trouble() == {}


async def test_a_list_that_fails_as_the_api_does_while_tracks_are_read_closes_no_gate_again(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api, LISTED)
    list_fails(api, Reply(500))
    assert await times_closed(bench) == 1
    asked = api.asked()
    assert asked.count("+0") <= 5, "it is left alone for longer each time"
    assert len(asked) - asked.count("+0") >= 99 * len(LISTED)


async def test_a_list_that_fails_now_and_then_closes_no_gate_again(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    replies = itertools.cycle([Reply(500), None])
    api.list_replies = lambda _request: next(replies)
    assert await times_closed(bench) == 1
    assert api.asked().count("+0") <= 12, "it is left alone for longer each time"


async def test_a_list_that_throttles_while_tracks_are_read_is_left_alone_as_well(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    list_fails(api, Reply(429, headers={"Retry-After": "60"}))
    watches = bench.watches(LISTED)
    for _ in range(100):
        await bench.tick(watches)
    assert 2 <= api.asked().count("+0") <= 5


async def test_a_list_that_stands_still_is_found_out(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    watches = bench.watches(LISTED)
    await bench.tick(watches)
    before = api.of(ME)
    api.list_replies = lambda request: api.page(before, request)
    for number in LISTED:
        api.put(completed(number))
    with structlog.testing.capture_logs() as logged:
        for _ in range(10):
            await bench.tick(watches)
    assert all(watch.is_final for watch in watches)
    (record,) = [record for record in logged if record["event"] == "list.unusable"]
    assert record["error"] == "it says GENERATING of a track that is COMPLETED"


async def test_one_after_the_other_is_asked_itself_whether_its_list_is_right(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    watches = bench.watches(LISTED)
    for _ in range(100):
        await bench.tick(watches)
    asked = api.asked()
    assert asked.count("+0") == 100
    alone = [one for one in asked if one != "+0"]
    assert sorted(alone[:5]) == sorted(alone[5:]) == [str(number) for number in LISTED]


async def test_tracks_deep_down_in_a_list_are_found_and_then_read_with_the_pages_they_stand_on(
    bench: Bench,
) -> None:
    api = Catalogue(bench.api, [*range(1, 9), *range(100, 260), 9, *range(300, 420)])
    watches = bench.watches(range(1, 10))
    await bench.tick(watches)
    assert api.asked()[:3] == ["+0", "+45", "+90"], "as many as may pay"
    for _ in range(6):
        await bench.tick(watches)
    api.asked()
    await bench.tick(watches)
    assert len(api.asked()) == 2, "for the one in the middle is read alone"
    for number in range(500, 570):
        api.put(track(number))
    api.put(completed(1))
    await bench.tick(watches)
    assert len(api.asked()) == 3, "the list has grown by more than a page"
    await bench.tick(watches)
    assert [one for one in api.asked() if one in {"9", "+346"}] == ["+346", "9"]
    assert await bench.told() == [("track.completed", audio_id(1))]


async def test_tracks_that_a_list_never_holds_cost_hardly_more_than_without_it(bench: Bench) -> None:
    api = Catalogue(bench.api, [1, 2, *range(100, 400)])
    api.hidden |= {audio_id(1), audio_id(2)}
    watches = bench.watches([1, 2])
    for _ in range(100):
        await bench.tick(watches)
    asked = api.asked()
    pages = [one for one in asked if one.startswith("+")]
    assert len(asked) - len(pages) == 200
    assert len(pages) <= 5 * 7, "it was looked through a few times, less often each time"
    api.hidden.clear()
    for _ in range(38):
        await bench.tick(watches)
    api.asked()
    await bench.tick(watches)
    (page,) = api.asked()
    assert page.startswith("+"), "they were looked for once more"


async def test_what_a_list_and_a_track_tell_at_the_same_time_is_told_once(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    watches = bench.watches(LISTED)
    held = asyncio.Event()
    api.put(completed(1))
    ready = answer(completed(1))
    bench.api.reply(path_of(audio_id(1)), Reply(ready.status, ready.body, delay_until=held))
    with structlog.testing.capture_logs() as logged:
        alone = asyncio.create_task(bench.poller.read(watches[0], due=bench.clock.monotonic()))
        await bench.api.until_count(path_of(audio_id(1)), 1)
        together = asyncio.create_task(bench.tick(watches[1:]))
        held.set()
        await asyncio.gather(alone, together)
    assert [record["event"] for record in logged].count("track.completed") == 1
    assert await bench.told() == [("track.completed", audio_id(1))]


async def test_turns_that_find_the_gate_closed_go_home_while_one_waits_for_all(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    bench.api.reply(path_of(audio_id(9, "you@example.com")), Reply(503))
    await bench.poller.read(bench.watch(9, "you@example.com"), due=bench.clock.monotonic())
    watches = bench.watches(LISTED)
    bench.clock.standing = asyncio.Event()
    first = asyncio.create_task(bench.gathering.turn(watches[0]))
    await asyncio.sleep(0)
    await asyncio.gather(*(bench.gathering.turn(watch) for watch in watches[1:]))
    bench.clock.standing.set()
    await first
    assert api.asked() == ["9", "+0"]
    assert all(watch.sighting is not None for watch in watches)


async def test_a_track_that_always_fails_holds_up_neither_its_own_account_nor_another(bench: Bench) -> None:
    """Nor does a list that answers to nobody."""
    bench.api.reply(path_of(audio_id(1)), Reply(500))
    api = Catalogue(bench.api, LISTED)
    list_fails(api, *[Reply(500)] * 50)
    other = bench.watch(9, "you@example.com")
    bench.api.reply(path_of(other.audio_id), answer(track(9)))
    watches = [bench.watch(1), *bench.watches(LISTED), other]
    for _ in range(12):
        await bench.tick(watches)
    assert bench.upstream.token.failures == 0
    for watch in watches[1:]:
        assert len(bench.api.to(path_of(watch.audio_id))) >= 7, watch.audio_id


async def test_a_track_taken_off_the_watchlist_is_told_of_by_no_page(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    gone, *others = bench.watches(LISTED)
    gone.is_watched = False
    bench.gathering.leave(gone)
    api.put(completed(1))
    await bench.tick([gone, *others])
    assert api.asked() == ["+0"]
    assert gone.sighting is None
    for watch in others:
        bench.gathering.leave(watch)
    bench.gathering.leave(gone)
    assert bench.gathering.requests == 0


async def test_lists_that_are_switched_off_are_not_read(bench: Bench) -> None:
    api = Catalogue(bench.api, LISTED)
    watches = bench.watches(LISTED)
    assert bench.gathering.requests == 1
    bench.gathering.switch(is_on=False)
    assert bench.gathering.requests == 5
    await bench.tick(watches)
    assert sorted(api.asked()) == [str(number) for number in LISTED]
    bench.gathering.switch(is_on=True)
    assert bench.gathering.requests == 1
    await bench.tick(watches)
    assert api.asked() == ["+0"]
