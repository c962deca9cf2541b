"""Tracks that end after times drawn from some distribution, read by the cadence that learns and at an
interval.

A simulation: its clock is a number. The same decisions as the daemon's (`notifier.inspection`,
`notifier.durations`) on the same tracks as fixed reads; seeds make it come out the same each time.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from notifier.durations import Durations, Ending
from notifier.inspection import Course, gain, next_gap, saved_after

INTERVAL = 15.0
EXAMPLE = 200.0
"""How long the track of the vendor's example took, about."""

Draw = Callable[[random.Random, float], float]
"""Returns how long a track takes, given its place among many: from 0, the first, to 1, the last."""


def log_normal(median: float, spread: float) -> Draw:
    return lambda rng, _place: rng.lognormvariate(math.log(median), spread)


def exponential(mean: float) -> Draw:
    return lambda rng, _place: rng.expovariate(1 / mean)


def pareto(least: float, shape: float) -> Draw:
    return lambda rng, _place: least * rng.paretovariate(shape)


def uniform(least: float, most: float) -> Draw:
    return lambda rng, _place: rng.uniform(least, most)


def either(one: Draw, other: Draw, share: float = 0.5) -> Draw:
    return lambda rng, place: (one if rng.random() < share else other)(rng, place)


def changing(one: Draw, other: Draw, at: float = 0.5) -> Draw:
    return lambda rng, place: (one if place < at else other)(rng, place)


def drifting(begin: float, end: float, spread: float) -> Draw:
    """Return log-normal durations whose median moves from one to the other."""

    def draw(rng: random.Random, place: float) -> float:
        return rng.lognormvariate(math.log(begin) + place * math.log(end / begin), spread)

    return draw


def waves(median: float, factor: float, spread: float, count: int) -> Draw:
    """Return log-normal durations whose median goes up and down by a factor so many times."""

    def draw(rng: random.Random, place: float) -> float:
        return rng.lognormvariate(
            math.log(median) + math.log(factor) * math.sin(2 * math.pi * count * place), spread
        )

    return draw


LEARNABLE: Mapping[str, Draw] = {
    "log-normal 0.1": log_normal(EXAMPLE, 0.1),
    "log-normal 0.15": log_normal(EXAMPLE, 0.15),
    "log-normal 0.2": log_normal(EXAMPLE, 0.2),
    "log-normal 0.25": log_normal(EXAMPLE, 0.25),
    "log-normal 0.3": log_normal(EXAMPLE, 0.3),
    "log-normal 0.5": log_normal(EXAMPLE, 0.5),
    "quick: 30 s, 0.2": log_normal(30, 0.2),
    "slow: 15 min, 0.2": log_normal(900, 0.2),
    "bimodal: 1 and 5 min": either(log_normal(60, 0.15), log_normal(300, 0.15)),
    "heavy tail: Pareto 1.5": pareto(80, 1.5),
    "drifting: 2 to 6 min": drifting(120, 360, 0.2),
    "waves: 2 to 5 min": waves(EXAMPLE, 1.6, 0.2, 2),
}
"""What something can be foreseen of."""
UNFORESEEABLE: Mapping[str, Draw] = {
    "log-normal 1.0": log_normal(EXAMPLE, 1.0),
    "any moment: exponential": exponential(EXAMPLE),
    "uniform: 10 s to 7 min": uniform(10, 420),
}
"""What nothing, or hardly anything, can be foreseen of."""
CHANGING: Mapping[str, Draw] = {
    "change: 200 to 60 s": changing(log_normal(200, 0.2), log_normal(60, 0.2)),
    "change: 200 to 20 s": changing(log_normal(200, 0.2), log_normal(20, 0.2)),
    "change: 200 s to 10 min": changing(log_normal(200, 0.2), log_normal(600, 0.2)),
}
"""What behaves otherwise from one moment on."""


@dataclass(frozen=True, slots=True)
class Told:
    """What it cost to see one track end: by the cadence that learns, and at the interval."""

    reads: int
    lag: float
    fixed_reads: int
    fixed_lag: float


@dataclass(slots=True)
class _Life:
    index: int
    born: float
    duration: float
    course: Course
    read_at: float | None = None
    reads: int = 0
    is_placed: bool = False

    def ends_at(self) -> float:
        return self.born + self.duration


