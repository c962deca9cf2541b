"""Answers that never end, or are far too much: how a server can try to fill a client's memory."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

_CHUNK = 64 * 1024
_MEBIBYTES_50 = 50 * 1024 * 1024
_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bomb:
    """An answer: how it begins, and what comes again and again after that."""

    head: bytes
    piece: bytes
    most: int | None = None
    """How many bytes of pieces there are; None for no end."""


def _zipped() -> bytes:
    zeros = gzip.compress(b"0" * _MEBIBYTES_50)
    return gzip.compress(zeros) if len(zeros) > _CHUNK else zeros


def _whole(body: bytes, headers: bytes = b"") -> Bomb:
    return Bomb(_OK + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body, b"", 0)


BOMBS: Mapping[str, Bomb] = {
    "a body of 50 MiB": Bomb(
        _OK + b"Content-Length: %d\r\n\r\n" % _MEBIBYTES_50, b"x" * _CHUNK, _MEBIBYTES_50
    ),
    "a body without end": Bomb(_OK + b"\r\n", b'{"a": ' * 10_000),
    "tiny chunks": Bomb(_CHUNKED, b"1\r\nx\r\n" * 5000),
    "a compressed body": _whole(_zipped(), b"Content-Encoding: gzip\r\n"),
    "a long header": Bomb(_OK + b"X: ", b"y" * _CHUNK),
    "a long name of a header": Bomb(_OK, b"y" * _CHUNK),
    "thousands of headers": Bomb(_OK, b"X-a: b\r\n" * 5000),
    "a long status line": Bomb(b"HTTP/1.1 200 ", b"y" * _CHUNK),
    "informational answers": Bomb(
        b"", b"HTTP/1.1 103 Early Hints\r\nLink: <%b>\r\n\r\n" % (b"x" * 4000) * 20
    ),
    "trailers": Bomb(_CHUNKED + b"2\r\nok\r\n0\r\n", b"X-t: y\r\n" * 5000),
    "an extension of a chunk": Bomb(_CHUNKED + b"2;", b"y" * _CHUNK),
    "the size of a chunk": Bomb(_CHUNKED, b"0" * _CHUNK),
    "no HTTP": Bomb(b"", b"\x00\xff" * 30_000),
    "blank lines": Bomb(b"", b"\r\n" * 30_000),
    "many answers to one request": Bomb(b"", b"HTTP/1.1 204 No Content\r\n\r\n" * 3000),
    "another protocol": Bomb(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"x" * _CHUNK,
    ),
    "deep nesting": _whole(b"[" * 400_000),
    "a long number": _whole(b'{"audio_status": ' + b"9" * 400_000 + b"}"),
    "no Unicode": _whole(b'{"audio_status_name": "\xff\xfe\xed\xa0\x80"' + b"\xc0" * 60_000),
    "no number": _whole(b'{"audio_status": NaN, "credits": -Infinity, "audio_status_final": NaN}'),
}


@dataclass
class Bomber:
    """Answers a path with the bomb of its name, and everything that `answer_of` knows with that."""

    answer_of: Callable[[str], bytes | Bomb]
    url: str = ""
    requests: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            self.requests.append(path)
            match self.answer_of(path):
                case Bomb() as bomb:
                    await _explode(writer, bomb)
                case bytes(answer):
                    writer.write(answer)
                    await writer.drain()
        writer.close()


async def _explode(writer: asyncio.StreamWriter, bomb: Bomb) -> None:
    writer.write(bomb.head)
    await writer.drain()
    sent = 0
    while bomb.piece and (bomb.most is None or sent < bomb.most):
        writer.write(bomb.piece)
        await writer.drain()
        sent += len(bomb.piece)


@contextlib.asynccontextmanager
async def bombing(answer_of: Callable[[str], bytes | Bomb]) -> AsyncIterator[Bomber]:
    """Let a bomber answer on loopback."""
    bomber = Bomber(answer_of)
    server = await asyncio.start_server(bomber.answer, "127.0.0.1", 0)
    async with server:
        bomber.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield bomber
