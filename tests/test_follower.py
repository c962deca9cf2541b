"""Accounts that are followed, at an API that knows lists: what is found, and what keeps it from being so."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import structlog.testing

from notifier.config import Config
from notifier.event import Alert, Problem
from notifier.follower import Followed, Follower
from notifier.gathering import Gathering
from notifier.store import Store
from notifier.transition import Sighting
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.useapi import Page, UseApi
from notifier.watched import Watched
from tests.support.catalogue import ME, Catalogue
from tests.support.clocks import ManualClock
from tests.support.polling import MINUTE, asking
from tests.support.servers import Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id, completed, failed, track
from tests.support.watchlists import TARGET, USEAPI, loaded

NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)
YOU = "you@example.com"


def following(*entries: str) -> Config:
    watches = "".join(f"  - {entry}\n" for entry in entries)
    return loaded(f"{USEAPI}{TARGET}watch:\n{watches}").config


@dataclass
class Bench:
    """Whoever follows accounts, with what they have brought."""

    api: Server
    catalogue: Catalogue
    reader: UseApi
    store: Store
    clock: ManualClock
    reporter: Reporter
    upstream: Upstream
    gathering: Gathering
    found: list[str] = field(default_factory=list)
    room: int = 1_000_000
    """How many tracks may be under way."""
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = self.restarted()

    def restarted(self) -> Follower:
        """Return another follower that knows no more than the state file does."""
        follower = Follower(
            store=self.store,
            upstream=self.upstream,
            reporter=self.reporter,
            clock=self.clock,
            rng=Random(1),
            look=self.gathering.look,
            follow=self._follow,
            api_now=self.clock.now,
            has_room=lambda _account: len(self.found) < self.room,
        )
        self.gathering.heard = follower.heard
        self.gathering.is_followed = follower.follows
        return follower

    async def _follow(self, _followed: Followed, found: Mapping[str, Sighting | None]) -> None:
        self.found += found

    def made(self, number: int, **fields: Any) -> dict[str, Any]:
        """Return a track that was made now, a second after the one before."""
        self.clock.move(1)
        return {"created_at": self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"), **fields}

    def appear(self, *numbers: int, account: str = ME, **fields: Any) -> None:
        for number in numbers:
            self.catalogue.put(completed(number, **self.made(number, **fields)), account=account)

    async def begin(self, config: Config) -> Followed:
        """Follow what the watchlist says, and look for the first time."""
        self.follower.drop(but={entry.key for entry in config.accounts})
        self.follower.apply(config, await self.store.accounts())
        followed = self.follower.get(config.accounts[0].account)
        assert followed is not None
        await self.look(followed)
        return followed

    async def look(self, followed: Followed) -> list[int]:
        """Look at a list when its time has come; return which tracks that has brought."""
        self.clock.move(15)
        before = len(self.found)
        await self.follower.turn(followed)
        return [int(one.rpartition(":")[2]) for one in self.found[before:]]

    async def alerts(self) -> list[tuple[str, bool]]:
        """Return what `alerts` were told of lists, in order."""
        abouts = [delivery.event.about for delivery in await self.store.due("alerts", limit=99)]
        alerts = [
            one for one in abouts if isinstance(one, Alert) and one.problem is Problem.ACCOUNT_UNREADABLE
        ]
        return [(one.subject, one.is_resolved) for one in alerts]


@pytest.fixture
async def bench(api: Server, store: Store) -> AsyncIterator[Bench]:
    clock = ManualClock(NOON)
    async with asking(api, store, clock, alerts=("alerts",)) as asker:
        yield Bench(
            *(api, Catalogue(api), asker.reader, store, clock, asker.reporter),
            *(asker.upstream, asker.gathering),
        )


# ------------------------------------------------------------------------------------------- what is found


async def test_only_what_appears_from_now_on_is_found_and_what_is_unfinished_already(bench: Bench) -> None:
    bench.appear(*range(1, 5))
    bench.catalogue.put(track(5, **bench.made(5)))
    with structlog.testing.capture_logs() as logs:
        followed = await bench.begin(following(f"account: {ME}"))
        assert bench.found == [audio_id(5)]
        assert await bench.look(followed) == []
        bench.appear(6, 7)
        assert sorted(await bench.look(followed)) == [6, 7]
        assert await bench.look(followed) == []
    assert [(one["event"], one.get("unfinished"), one.get("audio_id")) for one in logs] == [
        ("account.followed", 1, None),
        ("track.found", None, audio_id(7)),
        ("track.found", None, audio_id(6)),
    ]


async def test_speech_and_what_is_of_no_kind_is_left_alone(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.appear(1, create_mode="tts")
    bench.appear(2, create_mode=None)
    bench.appear(3, create_mode="Music")
    bench.appear(4)
    assert await bench.look(followed) == [4]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("models: [music-v1]", [2]),
        ("match: INTRO", [3]),
        ("match: [warm * pads, intro]", [1, 2, 3, 4]),
        ("models: [music-2.6]\n    match: intro", [3]),
    ],
)
async def test_filters_tell_which_tracks_are_meant(bench: Bench, filters: str, expected: list[int]) -> None:
    followed = await bench.begin(following(f"account: {ME}\n    {filters}"))
    bench.appear(1)
    bench.appear(2, model="music-v1")
    bench.appear(3, prompt="a slow Intro")
    bench.appear(4, name="warm, then pads.mp3")
    assert sorted(await bench.look(followed)) == expected


async def test_what_a_track_does_not_say_yet_does_not_rule_it_out(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}\n    models: [music-v1]"))
    bench.catalogue.put(track(1, **bench.made(1, model=None)))
    bench.appear(2, model=None)
    assert await bench.look(followed) == [1]


async def test_a_changed_filter_counts_for_what_is_found_later(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}\n    match: intro"))
    bench.appear(1)
    assert await bench.look(followed) == []
    assert await bench.begin(following(f"account: {ME}\n    match: pads")) is followed
    bench.appear(2)
    assert await bench.look(followed) == [2]


async def test_of_a_list_that_holds_other_accounts_too_only_its_own_are_found(bench: Bench) -> None:
    followed = await bench.begin(following("account: ME@Example.com"))
    bench.catalogue.list_replies = lambda _request: answer(
        {
            "data": [
                completed(1, audio_id=audio_id(1, YOU), **bench.made(1)),
                completed(2, audio_id=audio_id(2), **bench.made(2)),
                completed(3, audio_id="../music:3", **bench.made(3)),
                completed(4, audio_id=audio_id(4) + "\n", **bench.made(4)),
            ]
        }
    )
    assert await bench.look(followed) == [2]


# -------------------------------------------------------------------------------------- place and restarts


async def test_the_place_is_kept_over_a_restart_however_long(bench: Bench) -> None:
    bench.appear(*range(1, 61))
    await bench.begin(following(f"account: {ME}"))
    bench.appear(*range(61, 141))
    bench.follower = bench.restarted()
    followed = await bench.begin(following(f"account: {ME}"))
    assert sorted(bench.found) == sorted(audio_id(number) for number in range(61, 141))
    assert await bench.look(followed) == []


async def test_more_than_a_look_reads_is_said_and_found_with_the_next_looks(bench: Bench) -> None:
    bench.appear(*range(1, 11))
    followed = await bench.begin(following(f"account: {ME}"))
    bench.appear(*range(11, 1011))
    bench.api.requests.clear()
    with structlog.testing.capture_logs() as logs:
        assert len(await bench.look(followed)) < 500
        assert len(bench.api.to(MUSIC)) == 10
        assert [one["account"] for one in logs if one["event"] == "account.behind"] == [ME]
        bench.follower = bench.restarted()  # a restart in between forgets nothing
        followed = await bench.begin(following(f"account: {ME}"))
        for _ in range(3):
            await bench.look(followed)
    assert sorted(bench.found) == sorted(audio_id(number) for number in range(11, 1011))
    assert sum(one["event"] == "account.behind" for one in logs) == 2


async def test_a_page_that_somebody_else_reads_is_as_good(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.appear(1)
    bench.clock.move(10)
    await bench.gathering.look(ME)
    assert bench.found == [audio_id(1)]
    assert followed.done_at == bench.clock.awake()
    assert followed.looked_at == bench.clock.now()


async def test_the_one_track_that_is_under_way_is_read_with_the_list(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    identifier = bench.catalogue.put(track(1, **bench.made(1)))
    assert await bench.look(followed) == [1]
    watch = Watched(identifier, None, MINUTE, frozenset(), (), bench.reader.url_of(identifier))
    bench.gathering.switch(is_on=True)
    bench.gathering.enter(watch)
    bench.api.requests.clear()
    for _ in range(3):
        bench.clock.move(15)
        await bench.gathering.turn(watch)
        assert (followed.done_at, watch.seen_at) == (bench.clock.awake(), bench.clock.monotonic())
    assert bench.catalogue.asked() == ["+0", "+0", "+0"]


async def test_an_entry_that_returns_begins_anew_and_goes_on_with_what_it_had_found(bench: Bench) -> None:
    bench.catalogue.put(track(1, **bench.made(1)))
    await bench.begin(following(f"account: {ME}"))
    (gone,) = bench.follower.drop(but=())
    await bench.store.mark_watched([], now=bench.clock.now())
    bench.appear(2)
    assert await bench.look(gone) == []
    followed = await bench.begin(following(f"account: {ME}"))
    assert bench.found == [audio_id(1)]
    assert await bench.store.under_way() == {audio_id(1): ME}
    bench.appear(3)
    assert await bench.look(followed) == [3]


async def test_a_page_that_comes_in_when_its_account_is_taken_out_leaves_no_trace(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.appear(1)
    page = await bench.reader.read_page(ME)
    assert isinstance(page, Page)
    async with followed.turn:
        heard = asyncio.create_task(bench.follower.heard(ME, page))
        await asyncio.sleep(0)  # until it waits for its turn
        bench.follower.drop(but=())
        await bench.store.mark_watched([], now=bench.clock.now())
    await heard
    assert bench.found == []
    assert await bench.store.accounts() == {}


async def test_looks_at_a_list_that_is_left_alone_do_not_make_that_longer(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    watches = []
    for number in (1, 2):
        identifier = bench.catalogue.put(track(number, **bench.made(number)))
        url = bench.reader.url_of(identifier)
        watches.append(Watched(identifier, None, MINUTE, frozenset(), (), url))
        bench.gathering.enter(watches[-1])
    bench.gathering.switch(is_on=True)
    bench.catalogue.list_replies = lambda _request: Reply(body="<html>")
    for _ in range(4):
        await bench.look(followed)
        bench.clock.move(60)
    bench.catalogue.list_replies = lambda _request: None
    bench.clock.move(600)
    bench.catalogue.asked()
    await asyncio.gather(*map(bench.gathering.turn, watches))
    assert bench.catalogue.asked() == ["+0"]


async def test_a_look_that_nothing_is_new_in_writes_down_no_more_than_a_minute_of_it(bench: Bench) -> None:
    bench.appear(1)
    followed = await bench.begin(following(f"account: {ME}"))
    first = bench.clock.now()

    async def looked_at() -> datetime | None:
        async with Store(bench.store.path) as others:
            return (await others.accounts())[ME].looked_at

    assert await looked_at() == first
    for _ in range(3):
        await bench.look(followed)
        assert await looked_at() == first
    await bench.look(followed)
    assert await looked_at() == bench.clock.now()


async def test_somebody_may_want_a_look_while_one_is_under_way(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.appear(1)
    arrived, go_on = asyncio.Event(), asyncio.Event()
    page = answer({"data": []})

    def held(_request: Any) -> Reply | None:
        if go_on.is_set():
            return None
        arrived.set()
        return Reply(body=page.body, delay_until=go_on)

    bench.catalogue.list_replies = held
    look = asyncio.create_task(bench.follower.turn(followed))
    await arrived.wait()
    followed.ask()
    go_on.set()
    await look
    assert bench.found == [audio_id(1)]


# ------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_list_that_a_person_has_to_see_to_is_told_once_until_it_is_mended(
    bench: Bench, status: int
) -> None:
    bench.catalogue.list_replies = lambda _request: answer({"error": "no such account"}, status)
    with structlog.testing.capture_logs() as logs:
        followed = await bench.begin(following(f"account: {ME}"))
        requests = len(bench.api.requests)
        await bench.look(followed)
        assert len(bench.api.requests) == requests, "it is left alone for max_interval"
        for _ in range(3):
            bench.clock.move(300)
            await bench.look(followed)
        assert await bench.alerts() == [(ME, False)]
        row = (await bench.store.accounts())[ME]
        assert (row.trouble, row.looked_at) == (f"HTTP {status}: no such account", None)
        bench.catalogue.list_replies = lambda _request: None
        bench.clock.move(300)
        await bench.look(followed)
    assert await bench.alerts() == [(ME, False), (ME, True)]
    assert (await bench.store.accounts())[ME].trouble is None
    ours = [(one["event"], one["log_level"]) for one in logs if one["event"].startswith("account.")]
    assert ours == [
        ("account.unreadable", "error"),
        ("account.followed", "info"),
        ("account.readable", "info"),
    ]


async def test_a_restart_tells_nothing_twice_of_a_list_that_cannot_be_read(bench: Bench) -> None:
    bench.catalogue.list_replies = lambda _request: answer({"error": "no"}, 404)
    await bench.begin(following(f"account: {ME}"))
    bench.follower = bench.restarted()
    followed = await bench.begin(following(f"account: {ME}"))
    assert await bench.alerts() == [(ME, False)]
    bench.catalogue.list_replies = lambda _request: None
    bench.clock.move(300)
    await bench.look(followed)
    assert await bench.alerts() == [(ME, False), (ME, True)]


async def test_a_list_that_is_none_is_told_to_people_when_it_stays_so(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.catalogue.list_replies = lambda _request: Reply(body="<html>")
    with structlog.testing.capture_logs() as logs:
        for count in range(1, 6):
            await bench.look(followed)
            bench.clock.move(300)
            assert len(await bench.alerts()) == (count == 5)
    ours = [one["log_level"] for one in logs if one["event"] == "account.unreadable"]
    assert ours == ["warning"]


async def test_a_list_that_fails_alone_is_told_of_and_tracks_are_read_on(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.catalogue.list_replies = lambda _request: answer({"error": "oops"}, 500)
    identifier = bench.catalogue.put(track(9), account=YOU)
    watch = Watched(identifier, None, MINUTE, frozenset(), (), bench.reader.url_of(identifier))
    with structlog.testing.capture_logs() as logs:
        for _ in range(8):
            await bench.look(followed)
            bench.clock.move(600)
            await bench.gathering.turn(watch)
    assert await bench.alerts() == [(ME, False)]
    assert sum(one["event"] == "upstream.unavailable" for one in logs) == 1, "nothing else has to wait for it"


async def test_an_account_in_an_error_state_is_the_upstreams_trouble(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.catalogue.list_replies = lambda _request: answer({"error": "relink it"}, 596)
    with structlog.testing.capture_logs() as logs:
        await bench.look(followed)
        assert bench.upstream.accounts_in_trouble() == {ME: "HTTP 596: relink it"}
        assert (await bench.store.accounts())[ME].trouble == "HTTP 596: relink it"
        bench.catalogue.list_replies = lambda _request: None
        bench.clock.move(300)
        bench.appear(1)
        assert await bench.look(followed) == [1]
    assert [one["event"] for one in logs if not one["event"].startswith("track")] == [
        "upstream.unavailable",
        "upstream.recovered",
    ]
    assert await bench.alerts() == []


async def test_what_cannot_be_written_down_is_found_again(bench: Bench) -> None:
    followed = await bench.begin(following(f"account: {ME}"))
    bench.appear(1)
    other = sqlite3.connect(bench.store.path)
    other.execute(
        "CREATE TRIGGER full BEFORE INSERT ON followed BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
    )
    other.commit()
    assert await bench.look(followed) == []
    assert bench.store.trouble is not None
    requests = len(bench.api.requests)
    assert await bench.look(followed) == []
    assert len(bench.api.requests) == requests, "nothing is asked that could not be kept"
    other.execute("DROP TRIGGER full")
    other.commit()
    other.close()
    await bench.store.prove()
    assert await bench.look(followed) == [1]


async def test_an_address_that_is_spelt_another_way_lets_its_list_be_looked_at_at_once(bench: Bench) -> None:
    bench.catalogue.list_replies = lambda _request: answer({"error": "no such account"}, 404)
    await bench.begin(following(f"account: {ME.upper()}"))
    bench.catalogue.list_replies = lambda _request: None
    await bench.begin(following(f"account: {ME}"))
    assert (await bench.store.accounts())[ME].trouble is None


async def test_another_token_lets_a_list_be_looked_at_at_once(bench: Bench) -> None:
    bench.catalogue.list_replies = lambda _request: answer({"error": "no"}, 403)
    followed = await bench.begin(following(f"account: {ME}"))
    bench.catalogue.list_replies = lambda _request: None
    bench.catalogue.put(failed(1, **bench.made(1)))
    bench.follower.renew()
    await bench.look(followed)
    assert (await bench.store.accounts())[ME].trouble is None


async def test_new_tracks_wait_for_room_and_none_is_passed_over(bench: Bench) -> None:
    followed = await bench.begin(following("account: me@example.com"))
    bench.room = 2
    bench.appear(1, 2)
    assert sorted(await bench.look(followed)) == [1, 2]
    bench.appear(3, 4)
    with structlog.testing.capture_logs() as logs:
        assert await bench.look(followed) == []
        assert await bench.look(followed) == []
    assert [line["event"] for line in logs] == ["account.crowded"]
    bench.room = 5
    assert sorted(await bench.look(followed)) == [3, 4]
    assert await bench.look(followed) == []
