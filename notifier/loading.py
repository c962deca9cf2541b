"""From a file to a `Config`, or to every mistake in it at once.

Parses, resolves references, validates with the model and adds the cross-checks. Knows which file it reads and
what pydantic's errors mean in the words of the watchlist.
"""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from notifier import document
from notifier.config import Config, Defaults, DeliverySettings, Http, Log, Poll, Useapi, Watch
from notifier.crosscheck import cross_checks, warnings_of
from notifier.document import (
    Mapping,
    Mistake,
    Place,
    Scalar,
    Sequence_,
    did_you_mean,
    place_of,
    spell_path,
    value_at,
)
from notifier.secret import ReferenceError_, Sources, check_references, expand, has_reference
from notifier.settings import Settings, Unresolved
from notifier.targets import TYPES

_LARGEST_FILE = 64 * 1024 * 1024
_SECTIONS: dict[str, type[Settings]] = {
    "useapi": Useapi,
    "poll": Poll,
    "delivery": DeliverySettings,
    "defaults": Defaults,
    "http": Http,
    "log": Log,
}
_LATER = {"callback": "callbacks", "account": "following an account"}
"""Keys of later versions: an older one says so instead of guessing at a typing mistake."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid file: its settings, what is worth a warning, and what must never be shown."""

    config: Config
    digest: str
    warnings: tuple[Mistake, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


class InvalidConfigError(Exception):
    """The file is wrong; `mistakes` says where and how, in the file's order."""

    def __init__(self, file: str, mistakes: list[Mistake], digest: str = "") -> None:
        super().__init__(f"{file}: {len(mistakes)} mistakes")
        self.file = file
        self.mistakes = tuple(sorted(set(mistakes)))
        self.digest = digest

    def lines(self) -> list[str]:
        """Return each mistake as ``FILE:LINE:COLUMN: key.path: what is wrong``."""
        return [mistake.line(self.file) for mistake in self.mistakes]


def digest_of(content: bytes) -> str:
    """Return what tells one content of the file from another."""
    return hashlib.sha256(content).hexdigest()


def load(file: str, *, resolve: bool = True, sources: Sources | None = None) -> Loaded:
    """Read and validate a watchlist; without `resolve`, references are judged by their form only.

    Raises InvalidConfigError with all mistakes, also when the file cannot be read.
    """
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
            is_public = bool(os.fstat(stream.fileno()).st_mode & stat.S_IROTH)
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        raise InvalidConfigError(file, [Mistake(Place(1, 1), "", message)]) from None
    return load_content(content, file, resolve=resolve, sources=sources or Sources(), is_public=is_public)


def load_content(
    content: bytes, file: str, *, resolve: bool, sources: Sources, is_public: bool = False
) -> Loaded:
    """Validate a watchlist's content, as `load` does."""
    digest = digest_of(content)
    try:
        root, mistakes = _parse(content)
    except document.BrokenDocumentError as error:
        raise InvalidConfigError(file, [*error.mistakes], digest) from None
    expansion = _Expansion(sources if resolve else None, sources)
    expansion.walk(root)
    config, wrong = _validate(root, {place for place, _ in expansion.failed})
    mistakes += [*expansion.mistakes(), *wrong, *cross_checks(root)]
    if mistakes or config is None:
        raise InvalidConfigError(file, mistakes, digest)
    secrets = (*expansion.values, *(config.secrets() if resolve else ()))
    return Loaded(config, digest, tuple(warnings_of(config, root, is_public=is_public)), secrets)


def _parse(content: bytes) -> tuple[Mapping, list[Mistake]]:
    start = Place(1, 1)
    if len(content) > _LARGEST_FILE:
        raise document.BrokenDocumentError([Mistake(start, "", "is larger than 64 MiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise document.BrokenDocumentError([Mistake(place, "", "is not UTF-8 text")]) from None
    root, mistakes = document.parse(text)
    if not isinstance(root, Mapping):
        found = "nothing" if root is None or getattr(root, "is_null", False) else "something else"
        message = f"expected a mapping with useapi, targets and watch, found {found}"
        raise document.BrokenDocumentError([*mistakes, Mistake(start, "", message)])
    watch = root.get("watch")
    if isinstance(watch, Scalar) and watch.is_null:
        root["watch"] = Sequence_(watch.place)
    return root, mistakes


class _Expansion:
    """Replaces the references of a document in place; remembers the values, which are secrets."""

    def __init__(self, sources: Sources | None, state_sources: Sources) -> None:
        self._sources = sources
        self._state_sources = state_sources
        self.values: list[str] = []
        self.failed: list[tuple[Place, tuple[str, str]]] = []
        self._done: set[int] = set()

    def mistakes(self) -> list[Mistake]:
        return [Mistake(place, path, message) for place, (path, message) in self.failed]

    def walk(self, value: Any, path: document.Path = ()) -> None:
        if id(value) in self._done:
            return
        self._done.add(id(value))
        match value:
            case Mapping():
                for key, member in value.items():
                    value[key] = self._member(member, (*path, key))
            case Sequence_():
                value[:] = [self._member(member, (*path, index)) for index, member in enumerate(value)]

    def _member(self, member: Any, path: document.Path) -> Any:
        if isinstance(member, Scalar):
            return self._scalar(member, path) if "$" in member else member
        self.walk(member, path)
        return member

    def _scalar(self, scalar: Scalar, path: document.Path) -> Scalar:
        if not has_reference(scalar):
            return Scalar(scalar.replace("$$", "$"), scalar.place, is_plain=scalar.is_plain)
        try:
            check_references(scalar)
            if self._sources is None:
                return self._unresolved(scalar, path)
            value = expand(scalar, self._sources)
        except ReferenceError_ as error:
            self.failed.append((scalar.place, (spell_path(path), str(error))))
            return Unresolved(scalar, scalar.place)
        if not _is_shown(path):
            self.values.append(value)
        return Scalar(value, scalar.place, is_from_reference=True)

    def _unresolved(self, scalar: Scalar, path: document.Path) -> Scalar:
        """Leave a reference as it is, but for the state file's path, which every command needs."""
        if path == ("state",):
            try:
                return Scalar(expand(scalar, self._state_sources), scalar.place, is_from_reference=True)
            except ReferenceError_:
                pass
        return Unresolved(scalar, scalar.place)


def _is_shown(path: document.Path) -> bool:
    """Say whether a value is there to be shown: which track, what label, which target, which file."""
    return path[0] in {"watch", "state", "alerts", "defaults", "http", "log", "poll", "delivery"}


def _validate(root: Mapping, failed: set[Place]) -> tuple[Config | None, list[Mistake]]:
    try:
        return Config.model_validate(root), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
    mistakes = [_mistake(root, detail) for detail in details]
    return None, [found for found in mistakes if found is not None and found.place not in failed]


def _mistake(root: Mapping, detail: ErrorDetails) -> Mistake | None:
    """Turn an error of pydantic into words and a place; None for a value that is not resolved."""
    location = detail["loc"]
    path = _path_in(root, location)
    words = _words(detail, path)
    match detail["type"]:
        case "extra_forbidden":
            return Mistake(place_of(root, path, at_key=True), spell_path(path), words)
        case "missing":
            parent = path[:-1]
            return Mistake(place_of(root, parent, at_key=True), spell_path(path), "is missing")
        case "union_tag_not_found":
            return Mistake(place_of(root, path, at_key=True), f"{spell_path(path)}.type", "is missing")
        case "union_tag_invalid":
            kind = value_at(root, (*path, "type"))
            if isinstance(kind, Unresolved):
                return None
            near = did_you_mean(str(kind), TYPES)
            message = f"unknown type '{document.printable(str(kind))}', expected {', '.join(TYPES)}{near}"
            return Mistake(place_of(root, (*path, "type")), f"{spell_path(path)}.type", message)
        case _:
            key_at_fault = location[-1:] == ("[key]",)
            return Mistake(place_of(root, path, at_key=key_at_fault), spell_path(path), words)


def _words(detail: ErrorDetails, path: document.Path) -> str:
    match detail["type"]:
        case "mistake":
            return detail["msg"]
        case "extra_forbidden":
            key = str(path[-1])
            if key in _LATER:
                return f"{_LATER[key]} is not in this version"
            return f"unknown key '{document.printable(key)}'{did_you_mean(key, _known_keys(detail['loc']))}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "expected a mapping"
        case "tuple_type" | "list_type":
            return "expected a list"
        case _:
            return f"cannot be read: {detail['type']}"


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    match location[:-1]:
        case ():
            model: type[Settings] = Config
        case ("targets", _, str(tag)):
            model = TYPES[tag]
        case ("watch", *_):
            model = Watch
        case (str(section), *_):
            model = _SECTIONS[section]
    return [*model.model_fields]


def _path_in(root: Mapping, location: tuple[str | int, ...]) -> document.Path:
    """Return pydantic's location without what is not in the document: union tags and ``[key]``."""
    path: document.Path = ()
    for index, step in enumerate(location):
        value = value_at(root, path)
        is_last = index == len(location) - 1
        if step == "[key]" or (isinstance(value, Scalar) and not is_last):
            continue
        if len(path) == 2 and path[0] == "targets" and step in TYPES and index == 2:
            continue
        if isinstance(value, Scalar):
            continue
        path = (*path, step)
    return path
