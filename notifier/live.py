"""Tells open pages that something has changed, by server-sent events; what has, they come and see.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

_MOST = 64
"""How many pages are told; those beyond look every ten seconds, as they do by themselves."""
_EVERY = 1.0
_HEARTBEAT = 15.0
_SEND_BUFFER = 4096
_MOST_UNSENT = 256
"""A few messages: with uvloop the last one may not even have been tried to be sent."""
_GONE_AFTER_MS = 30_000
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
_HELLO = b"retry: 3000\n\n"
_CHANGED = b"event: changed\ndata: 1\n\n"
_STILL_HERE = b": still here\n\n"


class Live:
    """The pages that listen. While there are any, a change is looked for every `every` seconds.

    `mark` returns what differs whenever a page would show something else. A comment every `heartbeat` seconds
    finds those that are gone; whoever takes nothing in is dropped.
    """

    def __init__(
        self,
        mark: Callable[[], Awaitable[object]],
        *,
        most: int = _MOST,
        every: float = _EVERY,
        heartbeat: float = _HEARTBEAT,
    ) -> None:
        self._mark = mark
        self._most, self._every = most, every
        self._heartbeat = heartbeat
        self._listeners: set[asyncio.Event] = set()
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def listeners(self) -> int:
        """How many pages listen."""
        return len(self._listeners)

    async def close(self, _app: web.Application | None = None) -> None:
        """End all streams; those who listened will ask again, and be refused if nobody is there."""
        self._is_closed = True
        for listener in self._listeners:
            listener.set()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with events for as long as both sides want that."""
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        if self._is_closed or len(self._listeners) >= self._most:
            return web.Response(status=503, headers={"Retry-After": "60"}, text="503: too many listen\n")
        response, news = web.StreamResponse(headers=_HEADERS), asyncio.Event()
        self._listeners.add(news)
        self._look()
        try:
            _keep_small(request)
            await response.prepare(request)
            await self._tell(request, response, news)
        except ConnectionError:
            return response
        finally:
            self._listeners.discard(news)
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, news: asyncio.Event) -> None:
        text = _HELLO
        while not self._is_closed and _takes_in(request):
            await response.write(text)
            text = _STILL_HERE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat):
                    await news.wait()
                news.clear()
                text = _CHANGED

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_changes(), name="live page")

    async def _look_for_changes(self) -> None:
        before = await self._mark()
        while self._listeners:
            await asyncio.sleep(self._every)
            after = await self._mark()
            if after != before:
                before = after
                for listener in self._listeners:
                    listener.set()


def _keep_small(request: web.Request) -> None:
    """Let the system hold little for a connection, and not for long when nobody is there any more."""
    connection = request.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_AFTER_MS)


def _takes_in(request: web.Request) -> bool:
    """Say whether what was told before has left; if it has not, the connection is cut."""
    transport = cast(asyncio.WriteTransport | None, request.transport)  # NB: uvloop's is no subclass
    if transport is None or transport.is_closing():
        return False
    if transport.get_write_buffer_size() > _MOST_UNSENT:
        transport.abort()
        return False
    return True
