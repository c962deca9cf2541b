from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.filter import Filter, Verdict
from notifier.track import Track, parse
from tests.support.tracks import completed, track


def of(**fields: Any) -> Track:
    return parse(track(1, **fields))


@pytest.mark.parametrize(
    ("sought", "fields", "is_meant"),
    [
        (["intro"], {"prompt": "An INTRO, slow"}, True),
        (["intro"], {"name": "Intro.mp3", "prompt": "pads"}, True),
        (["intro"], {"prompt": "pads"}, False),
        (["outro", "intro"], {"prompt": "intro"}, True),
        (["lo-fi * piano"], {"prompt": "Lo-Fi hiss and a Piano"}, True),
        (["lo-fi * piano"], {"prompt": "a piano, then lo-fi"}, False),
        (["lo-fi*piano*rain"], {"prompt": "lo-fi piano, piano rain"}, True),
        (["warm  pads"], {"prompt": "warm\n pads"}, True),
        (["straße"], {"prompt": "STRASSE"}, True),
        (["ｉｎｔｒｏ"], {"prompt": "intro"}, True),
        (["a.*b"], {"prompt": "a.xxb"}, True),
        (["a.*b"], {"prompt": "axxb"}, False),
    ],
)
def test_a_text_is_found_in_name_or_prompt(
    sought: list[str], fields: dict[str, Any], *, is_meant: bool
) -> None:
    expected = Verdict.MEANT if is_meant else Verdict.NOT_MEANT
    assert Filter(None, sought).verdict(of(**fields)) is expected


def test_models_go_by_their_exact_names() -> None:
    only = Filter(["music-2.6"], None)
    assert only.verdict(of(model="music-2.6")) is Verdict.MEANT
    assert only.verdict(of(model="music-2.65")) is Verdict.NOT_MEANT
    assert only.verdict(of(model="Music-2.6")) is Verdict.NOT_MEANT


def test_both_have_to_fit() -> None:
    both = Filter(["music-2.6"], ["intro"])
    assert both.verdict(of(prompt="intro")) is Verdict.MEANT
    assert both.verdict(of(prompt="outro")) is Verdict.NOT_MEANT
    assert both.verdict(of(prompt="intro", model="music-v1")) is Verdict.NOT_MEANT


@pytest.mark.parametrize("empty", [None, "", " ", 7])
def test_what_a_track_does_not_say_yet_is_open_until_its_end(empty: Any) -> None:
    by_model, by_words = Filter(["music-2.6"], None), Filter(None, ["intro"])
    assert by_model.verdict(of(model=empty)) is Verdict.OPEN
    assert by_words.verdict(of(prompt=empty)) is Verdict.OPEN
    assert by_words.verdict(of(prompt=empty, name="Intro")) is Verdict.MEANT
    assert by_words.verdict(of(prompt="pads", name=empty)) is Verdict.NOT_MEANT
    assert by_model.verdict(parse(completed(model=empty))) is Verdict.NOT_MEANT
    assert by_words.verdict(parse(completed(prompt=empty))) is Verdict.NOT_MEANT
    assert by_words.verdict(None) is Verdict.OPEN


@given(st.none() | st.text(), st.none() | st.text())
def test_without_a_filter_every_track_is_meant(name: str | None, prompt: str | None) -> None:
    assert Filter(None, None).verdict(of(name=name, prompt=prompt)) is Verdict.MEANT


@given(st.lists(st.text(alphabet="ab *", min_size=1), min_size=1), st.text(alphabet="ab "))
def test_stars_mean_what_they_mean_in_names_of_files(sought: list[str], prompt: str) -> None:
    def is_in(text: str, where: str) -> bool:
        first, *rest = text.split("*", 1)
        first = " ".join(first.split())
        starts = [index for index in range(len(where) + 1) if where.startswith(first, index)]
        return any(not rest or is_in(rest[0], where[index + len(first) :]) for index in starts)

    folded = " ".join(prompt.split())
    expected = bool(folded) and any(is_in(text, folded) for text in sought)
    verdict = Filter(None, sought).verdict(of(prompt=prompt, name=None))
    assert (verdict is Verdict.MEANT) == expected


def test_no_pattern_takes_long() -> None:
    worst = Filter(None, ["a*" * 100] * 100)
    assert worst.verdict(of(prompt="a" * 1_000_000, name="b" * 1_000_000)) is Verdict.MEANT
    never = Filter(None, ["a*" * 99 + "c"] * 100)
    assert never.verdict(of(prompt="a" * 1_000_000, name="aab" * 1_000_000)) is Verdict.NOT_MEANT
