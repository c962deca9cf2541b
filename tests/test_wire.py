import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from yarl import URL

from notifier.answer import Answer, Unreachable
from notifier.wire import Wire
from tests.support.servers import Reply, Server, free_port, raw_server

SECOND = timedelta(seconds=1)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire(
        timeout=30 * SECOND, connections=4, largest_answer=1000, headers={"X-Ours": "yes"}
    ) as wire:
        yield wire


async def test_an_answer_comes_back_whole_with_headers_in_any_case(wire: Wire, api: Server) -> None:
    api.reply("/a", Reply(status=429, body='{"a": "é"}', headers={"retry-after": "7"}))
    answer = await wire.send("POST", URL(f"{api.url}/a"), headers={"X-More": "too"}, body=b"sent")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body, answer.headers["Retry-After"]) == (429, '{"a": "é"}', "7")
    assert answer.broken_off is None
    (request,) = api.requests
    assert (request.method, request.body) == ("POST", b"sent")
    assert (request.headers["X-Ours"], request.headers["X-More"]) == ("yes", "too")
    assert request.headers["User-Agent"].startswith("pixverse-notifier/")


async def test_a_redirect_is_not_followed(wire: Wire, api: Server) -> None:
    api.reply("/a", Reply(status=302, headers={"Location": f"{api.url}/b"}))
    answer = await wire.send("GET", URL(f"{api.url}/a"))
    assert isinstance(answer, Answer)
    assert answer.status == 302
    assert [request.path for request in api.requests] == ["/a"]


async def test_a_cookie_is_not_kept(wire: Wire, api: Server) -> None:
    api.reply("/a", Reply(headers={"Set-Cookie": "tracking=1"}))
    for _ in range(2):
        await wire.send("GET", URL(f"{api.url}/a"))
    assert "Cookie" not in api.requests[1].headers


async def test_an_endless_body_is_read_to_its_limit_only(wire: Wire, api: Server) -> None:
    api.reply("/a", Reply(body="x" * 50_000_000))
    answer = await wire.send("GET", URL(f"{api.url}/a"))
    assert isinstance(answer, Answer)
    assert len(answer.body) == 1001


async def test_a_body_that_is_no_utf8_is_read_as_far_as_it_goes(wire: Wire) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\xff!") as port:
        answer = await wire.send("GET", URL(f"http://127.0.0.1:{port}/"))
    assert isinstance(answer, Answer)
    assert answer.body == "a\ufffd!"


async def test_statuses_beyond_http_are_answers_too(wire: Wire) -> None:
    async with raw_server(b"HTTP/1.1 596 Whatever\r\nContent-Length: 2\r\n\r\n{}") as port:
        answer = await wire.send("GET", URL(f"http://127.0.0.1:{port}/"))
    assert isinstance(answer, Answer)
    assert answer.status == 596


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "127.0.0.1 closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "127.0.0.1 closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer of 127.0.0.1 is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nX-Bomb: " + b"x" * 100_000 + b"\r\n\r\n",
            "the answer of 127.0.0.1 is not HTTP",
        ),
    ],
    ids=["nothing", "half its headers", "another protocol", "a header bomb"],
)
async def test_a_broken_answer_reads_as_a_sentence(wire: Wire, sent: bytes, reason: str) -> None:
    async with raw_server(sent) as port:
        assert await wire.send("GET", URL(f"http://127.0.0.1:{port}/secret")) == Unreachable(reason)


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 50\r\n\r\nok",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n9\r\nk",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ],
    ids=["fewer bytes than announced", "half a chunk", "no last chunk"],
)
async def test_an_answer_whose_body_breaks_off_comes_back_as_far_as_it_came(wire: Wire, sent: bytes) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nX-Its: own\r\n" + sent) as port:
        answer = await wire.send("POST", URL(f"http://127.0.0.1:{port}/secret"), body=b"sent")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.headers["X-Its"], answer.body) == (200, "own", "ok")
    assert answer.broken_off == "the answer of 127.0.0.1 was cut short"


async def test_an_answer_whose_body_drips_past_the_timeout_comes_back_as_far_as_it_came() -> None:
    held = asyncio.Event()
    async with (
        raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nok", held=held) as port,
        Wire(timeout=SECOND / 2, connections=1, largest_answer=10) as wire,
    ):
        answer = await wire.send("POST", URL(f"http://127.0.0.1:{port}/secret"), body=b"sent")
        held.set()
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (200, "ok")
    assert answer.broken_off == "no answer from 127.0.0.1 within 500ms"


async def test_a_refused_connection_reads_as_a_sentence(wire: Wire) -> None:
    port = free_port()
    answer = await wire.send("GET", URL(f"http://127.0.0.1:{port}/secret"))
    assert answer == Unreachable(f"no connection to 127.0.0.1:{port}: Connection refused")


async def test_a_name_that_does_not_exist_reads_as_a_sentence(wire: Wire) -> None:
    answer = await wire.send("GET", URL("http://nowhere.invalid/secret"))
    assert answer == Unreachable("the name nowhere.invalid cannot be resolved")


async def test_tls_with_a_server_that_speaks_none_reads_as_a_sentence(wire: Wire, api: Server) -> None:
    answer = await wire.send("GET", URL(api.url.replace("http:", "https:") + "/secret"))
    assert answer == Unreachable("no TLS connection to 127.0.0.1")


async def test_silence_ends_with_the_timeout(api: Server) -> None:
    silent = asyncio.Event()
    api.reply("/a", Reply(delay_until=silent))
    async with Wire(timeout=SECOND / 20, connections=1, largest_answer=10) as wire:
        answer = await wire.send("GET", URL(f"{api.url}/a"))
    silent.set()
    assert answer == Unreachable("no answer from 127.0.0.1 within 50ms")


async def test_a_certificate_that_nobody_signed_reads_as_a_sentence(
    wire: Wire, certificate: ssl.SSLContext
) -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=certificate)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await wire.send("GET", URL(f"https://localhost:{port}/secret"))
    assert answer == Unreachable("the certificate of localhost is not valid: self-signed certificate")


class Silent:
    """A listener that says nothing and hears all that is said until the other side hangs up."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with contextlib.suppress(ConnectionError):
            said = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await self.heard.put(said)


async def test_a_knock_connects_and_says_nothing(wire: Wire) -> None:
    silent = Silent()
    async with await asyncio.start_server(silent.handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await wire.knock(URL(f"http://localhost:{port}/a")) is None
        assert await silent.heard.get() == b""


async def test_a_knock_that_fails_reads_like_a_request_that_fails(
    wire: Wire, api: Server, certificate: ssl.SSLContext
) -> None:
    plain = api.url.replace("http:", "https:")
    unsigned = await asyncio.start_server(Silent().handle, "127.0.0.1", 0, ssl=certificate)
    async with unsigned:
        foreign = f"https://localhost:{unsigned.sockets[0].getsockname()[1]}/a"
        for url in (f"http://127.0.0.1:{free_port()}/a", "http://nowhere.invalid/a", f"{plain}/a", foreign):
            sent, knocked = await wire.send("GET", URL(url)), await wire.knock(URL(url))
            assert isinstance(sent, Unreachable)
            assert knocked == sent


async def test_a_knock_at_a_server_that_never_shakes_hands_ends_with_the_timeout() -> None:
    silent = Silent()
    async with (
        await asyncio.start_server(silent.handle, "127.0.0.1", 0) as server,
        Wire(timeout=SECOND, connections=1, largest_answer=1000) as wire,
    ):
        url = URL(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/a")
        assert await wire.knock(url) == Unreachable("no answer from 127.0.0.1 within 1s")
        await silent.heard.get()
