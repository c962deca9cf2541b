"""The half of the daemon that asks the API, made from a watchlist and kept in step with it.

What it finds ends in the outbox, from where the other half takes it; of targets it knows the names.
"""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from notifier import cadence
from notifier.admission import Admission
from notifier.clock import Clock
from notifier.config import AccountWatch, Config, Useapi, Watch, key_of
from notifier.event import Problem
from notifier.follower import Followed, Follower
from notifier.foresight import Foresight, Terms
from notifier.gatebook import API_GATE, api_fingerprint
from notifier.gathering import Gathering
from notifier.hinting import Hints
from notifier.metrics import Metrics
from notifier.poller import Limits, Poller
from notifier.schedule import Schedule
from notifier.store import StorageError, Store
from notifier.transition import Sighting
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.usage import KEPT, Meter, hour_of
from notifier.useapi import Page, UseApi
from notifier.watched import Watched, change, watched

_SOON = 1.0
"""After how many seconds a track that was found is read itself, unless the page has told of it till then."""
_MOST_UNFINISHED = 10_000
"""How many unfinished tracks of one account leave room for more that it brings."""
_ENOUGH = 100
"""From how many tracks that leave the watchlist together something is learned."""


class Polling:
    """Asks the API about all that is watched. `start` it once, `stop` it once.

    For another watchlist `reconfigure` it first, and let it `watch` when all else is in step.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        reporter: Reporter,
        wake: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.watches: dict[str, Watched] = {}
        self._config = config
        self._store = store
        self._clock = clock
        self._reporter = reporter
        self._ended_lately: set[str] = set()
        """What has been let go of since it was last read what is under way."""
        self.upstream = Upstream(
            interval=config.poll.interval,
            max_interval=config.poll.max_interval,
            spacing=config.useapi.rate.spacing,
            clock=clock,
            rng=rng,
            report=reporter.report,
            remember=reporter.remember,
        )
        self._reader = UseApi(config.useapi, clock, callback=config.callback)
        self.foresight = Foresight(_terms(config))
        self.meter = Meter(now=self.upstream.time_up, period=self._fixed_period)
        """What the API is asked, and what fixed polling would have asked."""
        self._admission = Admission(
            upstream=self.upstream,
            store=store,
            clock=clock,
            metrics=metrics,
            concurrency=config.useapi.concurrency,
        )
        self._poller = Poller(
            reader=self._reader,
            store=store,
            upstream=self.upstream,
            admission=self._admission,
            limits=_limits(config),
            clock=clock,
            rng=rng,
            metrics=metrics,
            wake=wake,
            reporter=reporter,
            foresight=self.foresight,
            meter=self.meter,
        )
        self.gathering = Gathering(
            self._poller,
            upstream=self.upstream,
            admission=self._admission,
            clock=clock,
            rng=rng,
            is_on=_reads_lists(config),
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
            reporter=reporter,
            clock=clock,
            rng=rng,
            look=self.gathering.look,
            follow=self._follow,
            api_now=lambda: clock.now() + self.clock_offset,
            has_room=lambda account: self.gathering.unfinished(account) < _MOST_UNFINISHED,
        )
        self.hints = Hints(
            self.watches,
            self.schedule,
            follows=lambda account: self.follower.get(account) is not None,
            look=self.look,
            clock=clock,
            metrics=metrics,
            max_interval=config.poll.max_interval,
            spacing=config.useapi.rate.spacing,
        )
        self.foresight.is_listed = self.gathering.is_listed
        self.gathering.heard = self._heard
        self.gathering.is_followed = self.follower.follows
        self.schedule.interval_of = self.hints.interval_of
        self.schedule.closed_for = self.upstream.closed_for
        self._poller.ended = self._ended

    async def take_up(self) -> None:
        """Take up what an earlier run left: waits, and what was learned. Raises StorageError."""
        self._salt = await self._store.salt()
        self.upstream.fingerprint = _fingerprint(self._config.useapi, self._salt)
        is_rejected = bool(self._reporter.subjects(Problem.TOKEN_REJECTED))
        self.upstream.take_up((await self._store.gates()).get(API_GATE), is_rejected=is_rejected)
        for ending in await self._store.endings():
            self.foresight.durations.learn(ending)

    async def start(self) -> None:
        """Ask from now on. Raises StorageError."""
        self.schedule.start()
        await self.watch()

    def stop(self) -> None:
        """Ask no more, at once."""
        self.schedule.stop()

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.close()

    def forget_ages(self) -> None:
        """Let the next answers tell anew how old tracks are: their ages count on no clock any more."""
        for watch in self.watches.values():
            watch.life = None

    @property
    def has_work(self) -> bool:
        """Whether there is anything to ask the API: an unfinished track, or an account to follow."""
        return len(self.schedule) > 0 or len(self.follower) > 0

    @property
    def clock_offset(self) -> timedelta:
        """By how much the API's clock is ahead of ours, as far as that is known."""
        return self._reader.clock_offset

    def looked_at(self) -> dict[str, datetime]:
        """Return when the list of each account was last looked at, which the state file tells later."""
        looks = ((followed.key, followed.looked_at) for followed in self.follower)
        return {key: moment for key, moment in looks if moment is not None}

    def look(self, account: str) -> bool:
        """Let an account's list be looked at now; False when the account is not followed."""
        followed = self.follower.get(account)
        if followed is None:
            return False
        followed.ask()
        self.schedule.hasten_look(followed.key)
        return True

    async def reconfigure(self, config: Config) -> None:
        """Ask as another watchlist says from now on, and for what it names once it is to be watched."""
        before, self._config = self._config, config
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
        if (config.useapi, config.callback) != (before.useapi, before.callback):
            reader = UseApi(config.useapi, self._clock, callback=config.callback)
            self._reader = self._poller.reader = reader
        if (config.useapi.token, config.useapi.base_url) != (before.useapi.token, before.useapi.base_url):
            for running in self.watches.values():  # at once: a new token must not go to the old address
                running.readdress(self._reader.url_of(running.audio_id))
            self.upstream.renew(_fingerprint(config.useapi, self._salt))
            self.follower.renew()
        if config.useapi.concurrency != before.useapi.concurrency:
            self._admission.limit(config.useapi.concurrency)
        self._poller.limits = _limits(config)
        if former is not self._reader:
            await former.retire()

    async def watch(self) -> None:
        """Add, change and remove watches; those that stay keep their timing. Raises StorageError."""
        config = self._config
        listed = {watch.audio_id: watch for watch in config.tracks}
        accounts = {entry.key: entry for entry in config.accounts}
        for followed in self.follower.drop(but=accounts):  # NB: first, lest a page brings more of them
            self.schedule.remove_look(followed.key)
        ended = self._ended_lately = set()
        await self._store.mark_watched(listed.keys(), now=self._clock.now(), accounts=accounts)
        sightings = await self._store.sightings()
        under_way, rows = await self._store.under_way(), await self._store.accounts()
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
            await self._store.learn(some)
        for ending in some:
            self.foresight.durations.learn(ending)

    def _brought(self) -> Iterator[tuple[Watched, str]]:
        """Yield the watches that accounts have brought, with what the accounts are known by."""
        for running in self.watches.values():
            if running.account is not None:
                yield running, key_of(running.account)

    def _remove(self, audio_id: str) -> Watched:
        watch = self.watches.pop(audio_id)
        watch.is_watched = False
        self.gathering.leave(watch)
        self.schedule.remove(audio_id)
        self._reporter.forget_track(audio_id)
        return watch

    def _change(self, config: Config, entry: Watch | AccountWatch, running: Watched) -> None:
        is_quicker = config.interval_of(entry) < running.interval
        change(running, config, entry)
        if is_quicker:
            self.schedule.quicken(running)

    async def _add(self, watches: Iterable[Watched], *, delay: float = 0.0) -> None:
        unreadable = set(self._reporter.subjects(Problem.TRACK_UNREADABLE))
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

    async def _follow(self, followed: Followed, found: Mapping[str, Sighting | None]) -> None:
        """Watch what an account has brought. A track with an entry of its own is watched already."""
        await self._add(
            (
                watched(self._config, followed.entry, audio_id, self._reader, sighting)
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

    async def _heard(self, account: str, page: Page) -> None:
        """Take up a page of an account's list."""
        followed = self.follower.get(account)
        if followed is not None and page.offset == 0:
            self.meter.seen(followed)
        await self.follower.heard(account, page)

    def _fixed_period(self, interval: float) -> float:
        """Return how many seconds pass between reads at an interval, where each track is read by itself."""
        return cadence.period_of(interval, unfinished=len(self.schedule), spacing=self.schedule.spacing)

    async def write_usage(self) -> None:
        """Add what the API was asked to what is written down; later, if the disk fails."""
        used, now = self.meter.unwritten, self._clock.now()
        if used:
            with contextlib.suppress(StorageError):
                await self._store.add_usage(hour_of(now), used, kept_from=now - KEPT)
                self.meter.wrote(used)


def _fingerprint(useapi: Useapi, salt: str) -> str:
    return api_fingerprint(useapi.base_url, useapi.token.reveal(), salt)


def _reads_lists(config: Config) -> bool:
    return config.poll.list == "auto"


def _terms(config: Config) -> Terms:
    return Terms(
        is_on=config.poll.cadence == "learned",
        stalled_after=config.poll.stalled_after,
        max_interval=config.poll.max_interval,
        reads_lists=_reads_lists(config),
    )


def _limits(config: Config) -> Limits:
    return Limits(
        missing_after=config.poll.missing_after,
        stalled_after=config.poll.stalled_after,
        max_interval=config.poll.max_interval,
    )
