"""The state file looked at from outside, and what it remembers of tracks, targets and waits."""

import asyncio
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from notifier import paths
from notifier.config import Useapi
from notifier.doctor.finding import Check, Finding, Health
from notifier.gate import GateState
from notifier.gatebook import API_GATE, OF_TOKEN, api_fingerprint, fingerprint, limit_gate, service_gate
from notifier.store import AccountRow, Backlog, StorageError, Store, StoredGate, TrackRow, is_running
from notifier.store.health import FileHealth, files_of, look, may_write, room
from notifier.targets import Target
from notifier.text import one_line
from notifier.usage import DAY, Usage, hour_of

_SERVICE = Path("/var/lib/notifier")
_USER = "notifier"
_DAEMON = "notifier run"
_AS_ROOT = "ask as root: sudo notifier doctor"
_PATIENCE = 5.0
"""How many seconds the pages of a large file are looked at."""
_MIB = 1024 * 1024
_LITTLE_ROOM = 200 * _MIB
_NO_ROOM = 10 * _MIB


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the state file holds; nothing at all where there is none."""

    tracks: Mapping[str, TrackRow] = field(default_factory=dict)
    gates: Mapping[str, StoredGate] = field(default_factory=dict)
    backlogs: Mapping[str, Backlog] = field(default_factory=dict)
    salt: str = ""
    accounts: Mapping[str, AccountRow] = field(default_factory=dict)
    usage: Mapping[datetime, Usage] = field(default_factory=dict)

    def gate_of(self, target: Target) -> StoredGate | None:
        """Return how the gate of a target's remote end stands; None for one that was never posted to."""
        mark = fingerprint(target.remote_end, self.salt)
        return next((gate for gate in self.gates.values() if gate.fingerprint == mark), None)

    def told(self, target: Target, now: datetime) -> StoredGate | None:
        """Return the gate behind which the service has asked this target to wait, as long as it does."""
        names = (limit_gate(target.limiter, self.salt), service_gate(target.type_name))
        gates = (self.gate_of(target), *(self.gates.get(name) for name in names))
        return next((gate for gate in gates if gate and gate.told_remaining(now)), None)

    def api_told(self, useapi: Useapi, now: datetime) -> StoredGate | None:
        """Return the API's gate as long as the API has asked for a wait; a refused token is no such thing."""
        gate = self.gates.get(API_GATE)
        if gate is None or not gate.told_remaining(now) or (gate.reason or "").startswith(OF_TOKEN):
            return None
        mark = api_fingerprint(useapi.base_url, useapi.token.reveal(), self.salt)
        return gate if gate.fingerprint == mark else None


async def storage(path: Path) -> tuple[list[Finding], Remembered]:
    """Look at the state file and read what it remembers; leave no trace."""
    findings, remembered = [_daemon(path)], Remembered()
    try:
        if _is_there(path):
            health = await asyncio.to_thread(look, path, seconds=_PATIENCE)
            findings.append(_file(path, health))
            findings += _strangers(path)
            if health.version == health.newest and not _is_corrupt(health):
                remembered = await _read(path)
                findings += _outbox(remembered.backlogs)
        else:
            detail = "is not there yet: the daemon makes it when it first starts"
            findings.append(Finding(Check.STATE, str(path), Health.OK, detail))
        findings += _room(path)
    except StorageError as error:
        findings.append(_failed(path, one_line(str(error)).removeprefix(f"{path} ")))
    except OSError as error:
        findings.append(_failed(path, f"cannot be read: {error.strerror}"))
    return findings, remembered


def _is_there(path: Path) -> bool:
    """Say whether there is a state file; one that is empty is only about to become one. Raises OSError."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


async def _read(path: Path) -> Remembered:
    now = datetime.now(UTC)
    async with Store(path, is_read_only=True) as store:
        return Remembered(
            {row.audio_id: row for row in await store.tracks()},
            await store.gates(),
            await store.backlogs(),
            await store.known_salt() or "",
            await store.accounts(),
            await store.usage(since=hour_of(now) - DAY),
        )


def _daemon(path: Path) -> Finding:
    try:
        is_held = is_running(path)
    except StorageError as error:
        return Finding(Check.DAEMON, _DAEMON, Health.SKIPPED, one_line(str(error)), _AS_ROOT)
    if is_held:
        return Finding(Check.DAEMON, _DAEMON, Health.OK, f"is running on {path}")
    return Finding(Check.DAEMON, _DAEMON, Health.WARNING, f"is not running on {path}", paths.how_to_start())


def _failed(path: Path, why: str) -> Finding:
    is_refused = "permission denied" in why.lower()
    advice = _AS_ROOT if is_refused else "as it says; README, Backup, has the steps"
    return Finding(Check.STATE, str(path), Health.FAILED, why, advice)


def _is_corrupt(health: FileHealth) -> bool:
    return health.verdict not in {None, "ok"}


def _file(path: Path, health: FileHealth) -> Finding:
    size = f"{health.size / _MIB:.1f} MiB"
    if _is_corrupt(health):
        found = one_line(health.verdict or "")
        advice = "stop the daemon, restore a backup or move the file away, start"
        return Finding(Check.STATE, str(path), Health.FAILED, f"is corrupt: {found}", advice)
    if health.version < health.newest:
        detail = (
            f"{size}, of version {health.version}: the daemon brings it to {health.newest} when it starts"
        )
        return Finding(Check.STATE, str(path), Health.OK, detail)
    how = "whole" if health.verdict else f"too large to be looked through within {_PATIENCE:.0f}s"
    return Finding(Check.STATE, str(path), Health.OK, f"version {health.version}, {size}, {how}")


def _strangers(path: Path) -> Iterator[Finding]:
    """Yield the files that the daemon's user cannot write, as a command run by somebody else leaves them."""
    uid, gid, name = _user(path)
    for file in files_of(path):
        if not may_write(file, uid, gid):
            advice = f"sudo chown {name}: {file}"
            yield Finding(Check.STATE, str(file), Health.FAILED, f"{name} cannot write it", advice)


def _user(path: Path) -> tuple[int, int, str]:
    """Return whom the daemon runs as: the service's user for its file, else whose the directory is."""
    if path.parent == _SERVICE:
        try:
            user = pwd.getpwnam(_USER)
        except KeyError:
            pass
        else:
            return user.pw_uid, user.pw_gid, user.pw_name
    about = path.parent.stat()
    try:
        name = pwd.getpwuid(about.st_uid).pw_name
    except KeyError:
        name = str(about.st_uid)
    return about.st_uid, about.st_gid, name


def _room(path: Path) -> Iterator[Finding]:
    free = room(path)
    if free < _LITTLE_ROOM:
        health = Health.FAILED if free < _NO_ROOM else Health.WARNING
        detail = f"the disk has only {free / _MIB:.0f} MiB left"
        yield Finding(Check.STATE, str(path.parent), health, detail, "make room: df -h")


def _outbox(backlogs: Mapping[str, Backlog]) -> Iterator[Finding]:
    total = Backlog.total(backlogs.values())
    if dead := total.dead:
        detail = f"{dead:,} dead letter{'' if dead == 1 else 's'}"
        advice = "notifier deliveries --state dead; show ID says why, then retry ID or drop ID"
        yield Finding(Check.OUTBOX, "dead", Health.WARNING, detail, advice)
    yield Finding(Check.OUTBOX, "pending", Health.OK, f"{total.pending:,} waiting to be sent")


def paused(gate: StoredGate | None) -> bool:
    """Say whether a gate is closed until a person acts."""
    return gate is not None and gate.state is GateState.PAUSED
