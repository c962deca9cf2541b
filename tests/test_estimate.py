"""How long a track will take, told from how long others took."""

from datetime import timedelta

import pytest

from notifier.estimate import Experience, Left, Making, Overdue, making_of
from notifier.track import parse
from tests.support.tracks import completed, failed, track


def seconds(*values: float) -> list[timedelta]:
    return [timedelta(seconds=value) for value in values]


def seen(*values: float, model: str | None = "music-2.6") -> Experience:
    return Experience(Making(model, took) for took in seconds(*values))


@pytest.mark.parametrize(
    ("took", "age", "expected"),
    [
        ((100, 120, 140), 0, Left(timedelta(seconds=120))),
        ((100, 120, 140), 50, Left(timedelta(seconds=70))),
        # what took less than it already has says nothing any more
        ((100, 120, 140), 110, Left(timedelta(seconds=20))),
        ((100, 120, 140), 130, Left(timedelta(seconds=10))),
        ((100, 120, 140), 140, Overdue(timedelta(seconds=120))),
        # one odd track in a hundred is no reason to wait for another
        ((*[100] * 99, 100_000), 200, Overdue(timedelta(seconds=100))),
        ((*[100] * 9, 1000), 200, Left(timedelta(seconds=800))),
        ((100, 120), 0, None),
        ((), 0, None),
    ],
)
def test_what_is_left_follows_from_those_that_took_longer(
    took: tuple[float, ...], age: float, expected: Left | Overdue | None
) -> None:
    assert seen(*took).time_left("music-2.6", timedelta(seconds=age)) == expected


def test_each_model_is_judged_by_itself() -> None:
    both = Experience(
        [Making("quick", took) for took in seconds(10, 10, 10)]
        + [Making(None, took) for took in seconds(90, 90, 90)]
    )
    assert both.time_left("quick", timedelta(0)) == Left(timedelta(seconds=10))
    assert both.time_left(None, timedelta(0)) == Left(timedelta(seconds=90))
    assert both.time_left("unheard of", timedelta(0)) is None


def test_only_the_latest_hundred_count() -> None:
    assert seen(*[60] * 100, *[600] * 1000).time_left("music-2.6", timedelta(0)) == Left(timedelta(minutes=1))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Left(timedelta(seconds=3)), "ready any moment"),
        (Left(timedelta(seconds=41)), "about 0:40 left"),
        (Left(timedelta(seconds=78)), "about 1:20 left"),
        (Left(timedelta(seconds=757)), "about 13:00 left"),
        (Overdue(timedelta(seconds=151)), "longer than usual (2:31)"),
    ],
)
def test_it_is_told_no_more_exactly_than_it_is_known(said: Left | Overdue, words: str) -> None:
    assert str(said) == words


def test_only_what_is_ready_and_says_so_is_learned_from() -> None:
    assert making_of(parse(completed())) == Making("music-2.6", timedelta(minutes=3, seconds=22))
    assert making_of(parse(completed(model=7))) == Making(None, timedelta(minutes=3, seconds=22))
    assert making_of(parse(track())) is None
    assert making_of(parse(failed(updated_at="2026-06-23T12:38:18Z"))) is None
    assert making_of(parse(completed(created_at="2027-01-01T00:00:00Z"))) is None
    assert making_of(parse(completed(created_at=None))) is None
