"""Which tracks of a list are new: each that has appeared is followed once, whatever becomes of the list."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.bookmark import MOST_KNOWN, Bookmark, Item, Sheet, Step, raised, read

NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def item(number: int, *, is_final: bool = True, at: datetime | None = NOON, is_meant: bool = True) -> Item:
    return Item(f"user:1-pixverse:me@example.com-music:{number}", is_meant, is_final, at)


@dataclass
class World:
    """An account's list, and somebody who follows it."""

    rng: Random
    limit: int = 12
    entries: list[Item] = field(default_factory=list)
    bookmark: Bookmark | None = None
    found: set[str] = field(default_factory=set)
    now: datetime = NOON
    is_dated: bool = True
    disorder: int = 0
    """How many places a new track may stand below the top."""
    number: int = 0
    appeared: set[str] = field(default_factory=set)
    requests: int = 0

    def appear(self, count: int = 1, *, is_final: bool = True, is_meant: bool = True) -> None:
        for _ in range(count):
            self.number += 1
            self.now += timedelta(seconds=1)
            new = item(
                self.number, is_final=is_final, at=self.now if self.is_dated else None, is_meant=is_meant
            )
            self.entries.insert(self.rng.randint(0, min(self.disorder, len(self.entries))), new)
            if is_meant:
                self.appeared.add(new.audio_id)

    def vanish(self, count: int = 1) -> None:
        for _ in range(min(count, len(self.entries))):
            gone = self.entries.pop(self.rng.randrange(len(self.entries)))
            if gone.audio_id not in self.found:
                self.appeared.discard(gone.audio_id)

    def page(self, offset: int) -> Sheet:
        self.requests += 1
        end = offset + self.limit
        return Sheet(offset, self.entries[offset:end], end if end < len(self.entries) else None)

    def take(self, sheet: Sheet) -> Step:
        step = read(self.bookmark, sheet, now=self.now)
        self.bookmark = step.bookmark
        self.found |= {*step.found}
        return step

    def look(self, most: int = 1000, *, meanwhile: float = 0.0) -> int | None:
        """Look, with so many requests at the most; return where it would go on, if it is not at its end."""
        then: int | None = 0
        while then is not None and most > 0:
            then = self.take(self.page(then)).then
            most -= 1
            if self.rng.random() < meanwhile:
                self.rng.choice([self.appear, self.vanish])(self.rng.randint(1, 4))
        return then


def begun(world: World, count: int, *, unfinished: int = 0) -> World:
    """Let tracks be there and be looked at for the first time."""
    world.appear(count - unfinished)
    world.appear(unfinished, is_final=False)
    world.appeared.clear()
    world.now += MINUTE
    world.look()
    return world


def names(*numbers: int) -> set[str]:
    return {item(number).audio_id for number in numbers}


# ------------------------------------------------------------------------------------------- the first look


def test_what_is_finished_at_first_sight_is_not_followed_and_what_is_not_is() -> None:
    world = begun(World(Random(1)), 30, unfinished=3)
    assert world.found == names(28, 29, 30)
    assert world.requests == 2  # on until a page has nothing unfinished
    world.look()
    assert world.found == names(28, 29, 30)
    assert world.requests == 3


def test_the_first_look_reads_on_while_there_are_unfinished_tracks() -> None:
    world = World(Random(1))
    world.appear(30, is_final=False)
    world.appear(30)
    world.look()
    assert (world.found, world.requests) == (set(), 1)
    world = World(Random(1))
    world.appear(30)
    world.appear(30, is_final=False)
    world.look()
    assert (world.found, world.requests) == (names(*range(31, 61)), 6)


def test_an_account_that_was_empty_has_nothing_but_new_tracks() -> None:
    world = begun(World(Random(1), is_dated=False), 0)
    world.appear(30)
    world.look()
    assert world.found == world.appeared == names(*range(1, 31))


