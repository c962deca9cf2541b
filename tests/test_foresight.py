"""When tracks under way are read, and what is learned from their ends."""

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from yarl import URL

from notifier.clock import to_rfc3339
from notifier.durations import Ending
from notifier.foresight import Foresight, Life, Terms
from notifier.schedule import _ZONE, Schedule, _Trigger
from notifier.track import Track, parse
from notifier.transition import Gone
from notifier.watched import Watched
from tests.support.lifetimes import Told, cost
from tests.support.tracks import audio_id, completed, failed, track

BEGIN = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)
"""The API's time when the schedule's clock showed 1,000 seconds."""
ACCOUNT = "me@example.com"
INTERVAL = 15.0


def api_time(moment: float) -> datetime:
    return BEGIN + timedelta(seconds=moment - 1000)


def made_at(moment: float, **fields: Any) -> Track:
    return parse(track(created_at=to_rfc3339(api_time(moment)), **fields))


def ended_at(made: float, moment: float, **fields: Any) -> Track:
    moments = {"created_at": to_rfc3339(api_time(made)), "updated_at": to_rfc3339(api_time(moment))}
    return parse(completed(**{**moments, **fields}))


def met(
    foresight: Foresight, *, at: float, made: float = 1000.0, account: str = ACCOUNT, **fields: Any
) -> Life:
    life = foresight.meet(
        made_at(made, **fields), account, at=at, now=at, api_now=api_time(at), interval=INTERVAL
    )
    assert life is not None
    return life


def experienced(model: str = "music-2.6", **terms: Any) -> Foresight:
    """Return the foresight of a daemon that has seen a hundred tracks of a model take about 200 s."""
    foresight = Foresight(Terms(**terms))
    rng = random.Random(1)
    for number in range(100):
        seconds = rng.lognormvariate(5.3, 0.15)
        ending = Ending(f"before {number}", model, seconds, is_end=True, gain=0.1, on_paper=0.3)
        foresight.durations.learn(ending)
    return foresight


def next_read(foresight: Foresight, life: Life, *, is_stalled: bool = False) -> float:
    return foresight.next_read(life, interval=INTERVAL, is_stalled=is_stalled)


def test_a_young_track_is_left_alone_and_one_of_the_usual_age_is_read_often() -> None:
    foresight = experienced()
    life = met(foresight, at=1004.0)
    assert foresight.places(life)
    first = next_read(foresight, life)
    assert 1100 < first < 1160
    assert foresight.read_after(life, first, interval=INTERVAL, is_stalled=False) - first < 40
    foresight.begin(life, first, interval=INTERVAL)
    foresight.begin(life, 1230.0, interval=INTERVAL)
    life.see(1230.0, 1230.0)
    assert INTERVAL / 2 <= next_read(foresight, life) - 1230 < INTERVAL, "with what was saved"


def test_nothing_is_placed_before_it_has_paid_when_it_is_switched_off_or_for_other_models() -> None:
    assert not Foresight().places(met(Foresight(), at=1004.0))
    off = experienced(is_on=False)
    assert not off.places(met(off, at=1004.0))
    off.terms = replace(off.terms, is_on=True)
    assert off.places(met(off, at=1004.0))
    foresight = experienced()
    assert not foresight.places(met(foresight, at=1004.0, model="music-v1"))


def test_after_a_read_without_an_answer_the_next_one_comes_at_the_interval() -> None:
    foresight = experienced()
    life = met(foresight, at=1004.0)
    foresight.begin(life, 1130.0, interval=INTERVAL)
    assert next_read(foresight, life) == 1145.0
    life.see(1129.9, 1131.0)
    assert next_read(foresight, life) != 1145.0, "the answer to a turn of before tells as well"


def test_no_gap_is_longer_than_errors_would_make_it() -> None:
    foresight = experienced(max_interval=timedelta(seconds=40))
    assert next_read(foresight, met(foresight, at=1004.0)) == 1044.0


def test_a_track_that_stalls_is_read_then() -> None:
    foresight = experienced(stalled_after=timedelta(seconds=60))
    life = met(foresight, at=1004.0)
    assert next_read(foresight, life) == 1061.0
    assert next_read(foresight, life, is_stalled=True) > 1100
    life.read_at = 1055.0
    life.see(1055.0, 1055.0)
    life.budget.saved = 0.0
    assert next_read(foresight, life) == 1070.0, "no sooner than at the interval"
    life.read_at = 1061.0
    life.see(1061.0, 1061.0)
    assert next_read(foresight, life) > 1100


