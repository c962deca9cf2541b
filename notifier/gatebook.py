"""A gate between two runs: how its state is written down and taken up again.

In memory a wait ends at a monotonic moment, which means nothing to the next process; on the disk it ends at
a wall-clock moment, and a clock that jumped meanwhile cannot make the wait longer than it was.
"""

import hashlib
from datetime import timedelta

from notifier.clock import Clock
from notifier.gate import Gate, GateState
from notifier.store import StoredGate

API_GATE = ":useapi"
"""The name of the API's gate in the state file; no target can be called that."""


def fingerprint(secret: str, salt: str) -> str:
    """Return what tells one URL or token from another without holding it."""
    return hashlib.sha256(f"{salt}\0{secret}".encode()).hexdigest()[:32]


def written_down(name: str, gate: Gate, clock: Clock) -> StoredGate:
    """Return how a gate stands now, as the state file keeps it."""
    now, monotonic = clock.now(), clock.monotonic()
    state = gate.state(monotonic)
    is_waiting = state is GateState.WAITING
    remaining = timedelta(seconds=gate.closed_for(monotonic))
    return StoredGate(
        name=name,
        state=state,
        reason=None if state is GateState.OPEN else gate.reason,
        since=now,
        until=now + remaining if is_waiting else None,
        was_told=is_waiting and gate.was_told,
        failures=gate.failures,
    )


def take_up(gate: Gate, stored: StoredGate | None, clock: Clock) -> None:
    """Go on with the wait or the pause that an earlier run left."""
    if stored is None or stored.state is GateState.OPEN:
        return
    if stored.state is GateState.PAUSED:
        gate.pause(stored.reason or "paused")
        return
    remaining = stored.remaining(clock.now())
    gate.restore(
        clock.monotonic(),
        remaining=remaining,
        failures=stored.failures,
        reason=stored.reason,
        was_told=stored.was_told,
    )
