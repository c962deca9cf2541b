"""Secrets: values that show as ``***``, the references that bring them in, and the masking of text.

A reference is ``${env:NAME}``, ``${env:NAME:-default}``, ``${file:/absolute/path}`` or
``${credential:name}``; ``$$`` is a literal ``$``. See https://systemd.io/CREDENTIALS/ for the last one.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from notifier.text import one_line, shorten

MASK = "***"
_SHORTEST_MASKED = 4
_SHORTEST_URL_PART = 8
_PLAIN_WORD = re.compile(r"[a-z_]{1,15}")
"""Such as ``services`` or ``thread_id``: masking it would hide more of the log than of the URL."""
_LARGEST_FILE = 65_536
_LONGEST_NAME = 200
_PIECE = re.compile(r"\$\$|\$\{([^}]*)\}|\$\{")
_FORM = re.compile(r"(env|file|credential):(.*)", re.DOTALL)
_ENV_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Secret:
    """Text that never shows itself: not in ``repr``, not in an f-string, not in a traceback's locals."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text. Call it where the text goes on the wire, nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class ReferenceError_(ValueError):  # noqa: N801, N818 - ReferenceError is a builtin
    """A reference is malformed or leads to nothing; the message names the place, never a value."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where references are looked up."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def resolve(self, scheme: str, name: str, default: str | None) -> str:
        """Return what a reference stands for, less one trailing line feed. Raises ReferenceError_."""
        match scheme:
            case "env":
                value = _without_newline(self.environment.get(name) or default or "")
                if not value:
                    raise ReferenceError_(f"the environment variable {name} is missing or empty")
                if not _is_unicode(value):
                    raise ReferenceError_(f"the environment variable {name} is not UTF-8 text")
                return value
            case "file":
                return _read(Path(name), f"the file {shorten(one_line(name), _LONGEST_NAME)}")
            case _:
                directory = self.environment.get("CREDENTIALS_DIRECTORY")
                if not directory:
                    raise ReferenceError_(
                        f"there are no credentials here: $CREDENTIALS_DIRECTORY is not set, "
                        f"systemd sets it where the unit has LoadCredential={name}:PATH"
                    )
                return _read(Path(directory, name), f"the credential {name}")


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ReferenceError_(f"{what} cannot be read: {error.strerror or 'an error'}") from None
    if len(content) > _LARGEST_FILE:
        raise ReferenceError_(f"{what} is larger than {_LARGEST_FILE // 1024} KiB")
    try:
        text = _without_newline(content.decode())
    except UnicodeDecodeError:
        raise ReferenceError_(f"{what} is not UTF-8 text") from None
    if not text:
        raise ReferenceError_(f"{what} is empty")
    return text


def _is_unicode(text: str) -> bool:
    """Say whether the text came from UTF-8; Python keeps other bytes of the environment as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _without_newline(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def has_reference(text: str) -> bool:
    """Say whether the text holds a reference, well formed or not."""
    return any(found[0] != "$$" for found in _PIECE.finditer(text))


def check_references(text: str) -> None:
    """Judge the references of a text by their form. Raises ReferenceError_ for the first bad one."""
    _replace(text, lambda *_: "")


def expand(text: str, sources: Sources, *, most: float = math.inf) -> tuple[str, tuple[str, ...]]:
    """Replace every reference by its value, once, and ``$$`` by ``$``.

    Returns the text and the values that came into it. Raises ReferenceError_, also when they are more than
    `most` characters together: a few lines could name a large file a million times.
    """
    values: list[str] = []
    room = most

    def resolve(scheme: str, name: str, default: str | None) -> str:
        nonlocal room
        values.append(sources.resolve(scheme, name, default))
        room -= len(values[-1])
        if room < 0:
            raise ReferenceError_("the references of this file bring in more than it may hold")
        return values[-1]

    return _replace(text, resolve), tuple(values)


def _replace(text: str, resolve: Callable[[str, str, str | None], str]) -> str:
    def one(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return resolve(*_parse(found[1]))

    return _PIECE.sub(one, text)


def _parse(inside: str | None) -> tuple[str, str, str | None]:
    """Split the inside of ``${…}`` into scheme, name and default."""
    if inside is None:
        raise ReferenceError_("a '${' is never closed; write '$$' for a literal '$'")
    form = _FORM.fullmatch(inside)
    if not form:
        raise ReferenceError_(
            "'${' starts a reference: write ${env:NAME}, ${file:/path} or ${credential:name}, "
            "or '$$' for a literal '$'"
        )
    if "${" in form[2].replace("$$", ""):
        raise ReferenceError_("a reference holds another one: they cannot be nested")
    scheme, name = form[1], form[2].replace("$$", "$")
    match scheme:
        case "env":
            parts = _ENV_NAME.fullmatch(name)
            if not parts:
                raise ReferenceError_("${env:…} wants the name of an environment variable")
            return scheme, parts[1], parts[2]
        case "file":
            if not name.startswith("/") or "\0" in name:
                raise ReferenceError_("${file:…} wants an absolute path")
        case _:
            if not _CREDENTIAL_NAME.fullmatch(name) or name in {".", ".."}:
                raise ReferenceError_("${credential:…} wants a name of letters, digits, '.', '_' and '-'")
    return scheme, name, None


def url_parts(url: str) -> Iterable[str]:
    """Yield what of a secret URL must not be shown: the whole, its path and query, their long parts."""
    yield url
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    segments = (segment for segment in re.split(r"[/?&=]", target) if not _PLAIN_WORD.fullmatch(segment))
    for piece in [target, parts.path, parts.query, parts.password or "", *segments]:
        if len(piece.strip("/")) >= _SHORTEST_URL_PART:
            yield piece
            yield unquote(piece)


class Masker:
    """Replaces known secrets in text by ``***``. Immutable; a reload makes a new one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= _SHORTEST_MASKED}
        longest_first = sorted(known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def mask(self, text: str) -> str:
        """Return the text without any known secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return "Masker(***)"
