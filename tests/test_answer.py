import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from notifier.answer import (
    Answer,
    milliseconds,
    retry_after,
    seconds,
    told_wait,
    until_epoch,
    until_rfc3339,
)
from tests.support import hostile

NOW = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def answer(status: int = 200, body: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, CIMultiDict(headers or {}), body)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        # RFC 9110: whole seconds or an HTTP date in any of its three forms
        ("0", 0 * SECOND),
        ("120", 120 * SECOND),
        (" 7 ", 7 * SECOND),
        ("Tue, 23 Jun 2026 12:39:20 GMT", MINUTE),
        ("Tuesday, 23-Jun-26 12:39:20 GMT", MINUTE),
        ("Tue Jun 23 12:39:20 2026", MINUTE),
        ("Tue, 23 Jun 2026 14:39:20 +0200", MINUTE),
        ("Tue, 23 Jun 2026 12:39:20 -0000", MINUTE),
        # what servers send besides
        ("0.65", 0.65 * SECOND),
        ("1.5", 1.5 * SECOND),
        ("2e1", 20 * SECOND),
        # a date that has passed is no reason to wait
        ("Tue, 23 Jun 2026 12:38:19 GMT", 0 * SECOND),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0 * SECOND),
        # nobody makes us wait for more than a day
        ("86401", DAY),
        ("9" * 400, DAY),
        ("1e400", DAY),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        ("Fri, 31 Dec 9999 23:59:59 -2359", DAY),
        # what cannot be read is no hint
        ("", None),
        ("-5", None),
        ("+5", None),
        ("soon", None),
        ("NaN", None),
        ("inf", None),
        ("1_000", None),
        ("0x10", None),
        ("5 s", None),
        ("²", None),
        ("٣", None),
        ("12:30", None),
        ("2026-06-23T12:39:20Z", None),
        ("Tue, 99 Jun 2026 12:39:20 GMT", None),
        ("Tue, 23 Jun 2026 12:39:20 +999999", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_an_http_date(value: str, wait: timedelta | None) -> None:
    assert retry_after(CIMultiDict({"Retry-After": value}), NOW) == wait


def test_without_the_header_there_is_no_hint() -> None:
    assert retry_after(CIMultiDict({}), NOW) is None


def test_a_header_is_found_in_any_case() -> None:
    assert retry_after(CIMultiDict({"retry-AFTER": "3"}), NOW) == 3 * SECOND


@given(hostile.texts)
def test_no_header_can_raise_or_ask_for_more_than_a_day(value: str) -> None:
    wait = retry_after(CIMultiDict({"Retry-After": value}), NOW)

    assert wait is None or timedelta(0) <= wait <= DAY


@given(st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_http_date_is_the_wait_until_then(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    expected = min(max(whole - NOW, timedelta(0)), DAY)

    assert retry_after(CIMultiDict({"Retry-After": format_datetime(whole, usegmt=True)}), NOW) == expected


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (0, 0 * SECOND),
        (0.6, 0.6 * SECOND),
        (64, 64 * SECOND),
        ("64.57", 64.57 * SECOND),
        (10**400, DAY),
        (math.inf, DAY),
        (-0.0, 0 * SECOND),
        (-1, None),
        (-(10**400), None),
        (-math.inf, None),
        (math.nan, None),
        (True, None),
        (None, None),
        ([5], None),
        ({"s": 5}, None),
        ("", None),
        ("later", None),
    ],
)
def test_seconds_are_read_from_numbers_and_from_text(value: object, wait: timedelta | None) -> None:
    assert seconds(value) == wait


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (0, 0 * SECOND),
        (650, 0.65 * SECOND),
        (64_570.5, 64.5705 * SECOND),
        ("1500", 1.5 * SECOND),
        (86_400_000, DAY),
        (86_400_001, DAY),
        (10**400, DAY),
        ("9" * 400, DAY),
        (math.inf, DAY),
        (-1, None),
        (math.nan, None),
        (False, None),
        (None, None),
        ([5], None),
        ("later", None),
        ("Tue, 23 Jun 2026 12:39:20 GMT", None),
    ],
)
def test_milliseconds_are_read_as_seconds_are(value: object, wait: timedelta | None) -> None:
    assert milliseconds(value) == wait


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (1782218330, 30 * SECOND),
        (1782218330.25, 30.25 * SECOND),
        ("1782218330", 30 * SECOND),
        ("1782218330.250", 30.25 * SECOND),
        # a moment that has passed is no reason to wait
        (1782218300, 0 * SECOND),
        (1782218299, 0 * SECOND),
        (0, 0 * SECOND),
        # nobody makes us wait for more than a day
        (1782218300 + 86_401, DAY),
        (1782218330_000, DAY),  # milliseconds, perhaps
        (10**400, DAY),
        ("9" * 400, DAY),
        (math.inf, DAY),
        (-1782218330, None),
        (math.nan, None),
        (True, None),
        (None, None),
        ("", None),
        ("2026-06-23T12:38:50Z", None),
    ],
)
def test_a_moment_in_seconds_since_1970_is_read_as_the_wait_until_then(
    value: object, wait: timedelta | None
) -> None:
    assert until_epoch(value, NOW) == wait


