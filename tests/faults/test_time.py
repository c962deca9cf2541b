"""Clocks that are set, machines that sleep, a change of the hour: every wait and every age stays right."""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifier.clock import Leap, LeapWatch
from notifier.engine import Engine
from notifier.event import EventType, TrackNews, track_event
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Owed, Store
from notifier.targets import Target
from notifier.transition import Sighting
from tests.support.clocks import ManualClock
from tests.support.machine import lacking, needs
from tests.support.process import command, daemon
from tests.support.scenes import Scene
from tests.support.servers import Reply, Server
from tests.support.tracks import answer, audio_id, path_of, track

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


# --- What counts as a leap


@pytest.mark.parametrize("jump", [DAY, -DAY, timedelta(seconds=2), timedelta(seconds=-2)])
def test_a_clock_that_is_set_is_noticed_once(jump: timedelta) -> None:
    clock = ManualClock()
    watch = LeapWatch(clock)
    clock.move(1)
    assert watch.look() is None
    clock.move(1)
    clock.jump(jump)
    assert watch.look() == Leap(jump=jump, slept=timedelta(0))
    clock.move(1)
    assert watch.look() is None


def test_a_machine_that_slept_is_no_clock_that_was_set() -> None:
    clock = ManualClock()
    watch = LeapWatch(clock)
    clock.suspend(8 * HOUR)
    clock.move(1)
    assert watch.look() == Leap(jump=timedelta(0), slept=8 * HOUR)


def test_drift_that_a_time_server_corrects_is_no_leap() -> None:
    clock = ManualClock()
    watch = LeapWatch(clock)
    for _ in range(100):
        clock.move(1)
        clock.jump(timedelta(milliseconds=-20))
        assert watch.look() is None


# --- What follows from one


class Bench:
    """The daemon's parts with clocks by hand, and one target that does not take messages yet."""

    def __init__(self, directory: Path, receiver: Server) -> None:
        self.clock = ManualClock()
        self._path = directory / "state.db"
        self._receiver = receiver

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Engine, Store]]:
        text = f"""useapi: {{token: abc, base_url: "http://127.0.0.1:9"}}
delivery: {{first_retry: 1h, max_retry: 2h, give_up_after: 72h}}
targets: {{archive: {{type: webhook, url: "{self._receiver.url}/hook"}}}}
watch: []
"""
        loaded = load_content(text.encode(), "w", resolve=True, sources=Sources({}))
        async with Store(self._path) as store:
            engine = Engine(loaded.config, store, masker=Masker(), clock=self.clock, rng=random.Random(1))
            await engine.start()
            try:
                yield engine, store
            finally:
                await engine.stop()

    async def finish(self, engine: Engine, number: int) -> None:
        now = self.clock.now()
        news = TrackNews(audio_id(number), f"Track {number}", "COMPLETED", None, None)
        owed = [Owed(track_event(EventType.COMPLETED, news, now), ("archive",))]
        sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=now)
        await engine.store.record(audio_id(number), sighting, None, owed, now=now)
        engine.deliverer.wake()


def webhooks(urls: Mapping[str, str]) -> Mapping[str, Target]:
    """Return targets as the watchlist makes them."""
    entries = "".join(f"  {name}: {{type: webhook, url: '{url}'}}\n" for name, url in urls.items())
    text = f"useapi: {{token: abc}}\nwatch: []\ntargets:\n{entries}"
    return load_content(text.encode(), "w", resolve=True, sources=Sources({})).config.targets


@pytest.fixture
def bench(tmp_path: Path, receiver: Server) -> Bench:
    return Bench(tmp_path, receiver)


async def tried(receiver: Server, engine: Engine, count: int) -> None:
    """Wait for an attempt and for what follows from it."""
    await receiver.until_count("/hook", count)
    while not any(worker == "archive" for worker in engine.deliverer.names()):
        await asyncio.sleep(0)
    while (await engine.store.deliveries())[0].attempt_count < count:
        await asyncio.sleep(0.01)


