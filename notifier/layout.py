"""Where a list at the top of a YAML file stands in its text, to the character, for text to be put in or out.

A writer of YAML would make the whole file anew and with it change what people have laid out: it folds lines,
indents lists, drops quotes and moves comments. Who splices lines at the places found here changes no others.
Knows nothing of this program's keys, nor whether what stands there makes sense.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import yaml

from notifier.document import LOADER

LINE_END = re.compile(r"\r\n|\r|\n")
_CONTENT = (
    yaml.ScalarToken,
    yaml.AliasToken,
    yaml.AnchorToken,
    yaml.TagToken,
    yaml.KeyToken,
    yaml.ValueToken,
    yaml.BlockEntryToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowSequenceEndToken,
    yaml.FlowMappingStartToken,
    yaml.FlowMappingEndToken,
)


class Form(Enum):
    """How a list is written."""

    BLOCK = auto()
    FLOW = auto()
    NOTHING = auto()
    """No list: the key alone, or ``~``."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, from the first character to behind the last one."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ListLayout:
    """A list in the text: how it is written, from where to where, its key's column, its entries.

    In block form an entry begins with its dash.
    """

    form: Form
    span: Span
    column: int
    entries: tuple[Span, ...] = ()


class NoSuchListError(Exception):
    """The key is not there as such, or its value is no list of its own."""


def find_list(text: str, key: str) -> ListLayout:
    """Return where the list of a key of the topmost mapping stands in a text that can be parsed."""
    events: Iterator[Any] = yaml.parse(text, Loader=LOADER)
    for event in events:
        if isinstance(event, yaml.MappingStartEvent):
            return _find_in(text, events, key)
    raise NoSuchListError


def _find_in(text: str, events: Iterator[Any], key: str) -> ListLayout:
    """Walk through the members of a mapping whose start has been read."""
    for event in events:
        if type(event) is yaml.MappingEndEvent:
            break
        value = next(events)
        if type(event) is not yaml.ScalarEvent or event.value != key:
            _skip(value, events)
            continue
        column, span = _column(event), Span(_start(value), _end(value))
        if isinstance(value, yaml.ScalarEvent):
            return ListLayout(Form.NOTHING, span, column)
        if not isinstance(value, yaml.SequenceStartEvent):
            raise NoSuchListError
        return _list(text, value, events, column)
    raise NoSuchListError


def _start(one: Any) -> int:
    start: int = one.start_mark.index
    return start


def _end(one: Any) -> int:
    end: int = one.end_mark.index
    return end


def _column(one: Any) -> int:
    column: int = one.start_mark.column
    return column


def _skip(event: Any, events: Iterator[Any]) -> Any:
    """Read on to the end of a node; return its last event."""
    depth = 0
    while True:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if not depth:
            return event
        event = next(events)


def _list(text: str, start: Any, events: Iterator[Any], column: int) -> ListLayout:
    starts: list[int] = []
    event = next(events)
    while type(event) is not yaml.SequenceEndEvent:
        starts.append(_start(event))
        _skip(event, events)
        event = next(events)
    span = Span(_start(start), _end(event))
    form = Form.FLOW if start.flow_style else Form.BLOCK
    scanned: Iterator[Any] = yaml.scan(text, Loader=LOADER)
    tokens = [token for token in scanned if _is_within(token, span)]
    if form is Form.BLOCK:
        starts = _dashes(tokens)
    ends = _ends(text, tokens, starts)
    return ListLayout(form, span, column, tuple(map(Span, starts, ends)))


def _is_within(token: Any, span: Span) -> bool:
    return isinstance(token, _CONTENT) and span.start <= _start(token) < span.end


def _dashes(tokens: list[Any]) -> list[int]:
    """Return where the dashes of the outermost list are: all of its own stand below the first one."""
    dashes = [token for token in tokens if type(token) is yaml.BlockEntryToken]
    return [_start(dash) for dash in dashes if _column(dash) == _column(dashes[0])]


def _ends(text: str, tokens: list[Any], starts: list[int]) -> list[int]:
    """Return where the content of each entry ends, comments and blank lines behind it left out."""
    ends = [*starts]
    number = -1
    for token in tokens:
        while number + 1 < len(starts) and _start(token) >= starts[number + 1]:
            number += 1
        is_closing_bracket = token is tokens[-1] and type(token) is yaml.FlowSequenceEndToken
        if number >= 0 and not is_closing_bracket:
            ends[number] = max(ends[number], _end_of_token(text, token))
    return ends


def _end_of_token(text: str, token: Any) -> int:
    """Return where what a token says ends: a block's blank lines count only if it keeps them."""
    end = _end(token)
    if getattr(token, "style", None) not in {"|", ">"}:
        return end
    written = text[_start(token) : end]
    keeps_blank_lines = "+" in written.partition("#")[0].splitlines()[0]
    return end if keeps_blank_lines else _start(token) + len(written.rstrip(" \t\r\n"))


def line_of(text: str, index: int) -> Span:
    """Return the line that a character stands in, with its end."""
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    return Span(start, _after_line(text, index))


def _after_line(text: str, index: int) -> int:
    found = LINE_END.search(text, index)
    return found.end() if found else len(text)


def lines_from(text: str, index: int) -> Iterator[Span]:
    """Yield the lines of a text from one that begins here."""
    while index < len(text):
        line = Span(index, _after_line(text, index))
        yield line
        index = line.end
