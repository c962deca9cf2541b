"""Which tracks a page of the list shows, and in which order."""

from collections.abc import Mapping

import pytest

from notifier.page.catalogue import PER_PAGE, Catalogue, Query, Standing, arrange, asked, select
from notifier.store import TrackLine


def line(
    name: str,
    status: str = "GENERATING",
    *,
    seen: str = "1",
    changed: str = "1",
    is_final: bool | None = None,
) -> TrackLine:
    final = status not in {"GENERATING", "QUEUED"} if is_final is None else is_final
    return TrackLine(f"id-{name}", name, status, final, seen, changed)


def of(*lines: TrackLine, labels: Mapping[str, str | None] | None = None) -> Catalogue:
    return arrange(lines, dict.fromkeys(one.audio_id for one in lines) if labels is None else labels)


def names(catalogue: Catalogue, query: Query) -> list[str]:
    return [catalogue.name(one) for one in select(catalogue, query).lines]


EVERYTHING = of(
    line("late", seen="2"),
    line("early", seen="1"),
    line("old", "COMPLETED", changed="1"),
    line("broken", "FAILED", changed="2"),
    line("odd", "ABANDONED", changed="3"),
    line("gone", "MISSING", changed="4"),
    line("new", "COMPLETED", changed="5"),
    line("removed", "COMPLETED", changed="9"),
    labels={f"id-{name}": None for name in ("late", "early", "old", "broken", "odd", "gone", "new")}
    | {"unread": "Unread", "id-old": "Labelled"},
)


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (None, ["early", "late", "Unread", "new", "gone", "odd", "broken", "Labelled", "removed"]),
        (Standing.WORKING, ["early", "late", "Unread"]),
        (Standing.READY, ["new", "Labelled"]),
        (Standing.FAILED, ["odd", "broken"]),
        (Standing.MISSING, ["gone"]),
        (Standing.REMOVED, ["removed"]),
    ],
)
def test_tracks_stand_by_what_became_of_them(standing: Standing | None, expected: list[str]) -> None:
    assert names(EVERYTHING, Query(standing)) == expected
    assert EVERYTHING.count(standing) == len(expected)


@pytest.mark.parametrize(
    ("sought", "expected"),
    [
        ("labelled", ["Labelled"]),
        ("ID-O", ["odd", "Labelled"]),
        ("unread", ["Unread"]),
        ("%", []),
        ("", ["early", "late", "Unread", "new", "gone", "odd", "broken", "Labelled", "removed"]),
    ],
)
def test_a_search_looks_at_names_and_audio_ids(sought: str, expected: list[str]) -> None:
    assert names(EVERYTHING, Query(search=sought)) == expected


def test_a_search_folds_case_in_every_script() -> None:
    catalogue = of(line("STRASSE Ärger"), line("other"))
    assert names(catalogue, asked({"q": "  straße   ärger "})) == ["STRASSE Ärger"]


def test_every_track_is_on_one_page_and_a_page_too_far_is_the_last() -> None:
    count = 2 * PER_PAGE + 1
    catalogue = of(*(line(str(number), seen=f"{number:05}") for number in range(count)))
    pages = [select(catalogue, Query(page=page)) for page in (1, 2, 3)]
    assert [len(page.lines) for page in pages] == [PER_PAGE, PER_PAGE, 1]
    assert [one.name for page in pages for one in page.lines] == [str(number) for number in range(count)]
    assert [page.first for page in pages] == [1, PER_PAGE + 1, 2 * PER_PAGE + 1]
    assert select(catalogue, Query(page=99)) == pages[2]
    assert select(of(), Query(page=3)).query.page == 1


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, Query()),
        ({"state": "ready", "q": "a", "page": "2"}, Query(Standing.READY, "a", 2)),
        ({"state": "READY", "page": "-1"}, Query()),
        ({"state": "<script>", "page": "1e9", "q": " "}, Query()),
        ({"page": "0"}, Query()),
        ({"page": "²"}, Query()),
        ({"page": "9" * 5000}, Query()),
        ({"q": "x" * 5000}, Query(search="x" * 200)),
    ],
)
def test_what_is_asked_wrongly_counts_as_not_asked(parameters: dict[str, str], expected: Query) -> None:
    assert asked(parameters) == expected


def test_a_link_keeps_the_rest_of_the_question() -> None:
    query = Query(Standing.READY, 'a&"b', 3)
    assert query.href(page=4) == "/?state=ready&q=a%26%22b&page=4#tracks"
    assert query.href(state=None, page=None) == "/?q=a%26%22b#tracks"
    assert Query().href() == "/#tracks"
    assert Query(search="\ud800").href() == "/?q=%3F#tracks"
