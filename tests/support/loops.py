"""The event loops that the daemon may run on."""

import asyncio
import contextlib
import importlib
from collections.abc import Callable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loops() -> list[LoopFactory]:
    """Return those that are here; uvloop is an extra."""
    found: list[LoopFactory] = [asyncio.new_event_loop]
    with contextlib.suppress(ImportError):
        found.append(importlib.import_module("uvloop").new_event_loop)
    return found
