"""Accounts that are followed: their lists looked at, and what is new in them handed over to be watched.

Decides nothing about what is new (`notifier.bookmark`) or meant (`notifier.filter`); it sees to it that each
look comes to its end, that what was found is written down before anybody is told, and that people hear of a
list that cannot be read. Any page that somebody reads of a list is as good as one of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Protocol

import structlog

from notifier.bookmark import Bookmark, Item, Sheet, raised, read
from notifier.clock import Clock
from notifier.config import AccountWatch, Config, key_of
from notifier.delivery import Backoff
from notifier.event import Alert, Problem
from notifier.filter import Filter, Verdict
from notifier.repetition import Repetition
from notifier.settings import is_audio_id
from notifier.store import AccountRow, StorageError, Store
from notifier.text import one_line
from notifier.transition import Sighting
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.useapi import Listed, Page, PageReading, Refused, Unlistable, account_of

_MOST_PAGES = 10
"""How many pages one look reads; the next one goes on from there."""
_HOPELESS = 5
"""After how many failures in a row a list counts as one that cannot be read."""
_WRITTEN_EVERY = 60.0
"""After how many seconds it is written down that a list was looked at, if that is all there is to say."""
_MUSIC = "music"
_LONGEST_NAME = 512
"""How much of an audio_id is remembered; one that is followed is no longer than that."""

log = structlog.get_logger()


class Look(Protocol):
    """Reads a page of an account's list as far as gates and pace allow; `Gathering.look` does."""

    async def __call__(
        self, account: str, offset: int = 0, *, is_wanted: Callable[[], bool]
    ) -> PageReading | None:
        """Return what came of it; None when the API is not to be asked now."""
        ...


@dataclass(slots=True, eq=False)
class Followed:
    """An account while the daemon runs: what its entry says, and what is remembered of its list."""

    entry: AccountWatch
    interval: timedelta
    filter: Filter
    bookmark: Bookmark | None
    looked_at: datetime | None
    """When its list was last read from the top."""
    trouble: str | None
    """Why its list cannot be read, or None while it can."""
    is_followed: bool = True
    done_at: float = float("-inf")
    """The same as `looked_at`, in seconds as the schedule counts them: in which the machine was awake."""
    metered_at: float = float("-inf")
    """The same, in seconds of time in which the API could be asked."""
    not_before: float = float("-inf")
    then: int | None = None
    """Where the look goes on that is not at its end yet."""
    is_asked_for: bool = False
    """Whether somebody wants one more look."""
    written_at: float = float("-inf")
    failures: int = 0
    is_told: bool = False
    """Whether people were told that the list cannot be read."""
    complaint: Repetition = field(default_factory=Repetition)
    is_crowded: bool = False
    """Whether its new tracks wait for others of it to end."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever takes a page in: one after the other."""

    def ask(self) -> None:
        """Want a look although there was one a moment ago."""
        self.is_asked_for = True
        self.done_at = float("-inf")

    @property
    def account(self) -> str:
        """Its address, as the watchlist spells it."""
        return self.entry.account

    @property
    def key(self) -> str:
        """What is the same however the address is spelt."""
        return self.entry.key


Follow = Callable[[Followed, Mapping[str, Sighting | None]], Awaitable[None]]
"""What takes tracks over that were found, with what is remembered of them from earlier times."""


