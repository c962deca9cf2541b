"""The status page as the daemon serves it, read as HTML."""

import asyncio
import contextlib
import html
import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from notifier.delivery import DeliveryState
from notifier.event import EventType
from notifier.page import StatusPage
from notifier.page.catalogue import PER_PAGE
from notifier.store import StorageError, Store
from notifier.track import parse
from notifier.transition import Sighting
from notifier.usage import DAY, Meter, Usage, hour_of
from tests.browser.scenes import (
    MINUTE,
    NOW,
    SECRETS,
    Author,
    Scene,
    broken,
    empty,
    hostile,
    many,
    shown,
    typical,
)
from tests.support.hostile import misleading
from tests.support.servers import PATIENCE
from tests.support.tracks import audio_id, completed, track
from tests.support.watchlists import loaded


async def get(scene: Scene, path: str = "/") -> str:
    async with aiohttp.ClientSession() as session, session.get(scene.url + path) as response:
        assert response.status == 200
        return await response.text()


def text_of(page: str) -> str:
    """Return what a person reads, each piece on a line."""
    page = page.partition("<body>")[2]
    return "\n".join(filter(None, (html.unescape(one).strip() for one in re.split(r"<[^>]*>", page))))


class Attributes(HTMLParser):
    """The names of all attributes of a page, read as a browser does."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes of an element."""
        self.names |= {name for name, _ in attrs}


def row(page: str, name: str, section: str = "tracks") -> str:
    """Return what stands in the first row of a section that is called so."""
    part = page.partition(f'<section id="{section}"')[2].partition("</section>")[0]
    found = re.findall(r"<tr role=\"row\" id=.*?</tr>", part, re.DOTALL)
    rows = [text_of("<body>" + one).split("\n") for one in found]
    return next(" ".join(row) for row in rows if name in row[:2])


def names(page: str) -> list[str]:
    """Return the tracks that are listed."""
    tracks = page.partition('id="track-rows"')[2].partition("</table>")[0]
    return [html.unescape(one) for one in re.findall(r'class="name">(.*?)</span>', tracks)]


