"""Whether the loop turns and the scheduler moves on, felt once a second from inside the loop.

A loop that stands still cannot say so: whoever asks it gets no answer until it turns again. So what was felt
is kept for a minute, in which `/healthz` tells of it. Judges neither the API nor the disk.
"""

from collections import deque
from collections.abc import Callable

import structlog

from notifier.clock import Clock, until_next_second

_TICK = 1.0
_WORTH_A_LINE = 5.0
_MEMORY = 60.0
PATIENCE = 10.0
"""How many seconds of the last minute the loop may stand still, and on end the scheduler and the disk."""

log = structlog.get_logger()


class Vitals:
    """Let `feel` run for as long as the daemon does."""

    def __init__(self, clock: Clock, last_beat: Callable[[], float]) -> None:
        self._clock = clock
        self._last_beat = last_beat
        self._beat = last_beat()
        self._standstills: deque[tuple[float, float]] = deque()
        """When the loop turned again, and how long it had stood still."""
        self.scheduler_silence = 0.0
        """For how many seconds in which the loop turned the scheduler has not moved on."""

    async def feel(self) -> None:
        """Feel the pulse for ever."""
        while True:
            before = self._clock.awake()
            pause = until_next_second(before)
            await self._clock.sleep(pause)
            self._felt(self._clock.awake() - before - pause)

    def _felt(self, late: float) -> None:
        """Take note of a tick that came so many seconds late."""
        beat = self._last_beat()
        self.scheduler_silence = 0.0 if beat != self._beat else self.scheduler_silence + _TICK
        self._beat = beat
        if late >= _TICK:
            self._standstills.append((self._clock.awake(), late))
        if late >= _WORTH_A_LINE:
            log.warning("loop.stalled", seconds=round(late, 1))

    @property
    def stood_still(self) -> float:
        """For how many seconds of the last minute the loop stood still, counted from one second on."""
        while self._standstills and self._standstills[0][0] < self._clock.awake() - _MEMORY:
            self._standstills.popleft()
        return sum(seconds for _, seconds in self._standstills)
