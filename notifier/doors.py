"""Where the daemon answers: the status page and the API's calls, each at an address of its own or nowhere."""

import asyncio
import contextlib
from collections.abc import Awaitable

import structlog

from notifier.callback import Callbacks
from notifier.config import Callback, Config, Http
from notifier.store import InUseError
from notifier.web import Site

log = structlog.get_logger()


class Doors:
    """Opens and moves listeners as the watchlist says."""

    def __init__(self, site: Site, callbacks: Callbacks) -> None:
        self._site = site
        self._callbacks = callbacks
        self._trouble: dict[str, str] = {}
        """Why a listener is not where it should be, by key, as it was last logged."""
        self._moving = asyncio.Lock()
        """Lets whoever asks for a reload wait while a look at the watchlist moves listeners."""

    @property
    def are_shut(self) -> bool:
        """Whether a listener is not where it should be."""
        return bool(self._trouble)

    async def open(self, config: Config) -> None:
        """Answer where the watchlist says. Raises InUseError when an address cannot be had."""
        await _moved("http", self._site.move(config.http), config.http)
        await _moved("callback", self._callbacks.move(config.callback), config.callback)

    async def follow(self, config: Config) -> None:
        """Answer where the watchlist says; where that cannot be, stay, and say so once.

        One that wants the other's place moves after it; where each does, one makes room first.
        """
        async with self._moving:
            moves = [self._follow_http, self._follow_callback]
            former = self._callbacks.callback
            if _meet(config.http, former):
                if _meet(config.callback, self._site.http):
                    await self._callbacks.move(None)
                else:
                    moves.reverse()
            for move in moves:
                await move(config)
            if config.callback is not None and self._callbacks.callback is None:
                await self._go_back(former)

    async def _go_back(self, former: Callback | None) -> None:
        """Let the calls come where they came before room was made in vain."""
        with contextlib.suppress(OSError):
            await self._callbacks.move(former)

    async def _follow_http(self, config: Config) -> None:
        try:
            await _moved("http", self._site.move(config.http), config.http)
            self._trouble.pop("http", None)
        except InUseError as error:
            if self._is_news("http", str(error)):
                log.error("http.failed", error=str(error))

    async def _follow_callback(self, config: Config) -> None:
        try:
            await _moved("callback", self._callbacks.move(config.callback), config.callback)
            self._trouble.pop("callback", None)
        except InUseError as error:
            if self._is_news("callback", str(error)):
                log.error("callback.failed", error=str(error))

    def _is_news(self, key: str, error: str) -> bool:
        before, self._trouble[key] = self._trouble.get(key), error
        return error != before

    async def close(self) -> None:
        """Answer nobody any more."""
        await self._callbacks.move(None)
        await self._site.move(None)


def _meet(to: Http | Callback | None, other: Http | Callback | None) -> bool:
    """Say whether what wants to move there meets the other one, which is there."""
    return to is not None and other is not None and to.listen.port == other.listen.port


async def _moved(key: str, moving: Awaitable[None], to: Http | Callback | None) -> None:
    try:
        await moving
    except OSError as error:
        where = f"{to.listen.host}:{to.listen.port}" if to is not None else "nowhere"
        raise InUseError(f"{key}: cannot listen on {where}: {error.strerror or error}") from error
