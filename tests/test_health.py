"""Each reason for which the daemon says that it does not do its work, and the end of each."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from notifier.app import App
from notifier.clock import SystemClock
from notifier.loading import load
from notifier.vitals import PATIENCE as LIMIT
from notifier.vitals import Vitals
from tests.monitoring.history import Scrape
from tests.support.catalogue import ME, Catalogue
from tests.support.clocks import ManualClock
from tests.support.process import Daemon, daemon
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Reply, Server, free_port
from tests.support.tracks import answer, audio_id, path_of, track


class Watched:
    """A real daemon whose health is asked for as a probe does."""

    def __init__(self, session: aiohttp.ClientSession, scene: Scene, running: Daemon) -> None:
        self.session, self.scene, self.running = session, scene, running

    async def health(self) -> tuple[int, Any]:
        async with self.session.get(f"http://{self.scene.http}/healthz") as response:
            return response.status, await response.json()

    async def scrape(self) -> Scrape:
        async with self.session.get(f"http://{self.scene.http}/metrics") as response:
            return Scrape(await response.text())

    async def unhealthy(self) -> set[str]:
        """Return the reasons that the metrics name."""
        reasons = (await self.scrape()).by("reason", "notifier_unhealthy")
        return {reason for reason, holds in reasons.items() if holds}

    async def until(self, status: int, says: Callable[[Any], bool] = lambda _body: True) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                answered, body = await self.health()
                if answered == status and says(body):
                    return body
                await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(scene: Scene, *numbers: int) -> AsyncIterator[Watched]:
    scene.http = f"127.0.0.1:{free_port()}"
    async with daemon(scene.write(*numbers)) as running, aiohttp.ClientSession() as session:
        yield Watched(session, scene, running)


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.target("archive", "/webhook/archive")
    return scene


# --- The API and the watchlist


async def test_a_refused_token_and_an_api_that_fails_are_told_apart_and_end(scene: Scene) -> None:
    path = path_of(audio_id(1))
    async with watched(scene, 1) as watch:
        assert await watch.until(200) == {"status": "ok", "reasons": [], "degraded": []}
        assert await watch.unhealthy() == set()
        for reply, reason, name in (
            (answer({"error": "Unauthorized"}, 401), "HTTP 401: Unauthorized", "token"),
            (Reply(503), "HTTP 503", "api"),
        ):
            scene.api.reply(path, reply)
            body = await watch.until(503)
            assert body["status"] == "failing"
            assert body["reasons"] == [f"the API cannot be read: {reason}"]
            assert await watch.unhealthy() == {name}
            scene.api.reply(path, answer(track(1)))
            await watch.until(200)
            assert await watch.unhealthy() == set()


async def test_an_api_that_nobody_has_to_read_any_more_keeps_nothing_from_its_work(scene: Scene) -> None:
    """Nobody would ever learn of its end, and a supervisor would restart the daemon for ever."""
    async with watched(scene, 1) as watch:
        scene.api.reply(path_of(audio_id(1)), answer({"error": "Unauthorized"}, 401))
        await watch.until(503)
        scene.write()
        body = await watch.until(200)
        told = "the API could not be read when it was last asked: HTTP 401: Unauthorized"
        assert body == {"status": "ok", "reasons": [], "degraded": [told]}
        assert await watch.unhealthy() == set()
        scene.write(1)
        await watch.until(503)
        scene.api.reply(path_of(audio_id(1)), answer(track(1)))
        assert (await watch.until(200))["degraded"] == []


async def test_an_account_to_follow_is_work_even_without_a_track(scene: Scene) -> None:
    catalogue = Catalogue(scene.api)
    scene.accounts = [{"account": ME}]
    async with watched(scene) as watch:
        await watch.until(200)
        catalogue.list_replies = lambda _request: answer({"error": "Unauthorized"}, 401)
        body = await watch.until(503)
        assert body["reasons"] == ["the API cannot be read: HTTP 401: Unauthorized"]
        catalogue.list_replies = lambda _request: answer({"error": "no such account"}, 404)
        body = await watch.until(200, lambda body: body["degraded"] != [])
        assert body["degraded"] == [f"the list of the account {ME} cannot be read: HTTP 404: no such account"]


async def test_what_concerns_only_a_part_is_200_and_named(scene: Scene) -> None:
    async with watched(scene, 1, 2) as watch:
        scene.api.reply(path_of(audio_id(1)), answer({"error": "no credits"}, 596))
        good = scene.file.read_text()
        scene.file.write_text("watch: 7\n")
        body = await watch.until(200, lambda body: len(body["degraded"]) == 2)
        assert body == {
            "status": "ok",
            "reasons": [],
            "degraded": [
                "the PixVerse account me@example.com cannot be used: HTTP 596: no credits",
                "the changed watchlist is invalid, the earlier one is in force",
            ],
        }
        assert await watch.unhealthy() == set()
        scene.api.reply(path_of(audio_id(1)), answer(track(1)))
        scene.file.write_text(good)
        await watch.until(200, lambda body: body["degraded"] == [])


# --- What stands still


async def test_a_probe_gets_no_answer_while_the_loop_stands_still_and_the_reason_afterwards(
    scene: Scene, tmp_path: Path
) -> None:
    """And while nothing can be written, which takes as long to tell: so both at once, in two daemons."""
    (tmp_path / "other").mkdir()
    other = Scene(tmp_path / "other", scene.api, scene.receiver)
    other.targets = scene.targets
    async with watched(scene, 1) as stopped, watched(other, 2) as locked:
        await asyncio.gather(stands_still(stopped), cannot_write(locked))


async def stands_still(watch: Watched) -> None:
    loop = asyncio.get_running_loop()
    await watch.until(200)
    watch.running.signal(signal.SIGSTOP)
    stopped = loop.time()
    host, port = str(watch.scene.http).split(":")
    reader, writer = await asyncio.open_connection(host, int(port))  # the kernel accepts it
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), LIMIT + 2)
    watch.running.signal(signal.SIGCONT)
    took = loop.time() - stopped
    assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.close()
    body = await watch.until(503, lambda body: len(body["reasons"]) == 1 and "loop" in body["reasons"][0])
    (reason,) = body["reasons"]
    assert reason.startswith("the loop stood still for ")
    assert reason.endswith(" s of the last minute")
    assert LIMIT < int(reason.split(" ")[5]) <= took
    assert "loop" in await watch.unhealthy()
    (line,) = await watch.running.logged("loop.stalled")
    assert (line["level"], LIMIT < line["seconds"] <= took) == ("warning", True)


async def cannot_write(watch: Watched) -> None:
    watch.scene.complete(2)
    await watch.running.logged("delivery.delivered")
    assert (await watch.scrape())("notifier_deliveries", target="archive", state="delivered") == 1
    other = sqlite3.connect(watch.scene.state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    seen = await watch.scrape()  # NB: with what was known
    assert seen("notifier_deliveries", target="archive", state="delivered") == 1
    assert seen("notifier_tracks", status="COMPLETED") == 1
    body = await watch.until(503)
    (reason,) = [one for one in body["reasons"] if "the loop" not in one]
    assert reason.startswith(f"{watch.scene.state}: nothing could be written for ")
    assert reason.endswith(" s: somebody holds the file, or the disk hangs")
    assert "storage" in await watch.unhealthy()
    other.execute("ROLLBACK")
    other.close()
    assert (await watch.until(200))["reasons"] == []
    assert watch.running.records("storage.failed") == []


class Quick(SystemClock):
    """A clock on which a second lasts a quarter of one."""

    def awake(self) -> float:
        return super().awake() * 4

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 4)


async def test_a_scheduler_that_calls_nothing_any_more_is_a_reason_and_not_the_loop(scene: Scene) -> None:
    file = scene.write(1)
    app = App(load(str(file)), config_file=str(file), state_file=scene.state, clock=Quick())
    await app.store.open()
    await app.engine.start()
    feeling = asyncio.create_task(app.vitals.feel())
    try:
        schedule = app.engine.polling.schedule
        beat = schedule.last_beat
        await until(lambda: schedule.last_beat > beat and app.vitals.scheduler_silence == 0)
        assert not app.health().reasons
        schedule.stop()
        await until(lambda: app.vitals.scheduler_silence > LIMIT)
        (reason,) = [one for one in app.health().reasons if "loop" not in one]
        assert reason == f"the scheduler has stood still for {app.vitals.scheduler_silence:.0f} s"
        await app.refresh_metrics()
        seen = Scrape(app.engine.metrics.exposition().decode())
        assert seen("notifier_unhealthy", reason="scheduler") == 1
    finally:
        feeling.cancel()
        await app.engine.stop()
        await app.store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# --- The pulse itself


class Stalling(ManualClock):
    """A clock whose sleepers oversleep as told, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[float] = []
        self.has_passed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if not self.late:
            self.has_passed.set()
            await asyncio.Event().wait()
        await super().sleep(seconds + self.late.pop(0))


