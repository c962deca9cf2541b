"""What a chat message says about an event: the words, for every chat service alike.

The texts are cleaned but not escaped, and not yet cut to a service's limits: both are the target's to do.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import quote, urlsplit

from notifier.duration import spell
from notifier.event import Alert, Event, EventType, TrackNews
from notifier.text import clean, minutes, one_line, shorten
from notifier.track import Status, Track

_LONGEST_URL = 2000
_LONGEST_NAME = 80
_LONGEST_STATUS = 30
_LONGEST_FACT = 60
_LONGEST_ADDRESS = 200
_LONGEST_REASON = 120
_LONGEST_READ = 8000
_MOST_LINES = 20
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Before this no track can have ended, and some services refuse the moment."""
_BLANK_LINES = re.compile(r"\n\s*\n")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_URL_MARKS = "%/:?#[]@!$&'()*+,;=~"


class Tone(StrEnum):
    """How a message feels; a service gives each its colour."""

    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"


_UNKNOWN = (
    "useapi.net does not know this track: it was deleted, has expired or never existed. "
    "It is not asked for any more."
)
_SLOW = "It takes longer than usual; it is still watched."
_TRY_AGAIN = "Submitting the same request again often works."
_EMOJI = {Tone.GOOD: "✅", Tone.BAD: "❌", Tone.WARNING: "⚠️"}


@dataclass(frozen=True, slots=True)
class Message:
    """One event in words. `facts` are pairs of a label of ours and a short value from outside."""

    tone: Tone
    headline: str
    at: datetime
    """When it happened, as far as that is known."""
    outcome: str
    """What became of the track in a word or two, to be counted when many messages are summed up."""
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
    def title(self) -> str:
        """The headline as it stands above the message."""
        return f"{self.emoji} {self.headline}"

    @property
    def summary(self) -> str:
        """One line for a phone's notification."""
        facts = ", ".join(value for label, value in self.facts if label in {"Length", "Model"})
        line = f"{self.title} ({facts})" if facts else self.title
        return f"{line}: {one_line(self.detail)}" if self.detail else line

    @property
    def line(self) -> str:
        """The message as one short line among many."""
        length = dict(self.facts).get("Length")
        line = f"{self.title} ({length})" if length else self.title
        return f"{line}: {shorten(one_line(self.detail), _LONGEST_REASON)}" if self.detail else line

    @property
    def plain(self) -> tuple[str, ...]:
        """The message as lines without any layout, its link left out."""
        return tuple(line for line in (self.summary, self.note, self.audio_id) if line)


def compose(event: Event) -> Message:
    """Put an event into words."""
    match event.about:
        case Alert() as alert:
            return _alert(event, alert)
        case TrackNews() as news:
            return _news(event.type, news, event.detected_at)


def sum_up(messages: Sequence[Message]) -> Message:
    """Put the headlines of many messages into one that counts what became of them."""
    counts = Counter(message.outcome for message in messages)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    tones = {message.tone for message in messages}
    tone = tones.pop() if len(tones) == 1 else Tone.WARNING
    latest = max(message.at for message in messages)
    updates = "1 update" if len(messages) == 1 else f"{len(messages)} updates"
    return Message(tone, f"{updates}: {counted}", latest, "summed up")


def _alert(event: Event, alert: Alert) -> Message:
    tone, headline, outcome = Tone.WARNING, "pixverse-notifier needs attention", "needing attention"
    if alert.is_resolved:
        tone, headline, outcome = Tone.GOOD, "pixverse-notifier: a problem is over", "over"
    audio_id = one_line(event.audio_id) if event.audio_id else None
    return Message(
        tone, headline, event.detected_at, outcome, detail=one_line(alert.summary), audio_id=audio_id
    )


