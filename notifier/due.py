"""What one target is owed next, read ahead from the outbox so that not every message costs a look into it.

Knows neither targets nor gates. Whoever changes rows in another way than by sending has to say so.
"""

from collections.abc import Callable, Collection, Sequence

from notifier.delivery import Delivery
from notifier.store import Store

_AHEAD = 64


class Due:
    """The oldest pending deliveries of a target that are not under way, in the order of events."""

    def __init__(self, store: Store, target: str, under_way: Callable[[], Collection[int]]) -> None:
        self._store = store
        self._target = target
        self._under_way = under_way
        self._known: list[Delivery] = []
        self._is_all_known = False
        self._changes = 0
        """How often what is known has turned out to be out of date."""

    def there_is_more(self) -> None:
        """Note that something new is owed."""
        self._is_all_known = False

    def forget(self) -> None:
        """Note that what is known may not be so any more."""
        self._known.clear()
        self._is_all_known = False
        self._changes += 1

    async def first(self, count: int) -> Sequence[Delivery]:
        """Return the first so many, or all if there are fewer. Raises StorageError."""
        if not self._is_all_known and len(self._known) < count:
            await self._read(count + _AHEAD)
        return self._known[:count]

    async def least_tried(self, *, rather_not: Collection[int] = ()) -> Sequence[Delivery]:
        """Return one that was tried least often, of all that is owed; none of none. Raises StorageError."""
        changes = self._changes
        for but in (rather_not, ()):
            spared = {*self._under_way(), *but}
            found = await self._store.least_tried(self._target, under_way=spared)
            if changes != self._changes:
                return ()
            if found:
                return found
        return ()

    async def _read(self, limit: int) -> None:
        changes = self._changes
        self._is_all_known = True  # NB: unless somebody says meanwhile that there is more
        try:
            due = await self._store.due(self._target, limit=limit, under_way=self._under_way())
        except BaseException:
            self._is_all_known = False
            raise
        if changes == self._changes:
            self._known = due
            self._is_all_known = self._is_all_known and len(due) < limit

    def take(self, deliveries: Collection[int]) -> None:
        """Note that some are under way."""
        self._known = [delivery for delivery in self._known if delivery.id not in deliveries]
