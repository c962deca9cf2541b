"""What a network does to the connections of the daemon, and what must not come of it."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.faulty import Fault, Line, certificate, line_to
from tests.support.process import Daemon, daemon
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Received, Reply, Server, free_port
from tests.support.tracks import answer, audio_id, completed, path_of

_FEW = 8
"""How many open files or threads more are no sign of any leak: connections that are kept for later."""
_CLOSED = "127.0.0.1 closed the connection without an answer"
_SILENT = "no answer from 127.0.0.1 within 500ms"
_AMPLE = "20s"
"""What no machine stands still for: the timeout of the side that is not the one to fail."""
_NO_HTTP = "the answer of 127.0.0.1 is not HTTP"
UNANSWERED = {
    Fault.REFUSED: "no connection to 127.0.0.1:PORT: Connection refused",
    Fault.RESET_AT_ONCE: _CLOSED,
    Fault.RESET_UNREAD: _CLOSED,
    Fault.RESET_AFTER: _CLOSED,
    Fault.CLOSED_AFTER: _CLOSED,
    Fault.SILENCE: _SILENT,
    Fault.DRIPPING_HEAD: _SILENT,
    Fault.NO_HTTP: _NO_HTTP,
    Fault.NO_STATUS: _NO_HTTP,
    Fault.PAGE_502: "HTTP 502: an HTML page",
}
"""What is said of a fault, whomever it hits."""
SERVED = {Fault.RESET_AFTER, Fault.CLOSED_AFTER, Fault.DRIPPING_HEAD}
"""The faults that hide that the request was taken."""


class LinedScene(Scene):
    """A scene with a line before the API and one before the receivers, and with its metrics shown."""

    def __init__(self, directory: Path, servers: tuple[Server, Server], lines: tuple[Line, Line]) -> None:
        super().__init__(directory, *servers)
        self.to_api, self.to_receiver = lines
        self.delivery = {"timeout": "500ms", "first_retry": "50ms", "max_retry": "100ms"}
        self.useapi["timeout"] = "500ms"
        self.poll: dict[str, Any] = {"interval": "100ms", "max_interval": "100ms"}
        self.http = f"127.0.0.1:{free_port()}"

    def write(self, *numbers: int) -> Path:
        """Replace the watchlist by one of these tracks, with everything at the far end of a line."""
        file = super().write(*numbers)
        text = file.read_text().replace(self.api.url, self.to_api.url)
        watchlist = json.loads(text.replace(self.receiver.url, self.to_receiver.url))
        watchlist["poll"] |= self.poll
        file.write_text(json.dumps({**watchlist, "http": self.http}))
        return file

    async def metric(self, name: str) -> float:
        """Return a metric of the daemon, 0 when it has none by this name."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.http}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    @contextlib.asynccontextmanager
    async def growing(self, by: int, *names: str) -> AsyncIterator[None]:
        """Wait at the end of a block until all these metrics have grown by so much."""
        before = [await self.metric(name) for name in names]
        yield
        async with asyncio.timeout(PATIENCE):
            for name, value in zip(names, before, strict=True):
                while await self.metric(name) < value + by:
                    await asyncio.sleep(0.1)

    async def all_are_read(self, *numbers: int) -> None:
        """Wait until each of these tracks was read once more."""
        paths = [path_of(audio_id(number)) for number in numbers]
        before = {path: len(self.api.to(path)) for path in paths}
        await self.api.until(lambda: all(len(self.api.to(path)) > before[path] for path in paths))


@pytest.fixture
async def scene(tmp_path: Path, api: Server, receiver: Server) -> AsyncIterator[LinedScene]:
    async with line_to(api.url) as to_api, line_to(receiver.url) as to_receiver:
        yield LinedScene(tmp_path, (api, receiver), (to_api, to_receiver))


def reasons(running: Daemon, event: str, **keys: str) -> list[str]:
    """Return why something is said to have failed, each time that it is."""
    return [
        re.sub(r":\d+:", ":PORT:", record.get("error") or record["reason"])
        for record in running.records(event)
        if keys.items() <= record.items()
    ]


def failures(fault: Fault = Fault.NONE) -> int:
    """Return how often a fault is to hit; fewer times where each takes the whole timeout."""
    is_slow = fault in {Fault.SILENCE, Fault.DRIPPING_HEAD, Fault.DRIPPING_BODY}
    return 2 if is_slow else 3


def within(timeout: str, faults: Mapping[Fault, str]) -> dict[Fault, str]:
    """Return what is said of faults where this is how long an answer may take."""
    return {fault: text.replace("500ms", timeout) for fault, text in faults.items()}


def but_for_stalls(said: Iterable[str]) -> list[str]:
    """Leave out what a machine that stands still for a moment adds, which looks like a silent network."""
    return [text for text, _ in itertools.groupby(text for text in said if not text.startswith("no answer"))]


def all_is_over(running: Daemon) -> bool:
    """Say whether each outage of the API has ended."""
    return len(running.records("upstream.unavailable")) == len(running.records("upstream.recovered"))