def test_where_the_whole_list_is_known_all_else_is_new_that_has_not_ended_long_ago() -> None:
    world = begun(World(Random(1)), 5)
    long_ago = NOON - 1000 * DAY
    world.entries += [
        item(97, at=NOON - DAY / 2),
        item(98, at=long_ago, is_final=False),
        item(99, at=long_ago),
    ]
    world.look()
    assert world.found == names(97, 98)


def test_a_list_that_is_empty_at_first_and_then_full_of_old_tracks_is_no_flood() -> None:
    world = begun(World(Random(1)), 0)
    world.entries = [item(1000 + number, at=NOON - 3 * DAY) for number in range(120, 0, -1)]
    world.appear(3)
    world.look()
    assert world.found == world.appeared


def test_a_track_that_appears_while_the_first_look_goes_on_is_new() -> None:
    world = World(Random(1))
    world.appear(40, is_final=False)
    world.appeared.clear()
    assert world.look(1) is not None
    world.appear(1)
    world.look()
    assert world.appeared < world.found


# -------------------------------------------------------------------------------------------------- new ones


def test_what_is_no_music_is_known_and_not_followed() -> None:
    world = begun(World(Random(1)), 5)
    world.appear(2, is_meant=False)
    world.appear(1)
    world.look()
    assert world.found == names(8)


def test_a_list_in_which_nothing_changes_costs_one_page_and_leaves_the_bookmark_alone() -> None:
    world = begun(World(Random(1)), 500)
    before, requests = world.bookmark, world.requests
    world.look()
    assert (world.bookmark, world.requests) == (before, requests + 1)
    world.appear()
    world.look()
    assert world.requests == requests + 2


@pytest.mark.parametrize("is_dated", [True, False])
def test_a_long_downtime_is_made_up_for_page_by_page(*, is_dated: bool) -> None:
    world = begun(World(Random(1), is_dated=is_dated), 30)
    world.appear(400)
    looks = 1
    while world.look(5) is not None:
        looks += 1
        assert world.bookmark is not None
        assert world.bookmark.gap is not None
        world.appear(2)  # and life goes on
    assert world.found == world.appeared
    assert looks > 7
    assert world.requests < 80


def test_what_was_found_before_a_look_was_at_its_end_stays_found_after_a_restart() -> None:
    world = begun(World(Random(1), limit=30, is_dated=False), 60)
    world.appear(100)
    assert world.look(3) is not None
    assert world.found == set()  # undated: nothing tells yet that it is new
    assert world.bookmark is not None
    assert world.look(3) is None
    assert world.found == world.appeared


def test_an_old_track_that_is_moved_to_the_top_is_not_new() -> None:
    world = begun(World(Random(1)), 0)
    world.entries = [item(1000 + number, at=NOON - number * MINUTE * 60) for number in range(100)]
    world.bookmark, world.found = None, set()
    world.look()
    world.entries.insert(0, world.entries.pop(80))
    world.look()
    assert world.found == set()


def test_new_tracks_below_one_that_was_moved_to_the_top_are_found() -> None:
    world = begun(World(Random(1)), 60)
    world.appear(60)
    world.entries.insert(0, world.entries.pop(61))  # a known one
    world.look()
    assert world.found == world.appeared


def test_with_another_token_all_begins_anew() -> None:
    world = begun(World(Random(1)), 5)
    theirs = [item(number, at=world.now) for number in range(5)]
    world.entries = [Item(f"user:2{one.audio_id[6:]}", True, True, one.created_at) for one in theirs]
    world.look()
    assert world.found == set()
    world.entries.insert(0, Item("user:2-pixverse:me@example.com-music:9", True, True, world.now))
    world.look()
    assert world.found == {"user:2-pixverse:me@example.com-music:9"}


