"""One turn of one watch: ask when that is admitted, compare with what is known, write down what changed.

Never sends a message and never imports what does: an event ends in the outbox, from where others take it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from random import Random

import structlog

from notifier.admission import Admission, Passages
from notifier.clock import Clock
from notifier.delivery import Backoff
from notifier.durations import Ending
from notifier.event import Alert, Event, EventType, Problem, TrackNews, track_event
from notifier.foresight import Foresight
from notifier.metrics import Metrics, RequestKind
from notifier.store import Owed, StorageError, Store
from notifier.text import one_line
from notifier.track import NotATrackError, Track, parse
from notifier.transition import Change, Gone, detect
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.usage import Meter
from notifier.useapi import (
    NotFound,
    Page,
    PageReading,
    Reading,
    Refused,
    Trouble,
    Unlistable,
    Unreadable,
    account_of,
)
from notifier.watched import Reader, Watched

_HOPELESS = 5
"""After how many failures in a row a track counts as one that cannot be read."""
_MOST_LAPSES = 8
"""How often a track may be the first on which the API fails before that is taken for its own fault."""
_STORE_RETRY = 1.0
"""After how many seconds it is tried again to write down what was found."""

_OUTCOMES = ("ok", "not_found", "unreadable", *Trouble)
"""What requests are counted by."""
_TOLD = (EventType.COMPLETED, EventType.FAILED, EventType.MISSING, EventType.STALLED)
_MOST_STATUSES = 100
"""How many undocumented statuses are remembered: an API that makes one up each time fills no memory."""

log = structlog.get_logger()


@dataclass(slots=True)
class Limits:
    """The settings that a turn needs; a reload replaces them."""

    missing_after: int
    stalled_after: timedelta
    max_interval: timedelta


class Poller:
    """Reads tracks. `wake` is called with the targets that have something new in the outbox."""

    def __init__(
        self,
        *,
        reader: Reader,
        store: Store,
        upstream: Upstream,
        admission: Admission,
        limits: Limits,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        wake: Callable[[tuple[str, ...]], None],
        reporter: Reporter,
        meter: Meter,
        foresight: Foresight | None = None,
    ) -> None:
        self.reader = reader
        self.limits = limits
        self._store = store
        self._upstream = upstream
        self._admission = admission
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._wake = wake
        self._reporter = reporter
        self._foresight = foresight or Foresight()
        self._meter = meter
        self._writing: dict[str, asyncio.Event] = {}
        """Tracks of which something is just being written down, and what is set when it is."""
        self.ended: Callable[[Watched], None] = lambda _watch: None
        """What is called with a watch that has ended, once that is written down."""
        self._knows_bad_ones = False
        """Whether there was a track that the API fails on while it is well."""
        self._excused_at: int | None = None
        """How many requests had succeeded when a failure was last taken for a track's own at first sight."""
        self._unknown_statuses: set[str] = set()
        self._counters = {
            (kind, outcome): metrics.api_requests.labels(kind, outcome)
            for kind, outcome in product(RequestKind, _OUTCOMES)
        }
        for event_type in _TOLD:
            metrics.events.labels(event_type)

    def is_to_be_read(self, watch: Watched) -> bool:
        """Say whether a turn makes sense.

        While the state file cannot be written nothing is read: what would be found could not be kept.
        """
        is_too_soon = self._clock.monotonic() < watch.not_before
        return not watch.is_final and not is_too_soon and self._store.trouble is None

    async def read(self, watch: Watched, *, due: float, keeps_phase: bool = True) -> Reading | None:
        """Read a track by itself when the gates allow it; None when it was not asked after.

        The next read counts from when this one was due; from when it left if it does not keep its phase.
        """

        def is_wanted() -> bool:
            return watch.is_watched

        account = account_of(watch.audio_id)
        async with self._admission.passing(account, is_wanted, is_suspect=watch.is_suspect) as passages:
            if passages is None:
                return None
            left = await self._admission.paced(passages, is_wanted, partial(self.ask, watch, due))
            if left is None:
                return None
            at, reading = left
            await self.take(watch, reading, passages, phase=due if keeps_phase else at, at=at)
            return reading

    async def ask(self, watch: Watched, due: float) -> Reading:
        """Send the request for one track, which was due then."""
        self.note_lateness(due, self._clock.monotonic())
        self._meter.track += 1  # NB: before its answer, which nobody waits for at the end
        reading = await self.reader.read(watch.url)
        self._counters[RequestKind.TRACK, _outcome(reading)].inc()
        return reading

    async def ask_page(self, account: str, offset: int) -> PageReading:
        """Send the request for a page of an account's list."""
        self._meter.list += 1
        reading = await self.reader.read_page(account, offset)
        self._counters[RequestKind.LIST, _outcome(reading)].inc()
        return reading

    def note_lateness(self, due: float, left_at: float) -> None:
        """Note that a request left for what was due then."""
        self._metrics.poll_lateness.observe(max(0.0, left_at - due))

    async def take(
        self, watch: Watched, reading: Reading, passages: Passages, *, phase: float, at: float
    ) -> None:
        """Draw the consequences of a read that left `at`, and counts as one of `phase`. Raises only bugs."""
        account = account_of(watch.audio_id)
        if isinstance(reading, Refused):
            if not self._is_its_own(watch, reading):
                await self._upstream.failed(reading, account, passages)
                return
            reading = Unreadable(reading.reason, is_permanent=False)
        else:
            watch.is_suspect = False
            await self._upstream.succeeded(account, passages)
        # what another address could not tell says nothing of this one
        is_of_before = not isinstance(reading, Track) and not self._upstream.token.is_current(passages[0])
        if not is_of_before:
            await self.hear(watch, reading, phase=phase, at=at)

    async def hear(
        self, watch: Watched, reading: Track | NotFound | Unreadable, *, phase: float, at: float
    ) -> None:
        """Take up what a request that left `at` told of a track, alone or in a list. Raises only bugs."""
        if not watch.is_watched:
            return
        self._meter.seen(watch)
        if not isinstance(reading, Unreadable):
            watch.seen_at = self._clock.monotonic()
            watch.phase = phase - self._slept()
        try:
            await self._judge(watch, reading)
        except StorageError:
            return  # nothing of it is remembered, so the next turn finds and tells the same
        if not isinstance(reading, Unreadable):
            watch.told_of = max(watch.told_of, at)

    def _slept(self) -> float:
        """Return by how much the clock here is ahead of the schedule's: as long as the machine ever slept.

        The clocks are read one after the other; what differs by less than can be told is the same.
        """
        return round(self._clock.monotonic() - self._clock.awake(), 2)

    def _is_its_own(self, watch: Watched, refused: Refused) -> bool:
        """Say whether a failure of the API is this track's own: it fails again while others are read."""
        if refused.trouble is not Trouble.UNAVAILABLE or not refused.is_asked:
            return False
        successes = self._upstream.successes
        others_are_well = watch.blamed_at is not None and successes > watch.blamed_at
        if watch.is_suspect:
            is_its_own = others_are_well
            self._knows_bad_ones = self._knows_bad_ones or is_its_own
        else:
            watch.lapses += 1
            is_its_own = self._is_excused(watch, successes)
        watch.blamed_at, watch.is_suspect = successes, True
        return is_its_own

    def _is_excused(self, watch: Watched, successes: int) -> bool:
        """Say whether a failure after a success counts as the track's own for now.

        It does where that happens to it often, or another one is known to fail by itself; but not if one was
        excused already since any success: then it is the API.
        """
        is_known_for_it = self._knows_bad_ones or watch.lapses > _MOST_LAPSES
        if not is_known_for_it or self._excused_at == successes:
            return False
        self._excused_at = successes
        return True

    async def _judge(self, watch: Watched, reading: Track | NotFound | Unreadable) -> None:
        if not isinstance(reading, NotFound):
            watch.not_found = 0
        match reading:
            case Track():
                await self._readable(watch)
                await self._compare(watch, reading)
            case NotFound():
                await self._not_found(watch, reading)
            case Unreadable():
                await self._unreadable(watch, reading)

    async def _readable(self, watch: Watched) -> None:
        watch.failures = 0
        watch.complaint.forget()
        if watch.is_unreadable:
            watch.is_unreadable = False
            summary = f"{one_line(watch.name(None))} can be read again"
            await self._reporter.report(
                Alert(Problem.TRACK_UNREADABLE, watch.audio_id, summary, is_resolved=True)
            )

    async def _not_found(self, watch: Watched, reading: NotFound) -> None:
        watch.not_found += 1
        if reading.is_gone or watch.not_found >= self.limits.missing_after:
            await self._compare(watch, Gone())
        else:
            self._complain(watch, reading.reason)

    async def _unreadable(self, watch: Watched, reading: Unreadable) -> None:
        watch.failures += 1
        backoff = Backoff(watch.interval, self.limits.max_interval)
        wait = self.limits.max_interval if reading.is_permanent else backoff.delay(watch.failures, self._rng)
        watch.not_before = self._clock.monotonic() + wait.total_seconds()
        self._complain(watch, reading.reason)
        is_hopeless = reading.is_permanent or watch.failures >= _HOPELESS
        if is_hopeless and not watch.is_unreadable:
            watch.is_unreadable = True
            summary = f"{one_line(watch.name(None))} cannot be read ({reading.reason})"
            await self._reporter.report(Alert(Problem.TRACK_UNREADABLE, watch.audio_id, summary))

    def _complain(self, watch: Watched, reason: str) -> None:
        """Log a failure when its text changes, and count it when it does not."""
        before = watch.complaint.news(reason)
        if before is None:
            return
        repeated = {"repeated": before} if before > 1 else {}
        log.warning("poll.failed", audio_id=watch.audio_id, name=watch.name(None), error=reason, **repeated)

    async def _compare(self, watch: Watched, current: Track | Gone) -> None:
        if isinstance(current, Track):
            self._note_status(watch, current)
        while (writing := self._writing.get(watch.audio_id)) is not None:
            await writing.wait()  # NB: a list and a read may tell of a track at the same time
        now = self._clock.now()
        change = detect(
            watch.sighting,
            current,
            now=now,
            stalled_after=self.limits.stalled_after,
            api_now=now + self.reader.clock_offset,
        )
        if change is None:
            self._see(watch, current, now)
            return
        written = self._writing[watch.audio_id] = asyncio.Event()
        try:
            await self._write_down(watch, current, change, now)
        finally:
            del self._writing[watch.audio_id]
            written.set()
        self._see(watch, current, now)

    def _see(self, watch: Watched, current: Track | Gone, now: datetime) -> None:
        """Note how a track under way was seen, for foresight."""
        if isinstance(current, Gone) or current.is_final:
            watch.life = None
            return
        if watch.life is not None:
            watch.life.see(watch.phase, self._clock.awake())
            return
        watch.life = self._foresight.meet(
            current,
            account_of(watch.audio_id),
            at=watch.phase,
            now=self._clock.awake(),
            api_now=now + self.reader.clock_offset,
            interval=watch.interval.total_seconds(),
        )

    def _ending(
        self, watch: Watched, current: Track | Gone, change: Change, api_now: datetime
    ) -> Ending | None:
        """Return what is to be learned from a change: an end, or that there was none for so long."""
        if not change.sighting.is_final and EventType.STALLED not in change.events:
            return None
        if watch.life is not None and watch.hinted_at > float("-inf"):
            watch.life.is_regular = False  # what came of a hint is no merit of foresight
        return self._foresight.ending(
            watch.audio_id,
            watch.life,
            current,
            at=watch.phase,
            now=self._clock.awake(),
            api_now=api_now,
        )

    async def _write_down(self, watch: Watched, current: Track | Gone, change: Change, now: datetime) -> None:
        track = current if isinstance(current, Track) else await self._last_seen(watch)
        events = [self._event(watch, event_type, change, track) for event_type in change.events]
        is_meant = watch.is_meant(track)
        told = watch.events if is_meant else ()
        owed = [Owed(event, watch.targets if event.type in told else ()) for event in events]
        about = events if is_meant else ()
        alerts = [alert for alert in _alerts(watch, about) if self._reporter.is_news(alert)]
        ending = self._ending(watch, current, change, now + self.reader.clock_offset)
        record = partial(
            self._store.record,
            watch.audio_id,
            change.sighting,
            current if isinstance(current, Track) else None,
            owed,
            now=now,
            alerts=[(alert, self._reporter.targets(alert)) for alert in alerts],
            ending=ending,
        )
        if not await self._kept(watch, record):
            return
        watch.sighting = change.sighting
        if watch.is_final:
            self.ended(watch)
        for alert in alerts:
            self._reporter.written(alert)
        if events:
            self._wake(watch.targets)
            self._tell(watch, events)
        if ending is not None:
            self._foresight.durations.learn(ending)

    async def _kept(self, watch: Watched, record: Callable[[], Awaitable[None]]) -> bool:
        """Write down what was found, however long the disk takes; False when it is not watched any more."""
        while watch.is_watched:
            try:
                await record()
            except StorageError:
                await self._clock.sleep(_STORE_RETRY)
                while self._store.trouble is not None:
                    await self._clock.sleep(_STORE_RETRY)
            else:
                return True
        return False

    def _event(self, watch: Watched, event_type: EventType, change: Change, track: Track | None) -> Event:
        previous = watch.sighting.status if watch.sighting is not None else None
        news = TrackNews(watch.audio_id, watch.name(track), change.sighting.status, previous, track)
        return track_event(event_type, news, self._clock.now())

    async def _last_seen(self, watch: Watched) -> Track | None:
        text = await self._store.as_returned(watch.audio_id)
        try:
            return parse(json.loads(text)) if text is not None else None
        except NotATrackError:
            return None

    def _tell(self, watch: Watched, events: Sequence[Event]) -> None:
        for event in events:
            self._metrics.events.labels(event.type).inc()
            about = {"audio_id": watch.audio_id, "name": event.name, **_status(event)}
            match event.type:
                case EventType.COMPLETED:
                    log.info("track.completed", **about)
                case EventType.FAILED:
                    log.warning("track.failed", **about)
                case EventType.MISSING:
                    log.warning("track.missing", **about)
                case EventType.STALLED:
                    log.warning("track.stalled", **about)

    def _note_status(self, watch: Watched, track: Track) -> None:
        is_known = track.has_known_status or track.status in self._unknown_statuses
        if not is_known and len(self._unknown_statuses) < _MOST_STATUSES:
            self._unknown_statuses.add(track.status)
            log.warning("track.status_unknown", audio_id=watch.audio_id, status=track.status)


def _alerts(watch: Watched, events: Sequence[Event]) -> Iterator[Alert]:
    """Yield what events of a track mean for whoever looks after the daemon."""
    for event in events:
        name, subject = one_line(event.name), watch.audio_id
        match event.type:
            case EventType.MISSING:
                summary = f"{name} is missing: useapi.net does not know it (any more)"
                yield Alert(Problem.TRACK_MISSING, subject, summary)
            case EventType.STALLED:
                yield Alert(Problem.TRACK_STALLED, subject, f"{name} takes longer than usual")
        if event.type is not EventType.STALLED:
            for over in (Problem.TRACK_STALLED, Problem.TRACK_UNREADABLE):
                yield Alert(over, subject, f"{name} has ended after all", is_resolved=True)


def _status(event: Event) -> dict[str, str]:
    return {"status": event.about.status} if isinstance(event.about, TrackNews) else {}


def _outcome(reading: Reading | PageReading) -> str:
    match reading:
        case Track() | Page():
            return "ok"
        case NotFound():
            return "not_found"
        case Unreadable() | Unlistable():
            return "unreadable"
        case Refused(trouble=trouble):
            return trouble.value
