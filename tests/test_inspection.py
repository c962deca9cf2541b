"""Where reads are placed, given how likely a track ends at each age."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.hazard import EDGES, HORIZON, Hazard, log_normal, mixed, steady
from notifier.inspection import Course, Standing, gain, gain_on_paper, next_gap, saved_after

curves = st.lists(st.floats(0, 10), min_size=1, max_size=12).map(
    lambda some: Hazard([some[index * len(some) // (len(EDGES) - 1)] for index in range(len(EDGES) - 1)])
)
intervals = st.floats(0.05, 3600)
stretches = st.floats(0.4, 1.3)


def reads(curve: Hazard, *, until: float, interval: float = 15.0) -> list[float]:
    """Return at which ages a track is read that does not end."""
    course, ages = Course(0.0, 0.0), [0.0]
    while ages[-1] < until:
        gap = next_gap(curve, course, interval=interval, stretch=1.0)
        ages.append(ages[-1] + gap)
        course = Course(0.0, ages[-1], saved_after(course.saved, gap, interval=interval))
    return ages


def cost(curve: Hazard, ages: list[float]) -> tuple[float, float]:
    """Return the expected lag and the expected requests of reads at these ages, exactly."""
    step = 0.5
    lag = requests = 0.0
    for age, following in pairwise(ages):
        requests += curve.survival(age)
        steps = max(1, round((following - age) / step))
        width = (following - age) / steps
        middles = (age + (index + 0.5) * width for index in range(steps))
        lag += (following - age) * curve.survival(age) - width * sum(curve.survival(at) for at in middles)
    return lag, requests


@pytest.mark.parametrize(("spread", "ratio"), [(0.1, 0.2), (0.2, 0.37), (0.3, 0.51), (0.5, 0.73)])
def test_what_a_right_curve_saves_depends_on_how_far_durations_spread(spread: float, ratio: float) -> None:
    """The figures of the module's docstring: the requests that remain, for the same lag."""
    curve = log_normal(200, spread)
    mean = sum((after - before) * curve.survival(before) for before, after in pairwise(EDGES))
    assert curve.ahead(0) ** 2 / mean == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize("spread", [0.15, 0.2, 0.3, 0.5])
def test_reads_keep_the_promise_of_a_right_curve_for_less(spread: float) -> None:
    curve = log_normal(200, spread)
    lag, requests = cost(curve, reads(curve, until=1500))
    fixed_lag, fixed_requests = cost(curve, [index * 15.0 for index in range(100)])
    assert fixed_lag == pytest.approx(7.5, abs=0.2)
    assert lag <= 7.5 * 1.1
    assert requests < fixed_requests * {0.15: 0.4, 0.2: 0.45, 0.3: 0.6, 0.5: 0.8}[spread]


def test_reads_are_sparse_dense_and_sparse_again() -> None:
    ages = reads(mixed(log_normal(200, 0.2), log_normal(2000, 0.5), share=0.95), until=900)
    gaps = [after - before for before, after in pairwise(ages)]
    assert gaps[0] > 100
    assert min(gaps) < 15
    assert 170 < ages[gaps.index(min(gaps))] < 400
    assert gaps[-1] > 2 * min(gaps)


def test_where_nothing_can_be_foreseen_the_interval_stays() -> None:
    assert reads(steady(200), until=300) == pytest.approx([index * 15.0 for index in range(21)])


@given(curves, st.floats(0, HORIZON * 2), stretches, intervals)
def test_no_age_has_seen_more_reads_than_the_interval_would_have_made(
    curve: Hazard, entry: float, stretch: float, interval: float
) -> None:
    course, age = Course(entry, entry), entry
    for count in range(1, 30):
        gap = next_gap(curve, course, interval=interval, stretch=stretch)
        assert 0.5 * interval * (1 - 1e-9) <= gap <= 10 * interval * (1 + 1e-9)
        age += gap
        course = Course(entry, age, saved_after(course.saved, gap, interval=interval))
        assert age - entry >= count * interval * (1 - 1e-6)


@pytest.mark.parametrize("age", [-0.1, HORIZON, HORIZON * 3])
def test_beyond_all_experience_the_interval_counts(age: float) -> None:
    assert next_gap(log_normal(200, 0.2), Course(0.0, age, 9.0), interval=15.0, stretch=1.3) == 15.0


def test_a_gain_is_counted_against_what_fixed_reads_would_have_told() -> None:
    def gained(end: float, told: float) -> float:
        return gain(end, told=told, entry=4.0, interval=15.0)

    assert gained(20.0, 34.0) == 0.0, "told at 34, as by fixed reads at 4, 19 and 34"
    assert gained(20.0, 26.5) == 0.5
    assert gained(20.0, 49.0) == -1.0
    assert gained(19.0, 19.0) == 0.0
    assert gained(2.0, 4.0) == 0.0, "over when it was read for the first time"


def test_reads_on_paper_cost_no_request() -> None:
    """What reads by a curve would have gained by an end, and would have lost by one nobody expects."""
    curve = log_normal(200, 0.2)
    gains = [gain_on_paper(curve, end, entry=4.0, interval=15.0) for end in range(140, 290)]
    assert sum(gains) / len(gains) > 0.15
    assert gain_on_paper(curve, 30.0, entry=4.0, interval=15.0) < -3
    assert gain_on_paper(curve, 3.0, entry=4.0, interval=15.0) == 0
    assert gain_on_paper(curve, HORIZON, entry=4.0, interval=15.0) == 0
    assert gain_on_paper(steady(200), 95.0, entry=4.0, interval=15.0) == 0, "nothing was saved to read more"


def test_nothing_is_staked_before_it_has_paid_on_paper_or_once_it_does_not() -> None:
    standing = Standing()
    told = 0
    while not standing.is_proven:
        standing = standing.after(0.0, 0.25)
        told += 1
    assert told == 13
    assert not standing.after(-0.5, -5.0).is_proven
    assert standing.after(-0.5, -0.5).is_proven, "a single one that was late does not say that much"


def test_a_debt_stays_until_it_is_paid_and_a_credit_fades() -> None:
    assert Standing(credit=-2.0).after(0.3, 0.0).credit == pytest.approx(-1.7)
    assert Standing(credit=-2.0).after(0.0, 0.0).credit == -2.0
    assert Standing(credit=2.0).after(0.0, 0.0).credit == pytest.approx(1.96)
    assert Standing(credit=4.0).after(0.5, 0.0).credit == 4.0
    assert Standing(credit=-19.0).after(-1e9, 0.0).credit == -20.0


@given(st.floats(-20, 4), st.floats(0, 24))
def test_who_has_credit_aims_at_no_less_lag_than_who_has_debts(credit: float, more: float) -> None:
    poor, rich = Standing(credit=credit), Standing(credit=credit + more)
    assert 0.4 <= poor.stretch <= rich.stretch <= 1.3
    assert Standing(credit=-2.0).stretch < 0.5
