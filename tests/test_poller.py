import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
import structlog.testing

from notifier.admission import Admission
from notifier.event import Alert, EventType, Problem
from notifier.event import public_json as public
from notifier.gathering import Gathering
from notifier.metrics import Metrics
from notifier.poller import Poller
from notifier.store import Store
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.usage import Meter, Usage
from notifier.useapi import UseApi
from notifier.watched import Watched
from tests.support.clocks import ManualClock
from tests.support.polling import ALL, MINUTE, asking
from tests.support.servers import Reply, Server
from tests.support.tracks import answer, audio_id, completed, failed, not_found, path_of, track


@dataclass
class Bench:
    """A poller at its API, with what it told on the way."""

    api: Server
    store: Store
    clock: ManualClock
    reader: UseApi
    upstream: Upstream
    admission: Admission
    poller: Poller
    gathering: Gathering
    metrics: Metrics
    meter: Meter
    woken: list[tuple[str, ...]] = field(default_factory=list)

    def watch(self, number: int = 1, account: str = "me@example.com") -> Watched:
        identifier = audio_id(number, account)
        url = self.reader.url_of(identifier)
        return Watched(identifier, None, timedelta(seconds=15), ALL, ("band-room", "studio"), url)

    async def owed(self) -> list[tuple[str, str]]:
        rows = await self.store.deliveries()
        return [(row.type, row.target) for row in rows if row.target != "alerts"]

    async def problems(self) -> list[tuple[Problem, str, bool]]:
        """Return what `alerts` were told, in order."""
        alerts = [delivery.event.about for delivery in await self.store.due("alerts", limit=99)]
        return [(one.problem, one.subject, one.is_resolved) for one in alerts if isinstance(one, Alert)]


async def closed_after(bench: Bench, ill: Watched, well: Watched) -> list[bool]:
    """Let two tracks be due sixty times; return whether the first one has closed the gate each time."""
    closed = []
    for _ in range(60):
        await bench.gathering.turn(ill)
        closed.append(bench.upstream.token.failures > 0)
        await bench.gathering.turn(well)
        bench.clock.move(15)
    return closed


@pytest.fixture
async def bench(api: Server, store: Store) -> AsyncIterator[Bench]:
    clock = ManualClock()
    woken: list[tuple[str, ...]] = []
    async with asking(api, store, clock, alerts=("alerts",), wake=woken.append) as asker:
        yield Bench(
            *(api, store, clock, asker.reader, asker.upstream, asker.admission, asker.poller),
            *(asker.gathering, asker.metrics, asker.meter, woken),
        )


async def test_a_request_is_what_the_vendor_documents(bench: Bench) -> None:
    watch = bench.watch(account="a+b.c-d@example.com")
    await bench.gathering.turn(watch)
    (request,) = bench.api.requests
    assert request.method == "GET"
    assert request.path == path_of(watch.audio_id)
    assert request.raw_path.count("/") == 4
    assert request.headers["Authorization"] == "Bearer user:1-abc"
    assert request.headers["Content-Type"] == request.headers["Accept"] == "application/json"
    assert request.headers["User-Agent"].startswith("pixverse-notifier/")


async def test_a_track_is_followed_from_first_sight_to_its_end(bench: Bench) -> None:
    watch = bench.watch()
    path = path_of(watch.audio_id)
    bench.api.reply(
        path, answer(track(audio_status_name="QUEUED", audio_status=5)), answer(track()), answer(completed())
    )
    for _ in range(3):
        bench.clock.move(15)
        await bench.gathering.turn(watch)
    assert watch.is_final
    assert await bench.owed() == [("track.completed", "band-room"), ("track.completed", "studio")]
    assert bench.woken == [("band-room", "studio")]
    (delivery,) = await bench.store.due("studio", limit=9)
    about = delivery.event.about
    assert (about.status, about.previous_status) == ("COMPLETED", "GENERATING")  # type: ignore[union-attr]
    assert about.track.fields == completed()  # type: ignore[union-attr]
    await bench.gathering.turn(watch)
    assert len(bench.api.requests) == 3


async def test_a_track_that_is_final_when_first_seen_is_told_once(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(failed()))
    await bench.gathering.turn(watch)
    (delivery,) = await bench.store.due("studio", limit=9)
    assert delivery.event.about.previous_status is None  # type: ignore[union-attr]
    again = bench.watch()
    again.sighting = (await bench.store.sightings())[again.audio_id]
    await bench.gathering.turn(again)
    assert await bench.owed() == [("track.failed", "band-room"), ("track.failed", "studio")]


async def test_a_look_that_changes_nothing_writes_nothing(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(track()))
    await bench.gathering.turn(watch)
    async with Store(bench.store.path) as observer:
        before = await observer.data_version()
        bench.api.reply(path_of(watch.audio_id), answer(track(updated_at="2026-06-23T12:40:00Z")))
        for _ in range(5):
            await bench.gathering.turn(watch)
        assert len(bench.api.requests) == 6
        assert await observer.data_version() == before


