"""What the page reads of the state file."""

from datetime import timedelta
from pathlib import Path

from notifier.delivery import DeliveryState
from notifier.event import EventType, TrackNews, track_event
from notifier.store import Owed, Settlement, Store
from notifier.track import parse
from notifier.transition import Sighting
from tests.support.hostile import NOW
from tests.support.tracks import audio_id, completed, track

SECOND = timedelta(seconds=1)


async def owe(store: Store, number: int, *targets: str) -> None:
    found = parse(completed(number))
    sighting = Sighting("COMPLETED", True, found.name, NOW)
    news = TrackNews(audio_id(number), f"Track {number}", "COMPLETED", None, found)
    owed = Owed(track_event(EventType.COMPLETED, news, NOW), targets)
    await store.record(audio_id(number), sighting, found, [owed], now=NOW)


async def settle(store: Store, target: str, state: DeliveryState, second: int, answer: str = "ok") -> None:
    """Try the oldest delivery of a target."""
    (delivery,) = await store.due(target, limit=1)
    at = NOW + second * SECOND
    await store.settle(Settlement(target, (delivery.id,), at, 200, answer, "", "delivered", state))


async def test_the_last_deliveries_come_with_their_last_answer(store: Store) -> None:
    for number in range(6):
        await owe(store, number, "a", "b")
    await settle(store, "b", DeliveryState.PENDING, 1, "not yet")
    await settle(store, "b", DeliveryState.PENDING, 2, "still not")
    await settle(store, "a", DeliveryState.DEAD, 3, "never")
    for second in (4, 5, 6):
        await settle(store, "a", DeliveryState.DELIVERED, second)
    glance = await store.glance(recent=3, dead=5)
    assert [(told.event.name, told.answer) for told in glance.recent] == [
        ("Track 3", "ok"),
        ("Track 2", "ok"),
        ("Track 1", "ok"),
    ]
    glance = await store.glance(recent=10, dead=5)
    assert [(told.target, told.attempt_count, told.answer) for told in glance.recent[3:]] == [
        ("b", 2, "still not")
    ]
    assert [(told.event.name, told.at, told.answer) for told in glance.dead] == [
        ("Track 0", NOW + 3 * SECOND, "never")
    ]


async def test_the_last_dead_letters_are_those_of_all_targets_tried_or_not(store: Store) -> None:
    for number in range(4):
        await owe(store, number, "a", "b")
    await settle(store, "a", DeliveryState.DEAD, 1)
    await settle(store, "b", DeliveryState.DEAD, 3)
    await store.expire("a", counted_before=NOW, at=NOW + 2 * SECOND, why="given up")
    glance = await store.glance(recent=0, dead=3)
    assert [(told.target, told.event.name, told.attempt_count) for told in glance.dead] == [
        ("b", "Track 0", 1),
        ("a", "Track 3", 0),
        ("a", "Track 2", 0),
    ]
    assert (glance.dead[1].error, glance.dead[1].answer, glance.dead[1].status) == ("given up", "", None)
    assert glance.backlogs["a"].dead == 4


async def test_the_revision_changes_with_every_change_of_anybody(store: Store, tmp_path: Path) -> None:
    seen = [await store.revision()]
    assert await store.revision() == seen[0]
    await owe(store, 1, "a")
    seen.append(await store.revision())
    async with Store(store.path) as other:
        await other.drop([1])
    seen.append(await store.revision())
    assert len({*seen}) == 3
    await store.glance(recent=1, dead=1)
    await store.documents([audio_id(1)])
    assert await store.revision() == seen[2]


async def test_tracks_are_found_as_they_were_returned(store: Store) -> None:
    await owe(store, 1)
    found = parse(track(2))
    await store.record(audio_id(2), Sighting("GENERATING", False, None, NOW), found, [], now=NOW)
    await store.record(audio_id(3), Sighting("MISSING", True, None, NOW), None, [], now=NOW)
    wanted = [audio_id(number) for number in range(2000)]
    documents = await store.documents(wanted)
    assert documents == {audio_id(1): parse(completed(1)), audio_id(2): found}
