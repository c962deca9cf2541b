import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from notifier.document import (
    BrokenDocumentError,
    Mapping,
    Scalar,
    Sequence_,
    parse,
    place_after,
    place_of,
    value_at,
)
from notifier.mistake import Mistake, Place
from tests.support import hostile


def read(text: str) -> Any:
    """Read a document without mistakes."""
    root, mistakes = parse(text)
    assert mistakes == []
    return root


def lines(text: str) -> list[str]:
    """Return the mistakes of a document, broken or not."""
    try:
        mistakes = parse(text)[1]
    except BrokenDocumentError as error:
        mistakes = list(error.mistakes)
    return [mistake.line("f") for mistake in mistakes]


@pytest.mark.parametrize(
    ("written", "text", "is_null"),
    [
        ("yes", "yes", False),
        ("on", "on", False),
        ("true", "true", False),
        ("12:30", "12:30", False),
        ("010", "010", False),
        ("1_000", "1_000", False),
        ("0x1F", "0x1F", False),
        ("1e3", "1e3", False),
        (".inf", ".inf", False),
        ("2026-06-23", "2026-06-23", False),
        ("=", "=", False),
        ("'quoted'", "quoted", False),
        (r'"a\tb\u00e9"', "a\tbé", False),
        ("two words # and a comment", "two words", False),
        ("user:1-pixverse:me@example.com-music:2", "user:1-pixverse:me@example.com-music:2", False),
        ("'a: b'", "a: b", False),
        ("!!str 5", "5", False),
        ("! 5", "5", False),
        ("!!str null", "null", False),
        ("'null'", "null", False),
        ("''", "", False),
        ("null", "null", True),
        ("~", "~", True),
        ("", "", True),
        ("Null", "Null", True),
        ("nULL", "nULL", False),
        ("|\n  one\n  two\n", "one\ntwo\n", False),
        (">-\n  one\n  two\n", "one two", False),
    ],
)
def test_a_scalar_stays_the_text_that_was_written(written: str, text: str, is_null: bool) -> None:
    value = read(f"key: {written}\n")["key"]
    assert isinstance(value, Scalar)
    assert (str(value), value.is_null) == (text, is_null)


@pytest.mark.parametrize(
    ("written", "is_plain"),
    [("5", True), ("'5'", False), ('"5"', False), ("|\n  5", False), ("!!str 5", False)],
)
def test_only_an_unquoted_scalar_may_mean_a_number(written: str, is_plain: bool) -> None:
    assert read(f"key: {written}\n")["key"].is_plain is is_plain


def test_every_value_and_key_remembers_its_place() -> None:
    root = read("# comment\nuseapi:\n  token: abc\nwatch:\n  - one\n  - {name: 'two', ü: [3, ]}\n")
    assert root.place == Place(2, 1)
    assert root.key_places == {"useapi": Place(2, 1), "watch": Place(4, 1)}
    assert root["useapi"].place == Place(3, 3)
    assert root["useapi"]["token"].place == Place(3, 10)
    assert [item.place for item in root["watch"]] == [Place(5, 5), Place(6, 5)]
    assert root["watch"][1].key_places == {"name": Place(6, 6), "ü": Place(6, 19)}
    assert root["watch"][1]["ü"].place == Place(6, 22)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(end: str) -> None:
    root = read(end.join(["# one", "a: 1", "", "b: |", "  text", "  more", "c: 2"]))
    assert {key: place.line for key, place in root.key_places.items()} == {"a": 2, "b": 4, "c": 7}
    assert root["b"] == "text\nmore\n"


@pytest.mark.parametrize(("text", "root"), [("", None), ("# nothing\n", None), ("---\n", "")])
def test_a_file_may_be_empty(text: str, root: str | None) -> None:
    assert read(text) == root