async def test_when_a_track_was_last_seen_is_remembered(bench: Bench) -> None:
    watch = bench.watch()
    gone, ill = not_found(watch.audio_id), answer({"error": "no"}, 422)
    bench.api.reply(path_of(watch.audio_id), Reply(503), answer(track()), gone, ill)
    seen = []
    for _ in range(4):
        bench.clock.move(20)
        await bench.gathering.turn(watch)
        seen.append(bench.clock.monotonic() - watch.seen_at)
    assert seen == [float("inf"), 0, 0, 20]


async def test_requests_and_what_fixed_reads_would_have_taken_are_metered(bench: Bench) -> None:
    """Time in which the API is not to be asked, or the machine sleeps, is none in which anything is saved."""
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(track()), Reply(503), answer(track()))
    await bench.gathering.turn(watch)
    assert bench.meter.unwritten == Usage(1, 0, 1)
    bench.clock.move(30)
    await bench.gathering.turn(watch)
    bench.clock.move(600)
    bench.clock.suspend(timedelta(hours=1))
    await bench.gathering.turn(watch)
    assert bench.meter.unwritten == Usage(3, 0, 3)
    bench.clock.move(15)
    bench.clock.suspend(timedelta(hours=1))
    await bench.gathering.turn(watch)
    assert bench.meter.unwritten == Usage(4, 0, 4)


async def test_only_the_events_a_watch_names_are_owed_but_each_is_remembered(bench: Bench) -> None:
    watch = bench.watch()
    watch.events = frozenset({EventType.COMPLETED})
    bench.api.reply(path_of(watch.audio_id), answer(failed()))
    await bench.gathering.turn(watch)
    assert watch.is_final
    assert await bench.owed() == []


async def test_the_label_names_a_track_then_its_own_name_then_its_id(bench: Bench) -> None:
    names = []
    for number, label, fields in ((1, "Intro", {}), (2, None, {}), (3, None, {"name": None})):
        watch = bench.watch(number)
        watch.label = label
        bench.api.reply(path_of(watch.audio_id), answer(completed(number, **fields)))
        await bench.gathering.turn(watch)
        names.append((await bench.store.deliveries())[-1].name)
    assert names == ["Intro", "PixVerse_Music_2.mp3", audio_id(3)]


async def test_a_track_is_missing_after_three_404_in_a_row(bench: Bench) -> None:
    watch = bench.watch()
    gone = not_found(watch.audio_id)
    bench.api.reply(
        path_of(watch.audio_id), answer(track(prompt="kept")), gone, gone, answer(track()), gone, gone, gone
    )
    for _ in range(6):
        await bench.gathering.turn(watch)
    assert not watch.is_final
    await bench.gathering.turn(watch)
    assert watch.is_final
    assert await bench.owed() == [("track.missing", "band-room"), ("track.missing", "studio")]
    (delivery,) = await bench.store.due("studio", limit=9)
    data = json.loads(public(delivery.event))["data"]
    assert (data["status"], data["previous_status"], data["track"]["prompt"]) == (
        "MISSING",
        "GENERATING",
        "kept",
    )
    assert await bench.problems() == [(Problem.TRACK_MISSING, watch.audio_id, False)]


async def test_410_makes_a_track_missing_at_once(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer({"error": "expired"}, 410))
    await bench.gathering.turn(watch)
    (delivery,) = await bench.store.due("studio", limit=9)
    assert delivery.event.type is EventType.MISSING
    assert delivery.event.about.track is None  # type: ignore[union-attr]


async def test_a_track_that_takes_long_is_told_once_and_polled_on(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(track(created_at=None)))
    await bench.gathering.turn(watch)
    bench.clock.move(1799)
    await bench.gathering.turn(watch)
    assert await bench.owed() == []
    bench.clock.move(1)
    for _ in range(3):
        await bench.gathering.turn(watch)
    assert await bench.owed() == [("track.stalled", "band-room"), ("track.stalled", "studio")]
    bench.api.reply(path_of(watch.audio_id), answer(completed()))
    await bench.gathering.turn(watch)
    assert await bench.problems() == [
        (Problem.TRACK_STALLED, watch.audio_id, False),
        (Problem.TRACK_STALLED, watch.audio_id, True),
    ]


