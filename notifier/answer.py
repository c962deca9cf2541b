"""What the other side answered, and how long it asks to be left alone.

Reads ``Retry-After`` as whole seconds, decimals or an HTTP date (RFC 9110, 10.2.3), and an RFC 3339 moment as
useapi.net sends it. Nothing here trusts the other side: what cannot be read is no hint.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from notifier.clock import from_rfc3339
from notifier.delivery import LONGEST_HINT
from notifier.text import one_line, shorten

WITHOUT_HINT = timedelta(seconds=60)
WITHOUT_HINT_IN_HTML = timedelta(minutes=15)
_LONGEST_REASON = 300
_LARGEST = 1e15
"""More than any moment or wait that is kept apart from others; arithmetic is safe up to it."""
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: its body decoded and bounded, header names matched in any case."""

    status: int
    headers: Mapping[str, str]
    body: str
    location: str | None = None
    """Where it redirects to, as far as that may be shown; None before it was masked."""
    broken_off: str | None = None
    """Why the body broke off before its end, as a sentence for people; None when it did not."""

    @property
    def is_html(self) -> bool:
        """Whether it is declared or looks like a page for people, as a proxy in between sends them."""
        return "html" in self.headers.get("Content-Type", "").lower() or self.is_page

    @property
    def is_page(self) -> bool:
        """Whether it looks like such a page; Slack declares its one-word answers as HTML, too."""
        return self.body.lstrip("\ufeff \t\r\n")[:1] == "<"

    def json_object(self) -> dict[str, Any]:
        """Return the JSON object that the body holds, or an empty one."""
        try:
            members = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return members if isinstance(members, dict) else {}

    def masked(self, mask: Callable[[str], str]) -> "Answer":
        """Return the answer with all that may be quoted of it, its body and where it redirects to, masked."""
        body, location = mask(self.body), self.headers.get("Location")
        if body == self.body and location is None:
            return self
        return replace(self, body=body, location=mask(location or ""))

    def describe(self, said: str | None = None) -> str:
        """Return one short line for people: the status, and what the body or the redirect says."""
        said = one_line(self.body[:4096] if said is None else said)
        if 300 <= self.status < 400:
            said = f"redirects to {self._redirect_host()}"
        elif self.is_page:
            said = "an HTML page"
        return shorten(f"HTTP {self.status}: {said}" if said else f"HTTP {self.status}", _LONGEST_REASON)

    def _redirect_host(self) -> str:
        try:
            shown = self.headers.get("Location", "") if self.location is None else self.location
            location = urlsplit(one_line(shown))
        except ValueError:
            return "nowhere"
        if not location.hostname:
            return "another path"
        return f"{location.scheme}://{location.hostname}" if location.scheme else location.hostname


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer came, not even its status; the reason is a sentence for people."""

    reason: str
    is_asked: bool = field(default=True, compare=False)
    """Whether the other side may have had the request, or there was not even a connection."""


def seconds(value: object) -> timedelta | None:
    """Read a number of seconds, given as a number or as text, capped at a day; None when it is none."""
    number = _number(value)
    return None if number is None else timedelta(seconds=min(number, LONGEST_HINT.total_seconds()))


def milliseconds(value: object) -> timedelta | None:
    """Read a number of milliseconds, as `seconds` does."""
    number = _number(value)
    return None if number is None else seconds(number / 1000)


def until_epoch(value: object, now: datetime) -> timedelta | None:
    """Read a moment in seconds since 1970, given as a number or as text, as the wait until then."""
    number = _number(value)
    return None if number is None else seconds(max(0.0, number - now.timestamp()))


def _number(value: object) -> float | None:
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return min(value, _LARGEST) if value >= 0 else None  # NB: NaN is not


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Read the ``Retry-After`` header; a date in the past is a wait of 0."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    value = value.strip()
    if value[:1].isdigit():
        return seconds(value)
    moment = _http_date(value)
    return None if moment is None else _until(moment, answered_at(headers, now))


def answered_at(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return when an answer was made by the other side's own clock, which is what its moments go by.

    That is the ``Date`` header (RFC 9110, 6.6.1), and our `now` where it is missing or no date.
    """
    return _http_date(headers.get("Date", "")) or now


@lru_cache(maxsize=64)
def _http_date(value: str) -> datetime | None:
    """Read an HTTP date; many answers come in the same second."""
    try:
        moment = parsedate_to_datetime(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def until_rfc3339(value: object, now: datetime) -> timedelta | None:
    """Read an RFC 3339 moment as the wait until then."""
    if not isinstance(value, str):
        return None
    try:
        return _until(from_rfc3339(value), now)
    except (ValueError, OverflowError):
        return None


def _until(moment: datetime, now: datetime) -> timedelta:
    return min(max(moment - now, timedelta(0)), LONGEST_HINT)


def told_wait(answer: Answer, now: datetime, *further: timedelta | None) -> timedelta:
    """Return how long a 429 asks to wait: the longest of its hints, or a careful guess without any."""
    told = [wait for wait in (retry_after(answer.headers, now), *further) if wait is not None]
    if told:
        return max(told)
    return WITHOUT_HINT_IN_HTML if answer.is_html else WITHOUT_HINT
