"""A server that repeats whatever it was sent, and whatever else it is told to, in every spelling there is."""

import asyncio
import contextlib
import html
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

Spelling = Callable[[str], str]


def _as_json(text: str) -> str:
    return json.dumps({"error": {"message": text}, "message": text, "retry_after": 0})


def _as_escaped_json(text: str) -> str:
    """As PHP writes it, and those who are afraid of HTML in JSON."""
    escaped = json.dumps({"error": text, "message": text}).replace("/", "\\/")
    for character in "&=+<>-":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    return escaped


def _as_codes(text: str) -> str:
    """As nobody writes JSON, and everybody has to read it."""
    return '{"error": "' + "".join(f"\\u{ord(character):04x}" for character in text) + '"}'


def _in_pieces(text: str) -> str:
    """Take the paths apart, as routers do that name the step they do not know."""
    lines = (
        "\n".join(re.split("[/?&=]", line)) if line.startswith(("/", "POST /")) else line
        for line in text.split("\n")
    )
    return "\n".join(lines)


def _page(text: str) -> str:
    return f"<html><title>{html.escape(text)}</title><pre>{text}</pre></html>"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a path is answered."""

    status: int
    spelling: Spelling
    has_location: bool = False


MANNERS = (
    Manner(400, str),
    Manner(400, _as_escaped_json),
    Manner(401, _as_json),
    Manner(403, lambda text: quote(text, safe="")),
    Manner(404, quote),
    Manner(413, html.escape),
    Manner(422, _in_pieces),
    Manner(429, _as_json),
    Manner(500, _as_escaped_json),
    Manner(500, _as_codes),
    Manner(502, _page),
    Manner(503, lambda text: json.dumps(json.dumps(text))),
    Manner(200, str),
    Manner(200, _page),
    Manner(302, str, has_location=True),
    Manner(307, _as_json, has_location=True),
)


@dataclass
class Echo:
    """Answers a path in the manner that `manner_of` gives; counts the requests to each."""

    also: Sequence[str]
    manner_of: Callable[[str], Manner | bytes]
    trap: str = ""
    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close the connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length:")), "0"
            )
            body = (await reader.readexactly(int(length))).decode()
            path = head.split(" ")[1]
            manner = self.manner_of(path)
            writer.write(manner if isinstance(manner, bytes) else self._answer(manner, head + body))
            await writer.drain()
            async with self._changed:
                self.requests[path] += 1
                self._changed.notify_all()
        writer.close()

    def _answer(self, manner: Manner, request: str) -> bytes:
        told = "\n".join([*self.also, request])
        body = manner.spelling(told).encode()
        words = " ".join(self.also)
        lines = [f"HTTP/1.1 {manner.status} {words}", f"Content-Length: {len(body)}", f"X-Echo: {words}"]
        if manner.status == 429:
            lines.append("Retry-After: 0")
        if manner.has_location:
            lines.append(f"Location: {self.trap or 'http://' + quote(self.also[0], safe='')}/{quote(words)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a request makes the condition true."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(condition)


@contextlib.asynccontextmanager
async def echoing(echo: Echo) -> AsyncIterator[Echo]:
    """Let an echo answer on loopback."""
    server = await asyncio.start_server(echo.answer, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        echo.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield echo