async def test_a_refused_token_stops_all_polling_for_max_interval_and_is_told_once(bench: Bench) -> None:
    first, second = bench.watch(1), bench.watch(2)
    bench.api.otherwise(lambda _request: answer({"error": "Unauthorized", "code": 401}, 401))
    for watch in (first, second, first):
        before = bench.clock.monotonic()
        await bench.gathering.turn(watch)
        waited = bench.clock.monotonic() - before
        assert (waited == 0) if watch is first and len(bench.api.requests) == 1 else (300 <= waited <= 360)
        assert bench.upstream.is_token_rejected
    bench.api.otherwise(lambda _request: answer(track()))
    await bench.gathering.turn(second)
    await bench.gathering.turn(first)
    assert len(bench.api.requests) == 5
    assert (await bench.problems())[0] == (Problem.TOKEN_REJECTED, "useapi.net", False)
    assert [kind for kind, _, resolved in await bench.problems() if not resolved] == [Problem.TOKEN_REJECTED]
    assert (Problem.TOKEN_REJECTED, "useapi.net", True) in await bench.problems()
    assert not bench.upstream.is_token_rejected


async def test_one_probe_goes_first_after_an_outage_and_the_others_wait_for_their_turn(bench: Bench) -> None:
    first, second = bench.watch(1), bench.watch(2)
    held = asyncio.Event()
    ready = answer(completed())
    bench.api.reply(path_of(first.audio_id), Reply(503), Reply(ready.status, ready.body, delay_until=held))
    bench.api.reply(path_of(second.audio_id), answer(completed(2)))
    await bench.gathering.turn(first)
    probe = asyncio.create_task(bench.gathering.turn(first))
    await bench.api.until_count(path_of(first.audio_id), 2)
    await bench.gathering.turn(second)
    assert bench.api.to(path_of(second.audio_id)) == []
    held.set()
    await probe
    await bench.gathering.turn(second)
    assert (first.is_final, second.is_final) == (True, True)


async def test_a_probe_that_is_cancelled_leaves_its_place_to_another(bench: Bench) -> None:
    first, second = bench.watch(1), bench.watch(2)
    never = asyncio.Event()
    bench.api.reply(path_of(first.audio_id), Reply(503), Reply(delay_until=never))
    bench.api.reply(path_of(second.audio_id), answer(completed(2)))
    await bench.gathering.turn(first)
    probe = asyncio.create_task(bench.gathering.turn(first))
    await bench.api.until_count(path_of(first.audio_id), 2)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    never.set()
    await bench.gathering.turn(second)
    assert second.is_final


