"""Which tracks of an account are meant: those of some models, with some words in their name or prompt.

Pure. A text is looked for as it stands, whatever case, width and white space either side uses; ``*`` in it
stands for anything in between. That is all there is to it, on purpose: no pattern can be written that takes
longer than reading the name and the prompt a few times.
"""

import unicodedata
from collections.abc import Collection, Sequence
from enum import StrEnum

from notifier.track import Track

WILDCARD = "*"
LONGEST_SOUGHT = 200
_LONGEST_READ = 10_000
"""How much of a name or a prompt is looked through."""


class Verdict(StrEnum):
    """What a filter says of a track."""

    MEANT = "meant"
    OPEN = "open"
    """The track is not made yet, and what it does not say by now may be said later."""
    NOT_MEANT = "not meant"


class Filter:
    """Made once of an entry's `models` and `match`; None lets every track through."""

    __slots__ = ("_models", "_sought")

    def __init__(self, models: Collection[str] | None, match: Sequence[str] | None) -> None:
        self._models = None if models is None else frozenset(models)
        self._sought = None if match is None else tuple(_parts(text) for text in match)

    def verdict(self, track: Track | None) -> Verdict:
        """Say whether a track is meant. None is one of which nothing was ever seen."""
        verdicts = {self._of_model(track), self._of_words(track)}
        if Verdict.NOT_MEANT in verdicts:
            return Verdict.NOT_MEANT
        if Verdict.OPEN in verdicts:
            return Verdict.NOT_MEANT if track is not None and track.is_final else Verdict.OPEN
        return Verdict.MEANT

    def _of_model(self, track: Track | None) -> Verdict:
        if self._models is None:
            return Verdict.MEANT
        model = track.text("model") if track is not None else None
        if model is None:
            return Verdict.OPEN
        return Verdict.MEANT if model in self._models else Verdict.NOT_MEANT

    def _of_words(self, track: Track | None) -> Verdict:
        if self._sought is None:
            return Verdict.MEANT
        name, prompt = (None, None) if track is None else (track.text("name"), track.text("prompt"))
        said = [_folded(text[:_LONGEST_READ]) for text in (name, prompt) if text is not None]
        if any(_is_in(parts, text) for text in said for parts in self._sought):
            return Verdict.MEANT
        # NB: a name is made up by the API and may come late; the prompt is what people know a track by
        return Verdict.OPEN if prompt is None else Verdict.NOT_MEANT


def _parts(sought: str) -> tuple[str, ...]:
    return tuple(filter(None, map(_folded, sought.split(WILDCARD))))


def _folded(text: str) -> str:
    """Return a text without what people do not see as a difference."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_in(parts: Sequence[str], text: str) -> bool:
    """Say whether the parts stand in the text one behind the other: the first place of each is the best."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True
