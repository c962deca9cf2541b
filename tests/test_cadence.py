from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.cadence import first_reads, next_read, period_of

intervals = st.floats(0.05, 86_400)
spacings = st.floats(1e-5, 60)
moments = st.floats(0, 1e7)


@pytest.mark.parametrize(
    ("count", "interval", "spacing", "reads"),
    [
        (0, 15.0, 0.2, []),
        (1, 15.0, 0.2, [0.0]),
        (3, 15.0, 0.2, [0.0, 1.0, 2.0]),  # a few start quickly
        (30, 15.0, 0.2, [index * 0.5 for index in range(30)]),  # more are spread over one interval
        (4, 15.0, 5.0, [0.0, 5.25, 10.5, 15.75]),  # the rate comes first, with room to make up for delays
        (3, 0.3, 0.01, [0.0, pytest.approx(0.1), pytest.approx(0.2)]),
        (
            5,
            0.02,
            0.001,
            [0.0, 0.0, *[pytest.approx(0.008)] * 2, pytest.approx(0.016)],
        ),  # a moment apart: together
    ],
)
def test_first_reads_are_spread(count: int, interval: float, spacing: float, reads: list[float]) -> None:
    assert [*first_reads(count, interval=interval, spacing=spacing)] == reads


@given(st.integers(1, 500), intervals, spacings)
def test_first_reads_start_at_once_and_keep_the_rate(count: int, interval: float, spacing: float) -> None:
    reads = [*first_reads(count, interval=interval, spacing=spacing)]

    assert len(reads) == count
    assert reads[0] == 0.0
    assert all(later >= earlier for earlier, later in pairwise(reads))
    assert all(at >= index * spacing - 0.01 for index, at in enumerate(reads))
    assert reads[-1] < max(interval, count * spacing * 1.05)


@pytest.mark.parametrize(
    ("previous", "now", "unfinished", "due"),
    [
        (100.0, 100.0, 1, 115.0),  # in time
        (100.0, 107.5, 1, 115.0),  # late, but not by a whole interval: the phase is kept
        (100.0, 115.0, 1, 130.0),  # what would be due now was this look
        (100.0, 146.0, 1, 160.0),  # missed looks are left out, not made up for
        (100.0, 100.0, 71, 115.0),  # as many as the rate serves in an interval, and makes up for delays
        (100.0, 100.0, 150, 131.5),  # twice as many: everybody waits twice as long
    ],
)
def test_the_next_read_keeps_the_phase(previous: float, now: float, unfinished: int, due: float) -> None:
    period = period_of(15.0, unfinished=unfinished, spacing=0.2)
    assert next_read(previous, now=now, period=period) == due


def test_a_sum_that_cannot_be_written_in_binary_is_not_due_twice() -> None:
    assert next_read(0.0, now=1.0, period=0.1) == pytest.approx(1.1)


@given(moments, st.floats(0, 1e5), intervals, spacings, st.integers(1, 10_000))
def test_the_next_read_is_ahead_by_one_period_at_the_most(
    previous: float, lateness: float, interval: float, spacing: float, unfinished: int
) -> None:
    now, period = previous + lateness, max(interval, unfinished * spacing * 1.05)

    due = next_read(previous, now=now, period=period_of(interval, unfinished=unfinished, spacing=spacing))

    assert due > now
    assert due - now <= period * (1 + 1e-6)
