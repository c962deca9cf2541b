"""What ``notifier status`` and ``/api/status`` say, put together from the state file and the watchlist."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from notifier.clock import to_rfc3339
from notifier.config import AccountWatch, Config
from notifier.document import Scalar
from notifier.event import Problem
from notifier.gate import GateState
from notifier.gatebook import API_GATE
from notifier.settings import Unresolved
from notifier.store import AccountRow, AttemptRow, Backlog, DeliveryRow, Store, StoredGate, TrackRow
from notifier.text import headed
from notifier.track import Status
from notifier.usage import DAY, HOUR, NOTHING, Usage, hour_of, of_the_last, rhythm, words

AWAY = "not on the watchlist: its deliveries wait for its return"
"""What is said of a target that is owed something and gone."""


@dataclass(frozen=True, slots=True)
class TrackStatus:
    """A track as people see it."""

    audio_id: str
    name: str
    status: str
    is_final: bool
    is_watched: bool
    first_seen: datetime | None
    changed_at: datetime | None
    stalled_at: datetime | None = None
    """Since when people know that it takes long; None when it does not."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A target as people see it; the type is None when the watchlist no longer has it."""

    name: str
    type: str | None
    state: GateState
    reason: str | None
    since: datetime | None
    """Since when it is paused."""
    until: datetime | None
    backlog: Backlog
    is_gone: bool
    """Whether a valid watchlist does not name it."""
    newest_error: str | None = None
    """Why the last dead letter was given up."""


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """An account that is followed, as people see it."""

    account: str
    name: str | None
    looked_at: datetime | None
    """When its list was last looked at."""
    found: int
    """How many tracks it has brought, of those that are remembered."""
    last_found: datetime | None
    under_way: int
    trouble: str | None
    """Why its list cannot be read."""
    is_hopeless: bool = False
    """Whether that needs a person."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that ``status`` shows."""

    is_running: bool
    config_file: str
    config_error: str | None
    api_state: GateState
    api_reason: str | None
    tracks: tuple[TrackStatus, ...]
    targets: tuple[TargetStatus, ...]
    accounts: tuple[AccountStatus, ...] = ()
    api_until: datetime | None = None
    """When the API is asked again, if it is not asked before."""
    last_hour: Usage = NOTHING
    last_day: Usage = NOTHING
    rhythm: str = "at its interval"
    """How often fixed polling would read a track, as people say it."""

    @property
    def totals(self) -> Backlog:
        """Return the outbox over all targets."""
        return Backlog.total(target.backlog for target in self.targets)


async def overview(
    store: Store | None,
    config: Config | None,
    *,
    config_file: str,
    config_error: str | None,
    is_running: bool,
    now: datetime,
    looked_at: Mapping[str, datetime] = MappingProxyType({}),
    unwritten: Usage = NOTHING,
) -> Overview:
    """Put the overview together; no store stands for a state file that does not exist yet.

    `unwritten` is what the API was asked and the state file does not know of yet.
    `looked_at` says when the lists of accounts were last looked at, where that is known better.
    """
    tracks = await store.tracks() if store is not None else []
    gates = await store.gates() if store is not None else {}
    backlogs = await store.backlogs() if store is not None else {}
    errors = await store.newest_errors() if store is not None else {}
    keys = {entry.key for entry in config.accounts} if config is not None else set()
    followed = await store.followed(keys) if store is not None else {}
    accounts = await _accounts(store, config, looked_at)
    hours = await store.usage(since=hour_of(now) - DAY) if store is not None else {}
    api = gates.get(API_GATE)
    return Overview(
        is_running,
        config_file,
        config_error,
        *_api(api, now),
        tuple(_tracks(tracks, config, followed)),
        tuple(
            replace(target, newest_error=errors.get(target.name))
            for target in _targets(gates, backlogs, config, now)
        ),
        accounts,
        now + api.remaining(now) if api is not None and not api.is_open(now) else None,
        of_the_last(HOUR, hours, now) + unwritten,
        of_the_last(DAY, hours, now) + unwritten,
        rhythm(config.intervals if config is not None else ()),
    )


