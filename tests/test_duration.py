import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.duration import (
    DURATION_FORM,
    LONGEST,
    RATE_FORM,
    SHORTEST,
    ago,
    parse_duration,
    parse_rate,
    spell,
    spell_compact,
)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("15s", timedelta(seconds=15)),
        ("5m", timedelta(minutes=5)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1h30m", timedelta(minutes=90)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        ("1.5h", timedelta(minutes=90)),
        ("0.5s", timedelta(milliseconds=500)),
        ("15", timedelta(seconds=15)),
        ("0.25", timedelta(milliseconds=250)),
        ("010", timedelta(seconds=10)),
        ("50ms", SHORTEST),
        ("3650d", LONGEST),
    ],
)
def test_a_duration_is_read_in_every_way_it_is_documented(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert re.search(DURATION_FORM, text)


FORM = "is not a duration: write it like 250ms, 15s, 5m, 2h, 1h30m or 3d"
SHORT = "is too short: the shortest duration is 50ms"
LONG = "is too long: the longest duration is 3650d"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", FORM),
        ("soon", FORM),
        ("15 s", FORM),
        (" 15s", FORM),
        ("15s\n", FORM),
        ("15S", FORM),
        ("5M", FORM),
        ("5min", FORM),
        ("1w", FORM),
        ("-5s", FORM),
        ("+5s", FORM),
        ("-1", FORM),
        (".5s", FORM),
        ("1.s", FORM),
        ("1,5s", FORM),
        ("1e3", FORM),
        ("1:30", FORM),
        ("0x10", FORM),
        ("1h 30m", FORM),
        ("1h30", FORM),
        ("s", FORM),
        ("nan", FORM),
        ("inf", FORM),
        ("١٥s", FORM),
        ("1\u00b2s", FORM),
        ("0", SHORT),
        ("0s", SHORT),
        ("0d0h", SHORT),
        ("49ms", SHORT),
        ("0.049", SHORT),
        ("3651d", LONG),
        ("3650d1ms", LONG),
        ("9" * 400 + "s", LONG),
        ("9" * 400, LONG),
    ],
)
def test_what_is_no_duration_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        parse_duration(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        ("5/s", timedelta(milliseconds=200)),
        ("30/m", timedelta(seconds=2)),
        ("100/h", timedelta(seconds=36)),
        ("0.5/s", timedelta(seconds=2)),
        ("1/h", timedelta(hours=1)),
        ("100000/s", timedelta(microseconds=10)),
    ],
)
def test_a_rate_is_read_as_the_time_between_two_requests(text: str, spacing: timedelta) -> None:
    rate = parse_rate(text)
    assert (rate.spacing, rate.text) == (spacing, text)
    assert re.search(RATE_FORM, text)


RATE = "is not a rate: write it like 5/s, 30/m or 100/h"
ZERO = "is not a rate: it must be above zero"
QUICK = "is too quick: the highest rate is 100000/s"
SLOW = "is too slow: that is less than one request in 3650d"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", RATE),
        ("5", RATE),
        ("5/S", RATE),
        ("5/d", RATE),
        ("5 / s", RATE),
        ("5/1s", RATE),
        ("-5/s", RATE),
        ("s/5", RATE),
        ("٥/s", RATE),
        ("5/s\n", RATE),
        ("0/s", ZERO),
        ("0.0/h", ZERO),
        ("0." + "0" * 400 + "1/s", ZERO),
        ("100001/s", QUICK),
        ("9" * 400 + "/h", QUICK),
        ("0.000001/h", SLOW),
    ],
)
def test_what_is_no_rate_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        parse_rate(text)
    assert str(caught.value) == sentence


@given(st.text(alphabet="0123456789.mshd/ -", max_size=12))
def test_reading_any_text_gives_a_usable_duration_or_a_sentence(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert SHORTEST <= duration <= LONGEST
    assert re.search(DURATION_FORM, text)


@given(st.integers(50, 3650 * 86_400_000))
def test_a_duration_written_for_the_watchlist_reads_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(spell_compact(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "compact", "for_people"),
    [
        (timedelta(0), "0s", "0s"),
        (timedelta(milliseconds=200), "200ms", "200ms"),
        (timedelta(seconds=45), "45s", "45s"),
        (timedelta(seconds=90), "1m30s", "1m 30s"),
        (timedelta(minutes=5), "5m", "5m"),
        (timedelta(hours=72), "3d", "3d"),
        (timedelta(hours=1, minutes=30, seconds=5), "1h30m5s", "1h 30m"),
        (timedelta(days=2, hours=3, minutes=4), "2d3h4m", "2d 3h"),
        (timedelta(seconds=59.6), "59s600ms", "1m"),
    ],
)
def test_a_duration_is_written_for_the_file_and_for_people(
    duration: timedelta, compact: str, for_people: str
) -> None:
    assert (spell_compact(duration), spell(duration)) == (compact, for_people)


def test_a_wait_that_is_over_is_written_as_none() -> None:
    assert spell(timedelta(seconds=-3)) == "0s"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0s ago"),
        (0.475, "0s ago"),
        (0.6, "1s ago"),
        (59.6, "1m ago"),
        (5400, "1h ago"),
        (200_000, "2d ago"),
    ],
)
def test_how_long_ago_is_told_in_the_largest_unit_and_no_smaller_one_than_seconds(
    seconds: float, said: str
) -> None:
    now = datetime(2026, 6, 23, 12, tzinfo=UTC)
    assert ago(now - timedelta(seconds=seconds), now) == said


def test_what_never_happened_was_never() -> None:
    assert ago(None, datetime(2026, 6, 23, 12, tzinfo=UTC)) == "—"
