"""The remote end that one target posts to, or several with the same URL: its gate, and who stands before it.

What closes the gate concerns them all: they share the pace, the waits and the pause, in memory and in the
state file, where each target's row says how the gate stands.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from notifier.clock import Clock
from notifier.gate import Gate, GateState, Pace
from notifier.gatebook import take_up, written_down
from notifier.narrator import Narrator
from notifier.store import StoredGate
from notifier.targets import Target


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
    """See the module."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.senders: dict[str, Sender] = {}
        self._written = GateState.OPEN
        """How the gate stands in the state file as far as this process knows."""

    def join(self, sender: Sender) -> None:
        """Let a sender through this gate from now on."""
        self.senders[sender.name] = sender
        self.gate.repace(self._pace())

    def leave(self, sender: Sender) -> None:
        """Let a sender through no more; others keep the pace that is theirs."""
        if self.senders.get(sender.name) is sender:
            del self.senders[sender.name]
            self.gate.repace(self._pace())

    def _pace(self) -> Pace | None:
        """Return the pace of the most careful of those who share the gate."""
        paces = [sender.target.pace for sender in self.senders.values() if sender.target.pace is not None]
        return min(paces, key=lambda pace: pace.count / pace.period.total_seconds(), default=None)

    def under_way(self) -> frozenset[int]:
        """Return all deliveries that are being sent."""
        return frozenset(one for sender in self.senders.values() for one in sender.under_way())

    def take_up(self, row: StoredGate, clock: Clock) -> None:
        """Go on with what an earlier run left."""
        take_up(self.gate, row, clock)
        self._written = row.state

    def rows(self, clock: Clock) -> tuple[StoredGate, ...]:
        """Return the rows of the state file that say how the gate stands now; none while it stays open."""
        if self._written is GateState.OPEN and self.gate.state(clock.monotonic()) is GateState.OPEN:
            return ()
        return tuple(written_down(name, self.gate, clock) for name in self.senders)

    def stored(self, rows: Sequence[StoredGate]) -> None:
        """Note that rows are in the state file."""
        if rows:
            self._written = rows[0].state

    def reopen(self) -> None:
        """Try the remote end again at once, because a person said so."""
        was_paused = self.gate.is_paused
        self.gate.reopen()
        self._written = GateState.OPEN
        for sender in self.senders.values():
            if was_paused:
                sender.narrator.resumed()
            sender.nudge()

    def look_at(self, row: StoredGate | None) -> None:
        """Reopen the gate when somebody else did so in the state file."""
        is_open = row is None or row.state is GateState.OPEN
        if is_open and self._written is not GateState.OPEN:
            self.reopen()
