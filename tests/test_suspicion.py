from datetime import UTC, datetime

import pytest

from notifier.delivery import Delivery
from notifier.suspicion import Suspicion
from tests.targets.given import COMPLETED

NOON = datetime(2026, 6, 23, 12, tzinfo=UTC)


def due(*numbers: int) -> list[Delivery]:
    return [Delivery(number, COMPLETED, 0, NOON) for number in numbers]


def failed(
    suspicion: Suspicion,
    *numbers: int,
    successes: int = 0,
    is_trial: bool = False,
    is_end_well: bool = True,
) -> bool:
    return suspicion.failed(due(*numbers), successes=successes, is_trial=is_trial, is_end_well=is_end_well)


def together(suspicion: Suspicion, *numbers: int) -> list[int]:
    return [delivery.id for delivery in suspicion.apart(due(*numbers))]


@pytest.fixture
def suspicion() -> Suspicion:
    return Suspicion()


def test_who_fails_again_and_again_while_nobody_is_taken_is_not_at_fault(suspicion: Suspicion) -> None:
    assert [failed(suspicion, 1, successes=5) for _ in range(3)] == [False] * 3


def test_who_fails_again_after_others_were_taken_is_at_fault(suspicion: Suspicion) -> None:
    assert not failed(suspicion, 1, successes=0)
    assert failed(suspicion, 1, successes=1)
    assert not failed(suspicion, 1, successes=1), "nobody was taken since"
    assert not failed(suspicion, 2, successes=2), "it may be an outage again"


def test_of_several_that_fail_together_nobody_is_at_fault(suspicion: Suspicion) -> None:
    failed(suspicion, 1, 2, successes=0)
    assert not failed(suspicion, 1, 2, successes=1)
    assert together(suspicion, 1, 2, 3) == [1, 2, 3]


def test_who_failed_as_a_trial_goes_by_itself(suspicion: Suspicion) -> None:
    failed(suspicion, 2, successes=0, is_trial=True)
    assert together(suspicion, 1, 2, 3) == [1]
    assert together(suspicion, 2, 3) == [2]
    assert together(suspicion) == []


def test_who_is_taken_after_such_a_trial_shows_that_it_was_no_fault_of_others(suspicion: Suspicion) -> None:
    for number in (1, 2):
        failed(suspicion, number, successes=0, is_trial=True)
    suspicion.settled([1])
    assert together(suspicion, 2, 3) == [2, 3]


def test_who_is_put_off_waits_by_itself(suspicion: Suspicion) -> None:
    assert suspicion.wait(0.0) is None
    suspicion.put_off(1, 10.0)
    suspicion.put_off(2, 20.0)
    assert ([*suspicion.held()], suspicion.wait(4.0), suspicion.wait_of(2, 4.0)) == ([1, 2], 6.0, 16.0)
    assert not suspicion.release(9.9)
    assert suspicion.release(10.0)
    assert ([*suspicion.held()], suspicion.wait_of(1, 10.0)) == ([2], 0.0)


def test_when_too_many_fail_in_a_row_nobody_is_at_fault_any_more(suspicion: Suspicion) -> None:
    """But it is known of who failed again after others were taken, should it keep others waiting."""
    for number in (1, 2):
        assert not failed(suspicion, number)
    assert not failed(suspicion, 1, successes=1, is_end_well=False)
    assert (suspicion.faults(due(1)), suspicion.faults(due(2))) == (1, 0)
    assert suspicion.faults(due(1, 3)) == 0, "who of them it is nobody knows"
    assert suspicion.tried() == {1}


def test_it_is_known_who_of_several_has_failed_again_after_others_were_taken(suspicion: Suspicion) -> None:
    failed(suspicion, 1, 2)
    assert suspicion.again(due(1, 2, 3), successes=0) == set()
    assert suspicion.again(due(1, 2, 3), successes=1) == {1, 2}


def test_who_has_failed_with_others_only_was_not_tried_by_itself(suspicion: Suspicion) -> None:
    failed(suspicion, 1, 2)
    failed(suspicion, 3, is_trial=True)
    assert suspicion.tried() == {3}
