import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from notifier.event import (
    Alert,
    Event,
    EventType,
    Problem,
    TrackNews,
    alert_event,
    data_json,
    from_stored,
    public_json,
    track_event,
)
from notifier.sample import sample_event
from notifier.track import Track, parse
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import completed

AUDIO_ID = "user:12345-pixverse:me@example.com-music:1"
ABOUT = TrackNews(AUDIO_ID, "Intro theme", "COMPLETED", "GENERATING", parse(completed()))
PAUSED = Alert(Problem.TARGET_PAUSED, "studio", "the target studio is paused")


def event(about: TrackNews = ABOUT, kind: EventType = EventType.COMPLETED, at: datetime = NOW) -> Event:
    return track_event(kind, about, at)


def stored(told: Event) -> Event:
    """Return the event as it comes back from the state file."""
    return from_stored(told.id, told.type.value, told_at(told), data_json(told))


def told_at(told: Event) -> str:
    return str(json.loads(public_json(told))["timestamp"])


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text.encode("utf-8"), parse_constant=refuse)


def test_the_same_fact_found_again_is_the_same_event() -> None:
    later = replace(ABOUT, name="Outro", status="finished", previous_status=None, track=None)

    assert event(later, at=NOW + timedelta(days=3)).id == event().id


def test_events_of_different_types_and_tracks_have_ids_of_their_own() -> None:
    tracks = [replace(ABOUT, audio_id=AUDIO_ID + suffix) for suffix in ("", "0", "\ud800")]
    kinds = [EventType.COMPLETED, EventType.FAILED, EventType.MISSING, EventType.STALLED]

    assert len({event(track, kind).id for track in tracks for kind in kinds}) == 12


@pytest.mark.parametrize(
    "make",
    [
        lambda: alert_event(PAUSED, NOW),
        lambda: event(kind=EventType.TEST),
    ],
)
def test_alerts_and_tests_are_new_each_time(make: Any) -> None:
    assert make().id != make().id


@pytest.mark.parametrize("told", [event(), event(kind=EventType.TEST), alert_event(PAUSED, NOW)])
def test_an_id_is_fit_for_the_webhook_id_header(told: Event) -> None:
    assert re.fullmatch(r"evt_[0-9a-f]{32}", told.id)


def test_the_public_json_is_the_documented_one() -> None:
    expected = (
        '{"type":"track.completed","timestamp":"2026-06-23T12:38:20.123Z",'
        '"data":{"audio_id":"user:12345-pixverse:me@example.com-music:1","name":"Intro theme",'
        '"status":"COMPLETED","previous_status":"GENERATING",'
        '"detected_at":"2026-06-23T12:38:20.123Z","track":'
    )

    text = public_json(event())

    assert text.startswith(expected)
    assert json.loads(text)["data"]["track"] == completed()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EventType.COMPLETED, "track.completed"),
        (EventType.FAILED, "track.failed"),
        (EventType.MISSING, "track.missing"),
        (EventType.STALLED, "track.stalled"),
        (EventType.TEST, "notifier.test"),
    ],
)
def test_every_event_of_a_track_has_the_same_members(kind: EventType, name: str) -> None:
    told = json.loads(public_json(event(kind=kind)))

    assert told["type"] == name
    assert [*told] == ["type", "timestamp", "data"]
    assert [*told["data"]] == ["audio_id", "name", "status", "previous_status", "detected_at", "track"]


def test_a_track_that_was_never_seen_is_null() -> None:
    about = TrackNews(AUDIO_ID, AUDIO_ID, "MISSING", None, None)

    told = json.loads(public_json(event(about, EventType.MISSING)))

    assert (told["data"]["track"], told["data"]["previous_status"], told["data"]["status"]) == (
        None,
        None,
        "MISSING",
    )


@pytest.mark.parametrize("is_resolved", [False, True])
def test_an_alert_says_problem_subject_summary_and_whether_it_is_over(is_resolved: bool) -> None:
    told = alert_event(replace(PAUSED, is_resolved=is_resolved), NOW)

    assert json.loads(public_json(told)) == {
        "type": "notifier.alert",
        "timestamp": "2026-06-23T12:38:20.123Z",
        "data": {
            "problem": "target_paused",
            "subject": "studio",
            "summary": "the target studio is paused",
            "resolved": is_resolved,
            "detected_at": "2026-06-23T12:38:20.123Z",
        },
    }


def test_the_problems_have_the_documented_names() -> None:
    assert {problem.value for problem in Problem} == {
        "token_rejected",
        "upstream_unreachable",
        "account_unreadable",
        "track_unreadable",
        "track_missing",
        "track_stalled",
        "target_paused",
        "delivery_dead",
        "config_rejected",
        "storage_failed",
    }


@pytest.mark.parametrize(
    ("told", "audio_id", "name"),
    [
        (event(), AUDIO_ID, "Intro theme"),
        (alert_event(PAUSED, NOW), None, "target_paused"),
        (alert_event(Alert(Problem.TRACK_STALLED, AUDIO_ID, "slow"), NOW), AUDIO_ID, "track_stalled"),
        (alert_event(Alert(Problem.TRACK_MISSING, AUDIO_ID, "gone"), NOW), AUDIO_ID, "track_missing"),
        (alert_event(Alert(Problem.TRACK_UNREADABLE, AUDIO_ID, "?"), NOW), AUDIO_ID, "track_unreadable"),
    ],
)
def test_an_event_knows_its_track_and_its_name(told: Event, audio_id: str | None, name: str) -> None:
    assert (told.audio_id, told.name) == (audio_id, name)


@pytest.mark.parametrize(
    "told",
    [
        event(),
        event(replace(ABOUT, previous_status=None, track=None), EventType.MISSING),
        event(replace(ABOUT, name='Ünï"cöde\n☃'), EventType.STALLED),
        sample_event(is_completed=True, event_type=EventType.TEST, detected_at=NOW),
        sample_event(is_completed=False, detected_at=NOW),
        alert_event(PAUSED, NOW),
        alert_event(replace(PAUSED, is_resolved=True), NOW),
    ],
)
def test_an_event_comes_back_from_the_state_file_as_it_was(told: Event) -> None:
    assert stored(told) == told


@given(hostile.events)
def test_the_public_json_of_anything_is_json_in_utf_8(told: Event) -> None:
    assert strictly(public_json(told))["type"] == told.type.value


@given(hostile.events)
def test_what_is_told_is_the_same_before_and_after_the_state_file(told: Event) -> None:
    assert public_json(stored(told)) == public_json(told)


def test_what_no_json_can_hold_becomes_null_or_a_replacement() -> None:
    track = Track("COMPLETED", True, {"audio_status": 1, "duration": float("nan"), "prompt": "a\ud800b"})

    told = strictly(public_json(event(replace(ABOUT, name="\udfff", track=track))))

    assert told["data"]["track"] == {"audio_status": 1, "duration": None, "prompt": "a\ufffdb"}
    assert told["data"]["name"] == "\ufffd"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("track.completed", "{"),
        ("track.completed", "{}"),
        ("track.exploded", data_json(event())),
        ("notifier.alert", data_json(event())),
        ("notifier.alert", '{"problem": "boredom", "subject": "", "summary": "", "resolved": false}'),
    ],
)
def test_what_was_never_stored_is_refused(kind: str, data: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        from_stored("evt_1", kind, "2026-06-23T12:38:20.123Z", data)
