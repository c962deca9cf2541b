"""A watch while the daemon runs: what its entry says, and what is remembered of its track."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from yarl import URL

from notifier.config import Config, Watch
from notifier.event import EventType
from notifier.repetition import Repetition
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
    interval: timedelta
    events: frozenset[EventType]
    targets: tuple[str, ...]
    url: URL
    sighting: Sighting | None = None
    not_before: float = float("-inf")
    seen_at: float = float("-inf")
    """When an answer last told how the track is, by itself or in a list, in monotonic seconds."""
    phase: float = float("-inf")
    """From when its next read counts: when that one was due whose answer told; as `seen_at` before it."""
    is_watched: bool = True
    """Whether the watchlist still names the track; a read under way ends unheard when it does not."""
    is_unreadable: bool = False
    """Whether people were told that this track cannot be read."""
    blamed_at: int | None = None
    """How many reads had succeeded when the API last failed on this track, or None when it did not."""
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
    def is_final(self) -> bool:
        """Whether nothing more can happen to the track."""
        return self.sighting is not None and self.sighting.is_final

    def name(self, track: Track | None) -> str:
        """Return what people call the track."""
        own = track.name if track is not None else self.sighting.name if self.sighting else None
        return self.label or own or self.audio_id


def watched(config: Config, watch: Watch, reader: Reader, sighting: Sighting | None) -> Watched:
    """Make the running form of a watch."""
    return Watched(
        audio_id=watch.audio_id,
        label=watch.name,
        interval=config.interval_of(watch),
        events=config.events_of(watch),
        targets=config.notified(watch),
        url=reader.url_of(watch.audio_id),
        sighting=sighting,
    )
