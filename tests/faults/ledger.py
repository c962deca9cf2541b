"""Who was told what, and who is to blame: the daemon killed again and again, and a ledger at the receivers.

A useapi.net that fails now and then, three receivers that are flaky, and the real ``notifier run``, which is
killed with SIGKILL at named steps and at random moments and started again each time. In the end every event
has reached every target; it came twice only where its attempt was under way at a kill, which the state file
left by that kill shows: an attempt is under way until what it came to is committed.

By hand, with any seed: ``python -m tests.faults.ledger --seed 7 --kills 40 --tracks 80``.
"""

import asyncio
import json
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle, islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import click
from aiohttp import web

from notifier.delivery import DeliveryState
from notifier.store import Store
from tests.support.process import Daemon, daemon
from tests.support.servers import PATIENCE
from tests.support.tracks import audio_id, completed, failed, page_of, track

TARGETS = ("archive", "band-room", "studio")
_IN_ORDER = ("band-room", "studio")
"""One message at a time goes to a chat, so that events come in their order."""
_ENDS = ("track.completed", "track.failed", "track.missing")
_MOST_READS = 4
_QUIET = 0.3


class Step(StrEnum):
    """When the daemon is killed."""

    DURING_START = "during start-up"
    AFTER_POLL = "after the poll"
    AFTER_COMMIT = "after the commit"
    UNDER_WAY = "while an attempt is under way"
    BEFORE_SETTLE = "between send and settle"
    DURING_RELOAD = "during reload"
    ANY_TIME = "at a random moment"
    AT_SYNC = "before a sync of the disk"


STEPS = tuple(step for step in Step if step is not Step.AT_SYNC)
"""Those that need nothing but this program."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What ends a life of the daemon: a step and, where it is a sync of the disk, its number in that life."""

    step: Step
    sync: int = 0

    @property
    def command(self) -> Sequence[str]:
        """The command that the daemon is run by, to be killed just before so many syncs are done."""
        if self.step is not Step.AT_SYNC:
            return ()
        what = f"fdatasync:signal=SIGKILL:when={self.sync}"
        only = ("-e", "trace=fdatasync", "-e", f"inject={what}")
        return ("strace", "-D", "-f", "--quiet=all", "-o", "/dev/null", *only)


def strikes(rng: Random, count: int) -> list[Strike]:
    """Return so many strikes, at each step as often as at any other, in an order by chance."""
    chosen = [Strike(step) for step in islice(cycle(STEPS), count)]
    rng.shuffle(chosen)
    return chosen


