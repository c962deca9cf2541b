"""What `alerts` hear of the daemon's own trouble: once when it begins, once when it is over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import command, daemon
from tests.support.servers import Reply, Server
from tests.support.tracks import answer, audio_id, completed, not_found, path_of, track

ONE, TWO = audio_id(1), audio_id(2)


class Scene:
    """A daemon's watchlist with a target for tracks, which may break, and one for alerts."""

    def __init__(self, directory: Path, api: Server, receiver: Server) -> None:
        self.file = directory / "watchlist.yaml"
        self.api, self.receiver = api, receiver
        self.stalled_after = "3000d"
        self.alerts = "[office]"
        self.band_room = "/band-room"
        self.more = ""

    def write(self) -> Path:
        new = self.file.with_suffix(".new")
        new.write_text(f"""useapi: {{token: user:1-abc, base_url: "{self.api.url}/v2/pixverse", rate: 500/s}}
poll: {{interval: 100ms, max_interval: 200ms, missing_after: 2, stalled_after: {self.stalled_after}}}
delivery: {{first_retry: 100ms, max_retry: 200ms}}
targets:
  band-room: {{type: webhook, url: "{self.receiver.url}{self.band_room}"}}
  office: {{type: webhook, url: "{self.receiver.url}/office", concurrency: 1}}
defaults: {{notify: [band-room], events: [completed, failed]}}
alerts: {self.alerts}
state: {self.file.parent}/state.db
{self.more}
watch: ["{ONE}", "{TWO}"]
""")
        new.chmod(0o600)
        new.replace(self.file)
        return self.file

    def told(self) -> list[dict[str, Any]]:
        """Return the alerts so far."""
        return [request.json()["data"] for request in self.receiver.to("/office")]

    async def hears(self, *alerts: tuple[str, str, bool]) -> None:
        """Wait until these alerts were told, in this order and no others."""
        await self.receiver.until(lambda: len(self.told()) >= len(alerts))
        assert [(one["problem"], one["subject"], one["resolved"]) for one in self.told()] == [*alerts]


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    api.otherwise(lambda _request: answer(track()))
    receiver.otherwise(lambda _request: Reply(status=204))
    return Scene(tmp_path, api, receiver)


async def test_a_rejected_token_is_told_once_and_once_when_it_is_taken_again(scene: Scene) -> None:
    scene.api.otherwise(lambda _request: Reply(401, '{"error": "Unauthorized"}'))
    async with daemon(scene.write()) as running:
        await scene.hears(("token_rejected", "useapi.net", False))
        scene.api.otherwise(lambda _request: answer(track()))
        await scene.hears(("token_rejected", "useapi.net", False), ("token_rejected", "useapi.net", True))
        assert await running.stop() == 0
    assert "HTTP 401" in scene.told()[0]["summary"]


async def test_a_missing_track_is_told(scene: Scene) -> None:
    scene.api.reply(path_of(ONE), not_found(ONE))
    async with daemon(scene.write()) as running:
        await scene.hears(("track_missing", ONE, False))
        assert await running.stop() == 0


async def test_a_stalled_track_is_told_once_and_once_when_it_ends(scene: Scene) -> None:
    scene.stalled_after = "1s"
    fresh = answer(track(2, created_at="2999-01-01T00:00:00Z"))
    scene.api.reply(path_of(TWO), fresh)
    scene.api.reply(path_of(ONE), answer(track()))
    async with daemon(scene.write()) as running:
        await scene.hears(("track_stalled", ONE, False))
        scene.api.reply(path_of(ONE), answer(completed()))
        await scene.hears(("track_stalled", ONE, False), ("track_stalled", ONE, True))
        await scene.receiver.until_count("/band-room", 1)
        assert await running.stop() == 0


async def test_a_paused_target_is_told_once_and_once_when_it_is_mended(scene: Scene) -> None:
    scene.api.reply(path_of(ONE), answer(completed()))
    scene.receiver.reply("/band-room", Reply(404, "no such hook"))
    async with daemon(scene.write()) as running:
        await scene.hears(("target_paused", "band-room", False))
        scene.band_room = "/mended"
        scene.write()
        await scene.hears(("target_paused", "band-room", False), ("target_paused", "band-room", True))
        assert await running.stop() == 0
    assert (len(scene.receiver.to("/band-room")), len(scene.receiver.to("/mended"))) == (1, 1)


@pytest.mark.parametrize("path", ["/band-room", "/moved"], ids=["as it was", "with another url"])
async def test_a_paused_target_that_leaves_and_returns_is_told_once_more(scene: Scene, path: str) -> None:
    began = ("target_paused", "band-room", False)
    scene.api.reply(path_of(ONE), answer(completed()))
    for broken in ("/band-room", path):
        scene.receiver.reply(broken, Reply(404, "no such hook"))
    async with daemon(scene.write()) as running:
        await scene.hears(began)
        scene.file.write_text(scene.file.read_text().replace("band-room", "other-room"))
        await running.logged("config.reloaded")
        scene.band_room = path
        scene.write()
        await scene.hears(began, began)
        scene.receiver.reply(path, Reply(status=204))
        assert (await command("resume", "band-room", "-c", str(scene.file)))[0] == 0
        await scene.hears(began, began, ("target_paused", "band-room", True))
        assert await running.stop() == 0


@pytest.mark.parametrize("mended", ["retry", "drop"])
async def test_a_dead_letter_is_told_once_and_once_when_there_is_none_any_more(
    scene: Scene, mended: str
) -> None:
    scene.api.reply(path_of(ONE), answer(completed()))
    scene.receiver.reply("/band-room", Reply(422, "bad body"), Reply(status=204))
    async with daemon(scene.write()) as running:
        await scene.hears(("delivery_dead", "band-room", False))
        code, _, err = await command("deliveries", mended, "1", "-c", str(scene.file))
        assert (code, err) == (0, "")
        await scene.hears(("delivery_dead", "band-room", False), ("delivery_dead", "band-room", True))
        assert await running.stop() == 0
    assert "bad body" in scene.told()[0]["summary"]


async def test_a_rejected_watchlist_is_told_once_and_once_when_it_is_valid(scene: Scene) -> None:
    subject = str(scene.file)
    async with daemon(scene.write()) as running:
        scene.more = "pol: {}"
        scene.write()
        await scene.hears(("config_rejected", subject, False))
        scene.more = "pol: {}\nlgo: {}"
        scene.write()
        await running.logged("config.rejected", 2)
        scene.more = ""
        scene.write()
        await scene.hears(("config_rejected", subject, False), ("config_rejected", subject, True))
        assert await running.stop() == 0


@pytest.mark.parametrize("status", [404, 422])
async def test_two_broken_alert_targets_do_not_talk_about_each_other_for_ever(
    scene: Scene, status: int
) -> None:
    refuse: Callable[[Any], Reply] = lambda _request: Reply(status, "no")  # noqa: E731
    scene.receiver.otherwise(refuse)
    scene.api.reply(path_of(ONE), answer(completed()))
    scene.alerts = "[band-room, office]"
    async with daemon(scene.write()) as running:
        ended = "target.paused" if status == 404 else "delivery.dead"
        await running.logged(ended, 2)
        assert await running.stop() == 0
    async with daemon(scene.file) as running:
        assert await running.stop() == 0
    # a track told to one, that one's trouble told to the other, and the other's to the one, where it can be
    assert len(scene.receiver.requests) <= 3
