"""What a hint leads to: a track that is read now, an account's list that is looked at, or nothing.

A hint is believed in nothing but that it may be worth a look, which goes through the gates and at the pace of
all others. There are only so many of them: whoever sends more is not heard, and polling finds what they said.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

import structlog

from notifier.clock import Clock
from notifier.flood import Floodgate
from notifier.hint import Heard
from notifier.metrics import Metrics
from notifier.reliance import Reliance
from notifier.schedule import Schedule
from notifier.track import Status
from notifier.useapi import account_of
from notifier.watched import Watched

_AT_ONCE = 50
"""How many hints are followed on the spot, such as for tracks that were ordered together."""
_SHARE = 0.5
"""Which part of `useapi.rate` may be spent on hints in the long run."""

log = structlog.get_logger()


class Hints:
    """Follows hints, and knows for whom they have come in time. Used from one event loop.

    `follows` says whether an entry of the watchlist follows an account, whose list `look` looks at soon.
    """

    def __init__(
        self,
        watches: Mapping[str, Watched],
        schedule: Schedule,
        *,
        follows: Callable[[str], bool],
        look: Callable[[str], object],
        clock: Clock,
        metrics: Metrics,
        max_interval: timedelta,
        spacing: timedelta,
    ) -> None:
        self._watches = watches
        self._schedule = schedule
        self._clock = clock
        self._metrics = metrics
        self._most = max_interval
        self._room = Floodgate(_AT_ONCE)
        self._reliance = Reliance()
        self._follows = follows
        self._look = look
        self.reconfigure(max_interval=max_interval, spacing=spacing)
        for outcome in Heard:
            metrics.callbacks.labels(outcome)

    def reconfigure(self, *, max_interval: timedelta, spacing: timedelta) -> None:
        """Take other settings on."""
        self._most = max_interval
        self._room.per_second = _SHARE / spacing.total_seconds()

    def take(self, audio_id: str) -> Heard:
        """Follow a hint about a track."""
        watch = self._watches.get(audio_id)
        if watch is None:
            return self._stranger(audio_id)
        if watch.is_final:
            return Heard.FINISHED
        if not self._has_room():
            return Heard.DROPPED
        watch.hinted_at = self._clock.monotonic()
        self._schedule.hasten(audio_id)
        return Heard.READ

    def _stranger(self, audio_id: str) -> Heard:
        """Follow a hint about a track that may be a new one of an account that is followed."""
        account = account_of(audio_id)
        if not self._follows(account):
            return Heard.UNKNOWN
        if not self._has_room():
            return Heard.DROPPED
        self._look(account)
        return Heard.LOOKED

    def _has_room(self) -> bool:
        is_admitted, _ = self._room.admit("", self._clock.monotonic())
        return is_admitted

    def interval_of(self, watch: Watched) -> timedelta:
        """Return how often a track is to be polled: less often while its account's callbacks come in time."""
        if not self._reliance or watch.is_hinted:
            return watch.interval
        account, now = account_of(watch.audio_id), self._clock.monotonic()
        return self._reliance.interval(account, watch.interval, most=self._most, now=now)

    def ended(self, watch: Watched) -> None:
        """Note that a track was found to have ended, and whether somebody had hinted at that before.

        Of one that had ended when it was first seen nothing can be said; nobody calls for one that is gone.
        """
        is_missing = watch.sighting is not None and watch.sighting.status == Status.MISSING
        if is_missing or watch.told_of == float("-inf"):
            return
        account, now = account_of(watch.audio_id), self._clock.monotonic()
        was_relied_on = self._reliance.holds(account, now)
        self._reliance.ended(account, is_hinted=watch.is_hinted, now=now)
        if self._reliance.holds(account, now) and not was_relied_on:
            log.info("callback.proven", account=account)
        elif was_relied_on and not watch.is_hinted:
            log.warning("callback.missed", account=account, audio_id=watch.audio_id)
            self._quicken(account)

    def forget(self) -> None:
        """Rely on no callbacks any more until they have come again."""
        self._reliance.forget()
        self._quicken()

    def _quicken(self, account: str | None = None) -> None:
        """Let unfinished tracks, of one account or all, be polled as often as they say from now on."""
        for watch in self._watches.values():
            if not watch.is_final and account in (None, account_of(watch.audio_id)):
                self._schedule.quicken(watch)
