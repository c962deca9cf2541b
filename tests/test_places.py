from collections.abc import Mapping
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.places import Places, plan

SIZE = 4
due = st.dictionaries(
    st.integers(0, 30).map(str), st.one_of(st.none(), st.integers(0, 24)), min_size=1, max_size=7
)


def nobody(_begin: int, _end: int) -> bool:
    return False


def fewest(due: Mapping[str, int | None]) -> int:
    """Try every set of pages, the smaller ones first; return how many requests the best one takes."""
    places = [place for place in due.values() if place is not None]
    absent = len(due) - len(places)
    best = len(places)
    for count in range(1, best):
        for offsets in combinations(range(max(places) + 1), count):
            left = [place for place in places if not any(begin <= place < begin + SIZE for begin in offsets)]
            best = min(best, count + len(left))
    return best + absent


@given(due)
def test_no_other_plan_takes_fewer_requests(due: dict[str, int | None]) -> None:
    assert len(plan(due, size=SIZE, is_crowded=nobody)) == fewest(due)


@given(due, st.booleans())
def test_a_plan_reads_each_track_once_and_where_it_stands(due: dict[str, int | None], crowd: bool) -> None:
    planned = plan(due, size=SIZE, is_crowded=lambda _begin, _end: crowd)
    shown = [audio_id for expected in planned.pages.values() for audio_id in expected]
    assert sorted([*shown, *planned.alone]) == sorted(due)
    for offset, expected in planned.pages.items():
        places = [due[audio_id] for audio_id in expected]
        assert all(place is not None and offset <= place < offset + SIZE for place in places)
    assert {audio_id for audio_id, place in due.items() if place is None} <= planned.alone
    assert [*planned.pages] == sorted(planned.pages)


@given(due)
def test_a_track_alone_is_read_with_a_page_where_others_wait_on_it(due: dict[str, int | None]) -> None:
    asked: list[tuple[int, int]] = []

    def is_crowded(begin: int, end: int) -> bool:
        asked.append((begin, end))
        return True

    planned = plan(due, size=SIZE, is_crowded=is_crowded)
    assert planned.alone == {audio_id for audio_id, place in due.items() if place is None}
    assert len(planned) == fewest(due), "which takes no more requests"
    assert all((offset, offset + SIZE) in asked for offset, one in planned.pages.items() if len(one) == 1)


@pytest.mark.parametrize(
    ("places", "pages"),
    [
        ([0, 49], [0]),
        ([0, 50], [0, 45]),
        ([10, 30], [0]),  # the top shows what is new as well
        ([60, 70], [55]),  # others may have been deleted, and more may have come
        ([60, 109], [60]),  # there is room for nothing
        ([60, 107], [58]),
        ([49, 60, 98], [49]),
        ([3, 200, 210, 400, 401], [0, 195, 395]),
    ],
)
def test_pages_begin_where_there_is_room_for_what_has_moved(places: list[int], pages: list[int]) -> None:
    due = {str(place): place for place in places}
    assert [*plan(due, size=50, is_crowded=lambda _begin, _end: True).pages] == pages


def test_a_track_that_was_never_shown_is_looked_for_at_the_top_and_then_further_down() -> None:
    places = Places(50)
    assert places.of("a") == 0
    for end in (50, 100, 150):
        places.missed("a", end)
        assert places.of("a") == end
    places.missed("a", None)
    assert places.of("a") is None
    assert places.plan(["a"], waiting=9).alone == {"a"}
    places.look_again()
    assert places.of("a") == 0


def test_no_track_is_looked_for_without_end() -> None:
    for others in (0, 300):
        places, end = Places(50), 0
        places.found({str(number): number for number in range(others)})
        while places.of("a") is not None:
            end += 50
            places.missed("a", end)
        assert end == 1050 + others


def test_what_comes_on_top_moves_all_that_stands_below_it() -> None:
    places = Places(50)
    places.found({"new": 3, "old": 48, "oldest": 120})
    places.found({"new": 10, "old": 55})
    assert [places.of(audio_id) for audio_id in ("new", "old", "oldest", "unseen")] == [10, 55, 127, 0]
    places.found({"oldest": 125})
    assert [places.of(audio_id) for audio_id in ("new", "oldest")] == [8, 125]


def test_a_track_that_was_shown_and_is_no_more_is_looked_for_further_down_and_then_from_the_top() -> None:
    places = Places(50)
    places.found({"a": 70, "b": 71})
    places.missed("a", 115)
    assert [places.of("a"), places.of("b")] == [115, 71]
    places.found({"b": 75})
    assert places.of("a") == 119
    places.missed("a", None)
    assert places.of("a") is None
    places.look_again()
    assert places.of("a") == 0


def test_one_track_is_worth_a_page_as_soon_as_others_wait_near_it() -> None:
    places = Places(50)
    places.found({"a": 10, "b": 300})
    assert [*places.plan(["a"], waiting=2).pages] == []
    assert [*places.plan(["a"], waiting=3).pages] == [0], "one that nobody has looked for may be there"
    places.found({"c": 320})
    assert [*places.plan(["b"], waiting=3).pages] == [295]


tracks = st.sampled_from("abcdefgh")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("found"), st.dictionaries(tracks, st.integers(0, 300), max_size=4)),
        st.tuples(st.just("missed"), tracks, st.one_of(st.none(), st.integers(1, 1100))),
        st.tuples(st.just("forget"), tracks),
        st.tuples(st.just("look_again")),
    ),
    max_size=30,
)


@given(steps)
def test_whatever_pages_show_requests_are_counted_about_right(steps: list[tuple[object, ...]]) -> None:
    places = Places(SIZE)
    for name, *arguments in steps:
        getattr(places, str(name))(*arguments)
    everybody = "abcdefgh"
    exactly = len(places.plan(everybody, waiting=len(everybody)))
    about = places.requests(len(everybody))
    # NB: a stretch is as long as a page, and one page may show what stands in two
    assert about / 2 <= exactly + 1
    assert exactly <= about + 1
    for audio_id in everybody:
        places.forget(audio_id)
    assert places.requests(0) == 0
    assert places.requests(8) == 2
