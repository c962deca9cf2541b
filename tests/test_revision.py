"""A watch put into a watchlist or taken out of it: its own lines change, and nothing else does.

The texts are made of pieces that know which lines are theirs, so what should come out is known beforehand.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import document
from notifier.loading import load_content
from notifier.revision import Entry, RefusedError, with_entry, without_entry
from notifier.secret import Sources
from tests.support import mutations
from tests.support.exploring import examples
from tests.support.tracks import audio_id
from tests.support.watchlists import MINIMAL, TRACK

HEAD = """\
# A watchlist, with care.
useapi: {token:   "${env:TOKEN}"}   # spaced
targets:
    band-room:    { type: slack, url: "${env:SLACK_URL}" }
    studio: &studio
        type: 'webhook'
        url: >-
          https://example.com/hooks/a-long-address-that-some-writers-of-yaml-would-fold-because-it-is-so-long?x=0123456789
    archive: {<<: *studio, method: PUT}

"""
FOOT = """\

defaults:
- &x band-room
"""
NEW = Entry(audio_id(99), "Intro: theme", ("band-room", "studio"), ("completed",), "20s")
LINES = [
    f"- audio_id: {audio_id(99)}",
    '  name: "Intro: theme"',
    "  notify: [band-room, studio]",
    "  events: [completed]",
    "  interval: 20s",
]


def watch_of(text: str) -> list[object]:
    root, mistakes = document.parse(text)
    assert mistakes == []
    return [*(root["watch"] if isinstance(root["watch"], list) else ())]


@dataclass(frozen=True)
class Block:
    """A watchlist in block form: what stands before the entries, their own lines, what follows each."""

    head: str
    entries: tuple[str, ...]
    between: tuple[str, ...]
    foot: str
    end_of_line: str
    ends_with_line: bool

    def text(self) -> str:
        pieces = [piece for pair in zip(self.entries, self.between, strict=True) for piece in pair]
        text = "".join([self.head, *pieces, self.foot])
        if not self.ends_with_line:
            text = text.removesuffix("\n")
        return text.replace("\n", self.end_of_line)

    def without(self, index: int) -> "Block":
        """Return the same with one entry less; what follows it stays."""
        between = [*self.between]
        kept = between.pop(index)
        head = self.head
        if index:
            between[index - 1] += kept
        else:
            head += kept
        entries = self.entries[:index] + self.entries[index + 1 :]
        return replace(self, head=head, entries=entries, between=tuple(between))


FORMS = [
    "- {id}\n",
    "- '{id}'   # about {n}\n",
    "-{gap}audio_id: {id}\n {gap}name: Track {n}  # about {n}\n",
    "-{gap}# about {n}\n {gap}name: 'It''s: {n}'\n\n {gap}# inside {n}\n {gap}audio_id: \"{id}\"\n",
    "-\n    audio_id: {id}\n    notify:\n    - band-room # one\n    - studio\n",
    "-{gap}audio_id: {id}\n {gap}name: |\n {gap}  In a\n {gap}  block {n}\n",
    "-{gap}audio_id: {id}\n {gap}name: plain over\n {gap}   two lines\n {gap}# interval: 3s\n",
    "- {{audio_id: '{id}', name: \"# {n}\",\n   events: [completed,\n   failed]}} # about {n}\n",
    "- &e{n}\n  audio_id: {id}\n  interval: 15s\n     # deeper about {n}\n",
    "- ? audio_id\n  : {id}\n",
]
BETWEEN = [
    "",
    "",
    "\n",
    "{pad}# of nobody\n",
    "\n\n# at the margin\n",
    "{pad}# - user:1-pixverse:a@b-music:0\n\n",
]


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    pad = " " * draw(st.sampled_from([0, 2, 4]))
    gap = " " * draw(st.sampled_from([1, 3]))
    count = draw(st.integers(1, 4))
    ends_with_line = draw(st.booleans())
    # NB: at the end of a file a block's last line end, which is part of the value, may be missing.
    forms = [form for form in FORMS if ends_with_line or "|" not in form]
    entries, between = [], []
    for number in range(count):
        form = draw(st.sampled_from(forms)).format(id=audio_id(number), n=number, gap=gap)
        entries.append(
            "".join(pad + line if line.strip() else line for line in form.splitlines(keepends=True))
        )
        between.append(draw(st.sampled_from(BETWEEN)).format(pad=pad))
    start = draw(st.sampled_from(["", "---\n", "%YAML 1.2\n---\n"]))
    key = draw(
        st.sampled_from(["watch:\n", '"watch":   # the tracks\n', "watch: &all\n", "watch:\n\n# first\n"])
    )
    foot = draw(
        st.sampled_from(["", "\nlog: {level: info}\n", "# the end\n", "...\n", "state:   /x # state\n"])
    )
    first, rest = (HEAD, "") if draw(st.booleans()) else ("", HEAD)
    if rest and foot == "...\n":
        foot = ""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return Block(start + first + key, tuple(entries), tuple(between), foot + rest, end, ends_with_line)


@given(blocks())
@examples(80)
def test_an_entry_is_put_behind_the_others_and_every_other_line_stays(block: Block) -> None:
    text = block.text()
    changed = with_entry(text, NEW)
    pieces = [piece for pair in zip(block.entries, block.between, strict=True) for piece in pair]
    before, behind = "".join([block.head, *pieces[:-1]]), pieces[-1] + block.foot
    column = len(re.search(r"( *)-", block.entries[-1])[1])  # type: ignore[index]
    own = changed.replace(block.end_of_line, "\n").removeprefix(before)
    own = own[: own.rindex("interval: 20s\n" if behind or block.ends_with_line else "interval: 20s") + 14]
    shown = [line[column:] for line in own.splitlines()]
    assert [line.replace("-   ", "- ").replace("    ", "  ") for line in shown] == LINES
    whole = before + own + behind
    expected = whole if block.ends_with_line else whole.removesuffix("\n")
    assert changed == expected.replace("\n", block.end_of_line)
    assert watch_of(changed)[:-1] == watch_of(text)


@given(blocks(), st.data())
@examples(80)
def test_an_entry_is_taken_out_with_its_own_lines_and_every_other_line_stays(
    block: Block, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(block.entries) - 1))
    expected = block.without(index).text()
    changed = without_entry(block.text(), index)
    assert changed == expected
    watch = watch_of(block.text())
    assert watch_of(changed) == watch[:index] + watch[index + 1 :]


@given(blocks())
@examples(40)
def test_what_was_put_in_and_taken_out_again_leaves_the_very_same_text(block: Block) -> None:
    text = block.text()
    assert without_entry(with_entry(text, NEW), len(block.entries)) == text


SHORT = Entry(audio_id(99))
QUOTED = f'"{audio_id(99)}"'
CHANGES = {
    "watch:\n": f"watch:\n  - {audio_id(99)}\n",
    "watch: []\n": f"watch:\n  - {audio_id(99)}\n",
    "watch: []": f"watch:\n  - {audio_id(99)}",
    "watch: [ ]   # none yet\nlog: {}\n": f"watch:   # none yet\n  - {audio_id(99)}\nlog: {{}}\n",
    "watch: ~ # none\n": f"watch: # none\n  - {audio_id(99)}\n",
    "watch:   # none\n#  - a\n\nlog: {}\n": f"watch:   # none\n  - {audio_id(99)}\n#  - a\n\nlog: {{}}\n",
    "  watch:\n  log: {}\n": f"  watch:\n    - {audio_id(99)}\n  log: {{}}\n",
    "watch: [a, 'b']  # two\n": f"watch: [a, 'b', {QUOTED}]  # two\n",
    "watch: [a, b,]\n": f"watch: [a, b, {QUOTED},]\n",
    "watch: [\n  a, # one\n  b # two\n]\n": f"watch: [\n  a, # one\n  b, # two\n  {QUOTED}\n]\n",
    "watch: [\n  a,\n  b,\n]\n": f"watch: [\n  a,\n  b,\n  {QUOTED},\n]\n",
    "watch: [ # one\n  a,\n  b ] # two\n": f"watch: [ # one\n  a,\n  b, {QUOTED} ] # two\n",
    "watch: [ # none\n  ]\n": f"watch: [{QUOTED} # none\n  ]\n",
    '{"watch": []}\n': f'{{"watch": [{QUOTED}]}}\n',
    '{"watch": [{"audio_id": "a"}]}': f'{{"watch": [{{"audio_id": "a"}}, {QUOTED}]}}',
    "{watch: }": f"{{watch:  [{QUOTED}]}}",
    "watch:\n- name: |+\n    a\n\n\n# b\n": f"watch:\n- name: |+\n    a\n\n\n- {audio_id(99)}\n# b\n",
}
"""Texts before and after a watch is put in."""
RESTORED = {before for before in CHANGES if "[ ]" not in before and "~" not in before}
RESTORED -= {"watch: []\n", "watch: []", "{watch: }"}


@pytest.mark.parametrize(("text", "expected"), CHANGES.items())
def test_an_entry_is_put_in_as_a_person_would_have(text: str, expected: str) -> None:
    assert with_entry(text, SHORT) == expected
    back = without_entry(expected, len(watch_of(expected)) - 1)
    assert watch_of(back) == watch_of(text)
    if text in RESTORED:
        assert back == text


TAKEN_OUT = [
    ("watch: [a, b, c]\n", 0, "watch: [b, c]\n"),
    ("watch: [a, b, c]\n", 1, "watch: [a, c]\n"),
    ("watch: [a, b, c]\n", 2, "watch: [a, b]\n"),
    ("watch: [a]\n", 0, "watch: []\n"),
    ("watch: [\n  a, # one\n  b, # two\n  c # three\n]\n", 1, "watch: [\n  a, # one\n  c # three\n]\n"),
    ("watch: [\n  a, # one\n  b # two\n]\n", 1, "watch: [\n  a # one\n]\n"),
    ("watch: [a, # one\n  b]\n", 1, "watch: [a # one\n  ]\n"),
    ("watch: [a, # one\n  b]\n", 0, "watch: [ # one\n  b]\n"),
    ("watch:\n- a\n", 0, "watch:\n"),
    ("watch:\n  - a # one\n  # of b\n  - b\n", 0, "watch:\n  # of b\n  - b\n"),
    ("watch:\n  - a\n  - b", 1, "watch:\n  - a"),
    ("watch:\n  - name: |\n      a\n  - b", 1, "watch:\n  - name: |\n      a\n"),
]


@pytest.mark.parametrize(("text", "index", "expected"), TAKEN_OUT)
def test_an_entry_is_taken_out_as_a_person_would_have(text: str, index: int, expected: str) -> None:
    assert without_entry(text, index) == expected


BRACKETED = ["{id}", '"{id}"', "{{audio_id: '{id}', name: Track {n}}}", "{{audio_id: '{id}',\n   name: x}}"]
GAPS = [",", ", ", ",\n  ", ", # about {n}\n  ", " # about {n}\n  , "]


@st.composite
def bracketed(draw: st.DrawFn) -> tuple[str, int]:
    """Draw a list in brackets and how many entries it has."""
    count = draw(st.integers(0, 4))
    text = draw(st.sampled_from(["watch: [", "watch: [ ", "watch: [ # all\n  ", '{"watch":\n  ["']))
    is_json = text.startswith("{")
    text = text.removesuffix('"')
    for number in range(count):
        entry = json.dumps(audio_id(number)) if is_json else draw(st.sampled_from(BRACKETED))
        is_last = number == count - 1
        gap = draw(st.sampled_from(["", " ", "\n", " # last\n", ",\n", ", # last\n"] if is_last else GAPS))
        text += entry.format(id=audio_id(number), n=number) + gap.format(n=number)
    end = "]}" if is_json else draw(st.sampled_from(["]", "]\n", " ]  # end\nlog: {}\n"]))
    return (text + end).replace("\n", draw(st.sampled_from(["\n", "\r\n"]))), count


def comments_of(text: str) -> list[str]:
    return re.findall(r"#[^\r\n]*", text)


@given(bracketed(), st.data())
@examples(80)
def test_in_brackets_other_entries_and_every_comment_stay(
    drawn: tuple[str, int], data: st.DataObject
) -> None:
    text, count = drawn
    changed = with_entry(text, SHORT)
    assert watch_of(changed) == [*watch_of(text), audio_id(99)]
    assert comments_of(changed) == comments_of(text)
    index = data.draw(st.integers(0, count))
    left = without_entry(changed, index)
    watch = watch_of(changed)
    assert watch_of(left) == watch[:index] + watch[index + 1 :]
    assert set(comments_of(left)) >= set(comments_of(text)) - {f"# about {index}", "# last"}


@given(mutations.watchlists(), st.data())
@examples(150)
def test_whatever_the_file_is_like_it_is_changed_rightly_or_not_at_all(
    content: bytes, data: st.DataObject
) -> None:
    try:
        text = content.decode("utf-8-sig")
        watch = watch_of(text)
    except (UnicodeDecodeError, AssertionError, KeyError, TypeError, document.BrokenDocumentError):
        return  # no command comes as far with such a file
    with suppress(RefusedError):
        assert watch_of(with_entry(text, SHORT)) == [*watch, audio_id(99)]
    if watch:
        index = data.draw(st.integers(0, len(watch) - 1))
        with suppress(RefusedError):
            assert watch_of(without_entry(text, index)) == watch[:index] + watch[index + 1 :]


@pytest.mark.parametrize(
    "text",
    [
        "watch:\n  - &a {audio_id: x}\n  - {<<: *a, name: y}\n",
        "watch:\n  - {audio_id: x, notify: &n [a]}\nalerts: *n\n",
        "alerts: &n [b]\nwatch:\n  - {audio_id: x, notify: &n [a]}\ndefaults: {notify: *n}\n",
        "alerts: &all [x]\nwatch: *all\n",
        "<<: {watch: [x]}\nlog: {}\n",
    ],
)
def test_what_cannot_be_taken_out_without_harm_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="only a person"):
        without_entry(text, 0)


@pytest.mark.parametrize(
    "text", ["alerts: &all [x]\nwatch: *all\n", "<<: {watch: [x]}\nlog: {}\n", "watch:\n- name: |\n    a"]
)
def test_what_cannot_be_added_to_without_harm_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="only a person"):
        with_entry(text, SHORT)


NAMES = (
    *(
        "null",
        "~",
        "yes",
        "1e3",
        "# no",
        "a: b",
        "a #b",
        "a:",
        "- a",
        "[a]",
        "{a",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
    ),
    *("`a", "...", "---", "|", ">", "é", "=", "<<", "'", '"', "a\nb", "a\x85b", "\ufeff", "\u2028x", "😀"),
    *("${env:X}", "$${env:X}", "$$", "$5", "${", " a ", "a\\", "\x00", "\x7f", "a" * 5000),
)
names = st.one_of(st.text(min_size=1).filter(lambda text: bool(text.strip())), st.sampled_from(NAMES))


@given(names, st.sampled_from(["watch:\n", "watch: [\n]\n", "watch: [x]\n"]))
@examples(100)
def test_any_name_is_read_again_as_it_was_given(name: str, watch: str) -> None:
    watch = watch.replace("x", json.dumps(TRACK))
    text = with_entry(MINIMAL.removesuffix("watch: []\n") + watch, Entry(audio_id(99), name))
    loaded = load_content(text.encode(), "w", resolve=False, sources=Sources({}))
    assert loaded.config.watch[-1].name == name