def test_tracks_that_one_answer_tells_of_have_one_budget() -> None:
    foresight = experienced(reads_lists=True)
    one, other = (met(foresight, at=1004.0, model=model) for model in ("music-2.6", "music-v1"))
    stranger = met(foresight, at=1004.0, account="else@example.com")
    for life in (one, other):
        foresight.begin(life, 1064.0, interval=INTERVAL)
    assert one.budget.saved == other.budget.saved == 3.0, "a read of both at the same moment is one"
    foresight.begin(other, 1066.0, interval=INTERVAL)
    assert one.budget.saved == pytest.approx(3 - 1 + 2 / 15)
    foresight.begin(stranger, 1064.0, interval=INTERVAL)
    assert stranger.budget.saved == 3.0
    alone = experienced()
    one, other = met(alone, at=1004.0), met(alone, at=1004.0)
    alone.begin(one, 1064.0, interval=INTERVAL)
    assert (one.budget.saved, other.budget.saved) == (3.0, 0.0)


@pytest.mark.parametrize(
    "created_at", [None, "yesterday", "2026-06-23T13:00:00Z", "2026-06-20T12:00:00Z", "0001-01-01T00:00:00Z"]
)
def test_of_a_track_made_never_or_not_yet_or_long_ago_nothing_is_foreseen(
    created_at: object,
) -> None:
    odd = parse(track(created_at=created_at))
    foresight = experienced()
    assert foresight.meet(odd, ACCOUNT, at=1.0, now=1.0, api_now=api_time(1000), interval=15) is None


def test_a_model_of_any_name_is_kept_short_and_can_be_stored() -> None:
    foresight = Foresight()
    for name in ("x" * 10_000, "a\nb\x00\u202e", "\ud800", 7, None, "   "):
        life = met(foresight, at=1004.0, model=name)
        assert len(life.model.encode()) <= 256
        assert "\n" not in life.model


def ending(foresight: Foresight, life: Life | None, seen: Track | Gone, *, at: float) -> Ending | None:
    return foresight.ending("t", life, seen, at=at, now=at, api_now=api_time(at))


def test_an_end_is_learned_with_when_fixed_reads_would_have_told_it() -> None:
    foresight = experienced()
    life = met(foresight, at=1004.0)
    foresight.begin(life, 1196.0, interval=INTERVAL)
    learned = ending(foresight, life, ended_at(1000, 1190), at=1196.0)
    assert learned is not None
    assert (learned.model, learned.seconds, learned.is_end) == ("music-2.6", 190.0, True)
    assert learned.gain == pytest.approx((199 - 196) / 15), "fixed reads: 4, 19, …, 184, 199"
    assert learned.on_paper != 0
    assert not learned.is_surprise
    odd = ending(foresight, life, ended_at(1000, 1030), at=1150.0)
    assert odd is None or odd.is_surprise


def test_a_track_that_failed_has_ended_too() -> None:
    foresight = Foresight()
    made, ended = to_rfc3339(api_time(1000)), to_rfc3339(api_time(1100))
    seen = parse(failed(created_at=made, updated_at=ended))
    learned = ending(foresight, met(foresight, at=1004.0), seen, at=1101.0)
    assert learned is not None
    assert (learned.seconds, learned.is_end) == (100.0, True)


@pytest.mark.parametrize("updated_at", [None, "2026-06-23T12:00:01Z", "2026-06-23T18:00:00Z"])
def test_an_end_that_contradicts_what_was_seen_lies_between_two_looks(updated_at: object) -> None:
    foresight = Foresight()
    life = met(foresight, at=1004.0)
    life.see(1040.0, 1040.0)
    learned = ending(foresight, life, ended_at(1000, 1050, updated_at=updated_at), at=1060.0)
    assert learned is not None
    assert learned.seconds == pytest.approx(50.0)


def test_a_track_that_says_at_its_end_to_be_much_older_took_no_longer_than_it_can_have() -> None:
    foresight = Foresight()
    life = met(foresight, at=1004.0)
    life.see(1040.0, 1040.0)
    learned = ending(foresight, life, ended_at(1000 - 80_000, 1050), at=1060.0)
    assert learned is not None
    assert learned.seconds == pytest.approx(50.0)


def test_a_track_that_had_ended_when_first_seen_says_only_how_long_it_took() -> None:
    foresight = Foresight()
    learned = ending(foresight, None, ended_at(1000, 1190), at=5000.0)
    assert learned == Ending("t", "music-2.6", 190.0, is_end=True)
    assert ending(foresight, None, ended_at(1000, 1190, updated_at=None), at=5000.0) is None
    assert ending(foresight, None, ended_at(1000, 1190, created_at=None), at=5000.0) is None
    assert ending(foresight, None, Gone(), at=5000.0) is None


