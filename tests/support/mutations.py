"""Watchlists that something happened to: an editor, a merge, a wrong key, another program's output."""

import json
from collections.abc import Callable

from hypothesis import strategies as st

from tests.support import hostile
from tests.support.watchlists import EVERYTHING

SYNTAX = (
    *(
        ": ",
        ":",
        "- ",
        "-",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "[]",
        "{}",
        "#",
        "'",
        '"',
        "|",
        ">-",
        "|\n",
        "? ",
        "\\",
    ),
    *("---\n", "...\n", "%YAML 1.1\n", "%TAG ! !x\n", "!!binary ", "!foo ", "!<x> ", "!", "!!str ", "!!map "),
    *("&a ", "*a", "&a [*a]", "<<: *a", "<<: [*a, *a]", "<<:", "&", "*", "@", "`", "~", "null", "=", "<<"),
    *("\t", "\n", "\n\n", "\n  ", "\r", "\r\n", " ", "    ", "\x00", "\x1b", "\x7f", "\x85", "\ufeff"),
    *("\u2028", "\u2029", "\u202e", "\u200b", "\uffff", "\U0010ffff", "é", "😀", "e\u0301" * 20, "ﷺ"),
    *('"\\0"', '"\\uD800"', '"\\uD83D\\uDE00"', '"\\x1b"', '"\\L"', '"\\N"', '"\\U00110000"', '"\\q"'),
    *("${env:TOKEN}", "${env:NOPE}", "${env:NOPE:-x}", "${", "$$", "$", "${file:/}", "${file:/nowhere}"),
    *("${file:/dev/null}", "${credential:x}", "${credential:../x}", '"${env:HOOK_SECRET}"', "}", "${}"),
    *("9" * 400, "1e999", "-1", "0", "0x1F", "010", "1_000", ".inf", ".nan", "12:30", "1h" * 300, "0.0001s"),
    *("true", "no", "2026-01-01", "[" * 50, "{a: " * 50, "- " * 50, "a" * 5000, "a: " * 30, "? " * 50),
    *(
        "https://",
        "http://[",
        "https://a:b@c.d/e",
        "whsec_",
        "{{",
        "{% for x in y %}",
        "{{ event.__class__ }}",
    ),
    *(
        "useapi:",
        "targets:",
        "watch:",
        "type: slack",
        "account: x",
        "callback: {path: //}",
        "..:1",
        "a..b:80",
    ),
)
"""What means something to YAML, to this file or to those who read it, each for a reason of its own."""

fragments = st.one_of(
    st.sampled_from(SYNTAX),
    st.sampled_from(SYNTAX).map(lambda text: text + "\n"),
    st.text(max_size=5),
    hostile.texts.map(json.dumps),
)

Make = Callable[[int], str]
Change = Callable[[str], str]


def _in_lines(change: Callable[[list[str], int, int], object]) -> st.SearchStrategy[Change]:
    def made(places: tuple[float, float]) -> Change:
        def apply(text: str) -> str:
            lines = text.splitlines(keepends=True) or [""]
            first, second = (int(place * len(lines)) % len(lines) for place in places)
            change(lines, first, second)
            return "".join(lines)

        return apply

    fractions = st.floats(0, 1, exclude_max=True)
    return st.tuples(fractions, fractions).map(made)


def _delete(lines: list[str], first: int, _second: int) -> None:
    del lines[first]


def _double(lines: list[str], first: int, second: int) -> None:
    lines.insert(second, lines[first])


def _swap(lines: list[str], first: int, second: int) -> None:
    lines[first], lines[second] = lines[second], lines[first]


def _indent(lines: list[str], first: int, second: int) -> None:
    lines[first] = " " * (second % 7) + lines[first].lstrip(" ")


@st.composite
def _splices(draw: st.DrawFn) -> Change:
    """Put a fragment anywhere, in place of up to ten characters."""
    at, gone, fragment = draw(st.floats(0, 1)), draw(st.integers(0, 10)), draw(fragments)

    def apply(text: str) -> str:
        place = int(at * len(text))
        return text[:place] + fragment + text[place + gone :]

    return apply


@st.composite
def _other_values(draw: st.DrawFn) -> Change:
    """Give one of the keys another value."""
    at, value = draw(st.floats(0, 1, exclude_max=True)), draw(fragments)

    def apply(text: str) -> str:
        lines = text.splitlines(keepends=True)
        keyed = [index for index, line in enumerate(lines) if ": " in line]
        if keyed:
            index = keyed[int(at * len(keyed))]
            lines[index] = f"{lines[index].partition(': ')[0]}: {value}\n"
        return "".join(lines)

    return apply


_changes = st.one_of(
    *map(_in_lines, (_delete, _double, _swap, _indent)),
    _splices(),
    _splices(),
    _other_values(),
    _other_values(),
)


def _encoded(text: str, encoding: str, line_end: str) -> bytes:
    return text.replace("\n", line_end).encode(encoding, "surrogatepass" if "utf" in encoding else "replace")


@st.composite
def watchlists(draw: st.DrawFn) -> bytes:
    """Draw a watchlist that was valid before up to five things happened to it, in most cases as UTF-8."""
    text = EVERYTHING
    for change in draw(st.lists(_changes, min_size=1, max_size=5)):
        text = change(text)
    encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "latin-1"]))
    return _encoded(text, encoding, draw(st.sampled_from(["\n"] * 6 + ["\r\n", "\r"])))
