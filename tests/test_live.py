"""Server-sent events: who is told what, and who is dropped."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

from notifier.live import Live
from tests.support.loops import LoopFactory, loops
from tests.support.servers import PATIENCE

CHANGED = b"event: changed\ndata: 1\n\n"
STILL_HERE = b": still here\n\n"


class World:
    """Something that changes, with a stream that tells of it."""

    def __init__(self, live: Live, url: str, port: int, runner: web.AppRunner) -> None:
        self.live, self.url, self.port, self.runner = live, url, port, runner

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)


class Marks:
    """What is shown, as a number, and how often it was looked at."""

    def __init__(self) -> None:
        self.value = 0
        self.looks = 0

    async def __call__(self) -> object:
        self.looks += 1
        return self.value


@contextlib.asynccontextmanager
async def streaming(marks: Marks, **settings: float) -> AsyncIterator[World]:
    live = Live(marks, **{"every": 0.02, "heartbeat": 60.0, **settings})  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_get("/events", live.stream)
    app.on_shutdown.append(live.close)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=PATIENCE, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        yield World(live, f"http://127.0.0.1:{port}/events", port, runner)
    finally:
        await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        yield session


async def read(response: aiohttp.ClientResponse) -> bytes:
    """Return the next event or comment."""
    return await response.content.readuntil(b"\n\n")


async def test_a_change_is_told_to_everybody_once(session: aiohttp.ClientSession) -> None:
    marks = Marks()
    async with streaming(marks) as world, session.get(world.url) as one, session.get(world.url) as other:
        assert one.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        for response in (one, other):
            assert await read(response) == b"retry: 3000\n\n"
        for _ in range(3):
            seen = marks.looks
            await world.until(lambda seen=seen: marks.looks > seen + 1)  # type: ignore[misc]
            marks.value += 1
            assert [await read(one), await read(other)] == [CHANGED, CHANGED]


async def test_many_changes_between_two_looks_are_one(session: aiohttp.ClientSession) -> None:
    marks = Marks()
    async with streaming(marks, heartbeat=0.2) as world, session.get(world.url) as response:
        await read(response)
        await world.until(lambda: marks.looks > 1)
        for _ in range(1000):
            marks.value += 1
        while (told := await read(response)) == STILL_HERE:
            pass
        assert told == CHANGED
        assert await read(response) == STILL_HERE


async def test_nothing_is_looked_at_while_nobody_listens(session: aiohttp.ClientSession) -> None:
    marks = Marks()
    async with streaming(marks) as world:
        async with session.get(world.url) as response:
            await read(response)
            await world.until(lambda: marks.looks > 2)
        await world.until(lambda: world.live.listeners == 0)
        await world.until(
            lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "live page"]
        )
        async with session.get(world.url) as response:  # and again when somebody comes back
            await read(response)
            marks.value += 1
            seen = marks.looks
            await world.until(lambda: marks.looks > seen + 1)
            marks.value += 1
            assert await read(response) == CHANGED


async def test_only_so_many_may_listen(session: aiohttp.ClientSession) -> None:
    async with streaming(Marks(), most=2) as world:
        async with session.get(world.url) as one, session.get(world.url) as two:
            await read(one)
            await read(two)
            async with session.get(world.url) as third:
                assert (third.status, third.headers["Retry-After"]) == (503, "60")
        await world.until(lambda: world.live.listeners == 0)
        async with session.get(world.url) as again:
            assert again.status == 200


async def test_who_goes_away_is_forgotten_at_once() -> None:
    async with streaming(Marks()) as world:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"retry: 3000\n\n")
            assert world.live.listeners == 1
            writer.transport.abort()
            await world.until(lambda: world.live.listeners == 0)


@pytest.mark.parametrize("loop_factory", loops())
def test_who_takes_nothing_in_is_dropped(loop_factory: LoopFactory) -> None:
    async def story() -> None:
        marks = Marks()
        async with streaming(marks, heartbeat=0.000_01) as world:
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                deaf.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(deaf, ("127.0.0.1", world.port))
                await loop.sock_sendall(deaf, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await world.until(lambda: marks.looks > 0)
                await world.until(lambda: world.live.listeners == 0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(story())


async def test_the_server_ends_all_streams_at_once_when_it_stops(session: aiohttp.ClientSession) -> None:
    async with streaming(Marks(), every=60.0) as world, session.get(world.url) as response:
        await read(response)
        async with asyncio.timeout(PATIENCE / 2):  # NB: the server's own patience with handlers is longer
            await world.runner.cleanup()
        assert await response.content.read() == b""
        assert world.live.listeners == 0


async def test_a_head_request_ends(session: aiohttp.ClientSession) -> None:
    async with streaming(Marks()) as world, session.head(world.url) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert world.live.listeners == 0
