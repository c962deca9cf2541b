"""``notifier demo``: the real daemon, as a process of its own, in a simulated world on this machine."""

import asyncio
import base64
import contextlib
import os
import secrets
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiohttp import web
from rich.console import Console
from rich.text import Text

from notifier.display import is_terminal
from notifier.duration import spell_compact
from notifier.simulation import FATES, STALLED_AFTER, TOKEN, Fate, Receivers, SimulatedApi, World
from notifier.text import minutes

_LONGEST = 27.0
_STYLES = {"useapi.net": "dim", "Slack": "magenta", "Discord": "blue", "webhook": "cyan"}


async def play(speed: float) -> int:
    """Run the demo to its end; 0 when every message came exactly once, else 1.

    A signal to end, or the end of the terminal, cleans up like Ctrl-C does.
    """
    loop, playing = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, lambda: playing.cancel() if playing is not None else None)
    try:
        return await _play(speed)
    except asyncio.CancelledError:
        return 1


async def _play(speed: float) -> int:
    printer = _Printer(speed)
    world = World(speed, printer.say)
    printer.world = world
    with tempfile.TemporaryDirectory(prefix="notifier-demo-") as directory:
        watchlist = Path(directory, "watchlist.yaml")
        async with _serve(SimulatedApi(world).app()) as api, _serve(Receivers(world).app()) as receivers:
            _write(watchlist, _watchlist(api, receivers, speed))
            printer.introduce()
            async with _daemon(watchlist, watchlist.with_name("state.db")) as daemon:
                await _until_all_came(world, daemon)
        return printer.conclude(daemon.returncode, _read(watchlist.with_name("daemon.log")))


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


@contextlib.asynccontextmanager
async def _serve(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _daemon(watchlist: Path, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``notifier run`` beside, and stop it as systemd would, whatever happens here."""
    command = [sys.executable, "-m", "notifier", "run", "-c", str(watchlist), "--state-file", str(state)]
    environment = {**os.environ, "NOTIFY_SOCKET": ""}
    with watchlist.with_name("daemon.log").open("wb") as log:
        daemon = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
        try:
            yield daemon
        finally:
            with contextlib.suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGTERM)
            await daemon.wait()


async def _until_all_came(world: World, daemon: asyncio.subprocess.Process) -> None:
    deadline = asyncio.get_running_loop().time() + _LONGEST
    while daemon.returncode is None and asyncio.get_running_loop().time() < deadline:
        if _missing(world):
            await asyncio.sleep(0.1)
        else:
            await asyncio.sleep(0.5)  # long enough for a second copy to come, if there were one
            return


def _expected() -> Iterator[tuple[str, str, str]]:
    for fate in FATES:
        for event_type in fate.events:
            for receiver in fate.notify or ("band-room", "studio", "archive"):
                yield receiver, event_type.value, fate.name


def _missing(world: World) -> set[tuple[str, str, str]]:
    return set(_expected()) - set(world.received)


def _watchlist(api: str, receivers: str, speed: float) -> str:
    """Write a watchlist whose times are as much shorter as the simulated clock is faster."""

    def shortened(seconds: float) -> str:
        return f"{max(0.05, seconds / speed):.3f}s"

    entries = "".join(_entry(fate) for fate in FATES)
    signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return f"""useapi:
  token: {TOKEN}
  base_url: {api}/v2/pixverse
  rate: 100/s
poll:
  interval: {shortened(15)}
  max_interval: {shortened(300)}
  stalled_after: {spell_compact(STALLED_AFTER)}
delivery:
  first_retry: {shortened(5)}
targets:
  band-room: {{type: slack, url: "{receivers}/slack"}}
  studio: {{type: discord, url: "{receivers}/discord"}}
  archive: {{type: webhook, url: "{receivers}/archive", secret: {signing}}}
defaults:
  events: [completed, failed, missing, stalled]
watch:
{entries}log: {{format: logfmt}}
"""


def _entry(fate: Fate) -> str:
    notify = f"    notify: [{', '.join(fate.notify)}]\n" if fate.notify else ""
    return f"  - audio_id: {fate.audio_id}\n    name: {fate.name}\n{notify}"


class _Printer:
    """Shows what happens as it happens."""

    def __init__(self, speed: float) -> None:
        self.world: World | None = None
        self._speed = speed
        self._console = (
            Console(highlight=False) if is_terminal() else Console(highlight=False, width=100, no_color=True)
        )

    def introduce(self) -> None:
        names = ", ".join(fate.name for fate in FATES)
        self._console.print(
            f"notifier demo: {len(FATES)} tracks on a simulated useapi.net whose clock runs {self._speed:g} "
            f"times as fast,\nwatched by the real daemon.\nTracks: {names}.\n"
        )

    def say(self, who: str, what: str) -> None:
        """Print who received or did what, at which simulated time."""
        at = minutes(self.world.now()) if self.world is not None else "0:00"
        style = next((style for prefix, style in _STYLES.items() if who.startswith(prefix)), "")
        first, *rest = what.split("\n")
        self._console.print(Text.assemble(f"{at:>5}  ", (f"{who:<18}", style), first), soft_wrap=True)
        for line in rest:
            self._console.print(Text(f"{'':25}{line}", style="dim"), soft_wrap=True)

    def conclude(self, exit_code: int | None, log: str) -> int:
        """Print how it went; return the demo's exit code."""
        world = self.world
        if world is None:
            return 1
        counts = Counter(world.received)
        repeated = [message for message, count in counts.items() if count > 1]
        lost = _missing(world)
        self._console.print(
            f"\n{len(world.received)} messages received, {len(lost)} lost, {len(repeated)} repeated; "
            f"{world.request_count} requests to the API, one outage and one rate limit on the way.",
            soft_wrap=True,
        )
        if not lost and not repeated and exit_code == 0:
            self._console.print("Now write a watchlist of your own: see config/watchlist.yaml.")
            return 0
        self._console.print(
            f"The daemon ended with {exit_code}. What it said last:\n{log[-3000:]}", markup=False
        )
        return 1