def test_a_track_that_is_gone_or_stalls_counts_with_how_long_it_was_seen() -> None:
    foresight = Foresight()
    life = met(foresight, at=1004.0)
    life.see(1090.0, 1090.0)
    assert ending(foresight, life, Gone(), at=1150.0) == Ending("t", "music-2.6", 90.0, is_end=False)
    stalled = ending(foresight, life, made_at(1000), at=1150.0)
    assert stalled == Ending("t", "music-2.6", 150.0, is_end=False)


def test_the_lag_of_an_outage_is_not_held_against_foresight() -> None:
    foresight = Foresight()
    life = met(foresight, at=1004.0)
    foresight.begin(life, 1019.0, interval=INTERVAL)
    foresight.begin(life, 1500.0, interval=INTERVAL)
    learned = ending(foresight, life, ended_at(1000, 1030), at=1500.0)
    assert learned is not None
    assert learned.gain is None


class Rehearsal:
    """The triggers of a schedule, gone through without waiting: its clock is a number."""

    def __init__(self, foresight: Foresight, *, is_shared: bool = False) -> None:
        self.foresight = foresight
        self.is_shared = is_shared
        """Whether each answer tells of all tracks, as an account's list does."""
        self.schedule = Schedule(self._turn, spacing=timedelta(microseconds=1), foresight=foresight)
        self.failing: set[int] = set()
        """Which reads, counted over all, have no answer."""
        self.reads: list[float] = []

    async def _turn(self, watch: Watched, *, lateness: float) -> None:
        raise NotImplementedError

    def run(self, lives: Iterable[tuple[float, float, float]]) -> list[Told]:
        """Watch tracks, given when each is made, is watched from and ends; return what became of them."""
        self.facts = {audio_id(number): facts for number, facts in enumerate(lives)}
        self.counts = dict.fromkeys(self.facts, 0)
        self.told: dict[str, Told] = {}
        self.watches: dict[str, Watched] = {}
        due = []
        for index, (identifier, (_, watched, _)) in enumerate(self.facts.items()):
            url, interval = URL("http://127.0.0.1:9/"), timedelta(seconds=INTERVAL)
            watch = Watched(identifier, None, interval, frozenset(), (), url)
            due.append((watched, index, _Trigger(self.schedule, watch, watched, identifier)))
        heapq.heapify(due)
        while due:
            now, index, trigger = heapq.heappop(due)
            for _ in range(2):  # as APScheduler does
                following = trigger.get_next_fire_time(_ZONE.at(now), _ZONE.at(now))
            watch = trigger.watch
            if watch.audio_id in self.told:
                continue
            self.watches[watch.audio_id] = watch
            if not trigger.is_early:
                self._turn_of(watch, now)
            if watch.audio_id not in self.told:
                assert following is not None
                heapq.heappush(due, (_ZONE.seconds(following), index, trigger))
        return [*self.told.values()]

    def _turn_of(self, watch: Watched, now: float) -> None:
        self.counts[watch.audio_id] += 1
        if watch.life is not None:
            self.foresight.begin(watch.life, now, interval=INTERVAL)
        self.reads.append(now)
        if len(self.reads) in self.failing:
            return
        for one in [*self.watches.values()] if self.is_shared else [watch]:
            self._see(one, now)

    def _see(self, watch: Watched, now: float) -> None:
        made, _, ends = self.facts[watch.audio_id]
        watch.phase = now
        if ends > now:
            watch.life = watch.life or met(self.foresight, at=now, made=made)
            watch.life.see(now, now)
            return
        seen = ended_at(made, ends)
        learned = self.foresight.ending(
            watch.audio_id, watch.life, seen, at=now, now=now, api_now=api_time(now)
        )
        assert learned is not None
        self.foresight.durations.learn(learned)
        self.told[watch.audio_id] = self._told(self.facts[watch.audio_id], self.counts[watch.audio_id], now)
        del self.watches[watch.audio_id]

    @staticmethod
    def _told(facts: tuple[float, float, float], reads: int, now: float) -> Told:
        _, watched, ends = facts
        fixed = watched
        fixed_reads = 1
        while fixed < ends:
            fixed += INTERVAL
            fixed_reads += 1
        return Told(reads, now - ends, fixed_reads, fixed - ends)


