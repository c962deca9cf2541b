"""``soak``: the real daemon for minutes under a mixed load with faults, and a ledger of what came of it.

Tracks come to the watchlist, complete, fail or go missing, and leave it; every few seconds the file is
written anew, in place or by renaming, with or without a SIGHUP, now and then with a mistake in it. Two
webhooks, a Slack and a Discord target take turns in being well, slow, silent, throttled, in answering 5xx or
a proxy's page, in closing the connection before or after they have read; so does useapi.net. For the first
half the daemon is killed or stopped every so often and started again; the second half is one life, for its
memory. In the end all is well again, and what is still owed has to come.

A message counts as taken when its receiver has said so. After each SIGKILL the state file tells which
deliveries were settled by then: whatever else was taken may come once more, since its attempt was under way,
and with the same ``webhook-id``. Everything else that comes twice is a defect, after a SIGTERM too, as is
everything that never comes: the exit code is 1 then. Alerts are in the ledger too, but for what is lost:
nobody but the daemon knows their number.

Memory, open files and threads are read from the system every two seconds, and what asyncio has under way
from the daemon's own metrics. With ``--disk`` the state file is on a small disk (which takes root to mount)
that is full for some seconds now and then during the last life.

Keys of the JSON line: ``bench``, ``seed``, ``minutes``, ``tracks``, ``expected``, ``delivered``, ``lost``,
``repeated``, ``repeated_at_kill``, ``ids_changed``, ``dead_letters``, ``alerts``, ``kills``, ``stops``,
``reloads``, ``rejected``, ``requests`` (to the API), ``attempts`` (at the receivers), ``refused`` (of these);
``log_lines``; of the longest life ``life_s``, ``memory_mib`` (first, middle, last), ``memory_mib_an_hour``
(by regression, without the first fifth), ``files``, ``threads`` and ``tasks`` (first, last, most); ``full``,
how often the disk was.
"""

import asyncio
import json
import random
import re
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import click

from notifier.delivery import DeliveryState
from notifier.store import Store
from tests.bench.cheaphttp import NO_CONTENT, Connection, Request, address, listen, response
from tests.bench.daemon import Daemon, ask, running
from tests.bench.measuring import print_json_line
from tests.support.disks import Disk, small_disk
from tests.support.servers import free_port
from tests.support.tracks import audio_id, completed, failed, page_of, track

_WEBHOOKS = ("archive", "flaky")
_CHATS = ("band-room", "studio")
_TARGETS = (*_WEBHOOKS, *_CHATS)
_ALARM = "alarm"
_NAME = re.compile(rb"T(\d{7})\b")
_NUMBER = re.compile(r"-music:(\d+)$")
_API = "useapi.net"
_TRACKS_A_SECOND = 2.0
_LONGEST_MAKING = 15.0
_DISK_IS_WELL = (10.0, 40.0)
_DISK_IS_FULL = (1.0, 8.0)
"""For how many seconds at a time."""
_MOST_WATCHED = 300
_REWRITE_EVERY = (1.0, 4.0)
_MOOD_LASTS = (1.0, 6.0)
_LIFE_LASTS = (4.0, 25.0)
_SLOW = (0.3, 2.0)
_SAMPLE_EVERY = 2.0
_PATIENCE = 240.0
_MIB = 2**20
_HEAD = """\
useapi: {{token: user:123-soak, base_url: "{api}/v2/pixverse", rate: 200/s, timeout: 2s}}
poll: {{interval: 1s, max_interval: 2s, missing_after: 2, stalled_after: 3650d}}
delivery: {{timeout: 6s, first_retry: 500ms, max_retry: 2s}}
targets:
  archive: {{type: webhook, url: "{url}/archive"}}
  flaky: {{type: webhook, url: "{url}/flaky", concurrency: 2}}
  band-room: {{type: slack, url: "{url}/band-room"}}
  studio: {{type: discord, url: "{url}/studio"}}
  alarm: {{type: webhook, url: "{url}/alarm"}}
defaults: {{notify: [archive, flaky, band-room, studio], events: [completed, failed, missing]}}
alerts: [alarm]
http: 127.0.0.1:{port}
log: {{level: info}}
watch:
"""

