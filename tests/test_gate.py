from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from notifier.delivery import Backoff
from notifier.gate import Gate, GateState, Pace, Passage

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


class NoChance(Random):
    """A source of chance that never adds anything."""

    def random(self) -> float:
        return 0.0


def gate(pace: Pace | None = None, first: float = 5, longest: float = 40) -> Gate:
    backoff = Backoff(timedelta(seconds=first), timedelta(seconds=longest))
    return Gate(backoff=backoff, pace=pace, rng=NoChance())


def through(one: Gate) -> Passage:
    passage = one.claim()
    assert passage is not None
    return passage


def fail(one: Gate, now: float, reason: str = "HTTP 503", after: timedelta | None = None) -> bool:
    """Go through and come back with a failure."""
    passage = through(one)
    is_new = one.failed(now, passage, reason, after=after)
    one.release(passage)
    return is_new


def test_an_open_gate_lets_everybody_through_at_once() -> None:
    one = gate()

    assert one.state(0) is GateState.OPEN
    assert one.remaining(0) == 0
    assert [through(one) for _ in range(3)] == [Passage(is_probe=False)] * 3


def test_a_failure_closes_the_gate_for_everyone() -> None:
    one = gate()

    assert fail(one, 100)

    assert one.state(100) is GateState.WAITING
    assert one.reason == "HTTP 503"
    assert one.closed_for(100) == 5
    assert one.closed_for(103) == 2
    assert one.closed_for(105) == 0


def test_a_wait_that_is_over_proves_nothing_yet() -> None:
    one = gate()
    fail(one, 100)

    assert one.state(1_000) is GateState.WAITING


def test_the_first_after_a_failure_is_the_probe_and_goes_alone() -> None:
    one = gate()
    fail(one, 100)

    probe = through(one)

    assert probe.is_probe
    assert one.claim() is None


def suspected(one: Gate) -> Passage:
    passage = one.claim(is_suspect=True)
    assert passage is not None
    return passage


def test_a_suspect_is_the_probe_only_until_another_one_asks() -> None:
    one = gate()
    fail(one, 100)
    suspect = suspected(one)
    assert one.claim(is_suspect=True) is None
    assert one.allows(suspect)

    probe = through(one)

    assert probe.is_probe
    assert (one.allows(suspect), one.allows(probe)) == (False, True)
    one.release(suspect)
    assert one.claim() is None
    one.succeeded()
    assert one.allows(suspect), "the gate is open to all"


def test_nobody_takes_the_place_of_a_suspect_whose_request_has_left() -> None:
    one = gate()
    one.enter(99)
    fail(one, 100)
    suspect = suspected(one)
    suspect.has_left = True

    assert one.claim() is None
    one.release(suspect)
    assert one.allows(through(one))


def test_a_probe_that_succeeds_opens_the_gate() -> None:
    one = gate()
    fail(one, 100)
    through(one)

    assert one.succeeded()

    assert one.state(105) is GateState.OPEN
    assert one.reason is None
    assert not through(one).is_probe
    assert not one.succeeded()


def test_failed_probes_double_the_wait_up_to_the_longest() -> None:
    one = gate()
    now, waits = 0.0, []

    for _ in range(6):
        assert fail(one, now)
        waits.append(one.closed_for(now))
        now += waits[-1]

    assert waits == [5, 10, 20, 40, 40, 40]
    assert one.failures == 6


def test_after_a_success_the_waits_start_anew() -> None:
    one = gate()
    fail(one, 0)
    fail(one, 10)
    one.succeeded()

    fail(one, 100)

    assert one.closed_for(100) == 5


def test_requests_that_fail_together_count_once() -> None:
    one = gate()
    together = [through(one) for _ in range(4)]

    counted = [one.failed(100 + index, passage, "HTTP 503") for index, passage in enumerate(together)]

    assert counted == [True, False, False, False]
    assert one.failures == 1
    assert one.closed_for(100) == 5


