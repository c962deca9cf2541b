"""One target's worker: sends what is due when the gate allows, and writes down what came of it.

Knows no other target. What an outcome means for the gate and for the rows is decided here, for every type.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import structlog

from notifier.answer import Answer, Unreachable
from notifier.clock import Clock
from notifier.config import DeliverySettings
from notifier.delivery import Delivered, Delivery, DeliveryState, Outcome, Rejected, Retry, TargetBroken
from notifier.due import Due
from notifier.event import Alert
from notifier.gate import Gate, Passage
from notifier.grouping import Grouping, Retrial
from notifier.metrics import Metrics
from notifier.narrator import Narrator
from notifier.remote import RemoteEnd
from notifier.secret import Masker
from notifier.sending import send
from notifier.store import Settlement, StorageError, Store
from notifier.targets import Request, Target
from notifier.text import one_line, shorten
from notifier.wire import Wire

_LONGEST_ANSWER = 500
_SCANNED = 4096
_STORE_RETRY = 1.0
_LAST_CHANCE = 10.0
_USED_UP = "the rate limit is used up"
_CRASHED = "an error of the notifier itself"
_OUTCOMES: Mapping[type[Outcome], str] = {
    Delivered: "delivered",
    Retry: "retry",
    Rejected: "rejected",
    TargetBroken: "target_broken",
}

log = structlog.get_logger()


@dataclass(slots=True)
class Common:
    """What all workers share; a reload replaces settings and masker."""

    store: Store
    wire: Wire
    clock: Clock
    rng: Random
    metrics: Metrics
    settings: DeliverySettings
    masker: Masker
    report: Callable[[Alert], Awaitable[None]]
    hold: Callable[[Callable[[Target], bool], timedelta, str], Awaitable[None]] | None = None
    """Lets the targets wait that a limit is said to hold for; the deliverer fills it in."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP try: what it carries, and the passage through the gate that it was given."""

    deliveries: Sequence[Delivery]
    request: Request | None
    """None when rendering failed, which is a bug of ours."""
    remote: RemoteEnd
    passage: Passage

    @property
    def ids(self) -> tuple[int, ...]:
        """The deliveries that it carries."""
        return tuple(delivery.id for delivery in self.deliveries)


