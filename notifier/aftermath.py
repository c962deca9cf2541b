"""What follows from an attempt: for the gate, for the rows of the outbox, for other targets; and saying so.

The same for every type of target. Sends nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Protocol

from notifier.answer import Answer, Unreachable
from notifier.clock import Clock
from notifier.config import DeliverySettings
from notifier.delivery import (
    Delivered,
    Delivery,
    DeliveryState,
    Notice,
    Outcome,
    Rejected,
    Retry,
    TargetBroken,
)
from notifier.duration import spell
from notifier.event import Alert
from notifier.gate import Passage
from notifier.grouping import Grouping, Retrial
from notifier.metrics import Metrics
from notifier.narrator import Narrator
from notifier.remote import RemoteEnd, Sender
from notifier.secret import Masker
from notifier.store import Settlement, StorageError, Store
from notifier.suspicion import Suspicion
from notifier.targets import Request, Target
from notifier.text import one_line, shorten
from notifier.wire import Wire

_LONGEST_ANSWER = 500
_SCANNED = 4096
_STORE_RETRY = 1.0
_USED_UP = "the rate limit is used up"
_CRASHED = "an error of the notifier itself"
_OUTCOMES: Mapping[type[Outcome], str] = {
    Delivered: "delivered",
    Retry: "retry",
    Rejected: "rejected",
    TargetBroken: "target_broken",
}


class Hold(Protocol):
    """Lets all wait that the service counts together with a target, or all targets of its type."""

    async def __call__(self, target: Target, length: timedelta, reason: str, *, is_global: bool) -> None:
        """Send them nothing before `length` is over."""
        ...


@dataclass(slots=True)
class Equipment:
    """What all workers work with; a reload replaces settings and masker."""

    store: Store
    wire: Wire
    clock: Clock
    rng: Random
    metrics: Metrics
    settings: DeliverySettings
    masker: Masker
    report: Callable[[Alert], Awaitable[None]]
    is_time_sound: Callable[[], bool] = lambda: True
    """Whether the wall clock tells how long something has waited; not just after it was set."""
    notice: Notice | None = None
    """What is told while nothing can be written down."""
    hold: Hold | None = None
    """Lets all wait that a limit is said to hold for; the deliverer fills it in."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP try: what it carries, and the passage through the gate that it was given."""

    deliveries: Sequence[Delivery]
    target: Target
    """As it was when it asked: it is its answer."""
    request: Request | None
    """None when rendering failed, which is a bug of ours."""
    remote: RemoteEnd
    passage: Passage

    @property
    def ids(self) -> tuple[int, ...]:
        """The deliveries that it carries."""
        return tuple(delivery.id for delivery in self.deliveries)


