"""What a chat message says about an event: the words, for every chat service alike.

The texts are cleaned but not escaped, and not yet cut to a service's limits: both are the target's to do.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from notifier.event import Alert, Event, EventType, TrackNews
from notifier.text import clean, minutes, one_line
from notifier.track import Status, Track

_LONGEST_URL = 2000


class Tone(StrEnum):
    """How a message feels; a service gives each its colour."""

    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"


_EMOJI = {Tone.GOOD: "✅", Tone.BAD: "❌", Tone.WARNING: "⚠️"}


@dataclass(frozen=True, slots=True)
class Message:
    """One event in words. `facts` are pairs of a label of ours and a value from outside."""

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
        return f"{self.emoji} {self.headline} ({facts})" if facts else f"{self.emoji} {self.headline}"


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
    name = one_line(news.name) or one_line(news.audio_id)
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
                audio_id=news.audio_id,
            )
        case EventType.MISSING:
            return Message(
                Tone.BAD,
                f"{name} is missing",
                at,
                note="useapi.net does not know this track: it was deleted, has expired or never existed. "
                "It is not asked for any more.",
                audio_id=news.audio_id,
            )
        case EventType.STALLED:
            since = _elapsed(news.track, at)
            return Message(
                Tone.WARNING,
                f"{name} is still {one_line(news.status)}" + (f" after {since}" if since else ""),
                at,
                facts=tuple(fact for fact in _facts(news.track) if fact[0] != "Took"),
                prompt=_text(news.track, "prompt"),
                note="It takes longer than usual; it is still watched.",
                audio_id=news.audio_id,
            )
        case _:
            return _failure(name, news, at)


def _failure(name: str, news: TrackNews, at: datetime) -> Message:
    ended = "failed" if news.status == Status.FAILED else f"ended as {one_line(news.status)}"
    code = _text(news.track, "fail_code")
    return Message(
        Tone.BAD,
        f"{name} {ended}",
        at,
        facts=(*((("Code", one_line(code)),) if code else ()), *_facts(news.track)),
        prompt=_text(news.track, "prompt"),
        detail=_text(news.track, "fail_reason") or _text(news.track, "error"),
        note="Submitting the same request again often works.",
        audio_id=news.audio_id,
    )


def _facts(track: Track | None) -> tuple[tuple[str, str], ...]:
    if track is None:
        return ()
    length, credits_spent = track.number("duration"), track.number("credits")
    model = track.text("model")
    took = _took(track)
    facts = (
        ("Length", minutes(length) if length is not None else None),
        ("Model", one_line(model) if model else None),
        ("Credits", f"{credits_spent:g}" if credits_spent is not None else None),
        ("Took", minutes(took.total_seconds()) if took is not None else None),
    )
    return tuple((label, value) for label, value in facts if value)


def _took(track: Track) -> timedelta | None:
    if not track.is_final or track.created_at is None or track.updated_at is None:
        return None
    took = track.updated_at - track.created_at
    return took if took > timedelta(0) else None


def _elapsed(track: Track | None, at: datetime) -> str | None:
    if track is None or track.created_at is None or at <= track.created_at:
        return None
    return minutes((at - track.created_at).total_seconds())


def _text(track: Track | None, field: str) -> str | None:
    text = track.text(field) if track is not None else None
    return (clean(text).strip() or None) if text else None


def _web_url(track: Track | None) -> str | None:
    """Return the audio's link when it is one that a browser may be sent to."""
    url = track.text("url") if track is not None else None
    if not url or len(url) > _LONGEST_URL or any(c.isspace() or not c.isprintable() for c in url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname else None