def test_of_requests_that_fail_together_the_longest_hint_counts() -> None:
    one = gate()
    first, second, third = (through(one) for _ in range(3))

    one.failed(100, first, "HTTP 429", after=30 * SECOND)
    one.failed(101, second, "HTTP 429", after=60 * SECOND)
    one.failed(102, third, "HTTP 429", after=10 * SECOND)

    assert one.closed_for(102) == 59


def test_a_late_hint_makes_nobody_wait_longer_than_a_day() -> None:
    one = gate()
    first, second = through(one), through(one)

    one.failed(0, first, "HTTP 503")
    one.failed(0, second, "HTTP 429", after=30 * DAY)

    assert one.closed_for(0) == DAY.total_seconds()


def test_a_request_from_before_the_failure_does_not_take_the_probes_place() -> None:
    one = gate()
    early, late = through(one), through(one)
    one.failed(100, early, "HTTP 503")
    one.release(early)
    probe = through(one)

    one.failed(101, late, "HTTP 503")
    one.release(late)

    assert one.claim() is None
    one.release(probe)
    assert through(one).is_probe


def test_a_probe_given_back_late_does_not_free_the_place_of_the_next_one() -> None:
    one = gate()
    fail(one, 100)
    first = through(one)
    one.succeeded()
    fail(one, 200)
    second = through(one)

    one.release(first)

    assert second.is_probe
    assert one.claim() is None


def test_a_probe_given_back_without_an_answer_lets_the_next_one_try() -> None:
    one = gate()
    fail(one, 100)

    one.release(through(one))

    assert through(one).is_probe
    assert one.failures == 1


def test_what_was_asked_for_is_never_undercut() -> None:
    one = gate()

    fail(one, 100, "HTTP 429", after=3600 * SECOND)

    assert one.told_for(100) == 3600
    assert one.closed_for(100) == 3600
    assert one.closed_for(3699) == 1


def test_a_success_does_not_shorten_what_was_asked_for() -> None:
    one = gate()
    failing, succeeding = through(one), through(one)

    one.failed(100, failing, "HTTP 429", after=60 * SECOND)
    one.succeeded()

    assert one.closed_for(100) == 60
    assert one.state(100) is GateState.WAITING
    assert one.state(160) is GateState.OPEN
    assert not succeeding.is_probe


def test_a_failure_of_our_own_does_not_forget_that_the_wait_was_asked_for() -> None:
    one = gate()
    passage = through(one)
    one.hold(100, 60 * SECOND, "the rate limit is used up")

    one.failed(101, passage, "HTTP 503")

    assert one.told_for(101) == 59
    assert one.closed_for(101) == 59


def test_a_new_wait_of_our_own_was_not_asked_for() -> None:
    one = gate()
    fail(one, 100, after=60 * SECOND)

    fail(one, 200)

    assert one.told_for(200) == 0
    assert one.closed_for(200) > 0


def test_a_hold_lets_nobody_through_although_nothing_failed() -> None:
    one = gate()

    one.hold(100, 2 * SECOND, "the rate limit is used up")

    assert one.state(101) is GateState.WAITING
    assert one.remaining(101) == 1
    assert one.reason == "the rate limit is used up"
    assert one.state(102) is GateState.OPEN
    assert not through(one).is_probe


def test_a_hold_never_shortens_a_wait() -> None:
    one = gate()
    one.hold(100, 60 * SECOND, "slow down")

    one.hold(101, SECOND, "slow down")

    assert one.closed_for(101) == 59


def test_a_paused_gate_lets_nobody_through_however_long_it_takes() -> None:
    one = gate()

    one.pause("HTTP 404: no_service")

    assert one.state(1e9) is GateState.PAUSED
    assert one.reason == "HTTP 404: no_service"
    assert one.claim() is None


def late_success(one: Gate, _passage: Passage) -> None:
    one.succeeded()


def late_failure(one: Gate, passage: Passage) -> None:
    one.failed(101, passage, "HTTP 503", after=60 * SECOND)


