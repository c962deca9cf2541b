"""One target's worker: sends what is due when the gate allows, and writes down what came of it.

Knows no other target. What an outcome means for the gate and for the rows is decided here, for every type.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

import structlog

from notifier.answer import Answer, Unreachable
from notifier.clock import Clock
from notifier.config import DeliverySettings
from notifier.delivery import (
    Backoff,
    Delivered,
    Delivery,
    DeliveryState,
    Outcome,
    Rejected,
    Retry,
    TargetBroken,
)
from notifier.event import Alert
from notifier.gate import Gate, GateState, Passage
from notifier.gatebook import take_up, written_down
from notifier.metrics import Metrics
from notifier.narrator import Narrator
from notifier.secret import Masker
from notifier.sending import send
from notifier.store import Settlement, StorageError, Store, StoredGate
from notifier.targets import Request, Target
from notifier.text import one_line, shorten
from notifier.wire import Wire

_LONGEST_ANSWER = 500
_SCANNED = 4096
_STORE_RETRY = 1.0
_LAST_CHANCE = 10.0
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
    hold_type: Callable[[str, timedelta, str], Awaitable[None]] | None = None
    """Lets all targets of a type wait; the deliverer fills it in."""


class Worker:
    """Sends what one target is owed. Paused, waiting or slow, it concerns no other."""

    def __init__(self, name: str, target: Target, common: Common, stored: StoredGate | None) -> None:
        self.name = name
        self.target = target
        self._common = common
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._attempts: dict[asyncio.Task[None], tuple[int, ...]] = {}
        self._alone: set[int] = set()
        self.narrator = Narrator(name, clock=common.clock, metrics=common.metrics, report=common.report)
        settings = common.settings
        self.gate = Gate(
            backoff=Backoff(settings.first_retry, settings.max_retry), pace=target.pace, rng=common.rng
        )
        take_up(self.gate, stored, common.clock)
        self._written = GateState.OPEN if stored is None else stored.state
        """How the gate stands in the state file as far as this worker wrote it."""

    def wake(self) -> None:
        """Look into the outbox again."""
        self._wake.set()

    def retarget(self, target: Target, settings: DeliverySettings) -> None:
        """Take other settings on, without losing what is under way."""
        self.target = target
        self.gate.repace(target.pace)
        self.gate.backoff = Backoff(settings.first_retry, settings.max_retry)
        self.wake()

    def reopen(self) -> None:
        """Try the target again at once, because a person said so or its URL is another one."""
        if self.gate.is_paused:
            self.narrator.resumed()
        self.gate.reopen()
        self._written = GateState.OPEN
        self.wake()

    def look_at(self, stored: StoredGate | None) -> None:
        """Reopen the gate when somebody else did so in the state file."""
        is_open = stored is None or stored.state is GateState.OPEN
        if is_open and self._written is not GateState.OPEN:
            self.reopen()
        self.wake()

    async def hold(self, length: timedelta, reason: str) -> None:
        """Send nothing before `length` is over, also after a restart: the service told another target."""
        self.gate.hold(self._common.clock.monotonic(), length, reason)
        with contextlib.suppress(StorageError):
            await self._common.store.save_gate(written_down(self.name, self.gate, self._common.clock))

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
        deliveries = await self._due()
        # NB: from here on nothing may wait; the gate may have closed while the outbox was read.
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

    async def _due(self) -> Sequence[Delivery]:
        """Return the next deliveries in order; one that a batch was refused with stands alone."""
        under_way = self._under_way()
        due = await self._common.store.due(self.name, limit=self.target.most_events, under_way=under_way)
        if due and due[0].id in self._alone:
            return due[:1]
        together = []
        for delivery in due:
            if delivery.id in self._alone:
                break
            together.append(delivery)
        return together

    def _under_way(self) -> set[int]:
        return {delivery for ids in self._attempts.values() for delivery in ids}

    def _start(self, deliveries: Sequence[Delivery], passage: Passage) -> None:
        self.gate.enter(self._common.clock.monotonic())
        request = self._render(deliveries)
        carried = deliveries if request is None else deliveries[: request.event_count]
        attempt = asyncio.create_task(self._attempt(carried, request, passage), name=f"attempt {self.name}")
        self._attempts[attempt] = tuple(delivery.id for delivery in carried)
        attempt.add_done_callback(self._ended)

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.pop(attempt, None)
        self._wake.set()
        if not attempt.cancelled() and (error := attempt.exception()) is not None:
            log.error("delivery.crashed", target=self.name, exc_info=error)

    def _render(self, deliveries: Sequence[Delivery]) -> Request | None:
        """Render a request; None when that fails, which is a bug of ours and must not stop the target."""
        now = self._common.clock.now()
        try:
            request = self.target.render([delivery.event for delivery in deliveries], now=now)
        except Exception:
            log.exception("delivery.not_rendered", target=self.name, delivery=deliveries[0].id)
            return None
        if request.warning:
            log.warning("delivery.template_failed", target=self.name, error=request.warning)
        return request

    async def _attempt(
        self, deliveries: Sequence[Delivery], request: Request | None, passage: Passage
    ) -> None:
        common = self._common
        try:
            answer = await send(common.wire, request, common.masker) if request is not None else None
            outcome = self._outcome(answer)
            if not isinstance(outcome, Delivered) and not self.gate.is_current(passage):
                outcome = Retry(outcome.reason)  # of the URL before: it says nothing of the one in force
            await self._follow(deliveries, outcome, answer, passage)
        finally:
            self.gate.release(passage)

    def _outcome(self, answer: Answer | Unreachable | None) -> Outcome:
        match answer:
            case None:
                return Rejected("the message could not be put together")
            case Unreachable(reason=reason):
                return Retry(reason)
            case Answer():
                return self.target.classify(answer, now=self._common.clock.now())

    async def _follow(
        self,
        deliveries: Sequence[Delivery],
        outcome: Outcome,
        answer: Answer | Unreachable | None,
        passage: Passage,
    ) -> None:
        """Let the gate and the rows follow from an outcome, then say so."""
        kind, clock = _OUTCOMES[type(outcome)], self._common.clock
        self._common.metrics.attempts.labels(self.name, kind).inc(len(deliveries))
        state = self._decide(deliveries, outcome, passage)
        is_down = isinstance(outcome, Retry) and self.gate.is_current(passage)
        settlement = Settlement(
            target=self.name,
            deliveries=tuple(delivery.id for delivery in deliveries),
            at=clock.now(),
            status=answer.status if isinstance(answer, Answer) else None,
            answer=_answer_text(answer, outcome.reason),
            outcome=kind,
            state=state,
            gate=written_down(self.name, self.gate, clock),
            expires=clock.now() - self._common.settings.give_up_after if is_down else None,
            under_way=frozenset(self._under_way()),
        )
        dead = await self._settle(settlement)
        self._written = settlement.gate.state
        if state is not DeliveryState.PENDING:
            self._alone.difference_update(settlement.deliveries)
        await self._say(deliveries, outcome, passage)
        await self.narrator.dead(dead, outcome.reason)

    def _decide(self, deliveries: Sequence[Delivery], outcome: Outcome, passage: Passage) -> DeliveryState:
        """Move the gate as an outcome asks and return what becomes of the deliveries."""
        now = self._common.clock.monotonic()
        match outcome:
            case Delivered(hold=hold):
                if not self.gate.is_current(passage):
                    return DeliveryState.DELIVERED
                self.gate.succeeded()
                if hold is not None:
                    self.gate.hold(now, hold, "the rate limit is used up")
                return DeliveryState.DELIVERED
            case Rejected() if len(deliveries) > 1:
                self.gate.succeeded()
                self._alone.update(delivery.id for delivery in deliveries)
                return DeliveryState.PENDING
            case Rejected():
                self.gate.succeeded()
                return DeliveryState.DEAD
            case TargetBroken(reason=reason):
                self.gate.pause(reason)
                return DeliveryState.PENDING
            case Retry(reason=reason, after=after):
                if self.gate.is_current(passage):
                    self.gate.failed(now, passage, reason, after=after)
                return DeliveryState.PENDING

    async def _settle(self, settlement: Settlement) -> list[int]:
        """Write an attempt down, however long the disk takes: what was sent must not be sent again."""
        while True:
            try:
                return await self._common.store.settle(settlement)
            except StorageError:
                await asyncio.sleep(_STORE_RETRY)

    async def _say(self, deliveries: Sequence[Delivery], outcome: Outcome, passage: Passage) -> None:
        match outcome:
            case Delivered():
                self.narrator.delivered(deliveries)
                if self.gate.is_current(passage) and not self.gate.is_paused:
                    await self.narrator.well()
            case Retry(reason=reason, after=after, is_global=is_global):
                wait = self.gate.closed_for(self._common.clock.monotonic())
                self.narrator.retry_scheduled(deliveries, reason, wait)
                if is_global and after is not None and self._common.hold_type is not None:
                    await self._common.hold_type(self.target.type_name, after, reason)
            case TargetBroken(reason=reason):
                await self.narrator.paused(reason)
            case Rejected(reason=reason) if len(deliveries) > 1:
                self.narrator.split(deliveries, reason)


def _answer_text(answer: Answer | Unreachable | None, reason: str) -> str:
    """Return what the state file keeps of an answer."""
    if isinstance(answer, Answer) and answer.body:
        return shorten(one_line(answer.body[:_SCANNED]), _LONGEST_ANSWER)
    return shorten(reason, _LONGEST_ANSWER)
