"""Reloads while requests are under way, while the disk fails, and while the file is being written."""

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from yarl import URL

from notifier.app import App
from notifier.clock import Clock
from notifier.delivery import DeliveryState
from notifier.event import EventType, TrackNews, track_event
from notifier.gate import Gate
from notifier.loading import digest_of, load
from notifier.reload import FileWatch
from notifier.store import Owed, Store
from notifier.track import parse
from notifier.transition import Sighting
from notifier.wire import Wire
from tests.support.clocks import ManualClock
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Reply, Server, serving
from tests.support.tracks import answer, audio_id, completed, not_found, path_of, track
from tests.test_log import restored  # noqa: F401 - a fixture for all tests here, which set up the log anew
from tests.test_reload import LONG_UNTOUCHED
from tests.test_schedule import Turns, running, watch

T = TypeVar("T")

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
FOUR_DAYS = timedelta(days=4)
SETTLED = 600.0
"""After so many seconds a daemon gives something up."""


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.target("archive", "/webhook/archive")
    return scene


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@asynccontextmanager
async def at_work(scene: Scene, *numbers: int, clock: Clock | None = None) -> AsyncIterator[App]:
    """Run the working parts of a daemon in this process, with no duties that come by themselves."""
    file = scene.write(*numbers)
    app = App(load(str(file)), config_file=str(file), state_file=scene.state, clock=clock)
    await app.store.open()
    await app.engine.start()
    try:
        yield app
    finally:
        await app.engine.stop()
        await app.store.close()


async def reload(app: App, scene: Scene, *numbers: int) -> None:
    """Write a watchlist and have it taken."""
    scene.write(*numbers)
    await app.reloader.reload(is_forced=True)


async def delivered(store: Store, count: int) -> None:
    """Wait until so many deliveries were."""
    async with asyncio.timeout(PATIENCE):
        while len(await store.deliveries(state="delivered")) < count:
            await asyncio.sleep(0.005)


async def owe(store: Store, number: int, target: str, *, age: timedelta) -> None:
    """Let a target be owed a track that completed a while ago."""
    ready = parse(completed(number))
    news = TrackNews(audio_id(number), f"Track {number}", "COMPLETED", None, ready)
    event = track_event(EventType.COMPLETED, news, NOW - age)
    sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=NOW - age)
    await store.record(audio_id(number), sighting, ready, [Owed(event, (target,))], now=NOW - age)


# --- Requests under way


def living(kind: type[T]) -> list[T]:
    """Return all objects of a kind, also those that the daemon has taken for lasting and frozen."""
    gc.unfreeze()
    return [each for each in gc.get_objects() if isinstance(each, kind)]


def open_sessions() -> int:
    return sum(not session.closed for session in living(aiohttp.ClientSession))


async def test_urls_that_are_gone_leave_no_gates_behind(scene: Scene) -> None:
    clock = ManualClock()
    async with at_work(scene, clock=clock) as app:
        gates = []
        for number in range(20):
            scene.target("archive", f"/slack/{number}")
            await reload(app, scene)
            clock.move(3600)
            gates.append(len(living(Gate)))
        assert gates[-1] <= gates[2]


async def test_reloads_while_requests_hang_leave_neither_tasks_nor_connections_behind(
    scene: Scene, api: Server, receiver: Server
) -> None:
    held = asyncio.Event()
    scene.delivery["timeout"] = "60s"
    scene.target("guest", "/webhook/guest")
    scene.notify = ["archive"]
    receiver.reply("/webhook/guest", Reply(status=204, delay_until=held))
    guest = scene.targets["guest"]
    before = open_sessions()

    async with at_work(scene) as app:
        for number in (1, 2):
            await owe(app.store, number, "guest", age=timedelta(0))
        app.engine.deliverer.wake()
        await receiver.until_count("/webhook/guest", 2)

        async def leave_and_return() -> int:
            scene.targets.pop("guest", None)
            scene.delivery["timeout"] = "61s"
            await reload(app, scene)
            scene.targets["guest"] = guest
            scene.delivery["timeout"] = "60s"
            await reload(app, scene)
            return len(asyncio.all_tasks())

        tasks = [await leave_and_return() for _ in range(40)]
        assert max(tasks[-5:]) <= max(tasks[:5])
        assert open_sessions() - before <= 3  # the reader's, the wire's, and the one that waits for answers
        held.set()
        await delivered(app.store, 2)
        assert open_sessions() - before == 2
    assert open_sessions() == before
    assert len(receiver.to("/webhook/guest")) == 2


