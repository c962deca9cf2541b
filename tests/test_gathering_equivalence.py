"""Whatever becomes of tracks, lists tell the same as they do themselves, at the same times."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from notifier.store import Store
from tests.support.catalogue import ME, Catalogue
from tests.support.exploring import examples
from tests.support.gatherings import Bench, gathering_at
from tests.support.servers import Received, Reply, serving
from tests.support.tracks import audio_id, completed, failed, track

TICKS = 7
NEVER = TICKS + 1


class End(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True)
class Life:
    """A watched track: when it is begun and when it ends, in ticks, and how."""

    begins: int
    ends: int
    end: End
    is_listed: bool
    above: int
    """How many others were made after it."""

    def at(self, tick: int, number: int) -> dict[str, Any] | None:
        if tick < self.begins:
            return track(number, audio_status=5, audio_status_name="QUEUED")
        if tick < self.ends:
            return track(number)
        return {End.COMPLETED: completed(number), End.FAILED: failed(number), End.GONE: None}[self.end]


@dataclass(frozen=True)
class World:
    lives: Sequence[Life]
    growth: Sequence[int]
    """How many others are made before each tick."""
    due: Sequence[Sequence[int]]
    """Which tracks are due at each tick; an empty list means all."""
    page_size: int


ticks = st.integers(0, NEVER)
lives = st.builds(
    Life,
    begins=ticks,
    ends=ticks,
    end=st.sampled_from(End),
    is_listed=st.sampled_from([True, True, True, False]),
    above=st.integers(0, 6),
)


def worlds(due: st.SearchStrategy[Sequence[int]]) -> st.SearchStrategy[World]:
    return st.builds(
        World,
        lives=st.lists(lives, min_size=2, max_size=7),
        growth=st.lists(st.integers(0, 4), min_size=TICKS, max_size=TICKS),
        due=st.lists(due, min_size=TICKS, max_size=TICKS),
        page_size=st.sampled_from([3, 5, 50]),
    )


Fields = dict[str, Any]
Look = tuple[dict[str, str | None], set[tuple[str, str | None]]]
"""How each track stands after a tick, and what has been told by then."""
Misbehaviour = Callable[[Catalogue, Received], Reply | None]


def lived(world: World, *, is_on: bool, misbehaves: Misbehaviour | None = None) -> list[Look]:
    """Live through it, with lists or without, at a real API and with a real state file."""
    return asyncio.run(_live(world, is_on=is_on, misbehaves=misbehaves))


async def _live(world: World, *, is_on: bool, misbehaves: Misbehaviour | None) -> list[Look]:
    with tempfile.TemporaryDirectory() as directory:
        async with (
            serving() as api,
            Store(Path(directory, "state.db")) as store,
            gathering_at(api, store, is_on=is_on) as bench,
        ):
            catalogue = Catalogue(api)
            catalogue.page_size = world.page_size
            if misbehaves is not None:
                catalogue.list_replies = lambda request: misbehaves(catalogue, request)
            return [look async for look in _looks(world, catalogue, bench)]


async def _looks(world: World, catalogue: Catalogue, bench: Bench) -> Any:
    others = iter(range(1000, 2000))
    numbers = range(1, len(world.lives) + 1)
    for number, life in zip(numbers, world.lives, strict=True):
        catalogue.put(track(number))
        if not life.is_listed:
            catalogue.hidden.add(audio_id(number))
        for _ in range(life.above):
            catalogue.put(completed(next(others)))
    watches = bench.watches(numbers)
    for tick in range(TICKS):
        for _ in range(world.growth[tick]):
            catalogue.put(track(next(others)))
        for number, life in zip(numbers, world.lives, strict=True):
            fields = life.at(tick, number)
            if fields is not None:
                catalogue.put(fields)
            else:
                catalogue.tracks.pop(audio_id(number), None)
        due = world.due[tick] or range(len(watches))
        await bench.tick(watch for index, watch in enumerate(watches) if index in due)
        statuses = {watch.audio_id: watch.sighting.status if watch.sighting else None for watch in watches}
        yield statuses, {*await bench.told()}


everybody = worlds(st.just([]))
some = worlds(st.lists(st.integers(0, 6), min_size=1, max_size=7))


@given(everybody)
@examples(18)
def test_lists_tell_the_same_at_the_same_times_as_single_reads(world: World) -> None:
    assert lived(world, is_on=True) == lived(world, is_on=False)


@given(some)
@examples(10)
def test_tracks_that_are_due_at_other_times_are_told_of_no_later(world: World) -> None:
    with_lists, alone = lived(world, is_on=True), lived(world, is_on=False)
    for (_, told), (_, told_alone) in zip(with_lists, alone, strict=True):
        assert told >= told_alone
    ends = {End.COMPLETED: "track.completed", End.FAILED: "track.failed", End.GONE: "track.missing"}
    for kind, identifier in with_lists[-1][1]:
        life = world.lives[int(str(identifier).rpartition(":")[2]) - 1]
        assert (kind, life.ends < TICKS) == (ends[life.end], True)


def _data(
    catalogue: Catalogue, request: Received, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> Reply:
    return catalogue.page([change(one) for one in catalogue.of(ME)], request)


def _without_urls(catalogue: Catalogue, request: Received) -> Reply:
    return _data(catalogue, request, lambda one: {**one, "url": None})


def _without_reasons(catalogue: Catalogue, request: Received) -> Reply:
    return _data(catalogue, request, lambda one: {**one, "fail_code": None, "fail_reason": None})


def _all_completed(catalogue: Catalogue, request: Received) -> Reply:
    end = {"audio_status": 1, "audio_status_name": "COMPLETED", "audio_status_final": True}
    return _data(catalogue, request, lambda one: {**one, **end, "url": None})


def _unheard_of(catalogue: Catalogue, request: Received) -> Reply:
    return _data(catalogue, request, lambda one: {**one, "audio_status_name": "THINKING"})


def _empty(catalogue: Catalogue, request: Received) -> Reply:
    return catalogue.page([], request)


def _always_the_top(catalogue: Catalogue, request: Received) -> Reply:
    reply = json.loads(catalogue.page(catalogue.of(ME), request).body)
    top = json.loads(catalogue.page(catalogue.of(ME), _at(request, 0)).body)
    return Reply(body=json.dumps({**reply, "data": top["data"], "has_more": True}))


def _at(request: Received, offset: int) -> Received:
    query = {**request.query, "offset": str(offset)}
    return Received(request.method, request.path, request.raw_path, request.headers, b"", 0.0, query)


def _circling(catalogue: Catalogue, request: Received) -> Reply:
    reply = json.loads(catalogue.page(catalogue.of(ME), request).body)
    return Reply(body=json.dumps({**reply, "next_offset": 0, "has_more": True}))


def _others_only(catalogue: Catalogue, request: Received) -> Reply:
    account = {"audio_id": audio_id(1, "you@example.com")}
    return _data(catalogue, request, lambda one: {**one, **account})


def _answering(reply: Reply) -> Misbehaviour:
    return lambda _catalogue, _request: reply


MISBEHAVIOURS: Mapping[str, Misbehaviour] = {
    "without urls": _without_urls,
    "without reasons": _without_reasons,
    "all completed": _all_completed,
    "unheard of": _unheard_of,
    "empty": _empty,
    "always the top": _always_the_top,
    "circling": _circling,
    "of another account": _others_only,
    "404": _answering(Reply(404)),
    "400": _answering(Reply(400, '{"error": "email is required"}')),
    "a page": _answering(Reply(404, "<html>404</html>", content_type="text/html")),
    "a login": _answering(Reply(302, headers={"Location": "/login"})),
    "no JSON": _answering(Reply(200, "<html>hello</html>", content_type="text/html")),
    "no list": _answering(Reply(200, '{"data": null}')),
    "nonsense": _answering(Reply(200, '{"data": [null, 5, {}], "has_more": "maybe", "next_offset": -1}')),
    "endless": _answering(Reply(200, '{"data": [], "has_more": true, "next_offset": 50}')),
}


@given(everybody, st.sampled_from([*MISBEHAVIOURS]), st.integers(0, 3))
@examples(28)
def test_a_list_that_misbehaves_changes_nothing_of_what_is_told_and_when(
    world: World, name: str, well_for: int
) -> None:
    requests = iter(range(10_000))

    def misbehaves(catalogue: Catalogue, request: Received) -> Reply | None:
        return None if next(requests) < well_for else MISBEHAVIOURS[name](catalogue, request)

    assert lived(world, is_on=True, misbehaves=misbehaves) == lived(world, is_on=False)
