"""From a file to a `Config`, or to every mistake in it at once.

Parses, resolves references, validates with the model and adds the cross-checks. Knows which file it reads and
what pydantic's errors mean in the words of the watchlist.
"""

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from notifier import document
from notifier.config import (
    AccountWatch,
    Callback,
    Config,
    Defaults,
    DeliverySettings,
    Http,
    Log,
    Poll,
    Useapi,
    Watch,
)
from notifier.crosscheck import cross_checks, warnings_of
from notifier.document import Mapping, Scalar, Sequence_, place_after, place_of, value_at
from notifier.mistake import MOST_MISTAKES, KeyPath, Mistake, Place, did_you_mean, printable, spell_path
from notifier.secret import ReferenceError_, Sources, check_references, expand, has_reference
from notifier.settings import Settings, Unresolved, kind_of, shown
from notifier.targets import TYPES

_MOST_SHOWN = 100
_MOST_REFERENCED = 16 * 1024 * 1024
_SECTIONS: dict[str, type[Settings]] = {
    "useapi": Useapi,
    "poll": Poll,
    "delivery": DeliverySettings,
    "defaults": Defaults,
    "http": Http,
    "callback": Callback,
    "log": Log,
}
_ENTRIES: dict[str, type[Settings]] = {"track": Watch, "account": AccountWatch}
_OF_ACCOUNTS = AccountWatch.model_fields.keys() - Watch.model_fields.keys()


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
        self.mistakes = _told(mistakes)
        self.digest = digest

    def brief(self, mask: Callable[[str], str] = str) -> str:
        """Return as many lines as people and pages want to see, and how many more there are."""
        lines = [mask(line) for line in self.lines()[:_MOST_SHOWN]]
        more = len(self.mistakes) - len(lines)
        return "\n".join([*lines, f"and {more} more: notifier check shows them all"] if more else lines)

    def lines(self) -> list[str]:
        """Return each mistake as ``FILE:LINE:COLUMN: key.path: what is wrong``."""
        return [mistake.line(self.file) for mistake in self.mistakes]


