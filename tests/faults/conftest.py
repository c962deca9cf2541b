"""What all tests here share: they count no coverage, which costs what is hammered half of its time."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count none in the tests themselves."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("no_cover")
