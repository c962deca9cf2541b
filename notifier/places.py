"""Where the tracks of one account stand in its list, and which requests tell of many of them at once.

Pure. A list has the newest first, so that whatever is made moves all that stands below it by as much: places
are kept as if counted from the far end, which does not move, and what moved is known from the tracks that a
page shows. A track that was never seen in the list is looked for at its top first, and deeper each time.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_MARGIN = 5
"""How far above the first track a page begins: others may have been deleted since."""
_FEWEST = 2
"""How many tracks a page is taken to hold at the least."""
_DEEPEST = 1000
"""How far down the list a track is looked for, beside the places of the others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The fewest requests for some tracks: pages of a list, and tracks by themselves."""

    pages: Mapping[int, Sequence[str]]
    """Where each page begins, and the tracks that it is to show; from the top downwards."""
    alone: frozenset[str]

    def __len__(self) -> int:
        return len(self.pages) + len(self.alone)


def plan(due: Mapping[str, int | None], *, size: int, is_crowded: Callable[[int, int], bool]) -> Plan:
    """Return how to read tracks that stand at these places of a list, None for those that do not stand there.

    A page from the first track that no page has yet is never more than reading that one alone, and the fewest
    pages begin each where the one before ends. One track alone is read by itself, unless others that wait
    stand on a page from `offset` to `end` (`is_crowded`): they are told of for nothing.
    """
    standing = sorted((place, audio_id) for audio_id, place in due.items() if place is not None)
    alone = {audio_id for audio_id, place in due.items() if place is None}
    pages: dict[int, Sequence[str]] = {}
    index = 0
    while index < len(standing):
        first, audio_id = standing[index]
        behind = bisect_left(standing, (first + size, ""))
        offset = _begin(first, standing[behind - 1][0], size)
        if behind - index > 1 or is_crowded(offset, offset + size):
            pages[offset] = [audio_id for _, audio_id in standing[index:behind]]
        else:
            alone.add(audio_id)
        index = behind
    return Plan(pages, frozenset(alone))


def _begin(first: int, last: int, size: int) -> int:
    """Return where to begin a page that is to show these, with room on both sides for what has moved."""
    if last < size:
        return 0
    return first - min(_MARGIN, size - (last - first + 1), first)


class Places:
    """Where the tracks of one account stand in its list, as far as its pages have shown."""

    def __init__(self, size: int) -> None:
        self.size = size
        """How many entries a page holds."""
        self._moved = 0
        """By how many entries the list has grown at its top."""
        self._fixed: dict[str, int | None] = {}
        """Places but for what the list has grown by; None for the absent ones."""
        self._absent: set[str] = set()
        """Tracks that the list does not hold, as far as it was looked through."""
        self._shown: set[str] = set()
        """Tracks that a page has shown. Another's place is where to look for it."""
        self._crowd: Counter[int] = Counter()
        """How many stand in each stretch of the list that is as long as a page."""

    def of(self, audio_id: str) -> int | None:
        """Return where a track is to be looked for; None when it is not in the list."""
        fixed = self._fixed.get(audio_id, -self._moved)
        return None if fixed is None else max(0, fixed + self._moved)

    def plan(self, due: Iterable[str], *, waiting: int) -> Plan:
        """Return the fewest requests for some tracks while so many are unfinished, these among them."""
        places = {audio_id: self.of(audio_id) for audio_id in due}
        return plan(
            places, size=self.size, is_crowded=lambda begin, end: self._holds(begin, end, waiting) > 1
        )

    def _holds(self, begin: int, end: int, waiting: int) -> int:
        """Return about how many unfinished tracks stand there."""
        first, last = ((place - self._moved) // self.size for place in (begin, end - 1))
        never_looked_for = waiting - len(self._fixed) if begin == 0 else 0
        return never_looked_for + sum(self._crowd[stretch] for stretch in range(first, last + 1))

    def requests(self, waiting: int) -> int:
        """Return about how many requests all of so many unfinished tracks take."""
        absent = len(self._absent)
        return absent + max(len(self._crowd), -(-(waiting - absent) // self.size))

    def found(self, at: Mapping[str, int]) -> None:
        """Take up where a page showed unfinished tracks."""
        for audio_id, place in sorted(at.items(), key=lambda each: -each[1]):
            if audio_id in self._shown:
                self._moved += place - (self.of(audio_id) or 0)
                break
        for audio_id, place in at.items():
            self._set(audio_id, place)
            self._shown.add(audio_id)

    def resize(self, size: int) -> None:
        """Take up that a page held so many entries, by halves where that is few: one may be short for once.

        NB: if a page is taken to hold but one, none is worth a request and shows that it holds more.
        """
        size = max(size, self.size // 2, _FEWEST)
        if size != self.size:
            self.size = size
            places = (fixed for fixed in self._fixed.values() if fixed is not None)
            self._crowd = Counter(place // size for place in places)

    def missed(self, audio_id: str, end: int | None) -> None:
        """Take up that a page did not show a track which it should have; it ended there, or was the last.

        It is looked for further down, where whatever was made meanwhile has moved it to.
        """
        self._shown.discard(audio_id)
        self._set(audio_id, None if end is None or end >= _DEEPEST + len(self._fixed) else end)

    def look_again(self) -> None:
        """Look for the tracks that the list does not hold from its top once more."""
        for audio_id in [*self._absent]:
            self.forget(audio_id)

    def forget(self, audio_id: str) -> None:
        """Know nothing of a track any more."""
        self._set(audio_id, None)
        del self._fixed[audio_id]
        self._absent.discard(audio_id)
        self._shown.discard(audio_id)

    def _set(self, audio_id: str, place: int | None) -> None:
        before = self._fixed.get(audio_id)
        if before is not None:
            self._crowd[before // self.size] -= 1
            if not self._crowd[before // self.size]:
                del self._crowd[before // self.size]
        if place is None:
            self._fixed[audio_id] = None
            self._absent.add(audio_id)
        else:
            self._fixed[audio_id] = fixed = place - self._moved
            self._absent.discard(audio_id)
            self._crowd[fixed // self.size] += 1
