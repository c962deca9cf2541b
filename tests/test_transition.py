from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.event import EventType
from notifier.track import Track, parse
from notifier.transition import Change, Gone, Sighting, detect
from tests.support.tracks import completed, failed, track

NOW = datetime(2026, 6, 23, 13, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AFTER = 30 * MINUTE
FIRST = NOW - MINUTE

Look = Track | Gone


def generating(age: timedelta = MINUTE, **fields: Any) -> Track:
    return parse(track(created_at=(NOW - age).isoformat(), **fields))


QUEUED = generating(audio_status=5, audio_status_name="QUEUED")
GENERATING = generating()
COMPLETED = parse(completed())
FAILED = parse(failed())
EXPIRED = parse(failed(audio_status=99, audio_status_name="EXPIRED"))
STALE = generating(AFTER)
GONE = Gone()


def seen(
    status: str = "GENERATING",
    *,
    is_final: bool = False,
    name: str | None = "PixVerse_Music_1.mp3",
    stalled_at: datetime | None = None,
) -> Sighting:
    return Sighting(status, is_final, name, FIRST, stalled_at)


def look(previous: Sighting | None, current: Look, now: datetime = NOW) -> Change | None:
    return detect(previous, current, now=now, stalled_after=AFTER)


@pytest.mark.parametrize(
    ("previous", "current", "events", "status", "is_final"),
    [
        # first sight
        (None, QUEUED, [], "QUEUED", False),
        (None, GENERATING, [], "GENERATING", False),
        (None, COMPLETED, [EventType.COMPLETED], "COMPLETED", True),
        (None, FAILED, [EventType.FAILED], "FAILED", True),
        (None, EXPIRED, [EventType.FAILED], "EXPIRED", True),
        (None, GONE, [EventType.MISSING], "MISSING", True),
        (None, STALE, [EventType.STALLED], "GENERATING", False),
        # on the way
        (seen("QUEUED"), GENERATING, [], "GENERATING", False),
        (seen("GENERATING"), QUEUED, [], "QUEUED", False),
        (seen(), COMPLETED, [EventType.COMPLETED], "COMPLETED", True),
        (seen(), FAILED, [EventType.FAILED], "FAILED", True),
        (seen(), EXPIRED, [EventType.FAILED], "EXPIRED", True),
        (seen(), GONE, [EventType.MISSING], "MISSING", True),
        # stalled, then an end
        (seen(), STALE, [EventType.STALLED], "GENERATING", False),
        (seen(stalled_at=FIRST), COMPLETED, [EventType.COMPLETED], "COMPLETED", True),
        (seen(stalled_at=FIRST), GONE, [EventType.MISSING], "MISSING", True),
        (seen("QUEUED", stalled_at=FIRST), STALE, [], "GENERATING", False),
    ],
)
def test_a_look_beside_the_last_one_says_what_happened(
    previous: Sighting | None, current: Look, events: list[EventType], status: str, is_final: bool
) -> None:
    change = look(previous, current)

    assert change is not None
    assert [*change.events] == events
    assert (change.sighting.status, change.sighting.is_final) == (status, is_final)


@pytest.mark.parametrize(
    ("previous", "current"),
    [
        (seen(), GENERATING),
        (seen("QUEUED"), QUEUED),
        (seen(stalled_at=FIRST), STALE),
        (seen(), generating(name=None)),
        (seen(), generating(updated_at="2026-06-23T12:59:59Z", credits=41)),
    ],
)
def test_a_look_that_shows_nothing_new_changes_nothing(previous: Sighting, current: Track) -> None:
    assert look(previous, current) is None


@pytest.mark.parametrize("current", [GENERATING, STALE, COMPLETED, FAILED, EXPIRED, GONE])
@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "EXPIRED", "MISSING"])
def test_final_stays_final(status: str, current: Look) -> None:
    assert look(seen(status, is_final=True), current) is None


def test_first_sight_is_remembered_with_its_moment() -> None:
    change = look(None, GENERATING)

    assert change == Change(Sighting("GENERATING", False, "PixVerse_Music_1.mp3", NOW), ())


def test_later_looks_keep_the_first_moment() -> None:
    change = look(seen(), COMPLETED)

    assert change is not None
    assert change.sighting.first_seen == FIRST


def test_a_track_that_loses_its_name_keeps_the_one_it_had() -> None:
    nameless = parse(completed(name=None))

    for current in (nameless, GONE):
        change = look(seen(name="Intro"), current)

        assert change is not None
        assert change.sighting.name == "Intro"


def test_a_track_that_gets_a_name_is_remembered_with_it() -> None:
    change = look(seen(name=None), generating(name="Intro"))

    assert change is not None
    assert (change.sighting.name, change.events) == ("Intro", ())


@pytest.mark.parametrize(
    ("age", "events"),
    [
        (AFTER - timedelta(microseconds=1), None),
        (AFTER, (EventType.STALLED,)),
        (timedelta(days=3000), (EventType.STALLED,)),
        (-timedelta(days=1), None),
    ],
)
def test_a_track_stalls_when_it_is_old_enough(age: timedelta, events: tuple[EventType, ...] | None) -> None:
    change = look(seen(), generating(age))

    assert (change and change.events) == events


@pytest.mark.parametrize("created_at", [None, "yesterday", 12])
def test_without_a_creation_time_a_track_ages_from_first_sight(created_at: object) -> None:
    undated = parse(track(created_at=created_at))

    assert look(seen(), undated, FIRST + AFTER - timedelta(seconds=1)) is None
    change = look(seen(), undated, FIRST + AFTER)
    assert change is not None
    assert change.events == (EventType.STALLED,)
    assert change.sighting.stalled_at == FIRST + AFTER


def test_a_clock_that_goes_back_stalls_nothing() -> None:
    undated = parse(track(created_at=None))

    assert look(seen(), undated, FIRST - timedelta(days=365)) is None


looks = st.sampled_from([QUEUED, GENERATING, STALE, COMPLETED, FAILED, EXPIRED, GONE])
steps = st.integers(-3600, 7200).map(lambda seconds: timedelta(seconds=seconds))
ENDS = {EventType.COMPLETED, EventType.FAILED, EventType.MISSING}


@given(st.lists(st.tuples(looks, steps), max_size=30))
def test_over_any_timeline_each_end_is_told_once(timeline: list[tuple[Look, timedelta]]) -> None:
    told: list[EventType] = []
    sighting, now = None, NOW
    for current, step in timeline:
        now += step
        change = look(sighting, current, now)
        if change is not None:
            told += change.events
            sighting = change.sighting
        assert look(sighting, current, now) is None

    finals = [current for current, _ in timeline if isinstance(current, Gone) or current.is_final]
    ends = [event for event in told if event in ENDS]
    assert ends == [_end(current) for current in finals[:1]]
    assert told.count(EventType.STALLED) <= 1
    assert told[-1:] == ends or told == [EventType.STALLED]


def _end(current: Look) -> EventType:
    if isinstance(current, Gone):
        return EventType.MISSING
    return EventType.COMPLETED if current is COMPLETED else EventType.FAILED
