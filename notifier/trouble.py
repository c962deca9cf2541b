"""The daemon's own problems told to `alerts`: once when one begins, once when it is over.

Problems that are open stand in the state file, so that a restart tells nothing twice. A problem that cannot
be written down is kept and tried again; nobody who reports one has to care.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import structlog

from notifier.clock import Clock
from notifier.delivery import Notice
from notifier.event import Alert, Problem, alert_event
from notifier.store import StorageError, Store, StoredGate

T = TypeVar("T")

_OF_TARGETS = frozenset({Problem.TARGET_PAUSED, Problem.DELIVERY_DEAD})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Unwritten:
    """An alert that is not in the state file yet."""

    alert: Alert
    notice: Notice
    """Its event, and who hears of it before it is."""

    @property
    def is_of_storage(self) -> bool:
        return self.alert.problem is Problem.STORAGE_FAILED and not self.alert.is_resolved


class Reporter:
    """Reports problems through the outbox; `wake` is called with the targets that then have work."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        alerts: tuple[str, ...],
    ) -> None:
        self.alerts = alerts
        self.wake: Callable[[Collection[str]], None] = lambda _targets: None
        self.sharing: Callable[[str], Collection[str]] = lambda target: [target]
        """Which targets are broken together with one of them, since they post to the same place."""
        self._store = store
        self._clock = clock
        self._open: set[tuple[Problem, str]] = set()
        self.proclaim: Callable[[Notice | None], None] = lambda _notice: None
        """Tells of what cannot be written down; None when that is over."""
        self._unwritten: list[_Unwritten] = []
        self._writing = asyncio.Lock()

    async def take_up(self) -> None:
        """Go on with the problems that an earlier run told of. Raises StorageError."""
        self._open = await self._store.problems()

    def subjects(self, problem: Problem) -> list[str]:
        """Return what a kind of problem is open for."""
        return [subject for kind, subject in self._open if kind is problem]

    def forget_track(self, audio_id: str) -> None:
        """Drop the problems of a track that the watchlist no longer names, untold."""
        self._open = {key for key in self._open if key[1] != audio_id or key[0] in _OF_TARGETS}

    def forget(self, problem: Problem, subject: str) -> None:
        """Drop a problem untold, so that a later one is news."""
        self._open.discard((problem, subject))

    async def forget_targets(self, *, but: Collection[str]) -> None:
        """Drop the problems of all targets but some, untold, so that later ones are news.

        Raises StorageError.
        """
        async with self._writing:
            known = self._open | {_key(one.alert) for one in self._unwritten}
            over = {key for key in known if key[0] in _OF_TARGETS and key[1] not in but}
            if over:
                await self._store.forget_problems(over)
            self._open -= over
            self._unwritten = [one for one in self._unwritten if _key(one.alert) not in over]

    def is_news(self, alert: Alert) -> bool:
        """Say whether a problem, or its end, has not been told yet."""
        return (_key(alert) in self._open) == alert.is_resolved

    async def report(self, alert: Alert) -> None:
        """Tell of a problem, or of its end, unless that is known. Never raises for the disk."""
        if self.is_news(alert):
            self._note(alert)
            self._unwritten.append(self._unwritten_of(alert))
            await self.retry()

    def _unwritten_of(self, alert: Alert) -> "_Unwritten":
        event = alert_event(alert, self._clock.now())
        return _Unwritten(alert, Notice(event, frozenset(self.targets(alert))))

    def written(self, alert: Alert) -> None:
        """Take note of an alert that another transaction has written down."""
        self._note(alert)
        self.wake(self.targets(alert))

    def _note(self, alert: Alert) -> None:
        (self._open.discard if alert.is_resolved else self._open.add)(_key(alert))

    async def retry(self) -> None:
        """Write down what could not be written yet, in order."""
        async with self._writing:
            self.proclaim(None)  # NB: first, lest somebody is told just while it is written that he is to be
            while self._unwritten:
                alert, notice = self._unwritten[0].alert, self._unwritten[0].notice
                if notice.under_way:
                    return
                targets, now = self.targets(alert), self._clock.now()
                told = notice.told & {*targets}
                try:
                    await self._store.report(alert, targets, now=now, event=notice.event, told=told)
                except StorageError:
                    self._proclaim_failure()
                    return
                self._unwritten.pop(0)
                self.wake(targets)

    def _proclaim_failure(self) -> None:
        """Let people hear that nothing can be written down while they can do something about it."""
        failure = next((one for one in self._unwritten if one.is_of_storage), None)
        if failure is not None:
            self.proclaim(failure.notice)

    def targets(self, alert: Alert) -> tuple[str, ...]:
        """Return who is told: everyone in `alerts` but the broken target itself."""
        broken = self.sharing(alert.subject) if alert.problem in _OF_TARGETS else ()
        return tuple(name for name in dict.fromkeys(self.alerts) if name not in broken)

    async def remember(self, gate: StoredGate) -> None:
        """Write a gate down; one that cannot be written is only forgotten by a restart."""
        await self.attempt(self._store.save_gate(gate), default=None)

    async def attempt(self, work: Awaitable[T], *, default: T) -> T:
        """Do storage work that may fail now and comes again later; the store says that it failed."""
        try:
            return await work
        except StorageError:
            return default


def _key(alert: Alert) -> tuple[Problem, str]:
    return alert.problem, alert.subject
