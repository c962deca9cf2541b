"""A watchlist with one watch more or less: the text that a person would have written.

Puts lines in or takes lines out and leaves every other character as it is. What comes of it is read again: it
has to say what the old text says, but for that watch, or nothing is changed. Knows text only, no files.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from notifier import document
from notifier.document import Mapping, Sequence_
from notifier.layout import LINE_END, Form, ListLayout, NoSuchListError, Span, find_list, line_of, lines_from
from notifier.secret import has_reference

_KEY = "watch"
_INDENTATION = 2
_BY_HAND = "'watch' is written in a way that only a person can change"
_PLAIN = re.compile(r"[^\W_][\w$.@+~/-]*([ :][\w$.@+~/()-]+)*")
_FOR_YAML_NOTHING = frozenset({"null", "Null", "NULL"})
_UNFIT = re.compile("[^ -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_COMMA = re.compile(r"(?:\s|#[^\r\n]*[\r\n])*+,")

Splice = tuple[int, int, str]
"""From where to where text goes, and what comes in its place."""


class RefusedError(Exception):
    """The text cannot be changed so; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A watch as it is to be written: words, which later have to be valid ones."""

    audio_id: str
    name: str | None = None
    notify: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    interval: str | None = None

    def members(self) -> dict[str, str | list[str]]:
        """Return the members that it has, in the order of the manual, as they are to stand in the file."""
        single = {"audio_id": self.audio_id, "name": self.name}
        lists = {"notify": self.notify, "events": self.events}
        members: dict[str, str | list[str]] = {key: _literal(text) for key, text in single.items() if text}
        members |= {key: [*map(_literal, texts)] for key, texts in lists.items() if texts}
        return members | ({"interval": _literal(self.interval)} if self.interval else {})

    def value(self) -> str | dict[str, str | list[str]]:
        """Return what it is once read: an audio_id alone stands for itself."""
        members = self.members()
        return members if len(members) > 1 else _literal(self.audio_id)


def with_entry(text: str, entry: Entry) -> str:
    """Return the text with an entry behind the others. Raises RefusedError."""
    root = _read(text)
    expected = [*_watches(root), entry.value()]
    return _first_right(text, _additions(text, _find(text), entry), root, expected)


def without_entry(text: str, index: int) -> str:
    """Return the text without one of its entries. Raises RefusedError."""
    root = _read(text)
    expected = [one for number, one in enumerate(_watches(root)) if number != index]
    return _first_right(text, _removals(text, _find(text), index), root, expected)


def _literal(text: str) -> str:
    """Return what stands for a text in a file where ``${`` begins a reference."""
    return text.replace("$", "$$") if has_reference(text) or "$$" in text else text


def _read(text: str) -> Mapping:
    root, _ = document.parse(text)
    if not isinstance(root, Mapping):
        raise RefusedError(_BY_HAND)
    return root


def _watches(root: Mapping) -> list[object]:
    watch = root.get(_KEY)
    return [*watch] if isinstance(watch, Sequence_) else []


def _find(text: str) -> ListLayout:
    try:
        return find_list(text, _KEY)
    except NoSuchListError:
        raise RefusedError(_BY_HAND) from None


def _first_right(
    text: str, ways: Iterator[Sequence[Splice]], root: Mapping, expected: Sequence[object]
) -> str:
    """Go the first way that leads to what is expected and leaves all else as it was."""
    for splices in ways:
        changed = _spliced(text, splices)
        try:
            new, mistakes = document.parse(changed)
        except document.BrokenDocumentError:
            continue
        is_readable = not mistakes and isinstance(new, Mapping) and _KEY in new
        if is_readable and _watches(new) == expected and _others(new) == _others(root):
            return changed
    raise RefusedError(_BY_HAND)


def _others(root: Mapping) -> dict[str, object]:
    return {key: value for key, value in root.items() if key != _KEY}


def _spliced(text: str, splices: Sequence[Splice]) -> str:
    for start, end, put in sorted(splices, reverse=True):
        text = text[:start] + put + text[end:]
    return text


def _additions(text: str, layout: ListLayout, entry: Entry) -> Iterator[Sequence[Splice]]:
    if layout.form is Form.BLOCK:
        yield [_lines_behind(text, layout.entries[-1], entry)]
        return
    if layout.entries:
        yield from _more_in_brackets(text, layout.entries[-1], entry)
        return
    inside = text[layout.span.start + 1 : layout.span.end - 1]
    if layout.form is Form.NOTHING or not inside.strip():
        yield _first_lines(text, layout, entry)
    if layout.form is Form.NOTHING:
        yield [(layout.span.start, layout.span.end, f" [{_in_braces(entry)}]")]
    else:
        yield [(layout.span.start + 1, layout.span.start + 1, _in_braces(entry))]


def _removals(text: str, layout: ListLayout, index: int) -> Iterator[Sequence[Splice]]:
    if layout.form is Form.BLOCK:
        span = layout.entries[index]
        start, end = line_of(text, span.start).start, _behind(text, span)
        yield [(*_whole_lines(text, start, end), "")]
        yield [(start, end, "")]  # where the end of a line is part of the value before it
    elif layout.form is Form.FLOW:
        yield from _less_in_brackets(text, layout, index)


def _column(text: str, index: int) -> int:
    return index - line_of(text, index).start


def _behind(text: str, entry: Span) -> int:
    """Return where the lines of an entry end, with the comments below that are indented as its own."""
    is_after_line = text[entry.end - 1 : entry.end] in {"\r", "\n"}
    end = entry.end if is_after_line else line_of(text, entry.end).end
    column = _column(text, entry.start)
    for line in lines_from(text, end):
        content = text[line.start : line.end].lstrip(" ")
        if not content.startswith("#") or line.end - line.start - len(content) <= column:
            break
        end = line.end
    return end


def _lines_behind(text: str, last: Span, entry: Entry) -> Splice:
    spaces = re.match(r"-( {1,7})(?=[^\s#])", text[last.start : last.start + 9])
    lines = _in_lines(entry, _column(text, last.start), len(spaces[1]) if spaces else 1)
    return _put_lines(text, _behind(text, last), lines)


def _first_lines(text: str, layout: ListLayout, entry: Entry) -> list[Splice]:
    """Put an entry below the key, in place of what says that there are none."""
    start = len(text[: layout.span.start].rstrip(" "))
    lines = _in_lines(entry, layout.column + _INDENTATION, 1)
    behind = line_of(text, layout.span.end).end
    return [(start, layout.span.end, ""), _put_lines(text, behind, lines)]


def _put_lines(text: str, index: int, lines: Sequence[str]) -> Splice:
    """Put lines where a line ends; a text without an end of its last line stays such a one."""
    found = LINE_END.search(text)
    end_of_line = found[0] if found else "\n"
    block = end_of_line.join(lines)
    is_at_line = not index or text[index - 1] in "\r\n"
    return (index, index, f"{block}{end_of_line}" if is_at_line else f"{end_of_line}{block}")


def _whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """Return what to cut out, so that a text without an end of its last line stays such a one."""
    if end == len(text) and text[-1:] not in {"\r", "\n"}:
        start -= len(text[:start]) - len(re.sub(r"(\r\n|\r|\n)\Z", "", text[:start]))
    return start, end


def _in_lines(entry: Entry, column: int, spaces: int) -> list[str]:
    """Write an entry as the lines of a list."""
    dash = " " * column + "-" + " " * spaces
    value = entry.value()
    if isinstance(value, str):
        return [dash + _scalar(value)]
    members = [f"{key}: {_written(member)}" for key, member in value.items()]
    return [dash + members[0], *(" " * len(dash) + member for member in members[1:])]


def _in_braces(entry: Entry) -> str:
    """Write an entry for a list in brackets."""
    value = entry.value()
    if isinstance(value, str):
        return _quoted(value)
    quoted = (f"{key}: {_written(member, is_in_brackets=True)}" for key, member in value.items())
    return f"{{{', '.join(quoted)}}}"


def _written(member: str | list[str], *, is_in_brackets: bool = False) -> str:
    if isinstance(member, str):
        return _quoted(member) if is_in_brackets else _scalar(member)
    return f"[{', '.join(map(_scalar, member))}]"


def _scalar(text: str) -> str:
    """Write a text, in quotes only where it needs them."""
    return text if _PLAIN.fullmatch(text) and text not in _FOR_YAML_NOTHING else _quoted(text)


def _quoted(text: str) -> str:
    """Write a text in double quotes, with escapes for what may not stand in a file or is not seen there."""
    return _UNFIT.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}" if ord(found[0]) < 0x10000 else f"\\U{ord(found[0]):08x}"


def _more_in_brackets(text: str, last: Span, entry: Entry) -> Iterator[Sequence[Splice]]:
    line = line_of(text, last.end)
    rest = text[last.end : line.end].lstrip(" \t")
    has_comma = rest.startswith(",")
    indentation = text[line_of(text, last.start).start : last.start]
    if not indentation.strip() and rest.lstrip(", \t")[:1] in {"#", "\r", "\n"}:
        written = indentation + _in_braces(entry) + ("," if has_comma else "")
        yield [(last.end, last.end, "" if has_comma else ","), _put_lines(text, line.end, [written])]
    yield [(last.end, last.end, f", {_in_braces(entry)}")]


def _less_in_brackets(text: str, layout: ListLayout, index: int) -> Iterator[Sequence[Splice]]:
    entry = layout.entries[index]
    is_last = index == len(layout.entries) - 1
    before = layout.entries[index - 1].end if index else layout.span.start + 1
    behind = layout.entries[index + 1].start if not is_last else layout.span.end - 1
    gap_before, gap_behind = text[before : entry.start], text[entry.end : behind]
    comma_before = _comma_in(text, before, entry.start)
    comma_behind = _comma_in(text, entry.end, behind)
    end = entry.end if comma_behind is None else comma_behind + 1
    drop_comma: list[Splice] = []
    if is_last and comma_behind is None and comma_before is not None:
        drop_comma = [(comma_before, comma_before + 1, "")]
    line = Span(line_of(text, entry.start).start, line_of(text, end).end)
    is_alone = not text[line.start : entry.start].strip()
    if is_alone and text[end : line.end].strip(" \t")[:1] in {"#", "\r", "\n"}:
        yield [*drop_comma, (line.start, line.end, "")]
    if not is_last and "#" not in gap_behind:
        yield [(entry.start, behind, "")]
    if is_last and index and "#" not in gap_before:
        yield [(before, entry.end, "")]
    if comma_behind is not None:
        drop_comma.append((comma_behind, end, ""))
    yield [*drop_comma, (entry.start, entry.end, "")]


def _comma_in(text: str, start: int, end: int) -> int | None:
    """Return where the comma is in what stands between two entries, comments among it."""
    found = _COMMA.match(text, start, end)
    return found.end() - 1 if found else None
