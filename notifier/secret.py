"""Secrets: values that show as ``***``, the references that bring them in, and the masking of text.

A reference is ``${env:NAME}``, ``${env:NAME:-default}``, ``${file:/absolute/path}`` or
``${credential:name}``; ``$$`` is a literal ``$``. See https://systemd.io/CREDENTIALS/ for the last one.
"""

import base64
import html
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from os.path import commonprefix
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from notifier.text import one_line, shorten

MASK = "***"
_SHORTEST_MASKED = 4
_SHORTEST_URL_PART = 8
_PLAIN_WORD = re.compile(r"[a-z_]{1,15}")
"""Such as ``services`` or ``thread_id``: masking it would hide more of the log than of the URL."""
_SHORTEST_DRAWN, _FEWEST_DIFFERENT = 16, 8
_WORDS = re.compile(r"[a-z_.-]+|[A-Z_.-]+|[0-9_.-]+")
"""What people write who do not draw by lot."""
_DEEPEST = 20
_LONGEST_SPELLED = 4096
_SPELLED_ONE_WAY = re.compile("[A-Za-z0-9]*")
_MOST_MARKS = 32
"""Looking for more takes longer than looking for the secrets themselves."""
_MOST_ESCAPES = 7
"""How many backslashes stand before a character that was quoted three times over."""
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
        shown = shorten(one_line(name), _LONGEST_NAME)
        match scheme:
            case "env":
                value = _without_newline(self.environment.get(name) or default or "")
                if not value:
                    raise ReferenceError_(f"the environment variable {shown} is missing or empty")
                if not _is_unicode(value):
                    raise ReferenceError_(f"the environment variable {shown} is not UTF-8 text")
                return value
            case "file":
                return _read(Path(name), f"the file {shown}")
            case _:
                directory = self.environment.get("CREDENTIALS_DIRECTORY")
                if not directory:
                    raise ReferenceError_(
                        f"there are no credentials here: $CREDENTIALS_DIRECTORY is not set, "
                        f"systemd sets it where the unit has LoadCredential={shown}:PATH"
                    )
                return _read(Path(directory, name), f"the credential {shown}")


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


def token_parts(token: str) -> Iterable[str]:
    """Yield what of useapi.net's token must not be shown: the whole, and what follows ``user:NUMBER-``."""
    yield token
    secret = token.partition("-")[2]
    if token.startswith("user:") and len(secret) >= _SHORTEST_URL_PART:
        yield secret


def is_guessable(path: str) -> bool:
    """Say whether somebody who tries could find a path: no part of it is long and looks drawn by lot."""
    return not any(
        len(part) >= _SHORTEST_DRAWN and len({*part}) >= _FEWEST_DIFFERENT and not _WORDS.fullmatch(part)
        for part in path.split("/")
    )


def url_parts(url: str) -> Iterable[str]:
    """Yield what of a secret URL must not be shown: the whole, its path and query, their long parts."""
    yield url
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    segments = (segment for segment in re.split(r"[/?&=]", target) if not _PLAIN_WORD.fullmatch(segment))
    for piece in [target, parts.path, parts.query, *segments, *_credentials(parts)]:
        if len(piece.strip("/")) >= _SHORTEST_URL_PART:
            yield piece
            yield unquote(piece)


def path_parts(path: str) -> Iterable[str]:
    """Yield what of a secret path must not be kept of what others say: the whole, and what was drawn by lot.

    The rest, such as an e-mail address, may stand there for itself.
    """
    drawn = (part for part in path.split("/") if "@" not in part and not is_guessable(part))
    return (part for part in (path, *drawn) if len(part) >= _SHORTEST_URL_PART)


def _credentials(parts: SplitResult) -> Iterable[str]:
    """Yield what a URL holds before its host, and the header that is made of it."""
    if parts.username is None:
        return
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    yield from (parts.username, parts.password or "")
    yield base64.b64encode(pair.encode("utf-8", "replace")).decode().rstrip("=")


class Masker:
    """Replaces known secrets in text by ``***``, also as servers spell them when they quote them.

    Immutable; a reload makes a new one.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= _SHORTEST_MASKED}
        self._pattern = re.compile(_any_of(sorted(known))) if known else None
        self._marks = _marks_of(known)
        self._verbatim = sorted(known, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """Return the text without any known secret."""
        if self._pattern is None or not self._is_marked(text):
            return text
        for secret in self._verbatim:  # NB: the rule, and twenty times as fast as looking for all spellings
            text = text.replace(secret, MASK)
        return self._pattern.sub(MASK, text) if self._is_marked(text) else text

    def _is_marked(self, text: str) -> bool:
        return any(mark in text for mark in self._marks)

    def __repr__(self) -> str:
        return "Masker(***)"


def _marks_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return texts of which one stands wherever a secret does, however that is spelled."""
    longest = {max(_SPELLED_ONE_WAY.findall(secret), key=len) for secret in secrets}
    if len(longest) > _MOST_MARKS:
        return ("",)
    marks: list[str] = []
    for mark in sorted(longest, key=len):
        if not any(shorter in mark for shorter in marks):
            marks.append(mark)
    return tuple(marks)


def _any_of(words: Sequence[str], depth: int = 0) -> str:
    """Return a pattern of sorted words, the longest of those that fit; what they begin with is tried once.

    Hundreds of URLs of one service differ in their ends only, and an answer is long.
    """
    if depth == _DEEPEST:
        return "|".join(map(_spelled, reversed(words)))
    branches = []
    for _, group in groupby(words, key=lambda word: word[:1]):
        alike = [*group]
        begin = commonprefix([alike[0], alike[-1]])  # noqa: RUF071 - of characters, not of steps of a path
        rests = [word[len(begin) :] for word in alike if word != begin]
        end = f"(?:{_any_of(rests, depth + 1)})" if rests else ""
        branches.append(_spelled(begin) + (f"{end}?" if end and alike[0] == begin else end))
    return "|".join(branches)


def _spelled(text: str) -> str:
    if len(text) > _LONGEST_SPELLED:
        return re.escape(text)
    return "".join(map(_spellings, text))


@lru_cache(maxsize=1024)
def _spellings(character: str) -> str:
    """Return a pattern of the ways to write a character: as it is, in a URL, in JSON and in HTML.

    Letters and digits of ASCII are written as they are everywhere.
    """
    if character.isascii() and character.isalnum():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex("u", 2).split("u")
    in_url = "".join(
        f"%(?:25){{0,3}}{_hex(byte)}" for byte in character.encode("utf-8", "surrogatepass").hex(" ").split()
    )
    in_json = "".join(rf"\\{{1,{_MOST_ESCAPES}}}u{_hex(unit)}" for unit in units)
    in_html = f"&#(?:0*{ord(character)}|[xX]0*{_hex(f'{ord(character):x}')});"
    named = html.escape(character)
    names = f"|{named}" if named != character else ""
    return rf"(?:\\{{0,{_MOST_ESCAPES}}}{re.escape(character)}|{in_url}|{in_json}|{in_html}{names})"


def _hex(digits: str) -> str:
    """Return a pattern of hexadecimal digits in either case."""
    return "".join(f"[{one}{one.upper()}]" if one.isalpha() else one for one in digits)
