"""The state file's disk failing: at the start, under the running daemon, and beside a backup."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from notifier.store import Store
from notifier.store.database import STEPS, open_database
from tests.support.disks import Disk, small_disk
from tests.support.machine import needs
from tests.support.process import Daemon, command, daemon
from tests.support.scenes import Scene
from tests.support.servers import Reply, Server, free_port
from tests.support.tracks import audio_id, path_of


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.state = tmp_path / "state" / "state.db"
    scene.target("archive", "/webhook/archive")
    return scene


# --- At the start: exit 74, one sentence, and what is there stays as it is


def a_database(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    open_database(path).close()


def damaged(path: Path) -> None:
    a_database(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def truncated(path: Path) -> None:
    a_database(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    os.truncate(path, 8192)


def no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("watch: []\n" * 100)


def foreign(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")


def newer(path: Path) -> None:
    path.parent.mkdir()
    open_database(path, steps=[*STEPS, "CREATE TABLE further (a TEXT);\n"]).close()


def a_directory(path: Path) -> None:
    path.mkdir(parents=True)


def below_a_file(path: Path) -> None:
    path.parent.write_text("in the way")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (damaged, "is corrupt (.*): restore a backup or move the file away"),
        (truncated, "is corrupt (.*): restore a backup or move the file away"),
        (no_database, r"is corrupt \(file is not a database\): restore a backup or move the file away"),
        (foreign, "is a database of another program"),
        (newer, "was written by a newer version .*: upgrade pixverse-notifier or restore a backup"),
        (a_directory, "cannot be used: unable to open database file"),
        (below_a_file, "cannot be written: .*/state is not a directory"),
    ],
)
async def test_a_state_file_that_cannot_be_used_ends_the_start_with_74_and_one_sentence(
    scene: Scene, make: Callable[[Path], None], sentence: str
) -> None:
    make(scene.state)
    before = scene.state.read_bytes() if scene.state.is_file() else None
    await assert_refused(scene, sentence)
    assert (scene.state.read_bytes() if scene.state.is_file() else None) == before


async def assert_refused(scene: Scene, sentence: str) -> None:
    code, out, err = await command("run", "-c", str(scene.write(1)))
    assert (code, out) == (74, "")
    assert re.fullmatch(rf"notifier: {re.escape(str(scene.state))} {sentence}\n", err), err
    assert scene.api.requests == []


async def test_a_full_disk_ends_the_start_with_74(scene: Scene, disk: Disk) -> None:
    scene.state = disk.path / "state.db"
    disk.fill()
    await assert_refused(scene, "cannot be written: the disk is full")
    disk.make_room()
    async with daemon(scene.write(1)) as running:
        assert await running.stop() == 0


@pytest.mark.parametrize("has_state", [False, True])
async def test_a_read_only_directory_ends_the_start_with_74(
    scene: Scene, disk: Disk, has_state: bool
) -> None:
    scene.state = disk.path / "state.db"
    if has_state:
        async with daemon(scene.write(1)) as running:
            assert await running.stop() == 0
        scene.api.requests.clear()
    disk.make_read_only()
    await assert_refused(scene, "cannot be written: Read-only file system")


async def test_a_file_that_stays_locked_ends_the_start_with_74(scene: Scene) -> None:
    a_database(scene.state)
    other = sqlite3.connect(scene.state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await assert_refused(scene, "cannot be used: another process has locked it")
    other.close()


async def test_a_lock_that_goes_away_only_delays_the_start(scene: Scene) -> None:
    a_database(scene.state)
    other = sqlite3.connect(scene.state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with daemon(scene.write(1), is_up=False) as running:
        while not scene.state.with_name("state.db.lock").exists():
            await asyncio.sleep(0.01)
        other.close()
        await running.logged("daemon.started")
        assert await running.stop() == 0


# --- Under the running daemon: nothing is claimed that is not committed, and all goes on with the disk


class Watchman:
    """Asks the daemon how it is."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/healthz"

    async def health(self) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self._url) as response:
            return response.status, await response.json()

    async def until_well(self) -> None:
        while (await self.health())[0] != 200:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def guarded(scene: Scene, *numbers: int) -> AsyncIterator[tuple[Daemon, Watchman]]:
    """Run the daemon with a health page and `alerts`."""
    port = free_port()
    scene.alerts, scene.http = ["archive"], f"127.0.0.1:{port}"
    async with daemon(scene.write(*numbers)) as running:
        yield running, Watchman(port)


def alerts(receiver: Server) -> list[tuple[str, bool]]:
    told = [request.json() for request in receiver.to("/webhook/archive")]
    return [
        (one["data"]["problem"], one["data"]["resolved"]) for one in told if one["type"] == "notifier.alert"
    ]


def ready(receiver: Server) -> list[str]:
    told = [request.json() for request in receiver.to("/webhook/archive")]
    return [one["data"]["name"] for one in told if one["type"] == "track.completed"]


