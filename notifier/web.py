"""What the daemon says about itself over HTTP: health, metrics, status, page. Read-only, without secrets.

Answers only to names that are its own, so that no page of somebody else's can read it through a browser.
"""

import asyncio
import ipaddress
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from notifier.config import Http
from notifier.live import Live
from notifier.metrics import Metrics
from notifier.page import StatusPage
from notifier.report import Overview, overview_json
from notifier.store import StorageError

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]{0,5})?")
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    # NB: the audio lies wherever the API says; none of it is asked for before somebody presses play
    "media-src": "http: https:",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{what} {sources}" for what, sources in _POLICY.items()),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_PARTS = {"status.css": "text/css", "status.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""What the page consists of beside itself."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the daemon does its work: the reasons why not, and what is wrong beside it."""

    reasons: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Views:
    """Where the pages come from."""

    health: Callable[[], Health]
    overview: Callable[[], Awaitable[Overview]]
    refresh_metrics: Callable[[], Awaitable[None]]
    metrics: Metrics
    page: StatusPage


class Site:
    """The listener; `move` it to an address, to another one, and in the end to None."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._runner: web.AppRunner | None = None
        self.http: Http | None = None
        """Where it listens now."""

    async def move(self, http: Http | None) -> None:
        """Listen there from now on, or nowhere. Raises OSError when that cannot be; then nothing changes."""
        if http == self.http:
            return
        before = self._runner
        if http is None:
            self._runner = None
        elif self.http is not None and http.listen == self.http.listen:
            before = None
        else:
            self._runner = await self._listen(http)
        self.http = http
        if before is not None:
            await before.cleanup()

    async def _listen(self, http: Http) -> web.AppRunner:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        for name, content_type in _PARTS.items():
            app.router.add_get(f"/{name}", _part(name, content_type))
        live = Live(self._views.page.mark)
        app.router.add_get("/events", live.stream)
        app.on_shutdown.append(live.close)
        app.on_response_prepare.append(_sign)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/status", self._status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, http.listen.host, http.listen.port).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # NB: a request may name its server twice, and `host` is what its first line says, if that says it.
        if not self._is_own(request.headers.get("Host", "")) or not self._is_own(request.host):
            return web.Response(status=403, text="403: not a name of this server\n")
        return await handler(request)

    def _is_own(self, host: str) -> bool:
        """Say whether a Host header names this server: an address, or a name that the watchlist allows."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name, http = found[1].strip("[]").lower(), self.http
        if http is not None and name in {"localhost", http.listen.host.lower(), *http.hosts}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    async def _healthz(self, _request: web.Request) -> web.Response:
        health = self._views.health()
        answer = {
            "status": "failing" if health.reasons else "ok",
            "reasons": [*health.reasons],
            "degraded": [*health.degraded],
        }
        return _json(answer, status=503 if health.reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        await self._views.refresh_metrics()
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._views.metrics.exposition(), headers={"Content-Type": content_type})

    async def _status(self, _request: web.Request) -> web.Response:
        try:
            overview = await self._views.overview()
        except StorageError as error:
            return _json({"error": str(error)}, status=503)
        # NB: with thousands of tracks this takes a fifth of a second, in which the loop goes on.
        return await asyncio.to_thread(lambda: _json(overview_json(overview)))

    async def _page(self, request: web.Request) -> web.Response:
        try:
            text = await self._views.page.html(request.query)
        except StorageError as error:
            return web.Response(status=503, text=f"503: {error}\n")
        return web.Response(text=text, content_type="text/html")


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    """Let every answer, also a refusal, carry what keeps browsers from misusing it."""
    response.headers.update(_HEADERS)


def _part(name: str, content_type: str) -> Handler:
    text = files("notifier").joinpath("templates", name).read_text(encoding="utf-8")

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return answer


def _json(value: Any, status: int = 200) -> web.Response:
    text = json.dumps(value, ensure_ascii=True, indent=2) + "\n"
    return web.Response(text=text, content_type="application/json", status=status)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Say whether what aiohttp logs is more than that a stranger sent what is no HTTP: he gets a 400."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logging.getLogger("aiohttp.server").addFilter(_is_worth_a_line)
