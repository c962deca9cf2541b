"""The first half second of the daemon, while Python imports its modules."""

import signal
from pathlib import Path

import pytest

from tests.support.process import Daemon, daemon

WATCHLIST = """
useapi: {token: user:1-abc, base_url: "http://127.0.0.1:9"}
targets: {a: {type: webhook, url: "http://127.0.0.1:9"}}
watch: []
"""
SAYING_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}


@pytest.fixture
def watchlist(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_text(f"{WATCHLIST}\nstate: {tmp_path}/state.db\n", encoding="utf-8")
    return file


async def begun(running: Daemon) -> None:
    """Wait until some modules are imported, and as a rule many are not."""
    await running.until(lambda: any(line.endswith(" click.globals") for line in running.lines), "click")


async def test_a_signal_to_reload_does_not_end_a_daemon_that_has_hardly_begun(watchlist: Path) -> None:
    async with daemon(watchlist, is_up=False, extra=SAYING_IMPORTS) as running:
        await begun(running)
        running.signal(signal.SIGHUP)
        await running.logged("daemon.started")
        assert await running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_daemon_that_has_hardly_begun_stops_in_an_orderly_way(
    watchlist: Path, number: signal.Signals
) -> None:
    async with daemon(watchlist, is_up=False, extra=SAYING_IMPORTS) as running:
        await begun(running)
        running.signal(number)
        assert await running.ended() == 0
    said = [line for line in running.lines if not line.startswith(("import time:", "{"))]
    assert said == [], "nothing but imports and, on a machine that takes its time, the log"