def late_hold(one: Gate, _passage: Passage) -> None:
    one.hold(101, 60 * SECOND, "slow down")


def late_return(one: Gate, passage: Passage) -> None:
    one.release(passage)


@pytest.mark.parametrize("late", [late_success, late_failure, late_hold, late_return])
def test_only_a_person_opens_a_paused_gate_not_an_answer_that_was_under_way(
    late: Callable[[Gate, Passage], None],
) -> None:
    one = gate()
    under_way = through(one)
    one.pause("HTTP 404: no_service")

    late(one, under_way)

    assert one.state(101) is GateState.PAUSED
    assert one.reason == "HTTP 404: no_service"
    assert one.claim() is None


def test_a_person_ends_pause_and_back_off() -> None:
    one = gate()
    fail(one, 90)
    one.pause("HTTP 404: no_service")

    one.reopen()

    assert one.state(90) is GateState.OPEN
    assert (one.reason, one.failures) == (None, 0)
    assert one.remaining(90) == 0
    assert not through(one).is_probe


def test_nobody_ends_what_the_other_side_asked_for() -> None:
    one = gate()
    fail(one, 90, after=3600 * SECOND)
    one.pause("HTTP 404: no_service")
    one.hold(95, 3600 * SECOND, "slow down")

    one.reopen()

    assert one.state(100) is GateState.WAITING
    assert one.remaining(100) == 3595
    assert one.state(3695) is GateState.OPEN


def test_a_gate_with_something_else_behind_it_is_as_new() -> None:
    one = gate()
    fail(one, 90, after=3600 * SECOND)

    one.renew()

    assert one.state(90) is GateState.OPEN
    assert one.remaining(90) == 0


def test_a_restored_wait_goes_on_where_it_was() -> None:
    one = gate()

    one.restore(1000, remaining=7 * SECOND, told=2 * SECOND, failures=3, reason="HTTP 503")

    assert one.state(1000) is GateState.WAITING
    assert (one.reason, one.told_for(1000)) == ("HTTP 503", 2)
    assert one.closed_for(1000) == 7
    assert fail(one, 1007)
    assert one.closed_for(1007) == 40


def test_a_restored_hold_asks_for_no_probe() -> None:
    one = gate()

    one.restore(1000, remaining=2 * SECOND, told=2 * SECOND, failures=0, reason="slow down")

    assert one.state(1000) is GateState.WAITING
    assert one.state(1002) is GateState.OPEN
    assert not through(one).is_probe


def test_the_first_after_a_quiet_time_leaves_at_once() -> None:
    one = gate(Pace(1, SECOND))
    one.enter(100)

    assert one.remaining(100.25) == 0.75
    assert one.remaining(101) == 0
    assert one.remaining(5000) == 0


def test_a_pace_counts_over_any_period() -> None:
    one = gate(Pace(5, 2 * SECOND))

    for moment in (100.0, 100.25, 100.5, 101.0, 101.75):
        assert one.remaining(moment) == 0
        one.enter(moment)

    assert one.remaining(101.75) == 0.25
    assert one.remaining(102.0) == 0


def test_the_pace_goes_on_beside_a_wait() -> None:
    one = gate(Pace(1, 10 * SECOND))
    one.enter(100)

    fail(one, 101)

    assert one.remaining(101) == 9
    assert one.closed_for(101) == 5


def test_another_pace_holds_for_what_was_just_sent_too() -> None:
    one = gate(Pace(1, SECOND))
    one.enter(100)

    one.repace(Pace(1, 10 * SECOND))

    assert one.remaining(101) == 9


def test_a_target_that_needs_no_pace_any_more_keeps_none() -> None:
    one = gate(Pace(1, 10 * SECOND))
    one.enter(100)

    one.repace(None)

    assert one.remaining(101) == 0


ticks = st.integers(0, 5 * 64).map(lambda tick: tick / 64)
"""Seconds that neither floating point nor microseconds round."""