async def test_an_outage_backs_off_from_interval_to_max_interval(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.otherwise(lambda _request: Reply(503, "<html>down</html>", content_type="text/html"))
    moments = []
    for _ in range(8):
        await bench.gathering.turn(watch)
        moments.append(bench.clock.monotonic())
    waits = [later - earlier for earlier, later in pairwise(moments)]
    for wait, doubled in zip(waits, [15, 30, 60, 120, 240, 300, 300], strict=True):
        assert doubled <= wait <= doubled * 1.2
    bench.api.otherwise(lambda _request: answer(track()))
    await bench.gathering.turn(watch)
    assert bench.upstream.token.closed_for(bench.clock.monotonic()) == 0


async def test_alerts_hear_of_an_outage_after_ten_minutes(bench: Bench) -> None:
    bench.api.otherwise(lambda _request: Reply(500))
    await bench.gathering.turn(bench.watch())
    bench.clock.move(599)
    await bench.upstream.remind()
    assert await bench.problems() == []
    bench.clock.move(1)
    await bench.upstream.remind()
    await bench.upstream.remind()
    assert await bench.problems() == [(Problem.UPSTREAM_UNREACHABLE, "useapi.net", False)]


async def test_a_throttled_token_waits_as_long_as_told_also_after_a_restart(bench: Bench) -> None:
    bench.api.otherwise(
        lambda _request: Reply(
            429, '{"error": "slow", "retryAfter": "2026-06-23T12:58:20Z"}', {"Retry-After": "60"}
        )
    )
    await bench.gathering.turn(bench.watch())
    closed_for = bench.upstream.token.closed_for(bench.clock.monotonic())
    assert 1200 <= closed_for <= 1440
    stored = (await bench.store.gates())[":useapi"]
    assert stored.told_until is not None
    assert abs(stored.remaining(bench.clock.now()).total_seconds() - closed_for) < 0.01


async def test_a_trouble_of_one_account_leaves_the_others_alone(bench: Bench) -> None:
    ill, well = bench.watch(1, "ill@example.com"), bench.watch(2, "well@example.com")
    bench.api.reply(path_of(ill.audio_id), answer({"error": "account"}, 596))
    bench.api.reply(path_of(well.audio_id), answer(completed(2)))
    await bench.gathering.turn(ill)
    await bench.gathering.turn(well)
    assert well.is_final
    assert (await bench.problems())[0] == (Problem.UPSTREAM_UNREACHABLE, "ill@example.com", False)
    bench.clock.move(20)
    bench.api.reply(path_of(ill.audio_id), answer(completed(1)))
    await bench.gathering.turn(ill)
    assert ill.is_final
    assert (Problem.UPSTREAM_UNREACHABLE, "ill@example.com", True) in await bench.problems()


@pytest.mark.parametrize("status", [400, 403])
async def test_a_track_that_cannot_be_read_is_told_once_and_tried_slowly(bench: Bench, status: int) -> None:
    ill, well = bench.watch(1), bench.watch(2)
    bench.api.reply(path_of(ill.audio_id), answer({"error": "not yours", "code": status}, status))
    bench.api.reply(path_of(well.audio_id), answer(track(2)))
    for _ in range(3):
        await bench.gathering.turn(ill)
        await bench.gathering.turn(well)
        bench.clock.move(299)
        await bench.gathering.turn(ill)
        bench.clock.move(2)
    assert len(bench.api.to(path_of(ill.audio_id))) == 3
    assert await bench.problems() == [(Problem.TRACK_UNREADABLE, ill.audio_id, False)]
    bench.api.reply(path_of(ill.audio_id), answer(completed()))
    await bench.gathering.turn(ill)
    assert (await bench.problems())[1] == (Problem.TRACK_UNREADABLE, ill.audio_id, True)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(412, '{"error": {"code": 1, "message": "no credits"}}'),
        Reply(422, '{"error": "prompt"}'),
        Reply(200, "[]"),
        Reply(200, '{"audio_status_final": null}'),
        Reply(200, '{"audio_status": 1, "prompt": "' + "x" * 600_000 + '"}'),
        Reply(200, "[" * 100_000),
    ],
    ids=["412", "422", "a list", "no status", "huge", "nested"],
)
async def test_a_strange_answer_slows_its_own_track_only(bench: Bench, reply: Reply) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), reply, answer(completed()))
    await bench.gathering.turn(watch)
    assert bench.upstream.token.closed_for(bench.clock.monotonic()) == 0
    bench.clock.move(14)
    await bench.gathering.turn(watch)
    assert len(bench.api.requests) == 1
    bench.clock.move(5)
    await bench.gathering.turn(watch)
    assert watch.is_final
    assert await bench.problems() == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, "<html>hi</html>", content_type="text/html"),
        Reply(200, ""),
        Reply(200, '{"audio_status": 1'),
        Reply(302, headers={"Location": "https://example.com/login"}),
        Reply(drop=True),
    ],
    ids=["HTML", "empty", "cut short", "redirect", "reset"],
)
async def test_an_answer_that_is_no_api_closes_the_gate_and_loses_nothing(bench: Bench, reply: Reply) -> None:
    watch = bench.watch()
    # NB: aiohttp itself asks once more when a connection breaks during a GET
    bench.api.reply(path_of(watch.audio_id), *([reply] * (2 if reply.drop else 1)), answer(completed()))
    await bench.gathering.turn(watch)
    assert 15 <= bench.upstream.token.closed_for(bench.clock.monotonic()) <= 18
    bench.clock.move(18)
    await bench.gathering.turn(watch)
    assert watch.is_final


def full_disk(bench: Bench) -> sqlite3.Connection:
    """Let the state file take no event any more."""
    disk = sqlite3.connect(bench.store.path, isolation_level=None)
    disk.execute("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    return disk


async def make_room(bench: Bench, disk: sqlite3.Connection) -> None:
    """Let it take events again, and be found well."""
    disk.execute("DROP TRIGGER full")
    disk.close()
    await bench.store.prove()


async def test_what_a_full_disk_refused_is_told_when_it_recovers(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(completed()))
    disk = full_disk(bench)
    bench.clock.standing = asyncio.Event()
    turn = asyncio.create_task(bench.gathering.turn(watch))
    await bench.api.until_count(path_of(watch.audio_id), 1)
    while bench.store.trouble is None:
        await asyncio.sleep(0.01)
    assert not watch.is_final
    assert bench.woken == []
    other = bench.watch(2)
    await bench.gathering.turn(other)
    assert len(bench.api.requests) == 1, "what cannot be kept is not asked for"
    await make_room(bench, disk)
    bench.clock.standing.set()
    await turn
    assert watch.is_final
    assert await bench.owed() == [("track.completed", "band-room"), ("track.completed", "studio")]
    assert len(bench.api.requests) == 1


async def test_a_track_taken_off_the_list_while_the_disk_is_full_is_not_told(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(completed()))
    disk = full_disk(bench)
    turn = asyncio.create_task(bench.gathering.turn(watch))
    while bench.store.trouble is None:
        await asyncio.sleep(0.01)
    watch.is_watched = False
    await make_room(bench, disk)
    await turn
    assert await bench.store.sightings() == {}


async def test_a_track_taken_off_the_list_during_its_read_is_not_told(bench: Bench) -> None:
    watch = bench.watch()
    held = asyncio.Event()
    reply = answer(completed())
    bench.api.reply(path_of(watch.audio_id), Reply(reply.status, reply.body, delay_until=held))
    turn = asyncio.create_task(bench.gathering.turn(watch))
    await bench.api.until_count(path_of(watch.audio_id), 1)
    watch.is_watched = False
    held.set()
    await turn
    assert await bench.owed() == []
    assert await bench.store.sightings() == {}


async def test_a_turn_that_waits_while_the_token_is_replaced_tells_of_the_new_one(bench: Bench) -> None:
    """Also when it finds the last unfinished track to be ready, after which nobody asks any more."""
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer({"error": "Unauthorized"}, 401), answer(completed()))
    await bench.gathering.turn(watch)
    assert bench.upstream.is_token_rejected
    bench.clock.standing = asyncio.Event()
    turn = asyncio.create_task(bench.gathering.turn(watch))
    await asyncio.sleep(0)
    bench.upstream.renew("another token")
    bench.clock.standing.set()
    await turn
    assert watch.is_final
    assert not bench.upstream.is_token_rejected
    assert [over for problem, _, over in await bench.problems() if problem is Problem.TOKEN_REJECTED] == [
        False,
        True,
    ]


