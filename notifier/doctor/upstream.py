"""The API asked with one read, the clock compared with its, and the watches' statuses, within limits.

A track that has ended is not read again: the state file knows how. The first read of an unfinished one shows
how the token is, and the others follow at the watchlist's rate, with no more requests than a glance may cost:
for pages of their account's list where several are of one, and for each that no page tells of.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from yarl import URL

from notifier.clock import Clock
from notifier.config import AccountWatch, Config, Useapi, Watch, key_of
from notifier.doctor.finding import Check, Finding, Health
from notifier.doctor.routes import label
from notifier.doctor.storage import Remembered
from notifier.duration import ago, spell
from notifier.store import AccountRow, TrackRow
from notifier.text import one_line
from notifier.track import Status, Track
from notifier.transition import Sighting
from notifier.trust import is_doubtful
from notifier.useapi import (
    PAGE_SIZE,
    NotFound,
    Page,
    PageReading,
    Reading,
    Refused,
    Trouble,
    Unlistable,
    Unreadable,
    UseApi,
    account_of,
)

MOST_ASKED = 20
_FEWEST = 2
"""How many tracks a page has to tell of to be worth its request."""
_SKEW = timedelta(seconds=30)
_LONG = timedelta(seconds=5)
_NOTHING_TO_DO = "nothing: it is read again by itself"
_REACH = "check the network and useapi.base_url, if it is set; else wait: it is asked again by itself"
_LIST = "correct the address on the watchlist, or see to the PixVerse account at useapi.net"
_RESTART = "in the service, a changed credential then needs: sudo systemctl restart notifier"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests watches take at the most, and who hears that it takes long."""

    is_all: bool = False
    say: Callable[[str], None] = lambda _: None

    def announce(self, requests: int, spacing: timedelta) -> None:
        """Say how long so many take, if longer than anybody waits in silence."""
        if requests * spacing > _LONG:
            self.say(f"{requests:,} requests take {spell(requests * spacing)} at the watchlist's rate")

    def of(self, useapi: Useapi) -> int | None:
        """Return how many requests fit: `MOST_ASKED`, and no more than the rate allows in one timeout."""
        return None if self.is_all else min(MOST_ASKED, 1 + useapi.timeout // useapi.rate.spacing)


async def upstream(config: Config, remembered: Remembered, *, limits: Limits, clock: Clock) -> list[Finding]:
    """Return how the token, the clock and each watch are."""
    told = remembered.api_told(config.useapi, clock.now())
    if told is not None:
        wait = spell(told.told_remaining(clock.now()))
        why = f"it wants to be left alone for {wait} ({one_line(told.reason or 'as it said')})"
        token = Finding(Check.TOKEN, _host(config), Health.SKIPPED, f"not asked: {why}", _NOTHING_TO_DO)
        return [
            token,
            *_from_memory(config, remembered, {}, clock.now()),
            *_unread(config, remembered, 0, why),
        ]
    api = UseApi(config.useapi, clock, callback=config.callback)
    try:
        return await _Visit(api, config, remembered, limits, clock).findings()
    finally:
        await api.close()


class _Visit:
    """One visit to the API."""

    def __init__(
        self, api: UseApi, config: Config, remembered: Remembered, limits: Limits, clock: Clock
    ) -> None:
        self._api, self._config, self._remembered, self._clock = api, config, remembered, clock
        self._limits, self._most = limits, limits.of(config.useapi)
        self._turns = asyncio.Semaphore(config.useapi.concurrency)
        self._refused: Refused | None = None
        """Why nothing more is asked."""
        self._asked = 0
        """How many requests there were for watches."""
        self._unread = {watch.audio_id: watch for watch in config.tracks if not _is_final(watch, remembered)}
        self._readings: dict[str, Reading] = {}
        self._goes_on: dict[str, int | None] = {}
        """Where the lists of accounts go on that were looked at; None where they end or are of no use."""

    async def findings(self) -> list[Finding]:
        first = await self._first()
        token, clock = self._token(first), self._skew()
        accounts = [finding async for finding in self._accounts()]
        await self._read_lists()
        await self._read_rest()
        return [
            token,
            clock,
            *accounts,
            *_from_memory(self._config, self._remembered, self._readings, self._clock.now()),
            *_unread(self._config, self._remembered, len(self._readings), self._why_unread()),
        ]

    async def _first(self) -> Reading:
        """Read what shows whether the token is good: a track, if there is one, or the list of none."""
        self._asked += 1
        for audio_id in self._unread:
            return await self._by_itself(audio_id)
        for watch in self._config.tracks:
            return await self._read(self._api.url_of(watch.audio_id))
        return await self._read(URL(f"{self._config.useapi.base_url}/music/?limit=1", encoded=True))

    async def _accounts(self) -> AsyncIterator[Finding]:
        """Read the first page of the list of each account that is followed, at the watchlist's rate."""
        for entry in self._config.accounts:
            if self._refused is not None:
                yield _account(entry, Health.SKIPPED, f"not read: {one_line(self._refused.reason)}")
                continue
            await self._pace()
            reading = await self._api.read_page(entry.account)
            if isinstance(reading, Refused) and reading.trouble is not Trouble.ACCOUNT:
                self._refused = reading
            self._goes_on[entry.key] = self._goes_on_after(reading)
            yield self._listed(entry, reading)

    def _listed(self, entry: AccountWatch, reading: PageReading) -> Finding:
        if not isinstance(reading, Page):
            detail = f"its list cannot be read: {one_line(reading.reason)}"
            return _account(entry, Health.FAILED, detail, _to_do(reading))
        brought = _brought(self._remembered.accounts.get(entry.key), self._clock.now())
        theirs = {account_of(one.audio_id) for one in reading.entries}
        if theirs and entry.key not in map(key_of, theirs):
            detail = f"its list has no track of it, but of {one_line(', '.join(sorted(theirs)))}"
            return _account(entry, Health.WARNING, detail, _LIST)
        count = f"{len(reading.entries)}{'' if reading.next_offset is None else ' and more'}"
        return _account(entry, Health.OK, f"its list can be read, {count} in it; {brought}")

    async def _read_lists(self) -> None:
        """Let lists tell of the unread tracks of accounts that have several of them, if lists can be read."""
        if self._config.poll.list == "never":
            return
        counts = Counter(map(account_of, self._unread))
        pages = sum(-(-count // PAGE_SIZE) for count in counts.values())
        self._limits.announce(self._in_reach(pages), self._spacing)
        for account, count in counts.items():
            if count >= _FEWEST and not await self._read_list(account):
                return

    async def _read_list(self, account: str) -> bool:
        """Read pages of an account's list as long as each tells of several; False when the API fails."""
        offset = self._goes_on.get(key_of(account), 0)
        while offset is not None and self._has_room:
            await self._pace()
            self._asked += 1
            reading = await self._api.read_page(account, offset)
            if isinstance(reading, Refused) and reading.trouble is not Trouble.ACCOUNT:
                # NB: a list may fail where tracks do not
                self._refused = None if reading.trouble is Trouble.UNAVAILABLE else reading
                return False
            offset = self._goes_on_after(reading)
        return True

    def _goes_on_after(self, reading: PageReading) -> int | None:
        """Take up what a page tells of unread tracks; return where to read on, None if that is not worth it.

        NB: a track that it says odd things of, or nothing, is read by itself.
        """
        if not isinstance(reading, Page):
            return None
        told = [
            one
            for one in reading.entries
            if one.audio_id in self._unread and not is_doubtful(self._before(one.audio_id), one.track)
        ]
        for one in told:
            self._take_up(one.audio_id, one.track)
        return reading.next_offset if len(told) >= _FEWEST else None

    async def _read_rest(self) -> None:
        """Read the other tracks by themselves at the rate of the watchlist, until the API refuses."""
        plan = [*self._unread][: self._in_reach(len(self._unread))]
        self._limits.announce(len(plan), self._spacing)
        async with asyncio.TaskGroup() as tasks:
            for audio_id in plan:
                if self._refused is not None:
                    break
                await self._pace()
                tasks.create_task(self._later(audio_id))

    async def _later(self, audio_id: str) -> None:
        async with self._turns:
            if self._refused is None:
                await self._by_itself(audio_id)

    async def _by_itself(self, audio_id: str) -> Reading:
        reading = await self._read(self._api.url_of(audio_id))
        if reading is not self._refused:
            self._take_up(audio_id, reading)
        return reading

    def _take_up(self, audio_id: str, reading: Reading) -> None:
        del self._unread[audio_id]
        self._readings[audio_id] = reading

    def _before(self, audio_id: str) -> Sighting | None:
        row = self._remembered.tracks.get(audio_id)
        return None if row is None else row.sighting

    @property
    def _spacing(self) -> timedelta:
        return self._config.useapi.rate.spacing

    async def _pace(self) -> None:
        await self._clock.sleep(self._spacing.total_seconds())

    @property
    def _has_room(self) -> bool:
        """Whether one more request for watches is allowed."""
        return self._refused is None and self._in_reach(1) > 0

    def _in_reach(self, count: int) -> int:
        """Return how many of so many requests for watches are allowed yet."""
        return count if self._most is None else min(count, self._most - self._asked)

    async def _read(self, url: URL) -> Reading:
        reading = await self._api.read(url)
        if isinstance(reading, Refused) and reading.trouble is not Trouble.ACCOUNT:
            self._refused = reading
        return reading

    def _token(self, reading: Reading) -> Finding:
        health, detail, advice = _judged(reading)
        return Finding(Check.TOKEN, _host(self._config), health, detail, advice)

    def _skew(self) -> Finding:
        host = _host(self._config)
        if not self._api.is_dated:
            return Finding(
                Check.CLOCK, host, Health.SKIPPED, "its answer, if any, does not say what time it is"
            )
        offset = self._api.clock_offset
        if abs(offset) <= _SKEW:
            return Finding(Check.CLOCK, host, Health.OK, "this machine's clock agrees with it")
        where = "behind" if offset > timedelta(0) else "ahead of"
        advice = "set it: sudo timedatectl set-ntp true; receivers refuse signatures that are minutes off"
        detail = f"this machine's clock is {spell(abs(offset))} {where} that one"
        return Finding(Check.CLOCK, host, Health.WARNING, detail, advice)

    def _why_unread(self) -> str:
        if self._refused is not None:
            return one_line(self._refused.reason)
        return f"a glance takes {self._most} requests at the most"


def _account(entry: AccountWatch, health: Health, detail: str, advice: str = "") -> Finding:
    name = "" if entry.name is None else one_line(label(entry))
    return Finding(Check.ACCOUNT, entry.account, health, detail, advice, name=name)


def _to_do(reading: Refused | Unlistable) -> str:
    """Say what mends a list that cannot be read."""
    match reading:
        case Refused(Trouble.ACCOUNT) | Unlistable(_, True):
            return _LIST
        case Refused():
            return _judged(reading)[2]
        case _:
            return _NOTHING_TO_DO


def _brought(row: AccountRow | None, now: datetime) -> str:
    """Say what the list of an account has brought so far."""
    if row is None or row.looked_at is None:
        return "the daemon has not looked at it yet"
    last = f", the last one {ago(row.last_found, now)}" if row.last_found else ""
    return f"looked at {ago(row.looked_at, now)}, {row.found:,} found{last}"


def _judged(reading: Reading) -> tuple[Health, str, str]:
    """Say what a first read shows of the token, in what words, and what to do."""
    match reading:
        case Refused(Trouble.TOKEN, reason):
            detail = f"useapi.net refuses the token: {reason}"
            return Health.FAILED, detail, f"put a valid token into useapi.token; {_RESTART}"
        case Refused(Trouble.THROTTLED, reason, after):
            wait = f", for {spell(after)}" if after else ""
            return Health.WARNING, f"it wants to be left alone{wait}: {reason}", _NOTHING_TO_DO
        case Refused(Trouble.UNAVAILABLE, reason):
            return (
                Health.FAILED,
                f"cannot be read: {reason}",
                _REACH,
            )
        case _:
            return Health.OK, "it takes the token", ""


def _host(config: Config) -> str:
    return urlsplit(config.useapi.base_url).hostname or "useapi.net"


def _is_final(watch: Watch, remembered: Remembered) -> bool:
    row = remembered.tracks.get(watch.audio_id)
    return row is not None and row.sighting.is_final


def _from_memory(
    config: Config, remembered: Remembered, readings: Mapping[str, Reading], now: datetime
) -> Iterator[Finding]:
    """Yield how each watch is that was read just now, or that has ended."""
    for watch in config.tracks:
        row, reading = remembered.tracks.get(watch.audio_id), readings.get(watch.audio_id)
        if reading is not None:
            health, detail, advice = _read(watch, reading, config, now)
        elif row is not None and row.sighting.is_final:
            health, detail, advice = _ended(watch, row, now)
        else:
            continue
        yield Finding(Check.WATCH, watch.audio_id, health, detail, advice, name=_name(watch, row))


def _name(watch: Watch, row: TrackRow | None) -> str:
    """Return the label of a watch, else the track's own name, else nothing."""
    own = row.sighting.name if row is not None else None
    return one_line(label(watch) if watch.name is not None else own or "")


def _read(watch: Watch, reading: Reading, config: Config, now: datetime) -> tuple[Health, str, str]:
    match reading:
        case Track(status, True):
            return Health.OK, f"{status}", ""
        case Track(status) as track:
            age = now - track.created_at if track.created_at else timedelta(0)
            detail = f"{status}, begun {ago(track.created_at, now)}" if track.created_at else status
            if age > config.poll.stalled_after:
                return Health.WARNING, f"{detail}, longer than stalled_after", _NOTHING_TO_DO
            return Health.OK, detail, ""
        case NotFound(reason):
            return Health.FAILED, f"useapi.net does not know this track: {reason}", _remove(watch)
        case Unreadable(reason, is_permanent):
            advice = _remove(watch) if is_permanent else _NOTHING_TO_DO
            return Health.FAILED, f"cannot be read: {reason}", advice
        case Refused(_, reason):
            return Health.FAILED, f"cannot be read: {reason}", "see to its PixVerse account at useapi.net"


def _remove(watch: Watch) -> str:
    return f"correct the entry, or take it out: notifier watch remove {watch.audio_id}"


def _ended(watch: Watch, row: TrackRow, now: datetime) -> tuple[Health, str, str]:
    detail = f"{row.sighting.status} {ago(row.changed_at, now)}, from the state file"
    if row.sighting.status == Status.MISSING:
        return Health.WARNING, detail, _remove(watch)
    return Health.OK, detail, ""


def _unread(config: Config, remembered: Remembered, read: int, why: str) -> Iterator[Finding]:
    """Yield that not all was read, if so."""
    unread = sum(not _is_final(watch, remembered) for watch in config.tracks) - read
    if unread:
        subject = f"{unread:,} unfinished {'watch' if unread == 1 else 'watches'}"
        advice = "to read them all: notifier doctor --all" if why.startswith("a glance") else _NOTHING_TO_DO
        yield Finding(Check.WATCH, subject, Health.SKIPPED, f"not read: {why}", advice)
