from datetime import UTC, datetime
from random import Random

import pytest

from notifier.track import Status, parse
from notifier.transition import Sighting
from notifier.trust import Trust, contradicts, is_doubtful
from tests.support.tracks import completed, failed, track

NOW = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)
QUEUED = track(audio_status=5, audio_status_name="QUEUED")


def seen(status: str | None) -> Sighting | None:
    return None if status is None else Sighting(status, is_final=False, name=None, first_seen=NOW)


def test_a_list_is_left_alone_for_a_time_that_doubles_up_to_six_hours() -> None:
    trust, now, waits = Trust(Random(1)), 1000.0, []
    assert trust.holds(now)
    for _ in range(9):
        waits.append(trust.lose(now).total_seconds() / 60)
        assert not trust.holds(now + waits[-1] * 60 - 1)
        now += waits[-1] * 60
        assert trust.holds(now)
    for wait, doubled in zip(waits, [5, 10, 20, 40, 80, 160, 320, 360, 360], strict=True):
        assert doubled <= wait <= doubled * 1.2


def test_a_list_that_was_well_for_as_long_as_it_was_left_alone_is_as_good_as_new() -> None:
    trust = Trust(Random(1))
    trust.lose(0)
    wait = trust.lose(400).total_seconds()
    again = trust.lose(400 + 2 * wait - 1).total_seconds()
    assert (wait >= 600, again >= 1200) == (True, True)
    assert trust.lose(400 + 2 * wait + 2 * again).total_seconds() <= 360


@pytest.mark.parametrize(
    ("before", "fields", "is_so"),
    [
        (None, track(), False),
        ("QUEUED", track(), False),
        ("GENERATING", track(), False),
        ("GENERATING", completed(), False),
        (None, failed(), False),
        (None, failed(fail_code=None), False),
        ("UNKNOWN", QUEUED, False),
        ("GENERATING", QUEUED, True),  # it goes back
        (None, completed(url=None), True),
        (None, completed(url=" "), True),
        (None, failed(fail_code=None, fail_reason=None), True),
        (None, track(audio_status_name="THINKING"), True),
        ("GENERATING", track(audio_status_name="THINKING"), True),
        ("THINKING", track(audio_status_name="THINKING"), False),
        ("THINKING", track(audio_status_name="THINKING", audio_status_final=True), True),
        (None, track(audio_status_name="THINKING", audio_status_final=True), True),
        (None, track(audio_status_final=True), True),
        (None, completed(audio_status_final=False), True),
        ("COMPLETED", completed(audio_status_final=False), False),
        (None, completed(audio_status_final="yes"), True),
    ],
)
def test_what_a_list_says_oddly_is_doubted(
    before: str | None, fields: dict[str, object], is_so: bool
) -> None:
    assert is_doubtful(seen(before), parse(fields)) is is_so


@pytest.mark.parametrize(
    ("before", "listed", "read", "is_so"),
    [
        # the end that a list tells of has to be the end
        (None, completed(url=None), completed(), False),
        (None, completed(url=None), track(), True),
        (None, completed(url=None), failed(), True),
        # an end that a list does not know of yet has to have come a moment ago
        ("GENERATING", track(), completed(updated_at="2026-06-23T12:38:21Z"), False),
        ("GENERATING", track(), completed(updated_at="2026-06-23T12:38:16Z"), False),
        ("GENERATING", track(), completed(updated_at="2026-06-23T12:38:14Z"), True),
        ("GENERATING", track(), completed(updated_at=None), True),
        # a step back has to be one
        ("GENERATING", QUEUED, track(), True),
        ("GENERATING", QUEUED, QUEUED, False),
        ("QUEUED", QUEUED, track(), False),
        (None, track(audio_status_name="THINKING"), track(audio_status_name="DREAMING"), False),
    ],
)
def test_a_list_is_contradicted_by_what_it_cannot_have_missed_by_a_moment(
    before: str | None, listed: dict[str, object], read: dict[str, object], is_so: bool
) -> None:
    assert contradicts(parse(listed), parse(read), before=seen(before), listed_at=NOW) is is_so


def test_the_order_of_the_statuses_is_the_documented_one() -> None:
    assert not is_doubtful(seen(Status.QUEUED), parse(track()))
    assert is_doubtful(seen(Status.GENERATING), parse(QUEUED))
