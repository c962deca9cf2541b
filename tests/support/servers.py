"""HTTP servers on loopback: an API that answers as told and receivers that keep a ledger."""

import asyncio
import contextlib
import json
import socket
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Self

from aiohttp import web

PATIENCE = 60.0
"""How long a test waits for what must happen; a test that needs it all has failed.

NB: half of what a test may take. On a machine that has ten times as much to do as it can, daemons that start
together take more than half a minute.
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to give. `delay_until` holds it back until the event is set."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay_until: asyncio.Event | None = None
    drop: bool = False
    """Whether to close the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    method: str
    path: str
    raw_path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    query: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)


class Server:
    """Answers each path with its queue of replies, the last of which stays; remembers every request."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.requests: list[Received] = []
        self.url = ""
        self.now: Callable[[], datetime] | None = None
        """What its answers are dated by, if not by this machine's clock."""
        self._replies: dict[str, deque[Reply]] = defaultdict(deque)
        self._default: Callable[[Received], Reply] = lambda _request: Reply(status=404)
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._listener = listener

    async def start(self) -> Self:
        """Listen on a free port, on the one of before, or as who made the server says."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        if self._listener is not None:
            await web.SockSite(self._runner, self._listener).start()
        else:
            await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def pause(self) -> None:
        """Refuse connections until it is started again, on a port that stays its own."""
        await self.stop()
        free_port(self._port)

    def reply(self, path: str, *replies: Reply) -> None:
        """Answer a path with these from now on, one after the other; the last one stays."""
        self._replies[path] = deque(replies)

    def otherwise(self, default: Callable[[Received], Reply]) -> None:
        """Answer what has no replies of its own."""
        self._default = default

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(
            request.method,
            request.path,
            request.raw_path,
            request.headers.copy(),
            await request.read(),
            asyncio.get_running_loop().time(),
            dict(request.query),
        )
        async with self._changed:
            self.requests.append(received)
            self._changed.notify_all()
        replies = self._replies.get(received.path)
        if not replies:
            reply = self._default(received)
        else:
            reply = replies.popleft() if len(replies) > 1 else replies[0]
        if reply.delay_until is not None:
            await reply.delay_until.wait()
        if reply.drop and request.transport is not None:
            request.transport.abort()
        dated = {} if self.now is None else {"Date": format_datetime(self.now(), usegmt=True)}
        return web.Response(
            status=reply.status,
            body=reply.body.encode("utf-8", "surrogatepass"),
            headers={"Content-Type": reply.content_type, **dated, **reply.headers},
        )

    def to(self, path: str) -> list[Received]:
        """Return the requests to a path."""
        return [request for request in self.requests if request.path == path]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a request makes the condition true."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def until_count(self, path: str, count: int) -> list[Received]:
        """Wait for so many requests to a path and return them."""
        await self.until(lambda: len(self.to(path)) >= count)
        return self.to(path)


_kept: list[socket.socket] = []
"""What keeps ports from being given to others, until this process ends."""


def free_port(port: int = 0) -> int:
    """Return a port of the loopback, by default any, that nobody listens on but who is told of it.

    NB: bound and not listened on, it is given to nobody who asks the system for any port, as the servers of
    other tests do by the dozen while a daemon comes up; who asks for this one gets it, by `SO_REUSEADDR`.
    """
    _kept.append(kept := socket.socket())
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", port))
    return int(kept.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(listener: socket.socket | None = None) -> AsyncIterator[Server]:
    """Run a server for the length of a test."""
    server = await Server(listener).start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def raw_server(answer: bytes, *, held: asyncio.Event | None = None) -> AsyncIterator[int]:
    """Answer every connection with some bytes and close it, at once or when the event is set."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if held is not None:
            await held.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def ok_receiver(request: Received) -> Reply:
    """Accept messages as the three types of receivers do."""
    if request.path.startswith("/slack"):
        return Reply(body="ok", content_type="text/plain")
    if request.path.startswith("/discord"):
        return Reply(body='{"id": "1"}')
    return Reply(status=204)