def held(running: Daemon) -> dict[str, int]:
    """Count the files that a process has open and its threads."""
    process = f"/proc/{running.process.pid}"
    return {what: len(os.listdir(f"{process}/{what}")) for what in ("fd", "task")}


async def holds_no_more_than(running: Daemon, before: Mapping[str, int]) -> None:
    """Wait until a process has no more files and threads than before, but for a few."""
    async with asyncio.timeout(PATIENCE):
        while any(count > before[what] + _FEW for what, count in held(running).items()):
            await asyncio.sleep(0.1)


def names(requests: list[Received]) -> list[str]:
    return [request.json()["data"]["name"] for request in requests]


async def test_whatever_hits_the_api_is_one_outage_and_nothing_is_lost(scene: LinedScene) -> None:
    more = {
        Fault.PAGE: "HTTP 200: an HTML page instead of a track",
        Fault.PAGE_404: "HTTP 404: an HTML page",
        Fault.DRIPPING_BODY: _SILENT,
    }
    faults = within("1s", UNANSWERED | more)
    scene.target("archive", "/webhook/archive")
    scene.useapi["concurrency"] = 1  # else a read that had begun before a fault succeeds in the midst of it
    scene.useapi["timeout"] = "1s"
    scene.delivery["timeout"] = _AMPLE  # a message whose answer a standstill held up would come twice
    numbers = [*range(1, len(faults) + 1)]
    async with daemon(scene.write(*numbers, 99)) as running:
        await scene.all_are_read(*numbers)
        before = held(running)
        for number, fault in enumerate(faults, 1):
            async with scene.growing(
                failures(fault), 'notifier_api_requests_total{kind="track",outcome="unavailable"}'
            ):
                await scene.to_api.become(fault)
                scene.complete(number)
            await scene.to_api.become(Fault.NONE)
            await scene.receiver.until_count("/webhook/archive", number)
            await scene.all_are_read(*numbers[number:], 99)
        await holds_no_more_than(running, before)
        await running.until(lambda: all_is_over(running), "the end of an outage")
        assert await running.stop() == 0
    said = reasons(running, "upstream.unavailable")
    assert but_for_stalls(said) == but_for_stalls(faults.values())
    assert all_is_over(running), "an outage is one line"
    assert names(scene.receiver.requests) == [f"Track {number}" for number in numbers]
    assert running.records("poll.failed") == []


async def test_whatever_hits_a_receiver_is_one_line_and_nothing_is_lost(scene: LinedScene) -> None:
    scene.target("archive", "/webhook/archive")
    scene.useapi["timeout"], scene.delivery["timeout"] = _AMPLE, "2s"
    faults = within("2s", UNANSWERED)
    failed = 'notifier_delivery_attempts_total{outcome="retry",target="archive"}'
    async with daemon(scene.write(*range(1, len(faults) + 1))) as running:
        await scene.all_are_read(1)
        before = held(running)
        for number, fault in enumerate(faults, 1):
            async with scene.growing(failures(fault), failed):
                await scene.to_receiver.become(fault)
                scene.complete(number)
            await scene.to_receiver.become(Fault.NONE)
            await running.logged("delivery.delivered", number)
        await holds_no_more_than(running, before)
        assert await running.stop() == 0
    assert reasons(running, "delivery.retry_scheduled") == [*faults.values()]
    ids: dict[str, set[str]] = {}
    for request in scene.receiver.requests:
        ids.setdefault(request.json()["data"]["name"], set()).add(request.headers["webhook-id"])
    repeated = {name for name in ids if names(scene.receiver.requests).count(name) > 1}
    assert {len(one) for one in ids.values()} == {1}
    assert len(ids) == len(faults)
    assert repeated == {f"Track {number}" for number, fault in enumerate(faults, 1) if fault in SERVED}