@dataclass(frozen=True, slots=True)
class Copy:
    """One telling of one event to one target."""

    name: str
    target: str
    at: float
    webhook_id: str | None
    is_accepted: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """The end of one life of the daemon, and what it had committed as delivered by then."""

    at: float
    """When all that it had sent was received, which may be a little later."""
    step: Step
    committed: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ledger says in the end."""

    events: int
    copies: int
    repeated: int
    kills: Counter[Step]
    violations: Sequence[str]


@dataclass(slots=True)
class _Fate:
    """A track: in which life of the daemon it ends, after how many reads, and how."""

    number: int
    life: int
    reads_left: int
    answer: Mapping[str, Any] | None
    """None when it is gone."""

    @property
    def name(self) -> str:
        return f"Track {self.number}"

    @property
    def has_ended(self) -> bool:
        return self.reads_left <= 0


@dataclass(slots=True)
class World:
    """What is outside of the daemon, in the hands of one random source."""

    rng: Random
    fates: dict[str, _Fate]
    life: int = 0
    copies: list[Copy] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    is_flaky: bool = True
    hooks: dict[Step, Callable[[], None]] = field(default_factory=dict)
    """What is done once when a step is reached."""

    def reached(self, step: Step) -> None:
        """Strike if this is the step to strike at."""
        hook = self.hooks.pop(step, None)
        if hook is not None:
            hook()

    # --- useapi.net

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Answer a read of a track; in its life it ends after a few of them."""
        fate = self.fates[request.match_info["audio_id"]]
        trouble = self._api_trouble(request)
        if trouble is not None:
            return trouble
        shown = self._shown(fate)
        response = web.json_response(shown or {"error": "gone"}, status=410 if shown is None else 200)
        return await self._answered(request, response, has_ended=fate.has_ended)

    async def read_list(self, request: web.Request) -> web.StreamResponse:
        """Answer a read of the list, which counts as one of each track that it shows."""
        trouble = self._api_trouble(request)
        if trouble is not None:
            return trouble
        there = [fate for fate in reversed(self.fates.values()) if fate.answer or not fate.has_ended]
        page = page_of([{"number": fate.number} for fate in there], request.query)
        fates = [self.fates[audio_id(one["number"])] for one in page["data"]]
        end_now = any(fate.life <= self.life and fate.reads_left == 1 for fate in fates)
        shown = [each for each in map(self._shown, fates) if each is not None]
        return await self._answered(request, web.json_response({**page, "data": shown}), has_ended=end_now)

    def _shown(self, fate: _Fate) -> Mapping[str, Any] | None:
        if fate.life <= self.life:
            fate.reads_left -= 1
        return fate.answer if fate.has_ended else track(fate.number)

    async def _answered(
        self, request: web.Request, response: web.Response, *, has_ended: bool
    ) -> web.StreamResponse:
        return await self._written(request, response, Step.AFTER_POLL) if has_ended else response

    def _api_trouble(self, request: web.Request) -> web.Response | None:
        if not self.is_flaky or self.rng.random() > 0.06:
            return None
        kind = self.rng.choice(["500", "page", "throttled", "reset"])
        match kind:
            case "500":
                return web.json_response({"error": "busy"}, status=500)
            case "page":
                return web.Response(text="<html>Bad Gateway</html>", content_type="text/html", status=502)
            case "throttled":
                return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "0.2"})
        return _reset(request)

    async def _written(self, request: web.Request, response: web.Response, step: Step) -> web.StreamResponse:
        """Send an answer to its last byte; only then the step is reached."""
        with suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
        self.reached(step)
        return response

    # --- the receivers

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Take a message, or not, and keep it in the ledger either way."""
        target, body = request.match_info["target"], await request.json()
        at = asyncio.get_running_loop().time()
        mood = self.rng.choice(["slow", "500", "limited", "page", "reset"])
        if not self.is_flaky or self.rng.random() > 0.3:
            mood = "well"
        webhook_id = request.headers.get("webhook-id")
        is_accepted = mood in {"well", "slow"}
        self.copies += [Copy(name, target, at, webhook_id, is_accepted) for name in _told(body)]
        self.reached(Step.UNDER_WAY)
        if mood == "slow":
            await asyncio.sleep(self.rng.random() * 0.3)
        if not is_accepted:
            return _refusal(mood, request)
        accepted = {
            "archive": lambda: web.Response(status=204),
            "band-room": lambda: web.Response(text="ok"),
            "studio": lambda: web.json_response({"id": "1"}),
        }[target]()
        return await self._written(request, accepted, Step.BEFORE_SETTLE)

    # --- what is so in the end

    def accepted(self) -> dict[tuple[str, str], list[Copy]]:
        """Return the copies that receivers took, by event and target."""
        taken = defaultdict(list)
        for copy in self.copies:
            if copy.is_accepted:
                taken[copy.name, copy.target].append(copy)
        return taken

    def is_complete(self) -> bool:
        """Say whether everybody was told everything."""
        return len(self.accepted()) == len(self.fates) * len(TARGETS)

    def violations(self) -> Iterator[str]:
        """Yield what must not be, as sentences."""
        accepted = self.accepted()
        for fate in self.fates.values():
            for target in TARGETS:
                copies = accepted.pop((fate.name, target), [])
                if not copies:
                    yield f"{fate.name} never reached {target}"
                yield from self._unexcused(copies)
        yield from (f"{name} came to {target}, which nobody expects" for name, target in accepted)
        yield from self._confused_ids()

    def _unexcused(self, copies: Sequence[Copy]) -> Iterator[str]:
        """Yield the copies that came although the one before was not under way at a kill."""
        for first, second in pairwise(copies):
            kill = next((kill for kill in self.kills if kill.at >= first.at), None)
            what = f"{second.name} came to {second.target} again"
            if kill is None or kill.at > second.at:
                yield f"{what}, {second.at - first.at:.3f} s later and without a kill"
            elif (first.name, first.target) in kill.committed:
                yield f"{what} after a kill {kill.step} that found it delivered"

    def _confused_ids(self) -> Iterator[str]:
        ids = defaultdict(set)
        for copy in self.copies:
            if copy.target == "archive":
                ids[copy.name].add(copy.webhook_id)
        yield from (f"{name} came as {found}" for name, found in ids.items() if len(found) > 1)
        if len({found for several in ids.values() for found in several}) < len(ids):
            yield "different events came with the same webhook-id"

    def disorder(self, order: Sequence[str]) -> Iterator[str]:
        """Yield the chats that heard of events in another order than they were detected in."""
        for target in _IN_ORDER:
            heard = dict.fromkeys(c.name for c in self.copies if c.target == target and c.is_accepted)
            position = {name: index for index, name in enumerate(order)}
            if [*heard] != sorted(heard, key=position.__getitem__):
                yield f"{target} heard in the order {[*heard]}, events came as {[*order]}"


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refusal(mood: str, request: web.Request) -> web.Response:
    match mood:
        case "500":
            return web.Response(text="busy", status=500)
        case "limited":
            return web.json_response({"retry_after": 0.2}, status=429, headers={"Retry-After": "1"})
        case "page":
            return web.Response(text="<html>Bad Gateway</html>", content_type="text/html", status=502)
    return _reset(request)


def _told(payload: Mapping[str, Any]) -> list[str]:
    """Return which tracks a message tells of, whatever its form."""
    if "data" in payload:
        return [payload["data"]["name"]]
    text = json.dumps(payload.get("blocks") or payload.get("embeds") or payload)
    return [*dict.fromkeys(re.findall(r"Track \d+", text))]


class Ledger:
    """The daemon's lives and deaths in a directory. `run` it once."""

    def __init__(self, directory: Path, rng: Random, strikes: Sequence[Strike], *, tracks: int) -> None:
        self._rng = rng
        self._directory = directory
        self._file = directory / "watchlist.yaml"
        self._state = directory / "state.db"
        self._strikes = strikes
        self._world = World(self._rng, dict(_fates(self._rng, tracks, lives=len(strikes))))
        self._reloads = 0
        self._start_takes = 1.0

    async def run(self) -> Verdict:
        """Kill the daemon at every step, let it finish, and say what the receivers have seen."""
        world = self._world
        app = web.Application()
        app.router.add_get("/v2/pixverse/music/", world.read_list)
        app.router.add_get("/v2/pixverse/music/{audio_id}", world.read)
        app.router.add_post("/{target}", world.receive)
        self._runner = runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._write()
            for world.life, strike in enumerate(self._strikes):
                await self._live_until(strike)
            await self._live_on()
        finally:
            await runner.cleanup()
        return await self._verdict()

    async def _live_until(self, strike: Strike) -> None:
        """Start the daemon, let it be killed at a step, and note what it has committed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with daemon(self._file, is_up=False, within=strike.command) as running:
            match strike.step:
                case Step.AT_SYNC:
                    pass
                case Step.DURING_START:
                    await asyncio.sleep(self._rng.random() * self._start_takes)
                    running.kill()
                case step:
                    await running.logged("daemon.started")
                    self._start_takes = loop.time() - began
                    await self._reach(step, running)
            assert await running.ended() == -signal.SIGKILL
        await self._heard_out()
        self._world.kills.append(Kill(loop.time(), strike.step, await self._committed()))

    async def _heard_out(self) -> None:
        """Return when all that the dead daemon has sent is received."""
        assert self._runner.server is not None
        while self._runner.server.connections:
            await asyncio.sleep(0.001)
        for _ in range(20):  # what came last is on its way through the loop
            await asyncio.sleep(0)

    async def _reach(self, step: Step, running: Daemon) -> None:
        """Kill the daemon at a step, or leave it to the outside to strike there."""
        match step:
            case Step.AFTER_COMMIT:
                await running.until(lambda: any(running.records(end) for end in _ENDS), step)
            case Step.DURING_RELOAD:
                self._write()
                running.reload()
                await asyncio.sleep(self._rng.random() * 0.1)
            case Step.ANY_TIME:
                await asyncio.sleep(self._rng.random() * 1.5)
            case _:
                self._world.hooks[step] = running.kill
                return
        running.kill()

    async def _live_on(self) -> None:
        """Let the daemon do the rest undisturbed; another start after that tells nothing more."""
        self._world.life += 1
        self._world.is_flaky = False
        async with daemon(self._file) as running:
            with suppress(TimeoutError):  # what is missing then stands in the verdict
                async with asyncio.timeout(PATIENCE):
                    while not self._world.is_complete() or await self._pending_count():
                        await asyncio.sleep(0.05)
            assert await running.stop() == 0
        copies = len(self._world.copies)
        async with daemon(self._file) as running:
            await asyncio.sleep(_QUIET)
            assert await running.stop() == 0
        assert len(self._world.copies) == copies

    async def _verdict(self) -> Verdict:
        world = self._world
        async with Store(self._state, is_read_only=True) as store:
            rows = await store.deliveries()
        violations = [*world.violations(), *world.disorder([*dict.fromkeys(row.name for row in rows)])]
        violations += [
            f"{row.name} to {row.target} is {row.state}" for row in rows if row.state != "delivered"
        ]
        copies = sum(map(len, world.accepted().values()))
        kills = Counter(kill.step for kill in world.kills)
        expected = len(world.fates) * len(TARGETS)
        return Verdict(len(world.fates), copies, copies - expected, kills, violations)

    async def _committed(self) -> frozenset[tuple[str, str]]:
        """Return what a dead daemon has left as delivered; looked up in a copy, to disturb nothing."""
        with tempfile.TemporaryDirectory(dir=self._directory) as place:
            for file in self._directory.glob("state.db*"):
                shutil.copy(file, place)
            if not (copy := Path(place, "state.db")).exists() or copy.stat().st_size == 0:
                return frozenset()
            async with Store(copy) as store:
                rows = await store.deliveries(state="delivered")
        return frozenset((row.name, row.target) for row in rows)

    async def _pending_count(self) -> int:
        async with Store(self._state, is_read_only=True) as store:
            return len(await store.ids_in_state(DeliveryState.PENDING))

    def _write(self) -> None:
        """Write the watchlist; each time with another entry that never ends, so that it is a change."""
        self._reloads += 1
        base = self._url
        kinds = {"archive": "webhook", "band-room": "slack", "studio": "discord"}
        names = [(fate.number, fate.name) for fate in self._world.fates.values()]
        watchlist = {
            "useapi": {"token": "user:1-abc", "base_url": f"{base}/v2/pixverse", "rate": "500/s"},
            "poll": {"interval": "60ms", "max_interval": "250ms", "stalled_after": "3000d"},
            "delivery": {"first_retry": "50ms", "max_retry": "300ms", "timeout": "60s"},
            "targets": {name: {"type": kind, "url": f"{base}/{name}"} for name, kind in kinds.items()},
            "defaults": {"events": ["completed", "failed", "missing"]},
            "state": str(self._state),
            "watch": [{"audio_id": audio_id(number), "name": name} for number, name in names],
            "log": {"level": ["info", "debug"][self._reloads % 2]},
        }
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(watchlist, indent=1))
        new.chmod(0o600)
        new.replace(self._file)


def _fates(rng: Random, tracks: int, *, lives: int) -> Iterator[tuple[str, _Fate]]:
    """Yield tracks, some of which end in each life of the daemon."""
    for number in range(1, tracks + 1):
        answer = rng.choice([completed(number), completed(number), failed(number), None])
        yield audio_id(number), _Fate(number, number % lives, rng.randint(1, _MOST_READS), answer)


@click.command()
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--kills", type=click.IntRange(len(STEPS)), default=28, show_default=True)
@click.option("--syncs", type=click.IntRange(0), default=0, help="Kill before each of so many syncs, too.")
@click.option("--tracks", type=click.IntRange(1), default=60, show_default=True)
def main(seed: int, kills: int, syncs: int, tracks: int) -> None:
    """Kill the daemon many times and print what its receivers have seen; exit 1 if they may complain."""
    with tempfile.TemporaryDirectory(prefix="notifier-ledger-") as directory:
        rng = Random(seed)
        plan = [*strikes(rng, kills), *(Strike(Step.AT_SYNC, number + 1) for number in range(syncs))]
        ledger = Ledger(Path(directory), rng, plan, tracks=tracks)
        verdict = asyncio.run(ledger.run())
    click.echo(
        f"seed {seed}: {verdict.events} events to {len(TARGETS)} targets, {verdict.copies} messages, "
        f"{verdict.repeated} repeated after {sum(verdict.kills.values())} kills"
    )
    for violation in verdict.violations:
        click.echo(f"  {violation}")
    sys.exit(1 if verdict.violations else 0)


if __name__ == "__main__":
    main()
