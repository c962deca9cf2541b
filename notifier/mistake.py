"""A mistake in a file: where it stands, in which key, and what is wrong, in words for who wrote the file."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """A position in a file, both counted from 1."""

    line: int
    column: int


KeyPath = tuple[str | int, ...]

MOST_MISTAKES = 10_000
"""More of them are not told: nobody reads them, and they cost more memory than the file."""
_MOST_COMPARISONS = 20_000
_LONGEST_COMPARED = 100
_SECRET = re.compile(r"(https?://)(?:[^/?#@\s]*@)?([^/?#@\s]+/)\S+|(?<=whsec_)\S+")


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing wrong with a file, in words for the person who wrote it."""

    place: Place
    path: str
    message: str

    def line(self, file: str) -> str:
        """Return ``FILE:LINE:COLUMN: key.path: what is wrong``."""
        where = f"{file}:{self.place.line}:{self.place.column}: "
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


def spell_path(path: KeyPath) -> str:
    """Write a path as people read it, on one line: ``watch[0].notify``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{printable(step)}" if text else printable(step)
    return text


def printable(text: str, limit: int = 60) -> str:
    """Return foreign text fit for one line of a message: no control characters, not endless.

    Nor a secret that stands where it does not belong: of a URL only its host, of a signing secret nothing.
    """
    head = _SECRET.sub(r"\1\2…", text[: limit + _LONGEST_COMPARED])
    plain = "".join(character if character.isprintable() else "?" for character in head[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


class Suggestions:
    """Known words for unknown ones, as long as there are few: a file that is wrong throughout waits for none.

    Comparing words is slow, and thousands of names looked up among thousands would take minutes.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._names = sorted(set(known))
        self._comparisons_left = _MOST_COMPARISONS

    def near(self, word: str) -> str:
        """Return ``, did you mean 'x'?`` when a known word is near, else nothing."""
        if self._comparisons_left <= 0:
            return ""
        self._comparisons_left -= len(self._names)
        near = difflib.get_close_matches(word[:_LONGEST_COMPARED], self._names, n=1, cutoff=0.6)
        if not near:
            near = [name for name in self._names if name.lower() == word.lower()][:1]
        return f", did you mean '{printable(near[0])}'?" if near else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``, did you mean 'x'?`` when a known word is near, else nothing."""
    return Suggestions(known).near(word)
