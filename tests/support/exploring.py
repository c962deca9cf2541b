"""How far hypothesis looks: a short and repeatable way each time, further by hand, and how much work that is.

``EXAMPLES_TIMES=50 pytest tests/faults`` draws fifty times as many examples, other ones each time.
"""

import os
import sys
import time
from collections.abc import Callable
from types import FrameType

from hypothesis import HealthCheck, settings

_TIMES = int(os.environ.get("EXAMPLES_TIMES", "1"))


def examples(count: int) -> settings:
    """Return the settings for so many examples."""
    return settings(
        max_examples=count * _TIMES,
        derandomize=_TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def work_of(action: Callable[[], object]) -> int:
    """Count the calls of Python functions that something takes: the same on any machine, however busy."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def growth_of(action: Callable[[str], object], text: Callable[[int], str], size: int) -> float:
    """Return how many times the processor's time it takes for four times the text: about 4 when linear.

    For what happens inside C, where no calls can be counted. The quickest of several tries is the least
    disturbed one.
    """

    def seconds(long: str) -> float:
        began = time.thread_time()
        action(long)
        return time.thread_time() - began

    short, long = text(size), text(size * 4)
    return min(seconds(long) for _ in range(5)) / max(min(seconds(short) for _ in range(5)), 1e-4)
