"""Durations and rates as people write them in the watchlist: ``15s``, ``1h30m``, ``5/s``."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

SHORTEST = timedelta(milliseconds=50)
LONGEST = timedelta(days=3650)

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST_TEXT = 1000
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MOST_PER_SECOND = 100_000
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")

DURATION_FORM = r"^([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$"
RATE_FORM = r"^[0-9]+(\.[0-9]+)?/(s|m|h)$"


def parse_duration(text: str) -> timedelta:
    """Read ``250ms``, ``15s``, ``1h30m``, ``1.5h``, ``3d`` or a bare number of seconds.

    Raises ValueError with a sentence that does not repeat the text.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"is not a duration: it is longer than {_LONGEST_TEXT} characters")
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif _WHOLE.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError("is not a duration: write it like 250ms, 15s, 5m, 2h, 1h30m or 3d")
    if not seconds >= SHORTEST.total_seconds():
        raise ValueError("is too short: the shortest duration is 50ms")
    if not seconds <= LONGEST.total_seconds():
        raise ValueError("is too long: the longest duration is 3650d")
    return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Rate:
    """A ceiling, kept as the time from one request to the next and as it was written."""

    spacing: timedelta
    text: str


def parse_rate(text: str) -> Rate:
    """Read ``5/s``, ``30/m`` or ``100/h``.

    Raises ValueError with a sentence that does not repeat the text.
    """
    found = _RATE.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if not found:
        raise ValueError("is not a rate: write it like 5/s, 30/m or 100/h")
    per_second = float(found[1]) / _UNITS[found[2]]
    if not per_second > 0:
        raise ValueError("is not a rate: it must be above zero")
    if not per_second <= _MOST_PER_SECOND:
        raise ValueError(f"is too quick: the highest rate is {_MOST_PER_SECOND}/s")
    if not per_second * LONGEST.total_seconds() >= 1:
        raise ValueError("is too slow: that is less than one request in 3650d")
    return Rate(timedelta(seconds=1 / per_second), text)


def spell_compact(duration: timedelta) -> str:
    """Write a duration exactly as the watchlist takes it: ``1h30m``, ``200ms``."""
    milliseconds = round(duration.total_seconds() * 1000)
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def spell(duration: timedelta) -> str:
    """Write a duration for people, in its two largest units: ``45s``, ``1h 30m``, ``3d``."""
    seconds = max(0, round(duration.total_seconds()))
    if seconds == 0:
        return f"{max(0, round(duration.total_seconds() * 1000))}ms" if duration > timedelta(0) else "0s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def ago(moment: datetime | None, now: datetime) -> str:
    """Write how long ago something happened, in whole seconds and never less than none.

    The clock may have been set back.
    """
    if moment is None:
        return "—"
    return f"{spell(timedelta(seconds=round((now - moment).total_seconds()))).split()[0]} ago"


def until(moment: datetime, now: datetime) -> str:
    """Write in how long something will happen."""
    return "now" if moment <= now else f"in {spell(moment - now)}"
