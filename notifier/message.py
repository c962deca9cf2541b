"""What a chat message says about an event: the words, for every chat service alike.

The texts are cleaned but not escaped, and not yet cut to a service's limits: both are the target's to do.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import quote, urlsplit

from notifier.event import Alert, Event, EventType, TrackNews
from notifier.text import clean, minutes, one_line, shorten
from notifier.track import Status, Track

_LONGEST_URL = 2000
_LONGEST_NAME = 80
_LONGEST_STATUS = 30
_LONGEST_FACT = 60
_LONGEST_READ = 8000
_MOST_LINES = 20
_BLANK_LINES = re.compile(r"\n\s*\n")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_URL_MARKS = "%/:?#[]@!$&'()*+,;=~"


class Tone(StrEnum):
    """How a message feels; a service gives each its colour."""

    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"


_EMOJI = {Tone.GOOD: "✅", Tone.BAD: "❌", Tone.WARNING: "⚠️"}


@dataclass(frozen=True, slots=True)
class Message:
    """One event in words. `facts` are pairs of a label of ours and a short value from outside."""

    tone: Tone
    headline: str
    at: datetime
    url: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    prompt: str | None = None
    detail: str | None = None
    note: str | None = None
    audio_id: str | None = None

    @property
    def emoji(self) -> str:
        """The one emoji of the message."""
        return _EMOJI[self.tone]

    @property
    def summary(self) -> str:
        """One line for a phone's notification."""
        facts = ", ".join(value for label, value in self.facts if label in {"Length", "Model"})
        line = f"{self.emoji} {self.headline} ({facts})" if facts else f"{self.emoji} {self.headline}"
        return f"{line}: {one_line(self.detail)}" if self.detail else line


def compose(event: Event) -> Message:
    """Put an event into words."""
    match event.about:
        case Alert() as alert:
            return _alert(alert, event.detected_at)
        case TrackNews() as news:
            return _news(event.type, news, event.detected_at)


def _alert(alert: Alert, at: datetime) -> Message:
    summary = one_line(alert.summary)
    if alert.is_resolved:
        return Message(Tone.GOOD, "pixverse-notifier: a problem is over", at, detail=summary)
    return Message(Tone.WARNING, "pixverse-notifier needs attention", at, detail=summary)


def _news(event_type: EventType, news: TrackNews, at: datetime) -> Message:
    name = _line(news.name, _LONGEST_NAME) or _line(news.audio_id, _LONGEST_NAME)
    audio_id = one_line(news.audio_id)
    status = _line(news.status, _LONGEST_STATUS)
    match event_type:
        case EventType.TEST:
            kind = EventType.COMPLETED if news.status == Status.COMPLETED else EventType.FAILED
            message = _news(kind, news, at)
            return replace(
                message, headline=f"Test: {message.headline}", note="Only a test: no track has changed."
            )
        case EventType.COMPLETED:
            return Message(
                Tone.GOOD,
                f"{name} is ready",
                at,
                url=_web_url(news.track),
                facts=_facts(news.track),
                prompt=_text(news.track, "prompt"),
                audio_id=audio_id,
            )
        case EventType.MISSING:
            return Message(
                Tone.BAD,
                f"{name} is missing",
                at,
                facts=_facts(news.track),
                prompt=_text(news.track, "prompt"),
                note="useapi.net does not know this track: it was deleted, has expired or never existed. "
                "It is not asked for any more.",
                audio_id=audio_id,
            )
        case EventType.STALLED:
            since = _elapsed(news.track, at)
            return Message(
                Tone.WARNING,
                f"{name} is still {status}" + (f" after {since}" if since else ""),
                at,
                facts=_facts(news.track),
                prompt=_text(news.track, "prompt"),
                note="It takes longer than usual; it is still watched.",
                audio_id=audio_id,
            )
        case _:
            ended = "failed" if news.status == Status.FAILED else f"ended as {status}"
            return _failure(f"{name} {ended}", news, at)


def _failure(headline: str, news: TrackNews, at: datetime) -> Message:
    code = _short(news.track, "fail_code")
    return Message(
        Tone.BAD,
        headline,
        at,
        facts=(*((("Code", code),) if code else ()), *_facts(news.track)),
        prompt=_text(news.track, "prompt"),
        detail=_text(news.track, "fail_reason") or _text(news.track, "error"),
        note="Submitting the same request again often works.",
        audio_id=one_line(news.audio_id),
    )


def _facts(track: Track | None) -> tuple[tuple[str, str], ...]:
    if track is None:
        return ()
    length, credits_spent = track.number("duration"), track.number("credits")
    took = _took(track)
    facts = (
        ("Length", minutes(length) if length is not None else None),
        ("Model", _short(track, "model")),
        ("Credits", f"{credits_spent:.15g}" if credits_spent is not None else None),
        ("Took", minutes(took.total_seconds()) if took is not None else None),
    )
    return tuple((label, shorten(value, _LONGEST_FACT)) for label, value in facts if value)


def _took(track: Track) -> timedelta | None:
    if not track.is_final or track.created_at is None or track.updated_at is None:
        return None
    took = track.updated_at - track.created_at
    return took if took > timedelta(0) else None


def _elapsed(track: Track | None, at: datetime) -> str | None:
    if track is None or track.created_at is None or at <= track.created_at:
        return None
    return minutes((at - track.created_at).total_seconds())


def _line(text: str, limit: int) -> str:
    return shorten(one_line(text[:_LONGEST_READ]), limit)


def _short(track: Track | None, field: str) -> str | None:
    text = track.text(field) if track is not None else None
    return _line(text, _LONGEST_FACT) if text else None


def _text(track: Track | None, field: str) -> str | None:
    """Return a field's text, with so few lines that it leaves room for the messages around it."""
    text = track.text(field) if track is not None else None
    if not text:
        return None
    lines = _BLANK_LINES.sub("\n\n", clean(text[:_LONGEST_READ])).strip().split("\n")
    kept = lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]
    return "\n".join(kept) or None


def _web_url(track: Track | None) -> str | None:
    """Return the audio's link when it is one that a browser may be sent to.

    What RFC 3986 does not allow in a URL is percent-encoded; a URL that people and browsers could read as
    another host's is no link.
    """
    url = track.text("url") if track is not None else None
    if not url or len(url) > _LONGEST_URL or any(c.isspace() or not c.isprintable() for c in url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    is_plain = parts.username is None and _HOST.fullmatch(parts.hostname or "") is not None
    safe = quote(url, safe=_URL_MARKS)
    return safe if parts.scheme in {"http", "https"} and is_plain and len(safe) <= _LONGEST_URL else None