@given(st.integers(1, 6), st.integers(1, 4 * 64), st.lists(ticks, min_size=1, max_size=60))
def test_never_more_than_the_pace_in_any_period_and_never_later_than_needed(
    count: int, period_ticks: int, quiet_times: list[float]
) -> None:
    period = period_ticks / 64
    one, now, starts = gate(Pace(count, timedelta(seconds=period))), 0.0, list[float]()

    for quiet in quiet_times:
        now += quiet
        wait = one.remaining(now)
        window = [start for start in starts if start > now - period]
        assert (wait > 0) == (len(window) >= count)
        now += wait
        one.enter(now)
        starts.append(now)

    for index in range(len(starts) - count):
        assert starts[index + count] - starts[index] >= period
    assert all(earlier <= later for earlier, later in pairwise(starts))


class Story(RuleBasedStateMachine):
    """Requests come, go and fail in any order; beside the gate stands what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = gate()
        self.now = 0.0
        self.under_way: list[Passage] = []
        self.probe: Passage | None = None
        self.told_until = 0.0
        self.is_paused = False

    def end(self) -> Passage:
        passage = self.under_way.pop(0)
        self.gate.release(passage)
        if passage is self.probe:
            self.probe = None
        return passage

    def told(self, length: float) -> None:
        self.told_until = max(self.told_until, self.now + length)

    @rule(seconds=ticks)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(is_suspect=st.booleans())
    def claim(self, *, is_suspect: bool) -> None:
        """Ask to go through, and leave at once unless as a suspect, whom another one may still relieve."""
        is_probe_suspect = self.probe is not None and self.probe.is_suspect
        passage = self.gate.claim(is_suspect=is_suspect)
        if passage is None:
            return
        assert not self.is_paused
        assert passage.is_probe == (self.gate.failures > 0)
        if passage.is_probe:
            assert self.probe is None or (is_probe_suspect and not is_suspect)
            self.probe = passage
        passage.has_left = not is_suspect
        if passage.has_left:
            self.gate.enter(self.now)
        self.under_way.append(passage)

    @invariant()
    def one_at_most_is_let_through_a_closed_gate(self) -> None:
        allowed = [one for one in self.under_way if self.gate.allows(one)]
        if self.gate.failures:
            assert allowed in ([], [self.probe])
        else:
            assert allowed == self.under_way

    @precondition(lambda self: self.under_way)
    @rule()
    def succeed(self) -> None:
        self.gate.succeeded()
        if not self.is_paused:
            self.probe = None
        self.end()

    @precondition(lambda self: self.under_way)
    @rule(hint=st.none() | st.integers(0, 300))
    def fail(self, hint: int | None) -> None:
        self.gate.failed(
            self.now, self.under_way[0], "HTTP 503", after=None if hint is None else hint * SECOND
        )
        self.told(hint or 0)
        self.end()

    @precondition(lambda self: self.under_way)
    @rule()
    def give_up(self) -> None:
        self.end()

    @rule(seconds=st.integers(0, 300))
    def hold(self, seconds: int) -> None:
        self.gate.hold(self.now, seconds * SECOND, "slow down")
        self.told(seconds)

    @rule()
    def pause(self) -> None:
        self.gate.pause("HTTP 404")
        self.is_paused, self.probe = True, None

    @rule()
    def reopen(self) -> None:
        self.gate.reopen()
        self.is_paused, self.probe = False, None

    @rule()
    def renew(self) -> None:
        self.gate.renew()
        self.is_paused, self.probe, self.told_until = False, None, self.now

    @invariant()
    def what_was_told_is_kept(self) -> None:
        assert self.gate.closed_for(self.now) >= self.told_until - self.now

    @invariant()
    def only_a_person_ends_a_pause(self) -> None:
        assert (self.gate.state(self.now) is GateState.PAUSED) == self.is_paused


TestStory = Story.TestCase