def test_old_tracks_are_not_new_when_all_above_them_are_deleted() -> None:
    world = begun(World(Random(1)), 500)
    world.now += 30 * DAY
    world.appear(20)
    world.look()
    assert world.bookmark is not None
    world.bookmark = raised(world.bookmark, world.page(0), now=world.now)
    before = {*world.found}
    world.entries = world.entries[60:]
    world.look()
    world.entries = world.entries[360:]
    world.look()
    assert world.found == before == world.appeared


def test_what_appears_after_all_known_tracks_were_deleted_is_new() -> None:
    for is_dated in (True, False):
        world = begun(World(Random(1), is_dated=is_dated), 5)
        world.entries.clear()
        world.appear(3)
        world.look()
        assert world.found == world.appeared


def test_undated_tracks_below_known_ones_are_old_although_two_pages_share_some() -> None:
    world = begun(World(Random(1), is_dated=False), 14)
    del world.entries[5]
    world.look()
    assert world.found == set()
    assert world.bookmark is not None
    assert world.bookmark.gap is None


def test_a_page_without_a_track_is_not_the_end() -> None:
    step = read(None, Sheet(0, [], 50), now=NOON)
    assert (step.found, step.then) == ((), 45)
    unfinished = item(1, is_final=False)
    assert read(step.bookmark, Sheet(45, [unfinished], None), now=NOON).found == (unfinished.audio_id,)


def test_a_look_goes_back_when_more_was_deleted_above_than_two_pages_share() -> None:
    world = begun(World(Random(1)), 60)
    world.appear(40)
    then = world.take(world.page(0)).then
    assert then == 7
    gone = {one.audio_id for one in world.entries[:12]}
    del world.entries[:12]
    while then is not None:
        then = world.take(world.page(then)).then
    assert world.found == world.appeared
    assert gone < world.found


def test_a_page_of_somebody_elses_tells_as_much_as_one_of_ours() -> None:
    world = begun(World(Random(1), limit=30), 60)
    world.appear(40)
    assert world.take(world.page(0)).then == 25  # goes on a little above the next one
    assert world.take(world.page(60)).then == 25  # which is not where the look was
    assert world.take(world.page(25)).then is None
    assert world.found == world.appeared
    assert world.take(world.page(30)) == Step(world.bookmark)


def test_a_bookmark_stays_small() -> None:
    world = begun(World(Random(1), limit=50), 100)
    for _ in range(10):
        world.appear(100)
        world.look(1)
        assert world.bookmark is not None
        assert world.bookmark.gap is not None
        assert len(world.bookmark.gap.seen) <= MOST_KNOWN + 1
    world.look()
    assert world.bookmark is not None
    assert len(world.bookmark.known) == MOST_KNOWN
    assert world.found == world.appeared


# ---------------------------------------------------------------------------------------- whatever happens


@settings(max_examples=100)
@given(st.data())
def test_whatever_happens_each_new_track_is_followed_and_no_old_one(data: st.DataObject) -> None:
    rng = Random(data.draw(st.integers(0, 2**32)))
    world = World(
        rng,
        limit=data.draw(st.integers(12, 30)),
        disorder=data.draw(st.integers(0, 4)),
        is_dated=data.draw(st.booleans()),
    )
    begun(world, data.draw(st.integers(0, 60)), unfinished=data.draw(st.integers(0, 3)))
    first, ever = {*world.found}, set()
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(["appear", "many", "vanish", "look", "hurried"])):
            case "appear":
                world.appear(rng.randint(1, 3), is_final=rng.random() < 0.5, is_meant=rng.random() < 0.8)
            case "many":
                world.appear(rng.randint(20, 80))
            case "vanish":
                world.vanish(rng.randint(1, 10 if world.is_dated else 1))
            case "look":
                world.look(meanwhile=0.3)
            case "hurried":
                world.look(rng.randint(1, 3), meanwhile=0.3)
        ever |= world.appeared
        world.now += MINUTE
    world.look()
    assert world.bookmark is not None
    assert world.bookmark.gap is None
    assert first <= world.found <= first | ever
    assert world.appeared <= world.found
