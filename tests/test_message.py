from typing import Any

import pytest
from hypothesis import given

from notifier.event import Alert, Event, EventType, Problem, alert_event
from notifier.message import Message, Tone, compose
from tests.support import hostile
from tests.support.hostile import MINUTE, NOW
from tests.support.tracks import completed, failed, track
from tests.targets.given import EVENTS, alert, news

AUDIO_ID = "user:12345-pixverse:me@example.com-music:1"


def told(fields: dict[str, Any] | None, kind: EventType = EventType.COMPLETED, **about: Any) -> Message:
    return compose(news(kind, fields, **about))


def test_a_completed_track_has_everything_that_is_known_of_it() -> None:
    message = told(completed())

    assert message == Message(
        Tone.GOOD,
        "Intro theme is ready",
        NOW,
        url="https://media.pixverse.ai/pixverse/audio/music/1.mp3",
        facts=(("Length", "3:22"), ("Model", "music-2.6"), ("Credits", "40"), ("Took", "3:22")),
        prompt="warm pads",
        audio_id=AUDIO_ID,
    )
    assert message.summary == "✅ Intro theme is ready (3:22, music-2.6)"


def test_a_phone_shows_why_a_track_failed_and_what_the_daemon_needs() -> None:
    assert (
        told(failed(), EventType.FAILED).summary == "❌ Intro theme failed (music-2.6): The backend was busy"
    )
    problem = Alert(Problem.TARGET_PAUSED, "studio", "the target studio\nis paused")
    assert compose(alert_event(problem, NOW)).summary == (
        "⚠️ pixverse-notifier needs attention: the target studio is paused"
    )


def test_a_failed_track_has_reason_and_code_and_says_what_to_do() -> None:
    assert told(failed(), EventType.FAILED) == Message(
        Tone.BAD,
        "Intro theme failed",
        NOW,
        facts=(("Code", "music_generation_failed"), ("Model", "music-2.6"), ("Credits", "40")),
        prompt="warm pads",
        detail="The backend was busy",
        note="Submitting the same request again often works.",
        audio_id=AUDIO_ID,
    )


@pytest.mark.parametrize(
    ("event", "headline"),
    [
        (news(fields=completed()), "Intro theme is ready"),
        (news(fields=completed(), name=" \n"), f"{AUDIO_ID} is ready"),
        (news(EventType.FAILED, failed()), "Intro theme failed"),
        (news(EventType.FAILED, failed(), status="EXPIRED"), "Intro theme ended as EXPIRED"),
        (news(EventType.MISSING), "Intro theme is missing"),
        (
            news(EventType.STALLED, track(), at=NOW + 30 * MINUTE),
            "Intro theme is still GENERATING after 33:24",
        ),
        (news(EventType.STALLED, track(created_at=None)), "Intro theme is still GENERATING"),
        (
            news(EventType.STALLED, track(created_at="2026-06-24T00:00:00Z")),
            "Intro theme is still GENERATING",
        ),
        (news(EventType.TEST, completed()), "Test: Intro theme is ready"),
        (news(EventType.TEST, failed()), "Test: Intro theme failed"),
        (alert(), "pixverse-notifier needs attention"),
        (alert(is_resolved=True), "pixverse-notifier: a problem is over"),
    ],
)
def test_the_headline_says_what_happened_to_whom(event: Event, headline: str) -> None:
    assert compose(event).headline == headline


@pytest.mark.parametrize(
    ("name", "tone"),
    [
        ("completed", Tone.GOOD),
        ("failed", Tone.BAD),
        ("missing", Tone.BAD),
        ("stalled", Tone.WARNING),
        ("alert", Tone.WARNING),
        ("resolved alert", Tone.GOOD),
        ("test", Tone.GOOD),
        ("test of a failure", Tone.BAD),
    ],
)
def test_a_message_feels_like_its_event(name: str, tone: Tone) -> None:
    assert compose(EVENTS[name]).tone is tone


def test_a_missing_track_is_described_as_it_was_last_seen() -> None:
    message = told(track(), EventType.MISSING)

    assert message.facts == (("Model", "music-2.6"), ("Credits", "40"))
    assert message.prompt == "warm pads"
    assert message.url is None


def test_a_test_says_that_it_is_one() -> None:
    assert compose(EVENTS["test"]).note == "Only a test: no track has changed."


