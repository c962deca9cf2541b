"""One run of the daemon: start, signals, the small regular duties, and the end.

Leaves the work to `notifier.engine` and the watchlist to `notifier.reloader`; speaks to the service manager.
"""

import asyncio
import os
import random
import signal
from enum import StrEnum
from pathlib import Path

import structlog

from notifier import __version__
from notifier import log as logging_setup
from notifier.callback import Callbacks
from notifier.clock import Clock, SystemClock, until_next_second
from notifier.doors import Doors
from notifier.engine import Engine
from notifier.event import Alert, Problem
from notifier.loading import Loaded
from notifier.page import Situation, StatusPage
from notifier.reloader import Reloader, settle
from notifier.report import Overview, masked, overview
from notifier.secret import Masker
from notifier.store import Store
from notifier.systemd import ServiceManager
from notifier.vitals import PATIENCE, Vitals
from notifier.web import Health, Site, Views

_LOOK_AT_STORE_EVERY = 3
_SHOW_STATUS_EVERY = 3
_GIVE_UP_EVERY = 15
_USAGE_FIRST, _USAGE_EVERY = 10, 60
_TIDY_FIRST, _TIDY_EVERY = 600, 3600
_WATCHDOG_AT_MOST = 10.0

log = structlog.get_logger()


class Reason(StrEnum):
    """For what the daemon may not do its work, as the metrics call it."""

    TOKEN = "token"  # noqa: S105 - a reason's name
    API = "api"
    STORAGE = "storage"
    SCHEDULER = "scheduler"
    LOOP = "loop"


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
        self._clock = clock or SystemClock()
        self.store = Store(state_file)
        self.engine = Engine(
            loaded.config,
            self.store,
            masker=Masker(loaded.secrets),
            clock=self._clock,
            rng=rng or random.Random(),  # noqa: S311 - jitter needs no secrecy
        )
        page = StatusPage(self.store, clock=self._clock, situation=self.situation)
        views = Views(self.health, self.overview, self.refresh_metrics, self.engine.metrics, page)
        callbacks = Callbacks(self.engine.polling.hints.take, metrics=self.engine.metrics, clock=self._clock)
        self._doors = Doors(Site(views), callbacks)
        self.reloader = Reloader(config_file, loaded, self.engine, self._doors)
        self.vitals = Vitals(self._clock, lambda: self.engine.polling.schedule.last_beat)
        self._manager = ServiceManager()
        self._stop = asyncio.Event()
        self._reload_now = asyncio.Event()
        self._storage_trouble: str | None = None

    async def run(self) -> None:
        """Do the daemon's work until SIGTERM or SIGINT.

        Raises StorageError when the state file cannot be used at the start, and whatever a part of the
        daemon died of, which none should.
        """
        self._handle_signals()
        logging_setup.mask_with(self.reloader.masker)
        try:
            await self.store.open()
            await self._doors.open(self.engine.config)
            await self.engine.start()
            settle()
            await self.reloader.resolve()
            await self._resolve_storage()
            self._say_started()
            await self._live()
        finally:
            self._manager.stopping()
            await self._doors.close()
            await self.engine.stop()
            await self.store.close()
        log.info("daemon.stopped")

    def health(self) -> Health:
        """Say whether the daemon does its work."""
        mask = self.reloader.masker.mask
        return Health(tuple(map(mask, self._reasons().values())), tuple(map(mask, self._degraded())))

    def _reasons(self) -> dict[Reason, str]:
        """Return why the daemon does not do its work."""
        upstream, silence = self.engine.polling.upstream, self.store.silence
        idle, stood_still = self.vitals.scheduler_silence, self.vitals.stood_still
        found: dict[Reason, str] = {}
        if upstream.trouble is not None and self.engine.polling.has_work:
            reason = Reason.TOKEN if upstream.is_token_rejected else Reason.API
            found[reason] = f"the API cannot be read: {upstream.trouble}"
        if self.store.trouble is not None:
            found[Reason.STORAGE] = self.store.trouble
        elif silence > PATIENCE:
            found[Reason.STORAGE] = (
                f"{self.store.path}: nothing could be written for {silence:.0f} s: "
                "somebody holds the file, or the disk hangs"
            )
        if idle > PATIENCE:
            found[Reason.SCHEDULER] = f"the scheduler has stood still for {idle:.0f} s"
        if stood_still > PATIENCE:
            found[Reason.LOOP] = f"the loop stood still for {stood_still:.0f} s of the last minute"
        return found

    def _degraded(self) -> list[str]:
        """Return what is wrong while the daemon does its work all the same."""
        engine = self.engine
        degraded = [f"the target {name} is paused: {why}" for name, why in engine.deliverer.paused().items()]
        polling = engine.polling
        trouble = polling.upstream.trouble
        if trouble is not None and not polling.has_work:  # NB: without a track nobody learns of its end
            degraded.append(f"the API could not be read when it was last asked: {trouble}")
        for account, why in polling.upstream.accounts_in_trouble().items():
            degraded.append(f"the PixVerse account {account} cannot be used: {why}")
        for followed in polling.follower:
            if followed.is_told:
                degraded.append(
                    f"the list of the account {followed.account} cannot be read: {followed.trouble}"
                )
        if self.reloader.error is not None:
            degraded.append("the changed watchlist is invalid, the earlier one is in force")
        return degraded

    async def refresh_metrics(self) -> None:
        """Bring the metrics up to date that are counted only when somebody looks."""
        await self.engine.refresh_metrics()
        reasons = self._reasons()
        self.engine.metrics.show_health({reason: reason in reasons for reason in Reason})

    async def overview(self) -> Overview:
        """Return what ``status`` shows, without secrets. Raises StorageError."""
        seen = await overview(
            self.store,
            self.engine.config,
            config_file=self.reloader.config_file,
            config_error=self.reloader.error,
            is_running=True,
            now=self._clock.now(),
            unwritten=self.engine.polling.meter.unwritten,
            looked_at=self.engine.polling.looked_at(),
        )
        return await asyncio.to_thread(masked, seen, self.reloader.masker.mask)

    def situation(self) -> Situation:
        """Return what the status page says beside what the state file does."""
        engine, health = self.engine, self.health()
        return Situation(
            config=engine.config,
            config_file=self.reloader.config_file,
            config_error=self.reloader.error,
            loaded_at=engine.loaded_at,
            reasons=health.reasons,
            degraded=health.degraded,
            clock_offset=engine.polling.clock_offset,
            mask=self.reloader.masker.mask,
            looked_at=engine.polling.looked_at(),
            counted=engine.polling.meter.counted,
            written=engine.polling.meter.written,
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
            os._exit(128 + number)  # NB: the kernel spares process 1 what it does not handle
        self._stop.set()

    def _say_started(self) -> None:
        log.info(
            "daemon.started",
            version=__version__,
            config=self.reloader.config_file,
            state=str(self.store.path),
            watching=len(self.engine.polling.watches),
            unfinished=len(self.engine.polling.schedule),
            accounts=len(self.engine.polling.follower),
            targets=len(self.engine.config.targets),
        )
        self._manager.ready(self.summary())

    def summary(self) -> str:
        """Return how the daemon is, in a line for ``systemctl status``."""
        engine = self.engine
        watching = len(engine.polling.watches)
        noun = "track" if watching == 1 else "tracks"
        parts = [f"watching {watching} {noun}, {len(engine.polling.schedule)} unfinished"]
        if accounts := len(engine.polling.follower):
            parts.append(f"following {accounts} account{'' if accounts == 1 else 's'}")
        if engine.polling.upstream.trouble:
            parts.append(f"API trouble: {engine.polling.upstream.trouble}")
        if paused := engine.deliverer.paused():
            parts.append(f"paused: {', '.join(paused)}")
        if self.store.trouble:
            parts.append(self.store.trouble)
        if self.reloader.error:
            parts.append("the changed watchlist is invalid, the earlier one is in force")
        return self.reloader.masker.mask("; ".join(parts))

    async def _live(self) -> None:
        """Wait for the end, with the regular duties beside; a duty that fails ends the daemon."""
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        duties = [
            asyncio.create_task(self._every_second(), name="duties"),
            asyncio.create_task(self.vitals.feel(), name="vitals"),
            asyncio.create_task(self._look_at_watchlist(), name="watchlist"),
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
        tick, status = 0, self.summary()
        while True:
            await asyncio.sleep(until_next_second(self._clock.awake()))
            tick += 1
            await self._watch_parts()
            await self.engine.watch_clocks()
            await self.engine.reporter.retry()
            await self.engine.polling.upstream.remind()
            if tick % _LOOK_AT_STORE_EVERY == 0:
                await self._look_at_store()
            if tick % _GIVE_UP_EVERY == 0:
                await self.engine.give_up()
            if tick % _USAGE_EVERY == _USAGE_FIRST:
                await self.engine.polling.write_usage()
            if tick % _TIDY_EVERY == _TIDY_FIRST:
                await self.engine.tidy()
            if tick % _SHOW_STATUS_EVERY == 0 and (latest := self.summary()) != status:
                status = latest
                self._manager.status(status)

    async def _look_at_watchlist(self) -> None:
        """Take what a person changes. Apart from the other duties, lest a disk that hangs stops them."""
        while True:
            rest = 0.0 if self.reloader.is_curious else 1.0
            await asyncio.sleep(until_next_second(self._clock.awake()) + rest)
            await self.reloader.look()

    async def _watch_parts(self) -> None:
        """Notice a worker that died, and a disk that failed or is well again."""
        crashed = self.engine.deliverer.crashed()
        if crashed is not None:
            raise crashed
        trouble = self.store.trouble
        if trouble == self._storage_trouble:
            return
        if trouble is None:
            log.info("storage.recovered")
        else:
            log.error("storage.failed", error=trouble)
        self._storage_trouble = trouble
        if trouble is None:
            await self._resolve_storage()
        else:
            await self.engine.reporter.report(Alert(Problem.STORAGE_FAILED, str(self.store.path), trouble))

    async def _resolve_storage(self) -> None:
        """Tell `alerts` that the state file can be written, if they know of a time when it could not."""
        path, summary = str(self.store.path), "the state file can be written again"
        await self.engine.reporter.report(Alert(Problem.STORAGE_FAILED, path, summary, is_resolved=True))

    async def _look_at_store(self) -> None:
        """Take up what a person changed with the commands; find out whether a failing disk is well again."""
        if self.store.trouble is not None:
            await self.engine.reporter.attempt(self.store.prove(), default=None)
        await self.engine.look_again()

    async def _feed_watchdog(self) -> None:
        """Tell systemd that all is well while the loop turns and the scheduler makes progress."""
        interval = self._manager.watchdog_interval
        pause = min(interval.total_seconds(), _WATCHDOG_AT_MOST) if interval else None
        while pause is not None:
            if self.vitals.scheduler_silence <= PATIENCE:
                self._manager.feed_watchdog()
            await asyncio.sleep(pause)
        await asyncio.Event().wait()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_now.wait()
            self._reload_now.clear()
            self._manager.reloading()
            await self.reloader.reload(is_forced=True)
            self._manager.ready(self.summary())
