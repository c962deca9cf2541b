from notifier.flood import Floodgate


def test_so_many_lines_are_let_through_and_then_some_and_the_rest_is_counted() -> None:
    gate = Floodgate(burst=3, per_second=0.5)
    assert [gate.admit("a", 100.0) for _ in range(5)] == [
        (True, 0),
        (True, 0),
        (True, 0),
        (False, 1),
        (False, 2),
    ]
    assert gate.admit("a", 101.9) == (False, 3)
    assert gate.admit("a", 102.1) == (True, 3)
    assert gate.admit("a", 102.2) == (False, 4)


def test_one_kind_takes_no_room_from_another() -> None:
    gate = Floodgate(burst=1, per_second=0.5)
    assert gate.admit("a", 0.0) == (True, 0)
    assert gate.admit("a", 0.0) == (False, 1)
    assert gate.admit("b", 0.0) == (True, 0)


def test_after_quiet_there_is_room_again_but_no_more_than_at_first() -> None:
    gate = Floodgate(burst=2, per_second=1)
    for _ in range(3):
        gate.admit("a", 0.0)
    assert [gate.admit("a", 3600.0) for _ in range(3)] == [(True, 1), (True, 0), (False, 1)]


def test_a_flood_begins_once_although_a_line_comes_through_now_and_then() -> None:
    gate = Floodgate(burst=5, per_second=1)
    seen = [gate.admit("a", number / 10) for number in range(1_000)]
    assert [count for is_admitted, count in seen if not is_admitted].count(1) == 1
    assert sum(is_admitted for is_admitted, _ in seen) == 5 + 99
    assert sum(count for is_admitted, count in seen if is_admitted) == 1_000 - 5 - 99 - 9