def _told(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """Return the mistakes in the file's order and, where there are too many, that there are more."""
    told = sorted(set(mistakes))
    if len(told) > MOST_MISTAKES:
        more = f"not everything that is wrong is told here: there are more than {MOST_MISTAKES} mistakes"
        told[MOST_MISTAKES:] = [Mistake(told[MOST_MISTAKES].place, "", more)]
    return tuple(told)


def digest_of(content: bytes) -> str:
    """Return what tells one content of the file from another."""
    return hashlib.sha256(content).hexdigest()


def load(file: str, *, resolve: bool = True, sources: Sources | None = None) -> Loaded:
    """Read and validate a watchlist; without `resolve`, references are judged by their form only.

    Raises InvalidConfigError with all mistakes, also when the file cannot be read.
    """
    try:
        content = document.read(Path(file))
        is_public = bool(Path(file).stat().st_mode & stat.S_IROTH)
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
    config, wrong = _validate(root, {failed.place for failed in expansion.failed})
    mistakes += [*expansion.failed, *wrong, *islice(cross_checks(root), MOST_MISTAKES + 1)]
    if mistakes or config is None:
        raise InvalidConfigError(file, mistakes, digest)
    secrets = dict.fromkeys((*expansion.values, *(config.secrets() if resolve else ())))
    return Loaded(config, digest, tuple(warnings_of(config, root, is_public=is_public)), tuple(secrets))


def _parse(content: bytes) -> tuple[Mapping, list[Mistake]]:
    start = Place(1, 1)
    if len(content) > document.LARGEST_FILE:
        raise document.BrokenDocumentError([Mistake(start, "", "is larger than 64 MiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = place_after(content[: error.start].decode("utf-8-sig"))
        raise document.BrokenDocumentError([Mistake(place, "", "is not UTF-8 text")]) from None
    root, mistakes = document.parse(text)
    if not isinstance(root, Mapping):
        message = f"expected a mapping with useapi, targets and watch, found {kind_of(root)}"
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
        self.failed: list[Mistake] = []
        self._done: set[int] = set()
        self._room = _MOST_REFERENCED

    def walk(self, value: Any, path: KeyPath = ()) -> None:
        if id(value) in self._done:
            return
        self._done.add(id(value))
        match value:
            case Mapping():
                for key, member in value.items():
                    value[key] = self._member(member, (*path, key))
            case Sequence_():
                value[:] = [self._member(member, (*path, index)) for index, member in enumerate(value)]

    def _member(self, member: Any, path: KeyPath) -> Any:
        if isinstance(member, Scalar):
            return self._scalar(member, path) if "$" in member else member
        self.walk(member, path)
        return member

    def _scalar(self, scalar: Scalar, path: KeyPath) -> Scalar:
        if not has_reference(scalar):
            return Scalar(scalar.replace("$$", "$"), scalar.place, is_plain=scalar.is_plain)
        try:
            check_references(scalar)
            if self._sources is None:
                return self._unresolved(scalar, path)
            value, parts = expand(scalar, self._sources, most=self._room)
        except ReferenceError_ as error:
            if len(self.failed) <= MOST_MISTAKES:
                self.failed.append(Mistake(scalar.place, spell_path(path), str(error)))
            return Unresolved(scalar, scalar.place)
        self._room -= sum(map(len, parts))
        if not _is_shown(path):
            self.values += [value, *parts]
        return Scalar(value, scalar.place, is_from_reference=True)

    def _unresolved(self, scalar: Scalar, path: KeyPath) -> Scalar:
        """Leave a reference as it is, but for the state file's path, which every command needs."""
        if path == ("state",):
            try:
                value, _ = expand(scalar, self._state_sources)
                return Scalar(value, scalar.place, is_from_reference=True)
            except ReferenceError_:
                pass
        return Unresolved(scalar, scalar.place)


def _is_shown(path: KeyPath) -> bool:
    """Say whether a value is there to be shown: which track, what label, which target, which file."""
    sections = {"watch", "state", "alerts", "defaults", "http", "log", "poll", "delivery"}
    return path[0] in sections or path == ("callback", "listen")


def _validate(root: Mapping, failed: set[Place]) -> tuple[Config | None, list[Mistake]]:
    """Make the settings, or say why not; places where a reference failed have been complained about."""
    try:
        return Config.model_validate(root), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True, include_input=False)
    found = (mistake for detail in details for mistake in _mistakes(root, detail))
    mistakes = [*islice((one for one in found if one.place not in failed), MOST_MISTAKES + 1)]
    if mistakes or failed:
        return None, mistakes
    return Config.model_validate(_without_unresolved_types(root)), []


def _without_unresolved_types(root: Mapping) -> dict[str, Any]:
    """Leave out the targets whose type is a reference that is not resolved: nobody knows their model."""
    targets = {
        name: target
        for name, target in root["targets"].items()
        if not isinstance(target.get("type"), Unresolved)
    }
    return {**root, "targets": targets}


def _mistakes(root: Mapping, detail: ErrorDetails) -> Iterator[Mistake]:
    """Turn an error of pydantic into words and places; nothing for a value that is not resolved."""
    location = detail["loc"]
    path = _path_in(root, location)
    match detail["type"]:
        case "union_tag_not_found" | "union_tag_invalid" if isinstance(value_at(root, path), Mapping):
            yield from _type_mistakes(root, path)
            yield from _wrong_with_every_type(root, path)
        case "missing":
            is_entry = len(path) == 3 and path[0] == "watch"
            what = "is missing, and there is no account either" if is_entry else "is missing"
            yield Mistake(place_of(root, path[:-1], at_key=True), spell_path(path), what)
        case kind:
            is_key_at_fault = kind == "extra_forbidden" or location[-1] == "[key]"
            place = place_of(root, path, at_key=is_key_at_fault)
            yield Mistake(place, spell_path(path), _words(root, detail, path))


def _type_mistakes(root: Mapping, target: KeyPath) -> Iterator[Mistake]:
    path = (*target, "type")
    kind = value_at(root, path)
    types = ", ".join(TYPES)
    match kind:
        case Unresolved():
            return
        case None:
            yield Mistake(place_of(root, target, at_key=True), spell_path(path), "is missing")
            return
        case Scalar() if not kind.is_null:
            what = "type" if kind.is_from_reference else f"type {shown(kind)}"
            message = f"unknown {what}, expected {types}{did_you_mean(kind, TYPES)}"
        case _:
            message = f"expected {types}, found {kind_of(kind)}"
    yield Mistake(place_of(root, path), spell_path(path), message)


def _wrong_with_every_type(root: Mapping, path: KeyPath) -> Iterator[Mistake]:
    """Yield what is wrong with a target whatever its type, for when that cannot be told."""
    target = value_at(root, path)
    of_types = []
    for name, model in TYPES.items():
        found: dict[tuple[Place, str], Mistake] = {}
        try:
            model.model_validate({**target, "type": name})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_context=True):
                detail["loc"] = (*path, name, *detail["loc"])
                found |= {(one.place, one.path): one for one in _mistakes(root, detail)}
        of_types.append(found)
    first, *others = of_types
    yield from (one for spot, one in first.items() if all(spot in other for other in others))


def _words(root: Mapping, detail: ErrorDetails, path: KeyPath) -> str:
    match detail["type"]:
        case "mistake":
            return detail["msg"]
        case "extra_forbidden":
            return _unknown_key(str(path[-1]), detail["loc"])
        case "model_type" | "model_attributes_type" | "dict_type" | "union_tag_not_found":
            return f"expected a mapping, found {kind_of(value_at(root, path))}"
        case "tuple_type" | "list_type":
            return f"expected a list, found {kind_of(value_at(root, path))}"
        case _:
            return f"cannot be read: {detail['type']}"


def _unknown_key(key: str, location: tuple[str | int, ...]) -> str:
    match location:
        case ("watch", _, "account", "audio_id"):
            return "an entry is about a track or about an account: make two of it"
        case ("watch", _, "track", _) if key in _OF_ACCOUNTS:
            return f"only an entry with an account has '{key}'"
        case _:
            return f"unknown key '{printable(key)}'{did_you_mean(key, _known_keys(location))}"


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    match location[:-1]:
        case ():
            model: type[Settings] = Config
        case ("targets", _, str(tag)):
            model = TYPES[tag]
        case ("watch", _, "track"):  # NB: which it is taken for when it names no account
            return ["account", *Watch.model_fields]
        case ("watch", _, str(kind)):
            model = _ENTRIES[kind]
        case (str(section), *_):
            model = _SECTIONS[section]
    return [*model.model_fields]


def _path_in(root: Mapping, location: tuple[str | int, ...]) -> KeyPath:
    """Return pydantic's location without what is not in the document.

    That is what pydantic took a target or an entry for, its mark for a key, and the steps into an entry that
    is written in its short form.
    """
    path: KeyPath = ()
    for index, step in enumerate(location):
        value = value_at(root, path)
        is_type = index == 2 and location[0] in {"targets", "watch"}
        is_there = isinstance(value, Mapping) and step in value
        is_mark = step == "[key]" and index == len(location) - 1 and not is_there
        is_in_it = isinstance(value, Mapping if isinstance(step, str) else Sequence_)
        if is_in_it and not is_type and not is_mark:
            path = (*path, step)
    return path
