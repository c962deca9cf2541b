"""The working parts of the daemon, made from a watchlist and kept in step with it.

Decides nothing about tracks or messages; it makes the parts, connects them, and applies another watchlist to
them so that what did not change goes on undisturbed. Knows no signals, no files but the state file.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import structlog

from notifier import cadence
from notifier.aftermath import Equipment
from notifier.clock import Clock, Leap, LeapWatch
from notifier.config import AccountWatch, Config, Useapi, Watch, key_of
from notifier.deliverer import Deliverer
from notifier.event import Alert, Problem
from notifier.follower import Followed, Follower
from notifier.foresight import Foresight, Terms
from notifier.gatebook import API_GATE, api_fingerprint
from notifier.gathering import Gathering
from notifier.hinting import Hints
from notifier.metrics import Metrics
from notifier.narrator import Narrator
from notifier.poller import Limits, Poller
from notifier.schedule import Schedule
from notifier.secret import Masker
from notifier.sending import LARGEST_ANSWER
from notifier.store import Backlog, StorageError, Store
from notifier.track import Status
from notifier.transition import Sighting
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.usage import KEPT, Meter, hour_of
from notifier.useapi import Page, UseApi
from notifier.watched import Watched, change, watched
from notifier.wire import Wire

_PATIENCE_OF_A_SCRAPE = 2.0
_KEPT = timedelta(days=90)
"""How long what a track was told of is kept after it has left the watchlist."""
_SOON = 1.0
"""After how many seconds a track that was found is read itself, unless the page has told of it till then."""
_SETTLING = timedelta(minutes=5)
"""How long after the start nothing is given up: the clock may be about to be set, the network to come up."""
_ENOUGH = 100
"""From how many tracks that leave the watchlist together something is learned."""

log = structlog.get_logger()


class Engine:
    """Store, poller and deliverer at work. `start` it once, `apply` other watchlists, `stop` it once."""

    def __init__(
        self, config: Config, store: Store, *, masker: Masker, clock: Clock, rng: random.Random
    ) -> None:
        self.config = config
        self.store = store
        self.metrics = Metrics()
        self.watches: dict[str, Watched] = {}
        self._ended_lately: set[str] = set()
        """What has been let go of since it was last read what is under way."""
        self._clock = clock
        self.loaded_at = clock.now()
        """When the watchlist in force was taken."""
        self._seen: int | None = None
        """The version of the state file up to which all is taken up that other processes changed."""
        self.reporter = Reporter(store, clock, config.alerts)
        self.upstream = Upstream(
            interval=config.poll.interval,
            max_interval=config.poll.max_interval,
            spacing=config.useapi.rate.spacing,
            clock=clock,
            rng=rng,
            report=self.reporter.report,
            remember=self.reporter.remember,
        )
        self._reader = UseApi(config.useapi, clock)
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
        self.foresight = Foresight(_terms(config))
        self.meter = Meter(now=self.upstream.time_up, period=self._fixed_period)
        """What the API is asked, and what fixed polling would have asked."""
        self._poller = Poller(
            reader=self._reader,
            store=store,
            upstream=self.upstream,
            limits=_limits(config, asyncio.Semaphore(config.useapi.concurrency)),
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            wake=self.deliverer.wake,
            reporter=self.reporter,
            foresight=self.foresight,
            meter=self.meter,
        )
        self.gathering = Gathering(
            self._poller, upstream=self.upstream, clock=clock, rng=rng, is_on=_reads_lists(config)
        )
        self.schedule = Schedule(
            self.gathering.turn,
            spacing=config.useapi.rate.spacing,
            requests=lambda: self.gathering.requests + len(self.follower),
            is_shared=_reads_lists(config),
            foresight=self.foresight,
        )
        self.follower = Follower(
            store=store,
            upstream=self.upstream,
            reporter=self.reporter,
            clock=clock,
            rng=rng,
            look=self.gathering.look,
            follow=self._follow,
            api_now=lambda: clock.now() + self.clock_offset,
        )
        self.gathering.heard = self._heard
        self.gathering.is_followed = self.follower.follows
        self.hints = Hints(
            self.watches,
            self.schedule,
            follows=lambda account: self.follower.get(account) is not None,
            look=self.look,
            clock=clock,
            metrics=self.metrics,
            max_interval=config.poll.max_interval,
            spacing=config.useapi.rate.spacing,
        )
        self.schedule.interval_of = self.hints.interval_of
        self._poller.ended = self._ended

    async def start(self) -> None:
        """Take up what an earlier run left and go to work. Raises StorageError."""
        self._seen = await self.store.data_version()  # NB: first, so that no later change is missed
        await self.reporter.take_up()
        await self.reporter.forget_targets(but=self.config.targets)
        self._salt = await self.store.salt()
        self.upstream.fingerprint = _fingerprint(self.config.useapi, self._salt)
        is_rejected = bool(self.reporter.subjects(Problem.TOKEN_REJECTED))
        self.upstream.take_up((await self.store.gates()).get(API_GATE), is_rejected=is_rejected)
        await self.deliverer.apply(self.config.targets)
        await self._report_standing()
        await self._resolve_dead_letters()
        for ending in await self.store.endings():
            self.foresight.durations.learn(ending)
        self.schedule.start()
        await self._apply_watches(self.config)
        self._note_loaded()

    async def stop(self) -> None:
        """Stop polling at once and let attempts under way finish, for up to 10 seconds."""
        self.schedule.stop()
        await self.write_usage()
        await self.deliverer.stop()
        await self._reader.close()
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
        await self._apply_api(before, config)
        await self._apply_delivery(before, config)
        await self.deliverer.apply(config.targets)
        await self._report_standing(but=self.reporter.subjects(Problem.TARGET_PAUSED))
        await self._apply_watches(config)
        self._note_loaded()

    def _note_loaded(self) -> None:
        self.loaded_at = self._clock.now()
        self.metrics.config_loaded(self.loaded_at)

    def looked_at(self) -> dict[str, datetime]:
        """Return when the list of each account was last looked at, which the state file tells later."""
        looks = ((followed.key, followed.looked_at) for followed in self.follower)
        return {key: moment for key, moment in looks if moment is not None}

    @property
    def has_work(self) -> bool:
        """Whether there is anything to ask the API: an unfinished track, or an account to follow."""
        return len(self.schedule) > 0 or len(self.follower) > 0

    @property
    def clock_offset(self) -> timedelta:
        """By how much the API's clock is ahead of ours, as far as that is known."""
        return self._reader.clock_offset

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
        if _limits_of_wire(config) != _limits_of_wire(before):
            former, self._wire = self._wire, _wire(config)
            self._equipment.wire = self._wire
            await former.retire()

    async def _apply_api(self, before: Config, config: Config) -> None:
        spacing = config.useapi.rate.spacing
        self.upstream.reconfigure(
            interval=config.poll.interval, max_interval=config.poll.max_interval, spacing=spacing
        )
        self.schedule.spacing = spacing.total_seconds()
        self.schedule.is_shared = _reads_lists(config)
        self.foresight.terms = _terms(config)
        self.gathering.switch(is_on=_reads_lists(config))
        self.hints.reconfigure(max_interval=config.poll.max_interval, spacing=spacing)
        if config.callback != before.callback:
            self.hints.forget()
        former = self._reader
        if config.useapi != before.useapi:
            self._reader = self._poller.reader = UseApi(config.useapi, self._clock)
        if (config.useapi.token, config.useapi.base_url) != (before.useapi.token, before.useapi.base_url):
            for running in self.watches.values():  # at once: a new token must not go to the old address
                running.readdress(self._reader.url_of(running.audio_id))
            self.upstream.renew(_fingerprint(config.useapi, self._salt))
            self.follower.renew()
        requests = self._poller.limits.requests
        if config.useapi.concurrency != before.useapi.concurrency:
            requests = asyncio.Semaphore(config.useapi.concurrency)
        self._poller.limits = _limits(config, requests)
        if former is not self._reader:
            await former.retire()

    async def _apply_watches(self, config: Config) -> None:
        """Add, change and remove watches; those that stay as they are keep their timing."""
        listed = {watch.audio_id: watch for watch in config.tracks}
        accounts = {entry.key: entry for entry in config.accounts}
        for followed in self.follower.drop(but=accounts):  # NB: first, lest a page brings more of them
            self.schedule.remove_look(followed.key)
        ended = self._ended_lately = set()
        await self.store.mark_watched(listed.keys(), now=self._clock.now(), accounts=accounts)
        sightings = await self.store.sightings()
        under_way, rows = await self.store.under_way(), await self.store.accounts()
        wanted: dict[str, Watch | AccountWatch] = {
            **{audio_id: accounts[key] for audio_id, key in under_way.items() if key in accounts},
            # what has been found since they were read
            **{running.audio_id: accounts[key] for running, key in self._brought() if key in accounts},
            **listed,
        }
        left = [self._remove(audio_id) for audio_id in [*self.watches] if audio_id not in wanted]
        for audio_id, running in self.watches.items():
            self._change(config, wanted[audio_id], running)
        for followed in self.follower:
            if config.interval_of(accounts[followed.key]) < followed.interval:
                self.schedule.hasten_look(followed.key)
        begun = self.follower.apply(config, rows)
        new = [audio_id for audio_id in wanted if audio_id not in self.watches and audio_id not in ended]
        await self._add(
            watched(config, wanted[audio_id], audio_id, self._reader, sightings.get(audio_id))
            for audio_id in new
        )
        for number, followed in enumerate(begun):
            delay = number * self.schedule.spacing
            self.schedule.add_look(followed.key, followed, self.follower.turn, delay=delay)
        self._ended_lately = set()
        await self._learn_from(left)

    async def _learn_from(self, left: Iterable[Watched]) -> None:
        """Learn that tracks had no end for as long as they were watched; the last few will do."""
        endings = [self.foresight.unfinished(watch.audio_id, watch.life) for watch in left if watch.life]
        some = endings[-_ENOUGH:]
        if some:
            await self.store.learn(some)
        for ending in some:
            self.foresight.durations.learn(ending)

    def _brought(self) -> Iterator[tuple[Watched, str]]:
        """Yield the watches that accounts have brought, with what the accounts are known by."""
        for running in self.watches.values():
            if running.account is not None:
                yield running, key_of(running.account)

    def _fixed_period(self, interval: float) -> float:
        """Return how many seconds pass between reads at an interval, where each track is read by itself."""
        return cadence.period_of(interval, unfinished=len(self.schedule), spacing=self.schedule.spacing)

    async def _heard(self, account: str, page: Page) -> None:
        """Take up a page of an account's list."""
        followed = self.follower.get(account)
        if followed is not None and page.offset == 0:
            self.meter.seen(followed)
        await self.follower.heard(account, page)

    async def write_usage(self) -> None:
        """Add what the API was asked to what is written down; later, if the disk fails."""
        used, now = self.meter.unwritten, self._clock.now()
        if used:
            with contextlib.suppress(StorageError):
                await self.store.add_usage(hour_of(now), used, kept_from=now - KEPT)
                self.meter.wrote(used)

    def look(self, account: str) -> bool:
        """Let an account's list be looked at now; False when the account is not followed."""
        followed = self.follower.get(account)
        if followed is None:
            return False
        followed.ask()
        self.schedule.hasten_look(followed.key)
        return True

    async def _follow(self, followed: Followed, found: Mapping[str, Sighting | None]) -> None:
        """Watch what an account has brought. A track with an entry of its own is watched already."""
        await self._add(
            (
                watched(self.config, followed.entry, audio_id, self._reader, sighting)
                for audio_id, sighting in found.items()
                if audio_id not in self.watches
            ),
            delay=_SOON,
        )

    def _ended(self, watch: Watched) -> None:
        """Let go of a track that an account has brought: there will be others, and nobody removes them."""
        self.hints.ended(watch)
        if watch.account is not None and self.watches.get(watch.audio_id) is watch:
            del self.watches[watch.audio_id]
            self._ended_lately.add(watch.audio_id)
            self.schedule.remove(watch.audio_id)

    def _remove(self, audio_id: str) -> Watched:
        watch = self.watches.pop(audio_id)
        watch.is_watched = False
        self.gathering.leave(watch)
        self.schedule.remove(audio_id)
        self.reporter.forget_track(audio_id)
        return watch

    def _change(self, config: Config, entry: Watch | AccountWatch, running: Watched) -> None:
        is_quicker = config.interval_of(entry) < running.interval
        change(running, config, entry)
        if is_quicker:
            self.schedule.quicken(running)

    async def _add(self, watches: Iterable[Watched], *, delay: float = 0.0) -> None:
        unreadable = set(self.reporter.subjects(Problem.TRACK_UNREADABLE))
        unfinished = []
        for watch in watches:
            if watch.is_final and watch.account is not None:
                continue
            watch.is_unreadable = watch.audio_id in unreadable
            self.watches[watch.audio_id] = watch
            if not watch.is_final:
                self.gathering.enter(watch)
                unfinished.append(watch)
        await self.schedule.add(unfinished, delay=delay)

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
        for watch in self.watches.values():
            watch.life = None  # NB: its age counts on neither clock any more; the next answer tells it anew
        await self.deliverer.write_down()
        await self.store.save_gate(self.upstream.row())
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
        seen = (watch.sighting for watch in self.watches.values())
        unread = Status.UNKNOWN.value
        self.metrics.tasks.set(len(asyncio.all_tasks()))
        self.metrics.show_fixed_reads(self.meter.fixed)
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


def _fingerprint(useapi: Useapi, salt: str) -> str:
    return api_fingerprint(useapi.base_url, useapi.token.reveal(), salt)


def _reads_lists(config: Config) -> bool:
    return config.poll.list == "auto"


def _limits_of_wire(config: Config) -> tuple[timedelta, int]:
    """Return how long a request to a target may take, and how many may be under way."""
    return config.delivery.timeout, max(1, sum(target.lanes for target in config.targets.values()))


def _wire(config: Config) -> Wire:
    timeout, connections = _limits_of_wire(config)
    return Wire(timeout=timeout, connections=connections, largest_answer=LARGEST_ANSWER)


def _terms(config: Config) -> Terms:
    return Terms(
        is_on=config.poll.cadence == "learned",
        stalled_after=config.poll.stalled_after,
        max_interval=config.poll.max_interval,
        reads_lists=_reads_lists(config),
    )


def _limits(config: Config, requests: asyncio.Semaphore) -> Limits:
    return Limits(
        missing_after=config.poll.missing_after,
        stalled_after=config.poll.stalled_after,
        max_interval=config.poll.max_interval,
        requests=requests,
    )
