"""Fixtures for all tests: servers on loopback and a store in a temporary directory."""

import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from notifier.store import Store
from tests.support.machine import needs
from tests.support.process import PASSED_ON
from tests.support.servers import Server, ok_receiver, serving

settings.register_profile("here", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("here")

SHARING = (
    "tests/browser/",
    "tests/monitoring/",
    "tests/systemd/test_booted.py",
    "tests/systemd/test_install.py",
    "tests/systemd/test_service.py",
    "tests/test_container.py",
)
"""Tests that share what takes long to set up: a browser, a booted machine, a daemon that has seen it all."""

COUNTED = (
    "tests/doctor/test_command.py",
    "tests/test_cli.py",
    "tests/test_completion.py",
    "tests/test_demo.py",
    "tests/test_handover.py",
    "tests/test_manual.py",
    "tests/test_run.py",
    "tests/test_watch.py",
)
"""Tests of what only processes do: theirs count coverage, which makes each start half as long again.

The processes of the others go the same ways once more.
"""
_COUNTING = pytest.StashKey[dict[str, str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Begin no coverage of a worker's process as such: pytest-cov begins that of the tests in it."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """End the coverage that pytest-cov has begun in a worker before it knew that it is in one.

    NB: any other than the one that it begins now goes on when that pauses. Tests that are to be left out were
    traced all the same, and took three times as long.
    """
    plugin = session.config.pluginmanager.getplugin("_cov")
    if hasattr(session.config, "workerinput") and plugin and plugin.cov_controller:
        plugin.cov_controller.cov.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give each test to whichever worker is free, but those that share something to one and the same."""
    return _Sharing(config, log)


class _Sharing(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in SHARING if nodeid.startswith(place)), nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count no coverage where thousands of examples repeat what plain tests cover: it doubled their time."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("no_cover")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the processes of a test and of its fixtures count coverage where that tells something."""
    found = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    counting = item.config.stash.setdefault(_COUNTING, found)
    for name, value in counting.items():
        if item.nodeid.startswith(COUNTED):
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


@pytest.fixture
async def api() -> AsyncIterator[Server]:
    """A useapi.net that knows no track until told."""
    async with serving() as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[Server]:
    """A server that accepts every message."""
    async with serving() as server:
        server.otherwise(ok_receiver)
        yield server


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty state file."""
    async with Store(tmp_path / "state" / "state.db") as store:
        yield store


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's certificate for localhost that nobody else signed, made by openssl."""
    directory = tmp_path_factory.mktemp("tls")
    key, public = directory / "key.pem", directory / "certificate.pem"
    needs("openssl")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, *about, "-keyout", str(key), "-out", str(public)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    return context
