"""Deliveries, what an attempt can come to, and how long to wait after a failure.

Pure. What follows an outcome for the stored rows is `notifier.store`'s, for the remote end `notifier.gate`'s.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from notifier.event import Event

LONGEST_HINT = timedelta(days=1)
_JITTER = 0.2
_MOST_DOUBLINGS = 60


class DeliveryState(StrEnum):
    """Where a delivery stands; the values are what the state file and ``deliveries --state`` say."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event owed to one target."""

    id: int
    event: Event
    attempt_count: int
    counts_from: datetime
    """From when ``give_up_after`` counts: the event, or the last time a person asked for a retry."""


@dataclass(slots=True)
class Notice:
    """An event that cannot be written down, since the disk fails, and is told all the same: just that."""

    event: Event
    targets: frozenset[str]
    under_way: set[str] = field(default_factory=set)
    """Who is just being told."""
    told: set[str] = field(default_factory=set)
    """Who has it."""
    refused: set[str] = field(default_factory=set)
    """Who does not take it in this way, and gets it once it is written down."""

    def is_for(self, target: str) -> bool:
        """Say whether a target is still to be told."""
        return target in self.targets and target not in self.told | self.refused


@dataclass(frozen=True, slots=True)
class Delivered:
    """The target has the message."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """The remote end cannot take messages now; `after` is how long it said to wait, if it did."""

    reason: str
    after: timedelta | None = None
    is_global: bool = False
    """Whether every target of the same service has to wait."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The remote end is well but refuses this very message, now and later."""

    reason: str
    is_layout: bool = False
    """Whether it is the layout that is refused, so that the same in plain text may pass."""


@dataclass(frozen=True, slots=True)
class TargetBroken:
    """The remote end refuses every message until a person acts."""

    reason: str


Outcome = Delivered | Retry | Rejected | TargetBroken


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first` up to `longest`."""

    first: timedelta
    longest: timedelta

    def delay(self, failures: int, rng: Random, *, at_least: timedelta | None = None) -> timedelta:
        """Return the wait after this many failures in a row (1 or more).

        A wait that the other side asked for (`at_least`, capped at a day) replaces the first back-off and
        bounds the later ones from below. Jitter only ever lengthens, and is added after the cap.
        """
        doubled = self.first.total_seconds() * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        wait = min(timedelta(seconds=min(doubled, self.longest.total_seconds())), self.longest)
        if at_least is not None:
            asked = min(at_least, LONGEST_HINT)
            wait = asked if failures <= 1 else max(asked, wait)
        return wait * (1 + _JITTER * rng.random())
