"""Which deliveries leave together and in which form, after the service has refused some.

Pure. A message that is refused for its layout goes once more in plain text; a batch that is refused as such
goes one by one, so that one bad event harms no other; a single message that is refused for good is dead.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto
from itertools import takewhile

from notifier.delivery import Delivery, Rejected


class Retrial(Enum):
    """What is tried next after a message was refused."""

    PLAIN_TEXT = auto()
    ONE_BY_ONE = auto()


class Grouping:
    """Remembers what was refused until that is settled. A restart forgets it, which costs another refusal."""

    def __init__(self) -> None:
        self._alone: set[int] = set()
        self._plain: set[int] = set()

    def is_plain(self, delivery: Delivery) -> bool:
        """Say whether a delivery goes in plain text."""
        return delivery.id in self._plain

    def first_together(self, due: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the first of the deliveries and those after it that may share its message, in order."""
        if not due or due[0].id in self._alone:
            return due[:1]
        form = self.is_plain(due[0])
        return [*takewhile(lambda each: each.id not in self._alone and self.is_plain(each) is form, due)]

    def refused(self, deliveries: Sequence[Delivery], refusal: Rejected) -> Retrial | None:
        """Note that a message was refused and return what is tried next, None when nothing is left."""
        ids = {delivery.id for delivery in deliveries}
        if refusal.is_layout and not ids & self._plain:
            self._plain |= ids
            return Retrial.PLAIN_TEXT
        self._plain -= ids
        if len(ids) > 1:
            self._alone |= ids
            return Retrial.ONE_BY_ONE
        self._alone -= ids
        return None

    def part(self, deliveries: Collection[int]) -> None:
        """Let deliveries go one by one from now on."""
        self._alone.update(deliveries)

    def settled(self, deliveries: Collection[int]) -> None:
        """Forget deliveries that need not be sent any more."""
        self._alone.difference_update(deliveries)
        self._plain.difference_update(deliveries)
