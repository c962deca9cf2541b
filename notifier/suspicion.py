"""Which deliveries are at fault themselves where their remote end seems to fail. Pure.

A receiver that always fails on one message looks as if it were down. It is not if it takes others: then that
message has a back-off of its own and holds up nobody. A restart forgets this, which costs further failures.
Moments are seconds on the monotonic clock.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from notifier.delivery import Delivery

_MOST = 10_000
"""How many are remembered; a person may have dropped some meanwhile."""


@dataclass(slots=True)
class _Suspect:
    """A delivery that was sent in vain."""

    successes: int
    """How many answers had shown the remote end well by then."""
    is_alone: bool = False
    """Whether it goes by itself, lest it takes others with it."""
    faults: int = 0
    """How often it has failed again after its remote end was well."""


class Suspicion:
    """Remembers who failed until that is settled."""

    def __init__(self) -> None:
        self._suspects: dict[int, _Suspect] = {}
        self._until: dict[int, float] = {}
        """Until when those wait that are at fault themselves."""

    def failed(
        self, deliveries: Sequence[Delivery], *, successes: int, is_trial: bool, is_end_well: bool
    ) -> bool:
        """Note a failure, and say whether the message itself is at fault.

        It is when it fails again, and by itself, although the remote end has been well since the last time,
        and still seems to be. What fails by itself as a trial is not sent together with others any more.
        """
        is_single = len(deliveries) == 1
        before = self._suspects.get(deliveries[0].id)
        is_new_proof = before is not None and successes > before.successes
        is_at_fault = is_single and is_end_well and is_new_proof
        is_alone = is_single and (is_trial or is_at_fault or (before is not None and before.is_alone))
        if len(self._suspects) > _MOST:
            self._suspects.clear()
        faults = self.faults(deliveries) + (is_single and is_new_proof)
        for delivery in deliveries:
            self._suspects[delivery.id] = _Suspect(successes, is_alone, faults)
        return is_at_fault

    def again(self, deliveries: Sequence[Delivery], *, successes: int) -> Collection[int]:
        """Return those of what fails now that have failed before, with the remote end well in between."""
        before = ((each.id, self._suspects.get(each.id)) for each in deliveries)
        return {one for one, suspect in before if suspect is not None and successes > suspect.successes}

    def faults(self, deliveries: Sequence[Delivery]) -> int:
        """Return how often a message has failed again after others were taken; 0 for several together."""
        suspect = self._suspects.get(deliveries[0].id) if len(deliveries) == 1 else None
        return 0 if suspect is None else suspect.faults

    def apart(self, together: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the first of the deliveries and those after it that may share its message, in order."""
        if not together or self._is_alone(together[0]):
            return together[:1]
        return [*takewhile(lambda each: not self._is_alone(each), together)]

    def _is_alone(self, delivery: Delivery) -> bool:
        suspect = self._suspects.get(delivery.id)
        return suspect is not None and suspect.is_alone

    def tried(self) -> Collection[int]:
        """Return the deliveries of which it is known that they fail by themselves, too."""
        return {one for one, suspect in self._suspects.items() if suspect.is_alone or suspect.faults}

    def settled(self, deliveries: Iterable[int]) -> None:
        """Forget deliveries that need not be sent any more.

        One that failed as a trial and was taken after all has shown that it was the remote end.
        """
        gone = [self._suspects.pop(one, None) for one in deliveries]
        if any(suspect is not None and suspect.is_alone for suspect in gone):
            for suspect in self._suspects.values():
                suspect.is_alone = False

    def put_off(self, delivery: int, until: float) -> None:
        """Let a delivery wait by itself."""
        self._until[delivery] = until

    def held(self) -> Collection[int]:
        """Return the deliveries that wait by themselves."""
        return self._until.keys()

    def release(self, now: float) -> bool:
        """Let those go on whose wait is over; say whether there are any."""
        over = [one for one, until in self._until.items() if until <= now]
        for one in over:
            del self._until[one]
        return bool(over)

    def wait(self, now: float) -> float | None:
        """Return the seconds until the first of them goes on; None when none waits."""
        return max(0.0, min(self._until.values()) - now) if self._until else None

    def wait_of(self, delivery: int, now: float) -> float:
        """Return the seconds for which a delivery waits by itself, 0 when it does not."""
        return max(0.0, self._until.get(delivery, now) - now)