def test_nested_values_are_found_by_their_path_and_missing_ones_at_their_parent() -> None:
    root = read("a:\n  b:\n    - x: 1\n")
    assert value_at(root, ("a", "b", 0, "x")) == "1"
    assert place_of(root, ("a", "b", 0, "x")) == Place(3, 10)
    assert place_of(root, ("a", "b", 0, "x"), at_key=True) == Place(3, 7)
    assert place_of(root, ("a",), at_key=True) == Place(1, 1)
    for absent in (("a", "b", 0, "y"), ("a", "b", 0, "x", "deeper")):
        assert value_at(root, absent) is None
    assert place_of(root, ("a", "b", 0, "y")) == Place(3, 7)
    assert place_of(root, ("a", "b", 1)) == Place(3, 5)
    assert place_of(root, ("a", "b", "x")) == Place(3, 5)
    assert place_of(root, ("c", "d")) == Place(1, 1)
    assert place_of(None, ("a",)) == Place(1, 1)


def test_a_mistake_says_file_place_path_and_what_is_wrong() -> None:
    assert (
        Mistake(Place(3, 7), "poll.interval", "is wrong").line("w.yaml")
        == "w.yaml:3:7: poll.interval: is wrong"
    )
    assert Mistake(Place(3, 7), "", "is wrong").line("w.yaml") == "w.yaml:3:7: is wrong"


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("a: 1\nb: 2\na: 3\n", ["f:3:1: a: appears a second time, first in line 1"]),
        ("a: 1\na: 1\n", ["f:2:1: a: appears a second time, first in line 1"]),
        (
            "a: 1\na: 2\na: 3\n",
            [
                "f:2:1: a: appears a second time, first in line 1",
                "f:3:1: a: appears a second time, first in line 1",
            ],
        ),
        (
            "w:\n  - {n: 1, n: 2}\n  - {'n': 1, \"n\": 2}\n",
            [
                "f:2:12: w[0].n: appears a second time, first in line 2",
                "f:3:14: w[1].n: appears a second time, first in line 3",
            ],
        ),
        ("on: 1\nyes: 2\ntrue: 3\n", []),
        ("1: a\n01: b\n'1': c\n", ["f:3:1: 1: appears a second time, first in line 1"]),
    ],
)
def test_a_repeated_key_is_a_mistake_at_its_later_occurrence(text: str, mistakes: list[str]) -> None:
    assert lines(text) == mistakes


def test_the_first_of_repeated_keys_counts() -> None:
    root, _ = parse("a: 1\na: 2\n")
    assert root == {"a": "1"}


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("a: !!int 5\n", ["f:1:4: a: the tag !!int is not supported"]),
        ("a: !!bool 'yes'\n", ["f:1:4: a: the tag !!bool is not supported"]),
        ("a: !!binary aGk=\n", ["f:1:4: a: the tag !!binary is not supported"]),
        ("a: !env TOKEN\n", ["f:1:4: a: the tag !env is not supported"]),
        (
            "a: !!python/object/apply:os.system ['true']\n",
            ["f:1:4: a: the tag !!python/object/apply:os.system is not supported"],
        ),
        ("a: [1, !!set {x}]\n", ["f:1:8: a[1]: the tag !!set is not supported"]),
        ("!secret a: 1\n", ["f:1:1: the tag !secret is not supported"]),
        ("!!map {a: 1}\n", ["f:1:1: the tag !!map is not supported"]),
    ],
)
def test_tags_are_mistakes_and_hide_nothing(text: str, mistakes: list[str]) -> None:
    assert lines(text) == mistakes
    assert lines(f"{text}---\n")[: len(mistakes)] == mistakes


def test_anchors_and_aliases_share_a_value() -> None:
    root = read("a: &x [1, 2]\nb: *x\nc: &y text\nd: *y\n*y : e\n")
    assert root == {"a": ["1", "2"], "b": ["1", "2"], "c": "text", "d": "text", "text": "e"}
    assert place_of(root, ("b", 1)) == Place(1, 11)


