"""How likely tracks end at each age, as it is believed and as it is counted."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.hazard import EDGES, HORIZON, KEPT, Hazard, Tally, log_normal, mixed, steady

ages = st.floats(0, HORIZON)
hazards = st.lists(st.floats(0, 10), min_size=1, max_size=12).map(
    lambda some: Hazard([some[index * len(some) // (len(EDGES) - 1)] for index in range(len(EDGES) - 1)])
)


def survival(age: float, median: float, spread: float) -> float:
    return 0.5 * math.erfc(math.log(age / median) / spread / math.sqrt(2))


@pytest.mark.parametrize("spread", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("age", [60.0, 160.0, 200.0, 260.0, 900.0])
def test_a_log_normal_curve_is_one_within_what_a_bin_can_show(age: float, spread: float) -> None:
    expected = survival(age, 200, spread)
    assert log_normal(200, spread).survival(age) == pytest.approx(expected, abs=0.06)


def test_of_a_steady_curve_all_is_known() -> None:
    """Where nothing can be foreseen, as much remains to be waited for at every age."""
    curve = steady(200)
    for age in (0.0, 1.0, 200.0, 1000.0):
        assert curve.survival(age) == pytest.approx(math.exp(-age / 200))
        assert curve.root(age) == pytest.approx(age / math.sqrt(200))
        assert curve.ahead(age) == pytest.approx(math.sqrt(200))


def test_a_mixture_ends_as_its_parts_do() -> None:
    both = mixed(log_normal(60, 0.2), steady(500), share=0.25)
    for edge in EDGES[10:90:10]:
        parts = 0.25 * log_normal(60, 0.2).survival(edge) + 0.75 * steady(500).survival(edge)
        assert both.survival(edge) == pytest.approx(parts)


@given(hazards, ages, ages)
def test_an_age_is_found_again_by_the_integral_up_to_it(curve: Hazard, one: float, other: float) -> None:
    assert curve.survival(max(one, other)) <= curve.survival(min(one, other))
    found = curve.age_of(curve.root(one))
    assert found >= 0
    if math.isfinite(found):
        assert curve.root(found) == pytest.approx(curve.root(one), rel=1e-9, abs=1e-9)


@given(hazards, ages)
def test_no_curve_promises_more_than_what_remains_to_be_waited_for(curve: Hazard, age: float) -> None:
    """The inequality of Cauchy and Schwarz, on which it rests that a right curve never costs more."""
    if curve.survival(age) < 1e-6:
        return
    edges = [age, *(edge for edge in EDGES if edge > age)]
    longer = [curve.survival(edge) / curve.survival(age) for edge in edges]
    waiting = sum(
        (after - before) * share for before, after, share in zip(edges, edges[1:], longer, strict=False)
    )  # the share at the beginning of each bin: rather too much
    assert 0 <= curve.ahead(age) ** 2 <= waiting * (1 + 1e-6) + 1e-9


def test_imaginary_tracks_come_to_the_curve_that_they_follow() -> None:
    """Nothing counted: the prior stands, however much it weighs and however few come that far."""
    prior = mixed(log_normal(200, 0.4), steady(300), share=0.5)
    for weight in (0.01, 1.0, 100.0):
        posterior = Tally().hazard(prior, weight)
        for edge in EDGES:
            assert posterior.survival(edge) == pytest.approx(prior.survival(edge), abs=1e-6)


def test_many_samples_decide_and_few_bend() -> None:
    rng = random.Random(1)
    tally = Tally()
    prior = steady(200)
    tally.count(30.0, is_end=True)
    few = tally.hazard(prior, 3.0)
    assert 0.5 < few.survival(60) < prior.survival(60)
    for _ in range(300):
        tally.count(rng.lognormvariate(math.log(60), 0.2), is_end=True)
    many = tally.hazard(prior, 3.0)
    for age in (40.0, 60.0, 80.0):
        assert many.survival(age) == pytest.approx(survival(age, 60, 0.2), abs=0.15)


def test_a_track_without_an_end_counts_with_the_time_it_was_seen_for() -> None:
    """Left out, the long ones among the censored would make tracks seem quicker than they are."""
    rng = random.Random(2)
    heeded, left_out = Tally(), Tally()
    for _ in range(2000):
        took, seen_until = rng.expovariate(1 / 300), rng.uniform(0, 300)
        for tally in (heeded, left_out):
            if took <= seen_until:
                tally.count(took, is_end=True, kept=1.0)
            elif tally is heeded:
                tally.count(seen_until, is_end=False, kept=1.0)
    truth = math.exp(-150 / 300)
    assert heeded.hazard(steady(300), 1.0).survival(150) == pytest.approx(truth, abs=0.03)
    assert left_out.hazard(steady(300), 1.0).survival(150) < truth - 0.1


def test_a_track_counted_in_two_parts_counts_as_one() -> None:
    at_once, in_parts = Tally(), Tally()
    at_once.count(500.0, is_end=True, kept=1.0)
    in_parts.count(130.0, is_end=False, kept=1.0)
    in_parts.count(500.0, is_end=True, since=130.0, kept=1.0)
    for age in (50.0, 200.0, 600.0):
        one, other = (tally.hazard(steady(300), 1.0).survival(age) for tally in (at_once, in_parts))
        assert one == pytest.approx(other)


def test_what_has_changed_is_followed_and_what_was_is_forgotten() -> None:
    tally = Tally()
    for took in (200.0,) * 300 + (60.0,) * 100:
        tally.count(took, is_end=True)
    assert tally.hazard(steady(200), 1.0).survival(90) < KEPT**100 * 2


@given(st.floats(0, 1e9), st.booleans(), st.floats(0, 1e9))
def test_no_duration_is_too_odd_to_be_counted(age: float, is_end: bool, since: float) -> None:
    tally = Tally()
    tally.count(age, is_end=is_end, since=since)
    curve = tally.hazard(steady(200), 1.0)
    assert 0 <= curve.survival(HORIZON) <= curve.survival(0) == 1