class Pulse:
    """Vitals that feel a loop with a history."""

    def __init__(self) -> None:
        self.clock = Stalling()
        self.beats = 0.0
        self.vitals = Vitals(self.clock, lambda: self.beats)

    async def feels(self, *late: float, is_scheduled: bool = True) -> None:
        """Let ticks pass that come so late."""
        for one in late:
            self.beats += is_scheduled
            self.clock.late = [one]
            self.clock.has_passed.clear()
            feeling = asyncio.create_task(self.vitals.feel())
            await self.clock.has_passed.wait()
            feeling.cancel()


async def test_standstills_add_up_over_a_minute_and_are_then_forgotten() -> None:
    pulse = Pulse()
    await pulse.feels(*[0.9] * 60)
    assert pulse.vitals.stood_still == 0
    await pulse.feels(4.0, 0, 4.0, 0, 4.0)
    assert pulse.vitals.stood_still == 12
    await pulse.feels(*[0] * 50)
    assert pulse.vitals.stood_still == 8
    await pulse.feels(*[0] * 12)
    assert pulse.vitals.stood_still == 0


async def test_a_scheduler_is_not_blamed_for_what_the_loop_did() -> None:
    pulse = Pulse()
    await pulse.feels(50.0, is_scheduled=False)
    assert pulse.vitals.scheduler_silence == 1
    await pulse.feels(*[0] * 11, is_scheduled=False)
    assert pulse.vitals.scheduler_silence == 12
    await pulse.feels(0)
    assert pulse.vitals.scheduler_silence == 0