def lives(count: int, *, seed: int, spread: float = 0.2) -> Iterator[tuple[float, float, float]]:
    rng = random.Random(seed)
    made = 2000.0
    for _ in range(count):
        made += rng.expovariate(1 / 40)
        yield made, made + rng.uniform(0, 10), made + rng.lognormvariate(5.3, spread)


def test_the_schedule_reads_as_the_simulation_promises() -> None:
    told = Rehearsal(Foresight()).run(lives(250, seed=4))
    assert len(told) == 250
    assert all(one.reads <= one.fixed_reads for one in told)
    later = cost(told[100:])
    assert later.ratio < 0.52
    assert later.lag <= later.fixed_lag * 1.01


def test_a_schedule_without_experience_reads_at_the_interval() -> None:
    rehearsal = Rehearsal(Foresight(Terms(is_on=False)))
    told = rehearsal.run(lives(60, seed=4))
    assert [one.reads for one in told] == [one.fixed_reads for one in told]
    assert [one.lag for one in told] == pytest.approx([one.fixed_lag for one in told], abs=1e-3)


def test_what_was_saved_is_spent_when_an_end_is_likely() -> None:
    rehearsal = Rehearsal(experienced())
    rehearsal.run([(2000.0, 2004.0, 2290.0)])
    gaps = [later - earlier for earlier, later in pairwise(rehearsal.reads)]
    assert gaps[0] > 4 * INTERVAL
    assert 0.5 * INTERVAL - 1e-3 <= min(gaps) < 0.9 * INTERVAL


def test_after_a_read_that_failed_the_schedule_reads_at_the_interval_until_there_is_an_answer() -> None:
    rehearsal = Rehearsal(experienced())
    rehearsal.failing = {2, 3, 4}
    rehearsal.run([(2000.0, 2004.0, 2210.0)])
    first, second, third, fourth, fifth = rehearsal.reads[:5]
    assert second - first > 60
    assert [third - second, fourth - third, fifth - fourth] == pytest.approx([INTERVAL] * 3, abs=1e-3)


def test_a_switch_to_fixed_reads_counts_from_the_next_interval_on() -> None:
    foresight = experienced()
    watch = Watched(
        audio_id(1), None, timedelta(seconds=INTERVAL), frozenset(), (), URL("http://127.0.0.1:9/")
    )
    rehearsal = Rehearsal(foresight)
    trigger = _Trigger(rehearsal.schedule, watch, 2004.0, "1")

    def fire(at: float) -> tuple[bool, float]:
        following = trigger.get_next_fire_time(_ZONE.at(at), _ZONE.at(at))
        assert following is not None
        return trigger.is_early, round(_ZONE.seconds(following), 3)

    assert fire(2004.0) == (False, 2019.0)
    watch.life, watch.phase = met(foresight, at=2004.0, made=2000.0), 2004.0
    assert fire(2019.0) == (True, 2034.0)
    foresight.terms = replace(foresight.terms, is_on=False)
    assert fire(2034.0) == (False, 2049.0)
    foresight.begin(watch.life, 2034.0, interval=INTERVAL)
    watch.phase = 2034.0
    watch.life.see(2034.0, 2034.0)
    foresight.terms = replace(foresight.terms, is_on=True)
    assert fire(2049.0) == (True, 2064.0)


def ordered_together(count: int, *, times: int, seed: int) -> Iterator[tuple[float, float, float]]:
    """Return tracks of one account, so many ordered at once, and again when those have ended."""
    rng = random.Random(seed)
    for time in range(times):
        made = 2000.0 + 600 * time
        for _ in range(count):
            yield made, made + 3, made + rng.lognormvariate(5.3, 0.2)


@pytest.mark.parametrize("is_by_turns", [True, False])
def test_an_account_whose_tracks_are_read_together_costs_no_more_than_at_the_interval(
    is_by_turns: bool,
) -> None:
    """The budget is the account's then: each of its tracks has another time at which it is likely to end."""
    tracks = [*ordered_together(8, times=25, seed=9)] if is_by_turns else [*lives(250, seed=9)]
    learned = Rehearsal(Foresight(Terms(reads_lists=True)), is_shared=True)
    fixed = Rehearsal(Foresight(Terms(reads_lists=True, is_on=False)), is_shared=True)
    lag, lag_of_fixed = (
        sum(one.lag for one in rehearsal.run(tracks)) / len(tracks) for rehearsal in (learned, fixed)
    )
    assert lag <= lag_of_fixed * 1.02
    requests, requests_of_fixed = (len(set(rehearsal.reads)) for rehearsal in (learned, fixed))
    assert requests <= requests_of_fixed * (0.8 if is_by_turns else 1)
