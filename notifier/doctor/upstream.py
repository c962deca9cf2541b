"""The API asked with one read, the clock compared with its, and the watches' statuses, within limits.

A track that has ended is not read again: the state file knows how. The first read of an unfinished one shows
how the token is, and the others follow at the watchlist's rate, no more of them than a glance may cost.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
from notifier.useapi import (
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

MOST_READ = 20
_SKEW = timedelta(seconds=30)
_LONG = timedelta(seconds=5)
_NOTHING_TO_DO = "nothing: it is read again by itself"
_REACH = "check the network and useapi.base_url, if it is set; else wait: it is asked again by itself"
_LIST = "correct the address on the watchlist, or see to the PixVerse account at useapi.net"
_RESTART = "in the service, a changed credential then needs: sudo systemctl restart notifier"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many watches are read at the most, and who hears that it takes long."""

    is_all: bool = False
    say: Callable[[str], None] = lambda _: None

    def announce(self, count: int, spacing: timedelta) -> None:
        """Say how long so many reads take, if longer than anybody waits in silence."""
        if count * spacing > _LONG:
            self.say(f"reading {count:,} tracks takes {spell(count * spacing)} at the watchlist's rate")

    def of(self, useapi: Useapi) -> int | None:
        """Return how many reads fit: `MOST_READ`, and no more than the rate allows in one timeout."""
        return None if self.is_all else min(MOST_READ, 1 + useapi.timeout // useapi.rate.spacing)


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

    async def findings(self) -> list[Finding]:
        unfinished = [watch for watch in self._config.tracks if not _is_final(watch, self._remembered)]
        plan = unfinished[: self._most]
        first = await self._read(self._address(plan))
        token, clock = self._token(first), self._skew()
        accounts = [finding async for finding in self._accounts()]
        readings = dict(zip((watch.audio_id for watch in plan), await self._rest(first, plan), strict=True))
        read = {audio_id: reading for audio_id, reading in readings.items() if reading is not None}
        now, unread = self._clock.now(), len(unfinished) - len(read)
        return [
            token,
            clock,
            *accounts,
            *_from_memory(self._config, self._remembered, read, now),
            *_unread(self._config, self._remembered, len(read), self._why_unread(unread)),
        ]

    def _address(self, plan: Sequence[Watch]) -> URL:
        """Return what shows whether the token is good: a track, or the list of none."""
        watches = plan or self._config.tracks
        if watches:
            return self._api.url_of(watches[0].audio_id)
        return URL(f"{self._config.useapi.base_url}/music/?limit=1", encoded=True)

    async def _accounts(self) -> AsyncIterator[Finding]:
        """Read the first page of the list of each account that is followed, at the watchlist's rate."""
        for entry in self._config.accounts:
            if self._refused is not None:
                yield _account(entry, Health.SKIPPED, f"not read: {one_line(self._refused.reason)}")
                continue
            await self._clock.sleep(self._config.useapi.rate.spacing.total_seconds())
            reading = await self._api.read_page(entry.account)
            if isinstance(reading, Refused) and reading.trouble is not Trouble.ACCOUNT:
                self._refused = reading
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

    async def _rest(self, first: Reading, plan: Sequence[Watch]) -> list[Reading | None]:
        """Read the other tracks at the rate of the watchlist, until the API refuses."""
        if not plan:
            return []
        spacing, later = self._config.useapi.rate.spacing, []
        self._limits.announce(len(plan), spacing)
        for watch in plan[1:]:
            if self._refused is not None:
                break
            await self._clock.sleep(spacing.total_seconds())
            later.append(asyncio.create_task(self._later(watch)))
        readings = [None if first is self._refused else first, *await asyncio.gather(*later)]
        return [*readings, *[None] * (len(plan) - len(readings))]

    async def _later(self, watch: Watch) -> Reading | None:
        async with self._turns:
            if self._refused is not None:
                return None
            reading = await self._read(self._api.url_of(watch.audio_id))
            return None if reading is self._refused else reading

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

    def _why_unread(self, unread: int) -> str:
        if self._refused is not None:
            return one_line(self._refused.reason)
        return f"a glance reads {self._most} at the most" if unread else ""


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
    config: Config, remembered: Remembered, readings: dict[str, Reading], now: datetime
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
