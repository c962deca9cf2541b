"""The state file as the doctor sees it."""

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifier.delivery import DeliveryState
from notifier.doctor.finding import Check, Finding, Health
from notifier.doctor.storage import Remembered, storage
from notifier.event import EventType
from notifier.gate import GateState
from notifier.gatebook import API_GATE, api_fingerprint, fingerprint, limit_gate, service_gate
from notifier.store import Owed, RunLock, Settlement, Store, StoredGate
from notifier.store.database import STEPS
from notifier.store.health import look
from notifier.transition import Sighting
from tests.support.disks import small_disk
from tests.support.watchlists import MINIMAL, loaded
from tests.targets.given import make, news

NOW = datetime.now(UTC)
SALT = "salt"
DISCORD = make("discord", url="https://discord.com/api/webhooks/1/hush?thread_id=7")


async def test_a_state_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    findings, remembered = await storage(tmp_path / "state.db")
    assert [(one.check, one.health) for one in findings] == [
        (Check.DAEMON, Health.WARNING),
        (Check.STATE, Health.OK),
    ]
    assert remembered == Remembered()
    assert [*tmp_path.iterdir()] == []


async def seen(path: Path) -> dict[tuple[str, str], Finding]:
    """Return what is found, by check and what it is about."""
    findings, _ = await storage(path)
    return {(one.check.value, one.subject): one for one in findings}


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    async with Store(path) as store:
        await store.salt()
        sighting = Sighting("COMPLETED", is_final=True, name="Track", first_seen=NOW)
        await store.record("a", sighting, None, [Owed(news(EventType.MISSING), ("x", "y"))], now=NOW)
        await store.settle(Settlement("x", (1,), NOW, 422, "", "no", "rejected", DeliveryState.DEAD))
    return path


async def test_what_the_state_file_holds_is_read_and_its_version_and_size_are_said(state: Path) -> None:
    findings, remembered = await storage(state)
    whole, dead, pending = findings[1:]
    assert whole.detail.startswith(f"version {len(STEPS)}, 0.1 MiB, whole")
    assert (dead.health, dead.detail) == (Health.WARNING, "1 dead letter")
    assert "notifier deliveries --state dead" in dead.advice
    assert (pending.health, pending.detail) == (Health.OK, "1 waiting to be sent")
    assert [*remembered.tracks] == ["a"]
    assert remembered.salt


async def test_the_daemons_lock_shows_that_it_runs_and_is_left_to_it(state: Path) -> None:
    lock = RunLock(state)
    lock.acquire()
    assert (await seen(state))["daemon", "notifier run"].health is Health.OK
    lock.release()
    idle = (await seen(state))["daemon", "notifier run"]
    assert (idle.health, idle.advice) == (Health.WARNING, "notifier run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
async def test_a_person_who_may_not_look_is_told_to_ask_as_root_and_nothing_untrue(state: Path) -> None:
    lock = RunLock(state)
    lock.acquire()
    os.seteuid(65534)
    try:
        daemon, file = (await storage(state))[0]
    finally:
        os.seteuid(0)
        lock.release()
    assert (daemon.health, daemon.advice) == (Health.SKIPPED, "ask as root: sudo notifier doctor")
    assert (file.health, file.advice) == (Health.FAILED, "ask as root: sudo notifier doctor")
    assert "ermission denied" in file.detail


async def test_a_damaged_file_has_failed(state: Path) -> None:
    content = bytearray(state.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    state.write_bytes(content)
    (finding,) = [one for one in (await storage(state))[0] if one.health is Health.FAILED]
    assert (finding.check, finding.subject) == (Check.STATE, str(state))
    assert finding.detail.startswith("is corrupt")
    assert finding.advice


async def test_a_file_that_is_no_state_file_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"rubbish" * 1000)
    finding = (await seen(path))["state", str(path)]
    assert (finding.health, finding.advice != "") == (Health.FAILED, True)


async def test_an_older_version_is_no_trouble_and_a_newer_one_is(state: Path) -> None:
    with sqlite3.connect(state) as connection:
        connection.execute("PRAGMA user_version = 1")
    findings, remembered = await storage(state)
    assert "brings it to" in findings[1].detail
    assert (findings[1].health, remembered) == (Health.OK, Remembered())
    with sqlite3.connect(state) as connection:
        connection.execute("PRAGMA user_version = 99")
    finding = (await seen(state))["state", str(state)]
    assert (finding.health, "newer version" in finding.detail) == (Health.FAILED, True)


def test_the_pages_of_a_large_file_are_looked_at_for_a_while_only(state: Path) -> None:
    with sqlite3.connect(state) as connection:
        rows = ((f"track {number}", "x" * 200) for number in range(5000))
        connection.executemany("INSERT INTO fact VALUES (?, ?)", rows)
    assert look(state, seconds=60).verdict == "ok"
    assert look(state, seconds=-1).verdict is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("nobody", "name"), [(65534, "nobody"), (54321, "54321")])
