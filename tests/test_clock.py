from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.clock import SystemClock, from_rfc3339, to_rfc3339, until_next_second

moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 6, 23, 12, 38, 20, 123000, UTC), "2026-06-23T12:38:20.123Z"),
        (datetime(2026, 6, 23, 12, 38, 20, 0, UTC), "2026-06-23T12:38:20.000Z"),
        (datetime(2026, 6, 23, 12, 38, 20, 123999, UTC), "2026-06-23T12:38:20.123Z"),
        (
            datetime(2026, 6, 24, 1, 8, 20, 0, timezone(timedelta(hours=12, minutes=30))),
            "2026-06-23T12:38:20.000Z",
        ),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_milliseconds(moment: datetime, written: str) -> None:
    assert to_rfc3339(moment) == written


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-06-23T12:38:20Z", datetime(2026, 6, 23, 12, 38, 20, 0, UTC)),
        ("2026-06-23t12:38:20z", datetime(2026, 6, 23, 12, 38, 20, 0, UTC)),
        ("2026-06-23 12:38:20+00:00", datetime(2026, 6, 23, 12, 38, 20, 0, UTC)),
        ("2026-06-23T12:38:20.1Z", datetime(2026, 6, 23, 12, 38, 20, 100000, UTC)),
        ("2026-06-23T12:38:20.123456789Z", datetime(2026, 6, 23, 12, 38, 20, 123456, UTC)),
        ("2026-06-23T14:38:20+02:00", datetime(2026, 6, 23, 12, 38, 20, 0, UTC)),
        ("2026-06-23T12:38:20", datetime(2026, 6, 23, 12, 38, 20, 0, UTC)),
    ],
)
def test_a_moment_is_read_into_utc(written: str, moment: datetime) -> None:
    read = from_rfc3339(written)
    assert (read, read.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "1750000000",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-06-23T25:00:00Z",
        "2026-06-23T12:38:20+25:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "２０２６-06-23T12:38:20Z",
        "2026-06-23T12:38:20Z\n",
        "\ud800",
    ],
)
def test_what_is_no_moment_is_a_value_error(written: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        from_rfc3339(written)


@given(st.text(max_size=40))
def test_reading_any_text_gives_a_moment_in_utc_or_a_value_error(text: str) -> None:
    try:
        moment = from_rfc3339(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC


@given(moments)
def test_a_written_moment_reads_back_to_the_millisecond(moment: datetime) -> None:
    assert from_rfc3339(to_rfc3339(moment)) == moment - timedelta(microseconds=moment.microsecond % 1000)


def test_the_clocks_of_this_machine_are_in_utc_and_go_forward() -> None:
    clock = SystemClock()
    first, second = clock.monotonic(), clock.monotonic()
    assert first <= second
    assert clock.now().tzinfo is UTC


@given(st.floats(0, 1e8))
def test_what_is_done_every_second_is_done_in_the_same_moments(now: float) -> None:
    pause = until_next_second(now)
    assert 0.5 <= pause < 1.5
    assert (now + pause) % 1 == pytest.approx(0, abs=1e-6) or (now + pause) % 1 == pytest.approx(1, abs=1e-6)
