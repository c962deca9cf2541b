"""What can come from outside at its worst, for hypothesis to draw from."""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from notifier.event import Alert, Event, EventType, Problem, TrackNews, alert_event, track_event
from notifier.track import parse

NASTY = (
    "<!channel>",
    "<!everyone> <!here>",
    "<@U123ABC> <@&1234567890> <#C1>",
    "<https://evil.example|Listen>",
    "[Listen](https://evil.example)",
    "https://evil.example/a b",
    "@everyone @here",
    "&",
    "&amp;&lt;&gt;",
    "&" * 3000,
    "<" * 500,
    "|",
    "```\ncode\n```",
    "**bold** __under__ ~~gone~~ ||spoiler||",
    "# heading\n-# small\n- item\n1. one\n> quote\n>>> all",
    ":smile: <t:1:R> </command:1>",
    "\\",
    "\\" * 400,
    '"',
    "{{ 7 * 7 }} {% raw %} %s {0}",
    "line\n" * 400,
    "\n" * 5000,
    "\t\r\n\v\f\x85\u2028\u2029",
    "\x00\x1b[31m\x7f",
    "\u202egnp.exe\u202c\u2066\u2069",
    "\u200b" * 300,
    "\u200d",
    "\ufeff\u2060\u00ad",
    "\ud800",
    "\ud83d \ude00",
    "e" + "\u0301" * 300,
    "👩‍👩‍👧‍👦" * 40,
    "ﷺ" * 700,
    "x" * 10_000,
    "word " * 2_000,
    "مرحبا",
    " ",
    "",
)
"""Fragments that have broken messages, each for a reason of its own."""


def _fragment(index: int) -> str:
    return NASTY[index]


fragments = st.integers(0, len(NASTY) - 1).map(_fragment)
texts = st.one_of(
    fragments,
    st.text(alphabet=st.characters(), max_size=40),
    st.lists(st.one_of(fragments, st.text(max_size=20)), max_size=5).map("".join),
)
"""Text with anything in it, lone surrogates too."""

numbers = st.one_of(
    st.integers(-5, 10**6),
    st.floats(),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 1e308, -0.0, 1e-320]),
)

scalars = st.one_of(st.none(), st.booleans(), numbers, texts)

values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
"""Anything that decoded JSON can be, and what Python reads beyond JSON."""

URLS = (
    "https://media.pixverse.ai/pixverse/audio/music/11223344.mp3",
    "https://media.pixverse.ai/a.mp3?x=1&y=2|Free money",
    "https://media.pixverse.ai/a>b<c\"d'e`f\\g^h{i}",
    "https://media.pixverse.ai/" + "&" * 1900,
    "https://media.pixverse.ai/" + "ü" * 900,
    "https://media.pixverse.ai/" + "a" * 5000,
    "https://media.pixverse.ai@evil.example/",
    "https://media.pixverse.ai\\@evil.example/",
    "https://media.pixverse.ai:99999/",
    "https://[::1]/a",
    "http://[",
    "javascript:alert(1)",
    "ftp://media.pixverse.ai/a",
    "//media.pixverse.ai/a",
    "https://",
    "https://a b.example/",
    "https://mеdia.pixverse.ai/",
)


def _url(index: int) -> str:
    return URLS[index]


urls = st.one_of(st.integers(0, len(URLS) - 1).map(_url), texts)

_FIELDS = (
    "audio_id",
    "name",
    "model",
    "provider",
    "fail_code",
    "fail_reason",
    "error",
    "created_at",
    "updated_at",
    "extra",
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """A decoded answer that holds a status, and anything else."""
    fields: dict[str, Any] = {
        field: draw(st.one_of(scalars, texts)) for field in _FIELDS if draw(st.booleans())
    }
    return {
        **fields,
        "prompt": draw(texts),
        "url": draw(urls),
        "duration": draw(st.one_of(numbers, scalars)),
        "credits": draw(st.one_of(numbers, scalars)),
        "audio_status": draw(st.one_of(st.sampled_from([1, 5, 8, 10]), scalars)),
        "audio_status_name": draw(
            st.one_of(st.sampled_from(["COMPLETED", "FAILED", "QUEUED", "GENERATING"]), scalars)
        ),
        "audio_status_final": draw(st.booleans()),
    }


moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
"""Moments as the state file keeps them, in whole milliseconds."""


@st.composite
def news(draw: st.DrawFn) -> Event:
    """An event of a track that everything in it lies about."""
    event_type = draw(st.sampled_from([kind for kind in EventType if kind is not EventType.ALERT]))
    track = parse(draw(answers()))
    about = TrackNews(
        audio_id=draw(texts),
        name=draw(texts),
        status=draw(st.one_of(st.just(track.status), texts)),
        previous_status=draw(st.one_of(st.none(), texts)),
        track=draw(st.one_of(st.none(), st.just(track))),
    )
    return track_event(event_type, about, draw(moments))


@st.composite
def alerts(draw: st.DrawFn) -> Event:
    """An alert about something with an ugly name."""
    alert = Alert(draw(st.sampled_from(Problem)), draw(texts), draw(texts), is_resolved=draw(st.booleans()))
    return alert_event(alert, draw(moments))


events = st.one_of(news(), alerts())


def misleading(text: str) -> set[str]:
    """Return the characters of a text that show something else than they are, or nothing at all."""
    invisible = {"\u200b", "\u2060", "\ufeff", "\u00ad", "\u2028", "\u2029"}
    kept = {"\n", "\t", "\u200c", "\u200d"}
    return {
        character
        for character in text
        if (character in invisible or unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs"})
        and character not in kept
    }


NOW = datetime(2026, 6, 23, 12, 38, 20, 123000, tzinfo=UTC)
"""When the events of plain examples were detected."""

MINUTE = timedelta(minutes=1)
