"""One target's worker: sends what is due when the gate allows, and writes down what came of it.

Knows no other target. What an outcome means for the gate and for the rows is decided here, for every type.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

import structlog
from yarl import URL

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
from notifier.event import Alert, Problem
from notifier.gate import Gate, GateState, Passage
from notifier.gatebook import take_up, written_down
from notifier.metrics import Metrics
from notifier.secret import Masker
from notifier.store import Settlement, StorageError, Store, StoredGate
from notifier.targets import Request, Target
from notifier.text import one_line, shorten
from notifier.wire import Wire

_LONGEST_ANSWER = 500
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
    hold_type: Callable[[str, timedelta, str], None] = lambda _type, _length, _reason: None
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
        self._trouble: str | None = None
        self._trouble_count = 0
        settings = common.settings
        self.gate = Gate(
            backoff=Backoff(settings.first_retry, settings.max_retry), pace=target.pace, rng=common.rng
        )
        take_up(self.gate, stored, common.clock)

    def wake(self) -> None:
        """Look into the outbox again."""
        self._wake.set()

    def retarget(self, target: Target, settings: DeliverySettings) -> None:
        """Take other settings on, without losing what is under way."""
        self.target = target
        self.gate.backoff = Backoff(settings.first_retry, settings.max_retry)
        self.wake()

    def look_at(self, stored: StoredGate | None) -> None:
        """Reopen the gate when somebody did so in the state file."""
        state = self.gate.state(self._common.clock.monotonic())
        if stored is not None and stored.state is GateState.OPEN and state is not GateState.OPEN:
            if state is GateState.PAUSED:
                log.info("target.resumed", target=self.name)
            self.gate.reopen()
        self.wake()

    async def run(self) -> None:
        """Send until `stop`, then let attempts under way finish."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                pause = await self._start_next()
            except StorageError:
                pause = _STORE_RETRY
            if pause is None or pause > 0:
                await self._wait(pause)
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_LAST_CHANCE)
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)

    def stop(self) -> None:
        """Start no further attempt."""
        self._stopping.set()
        self._wake.set()

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _start_next(self) -> float | None:
        """Start an attempt if one is due; return how long to wait before the next look, None for a wake."""
        lanes = 1 if self.gate.failures else self.target.lanes
        if len(self._attempts) >= lanes or self.gate.is_paused:
            return None
        wait = self.gate.remaining(self._common.clock.monotonic())
        deliveries = await self._due()
        if not deliveries:
            return None
        if wait > 0:
            return wait
        passage = self.gate.claim()
        if passage is None or self._stopping.is_set():
            return None
        self._start(deliveries, passage)
        return 0

    async def _due(self) -> Sequence[Delivery]:
        """Return the next deliveries in order; one that a batch was refused with stands alone."""
        under_way = {delivery for ids in self._attempts.values() for delivery in ids}
        due = await self._common.store.due(self.name, limit=self.target.most_events, under_way=under_way)
        if due and due[0].id in self._alone:
            return due[:1]
        together = []
        for delivery in due:
            if delivery.id in self._alone:
                break
            together.append(delivery)
        return together

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
        try:
            answer = await self._send(request) if request is not None else None
            outcome = self._outcome(answer)
            await self._follow(deliveries, outcome, answer, passage)
        finally:
            self.gate.release(passage)

    async def _send(self, request: Request) -> Answer | Unreachable:
        url = URL(request.url.reveal(), encoded=True)
        return await self._common.wire.send(request.method, url, headers=request.headers, body=request.body)

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
        now, clock = self._common.clock.monotonic(), self._common.clock
        reason = self._shown(outcome.reason)
        state, expires = DeliveryState.PENDING, None
        self._common.metrics.attempts.labels(self.name, _OUTCOMES[type(outcome)]).inc(len(deliveries))
        match outcome:
            case Delivered(hold=hold):
                self.gate.succeeded()
                state = DeliveryState.DELIVERED
                if hold is not None:
                    self.gate.hold(now, hold, "the rate limit is used up")
            case Rejected():
                self.gate.succeeded()
                if len(deliveries) > 1:
                    self._alone.update(delivery.id for delivery in deliveries)
                else:
                    state = DeliveryState.DEAD
            case TargetBroken():
                self.gate.pause(reason)
            case Retry(after=after):
                self.gate.failed(now, passage, reason, after=after)
                expires = clock.now() - self._common.settings.give_up_after
                if outcome.is_global and after is not None:
                    self._common.hold_type(self.target.type_name, after, reason)
        settlement = Settlement(
            target=self.name,
            deliveries=tuple(delivery.id for delivery in deliveries),
            at=clock.now(),
            status=answer.status if isinstance(answer, Answer) else None,
            answer=self._answer_text(answer, reason),
            outcome=_OUTCOMES[type(outcome)],
            state=state,
            gate=written_down(self.name, self.gate, clock),
            expires=expires,
        )
        dead = await self._settle(settlement)
        self._alone.difference_update(settlement.deliveries if state is not DeliveryState.PENDING else ())
        await self._say(deliveries, outcome, reason, dead)

    async def _settle(self, settlement: Settlement) -> list[int]:
        """Write an attempt down, however long the disk takes: what was sent must not be sent again."""
        while True:
            try:
                return await self._common.store.settle(settlement)
            except StorageError:
                await asyncio.sleep(_STORE_RETRY)

    async def _say(
        self, deliveries: Sequence[Delivery], outcome: Outcome, reason: str, dead: Collection[int]
    ) -> None:
        match outcome:
            case Delivered():
                self._say_delivered(deliveries)
                await self._report_paused(reason, is_resolved=True)
            case Retry():
                self._say_retry(deliveries, reason)
            case TargetBroken():
                log.error("target.paused", target=self.name, error=reason)
                await self._report_paused(reason)
            case Rejected() if len(deliveries) > 1:
                log.warning("delivery.batch_split", target=self.name, count=len(deliveries), error=reason)
            case Rejected():
                pass
        if dead:
            for delivery in dead:
                log.error("delivery.dead", target=self.name, delivery=delivery, error=reason)
            await self._report_dead(len(dead), reason)

    def _say_delivered(self, deliveries: Sequence[Delivery]) -> None:
        now = self._common.clock.now()
        self._trouble = None
        for delivery in deliveries:
            waited = max(0.0, (now - delivery.event.detected_at).total_seconds())
            self._common.metrics.delivery_seconds.labels(self.name).observe(waited)
            log.info(
                "delivery.delivered",
                target=self.name,
                delivery=delivery.id,
                type=delivery.event.type.value,
                audio_id=delivery.event.audio_id,
                attempt=delivery.attempt_count + 1,
            )

    def _say_retry(self, deliveries: Sequence[Delivery], reason: str) -> None:
        """Log a failure when its text changes, and count it when it does not."""
        if reason == self._trouble:
            self._trouble_count += 1
            return
        repeated = {"repeated": self._trouble_count} if self._trouble is not None else {}
        self._trouble, self._trouble_count = reason, 1
        log.warning(
            "delivery.retry_scheduled",
            target=self.name,
            delivery=deliveries[0].id,
            attempt=deliveries[0].attempt_count + 1,
            wait=round(self.gate.closed_for(self._common.clock.monotonic()), 1),
            error=reason,
            **repeated,
        )

    async def _report_paused(self, reason: str, *, is_resolved: bool = False) -> None:
        summary = (
            f"the target {self.name} takes messages again"
            if is_resolved
            else f"the target {self.name} is paused ({reason}): "
            f"mend its url, or run: notifier resume {self.name}"
        )
        await self._common.report(Alert(Problem.TARGET_PAUSED, self.name, summary, is_resolved=is_resolved))

    async def _report_dead(self, count: int, reason: str) -> None:
        what = "a delivery" if count == 1 else f"{count} deliveries"
        summary = (
            f"{what} to {self.name} will not be tried again ({reason}): "
            f"see: notifier deliveries --state dead --target {self.name}"
        )
        await self._common.report(Alert(Problem.DELIVERY_DEAD, self.name, summary))

    def _shown(self, text: str) -> str:
        return self._common.masker.mask(one_line(text))

    def _answer_text(self, answer: Answer | Unreachable | None, reason: str) -> str:
        if isinstance(answer, Answer) and answer.body:
            return shorten(self._shown(answer.body[:4096]), _LONGEST_ANSWER)
        return shorten(reason, _LONGEST_ANSWER)
