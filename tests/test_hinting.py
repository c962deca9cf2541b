from datetime import UTC, datetime, timedelta

import pytest
from yarl import URL

from notifier.hint import Heard
from notifier.hinting import Hints
from notifier.metrics import Metrics
from notifier.schedule import Schedule
from notifier.transition import Sighting
from notifier.watched import Watched
from tests.support.clocks import ManualClock
from tests.support.tracks import audio_id

INTERVAL, MOST = timedelta(seconds=15), timedelta(minutes=5)
FOLLOWED = "followed@example.com"


class World:
    """Hints about tracks that nobody reads; answers are made up as they would come."""

    def __init__(self, *, spacing: float = 0.2) -> None:
        self.clock, self.looked = ManualClock(), list[str]()
        self.watches: dict[str, Watched] = {}
        self.hints = Hints(
            self.watches,
            Schedule(self._turn, spacing=timedelta(seconds=spacing)),
            follows=lambda account: account == FOLLOWED,
            look=self.looked.append,
            clock=self.clock,
            metrics=Metrics(),
            max_interval=MOST,
            spacing=timedelta(seconds=spacing),
        )

    async def _turn(self, watch: Watched, *, lateness: float) -> None:
        raise NotImplementedError

    def watch(self, number: int, account: str = "me@example.com") -> Watched:
        identifier = audio_id(number, account)
        one = Watched(identifier, None, INTERVAL, frozenset(), (), URL("http://127.0.0.1:9/"))
        self.watches[identifier] = one
        one.told_of = self.clock.monotonic()  # seen at work
        self.clock.move(1)
        return one

    def ends(self, number: int, *, is_hinted: bool, status: str = "COMPLETED") -> None:
        """Let a track end that was seen at work before."""
        one = self.watch(number)
        if is_hinted:
            assert self.hints.take(one.audio_id) is Heard.READ
        one.sighting = Sighting(status, is_final=True, name=None, first_seen=datetime.now(UTC))
        self.hints.ended(one)


def test_tracks_are_polled_less_often_while_calls_come_for_each_that_ends() -> None:
    world = World()
    one = world.watch(100)
    for number in range(3):
        assert world.hints.interval_of(one) == INTERVAL
        world.ends(number, is_hinted=True)
    assert world.hints.interval_of(one) == 4 * INTERVAL
    assert world.hints.interval_of(world.watch(100, "other@example.com")) == INTERVAL
    world.ends(3, is_hinted=False)
    assert world.hints.interval_of(one) == INTERVAL


def test_a_hint_that_is_not_followed_yet_is_not_polled_for_less_often() -> None:
    """A closed gate may have kept it from being followed."""
    world = World()
    one = world.watch(100)
    for number in range(3):
        world.ends(number, is_hinted=True)
    world.hints.take(one.audio_id)
    assert world.hints.interval_of(one) == INTERVAL


def test_what_was_gone_or_had_ended_before_it_was_seen_proves_nothing() -> None:
    world = World()
    one = world.watch(100)
    for number in range(3):
        world.ends(number, is_hinted=True)
    world.ends(4, is_hinted=False, status="MISSING")
    late = world.watch(5)
    late.told_of = float("-inf")
    world.hints.ended(late)
    assert world.hints.interval_of(one) == 4 * INTERVAL
    world.hints.forget()
    assert world.hints.interval_of(one) == INTERVAL


@pytest.mark.parametrize("spacing", [0.2, 60.0])
def test_hints_take_half_of_the_rate_at_the_most_after_the_first_ones(spacing: float) -> None:
    world = World(spacing=spacing)
    one = world.watch(1)
    heard = [world.hints.take(one.audio_id) for _ in range(200)]
    assert heard.count(Heard.READ) == 50
    world.clock.move(2.01 * spacing)
    assert [world.hints.take(one.audio_id) for _ in range(2)] == [Heard.READ, Heard.DROPPED]


def test_what_leads_to_no_request_takes_nothing_from_what_does() -> None:
    world = World()
    one = world.watch(1)
    world.ends(2, is_hinted=False)
    for _ in range(200):
        assert world.hints.take(audio_id(2)) is Heard.FINISHED
        assert world.hints.take(audio_id(9, "stranger@example.com")) is Heard.UNKNOWN
    assert world.hints.take(audio_id(9, FOLLOWED)) is Heard.LOOKED
    assert world.looked == [FOLLOWED]
    assert world.hints.take(one.audio_id) is Heard.READ
