"""``notifier test``: a sample event sent to targets as a real one would be, once and without the outbox."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from yarl import URL

from notifier.answer import Unreachable
from notifier.clock import Clock, SystemClock
from notifier.delivery import Delivered, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.loading import Loaded
from notifier.sample import sample_event
from notifier.secret import Masker
from notifier.targets import Target
from notifier.text import one_line, shorten
from notifier.wire import Wire

_LARGEST_ANSWER = 64 * 1024
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
        timeout=delivery.timeout, connections=max(1, len(names)), largest_answer=_LARGEST_ANSWER
    ) as wire:
        trials = (
            _try(wire, name, loaded.config.targets[name], event=event, masker=masker, clock=clock)
            for name in names
        )
        return await asyncio.gather(*trials)


async def _try(wire: Wire, name: str, target: Target, *, event: Event, masker: Masker, clock: Clock) -> Trial:
    request = target.render([event], now=clock.now())
    url = URL(request.url.reveal(), encoded=True)
    answer = await wire.send(request.method, url, headers=request.headers, body=request.body)
    if isinstance(answer, Unreachable):
        return Trial(name, target.type_name, False, "not reached", masker.mask(answer.reason))
    outcome = target.classify(answer, now=clock.now())
    said = shorten(one_line(masker.mask(outcome.reason)), 300)
    return Trial(name, target.type_name, isinstance(outcome, Delivered), _VERDICTS[type(outcome)], said)