def told(
    draw: Draw,
    *,
    count: int,
    seed: int,
    interval: float = INTERVAL,
    every: float = 40.0,
    entry: Callable[[random.Random], float] = lambda rng: rng.uniform(0, 10),
    left: float = 0.0,
    known: Durations | None = None,
) -> list[Told]:
    """Return what became of so many tracks, one ordered about `every` seconds, in the order of their making.

    `entry` draws at which age a track comes onto the watchlist; such a share of them are `left`, taken off it
    unfinished. `known` is what was learned before and is added to.
    """
    rng = random.Random(seed)
    durations = Durations() if known is None else known
    lives = [*_lives(draw, count, rng, every, entry)]
    leaving = {life.index for life in lives if rng.random() < left}
    outcomes: dict[int, Told] = {}
    due = [(life.born + life.course.entry, life.index) for life in lives]
    heapq.heapify(due)
    while due:
        now, index = heapq.heappop(due)
        life = lives[index]
        if index in leaving and now - life.born > life.duration / 2:
            durations.learn(Ending(str(index), "m", life.course.seen, is_end=False))
        elif (wanted := _next(durations, life, interval)) > now + 1e-9:
            heapq.heappush(due, (min(wanted, now + interval), index))
        elif now < life.ends_at():
            life.is_placed = life.is_placed or (not life.reads and durations.standing("m").is_proven)
            _read(life, now, interval)
            heapq.heappush(due, (min(_next(durations, life, interval), now + interval), index))
        else:
            outcomes[index] = _tell(life, now, interval)
            durations.learn(_ending(durations, life, now, interval))
    return [outcomes[index] for index in sorted(outcomes)]


def _lives(
    draw: Draw, count: int, rng: random.Random, every: float, entry: Callable[[random.Random], float]
) -> Iterator[_Life]:
    born = 0.0
    for index in range(count):
        born += rng.expovariate(1 / every)
        age = entry(rng)
        yield _Life(index, born, draw(rng, index / count), Course(age, age))


def _next(durations: Durations, life: _Life, interval: float) -> float:
    """Return when a track is read next, as the daemon would ask now."""
    if life.read_at is None:
        return life.born + life.course.entry
    curve, standing = durations.curve("m"), durations.standing("m")
    if not (life.is_placed and standing.is_proven):
        return life.read_at + interval
    return life.read_at + next_gap(curve, life.course, interval=interval, stretch=standing.stretch)


def _read(life: _Life, now: float, interval: float) -> None:
    saved = 0.0
    if life.read_at is not None:
        saved = saved_after(life.course.saved, now - life.read_at, interval=interval)
    life.course = replace(life.course, seen=now - life.born, saved=saved)
    life.read_at = now
    life.reads += 1


def _tell(life: _Life, now: float, interval: float) -> Told:
    first = life.born + life.course.entry
    more = max(0, math.ceil((life.ends_at() - first) / interval - 1e-9))
    fixed_lag = first + more * interval - life.ends_at()
    return Told(life.reads + 1, now - life.ends_at(), more + 1, fixed_lag)


def _ending(durations: Durations, life: _Life, now: float, interval: float) -> Ending:
    entry = life.course.entry
    gained = gain(life.duration, told=now - life.born, entry=entry, interval=interval)
    ending = Ending(str(life.index), "m", life.duration, is_end=True, gain=gained)
    return durations.assessed(ending, entry=entry, interval=interval)


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests and lag of many tracks, by the cadence that learns and at the interval."""

    requests: float
    fixed_requests: float
    lag: float
    fixed_lag: float
    p95: float
    fixed_p95: float

    @property
    def ratio(self) -> float:
        return self.requests / self.fixed_requests


def cost(outcomes: Sequence[Told]) -> Cost:
    """Return means, and the lag that one in twenty exceeds."""
    count = len(outcomes)
    return Cost(
        sum(one.reads for one in outcomes) / count,
        sum(one.fixed_reads for one in outcomes) / count,
        sum(one.lag for one in outcomes) / count,
        sum(one.fixed_lag for one in outcomes) / count,
        sorted(one.lag for one in outcomes)[int(0.95 * count)],
        sorted(one.fixed_lag for one in outcomes)[int(0.95 * count)],
    )
