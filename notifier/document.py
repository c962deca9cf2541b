"""YAML text into plain values that remember where they stand, and mistakes that say so.

Reads YAML 1.2's core schema from libyaml's events: only ``true`` and ``false`` are booleans, ``010`` is ten,
``12:30`` is text. A scalar stays the text that was written; what it means is decided by the key it belongs
to. Knows nothing of this program's keys.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from notifier.mistake import MOST_MISTAKES, KeyPath, Mistake, Place, printable, spell_path

LARGEST_FILE = 64 * 1024 * 1024
_DEEPEST = 40
_TOO_DEEP = f"nested deeper than {_DEEPEST} levels"
_MOST_VALUES = 1_000_000
_MOST_FROM_ALIASES = 250_000
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TEXT_TAG = "tag:yaml.org,2002:str"
# What YAML does not take at all, and what its versions 1.1 and 1.2 disagree on being the end of a line.
_FORBIDDEN = re.compile("[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Scalar(str):
    """A scalar as written. Unquoted ones may mean a number, a boolean or nothing, quoted ones only text."""

    __slots__ = ("is_from_reference", "is_plain", "place")

    place: Place
    is_plain: bool
    is_from_reference: bool

    def __new__(
        cls, text: str, place: Place, *, is_plain: bool = True, is_from_reference: bool = False
    ) -> "Scalar":
        """Make a scalar that remembers its place."""
        scalar = super().__new__(cls, text)
        scalar.place = place
        scalar.is_plain = is_plain
        scalar.is_from_reference = is_from_reference
        return scalar

    @property
    def is_null(self) -> bool:
        """Whether YAML reads this as nothing."""
        return self.is_plain and not self.is_from_reference and str(self) in _NULLS


class Mapping(dict[str, Any]):
    """A mapping that remembers its place and those of its keys."""

    __slots__ = ("key_places", "place")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.key_places: dict[str, Place] = {}


class Sequence_(list[Any]):  # noqa: N801 - Sequence is the abstract type
    """A sequence that remembers its place."""

    __slots__ = ("place",)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


class BrokenDocumentError(Exception):
    """The text is no YAML; nothing more can be said of it than these mistakes."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = tuple(mistakes)


def read(file: Path) -> bytes:
    """Return what a file holds, cut where it is larger than any that is taken. Raises OSError."""
    with file.open("rb") as stream:
        return stream.read(LARGEST_FILE + 1)


def place_of(root: Any, path: KeyPath, *, at_key: bool = False) -> Place:
    """Return where the value at a path stands, or its key; the nearest parent's place when it is absent."""
    value, place = root, getattr(root, "place", Place(1, 1))
    for depth, step in enumerate(path):
        is_last = depth == len(path) - 1
        if isinstance(value, Mapping) and step in value:
            key_place = value.key_places[str(step)]
            value = value[str(step)]
            place = key_place if is_last and at_key else getattr(value, "place", key_place)
        elif isinstance(value, Sequence_) and isinstance(step, int) and step < len(value):
            value = value[step]
            place = value.place
        else:
            break
    return place


def value_at(root: Any, path: KeyPath) -> Any:
    """Return the value at a path, or None when there is none."""
    value = root
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[str(step)]
        elif isinstance(value, Sequence_) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def parse(text: str) -> tuple[Any, list[Mistake]]:
    """Read one YAML document into `Scalar`, `Mapping` and `Sequence_` values.

    Returns the root (None for an empty file) and mistakes that leave the rest readable, such as duplicate
    keys. Raises BrokenDocumentError when the text cannot be read on from some place.
    """
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        message = f"YAML: the character U+{ord(forbidden[0]):04X} is not allowed"
        raise BrokenDocumentError([Mistake(place_after(text[: forbidden.start()]), "", message)])
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=LOADER):
            reader.take(event)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise BrokenDocumentError([*reader.mistakes, _syntax_mistake(text, error)]) from None
    return reader.root, reader.mistakes


def _syntax_mistake(text: str, error: Exception) -> Mistake:
    """Say what the parser says, and what people more often mean by it."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or str(error)
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    if "nesting depth" in problem:  # libyaml 0.2.6 looks far ahead and gives up at a depth of its own
        return Mistake(place, "", _TOO_DEEP)
    if mark and text[mark.index : mark.index + 1] == "\t":
        problem = "a tab cannot indent, use spaces"
    elif mark and text[: mark.index + 1].endswith("${"):
        problem = "inside [] and {} a value with '${' needs quotes"
    # NB: libyaml ends every text with a line end, and may stumble over the one it has added.
    return Mistake(min(place, place_after(text)), "", f"YAML: {printable(problem, 200)}")


def place_after(text: str) -> Place:
    """Return the place that follows a file's first characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return Place(lines.count("\n") + 1, len(lines) - lines.rfind("\n"))


class _Frame:
    """A collection under construction."""

    __slots__ = ("anchor", "height", "key", "key_place", "merges", "path", "size", "value")

    def __init__(self, value: Mapping | Sequence_, path: KeyPath, anchor: str | None) -> None:
        self.value = value
        self.path = path
        self.anchor = anchor
        self.size = 1
        self.height = 1
        self.key: str | None = None
        self.key_place = value.place
        self.merges: list[Any] = []