class Worker:
    """Sends what one target is owed. Paused, waiting or slow, it concerns no other."""

    def __init__(self, name: str, target: Target, common: Common, remote: RemoteEnd) -> None:
        self.name = name
        self.target = target
        self.remote = remote
        self.narrator = Narrator(name, clock=common.clock, metrics=common.metrics, report=common.report)
        self._common = common
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._attempts: dict[asyncio.Task[DeliveryState], Attempt] = {}
        self._grouping = Grouping()
        self._due = Due(common.store, name, self.under_way)
        remote.join(self)

    @property
    def gate(self) -> Gate:
        """The gate that requests go through."""
        return self.remote.gate

    def wake(self) -> None:
        """Look for more in the outbox: something new is owed to the target."""
        self._due.there_is_more()
        self.nudge()

    def nudge(self) -> None:
        """Look whether the gate is open now."""
        self._wake.set()

    def look_again(self) -> None:
        """Read the outbox anew: what is known of it may have changed."""
        self._due.forget()
        self.nudge()

    def retarget(self, target: Target, remote: RemoteEnd) -> None:
        """Take other settings on, and another remote end, without losing what is under way."""
        self.target = target
        if remote is not self.remote:
            was_paused = self.gate.is_paused
            self.remote.leave(self)
            self.remote = remote
            if was_paused and not self.gate.is_paused:
                self.narrator.resumed()
        remote.join(self)
        self.wake()

    def under_way(self) -> Collection[int]:
        """Return the deliveries that are being sent."""
        return {one for attempt in self._attempts.values() for one in attempt.ids}

    async def run(self) -> None:
        """Send until `stop`, then let attempts under way finish, for up to 10 seconds."""
        stopping = asyncio.create_task(self._stopping.wait())
        sending = asyncio.create_task(self._send_all())
        await asyncio.wait([stopping, sending], return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, sending):
            task.cancel()
        await asyncio.gather(stopping, sending, return_exceptions=True)
        if not sending.cancelled():
            sending.result()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_LAST_CHANCE)
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)

    async def _send_all(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = await self._start_next()
            except StorageError:
                pause = _STORE_RETRY
            if pause is None or pause > 0:
                await self._wait(pause)

    def stop(self) -> None:
        """Start no further attempt."""
        self._stopping.set()

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _start_next(self) -> float | None:
        """Start an attempt if one is due; return how long to wait before the next look, None for a wake."""
        if not self._has_lane():
            return None
        due = await self._due.first(self.target.most_events)
        # NB: from here on nothing may wait; the gate may have closed while the outbox was read.
        deliveries = self._grouping.first_together(due)
        if not deliveries or not self._has_lane():
            return None
        wait = self.gate.remaining(self._common.clock.monotonic())
        if wait > 0:
            return wait
        passage = self.gate.claim()
        if passage is None:
            return None
        self._start(deliveries, passage)
        return 0

    def _has_lane(self) -> bool:
        """Say whether another attempt may be under way beside those that are."""
        lanes = 1 if self.gate.failures else self.target.lanes
        return len(self._attempts) < lanes and not self.gate.is_paused

    def _start(self, deliveries: Sequence[Delivery], passage: Passage) -> None:
        self.gate.enter(self._common.clock.monotonic())
        request = self._render(deliveries)
        carried = deliveries if request is None else deliveries[: request.event_count]
        self._due.take(len(carried))
        attempt = Attempt(carried, request, self.remote, passage)
        task = asyncio.create_task(self._try(attempt), name=f"attempt {self.name}")
        self._attempts[task] = attempt
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[DeliveryState]) -> None:
        """Let others through; what was sent in vain is to be sent again, before all that came later."""
        remote = self._attempts.pop(task).remote
        is_settled = not task.cancelled() and task.result() is not DeliveryState.PENDING
        for sender in {self.name: self, **remote.senders}.values():
            sender.nudge() if is_settled else sender.look_again()

    def _render(self, deliveries: Sequence[Delivery]) -> Request | None:
        """Render a request; None when that fails, which is a bug of ours and must not stop the target."""
        now, is_plain = self._common.clock.now(), self._grouping.is_plain(deliveries[0])
        try:
            events = [delivery.event for delivery in deliveries]
            request = self.target.render(events, now=now, is_plain=is_plain)
        except Exception:
            log.exception("delivery.not_rendered", target=self.name, delivery=deliveries[0].id)
            return None
        if request.warning:
            log.warning("delivery.template_failed", target=self.name, error=request.warning)
        return request

    async def _try(self, attempt: Attempt) -> DeliveryState:
        common, request = self._common, attempt.request
        try:
            answer = await send(common.wire, request, common.masker) if request is not None else None
            outcome = self._outcome(answer)
            if not isinstance(outcome, Delivered) and not self._is_current(attempt):
                outcome = Retry(outcome.reason)  # of the URL before: it says nothing of the one in force
            return await self._follow(attempt, outcome, answer)
        except Exception:
            log.exception("delivery.crashed", target=self.name)
            self._move_gate(attempt.passage, Retry(_CRASHED), None)  # a bug of ours must not hammer anybody
            return DeliveryState.PENDING
        finally:
            attempt.remote.gate.release(attempt.passage)

    def _is_current(self, attempt: Attempt) -> bool:
        """Say whether an answer concerns the remote end in force, and not one of before."""
        return attempt.remote is self.remote and self.gate.is_current(attempt.passage)

    def _outcome(self, answer: Answer | Unreachable | None) -> Outcome:
        match answer:
            case None:
                return Rejected("the message could not be put together")
            case Unreachable(reason=reason):
                return Retry(reason)
            case Answer():
                return self.target.classify(answer, now=self._common.clock.now())

    async def _follow(
        self, attempt: Attempt, outcome: Outcome, answer: Answer | Unreachable | None
    ) -> DeliveryState:
        """Let the gate and the rows follow from an outcome, then say so; return what became of the rows."""
        clock, is_current = self._common.clock, self._is_current(attempt)
        spared = self._spared(answer)
        if is_current:
            self._move_gate(attempt.passage, outcome, spared)
            await self._share(outcome, spared)
        retrial = (
            self._grouping.refused(attempt.deliveries, outcome) if isinstance(outcome, Rejected) else None
        )
        state, kind = _state(outcome, retrial), _OUTCOMES[type(outcome)]
        is_down = is_current and isinstance(outcome, Retry)
        settlement = Settlement(
            target=self.name,
            deliveries=attempt.ids,
            at=clock.now(),
            status=answer.status if isinstance(answer, Answer) else None,
            answer=_answer_text(answer, outcome.reason),
            outcome=kind,
            state=state,
            expires=clock.now() - self._common.settings.give_up_after if is_down else None,
            under_way=self.remote.under_way(),
        )
        dead = await self._settle(settlement)
        self._common.metrics.attempts.labels(self.name, kind).inc(len(attempt.deliveries))
        if state is not DeliveryState.PENDING:
            self._grouping.settled(attempt.ids)
        await self._say(attempt, outcome, retrial, is_current=is_current)
        for name, deliveries in dead.items():
            await self._narrators().get(name, self.narrator).dead(deliveries, outcome.reason)
        return state

    def _spared(self, answer: Answer | Unreachable | None) -> timedelta | None:
        if not isinstance(answer, Answer):
            return None
        return self.target.spared_for(answer, now=self._common.clock.now())

    def _move_gate(self, passage: Passage, outcome: Outcome, spared: timedelta | None) -> None:
        now = self._common.clock.monotonic()
        match outcome:
            case Delivered() | Rejected():
                self.gate.succeeded()
            case TargetBroken(reason=reason):
                self.gate.pause(reason)
            case Retry(reason=reason, after=after):
                self.gate.failed(now, passage, reason, after=after)
        if spared is not None:
            self.gate.hold(now, spared, _USED_UP)

    async def _settle(self, settlement: Settlement) -> Mapping[str, Collection[int]]:
        """Write an attempt down, however long the disk takes: what was sent must not be sent again."""
        while True:
            remote, rows = self.remote, self.remote.rows(self._common.clock)
            try:
                dead = await self._common.store.settle(
                    replace(settlement, gates=rows) if rows else settlement
                )
            except StorageError:
                await asyncio.sleep(_STORE_RETRY)
            else:
                remote.stored(rows)
                return dead

    def _narrators(self) -> Mapping[str, Narrator]:
        return {name: sender.narrator for name, sender in self.remote.senders.items()}

    async def _say(
        self, attempt: Attempt, outcome: Outcome, retrial: Retrial | None, *, is_current: bool
    ) -> None:
        match outcome:
            case Delivered():
                self.narrator.delivered(attempt.deliveries)
                if is_current and not self.gate.is_paused:
                    for narrator in self._narrators().values():
                        await narrator.well()
            case Retry(reason=reason):
                wait = self.gate.closed_for(self._common.clock.monotonic())
                self.narrator.retry_scheduled(attempt.deliveries, reason, wait)
            case TargetBroken(reason=reason):
                for narrator in self._narrators().values():
                    await narrator.paused(reason)
            case Rejected(reason=reason) if retrial is not None:
                self.narrator.refused(attempt.deliveries, reason, retrial)

    async def _share(self, outcome: Outcome, spared: timedelta | None) -> None:
        """Let other targets wait, too, that the service's limit is said to hold for."""
        hold, mine = self._common.hold, self.target
        if hold is None:
            return
        if spared is not None:
            await hold(mine.shares_limit_with, spared, _USED_UP)
        match outcome:
            case Retry(reason=reason, after=timedelta() as after, is_global=True):
                await hold(lambda other: other.type_name == mine.type_name, after, reason)
            case Retry(reason=reason, after=timedelta() as after):
                await hold(mine.shares_limit_with, after, reason)


def _state(outcome: Outcome, retrial: Retrial | None) -> DeliveryState:
    match outcome:
        case Delivered():
            return DeliveryState.DELIVERED
        case Rejected() if retrial is None:
            return DeliveryState.DEAD
        case _:
            return DeliveryState.PENDING


def _answer_text(answer: Answer | Unreachable | None, reason: str) -> str:
    """Return what the state file keeps of an answer."""
    if isinstance(answer, Answer) and answer.body:
        return shorten(one_line(answer.body[:_SCANNED]), _LONGEST_ANSWER)
    return shorten(reason, _LONGEST_ANSWER)
