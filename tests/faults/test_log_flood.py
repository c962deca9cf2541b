"""A log that people can still read after an hour in which everything failed, with another text each time."""

import asyncio
import itertools
import string
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from tests.support.process import Daemon, daemon
from tests.support.scenes import Scene
from tests.support.servers import Reply, Server, free_port
from tests.support.tracks import answer, audio_id, path_of

BURST, PER_SECOND = 100, 0.5
FAILING = range(1, 151)
READY = range(1001, 1101)
ALL_ARE_READ_SO_OFTEN = 5


def words() -> Iterator[str]:
    """Yield texts of which no two are the same, and not for a number in them."""
    for letters in itertools.product(string.ascii_letters, repeat=4):
        yield "the backend said " + "".join(letters)


def assert_readable(running: Daemon, seconds: float) -> None:
    """Hold that no kind of trouble has more lines than the log takes."""
    troubles = Counter(
        record["event"]
        for record in running.records()
        if record["level"] not in {"info", "debug"} and not record["event"].startswith("track.")
    )
    assert all(count <= BURST + PER_SECOND * seconds + 1 for count in troubles.values()), troubles


async def test_tracks_and_targets_that_fail_otherwise_each_time_flood_nothing(
    tmp_path: Path, api: Server, receiver: Server
) -> None:
    """First each track by itself, beside a target that takes nothing; then the API as a whole."""
    text = words()
    scene = Scene(tmp_path, api, receiver)
    scene.target("archive", "/webhook/archive")
    scene.delivery = {"first_retry": "50ms", "max_retry": "50ms"}
    scene.complete(*READY)
    api.otherwise(lambda _request: answer({"error": next(text)}, 422))
    receiver.otherwise(lambda _request: Reply(503, next(text)))
    began = time.monotonic()
    async with daemon(scene.write(*FAILING, *READY)) as running:
        paths = [path_of(audio_id(number)) for number in FAILING]
        await api.until(lambda: len(api.requests) >= len(FAILING) * ALL_ARE_READ_SO_OFTEN)
        await receiver.until_count("/webhook/archive", 40)
        await running.logged("track.completed", len(READY))
        api.otherwise(lambda _request: Reply(503, next(text)))
        await running.logged("upstream.unavailable")
        seen = len(api.requests)
        await api.until(lambda: len(api.requests) >= seen + 5)
        attempts = len(receiver.to("/webhook/archive"))
        seconds = time.monotonic() - began
        assert_readable(running, seconds)
    failed = running.records("poll.failed")
    assert len(failed) < len(FAILING) < sum(len(api.to(path)) for path in paths)
    assert {"poll.failed"} <= {record["lines"] for record in running.records("log.shortened")}
    assert len(running.records("log.shortened")) <= 2, "it is said once that lines are left out"
    assert len(running.records("delivery.retry_scheduled")) <= attempts < len(READY)
    assert len(running.records("upstream.unavailable")) == 1


async def test_a_watchlist_that_is_unwise_throughout_floods_nothing_however_often_it_is_read(
    tmp_path: Path, api: Server, receiver: Server
) -> None:
    scene = Scene(tmp_path, api, receiver)
    file = scene.write()
    unwise = {"type": "webhook", "url": "http://192.0.2.1/hook"}
    scene.targets |= {f"unwise-{number}": unwise for number in range(2 * BURST)}
    began = time.monotonic()
    async with daemon(scene.write()) as running:
        for reloads in range(1, 4):
            running.reload()
            await running.logged("config.reloaded", reloads)
        assert await running.stop() == 0
    assert file.read_text().count("192.0.2.1") == 2 * BURST
    warnings = running.records("config.warning")
    assert BURST <= len(warnings) <= BURST + PER_SECOND * (time.monotonic() - began) + 1
    assert [record["lines"] for record in running.records("log.shortened")] == ["config.warning"]


async def test_whoever_talks_nonsense_to_the_listener_is_not_heard(
    tmp_path: Path, api: Server, receiver: Server
) -> None:
    scene = Scene(tmp_path, api, receiver)
    port = free_port()
    scene.http = f"127.0.0.1:{port}"
    async with daemon(scene.write()) as running:
        for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\nHost: \x00\r\n\r\n", b"\r\n" * 9):
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(nonsense)
                writer.write_eof()
                await reader.read()
                writer.close()
        async with aiohttp.ClientSession() as session, session.get(f"http://{scene.http}/healthz") as answer:
            assert answer.status == 200
        assert await running.stop() == 0
    assert [record["event"] for record in running.records()] == ["daemon.started", "daemon.stopped"]
