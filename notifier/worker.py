"""One target's worker: sends what is due when the gate allows, as wide as the target takes it.

Knows no other target. What follows from an answer is decided in `notifier.aftermath`.
"""

import asyncio
import contextlib
from collections.abc import Collection, Sequence

import structlog

from notifier.aftermath import Aftermath, Attempt, Equipment
from notifier.answer import Answer, Unreachable
from notifier.delivery import Delivered, Delivery, DeliveryState, Notice, Outcome, Rejected, Retry
from notifier.due import Due
from notifier.gate import Gate, Passage
from notifier.grouping import Grouping
from notifier.narrator import Narrator
from notifier.remote import RemoteEnd
from notifier.sending import send
from notifier.store import StorageError
from notifier.suspicion import Suspicion
from notifier.targets import Request, Target

_STORE_RETRY = 1.0
_LAST_CHANCE = 10.0

log = structlog.get_logger()


class Worker:
    """Sends what one target is owed. Paused, waiting or slow, it concerns no other."""

    def __init__(self, name: str, target: Target, equipment: Equipment, remote: RemoteEnd) -> None:
        self.name = name
        self.target = target
        self.remote = remote
        self.narrator = Narrator(
            name, clock=equipment.clock, metrics=equipment.metrics, report=equipment.report
        )
        self._equipment = equipment
        self._wake = asyncio.Event()
        self._leaving = asyncio.Event()
        self._stopping = asyncio.Event()
        self._attempts: dict[asyncio.Task[DeliveryState], Attempt] = {}
        self._grouping = Grouping()
        self._suspicion = Suspicion()
        self._aftermath = Aftermath(self, equipment, self._grouping, self._suspicion)
        self._due = Due(equipment.store, name, lambda: {*self.under_way(), *self._suspicion.held()})

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

    def take_up(self) -> None:
        """Read the outbox anew and let nothing wait by itself: a person may have mended what it fails for."""
        self._suspicion.release(float("inf"))
        self.look_again()

    def retarget(self, target: Target, remote: RemoteEnd, limits: dict[str, Gate]) -> None:
        """Take other settings on, and another remote end, without losing what is under way."""
        self.target = target
        if remote is not self.remote:
            was_paused = self.gate.is_paused
            self.remote.leave(self)
            self.remote = remote
            if was_paused and not self.gate.is_paused:
                self.narrator.resumed()
        remote.join(self, limits)
        self.take_up()

    def under_way(self) -> Collection[int]:
        """Return the deliveries that are being sent."""
        return {one for attempt in self._attempts.values() for one in attempt.ids}

    async def run(self, *, after: Collection[asyncio.Task[None]] = ()) -> None:
        """Send until `leave` or `stop`, then let attempts under way finish; at a stop for 10 seconds.

        Begins `after` earlier workers of the same target have ended, lest both send the same.
        """
        leaving = asyncio.create_task(self._leaving.wait())
        sending = asyncio.create_task(self._send_all(after))
        await asyncio.wait([leaving, sending], return_when=asyncio.FIRST_COMPLETED)
        for task in (leaving, sending):
            task.cancel()
        await asyncio.gather(leaving, sending, return_exceptions=True)
        if not sending.cancelled():
            sending.result()
        await self._finish()

    async def _finish(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        while self._attempts and not stopping.done():
            await asyncio.wait([*self._attempts, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_LAST_CHANCE)
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(stopping, *self._attempts, return_exceptions=True)

    async def _send_all(self, after: Collection[asyncio.Task[None]]) -> None:
        if after:
            await asyncio.wait(after)
        while True:
            self._wake.clear()
            try:
                pause = await self._start_next()
            except StorageError:
                pause = _STORE_RETRY
            if pause is None or pause > 0:
                await self._wait(self._sooner(pause))

    def _sooner(self, pause: float | None) -> float | None:
        """Return how long to wait for what comes first: the next look, or one that waits by itself."""
        waits = (pause, self._suspicion.wait(self._equipment.clock.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def leave(self) -> None:
        """Start no further attempt: the target is off the watchlist."""
        self.remote.leave(self)
        self._leaving.set()

    def stop(self) -> None:
        """Start no further attempt: the daemon ends, which does not wait for long."""
        self._leaving.set()
        self._stopping.set()

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _start_next(self) -> float | None:
        """Start an attempt if one is due; return how long to wait before the next look, None for a wake."""
        if self._suspicion.release(self._equipment.clock.monotonic()):
            self._due.forget()
        if self._equipment.store.trouble is not None:  # what an attempt comes to could not be written down
            return await self._proclaim()
        if not self._has_lane():
            return None
        wait = self.remote.remaining(self._equipment.clock.monotonic())
        if wait > 0 and self.remote.is_doubtful and not self.remote.is_untried:
            return wait  # whatever is due
        deliveries = await self._next()
        # NB: from here on nothing may wait; the gate may have closed while the outbox was read.
        if not deliveries or not self._has_lane():
            return None
        if self.remote.is_untried and self._is_new(deliveries[0]):
            self.gate.hasten()
        wait = self.remote.remaining(self._equipment.clock.monotonic())
        if wait > 0:
            return wait
        passage = self.gate.claim()
        if passage is None:
            return None
        self._start(deliveries, passage)
        return 0

    async def _next(self) -> Sequence[Delivery]:
        """Return what is sent next; only one while it is in doubt whether the remote end is well."""
        if self.remote.is_doubtful:
            return await self._due.least_tried(rather_not=self._suspicion.tried())
        due = await self._due.first(self.target.most_events)
        return self._suspicion.apart(self._grouping.first_together(due))

    def _is_new(self, delivery: Delivery) -> bool:
        """Say whether a delivery was never tried, or not since the remote end was last known to be well."""
        return delivery.attempt_count == 0 and not self.remote.is_tried_with(delivery.id)

    async def _proclaim(self) -> float:
        """Tell the target that the disk fails, if it is to be told; return how long to wait."""
        notice, wait = self._equipment.notice, self.remote.remaining(self._equipment.clock.monotonic())
        if notice is None or not notice.is_for(self.name) or wait > 0:
            return _STORE_RETRY
        passage = self.gate.claim()
        if passage is not None:
            await self._tell(notice, passage)
        return _STORE_RETRY

    async def _tell(self, notice: Notice, passage: Passage) -> None:
        remote, event = self.remote, notice.event
        unwritten = Delivery(0, event, attempt_count=0, counts_from=event.detected_at)
        attempt = Attempt([unwritten], self.target, self._render([unwritten]), remote, passage)
        remote.enter(self._equipment.clock.monotonic())
        notice.under_way.add(self.name)
        try:
            outcome: Outcome = await self._aftermath.proclaimed(attempt, await self._answer(attempt))
        except Exception:
            log.exception("delivery.crashed", target=self.name)
            outcome = Rejected("an error of the notifier itself")
        finally:
            notice.under_way.discard(self.name)
            remote.attempt_count -= 1
            remote.gate.release(passage)
            for sender in remote.senders.values():
                sender.nudge()
        if isinstance(outcome, Delivered):
            notice.told.add(self.name)
            self.narrator.proclaimed(event)
            return
        if not isinstance(outcome, Retry):
            notice.refused.add(self.name)
        self.narrator.not_proclaimed(event, outcome.reason)

    def _has_lane(self) -> bool:
        """Say whether another attempt may be under way beside those that are."""
        lanes = 1 if self.gate.failures else self.target.lanes
        return len(self._attempts) < lanes and not self.gate.is_paused

    def _start(self, deliveries: Sequence[Delivery], passage: Passage) -> None:
        self.remote.enter(self._equipment.clock.monotonic())
        request = self._render(deliveries)
        carried = deliveries if request is None else deliveries[: request.event_count]
        self._due.take({delivery.id for delivery in carried})
        attempt = Attempt(carried, self.target, request, self.remote, passage)
        task = asyncio.create_task(self._try(attempt), name=f"attempt {self.name}")
        self._attempts[task] = attempt
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[DeliveryState]) -> None:
        """Let others through; what was sent in vain is to be sent again, before all that came later."""
        remote = self._attempts.pop(task).remote
        remote.attempt_count -= 1
        is_settled = not task.cancelled() and task.result() is not DeliveryState.PENDING
        for sender in {self.name: self, **remote.senders}.values():
            sender.nudge() if is_settled else sender.look_again()

    def _render(self, deliveries: Sequence[Delivery]) -> Request | None:
        """Render a request; None when that fails, which is a bug of ours and must not stop the target."""
        now, is_plain = self._equipment.clock.now(), self._grouping.is_plain(deliveries[0])
        try:
            events = [delivery.event for delivery in deliveries]
            request = self.target.render(events, now=now, is_plain=is_plain)
        except Exception:
            log.exception("delivery.not_rendered", target=self.name, delivery=deliveries[0].id)
            return None
        if request.warning:
            self.narrator.template_failed(deliveries[0], request.warning)
        return request

    async def _answer(self, attempt: Attempt) -> Answer | Unreachable | None:
        """Send what an attempt carries; None when there is nothing that could be sent."""
        if attempt.request is None:
            return None
        return await send(self._equipment.wire, attempt.request, self._equipment.masker)

    async def _try(self, attempt: Attempt) -> DeliveryState:
        try:
            return await self._aftermath.follow(attempt, await self._answer(attempt))
        except Exception:
            log.exception("delivery.crashed", target=self.name)
            self._aftermath.crashed(attempt)
            return DeliveryState.PENDING
        finally:
            attempt.remote.gate.release(attempt.passage)