_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
_FAULTS = ("error", "unavailable", "page", "throttled", "reset", "reset later", "slow", "hang")
_OK = {"band-room": response(b"ok"), "studio": response(b'{"id":"1"}')}
_REFUSALS = {
    "error": response(b"oops", status="500 Internal Server Error"),
    "unavailable": response(b"", status="503 Service Unavailable", headers="Retry-After: 1\r\n"),
    "page": response(_HTML, status="502 Bad Gateway", headers="Content-Type: text/html\r\n"),
    "throttled": response(
        b'{"retry_after": 0.7, "global": false}',
        status="429 Too Many Requests",
        headers="Content-Type: application/json\r\nRetry-After: 1\r\n",
    ),
}

Key = str
"""What a message is about: the number of a track, or the id of an alert."""


@dataclass(slots=True)
class _Fate:
    """What becomes of a track, and when."""

    ends_at: float
    end: str

    def track(self, number: int, now: float) -> dict[str, Any] | None:
        if now < self.ends_at:
            return track(number)
        if self.end == "missing":
            return None
        return completed(number) if self.end == "completed" else failed(number)

    def answer(self, number: int, now: float) -> bytes:
        found = self.track(number, now)
        if found is None:
            return response(b'{"error":"Music not found"}', status="404 Not Found")
        return response(json.dumps(found).encode())


class Ledger:
    """What each target has taken, and which copies are excused."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, Key], int] = {}
        self.repeated: list[tuple[str, Key]] = []
        self.repeated_at_kill = 0
        self.ids_changed = 0
        self._ids: dict[Key, str] = {}
        self._excused: set[tuple[str, Key]] = set()

    def take(self, target: str, key: Key, event_id: str | None) -> None:
        """Note a message that a target has taken."""
        if event_id is not None and self._ids.setdefault(key, event_id) != event_id:
            self.ids_changed += 1
        entry = target, key
        self.taken[entry] = self.taken.get(entry, 0) + 1
        if self.taken[entry] == 1:
            return
        if entry in self._excused:
            self._excused.discard(entry)
            self.repeated_at_kill += 1
        else:
            self.repeated.append(entry)

    def excuse(self, settled: set[tuple[str, Key]]) -> None:
        """Let one more copy pass of all that was taken and not settled when the daemon was killed."""
        self._excused = {entry for entry in self.taken if entry not in settled}


class World:
    """useapi.net and the receivers, with their moods."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.fates: dict[int, _Fate] = {}
        self.ledger = Ledger()
        self.clients: set[Connection] = set()
        self.moods = dict.fromkeys((_API, _ALARM, *_TARGETS), "well")
        self.is_over = False
        self.requests = 0
        self.attempts = Counter[str]()
        self.refused = Counter[str]()

    def read(self, request: Request) -> None:
        """Answer as useapi.net."""
        self.requests += 1
        now = time.monotonic()
        if request.path.endswith("/music/"):
            answer = self._list(request, now)
        else:
            number = int(request.path.rpartition(":")[2])
            answer = self.fates[number].answer(number, now)
        self._reply(request.connection, answer, self.moods[_API])

    def _list(self, request: Request, now: float) -> bytes:
        query = urlsplit(request.head.split(b" ", 2)[1].decode()).query
        tracks = [fate.track(number, now) for number, fate in sorted(self.fates.items(), reverse=True)]
        shown = [found for found in tracks if found is not None]
        return response(json.dumps(page_of(shown, dict(parse_qsl(query)))).encode())

    def message(self, request: Request) -> None:
        """Answer as a receiver."""
        target = request.path[1:]
        mood = self.moods[target]
        self.attempts[target] += 1
        if mood in _REFUSALS or mood.startswith("reset") or mood == "hang":
            self.refused[target] += 1
            self._reply(request.connection, b"", mood)
        else:
            delay = self._rng.uniform(*_SLOW) if mood == "slow" else 0
            self._loop.call_later(delay, self._accept, target, request)

    def _accept(self, target: str, request: Request) -> None:
        if request.connection.is_open:
            for key, event_id in _told(target, request):
                self.ledger.take(target, key, event_id)
            request.connection.send(_OK.get(target, NO_CONTENT))

    def _reply(self, connection: Connection, answer: bytes, mood: str) -> None:
        match mood:
            case "reset":
                connection.drop()
            case "reset later":
                self._loop.call_later(0.2, connection.drop)
            case "slow":
                self._loop.call_later(self._rng.uniform(*_SLOW), connection.send, answer)
            case "hang":
                return
            case _:
                connection.send(_REFUSALS.get(mood, answer))

    async def change_moods(self) -> None:
        """Let useapi.net and the receivers be well most of the time, and not all of the time."""
        while not self.is_over:
            who = self._rng.choice([*self.moods])
            is_well = self._rng.random() < 0.4
            self.moods[who] = "well" if is_well else self._rng.choice(_FAULTS)
            await asyncio.sleep(self._rng.uniform(*_MOOD_LASTS) / len(self.moods))

    def recover(self) -> None:
        """Let everything be well from now on, and nothing new come."""
        self.is_over = True
        self.moods = dict.fromkeys(self.moods, "well")


