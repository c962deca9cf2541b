"""The listener for the API's calls, on a real socket: whom it answers, what, and how much it takes in."""

import asyncio
import contextlib
import gc
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from notifier.callback import Bounds, Callbacks
from notifier.clock import SystemClock
from notifier.config import Callback
from notifier.document import Scalar
from notifier.hint import Heard
from notifier.metrics import Metrics
from notifier.mistake import Place
from tests.support.loops import LoopFactory, loops
from tests.support.servers import PATIENCE, free_port
from tests.support.tracks import audio_id, completed

PATH = "/hooks/useapi/9f3c1b7e24d8a6050c1e"
BODY = json.dumps(completed()).encode()


def callback(port: int, path: str = PATH) -> Callback:
    place = Place(1, 1)
    return Callback(listen=Scalar(f"127.0.0.1:{port}", place), path=Scalar(path, place))


@dataclass
class Listener:
    """The listener, and what it has passed on."""

    port: int
    metrics: Metrics
    callbacks: Callbacks = field(init=False)
    followed: list[str] = field(default_factory=list)
    heard: Heard = Heard.READ

    def follow(self, audio_id: str) -> Heard:
        self.followed.append(audio_id)
        return self.heard

    async def send(self, sent: bytes, *, ends: bool = False) -> tuple[int, bytes]:
        """Send the bytes of a request, as they are; return the status and all of the answer."""
        reader, writer = await self.connect()
        writer.write(sent)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        return int(answer.split(b" ")[1]), answer

    async def post(self, body: bytes = BODY, path: str = PATH, method: str = "POST") -> tuple[int, bytes]:
        return await self.send(request(body, path, method))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def counts(self) -> dict[str, float]:
        samples = (one for family in self.metrics.registry.collect() for one in family.samples)
        return {
            one.labels["outcome"]: one.value
            for one in samples
            if one.name == "notifier_callbacks_total" and one.value
        }


def request(body: bytes = BODY, path: str = PATH, method: str = "POST", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: any", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


Listening = Callable[[Bounds], Awaitable[Listener]]


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    async with contextlib.AsyncExitStack() as stack:

        async def listen(bounds: Bounds) -> Listener:
            metrics, port = Metrics(), free_port()
            listener = Listener(port, metrics)
            callbacks = listener.callbacks = Callbacks(
                listener.follow, metrics=metrics, clock=SystemClock(), bounds=bounds
            )
            await callbacks.move(callback(port))
            stack.push_async_callback(callbacks.move, None)
            return listener

        yield listen


@pytest.fixture
async def listener(listening: Listening) -> Listener:
    return await listening(Bounds())


async def test_a_call_is_answered_with_204_and_its_track_passed_on(listener: Listener) -> None:
    status, answer = await listener.post()
    assert status == 204
    assert answer.endswith(b"\r\n\r\n")
    assert b"connection: close" in answer.lower()
    assert b"aiohttp" not in answer
    assert listener.followed == [audio_id()]
    assert listener.counts() == {"read": 1}


@pytest.mark.parametrize("heard", [*Heard])
async def test_what_comes_of_a_call_is_counted_and_not_told_the_caller(
    listener: Listener, heard: Heard
) -> None:
    listener.heard = Heard.READ
    usual = (await listener.post())[1]
    listener.heard = heard
    assert dated(await listener.post()) == dated((204, usual))
    assert listener.counts()[heard] >= 1


def dated(answered: tuple[int, bytes]) -> list[bytes]:
    return [line for line in answered[1].split(b"\r\n") if not line.startswith(b"Date")]


@pytest.mark.parametrize(
    "body", [b"", b"no", b"{}", b"[" * 60_000, b"\xff" * 1000, b'{"audio_id": null}', b"a=" + b"%" * 9000]
)
async def test_whatever_a_call_says_it_is_answered_alike(listener: Listener, body: bytes) -> None:
    assert (await listener.post(body))[0] == 204
    assert (listener.followed, listener.counts()) == ([], {"unusable": 1})


@pytest.mark.parametrize(
    "path",
    [
        "/",
        PATH[:-1],
        PATH + "/",
        PATH + "x",
        PATH.upper(),
        "/hooks/useapi",
        f"//evil.example{PATH}",
        f"/x/..{PATH}x",
        "/" + "y" * 7000,
        "/%ff",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
async def test_any_other_path_is_404_whatever_the_method(listener: Listener, path: str, method: str) -> None:
    status, answer = await listener.post(b"", path, method)
    assert status == 404
    assert PATH.encode() not in answer
    assert listener.counts() == {"refused": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"])
async def test_any_other_method_is_405(listener: Listener, method: str) -> None:
    status, answer = await listener.post(b"", PATH, method)
    assert status == 405
    assert b"\r\nAllow: POST\r\n" in answer
    assert listener.followed == []


async def test_a_query_is_left_aside_and_a_proxy_may_name_the_whole_url(listener: Listener) -> None:
    assert (await listener.post(BODY, f"{PATH}?from=useapi"))[0] == 204
    assert (await listener.post(BODY, f"http://notifier.example.com{PATH}"))[0] == 204
    assert len(listener.followed) == 2


async def test_a_body_may_come_in_pieces_and_by_the_old_protocol(listener: Listener) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7]) for i in range(0, len(BODY), 7)
    )
    assert (await listener.send(head + pieces + b"0\r\n\r\n"))[0] == 204
    old = f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    assert (await listener.send(old))[0] == 204
    assert len(listener.followed) == 2


async def test_a_caller_who_waits_to_be_asked_for_the_body_is_asked(listener: Listener) -> None:
    reader, writer = await listener.connect()
    writer.write(request(BODY, PATH, "POST", "Expect: 100-continue").removesuffix(BODY))
    async with asyncio.timeout(PATIENCE):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await reader.read()).startswith(b"HTTP/1.1 204 ")
    writer.close()
    assert listener.followed == [audio_id()]


