"""What many watches must not cost: reads that the rate allows, and turns of those that are there already."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest

from notifier import cadence
from notifier.schedule import Schedule
from notifier.upstream import Upstream
from notifier.watched import Watched
from tests.support.clocks import ManualClock
from tests.support.servers import PATIENCE
from tests.test_schedule import HOUR, Turns, running, watch


async def _nobody(_: object) -> None:
    return


def _starts(spacing: timedelta, due: Sequence[float], *, latest: float) -> list[float]:
    """Return when requests leave that are due at some moments, by a loop that wakes up too late each time."""
    upstream = Upstream(
        interval=timedelta(seconds=15),
        max_interval=timedelta(minutes=5),
        spacing=spacing,
        clock=ManualClock(),
        rng=Random(1),
        report=_nobody,
        remember=_nobody,
    )
    rng, now, starts = Random(2), 0.0, list[float]()
    for moment in due:
        now = max(now, moment)
        while (wait := upstream.token.remaining(now)) > 0:
            now += wait + rng.uniform(0, latest)
        upstream.token.enter(now)
        starts.append(now)
    return starts


@pytest.mark.parametrize("rate", [5, 50, 1000, 20_000])
def test_a_rate_is_used_up_although_every_wake_up_comes_late_and_never_exceeded(rate: int) -> None:
    starts = _starts(timedelta(seconds=1 / rate), [0.0] * rate * 10, latest=0.002)

    assert starts[-1] < 10 * 1.06
    in_a_second = zip(starts, starts[rate:], strict=False)
    assert all(later - earlier >= 1 - 1e-6 for earlier, later in in_a_second)


def test_what_is_due_at_the_rate_itself_does_not_come_ever_later() -> None:
    count, spacing = 1000, 0.001
    first = [*cadence.first_reads(count, interval=1.0, spacing=spacing)]
    rounds, period = [first], cadence.period_of(1.0, unfinished=count, spacing=spacing)
    for _ in range(20):
        rounds.append([cadence.next_read(one, now=one, period=period) for one in rounds[-1]])
    due = [moment for one in rounds for moment in one]

    starts = _starts(timedelta(seconds=spacing), due, latest=0.002)

    assert all(earlier <= later for earlier, later in pairwise(starts))
    assert max(start - moment for start, moment in zip(starts, due, strict=True)) < 0.1


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
