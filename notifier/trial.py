"""``notifier test``: a sample event sent to targets as a real one would be, once and without the outbox."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from notifier.answer import Answer, Unreachable
from notifier.clock import Clock, SystemClock
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.loading import Loaded
from notifier.sample import sample_event
from notifier.secret import Masker
from notifier.sending import LARGEST_ANSWER, send
from notifier.targets import Target
from notifier.text import one_line
from notifier.wire import Wire

_VERDICTS = {
    Delivered: "accepted",
    Retry: "not now",
    Rejected: "refused",
    TargetBroken: "refused: the target needs mending",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a sample."""

    target: str
    type: str
    is_accepted: bool
    verdict: str
    answer: str


async def try_targets(
    loaded: Loaded, names: Sequence[str], *, is_completed: bool, clock: Clock | None = None
) -> list[Trial]:
    """Send a sample to each target, all at once; the results come in the order of the names."""
    clock = clock or SystemClock()
    event = sample_event(is_completed=is_completed, event_type=EventType.TEST, detected_at=clock.now())
    masker = Masker(loaded.secrets)
    delivery = loaded.config.delivery
    async with Wire(
        timeout=delivery.timeout, connections=max(1, len(names)), largest_answer=LARGEST_ANSWER
    ) as wire:
        trials = (
            _try(wire, name, loaded.config.targets[name], event=event, masker=masker, clock=clock)
            for name in names
        )
        return await asyncio.gather(*trials)


async def _try(wire: Wire, name: str, target: Target, *, event: Event, masker: Masker, clock: Clock) -> Trial:
    request = target.render([event], now=clock.now())
    answer = await send(wire, request, masker)
    if isinstance(answer, Unreachable):
        return Trial(name, target.type_name, False, "not reached", answer.reason)
    outcome = target.classify(answer, now=clock.now())
    said = one_line(outcome.reason)
    if request.warning is not None:
        said = f"{request.warning}; it was sent as the standard JSON instead. {said}"
    is_accepted = isinstance(outcome, Delivered) and request.warning is None
    verdict = "the template failed" if request.warning is not None else _verdict(outcome, answer)
    return Trial(name, target.type_name, is_accepted, verdict, said)


def _verdict(outcome: Outcome, answer: Answer) -> str:
    if isinstance(outcome, Retry) and answer.status < 400:
        return "not accepted"
    return _VERDICTS[type(outcome)]
