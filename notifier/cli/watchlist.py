"""The commands around the watchlist: ``run``, ``check``, ``schema``, ``test``, and ``demo``.

Imports what needs the network only where a command needs it, so that the others start quickly.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
import structlog

from notifier import display, loading, paths
from notifier.cli import words
from notifier.cli.options import (
    EXIT_CONFIG,
    EXIT_IN_USE,
    EXIT_STORAGE,
    config_option,
    fail,
    state_option,
    unknown_target,
)
from notifier.loading import InvalidConfigError
from notifier.store import InUseError, RunLock, StorageError

_THREADS = "notifier-files"
_LAST_CHANCE = 1.0
_TURN_OF_A_THREAD = 0.0005
"""How many seconds one that reads a large watchlist may keep the loop waiting, each time that it waits."""


@click.command()
@config_option
@state_option
def run(config: str | None, state_file: str | None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    _open_standard_streams()
    file = paths.config_file(config)
    try:
        loaded = loading.load(file)
    except InvalidConfigError as error:
        _fail(error.lines(), EXIT_CONFIG)
    path = paths.state_file(state_file, loaded.config.state)
    lock = RunLock(path)
    try:
        lock.acquire()
        _run_daemon(loaded, file, path)
    except InUseError as error:
        _fail([f"notifier: {error}"], EXIT_IN_USE)
    except StorageError as error:
        _fail([f"notifier: {error}"], EXIT_STORAGE)
    except Exception as error:
        structlog.get_logger().critical("daemon.crashed", exc_info=error)
        sys.exit(1)
    finally:
        lock.release()


def _fail(lines: list[str], code: int) -> NoReturn:
    fail("\n".join(_as_errors(lines, sys.stderr)), code)


def _as_errors(lines: list[str], stream: TextIO | None) -> list[str]:
    """Return the lines as the journal knows errors, if that is where they go; else as they are."""
    from notifier.log import is_journal  # noqa: PLC0415

    return [f"<3>{line}" for line in lines] if stream and is_journal(stream, os.environ) else lines


def _open_standard_streams() -> None:
    """Occupy closed descriptors, lest the state file gets one of them and a stray line lands in it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run_daemon(loaded: loading.Loaded, file: str, path: Path) -> None:
    from notifier import log  # noqa: PLC0415

    log.configure(loaded.config.log.level, loaded.config.log.format)  # NB: first, lest a crash is a page long
    from notifier.app import App  # noqa: PLC0415

    for warning in loaded.warnings:
        structlog.get_logger().warning("config.warning", text=warning.line(file))
    sys.setswitchinterval(_TURN_OF_A_THREAD)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_daemon(App, loaded, file, path))


async def _daemon(app: Any, loaded: loading.Loaded, file: str, path: Path) -> None:
    executor = ThreadPoolExecutor(thread_name_prefix=_THREADS)
    asyncio.get_running_loop().set_default_executor(executor)
    await app(loaded, config_file=file, state_file=path).run()
    executor.shutdown(wait=False, cancel_futures=True)
    _leave_stuck_threads()


def _leave_stuck_threads() -> None:
    """End the process now if a thread hangs, as a look at the watchlist does while its disk is away.

    Python would wait for it longer than systemd waits for us; all that is to be kept is on the disk by now.
    """
    deadline = time.monotonic() + _LAST_CHANCE
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        sys.stderr.flush()
        os._exit(0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@click.command()
@config_option
@click.option("--resolve", is_flag=True, help="Resolve references too, instead of judging their form only.")
def check(config: str | None, resolve: bool) -> None:
    """Validate the watchlist and print every mistake."""
    file = paths.config_file(config)
    try:
        loaded = loading.load(file, resolve=resolve)
    except InvalidConfigError as error:
        for line in _as_errors(error.lines(), sys.stdout):
            click.echo(line)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(warning.line(file))
    watches, targets = len(loaded.config.watch), len(loaded.config.targets)
    click.echo(f"{file}: valid, {_count(watches, 'track')}, {_count(targets, 'target')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@click.command()
def schema() -> None:
    """Print the JSON Schema of the watchlist."""
    from notifier.watchlist_schema import json_schema  # noqa: PLC0415

    display.print_json(json_schema())


@click.command(short_help="Send a sample event to targets.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=words.targets)
@click.option(
    "--event", type=click.Choice(["completed", "failed"]), default="completed", help="Which sample."
)
@config_option
def test(targets: tuple[str, ...], event: str, config: str | None) -> None:
    """Send a sample event to targets, all of them by default, and show what each answered."""
    from notifier.trial import try_targets  # noqa: PLC0415

    file = paths.config_file(config)
    try:
        loaded = loading.load(file)
    except InvalidConfigError as error:
        for line in error.lines():
            click.echo(line, err=True)
        sys.exit(1)
    names = targets or tuple(loaded.config.targets)
    for name in names:
        if name not in loaded.config.targets:
            raise click.UsageError(unknown_target(name, loaded.config.targets))
    results = asyncio.run(try_targets(loaded, names, is_completed=event == "completed"))
    display.table(
        "Test messages",
        ("target", "type", "result", "answer"),
        ((result.target, result.type, result.verdict, result.answer) for result in results),
        empty="no targets",
    )
    sys.exit(0 if all(result.is_accepted for result in results) else 1)


@click.command(short_help="Show the whole thing without an account.")
@click.option(
    "--speed",
    type=click.FloatRange(min=10, max=100),
    default=20.0,
    show_default=True,
    metavar="N",
    help="How much faster than real time the simulated tracks are made.",
)
def demo(speed: float) -> None:
    """Show the whole thing without an account: a simulated API, a watchlist and receivers on this machine."""
    from notifier.demo import play  # noqa: PLC0415

    if not math.isfinite(speed):
        raise click.BadParameter("expected a number", param_hint="--speed")
    sys.exit(asyncio.run(play(speed)))
