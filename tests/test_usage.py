from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.usage import DAY, HOUR, Meter, Usage, hour_of, of_the_last, rhythm, words

NOW = datetime(2026, 6, 23, 12, 15, tzinfo=UTC)


@dataclass
class One:
    interval: timedelta = timedelta(seconds=15)
    metered_at: float = float("-inf")


class World:
    """A meter whose clock is moved by hand."""

    def __init__(self, least: float = 0.0) -> None:
        self.now = 100.0
        self.meter = Meter(now=lambda: self.now, period=lambda interval: max(interval, least))

    def see(self, *seen: One, after: float = 0.0) -> float:
        """Return how many fixed reads stand in the place of what was seen."""
        before, self.now = self.meter.fixed, self.now + after
        for one in seen:
            self.meter.seen(one)
        return self.meter.fixed - before


def test_fixed_polling_reads_each_track_once_and_then_every_interval() -> None:
    world, one, other = World(), One(), One(timedelta(seconds=60))
    assert world.see(one, other) == 2
    assert world.see(one, other, after=60) == 4 + 1
    assert world.see(one, after=150) == 10
    assert world.see(one) == 0
    assert world.see(other) == 2.5


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_it_does_not_matter_how_often_a_track_is_seen(gaps: list[float]) -> None:
    world, one = World(), One()
    world.see(one)
    for gap in gaps:
        world.see(one, after=gap)
    assert world.meter.fixed == pytest.approx(1 + sum(gaps) / 15)


def test_fixed_polling_is_slower_where_the_rate_allows_no_more() -> None:
    world, one = World(least=30), One()
    world.see(one)
    assert world.see(one, after=60) == 2


def test_a_clock_that_stands_or_goes_back_counts_nothing() -> None:
    world, one = World(), One()
    world.see(one)
    assert world.see(one, after=-50) == 0
    assert world.see(one, after=30) == 2


def test_what_could_not_be_written_down_is_not_forgotten() -> None:
    meter = World().meter
    meter.track, meter.list, meter.fixed = 3, 2, 10.0
    first = meter.unwritten
    assert first == Usage(3, 2, 10)
    meter.track += 1
    assert meter.unwritten == Usage(4, 2, 10)
    meter.wrote(first)
    assert meter.unwritten == Usage(1, 0, 0)


def test_the_last_hour_takes_its_share_of_the_one_before() -> None:
    current = hour_of(NOW)
    hours = {current - n * HOUR: Usage(track=100 * 10**n) for n in range(3)}
    assert of_the_last(HOUR, hours, NOW) == Usage(track=100 + 1000 * 0.75)
    assert of_the_last(DAY, hours, NOW) == Usage(track=11_100)
    assert of_the_last(DAY, {current - DAY: Usage(list=8)}, NOW) == Usage(list=6)
    assert of_the_last(DAY, {current - DAY - HOUR: Usage(list=8)}, NOW) == Usage()


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (
            Usage(150, 62, 543.6),
            "212 requests in the last hour, 61 % fewer than reading each track every 15s",
        ),
        (Usage(1, 0, 3), "1 request in the last hour"),
        (Usage(), "0 requests in the last hour"),
        (
            Usage(2000, 0, 1000),
            "2,000 requests in the last hour, 100 % more than reading each track every 15s",
        ),
        (Usage(50, 0, 50), "50 requests in the last hour, as many as reading each track every 15s takes"),
    ],
)
def test_people_are_told_what_was_asked_and_what_that_saves(usage: Usage, said: str) -> None:
    assert words(usage, "in the last hour", rhythm({timedelta(seconds=15)})) == said


def test_of_different_intervals_none_is_named() -> None:
    assert rhythm({timedelta(seconds=15), timedelta(minutes=1)}) == rhythm(()) == "at its interval"