async def test_a_body_of_64_kib_is_read_and_a_larger_one_is_not(listener: Listener) -> None:
    assert (await listener.post(BODY.ljust(64 * 1024)))[0] == 204
    assert listener.followed == [audio_id()]
    assert (await listener.post(BODY.ljust(64 * 1024 + 1)))[0] == 204
    assert listener.followed == [audio_id()]
    assert listener.counts() == {"read": 1, "unusable": 1}


async def test_a_body_that_never_ends_is_cut_off(listener: Listener) -> None:
    _, writer = await listener.connect()
    writer.write(request(b"").replace(b"Content-Length: 0", b"Content-Length: 99999999999"))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(pour(writer), PATIENCE)
    assert listener.counts() == {"unusable": 1}
    assert (await listener.post())[0] == 204


async def pour(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def test_a_slow_body_and_a_slow_head_are_not_waited_for(listening: Listening) -> None:
    listener = await listening(Bounds(patience=0.2, longest=0.6))
    reader, writer = await listener.connect()
    writer.write(request()[:-5])
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
    for sent in (b"", b"POST ", request(b"", PATH, "GET")[:-2]):
        reader, slow = await listener.connect()
        slow.write(sent)
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        slow.close()
    assert listener.counts() == {"unusable": 1}
    writer.close()


async def test_a_caller_who_hangs_up_midway_leaves_nothing_behind(listener: Listener) -> None:
    for cut in (0, 10, len(request()) - 5):
        _, writer = await listener.connect()
        writer.write(request()[:cut])
        await writer.drain()
        writer.transport.abort()
    assert (await listener.post())[0] == 204
    await until(lambda: open_connections(listener) == 0)
    assert listener.followed == [audio_id()]


async def test_so_many_connections_and_no_more_are_held(listening: Listening) -> None:
    listener = await listening(Bounds(connections=5))
    held = [await listener.connect() for _ in range(5)]
    await until(lambda: open_connections(listener) == 5)
    for _ in range(20):
        reader, writer = await listener.connect()
        writer.write(request())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
        writer.close()
    assert listener.followed == []
    held[0][1].close()
    await until(lambda: open_connections(listener) == 4)
    assert (await listener.post())[0] == 204
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize("loop_factory", loops())
def test_who_is_one_too_many_is_no_error_of_ours(loop_factory: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(_errors_of_too_many()) == []


async def _errors_of_too_many() -> list[object]:
    """Return what the loop has to complain of when nobody is let in."""
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    metrics, port = Metrics(), free_port()
    listener = Listener(port, metrics)
    callbacks = listener.callbacks = Callbacks(
        listener.follow, metrics=metrics, clock=SystemClock(), bounds=Bounds(connections=0)
    )
    await callbacks.move(callback(port))
    for _ in range(5):
        reader, writer = await listener.connect()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    await callbacks.move(None)
    gc.collect()  # NB: a task that nobody waits for complains when it is collected
    return errors


async def test_more_calls_than_are_read_are_dropped_counted_and_answered_alike(listening: Listening) -> None:
    listener = await listening(Bounds(at_once=10, per_second=0.001))
    answers = Counter([(await listener.post())[0] for _ in range(25)])
    assert answers == {204: 25}
    assert len(listener.followed) == 10
    assert listener.counts() == {"read": 10, "dropped": 15}


async def test_another_path_counts_at_once_and_another_address_takes_the_place_of_the_first(
    listener: Listener,
) -> None:
    other = PATH.replace("9f", "a0")
    await listener.callbacks.move(callback(listener.port, other))
    assert [(await listener.post(path=path))[0] for path in (PATH, other)] == [404, 204]
    before, listener.port = listener.port, free_port()
    await listener.callbacks.move(callback(listener.port, other))
    assert (await listener.post(path=other))[0] == 204
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", before)
    await listener.callbacks.move(None)
    with pytest.raises(ConnectionError):
        await listener.connect()


async def test_a_port_that_is_taken_changes_nothing(listener: Listener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await listener.callbacks.move(callback(taken.getsockname()[1], "/other"))
    assert (await listener.post())[0] == 204


def open_connections(listener: Listener) -> int:
    runner = listener.callbacks._runner
    assert runner is not None
    assert runner.server is not None
    return len(runner.server.connections)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)