def _told(target: str, request: Request) -> Sequence[tuple[Key, str | None]]:
    """Return what a message is about, each thing once."""
    if target in _CHATS:
        return [(str(int(number)), None) for number in {*_NAME.findall(request.body)}]
    event_id = request.header("webhook-id")
    about = json.loads(request.body)["data"].get("audio_id")
    return [(_key(about, event_id), event_id)]


def _key(identifier: str | None, event_id: str) -> Key:
    found = _NUMBER.search(identifier or "")
    return found[1] if found else event_id


@click.command()
@click.option("--minutes", type=click.FloatRange(0.05), default=5.0, show_default=True)
@click.option("--seed", type=int, help="Of the faults and their times; default: another one each time.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    help="Where to have the state file; default: the system's temporary directory.",
)
@click.option("--disk", "with_disk", is_flag=True, help="Fill its disk now and then, as root.")
def soak(minutes: float, seed: int | None, directory: str | None, with_disk: bool) -> None:
    """Run the daemon among faults and see what is lost, repeated, or grows."""
    seed = random.randrange(10**6) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="notifier-soak-", dir=directory) as place, ExitStack() as stack:
        disk = stack.enter_context(small_disk(Path(place, "disk"), "96m")) if with_disk else None
        result = asyncio.run(Soak(Path(place), random.Random(seed), disk).run(minutes * 60))
    result = {"bench": "soak", "seed": seed, "minutes": minutes, **result}
    for key, value in result.items():
        print(f"{key:>20}  {value if not isinstance(value, dict) else json.dumps(value)}")
    print_json_line(result)
    sys.exit(1 if result["lost"] or result["repeated"] or result["ids_changed"] else 0)


@dataclass(slots=True)
class _Life:
    """Readings of one life of the daemon, oldest first."""

    began: float
    at: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    """Of the last life only."""

    @property
    def length(self) -> float:
        return self.at[-1] - self.began if self.at else 0.0

    def slope(self) -> float:
        """Return the bytes a second by which memory grows, without the first fifth."""
        start = len(self.at) // 5
        if len(self.at) - start < 3:
            return 0.0
        return statistics.linear_regression(self.at[start:], self.memory[start:]).slope


