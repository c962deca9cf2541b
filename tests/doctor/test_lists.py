"""What `doctor` learns of many watches with few requests: from the lists of their accounts."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from notifier.doctor import Check, Finding, Health, Limits, examine
from tests.support.catalogue import ME, Catalogue
from tests.support.scenes import Scene
from tests.support.servers import Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id, completed, track

YOU = "you@example.com"


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.target("archive", "/webhook")
    return scene


async def watches(scene: Scene, *numbers: int, is_all: bool = False) -> dict[str, Finding]:
    findings = await examine(str(scene.write(*numbers)), None, limits=Limits(is_all))
    return {one.subject: one for one in findings if one.check is Check.WATCH}


def told(findings: dict[str, Finding]) -> list[int]:
    """Return the numbers of the tracks whose status was found out."""
    return [int(one.rpartition(":")[2]) for one in findings if one.startswith("user:")]


async def test_a_page_tells_of_all_that_are_unfinished_of_one_account(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 41))
    catalogue.put(completed(7))
    found = await watches(scene, *range(1, 41))
    assert told(found) == [*range(1, 41)]
    assert found[audio_id(7)].detail == "COMPLETED"
    assert catalogue.asked() == ["1", "+0"]


async def test_pages_are_read_as_long_as_they_pay(scene: Scene) -> None:
    """The newest 60 of 300 are unfinished, so the third page tells of none of them."""
    catalogue = Catalogue(scene.api, range(1, 301))
    assert told(await watches(scene, *range(241, 301), 1, 2)) == [*range(241, 301), 1, 2]
    assert sorted(catalogue.asked()) == ["+0", "+100", "+50", "1", "2", "241"]


async def test_two_that_are_left_are_worth_a_page_and_one_is_not(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 4))
    assert told(await watches(scene, 1, 2)) == [1, 2]
    assert catalogue.asked() == ["1", "2"]
    assert told(await watches(scene, 1, 2, 3)) == [1, 2, 3]
    assert catalogue.asked() == ["1", "+0"]


async def test_each_account_has_its_own_list(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 11))
    for number in range(1, 11):
        catalogue.put(track(number), account=YOU)
    scene.accounts = [{"audio_id": audio_id(number, YOU)} for number in range(1, 11)]
    assert told(await watches(scene, *range(1, 11))) == [*range(1, 11), *range(1, 11)]
    assert catalogue.asked() == ["1", "+0", "+0"]


async def test_the_look_at_an_account_that_is_followed_tells_of_its_watches_too(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 81))
    scene.accounts = [{"account": ME}]
    assert told(await watches(scene, *range(1, 81))) == [*range(1, 81)]
    assert catalogue.asked() == ["1", "+0", "+50"]


async def test_what_a_list_lacks_or_says_oddly_is_asked_of_the_track(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 11))
    catalogue.hidden = {audio_id(5)}
    catalogue.put(track(6, audio_status=77, audio_status_name="PONDERING"))
    found = await watches(scene, *range(1, 12))
    assert told(found) == [*range(1, 12)]
    assert (found[audio_id(5)].health, found[audio_id(11)].health) == (Health.OK, Health.FAILED)
    assert found[audio_id(6)].detail.startswith("PONDERING")
    assert sorted(catalogue.asked()) == ["+0", "1", "11", "5", "6"]


@pytest.mark.parametrize(
    "reply", [answer({"error": "no such account"}, 404), answer({}, 503), Reply(body="<html>")]
)
async def test_without_a_list_tracks_are_read_by_themselves(scene: Scene, reply: Reply) -> None:
    catalogue = Catalogue(scene.api, range(1, 6))
    catalogue.list_replies = lambda _request: reply
    found = await watches(scene, *range(1, 6))
    assert told(found) == [*range(1, 6)]
    assert {one.health for one in found.values()} == {Health.OK}
    assert sorted(catalogue.asked()) == ["+0", "1", "2", "3", "4", "5"]


async def test_when_lists_do_not_answer_no_other_account_is_asked_for_one(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 4))
    for account, number in itertools.product((YOU, "her@example.com"), range(1, 4)):
        catalogue.put(track(number), account=account)
        scene.accounts = [*scene.accounts, {"audio_id": audio_id(number, account)}]
    catalogue.list_replies = lambda _request: answer({}, 503)
    assert len(told(await watches(scene, 1, 2, 3))) == 9
    assert len(scene.api.to(MUSIC)) == 1


async def test_a_list_that_wants_to_be_left_alone_ends_it(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 6))
    catalogue.list_replies = lambda _request: answer({"error": "slow down"}, 429)
    found = await watches(scene, *range(1, 6))
    assert found["4 unfinished watches"].detail == "not read: HTTP 429: slow down"
    assert catalogue.asked() == ["1", "+0"]


async def test_a_glance_at_very_many_is_bounded_and_says_so(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 1201))
    found = await watches(scene, *range(1, 1201))
    unread = found.pop("249 unfinished watches")
    assert len(found) == 1 + 19 * 50
    assert len(catalogue.asked()) == 20
    assert (unread.health, unread.detail) == (
        Health.SKIPPED,
        "not read: a glance takes 20 requests at the most",
    )
    assert unread.advice == "to read them all: notifier doctor --all"
    assert len(told(await watches(scene, *range(1, 1201), is_all=True))) == 1200
    assert len(catalogue.asked()) == 1 + 24


async def test_a_list_that_shows_the_same_again_and_again_is_read_twice(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 301))
    newest: Sequence[dict[str, object]] = catalogue.of(ME)[:50]
    endless = answer({"data": newest, "has_more": True})
    catalogue.list_replies = lambda _request: endless
    found = await watches(scene, *range(241, 301))
    assert len(told(found)) == 60
    assert catalogue.asked()[:3] == ["241", "+0", "+50"]


async def test_a_watchlist_that_wants_no_lists_gets_none(scene: Scene) -> None:
    catalogue = Catalogue(scene.api, range(1, 4))
    scene.poll["list"] = "never"
    assert told(await watches(scene, 1, 2, 3)) == [1, 2, 3]
    assert sorted(catalogue.asked()) == ["1", "2", "3"]
