"""The run of the daemon that all tests here look at, made once for each process that runs tests."""

import asyncio
from pathlib import Path

import pytest

from tests.monitoring.history import History, history


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Run the daemon through everything that can happen."""
    directory: Path = tmp_path_factory.mktemp("history")
    return asyncio.run(history(directory))
