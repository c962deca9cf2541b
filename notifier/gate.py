"""The gate of one remote end: open, waiting until a moment, or paused until a person acts.

A failure that concerns the remote end closes its gate for everyone behind it; when the wait is over one
caller goes first as the probe, and only its success opens the gate for the others. The gate also keeps the
remote end's pace. It does no I/O and reads no clock: moments are seconds on the monotonic clock, passed in.
"""

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from random import Random

from notifier.delivery import LONGEST_HINT, Backoff

_LONGEST_PERIOD = 60.0
"""No pace counts requests for longer, in seconds."""


class GateState(StrEnum):
    """What ``status`` says of a target's gate."""

    OPEN = "open"
    WAITING = "waiting"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `count` requests in any `period`; the first after a quiet time leaves at once."""

    count: int
    period: timedelta


@dataclass(slots=True)
class Passage:
    """The right to send one request; as the probe when the gate is closed to all others."""

    is_probe: bool
    epoch: int = 0
    """How often the gate had been reopened by then; what came before concerns another remote end."""
    is_suspect: bool = False
    """Whether it may be its own request that fails: then another one had better be the probe."""
    has_left: bool = False
    """Whether the request is under way, so that nobody takes its place any more."""


class Gate:
    """See the module. One instance for each remote end; used from one event loop."""

    def __init__(self, *, backoff: Backoff, pace: Pace | None, rng: Random) -> None:
        self.backoff = backoff
        self._pace = pace
        self._rng = rng
        self._starts: deque[float] = deque(maxlen=pace.count if pace else 1)
        self._not_before = float("-inf")
        """Our own back-off, which a person may cut short."""
        self._told_until = float("-inf")
        """What the other side has asked for, which nobody may."""
        self._probe: Passage | None = None
        self._epoch = 0
        self.failures = 0
        self.reason: str | None = None
        self.is_paused = False

    def state(self, now: float) -> GateState:
        """Say how the gate stands; a wait that is over but not yet proven so still counts as waiting."""
        if self.is_paused:
            return GateState.PAUSED
        is_waiting = self.failures > 0 or self.closed_for(now) > 0
        return GateState.WAITING if is_waiting else GateState.OPEN

    def closed_for(self, now: float) -> float:
        """Return the seconds until the gate may be tried again, 0 when it may be now. Leaves out the pace."""
        return max(0.0, self._told_until - now, self._not_before - now)

    def told_for(self, now: float) -> float:
        """Return the seconds that the other side has asked to be left alone for, from now on."""
        return max(0.0, self._told_until - now)

    def is_at_rest(self, now: float) -> bool:
        """Say whether a new gate would do as well: nobody waits, and no pace counts what was sent."""
        is_open = self.state(now) is GateState.OPEN
        return is_open and (not self._starts or now - self._starts[-1] > _LONGEST_PERIOD)

    def claim(self, *, is_suspect: bool = False) -> Passage | None:
        """Ask to go through once `remaining` is over; None when somebody else must go first.

        With a closed gate the first who asks becomes the probe; a suspect only until another asks. Whoever
        holds a passage ends it with `succeeded`, `failed` or `pause` when there is an answer, and with
        `release` in any case.
        """
        if self.is_paused or (self.failures and not self._is_free(is_suspect=is_suspect)):
            return None
        passage = Passage(self.failures > 0, self._epoch, is_suspect)
        if passage.is_probe:
            self._probe = passage
        return passage

    def _is_free(self, *, is_suspect: bool) -> bool:
        """Say whether the place of the probe may be taken."""
        return self._probe is None or (self._probe.is_suspect and not (is_suspect or self._probe.has_left))

    def allows(self, passage: Passage) -> bool:
        """Say whether a passage still is the right to send: the gate is open, or its holder is the probe."""
        return not self.failures or passage is self._probe

    def is_current(self, passage: Passage) -> bool:
        """Say whether an answer still concerns what is behind the gate: not once it was reopened since."""
        return passage.epoch == self._epoch

    def remaining(self, now: float) -> float:
        """Return the seconds until a request may leave: the wait and the pace. Ask again after sleeping."""
        return max(self.closed_for(now), self._paced_for(now))

    def release(self, passage: Passage) -> None:
        """Give a passage back, so that another can become the probe."""
        if passage is self._probe:
            self._probe = None

    def enter(self, now: float) -> None:
        """Note that a request leaves now, for the pace."""
        self._starts.append(now)

    def _paced_for(self, now: float) -> float:
        if self._pace is None or len(self._starts) < self._pace.count:
            return 0.0
        return max(0.0, self._starts[0] + self._pace.period.total_seconds() - now)

    def succeeded(self) -> bool:
        """Open the gate after an answer that shows the remote end well; True when it was closed.

        A paused gate stays paused: the answer is to a request that left before, and a person is needed.
        """
        if self.is_paused:
            return False
        was_closed = self.failures > 0
        self.failures = 0
        self._probe = None
        self.reason = None
        return was_closed

    def failed(self, now: float, passage: Passage, reason: str, *, after: timedelta | None = None) -> bool:
        """Close the gate after a failure of the remote end, for at least `after` when it said so.

        Requests under way together that fail together count as one failure: False for the later ones. So
        does one that fails while the gate is paused, which changes nothing.
        """
        if after is not None:
            self._tell(now, after)
        if self.is_paused:
            return False
        is_new = passage.is_probe or self.failures == 0
        if is_new:
            self.failures += 1
            delay = self.backoff.delay(self.failures, self._rng, at_least=after)
            self._not_before = max(self._not_before, now + delay.total_seconds())
        self.reason = reason
        return is_new

    def _tell(self, now: float, length: timedelta) -> None:
        self._told_until = max(self._told_until, now + min(length, LONGEST_HINT).total_seconds())

    def hasten(self) -> None:
        """Let the next probe leave as soon as the other side allows it: our own back-off is over."""
        self._not_before = float("-inf")

    def repace(self, pace: Pace | None) -> None:
        """Keep another pace from now on, also with regard to the requests just sent."""
        self._pace = pace
        self._starts = deque(self._starts, maxlen=pace.count if pace else 1)

    def hold(self, now: float, length: timedelta, reason: str) -> None:
        """Let nobody through before `length` is over although nothing failed: the other side said so."""
        self._tell(now, length)
        if not self.is_paused:
            self.reason = reason

    def pause(self, reason: str) -> None:
        """Close the gate until a person acts."""
        self.is_paused = True
        self._probe = None
        self.reason = reason

    def restore(
        self, now: float, *, remaining: timedelta, told: timedelta, failures: int, reason: str | None
    ) -> None:
        """Take up waits that began before this process did: our own, and what the other side asked for."""
        self._not_before = now + remaining.total_seconds()
        self._told_until = now + told.total_seconds()
        self.failures = failures
        self.reason = reason

    def reopen(self) -> None:
        """Open the gate because a person said so; what the other side asked for stays."""
        self._epoch += 1
        self.is_paused = False
        self.succeeded()
        self._not_before = float("-inf")

    def renew(self) -> None:
        """Open the gate because the remote end is another one now."""
        self.reopen()
        self._told_until = float("-inf")
