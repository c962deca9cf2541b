import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.hint import tracks_in
from notifier.settings import is_audio_id
from tests.support.tracks import audio_id, completed

ONE, TWO = audio_id(1), audio_id(2, "a+b.c@example.com")


@pytest.mark.parametrize(
    "said",
    [
        completed(),
        {"audio_id": ONE},
        {"data": {"audio_id": ONE}},
        {"track": {"audioId": ONE}, "replyRef": "mine"},
        {"event": "done", "payload": {"result": [{"music": {"id": ONE}}]}},
        [completed()],
        ONE,
        {"replyRef": ONE},
    ],
)
def test_a_track_is_found_wherever_it_is_named(said: Any) -> None:
    assert tracks_in(json.dumps(said).encode()) == (ONE,)


@pytest.mark.parametrize(
    "body",
    [
        urlencode({"audio_id": ONE, "status": "COMPLETED"}),
        urlencode({"payload": json.dumps(completed())}),
        f"audio_id={quote(ONE, safe='')}&x",
        "  " + json.dumps({"audio_id": ONE}) + "\r\n",
    ],
)
def test_a_form_and_stray_white_space_are_read_too(body: str) -> None:
    assert tracks_in(body.encode()) == (ONE,)


def test_the_outermost_comes_first_and_each_once() -> None:
    said = {"more": [{"audio_id": TWO}, {"audio_id": ONE}], "audio_id": ONE}
    assert tracks_in(json.dumps(said).encode()) == (ONE, TWO)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"audio_id": ' * 5_000,
        b"1" * 60_000,
        b"&" * 60_000,
        b'{"audio_id": 7, "data": null}',
        json.dumps({"prompt": f"about {ONE}"}).encode(),
        json.dumps({ONE: 1}).encode(),
        json.dumps({"audio_id": ONE + "\n"}).encode(),
        json.dumps({"audio_id": ONE.replace("me@", "m" * 600 + "@")}).encode(),
    ],
)
def test_what_names_no_track_is_about_none(body: bytes) -> None:
    assert tracks_in(body) == ()


def test_so_many_tracks_of_one_call_and_no_more_are_looked_after() -> None:
    said = [audio_id(number) for number in range(1000)]
    assert tracks_in(json.dumps(said).encode()) == tuple(said[:10])


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.sampled_from([ONE, TWO]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", ONE]), inner),
    max_leaves=9,
)


@given(st.binary())
def test_whatever_comes_nothing_breaks_and_nothing_is_made_up(body: bytes) -> None:
    assert all(is_audio_id(one) for one in tracks_in(body))


@given(_JSON)
def test_a_track_is_found_where_it_is_a_value_and_nowhere_else(said: Any) -> None:
    assert {*tracks_in(json.dumps(said).encode())} == {*_values(said)} & {ONE, TWO}


def _values(said: Any) -> Iterator[str]:
    inner = said.values() if isinstance(said, dict) else said if isinstance(said, list) else ()
    for one in inner:
        yield from _values(one)
    if isinstance(said, str):
        yield said
