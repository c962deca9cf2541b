"""That coverage leaves out the tests that say so, also in the processes among which they are dealt out."""

import sys

import pytest


@pytest.mark.no_cover
def test_a_test_that_is_left_out_of_coverage_is_not_traced() -> None:
    assert type(sys.gettrace()).__name__ not in {"CTracer", "PyTracer"}