def usage_words(overview: Overview) -> str:
    """Say how much the API was asked in the last hour, and what that saves."""
    return f"API: {words(overview.last_hour, 'in the last hour', overview.rhythm)}"


def masked(overview: Overview, mask: Callable[[str], str]) -> Overview:
    """Return an overview whose words hold no secret, whoever has put one into the name of a track."""

    def said(text: str | None) -> str | None:
        return None if text is None else mask(text)

    return replace(
        overview,
        api_reason=said(overview.api_reason),
        tracks=tuple(replace(one, name=mask(one.name), status=mask(one.status)) for one in overview.tracks),
        accounts=tuple(replace(one, trouble=said(one.trouble)) for one in overview.accounts),
        targets=tuple(
            replace(one, reason=said(one.reason), newest_error=said(one.newest_error))
            for one in overview.targets
        ),
    )


def _api(gate: StoredGate | None, now: datetime) -> tuple[GateState, str | None]:
    is_open = gate is None or gate.is_open(now)
    return (GateState.OPEN, None) if gate is None or is_open else (gate.state, gate.reason)


async def _accounts(
    store: Store | None, config: Config | None, looked_at: Mapping[str, datetime]
) -> tuple[AccountStatus, ...]:
    entries = config.accounts if config is not None else ()
    if not entries:
        return ()
    rows = await store.accounts() if store is not None else {}
    problems = await store.problems() if store is not None else set()
    hopeless = {subject for problem, subject in problems if problem is Problem.ACCOUNT_UNREADABLE}
    known = [entry for entry in entries if not isinstance(entry.account, Unresolved)]
    return tuple(
        account_status(
            entry, rows.get(entry.key), looked_at.get(entry.key), is_hopeless=entry.key in hopeless
        )
        for entry in known
    )


def account_status(
    entry: AccountWatch, row: AccountRow | None, looked_at: datetime | None, *, is_hopeless: bool
) -> AccountStatus:
    """Return how an account is followed; `looked_at` if that is known better than the state file does."""
    row = row or AccountRow(entry.key, None, None, None)
    return AccountStatus(
        entry.account,
        _label(entry.name),
        looked_at or row.looked_at,
        row.found,
        row.last_found,
        row.under_way,
        row.trouble,
        is_hopeless,
    )


def headings(config: Config, followed: Mapping[str, str]) -> dict[str, str | None]:
    """Return what stands before the names of the tracks that accounts have brought."""
    labels = {entry.key: _label(entry.name) for entry in config.accounts}
    return {audio_id: labels[key] for audio_id, key in followed.items() if key in labels}


def _tracks(rows: list[TrackRow], config: Config | None, followed: Mapping[str, str]) -> list[TrackStatus]:
    labels = {} if config is None else {watch.audio_id: _label(watch.name) for watch in config.tracks}
    brought = {} if config is None else headings(config, followed)
    named = {**{audio_id: headed(before, audio_id) for audio_id, before in brought.items()}, **labels}
    seen = [
        TrackStatus(
            row.audio_id,
            labels.get(row.audio_id) or _own_name(row, labels, brought),
            row.sighting.status,
            row.sighting.is_final,
            row.audio_id in named if config is not None else row.unwatched_since is None,
            row.sighting.first_seen,
            row.changed_at,
            None if row.sighting.is_final else row.sighting.stalled_at,
        )
        for row in rows
    ]
    known = {row.audio_id for row in rows}
    unseen = [
        TrackStatus(audio_id, label or audio_id, Status.UNKNOWN, False, True, None, None)
        for audio_id, label in named.items()
        if audio_id not in known and not isinstance(audio_id, Unresolved)
    ]
    return [*unseen, *seen]


def _own_name(row: TrackRow, labels: Collection[str], brought: Mapping[str, str | None]) -> str:
    """Return what a track without a label is called, behind the label of its account."""
    heading = None if row.audio_id in labels else brought.get(row.audio_id)
    return headed(heading, row.name or row.audio_id)


