"""A watch while the daemon runs: what its entry says, and what is remembered of its track."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from yarl import URL

from notifier.config import AccountWatch, Config, Watch
from notifier.event import EventType
from notifier.filter import Filter, Verdict
from notifier.foresight import Life
from notifier.repetition import Repetition
from notifier.text import headed
from notifier.track import Track
from notifier.transition import Sighting
from notifier.useapi import PageReading, Reading


class Reader(Protocol):
    """What reads tracks; `notifier.useapi.UseApi` does."""

    clock_offset: timedelta
    """By how much the clock of whoever answers is ahead of ours, as far as that is known."""

    def url_of(self, audio_id: str) -> URL:
        """Return a track's address."""
        ...

    async def read(self, url: URL) -> Reading:
        """Read the track at an address."""
        ...

    async def read_page(self, account: str, offset: int = 0) -> PageReading:
        """Read the page of an account's list that begins after so many entries."""
        ...


@dataclass(slots=True)
class Watched:
    """A watch while the daemon runs: what its entry says and what is remembered of its track."""

    audio_id: str
    label: str | None
    """What its entry calls it."""
    interval: timedelta
    events: frozenset[EventType]
    targets: tuple[str, ...]
    url: URL
    account: str | None = None
    """The account that is followed and has brought it; None for a track with an entry of its own."""
    heading: str | None = None
    """What stands before its name."""
    filter: Filter | None = None
    sighting: Sighting | None = None
    not_before: float = float("-inf")
    seen_at: float = float("-inf")
    """When an answer last told how the track is, by itself or in a list, in monotonic seconds."""
    phase: float = float("-inf")
    """From when its next read counts: when that one was due whose answer told; in seconds as the schedule
    counts them, -inf before it."""
    life: Life | None = None
    """What foresight knows of the track while it is under way; None before it has been seen in this run."""
    is_watched: bool = True
    """Whether the watchlist still names the track; a read under way ends unheard when it does not."""
    is_unreadable: bool = False
    """Whether people were told that this track cannot be read."""
    metered_at: float = float("-inf")
    """When it was last seen, in seconds of time in which the API could be asked."""
    hinted_at: float = float("-inf")
    """When somebody last said that something has happened to the track."""
    told_of: float = float("-inf")
    """When the request left whose answer last told how the track is; -inf before there was one."""
    blamed_at: int | None = None
    """How many reads had succeeded when the API last failed on this track, or None when it never did."""
    is_suspect: bool = False
    """Whether the last request for it failed, so that another one shows better whether the API is well.

    NB: one that always fails would else go first as the probe each time, and others find the gate closed.
    """
    lapses: int = 0
    """How often the API has failed on this track right after it had been read, or before it ever was."""
    failures: int = 0
    not_found: int = 0
    complaint: Repetition = field(default_factory=Repetition)

    def readdress(self, url: URL) -> None:
        """Be read at another address, or with another token: what failed before says nothing of it."""
        self.url = url
        self.not_before = float("-inf")
        self.not_found = 0
        self.failures = 0

    @property
    def is_hinted(self) -> bool:
        """Whether the track has not been seen since somebody said that something has happened to it."""
        return self.hinted_at > self.told_of

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to the track."""
        return self.sighting is not None and self.sighting.is_final

    def name(self, track: Track | None) -> str:
        """Return what people call the track."""
        own = track.name if track is not None else self.sighting.name if self.sighting else None
        return headed(self.heading, self.label or own or self.audio_id)

    def is_meant(self, track: Track | None) -> bool:
        """Whether people want to hear of the track as it is now."""
        return self.filter is None or self.filter.verdict(track) is not Verdict.NOT_MEANT


def watched(
    config: Config, entry: Watch | AccountWatch, audio_id: str, reader: Reader, sighting: Sighting | None
) -> Watched:
    """Make the running form of a watch, whether a track has an entry or its account has brought it."""
    watch = Watched(
        audio_id=audio_id,
        label=None,
        interval=config.interval_of(entry),
        events=config.events_of(entry),
        targets=config.notified(entry),
        url=reader.url_of(audio_id),
        sighting=sighting,
    )
    change(watch, config, entry)
    return watch


def change(watch: Watched, config: Config, entry: Watch | AccountWatch) -> None:
    """Let a watch be as an entry says: one of its own, or its account's."""
    is_its_own = isinstance(entry, Watch)
    watch.account = None if isinstance(entry, Watch) else entry.account
    watch.label = entry.name if is_its_own else None
    watch.heading = None if is_its_own else entry.name
    watch.filter = None if isinstance(entry, Watch) else entry.filter
    watch.interval = config.interval_of(entry)
    watch.events = config.events_of(entry)
    watch.targets = config.notified(entry)
