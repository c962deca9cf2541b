from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.event import Alert, Event, EventType, Problem, alert_event
from notifier.message import Message, Tone, compose, sum_up
from tests.support import hostile
from tests.support.hostile import MINUTE, NOW
from tests.support.tracks import completed, failed, track
from tests.targets.given import EVENTS, alert, news

AUDIO_ID = "user:12345-pixverse:me@example.com-music:1"
ENDED = datetime(2026, 6, 23, 12, 38, 18, tzinfo=UTC)
"""When the track of the examples did, two seconds before that was seen."""


def told(fields: dict[str, Any] | None, kind: EventType = EventType.COMPLETED, **about: Any) -> Message:
    return compose(news(kind, fields, **about))


def test_a_completed_track_has_everything_that_is_known_of_it() -> None:
    message = told(completed())

    assert message == Message(
        Tone.GOOD,
        "Intro theme is ready",
        ENDED,
        "ready",
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
        "failed",
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
            "Intro theme is still GENERATING after 33m 24s",
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
    ("problem", "audio_id"),
    [
        (Problem.TRACK_MISSING, AUDIO_ID),
        (Problem.TRACK_STALLED, AUDIO_ID),
        (Problem.TRACK_UNREADABLE, AUDIO_ID),
        (Problem.TARGET_PAUSED, None),
    ],
)
def test_an_alert_of_a_track_has_its_audio_id_to_copy(problem: Problem, audio_id: str | None) -> None:
    assert compose(alert_event(Alert(problem, AUDIO_ID, "x"), NOW)).audio_id == audio_id


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("completed", "ready"),
        ("failed", "failed"),
        ("stalled", "taking long"),
        ("missing", "missing"),
        ("missing after it was seen", "missing"),
        ("alert", "needing attention"),
        ("resolved alert", "over"),
        ("test", "only a test"),
        ("test of a failure", "only a test"),
    ],
)
def test_what_became_of_a_track_can_be_counted(name: str, outcome: str) -> None:
    assert compose(EVENTS[name]).outcome == outcome


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        (completed(), ENDED),
        (completed(updated_at="2026-06-23T14:38:18+02:00"), ENDED),
        (
            completed(created_at="2001-01-01T00:00:00Z", updated_at="2001-01-01T00:03:00Z"),
            "2001-01-01T00:03:00Z",
        ),
        # not known, or not to be believed
        (completed(updated_at=None), NOW),
        (completed(updated_at="today"), NOW),
        (completed(created_at=None), NOW),
        (completed(updated_at="2026-06-23T12:34:56Z"), NOW),  # never touched since it was asked for
        (completed(updated_at="2026-06-23T12:34:55Z"), NOW),  # before it was asked for
        (completed(updated_at="2026-06-24T12:38:18Z"), NOW),  # still to come
        (completed(updated_at="9999-12-31T23:59:59Z"), NOW),
        (completed(created_at="1970-01-01T00:00:00Z", updated_at="1970-01-01T00:00:01Z"), NOW),
        (completed(audio_status_final=False), NOW),
        (None, NOW),
    ],
)
def test_a_message_says_when_the_track_ended_as_far_as_that_can_be_right(
    fields: dict[str, Any] | None, at: datetime | str
) -> None:
    expected = datetime.fromisoformat(at) if isinstance(at, str) else at

    assert told(fields).at == expected
    assert told(fields, EventType.FAILED).at == expected


