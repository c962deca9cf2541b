"""How gently the daemon asks: one gate and one pace for all of it, no bursts, and what it says of that."""

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from notifier.doctor import Check, Limits, examine
from tests.monitoring.history import Scrape
from tests.support.catalogue import Catalogue
from tests.support.process import command, daemon
from tests.support.scenes import Scene
from tests.support.servers import Received, Reply, Server, free_port
from tests.support.tracks import MUSIC, answer, audio_id, track

CALLBACK = "/hooks/useapi/9f3c1b7e24d8a6050c1e"
OTHER = "other@example.com"


class Polite(Scene):
    """Tracks of one account that are read from its list, a track of another one, and a followed account."""

    def __init__(self, directory: Path, api: Server, receiver: Server) -> None:
        super().__init__(directory, api, receiver)
        self.catalogue = Catalogue(api, range(1, 31))
        self.catalogue.put(track(1), account=OTHER)
        self.accounts = [{"account": "followed@example.com"}, {"audio_id": audio_id(1, OTHER)}]
        self.target("archive", "/webhook/archive")
        self.callback = {"listen": f"127.0.0.1:{free_port()}", "path": CALLBACK}
        self.http = f"127.0.0.1:{free_port()}"

    async def call(self, identifier: str) -> None:
        assert self.callback is not None
        url = f"http://{self.callback['listen']}{CALLBACK}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"audio_id": identifier}) as got,
        ):
            assert got.status == 204

    async def get(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.http}{path}") as response:
            return await response.text()

    async def asked(self, count: int) -> list[Received]:
        """Wait until there were so many requests, and return them."""
        await self.api.until(lambda: len(self.api.requests) >= count)
        return [*self.api.requests]


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Polite:
    return Polite(tmp_path, api, receiver)


async def test_one_gate_of_the_token_holds_back_tracks_lists_looks_and_calls(scene: Polite) -> None:
    """After a 429, whatever it was for, nothing is asked before its time, whoever wants to."""
    scene.useapi["concurrency"] = 1  # so that nothing is under way any more when the gate closes
    async with daemon(scene.write(*range(1, 31))) as running:
        await running.logged("account.followed")
        await scene.api.until(lambda: {kind(one) for one in scene.api.requests} == {"track", "list"})
        scene.api.otherwise(lambda _request: Reply(429, "{}", {"Retry-After": "2"}))
        await running.logged("upstream.unavailable")
        before, closed_at = len(scene.api.requests), scene.api.requests[-1].at
        scene.api.otherwise(scene.catalogue.reply)
        for identifier in (audio_id(1), audio_id(1, OTHER), audio_id(99, "followed@example.com")):
            await scene.call(identifier)
        await running.logged("upstream.recovered")
        await scene.api.until(lambda: {kind(one) for one in scene.api.requests[before:]} == {"track", "list"})
        assert scene.api.requests[before].at - closed_at >= 1.9


def kind(request: Received) -> str:
    return "list" if request.path == MUSIC else "track"


async def test_after_an_outage_the_api_sees_a_probe_and_then_the_rate_and_no_burst(scene: Polite) -> None:
    """All tracks are due by then, of as many accounts, so that no list helps; and calls come in."""
    scene.useapi["rate"] = "10/s"
    scene.poll = {"interval": "500ms", "max_interval": "1s"}
    ids = [audio_id(1, f"{number}@example.com") for number in range(20)]
    scene.accounts = [{"audio_id": identifier} for identifier in ids]
    scene.api.otherwise(lambda _request: answer(track(1)))
    async with daemon(scene.write()) as running:
        await scene.asked(20)
        held = asyncio.Event()
        scene.api.otherwise(lambda _request: Reply(503))
        await running.logged("upstream.unavailable")
        await scene.asked(len(scene.api.requests) + 1)  # a probe, in vain
        scene.api.otherwise(lambda _request: Reply(200, json.dumps(track(1)), delay_until=held))
        begun = len(scene.api.requests)
        await scene.asked(begun + 1)
        for identifier in ids:
            await scene.call(identifier)
        assert len(scene.api.requests) == begun + 1, "all wait for the answer to one"
        answered = asyncio.get_running_loop().time()
        held.set()
        after = (await scene.asked(begun + 21))[begun + 1 :]
        # NB: since the answer, not from one to the next, which a machine that stands still brings together
        assert all(one.at >= answered + index / 10 for index, one in enumerate(after)), "20 are due"
        await running.logged("upstream.recovered")


async def test_what_was_asked_is_kept_and_shown_with_what_it_saves(scene: Polite) -> None:
    """30 tracks of one account: a request or two where fixed polling takes 30."""
    numbers = range(1, 31)
    scene.accounts = []
    scene.poll = {"interval": "200ms", "max_interval": "1s"}
    file = scene.write(*numbers)
    async with daemon(file) as running:
        await scene.asked(20)
        shown = json.loads(await scene.get("/api/status"))["usage"]["last_hour"]
        lists = sum(one.path == MUSIC for one in scene.api.requests)
        assert shown["requests"] == shown["track"] + shown["list"] >= 19
        assert 0 < shown["list"] <= lists
        assert shown["saved"] > 0.5
        assert shown["fixed"] > 2 * shown["requests"]
        page = await scene.get("/")
        assert re.search(r"<small>\d+ requests in the last hour, \d+ % fewer than reading each track", page)
        seen = Scrape(await scene.get("/metrics"))
        assert seen("notifier_api_fixed_reads_total") >= shown["fixed"] - 1
        assert await running.stop() == 0
    (requests,) = kept(scene)
    assert requests - len(scene.api.requests) in (0, 1), "one may have been about to leave at the end"
    code, out, _ = await command("status", "-c", str(file))
    assert code == 0
    assert f"API: {requests} requests in the last hour, " in out
    assert " % fewer than reading each track every 200ms\n" in out
    (found,) = [one for one in await examine(str(file), None, limits=Limits()) if one.check is Check.USAGE]
    assert f"{requests} requests in the last hour, " in found.detail
    assert f"{requests} requests in the last day, " in found.detail


async def test_a_request_whose_answer_the_end_cuts_off_was_asked_all_the_same(scene: Polite) -> None:
    scene.api.otherwise(lambda _request: replace(answer(track(1)), delay_until=asyncio.Event()))
    async with daemon(scene.write(1)) as running:
        await scene.asked(3)
        assert await running.stop() == 0
    assert kept(scene) == [3]


def kept(scene: Polite) -> list[int]:
    with closing(sqlite3.connect(scene.state)) as connection:
        rows = connection.execute("SELECT sum(track + list) FROM usage").fetchall()
    return [count for (count,) in rows]
