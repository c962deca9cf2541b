"""The client of useapi.net's PixVerse music API: a track, a page of many, or what kept us from reading it.

Source: https://useapi.net/docs/api-pixverse-v2/get-pixverse-music-audio_id. Some statuses (402, 403, 408,
410, 412, 422, 429, 596) are seen on the vendor's other endpoints and handled without being relied on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from yarl import URL

from notifier.answer import Answer, Unreachable, answered_at, retry_after, told_wait, until_rfc3339
from notifier.clock import Clock
from notifier.config import Callback, Useapi
from notifier.secret import Masker, path_parts, token_parts
from notifier.text import one_line, shorten
from notifier.track import NotATrackError, Track, parse, read_json
from notifier.wire import Wire

LARGEST_ANSWER = 512 * 1024
LARGEST_PAGE = 2 * 1024 * 1024
"""Room for 40 KiB a track; reading as much as this holds the loop up for less than 50 ms."""
PAGE_SIZE = 50
"""How many tracks a page is asked for; it is what the vendor gives unasked, too."""
_MOST_LISTED = 1000
_LONGEST_SAID = 200
_TICK = timedelta(seconds=1)
"""The finest difference that HTTP dates can show."""
_NONSENSE = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class NotFound:
    """The API does not know the track; `is_gone` when it says that this will not change."""

    reason: str
    is_gone: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """This track cannot be read, others can; `is_permanent` when waiting will hardly mend it."""

    reason: str
    is_permanent: bool


class Trouble(StrEnum):
    """What keeps every track, or every track of an account, from being read."""

    TOKEN = "token"  # noqa: S105 - a kind of trouble
    THROTTLED = "throttled"
    ACCOUNT = "account"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Refused:
    """The API is not to be asked again for now."""

    trouble: Trouble
    reason: str
    after: timedelta | None = None
    is_asked: bool = True
    """Whether the API may have had the request; else it cannot be about one track only."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A track as an account's list shows it."""

    audio_id: str
    position: int
    """How many entries stand before it in the list, which has the newest first."""
    track: Track


@dataclass(frozen=True, slots=True)
class Page:
    """A part of an account's list; holds music and speech alike, and no entry that is no track."""

    offset: int
    entries: tuple[Listed, ...]
    next_offset: int | None
    """Where the list goes on; None at its end."""


@dataclass(frozen=True, slots=True)
class Unlistable:
    """This account's list is of no use, its tracks may well be."""

    reason: str
    is_permanent: bool = False
    """Whether waiting will hardly mend it."""


Reading = Track | NotFound | Unreadable | Refused
PageReading = Page | Refused | Unlistable


