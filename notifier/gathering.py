"""Turns of one account taken together: a page of its list tells of many tracks with one request.

Stands before the poller, which reads a track by itself when that takes no more requests, when no page held
it, and when the list is of no use. Whatever is due while a turn waits for gates and pace is answered with it;
nobody waits for anybody else to become due. A list never says that a track is missing, and what it says
oddly is told only when the track itself says so, too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random

import structlog

from notifier.admission import Admission, Passages
from notifier.clock import Clock
from notifier.places import Places
from notifier.poller import Poller
from notifier.repetition import Repetition
from notifier.track import Track
from notifier.transition import Sighting
from notifier.trust import Trust, contradicts, is_doubtful
from notifier.upstream import Upstream
from notifier.useapi import (
    PAGE_SIZE,
    NotFound,
    Page,
    PageReading,
    Reading,
    Refused,
    Trouble,
    Unlistable,
    account_of,
)
from notifier.watched import Watched

_COMPARED_EVERY = 10
"""After how many gatherings one of the tracks that a list told of is asked itself."""
_SEARCHED_AFTER = 8
"""After how many gatherings tracks that the list lacked are looked for again; then after twice as many."""

_SEARCHED_FOR = 4
"""How many tracks whose place nobody knows are worth a further page at once."""
_PROVEN_AFTER = 20
"""After how many good answers a failure of the list counts as one of the API again."""
_FEWEST = 2
"""A list tells no more of one track than the track does."""

Heard = Callable[[str, Page], Awaitable[None]]
"""What is called with an account and a page of its list that was read."""

log = structlog.get_logger()


async def _nobody(_account: str, _page: Page) -> None:
    return


def _is_suspect(watch: Watched) -> bool:
    return watch.is_suspect


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a list said of a track that is asked itself, too."""

    listed: Track
    before: Sighting | None
    at: datetime
    """When the page was asked for, by the API's clock."""


@dataclass(slots=True, eq=False)
class _Group:
    """Turns of one account that are answered together."""

    due: float
    """When the first of them was."""
    left: dict[str, Watched] = field(default_factory=dict)
    """Those that have no answer yet."""
    dues: dict[str, float] = field(default_factory=dict)
    joined: dict[str, float] = field(default_factory=dict)
    """When each of them began to wait."""
    told: list[tuple[Watched, _Claim]] = field(default_factory=list)
    """Those that a page has told of, and what it said."""
    claims: dict[str, _Claim] = field(default_factory=dict)
    """What was said of those that are to be asked themselves."""
    read: set[int] = field(default_factory=set)
    """Where the pages began that were read."""
    top: str | None = None
    """The first track of the list, if its first page was read."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    flight: asyncio.Lock | None = None
    """What it holds while it reads the list."""
    alone: Watched | None = None
    """One that was read by itself, be it by the turn of another one."""
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nothing is read any more for anybody but by their own turns."""

    def join(self, watch: Watched, due: float, now: float) -> None:
        """Let a watch be answered with the others."""
        self.left[watch.audio_id] = watch
        self.dues[watch.audio_id] = due
        self.joined[watch.audio_id] = now

    def let_go(self) -> None:
        """Let those go that were told of by what others asked for while they waited."""
        for audio_id, watch in [*self.left.items()]:
            if watch.seen_at >= self.joined[audio_id]:
                del self.left[audio_id]

    def part(self) -> None:
        """Let each of those that are left be read by itself now, and others read the list."""
        if self.flight is not None:
            self.flight.release()
            self.flight = None
        self.over.set()

    def is_wanted(self) -> bool:
        """Say whether anybody still waits for an answer."""
        return any(watch.is_watched for watch in self.left.values())


