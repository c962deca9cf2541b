from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.delivery import Backoff

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
BACKOFF = Backoff(5 * SECOND, 6 * HOUR)

durations = st.timedeltas(timedelta(milliseconds=50), timedelta(days=3650))


class Least(Random):
    """A source of chance that never adds anything."""

    def random(self) -> float:
        return 0.0


class Most(Random):
    """A source of chance that adds as much as it can."""

    def random(self) -> float:
        return 1 - 2**-53


@pytest.mark.parametrize(
    ("failures", "wait"),
    [
        (1, 5 * SECOND),
        (2, 10 * SECOND),
        (3, 20 * SECOND),
        (10, 2560 * SECOND),
        (13, 20480 * SECOND),
        (14, 6 * HOUR),
        (10_000, 6 * HOUR),
    ],
)
def test_waits_double_up_to_the_longest(failures: int, wait: timedelta) -> None:
    assert BACKOFF.delay(failures, Least()) == wait


@pytest.mark.parametrize("failures", [1, 2, 13, 14, 100])
def test_jitter_lengthens_by_a_fifth_at_the_most_also_beyond_the_longest(failures: int) -> None:
    least, most = BACKOFF.delay(failures, Least()), BACKOFF.delay(failures, Most())

    assert most - least * 1.2 < timedelta(milliseconds=1)
    assert most > least


def test_waits_at_the_longest_still_differ() -> None:
    rng = Random(7)

    assert len({BACKOFF.delay(50, rng) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("failures", "asked", "wait"),
    [
        (1, 0 * SECOND, 0 * SECOND),  # what was asked for replaces the first wait
        (1, 2 * SECOND, 2 * SECOND),
        (1, HOUR, HOUR),
        (3, SECOND, 20 * SECOND),  # later ones it only bounds from below
        (3, 21 * SECOND, 21 * SECOND),
        (100, 12 * HOUR, 12 * HOUR),  # also beyond the longest wait of our own
        (1, 2 * DAY, DAY),  # nobody makes us wait for more than a day
        (9, 3650 * DAY, DAY),
    ],
)
def test_a_wait_that_was_asked_for_is_kept(failures: int, asked: timedelta, wait: timedelta) -> None:
    assert BACKOFF.delay(failures, Least(), at_least=asked) == wait


@given(durations, durations, st.integers(1, 10**9), st.none() | durations, st.randoms(use_true_random=False))
def test_no_wait_is_shorter_than_asked_or_longer_than_allowed(
    first: timedelta, longest: timedelta, failures: int, asked: timedelta | None, rng: Random
) -> None:
    wait = Backoff(first, longest).delay(failures, rng, at_least=asked)

    bound = min(asked, DAY) if asked is not None else min(first, longest)
    assert wait >= bound
    assert wait <= max(longest, bound) * 1.2 + timedelta(microseconds=1)


def test_a_first_wait_above_the_longest_is_cut() -> None:
    assert Backoff(HOUR, SECOND).delay(1, Least()) == SECOND


@pytest.mark.parametrize("failures", [40, 41, 1000])
def test_long_waits_can_fail_for_ever(failures: int) -> None:
    assert Backoff(100 * SECOND, 3650 * DAY).delay(failures, Least()) == 3650 * DAY
