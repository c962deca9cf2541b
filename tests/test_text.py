import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifier.text import clean, minutes, one_line, shorten
from tests.support import hostile

FAMILY = "👩‍👩‍👧"
PERSIAN = "می‌خواهم"
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UNSEEN = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b\u180e\u200b\u2060\u2062\u2064\u3164\ufeff\uffa0\U000e0041"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Rain on the windows", "Rain on the windows"),
        ("", ""),
        ("one\ttwo\nthree", "one\ttwo\nthree"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("one\u2028two\u2029three", "one\ntwo\nthree"),
        ("\x00\x07bell\x1b[31m red\x7f\x9b", "bell[31m red"),
        (f"invoice{BIDIRECTIONAL}fdp.exe", "invoicefdp.exe"),
        (f"a{UNSEEN}b", "ab"),
        ("\ud800 alone", "\ufffd alone"),
        ("Ünïcödé, 中文, العربية", "Ünïcödé, 中文, العربية"),
        ("e\u0301", "e\u0301"),
        ("❤\ufe0f", "❤\ufe0f"),
        # a joiner between two visible characters belongs to the script or the emoji
        (FAMILY, FAMILY),
        (PERSIAN, PERSIAN),
        ("a\u200d\u200c\u200d\u200db", "a\u200db"),
        ("a\u200d\u200b\u200db", "a\u200db"),
        ("\u200da\u200c", "a"),
        ("a\u200d \u200cb", "a b"),
        ("\u200d\u200c\u200d", ""),
        # an emoji younger than this Python's tables is still an emoji, a noncharacter is not
        ("new \U0001fadf face", "new \U0001fadf face"),
        ("none\ufdd0\ufffe\U0010ffff\ue000", "none"),
    ],
)
def test_only_what_misleads_is_taken_out_of_a_text(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(hostile.texts)
@example("a\u200d\u202e\u200db")
def test_a_cleaned_text_needs_no_second_cleaning_and_encodes(text: str) -> None:
    shown = clean(text)
    assert clean(shown) == shown
    assert not set(shown) & set(BIDIRECTIONAL + UNSEEN)
    assert not any(ord(character) < 32 and character not in "\n\t" for character in shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  two\n\n words\t", "two words"),
        ("wide\u3000\u00a0\u2003space", "wide space"),
        ("\u2028", ""),
        ("\u202e\n\u200b", ""),
        ("a\x1fb", "ab"),
    ],
)
def test_one_line_folds_white_space(text: str, line: str) -> None:
    assert one_line(text) == line


@given(hostile.texts)
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("Intro theme", 11, "Intro theme"),
        ("Intro theme", 10, "Intro…"),
        ("Intro theme", 7, "Intro…"),
        ("Intro theme", 6, "Intro…"),
        ("Intro theme", 5, "Intr…"),
        ("Intro theme", 1, "…"),
        ("Intro theme", 0, ""),
        ("Intro theme", -1, ""),
        ("", 0, ""),
        ("one\ntwo three", 10, "one\ntwo…"),
        ("two  spaces", 6, "two…"),
        # a word that is not near the end is no place to cut at
        ("a " + "x" * 100, 60, "a " + "x" * 57 + "…"),
        # code points, as the services count
        ("🎵" * 10, 5, "🎵" * 4 + "…"),
    ],
)
def test_a_long_text_is_cut_at_a_word_and_marked(text: str, limit: int, cut: str) -> None:
    assert shorten(text, limit) == cut


@given(hostile.texts, st.integers(-2, 60))
def test_a_shortened_text_never_exceeds_its_limit(text: str, limit: int) -> None:
    cut = shorten(text, limit)
    assert len(cut) <= max(0, limit)
    assert cut == text or not cut or (cut.endswith("…") and text.startswith(cut[:-1]))


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0:00"),
        (7, "0:07"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (202, "3:22"),
        (3599.6, "1:00:00"),
        (3723, "1:02:03"),
        (360000, "100:00:00"),
        (-5, "0:00"),
    ],
)
def test_a_length_reads_like_a_players(seconds: float, written: str) -> None:
    assert minutes(seconds) == written
