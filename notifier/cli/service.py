"""What ``run`` does: the daemon, from the watchlist and the lock to the exit code."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import structlog

from notifier import loading, log, paths
from notifier.cli.options import EXIT_CONFIG, EXIT_IN_USE, EXIT_STORAGE, as_errors, fail
from notifier.loading import InvalidConfigError
from notifier.store import InUseError, RunLock, StorageError

_THREADS = "notifier-files"
_LAST_CHANCE = 1.0
_TURN_OF_A_THREAD = 0.0005
"""How many seconds one that reads a large watchlist may keep the loop waiting, each time that it waits."""


def serve(config: str | None, state_file: str | None) -> None:
    """Run the daemon until it is told to stop, and exit as its end wants it."""
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
    fail("\n".join(as_errors(lines, sys.stderr)), code)


def _open_standard_streams() -> None:
    """Occupy closed descriptors, lest the state file gets one of them and a stray line lands in it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run_daemon(loaded: loading.Loaded, file: str, path: Path) -> None:
    log.configure(loaded.config.log.level, loaded.config.log.format)  # NB: first, lest a crash is a page long
    from notifier.app import App

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
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
