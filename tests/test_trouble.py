import sqlite3
from collections.abc import Collection

import pytest

from notifier.delivery import Notice
from notifier.event import Alert, Problem
from notifier.store import Store
from notifier.trouble import Reporter
from tests.support.clocks import ManualClock

PAUSED = Alert(Problem.TARGET_PAUSED, "studio", "studio is paused")
OVER = Alert(Problem.TARGET_PAUSED, "studio", "studio is well", is_resolved=True)
FULL = Alert(Problem.STORAGE_FAILED, "/state.db", "the disk is full")
REJECTED = Alert(Problem.CONFIG_REJECTED, "/etc/x", "not taken")


@pytest.fixture
def reporter(store: Store) -> Reporter:
    return Reporter(store, ManualClock(), ("studio", "band-room", "studio"))


async def told(store: Store) -> list[tuple[str, str]]:
    return [(row.name, row.target) for row in await store.deliveries()]


async def test_a_problem_is_told_once_when_it_begins_and_once_when_it_is_over(
    reporter: Reporter, store: Store
) -> None:
    woken: list[Collection[str]] = []
    reporter.wake = woken.append
    await reporter.report(OVER)
    for alert in (REJECTED, REJECTED, PAUSED, PAUSED, OVER, OVER, PAUSED):
        await reporter.report(alert)
    assert await told(store) == [
        ("config_rejected", "studio"),
        ("config_rejected", "band-room"),
        *[("target_paused", "band-room")] * 3,
    ]
    assert woken == [("studio", "band-room"), ("band-room",), ("band-room",), ("band-room",)]


async def test_a_broken_target_is_never_told_of_itself(store: Store) -> None:
    reporter = Reporter(store, ManualClock(), ("studio",))
    await reporter.report(PAUSED)
    await reporter.report(Alert(Problem.DELIVERY_DEAD, "studio", "x"))
    assert await told(store) == []
    assert reporter.subjects(Problem.TARGET_PAUSED) == ["studio"]


async def test_a_restart_tells_nothing_twice(reporter: Reporter, store: Store) -> None:
    await reporter.report(PAUSED)
    again = Reporter(store, ManualClock(), ("band-room",))
    await again.take_up()
    await again.report(PAUSED)
    assert len(await told(store)) == 1
    await again.report(OVER)
    assert len(await told(store)) == 2


async def test_what_the_disk_refused_is_told_in_order_when_it_recovers(
    reporter: Reporter, store: Store
) -> None:
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON problem BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    await reporter.report(REJECTED)
    await reporter.report(PAUSED)
    assert await told(store) == []
    connection.execute("DROP TRIGGER full")
    connection.close()
    await reporter.retry()
    assert [name for name, _ in await told(store)] == ["config_rejected", "config_rejected", "target_paused"]


async def test_problems_of_a_track_off_the_list_are_forgotten(reporter: Reporter) -> None:
    await reporter.report(Alert(Problem.TRACK_MISSING, "studio", "x"))
    await reporter.report(PAUSED)
    reporter.forget_track("studio")
    assert reporter.subjects(Problem.TRACK_MISSING) == []
    assert reporter.subjects(Problem.TARGET_PAUSED) == ["studio"]


async def test_problems_of_targets_off_the_list_are_forgotten_and_news_again_later(
    reporter: Reporter, store: Store
) -> None:
    await reporter.report(Alert(Problem.TARGET_PAUSED, "band-room", "x"))
    await reporter.report(Alert(Problem.TRACK_MISSING, "studio", "x"))
    await reporter.report(PAUSED)
    before = len(await told(store))
    await reporter.forget_targets(but={"band-room"})
    await reporter.forget_targets(but={"band-room"})
    kept = {(Problem.TARGET_PAUSED, "band-room"), (Problem.TRACK_MISSING, "studio")}
    assert await store.problems() == kept
    await reporter.report(OVER)
    assert len(await told(store)) == before
    await reporter.report(PAUSED)
    assert len(await told(store)) == before + 1


@pytest.mark.parametrize("alerts", [[PAUSED], [PAUSED, OVER]], ids=["begun", "begun and over"])
async def test_a_problem_that_the_disk_refused_is_forgotten_with_its_target(
    reporter: Reporter, store: Store, alerts: list[Alert]
) -> None:
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON problem BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    for alert in [REJECTED, *alerts]:
        await reporter.report(alert)
    await reporter.forget_targets(but=())
    connection.execute("DROP TRIGGER full")
    connection.close()
    await reporter.retry()
    assert {name for name, _ in await told(store)} == {"config_rejected"}
    await reporter.report(PAUSED)
    assert (await told(store))[-1] == ("target_paused", "band-room")


async def test_a_disk_that_fails_is_told_before_it_is_written_down_and_to_each_only_once(
    reporter: Reporter, store: Store
) -> None:
    """Whoever is just being told is waited for, lest the outbox owes him the same."""
    notices: list[Notice | None] = []
    reporter.proclaim = notices.append
    disk = sqlite3.connect(store.path, isolation_level=None)
    disk.execute(
        "CREATE TRIGGER full BEFORE INSERT ON problem BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    await reporter.report(PAUSED)
    assert notices == [None], "what is not about the disk can wait for it"
    await reporter.report(FULL)
    notice = notices[-1]
    assert notice is not None
    assert notice.targets == {"studio", "band-room"}

    notice.under_way.add("studio")
    disk.execute("DROP TRIGGER full")
    disk.close()
    await reporter.retry()
    assert notices[-1] is None
    assert [name for name, _ in await told(store)] == ["target_paused"]
    notice.under_way.clear()
    notice.told.add("studio")
    await reporter.retry()
    rows = [(row.target, row.state) for row in await store.deliveries() if row.name == "storage_failed"]
    assert rows == [("studio", "delivered"), ("band-room", "pending")]