@pytest.mark.parametrize("name", ["stalled", "missing", "missing after it was seen", "alert"])
def test_what_has_not_ended_happened_when_it_was_seen(name: str) -> None:
    assert compose(EVENTS[name]).at == NOW


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (news(fields=completed()), "✅ Intro theme is ready (3:22)"),
        (news(fields=completed(duration=None)), "✅ Intro theme is ready"),
        (news(EventType.FAILED, failed()), "❌ Intro theme failed: The backend was busy"),
        (news(EventType.FAILED, failed(fail_reason="two\nlines")), "❌ Intro theme failed: two lines"),
        (
            news(EventType.FAILED, failed(fail_reason="x" * 200)),
            "❌ Intro theme failed: " + "x" * 119 + "…",
        ),
        (EVENTS["missing"], "❌ Intro theme is missing"),
        (EVENTS["test"], "✅ Test: Intro theme is ready (3:22)"),
        (alert(), "⚠️ pixverse-notifier needs attention: the target studio is paused"),
    ],
)
def test_among_many_a_message_is_one_short_line(event: Event, line: str) -> None:
    assert compose(event).line == line


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (news(fields=completed()), ("✅ Intro theme is ready (3:22, music-2.6)", AUDIO_ID)),
        (
            news(EventType.FAILED, failed()),
            (
                "❌ Intro theme failed (music-2.6): The backend was busy",
                "Submitting the same request again often works.",
                AUDIO_ID,
            ),
        ),
        (alert(), ("⚠️ pixverse-notifier needs attention: the target studio is paused",)),
        (
            EVENTS["test"],
            (
                "✅ Test: Intro theme is ready (3:22, music-2.6)",
                "Only a test: no track has changed.",
                AUDIO_ID,
            ),
        ),
    ],
)
def test_without_a_layout_a_message_is_a_few_lines(event: Event, lines: tuple[str, ...]) -> None:
    assert compose(event).plain == lines


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (["completed"] * 3, "✅ 3 updates: 3 ready"),
        (["failed", "missing", "failed"], "❌ 3 updates: 2 failed, 1 missing"),
        (["alert"] * 2, "⚠️ 2 updates: 2 needing attention"),
        # of several kinds, in the order of the first of each; something may need a look
        (["failed", "completed", "completed"], "⚠️ 3 updates: 1 failed, 2 ready"),
        (
            ["completed", "stalled", "alert", "resolved alert", "test", "missing"],
            "⚠️ 6 updates: 1 ready, 1 taking long, 1 needing attention, 1 over, 1 only a test, 1 missing",
        ),
    ],
)
def test_many_messages_are_counted_by_what_became_of_the_tracks(names: list[str], title: str) -> None:
    assert sum_up([compose(EVENTS[name]) for name in names]).title == title


def test_what_sums_up_is_dated_like_the_latest_of_all() -> None:
    messages = [told(completed()), compose(EVENTS["missing"]), told(completed())]

    assert [message.at for message in messages] == [ENDED, NOW, ENDED]
    assert sum_up(messages).at == NOW


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


@pytest.mark.parametrize("name", ["test", "test of a failure"])
def test_a_test_says_twice_that_it_is_one_and_else_what_the_real_message_says(name: str) -> None:
    kind, fields = (EventType.COMPLETED, completed()) if name == "test" else (EventType.FAILED, failed())
    real, trial = told(fields, kind), compose(EVENTS[name])

    assert trial.headline == f"Test: {real.headline}"
    assert trial.note == "Only a test: no track has changed."
    assert (trial.url, trial.facts, trial.prompt, trial.detail, trial.at) == (
        real.url,
        real.facts,
        real.prompt,
        real.detail,
        real.at,
    )


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
    ("url", "shown"),
    [
        ("https://media.pixverse.ai/a.mp3", None),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("https://media.pixverse.ai@evil.example/a.mp3", "https://media.pixverse.ai@evil.example/a.mp3"),
        ("https://media.pixverse.ai/a\n\u202eb c", "https://media.pixverse.ai/a b c"),
        ("x" * 10_000, "x" * 199 + "…"),
        (" \u200b ", None),
        ("", None),
        (None, None),
        (["https://media.pixverse.ai/a.mp3"], None),
    ],
)
def test_an_address_that_nobody_should_click_is_shown_as_text(url: object, shown: str | None) -> None:
    assert dict(told(completed(url=url)).facts).get("Address") == shown


def test_a_track_that_has_not_ended_has_no_address_yet() -> None:
    assert "Address" not in dict(told(track(url="javascript:alert(1)"), EventType.STALLED).facts)


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
        message.line,
        *message.plain,
        *(value for _, value in message.facts),
    ]
    texts = [*lines, message.prompt or "", message.detail or "", message.note or "", message.url or ""]
    assert hostile.misleading("".join(texts)) == set()
    assert "\n" not in "".join(lines)
    assert len(message.headline) <= 200
    assert len(message.line) <= 300
    assert message.outcome.strip()
    assert all(0 < len(value) <= (200 if label == "Address" else 60) for label, value in message.facts)
    assert (
        message.at == event.detected_at or datetime(2000, 1, 1, tzinfo=UTC) <= message.at < event.detected_at
    )
    assert (message.prompt or "").count("\n") < 20
    assert message.headline.strip()


@given(st.lists(hostile.events, min_size=1, max_size=8))
def test_whatever_is_summed_up_every_message_is_counted_in_one_short_line(events: list[Event]) -> None:
    messages = [compose(event) for event in events]

    overview = sum_up(messages)

    counts = [int(part.split(" ", 1)[0]) for part in overview.headline.partition(": ")[2].split(", ")]
    assert sum(counts) == len(messages)
    assert len(overview.title) <= 150
    assert overview.at == max(message.at for message in messages)