async def test_after_an_outage_all_is_told_in_order_and_nobody_is_overrun(scene: LinedScene) -> None:
    count, spacing, longest = 30, 1 / 20, 0.2
    scene.useapi |= {"rate": "20/s", "concurrency": 3, "timeout": "1m"}
    scene.poll |= {"max_interval": "200ms", "list": "never"}  # NB: one page would tell of all
    scene.delivery["timeout"] = "20s"
    scene.target("in-order", "/webhook/1", concurrency=1)
    scene.target("wide", "/webhook/4", concurrency=4)
    scene.api.otherwise(lambda _request: Reply(503))
    await scene.to_receiver.become(Fault.REFUSED)
    async with daemon(scene.write(*range(count))) as running:
        # While the API is down: one probe a step, however many tracks there are.
        await scene.api.until(lambda: len(scene.api.requests) >= 8)
        at = [request.at for request in scene.api.requests[4:]]
        assert all(later - earlier >= longest for earlier, later in itertools.pairwise(at))

        # When it is back: nobody before the probe has its answer, then all at the rate.
        answered = asyncio.Event()
        for number in range(count):
            reply = answer(completed(number))
            path = path_of(audio_id(number))
            scene.api.reply(path, Reply(reply.status, reply.body, delay_until=answered))
        down = len(scene.api.requests)
        await scene.api.until(lambda: len(scene.api.requests) > down)
        scene.delivery["give_up_after"] = "2h"
        scene.write(*range(count))
        await running.logged("config.reloaded")  # by itself, which takes longer than any wait here
        assert len(scene.api.requests) == down + 1
        opened = asyncio.get_running_loop().time()
        answered.set()
        await running.logged("track.completed", count)
        _probe, *others = scene.api.requests[down:]
        assert len(others) == count - 1
        assert all(one.at >= opened + index * spacing for index, one in enumerate(others))

        # The receiver is still down. When it is back: a probe, then as wide as the target is.
        first, rest = asyncio.Event(), asyncio.Event()
        replies = [Reply(204, delay_until=first), *[Reply(204, delay_until=rest)] * 4, Reply(204)]
        scene.receiver.reply("/webhook/4", *replies)
        await scene.to_receiver.become(Fault.NONE)
        await scene.receiver.until_count("/webhook/1", count)
        assert len(scene.receiver.to("/webhook/4")) == 1
        first.set()
        await scene.receiver.until_count("/webhook/4", 5)
        rest.set()
        await running.logged("delivery.delivered", 2 * count)
        assert await running.stop() == 0
    read = [int(request.path.rpartition(":")[2]) for request in scene.api.requests[down:]]
    assert sorted(read) == [*range(count)]
    detected = [record["name"] for record in running.records("track.completed")]
    assert names(scene.receiver.to("/webhook/1")) == detected
    assert sorted(names(scene.receiver.to("/webhook/4"))) == sorted(detected)
    assert reasons(running, "upstream.unavailable") == ["HTTP 503"]
    refused = UNANSWERED[Fault.REFUSED]
    assert reasons(running, "delivery.retry_scheduled", target="wide") == [refused]
    assert reasons(running, "delivery.retry_scheduled", target="in-order") == [refused]


async def test_a_track_whose_reads_hang_slows_no_other(scene: LinedScene) -> None:
    """Its first time-out may be the API's fault; once others were read since, the next ones are its own."""
    never = asyncio.Event()
    scene.poll["max_interval"] = "1h"
    scene.api.reply(path_of(audio_id(1)), Reply(delay_until=never))
    async with daemon(scene.write(1, 2, 3)) as running:
        await running.logged("poll.failed")
        await scene.api.until_count(path_of(audio_id(1)), 4)
        await scene.all_are_read(2, 3)
        assert await running.stop() == 0
    never.set()
    assert reasons(running, "poll.failed") == [_SILENT]
    assert len(running.records("upstream.unavailable")) == len(running.records("upstream.recovered")) == 1


async def test_a_failure_that_numbers_itself_is_one_line(scene: LinedScene) -> None:
    serial = itertools.count(1)
    scene.useapi["timeout"] = scene.delivery["timeout"] = _AMPLE
    scene.target("archive", "/webhook/archive")
    scene.api.otherwise(lambda _request: answer({"error": f"request {next(serial)} was bad"}, 422))
    scene.receiver.otherwise(lambda _request: Reply(503, f"overloaded, request {next(serial)}"))
    scene.complete(1)
    async with daemon(scene.write(1, 2)) as running:
        await scene.api.until_count(path_of(audio_id(2)), 5)
        await scene.receiver.until_count("/webhook/archive", 5)
        assert await running.stop() == 0
    assert len(running.records("poll.failed")) == len(running.records("delivery.retry_scheduled")) == 1


async def test_tls_that_is_mended_later_costs_nothing(
    scene: LinedScene, api: Server, receiver: Server, tmp_path: Path
) -> None:
    well, ill = _tls(good := certificate(tmp_path / "good.pem")), _tls(certificate(tmp_path / "bad.pem"))
    scene.useapi["timeout"], scene.delivery["timeout"] = _AMPLE, "2s"
    scene.complete(1)
    async with line_to(api.url, ill) as to_api, line_to(receiver.url, ill) as to_receiver:
        scene.to_api, scene.to_receiver = to_api, to_receiver
        scene.target("archive", "/webhook/archive")
        failed = 'notifier_delivery_attempts_total{outcome="retry",target="archive"}'
        async with daemon(scene.write(1), extra={"SSL_CERT_FILE": str(good)}) as running:
            async with scene.growing(
                failures(), 'notifier_api_requests_total{kind="track",outcome="unavailable"}'
            ):
                pass
            to_api.tls = well
            for tls, fault in [
                (ill, Fault.NONE),
                (None, Fault.RESET_UNREAD),
                (None, Fault.NO_TLS),
                (None, Fault.SILENCE),
            ]:
                async with scene.growing(failures(fault), failed):
                    to_receiver.tls = tls
                    await to_receiver.become(fault)
            to_receiver.tls = well
            await to_receiver.become(Fault.NONE)
            await running.logged("delivery.delivered")
            assert await running.stop() == 0
    untrusted = "the certificate of localhost is not valid: self-signed certificate"
    assert reasons(running, "upstream.unavailable") == [untrusted]
    assert reasons(running, "delivery.retry_scheduled") == [
        untrusted,
        "localhost closed the connection without an answer",
        "no TLS connection to localhost",
        "no answer from localhost within 2s",
    ]
    assert len(receiver.requests) == 1


def _tls(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
