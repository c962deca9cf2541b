"""The two clocks of the daemon and how a moment is written down.

The wall clock says when something happened and may jump; the monotonic clock says how long to wait and
never does. Code that decides takes moments as arguments; only the shell around it holds a `Clock`.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the shell reads the time, so that a test or the demo can hand it another one."""

    def now(self) -> datetime:
        """Return the wall clock's moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that only ever goes forward."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when so many seconds have passed on the monotonic clock."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """Return the wall clock's moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds on a clock that only ever goes forward."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return when so many seconds have passed on the monotonic clock."""
        await asyncio.sleep(seconds)


def to_rfc3339(moment: datetime) -> str:
    """Write an aware moment as RFC 3339 in UTC with milliseconds: ``2026-06-23T12:38:20.123Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def from_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 moment as aware UTC; other forms of ISO 8601 pass, and no offset is taken as UTC.

    Raises ValueError for anything else, also for moments outside the years 1 to 9999.
    """
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error