async def test_what_was_asked_before_an_outage_does_not_end_it(bench: Bench) -> None:
    """Else it would be told as over, and as begun again, by each answer that was still on its way."""
    early, late = bench.watch(1), bench.watch(2)
    held = asyncio.Event()
    reply = answer(track(1))
    bench.api.reply(path_of(early.audio_id), Reply(reply.status, reply.body, delay_until=held))
    bench.api.reply(path_of(late.audio_id), Reply(503), answer(track(2)))
    turn = asyncio.create_task(bench.gathering.turn(early))
    await bench.api.until_count(path_of(early.audio_id), 1)
    await bench.gathering.turn(late)
    held.set()
    await turn
    assert bench.upstream.token.failures == 1
    assert early.sighting is not None, "what it says of its track counts all the same"
    await bench.gathering.turn(late)
    assert bench.upstream.token.failures == 0


async def test_no_more_requests_are_under_way_than_allowed(bench: Bench) -> None:
    bench.admission.limit(2)
    held = asyncio.Event()
    reply = answer(track())
    bench.api.otherwise(lambda _request: Reply(reply.status, reply.body, delay_until=held))
    turns = [asyncio.create_task(bench.gathering.turn(bench.watch(number))) for number in range(6)]
    await bench.api.until(lambda: len(bench.api.requests) == 2)
    bench.api.reply(path_of("past the limit"), reply)
    await bench.poller.reader.read(bench.reader.url_of("past the limit"))
    assert len(bench.api.requests) == 3
    held.set()
    await asyncio.gather(*turns)
    assert len(bench.api.requests) == 7


async def test_requests_keep_the_pace_however_many_are_due_together(bench: Bench) -> None:
    bench.upstream.reconfigure(
        interval=timedelta(seconds=15), max_interval=5 * MINUTE, spacing=timedelta(milliseconds=200)
    )
    bench.api.otherwise(lambda _request: answer(track()))
    before = bench.clock.monotonic()
    await asyncio.gather(*(bench.gathering.turn(bench.watch(number)) for number in range(26)))
    assert len(bench.api.requests) == 26
    assert bench.clock.monotonic() - before == pytest.approx(5.0)


async def test_what_a_read_waits_for_the_rate_counts_as_lateness_too(bench: Bench) -> None:
    bench.upstream.reconfigure(
        interval=timedelta(seconds=15), max_interval=5 * MINUTE, spacing=timedelta(milliseconds=200)
    )
    bench.api.otherwise(lambda _request: answer(track()))
    await asyncio.gather(*(bench.gathering.turn(bench.watch(number), lateness=0.5) for number in range(2)))
    (family,) = bench.metrics.poll_lateness.collect()
    (total,) = (one.value for one in family.samples if one.name == "notifier_poll_lateness_seconds_sum")
    assert total == pytest.approx(0.5 + 0.7)


async def test_a_token_that_the_api_quotes_is_masked_before_anybody_keeps_it(bench: Bench) -> None:
    bench.api.otherwise(lambda _request: answer({"error": "Invalid token user:1-abc"}, 401))
    await bench.gathering.turn(bench.watch())
    (delivery,) = await bench.store.due("alerts", limit=9)
    gates = await bench.store.gates()
    kept = json.dumps([public(delivery.event), gates[":useapi"].reason, bench.upstream.trouble])
    assert "user:1-abc" not in kept
    assert "Invalid token ***" in kept


