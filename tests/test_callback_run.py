"""The daemon under callbacks: the real command, an API that tells who asks, and whoever calls."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from notifier.doctor import Check, Limits, examine
from tests.monitoring.history import Scrape
from tests.support.catalogue import ME, Catalogue
from tests.support.process import command, daemon
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Reply, Server, free_port
from tests.support.tracks import MUSIC, answer, audio_id, completed, path_of, track

SECRET = "9f3c1b7e24d8a6050c1e"
PATH = f"/hooks/useapi/{SECRET}"
HOUR = {"interval": "1h", "max_interval": "1h", "list": "never"}


class Calling(Scene):
    """A scene in which the API calls."""

    def __init__(self, directory: Path, api: Server, receiver: Server) -> None:
        super().__init__(directory, api, receiver)
        self.target("archive", "/webhook/archive")
        self.poll = {**HOUR}
        self.http = f"127.0.0.1:{free_port()}"
        self.move(free_port())

    def move(self, port: int, path: str = PATH) -> None:
        self.callback = {"listen": f"127.0.0.1:{port}", "path": path}

    async def call(self, said: Any = None, *, number: int = 1, path: str = PATH) -> int:
        assert self.callback is not None
        url = f"http://{self.callback['listen']}{path}"
        body = completed(number) if said is None else said
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            return response.status

    async def counts(self) -> dict[str, float]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.http}/metrics") as response:
            return Scrape(await response.text()).by("outcome", "notifier_callbacks_total")

    def reads(self, number: int) -> int:
        return len(self.api.to(path_of(audio_id(number))))

    async def read(self, number: int, times: int) -> None:
        await self.api.until(lambda: self.reads(number) >= times)


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Calling:
    return Calling(tmp_path, api, receiver)


async def test_a_call_lets_its_track_be_read_now_and_its_end_be_told(scene: Calling) -> None:
    """With polling once an hour: what arrives here does because of the call, and says what the API says."""
    async with daemon(scene.write(1, 2)) as running:
        await asyncio.gather(scene.read(1, 1), scene.read(2, 1))
        scene.complete(1)
        assert await scene.call({"audio_id": audio_id(1), "audio_status_name": "FAILED"}) == 204
        (told,) = await scene.receiver.until_count("/webhook/archive", 1)
        assert told.json()["type"] == "track.completed"
        assert told.json()["data"]["track"]["duration"] == completed()["duration"]
        assert await scene.call(number=1) == 204  # again, as the API may
        assert await scene.call(number=2) == 204  # too soon
        await scene.read(2, 2)
        sayings: list[Any] = [{"audio_id": audio_id(7)}, {"status": "done"}, [], "x"]
        for said in sayings:
            assert await scene.call(said) == 204
        assert await scene.call(path="/hooks/useapi/guessed") == 404
        assert await scene.counts() == {
            **{"read": 2, "looked": 0, "finished": 1, "unknown": 1, "unusable": 3, "dropped": 0, "refused": 1}
        }
        assert (scene.reads(1), scene.reads(2), scene.reads(7)) == (2, 2, 0)
        assert await running.stop() == 0
    assert len(scene.receiver.to("/webhook/archive")) == 1
    assert SECRET not in "\n".join(running.lines)
    assert SECRET.encode() not in scene.state.read_bytes()


async def test_a_track_that_quotes_where_the_api_calls_is_told_without_it(scene: Calling) -> None:
    """The API may give back the `replyUrl` that a track was ordered with, one by one as in a list."""
    scene.poll = {"interval": "50ms"}
    api, others = Catalogue(scene.api), f"/other/{SECRET[::-1]}"

    def quoting(fields: dict[str, Any], path: str) -> dict[str, Any]:
        return {**fields, "name": path, "replyUrl": f"https://notifier.example.com{path}"}

    for fields in (track(1), track(2), completed(3)):
        api.put(quoting(fields, PATH))
    async with daemon(scene.write(1, 2, 3)) as running:
        await scene.receiver.until_count("/webhook/archive", 1)
        scene.move(free_port(), others)
        scene.write(1, 2, 3)
        running.reload()
        await running.logged("config.reloaded")
        for fields in (completed(1), completed(2)):
            api.put(quoting(fields, others))
        told = await scene.receiver.until_count("/webhook/archive", 3)
        assert await running.stop() == 0
    quoted = [request.json()["data"]["track"]["replyUrl"] for request in told]
    assert quoted == ["https://notifier.example.com***"] * 3
    kept = b"".join(file.read_bytes() for file in scene.state.parent.glob(f"{scene.state.name}*"))
    assert SECRET.encode() not in kept
    assert SECRET not in "\n".join(running.lines)


async def test_the_listener_moves_goes_off_and_comes_on_with_the_watchlist(scene: Calling) -> None:
    async with daemon(scene.write(1)) as running:
        assert await scene.call() == 204
        assert await examined(scene) == ("ok", "listens for the API's calls, on the path given")
        first = scene.callback
        scene.move(free_port(), f"/other/{SECRET}")
        scene.write(1)
        health, detail = await examined(scene)
        assert (health, detail.partition(":")[0]) == ("failed", "nobody listens for calls")
        await reloaded(scene, running, 1)
        assert await scene.call() == 404
        assert await scene.call(path=f"/other/{SECRET}") == 204
        scene.callback, second = first, scene.callback
        with pytest.raises(aiohttp.ClientConnectionError):
            await scene.call()
        scene.callback = None
        await reloaded(scene, running, 2)
        scene.callback = second
        with pytest.raises(aiohttp.ClientConnectionError):
            await scene.call()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            scene.move(taken.getsockname()[1])
            await reloaded(scene, running, 3)
            (failed,) = await running.logged("callback.failed")
            assert "callback: cannot listen on 127.0.0.1" in failed["error"]
        await until_answered(scene)
        assert len(running.records("callback.failed")) == 1
        assert await running.stop() == 0
    assert await examined(scene) == ("skipped", "not asked: the daemon is not running")


async def test_page_and_callbacks_change_places_in_one_reload(scene: Calling) -> None:
    async with daemon(scene.write(1)) as running:
        for times, is_one_alone in enumerate((False, False, True), start=1):
            old_page = scene.http
            assert scene.callback is not None
            assert old_page is not None
            scene.http = scene.callback["listen"]
            scene.move(free_port() if is_one_alone else int(old_page.rpartition(":")[2]))
            await reloaded(scene, running, times)
            assert await scene.call() == 204
            assert await scene.counts(), "the page, at its new address"
        assert running.records("http.failed") == running.records("callback.failed") == []
        assert await running.stop() == 0


async def test_calls_are_heard_where_they_were_when_page_and_callbacks_cannot_change_places(
    scene: Calling,
) -> None:
    async with daemon(scene.write(1)) as running:
        former, page = scene.callback, scene.http
        assert former is not None
        assert page is not None
        scene.http = f"192.0.2.1:{former['listen'].rpartition(':')[2]}"  # no address of this machine
        scene.move(int(page.rpartition(":")[2]))
        await reloaded(scene, running, 1)
        await running.logged("http.failed")
        scene.callback, scene.http = former, page
        await until_answered(scene)
        assert await scene.counts(), "the page, where it was"
        assert await running.stop() == 0


async def examined(scene: Calling) -> tuple[str, str]:
    """Return what `notifier doctor` finds of the listener."""
    findings = await examine(str(scene.file), None, limits=Limits())
    assert SECRET not in str(findings)
    (found,) = (one for one in findings if one.check is Check.CALLBACK)
    return found.health, found.detail


async def reloaded(scene: Calling, running: Any, times: int) -> None:
    scene.write(1)
    running.reload()
    await running.logged("config.reloaded", times)


async def until_answered(scene: Calling) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if await scene.call() == 204:
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def test_a_port_that_is_taken_at_the_start_is_exit_75(scene: Calling) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        scene.move(port)
        code, _, err = await command("run", "-c", str(scene.write(1)))
    assert code == 75
    assert f"callback: cannot listen on 127.0.0.1:{port}" in err
    assert SECRET not in err


async def test_a_closed_gate_is_respected_whatever_calls_come(scene: Calling) -> None:
    """The API has asked for a minute of quiet: a call brings no request before that."""
    throttled = Reply(429, "{}", {"Retry-After": "60"})
    scene.api.reply(path_of(audio_id(1)), answer(track(1)), throttled)
    async with daemon(scene.write(1, 2)) as running:
        await asyncio.gather(scene.read(1, 1), scene.read(2, 1))
        assert await scene.call(number=1) == 204
        await running.logged("upstream.unavailable")
        before = len(scene.api.requests)
        for _ in range(5):
            assert await scene.call(number=1) == await scene.call(number=2) == 204
        await passed(scene, lambda counts: counts["read"] == 11)
        assert len(scene.api.requests) == before == 3


async def passed(scene: Calling, condition: Callable[[Mapping[str, float]], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition(await scene.counts()):
            await asyncio.sleep(0.05)


async def test_more_hints_than_half_of_the_rate_are_dropped_and_polling_goes_on(scene: Calling) -> None:
    scene.useapi["rate"] = "60/m"
    async with daemon(scene.write(1)) as running:
        await scene.read(1, 1)
        for _ in range(60):
            assert await scene.call(number=1) == 204
        counts = await scene.counts()
        assert 50 <= counts["read"] < 60
        assert counts["read"] + counts["dropped"] == 60
        assert await running.logged("callback.dropped")
        await scene.read(1, 2)


async def test_callbacks_that_came_three_times_are_relied_on_until_one_is_missing(scene: Calling) -> None:
    async with daemon(scene.write(*range(1, 6))) as running:
        await scene.read(5, 1)
        for number in (1, 2, 3):
            scene.complete(number)
            assert await scene.call(number=number) == 204
            await scene.receiver.until_count("/webhook/archive", number)
        (proven,) = await running.logged("callback.proven")
        assert proven["account"] == "me@example.com"
        scene.complete(4)
        scene.poll = {**HOUR, "interval": "100ms"}
        scene.write(*range(1, 6))
        running.reload()
        (missed,) = await running.logged("callback.missed")
        assert (missed["account"], missed["audio_id"]) == ("me@example.com", audio_id(4))
        await scene.receiver.until_count("/webhook/archive", 4)
        assert len(running.records("callback.proven")) == 1


async def test_a_call_about_an_unknown_track_of_a_followed_account_lets_its_list_be_looked_at(
    scene: Calling,
) -> None:
    """It may be a new one, which has ended before anybody has seen it; one of another account is nobody's."""
    catalogue = Catalogue(scene.api)
    catalogue.put(completed(1))
    scene.accounts = [{"account": ME}]
    async with daemon(scene.write()) as running:
        await running.logged("account.followed")
        new = catalogue.put(completed(2, created_at=datetime.now(UTC).isoformat()))
        assert await scene.call({"audio_id": new}) == 204
        assert await scene.call({"audio_id": audio_id(9, "stranger@example.com")}) == 204
        (told,) = await scene.receiver.until_count("/webhook/archive", 1)
        assert told.json()["data"]["audio_id"] == new
        counts = await scene.counts()
        assert (counts["looked"], counts["unknown"]) == (1, 1)


async def test_a_hinted_track_is_read_itself_where_its_list_is_behind(scene: Calling) -> None:
    scene.poll = {"interval": "1h", "max_interval": "1h"}
    catalogue = Catalogue(scene.api, range(1, 10))
    behind = [dict(one) for one in catalogue.of(ME)]
    catalogue.list_replies = lambda request: catalogue.page(behind, request)
    async with daemon(scene.write(*range(1, 10))):
        await scene.api.until(lambda: any(one.path == MUSIC for one in scene.api.requests))
        catalogue.put(completed(3))
        assert await scene.call(number=3) == 204
        (told,) = await scene.receiver.until_count("/webhook/archive", 1)
        assert told.json()["data"]["audio_id"] == audio_id(3)