async def deadline(store: Store) -> datetime:
    (delivery,) = await store.due("archive", limit=1)
    return delivery.counts_from


@pytest.mark.parametrize("jump", [DAY, -DAY, 4 * DAY, -4 * DAY])
async def test_a_wait_is_neither_longer_nor_shorter_for_a_clock_that_was_set(
    bench: Bench, receiver: Server, jump: timedelta
) -> None:
    """Also after a restart, and though only the wall clock is on the disk."""
    receiver.reply("/hook", Reply(429, headers={"Retry-After": "7200"}), Reply(500), Reply(204))
    async with bench.running() as (engine, store):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
        bench.clock.move(60)
        bench.clock.jump(jump)
        await engine.watch_clocks()
        gate = (await store.gates())["archive"]
        left = gate.remaining(bench.clock.now())
        assert 2 * HOUR - timedelta(seconds=60) <= left <= 2 * HOUR * 1.2
        assert gate.told_remaining(bench.clock.now()) == 2 * HOUR - timedelta(seconds=60)
    async with bench.running() as (engine, _):
        bench.clock.move(7100 - 60)
        await engine.deliverer.look_again()
        await asyncio.sleep(0.05)
        assert len(receiver.to("/hook")) == 1, "never earlier than told"
        bench.clock.move(7200 * 0.2 + 200)
        engine.deliverer.wake()
        await tried(receiver, engine, 2)


@pytest.mark.parametrize("jump", [-DAY, -400 * DAY])
async def test_a_wait_never_grows_when_the_clock_was_set_back_while_nothing_ran(
    bench: Bench, receiver: Server, jump: timedelta
) -> None:
    receiver.reply("/hook", Reply(500), Reply(204))
    async with bench.running() as (engine, _):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
    bench.clock.jump(jump)
    async with bench.running() as (engine, _):
        bench.clock.move(1.2 * 3600)
        engine.deliverer.wake()
        await tried(receiver, engine, 2)