async def test_an_afternoon(tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = await get(scene)
    assert "All is well\n4 in progress, 5 ready, 1 failed" in text_of(page)
    assert "<title>4 in progress, 5 ready, 1 failed · pixverse-notifier</title>" in page
    assert "valid, loaded\n2h ago\n/etc/notifier/watchlist.yaml" in text_of(page)
    assert row(page, "Endless drone").startswith("generating Endless drone music-2.6")
    assert row(page, "Endless drone").endswith("21:00 so far longer than usual (2:30)")
    assert row(page, "Harbour at night").endswith("1:02 so far about 1:30 left")
    assert row(page, "Two left feet").startswith("queued")
    assert row(page, "Intro theme").startswith("ready Intro theme 3:22 · music-2.6")
    assert row(page, "Intro theme").endswith("17m ago took 2:30")
    assert "The backend was busy and gave up on this track" in row(page, "Boss fight")
    assert row(page, "Intro theme is ready", "recent") == (
        "Intro theme is ready archive delivered HTTP 204 16m ago"
    )
    assert row(page, "band-room", "targets") == "band-room slack open 0 0 6"
    assert 'src="https://media.example.com/14.mp3"' in page
    assert "Dead letters" not in page


async def test_how_much_the_api_is_asked_is_shown_without_a_step_when_it_is_written_down(
    tmp_path: Path,
) -> None:
    async def asked(author: Author) -> None:
        author.watch.append({"audio_id": audio_id(1)})
        await author.store.add_usage(hour_of(NOW), Usage(20, 2, 50), kept_from=NOW - DAY)
        await author.store.add_usage(hour_of(NOW) - DAY, Usage(1000), kept_from=NOW - DAY)

    meter = Meter(now=lambda: 0.0, period=lambda interval: interval)
    async with shown(tmp_path, asked) as scene:
        page = StatusPage(scene.store, clock=scene.clock, situation=lambda: scene.situation)

        async def usage() -> str:
            scene.situation = replace(scene.situation, counted=meter.counted, written=meter.written)
            scene.clock.move(1)
            return text_of(await page.html({})).partition("useapi.net\nanswers\n")[2].partition("\n")[0]

        assert await usage() == "22 requests in the last hour, 56 % fewer than reading each track every 15s"
        meter.track, meter.fixed = 8, 10.0
        before, mark = await usage(), await page.mark()
        assert before == "30 requests in the last hour, 50 % fewer than reading each track every 15s"
        written = meter.unwritten
        await scene.store.add_usage(hour_of(NOW), written, kept_from=NOW - DAY)
        async with asyncio.timeout(PATIENCE):
            while await page.mark() == mark:  # read before it counts as written down
                await asyncio.sleep(0.01)
            meter.wrote(written)
            while await usage() != before:
                await asyncio.sleep(0.01)


async def test_a_daemon_that_has_asked_nothing_all_day_says_nothing_of_it(tmp_path: Path) -> None:
    async def idle(author: Author) -> None:
        await author.store.add_usage(hour_of(NOW) - 2 * DAY, Usage(1000, 1, 1), kept_from=NOW - 3 * DAY)

    async with shown(tmp_path, idle) as scene:
        assert "request" not in text_of(await get(scene))
        scene.situation = replace(scene.situation, counted=Usage(track=1))
        scene.clock.move(1)
        assert "useapi.net\nanswers\n1 request in the last hour\n" in text_of(await get(scene))


async def test_a_bad_day(tmp_path: Path) -> None:
    async with shown(tmp_path, broken) as scene:
        page = await get(scene)
    text = text_of(page)
    assert "Not working\n5 in progress, 5 ready, 1 failed, 1 missing" in text
    assert "the API cannot be read: HTTP 401: Unauthorized\nthe target band-room is paused" in text
    assert "invalid\n, the one of\n2h ago\nis in force" in text
    assert "watch[0].notify[0]: unknown target 'band-rom', did you mean 'band-room'?" in text
    assert "waiting: HTTP 401: Unauthorized, next try in 3m" in text
    assert row(page, "band-room", "targets") == (
        "band-room slack paused for 58m HTTP 404: no_service after mending: notifier resume band-room"
        " 6 oldest 1h ago 0 0"
    )
    assert row(page, "archive", "targets") == (
        "archive webhook waiting next try in 4m HTTP 503: Service Unavailable 4 oldest 45m ago 2 0"
    )
    dead = text.partition("Dead letters")[2].partition("Recent deliveries")[0]
    assert 'HTTP 422\n{"error": "body.text must not be longer than 200 characters"' in dead
    assert row(page, "Lost tape").startswith("missing")
    assert row(page, "Not read yet") == "not read yet Not read yet Details , details of Not read yet" + (
        f" audio_id {audio_id(22)} —"
    )
    assert row(page, "PixVerse_Music_23.mp3").startswith("ready, off the watchlist")


async def test_a_new_daemon(tmp_path: Path) -> None:
    async with shown(tmp_path, empty) as scene:
        text = text_of(await get(scene))
    assert "No tracks yet." in text
    assert "Nothing was sent yet." in text
    assert "All is well\nno tracks" in text


async def test_where_all_that_was_sent_is_dead_it_does_not_say_that_nothing_was(tmp_path: Path) -> None:
    async def refused(author: Author) -> None:
        await author.seen(1, completed(1), told=("archive",), event=EventType.COMPLETED)
        await author.refused("archive", status=400, answer="no", ago=MINUTE, state=DeliveryState.DEAD)

    async with shown(tmp_path, refused) as scene:
        text = text_of(await get(scene))
    assert "Recent deliveries\nNone but the dead letters." in text
    assert "Nothing was sent yet." not in text


async def test_thousands_of_tracks_are_read_in_pages(tmp_path: Path) -> None:
    count = 3 * PER_PAGE + 7
    async with shown(tmp_path, lambda author: many(author, count)) as scene:
        pages = [await get(scene, f"/?page={page}") for page in range(1, 6)]
        assert [len(names(page)) for page in pages] == [50, 50, 50, 7, 7]
        listed = [name for page in pages[:4] for name in names(page)]
        assert sorted(listed) == sorted(f"Sketch {number}" for number in range(1, count + 1))
        assert "101–150 of 157" in text_of(pages[2])
        assert '<a rel="prev" href="/?page=2#tracks">' in pages[2]
        assert '<a rel="next" href="/?page=4#tracks">' in pages[2]
        ready = await get(scene, "/?state=ready&q=sketch+14")
        assert names(ready) == [f"Sketch {number}" for number in (149, 148, 146, 145, 143, 142, 140, 14)]
        assert 'value="sketch 14"' in ready
        assert '<input type="hidden" name="state" value="ready">' in ready
        assert "No track is like that." in text_of(await get(scene, "/?q=nothing"))


async def test_what_comes_from_outside_stays_text_and_holds_no_secret(tmp_path: Path) -> None:
    async with shown(tmp_path, hostile) as scene:
        pages = [await get(scene, f"/?page={number}") for number in (1, 2)]
        echoed = await get(scene, "/?q=%22%3E%3Cscript%3Ealert(9)%3C/script%3E&state=%3Cb%3E")
    for page in (*pages, echoed):
        assert not [secret for secret in SECRETS if secret[:8] in page]
        assert not misleading(text_of(page))
        assert page.count("<script") == 1
        assert "&lt;script&gt;alert(" in page
        attributes = Attributes()
        attributes.feed(page)
        assert not [name for name in attributes.names if name.startswith("on") or name == "style"]
    addresses = [html.unescape(url) for page in pages for url in re.findall(r' (?:src|href)="(.*?)"', page)]
    foreign = {url.partition("?")[0] for url in addresses if not url.startswith("/")}
    assert foreign - {"#tracks"}
    assert all(urlsplit(url).scheme == "https" for url in foreign - {"#tracks"})
    assert not [url for url in foreign if "@" in url or "\\" in url]


async def test_a_secret_in_a_status_is_masked_before_it_is_cut(tmp_path: Path) -> None:
    async def telling(author: Author) -> None:
        for number, before in enumerate(("", "x" * 16, "x" * 22)):
            fields = {"audio_status_name": before + "SlackHunter2", "created_at": "2026-06-23T12:37:20Z"}
            found = track(number, **fields)
            await author.seen(number, found, name="Slow", told=("archive",), event=EventType.STALLED)
        await author.refused("archive", status=400, answer="", ago=MINUTE, state=DeliveryState.DEAD, count=3)
        author.targets["band-room"] = {"type": "slack", "url": "https://example.com/SlackHunter2"}

    async with shown(tmp_path, telling) as scene:
        page = await get(scene)
    assert "slackh" not in page.lower()
    assert row(page, "***", "tracks").startswith("*** Slow")
    assert f"Slow is still {'x' * 22}***" in page


async def test_what_is_awaited_follows_from_what_was_seen_meanwhile(tmp_path: Path) -> None:
    async def slow(author: Author) -> None:
        await author.seen(1, track(1, created_at="2026-06-23T12:37:20Z"), name="Waiting")
        for number in (2, 3):
            await author.seen(number, completed(number), name=f"Done {number}")
        author.watch.append({"audio_id": audio_id(4), "name": "Done 4"})

    async with shown(tmp_path, slow) as scene:
        assert row(await get(scene), "Waiting").endswith("1:00 so far")
        done = parse(completed(4))
        await scene.store.record(audio_id(4), Sighting("COMPLETED", True, None, NOW), done, [], now=NOW)
        async with asyncio.timeout(PATIENCE):
            while not row(await get(scene), "Waiting").endswith("1:00 so far about 2:20 left"):
                await asyncio.sleep(0.01)
        # the API's clock may be ahead of ours
        scene.situation = replace(scene.situation, clock_offset=timedelta(minutes=1))
        scene.clock.move(1)
        assert row(await get(scene), "Waiting").endswith("2:01 so far about 1:20 left")


async def shows(page: StatusPage, text: str, *, there: bool = True) -> None:
    """Wait until a text is on the page, or is not."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(StorageError):
                if (text in await page.html({})) is there:
                    return
            await asyncio.sleep(0.01)


async def test_a_state_file_that_does_not_answer_is_shown_as_it_was(tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = StatusPage(scene.store, clock=scene.clock, situation=lambda: scene.situation, patience=0.1)
        await shows(page, "This is how it was before", there=False)
        with contextlib.closing(sqlite3.connect(scene.store.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await shows(page, "This is how it was before: the state file does not answer")
            assert "Intro theme" in names(await page.html({}))
            while_held = await page.mark()
            other.execute("ROLLBACK")
        await shows(page, "This is how it was before", there=False)
        async with asyncio.timeout(PATIENCE):
            while await page.mark() == while_held:
                await asyncio.sleep(0.01)


async def test_a_state_file_that_never_answered_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"")
    async with Store(tmp_path / "state.db") as store, shown(tmp_path / "other", empty) as scene:
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        page = StatusPage(store, clock=scene.clock, situation=lambda: scene.situation, patience=0.05)
        with pytest.raises(StorageError, match="the state file does not answer"):
            await page.html({})
        assert (await page.mark())[0] == "the state file does not answer"  # type: ignore[index]
        other.execute("ROLLBACK")
        other.close()


async def test_a_changed_watchlist_shows_at_once(tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        assert "Boss fight" in names(await get(scene))
        author = Author(scene.store)
        author.watch = [{"audio_id": audio_id(20), "name": "Renamed"}, {"audio_id": audio_id(99)}]
        author.targets = {"archive": {"type": "webhook", "url": "https://example.com/x"}}
        scene.situation = replace(scene.situation, config=loaded(author.watchlist()).config)
        page = await get(scene)
    assert names(page)[:2] == [audio_id(99), "Renamed"]
    assert row(page, "studio", "targets") == "studio removed 0 0 6"
    assert row(page, "Intro theme is ready", "recent")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with shown(tmp_path, typical) as scene:
        yield scene


async def test_the_mark_changes_with_what_is_shown_and_not_by_itself(scene: Scene) -> None:
    page = StatusPage(scene.store, clock=scene.clock, situation=lambda: scene.situation)
    before = await page.mark()
    scene.clock.move(60)
    assert await page.mark() == before
    scene.situation = replace(scene.situation, degraded=("something",))
    assert await page.mark() != before
    scene.situation = replace(scene.situation, degraded=())
    assert await page.mark() == before
    await scene.store.drop([1])
    async with asyncio.timeout(PATIENCE):
        while await page.mark() == before:
            await asyncio.sleep(0.01)


async def test_a_crowd_costs_no_more_than_one_reader(scene: Scene) -> None:
    page = StatusPage(scene.store, clock=scene.clock, situation=lambda: scene.situation)
    crowd = await asyncio.gather(*(page.html({"state": "ready"}) for _ in range(200)), page.html({}))
    assert {id(text) for text in crowd[:-1]} == {id(crowd[0])}
    assert crowd[-1] != crowd[0]
    scene.clock.move(1)
    assert await page.html({}) != crowd[-1]


async def test_the_stream_ends_when_the_listener_goes(scene: Scene) -> None:
    async with aiohttp.ClientSession() as session, session.get(scene.url + "/events") as response:
        assert "media-src http: https:" in response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"
        assert await response.content.readuntil(b"\n\n") == b"retry: 3000\n\n"
        await scene.store.drop([1])
        assert await response.content.readuntil(b"\n\n") == b"event: changed\ndata: 1\n\n"
        await scene.site.move(None)
        assert await response.content.read() == b""