async def test_a_late_refusal_of_the_old_token_says_nothing_of_the_new_one(bench: Bench) -> None:
    late = asyncio.Event()
    bench.api.otherwise(lambda _request: Reply(401, '{"error": "Unauthorized"}', delay_until=late))
    turn = asyncio.create_task(bench.gathering.turn(bench.watch()))
    await bench.api.until(lambda: len(bench.api.requests) == 1)
    bench.upstream.renew("another token")
    late.set()
    await turn
    assert not bench.upstream.is_token_rejected
    assert bench.upstream.token.closed_for(bench.clock.monotonic()) == 0
    assert await bench.problems() == []


@pytest.mark.parametrize(("fingerprint", "is_kept"), [("token", True), ("another token", False)])
async def test_a_restart_keeps_the_wait_of_its_own_token_only(
    bench: Bench, fingerprint: str, is_kept: bool
) -> None:
    bench.api.otherwise(lambda _request: answer({"error": "Unauthorized"}, 401))
    await bench.gathering.turn(bench.watch())
    again = Upstream(
        interval=timedelta(seconds=15),
        max_interval=5 * MINUTE,
        spacing=timedelta(milliseconds=1),
        clock=bench.clock,
        rng=Random(1),
        report=Reporter(bench.store, bench.clock, ()).report,
        remember=bench.store.save_gate,
    )
    again.fingerprint = fingerprint
    again.take_up((await bench.store.gates()).get(":useapi"), is_rejected=True)
    assert (again.token.closed_for(bench.clock.monotonic()) > 0) is is_kept
    assert again.is_token_rejected is is_kept
    assert (again.trouble == "HTTP 401: Unauthorized") is is_kept


async def test_a_token_that_is_renewed_is_tried_while_the_probe_still_waits(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer({"error": "Unauthorized"}, 401), answer(completed()))
    await bench.gathering.turn(watch)
    before = bench.clock.monotonic()

    async def mend() -> None:
        while bench.clock.monotonic() < before + 20:
            await asyncio.sleep(0)
        bench.upstream.renew("another token")

    await asyncio.gather(mend(), bench.gathering.turn(watch))
    assert watch.is_final
    assert bench.clock.monotonic() - before < 60


async def test_who_stood_in_line_when_the_gate_closed_goes_home(bench: Bench) -> None:
    bench.admission.limit(1)
    late = asyncio.Event()
    bench.api.otherwise(lambda _request: Reply(503, delay_until=late))
    turns = [asyncio.create_task(bench.gathering.turn(bench.watch(number))) for number in range(6)]
    await bench.api.until(lambda: len(bench.api.requests) == 1)
    late.set()
    await asyncio.gather(*turns)
    assert len(bench.api.requests) == 1


async def test_an_account_in_trouble_never_holds_up_the_probe_of_the_token(bench: Bench) -> None:
    ill, well = bench.watch(1, "ill@example.com"), bench.watch(2, "well@example.com")
    bench.api.reply(path_of(ill.audio_id), answer({"error": "account"}, 596))
    bench.api.reply(path_of(well.audio_id), Reply(502), answer(completed(2)))
    for _ in range(4):
        await bench.gathering.turn(ill)
    await bench.gathering.turn(well)
    bench.clock.standing = asyncio.Event()
    held = asyncio.create_task(bench.gathering.turn(ill))
    await asyncio.sleep(0)
    bench.clock.standing = None
    await bench.gathering.turn(well)
    assert well.is_final
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)


async def test_an_account_in_trouble_shows_that_the_token_is_well(bench: Bench) -> None:
    watch = bench.watch()
    refused, ill = answer({"error": "Unauthorized"}, 401), answer({"error": "account"}, 596)
    bench.api.reply(path_of(watch.audio_id), refused, ill)
    await bench.gathering.turn(watch)
    await bench.gathering.turn(watch)
    assert bench.upstream.trouble is None
    assert (Problem.TOKEN_REJECTED, "useapi.net", True) in await bench.problems()


async def test_what_was_asked_of_an_account_before_an_outage_does_not_end_it_either(bench: Bench) -> None:
    early, late = bench.watch(1, "ill@example.com"), bench.watch(2)
    held = asyncio.Event()
    slow = Reply(596, '{"error": "account"}', delay_until=held)
    bench.api.reply(path_of(early.audio_id), slow)
    bench.api.reply(path_of(late.audio_id), answer({"error": "Unauthorized"}, 401))
    reading = asyncio.create_task(bench.gathering.turn(early))
    await bench.api.until_count(path_of(early.audio_id), 1)
    await bench.gathering.turn(late)
    held.set()
    await reading
    assert bench.upstream.is_token_rejected
    assert bench.upstream.token.failures == 1
    assert [*bench.upstream.accounts_in_trouble()] == ["ill@example.com"]


