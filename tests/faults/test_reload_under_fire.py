"""Watchlists that change all the time, and in every way that files are written, under a daemon at work."""

import asyncio
import contextlib
import itertools
import json
import re
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.support import editors
from tests.support.process import Daemon, command, daemon
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Reply, Server
from tests.support.tracks import answer, audio_id, track
from tests.support.upheaval import ALL, OF_GONE, Upheaval, expected

RELOADS = 500
WARM = 100
WINDOW = 40
"""Over how many reloads a figure is taken, so that no single moment decides."""
WAITS = "not on the watchlist: its deliveries wait for its return"


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    return Scene(tmp_path, api, receiver)


class Vitals:
    """What the process takes of the machine, as its `/proc` says, one sample after each reload."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.kilobytes: list[int] = []
        self.threads: list[int] = []
        self.files: list[int] = []

    def take(self) -> None:
        status = dict(line.split(":\t", 1) for line in (self._proc / "status").read_text().splitlines())
        self.kilobytes.append(int(status["VmRSS"].split()[0]))
        self.threads.append(int(status["Threads"]))
        self.files.append(len([*(self._proc / "fd").iterdir()]))


def grown(samples: list[int]) -> float:
    """Return by how much a figure is larger at the end than when all had been in use for a while."""
    return median(samples[-WINDOW:]) - median(samples[WARM : WARM + WINDOW])


class Heard:
    """Counts what the log has said, each line once."""

    def __init__(self, running: Daemon) -> None:
        self._running = running
        self._read = 0
        self._counts: Counter[str] = Counter()

    async def until(self, event: str, count: int) -> None:
        await self._running.until(lambda: self.counts[event] >= count, event)

    @property
    def counts(self) -> Counter[str]:
        fresh = self._running.lines[self._read :]
        self._read += len(fresh)
        self._counts.update(json.loads(line)["event"] for line in fresh)
        return self._counts


async def shown(file: Path, name: str) -> dict[str, Any]:
    """Return what `status` says of a target to scripts."""
    code, out, _ = await command("status", "--json", "-c", str(file))
    assert code == 0
    (found,) = [target for target in json.loads(out)["targets"] if target["name"] == name]
    return dict(found)


async def test_five_hundred_reloads_lose_nothing_repeat_nothing_and_leave_nothing_behind(
    tmp_path: Path, api: Server, receiver: Server
) -> None:
    upheaval = Upheaval(tmp_path, api, receiver, seed=4)
    waiting = [*OF_GONE, *(number for number in ALL if number not in OF_GONE)]
    valid = 0
    async with daemon(upheaval.write()) as running:
        heard, vitals = Heard(running), Vitals(running.process.pid)
        for turn in range(RELOADS):
            if turn == RELOADS // 2:
                upheaval.part_for_good()
            if waiting and turn * len(ALL) // (RELOADS - WINDOW) >= len(ALL) - len(waiting):
                upheaval.finished.add(waiting.pop(0))
            is_valid = upheaval.turn()
            running.signal(signal.SIGHUP)
            if is_valid:
                valid += 1
                await heard.until("config.reloaded", valid)
            else:
                await heard.until("config.rejected", turn + 1 - valid)
            vitals.take()
        upheaval.last()
        running.signal(signal.SIGHUP)
        await heard.until("config.reloaded", valid + 1)
        await receiver.until(lambda: not expected() - upheaval.accepted)
        gone = await shown(upheaval.file, "gone")
        assert await running.stop() == 0
    assert upheaval.accepted == expected()
    assert upheaval.refused > len(OF_GONE)
    assert heard.counts["config.reloaded"] + heard.counts["config.rejected"] == RELOADS + 1
    assert (gone["pending"], gone["dead"], gone["reason"]) == (len(OF_GONE), 0, WAITS)
    assert grown(vitals.kilobytes) < 4096
    assert grown(vitals.files) < 40
    assert grown(vitals.threads) < 8


# --- In every way that files are written, noticed by itself

Way = Callable[[Path, int], Awaitable[object]]


def watchlist(directory: Path, api: Server, numbers: Sequence[int]) -> Path:
    """Write a watchlist of which every beginning that holds `watch:` is a valid one."""
    file = directory / "watchlist.yaml"
    watches = "".join(f"  - {audio_id(number)}\n" for number in numbers)
    file.write_text(
        f"useapi: {{token: user:1-abc, base_url: '{api.url}/v2/pixverse'}}\n"
        f"state: {directory / 'state.db'}\n"
        "targets: {archive: {type: webhook, url: 'http://127.0.0.1:9/hook'}}\n"
        f"watch:\n{watches}"
    )
    return file


@dataclass
class Edits:
    """What the daemon made of some edits."""

    returned: list[object]
    watching: list[int]
    """How many watches it had after each reload."""
    expected: list[int]
    rejected: list[Any]

    def check(self) -> None:
        """Show that each was noticed once, and none by halves."""
        assert (self.watching, self.rejected) == (self.expected, [])


async def edited(file: Path, ways: Sequence[Way]) -> Edits:
    """Let the daemon notice one edit after the other by itself."""
    before = file.read_text().count("music:")
    adding = [way is not editors.of_the_same_size_and_time for way in ways]
    edits = Edits([], [], [before + sum(adding[: count + 1]) for count in range(len(ways))], [])
    async with daemon(file) as running:
        for count, way in enumerate(ways, start=1):
            edits.returned.append(await way(file, 70 + count))
            await running.logged("config.reloaded", count)
        assert await running.stop() == 0
    edits.watching = [record["watching"] for record in running.records("config.reloaded")]
    edits.rejected = running.records("config.rejected")
    return edits


async def edited_slowly(directory: Path, api: Server) -> Edits:
    """Let the daemon wait for a slow writer, once more where this machine has slowed it further down."""
    for attempt in itertools.count():
        (directory / str(attempt)).mkdir(parents=True)
        file = watchlist(directory / str(attempt), api, range(1, 12))
        edits = await edited(file, [editors.slowly, editors.in_place])
        longest = edits.returned[0]
        if isinstance(longest, float) and longest < 0.9:
            return edits
    raise AssertionError


async def test_a_file_is_noticed_once_and_whole_however_it_is_written(tmp_path: Path, api: Server) -> None:
    api.otherwise(lambda request: answer(track(int(request.path.rpartition(":")[2]))))

    def place(name: str, prepare: Callable[[Path], None] = lambda _file: None) -> Path:
        (tmp_path / name).mkdir()
        file = watchlist(tmp_path / name, api, [1, 2])
        prepare(file)
        return file

    # NB: the last edit of each shows that the one before it was not noticed twice
    all_edits = await asyncio.gather(
        edited(place("plain"), [editors.by_rename, editors.sed, editors.in_place]),
        edited(place("vim"), [editors.vim, editors.vim_in_place, editors.in_place]),
        edited(
            place("link", editors.as_link),
            [editors.swapped_link, editors.missing_for_a_moment, editors.in_place],
        ),
        edited(
            place("volume", editors.as_mounted_volume),
            [editors.kubernetes, editors.kubernetes, editors.in_place],
        ),
        edited(
            place("times"),
            [editors.with_an_older_time, editors.of_the_same_size_and_time, editors.in_place],
        ),
        edited_slowly(tmp_path / "slow", api),
    )
    for edits in all_edits:
        edits.check()


# --- Asked for by signals


def handles_sighup(pid: int) -> bool:
    """Say whether a SIGHUP would not end the process."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) & 1 << (signal.SIGHUP - 1))