def test_an_anchor_may_be_given_anew() -> None:
    assert read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": "1", "b": "1", "c": "2", "d": "2"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base: &b {x: 1, y: 2}\nkey: {<<: *b, y: 3}\n", {"x": "1", "y": "3"}),
        ("base: &b {x: 1, y: 2}\nkey: {y: 3, <<: *b}\n", {"y": "3", "x": "1"}),
        ("base: &b {x: 1}\nmore: &m {x: 2, z: 3}\nkey: {<<: [*b, *m]}\n", {"x": "1", "z": "3"}),
        ("base: &b {x: 1}\nmore: &m {x: 2, z: 3}\nkey: {<<: *b, <<: *m}\n", {"x": "1", "z": "3"}),
        ("base: &b {x: 1}\nmore: &m {<<: *b, z: 3}\nkey: {<<: *m}\n", {"x": "1", "z": "3"}),
        ("key: {<<: {x: 1}}\n", {"x": "1"}),
        ("key: {<<: []}\n", {}),
    ],
)
def test_merge_keys_add_what_a_mapping_does_not_say_itself(text: str, value: dict[str, str]) -> None:
    assert read(text)["key"] == value


def test_a_merged_member_stands_where_it_was_written() -> None:
    root = read("base: &b\n  x: 1\nkey:\n  <<: *b\n")
    assert place_of(root, ("key", "x")) == Place(2, 6)
    assert place_of(root, ("key", "x"), at_key=True) == Place(2, 3)


@pytest.mark.parametrize("wrong", ["text", "[text]", "", "*x"])
def test_only_mappings_can_be_merged(wrong: str) -> None:
    (mistake,) = parse(f"a: &x [[]]\nkey: {{<<: {wrong}, y: 1}}\n")[1]
    assert (mistake.path, mistake.message) == ("key.<<", "'<<' merges mappings, and this is none")


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("a: [1, 2\nb: 3\n", ["f:2:2: YAML: did not find expected ',' or ']'"]),
        ("a: 'open\n", ["f:2:1: YAML: found unexpected end of stream"]),
        ("a: b: c\n", ["f:1:5: YAML: mapping values are not allowed in this context"]),
        ("a: 1\n b: 2\n", ["f:2:3: YAML: mapping values are not allowed in this context"]),
        ("- a\nb: 1\n", ["f:2:1: YAML: did not find expected '-' indicator"]),
        ("a:\n\tb: 1\n", ["f:2:1: YAML: a tab cannot indent, use spaces"]),
        ("a: @here\n", ["f:1:4: YAML: found character that cannot start any token"]),
        ('a: "\\ud800"\n', ["f:1:7: YAML: found invalid Unicode character escape code"]),
        ('a: "\\q"\n', ["f:1:5: YAML: found unknown escape character"]),
        ("a: *nobody\n", ["f:1:4: a: the alias *nobody has no finished anchor before it"]),
        ("a: &x [1, *x]\n", ["f:1:11: a[1]: the alias *x has no finished anchor before it"]),
        ("a: &x {b: *x}\n", ["f:1:11: a.b: the alias *x has no finished anchor before it"]),
        ("[a]: 1\n", ["f:1:1: a key must be plain text"]),
        ("w: {{{{ name }}}}\n", ["f:1:5: w: a key must be plain text"]),
        ("a: &x [1]\n*x : 2\n", ["f:2:1: a key must be plain text"]),
        ("a: 1\n---\nb: 2\n", ["f:2:1: a second document starts here, the file may hold only one"]),
        ("%YAML 3.0\n---\na: 1\n", ["f:1:1: YAML: found incompatible YAML document"]),
        ("a: \x00\n", ["f:1:4: YAML: the character U+0000 is not allowed"]),
        ("# \u200b\u00e9 fine\nb: 'a\x07'\n", ["f:2:6: YAML: the character U+0007 is not allowed"]),
        ("a: 1\r\nb: \x1b\r\n", ["f:2:4: YAML: the character U+001B is not allowed"]),
        # YAML 1.1 takes these for the end of a line, YAML 1.2 and editors do not
        ("# comment\u2028token: 1\n", ["f:1:10: YAML: the character U+2028 is not allowed"]),
        ("name: a\x85b\n", ["f:1:8: YAML: the character U+0085 is not allowed"]),
        ("a: \ud800\n", ["f:1:4: YAML: the character U+D800 is not allowed"]),
        # what was found before still counts
        (
            "a: 1\na: 2\nb: [\n",
            [
                "f:2:1: a: appears a second time, first in line 1",
                "f:4:1: YAML: did not find expected node content",
            ],
        ),
        (
            "a: 1\na: 2\nb: *x\n",
            [
                "f:2:1: a: appears a second time, first in line 1",
                "f:3:4: b: the alias *x has no finished anchor before it",
            ],
        ),
    ],
)
def test_what_cannot_be_read_on_is_one_more_mistake_with_its_place(text: str, mistakes: list[str]) -> None:
    with pytest.raises(BrokenDocumentError):
        parse(text)
    assert lines(text) == mistakes


