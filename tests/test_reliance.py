from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.reliance import PROVEN_AFTER, SLOWER, Reliance

INTERVAL, MOST = timedelta(seconds=15), timedelta(minutes=5)
ME, OTHER = "me@example.com", "other@example.com"
DAY = 86400.0


def polled(
    reliance: Reliance, account: str = ME, interval: timedelta = INTERVAL, now: float = 0
) -> timedelta:
    return reliance.interval(account, interval, most=MOST, now=now)


def proven(*accounts: str) -> Reliance:
    reliance = Reliance()
    for account in accounts or (ME,):
        for _ in range(PROVEN_AFTER):
            reliance.ended(account, is_hinted=True, now=0)
    return reliance


def test_polling_is_slower_once_three_ends_in_a_row_were_hinted_at_in_time() -> None:
    reliance = Reliance()
    for _ in range(3):
        assert polled(reliance) == INTERVAL
        reliance.ended(ME, is_hinted=True, now=0)
    assert polled(reliance) == 4 * INTERVAL
    assert polled(reliance, OTHER) == INTERVAL


def test_it_is_no_slower_than_max_interval_and_never_quicker_than_without() -> None:
    assert polled(proven(), interval=timedelta(minutes=2)) == MOST
    assert polled(proven(), interval=timedelta(minutes=7)) == timedelta(minutes=7)


def test_one_end_that_polling_found_first_ends_it_for_that_account() -> None:
    reliance = proven(ME, OTHER)
    reliance.ended(ME, is_hinted=False, now=0)
    assert (polled(reliance), polled(reliance, OTHER)) == (INTERVAL, 4 * INTERVAL)
    for _ in range(2):
        reliance.ended(ME, is_hinted=True, now=0)
    assert polled(reliance) == INTERVAL
    reliance.ended(ME, is_hinted=True, now=0)
    assert polled(reliance) == 4 * INTERVAL


def test_what_was_proven_a_day_ago_is_to_be_proven_again() -> None:
    reliance = proven()
    assert polled(reliance, now=DAY - 1) == 4 * INTERVAL
    assert polled(reliance, now=DAY) == INTERVAL
    reliance.ended(ME, is_hinted=True, now=DAY)
    assert polled(reliance, now=DAY) == INTERVAL


def test_nothing_is_relied_on_any_more_when_callbacks_come_another_way() -> None:
    reliance = proven()
    reliance.forget()
    assert not reliance
    assert polled(reliance) == INTERVAL


def test_any_number_of_accounts_takes_no_more_than_so_much() -> None:
    reliance = proven()
    for number in range(5000):
        reliance.ended(f"{number}@example.com", is_hinted=True, now=0)
    assert len(reliance._records) == 1000
    assert polled(reliance) == INTERVAL


@given(st.lists(st.booleans(), max_size=60))
def test_in_whatever_order_callbacks_come_or_not_each_that_is_missing_is_missed_once(
    came: list[bool],
) -> None:
    """Between two ends that polling was slow for in vain there are three that were hinted at."""
    reliance, in_vain = Reliance(), []
    for index, is_hinted in enumerate(came):
        if not is_hinted and polled(reliance) > INTERVAL:
            in_vain.append(index)
        reliance.ended(ME, is_hinted=is_hinted, now=0)
        assert is_hinted or polled(reliance) == INTERVAL
    assert all(later - earlier > PROVEN_AFTER for earlier, later in pairwise(in_vain))


@pytest.mark.parametrize("lost", [0.0, 0.02, 0.1, 0.25, 0.4, 0.6, 0.9, 1.0])
def test_the_mean_lag_is_no_worse_than_that_of_plain_polling_whatever_share_is_lost(lost: float) -> None:
    rng, reliance, lag, ends = Random(7), Reliance(), 0.0, 20_000
    for _ in range(ends):
        is_hinted = rng.random() >= lost
        lag += 0 if is_hinted else rng.random() * polled(reliance).total_seconds()
        reliance.ended(ME, is_hinted=is_hinted, now=0)
    mean = lag / ends / INTERVAL.total_seconds()
    assert mean == pytest.approx(lost / 2 + (SLOWER - 1) / 2 * lost * (1 - lost) ** PROVEN_AFTER, abs=0.01)
    assert mean < 0.51