class _Extent(NamedTuple):
    """A value with how many values it holds, aliases followed, and how many levels of collections."""

    value: Any
    size: int = 1
    height: int = 0


class _Reader:
    """Builds values from events, without recursion, so that no file can exhaust the stack."""

    def __init__(self) -> None:
        self.root: Any = None
        self.mistakes: list[Mistake] = []
        self._has_document = False
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Extent] = {}
        self._from_aliases = 0

    def take(self, event: Any) -> None:
        """Take the next event of the parser."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._open(Mapping(_start(event)), event)
            case yaml.SequenceStartEvent():
                self._open(Sequence_(_start(event)), event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                if self._has_document:
                    self._stop(_start(event), "a second document starts here, the file may hold only one")
                self._has_document = True

    def _scalar(self, event: Any) -> None:
        place = _start(event)
        is_plain = event.style is None or event.style == ""
        self._check_tag(event, place)
        scalar = Scalar(event.value, place, is_plain=is_plain and event.tag != _TEXT_TAG)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Extent(scalar)
        self._add(scalar)

    def _open(self, value: Mapping | Sequence_, event: Any) -> None:
        self._check_tag(event, value.place)
        self._refuse_as_key(value.place)
        if len(self._frames) >= _DEEPEST:
            self._stop(value.place, _TOO_DEEP)
        self._frames.append(_Frame(value, self._next_path(), event.anchor))

    def _close(self) -> None:
        frame = self._frames.pop()
        if frame.merges and isinstance(frame.value, Mapping):
            self._merge(frame, frame.value)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = _Extent(frame.value, frame.size, frame.height)
        self._add(frame.value, frame.size, frame.height)

    def _alias(self, event: Any) -> None:
        place = _start(event)
        if event.anchor not in self._anchors:
            self._stop(place, f"the alias *{printable(event.anchor)} has no finished anchor before it")
        extent = self._anchors[event.anchor]
        if not isinstance(extent.value, Scalar):
            self._refuse_as_key(place)
        if len(self._frames) + extent.height > _DEEPEST:
            self._stop(place, _TOO_DEEP)
        self._from_aliases += extent.size
        if self._from_aliases > _MOST_FROM_ALIASES:
            self._stop(place, f"more than {_MOST_FROM_ALIASES} values come from aliases")
        self._add(*extent)

    def _check_tag(self, event: Any, place: Place) -> None:
        if event.tag not in (None, "!", _TEXT_TAG) and getattr(event, "implicit", (True,)) is not True:
            name = printable(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self._note(place, self._next_path(), f"the tag {name} is not supported")

    def _add(self, value: Any, size: int = 1, height: int = 0) -> None:
        if not self._frames:
            self.root = value
            return
        frame = self._frames[-1]
        if isinstance(frame.value, Sequence_):
            frame.value.append(value)
        elif frame.key is None:
            self._take_key(frame, value)
            return
        else:
            self._set(frame, frame.value, value)
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if frame.size > _MOST_VALUES:
            self._stop(
                getattr(value, "place", frame.value.place),
                f"more than {_MOST_VALUES} values, aliases counted",
            )

    def _take_key(self, frame: _Frame, key: Any) -> None:
        frame.key = str(key)
        frame.key_place = key.place

    def _set(self, frame: _Frame, mapping: Mapping, value: Any) -> None:
        key, frame.key = frame.key or "", None
        if key == "<<":
            frame.merges.append(value)
        elif key in mapping:
            first = mapping.key_places[key].line
            message = f"appears a second time, first in line {first}"
            self._note(frame.key_place, (*frame.path, key), message)
        else:
            mapping[key] = value
            mapping.key_places[key] = frame.key_place

    def _merge(self, frame: _Frame, mapping: Mapping) -> None:
        """Add the members of merged mappings that the mapping does not have itself; the first one wins."""
        for source in _flattened(frame.merges):
            if not isinstance(source, Mapping):
                message = "'<<' merges mappings, and this is none"
                place = getattr(source, "place", mapping.place)
                self._note(place, (*frame.path, "<<"), message)
                continue
            for key, value in source.items():
                if key not in mapping:
                    mapping[key] = value
                    mapping.key_places[key] = source.key_places[key]

    def _next_path(self) -> KeyPath:
        if not self._frames:
            return ()
        frame = self._frames[-1]
        if isinstance(frame.value, Sequence_):
            return (*frame.path, len(frame.value))
        return (*frame.path, frame.key) if frame.key is not None else frame.path

    def _refuse_as_key(self, place: Place) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, Mapping) and frame.key is None:
            self._stop(place, "a key must be plain text")

    def _note(self, place: Place, path: KeyPath, message: str) -> None:
        """Keep a mistake that leaves the rest readable."""
        self.mistakes.append(Mistake(place, spell_path(path), message))
        if len(self.mistakes) > MOST_MISTAKES:
            raise BrokenDocumentError(self.mistakes)

    def _stop(self, place: Place, message: str) -> None:
        mistake = Mistake(place, spell_path(self._next_path()), message)
        raise BrokenDocumentError([*self.mistakes, mistake])


def _start(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _flattened(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Sequence_):
            yield from value
        else:
            yield value
