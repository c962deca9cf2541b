import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from notifier.delivery import Delivery, DeliveryState
from notifier.due import Due
from notifier.event import EventType, TrackNews, track_event
from notifier.store import Owed, Settlement, StorageError, Store
from notifier.transition import Sighting
from tests.support.tracks import audio_id

NOON = datetime(2026, 6, 23, 12, tzinfo=UTC)


class CountingStore(Store):
    """A state file that counts how often the outbox is read, and lets things happen meanwhile."""

    reads = 0
    held: asyncio.Event | None = None
    is_broken = False

    async def due(self, target: str, *, limit: int, under_way: Collection[int] = ()) -> list[Delivery]:
        self.reads += 1
        if self.is_broken:
            raise StorageError("the disk is gone")
        found = await super().due(target, limit=limit, under_way=under_way)
        if self.held is not None:
            await self.held.wait()
        return found


@pytest.fixture
async def outbox(store: Store) -> CountingStore:
    return CountingStore(store.path)


async def owe(store: Store, *numbers: int, event_type: EventType = EventType.COMPLETED) -> None:
    for number in numbers:
        event = track_event(event_type, TrackNews(audio_id(number), "x", "COMPLETED", None, None), NOON)
        sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=NOON)
        await store.record(audio_id(number), sighting, None, [Owed(event, ("a",))], now=NOON)


async def test_many_messages_cost_one_look_into_the_outbox(outbox: CountingStore) -> None:
    async with outbox:
        await owe(outbox, *range(40))
        due, told = Due(outbox, "a", list), []
        while first := await due.first(1):
            told += [delivery.id for delivery in first]
            due.take({delivery.id for delivery in first})
        assert told == [*range(1, 41)]
        assert outbox.reads == 1


async def test_what_is_new_is_found_when_somebody_says_so(outbox: CountingStore) -> None:
    async with outbox:
        due = Due(outbox, "a", list)
        assert list(await due.first(1)) == []
        await owe(outbox, 1)
        due.there_is_more()
        assert [delivery.id for delivery in await due.first(1)] == [1]


async def test_more_than_is_read_ahead_is_read_bit_by_bit_in_order(outbox: CountingStore) -> None:
    async with outbox:
        await owe(outbox, *range(150))
        due, under_way, told = Due(outbox, "a", lambda: under_way), set[int](), []
        while first := await due.first(50):
            told += [delivery.id for delivery in first]
            under_way |= {delivery.id for delivery in first}
            due.take({delivery.id for delivery in first})
        assert told == [*range(1, 151)]


async def test_who_was_tried_least_often_is_found_however_many_are_before_it(outbox: CountingStore) -> None:
    async with outbox:
        assert await Due(outbox, "a", list).least_tried() == ()
        await owe(outbox, *range(150))
        tried = tuple(number for number in range(1, 151) if number != 140)
        await outbox.settle(Settlement("a", tried, NOON, 500, "oops", "oops", "retry", DeliveryState.PENDING))
        assert [one.id for one in await Due(outbox, "a", list).least_tried()] == [140]
        assert [one.id for one in await Due(outbox, "a", lambda: {140}).least_tried()] != [140]
        due = Due(outbox, "a", lambda: {*range(1, 140)})
        (other,) = await due.least_tried(rather_not={140, 141})
        assert other.id > 141
        assert [one.id for one in await due.least_tried(rather_not=range(1, 151))] == [140]


async def test_of_a_track_nothing_goes_ahead_of_what_came_before_it_while_there_are_others(
    outbox: CountingStore,
) -> None:
    async with outbox:
        for event_type in (EventType.STALLED, EventType.COMPLETED):
            await owe(outbox, 1, event_type=event_type)
        await owe(outbox, 2)
        tried = Settlement("a", (1, 3), NOON, 500, "oops", "oops", "retry", DeliveryState.PENDING)
        await outbox.settle(tried)
        due = Due(outbox, "a", list)
        for _ in range(20):
            (one,) = await due.least_tried()
            assert one.id in (1, 3), "although the end of track 1 was tried less often"
        assert [one.id for one in await due.least_tried(rather_not={1, 3})] == [2], "there is no other"


async def test_what_is_forgotten_is_read_anew(outbox: CountingStore) -> None:
    async with outbox:
        await owe(outbox, 1, 2)
        due = Due(outbox, "a", list)
        await due.first(1)
        due.take({1})
        await outbox.drop([2])
        due.forget()
        assert [delivery.id for delivery in await due.first(2)] == [1]


async def test_what_was_out_of_date_before_it_was_read_is_not_kept(outbox: CountingStore) -> None:
    async with outbox:
        await owe(outbox, 1)
        due, outbox.held = Due(outbox, "a", list), asyncio.Event()
        reading = asyncio.create_task(due.first(1))
        while not outbox.reads:
            await asyncio.sleep(0)
        due.forget()
        outbox.held.set()
        assert list(await reading) == []
        assert [delivery.id for delivery in await due.first(1)] == [1]


async def test_something_new_that_is_said_while_the_outbox_is_read_is_looked_for_again(
    outbox: CountingStore,
) -> None:
    async with outbox:
        due, outbox.held = Due(outbox, "a", list), asyncio.Event()
        reading = asyncio.create_task(due.first(1))
        while not outbox.reads:
            await asyncio.sleep(0)
        due.there_is_more()
        outbox.held.set()
        await reading
        await due.first(1)
        assert outbox.reads == 2


async def test_a_disk_that_fails_is_asked_again(outbox: CountingStore) -> None:
    async with outbox:
        await owe(outbox, 1)
        due, outbox.is_broken = Due(outbox, "a", list), True
        with pytest.raises(StorageError):
            await due.first(1)
        outbox.is_broken = False
        assert [delivery.id for delivery in await due.first(1)] == [1]