@dataclass(slots=True, eq=False)
class _List:
    """The list of an account, and what is remembered of it."""

    trust: Trust
    places: Places = field(default_factory=lambda: Places(PAGE_SIZE))
    flight: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever reads the list: one at a time."""
    waiting: _Group | None = None
    """Turns that have not been planned yet, so that others may join."""
    complaint: Repetition = field(default_factory=Repetition)
    blamed_at: int | None = None
    """How many requests had succeeded when the list last failed as the API does, or None when it did not."""
    is_suspect: bool = False
    """Whether the last request for it failed so."""
    well_in_a_row: int = 0
    """How many requests for it have succeeded since."""
    gatherings: int = 0
    searched_at: int = _SEARCHED_AFTER
    """At which gathering tracks that the list did not hold are looked for next."""
    compared: dict[str, int] = field(default_factory=dict)
    """In which gathering a track that the list tells of was last asked itself."""


@dataclass(slots=True, eq=False)
class _Room:
    """An account: its unfinished watches and, once there are several or somebody has looked, its list."""

    account: str
    watches: dict[str, Watched] = field(default_factory=dict)
    list: _List | None = None
    requests: int = 0
    """How many requests a turn of all its watches takes, about."""


@dataclass(frozen=True, slots=True)
class _Alone:
    """The first request of a group was for one track."""

    watch: Watched
    reading: Reading


@dataclass(frozen=True, slots=True)
class _Pages:
    """A request was for a page, on which some tracks were expected; others are to be read, too."""

    expected: Sequence[str]
    reading: PageReading
    further: Sequence[tuple[int, Sequence[str]]]


class Gathering:
    """Takes the turns of all watches; `enter` each that is unfinished. Used from one event loop."""

    def __init__(
        self,
        poller: Poller,
        *,
        upstream: Upstream,
        admission: Admission,
        clock: Clock,
        rng: Random,
        is_on: bool = True,
    ) -> None:
        self.heard: Heard = _nobody
        """What is called with each page that is read, whoever asked for it, before its tracks are told.

        A watch that enters meanwhile is told of by the same page. It must not look at the list itself.
        """
        self.is_followed: Callable[[str], bool] = lambda _account: False
        """Says of which accounts somebody looks at the list though nothing of them is watched."""
        self.requests = 0
        """How many requests a turn of all unfinished watches takes, about."""
        self._poller = poller
        self._admission = admission
        self._upstream = upstream
        self._clock = clock
        self._rng = rng
        self._is_on = is_on
        self._rooms: dict[str, _Room] = {}

    def switch(self, *, is_on: bool) -> None:
        """Read lists in place of tracks from now on, or do not."""
        if is_on is not self._is_on:
            self._is_on = is_on
            for room in self._rooms.values():
                self._count(room)

    def enter(self, watch: Watched) -> None:
        """Let a watch be told of by its account's list."""
        room = self._room(account_of(watch.audio_id))
        room.watches[watch.audio_id] = watch
        self._count(room)

    def leave(self, watch: Watched) -> None:
        """Forget a watch that has ended or is watched no more. No error when it never entered.

        NB: another one of the same track stays, which has returned while a turn of this one was under way.
        """
        room = self._rooms.get(account_of(watch.audio_id))
        if room is None or room.watches.get(watch.audio_id) is not watch:
            return
        del room.watches[watch.audio_id]
        if room.list is not None:
            room.list.places.forget(watch.audio_id)
            room.list.compared.pop(watch.audio_id, None)
        self._count(room)
        self._close(room)

    def unfinished(self, account: str) -> int:
        """Return how many watches of an account are unfinished."""
        room = self._rooms.get(account)
        return 0 if room is None else len(room.watches)

    def _room(self, account: str) -> _Room:
        room = self._rooms.get(account)
        if room is None:
            room = self._rooms[account] = _Room(account)
        return room

    def _close(self, room: _Room) -> None:
        """Forget an account of which nothing is watched.

        NB: another room stays, which its tracks were given that came after this one had been forgotten.
        """
        is_in_use = room.list is not None and room.list.flight.locked()
        is_left = not room.watches and not is_in_use and not self.is_followed(room.account)
        if is_left and self._rooms.get(room.account) is room:
            del self._rooms[room.account]

    def _list(self, room: _Room) -> _List:
        if room.list is None:
            room.list = _List(Trust(self._rng))
        return room.list

    def _count(self, room: _Room) -> None:
        count = len(room.watches)
        requests = self._list(room).places.requests(count) if self._is_of_use(room) else count
        self.requests += requests - room.requests
        room.requests = requests

    def _waiting(self, room: _Room) -> int:
        """Return for how many a page is of use: for whoever looks at the list for its own sake, too."""
        return len(room.watches) + (1 if room.watches and self.is_followed(room.account) else 0)

    def _is_of_use(self, room: _Room) -> bool:
        """Say whether the list of an account may be read in place of its tracks."""
        if not self._is_on or self._waiting(room) < _FEWEST:
            return False
        known = self._list(room)
        # NB: after a failure of the API on a list it is a track that shows whether the API is well again
        is_cleared = known.blamed_at is None or self._upstream.successes > known.blamed_at
        return is_cleared and known.trust.holds(self._clock.monotonic())

    def is_listed(self, account: str) -> bool:
        """Say whether the list of an account may tell of its tracks, as far as is known of it."""
        room = self._rooms.get(account)
        return room is None or room.list is None or room.list.trust.holds(self._clock.monotonic())

    async def turn(self, watch: Watched, *, lateness: float = 0.0) -> None:
        """Learn how a watch's track is, unless it is not to be read now. Raises nothing but bugs."""
        if not self._poller.is_to_be_read(watch):
            return
        due = self._clock.monotonic() - lateness
        room = self._rooms.get(account_of(watch.audio_id))
        if room is not None and self._is_of_use(room):
            await self._together(room, self._list(room), watch, due)
        else:
            await self._poller.read(watch, due=due)
        if watch.is_final:
            self.leave(watch)
        if room is not None:
            self._close(room)

    async def look(
        self, account: str, offset: int = 0, *, is_wanted: Callable[[], bool] = _always
    ) -> PageReading | None:
        """Read a page of an account's list now, as far as gates and pace allow; None when they do not.

        Whatever it says of watched tracks is told. Waits while the API is not to be asked and nobody else is
        to ask first, as long as it is wanted.
        """
        room = self._room(account)
        known = self._list(room)
        try:
            passing = self._admission.passing(account, is_wanted, is_suspect=known.is_suspect)
            async with known.flight, passing as passages:
                if passages is None:
                    return None
                ask = partial(self._poller.ask_page, account, offset)
                asked = await self._admission.paced(passages, is_wanted, ask)
                if asked is None:
                    return None
                at, reading = asked
                await self._take(room, _Group(due=at), passages, reading, at=at)
                return reading
        finally:
            self._close(room)

    async def _together(self, room: _Room, known: _List, watch: Watched, due: float) -> None:
        """Take a turn with those that wait just now, or as the first one, whom others may join."""
        group = known.waiting
        if group is None:
            group = known.waiting = _Group(due)
            group.join(watch, due, self._clock.monotonic())
            try:
                await self._lead(room, group)
            finally:
                self._set_out(known, group)
                group.part()
                group.landed.set()
        elif self._upstream.is_closed(room.account):
            # NB: a page that the probe comes back with tells of it, too; only a suspect's place is taken
            await self._poller.read(watch, due=due)
            return
        else:
            group.join(watch, due, self._clock.monotonic())
            await group.over.wait()
            if group.alone is watch:
                await group.landed.wait()
        if watch.audio_id in group.left:
            reading = await self._poller.read(watch, due=due, keeps_phase=self._is_of_use(room))
            self._compare(room, group.claims.get(watch.audio_id), reading)

    def _set_out(self, known: _List, group: _Group) -> None:
        """Let nobody join a group any more."""
        if known.waiting is group:
            known.waiting = None

    async def _lead(self, room: _Room, group: _Group) -> None:
        """Send the fewest requests that tell of a group, but for those that follow for tracks alone."""
        flight = self._list(room).flight
        await flight.acquire()
        group.flight = flight
        group.let_go()
        if group.left:
            await self._send(room, group)
        self._count(room)

    async def _send(self, room: _Room, group: _Group) -> None:
        is_suspect = all(map(_is_suspect, group.left.values()))
        passing = self._admission.passing(room.account, group.is_wanted, is_suspect=is_suspect)
        async with passing as passages:
            if passages is None:
                group.left.clear()
                return
            await asyncio.sleep(0)  # NB: what is due at the same moment has its turn right behind this one
            asked = await self._admission.paced(passages, group.is_wanted, partial(self._first, room, group))
            if asked is None:
                group.left.clear()
                return
            at, answered = asked
            if isinstance(answered, _Alone):
                watch = answered.watch
                due = group.dues[watch.audio_id]
                await self._poller.take(watch, answered.reading, passages, phase=due, at=at)
            else:
                await self._follow(room, group, passages, (at, answered))

    async def _first(self, room: _Room, group: _Group) -> _Alone | _Pages:
        """Send the first request of a group, now that it is known who is in it."""
        known = self._list(room)
        self._set_out(known, group)
        known.gatherings += 1
        if known.gatherings == known.searched_at:
            known.searched_at *= 2
            known.places.look_again()
        pages = known.places.plan(group.left, waiting=self._waiting(room)).pages
        if pages:
            return await self._page(room, group, [*pages.items()])
        watch = self._take_one(room, group)
        return _Alone(watch, await self._poller.ask(watch, group.dues[watch.audio_id]))

    def _take_one(self, room: _Room, group: _Group) -> Watched:
        """Return the watch to read by itself; the others wait for it only if it is to open the gate."""
        watches = [watch for watch in group.left.values() if watch.is_watched]
        is_probe = self._upstream.is_closed(room.account)
        watch = min(watches, key=_is_suspect) if is_probe else watches[0]
        del group.left[watch.audio_id]
        group.alone = watch
        if not is_probe:
            group.part()
        return watch

    async def _page(self, room: _Room, group: _Group, pages: Sequence[tuple[int, Sequence[str]]]) -> _Pages:
        """Send the request for the first of some pages."""
        (offset, expected), *further = pages
        group.read.add(offset)
        return _Pages(expected, await self._poller.ask_page(room.account, offset), further)

    async def _follow(
        self, room: _Room, group: _Group, passages: Passages, asked: tuple[float, _Pages]
    ) -> None:
        """Take up a page and read further ones, also deeper down for tracks whose place nobody knows."""
        searches = len(group.left) // _SEARCHED_FOR
        next_one: tuple[float, _Pages] | None = asked
        while next_one is not None:
            at, pages = next_one
            if not await self._take(room, group, passages, pages.reading, at=at):
                return
            self._note_missed(room, group, pages)
            further = pages.further
            if not further:
                further = self._search(room, group)[:searches]
                searches -= len(further)
            if not further:
                self._choose_one_to_compare(room, group)
                return
            ask = partial(self._page, room, group, further)
            next_one = await self._admission.paced(passages, group.is_wanted, ask)

    def _note_missed(self, room: _Room, group: _Group, pages: _Pages) -> None:
        """Take up which tracks a page should have shown and has not."""
        if not isinstance(pages.reading, Page):
            return
        places, end = self._list(room).places, pages.reading.next_offset
        for audio_id in pages.expected:
            is_sought = audio_id in room.watches and audio_id in group.left and audio_id not in group.claims
            if is_sought and (end is None or (places.of(audio_id) or 0) < end):
                places.missed(audio_id, end)
        if end is not None:  # NB: the vendor may give fewer than it is asked for
            places.resize(end - pages.reading.offset)

    def _search(self, room: _Room, group: _Group) -> list[tuple[int, Sequence[str]]]:
        """Return the pages that may pay for those whom no page has told of."""
        sought = group.left.keys() - group.claims.keys()
        pages = self._list(room).places.plan(sought, waiting=self._waiting(room)).pages
        return [(offset, expected) for offset, expected in pages.items() if offset not in group.read]

    async def _take(
        self, room: _Room, group: _Group, passages: Passages, reading: PageReading, *, at: float
    ) -> bool:
        """Draw the consequences of a read of the list; False when the list is not to be read on."""
        known = self._list(room)
        if isinstance(reading, Refused):
            await self._refused(room, known, reading, passages)
            return False
        known.is_suspect = False
        known.well_in_a_row += 1
        if known.well_in_a_row >= _PROVEN_AFTER:
            known.blamed_at = None
        await self._upstream.succeeded(room.account, passages)
        if isinstance(reading, Page) and not self._is_the_top_again(group, reading):
            self._well(room, known)
            await self._hear(room, group, reading, at)
            return True
        reason = reading.reason if isinstance(reading, Unlistable) else "it shows its first page again"
        self._leave_alone(room, reason)
        return False

    def _is_the_top_again(self, group: _Group, page: Page) -> bool:
        """Say whether the list has shown its beginning although it was asked for what comes further down."""
        first = page.entries[0].audio_id if page.entries else None
        if page.offset == 0:
            group.top = first
        return page.offset > 0 and first is not None and first == group.top

    async def _refused(self, room: _Room, known: _List, refused: Refused, passages: Passages) -> None:
        """Close the gate that the trouble concerns, unless only the list fails while tracks are read."""
        successes = self._upstream.successes
        is_its_own = refused.is_asked and known.blamed_at is not None and successes > known.blamed_at
        if refused.is_asked:
            known.blamed_at, known.is_suspect, known.well_in_a_row = successes, True, 0
        if is_its_own:
            self._leave_alone(room, refused.reason)
        if not is_its_own or refused.trouble is not Trouble.UNAVAILABLE:
            await self._upstream.failed(refused, room.account, passages)

    def _leave_alone(self, room: _Room, reason: str) -> None:
        """Read tracks by themselves for a while, and say so when the reason is another one.

        NB: who looks at the list for its own sake meanwhile does not make that any longer.
        """
        known, now = self._list(room), self._clock.monotonic()
        if not known.trust.holds(now):
            return
        wait = known.trust.lose(now)
        if len(room.watches) >= _FEWEST and known.complaint.news(reason) is not None:
            log.warning("list.unusable", account=room.account, error=reason, wait=round(wait.total_seconds()))
        self._count(room)

    def _well(self, room: _Room, known: _List) -> None:
        if known.complaint.text is not None:
            known.complaint.forget()
            log.info("list.usable", account=room.account)

    async def _hear(self, room: _Room, group: _Group, page: Page, at: float) -> None:
        """Tell what a page says of watched tracks, the oldest first, whether they are due or not."""
        await self.heard(room.account, page)
        shown = [entry for entry in page.entries if entry.audio_id in room.watches]
        self._list(room).places.found({entry.audio_id: entry.position for entry in shown})
        asked_at = self._clock.now() - timedelta(seconds=self._clock.monotonic() - at)
        async with asyncio.TaskGroup() as tasks:  # NB: what is written down together is committed together
            for entry in reversed(shown):
                watch = room.watches[entry.audio_id]
                claim = _Claim(entry.track, watch.sighting, asked_at + self._poller.reader.clock_offset)
                tasks.create_task(self._tell(group, watch, claim, at))

    async def _tell(self, group: _Group, watch: Watched, claim: _Claim, at: float) -> None:
        # NB: whoever calls says that it has ended, and a list may be behind
        is_in_question = watch.is_hinted and not claim.listed.is_final
        if is_in_question or is_doubtful(claim.before, claim.listed):
            group.claims[watch.audio_id] = claim
            return
        if group.left.pop(watch.audio_id, None) is not None:
            self._poller.note_lateness(group.dues[watch.audio_id], at)
            group.told.append((watch, claim))
        await self._poller.hear(watch, claim.listed, phase=group.due, at=at)
        if watch.is_final:
            self.leave(watch)

    def _choose_one_to_compare(self, room: _Room, group: _Group) -> None:
        """Let one of those that the list told of be asked itself now and then: a list may stand still."""
        known = self._list(room)
        unfinished = [told for told in group.told if told[0].audio_id in room.watches]
        if known.gatherings % _COMPARED_EVERY or not unfinished:
            return
        watch, claim = min(unfinished, key=lambda told: known.compared.get(told[0].audio_id, 0))
        known.compared[watch.audio_id] = known.gatherings
        group.claims[watch.audio_id] = claim
        group.left[watch.audio_id] = watch

    def _compare(self, room: _Room, claim: _Claim | None, reading: Reading | None) -> None:
        """Leave a list alone whose claim the track itself has denied."""
        if claim is None:
            return
        if isinstance(reading, NotFound):
            self._leave_alone(room, f"it says {claim.listed.status} of a track that is not there")
        elif isinstance(reading, Track) and contradicts(
            claim.listed, reading, before=claim.before, listed_at=claim.at
        ):
            self._leave_alone(room, f"it says {claim.listed.status} of a track that is {reading.status}")
