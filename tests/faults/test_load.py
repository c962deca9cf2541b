"""What many watches must not cost: reads that the rate allows, and turns of those that are there already."""

import asyncio
from collections.abc import Sequence

from notifier.schedule import Schedule
from notifier.watched import Watched
from tests.support.servers import PATIENCE
from tests.test_schedule import HOUR, Turns, running, watch


async def test_watches_have_their_turns_while_thousands_are_added() -> None:
    turns, there, done = Turns(), watch(0), asyncio.Event()
    counts = list[int]()

    async def add(schedule: Schedule, watches: Sequence[Watched]) -> None:
        await schedule.add(watches)
        counts.append(sum(turns.counts[one.audio_id] for one in watches))
        done.set()

    async with running(turns) as schedule:
        await schedule.add([there])
        await turns.until(lambda: turns.counts[there.audio_id] > 0)
        adding = asyncio.create_task(add(schedule, [watch(number, HOUR) for number in range(1, 3001)]))
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        await adding
    assert counts[0] > 0, "nobody had a turn before all were added"