@given(hostile.values)
def test_no_value_can_raise_or_ask_for_more_than_a_day(value: object) -> None:
    for wait in (
        seconds(value),
        milliseconds(value),
        until_epoch(value, NOW),
        until_rfc3339(value, NOW),
    ):
        assert wait is None or timedelta(0) <= wait <= DAY


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("2026-06-23T12:38:50Z", 30 * SECOND),
        ("2026-06-23T12:38:50.250Z", 30.25 * SECOND),
        ("2026-06-23T14:38:50+02:00", 30 * SECOND),
        ("2026-06-23T12:38:50", 30 * SECOND),
        ("2026-06-23T12:38:00Z", 0 * SECOND),
        ("2036-06-23T12:38:00Z", DAY),
        ("9999-12-31T23:59:59-23:59", None),
        ("tomorrow", None),
        ("", None),
        (30, None),
        (None, None),
    ],
)
def test_a_moment_is_read_as_the_wait_until_then(value: object, wait: timedelta | None) -> None:
    assert until_rfc3339(value, NOW) == wait


def test_a_moment_is_compared_with_any_clock_that_knows_its_zone() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))

    assert until_rfc3339("2026-06-23T12:38:50Z", elsewhere) == 30 * SECOND


@pytest.mark.parametrize(
    ("told", "further", "wait"),
    [
        (answer(429), [], MINUTE),
        (answer(429, "slow down"), [None, None], MINUTE),
        (answer(429, "<html><h1>429</h1></html>"), [], 15 * MINUTE),
        (answer(429, "error code: 1015", {"Content-Type": "text/html; charset=UTF-8"}), [], 15 * MINUTE),
        (answer(429, "<html></html>", {"Retry-After": "20"}), [], 20 * SECOND),
        (answer(429, "", {"Retry-After": "20"}), [], 20 * SECOND),
        (answer(429, "", {"Retry-After": "rubbish"}), [], MINUTE),
        (answer(429, "", {"Retry-After": "20"}), [25 * SECOND, None, 3 * SECOND], 25 * SECOND),
        (answer(429, "", {"Retry-After": "0"}), [], 0 * SECOND),
        (answer(429), [2 * SECOND], 2 * SECOND),
    ],
)
def test_a_429_waits_for_its_longest_hint_or_carefully_without_one(
    told: Answer, further: list[timedelta | None], wait: timedelta
) -> None:
    assert told_wait(told, NOW, *further) == wait


@pytest.mark.parametrize(
    ("body", "content_type", "is_html"),
    [
        ("<!DOCTYPE html><html></html>", "text/html", True),
        ("\n  <html></html>", "text/plain", True),
        ("\ufeff<html></html>", "", True),
        ("Bad Gateway", "text/html; charset=utf-8", True),
        ("Bad Gateway", "TEXT/HTML", True),
        ('{"error": "<html>"}', "application/json", False),
        ("ok", "text/plain", False),
        ("", "", False),
    ],
)
def test_a_page_for_people_is_recognised(body: str, content_type: str, is_html: bool) -> None:
    assert answer(502, body, {"content-type": content_type}).is_html is is_html


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (answer(200, "ok"), "HTTP 200: ok"),
        (answer(204), "HTTP 204"),
        (answer(404, "no_service"), "HTTP 404: no_service"),
        (answer(404, "no_service", {"Content-Type": "text/html"}), "HTTP 404: no_service"),
        (answer(400, "invalid\n\tblocks\x00\u202e"), "HTTP 400: invalid blocks"),
        (answer(502, "<html><h1>Bad Gateway</h1></html>"), "HTTP 502: an HTML page"),
        (answer(502, "", {"Content-Type": "text/html"}), "HTTP 502"),
        (answer(596, '{"error": "x"}'), 'HTTP 596: {"error": "x"}'),
    ],
)
def test_an_answer_is_described_in_a_line(told: Answer, line: str) -> None:
    assert told.describe() == line


def test_what_the_caller_read_from_the_body_takes_its_place() -> None:
    assert answer(400, '{"error": "bad\nid"}').describe("bad\nid") == "HTTP 400: bad id"


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ("https://login.example/start?token=SECRET#x", "HTTP 302: redirects to https://login.example"),
        ("https://user:SECRET@login.example:8443/SECRET", "HTTP 302: redirects to https://login.example"),
        ("//login.example/SECRET", "HTTP 302: redirects to login.example"),
        ("/hooks/SECRET", "HTTP 302: redirects to another path"),
        ("", "HTTP 302: redirects to another path"),
        ("http://[", "HTTP 302: redirects to nowhere"),
    ],
)
def test_of_a_redirect_only_the_host_is_told(location: str, line: str) -> None:
    assert answer(302, "<html>SECRET</html>", {"Location": location}).describe() == line


def test_a_redirect_without_a_location_is_told_too() -> None:
    assert answer(301).describe() == "HTTP 301: redirects to another path"


@given(st.integers(200, 999), hostile.texts, hostile.texts, st.none() | hostile.texts)
def test_a_description_is_always_one_short_line(
    status: int, body: str, location: str, said: str | None
) -> None:
    line = answer(status, body, {"Location": location}).describe(said)

    assert line.startswith(f"HTTP {status}")
    assert len(line) <= 300
    assert "\n" not in line
    assert hostile.misleading(line) == set()


@pytest.mark.parametrize(
    ("body", "members"),
    [
        ('{"a": 1}', {"a": 1}),
        (' {"a": 1}\n', {"a": 1}),
        ("[1]", {}),
        ("null", {}),
        ("1", {}),
        ("ok", {}),
        ("", {}),
        ('{"a": ', {}),
        ("[" * 100_000, {}),
        ('{"a": ' + "9" * 5000 + "}", {}),
        (json.dumps({"a": "ü"}), {"a": "ü"}),
    ],
)
def test_a_body_without_a_json_object_has_no_members(body: str, members: dict[str, object]) -> None:
    assert answer(200, body).json_object() == members