async def test_while_the_disk_is_full_nothing_is_asked_or_sent_but_the_alert(
    scene: Scene, disk: Disk
) -> None:
    """The alert comes while somebody can still do something about it, and comes once."""
    scene.state = disk.path / "state.db"
    scene.target("down", "/webhook/down")
    scene.receiver.reply("/webhook/down", Reply(500))
    async with guarded(scene, 1, 2, 3) as (running, watchman):
        scene.complete(1)
        await scene.receiver.until(lambda: ready(scene.receiver) == ["Track 1"])
        await running.logged("delivery.retry_scheduled")
        disk.fill()
        scene.complete(2, 3)
        (failed,) = await running.logged("storage.failed")
        await running.logged("alert.told")
        assert failed["error"] == f"{scene.state} cannot be written: the disk is full"
        assert alerts(scene.receiver) == [("storage_failed", False)]

        asked, sent = len(scene.api.requests), len(scene.receiver.requests)
        for _ in range(20):
            status, health = await watchman.health()
            assert (status, health["reasons"]) == (503, [failed["error"]])
            await asyncio.sleep(0.05)  # in which every track was due once and the retry several times
        assert (len(scene.api.requests), len(scene.receiver.requests)) == (asked, sent)
        assert ready(scene.receiver) == ["Track 1"]

        disk.make_room()
        scene.receiver.reply("/webhook/down", Reply(204))
        await running.logged("storage.recovered")
        await scene.receiver.until(lambda: len(ready(scene.receiver)) == 3)
        await scene.receiver.until(lambda: alerts(scene.receiver)[1:] == [("storage_failed", True)])
        await running.logged("delivery.delivered", 7)
        await watchman.until_well()
        assert await running.stop() == 0
    assert len(running.records("storage.failed")) == 1
    events = [request.headers["webhook-id"] for request in scene.receiver.to("/webhook/archive")]
    assert len(events) == len(set(events)) == 5
    async with Store(scene.state, is_read_only=True) as store:
        told = [row for row in await store.deliveries(target="archive") if row.type == "notifier.alert"]
        (attempt,) = await store.attempts(told[0].id)
    assert [row.state for row in told] == ["delivered", "delivered"]
    assert attempt.answer == "told while the state file could not be written"


async def test_an_alert_that_nobody_took_while_the_disk_was_full_comes_afterwards(
    scene: Scene, disk: Disk
) -> None:
    scene.state = disk.path / "state.db"
    scene.delivery = {"first_retry": "1h"}
    scene.receiver.reply("/webhook/archive", Reply(422), Reply(204))
    async with guarded(scene, 1) as (running, _):
        disk.fill()
        scene.complete(1)
        (refused,) = await running.logged("alert.not_told")
        assert refused["error"] == "HTTP 422"
        disk.make_room()
        await running.logged("storage.recovered")
        await scene.receiver.until(lambda: len(alerts(scene.receiver)) == 3)
        assert await running.stop() == 0
    assert alerts(scene.receiver) == [("storage_failed", False)] * 2 + [("storage_failed", True)]
    assert ready(scene.receiver) == ["Track 1"]


async def test_a_target_that_is_gone_while_the_disk_is_full_is_paused_and_told_of_when_it_is_well(
    scene: Scene, disk: Disk
) -> None:
    """A pause that nobody can write down, see or end would last for ever."""
    scene.state = disk.path / "state.db"
    scene.receiver.reply("/webhook/archive", Reply(404))
    async with guarded(scene, 1) as (running, _):
        disk.fill()
        scene.complete(1)
        await running.logged("alert.not_told")
        assert running.records("target.paused") == []
        disk.make_room()
        await running.logged("target.paused")
        scene.receiver.reply("/webhook/archive", Reply(204))
        code, out, _ = await command("resume", "archive", "-c", str(scene.file))
        assert (code, out) == (0, "archive takes messages again\n")
        await scene.receiver.until(lambda: "Track 1" in ready(scene.receiver))
        assert await running.stop() == 0


async def test_a_look_at_the_watchlist_that_hangs_keeps_no_disk_from_being_found_well(scene: Scene) -> None:
    away, pipe = scene.state.parent.with_name("away"), scene.file.with_name("pipe")
    os.mkfifo(pipe)
    async with guarded(scene, 1) as (running, _):
        text = scene.file.read_text().replace("user:1-abc", f"${{file:{pipe}}}")
        scene.file.write_text(text)
        running.reload()  # which waits for somebody to write into the pipe
        scene.state.parent.rename(away)
        scene.complete(1)
        await running.logged("storage.failed")
        away.rename(scene.state.parent)
        await running.logged("storage.recovered")
        await scene.receiver.until(lambda: ready(scene.receiver) == ["Track 1"])
        await asyncio.to_thread(pipe.write_text, "user:1-abc")
        await running.logged("config.reloaded")
        assert await running.stop() == 0