async def test_what_was_asked_before_an_account_was_in_trouble_does_not_end_that(bench: Bench) -> None:
    early, late = bench.watch(1), bench.watch(2)
    held = asyncio.Event()
    slow = replace(answer(track(1)), delay_until=held)
    bench.api.reply(path_of(early.audio_id), slow)
    bench.api.reply(path_of(late.audio_id), answer({"error": "account"}, 596), answer(track(2)))
    reading = asyncio.create_task(bench.gathering.turn(early))
    await bench.api.until_count(path_of(early.audio_id), 1)
    await bench.gathering.turn(late)
    held.set()
    await reading
    assert [*bench.upstream.accounts_in_trouble()] == ["me@example.com"]
    assert early.sighting is not None
    await bench.gathering.turn(late)
    assert not bench.upstream.accounts_in_trouble()


async def test_a_track_that_could_not_be_read_and_is_gone_is_no_longer_unreadable(bench: Bench) -> None:
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer({"error": "no"}, 400), answer({"error": "expired"}, 410))
    await bench.gathering.turn(watch)
    bench.clock.move(301)
    await bench.gathering.turn(watch)
    assert await bench.problems() == [
        (Problem.TRACK_UNREADABLE, watch.audio_id, False),
        (Problem.TRACK_MISSING, watch.audio_id, False),
        (Problem.TRACK_UNREADABLE, watch.audio_id, True),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, '{"error": "boom"}'),
        Reply(200, "<html>oops</html>", content_type="text/html"),
        Reply(drop=True),
    ],
    ids=["500", "HTML", "no answer"],
)
async def test_a_track_that_the_api_always_fails_on_slows_no_other_and_is_named(
    bench: Bench, reply: Reply
) -> None:
    ill, well = bench.watch(1), bench.watch(2)
    bench.api.reply(path_of(ill.audio_id), reply)
    bench.api.reply(path_of(well.audio_id), answer(track(2)))
    closed = await closed_after(bench, ill, well)
    assert closed.count(True) == 1
    assert len(bench.api.to(path_of(well.audio_id))) == 60
    assert len(bench.api.to(path_of(ill.audio_id))) < 15
    assert await bench.problems() == [(Problem.TRACK_UNREADABLE, ill.audio_id, False)]
    bench.api.reply(path_of(ill.audio_id), answer(completed()))
    bench.clock.move(400)
    await bench.gathering.turn(ill)
    assert ill.is_final
    assert (await bench.problems())[1] == (Problem.TRACK_UNREADABLE, ill.audio_id, True)


async def test_tracks_that_always_fail_first_leave_it_to_another_to_show_that_the_api_is_well(
    bench: Bench,
) -> None:
    """Turns that are due together begin in the same order each time, here with those that always fail."""
    ill, well = [bench.watch(number) for number in (1, 2, 3)], [bench.watch(4), bench.watch(5)]
    for watch in ill:
        bench.api.reply(path_of(watch.audio_id), Reply(500))
    for watch in well:
        bench.api.reply(path_of(watch.audio_id), answer(track()))
    for _ in range(12):
        bench.clock.standing = asyncio.Event()
        turns = [asyncio.create_task(bench.gathering.turn(watch)) for watch in [*ill, *well]]
        await asyncio.sleep(0)
        bench.clock.standing.set()
        await asyncio.gather(*turns)
        bench.clock.move(15)
    assert bench.upstream.token.failures == 0
    assert all(watch.failures > 0 for watch in ill), "it is known whose fault it is"
    assert all(len(bench.api.to(path_of(watch.audio_id))) >= 8 for watch in well)


async def test_a_suspect_that_waits_makes_room_for_another_one(bench: Bench) -> None:
    ill, well = bench.watch(1), bench.watch(2)
    bench.api.reply(path_of(ill.audio_id), Reply(500))
    bench.api.reply(path_of(well.audio_id), answer(track(2)))
    await bench.gathering.turn(ill)
    bench.clock.standing = asyncio.Event()
    first = asyncio.create_task(bench.gathering.turn(ill))
    await asyncio.sleep(0)
    second = asyncio.create_task(bench.gathering.turn(well))
    await asyncio.sleep(0)
    bench.clock.standing.set()
    await asyncio.gather(first, second)
    assert len(bench.api.to(path_of(ill.audio_id))) == len(bench.api.to(path_of(well.audio_id))) == 1
    assert bench.upstream.token.failures == 0


async def test_a_track_that_the_api_fails_on_now_and_then_slows_no_other(bench: Bench) -> None:
    ill, well = bench.watch(1), bench.watch(2)
    bench.api.reply(path_of(ill.audio_id), *[Reply(500), answer(track(1))] * 60)
    bench.api.reply(path_of(well.audio_id), answer(track(2)))
    closed = await closed_after(bench, ill, well)
    assert closed.count(True) == 8
    assert not any(closed[20:])
    assert len(bench.api.to(path_of(well.audio_id))) == 60
    assert await bench.problems() == []


