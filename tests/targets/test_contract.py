"""What holds for every type of target; a new type joins by a line in `SETTINGS`."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.answer import Answer
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.targets import TYPES, Target
from notifier.targets.chat import Chat
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import completed
from tests.targets.given import EVENTS, answer, backlogs, make, news, payload_of, takes, told_in_full

SETTINGS: dict[str, dict[str, Any]] = {
    "slack": {"url": "https://hooks.slack.com/services/T0/B0/hushhushhush"},
    "discord": {"url": "https://discord.com/api/webhooks/1234567890/hushhushhush"},
    "mattermost": {"url": "https://example.com/hooks/hushhushhush"},
    "webhook": {"url": "https://example.com/hooks/hushhushhush"},
}
ACCEPTED: dict[str, Answer] = {
    "slack": answer(200, "ok"),
    "discord": answer(200, '{"id": "1"}'),
    "mattermost": answer(200, "ok"),
    "webhook": answer(204),
}
PROBED: dict[str, tuple[str, list[tuple[Answer, type[Outcome] | None]]]] = {
    "slack": (
        "https://hooks.slack.com/services/T0/B0/hushhushhush",
        [(answer(400, "no_text"), Delivered), (answer(403, "invalid_token"), TargetBroken)],
    ),
    "discord": (
        "https://discord.com/api/v10/webhooks/1234567890/hushhushhush",
        [
            (answer(200, '{"id": "1234567890", "name": "Band", "token": "hushhushhush"}'), Delivered),
            (answer(401, '{"code": 50027, "message": "Invalid Webhook Token"}'), TargetBroken),
            (answer(405), None),
        ],
    ),
    "mattermost": (
        "https://example.com/api/v4/system/ping",
        [(answer(200, '{"status": "OK"}'), None), (answer(404), None), (answer(301), Retry)],
    ),
    "webhook": ("", []),
}
"""What each type of target is asked without a message, if anything, and what answers to that mean."""
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)

every_type = pytest.mark.parametrize("kind", [*TYPES])
every_chat = pytest.mark.parametrize("kind", [kind for kind in TYPES if issubclass(TYPES[kind], Chat)])


def target(kind: str, **keys: Any) -> Target:
    return make(kind, **SETTINGS[kind], **keys)


def test_every_type_is_held_to_this_contract() -> None:
    assert set(SETTINGS) == set(ACCEPTED) == set(PROBED) == set(TYPES)


@every_type
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_becomes_a_request_with_json_in_utf_8(kind: str, event: Event) -> None:
    request = target(kind).render([event], now=NOW)

    assert payload_of(request)
    assert request.event_count == 1
    assert request.warning is None
    assert request.headers["Content-Type"].startswith("application/json")
    assert urlsplit(request.url.reveal()).hostname == urlsplit(SETTINGS[kind]["url"]).hostname
    assert request.method == "POST"


@every_type
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("completed", ["Intro theme", "https://media.pixverse.ai/pixverse/audio/music/1.mp3", "warm pads"]),
        ("failed", ["Intro theme", "The backend was busy", "warm pads"]),
        ("stalled", ["Intro theme", "GENERATING", "warm pads"]),
        ("missing", ["Intro theme", "issing"]),
        ("alert", ["the target studio is paused"]),
        ("resolved alert", ["the target studio takes messages again"]),
        ("test", ["Intro theme", "https://media.pixverse.ai/pixverse/audio/music/1.mp3"]),
    ],
)
def test_what_happened_stands_in_the_message(kind: str, name: str, words: list[str]) -> None:
    body = target(kind).render([EVENTS[name]], now=NOW).body.decode()

    assert [word for word in words if word not in body] == []


@every_type
def test_the_audio_id_stands_in_every_message_of_a_track(kind: str) -> None:
    for event in EVENTS.values():
        if event.audio_id is not None:
            assert event.audio_id in target(kind).render([event], now=NOW).body.decode()


@every_type
@pytest.mark.parametrize("is_plain", [False, True], ids=["laid out", "plain"])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 35])
def test_many_events_are_told_in_order_and_none_twice(kind: str, count: int, is_plain: bool) -> None:
    requests = told_in_full(target(kind), takes(count), is_plain=is_plain)

    told = [dict.fromkeys(re.findall(r"Take \d+", request.body.decode())) for request in requests]
    assert [len(names) for names in told] == [request.event_count for request in requests]
    assert [name for names in told for name in names] == [f"Take {number:03}" for number in range(count)]


@every_chat
def test_ten_events_are_told_in_full_and_eleven_are_summed_up(kind: str) -> None:
    ten, eleven = (target(kind).render(takes(count), now=NOW) for count in (10, 11))

    assert (ten.event_count, eleven.event_count) == (10, 11)
    assert ten.body.decode().count("warm pads") == 10
    assert "warm pads" not in eleven.body.decode()
    assert "11 updates" in eleven.body.decode()


@every_chat
def test_two_hundred_completions_after_an_outage_are_a_few_messages(kind: str) -> None:
    requests = told_in_full(target(kind), takes(200))

    assert 4 <= len(requests) <= 6
    for request in requests[:4]:
        assert f"✅ {request.event_count} updates" in request.body.decode()


@every_type
@settings(max_examples=40)
@given(events=backlogs(), is_plain=st.booleans())
def test_nothing_from_outside_keeps_a_message_from_being_told(
    kind: str, events: list[Event], is_plain: bool
) -> None:
    one = target(kind)

    request = one.render(events, now=NOW, is_plain=is_plain)

    assert payload_of(request)
    assert 1 <= request.event_count <= min(len(events), one.most_events)
    assert request.warning is None


@every_type
def test_what_the_service_accepts_is_delivered_and_the_next_may_follow(kind: str) -> None:
    outcome = target(kind).classify(ACCEPTED[kind], now=NOW)

    assert isinstance(outcome, Delivered)
    assert target(kind).spared_for(ACCEPTED[kind], now=NOW) is None


@every_type
@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ((301, 302, 303, 307, 308), Retry),
        ((400, 402, 405, 406, 409, 413, 415, 422, 431, 451), Rejected),
        ((401, 403, 404, 410), TargetBroken),
        ((408, 425, 500, 501, 502, 503, 504, 520, 524, 599), Retry),
    ],
)
def test_a_refusal_is_judged_by_its_status(
    kind: str, statuses: tuple[int, ...], outcome: type[Outcome]
) -> None:
    judged = [target(kind).classify(answer(status, "oops"), now=NOW) for status in statuses]

    assert [type(one) for one in judged] == [outcome] * len(statuses)
    assert [
        one.reason.startswith(f"HTTP {status}") for one, status in zip(judged, statuses, strict=True)
    ] == [True] * len(statuses)


@every_type
@pytest.mark.parametrize(
    ("told", "after"),
    [
        (answer(429, "slow down", {"Retry-After": "7"}), 7 * SECOND),
        (answer(429, "slow down", {"retry-after": "0.5"}), 0.5 * SECOND),
        (answer(429, "slow down", {"Retry-After": "Tue, 23 Jun 2026 12:39:20 GMT"}), 59.877 * SECOND),
        (answer(429, "slow down", {"Retry-After": "1000000"}), DAY),
        (answer(429, "slow down", {"Retry-After": "rubbish"}), MINUTE),
        (answer(429, "slow down"), MINUTE),
        (answer(429, "<html></html>"), 15 * MINUTE),
        (answer(429, "<html></html>", {"Retry-After": "7"}), 7 * SECOND),
        (answer(503, "", {"Retry-After": "7"}), 7 * SECOND),
        (answer(503, ""), None),
    ],
)
def test_a_wait_that_is_asked_for_is_taken_over(kind: str, told: Answer, after: timedelta | None) -> None:
    outcome = target(kind).classify(told, now=NOW)

    assert isinstance(outcome, Retry)
    assert (outcome.after, outcome.is_global) == (after, False)


@every_type
def test_a_redirect_is_told_without_its_secrets(kind: str) -> None:
    moved = answer(308, "", {"Location": "https://new.example/hushhushhush?key=hushhushhush"})

    outcome = target(kind).classify(moved, now=NOW)

    assert isinstance(outcome, Retry)
    assert "https://new.example" in outcome.reason
    assert "hush" not in outcome.reason


@every_type
@given(status=st.integers(200, 999), body=hostile.texts, header=hostile.texts)
def test_no_answer_can_raise(kind: str, status: int, body: str, header: str) -> None:
    headers = dict.fromkeys(
        ("Retry-After", "Location", "X-RateLimit-Reset", "X-RateLimit-Reset-After"), header
    )
    told = answer(status, body, {**headers, "X-RateLimit-Remaining": "0"})

    outcome = target(kind).classify(told, now=NOW)
    spared = target(kind).spared_for(told, now=NOW)

    assert len(outcome.reason) <= 400
    assert "\n" not in outcome.reason
    for wait in (spared, outcome.after if isinstance(outcome, Retry) else None):
        assert wait is None or timedelta(0) <= wait <= DAY


@every_type
def test_no_secret_shows_in_a_target_or_its_request(kind: str) -> None:
    one = target(kind)
    request = one.render([EVENTS["completed"]], now=NOW)

    shown = f"{one!r} {one} {request!r} {request} {request.url!r} {request.url} {one.model_dump()}"

    assert "hush" not in shown
    assert SETTINGS[kind]["url"] in one.secrets()


@every_type
def test_targets_of_one_url_share_a_remote_end_and_its_limit(kind: str) -> None:
    one, same = target(kind), target(kind)
    other = make(kind, url=SETTINGS[kind]["url"] + "2")

    assert (one.remote_end, one.limiter) == (same.remote_end, same.limiter)
    assert one.remote_end != other.remote_end
    assert one.limiter != other.limiter


@every_type
def test_what_the_type_is_called_in_the_watchlist_is_what_the_status_shows(kind: str) -> None:
    assert target(kind).type_name == kind


@every_type
def test_an_event_reads_the_same_however_often_it_is_told(kind: str) -> None:
    event = news(EventType.COMPLETED, completed())

    first, second = (target(kind).render([event], now=NOW + wait) for wait in (timedelta(0), DAY))

    assert first.body == second.body


@every_type
def test_a_probe_carries_no_message_and_its_answer_tells_how_the_target_is(kind: str) -> None:
    url, answers = PROBED[kind]
    probe = target(kind).probe()

    assert (probe.url.reveal() if probe else "") == url
    if probe is not None:
        assert probe.event_count == 0
        assert probe.method == "GET" or payload_of(probe) == {"text": ""}
        assert probe.method == "POST" or probe.body == b""
        assert "hush" not in f"{probe!r}"
    judged = [target(kind).diagnose(told, now=NOW) for told, _ in answers]
    assert [type(one) for one in judged] == [outcome or type(None) for _, outcome in answers]
    assert "hush" not in f"{[one.reason for one in judged if one is not None]}"


@every_type
@pytest.mark.parametrize(
    ("status", "outcome"), [(429, Retry), (500, Retry), (503, Retry)], ids=["429", "500", "503"]
)
def test_a_service_in_trouble_says_so_to_a_probe_as_well(
    kind: str, status: int, outcome: type[Outcome]
) -> None:
    assert isinstance(target(kind).diagnose(answer(status, "oops"), now=NOW), outcome)


@every_type
@given(status=st.integers(200, 999), body=hostile.texts)
def test_no_answer_to_a_probe_can_raise(kind: str, status: int, body: str) -> None:
    outcome = target(kind).diagnose(answer(status, body), now=NOW)

    assert outcome is None or (len(outcome.reason) <= 400 and "\n" not in outcome.reason)
