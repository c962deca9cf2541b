"""The remote end that one target posts to, or several with the same URL: its gate, and who stands before it.

What closes the gate concerns them all: they share waits and pause, in memory and in the state file. Above it
stand the limits that the service counts our requests by, which other remote ends may share.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from notifier.clock import Clock
from notifier.gate import Gate, GateState
from notifier.gatebook import take_up, written_down
from notifier.narrator import Narrator
from notifier.store import StoredGate
from notifier.targets import Target

_PATIENCE = 3
"""After how many failures in a row the remote end is at fault, or may be, rather than the messages."""
_PATIENCE_IN_ORDER = 8
"""The same where messages keep their order, which another one breaks; some ten minutes by default."""


class Sender(Protocol):
    """Who sends through the gate what one target is owed."""

    name: str
    target: Target
    narrator: Narrator
    remote: "RemoteEnd"

    def nudge(self) -> None:
        """Look whether the gate is open now."""
        ...

    def look_again(self) -> None:
        """Read the outbox anew: what is known of it may have changed."""
        ...

    def under_way(self) -> Collection[int]:
        """Return the deliveries that are being sent."""
        ...


class RemoteEnd:
    """See the module. `mark` tells it from others without holding the URL."""

    def __init__(self, mark: str, gate: Gate) -> None:
        self.mark = mark
        self.gate = gate
        self.limits: dict[str, Gate] = {}
        self.senders: dict[str, Sender] = {}
        self.attempt_count = 0
        """How many requests are under way, also of targets that have left the watchlist."""
        self.successes = 0
        """How many answers have shown it well."""
        self._failures = 0
        """How many have failed in a row, also of messages that are at fault themselves."""
        self._failed: set[int] = set()
        """The deliveries that have failed since it was last known to be well."""
        self._is_unexplained = False
        """Whether there is one among them that was never at fault itself."""
        self._may_be_theirs = False
        """Whether the last failure may be what its message leads to; no connection is not."""
        self._written = (GateState.OPEN, 0)
        """State and failures as this process wrote them, to tell when somebody else did."""

    def join(self, sender: Sender, limits: dict[str, Gate]) -> None:
        """Let a sender through this gate from now on."""
        self.senders[sender.name] = sender
        self.limits |= limits

    def leave(self, sender: Sender) -> None:
        """Let a sender through no more."""
        if self.senders.get(sender.name) is sender:
            del self.senders[sender.name]

    @property
    def is_in_use(self) -> bool:
        """Whether anybody stands before it, or waits for an answer of it."""
        return bool(self.senders or self.attempt_count)

    def remaining(self, now: float) -> float:
        """Return the seconds until a request may leave: the waits and the pace. Ask again after sleeping."""
        return max(gate.remaining(now) for gate in (self.gate, *self.limits.values()))

    def enter(self, now: float) -> None:
        """Note that a request leaves now."""
        self.attempt_count += 1
        for limit in self.limits.values():
            limit.enter(now)

    def is_well(self) -> None:
        """Note an answer that shows it well."""
        self.successes += 1
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._failures, self._is_unexplained = 0, False
        self._failed.clear()

    def failed(self, deliveries: Collection[int], *, may_be_theirs: bool, is_known: bool = False) -> None:
        """Note that some were sent in vain, and whether that may be their own fault, or was before."""
        self._failures += 1
        self._failed.update(deliveries)
        self._may_be_theirs = may_be_theirs
        self._is_unexplained = self._is_unexplained or not is_known

    @property
    def seems_well(self) -> bool:
        """Whether what has failed since it was last known to be well may be put down to the messages."""
        return self._failures < _PATIENCE

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be well, and what was sent in vain at fault: then others show that."""
        return self._may_be_theirs and self.gate.failures > 0 and self._failures >= self._patience

    @property
    def _patience(self) -> int:
        """After how many failures in a row it is tried whether another message is taken."""
        keeps_order = any(sender.target.lanes == 1 for sender in self.senders.values())
        return _PATIENCE_IN_ORDER if keeps_order else _PATIENCE

    @property
    def is_untried(self) -> bool:
        """Whether all that keeps it closed is one and the same delivery, or such as were at fault before."""
        return self.is_doubtful and (len(self._failed) == 1 or not self._is_unexplained)

    def is_tried_with(self, delivery: int) -> bool:
        """Whether it has failed on a delivery since it was last known to be well."""
        return delivery in self._failed

    def under_way(self) -> frozenset[int]:
        """Return all deliveries that are being sent."""
        return frozenset(one for sender in self.senders.values() for one in sender.under_way())

    def take_up(self, rows: Iterable[StoredGate], clock: Clock) -> None:
        """Go on with what an earlier run left; every target that ever had this remote end has the same."""
        for row in rows:
            if row.fingerprint == self.mark:
                take_up(self.gate, row, clock)
                self._failures, self._may_be_theirs = self.gate.failures, True
                self._is_unexplained = True  # NB: nobody knows what it has failed on
                self.stored(row)
                return

    def row(self, clock: Clock) -> StoredGate | None:
        """Return how the gate stands for the state file; None when that says so already.

        NB: a pause is written once. Later ones would undo what a person has done in the state file meanwhile.
        """
        row = written_down("", self.gate, clock, mark=self.mark)
        is_same = row.state is self._written[0] and row.state is not GateState.WAITING
        return None if is_same else row

    def stored(self, row: StoredGate | None) -> None:
        """Note that a row is in the state file."""
        if row is not None:
            self._written = (row.state, row.failures)

    def reopen(self) -> None:
        """Try the remote end again at once, because a person said so."""
        was_paused = self.gate.is_paused
        self.gate.reopen()
        self._begin_anew()
        for sender in self.senders.values():
            if was_paused:
                sender.narrator.resumed()
            sender.nudge()

    def look_at(self, row: StoredGate | None) -> None:
        """Reopen the gate when somebody else did so in the state file."""
        if row is not None and (row.state, row.failures) != self._written:
            self.reopen()
            self.stored(row)
