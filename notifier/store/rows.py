"""What the store hands out and takes in, as values."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifier.bookmark import Bookmark
from notifier.clock import to_rfc3339
from notifier.delivery import DeliveryState
from notifier.event import Event
from notifier.gate import GateState
from notifier.transition import Sighting


@dataclass(frozen=True, slots=True)
class Owed:
    """An event and the targets that are to be told of it."""

    event: Event
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredGate:
    """How a gate stood when it last changed."""

    name: str
    state: GateState
    reason: str | None
    since: datetime
    until: datetime | None = None
    told_until: datetime | None = None
    failures: int = 0
    fingerprint: str | None = None

    def is_open(self, now: datetime) -> bool:
        """Say whether messages pass: also when a wait that no failure caused is over."""
        is_over = self.state is GateState.WAITING and not self.failures and not self.remaining(now)
        return self.state is GateState.OPEN or is_over

    def remaining(self, now: datetime) -> timedelta:
        """Return how much of the wait is left, never more than there was: the clock may have jumped."""
        return self._left(self.until, now)

    def told_remaining(self, now: datetime) -> timedelta:
        """Return the same of the wait that the other side has asked for."""
        return self._left(self.told_until, now)

    def _left(self, until: datetime | None, now: datetime) -> timedelta:
        if until is None:
            return timedelta(0)
        return min(max(until - now, timedelta(0)), max(until - self.since, timedelta(0)))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt came to, for all deliveries that its request carried.

    `gate` is how the gate of the remote end stands, if that has changed. When the failure was the remote
    end's, what its targets (`behind` its gate) are owed since before `expires` is given up, but for what is
    under way beside this attempt.
    """

    target: str
    deliveries: tuple[int, ...]
    at: datetime
    status: int | None
    answer: str
    error: str
    """Why it failed, in a sentence; empty when it did not."""
    outcome: str
    state: DeliveryState
    gate: StoredGate | None = None
    expires: datetime | None = None
    given_up: str = "given up"
    """Why what is given up with it is given up."""
    behind: tuple[str, ...] = ()
    under_way: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A track as ``status`` shows it."""

    audio_id: str
    name: str | None
    sighting: Sighting
    changed_at: datetime
    unwatched_since: datetime | None


@dataclass(frozen=True, slots=True)
class AccountRow:
    """How far an account's list is known, and what it has brought."""

    account: str
    bookmark: Bookmark | None
    looked_at: datetime | None
    trouble: str | None
    found: int = 0
    last_found: datetime | None = None
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as ``deliveries`` shows it."""

    id: int
    event_id: str
    type: str
    audio_id: str | None
    name: str
    target: str
    state: DeliveryState
    attempt_count: int
    created_at: datetime
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt as ``deliveries show`` shows it."""

    at: datetime
    status: int | None
    answer: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many deliveries of a target are in each state, and since when the oldest pending one waits."""

    pending: int = 0
    dead: int = 0
    delivered: int = 0
    oldest_pending: datetime | None = None

    @classmethod
    def total(cls, backlogs: Iterable["Backlog"]) -> "Backlog":
        """Return how many there are over several targets; of the ages it says nothing."""
        each = [*backlogs]
        return cls(
            sum(one.pending for one in each),
            sum(one.dead for one in each),
            sum(one.delivered for one in each),
        )


def stored(moment: datetime | None) -> str | None:
    """Write a moment as the state file keeps it."""
    return None if moment is None else to_rfc3339(moment)
