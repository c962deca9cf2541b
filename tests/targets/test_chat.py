from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import pytest

from notifier.message import Message
from notifier.targets.chat import Chat, Payload, as_many_as_fit
from tests.support.hostile import NOW
from tests.support.tracks import completed
from tests.targets.given import news, payload_of, takes, told_in_full, written

URL = "https://notes.example/hook"


class Notes(Chat):
    """A chat service that has room for so many messages and shows in which form it was asked to tell them."""

    type: Literal["notes"]
    room: int = 1000

    def cards(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        return self._noted("cards", messages)

    def summed_up(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        return self._noted("summed up", messages)

    def plain(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        return self._noted("plain", messages)

    def _noted(self, form: str, messages: Sequence[Message]) -> tuple[Payload, int]:
        told = messages[: self.room]
        return {"form": form, "told": [message.headline for message in told]}, len(told)


def notes(room: int = 1000) -> Notes:
    return Notes.model_validate({**written({"type": "notes", "url": URL}), "room": room})


@pytest.mark.parametrize(
    ("waiting", "is_plain", "form", "told"),
    [
        (1, False, "cards", 1),
        (10, False, "cards", 10),
        (11, False, "summed up", 11),
        (50, False, "summed up", 50),
        (51, False, "summed up", 50),
        (200, False, "summed up", 50),
        (1, True, "plain", 1),
        (10, True, "plain", 10),
        (11, True, "plain", 11),
        (200, True, "plain", 50),
    ],
)
def test_how_many_wait_decides_the_form_of_a_message(
    waiting: int, is_plain: bool, form: str, told: int
) -> None:
    request = notes().render(takes(waiting), now=NOW, is_plain=is_plain)

    assert payload_of(request) == {
        "form": form,
        "told": [f"Take {number:03} is ready" for number in range(told)],
    }
    assert request.event_count == told


def test_no_more_is_asked_for_than_a_message_can_tell() -> None:
    assert notes().most_events == 50


def test_what_a_message_has_no_room_for_is_told_by_the_next() -> None:
    requests = told_in_full(notes(room=4), takes(14))

    assert [payload_of(request)["form"] for request in requests] == ["summed up", "cards", "cards", "cards"]
    assert [request.event_count for request in requests] == [4, 4, 4, 2]
    told = [headline for request in requests for headline in payload_of(request)["told"]]
    assert told == [f"Take {number:03} is ready" for number in range(14)]


def test_messages_are_posted_to_the_url_as_json_in_utf_8() -> None:
    request = notes().render([news(fields=completed(), name="Ünïcödé \ud800 🎵")], now=NOW)

    assert (request.method, request.url.reveal()) == ("POST", URL)
    assert request.headers == {"Content-Type": "application/json; charset=utf-8"}
    assert request.body.decode() == '{"form":"cards","told":["Ünïcödé \ufffd 🎵 is ready"]}'


def within(limit: int) -> Callable[[Sequence[int]], bool]:
    return lambda parts: sum(parts) <= limit


@pytest.mark.parametrize(
    ("parts", "limit", "taken"),
    [
        ([1, 2, 3], 6, [1, 2, 3]),
        ([1, 2, 3], 5, [1, 2]),
        ([1, 2, 3], 1, [1]),
        # what does not fit alone is sent nevertheless: the service decides
        ([7, 1], 6, [7]),
        # nothing is told before what happened earlier
        ([1, 9, 1], 6, [1]),
        ([], 6, []),
    ],
)
def test_parts_are_taken_in_order_until_one_does_not_fit(
    parts: list[int], limit: int, taken: list[int]
) -> None:
    assert as_many_as_fit(parts, within(limit)) == taken


def test_what_comes_after_a_full_message_is_not_even_rendered() -> None:
    rendered = []

    def render() -> Iterator[int]:
        for part in range(1, 100):
            rendered.append(part)
            yield part

    assert as_many_as_fit(render(), within(6)) == [1, 2, 3]
    assert rendered == [1, 2, 3, 4]
