from datetime import UTC, datetime

import pytest

from notifier.delivery import Delivery, Rejected
from notifier.grouping import Grouping, Retrial
from tests.targets.given import COMPLETED

NOON = datetime(2026, 6, 23, 12, tzinfo=UTC)
LAYOUT, CONTENT = Rejected("HTTP 400: invalid_blocks", is_layout=True), Rejected("HTTP 400: moderated")


def due(*numbers: int) -> list[Delivery]:
    return [Delivery(number, COMPLETED, 0, NOON) for number in numbers]


def ids(grouping: Grouping, *numbers: int) -> list[int]:
    return [delivery.id for delivery in grouping.first_together(due(*numbers))]


@pytest.fixture
def grouping() -> Grouping:
    return Grouping()


def test_what_nobody_refused_leaves_together(grouping: Grouping) -> None:
    assert ids(grouping, 1, 2, 3) == [1, 2, 3]
    assert ids(grouping) == []


def test_what_is_parted_goes_one_by_one_until_it_is_settled(grouping: Grouping) -> None:
    grouping.part([1, 2])
    assert (ids(grouping, 1, 2, 3), ids(grouping, 2, 3), ids(grouping, 3, 4)) == ([1], [2], [3, 4])
    grouping.settled([2])
    assert ids(grouping, 2, 3) == [2, 3]


def test_a_layout_that_is_refused_is_tried_once_as_plain_text(grouping: Grouping) -> None:
    assert grouping.refused(due(1, 2), LAYOUT) is Retrial.PLAIN_TEXT
    assert ids(grouping, 1, 2, 3) == [1, 2]
    assert [grouping.is_plain(one) for one in due(1, 2, 3)] == [True, True, False]


def test_a_batch_refused_as_plain_text_goes_one_by_one_and_laid_out(grouping: Grouping) -> None:
    grouping.refused(due(1, 2), LAYOUT)
    assert grouping.refused(due(1, 2), LAYOUT) is Retrial.ONE_BY_ONE
    assert ids(grouping, 1, 2, 3) == [1]
    assert ids(grouping, 3, 1, 2) == [3]
    assert not grouping.is_plain(due(1)[0])


def test_a_batch_refused_for_what_it_says_goes_one_by_one(grouping: Grouping) -> None:
    assert grouping.refused(due(1, 2), CONTENT) is Retrial.ONE_BY_ONE
    assert (ids(grouping, 1, 2), ids(grouping, 2)) == ([1], [2])


def test_a_single_message_is_dead_after_at_most_four_refusals(grouping: Grouping) -> None:
    grouping.refused(due(1, 2), LAYOUT)
    grouping.refused(due(1, 2), LAYOUT)
    assert grouping.refused(due(1), LAYOUT) is Retrial.PLAIN_TEXT
    assert grouping.refused(due(1), LAYOUT) is None


def test_a_single_message_refused_for_what_it_says_is_dead_at_once(grouping: Grouping) -> None:
    assert grouping.refused(due(1), CONTENT) is None


def test_what_is_settled_is_forgotten(grouping: Grouping) -> None:
    grouping.refused(due(1, 2), CONTENT)
    grouping.refused(due(3), LAYOUT)
    grouping.settled([1, 2, 3])
    assert ids(grouping, 1, 2, 3) == [1, 2, 3]


def test_a_dead_letter_that_is_retried_starts_anew(grouping: Grouping) -> None:
    grouping.refused(due(1), LAYOUT)
    assert grouping.refused(due(1), LAYOUT) is None
    assert not grouping.is_plain(due(1)[0])
    assert ids(grouping, 1, 2) == [1, 2]
