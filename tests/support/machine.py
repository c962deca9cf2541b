"""What this machine has."""

import os
import shutil

import pytest


def needs(program: str) -> None:
    """Skip a test where a program is not installed; where CI runs, it has to be."""
    if shutil.which(program) is not None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, although CI installs what the tests need")
    pytest.skip(f"{program} is not installed")
