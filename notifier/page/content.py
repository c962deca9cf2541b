"""What the page shows, as its template gets it: words, numbers and links, cleaned and masked already."""

from collections.abc import Sequence
from dataclasses import dataclass

from notifier.message import Tone
from notifier.page.catalogue import Selection
from notifier.store import Backlog


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as people read it, and exactly."""

    text: str
    exact: str
    """As RFC 3339."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A link that lists the tracks of one standing."""

    title: str
    count: int
    href: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class TrackView:
    """A track as the page shows it."""

    key: str
    name: str
    audio_id: str
    word: str
    tone: Tone | None
    since: Moment | None
    """Since when it is as it is."""
    took: str | None
    """How long it takes so far, of one under way."""
    expected: str | None
    """When it will be ready, as far as others tell."""
    progress: int | None
    """How many percent of the expected time are over."""
    facts: Sequence[tuple[str, str]]
    detail: str | None
    prompt: str | None
    url: str | None
    """The audio, where a browser may be sent to; it comes from the API."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account that is followed, as the page shows it."""

    key: str
    account: str
    name: str | None
    word: str
    tone: Tone | None
    looked: Moment | None
    found: int
    last: Moment | None
    """When its list last brought a track."""
    under_way: int
    trouble: str | None


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target as the page shows it."""

    key: str
    name: str
    type: str
    word: str
    tone: Tone | None
    reason: str | None
    when: Moment | None
    """Since when it is paused, or when it is tried next."""
    advice: str | None
    backlog: Backlog
    oldest: Moment | None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as the page shows it."""

    key: str
    id: int
    headline: str
    tone: Tone
    target: str
    word: str
    state_tone: Tone
    at: Moment
    tries: str | None
    status: int | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """All that is shown."""

    version: str
    title: str
    word: str
    tone: Tone
    summary: str
    reasons: Sequence[str]
    degraded: Sequence[str]
    config_file: str
    config_error: str | None
    loaded: Moment
    api: str
    api_tone: Tone
    usage: str | None
    """How much the API is asked, and what that saves."""
    choices: Sequence[Choice]
    selection: Selection
    tracks: Sequence[TrackView]
    accounts: Sequence[AccountView]
    targets: Sequence[TargetView]
    totals: Backlog
    recent: Sequence[DeliveryView]
    dead: Sequence[DeliveryView]
    stale: str | None
    """Why what is shown is not how it is now."""
