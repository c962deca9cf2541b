from datetime import UTC, datetime

import pytest

from notifier.delivery import Delivery
from notifier.suspicion import Suspicion, least_tried
from tests.targets.given import COMPLETED

NOON = datetime(2026, 6, 23, 12, tzinfo=UTC)


def due(*numbers: int, tried: int = 0) -> list[Delivery]:
    return [Delivery(number, COMPLETED, tried, NOON) for number in numbers]


def together(suspicion: Suspicion, *numbers: int) -> list[int]:
    return [delivery.id for delivery in suspicion.apart(due(*numbers))]


@pytest.fixture
def suspicion() -> Suspicion:
    return Suspicion()


def test_who_fails_again_and_again_while_nobody_is_taken_is_not_at_fault(suspicion: Suspicion) -> None:
    assert [suspicion.failed(due(1), successes=5, is_trial=False) for _ in range(3)] == [False] * 3


def test_who_fails_again_after_others_were_taken_is_at_fault(suspicion: Suspicion) -> None:
    assert not suspicion.failed(due(1), successes=0, is_trial=False)
    assert suspicion.failed(due(1), successes=1, is_trial=False)
    assert not suspicion.failed(due(1), successes=1, is_trial=False), "nobody was taken since"
    assert not suspicion.failed(due(2), successes=2, is_trial=False), "it may be an outage again"


def test_of_several_that_fail_together_nobody_is_at_fault(suspicion: Suspicion) -> None:
    suspicion.failed(due(1, 2), successes=0, is_trial=False)
    assert not suspicion.failed(due(1, 2), successes=1, is_trial=False)
    assert together(suspicion, 1, 2, 3) == [1, 2, 3]


def test_who_failed_as_a_trial_goes_by_itself(suspicion: Suspicion) -> None:
    suspicion.failed(due(2), successes=0, is_trial=True)
    assert together(suspicion, 1, 2, 3) == [1]
    assert together(suspicion, 2, 3) == [2]
    assert together(suspicion) == []


def test_who_is_taken_after_such_a_trial_shows_that_it_was_no_fault_of_others(suspicion: Suspicion) -> None:
    for number in (1, 2):
        suspicion.failed(due(number), successes=0, is_trial=True)
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


def test_who_was_tried_least_often_shows_first_how_the_remote_end_is() -> None:
    assert least_tried([]) == []
    assert [each.id for each in least_tried([*due(1, tried=3), *due(2, 3, tried=1)])] == [2]
