"""A clock that stands still until it is moved."""

import asyncio
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Both clocks by hand; the wall clock can be made to jump without the monotonic one."""

    def __init__(self, now: datetime = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)) -> None:
        self._now = now
        self._seconds = 1000.0
        self._slept = 0.0
        self.standing: asyncio.Event | None = None
        """While there is one, nobody who sleeps wakes before it is set."""

    def now(self) -> datetime:
        """Return the wall clock's moment."""
        return self._now

    def monotonic(self) -> float:
        """Return the monotonic clock's seconds."""
        return self._seconds

    def awake(self) -> float:
        """Return the monotonic clock's seconds but for those of `suspend`."""
        return self._seconds - self._slept

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once, unless the clock stands."""
        if self.standing is not None:
            await self.standing.wait()
        self.move(seconds)
        await asyncio.sleep(0)

    def move(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += timedelta(seconds=seconds)
        self._seconds += seconds

    def suspend(self, length: timedelta) -> None:
        """Let time pass while the machine sleeps."""
        self.move(length.total_seconds())
        self._slept += length.total_seconds()

    def jump(self, length: timedelta) -> None:
        """Set the wall clock, as an administrator or NTP does."""
        self._now += length