async def test_a_state_directory_that_vanishes_is_noticed_at_once_and_goes_on_when_it_returns(
    scene: Scene,
) -> None:
    """SQLite would go on writing to files that nobody finds again."""
    away = scene.state.parent.with_name("away")
    async with guarded(scene, 1, 2) as (running, watchman):
        scene.complete(1)
        await running.logged("delivery.delivered")
        scene.state.parent.rename(away)
        scene.complete(2)
        (failed,) = await running.logged("storage.failed")
        assert failed["error"].startswith(f"{scene.state} has vanished while in use: put it back")
        await running.logged("alert.told")
        assert (await watchman.health())[0] == 503
        assert ready(scene.receiver) == ["Track 1"]
        away.rename(scene.state.parent)
        await running.logged("storage.recovered")
        await scene.receiver.until(lambda: len(ready(scene.receiver)) == 2)
        await scene.receiver.until(lambda: len(alerts(scene.receiver)) == 2)
        await watchman.until_well()
        assert await running.stop() == 0
    assert alerts(scene.receiver) == [("storage_failed", False), ("storage_failed", True)]
    assert sorted(ready(scene.receiver)) == ["Track 1", "Track 2"]


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
async def test_a_file_that_is_replaced_under_the_daemon_is_written_to_no_more(
    scene: Scene, name: str
) -> None:
    file = scene.state.with_name(name)
    async with guarded(scene, 1) as (running, watchman):
        copy = file.with_suffix(".copy")
        shutil.copyfile(file, copy)
        copy.replace(file)
        content = file.read_bytes()
        scene.complete(1)
        (failed,) = await running.logged("storage.failed")
        assert failed["error"] == f"{file} was replaced while in use: restart the notifier to use the new one"
        await running.logged("alert.told")
        assert (await watchman.health())[0] == 503
        assert file.read_bytes() == content
        assert ready(scene.receiver) == []
        assert await running.stop() == 0
    async with daemon(scene.file) as running:
        await scene.receiver.until(lambda: ready(scene.receiver) == ["Track 1"])
        assert await running.stop() == 0


async def test_a_file_that_is_damaged_under_the_daemon_is_told_once_and_left_alone(scene: Scene) -> None:
    async with guarded(scene, 1) as (running, watchman):
        with contextlib.closing(sqlite3.connect(scene.state)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.execute("UPDATE fact SET value = value")
            other.commit()
        with scene.state.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (scene.state.stat().st_size - 4096))
        scene.complete(1)
        (failed,) = await running.logged("storage.failed")
        assert re.search(r"is corrupt \(.*\): restore a backup or move the file away", failed["error"])
        await running.logged("alert.told")
        assert (await watchman.health())[0] == 503
        assert ready(scene.receiver) == []
        assert await running.stop() == 0
    assert len(running.records("storage.failed")) == 1
    assert running.records("storage.recovered") == []
    await assert_corrupt(scene)


async def assert_corrupt(scene: Scene) -> None:
    code, _, err = await command("run", "-c", str(scene.file))
    assert code == 74
    assert "is corrupt" in err


async def test_a_file_that_somebody_locks_for_a_while_only_delays(scene: Scene) -> None:
    async with guarded(scene, 1) as (running, _):
        other = sqlite3.connect(scene.state, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        scene.complete(1)
        read = len(scene.api.to(path_of(audio_id(1))))
        await scene.api.until_count(path_of(audio_id(1)), read + 1)
        await asyncio.sleep(1.5)  # longer than a single try to lock the file
        assert ready(scene.receiver) == []
        other.close()
        await scene.receiver.until(lambda: ready(scene.receiver) == ["Track 1"])
        assert await running.stop() == 0
    assert running.records("storage.failed") == []


# --- Beside a backup


async def test_a_backup_taken_while_it_runs_is_a_whole_state_file(scene: Scene, tmp_path: Path) -> None:
    """A daemon that goes on with the copy tells what was not told by then, and nothing again."""
    needs("sqlite3")
    copies = [tmp_path / "backup.db", tmp_path / "copied" / "state.db"]
    async with daemon(scene.write(1, 2, 3, 4)) as running:
        scene.complete(1, 2)
        await running.logged("delivery.delivered", 2)
        backup = await asyncio.create_subprocess_exec("sqlite3", str(scene.state), f".backup {copies[0]}")
        assert await backup.wait() == 0
        running.signal(signal.SIGSTOP)
        copies[1].parent.mkdir()
        for file in (scene.state, scene.state.with_name("state.db-wal")):
            shutil.copy(file, copies[1].parent)
        running.signal(signal.SIGCONT)
        assert await running.stop() == 0
    scene.complete(3, 4)
    for copy in copies:
        scene.receiver.requests.clear()
        async with daemon(scene.file, "--state-file", str(copy)) as running:
            await running.logged("delivery.delivered", 2)
            assert await running.stop() == 0
        assert sorted(ready(scene.receiver)) == ["Track 3", "Track 4"]
