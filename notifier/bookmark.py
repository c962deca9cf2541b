"""How far an account's list is known, and which of its tracks are new: all of discovery, as pure functions.

A list comes in sheets, newest first, and is never still: tracks appear and go between two requests, many may
have appeared while nobody looked, and the order is no promise. So a bookmark is no line in the list but the
names that stood at its top, and a look reads on until it stands on them. Where that takes too long, the gap
between the top and what is known stays in the bookmark, and the next look goes on from there.

Where the whole list is known, all else is new, but for what ended long ago: a list that was empty for once
shows all of it again. Otherwise what is above something known has appeared since, and what is below is old,
unless it says that it was made since. What was made more than a day before anybody looked is old wherever it
stands: a list that is sorted by the last change moves old tracks up. Knows no clock, no network and no store.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

MOST_KNOWN = 300
"""How many names a bookmark holds."""
MARGIN = 10
"""How many known tracks in a row are the known part of the list, and not one that was moved up."""
OVERLAP = 5
"""How many tracks two sheets share, lest one slips through when others above it are deleted in between."""
_MOST_HELD = 2_000
_SLACK = timedelta(days=1)
"""How late a track may appear in the list, and how far the API's idea of the hour may be off."""
_STEP = timedelta(hours=1)
_TICK = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Item:
    """A track as it stands in the list."""

    audio_id: str
    is_meant: bool
    """Whether it is of a kind that is followed at all."""
    is_final: bool
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A part of the list, from an offset on. `next_offset` is None for the last one."""

    offset: int
    items: Sequence[Item]
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A look that has not come down to what is known yet."""

    seen: tuple[str, ...] = ()
    """What it has seen, from the top, as far as a bookmark takes."""
    tail: tuple[str, ...] = ()
    """What it has seen last; the next sheet has to share some of it."""
    offset: int = 0
    """Where it goes on."""
    held: tuple[str, ...] = ()
    """What is new if something known comes below, and old otherwise."""
    is_first: bool = False
    """Whether nobody has looked before: then what is finished is not told, and what is not is followed."""
    has_met: bool = False
    """Whether it has seen something known."""
    is_strict: bool = True
    """Whether the next sheet has to share something with the last one."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a list is known."""

    since: datetime
    """What was made before, by the API's clock, has been dealt with."""
    known: tuple[str, ...] = ()
    is_whole: bool = False
    """Whether `known` was all of the list, so that whatever else comes is new if it is not long past."""
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a sheet has told: the tracks to follow, how far the list is known now, and where to read on.

    `then` is None when the look is at its end. A track may be found again that was found before.
    """

    bookmark: Bookmark | None
    found: tuple[str, ...] = ()
    then: int | None = None


def read(bookmark: Bookmark | None, sheet: Sheet, *, now: datetime) -> Step:
    """Take a sheet in; `now` is the API's. One that does not go on where the look was changes nothing."""
    if bookmark is not None and _is_of_another(bookmark, sheet):
        bookmark = None
    if bookmark is None:
        if sheet.offset:
            return Step(None, then=0)
        bookmark = Bookmark(since=_after_all(sheet, now), gap=Gap(is_first=True))
    if bookmark.gap is None:
        if sheet.offset or _is_all_known(bookmark, sheet):
            return Step(bookmark)
        bookmark = replace(bookmark, gap=Gap())
    before = bookmark.gap or Gap()
    gap = _joined(before, sheet)
    return _back(bookmark, before, sheet) if gap is None else _taken(bookmark, gap, sheet)


def raised(bookmark: Bookmark, sheet: Sheet, *, now: datetime) -> Bookmark:
    """Return a bookmark at rest that takes for dealt with what is a day older than the top of the list."""
    since = _after_all(sheet, now) - _SLACK
    if bookmark.gap is not None or sheet.offset or since - bookmark.since < _STEP:
        return bookmark
    return replace(bookmark, since=since)


def _after_all(sheet: Sheet, now: datetime) -> datetime:
    """Return a moment by which all of a sheet was made, however wrong one of the two clocks is."""
    made = [item.created_at for item in sheet.items if item.created_at is not None]
    return min(now, max(made, default=now) + _TICK)


def _is_of_another(bookmark: Bookmark, sheet: Sheet) -> bool:
    """Say whether the list is another subscription's: with another token every name in it is another."""
    users = {_user(item.audio_id) for item in sheet.items}
    return bool(users and bookmark.known) and users.isdisjoint(map(_user, bookmark.known))


def _user(audio_id: str) -> str:
    return audio_id.partition("-pixverse:")[0]


def _is_all_known(bookmark: Bookmark, sheet: Sheet) -> bool:
    """Say whether the top of the list is as it was, so that there is nothing to learn from it."""
    is_news = sheet.next_offset is None and not bookmark.is_whole
    return not is_news and {item.audio_id for item in sheet.items} <= {*bookmark.known}


