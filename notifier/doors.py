"""Where the daemon answers: the status page and the API's calls, each at an address of its own or nowhere."""

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

    @property
    def are_shut(self) -> bool:
        """Whether a listener is not where it should be."""
        return bool(self._trouble)

    async def open(self, config: Config) -> None:
        """Answer where the watchlist says. Raises InUseError when an address cannot be had."""
        await _moved("http", self._site.move(config.http), config.http)
        await _moved("callback", self._callbacks.move(config.callback), config.callback)

    async def follow(self, config: Config) -> None:
        """Answer where the watchlist says; where that cannot be, stay, and say so once."""
        try:
            await _moved("http", self._site.move(config.http), config.http)
            self._trouble.pop("http", None)
        except InUseError as error:
            if self._is_news("http", str(error)):
                log.error("http.failed", error=str(error))
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


async def _moved(key: str, moving: Awaitable[None], to: Http | Callback | None) -> None:
    try:
        await moving
    except OSError as error:
        where = f"{to.listen.host}:{to.listen.port}" if to is not None else "nowhere"
        raise InUseError(f"{key}: cannot listen on {where}: {error.strerror or error}") from error
