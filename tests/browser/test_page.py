"""The status page in Chromium: how it looks, that it is live, and that nothing foreign gets in or out."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from notifier.track import parse
from notifier.transition import Sighting
from tests.browser.conftest import Reader
from tests.browser.scenes import (
    HOSTILE_URLS,
    MARKUP,
    MINUTE,
    NOW,
    SCENES,
    Author,
    broken,
    hostile,
    many,
    shown,
    tracks_of_a_day,
    typical,
)
from tests.support.process import daemon
from tests.support.scenes import Scene as Setting
from tests.support.servers import PATIENCE, Reply, free_port, serving
from tests.support.tracks import answer, audio_id, completed, path_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOOKING = Path(__file__).with_name("looking.js").read_text(encoding="utf-8")
Way = tuple[Literal["light", "dark"], int]
BOTH_WAYS: tuple[Way, ...] = (("light", 1280), ("dark", 390))
EVERY_WAY: tuple[Way, ...] = (*BOTH_WAYS, ("light", 390), ("dark", 1280))
"""How the page is looked at; in every way where everything is on it that can be."""
WAVE = (
    "RIFF"
    + "\x24\x70\x07\x00"
    + "WAVEfmt "
    + "\x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00"
    "\x01\x00\x08\x00" + "data" + "\x00\x70\x07\x00" + "\x7f" * 0x77000
)
"""A minute of silence, all of whose bytes are ASCII."""

expect.set_options(timeout=PATIENCE * 1000)


async def is_live(page: Page) -> None:
    """Wait until the page hears of changes."""
    await expect(page.locator("#link")).to_have_attribute("data-state", "live")


@pytest.mark.parametrize("name", SCENES)
async def test_every_scene_is_legible_and_fits(name: str, reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, SCENES[name]) as scene:
        page = await reader.opens(scene.url)
        await is_live(page)
        for scheme, width in EVERY_WAY if name == "broken" else BOTH_WAYS:
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": 844})
            assert await page.evaluate(LOOKING) == [], (scheme, width)
        assert reader.complaints == []
        assert reader.foreign(scene.url) == []


async def test_on_a_phone_each_number_says_of_what_it_is(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, broken) as scene:
        page = await reader.opens(scene.url, width=390)
        labels = await page.evaluate(
            """() => [...document.querySelectorAll("main td")].filter(one => /^[0-9,]+$/.test(one.innerText))
                .map(one => getComputedStyle(one, "::before").content)"""
        )
    assert {*labels} == {
        '"waiting "',
        '"given up "',
        '"delivered "',
        '"ID "',
        '"found "',
        '"in progress "',
    }


async def test_whoever_wants_less_motion_gets_none(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, SCENES["empty"]) as scene:
        page = await reader.opens(scene.url)
        for wanted, behaviour in (("reduce", "auto"), ("no-preference", "smooth")):
            await page.emulate_media(reduced_motion=wanted)  # type: ignore[arg-type]
            assert (
                await page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
            )


@pytest_asyncio.fixture(loop_scope="session")
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """A watchlist for the real daemon, with an API and a receiver."""
    async with serving() as api, serving() as receiver:
        setting = Setting(tmp_path, api, receiver)
        setting.http = f"127.0.0.1:{free_port()}"
        setting.target("archive", "/webhook/archive")
        yield setting


USE = """() => {
    window.marker = "the same page";
    document.querySelector("details").open = true;
    const input = document.getElementById("q");
    input.value = "typed";
    input.focus({preventScroll: true});
    input.setSelectionRange(1, 3);
    window.scrollTo({top: 120, behavior: "instant"});
    return document.querySelector("audio").play();
}"""
HOW = """() => {
    const input = document.getElementById("q"), audio = document.querySelector("audio");
    return {
        marker: window.marker,
        open: document.querySelectorAll("details[open]").length,
        typed: input.value,
        focused: document.activeElement === input,
        selection: [input.selectionStart, input.selectionEnd],
        scrolled: window.scrollY,
        paused: window.player.paused,
        kept: window.player.isConnected,
    };
}"""


async def test_a_change_shows_by_itself_and_disturbs_nobody(reader: Reader, setting: Setting) -> None:
    media = setting.api.url
    setting.api.reply("/media/1.wav", Reply(body=WAVE, content_type="audio/wav"))
    setting.api.reply(path_of(audio_id(1)), answer(completed(1, url=f"{media}/media/1.wav")))
    async with daemon(setting.write(1, 2, 3)) as running:
        await running.logged("delivery.delivered")
        # NB: its timers stand still, so that only the server can have said that something has changed
        page = await reader.opens(f"http://{setting.http}/", width=390, height=500, is_frozen=True)
        await is_live(page)
        await expect(page.locator("tr", has_text="Track 1").first).to_contain_text("ready")
        assert setting.api.to("/media/1.wav") == []
        await page.evaluate("window.player = document.querySelector('audio')")
        await page.evaluate(USE)
        setting.complete(2)
        await expect(page.locator("#choices")).to_contain_text("Ready 2")
        setting.complete(3)
        await expect(page.locator("#choices")).to_contain_text("Ready 3")
        await expect(page.locator("#recent")).to_contain_text("Track 3 is ready")
        assert await page.evaluate(HOW) == {
            "marker": "the same page",
            "open": 1,
            "typed": "typed",
            "focused": True,
            "selection": [1, 3],
            "scrolled": 120,
            "paused": False,
            "kept": True,
        }
        order = await page.locator("#track-rows .name").all_inner_texts()
        assert sorted(order) == ["Track 1", "Track 2", "Track 3"]
        for request in setting.api.to("/media/1.wav"):
            assert "Referer" not in request.headers
        assert {*reader.foreign(f"http://{setting.http}")} == {f"{media}/media/1.wav"}
        assert reader.complaints == []


async def test_what_plays_goes_on_although_its_row_goes(reader: Reader, tmp_path: Path) -> None:
    async with serving() as media:
        media.reply("/14.mp3", Reply(body=WAVE, content_type="audio/wav"))

        async def day(author: Author) -> None:
            await tracks_of_a_day(author, media.url)

        async with shown(tmp_path, day) as scene:
            page = await reader.opens(f"{scene.url}/?state=ready", is_frozen=True)
            await is_live(page)
            await page.evaluate("(window.player = document.querySelector('audio')).play()")
            gone = Sighting("MISSING", True, None, NOW)
            await scene.store.record(audio_id(14), gone, None, [], now=NOW)
            await expect(page.locator("#choices")).to_contain_text("Missing 1")
            assert await page.evaluate("!window.player.paused && window.player.isConnected")
            await page.evaluate("window.player.pause()")
            await scene.store.record(audio_id(13), gone, None, [], now=NOW)
            await expect(page.locator("#choices")).to_contain_text("Missing 2")
            assert await page.evaluate("window.player.isConnected") is False
            left = ["Yesterday's ballad", "Credits roll", "Menu loop"]
            assert await page.locator("#track-rows .name").all_inner_texts() == left


USE_ROWS = """() => {
    const row = (name) => [...document.querySelectorAll("#track-rows tr")]
        .find((one) => one.querySelector(".name").textContent === name);
    row("Two left feet").querySelector("summary").focus();
    document.getSelection().selectAllChildren(row("Rooftop chase").querySelector("time"));
    window.player = row("Intro theme").querySelector("audio");
    return window.player.play();
}"""


USE_NOTHING = """() => {
    document.getSelection().removeAllRanges();
    document.activeElement.blur();
    window.player.pause();
}"""


async def test_rows_change_places_around_what_is_in_use(reader: Reader, tmp_path: Path) -> None:
    async with serving() as media:
        media.reply("/14.mp3", Reply(body=WAVE, content_type="audio/wav"))

        async def day(author: Author) -> None:
            await tracks_of_a_day(author, media.url)

        async with shown(tmp_path, day) as scene:
            page = await reader.opens(scene.url, is_frozen=True)
            await is_live(page)
            await page.evaluate(USE_ROWS)
            # what has the focus gets ready a while ago: it goes behind what has failed since
            scene.clock.move(600)
            now, ready = scene.clock.now(), Sighting("COMPLETED", True, None, NOW)
            await scene.store.record(audio_id(4), ready, parse(completed(4)), [], now=NOW - 10 * MINUTE)
            # what plays leaves the watchlist: it goes to the end
            config = scene.situation.config
            watch = tuple(one for one in config.tracks if one.audio_id != audio_id(14))
            scene.situation = replace(
                scene.situation, config=config.model_copy(update={"watch": watch}), loaded_at=now
            )
            await expect(page.locator("#choices")).to_contain_text("Off the watchlist 1")
            await expect(page.locator("#choices")).to_contain_text("In progress 3")
            assert await page.evaluate(
                "document.activeElement.closest('tr').innerText.includes('Two left feet')"
            )
            assert await page.evaluate("!window.player.paused && window.player.isConnected")
            assert await page.evaluate("document.getSelection().toString()") == "31m ago"
            # once nothing is in use all is in order
            await page.evaluate(USE_NOTHING)
            await scene.store.drop([1])
            async with aiohttp.ClientSession() as session, session.get(scene.url) as response:
                names = re.findall(r'class="name">(.*?)</span>', await response.text())
            expected = [html.unescape(name) for name in names]
            assert (expected[4], expected[9]) == ("Two left feet", "PixVerse_Music_14.mp3")
            await expect(page.locator(".name")).to_have_text(expected)


async def test_without_a_stream_it_looks_every_ten_seconds(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = await reader.opens("about:blank", is_frozen=True)
        await page.context.route("**/events", lambda route: route.abort())
        await page.goto(scene.url)
        await expect(page.locator("#link-text")).to_have_text("Looks every 10 seconds")
        await scene.store.record(audio_id(1), Sighting("MISSING", True, None, NOW), None, [], now=NOW)
        await page.clock.run_for(9_000)
        assert reader.requests.count(f"{scene.url}/") == 1
        async with page.expect_request(f"{scene.url}/"):
            await page.clock.run_for(1_500)
        while await page.locator("#choices", has_text="Missing 1").count() == 0:
            await page.clock.run_for(1_000)


async def test_a_daemon_that_stops_is_missed_and_found_again(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = await reader.opens(scene.url, is_frozen=True)
        await is_live(page)
        http = scene.situation.config.http
        await scene.site.move(None)
        await page.clock.run_for(11_000)
        await expect(page.locator("#link-text")).to_contain_text("No connection; this is how it was at")
        await expect(page.locator("#choices")).to_contain_text("Ready 5")
        await scene.site.move(http)
        async with asyncio.timeout(PATIENCE):
            while await page.locator("#link").get_attribute("data-state") != "live":
                await page.clock.run_for(5_000)


async def test_a_hidden_page_asks_for_nothing(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = await reader.opens(scene.url, is_frozen=True)
        await is_live(page)
        hide = """(isHidden) => {
            Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        await page.evaluate(hide, True)
        asked = len(reader.requests)
        await scene.store.record(audio_id(1), Sighting("MISSING", True, None, NOW), None, [], now=NOW)
        await page.clock.run_for(60_000)
        assert len(reader.requests) == asked
        assert reader.requests.count(f"{scene.url}/events") == 1
        await page.evaluate(hide, False)
        await expect(page.locator("#choices")).to_contain_text("Missing 1")
        await is_live(page)
        assert reader.requests.count(f"{scene.url}/events") == 2, "the first was not closed"


async def test_without_scripts_it_is_a_plain_page(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, broken) as scene:
        page = await reader.opens(scene.url, has_scripts=False)
        assert await page.locator('meta[http-equiv="refresh"][content="10"]').count() == 1
        assert "Not working" in await page.locator("#verdict").inner_text()
        await page.locator("#choices a", has_text="Failed").click()
        assert page.url == f"{scene.url}/?state=failed#tracks"
        assert await page.locator("#track-rows .name").all_inner_texts() == ["Boss fight"]
        await page.locator("#q").fill("boss")
        await page.locator("#q").press("Enter")
        await page.wait_for_url(f"{scene.url}/?state=failed&q=boss#tracks")
        await page.locator("#choices a", has_text="All").click()
        assert await page.locator("#track-rows .name").all_inner_texts() == ["Boss fight"]
        assert reader.complaints == []
        assert reader.foreign(scene.url) == []
        with_scripts = await reader.opens(scene.url)
        assert await with_scripts.locator('meta[http-equiv="refresh"]').count() == 0


FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    const {top, left, bottom} = one.getBoundingClientRect();
    const isOutlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const isShown = left >= 0 && bottom > 0 && top < innerHeight;
    const isNoticed = isShown && (isOutlined || one.localName === "audio");
    return [one.localName, one.id || one.textContent.trim(), isNoticed];
}"""


async def test_the_keyboard_reaches_everything_in_order(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = await reader.opens(scene.url)
        await is_live(page)
        await page.emulate_media(reduced_motion="reduce")
        await page.keyboard.press("Tab")
        assert await page.evaluate(FOCUSED) == ["a", "Skip to the tracks", True]
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "tracks"
        reached: list[list[object]] = []
        while not reached or reached[-1][1] != "JSON":
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate(FOCUSED))
            assert len(reached) < 100
        assert all(is_visible for *_, is_visible in reached), reached
        kinds = [
            str(kind)
            for index, (kind, *_) in enumerate(reached)
            if not index or reached[index - 1][0] != kind
        ]
        assert kinds == ["input", "button", "a", "summary", *["audio", "summary"] * 4, "audio", "a"]
        assert [text for kind, text, _ in reached if kind == "a"][:4] == [
            "All 10",
            "In progress 4",
            "Ready 5",
            "Failed 1",
        ]
        await page.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        assert await page.locator("details").first.get_attribute("open") is not None


async def test_it_says_to_screen_readers_what_it_is(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, typical) as scene:
        page = await reader.opens(scene.url, width=390)
        await is_live(page)
        await expect(page.get_by_role("table")).to_have_count(3)
        table = page.get_by_role("table", name="Tracks 1 to 10 of 10")
        await expect(page.get_by_role("table", name="The last messages that were sent")).to_have_count(1)
        await expect(page.get_by_role("table", name="Targets, their state")).to_have_count(1)
        await expect(table.get_by_role("row")).to_have_count(11)
        await expect(table.get_by_role("rowheader")).to_have_count(10)
        await expect(page.get_by_role("status")).to_contain_text("All is well 4 in progress")
        await expect(page.get_by_role("searchbox", name="Search by name or audio_id")).to_have_count(1)
        await expect(page.get_by_role("navigation", name="Tracks by state")).to_have_count(1)
        await expect(page.get_by_role("heading", name="Tracks")).to_have_count(1)


async def test_nothing_foreign_runs_or_is_fetched(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, hostile) as scene:
        for number in (2, 1):
            page = await reader.opens(f"{scene.url}/?page={number}")
            await is_live(page)
            addresses = await page.evaluate(
                "[...document.querySelectorAll('[src], [href]')].map(one => one.src || one.href)"
            )
            assert all(re.match(r"https?://", address) for address in addresses)
            assert await page.locator("main script, main img, main iframe, main textarea").count() == 0
        for number, text in enumerate(MARKUP, start=900):
            fields = completed(number, name=text, prompt=text, url=HOSTILE_URLS[number % len(HOSTILE_URLS)])
            found = parse(fields)
            await scene.store.record(audio_id(1), Sighting(text, True, text, NOW), found, [], now=NOW)
            await scene.store.record(audio_id(number), Sighting(text, True, text, NOW), found, [], now=NOW)
        await expect(page.locator("#choices")).to_contain_text(f"Off the watchlist {len(MARKUP)}")
        assert reader.complaints == []
        assert reader.foreign(scene.url) == []


async def test_thousands_of_tracks_are_leafed_through(reader: Reader, tmp_path: Path) -> None:
    async with shown(tmp_path, lambda author: many(author, 120)) as scene:
        page = await reader.opens(scene.url)
        await is_live(page)
        await page.get_by_role("link", name="Next").click()
        await is_live(page)
        await expect(page.locator("#pages")).to_contain_text("51–100 of 120")
        await scene.store.record(audio_id(2), Sighting("MISSING", True, None, NOW), None, [], now=NOW)
        await expect(page.locator("#choices")).to_contain_text("Missing 1")
        await expect(page.locator("#pages")).to_contain_text("51–100 of 120")
        await page.locator("#q").fill("sketch 11")
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator("#track-rows .name")).to_have_count(11)
