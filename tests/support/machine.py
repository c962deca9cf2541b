"""What this machine has."""

import os
import shutil
from typing import NoReturn

import pytest


def needs(program: str) -> None:
    """Skip a test where a program is not installed; where CI runs, it has to be."""
    if shutil.which(program) is None:
        lacking(f"{program} is not installed")


def lacking(what: str) -> NoReturn:
    """Skip a test that this machine cannot run; where CI runs, it has to be able to."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, although CI runs on a machine that has what the tests need")
    pytest.skip(what)