class Follower:
    """Knows the accounts that are followed. Used from one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        upstream: Upstream,
        reporter: Reporter,
        clock: Clock,
        rng: Random,
        look: Look,
        follow: Follow,
        api_now: Callable[[], datetime],
        has_room: Callable[[str], bool] = lambda _account: True,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._reporter = reporter
        self._clock = clock
        self._rng = rng
        self._look = look
        self._follow = follow
        self._api_now = api_now
        self._has_room = has_room
        """Says whether more unfinished tracks of an account may be watched."""
        self._longest = timedelta(0)
        self._accounts: dict[str, Followed] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Followed]:
        return iter([*self._accounts.values()])

    def get(self, account: str) -> Followed | None:
        """Return an account if it is followed."""
        return self._accounts.get(key_of(account))

    def follows(self, account: str) -> bool:
        """Say whether an account is followed."""
        return self.get(account) is not None

    def drop(self, *, but: Collection[str]) -> list[Followed]:
        """Follow some accounts only, and return the others."""
        gone = [followed for key, followed in self._accounts.items() if key not in but]
        for followed in gone:
            followed.is_followed = False
            del self._accounts[followed.key]
            self._reporter.forget(Problem.ACCOUNT_UNREADABLE, followed.key)
        return gone

    def apply(self, config: Config, rows: Mapping[str, AccountRow]) -> list[Followed]:
        """Follow the accounts of a watchlist, and return those that are new; others keep their place."""
        self._longest = config.poll.max_interval
        new = []
        for entry in config.accounts:
            followed = self.get(entry.account)
            if followed is None:
                followed = self._begun(config, entry, rows.get(entry.key))
                self._accounts[followed.key] = followed
                new.append(followed)
            if followed.account != entry.account:
                _renew(followed)
            followed.entry = entry
            followed.interval = config.interval_of(entry)
            followed.filter = entry.filter
        return new

    def _begun(self, config: Config, entry: AccountWatch, row: AccountRow | None) -> Followed:
        is_told = entry.key in self._reporter.subjects(Problem.ACCOUNT_UNREADABLE)
        return Followed(
            entry,
            config.interval_of(entry),
            entry.filter,
            row.bookmark if row is not None else None,
            row.looked_at if row is not None else None,
            row.trouble if row is not None else None,
            is_told=is_told,
        )

    def renew(self) -> None:
        """Look at lists again at once that could not be read: the token or the address is another one."""
        for followed in self:
            _renew(followed)

    async def turn(self, followed: Followed) -> None:
        """Look at an account's list, on to where it is known. Raises nothing but bugs.

        While the state file cannot be written nothing is read: what would be found could not be kept.
        """
        is_first = True
        while is_first or followed.is_asked_for:
            followed.is_asked_for = False
            is_too_soon = self._clock.monotonic() < followed.not_before
            if not followed.is_followed or is_too_soon or self._store.trouble is not None:
                return
            await self._read(followed)
            is_first = False

    async def _read(self, followed: Followed) -> None:
        # NB: the top first, since what has come meanwhile has moved all else
        offset: int | None = 0
        for _ in range(_MOST_PAGES):
            if offset is None:
                return
            reading = await self._look(followed.account, offset, is_wanted=lambda: followed.is_followed)
            if not followed.is_followed or self._store.trouble is not None:
                return
            match reading:
                case Page():
                    await self._well(followed)
                    offset = followed.then
                case Refused():
                    await self._refused(followed, reading)
                    return
                case Unlistable():
                    await self._unreadable(followed, reading.reason, is_permanent=reading.is_permanent)
                    return
                case None:
                    return
        if offset is not None:
            self._say_behind(followed)

    def _say_behind(self, followed: Followed) -> None:
        log.warning(
            "account.behind",
            account=followed.account,
            pages=_MOST_PAGES,
            wait=round(followed.interval.total_seconds(), 1),
        )

    async def heard(self, account: str, page: Page) -> None:
        """Take in a page of an account's list, whoever has read it. Raises nothing but bugs."""
        followed = self.get(account)
        if followed is None:
            return
        async with followed.turn:
            try:
                await self._take(followed, page)
            except StorageError:
                return  # nothing of it is remembered, so the next look finds the same

    async def _take(self, followed: Followed, page: Page) -> None:
        now, api_now = self._clock.now(), self._api_now()
        if self._is_as_it_was(followed, page):
            followed.done_at, followed.looked_at, followed.then = self._clock.awake(), now, None
            return
        before, sheet = followed.bookmark, _sheet(followed, page)
        step = read(before, sheet, now=api_now)
        if page.offset == 0:
            followed.done_at, followed.looked_at = self._clock.awake(), now
        if self._is_crowded(followed, len(step.found)):
            followed.then = None  # NB: the bookmark stays where it is, so that none is passed over
            return
        followed.then = step.then
        bookmark = step.bookmark and raised(step.bookmark, sheet, now=api_now)
        is_news = bookmark is not before or bool(step.found) or followed.trouble is not None
        if not followed.is_followed or not (is_news or self._is_to_be_written(followed)):
            return
        found = await self._store.discover(followed.key, bookmark, step.found, now=now)
        followed.written_at = self._clock.monotonic()
        followed.trouble = None
        followed.bookmark = bookmark
        if not followed.is_followed:
            return
        self._say_found(followed, before, page, found)
        if found:
            await self._follow(followed, found)

    def _is_crowded(self, followed: Followed, found: int) -> bool:
        """Say whether what was found has to wait, and say so once: an API may invent tracks without end."""
        was_crowded = followed.is_crowded
        followed.is_crowded = found > 0 and not self._has_room(followed.account)
        if followed.is_crowded and not was_crowded:
            log.warning("account.crowded", account=followed.account)
        return followed.is_crowded

    def _is_as_it_was(self, followed: Followed, page: Page) -> bool:
        """Say the same as the bookmark would where there is nothing to learn, in no time: it is the rule."""
        bookmark = followed.bookmark
        is_at_rest = bookmark is not None and bookmark.gap is None and followed.trouble is None
        if bookmark is None or not is_at_rest or page.offset or self._is_to_be_written(followed):
            return False
        is_news = page.next_offset is None and not bookmark.is_whole
        return not is_news and {entry.audio_id[:_LONGEST_NAME] for entry in page.entries} <= {*bookmark.known}

    def _is_to_be_written(self, followed: Followed) -> bool:
        return self._clock.monotonic() - followed.written_at >= _WRITTEN_EVERY

    def _say_found(
        self, followed: Followed, before: Bookmark | None, page: Page, found: Collection[str]
    ) -> None:
        if before is None:
            log.info("account.followed", account=followed.account, unfinished=len(found))
            return
        names = {entry.audio_id: entry.track.name for entry in page.entries}
        for audio_id in found:
            log.info("track.found", audio_id=audio_id, name=names.get(audio_id), account=followed.account)

    async def _well(self, followed: Followed) -> None:
        followed.failures = 0
        if followed.complaint.text is not None or followed.is_told:
            followed.complaint.forget()
            followed.is_told = False
            log.info("account.readable", account=followed.account)
            summary = f"the list of the PixVerse account {followed.account} can be read again"
            await self._reporter.report(
                Alert(Problem.ACCOUNT_UNREADABLE, followed.key, summary, is_resolved=True)
            )

    async def _refused(self, followed: Followed, refused: Refused) -> None:
        """Note that the API cannot be read, which others tell of, unless it is the list alone that fails."""
        in_trouble = {key_of(account) for account in self._upstream.accounts_in_trouble()}
        if self._upstream.token.failures or followed.key in in_trouble:
            await self._note(followed, refused.reason)
        else:
            await self._unreadable(followed, refused.reason, is_permanent=False)

    async def _unreadable(self, followed: Followed, reason: str, *, is_permanent: bool) -> None:
        followed.failures += 1
        backoff = Backoff(followed.interval, self._longest)
        wait = self._longest if is_permanent else backoff.delay(followed.failures, self._rng)
        followed.not_before = self._clock.monotonic() + wait.total_seconds()
        is_hopeless = is_permanent or followed.failures >= _HOPELESS
        self._complain(followed, reason, is_urgent=is_hopeless)
        await self._note(followed, reason)
        if is_hopeless and not followed.is_told:
            followed.is_told = True
            summary = (
                f"the list of the PixVerse account {followed.account} cannot be read "
                f"({one_line(reason)}): new tracks of it are not noticed"
            )
            await self._reporter.report(Alert(Problem.ACCOUNT_UNREADABLE, followed.key, summary))

    def _complain(self, followed: Followed, reason: str, *, is_urgent: bool) -> None:
        """Log a failure when its text changes, and count it when it does not."""
        before = followed.complaint.news(reason)
        if before is None:
            return
        repeated = {"repeated": before} if before > 1 else {}
        if is_urgent:
            log.error("account.unreadable", account=followed.account, error=reason, **repeated)
        else:
            log.warning("account.unreadable", account=followed.account, error=reason, **repeated)

    async def _note(self, followed: Followed, reason: str) -> None:
        """Write down why a list cannot be read, for those who look at the state file."""
        if followed.trouble != reason:
            followed.trouble = reason
            work = self._store.discover(
                followed.key, followed.bookmark, now=self._clock.now(), trouble=reason
            )
            await self._reporter.attempt(work, default={})


def _renew(followed: Followed) -> None:
    followed.not_before = float("-inf")
    followed.failures = 0


def _sheet(followed: Followed, page: Page) -> Sheet:
    items = tuple(_item(followed, entry) for entry in page.entries)
    return Sheet(page.offset, items, page.next_offset)


def _item(followed: Followed, entry: Listed) -> Item:
    track = entry.track
    is_its_own = is_audio_id(entry.audio_id) and key_of(account_of(entry.audio_id)) == followed.key
    is_music = track.fields.get("create_mode") == _MUSIC
    is_meant = is_its_own and is_music and followed.filter.verdict(track) is not Verdict.NOT_MEANT
    return Item(entry.audio_id[:_LONGEST_NAME], is_meant, track.is_final, track.created_at)
