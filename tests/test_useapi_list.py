import json
from collections.abc import AsyncIterator, Mapping
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
    Listed,
    Page,
    PageReading,
    Refused,
    Trouble,
    Unlistable,
    UseApi,
    classify_page,
)
from tests.support import hostile
from tests.support.servers import Reply, Server
from tests.support.tracks import answer, audio_id, completed, listing, track

NOW = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)
PAGE = "<!DOCTYPE html><html><h1>404</h1></html>"
LIST = "/v2/pixverse/music/"


def read(
    status: int, body: object = "", headers: Mapping[str, str] | None = None, offset: int = 0
) -> PageReading:
    """Classify an answer; a body that is no text is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return classify_page(Answer(status, CIMultiDict(headers or {}), text), offset, now=NOW)


@pytest.fixture
async def useapi(api: Server) -> AsyncIterator[UseApi]:
    token, base_url = (Scalar(text, Place(1, 1)) for text in ("user:1-abc", f"{api.url}/v2/pixverse"))
    useapi = UseApi(Useapi(token=token, base_url=base_url), SystemClock())
    yield useapi
    await useapi.close()


async def test_an_account_with_more_tracks_than_a_page_holds_is_read_page_by_page(
    api: Server, useapi: UseApi
) -> None:
    tracks = [track(number) for number in range(120, 0, -1)]
    api.otherwise(lambda request: listing(tracks, request))
    pages: list[Page] = []
    offset: int | None = 0
    while offset is not None:
        page = await useapi.read_page("me+a.b-c@example.com", offset)
        assert isinstance(page, Page)
        pages.append(page)
        offset = page.next_offset
    assert [page.offset for page in pages] == [0, 50, 100]
    entries = [entry for page in pages for entry in page.entries]
    assert [entry.audio_id for entry in entries] == [one["audio_id"] for one in tracks]
    assert [entry.position for entry in entries] == [*range(120)]
    assert [entry.track.fields for entry in entries] == tracks
    (first, *_) = api.requests
    assert (first.method, first.path) == ("GET", LIST)
    assert first.raw_path == f"{LIST}?email=me%2Ba.b-c@example.com&limit=50&offset=0"
    assert first.headers["Authorization"] == "Bearer user:1-abc"


async def test_a_page_of_fifty_tracks_with_long_words_is_read_and_a_larger_one_is_not(
    api: Server, useapi: UseApi
) -> None:
    api.otherwise(lambda request: listing([track(n, prompt="x" * 30_000) for n in range(50)], request))
    assert isinstance(await useapi.read_page("me@example.com"), Page)
    api.otherwise(lambda request: listing([track(n, prompt="x" * 50_000) for n in range(50)], request))
    assert await useapi.read_page("me@example.com") == Unlistable("HTTP 200: the list is larger than 2 MiB")


async def test_a_token_that_the_list_quotes_is_masked(api: Server, useapi: UseApi) -> None:
    for reply, kind in (
        (answer({"error": "user:1-abc!"}, 401), Refused),
        (Reply(400, "user:1-abc!"), Unlistable),
    ):
        api.reply(LIST, reply)
        reading = await useapi.read_page("me@example.com")
        assert isinstance(reading, kind)
        assert reading.reason.endswith("***!")
    api.otherwise(lambda request: listing([track(prompt="user:1-abc")], request))
    api.reply(LIST)
    page = await useapi.read_page("me@example.com")
    assert isinstance(page, Page)
    assert page.entries[0].track.text("prompt") == "***"


async def test_a_list_without_an_answer_is_an_outage_as_a_track_without_one(
    api: Server, useapi: UseApi
) -> None:
    api.reply(LIST, Reply(drop=True))
    reading = await useapi.read_page("me@example.com")
    assert isinstance(reading, Refused)
    assert (reading.trouble, reading.is_asked) == (Trouble.UNAVAILABLE, True)
    await api.stop()
    reading = await useapi.read_page("me@example.com")
    assert isinstance(reading, Refused)
    assert not reading.is_asked


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (401, Trouble.TOKEN),
        (402, Trouble.TOKEN),
        (429, Trouble.THROTTLED),
        (596, Trouble.ACCOUNT),
        (500, Trouble.UNAVAILABLE),
        (503, Trouble.UNAVAILABLE),
        (522, Trouble.UNAVAILABLE),
    ],
)
def test_what_closes_a_gate_for_tracks_closes_it_for_lists(status: int, trouble: Trouble) -> None:
    reading = read(status, {"error": "no"}, {"Retry-After": "7"})
    assert isinstance(reading, Refused)
    assert reading.trouble is trouble
    if status in {429, 503}:
        assert reading.after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": "email is required"}, "HTTP 400: email is required"),
        (403, {"error": "Forbidden"}, "HTTP 403: Forbidden"),
        (404, {"error": "no such account"}, "HTTP 404: no such account"),
        (404, PAGE, "HTTP 404: an HTML page"),
        (408, "", "HTTP 408"),
        (410, "", "HTTP 410"),
        (422, {"error": {"message": "odd"}}, "HTTP 422: odd"),
        (308, "", "HTTP 308: redirects to another path"),
        (204, "", "HTTP 204"),
        (200, "", "HTTP 200: no JSON instead of a list"),
        (200, PAGE, "HTTP 200: no JSON instead of a list"),
        (200, '{"data": [', "HTTP 200: no JSON instead of a list"),
        (200, "[" * 100_000, "HTTP 200: the list is nested too deeply"),
        (200, "null", "HTTP 200: the answer holds no list"),
        (200, [], "HTTP 200: the answer holds no list"),
        (200, {}, "HTTP 200: the answer holds no list"),
        (200, {"data": {"0": track()}}, "HTTP 200: the answer holds no list"),
        (200, track(), "HTTP 200: the answer holds no list"),
        (200, {"data": [], "has_more": True}, "HTTP 200: the list goes on without an entry"),
        (
            200,
            {"data": [], "has_more": True, "next_offset": 100},
            "HTTP 200: the list goes on without an entry",
        ),
        (
            200,
            {"data": [track()], "has_more": True, "next_offset": 50},
            "HTTP 200: the list goes on where it was",
        ),
        (
            200,
            {"data": [track()], "has_more": True, "next_offset": -1},
            "HTTP 200: the list goes on where it was",
        ),
    ],
)
def test_what_else_is_wrong_with_a_list_concerns_the_list_alone(
    status: int, body: object, reason: str
) -> None:
    is_permanent = status in {400, 403, 404, 410} and "page" not in reason  # a proxy's own
    assert read(status, body, offset=50) == Unlistable(reason, is_permanent)


@pytest.mark.parametrize(
    ("fields", "next_offset"),
    [
        ({"has_more": True, "next_offset": 52}, 52),
        ({"has_more": True, "next_offset": 51}, 51),  # it overlaps
        ({"has_more": True, "next_offset": 10**400}, 52),  # nothing is left out
        ({"has_more": True}, 52),
        ({"has_more": True, "next_offset": "52"}, 52),
        ({"has_more": False, "next_offset": 52}, None),
        ({"has_more": False, "next_offset": 0}, None),
        ({"next_offset": 52}, 52),
        ({"has_more": "yes", "next_offset": None}, None),
        ({}, None),
    ],
)
def test_a_list_goes_on_behind_what_was_read_or_ends(fields: dict[str, Any], next_offset: int | None) -> None:
    page = read(200, {"data": [track(2), track(1)], **fields}, offset=50)
    assert isinstance(page, Page)
    assert page.next_offset == next_offset


def test_entries_that_are_no_tracks_are_skipped_and_keep_their_places() -> None:
    speech = {"audio_id": "user:1-pixverse:me@example.com-audio:7", "audio_status": 1, "create_mode": "tts"}
    entries: list[Any] = [
        None,
        5,
        "text",
        [],
        {},
        {"audio_id": 7, "audio_status": 1},
        {"audio_status": 1},
        {"audio_id": audio_id(9)},
        speech,
        completed(2),
        track(2),
        track(1),
    ]
    page = read(200, {"data": entries}, offset=100)
    assert isinstance(page, Page)
    assert [(entry.audio_id, entry.position) for entry in page.entries] == [
        (speech["audio_id"], 108),
        (audio_id(2), 109),
        (audio_id(1), 111),
    ]
    assert page.entries[1].track.is_completed, "the first of several entries with the same audio_id counts"


def test_a_list_that_is_far_longer_than_asked_is_taken_to_a_point() -> None:
    page = read(200, {"data": [track(number) for number in range(1200)], "has_more": False})
    assert isinstance(page, Page)
    assert len(page.entries) == 1000
    assert page.next_offset is None


@given(st.integers(200, 999), hostile.texts, hostile.texts, hostile.texts)
def test_no_answer_can_raise_and_every_reason_is_one_short_line(
    status: int, body: str, retry_after: str, content_type: str
) -> None:
    reading = read(status, body, {"Retry-After": retry_after, "Content-Type": content_type})

    assert not isinstance(reading, Page)
    assert len(reading.reason) <= 300
    assert "\n" not in reading.reason
    assert hostile.misleading(reading.reason) == set()


@given(
    st.lists(st.one_of(hostile.values, hostile.answers()), max_size=4),
    st.dictionaries(st.sampled_from(["has_more", "next_offset", "error", "limit"]), hostile.values),
    st.integers(0, 1000),
)
def test_no_list_can_raise_or_lead_back(data: list[Any], fields: dict[str, Any], offset: int) -> None:
    reading = read(200, {**fields, "data": data}, offset=offset)

    assert isinstance(reading, Page | Unlistable)
    if isinstance(reading, Page):
        assert reading.next_offset is None or offset < reading.next_offset <= offset + len(data)
        assert all(isinstance(entry, Listed) and isinstance(entry.track, Track) for entry in reading.entries)
        positions = [entry.position for entry in reading.entries]
        assert positions == sorted({*positions})
