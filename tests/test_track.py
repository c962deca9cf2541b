import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given

from notifier.track import NotATrackError, Status, compact_json, parse, read_json
from tests.support import hostile
from tests.support.tracks import completed

ABSENT: dict[str, Any] = {}


def strictly(text: str) -> Any:
    """Decode JSON as a parser does that knows nothing of Python's liberties."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text.encode("utf-8").decode("utf-8"), parse_constant=refuse)


@pytest.mark.parametrize(
    ("fields", "status", "is_final"),
    [
        # the vendor's table, as documented
        (
            {"audio_status": 1, "audio_status_name": "COMPLETED", "audio_status_final": True},
            "COMPLETED",
            True,
        ),
        ({"audio_status": 5, "audio_status_name": "QUEUED", "audio_status_final": False}, "QUEUED", False),
        ({"audio_status": 8, "audio_status_name": "FAILED", "audio_status_final": True}, "FAILED", True),
        (
            {"audio_status": 10, "audio_status_name": "GENERATING", "audio_status_final": False},
            "GENERATING",
            False,
        ),
        # the final flag decides before the name
        ({"audio_status_name": "GENERATING", "audio_status_final": True}, "GENERATING", True),
        ({"audio_status_name": "COMPLETED", "audio_status_final": False}, "COMPLETED", False),
        ({"audio_status_name": "CANCELLED", "audio_status_final": True}, "CANCELLED", True),
        ({"audio_status_final": True}, "UNKNOWN", True),
        ({"audio_status_final": True, "audio_status": 1}, "COMPLETED", True),
        ({"audio_status_final": True, "audio_status": 7}, "UNKNOWN(7)", True),
        # without a flag the name decides before the number
        ({"audio_status": 10, "audio_status_name": "COMPLETED"}, "COMPLETED", True),
        ({"audio_status": 1, "audio_status_name": "GENERATING"}, "GENERATING", False),
        ({"audio_status": 1, "audio_status_name": "UPLOADING"}, "UPLOADING", False),
        ({"audio_status_name": "FAILED"}, "FAILED", True),
        ({"audio_status_name": " completed "}, "COMPLETED", True),
        # without flag and name the number decides
        ({"audio_status": 1}, "COMPLETED", True),
        ({"audio_status": 5}, "QUEUED", False),
        ({"audio_status": 8}, "FAILED", True),
        ({"audio_status": 10}, "GENERATING", False),
        ({"audio_status": 99}, "UNKNOWN(99)", False),
        ({"audio_status": -1}, "UNKNOWN(-1)", False),
        # null counts as absent
        ({"audio_status": 1, "audio_status_name": None, "audio_status_final": None}, "COMPLETED", True),
        ({"audio_status": None, "audio_status_name": "FAILED", "audio_status_final": None}, "FAILED", True),
        ({"audio_status": 1, "audio_status_name": " "}, "COMPLETED", True),
        # mistyped status fields end nothing
        (
            {"audio_status": 1, "audio_status_name": "COMPLETED", "audio_status_final": "true"},
            "COMPLETED",
            False,
        ),
        ({"audio_status": 1, "audio_status_name": "COMPLETED", "audio_status_final": 1}, "COMPLETED", False),
        ({"audio_status": 1, "audio_status_name": 5}, "COMPLETED", False),
        ({"audio_status": 1, "audio_status_name": []}, "COMPLETED", False),
        ({"audio_status": 1, "audio_status_name": ["COMPLETED"]}, "COMPLETED", False),
        ({"audio_status": "1"}, "UNKNOWN", False),
        ({"audio_status": 1.0}, "UNKNOWN", False),
        ({"audio_status": True}, "UNKNOWN", False),
        ({"audio_status": {"value": 1}}, "UNKNOWN", False),
        # hostile ones stay short and plain
        ({"audio_status": 10**400}, "UNKNOWN", False),
        ({"audio_status": -(10**400)}, "UNKNOWN", False),
        ({"audio_status": math.nan}, "UNKNOWN", False),
        ({"audio_status_name": "A" * 10_000}, "A" * 63 + "…", False),
        ({"audio_status_name": "BROKEN\n<!channel>\u202e"}, "BROKEN <!channel>", False),
        ({"audio_status_name": "\ud800"}, "\ufffd", False),
        ({"audio_status_name": "\u200b"}, "UNKNOWN", False),
    ],
)
def test_a_status_is_read_from_flag_then_name_then_number(
    fields: dict[str, Any], status: str, is_final: bool
) -> None:
    track = parse(fields)

    assert (track.status, track.is_final) == (status, is_final)


@pytest.mark.parametrize(
    ("fields", "is_completed"),
    [
        ({"audio_status_name": "COMPLETED", "audio_status_final": True}, True),
        ({"audio_status_name": "COMPLETED", "audio_status_final": False}, False),
        ({"audio_status_name": "FAILED", "audio_status_final": True}, False),
        ({"audio_status_name": "EXPIRED", "audio_status_final": True}, False),
        ({"audio_status_final": True}, False),
    ],
)
def test_only_final_and_completed_is_a_completion(fields: dict[str, Any], is_completed: bool) -> None:
    assert parse(fields).is_completed is is_completed


@pytest.mark.parametrize("status", ["QUEUED", "GENERATING", "COMPLETED", "FAILED"])
def test_the_documented_statuses_are_known(status: str) -> None:
    assert parse({"audio_status_name": status}).has_known_status


@pytest.mark.parametrize(
    "fields", [{"audio_status": 99}, {"audio_status_name": "PAUSED"}, {"audio_status": ""}]
)
def test_other_statuses_are_unknown(fields: dict[str, Any]) -> None:
    assert not parse(fields).has_known_status


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "the answer holds no status"),
        ({"error": "no such track"}, "the answer holds no status"),
        (
            {"audio_status": None, "audio_status_name": None, "audio_status_final": None},
            "the answer holds no status",
        ),
        ({"status": "finish", "url": "https://media.pixverse.ai/a.mp3"}, "the answer holds no status"),
        (None, "expected a track, got null"),
        ([], "expected a track, got a list"),
        ("COMPLETED", "expected a track, got text"),
        (1, "expected a track, got a number"),
        (1.5, "expected a track, got a number"),
        (True, "expected a track, got a boolean"),
    ],
)
def test_an_answer_without_a_status_is_no_track(answer: object, message: str) -> None:
    with pytest.raises(NotATrackError) as error:
        parse(answer)

    assert str(error.value) == message


def test_the_documented_track_is_read_whole() -> None:
    track = parse(completed(11223344, name="PixVerse_Music_11223344.mp3"))

    assert track.name == "PixVerse_Music_11223344.mp3"
    assert track.created_at == datetime(2026, 6, 23, 12, 34, 56, tzinfo=UTC)
    assert track.updated_at == datetime(2026, 6, 23, 12, 38, 18, tzinfo=UTC)
    assert track.number("duration") == 202
    assert track.text("model") == "music-2.6"
    assert track.fields == completed(11223344, name="PixVerse_Music_11223344.mp3")


@pytest.mark.parametrize(
    "value", [None, "202", True, False, [202], {"s": 202}, -1, math.nan, math.inf, 10**400]
)
def test_a_mistyped_number_counts_as_absent(value: object) -> None:
    assert parse(completed(duration=value)).number("duration") is None


@pytest.mark.parametrize("value", [0, 0.5, 202, 1e308])
def test_a_number_from_zero_up_is_taken(value: float) -> None:
    assert parse(completed(duration=value)).number("duration") == value


@pytest.mark.parametrize("value", [None, "", " \n", 5, True, ["music-2.6"], {"name": "music-2.6"}])
def test_mistyped_or_blank_text_counts_as_absent(value: object) -> None:
    assert parse(completed(model=value)).text("model") is None


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-06-23T12:34:56Z", datetime(2026, 6, 23, 12, 34, 56, tzinfo=UTC)),
        ("2026-06-23T14:34:56.5+02:00", datetime(2026, 6, 23, 12, 34, 56, 500000, tzinfo=UTC)),
        ("2026-06-23T12:34:56", datetime(2026, 6, 23, 12, 34, 56, tzinfo=UTC)),
        ("yesterday", None),
        ("2026-13-45T99:99:99Z", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("0001-01-01T00:00:00+23:59", None),
        (1750682096, None),
        (None, None),
    ],
)
def test_a_moment_that_is_none_counts_as_absent(value: object, moment: datetime | None) -> None:
    assert parse(completed(created_at=value)).created_at == moment


@given(hostile.answers())
def test_no_field_can_lose_a_track_that_has_a_status(answer: dict[str, Any]) -> None:
    track = parse(answer)

    assert track.is_final is answer["audio_status_final"]
    assert 1 <= len(track.status) <= 64
    assert track.status.encode()
    assert track.created_at is None or track.created_at.tzinfo is UTC


@given(hostile.values)
@example(10**5000)
@example({"a": [math.nan, math.inf, -math.inf]})
@example("\ud83d\ude00")
@example({"\ud800": "\udfff"})
def test_whatever_is_written_is_json_in_utf_8(value: object) -> None:
    text = compact_json(value)

    assert strictly(text) == strictly(compact_json(strictly(text)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None, 0.5]}, '{"a":1,"b":[true,null,0.5]}'),
        ("naïve ☃", '"naïve ☃"'),
        (math.nan, "null"),
        ([math.inf, -math.inf, 10**400, -(10**400)], "[null,null,null,null]"),
        (2**53 + 1, "9007199254740993"),
        ("\ud800", '"\ufffd"'),
        ("a\udc00b", '"a\ufffdb"'),
        ("\ud83d\ude00", '"😀"'),
        ({"\ud800": 1}, '{"\ufffd":1}'),
        ((1, 2), "[1,2]"),
    ],
)
def test_what_json_cannot_hold_becomes_null_or_a_replacement(value: object, text: str) -> None:
    assert compact_json(value) == text


def nested(levels: int) -> object:
    value: object = "core"
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_that_common_parsers_take_is_kept() -> None:
    assert strictly(compact_json(nested(60))) == nested(60)


@pytest.mark.parametrize("levels", [70, 5_000, 100_000])
def test_deeper_nesting_becomes_null_and_harms_nothing_beside_it(levels: int) -> None:
    text = compact_json({"prompt": "warm pads", "extra": nested(levels)})

    assert strictly(text)["prompt"] == "warm pads"
    assert "core" not in text


def test_a_number_with_thousands_of_digits_is_read_and_written_as_null() -> None:
    answer = read_json('{"audio_status": 1, "credits": ' + "9" * 5000 + ', "asset_id": -' + "9" * 5000 + "}")

    assert parse(answer).status == Status.COMPLETED
    assert parse(answer).number("credits") is None
    assert compact_json(answer) == '{"audio_status":1,"credits":null,"asset_id":null}'


@pytest.mark.parametrize("digits", ["0", "-7", "11223344", str(2**63), "9" * 308])
def test_whole_numbers_are_read_exactly(digits: str) -> None:
    assert read_json(digits) == int(digits)
