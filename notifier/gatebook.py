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
OF_TOKEN = ("HTTP 401", "HTTP 402")
"""How the reason of the API's gate begins where the token is refused, which only a person mends."""


def fingerprint(secret: str, salt: str) -> str:
    """Return what tells one URL or token from another without holding it."""
    return hashlib.sha256(f"{salt}\0{secret}".encode()).hexdigest()[:32]


def api_fingerprint(base_url: str, token: str, salt: str) -> str:
    """Return what tells one token at one address of the API from any other."""
    return fingerprint(f"{base_url} {token}", salt)


def limit_gate(limiter: str, salt: str) -> str:
    """Return the name of the gate of what a service counts requests by."""
    return f":limit:{fingerprint(limiter, salt)}"


def service_gate(type_name: str) -> str:
    """Return the name of the gate of a whole service."""
    return f":service:{type_name}"


def written_down(name: str, gate: Gate, clock: Clock, *, mark: str | None = None) -> StoredGate:
    """Return how a gate stands now, as the state file keeps it."""
    now, monotonic = clock.now(), clock.monotonic()
    state = gate.state(monotonic)
    remaining, told = gate.closed_for(monotonic), gate.told_for(monotonic)
    return StoredGate(
        name=name,
        state=state,
        reason=None if state is GateState.OPEN else gate.reason,
        since=now,
        until=now + timedelta(seconds=remaining) if state is GateState.WAITING else None,
        told_until=now + timedelta(seconds=told) if told else None,
        failures=gate.failures,
        fingerprint=mark,
    )


def take_up(gate: Gate, stored: StoredGate | None, clock: Clock) -> None:
    """Go on with the wait or the pause that an earlier run left."""
    if stored is None:
        return
    now = clock.now()
    gate.restore(
        clock.monotonic(),
        remaining=stored.remaining(now),
        told=stored.told_remaining(now),
        failures=stored.failures if stored.state is GateState.WAITING else 0,
        reason=stored.reason,
    )
    if stored.state is GateState.PAUSED:
        gate.pause(stored.reason or "paused")