class UseApi:
    """Reads tracks with one account's token; nothing that it returns holds that or the path of callbacks."""

    def __init__(self, settings: Useapi, clock: Clock, *, callback: Callback | None = None) -> None:
        self._base_url = settings.base_url
        self._masker = Masker(_known_to_it(settings, callback))
        self._clock = clock
        self.clock_offset = timedelta(0)
        """By how much the API's clock was ahead of ours at its last answer; a second is none."""
        self.is_dated = False
        """Whether its last answer said when it was made."""
        self._wire = Wire(
            timeout=settings.timeout,
            connections=settings.concurrency,
            largest_answer=LARGEST_ANSWER,
            headers={
                "Authorization": f"Bearer {settings.token.reveal()}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def retire(self) -> None:
        """Let the reads under way finish, and close all connections with the last; none may begin."""
        await self._wire.retire()

    def url_of(self, audio_id: str) -> URL:
        """Return a track's address: the audio_id is one segment of the path, whatever it holds."""
        return URL(f"{self._base_url}/music/{quote(audio_id, safe=':@')}", encoded=True)

    async def read(self, url: URL) -> Reading:
        """Read the track at an address that `url_of` made. Never raises for what the API or the net do."""
        answer = await self._ask(url, LARGEST_ANSWER)
        if isinstance(answer, Refused):
            return answer
        reading = classify(answer, now=self._clock.now())
        if isinstance(reading, Track):
            return reading
        return replace(reading, reason=self._masker.mask(reading.reason))

    async def read_page(self, account: str, offset: int = 0) -> PageReading:
        """Read the page of an account's list that begins after `offset` entries. Never raises, as `read`."""
        query = f"email={quote(account, safe='@')}&limit={PAGE_SIZE}&offset={offset}"
        answer = await self._ask(URL(f"{self._base_url}/music/?{query}", encoded=True), LARGEST_PAGE)
        if isinstance(answer, Refused):
            return answer
        reading = classify_page(answer, offset, now=self._clock.now())
        if isinstance(reading, Page):
            return reading
        return replace(reading, reason=self._masker.mask(reading.reason))

    async def _ask(self, url: URL, largest: int) -> Answer | Refused:
        """Return an answer without the secrets that the API knows, and note what time it was made at."""
        answer = await self._wire.send("GET", url, largest_answer=largest)
        if isinstance(answer, Unreachable):
            return Refused(Trouble.UNAVAILABLE, answer.reason, is_asked=answer.is_asked)
        if answer.broken_off is not None:  # NB: half an answer may read as a whole one
            return Refused(Trouble.UNAVAILABLE, answer.broken_off)
        now = self._clock.now()
        offset = answered_at(answer.headers, now) - now
        self.is_dated = "Date" in answer.headers
        self.clock_offset = offset if _TICK < abs(offset) < _NONSENSE else timedelta(0)
        # NB: before anybody quotes, cuts or keeps it
        return answer.masked(self._masker.mask)


def _known_to_it(settings: Useapi, callback: Callback | None) -> Iterator[str]:
    """Yield the secrets that the API knows: the token, and where it calls, which a track may quote."""
    yield from token_parts(settings.token.reveal())
    if callback is not None:
        yield from path_parts(callback.path.reveal())


def account_of(audio_id: str) -> str:
    """Return the PixVerse account of a track: the e-mail address in its audio_id."""
    return audio_id.partition("-pixverse:")[2].rpartition("-music:")[0]


def classify(answer: Answer, *, now: datetime) -> Reading:
    """Say what an answer means, after the vendor's table; what is not in it is judged by its class."""
    if answer.status == 200:
        return _track(answer)
    fields = answer.json_object()
    reason = answer.describe(_error_text(fields) or None)
    match answer.status:
        case 404 | 410 if answer.is_page:  # NB: a proxy's own; what it does not know may well be there
            return Refused(Trouble.UNAVAILABLE, reason)
        case 404 | 410 as status:
            return NotFound(reason, is_gone=status == 410)
        case 401 | 402:
            return Refused(Trouble.TOKEN, reason)
        case 429:
            until = until_rfc3339(fields.get("retryAfter"), answered_at(answer.headers, now))
            told = told_wait(answer, now, until)
            return Refused(Trouble.THROTTLED, reason, told)
        case 596:
            return Refused(Trouble.ACCOUNT, reason)
        case 412 | 422:
            return Unreadable(reason, is_permanent=False)
        case status if 400 <= status < 500 and status != 408:
            return Unreadable(reason, is_permanent=True)
        case _:
            return Refused(Trouble.UNAVAILABLE, reason, retry_after(answer.headers, now))


def classify_page(answer: Answer, offset: int, *, now: datetime) -> PageReading:
    """Say what an answer to a read of a list means: what closes a gate for tracks closes it for lists.

    Whatever else is wrong concerns the list alone. Nothing in it says that a track is missing.
    """
    if answer.status == 200:
        return _page(answer, offset)
    match classify(answer, now=now):
        case Refused(trouble) as refused if trouble is not Trouble.UNAVAILABLE or answer.status >= 500:
            return refused
        case Track():
            raise AssertionError("only an answer with 200 is a track")
        case Unreadable(reason, is_permanent):
            return Unlistable(reason, is_permanent)
        case reading:
            return Unlistable(reading.reason, is_permanent=isinstance(reading, NotFound))


def _page(answer: Answer, offset: int) -> Page | Unlistable:
    try:
        decoded = read_json(answer.body)
    except RecursionError:
        return Unlistable("HTTP 200: the list is nested too deeply")
    except ValueError:
        if len(answer.body.encode(errors="replace")) > LARGEST_PAGE:
            return Unlistable(f"HTTP 200: the list is larger than {LARGEST_PAGE // 1024**2} MiB")
        return Unlistable("HTTP 200: no JSON instead of a list")
    data = decoded.get("data") if isinstance(decoded, dict) else None
    if not isinstance(data, list):
        return Unlistable("HTTP 200: the answer holds no list")
    try:
        next_offset = _next_offset(decoded, offset, len(data))
    except ValueError as error:
        return Unlistable(f"HTTP 200: {error}")
    return Page(offset, tuple(_listed(data, offset)), next_offset)


def _next_offset(fields: Mapping[str, Any], offset: int, count: int) -> int | None:
    """Return where the list goes on. Raises ValueError where following it might never end."""
    has_more, following = fields.get("has_more"), fields.get("next_offset")
    if has_more is False or (has_more is not True and (count == 0 or type(following) is not int)):
        return None
    if count == 0:
        raise ValueError("the list goes on without an entry")
    if type(following) is not int:
        return offset + count
    if following <= offset:
        raise ValueError("the list goes on where it was")
    return min(following, offset + count)


def _listed(data: Sequence[Any], offset: int) -> Iterator[Listed]:
    """Yield the tracks among the entries, each once; others count as entries and are none."""
    seen: set[str] = set()
    for position, entry in enumerate(data[:_MOST_LISTED], start=offset):
        audio_id = entry.get("audio_id") if isinstance(entry, dict) else None
        if not isinstance(audio_id, str) or audio_id in seen:
            continue
        try:
            track = parse(entry)
        except NotATrackError:
            continue
        seen.add(audio_id)
        yield Listed(audio_id, position, track)


def _track(answer: Answer) -> Reading:
    """Read the track; an answer that only this track can be the cause of concerns no other one."""
    try:
        decoded = read_json(answer.body)
    except RecursionError:
        return Unreadable("HTTP 200: the answer is nested too deeply", is_permanent=False)
    except ValueError:
        if len(answer.body.encode(errors="replace")) > LARGEST_ANSWER:
            limit = f"{LARGEST_ANSWER // 1024} KiB"
            return Unreadable(f"HTTP 200: the answer is larger than {limit}", is_permanent=False)
        what = "an empty body" if not answer.body.strip() else "an HTML page" if answer.is_html else "no JSON"
        return Refused(Trouble.UNAVAILABLE, f"HTTP 200: {what} instead of a track")
    try:
        return parse(decoded)
    except NotATrackError as error:
        said = shorten(_error_text(decoded), _LONGEST_SAID) if isinstance(decoded, dict) else ""
        return Unreadable(f"HTTP 200: {error}{f' ({said})' if said else ''}", is_permanent=False)


def _error_text(fields: Mapping[str, Any]) -> str:
    """Return the error's text, which is a string or an object with a message."""
    match fields.get("error"):
        case str(text):
            return one_line(text)
        case {"message": str(text)}:
            return one_line(text)
        case _:
            return ""
