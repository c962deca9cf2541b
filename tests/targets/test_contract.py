"""What holds for every type of target; a new type joins by a line in `SETTINGS`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.answer import Answer
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.targets import TYPES, Target
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import completed
from tests.targets.given import EVENTS, answer, make, news, payload_of

SETTINGS: dict[str, dict[str, Any]] = {
    "slack": {"url": "https://hooks.slack.com/services/T0/B0/hushhushhush"},
    "discord": {"url": "https://discord.com/api/webhooks/1234567890/hushhushhush"},
    "webhook": {"url": "https://example.com/hooks/hushhushhush"},
}
ACCEPTED: dict[str, Answer] = {
    "slack": answer(200, "ok"),
    "discord": answer(200, '{"id": "1"}'),
    "webhook": answer(204),
}
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)

every_type = pytest.mark.parametrize("kind", [*TYPES])


def target(kind: str, **keys: Any) -> Target:
    return make(kind, **SETTINGS[kind], **keys)


def test_every_type_is_held_to_this_contract() -> None:
    assert set(SETTINGS) == set(ACCEPTED) == set(TYPES)


@every_type
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_becomes_a_request_with_json_in_utf_8(kind: str, event: Event) -> None:
    request = target(kind).render([event], now=NOW)

    assert payload_of(request)
    assert request.event_count == 1
    assert request.warning is None
    assert request.headers["Content-Type"].startswith("application/json")
    assert request.url.reveal().startswith(SETTINGS[kind]["url"].rpartition("/api")[0])
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


def told_in_full(one: Target, events: Sequence[Event]) -> list[str]:
    """Render until all events are told and return the bodies."""
    bodies, left = [], [*events]
    while left:
        request = one.render(left, now=NOW)
        assert 1 <= request.event_count <= min(len(left), one.most_events)
        bodies.append(request.body.decode())
        del left[: request.event_count]
    return bodies


@every_type
@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 35])
def test_many_events_are_told_in_order_and_none_twice(kind: str, count: int) -> None:
    names = [f"Take {number:03}" for number in range(count)]
    events = [
        news(fields=completed(number), name=name, audio_id=f"user:1-pixverse:a@b-music:{number}")
        for number, name in enumerate(names)
    ]

    told = "".join(told_in_full(target(kind), events))

    places = [told.find(name) for name in names]
    assert -1 not in places
    assert places == sorted(places)


@every_type
@settings(max_examples=40)
@given(events=st.lists(hostile.events, min_size=1, max_size=11))
def test_nothing_from_outside_keeps_a_message_from_being_told(kind: str, events: list[Event]) -> None:
    one = target(kind)

    request = one.render(events, now=NOW)

    assert payload_of(request)
    assert 1 <= request.event_count <= min(len(events), one.most_events)
    assert request.warning is None


@every_type
def test_what_the_service_accepts_is_delivered(kind: str) -> None:
    outcome = target(kind).classify(ACCEPTED[kind], now=NOW)

    assert isinstance(outcome, Delivered)
    assert outcome.hold is None


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
        ("Retry-After", "Location", "X-RateLimit-Remaining", "X-RateLimit-Reset-After"), header
    )

    outcome = target(kind).classify(answer(status, body, headers), now=NOW)

    assert len(outcome.reason) <= 400
    assert "\n" not in outcome.reason


@every_type
def test_no_secret_shows_in_a_target_or_its_request(kind: str) -> None:
    one = target(kind)
    request = one.render([EVENTS["completed"]], now=NOW)

    shown = f"{one!r} {one} {request!r} {request} {request.url!r} {request.url} {one.model_dump()}"

    assert "hush" not in shown
    assert SETTINGS[kind]["url"] in one.secrets()


@every_type
def test_what_the_type_is_called_in_the_watchlist_is_what_the_status_shows(kind: str) -> None:
    assert target(kind).type_name == kind


@every_type
def test_an_event_reads_the_same_however_often_it_is_told(kind: str) -> None:
    event = news(EventType.COMPLETED, completed())

    first, second = (target(kind).render([event], now=NOW + wait) for wait in (timedelta(0), DAY))

    assert first.body == second.body