async def test_a_wire_that_retires_lets_its_requests_finish_and_closes_with_the_last(api: Server) -> None:
    held = asyncio.Event()
    api.reply("/slow", Reply(body="late", delay_until=held))
    before = open_sessions()
    wire = Wire(timeout=timedelta(seconds=60), connections=4, largest_answer=100)
    idle = Wire(timeout=timedelta(seconds=60), connections=4, largest_answer=100)
    await idle.retire()
    requests = [asyncio.create_task(wire.send("GET", URL(f"{api.url}/slow"))) for _ in range(2)]
    await api.until_count("/slow", 2)
    await wire.retire()
    assert open_sessions() == before + 1
    held.set()
    assert [getattr(await each, "body", None) for each in requests] == ["late", "late"]
    assert open_sessions() == before


async def test_an_attempt_to_a_target_that_is_gone_is_not_given_up_while_it_is_under_way(
    scene: Scene, receiver: Server, clock: ManualClock
) -> None:
    held = asyncio.Event()
    receiver.reply("/webhook/guest", Reply(status=204, delay_until=held))
    scene.target("guest", "/webhook/guest")
    async with at_work(scene, clock=clock) as app:
        clock.move(SETTLED)
        await owe(app.store, 1, "guest", age=FOUR_DAYS)
        app.engine.deliverer.wake()
        await receiver.until_count("/webhook/guest", 1)
        del scene.targets["guest"]
        await owe(app.store, 2, "guest", age=FOUR_DAYS)
        await reload(app, scene)
        await app.engine.give_up()
        held.set()
        await delivered(app.store, 1)
        assert [row.state for row in await app.store.deliveries()] == [
            DeliveryState.DELIVERED,
            DeliveryState.DEAD,
        ]


async def test_an_attempt_of_before_a_targets_return_is_not_given_up_by_another_that_failed(
    scene: Scene, receiver: Server, clock: ManualClock
) -> None:
    failing, held = asyncio.Event(), asyncio.Event()
    replies = Reply(500, delay_until=failing), Reply(status=204, delay_until=held)
    receiver.reply("/webhook/guest", *replies)
    scene.target("guest", "/webhook/guest")
    guest = scene.targets["guest"]
    async with at_work(scene, clock=clock) as app:
        clock.move(SETTLED)
        for number in (1, 2):
            await owe(app.store, number, "guest", age=FOUR_DAYS)
        app.engine.deliverer.wake()
        await receiver.until_count("/webhook/guest", 2)
        for targets in ({}, {"guest": guest}):
            scene.targets = {"archive": scene.targets["archive"], **targets}
            await reload(app, scene)
        failing.set()
        async with asyncio.timeout(PATIENCE):
            while not await app.store.deliveries(state="dead"):
                await asyncio.sleep(0.005)
        held.set()
        await delivered(app.store, 1)
    assert len(receiver.to("/webhook/guest")) == 2


async def test_what_expired_in_a_targets_absence_is_not_sent_on_its_return(
    scene: Scene, receiver: Server, clock: ManualClock
) -> None:
    async with at_work(scene, clock=clock) as app:
        clock.move(SETTLED)
        await owe(app.store, 1, "guest", age=FOUR_DAYS)
        await owe(app.store, 2, "guest", age=HOUR)
        scene.target("guest", "/webhook/guest")
        await reload(app, scene)
        await delivered(app.store, 1)
        assert [row.state for row in await app.store.deliveries(target="guest")] == [
            DeliveryState.DEAD,
            DeliveryState.DELIVERED,
        ]
    assert len(receiver.to("/webhook/guest")) == 1


def is_inside(name: str) -> bool:
    """Say whether a task waits inside a coroutine of this name."""
    for task in asyncio.all_tasks():
        frame: Any = task.get_coro()
        while frame is not None:
            if getattr(frame, "__name__", "") == name:
                return True
            frame = getattr(frame, "cr_await", None)
    return False


async def test_a_watch_that_leaves_while_it_waits_for_its_turn_is_not_read_any_more(
    scene: Scene, api: Server
) -> None:
    async with serving() as other:
        other.otherwise(lambda _request: answer(track(2)))
        async with at_work(scene, 1) as app:
            await api.until_count(path_of(audio_id(1)), 2)
            scene.useapi["rate"] = "1/h"
            await reload(app, scene, 1)
            app.engine.polling.hints.take(audio_id(1))  # else it would not be due for an hour
            async with asyncio.timeout(PATIENCE):
                while not is_inside("_in_turn"):
                    await asyncio.sleep(0.01)
            await reload(app, scene)
            scene.useapi |= {"rate": "500/s", "token": "user:1-new", "base_url": f"{other.url}/v2/pixverse"}
            await reload(app, scene, 2)
            await other.until_count(path_of(audio_id(2)), 1)
    assert {request.headers["Authorization"] for request in api.requests} == {"Bearer user:1-abc"}


