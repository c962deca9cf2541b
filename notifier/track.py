"""A track as useapi.net returns it, read leniently: only its status matters enough to insist on.

Owns the meaning of the API's status fields. Knows nothing of HTTP, of events or of what was seen before.
Source: https://useapi.net/docs/api-pixverse-v2/get-pixverse-music-audio_id
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from notifier.clock import from_rfc3339
from notifier.text import one_line, shorten

_LONGEST_STATUS = 64
_LONGEST_READ = 1000
_LARGEST_STATUS = 10**9
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_LONG_NUMBER = re.compile(r"[0-9]{300}")
_MOST_DIGITS = 308
_LARGEST_EXPONENT = 1023
_DEEPEST = 60
_STATUS_FIELDS = ("audio_status_final", "audio_status_name", "audio_status")


class Status(StrEnum):
    """The states of a track that this program names itself; the API may send others."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    GENERATING = "GENERATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    MISSING = "MISSING"


_BY_NUMBER = {1: Status.COMPLETED, 5: Status.QUEUED, 8: Status.FAILED, 10: Status.GENERATING}
_KNOWN_NAMES = {status.value: status.value for status in _BY_NUMBER.values()}
"""NB: the same text for thousands of tracks, not one that came with each."""
_FINAL_NAMES = frozenset({Status.COMPLETED, Status.FAILED})


class NotATrackError(ValueError):
    """The API answered 200 with something in which no status can be found."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track at one moment. Every other field is optional, mistyped ones count as absent."""

    status: str
    is_final: bool
    fields: Mapping[str, Any]

    @property
    def is_completed(self) -> bool:
        """Whether the audio is ready."""
        return self.is_final and self.status == Status.COMPLETED

    @property
    def has_known_status(self) -> bool:
        """Whether the status is one of the four that the vendor documents."""
        return self.status in _KNOWN_NAMES

    @property
    def name(self) -> str | None:
        """The vendor's file name of the track."""
        return self.text("name")

    @property
    def created_at(self) -> datetime | None:
        """When the request was made."""
        return self._moment("created_at")

    @property
    def updated_at(self) -> datetime | None:
        """When the track last changed; for a final one, when it ended."""
        return self._moment("updated_at")

    @property
    def took(self) -> timedelta | None:
        """How long it took from the request to the end; None before that, and when it cannot be right."""
        if not self.is_final or self.created_at is None or self.updated_at is None:
            return None
        took = self.updated_at - self.created_at
        return took if took > timedelta(0) else None

    def text(self, field: str) -> str | None:
        """Return a field that holds text which is not blank, else None."""
        value = self.fields.get(field)
        return value if isinstance(value, str) and value.strip() else None

    def number(self, field: str) -> float | None:
        """Return a field that holds a finite number of at least 0, else None."""
        value = self.fields.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) and number >= 0 else None

    def _moment(self, field: str) -> datetime | None:
        text = self.text(field)
        try:
            return from_rfc3339(text) if text else None
        except ValueError:
            return None


def parse(answer: object) -> Track:
    """Read a decoded JSON answer as a track.

    Raises NotATrackError when it is not an object or holds none of the three status fields.
    """
    if not isinstance(answer, dict):
        raise NotATrackError(f"expected a track, got {_kind(answer)}")
    if all(answer.get(field) is None for field in _STATUS_FIELDS):
        raise NotATrackError("the answer holds no status")
    status, is_final = _read_status(answer)
    return Track(status, is_final, answer)


def _read_status(answer: Mapping[str, Any]) -> tuple[str, bool]:
    """Read name and finality: the final flag decides when present, else the name, else the number."""
    name, number = answer.get("audio_status_name"), answer.get("audio_status")
    by_number = _BY_NUMBER.get(number) if type(number) is int else None
    status = _spelt(name) if isinstance(name, str) and name.strip() else by_number or _unknown(number)
    match answer.get("audio_status_final"):
        case bool(is_final):
            return status, is_final
        case None if name is None:
            return status, by_number in _FINAL_NAMES
        case None:
            return status, isinstance(name, str) and status in _FINAL_NAMES
        case _:
            return status, False


def _unknown(number: object) -> str:
    is_usable = type(number) is int and abs(number) < _LARGEST_STATUS
    return f"{Status.UNKNOWN}({number})" if is_usable else Status.UNKNOWN


def _spelt(name: str) -> str:
    if (known := _KNOWN_NAMES.get(name)) is not None:
        return known
    plain = shorten(one_line(name[:_LONGEST_READ]), _LONGEST_STATUS)
    return _KNOWN_NAMES.get(plain.upper()) or plain or Status.UNKNOWN


def _kind(answer: object) -> str:
    match answer:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a number"


def read_json(text: str) -> Any:
    """Read JSON; a whole number with more digits than a double can hold is read as infinite, not refused.

    Raises ValueError when it is no JSON and RecursionError when it is nested too deeply for this interpreter.
    """
    if text.startswith("\ufeff"):
        raise ValueError("a byte order mark is no JSON")
    return _DECODER.decode(text)


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_int=_whole_number)


def compact_json(value: object) -> str:
    """Write JSON that every parser accepts: what it cannot hold becomes null, a lone surrogate U+FFFD.

    It cannot hold NaN, numbers beyond a double and, since common parsers stop at 64 levels, deeper nesting.
    """
    try:
        text = _ENCODER.encode(value)
    except (ValueError, TypeError, RecursionError):
        text = _ENCODER.encode(_writable(value, _DEEPEST))
    else:
        # NB: looking at all members takes far longer than writing them, and hardly ever finds anything.
        if text.count("{") + text.count("[") > _DEEPEST or _LONG_NUMBER.search(text):
            text = _ENCODER.encode(_writable(value, _DEEPEST))
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _writable(value: object, levels: int) -> object:
    match value:
        case float() if not math.isfinite(value):
            return None
        case int() if value.bit_length() > _LARGEST_EXPONENT:
            return None
        case dict() | list() | tuple() if levels == 0:
            return None
        case dict():
            return {str(key): _writable(member, levels - 1) for key, member in value.items()}
        case list() | tuple():
            return [_writable(member, levels - 1) for member in value]
        case _:
            return value