def _joined(gap: Gap, sheet: Sheet) -> Gap | None:
    """Return the look with which a sheet goes on; None when it is another part of the list."""
    names = {item.audio_id for item in sheet.items}
    if sheet.offset == 0:
        # NB: by its end; what was moved to the top may be followed by more new ones than a sheet takes
        is_same = all(item.audio_id in gap.seen for item in sheet.items[-MARGIN:])
        return gap if is_same else Gap(is_first=gap.is_first)
    is_apart = gap.is_strict and bool(gap.tail) and names.isdisjoint(gap.tail)
    return None if sheet.offset > gap.offset or is_apart else gap


def _back(bookmark: Bookmark, gap: Gap, sheet: Sheet) -> Step:
    """Go back by a sheet when tracks were deleted, so that what is now at this place was not meant."""
    if sheet.offset > gap.offset:
        return Step(bookmark, then=_next(gap.offset, 0))
    back = max(0, sheet.offset - max(len(sheet.items), OVERLAP))
    return Step(replace(bookmark, gap=replace(gap, offset=back, is_strict=False)), then=back)


def _next(offset: int, behind: int) -> int:
    return offset - OVERLAP if offset - OVERLAP > behind else offset


def _taken(bookmark: Bookmark, gap: Gap, sheet: Sheet) -> Step:
    """Take in a sheet that goes on where the look was, or stands above it."""
    known = frozenset(bookmark.known)
    is_met = _lowest(sheet, known - {*gap.seen, *gap.tail}) >= 0
    # NB: at the top also what this look has seen is of before
    lowest = _lowest(sheet, known | frozenset(gap.seen if sheet.offset == 0 else ()))
    found, held = ([*gap.held], []) if is_met else ([], [*gap.held])
    for index, item in _unseen(gap, known, sheet):
        match _is_new(bookmark, item, is_above=index < lowest, is_first=gap.is_first):
            case True:
                found.append(item.audio_id)
            case None:
                held.append(item.audio_id)
    kept = replace(gap, has_met=gap.has_met or is_met, held=tuple(islice(held, _MOST_HELD)))
    after = _grown(kept, sheet)
    if _is_at_end(bookmark, after, known, sheet):
        return Step(_closed(bookmark, after, sheet), tuple(found))
    return Step(replace(bookmark, gap=after), tuple(found), _next(after.offset, sheet.offset))


def _lowest(sheet: Sheet, names: Collection[str]) -> int:
    """Return how far down the last of some tracks stands; -1 for none of them."""
    return max((index for index, item in enumerate(sheet.items) if item.audio_id in names), default=-1)


def _unseen(gap: Gap, known: Collection[str], sheet: Sheet) -> Iterable[tuple[int, Item]]:
    """Yield what is followed if it is new, with its place on the sheet."""
    dealt_with = {*gap.seen, *gap.held}
    for index, item in enumerate(sheet.items):
        if item.is_meant and item.audio_id not in known and item.audio_id not in dealt_with:
            yield index, item


def _is_new(bookmark: Bookmark, item: Item, *, is_above: bool, is_first: bool) -> bool | None:
    """Say whether a track is to be followed; None when what is below it has to tell."""
    made = item.created_at
    is_long_past = made is not None and made < bookmark.since - _SLACK
    if bookmark.is_whole:
        return not (is_long_past and item.is_final)
    if is_first and (is_long_past or not is_above):
        return not item.is_final
    if is_long_past:
        return False
    is_made_since = made is not None and made >= bookmark.since
    return True if is_above or is_made_since else None


def _grown(gap: Gap, sheet: Sheet) -> Gap:
    """Return the look with a sheet more behind it."""
    names = tuple(item.audio_id for item in sheet.items)
    fresh = sum(name not in gap.seen for name in names)
    # NB: what has come above the rest since has moved it down
    offset = sheet.next_offset or sheet.offset
    is_behind = sheet.offset == 0 and gap.offset + fresh > offset
    seen = (*names, *gap.seen) if sheet.offset == 0 else (*gap.seen, *names)
    return replace(
        gap,
        seen=tuple(islice(dict.fromkeys(seen), MOST_KNOWN + 1)),
        tail=gap.tail if is_behind else names or gap.tail,
        offset=gap.offset + fresh if is_behind else offset,
        is_strict=True,
    )


def _is_at_end(bookmark: Bookmark, gap: Gap, known: Collection[str], sheet: Sheet) -> bool:
    """Say whether nothing new is to be expected below a sheet."""
    if sheet.next_offset is None:
        return True
    if not sheet.items or gap.offset != sheet.next_offset:
        return False
    if gap.is_first:
        return not any(item.is_meant and not item.is_final for item in sheet.items)
    return gap.has_met and all(_is_old(bookmark, known, item) for item in sheet.items[-MARGIN:])


def _is_old(bookmark: Bookmark, known: Collection[str], item: Item) -> bool:
    is_dated = item.created_at is not None and item.created_at < bookmark.since
    return item.audio_id in known or is_dated


def _closed(bookmark: Bookmark, gap: Gap, sheet: Sheet) -> Bookmark:
    """Return the bookmark of a look that is at its end."""
    is_whole = sheet.next_offset is None
    names = gap.seen if is_whole else tuple(dict.fromkeys((*gap.seen, *bookmark.known)))
    is_whole = (is_whole or bookmark.is_whole) and len(names) <= MOST_KNOWN
    return replace(bookmark, known=names[:MOST_KNOWN], is_whole=is_whole, gap=None)