def test_a_deep_file_is_refused_before_it_hurts() -> None:
    assert lines("a: " + "[" * 39 + "]" * 39) == []
    assert lines("a: " + "[" * 40 + "]" * 40) == [f"f:1:43: a{'[0]' * 39}: nested deeper than 40 levels"]
    assert len(lines("[" * 100_000)) == 1
    assert len(lines("{a: " * 100_000)) == 1
    assert len(lines("- " * 100_000)) == 1


def test_depth_is_counted_through_aliases() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
    assert lines(chain) == ["f:40:12: a39[0]: nested deeper than 40 levels"]
    # nor does it help that nobody sees the links of the chain
    hidden = "x: 0\nx: &a0 [x]\n" + "".join(f"x: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
    assert lines(hidden)[-1] == "f:41:10: x[0]: nested deeper than 40 levels"
    merged = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{y: {{<<: *a{n - 1}}}}}\n" for n in range(1, 3000))
    assert lines(merged)[-1].endswith("nested deeper than 40 levels")


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 10):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
    (line,) = lines(bomb)
    assert line == "f:6:20: a5[2]: more than 250000 values come from aliases"


# JSON writes characters beyond U+FFFF as two escapes, which is the one thing that YAML reads otherwise.
plane = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(plane, max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(plane, max_size=6).filter(lambda key: key != "<<"), inner, max_size=4),
    ),
    max_leaves=12,
)


def as_written(value: Any) -> Any:
    """Return what a document says that holds a value as JSON: the same, with every scalar as its text."""
    match value:
        case dict():
            return {key: as_written(member) for key, member in value.items()}
        case list():
            return [as_written(member) for member in value]
        case str():
            return value
        case _:
            return json.dumps(value)


@given(JSON)
def test_json_is_yaml_and_read_as_such(value: Any) -> None:
    assert read(json.dumps(value)) == as_written(value)


@given(JSON)
@example({"a": "\x85\u2028", "b": "line\nline\n", "c": "# no comment"})
def test_what_another_program_writes_as_yaml_is_read_as_such(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=False, default_flow_style=False)
    assert read(text) == as_written(value)


def places(value: Any) -> list[Place]:
    match value:
        case Mapping():
            return [value.place, *value.key_places.values(), *(p for v in value.values() for p in places(v))]
        case Sequence_():
            return [value.place, *(place for item in value for place in places(item))]
        case Scalar():
            return [value.place]
        case _:
            return []


SNIPPETS = [
    "a: ",
    "- ",
    "&x ",
    "*x ",
    "<<: ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "'",
    '"',
    "|\n",
    "!!t ",
    "\n",
    "\n  ",
    "#",
    "? ",
    "\t",
]
documents = st.lists(st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=3)), max_size=25).map("".join)


@given(st.one_of(documents, hostile.texts))
def test_any_text_is_read_or_refused_and_every_place_lies_in_it(text: str) -> None:
    try:
        root, mistakes = parse(text)
    except BrokenDocumentError as error:
        root, mistakes = None, list(error.mistakes)
        assert mistakes
    last = place_after(text).line
    for line, column in [*places(root), *(mistake.place for mistake in mistakes)]:
        assert 1 <= line <= last + 1
        assert column >= 1
    assert all(len(mistake.line("f").splitlines()) == 1 for mistake in mistakes)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", (1, 1)),
        ("ab", (1, 3)),
        ("ab\n", (2, 1)),
        ("ab\r\nc", (2, 2)),
        ("a\rb\r", (3, 1)),
        ("é\n🎵", (2, 2)),
    ],
)
def test_the_place_after_a_text_counts_characters_from_one(text: str, place: tuple[int, int]) -> None:
    assert place_after(text) == place
