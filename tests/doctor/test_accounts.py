"""What `doctor` says of accounts that are followed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifier.bookmark import Bookmark
from notifier.doctor import Check, Finding, Health, Limits, examine
from notifier.store import Store
from tests.support.catalogue import ME, Catalogue
from tests.support.scenes import Scene
from tests.support.servers import Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id

NOW = datetime.now(UTC)


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.target("archive", "/webhook")
    scene.accounts = [{"account": ME, "name": "The band"}]
    return scene


async def accounts(scene: Scene, *watched: int) -> list[Finding]:
    findings = await examine(str(scene.write(*watched)), None, limits=Limits())
    return [one for one in findings if one.check is Check.ACCOUNT]


async def test_a_list_that_can_be_read_is_well_and_says_what_it_has_brought(scene: Scene) -> None:
    Catalogue(scene.api, range(1, 61))
    (finding,) = await accounts(scene)
    assert (finding.subject, finding.name, finding.health) == (ME, "The band", Health.OK)
    assert finding.detail == ("its list can be read, 50 and more in it; the daemon has not looked at it yet")
    async with Store(scene.state) as store:
        found = [audio_id(1), audio_id(2)]
        await store.discover(ME, Bookmark(NOW), found, now=datetime.now(UTC) - timedelta(hours=2))
    (finding,) = await accounts(scene)
    assert finding.detail.endswith("; looked at 2h ago, 2 found, the last one 2h ago")


async def test_a_list_that_cannot_be_read_is_wrong_and_says_what_to_do(scene: Scene) -> None:
    Catalogue(scene.api).list_replies = lambda _request: answer({"error": "no such account"}, 404)
    (finding,) = await accounts(scene)
    assert finding.health is Health.FAILED
    assert finding.detail == "its list cannot be read: HTTP 404: no such account"
    assert finding.advice.startswith("correct the address")


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (answer({"error": "no session"}, 596), "correct the address"),
        (answer({}, 503), "check the network"),
        (answer({"error": "slow down"}, 429), "nothing: "),
        (answer({"error": "no session"}, 401), "put a valid token"),
        (Reply(body="<html>", content_type="text/html"), "nothing: "),
    ],
)
async def test_what_to_do_about_a_list_that_cannot_be_read_depends_on_why(
    scene: Scene, reply: Reply, advice: str
) -> None:
    Catalogue(scene.api, [1]).list_replies = lambda _request: reply
    (finding,) = await accounts(scene, 1)
    assert finding.health is Health.FAILED
    assert finding.advice.startswith(advice)


async def test_a_list_of_other_accounts_is_noticed(scene: Scene) -> None:
    Catalogue(scene.api).list_replies = lambda _request: answer(
        {"data": [{"audio_id": audio_id(1, "you@example.com"), "audio_status": 1}]}
    )
    (finding,) = await accounts(scene)
    assert finding.health is Health.WARNING
    assert finding.detail == "its list has no track of it, but of you@example.com"


async def test_a_token_that_is_refused_is_told_once(scene: Scene) -> None:
    scene.api.otherwise(lambda _request: answer({"error": "Unauthorized"}, 401))
    (finding,) = await accounts(scene)
    assert finding.health is Health.SKIPPED
    assert len(scene.api.to(MUSIC)) == 1