def _label(name: str | None) -> str | None:
    return None if isinstance(name, Scalar) else name


def _targets(
    gates: Mapping[str, StoredGate], backlogs: Mapping[str, Backlog], config: Config | None, now: datetime
) -> list[TargetStatus]:
    configured = {} if config is None else config.targets
    names = dict.fromkeys([*configured, *sorted(backlogs)])
    return [_target(name, gates.get(name), backlogs.get(name, Backlog()), config, now) for name in names]


def _target(
    name: str, gate: StoredGate | None, backlog: Backlog, config: Config | None, now: datetime
) -> TargetStatus:
    target = None if config is None else config.targets.get(name)
    is_gone = config is not None and target is None
    type_name = None if target is None else target.type_name
    away = AWAY if is_gone and backlog.pending else None
    if gate is None or gate.is_open(now):
        return TargetStatus(name, type_name, GateState.OPEN, away, None, None, backlog, is_gone)
    since = gate.since if gate.state is GateState.PAUSED else None
    until = now + gate.remaining(now) if gate.until is not None else None
    return TargetStatus(name, type_name, gate.state, away or gate.reason, since, until, backlog, is_gone)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)


def overview_json(overview: Overview) -> dict[str, Any]:
    """Return the shape that ``status --json`` and ``/api/status`` promise."""
    return {
        "running": overview.is_running,
        "config": {
            "file": overview.config_file,
            "valid": overview.config_error is None,
            "error": overview.config_error,
        },
        "api": {"state": overview.api_state.value, "reason": overview.api_reason},
        "usage": {"last_hour": _usage(overview.last_hour), "last_day": _usage(overview.last_day)},
        "accounts": [
            {
                "account": account.account,
                "name": account.name,
                "looked_at": _moment(account.looked_at),
                "found": account.found,
                "last_found": _moment(account.last_found),
                "under_way": account.under_way,
                "trouble": account.trouble,
            }
            for account in overview.accounts
        ],
        "tracks": [
            {
                "audio_id": track.audio_id,
                "name": track.name,
                "status": track.status,
                "final": track.is_final,
                "watched": track.is_watched,
                "first_seen": _moment(track.first_seen),
                "changed_at": _moment(track.changed_at),
            }
            for track in overview.tracks
        ],
        "targets": [
            {
                "name": target.name,
                "type": target.type,
                "state": target.state.value,
                "reason": target.reason,
                "since": _moment(target.since),
                **_counts(target.backlog),
            }
            for target in overview.targets
        ],
        "deliveries": _counts(overview.totals),
    }


def _usage(usage: Usage) -> dict[str, float | None]:
    """Return requests by kind, those of fixed reads, and which part of these was saved."""
    saved = None if usage.saved is None else round(usage.saved, 3)
    return {
        "requests": usage.requests,
        "track": round(usage.track),
        "list": round(usage.list),
        "fixed": round(usage.fixed),
        "saved": saved,
    }


def _counts(backlog: Backlog) -> dict[str, int]:
    return {"pending": backlog.pending, "dead": backlog.dead, "delivered": backlog.delivered}


def delivery_json(row: DeliveryRow) -> dict[str, Any]:
    """Return the shape of one delivery in ``deliveries --json``."""
    return {
        "id": row.id,
        "event_id": row.event_id,
        "type": row.type,
        "audio_id": row.audio_id,
        "name": row.name,
        "target": row.target,
        "state": row.state.value,
        "attempt_count": row.attempt_count,
        "created_at": _moment(row.created_at),
        "next_attempt_at": _moment(row.next_attempt_at),
        "last_status": row.last_status,
        "last_error": row.last_error,
    }


def attempt_json(row: AttemptRow) -> dict[str, Any]:
    """Return the shape of one attempt in ``deliveries show --json``."""
    return {"at": _moment(row.at), "status": row.status, "answer": row.answer, "outcome": row.outcome}