@pytest.mark.parametrize("jump", [4 * DAY, -4 * DAY, timedelta(days=2000)])
async def test_a_clock_that_was_set_takes_nothing_of_the_time_to_try(
    bench: Bench, receiver: Server, jump: timedelta
) -> None:
    """Nor does it add to it: `give_up_after` counts what has passed."""
    receiver.reply("/hook", Reply(500))
    async with bench.running() as (engine, store):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
        bench.clock.move(2 * 3600)
        waited = bench.clock.now() - await deadline(store)
        bench.clock.jump(jump)
        await engine.watch_clocks()
        assert bench.clock.now() - await deadline(store) == waited
        engine.deliverer.wake()
        await tried(receiver, engine, 2)
        assert [row.state for row in await store.deliveries()] == ["pending"]
        bench.clock.move(timedelta(hours=71).total_seconds())
        engine.deliverer.wake()
        await receiver.until_count("/hook", 3)
        while [row.state for row in await store.deliveries()] != ["dead"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("wrong", [-400 * DAY, 400 * DAY])
async def test_a_wrong_clock_at_boot_that_is_put_right_costs_no_message(
    bench: Bench, receiver: Server, wrong: timedelta
) -> None:
    """What was owed before the boot was dated by a right clock, what came since by a wrong one."""
    receiver.reply("/hook", Reply(500))
    async with bench.running() as (engine, _):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
    bench.clock.jump(wrong)
    async with bench.running() as (engine, store):
        await bench.finish(engine, 2)
        bench.clock.jump(-wrong)
        await engine.watch_clocks()
        for delivery in await store.due("archive", limit=9):
            assert timedelta(0) <= bench.clock.now() - delivery.counts_from <= timedelta(seconds=1)


async def test_a_wrong_clock_that_is_put_right_soon_after_the_start_costs_no_message_either(
    bench: Bench, receiver: Server
) -> None:
    """Although an attempt fails before, as the first ones after a boot often do."""
    receiver.reply("/hook", Reply(500))
    async with bench.running() as (engine, _):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
    bench.clock.jump(400 * DAY)
    async with bench.running() as (engine, store):
        await tried(receiver, engine, 2)
        assert [row.state for row in await store.deliveries()] == ["pending"]
        await engine.tidy()
        await engine.give_up()
        assert [*await store.sightings()] == [audio_id(1)]
        bench.clock.jump(-400 * DAY)
        await engine.watch_clocks()
        bench.clock.move(600)
        await engine.give_up()
        assert [row.state for row in await store.deliveries()] == ["pending"]


@pytest.mark.parametrize("jump", [-4 * DAY, 4 * DAY])
async def test_the_time_of_a_pause_does_not_count_although_the_clock_was_set(
    bench: Bench, receiver: Server, jump: timedelta
) -> None:
    receiver.reply("/hook", Reply(404), Reply(500))
    async with bench.running() as (engine, store):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
        bench.clock.move((2 * DAY).total_seconds())
        bench.clock.jump(jump)
        await engine.watch_clocks()
        bench.clock.move((2 * DAY).total_seconds())
        await store.reopen("archive", now=bench.clock.now())
        waited = bench.clock.now() - await deadline(store)
        assert waited < HOUR, "all but the first moments was a pause"
        await engine.look_again()
        await engine.deliverer.look_again()
        await tried(receiver, engine, 2)
        assert [row.state for row in await store.deliveries()] == ["pending"]


async def test_targets_may_come_while_the_waits_are_dated_anew(bench: Bench, receiver: Server) -> None:
    urls = {f"more-{number}": f"{receiver.url}/hook/{number}" for number in range(30)}
    names = [*urls]
    async with bench.running() as (engine, _):
        for count in range(2, len(names), 2):
            targets = webhooks({name: urls[name] for name in names[:count]})
            await engine.deliverer.apply(targets)
            await engine.deliverer.hold(targets[names[0]], 2 * HOUR, "busy", is_global=True)
            bench.clock.jump(DAY)
            more = webhooks({name: urls[name] for name in names[: count + 2]})
            await asyncio.gather(engine.watch_clocks(), engine.deliverer.apply(more))
        assert len(engine.deliverer.names()) == len(names)


async def test_a_machine_that_wakes_up_tries_at_once_what_is_due_and_gives_nothing_up(
    bench: Bench, receiver: Server
) -> None:
    receiver.reply("/hook", Reply(500), Reply(500), Reply(204))
    async with bench.running() as (engine, store):
        await bench.finish(engine, 1)
        await tried(receiver, engine, 1)
        bench.clock.suspend(4 * DAY)
        await engine.watch_clocks()
        await tried(receiver, engine, 2)  # the network is not up yet, say
        assert [row.state for row in await store.deliveries()] == ["pending"]
        bench.clock.suspend(3 * HOUR)
        await engine.watch_clocks()
        await tried(receiver, engine, 3)
        while [row.state for row in await store.deliveries()] != ["delivered"]:
            await asyncio.sleep(0.01)


# --- The real daemon, and a wall clock that a test sets


class FakeTime:
    """A wall clock for one process, by libfaketime; the monotonic clocks go on as they are."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        """Set the clock, such as ``-1d``, in one go."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self._file)


@pytest.fixture
def fake_time(tmp_path: Path) -> FakeTime:
    needs("faketime")
    libraries = [*Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1")]
    if not libraries:
        lacking("libfaketime is not where it is expected")
    return FakeTime(libraries[0], tmp_path / "offset")


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.target("archive", "/webhook/archive")
    return scene


@pytest.mark.parametrize("offset", ["+1d", "-1d"])
async def test_polling_and_delivery_go_on_while_the_clock_jumps_by_a_day(
    scene: Scene, fake_time: FakeTime, offset: str
) -> None:
    scene.delivery = {"first_retry": "50ms", "max_retry": "100ms", "give_up_after": "2h"}
    scene.receiver.reply("/webhook/archive", Reply(500))
    scene.complete(1)
    async with daemon(scene.write(1, 2), extra=fake_time.environment) as running:
        await running.logged("delivery.retry_scheduled")
        fake_time.set(offset)
        (leap,) = await running.logged("clock.leapt")
        assert round(leap["jump"] / 3600) == (24 if offset[0] == "+" else -24)
        read, tried = len(scene.api.requests), len(scene.receiver.requests)
        await scene.api.until(lambda: len(scene.api.requests) >= read + 5)
        await scene.receiver.until(lambda: len(scene.receiver.requests) >= tried + 3)
        assert running.records("delivery.dead") == []

        fake_time.set("+0")
        await running.logged("clock.leapt", 2)
        for words in (("deliveries",), ("status",)):
            code, out, _ = await command(*words, "-c", str(scene.file), extra=fake_time.environment)
            assert code == 0
            assert re.search(r"\t\d+[smhd] ago\t", out)
            assert not re.search(r"in \d+[hd]", out), "what happened lies in the past"

        scene.receiver.reply("/webhook/archive", Reply(204))
        scene.complete(2)
        await running.logged("delivery.delivered", 2)
        assert await running.stop() == 0
    told = [request.headers["webhook-id"] for request in scene.receiver.to("/webhook/archive")]
    assert len(set(told)) == 2


async def test_a_track_takes_no_longer_than_usual_because_our_clock_is_wrong(
    scene: Scene, fake_time: FakeTime
) -> None:
    """How long a track has been made is told by the clock that has dated it."""
    scene.stalled_after = "30m"
    minutes = {1: 10, 2: 40}
    for number, age in minutes.items():
        created = datetime.now(UTC) - timedelta(minutes=age)
        being_made = track(number, created_at=created.isoformat())
        scene.api.reply(path_of(audio_id(number)), answer(being_made))
    for offset in ("+1d", "-1d"):
        fake_time.set(offset)
        state = ("--state-file", str(scene.state.with_name(f"{offset}.db")))
        async with daemon(scene.write(1, 2), *state, extra=fake_time.environment) as running:
            (stalled,) = await running.logged("track.stalled")
            assert stalled["audio_id"] == audio_id(2)
            read = len(scene.api.to(path_of(audio_id(1))))
            await scene.api.until_count(path_of(audio_id(1)), read + 3)
            assert await running.stop() == 0
        assert len(running.records("track.stalled")) == 1


async def test_a_change_of_the_hour_is_none_of_ours(scene: Scene, fake_time: FakeTime) -> None:
    """At one o'clock UTC in that night Berlin's clocks go back by an hour."""
    change = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
    scene.receiver.reply("/webhook/archive", Reply(500))
    scene.complete(1)
    extra = {**fake_time.environment, "TZ": "Europe/Berlin"}
    async with daemon(scene.write(1, 2), extra=extra) as running:
        ahead = change - timedelta(seconds=3) - datetime.now(UTC)
        fake_time.set(f"{ahead.total_seconds():+.0f}")
        await running.logged("clock.leapt")
        while datetime.now(UTC) + ahead < change + timedelta(seconds=2):
            await asyncio.sleep(0.1)
        read = len(scene.api.requests)
        await scene.api.until(lambda: len(scene.api.requests) >= read + 5)
        scene.receiver.reply("/webhook/archive", Reply(204))
        await running.logged("delivery.delivered")
        assert await running.stop() == 0
    (leap,) = running.records("clock.leapt")
    set_by_us, *_, last = map(datetime.fromisoformat, (leap["timestamp"], running.records()[-1]["timestamp"]))
    assert set_by_us - timedelta(seconds=5) < change < last < change + timedelta(minutes=2)
