"""All tracks, sorted by what has become of them, and the few of them that one page of a list shows. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from urllib.parse import urlencode

from notifier.store import TrackLine
from notifier.text import headed
from notifier.track import Status

PER_PAGE = 50
_LONGEST_SEARCH = 200
_LARGEST_PAGE = 1_000_000
_FIRST, _LATEST = attrgetter("first_seen", "audio_id"), attrgetter("changed_at", "audio_id")


class Standing(StrEnum):
    """What has become of a track, as people ask for it; the values are what ``?state=`` says."""

    WORKING = "working"
    READY = "ready"
    FAILED = "failed"
    MISSING = "missing"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader asks for. Made by `asked`, which takes anything."""

    standing: Standing | None = None
    """Tracks of one standing, or all."""
    search: str = ""
    page: int = 1

    def href(self, **changes: object) -> str:
        """Return the address of the list with other values of ``state``, ``q`` or ``page``."""
        values = {"state": self.standing, "q": self.search, "page": self.page if self.page > 1 else None}
        kept = {key: str(value) for key, value in {**values, **changes}.items() if value}
        return f"/?{urlencode(kept, errors='replace')}#tracks" if kept else "/#tracks"


def asked(parameters: Mapping[str, str]) -> Query:
    """Read a query string; what it has wrong counts as not said."""
    state, page = parameters.get("state", ""), parameters.get("page", "")
    is_page = page.isascii() and page.isdigit() and len(page) <= len(str(_LARGEST_PAGE))
    return Query(
        Standing(state) if state in {*Standing} else None,
        " ".join(parameters.get("q", "")[:_LONGEST_SEARCH].split()),
        max(1, int(page)) if is_page else 1,
    )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All tracks by their standing: those under way as they came, the others with the latest change first."""

    tracks: Mapping[Standing, Sequence[TrackLine]]
    ended: Sequence[TrackLine]
    """What is ready, failed or missing, in the order of change."""
    labels: Mapping[str, str | None]
    """What the watchlist calls the tracks that it names."""
    headings: Mapping[str, str | None] = field(default_factory=dict)
    """What stands before the names of those that accounts have brought."""

    def name(self, line: TrackLine) -> str:
        """Return what people call a track."""
        if line.audio_id in self.labels:
            return self.labels[line.audio_id] or line.name or line.audio_id
        return headed(self.headings.get(line.audio_id), line.name or line.audio_id)

    def standing(self, line: TrackLine) -> Standing:
        """Return what has become of a track."""
        is_watched = line.audio_id in self.labels or line.audio_id in self.headings
        return outcome(line) if is_watched else Standing.REMOVED

    def count(self, standing: Standing | None = None) -> int:
        """Return how many tracks have a standing; None: how many there are."""
        if standing is None:
            return sum(map(len, self.tracks.values()))
        return len(self.tracks[standing])


def arrange(
    lines: Iterable[TrackLine],
    labels: Mapping[str, str | None],
    headings: Mapping[str, str | None] = MappingProxyType({}),
) -> Catalogue:
    """Sort what the state file knows and what the watchlist names. Takes a while with thousands."""
    unread = dict.fromkeys([*labels, *headings])
    sorted_in: dict[Standing, list[TrackLine]] = {standing: [] for standing in Standing}
    for line in lines:
        is_watched = line.audio_id in labels or line.audio_id in headings
        unread.pop(line.audio_id, None)
        sorted_in[outcome(line) if is_watched else Standing.REMOVED].append(line)
    sorted_in[Standing.WORKING].sort(key=_FIRST)
    sorted_in[Standing.WORKING] += (TrackLine(audio_id, None, Status.UNKNOWN, False) for audio_id in unread)
    for standing in (Standing.READY, Standing.FAILED, Standing.MISSING, Standing.REMOVED):
        sorted_in[standing].sort(key=_LATEST, reverse=True)
    ended = [*chain(sorted_in[Standing.READY], sorted_in[Standing.FAILED], sorted_in[Standing.MISSING])]
    ended.sort(key=_LATEST, reverse=True)
    return Catalogue(sorted_in, ended, labels, headings)


def outcome(line: TrackLine) -> Standing:
    """Return what has become of a track, whether the watchlist names it or not."""
    if not line.is_final:
        return Standing.WORKING
    match line.status:
        case Status.COMPLETED:
            return Standing.READY
        case Status.MISSING:
            return Standing.MISSING
        case _:
            return Standing.FAILED


@dataclass(frozen=True, slots=True)
class Selection:
    """The tracks of one page, and where that stands among the others."""

    query: Query
    """What was asked for, on a page that exists."""
    lines: Sequence[TrackLine]
    matching: int
    page_count: int

    @property
    def first(self) -> int:
        """The place of the page's first track, counted from 1; 0 when there is none."""
        return (self.query.page - 1) * PER_PAGE + 1 if self.lines else 0


def select(catalogue: Catalogue, query: Query) -> Selection:
    """Return the page that a reader asks for, or the last one when there are not so many."""
    of_all = (catalogue.tracks[Standing.WORKING], catalogue.ended, catalogue.tracks[Standing.REMOVED])
    lines = [*chain(*of_all)] if query.standing is None else catalogue.tracks[query.standing]
    if sought := query.search.casefold():
        lines = [line for line in lines if _is_match(sought, catalogue.name(line), line.audio_id)]
    page_count = max(1, -(-len(lines) // PER_PAGE))
    page = min(query.page, page_count)
    start = (page - 1) * PER_PAGE
    found = Query(query.standing, query.search, page)
    return Selection(found, lines[start : start + PER_PAGE], len(lines), page_count)


def _is_match(sought: str, name: str, audio_id: str) -> bool:
    return sought in audio_id.casefold() or sought in " ".join(name.casefold().split())