async def test_where_a_track_is_known_to_fail_by_itself_another_one_is_not_taken_for_an_outage(
    bench: Bench,
) -> None:
    ill, well, further = bench.watch(1), bench.watch(2), bench.watch(3)
    bench.api.otherwise(lambda _request: answer(track()))
    bench.api.reply(path_of(ill.audio_id), Reply(500))
    for _ in range(2):
        await bench.gathering.turn(ill)
        await bench.gathering.turn(well)
    bench.api.reply(path_of(further.audio_id), Reply(500))
    await bench.gathering.turn(further)
    assert (bench.upstream.token.failures, further.failures) == (0, 1)
    bench.api.otherwise(lambda _request: Reply(500))
    await bench.gathering.turn(well)
    assert bench.upstream.token.failures == 1, "two in a row are an outage"
    bench.clock.move(60)
    await bench.gathering.turn(further)
    assert bench.upstream.token.failures == 2


async def test_a_suspect_that_asks_whether_an_account_is_well_asks_alone(bench: Bench) -> None:
    ill, well = bench.watch(1), bench.watch(2)
    held = asyncio.Event()
    refused = answer({"error": "account"}, 596)
    bench.api.reply(path_of(ill.audio_id), Reply(500), refused, Reply(500, delay_until=held))
    bench.api.reply(path_of(well.audio_id), answer(track(2)))
    for _ in range(2):
        await bench.gathering.turn(ill)
        bench.clock.move(60)
    assert bench.upstream.accounts_in_trouble()
    probe = asyncio.create_task(bench.gathering.turn(ill))
    await bench.api.until_count(path_of(ill.audio_id), 3)
    await bench.gathering.turn(well)
    assert not bench.api.to(path_of(well.audio_id))
    held.set()
    await probe


async def test_an_api_that_fails_on_all_tracks_is_an_outage_and_no_tracks_fault(bench: Bench) -> None:
    first, second = bench.watch(1), bench.watch(2)
    bench.api.otherwise(lambda _request: answer(track()))
    await bench.gathering.turn(first)
    await bench.gathering.turn(second)
    bench.api.otherwise(lambda _request: Reply(500))
    for _ in range(4):
        await bench.gathering.turn(first)
        await bench.gathering.turn(second)
    assert bench.upstream.token.failures == 8
    assert (first.failures, second.failures) == (0, 0)


async def test_a_connection_that_is_refused_is_no_tracks_fault(bench: Bench) -> None:
    first, second = bench.watch(1), bench.watch(2)
    bench.api.otherwise(lambda _request: answer(track()))
    for _ in range(3):
        await bench.api.pause()
        await bench.gathering.turn(first)
        await bench.api.start()
        await bench.gathering.turn(second)
    assert (first.failures, bench.upstream.successes) == (0, 3)


async def test_statuses_made_up_for_each_read_fill_neither_log_nor_memory(bench: Bench) -> None:
    made_up = iter(range(1000))
    bench.api.otherwise(lambda _request: answer(track(audio_status_name=f"STEP {next(made_up)}")))
    watch = bench.watch()
    with structlog.testing.capture_logs() as logged:
        for _ in range(110):
            await bench.gathering.turn(watch)
            bench.clock.move(60)
    assert watch.sighting is not None
    assert watch.sighting.status == "STEP 109"
    assert [record["event"] for record in logged].count("track.status_unknown") == 100


async def test_the_next_read_counts_on_the_schedules_clock_also_where_the_machine_has_slept(
    bench: Bench,
) -> None:
    """Otherwise it would come as much later as the machine has ever slept."""
    bench.clock.suspend(timedelta(hours=8))
    watch = bench.watch()
    bench.api.reply(path_of(watch.audio_id), answer(track(created_at="2026-06-23T20:38:10Z")))
    await bench.gathering.turn(watch, lateness=2.0)
    assert watch.phase == bench.clock.awake() - 2
    assert watch.life is not None
    assert watch.life.born == bench.clock.awake() - 10


@pytest.mark.parametrize("is_hinted", [False, True])
async def test_how_long_a_track_took_is_learned_with_its_end_and_what_a_hint_told_is_no_merit(
    bench: Bench, is_hinted: bool
) -> None:
    watch = bench.watch()
    made, ended = "2026-06-23T12:38:10Z", "2026-06-23T12:38:40Z"
    ready = completed(created_at=made, updated_at=ended)
    bench.api.reply(path_of(watch.audio_id), answer(track(created_at=made)), answer(ready))
    await bench.gathering.turn(watch)
    bench.clock.move(25)
    if is_hinted:
        watch.hinted_at = bench.clock.monotonic()
    await bench.gathering.turn(watch)
    (ending,) = await bench.store.endings()
    assert (ending.audio_id, ending.model, ending.seconds) == (watch.audio_id, "music-2.6", 30.0)
    assert ending.gain == (None if is_hinted else pytest.approx(5 / 15)), "fixed reads: :20, :35, :50"
    assert watch.life is None
