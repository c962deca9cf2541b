"""Where the API may call: its own listener, which answers one secret path and does nothing else.

Anybody may call, so all of it is bounded: what is read of a call, for how long, and of how many at a time.
What a call says is `notifier.hint`'s to find and its handler's to follow; the caller learns none of it.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPMethod

import aiohttp
import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from notifier.clock import Clock
from notifier.config import Callback
from notifier.flood import Floodgate
from notifier.hint import Heard, tracks_in
from notifier.metrics import Metrics

_LINGERING = 0.1
"""For how many seconds the rest of a body that is not read is let in, so that the answer arrives."""
_BROKEN = (aiohttp.ClientError, web.RequestPayloadError, HttpProcessingError, OSError, TimeoutError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one caller, or all of them, may take."""

    body: int = 64 * 1024
    """How many bytes of a call are read."""
    patience: float = 5.0
    """How many seconds a body may take."""
    longest: float = 10.0
    """How many seconds a connection lasts, whatever it is used for."""
    connections: int = 64
    """How many there are at a time."""
    at_once: int = 100
    per_second: float = 20.0
    """How many calls are read; to find out what one says costs more than to receive it."""


class Callbacks:
    """The listener; `move` it to an address, to another one, and in the end to None."""

    def __init__(
        self, follow: Callable[[str], Heard], *, metrics: Metrics, clock: Clock, bounds: Bounds = Bounds()
    ) -> None:
        self._follow = follow
        self._bounds = bounds
        self._metrics = metrics
        self._clock = clock
        self._room = Floodgate(bounds.at_once, bounds.per_second)
        self._runner: web.ServerRunner | None = None
        self.callback: Callback | None = None
        """Where it listens now, and for what."""

    async def move(self, callback: Callback | None) -> None:
        """Listen there from now on, or nowhere. Raises OSError when that cannot be; then nothing changes."""
        before = self._runner
        if callback is None:
            self._runner = None
        elif self.callback is not None and callback.listen == self.callback.listen:
            before = None
        else:
            self._runner = await self._listen(callback)
        self.callback = callback
        if before is not None:
            await before.cleanup()

    async def _listen(self, callback: Callback) -> web.ServerRunner:
        runner = web.ServerRunner(_Door(self._answer, self._bounds), shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, callback.listen.host, callback.listen.port).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a call, after what it says has been followed as far as that needs no waiting."""
        if not self._is_ours(request.path):
            self._count(Heard.REFUSED)
            return _closing(web.Response(status=404, text="404: Not Found\n"))
        if request.method != HTTPMethod.POST:
            self._count(Heard.REFUSED)
            return _closing(
                web.Response(status=405, text="405: Method Not Allowed\n", headers={"Allow": "POST"})
            )
        await self._hear(request)
        return _closing(web.Response(status=204))

    def _is_ours(self, path: str) -> bool:
        """Compare with the secret path in a time that does not depend on how much of it is right."""
        callback = self.callback
        return callback is not None and hmac.compare_digest(_digest(path), _digest(callback.path.reveal()))

    async def _hear(self, request: web.BaseRequest) -> None:
        if not self._room.admit("", self._clock.monotonic())[0]:
            self._count(Heard.DROPPED)
            log.warning("callback.dropped", reason="more calls than are read")
            return
        body = await self._body(request)
        tracks = tracks_in(body) if body is not None else ()
        if not tracks:
            self._count(Heard.UNUSABLE)
            log.warning("callback.unusable", reason=self._why(body))
        for audio_id in tracks:
            heard = self._follow(audio_id)
            self._count(heard)
            if heard is Heard.DROPPED:
                log.warning("callback.dropped", audio_id=audio_id, reason="more hints than are followed")
            else:
                log.debug("callback.heard", audio_id=audio_id, outcome=heard)

    async def _body(self, request: web.BaseRequest) -> bytes | None:
        """Return what a call says; None when that is too much, takes too long or breaks off."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.patience):
                await _go_ahead(request)
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._bounds.body:
                        return None
        except _BROKEN:
            return None
        return bytes(body)

    def _why(self, body: bytes | None) -> str:
        if body is None:
            most, longest = self._bounds.body // 1024, self._bounds.patience
            return f"larger than {most} KiB, slower than {longest:.0f} s or broken off"
        return "no audio_id in it" if body else "empty"

    def _count(self, heard: Heard) -> None:
        self._metrics.callbacks.labels(heard).inc()


class _Door(web.Server):
    """Lets so many in at a time, and each for so long."""

    def __init__(self, handler: Callable[[web.BaseRequest], object], bounds: Bounds) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            access_log=None,
            lingering_time=_LINGERING,
            auto_decompress=False,  # a small body stays as small as it came
        )
        self._bounds = bounds
        self._deadlines: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        if len(self._deadlines) >= self._bounds.connections:
            loop.call_soon(transport.abort)  # NB: not before its handler has begun
        else:
            self._deadlines[handler] = loop.call_later(self._bounds.longest, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()


async def _go_ahead(request: web.BaseRequest) -> None:
    """Ask a caller for the body who waits to be asked, as RFC 9110 says of ``Expect``."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _closing(response: web.Response) -> web.Response:
    """Let a connection carry one call, which keeps what is open few."""
    response.force_close()
    response.headers["Server"] = "pixverse-notifier"
    return response


def _digest(path: str) -> bytes:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()