def _news(event_type: EventType, news: TrackNews, at: datetime) -> Message:
    name = _line(news.name, _LONGEST_NAME) or _line(news.audio_id, _LONGEST_NAME)
    status = _line(news.status, _LONGEST_STATUS)
    match event_type:
        case EventType.TEST:
            kind = EventType.COMPLETED if news.status == Status.COMPLETED else EventType.FAILED
            return _test(_news(kind, news, at))
        case EventType.COMPLETED:
            ended_at = _ended_at(news.track, at)
            message = _of_track(news, Tone.GOOD, f"{name} is ready", ended_at, "ready", note=None)
            return replace(message, url=_web_url(news.track))
        case EventType.MISSING:
            return _of_track(news, Tone.BAD, f"{name} is missing", at, "missing", note=_UNKNOWN)
        case EventType.STALLED:
            since = _elapsed(news.track, at)
            headline = f"{name} is still {status}" + (f" after {since}" if since else "")
            return _of_track(news, Tone.WARNING, headline, at, "taking long", note=_SLOW)
        case _:
            ended = "failed" if news.status == Status.FAILED else f"ended as {status}"
            return _failure(f"{name} {ended}", news, at)


def _test(message: Message) -> Message:
    return replace(
        message,
        headline=f"Test: {message.headline}",
        note="Only a test: no track has changed.",
        outcome="only a test",
    )


def _failure(headline: str, news: TrackNews, at: datetime) -> Message:
    message = _of_track(news, Tone.BAD, headline, _ended_at(news.track, at), "failed", note=_TRY_AGAIN)
    code = _short(news.track, "fail_code")
    return replace(
        message,
        facts=(*((("Code", code),) if code else ()), *message.facts),
        detail=_text(news.track, "fail_reason") or _text(news.track, "error"),
    )


def _of_track(
    news: TrackNews, tone: Tone, headline: str, at: datetime, outcome: str, *, note: str | None
) -> Message:
    """Return what all messages of a track have."""
    facts, prompt = _facts(news.track), _text(news.track, "prompt")
    audio_id = one_line(news.audio_id)
    return Message(tone, headline, at, outcome, facts=facts, prompt=prompt, note=note, audio_id=audio_id)


def _facts(track: Track | None) -> tuple[tuple[str, str], ...]:
    if track is None:
        return ()
    length, credits_spent = track.number("duration"), track.number("credits")
    facts = (
        ("Length", minutes(length) if length is not None else None),
        ("Model", _short(track, "model")),
        ("Credits", f"{credits_spent:.15g}" if credits_spent is not None else None),
        ("Took", minutes(track.took.total_seconds()) if track.took is not None else None),
    )
    shown = tuple((label, shorten(value, _LONGEST_FACT)) for label, value in facts if value)
    address = _address(track)
    return (*shown, ("Address", address)) if address else shown


def _ended_at(track: Track | None, detected_at: datetime) -> datetime:
    """Return when the track ended; a moment that cannot be right is when that was seen."""
    ended = track.updated_at if track is not None and track.took is not None else None
    return detected_at if ended is None or ended < _EARLIEST else min(ended, detected_at)


def _elapsed(track: Track | None, at: datetime) -> str | None:
    if track is None or track.created_at is None or at <= track.created_at:
        return None
    return spell(at - track.created_at)


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


def _address(track: Track) -> str | None:
    """Return an audio's address as text when it is none that people may be sent to with a click."""
    url = track.text("url")
    if not url or not track.is_final or _web_url(track) is not None:
        return None
    return _line(url, _LONGEST_ADDRESS)


def _web_url(track: Track | None) -> str | None:
    """Return the audio's link when it is one that a browser may be sent to.

    What RFC 3986 does not allow in a URL is percent-encoded; a URL that people and browsers could read as
    another host's is no link.
    """
    url = track.text("url") if track is not None else None
    if not url or len(url) > _LONGEST_URL or " " in url or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    is_plain = parts.username is None and _HOST.fullmatch(parts.hostname or "") is not None
    safe = quote(url, safe=_URL_MARKS)
    return safe if parts.scheme in {"http", "https"} and is_plain and len(safe) <= _LONGEST_URL else None
