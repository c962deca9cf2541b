from datetime import UTC, datetime

from notifier.store import Store
from notifier.usage import HOUR, KEPT, Usage, hour_of

NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)


async def test_what_was_asked_adds_up_by_the_hour(store: Store) -> None:
    for number in range(3):
        await store.add_usage(NOON, Usage(number, 1, 2.5), kept_from=NOON - KEPT)
    await store.add_usage(NOON + HOUR, Usage(track=9), kept_from=NOON - KEPT)
    assert await store.usage(since=NOON) == {NOON: Usage(3, 3, 7.5), NOON + HOUR: Usage(9, 0, 0)}
    assert await store.usage(since=NOON + HOUR) == {NOON + HOUR: Usage(9, 0, 0)}


async def test_so_many_days_are_kept_and_no_more(store: Store) -> None:
    for number in range(24 * 33):
        now = NOON + number * HOUR
        await store.add_usage(hour_of(now), Usage(1, 0, 1), kept_from=now - KEPT)
    kept = await store.usage(since=NOON)
    assert len(kept) == 24 * 30 + 1
    assert min(kept) == now - KEPT
