"""What all tests here share."""

import pytest

from tests.support.process import PASSED_ON


@pytest.fixture(autouse=True)
def _uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count no coverage in processes that are mostly killed: it cost them half of their time."""
    for name in PASSED_ON:
        monkeypatch.delenv(name, raising=False)