class Aftermath:
    """Draws the consequences of one sender's attempts."""

    def __init__(
        self, sender: Sender, equipment: Equipment, grouping: Grouping, suspicion: Suspicion
    ) -> None:
        self._sender = sender
        self._equipment = equipment
        self._grouping = grouping
        self._suspicion = suspicion
        equipment.metrics.begin_target(sender.name, [*_OUTCOMES.values()])

    def is_current(self, attempt: Attempt) -> bool:
        """Say whether an answer concerns the remote end in force, and not one of before."""
        remote = self._sender.remote
        return attempt.remote is remote and remote.gate.is_current(attempt.passage)

    async def follow(self, attempt: Attempt, answer: Answer | Unreachable | None) -> DeliveryState:
        """Let gate, rows and words follow from an answer; return what became of the deliveries."""
        outcome = self._outcome(attempt.target, answer)
        if not isinstance(outcome, Delivered) and not self.is_current(attempt):
            # of the URL before, or from before a person acted: only what the service asks for still counts
            outcome = Retry(outcome.reason, after=outcome.after if isinstance(outcome, Retry) else None)
            if outcome.after is not None:
                attempt.remote.gate.hold(self._equipment.clock.monotonic(), outcome.after, outcome.reason)
        return await self._follow(attempt, outcome, answer)

    async def proclaimed(self, attempt: Attempt, answer: Answer | Unreachable | None) -> Outcome:
        """Let the gate follow from the answer to what is written down nowhere; return what it means.

        NB: but for a pause, which has to be written down and told; the next delivery finds the same.
        """
        outcome = self._outcome(attempt.target, answer)
        if self.is_current(attempt) and answer is not None and not isinstance(outcome, TargetBroken):
            spared = self._spared(attempt.target, answer)
            self._move_gate(attempt, outcome, spared)
            await self._share(attempt.target, outcome, spared)
        self._count(outcome)
        return outcome

    def crashed(self, attempt: Attempt) -> None:
        """Let a bug of ours hammer nobody: back off as after a failure of the remote end."""
        attempt.remote.failed(attempt.ids, may_be_theirs=False)
        self._move_gate(attempt, Retry(_CRASHED), None)

    def _outcome(self, target: Target, answer: Answer | Unreachable | None) -> Outcome:
        match answer:
            case None:
                return Rejected("the message could not be put together")
            case Unreachable(reason=reason):
                return Retry(reason)
            case Answer():
                return target.classify(answer, now=self._equipment.clock.now())

    async def _follow(
        self, attempt: Attempt, outcome: Outcome, answer: Answer | Unreachable | None
    ) -> DeliveryState:
        """Let the gate and the rows follow from an outcome, then say so; return what became of the rows."""
        clock, is_current = self._equipment.clock, self.is_current(attempt)
        spared = self._spared(attempt.target, answer)
        is_at_fault = is_current and self._is_at_fault(attempt, outcome, answer)
        if is_at_fault:
            self._put_off(attempt)
        elif is_current and answer is not None:
            self._move_gate(attempt, outcome, spared)
            await self._share(attempt.target, outcome, spared)
        retrial = (
            self._grouping.refused(attempt.deliveries, outcome) if isinstance(outcome, Rejected) else None
        )
        patience = self._equipment.settings.give_up_after
        given_up = f"given up after {spell(patience)}: {outcome.reason}"
        is_to_be_given_up = is_current and isinstance(outcome, Retry) and self._equipment.is_time_sound()
        is_down = is_to_be_given_up and not is_at_fault
        is_over = is_to_be_given_up and is_at_fault and self._is_older(attempt, patience)
        state = DeliveryState.DEAD if is_over else _state(outcome, retrial)
        settlement = Settlement(
            target=self._sender.name,
            deliveries=attempt.ids,
            at=clock.now(),
            status=answer.status if isinstance(answer, Answer) else None,
            answer=_answer_text(answer, outcome.reason),
            error=given_up if is_over else outcome.reason,
            outcome=_OUTCOMES[type(outcome)],
            state=state,
            expires=clock.now() - patience if is_down else None,
            given_up=given_up,
        )
        dead = await self._settle(settlement)
        self._count(outcome)
        if state is not DeliveryState.PENDING:
            self._grouping.settled(attempt.ids)
            self._suspicion.settled(attempt.ids)
        await self._say(attempt, outcome, retrial, is_current=is_current)
        why = given_up if is_down or is_over else outcome.reason
        for name, deliveries in dead.items():
            await self._narrators().get(name, self._sender.narrator).dead(deliveries, why)
        return state

    def _count(self, outcome: Outcome) -> None:
        self._equipment.metrics.attempts.labels(self._sender.name, _OUTCOMES[type(outcome)]).inc()

    def _spared(self, target: Target, answer: Answer | Unreachable | None) -> timedelta | None:
        if not isinstance(answer, Answer):
            return None
        return target.spared_for(answer, now=self._equipment.clock.now())

    def _is_at_fault(self, attempt: Attempt, outcome: Outcome, answer: Answer | Unreachable | None) -> bool:
        """Note what was sent in vain, and say whether that is the message's own fault."""
        if not isinstance(outcome, Retry):
            return False
        remote, is_trial = attempt.remote, attempt.remote.is_doubtful
        is_asked = not isinstance(answer, Unreachable) or answer.is_asked
        may_be_the_message = is_asked and outcome.after is None
        if may_be_the_message and len(attempt.ids) > 1:  # one of them is at fault, and nobody knows which
            self._grouping.part(self._suspicion.again(attempt.deliveries, successes=remote.successes))
        is_at_fault = may_be_the_message and self._suspicion.failed(
            attempt.deliveries,
            successes=remote.successes,
            is_trial=is_trial,
            is_end_well=remote.seems_well,
        )
        is_known = self._suspicion.faults(attempt.deliveries) > 0
        remote.failed(attempt.ids, may_be_theirs=may_be_the_message, is_known=is_known)
        return is_at_fault

    def _put_off(self, attempt: Attempt) -> None:
        """Let a message that is at fault itself wait by itself: its remote end is well.

        NB: what it has been sent in vain while that was down counts for nothing.
        """
        (delivery,) = attempt.deliveries
        backoff = attempt.remote.gate.backoff
        wait = backoff.delay(self._suspicion.faults(attempt.deliveries), self._equipment.rng)
        self._suspicion.put_off(delivery.id, self._equipment.clock.monotonic() + wait.total_seconds())

    def _is_older(self, attempt: Attempt, patience: timedelta) -> bool:
        before = self._equipment.clock.now() - patience
        return all(delivery.counts_from <= before for delivery in attempt.deliveries)

    def _move_gate(self, attempt: Attempt, outcome: Outcome, spared: timedelta | None) -> None:
        now, remote = self._equipment.clock.monotonic(), attempt.remote
        gate = remote.gate
        match outcome:
            case Delivered() | Rejected():
                gate.succeeded()
                remote.is_well()
            case TargetBroken(reason=reason):
                gate.pause(reason)
            case Retry(reason=reason, after=after):
                gate.failed(now, attempt.passage, reason, after=after)
        if spared is not None:
            gate.hold(now, spared, _USED_UP)

    async def _settle(self, settlement: Settlement) -> Mapping[str, Collection[int]]:
        """Write an attempt down, however long the disk takes: what was sent must not be sent again."""
        while True:
            remote = self._sender.remote
            row = remote.row(self._equipment.clock)
            if row is not None:
                # NB: a target that has left the watchlist is no sender any more, and may have returned as one
                under_way = remote.under_way() | {*self._sender.under_way()}
                behind = tuple(remote.senders)
                settlement = replace(settlement, gate=row, under_way=under_way, behind=behind)
            try:
                dead = await self._equipment.store.settle(settlement)
            except StorageError:
                await asyncio.sleep(_STORE_RETRY)
            else:
                remote.stored(row)
                return dead

    def _narrators(self) -> Mapping[str, Narrator]:
        return {name: sender.narrator for name, sender in self._sender.remote.senders.items()}

    async def _say(
        self, attempt: Attempt, outcome: Outcome, retrial: Retrial | None, *, is_current: bool
    ) -> None:
        match outcome:
            case Delivered():
                self._sender.narrator.delivered(attempt.deliveries)
                if is_current and not self._sender.remote.gate.is_paused:
                    for narrator in self._narrators().values():
                        await narrator.well()
            case Retry(reason=reason):
                wait = self._wait(attempt)
                self._sender.narrator.retry_scheduled(attempt.deliveries, reason, wait)
            case TargetBroken(reason=reason):
                for narrator in self._narrators().values():
                    await narrator.paused(reason)
            case Rejected(reason=reason) if retrial is not None:
                self._sender.narrator.refused(attempt.deliveries, reason, retrial)

    def _wait(self, attempt: Attempt) -> float:
        """Return the seconds until what was sent in vain may be sent again."""
        now = self._equipment.clock.monotonic()
        return max(self._sender.remote.gate.closed_for(now), self._suspicion.wait_of(attempt.ids[0], now))

    async def _share(self, target: Target, outcome: Outcome, spared: timedelta | None) -> None:
        """Let others wait, too, that the service's limit is said to hold for."""
        hold = self._equipment.hold
        if hold is None:
            return
        match outcome:
            case Retry(reason=reason, after=timedelta() as after, is_global=True):
                await hold(target, after, reason, is_global=True)
            case Retry(reason=reason, after=timedelta() as after) if target.shares_limit:
                await hold(target, after, reason, is_global=False)
        if spared is not None and target.shares_limit:
            await hold(target, spared, _USED_UP, is_global=False)


def _state(outcome: Outcome, retrial: Retrial | None) -> DeliveryState:
    match outcome:
        case Delivered():
            return DeliveryState.DELIVERED
        case Rejected() if retrial is None:
            return DeliveryState.DEAD
        case _:
            return DeliveryState.PENDING


def _answer_text(answer: Answer | Unreachable | None, reason: str) -> str:
    """Return what the state file keeps of an answer: its words, or in ours what it is instead of words."""
    if not isinstance(answer, Answer):
        return shorten(reason, _LONGEST_ANSWER)
    if answer.body and not answer.is_page and not 300 <= answer.status < 400:
        return shorten(one_line(answer.body[:_SCANNED]), _LONGEST_ANSWER)
    return shorten(reason.removeprefix(f"HTTP {answer.status}").removeprefix(": "), _LONGEST_ANSWER)
