"""The client of useapi.net's PixVerse music API: a track, or what kept us from reading it.

Source: https://useapi.net/docs/api-pixverse-v2/get-pixverse-music-audio_id. Some statuses (402, 403, 408,
410, 412, 422, 429, 596) are seen on the vendor's other endpoints and handled without being relied on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from yarl import URL

from notifier.answer import Answer, Unreachable, answered_at, retry_after, told_wait, until_rfc3339
from notifier.clock import Clock
from notifier.config import Useapi
from notifier.secret import Masker, token_parts
from notifier.text import one_line, shorten
from notifier.track import NotATrackError, Track, parse, read_json
from notifier.wire import Wire

LARGEST_ANSWER = 512 * 1024
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


Reading = Track | NotFound | Unreadable | Refused


class UseApi:
    """Reads tracks with one account's token."""

    def __init__(self, settings: Useapi, clock: Clock) -> None:
        self._base_url = settings.base_url
        self._masker = Masker(token_parts(settings.token.reveal()))
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
        answer = await self._wire.send("GET", url)
        if isinstance(answer, Unreachable):
            return Refused(Trouble.UNAVAILABLE, answer.reason, is_asked=answer.is_asked)
        if answer.broken_off is not None:  # NB: half an answer may read as a whole one
            return Refused(Trouble.UNAVAILABLE, answer.broken_off)
        now = self._clock.now()
        offset = answered_at(answer.headers, now) - now
        self.is_dated = "Date" in answer.headers
        self.clock_offset = offset if _TICK < abs(offset) < _NONSENSE else timedelta(0)
        # NB: before anybody quotes or cuts it; the token alone, since other secrets are nothing to the API
        reading = classify(answer.masked(self._masker.mask), now=now)
        if isinstance(reading, Track):
            return reading
        return replace(reading, reason=self._masker.mask(reading.reason))


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
