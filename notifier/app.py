"""One run of the daemon: start, signals, reload, the small regular duties, and the end.

Leaves the work to `notifier.engine`; speaks with the service manager and with whoever edits the watchlist.
"""

import asyncio
import random
import signal
from pathlib import Path

import structlog

from notifier import __version__, loading
from notifier import log as logging_setup
from notifier.clock import Clock, SystemClock
from notifier.config import Config
from notifier.engine import Engine
from notifier.event import Alert, Problem
from notifier.loading import InvalidConfigError, Loaded
from notifier.reload import FileWatch
from notifier.report import Overview, overview
from notifier.secret import Masker
from notifier.store import InUseError, StorageError, Store
from notifier.systemd import ServiceManager
from notifier.web import Health, Site, Views

_TICK = 1.0
_LOOK_AT_STORE_EVERY = 2
_TIDY_EVERY = 3600
_STALE_HEARTBEAT = 10.0
_WATCHDOG_AT_MOST = 10.0

log = structlog.get_logger()


class App:
    """See the module. `run` returns after SIGTERM or SIGINT."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        config_file: str,
        state_file: Path,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config_file = config_file
        self.config_error: str | None = None
        self._clock = clock or SystemClock()
        self._masker = Masker(loaded.secrets)
        self.store = Store(state_file)
        self.engine = Engine(
            loaded.config,
            self.store,
            masker=self._masker,
            clock=self._clock,
            rng=rng or random.Random(),  # noqa: S311 - jitter needs no secrecy
        )
        self._file = FileWatch(config_file, loaded.digest)
        self._manager = ServiceManager()
        self._stop = asyncio.Event()
        self._reload_now = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._unapplied: Loaded | None = None
        views = Views(
            self.health, self.overview, self.engine.refresh_metrics, self.engine.metrics, self._clock
        )
        self._site = Site(views)
        self._storage_trouble: str | None = None

    async def run(self) -> None:
        """Do the daemon's work until SIGTERM or SIGINT.

        Raises StorageError when the state file cannot be used at the start, and whatever a part of the
        daemon died of, which none should.
        """
        self._handle_signals()
        logging_setup.mask_with(self._masker)
        try:
            await self.store.open()
            await self._listen(self.engine.config)
            await self.engine.start()
            await self._config_is_valid()
            self._say_started()
            await self._live()
        finally:
            self._manager.stopping()
            await self._site.stop()
            await self.engine.stop()
            await self.store.close()
        log.info("daemon.stopped")

    async def _listen(self, config: Config) -> None:
        """Answer where the watchlist says. Raises InUseError when the address is taken."""
        if config.http is None:
            return
        try:
            await self._site.start(config.http)
        except OSError as error:
            where = f"{config.http.listen.host}:{config.http.listen.port}"
            raise InUseError(f"http: cannot listen on {where}: {error.strerror or error}") from error

    def health(self) -> Health:
        """Say whether the daemon does its work."""
        engine = self.engine
        silence = self._clock.monotonic() - engine.schedule.last_beat
        reasons = [
            f"the API cannot be read: {engine.upstream.trouble}" if engine.upstream.trouble else "",
            self.store.trouble or "",
            f"the scheduler has stood still for {silence:.0f} s" if silence > _STALE_HEARTBEAT else "",
        ]
        degraded = [f"the target {name} is paused: {why}" for name, why in engine.deliverer.paused().items()]
        if self.config_error is not None:
            degraded.append("the changed watchlist is invalid, the earlier one is in force")
        mask = self._masker.mask
        return Health(tuple(mask(one) for one in reasons if one), tuple(mask(one) for one in degraded))

    async def overview(self) -> Overview:
        """Return what ``status`` shows. Raises StorageError."""
        return await overview(
            self.store,
            self.engine.config,
            config_file=self.config_file,
            config_error=self.config_error,
            is_running=True,
            now=self._clock.now(),
        )

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_now.set)

    def _asked_to_stop(self, number: int) -> None:
        if self._stop.is_set():  # a second time: at once
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.raise_signal(number)
        self._stop.set()

    def _say_started(self) -> None:
        log.info(
            "daemon.started",
            version=__version__,
            config=self.config_file,
            state=str(self.store.path),
            watching=len(self.engine.watches),
            unfinished=len(self.engine.schedule),
            targets=len(self.engine.config.targets),
        )
        self._manager.ready(self.summary())

    def summary(self) -> str:
        """Return how the daemon is, in a line for ``systemctl status``."""
        engine = self.engine
        watching = len(engine.watches)
        noun = "track" if watching == 1 else "tracks"
        parts = [f"watching {watching} {noun}, {len(engine.schedule)} unfinished"]
        if engine.upstream.trouble:
            parts.append(f"API trouble: {engine.upstream.trouble}")
        if paused := engine.deliverer.paused():
            parts.append(f"paused: {', '.join(paused)}")
        if self.store.trouble:
            parts.append(self.store.trouble)
        if self.config_error:
            parts.append("the changed watchlist is invalid, the earlier one is in force")
        return self._masker.mask("; ".join(parts))

    async def _live(self) -> None:
        """Wait for the end, with the regular duties beside; a duty that fails ends the daemon."""
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        duties = [
            asyncio.create_task(self._every_second(), name="duties"),
            asyncio.create_task(self._feed_watchdog(), name="watchdog"),
            asyncio.create_task(self._reload_when_asked(), name="reload"),
        ]
        done, _ = await asyncio.wait([stopping, *duties], return_when=asyncio.FIRST_COMPLETED)
        for task in [stopping, *duties]:
            task.cancel()
        await asyncio.gather(stopping, *duties, return_exceptions=True)
        for task in done - {stopping}:
            task.result()

    async def _every_second(self) -> None:
        tick, version, status = 0, await self._data_version(), self.summary()
        while True:
            await asyncio.sleep(_TICK)
            tick += 1
            self._watch_parts()
            await self.engine.reporter.retry()
            await self.engine.upstream.remind()
            if tick % _LOOK_AT_STORE_EVERY == 0:
                version = await self._look_at_store(version)
            if tick % _TIDY_EVERY == 0:
                await self.engine.tidy()
            if await asyncio.to_thread(self._file.look) or self._unapplied is not None:
                await self.reload(is_forced=False)
            if (latest := self.summary()) != status:
                status = latest
                self._manager.status(status)

    def _watch_parts(self) -> None:
        """Notice a worker that died, and a disk that failed or is well again."""
        crashed = self.engine.deliverer.crashed()
        if crashed is not None:
            raise crashed
        trouble = self.store.trouble
        if trouble != self._storage_trouble:
            if trouble is None:
                log.info("storage.recovered")
            else:
                log.error("storage.failed", error=trouble)
            self._storage_trouble = trouble

    async def _data_version(self) -> int:
        return await self.engine.reporter.attempt(self.store.data_version(), default=0)

    async def _look_at_store(self, known: int) -> int:
        """Take up what a person changed with the commands; also finds out whether the disk is well again."""
        version = await self._data_version()
        if version != known:
            await self.engine.look_again()
        return version

    async def _feed_watchdog(self) -> None:
        """Tell systemd that all is well while the loop turns and the scheduler makes progress."""
        interval = self._manager.watchdog_interval
        pause = min(interval.total_seconds(), _WATCHDOG_AT_MOST) if interval else None
        while pause is not None:
            if self._clock.monotonic() - self.engine.schedule.last_beat < _STALE_HEARTBEAT:
                self._manager.feed_watchdog()
            await asyncio.sleep(pause)
        await asyncio.Event().wait()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_now.wait()
            self._reload_now.clear()
            self._manager.reloading()
            await self.reload(is_forced=True)
            self._manager.ready(self.summary())

    async def reload(self, *, is_forced: bool) -> None:
        """Read the watchlist again: all of it is valid and applies, or nothing changes.

        A content that was refused before is refused silently, unless somebody asked for the reload.
        """
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(loading.load, self.config_file)
            except InvalidConfigError as error:
                await self._reject(error, is_forced=is_forced)
                return
            self._file.accept(loaded.digest)
            await self._apply(loaded)

    async def _reject(self, error: InvalidConfigError, *, is_forced: bool) -> None:
        if error.digest:
            self._file.accept(error.digest)
        elif not is_forced:
            return  # the file is missing or cannot be read for a moment
        lines = [self._masker.mask(line) for line in error.lines()]
        self.config_error = "\n".join(lines)
        self.engine.metrics.config_rejected()
        log.error("config.rejected", config=self.config_file, mistakes=lines)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        summary = f"the changed watchlist is not taken, the earlier one is in force: {lines[0]}{more}"
        await self.engine.reporter.report(Alert(Problem.CONFIG_REJECTED, self.config_file, summary))

    async def _apply(self, loaded: Loaded) -> None:
        before, config = self.engine.config, loaded.config
        self._masker = Masker(loaded.secrets)
        logging_setup.mask_with(self._masker)
        logging_setup.configure(config.log.level, config.log.format)
        try:
            await self.engine.apply(config, self._masker)
        except StorageError:
            self._unapplied = loaded  # again in a second: the watchlist is valid, only the disk is not
            return
        self._unapplied, self.config_error = None, None
        if config.http != before.http:
            await self._site.stop()
            try:
                await self._listen(config)
            except InUseError as error:
                log.error("http.failed", error=str(error))
        if config.state != before.state:
            log.warning("config.restart_needed", key="state", state=str(self.store.path))
        for warning in loaded.warnings:
            log.warning("config.warning", text=warning.line(self.config_file))
        log.info("config.reloaded", watching=len(self.engine.watches), unfinished=len(self.engine.schedule))
        await self._config_is_valid()

    async def _config_is_valid(self) -> None:
        summary = f"{self.config_file} is valid again"
        alert = Alert(Problem.CONFIG_REJECTED, self.config_file, summary, is_resolved=True)
        await self.engine.reporter.report(alert)
