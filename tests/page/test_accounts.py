"""What the status page shows of accounts that are followed."""

from dataclasses import replace
from pathlib import Path

from notifier.bookmark import Bookmark
from tests.browser.scenes import MINUTE, NOW, Author, Scene, shown
from tests.page.test_page import get, names, row
from tests.support.catalogue import ME
from tests.support.hostile import misleading
from tests.support.tracks import audio_id, completed, track


async def followed(author: Author) -> None:
    """Tell of an account that has brought three tracks, one of which has an entry of its own."""
    author.watch.append({"account": ME, "name": "The <b>band</b>"})
    found = [audio_id(number) for number in (1, 2, 3)]
    await author.store.discover(ME, Bookmark(NOW), found, now=NOW - 20 * MINUTE)
    await author.seen(1, completed(1), is_watched=False)
    await author.seen(2, track(2), is_watched=False)
    await author.seen(3, completed(3), name="Mine")
    await author.seen(4, completed(4), is_watched=False)


async def accounts(scene: Scene) -> str:
    return row(await get(scene), "The <b>band</b>", "accounts")


async def test_an_account_is_shown_with_what_it_has_brought(tmp_path: Path) -> None:
    async with shown(tmp_path, followed) as scene:
        shown_of_it = await accounts(scene)
        assert shown_of_it == (f"The <b>band</b> {ME} followed looked at 20m ago 3 last 20m ago 1")
        scene.situation = replace(scene.situation, looked_at={ME: NOW - MINUTE})
        scene.clock.move(1)
        assert "looked at 1m ago" in await accounts(scene)


async def test_its_tracks_are_watched_and_go_by_its_name(tmp_path: Path) -> None:
    async with shown(tmp_path, followed) as scene:
        page = await get(scene)
    assert names(page) == [
        "The <b>band</b>: PixVerse_Music_2.mp3",
        "Mine",
        "The <b>band</b>: PixVerse_Music_1.mp3",
        "PixVerse_Music_4.mp3",
    ]
    assert "off the watchlist" in row(page, "PixVerse_Music_4.mp3")
    assert "off the watchlist" not in row(page, "The <b>band</b>: PixVerse_Music_1.mp3")


async def test_a_list_that_was_not_read_says_why(tmp_path: Path) -> None:
    async def failing(author: Author) -> None:
        author.watch.append({"account": ME})
        author.watch.append({"account": "you@example.com"})
        await author.store.discover(ME, None, now=NOW, trouble="HTTP 404: \u202eno <script>")

    async with shown(tmp_path, failing) as scene:
        page = await get(scene)
    assert "HTTP 404" in row(page, ME, "accounts")
    assert "<script>" not in page.partition("<body>")[2]
    assert misleading(page) == set()
    assert row(page, "you@example.com", "accounts") == "you@example.com not looked at yet 0 0"


async def test_without_accounts_there_is_no_table_of_them(tmp_path: Path) -> None:
    async def none(author: Author) -> None:
        await author.seen(1, completed(1))

    async with shown(tmp_path, none) as scene:
        assert 'id="accounts"' not in await get(scene)