class Soak:
    """Does the soaking."""

    def __init__(self, place: Path, rng: random.Random, disk: Disk | None) -> None:
        self._rng = rng
        self._disk = disk
        self._port = free_port()
        self._watchlist = place / "watchlist.yaml"
        self._state = (place if disk is None else disk.path) / "state.db"
        self._log = place / "log"
        self._head = ""
        self._watched: dict[int, None] = {}
        self._lives: list[_Life] = []
        self._counts = Counter[str]()

    async def run(self, seconds: float) -> dict[str, Any]:
        """Soak for so long, wait until all is told, and return the figures."""
        self._world = world = World(self._rng)
        async with await listen(world.read) as api, await listen(world.message, world.clients) as receivers:
            self._head = _HEAD.format(api=address(api), url=address(receivers), port=self._port)
            self._write()
            began = time.monotonic()
            async with self._meanwhile(
                self._make_tracks(min(_LONGEST_MAKING, seconds / 4)), world.change_moods()
            ):
                while time.monotonic() < began + seconds / 2:
                    await self._live_and_die(began + seconds / 2)
                self._write()
                async with running(self._watchlist, self._log, None) as daemon:
                    await daemon.started()
                    works = (self._sample(daemon), self._count_tasks(), self._rewrite(daemon))
                    async with self._meanwhile(*works):
                        async with self._meanwhile(self._fill_disk()):
                            await self._run_until(daemon, began + seconds)
                        world.recover()
                        await self._settle(daemon)
                    daemon.signal(signal.SIGTERM)
                    await daemon.ended()
        return await self._result()

    @asynccontextmanager
    async def _meanwhile(self, *works: Any) -> AsyncIterator[None]:
        """Do endless work for the length of a block, which fails when that does."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            yield
            for task in tasks:
                task.cancel()

    async def _live_and_die(self, end: float) -> None:
        """Run the daemon for a while; kill or stop it, perhaps before it has even started."""
        lasts = self._rng.uniform(*_LIFE_LASTS)
        is_kill = self._rng.random() < 0.7
        self._write()  # a daemon does not start on a mistake
        async with running(self._watchlist, self._log, None) as daemon:
            if self._rng.random() < 0.2:
                lasts = self._rng.uniform(0, 2)
            else:
                await daemon.started()
            async with self._meanwhile(self._sample(daemon), self._rewrite(daemon)):
                await self._run_until(daemon, min(time.monotonic() + lasts, end))
            daemon.signal(signal.SIGKILL if is_kill else signal.SIGTERM)
            await daemon.ended()
        self._counts["kills" if is_kill else "stops"] += 1
        if is_kill:
            await self._excuse()

    async def _run_until(self, daemon: Daemon, moment: float) -> None:
        while time.monotonic() < moment:
            if not daemon.is_alive():
                raise RuntimeError(f"the daemon ended by itself:\n{self._log.read_text()[-2000:]}")
            await asyncio.sleep(0.02)

    async def _excuse(self) -> None:
        """Tell the ledger what the state file says of a life that is over, once all its requests are in."""
        while self._world.clients:
            await asyncio.sleep(0.01)
        self._world.ledger.excuse(await self._settled())

    async def _settled(self) -> set[tuple[str, Key]]:
        if not self._state.exists():
            return set()
        async with Store(self._state, is_read_only=True) as store:
            rows = await store.deliveries(state=DeliveryState.DELIVERED)
        return {(row.target, _key(row.audio_id, row.event_id)) for row in rows}

    async def _make_tracks(self, longest: float) -> None:
        """Let tracks come that are made for so many seconds at the most."""
        while not self._world.is_over:
            number = len(self._world.fates) + 1
            end = self._rng.choices(("completed", "failed", "missing"), (75, 15, 10))[0]
            self._world.fates[number] = _Fate(time.monotonic() + self._rng.uniform(0, longest), end)
            self._watched[number] = None
            await asyncio.sleep(self._rng.expovariate(_TRACKS_A_SECOND))

    async def _rewrite(self, daemon: Daemon) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(*_REWRITE_EVERY))
            self._forget_told()
            is_broken = not self._world.is_over and self._rng.random() < 0.1
            self._write(is_broken=is_broken, in_place=self._rng.random() < 0.3)
            if self._rng.random() < 0.5 and daemon.count("daemon.started"):
                daemon.signal(signal.SIGHUP)

    def _forget_told(self) -> None:
        """Take tracks off that all targets have heard of, and put one back now and then."""
        told = [number for number in self._watched if self._is_told(number)]
        for number in told[: len(told) // 2] if len(self._watched) < _MOST_WATCHED else told:
            del self._watched[number]
        if self._world.fates and self._rng.random() < 0.5:
            back = self._rng.randint(1, len(self._world.fates))
            if self._is_told(back):
                self._watched[back] = None

    def _is_told(self, number: int) -> bool:
        return all((target, str(number)) in self._world.ledger.taken for target in _TARGETS)

    def _write(self, *, is_broken: bool = False, in_place: bool = False) -> None:
        entries = (f"  - audio_id: {audio_id(number)}\n    name: T{number:07}\n" for number in self._watched)
        text = "".join((f"state: {self._state}\n", self._head, *entries))
        text += "" if self._watched else "  []\n"
        text += "    colour: blue\n" if is_broken else ""
        if in_place:
            self._watchlist.write_text(text, encoding="utf-8")
            return
        new = self._watchlist.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        new.replace(self._watchlist)

    async def _sample(self, daemon: Daemon) -> None:
        life = _Life(time.monotonic())
        self._lives.append(life)
        while True:
            life.at.append(time.monotonic())
            life.memory.append(daemon.memory())
            life.files.append(daemon.files())
            life.threads.append(daemon.threads())
            await asyncio.sleep(_SAMPLE_EVERY)

    async def _count_tasks(self) -> None:
        while True:
            metrics = await ask(f"http://127.0.0.1:{self._port}/metrics")
            found = re.search(r"^notifier_asyncio_tasks (\S+)$", metrics, re.MULTILINE)
            assert found is not None
            self._lives[-1].tasks.append(int(float(found[1])))
            await asyncio.sleep(_SAMPLE_EVERY)

    async def _fill_disk(self) -> None:
        """Let the disk be full now and then, and well in the end."""
        disk = self._disk
        while disk is not None:
            await asyncio.sleep(self._rng.uniform(*_DISK_IS_WELL))
            try:
                await asyncio.to_thread(disk.fill)
                self._counts["full"] += 1
                await asyncio.sleep(self._rng.uniform(*_DISK_IS_FULL))
            finally:
                disk.make_room()

    async def _settle(self, daemon: Daemon) -> None:
        """Wait until all is told, if it will be."""
        expected = [*self._world.fates]
        self._expected = {(target, str(number)) for target in _TARGETS for number in expected}
        late = time.monotonic() + _PATIENCE
        while self._missing() and time.monotonic() < late and daemon.is_alive():
            await asyncio.sleep(0.1)

    def _missing(self) -> set[tuple[str, Key]]:
        return self._expected - self._world.ledger.taken.keys()

    async def _result(self) -> dict[str, Any]:
        ledger, world = self._world.ledger, self._world
        lost = sorted(self._missing())
        for entry in [*lost, *ledger.repeated][:20]:
            print("lost" if entry in lost else "repeated", *entry)
        life = max(self._lives, key=lambda life: life.length)
        events = [
            json.loads(line)["event"]
            for line in self._log.read_text(encoding="utf-8").splitlines()
            if line.startswith("{")
        ]
        return {
            "tracks": len(world.fates),
            "expected": len(self._expected),
            "delivered": len(self._expected) - len(lost),
            "lost": len(lost),
            "repeated": len(ledger.repeated),
            "repeated_at_kill": ledger.repeated_at_kill,
            "ids_changed": ledger.ids_changed,
            "dead_letters": self._dead_letters(),
            "alerts": sum(target == _ALARM for target, _ in ledger.taken),
            "kills": self._counts["kills"],
            "stops": self._counts["stops"],
            "reloads": events.count("config.reloaded"),
            "rejected": events.count("config.rejected"),
            "requests": world.requests,
            "attempts": world.attempts.total(),
            "refused": world.refused.total(),
            "log_lines": len(events),
            "life_s": round(life.length, 1),
            "memory_mib": {
                "first": _mib(life.memory[0]),
                "middle": _mib(life.memory[len(life.memory) // 2]),
                "last": _mib(life.memory[-1]),
            },
            "memory_mib_an_hour": _mib(life.slope() * 3600),
            "files": _course(life.files),
            "threads": _course(life.threads),
            "tasks": _course(self._lives[-1].tasks),
            "full": self._counts["full"],
        }

    def _dead_letters(self) -> int:
        with sqlite3.connect(f"file:{self._state}?mode=ro", uri=True) as connection:
            (count,) = connection.execute("SELECT count(*) FROM delivery WHERE state = 'dead'").fetchone()
        return int(count)


def _mib(size: float) -> float:
    return round(size / _MIB, 2)


def _course(readings: Sequence[int]) -> dict[str, int]:
    return {"first": readings[0], "last": readings[-1], "most": max(readings)}