async def test_a_sighup_during_the_start_is_a_reload_after_it(scene: Scene) -> None:
    scene.target("archive", "/webhook/archive")
    async with daemon(scene.write(1)) as running:
        assert await running.stop() == 0
    with contextlib.closing(sqlite3.connect(scene.state, isolation_level=None)) as disk:
        disk.execute("BEGIN EXCLUSIVE")
        async with daemon(scene.file, is_up=False) as running:
            async with asyncio.timeout(PATIENCE):
                while not handles_sighup(running.process.pid):
                    await asyncio.sleep(0.01)
            scene.write(1, 2)
            running.signal(signal.SIGHUP)
            disk.execute("ROLLBACK")
            (reloaded,) = await running.logged("config.reloaded")
            assert reloaded["watching"] == 2
            assert await running.stop() == 0
    (started,) = running.records("daemon.started")
    assert started["watching"] == 1
    assert len(running.records("config.reloaded")) == 1


async def told(manager: socket.socket) -> str:
    """Return the first word of all that the service manager is told until the end, but for mere statuses."""
    words: list[str] = []
    while words[-1:] != ["STOPPING"]:
        message = (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode()
        words += [message.split("=")[0]] * (not message.startswith("STATUS"))
    return " ".join(words)


async def test_a_volley_of_sighups_ends_with_the_last_file_and_is_told_to_systemd_in_pairs(
    scene: Scene, tmp_path: Path
) -> None:
    scene.target("archive", "/webhook/archive")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        listening = asyncio.create_task(told(manager))
        async with daemon(scene.write(), extra={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as running:
            for number in range(1, 21):
                scene.write(*range(1, number + 1))
                running.signal(signal.SIGHUP)
                await asyncio.sleep(0)
            await running.until(
                lambda: any(record["watching"] == 20 for record in running.records("config.reloaded"))
            )
            polled = len(scene.api.requests)
            await scene.api.until(lambda: len(scene.api.requests) > polled + 100)
            assert await running.stop() == 0
        async with asyncio.timeout(PATIENCE):
            words = await listening
    assert re.fullmatch("READY( RELOADING READY)+ STOPPING", words)
    assert words.count("RELOADING") <= 20


# --- Targets that leave


async def test_what_a_removed_target_is_owed_waits_for_its_return_and_is_sent_once(scene: Scene) -> None:
    scene.target("archive", "/webhook/archive")
    scene.target("guest", "/webhook/guest")
    scene.receiver.reply("/webhook/guest", Reply(500))
    scene.complete(1)
    guest = scene.targets["guest"]
    scene.delivery["max_retry"] = "100ms"
    async with daemon(scene.write(1)) as running:
        await running.logged("delivery.retry_scheduled")
        await running.logged("delivery.delivered")
        del scene.targets["guest"]
        scene.write(1)
        running.signal(signal.SIGHUP)
        await running.logged("config.reloaded", 1)
        away = await shown(scene.file, "guest")
        assert (away["pending"], away["dead"], away["reason"]) == (1, 0, WAITS)
        tried = len(scene.receiver.to("/webhook/guest"))
        scene.receiver.reply("/webhook/guest", Reply(status=204))
        _, plain, _ = await command("status", "-c", str(scene.file))
        assert f"guest\tremoved\twaiting\t1\t0\t0\t{WAITS}\n" in plain
        scene.targets["guest"] = {**guest, "url": guest["url"].replace("/guest", "/guest/moved")}
        scene.write(1)
        running.signal(signal.SIGHUP)
        await scene.receiver.until_count("/webhook/guest/moved", 1)
        await running.logged("delivery.delivered", 2)
        assert await running.stop() == 0
    assert len(scene.receiver.to("/webhook/guest")) == tried
    assert len(scene.receiver.to("/webhook/guest/moved")) == 1


async def test_what_a_removed_target_is_owed_expires_without_it_also_after_a_restart(scene: Scene) -> None:
    scene.target("archive", "/webhook/archive")
    scene.target("guest", "/webhook/guest")
    scene.receiver.reply("/webhook/guest", Reply(500))
    scene.complete(1)
    scene.delivery = {"first_retry": "1h"}
    async with daemon(scene.write(1)) as running:
        await running.logged("delivery.retry_scheduled")
        await running.logged("delivery.delivered")
        assert await running.stop() == 0
    guest = scene.targets.pop("guest")
    scene.delivery = {"give_up_after": "50ms"}
    async with daemon(scene.write(1)) as running:
        (dead,) = await running.logged("delivery.dead")
        gone = await shown(scene.file, "guest")
        assert (gone["pending"], gone["dead"]) == (0, 1)
        scene.targets["guest"] = guest
        scene.write(1)
        running.signal(signal.SIGHUP)
        await running.logged("config.reloaded")
        assert await running.stop() == 0
    assert (dead["target"], dead["error"]) == ("guest", "the target guest is not on the watchlist")
    assert len(scene.receiver.to("/webhook/guest")) == 1