async def test_what_the_old_address_did_not_know_says_nothing_of_the_new_one(
    scene: Scene, api: Server, receiver: Server
) -> None:
    held = asyncio.Event()
    identifier = audio_id(1)
    unknown = not_found(identifier)
    late = Reply(unknown.status, unknown.body, delay_until=held)
    api.reply(path_of(identifier), unknown, unknown, late)
    async with serving() as other:
        other.reply(path_of(identifier), unknown, unknown, answer(completed(1)))
        async with at_work(scene, 1) as app:
            await api.until_count(path_of(identifier), 3)
            scene.useapi["base_url"] = f"{other.url}/v2/pixverse"
            await reload(app, scene, 1)
            held.set()
            await delivered(app.store, 1)
    assert [request.json()["type"] for request in receiver.requests] == ["track.completed"]


async def test_a_watch_that_returns_while_it_is_read_is_read_anew_at_once() -> None:
    turns = Turns()
    turns.held = asyncio.Event()
    async with running(turns) as schedule:
        await schedule.add([watch(1, HOUR)])
        await turns.until(lambda: turns.counts[audio_id(1)] == 1)
        schedule.remove(audio_id(1))
        await schedule.add([watch(1, HOUR)])
        await turns.until(lambda: turns.counts[audio_id(1)] == 2)
        turns.held.set()


async def test_a_shorter_interval_postpones_no_read() -> None:
    turns = Turns()
    async with running(turns, spacing=timedelta(milliseconds=300)) as schedule:
        first, second = watch(1, 2 * HOUR), watch(2, 2 * HOUR)
        await schedule.add([first, second])
        await turns.until(lambda: turns.counts[audio_id(1)] == 1)
        second.interval = HOUR
        schedule.quicken(second)
        await turns.until(lambda: turns.counts[audio_id(2)] == 1)


async def test_a_read_that_ends_after_its_watch_has_left_does_not_count_as_its_return(store: Store) -> None:
    await owe(store, 1, "archive", age=HOUR)
    await store.mark_watched([], now=NOW)
    await owe(store, 1, "archive", age=timedelta(0))
    assert [row.unwatched_since is None for row in await store.tracks()] == [False]


# --- A disk that fails, a file that is being written


@pytest.mark.parametrize("meanwhile", ["missing", "invalid", "as it was"])
async def test_what_a_full_disk_kept_from_being_applied_is_applied_whatever_becomes_of_the_file(
    scene: Scene, api: Server, meanwhile: str
) -> None:
    async with at_work(scene, 1) as app:
        await api.until_count(path_of(audio_id(1)), 2)
        with closing(sqlite3.connect(scene.state, isolation_level=None)) as disk:
            disk.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON track BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
            )
            await reload(app, scene, 2)
            assert [*app.engine.polling.watches] == [audio_id(1)]
            match meanwhile:
                case "missing":
                    scene.file.rename(scene.file.with_suffix(".away"))
                case "invalid":
                    scene.file.write_text("watch: [\n")
            await app.reloader.look()
            await app.reloader.look()
            assert [*app.engine.polling.watches] == [audio_id(1)]
            disk.execute("DROP TRIGGER full")
        await app.reloader.look()
        assert [*app.engine.polling.watches] == [audio_id(2)]
        assert (app.reloader.error is not None) == (meanwhile == "invalid")


async def test_a_file_that_is_being_written_again_since_it_was_looked_at_is_not_read_by_halves(
    scene: Scene,
) -> None:
    async with at_work(scene, 1) as app:
        scene.file.write_text("watch: [\n")
        await app.reloader.reload(is_forced=False)
        assert app.reloader.error is None
        for _ in range(2):
            await app.reloader.look()
        assert app.reloader.error is not None


def test_a_link_that_is_swapped_back_after_another_content_was_taken_is_a_change(tmp_path: Path) -> None:
    first, second, link = LONG_UNTOUCHED, tmp_path / "second", tmp_path / "link"
    second.write_text("second")
    link.symlink_to(first)
    file_watch = FileWatch(str(link), digest_of(first.read_bytes()))
    assert not file_watch.look()
    link.unlink()
    link.symlink_to(second)
    file_watch.accept(digest_of(b"second"))  # as after a SIGHUP, which comes between two looks
    link.unlink()
    link.symlink_to(first)
    assert [file_watch.look(), file_watch.look()] == [False, True]


async def test_the_secrets_of_former_files_are_masked_for_a_while_and_not_for_ever(
    scene: Scene,
) -> None:
    async with at_work(scene) as app:
        for number in range(40):
            scene.useapi["token"] = f"user:1-secret-{number}!"
            await reload(app, scene)
            if number == 20:
                assert "secret-19!" not in app.reloader.masker.mask("it was user:1-secret-19!")
        mask = app.reloader.masker.mask
        masked = [number for number in range(40) if mask(f"user:1-secret-{number}!") == "***"]
        assert masked == [*range(32, 40)]
