import pytest
from hypothesis import given

from notifier.mistake import did_you_mean, printable, spell_path
from tests.support import hostile


@pytest.mark.parametrize(
    ("path", "spelt"),
    [
        ((), ""),
        (("watch",), "watch"),
        (("watch", 0, "notify"), "watch[0].notify"),
        (("targets", "band-room", "headers", "X-Team"), "targets.band-room.headers.X-Team"),
        (("watch", 0, 1), "watch[0][1]"),
        (("a\nb", "c\u202ed"), "a?b.c?d"),
        (("x" * 61,), "x" * 59 + "…"),
    ],
)
def test_a_path_is_spelt_on_one_line(path: tuple[str | int, ...], spelt: str) -> None:
    assert spell_path(path) == spelt


@pytest.mark.parametrize(
    ("word", "known", "suggestion"),
    [
        ("band-rom", ["band-room", "studio"], ", did you mean 'band-room'?"),
        ("intervall", ["interval", "max_interval"], ", did you mean 'interval'?"),
        ("URL", ["url"], ", did you mean 'url'?"),
        ("zebra", ["band-room", "studio"], ""),
        ("", ["studio"], ""),
        ("studio", [], ""),
        ("a\nb", ["a\nbc"], ", did you mean 'a?bc'?"),
    ],
)
def test_a_suggestion_is_made_where_one_is_near(word: str, known: list[str], suggestion: str) -> None:
    assert did_you_mean(word, known) == suggestion


@given(hostile.texts)
def test_foreign_text_is_printable_and_not_endless(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 60
