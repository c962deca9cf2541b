"""Targets as the watchlist makes them, events to tell and answers to judge."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import cycle, islice
from typing import Any

from hypothesis import strategies as st
from multidict import CIMultiDict

from notifier.answer import Answer
from notifier.document import Mapping as Members
from notifier.document import Scalar, Sequence_
from notifier.event import Alert, Event, EventType, Problem, TrackNews, alert_event, track_event
from notifier.mistake import Place
from notifier.targets import TYPES, Request, Target
from notifier.track import parse
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import audio_id, completed, failed, track

AUDIO_ID = "user:12345-pixverse:me@example.com-music:1"
PLACE = Place(1, 1)


def written(value: Any) -> Any:
    """Return a value as it comes out of a YAML file."""
    match value:
        case dict():
            members = Members(PLACE)
            for key, member in value.items():
                members[key] = written(member)
                members.key_places[key] = PLACE
            return members
        case list():
            items = Sequence_(PLACE)
            items.extend(map(written, value))
            return items
        case _:
            return Scalar(str(value), PLACE)


def make(kind: str, **keys: Any) -> Target:
    """Return a target of a type; raises pydantic's ValidationError for a mistake."""
    return TYPES[kind].model_validate(written({"type": kind, **keys}))


def answer(status: int, body: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer whose headers are matched in any case, as aiohttp's are."""
    return Answer(status, CIMultiDict(headers or {}), body)


def news(
    kind: EventType = EventType.COMPLETED,
    fields: dict[str, Any] | None = None,
    *,
    name: str = "Intro theme",
    audio_id: str = AUDIO_ID,
    status: str | None = None,
    at: datetime = NOW,
) -> Event:
    """Return an event of a track; without fields, of one that was never seen."""
    seen = parse(fields) if fields is not None else None
    shown = status or (seen.status if seen else "MISSING")
    return track_event(kind, TrackNews(audio_id, name, shown, "GENERATING", seen), at)


def alert(summary: str = "the target studio is paused", *, is_resolved: bool = False) -> Event:
    """Return an alert."""
    return alert_event(Alert(Problem.TARGET_PAUSED, "studio", summary, is_resolved=is_resolved), NOW)


COMPLETED = news(fields=completed())
FAILED = news(EventType.FAILED, failed())
STALLED = news(EventType.STALLED, track())
MISSING = news(EventType.MISSING)
LOST = news(EventType.MISSING, track(), status="MISSING")
EVENTS = {
    "completed": COMPLETED,
    "failed": FAILED,
    "stalled": STALLED,
    "missing": MISSING,
    "missing after it was seen": LOST,
    "alert": alert(),
    "resolved alert": alert("the target studio takes messages again", is_resolved=True),
    "test": news(EventType.TEST, completed()),
    "test of a failure": news(EventType.TEST, failed()),
}
"""One event of every kind."""


@st.composite
def backlogs(draw: st.DrawFn) -> list[Event]:
    """Events with anything in them, as few or as many as make every form of a message."""
    some = draw(st.lists(hostile.events, min_size=1, max_size=6))
    count = draw(st.one_of(st.integers(1, 10), st.integers(11, 60)))
    return [*islice(cycle(some), count)]


def takes(count: int, **fields: Any) -> list[Event]:
    """Return so many completed tracks that all have a name and a link of their own: ``Take 007``."""
    return [
        news(fields=completed(number, **fields), name=f"Take {number:03}", audio_id=audio_id(number))
        for number in range(count)
    ]


def told_in_full(target: Target, events: Sequence[Event], *, is_plain: bool = False) -> list[Request]:
    """Render until all events are told."""
    requests, left = [], [*events]
    while left:
        request = target.render(left, now=NOW, is_plain=is_plain)
        assert 1 <= request.event_count <= min(len(left), target.most_events)
        requests.append(request)
        del left[: request.event_count]
    return requests


def payload_of(request: Request) -> Any:
    """Decode a request's body as a service does: UTF-8, and JSON without Python's liberties."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(request.body.decode("utf-8", "strict"), parse_constant=refuse)
