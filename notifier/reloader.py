"""Keeps the daemon in step with the watchlist on the disk: all of a valid file, nothing of an invalid one."""

import asyncio
import gc
from collections import deque
from itertools import chain

import structlog

from notifier import loading
from notifier import log as logging_setup
from notifier.config import Config
from notifier.doors import Doors
from notifier.engine import Engine
from notifier.event import Alert, Problem
from notifier.loading import InvalidConfigError, Loaded
from notifier.reload import FileWatch
from notifier.secret import Masker
from notifier.store import StorageError

_REMEMBERED = 8
"""How many files' secrets are masked: the last ones, since each costs time with every line of the log.

NB: an answer that quotes an older one is masked all the same, by what was secret when its request left.
"""
_THRESHOLDS = (10_000, 20, 20)
"""When the collector looks at young, older and old objects: turns make many, and hardly a circle."""

log = structlog.get_logger()


class Reloader:
    """Applies what a person changes. `look` is to be called every second or two."""

    def __init__(self, config_file: str, loaded: Loaded, engine: Engine, doors: Doors) -> None:
        self.config_file = config_file
        self.error: str | None = None
        """The mistakes of the file on the disk, or None while it is the one in force."""
        self._engine = engine
        self._doors = doors
        self._file = FileWatch(config_file, loaded.digest)
        self._secrets = deque([loaded.secrets], maxlen=_REMEMBERED)
        self.masker = Masker(loaded.secrets)
        self._state = loaded.config.state
        self._unapplied: Loaded | None = None
        """A valid file that the disk has kept from being applied to the end."""
        self._lock = asyncio.Lock()

    @property
    def is_curious(self) -> bool:
        """Whether to look again in a second: something has changed. Else every other second will do."""
        return self._file.is_unsettled or self._unapplied is not None or self._doors.are_shut

    async def look(self) -> None:
        """Take a changed file, and what a full disk or a taken port kept from being applied."""
        if await asyncio.to_thread(self._file.look):
            await self.reload(is_forced=False)
        async with self._lock:
            if self._unapplied is not None:
                await self._apply(self._unapplied)
        await self._doors.follow(self._engine.config)

    async def reload(self, *, is_forced: bool) -> None:
        """Read the watchlist again: all of it is valid and applies, or nothing changes.

        Unless somebody asked for the reload, a file is no change that cannot be read for a moment, or that is
        being written again since it was looked at.
        """
        async with self._lock:
            try:
                loaded = await asyncio.to_thread(loading.load, self.config_file)
            except InvalidConfigError as error:
                if is_forced or self._file.has_settled_on(error.digest):
                    await self._reject(error)
                return
            if is_forced or self._file.has_settled_on(loaded.digest):
                self._file.accept(loaded.digest)
                self.error = None
                await self._apply(loaded)

    async def _reject(self, error: InvalidConfigError) -> None:
        if error.digest:
            self._file.accept(error.digest)
        else:
            self._file.forget()
        lines = [self.masker.mask(line) for line in error.lines()]
        self.error = error.brief(self.masker.mask)
        self._engine.metrics.config_rejected()
        log.error("config.rejected", config=self.config_file, mistakes=lines)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        summary = f"the changed watchlist is not taken, the earlier one is in force: {lines[0]}{more}"
        await self._engine.reporter.report(Alert(Problem.CONFIG_REJECTED, self.config_file, summary))

    async def _apply(self, loaded: Loaded) -> None:
        config = loaded.config
        if loaded.secrets != self._secrets[-1]:
            self._secrets.append(loaded.secrets)
            known = [*chain.from_iterable(self._secrets)]
            self.masker = await asyncio.to_thread(Masker, known)  # which takes a while for hundreds of URLs
        logging_setup.mask_with(self.masker)
        logging_setup.configure(config.log.level, config.log.format)
        try:
            await self._engine.apply(config, self.masker)
        except StorageError:
            self._unapplied = loaded  # again in a second: the watchlist is valid, only the disk is not
            return
        settle()
        self._unapplied = None
        await self._doors.follow(config)
        self._say_applied(loaded, config)
        if self.error is None:
            await self.resolve()

    def _say_applied(self, loaded: Loaded, config: Config) -> None:
        if config.state != self._state:
            log.warning("config.restart_needed", key="state", state=str(self._engine.store.path))
        for warning in loaded.warnings:
            log.warning("config.warning", text=warning.line(self.config_file))
        polling = self._engine.polling
        log.info("config.reloaded", watching=len(polling.watches), unfinished=len(polling.schedule))

    async def resolve(self) -> None:
        """Tell `alerts` that the file is valid, if they know of one that was not."""
        summary = f"{self.config_file} is valid again"
        alert = Alert(Problem.CONFIG_REJECTED, self.config_file, summary, is_resolved=True)
        await self._engine.reporter.report(alert)


def settle() -> None:
    """Take all objects there are for ones that stay, so that the garbage collector never looks at them again.

    It would stop the loop for as long as it takes to look through a large watchlist, and do so often. What
    nobody holds any more goes all the same; only a circle that breaks off later stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()
