"""The working parts of the daemon, made from a watchlist and kept in step with it.

Decides nothing about tracks or messages; it makes the parts, connects them, and applies another watchlist to
them so that what did not change goes on undisturbed. Knows no signals, no files but the state file.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Collection
from datetime import timedelta

import structlog

from notifier.aftermath import Equipment
from notifier.clock import Clock, Leap, LeapWatch
from notifier.config import Config
from notifier.deliverer import Deliverer
from notifier.event import Alert, Problem
from notifier.metrics import Metrics
from notifier.narrator import Narrator
from notifier.polling import Polling
from notifier.secret import Masker
from notifier.sending import LARGEST_ANSWER
from notifier.store import Backlog, StorageError, Store
from notifier.track import Status
from notifier.trouble import Reporter
from notifier.wire import Wire

_PATIENCE_OF_A_SCRAPE = 2.0
_KEPT = timedelta(days=90)
"""How long what a track was told of is kept after it has left the watchlist."""
_SETTLING = timedelta(minutes=5)
"""How long after the start nothing is given up: the clock may be about to be set, the network to come up."""

log = structlog.get_logger()


class Engine:
    """Store, polling and delivering at work. `start` it once, `apply` other watchlists, `stop` it once."""

    def __init__(
        self, config: Config, store: Store, *, masker: Masker, clock: Clock, rng: random.Random
    ) -> None:
        self.config = config
        self.store = store
        self.metrics = Metrics()
        self._clock = clock
        self.loaded_at = clock.now()
        """When the watchlist in force was taken."""
        self._seen: int | None = None
        """The version of the state file up to which all is taken up that other processes changed."""
        self.reporter = Reporter(store, clock, config.alerts)
        self._wire = _wire(config)
        self._began = clock.awake()
        self._clocks = LeapWatch(clock)
        self._backlogs: dict[str, Backlog] = {}
        """How the outbox stood when somebody last looked at the metrics."""
        self._leaps: list[Leap] = []
        """What the state file does not know of yet."""
        self._equipment = Equipment(
            store=store,
            wire=self._wire,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            settings=config.delivery,
            masker=masker,
            report=self.reporter.report,
            is_time_sound=self._is_time_sound,
        )
        self.deliverer = Deliverer(self._equipment)
        self.reporter.wake = self.deliverer.wake
        self.reporter.sharing = self.deliverer.sharing
        self.reporter.proclaim = self.deliverer.proclaim
        self.polling = Polling(
            config,
            store,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            reporter=self.reporter,
            wake=self.deliverer.wake,
        )

    async def start(self) -> None:
        """Take up what an earlier run left and go to work. Raises StorageError."""
        self._seen = await self.store.data_version()  # NB: first, so that no later change is missed
        await self.reporter.take_up()
        await self.reporter.forget_targets(but=self.config.targets)
        await self.polling.take_up()
        await self.deliverer.apply(self.config.targets)
        await self._report_standing()
        await self._resolve_dead_letters()
        await self.polling.start()
        self._note_loaded()

    async def stop(self) -> None:
        """Stop polling at once and let attempts under way finish, for up to 10 seconds."""
        self.polling.stop()
        await self.polling.write_usage()
        await self.deliverer.stop()
        await self.polling.close()
        await self._wire.close()

    async def apply(self, config: Config, masker: Masker) -> None:
        """Work by another watchlist from now on. Raises StorageError, and may then be called again."""
        stayed = self.config.targets.keys() & config.targets.keys()
        await self.reporter.forget_targets(but=stayed)
        # NB: what has expired in a target's absence is not sent on its return
        await self._give_up_on_all_but(self.config.targets, config.delivery.give_up_after)
        before, self.config = self.config, config
        self._equipment.masker = masker
        self.reporter.alerts = config.alerts
        await self.polling.reconfigure(config)
        await self._apply_delivery(before, config)
        await self.deliverer.apply(config.targets)
        await self._report_standing(but=self.reporter.subjects(Problem.TARGET_PAUSED))
        await self.polling.watch()
        self._note_loaded()

    def _note_loaded(self) -> None:
        self.loaded_at = self._clock.now()
        self.metrics.config_loaded(self.loaded_at)

    async def _report_standing(self, *, but: Collection[str] = ()) -> None:
        """Tell of dead letters, and of pauses but some, that a crash or a target's absence kept untold."""
        for name, reason in self.deliverer.paused().items():
            if name not in but:
                await self._narrator(name).paused(reason)
        for name, backlog in (await self.store.backlogs()).items():
            if backlog.dead and name in self.config.targets:
                await self._narrator(name).dead_letters(backlog.dead, "given up on earlier")

    async def _apply_delivery(self, before: Config, config: Config) -> None:
        self._equipment.settings = config.delivery
        if config.delivery.timeout != before.delivery.timeout:
            former, self._wire = self._wire, _wire(config)
            self._equipment.wire = self._wire
            await former.retire()

    async def look_again(self) -> None:
        """Take up what a person has changed in the state file with the commands since the last look.

        A look that fails is none: the next one takes up what it missed.
        """
        try:
            version = await self.store.data_version()
            if version != self._seen:
                await self.deliverer.look_again()
                await self._resolve_dead_letters()
                self._seen = version
        except StorageError:
            return

    async def _resolve_dead_letters(self) -> None:
        """Tell `alerts` of the targets that they know to have dead letters and that have none any more."""
        backlogs = await self.store.backlogs()
        for target in self.reporter.subjects(Problem.DELIVERY_DEAD):
            if backlogs.get(target, Backlog()).dead == 0:
                summary = f"{target} has no dead letters any more"
                await self.reporter.report(Alert(Problem.DELIVERY_DEAD, target, summary, is_resolved=True))

    async def watch_clocks(self) -> None:
        """Keep every wait and deadline as it is although the wall clock was set or the machine slept."""
        leap = self._clocks.look()
        if leap is not None:
            jump, slept = leap.jump.total_seconds(), leap.slept.total_seconds()
            log.warning("clock.leapt", jump=round(jump, 1), slept=round(slept, 1))
            self._leaps.append(leap)
        try:
            while self._leaps:
                await self._take_leap(self._leaps[0])
                self._leaps.pop(0)
        except StorageError:
            return  # again at the next look

    async def _take_leap(self, leap: Leap) -> None:
        self.polling.forget_ages()
        await self.deliverer.write_down()
        await self.store.save_gate(self.polling.upstream.row())
        # NB: last of what may fail, since it must be done only once
        await self.store.leap(leap.unlived, now=self._clock.now())
        self.deliverer.wake()  # waits have gone on while the machine slept, whoever waits for them has not

    def _is_time_sound(self) -> bool:
        """Say whether how long something has waited can be told from the wall clock just now.

        Not before it had time to be set after a boot: a target gets a few minutes in each life of the daemon.
        """
        settling = min(_SETTLING, self.config.delivery.give_up_after)
        has_settled = self._clock.awake() - self._began >= settling.total_seconds()
        return has_settled and not self._leaps and not self._clocks.has_leapt()

    async def tidy(self) -> None:
        """Forget what is old, and with it the dead letters that `alerts` know of."""
        if not self._is_time_sound():
            return
        kept_from = self._clock.now() - _KEPT
        listed = {watch.audio_id for watch in self.config.tracks}
        await self.reporter.attempt(self.store.forget(unwatched_before=kept_from, watched=listed), default=0)
        await self.reporter.attempt(self._resolve_dead_letters(), default=None)

    async def give_up(self) -> None:
        """Give up what targets that are gone are owed for too long."""
        await self.reporter.attempt(
            self._give_up_on_all_but(self.config.targets, self.config.delivery.give_up_after), default=None
        )

    async def _give_up_on_all_but(self, targets: Collection[str], patience: timedelta) -> None:
        """Give up what is owed for too long to targets that are not these. Raises StorageError."""
        if not self._is_time_sound():
            return
        now = self._clock.now()
        for target, backlog in (await self.store.backlogs()).items():
            if backlog.pending and target not in targets:
                gone = f"the target {target} is not on the watchlist"
                given_up = await self.store.expire(
                    target,
                    counted_before=now - patience,
                    at=now,
                    why=gone,
                    spared=self.deliverer.under_way(),
                )
                await self._narrator(target).dead(given_up, gone)

    def _narrator(self, target: str) -> Narrator:
        return Narrator(target, clock=self._clock, metrics=self.metrics, report=self.reporter.report)

    async def refresh_metrics(self) -> None:
        """Bring the metrics up to date that are counted only when somebody looks.

        While the state file does not answer, what was last known of the outbox stands.
        """
        seen = (watch.sighting for watch in self.polling.watches.values())
        unread = Status.UNKNOWN.value
        self.metrics.tasks.set(len(asyncio.all_tasks()))
        self.metrics.show_fixed_reads(self.polling.meter.fixed)
        shown: Counter[str] = Counter()
        for status, count in Counter(unread if one is None else one.status for one in seen).items():
            shown[self._equipment.masker.mask(status)] += count
        self.metrics.show_tracks(shown)
        if self.store.silence < _PATIENCE_OF_A_SCRAPE:
            with contextlib.suppress(StorageError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_OF_A_SCRAPE):
                    self._backlogs = await self.store.backlogs()
        paused = self.deliverer.paused()
        is_paused = {name: name in paused for name in self.deliverer.names()}
        self.metrics.show_backlogs(self._backlogs, is_paused, self._clock.now())


def _wire(config: Config) -> Wire:
    # NB: each worker has its own limit; a common one would let a target wait for those that have left
    return Wire(timeout=config.delivery.timeout, connections=None, largest_answer=LARGEST_ANSWER)
