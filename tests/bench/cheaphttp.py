"""A server of HTTP, so cheap that it is not what a bench measures: just enough for kept connections.

What a request is answered with is the business of whoever makes the server.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came whole, with its connection to answer on; the query is not part of the path."""

    path: str
    head: bytes
    body: bytes
    connection: "Connection"

    def header(self, name: str) -> str:
        """Return a header, or nothing when there is none."""
        return _header(self.head, name.lower().encode()).decode()


class Connection(asyncio.Protocol):
    """One client. `send` it an answer to its request, now or later, or `drop` it."""

    def __init__(self, take: Callable[[Request], None], clients: set["Connection"]) -> None:
        self._take = take
        self._clients = clients
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._clients.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._clients.discard(self)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (request := self._next_request()) is not None:
            self._take(request)

    def _next_request(self) -> Request | None:
        """Take a whole request from what has come; None while it is not all there."""
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        length = content_length(head)
        if not end or len(rest) < length:
            return None
        self._unread = rest[length:]
        path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
        return Request(path, head, rest[:length], self)

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, answer: bytes) -> None:
        """Write bytes, unless the client has gone."""
        assert self._transport is not None
        self._transport.write(answer)

    def drop(self) -> None:
        """Close the connection at once."""
        assert self._transport is not None
        self._transport.abort()


def content_length(head: bytes) -> int:
    """Return how many bytes of body follow a head."""
    return int(_header(head, b"content-length") or 0)


def _header(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.lower().partition(b"\r\n%s:" % name)
    return rest.partition(b"\r\n")[0].strip() if found else b""


def response(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return the bytes of an answer; headers are whole lines, each with its line break."""
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        headers.encode(),
        len(body),
        body,
    )


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


async def listen(take: Callable[[Request], None], clients: set[Connection] | None = None) -> asyncio.Server:
    """Serve on a free port of the loopback; `clients` holds the connections that are open."""
    known = set[Connection]() if clients is None else clients
    return await asyncio.get_running_loop().create_server(lambda: Connection(take, known), "127.0.0.1", 0)


def address(server: asyncio.Server) -> str:
    """Return the URL of a server."""
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
