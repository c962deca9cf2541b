import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from notifier.answer import Answer
from notifier.clock import SystemClock
from notifier.config import Useapi
from notifier.document import Scalar
from notifier.mistake import Place
from notifier.track import Track
from notifier.useapi import (
    LARGEST_ANSWER,
    NotFound,
    Reading,
    Refused,
    Trouble,
    Unreadable,
    UseApi,
    account_of,
    classify,
)
from tests.support import hostile
from tests.support.servers import raw_server
from tests.support.tracks import audio_id, completed, track

NOW = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
PAGE = "<!DOCTYPE html><html><h1>504 Gateway Time-out</h1></html>"


def read(status: int, body: object = "", headers: Mapping[str, str] | None = None) -> Reading:
    """Classify an answer; a body that is no text is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return classify(Answer(status, CIMultiDict(headers or {}), text), now=NOW)


def unavailable(reason: str, after: timedelta | None = None) -> Refused:
    return Refused(Trouble.UNAVAILABLE, reason, after)


@pytest.mark.parametrize(
    ("status", "body", "reading"),
    [
        # the documented errors
        (400, {"error": "bad id", "code": 400}, Unreadable("HTTP 400: bad id", is_permanent=True)),
        (401, {"error": "Unauthorized", "code": 401}, Refused(Trouble.TOKEN, "HTTP 401: Unauthorized")),
        (404, {"error": "Music x not found"}, NotFound("HTTP 404: Music x not found", is_gone=False)),
        # what a proxy does not find may well be there
        (404, PAGE, unavailable("HTTP 404: an HTML page")),
        (410, PAGE, unavailable("HTTP 410: an HTML page")),
        # those of the vendor's other endpoints
        (402, {"error": "Subscription expired"}, Refused(Trouble.TOKEN, "HTTP 402: Subscription expired")),
        (403, {"error": "Forbidden"}, Unreadable("HTTP 403: Forbidden", is_permanent=True)),
        (408, {"error": "Timeout"}, unavailable("HTTP 408: Timeout")),
        (410, {"error": "Job expired"}, NotFound("HTTP 410: Job expired", is_gone=True)),
        (412, {"error": "No credits"}, Unreadable("HTTP 412: No credits", is_permanent=False)),
        (422, {"error": "Moderated"}, Unreadable("HTTP 422: Moderated", is_permanent=False)),
        (429, {"error": "Slow down"}, Refused(Trouble.THROTTLED, "HTTP 429: Slow down", MINUTE)),
        (596, {"error": "Account error"}, Refused(Trouble.ACCOUNT, "HTTP 596: Account error")),
        *(
            (status, {"error": "Oops"}, unavailable(f"HTTP {status}: Oops"))
            for status in (500, 502, 503, 504)
        ),
        *((status, "", unavailable(f"HTTP {status}")) for status in (520, 522, 523, 524, 599)),
        # what no table knows is judged by its class
        (405, "", Unreadable("HTTP 405", is_permanent=True)),
        (418, "teapot", Unreadable("HTTP 418: teapot", is_permanent=True)),
        (204, "", unavailable("HTTP 204")),
        (206, "", unavailable("HTTP 206")),
        (999, "", unavailable("HTTP 999")),
    ],
)
def test_a_status_is_judged_after_the_vendors_table(status: int, body: object, reading: Reading) -> None:
    assert read(status, body) == reading


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": "text", "code": 500}, "HTTP 500: text"),
        ({"error": "text"}, "HTTP 500: text"),
        (
            {"error": {"code": 3, "message": "quota\nis used up", "status": "RESOURCE_EXHAUSTED"}},
            "HTTP 500: quota is used up",
        ),
        (
            {"error": {"code": 3, "status": "INTERNAL"}},
            'HTTP 500: {"error": {"code": 3, "status": "INTERNAL"}}',
        ),
        ({"error": None, "message": "down"}, 'HTTP 500: {"error": null, "message": "down"}'),
        ({"error": 7}, 'HTTP 500: {"error": 7}'),
        ({"error": ["a", "b"]}, 'HTTP 500: {"error": ["a", "b"]}'),
        ({}, "HTTP 500: {}"),
        (["a"], 'HTTP 500: ["a"]'),
        ("null", "HTTP 500: null"),
        ("upstream connect error", "HTTP 500: upstream connect error"),
        (PAGE, "HTTP 500: an HTML page"),
        ("", "HTTP 500"),
        ('{"error": "cut sho', 'HTTP 500: {"error": "cut sho'),
        ({"error": "x" * 10_000}, "HTTP 500: " + "x" * 289 + "…"),
    ],
)
def test_every_form_of_error_is_told_in_a_line(body: object, reason: str) -> None:
    assert read(500, body) == unavailable(reason)


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        ({"Retry-After": "30"}, {"error": "slow down"}, 30 * SECOND),
        ({"Retry-After": "Tue, 23 Jun 2026 12:40:20 GMT"}, {"error": "slow down"}, 2 * MINUTE),
        ({}, {"error": "slow down", "retryAfter": "2026-06-23T12:38:55Z"}, 35 * SECOND),
        ({"Retry-After": "30"}, {"error": "x", "retryAfter": "2026-06-23T12:38:55Z"}, 35 * SECOND),
        ({"Retry-After": "40"}, {"error": "x", "retryAfter": "2026-06-23T12:38:55Z"}, 40 * SECOND),
        ({"Retry-After": "90000"}, {"error": "slow down"}, DAY),
        ({"Retry-After": "soon"}, {"error": "slow down", "retryAfter": "later"}, MINUTE),
        ({"Retry-After": "-1"}, {"error": "slow down", "retryAfter": -1}, MINUTE),
        ({}, "", MINUTE),
        ({}, PAGE, 15 * MINUTE),
        ({"Retry-After": "5"}, PAGE, 5 * SECOND),
    ],
)
def test_a_throttled_token_waits_as_it_was_told(
    headers: dict[str, str], body: object, wait: timedelta
) -> None:
    reading = read(429, body, headers)

    assert isinstance(reading, Refused)
    assert (reading.trouble, reading.after) == (Trouble.THROTTLED, wait)


def test_a_server_in_trouble_may_name_the_wait_as_well() -> None:
    assert read(503, "", {"Retry-After": "120"}) == unavailable("HTTP 503", 2 * MINUTE)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Location": "https://login.example/?token=SECRET"}, "HTTP 302: redirects to https://login.example"),
        ({}, "HTTP 302: redirects to another path"),
    ],
)
def test_a_redirect_is_not_followed_and_tells_no_secret(headers: dict[str, str], reason: str) -> None:
    assert read(302, PAGE, headers) == unavailable(reason)


def test_a_track_is_read() -> None:
    reading = read(200, completed(7))

    assert isinstance(reading, Track)
    assert reading.is_completed
    assert reading.fields == completed(7)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "HTTP 200: an empty body instead of a track"),
        (" \n", "HTTP 200: an empty body instead of a track"),
        (PAGE, "HTTP 200: an HTML page instead of a track"),
        ("ok", "HTTP 200: no JSON instead of a track"),
        (json.dumps(completed())[:-20], "HTTP 200: no JSON instead of a track"),
    ],
)
def test_a_body_that_no_api_sends_concerns_every_track(body: str, reason: str) -> None:
    assert read(200, body) == unavailable(reason)


def test_a_page_of_a_proxy_is_recognised_by_its_type_too() -> None:
    reading = read(200, "Please log in", {"Content-Type": "text/html"})

    assert reading == unavailable("HTTP 200: an HTML page instead of a track")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([], "HTTP 200: expected a track, got a list"),
        ([completed()], "HTTP 200: expected a track, got a list"),
        ("null", "HTTP 200: expected a track, got null"),
        (1, "HTTP 200: expected a track, got a number"),
        ("NaN", "HTTP 200: expected a track, got a number"),
        ("true", "HTTP 200: expected a track, got a boolean"),
        ('"COMPLETED"', "HTTP 200: expected a track, got text"),
        ({}, "HTTP 200: the answer holds no status"),
        ({"error": "still\nwarming up"}, "HTTP 200: the answer holds no status (still warming up)"),
        ({"error": {"message": "oops"}}, "HTTP 200: the answer holds no status (oops)"),
        ({"data": [completed()]}, "HTTP 200: the answer holds no status"),
        ('{"x": ' + "[" * 100_000, "HTTP 200: the answer is nested too deeply"),
    ],
)
def test_json_that_is_no_track_concerns_this_track_alone(body: object, reason: str) -> None:
    assert read(200, body) == Unreadable(reason, is_permanent=False)


async def test_an_answer_that_breaks_off_is_none_even_if_it_reads_as_a_track() -> None:
    content = json.dumps(completed()).encode()
    sent = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content) + 1, content)
    async with raw_server(sent) as port:
        token, base_url = (Scalar(text, Place(1, 1)) for text in ("abc", f"http://127.0.0.1:{port}"))
        api = UseApi(Useapi(token=token, base_url=base_url), SystemClock())
        reading = await api.read(api.url_of(audio_id(1)))
        await api.close()

    reason = "the answer of 127.0.0.1 was cut short"
    assert reading == Refused(Trouble.UNAVAILABLE, reason)


@pytest.mark.parametrize("letter", ["a", "ü", "音", "😀", "\ufffd"])
def test_an_answer_that_was_cut_for_its_size_concerns_this_track_alone(letter: str) -> None:
    content = json.dumps(completed(prompt=letter * LARGEST_ANSWER), ensure_ascii=False).encode()
    as_read = content[: LARGEST_ANSWER + 1].decode("utf-8", "replace")

    assert read(200, as_read) == Unreadable("HTTP 200: the answer is larger than 512 KiB", is_permanent=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": None, "duration": "long", "created_at": 5, "url": []},
        {"extra": {"deep": [[[[[]]]]]}},
        {"credits": float("nan"), "duration": float("inf")},
        {"prompt": "\ud800"},
        {"prompt": "x" * 100_000},
        {"error": "a warning"},
    ],
)
def test_no_other_field_can_lose_a_track(fields: dict[str, Any]) -> None:
    reading = read(200, completed(**fields))

    assert isinstance(reading, Track)
    assert reading.is_completed


def test_a_number_of_any_length_cannot_lose_a_track() -> None:
    body = json.dumps(track()).replace('"credits": 40', '"credits": ' + "4" * 10_000)

    assert isinstance(read(200, body), Track)


@given(st.integers(200, 999), hostile.texts, hostile.texts, hostile.texts)
def test_no_answer_can_raise_and_every_reason_is_one_short_line(
    status: int, body: str, retry_after: str, content_type: str
) -> None:
    reading = read(status, body, {"Retry-After": retry_after, "Content-Type": content_type})

    assert not isinstance(reading, Track)
    assert len(reading.reason) <= 300
    assert "\n" not in reading.reason
    assert hostile.misleading(reading.reason) == set()


@given(hostile.values)
def test_no_json_can_raise(value: object) -> None:
    reading = read(200, value if not isinstance(value, str) else json.dumps(value))

    assert isinstance(reading, Unreadable | Track)


@pytest.mark.parametrize(
    ("identifier", "account"),
    [
        (audio_id(456), "me@example.com"),
        (audio_id(456, "first.last+music-1@sub.example.com"), "first.last+music-1@sub.example.com"),
        ("user:1-pixverse:a-music:b@example.com-music:2", "a-music:b@example.com"),
        ("user:1-pixverse:a@b-pixverse:c-music:2", "a@b-pixverse:c"),
    ],
)
def test_the_account_of_a_track_is_its_address(identifier: str, account: str) -> None:
    assert account_of(identifier) == account
