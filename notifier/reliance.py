"""Whether callbacks can be relied on, so that polling may be no more than the safety net. Pure.

They can for an account once they have come for three of its tracks in a row before polling found that those
had ended. Then its tracks are polled a quarter as often, but no less often than `max_interval` says. They
cannot any more as soon as polling is the first to find an end, a day after the last end that a callback came
for, and at first after a start.

So callbacks that stop coming make the ends of one stretch late, by 4 intervals instead of one at the most.
Where a part p of them gets lost by chance, polling is slow for (1 - p)³ of the ends, and the mean lag
is p/2 + 3/2 p (1 - p)³ intervals: less than the half interval of plain polling, whatever p is.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

PROVEN_AFTER = 3
SLOWER = 4
"""How much less often is polled what callbacks come for."""
_LASTS = timedelta(days=1).total_seconds()
_MOST_ACCOUNTS = 1000
"""Of so many accounts is known how their callbacks fared; the one that is longest without is forgotten."""


@dataclass(slots=True)
class _Record:
    in_a_row: int
    last: float


class Reliance:
    """How callbacks have fared, by account. Moments are seconds on a monotonic clock."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __bool__(self) -> bool:
        """Say whether there is any account that a callback came for lately."""
        return bool(self._records)

    def ended(self, account: str, *, is_hinted: bool, now: float) -> None:
        """Note the end of a track, and whether a callback came before polling found it."""
        if not is_hinted:
            self._records.pop(account, None)
            return
        in_a_row = self._records[account].in_a_row if self._is_fresh(account, now) else 0
        self._records[account] = _Record(in_a_row + 1, now)
        self._records.move_to_end(account)
        if len(self._records) > _MOST_ACCOUNTS:
            self._records.popitem(last=False)

    def holds(self, account: str, now: float) -> bool:
        """Say whether an account's callbacks can be relied on."""
        return self._is_fresh(account, now) and self._records[account].in_a_row >= PROVEN_AFTER

    def _is_fresh(self, account: str, now: float) -> bool:
        record = self._records.get(account)
        return record is not None and now - record.last < _LASTS

    def interval(self, account: str, interval: timedelta, *, most: timedelta, now: float) -> timedelta:
        """Return how often to poll a track of an account whose own interval is this."""
        return max(interval, min(SLOWER * interval, most)) if self.holds(account, now) else interval

    def forget(self) -> None:
        """Rely on nothing any more: callbacks come another way from now on."""
        self._records.clear()