async def test_a_file_that_the_daemons_user_cannot_write_is_named(
    state: Path, nobody: int, name: str
) -> None:
    os.chown(state.parent, nobody, nobody)
    finding = (await seen(state))["state", str(state)]
    strange = [one for one in (await storage(state))[0] if "cannot write it" in one.detail]
    assert [(one.subject, one.health, one.advice) for one in strange] == [
        (str(state), Health.FAILED, f"sudo chown {name}: {state}")
    ]
    assert finding in strange
    os.chown(state, nobody, nobody)
    assert not [one for one in (await storage(state))[0] if one.health is Health.FAILED]


async def test_a_disk_with_little_room_is_worth_a_look_and_a_full_one_has_failed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="32m") as disk:
        path = disk.path / "state.db"
        assert (await seen(path))["state", str(disk.path)].health is Health.WARNING
        disk.fill()
        full = (await seen(path))["state", str(disk.path)]
        assert (full.health, full.advice) == (Health.FAILED, "make room: df -h")


def waiting(
    name: str, told: timedelta | None, mark: str | None = None, reason: str = "HTTP 429"
) -> StoredGate:
    until = None if told is None else NOW + told
    return StoredGate(name, GateState.WAITING, reason, NOW, until, until, failures=1, fingerprint=mark)


MINUTE = timedelta(minutes=1)
OF_URL = fingerprint(DISCORD.remote_end, SALT)


@pytest.mark.parametrize(
    ("gate", "is_told"),
    [
        (waiting("studio", MINUTE, OF_URL), True),
        (waiting("called something else", MINUTE, OF_URL), True),
        (waiting("studio", MINUTE, "of another url"), False),
        (waiting("studio", -MINUTE, OF_URL), False),
        (waiting("studio", None, OF_URL), False),
        (waiting(limit_gate(DISCORD.limiter, SALT), MINUTE), True),
        (waiting(service_gate("discord"), MINUTE), True),
        (waiting(service_gate("slack"), MINUTE), False),
    ],
)
def test_a_wait_holds_for_whom_it_was_told(gate: StoredGate, is_told: bool) -> None:
    remembered = Remembered(gates={gate.name: gate}, salt=SALT)
    assert (remembered.told(DISCORD, NOW) is gate) is is_told


OF_TOKEN = api_fingerprint("https://api.useapi.net/v2/pixverse", "user:123-hunter2hunter2", SALT)


@pytest.mark.parametrize(
    ("gate", "is_told"),
    [
        (waiting(API_GATE, MINUTE, OF_TOKEN), True),
        (waiting(API_GATE, MINUTE, "of another token"), False),
        (waiting(API_GATE, -MINUTE, OF_TOKEN), False),
        (waiting(API_GATE, MINUTE, OF_TOKEN, "HTTP 401: Unauthorized"), False),
        (waiting(API_GATE, MINUTE, OF_TOKEN, "HTTP 402: expired"), False),
    ],
)
def test_a_wait_of_the_api_holds_for_its_token_unless_it_is_our_own(gate: StoredGate, is_told: bool) -> None:
    remembered = Remembered(gates={gate.name: gate}, salt=SALT)
    assert (remembered.api_told(loaded(MINIMAL).config.useapi, NOW) is gate) is is_told