@pytest.mark.parametrize(
    ("field", "value", "label", "shown"),
    [
        ("duration", 202, "Length", "3:22"),
        ("duration", 7.4, "Length", "0:07"),
        ("duration", 3723, "Length", "1:02:03"),
        ("duration", 0, "Length", "0:00"),
        ("duration", "202", "Length", None),
        ("duration", float("nan"), "Length", None),
        ("credits", 0, "Credits", "0"),
        ("credits", 1234567, "Credits", "1234567"),
        ("credits", 0.5, "Credits", "0.5"),
        ("credits", -1, "Credits", None),
        ("model", "music\n2.6", "Model", "music 2.6"),
        ("model", "x" * 10_000, "Model", "x" * 59 + "…"),
        ("model", None, "Model", None),
        ("updated_at", "2026-06-23T12:38:18Z", "Took", "3:22"),
        ("updated_at", "2026-06-23T12:34:56Z", "Took", None),
        ("updated_at", "2026-06-23T12:00:00Z", "Took", None),
        ("updated_at", "today", "Took", None),
        ("created_at", None, "Took", None),
    ],
)
def test_a_fact_is_shown_as_people_read_it_or_left_out(
    field: str, value: Any, label: str, shown: str | None
) -> None:
    assert dict(told(completed(**{field: value})).facts).get(label) == shown


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("one\ntwo", "one\ntwo"),
        ("one\n\n\n \n\ttwo", "one\n\n\ttwo"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\n\n one \n\n", "one"),
        (" \u200b ", None),
        ("", None),
        (5, None),
        ("a\u202eb\x00c\ud800", "abc\ufffd"),
        ("\n".join("abcdefghijklmnopqrst"), "\n".join("abcdefghijklmnopqrst")),
        ("\n".join("abcdefghijklmnopqrstu"), "\n".join("abcdefghijklmnopqrs…")),
    ],
)
def test_a_prompt_keeps_its_lines_but_not_the_channel(prompt: object, shown: str | None) -> None:
    assert told(completed(prompt=prompt)).prompt == shown


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://media.pixverse.ai/a.mp3", "https://media.pixverse.ai/a.mp3"),
        (
            "http://media.pixverse.ai:8080/a.mp3?sig=a%2Fb+c&x=~1#t=1",
            "http://media.pixverse.ai:8080/a.mp3?sig=a%2Fb+c&x=~1#t=1",
        ),
        ("https://my_bucket.example/a(1)[2].mp3", "https://my_bucket.example/a(1)[2].mp3"),
        ("https://[2001:db8::1]/a.mp3", "https://[2001:db8::1]/a.mp3"),
        # made harmless
        (
            'https://media.pixverse.ai/a"b<c>d|e\\f^g`h{i}',
            "https://media.pixverse.ai/a%22b%3Cc%3Ed%7Ce%5Cf%5Eg%60h%7Bi%7D",
        ),
        ("https://media.pixverse.ai/ü.mp3", "https://media.pixverse.ai/%C3%BC.mp3"),
        # no link for a browser, or one that reads like another host's
        ("https://media.pixverse.ai@evil.example/a.mp3", None),
        ("https://media.pixverse.ai\\@evil.example/a.mp3", None),
        ("https://media.pixverse.ai\\.evil.example/a.mp3", None),
        ("https://mеdia.pixverse.ai/a.mp3", None),  # the second letter is Cyrillic
        ("https://%65vil.example/", None),
        ("https://media.pixverse.ai:99999/", None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("ftp://media.pixverse.ai/a.mp3", None),
        ("//media.pixverse.ai/a.mp3", None),
        ("/a.mp3", None),
        ("https:///a.mp3", None),
        ("https://", None),
        ("http://[", None),
        ("https://media.pixverse.ai/a b", None),
        ("https://media.pixverse.ai/a\nb", None),
        ("https://media.pixverse.ai/a\u202eb", None),
        ("https://media.pixverse.ai/" + "a" * 2000, None),
        ("https://media.pixverse.ai/" + "ü" * 400, None),
        ("", None),
        (None, None),
        (["https://media.pixverse.ai/a.mp3"], None),
    ],
)
def test_only_a_plain_web_address_becomes_a_link(url: object, link: str | None) -> None:
    assert told(completed(url=url)).url == link


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (failed(), "The backend was busy"),
        (failed(fail_reason=None, error="quota"), "quota"),
        (failed(fail_reason=" ", error=None), None),
        (failed(fail_reason={"text": "busy"}), None),
    ],
)
def test_a_failure_shows_its_reason_or_else_the_error(fields: dict[str, Any], detail: str | None) -> None:
    assert told(fields, EventType.FAILED).detail == detail


@given(hostile.events)
def test_the_words_for_anything_are_clean_and_short_where_they_must_be(event: Event) -> None:
    message = compose(event)

    lines = [
        message.headline,
        message.audio_id or "",
        message.summary,
        *(value for _, value in message.facts),
    ]
    texts = [*lines, message.prompt or "", message.detail or "", message.note or "", message.url or ""]
    assert hostile.misleading("".join(texts)) == set()
    assert "\n" not in "".join(lines)
    assert len(message.headline) <= 200
    assert all(0 < len(value) <= 60 for _, value in message.facts)
    assert (message.prompt or "").count("\n") < 20
    assert message.headline.strip()
