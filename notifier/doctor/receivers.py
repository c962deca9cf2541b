"""Each target asked how it is without a message, or at least connected to. Nobody ever sees any of it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from yarl import URL

from notifier.answer import Answer, Unreachable
from notifier.clock import Clock
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.doctor.finding import Check, Finding, Health
from notifier.doctor.storage import Remembered, paused
from notifier.duration import ago, spell
from notifier.secret import Masker
from notifier.sending import LARGEST_ANSWER, send
from notifier.store import StoredGate
from notifier.targets import Request, Target
from notifier.text import one_line
from notifier.wire import Wire

_AT_ONCE = 32
_NOTHING_TO_DO = "nothing: messages wait, and go out by themselves"


async def receivers(
    targets: Mapping[str, Target],
    remembered: Remembered,
    *,
    timeout: timedelta,  # noqa: ASYNC109 - of each request
    masker: Masker,
    clock: Clock,
) -> list[Finding]:
    """Return how each target is. One that a person must mend, or that asked for a wait, is left alone."""
    now = clock.now()
    findings = {name: _without_asking(name, one, remembered, clock) for name, one in targets.items()}
    asked = {name: targets[name] for name, finding in findings.items() if finding is None}
    async with Wire(timeout=timeout, connections=_AT_ONCE, largest_answer=LARGEST_ANSWER) as wire:
        survey = _Survey(wire, masker)
        answers = await asyncio.gather(*(survey.ask(target) for target in asked.values()))
    for (name, target), answer in zip(asked.items(), answers, strict=True):
        outcome = target.diagnose(answer, now=now) if isinstance(answer, Answer) else answer
        findings[name] = _finding(name, target, outcome, remembered.gate_of(target))
    return [finding for finding in findings.values() if finding is not None]


class _Survey:
    """Asks each end once, however many targets lead to it."""

    def __init__(self, wire: Wire, masker: Masker) -> None:
        self._wire, self._masker = wire, masker
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._asked: dict[tuple[str, str], asyncio.Task[Answer | Unreachable | None]] = {}

    async def ask(self, target: Target) -> Answer | Unreachable | None:
        """Return what a target answered to its probe; None when only a connection was tried, and made."""
        probe = target.probe()
        key = (target.type_name, probe.url.reveal() if probe else target.url.reveal())
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self._ask(target, probe))
        return await self._asked[key]

    async def _ask(self, target: Target, probe: Request | None) -> Answer | Unreachable | None:
        async with self._turns:
            if probe is not None:
                return await send(self._wire, probe, self._masker)
            return await self._wire.knock(URL(target.url.reveal(), encoded=True))


def _without_asking(name: str, target: Target, remembered: Remembered, clock: Clock) -> Finding | None:
    """Return the finding for a target that is not to be asked, else None."""
    now, gate = clock.now(), remembered.gate_of(target)
    if gate is not None and paused(gate):
        detail = f"{target.type_name}, paused {ago(gate.since, now)}: {one_line(gate.reason or '')}"
        advice = f"put a working url in, which goes on by itself; or mend it, then: notifier resume {name}"
        return Finding(Check.TARGET, name, Health.FAILED, detail, advice)
    told = remembered.told(target, now)
    if told is not None:
        wait = f"not asked: it wants to be left alone for {spell(told.told_remaining(now))}"
        detail = f"{target.type_name}, {wait} ({one_line(told.reason or 'as it said')})"
        return Finding(Check.TARGET, name, Health.SKIPPED, detail, _NOTHING_TO_DO)
    return None


def _finding(
    name: str, target: Target, outcome: Outcome | Unreachable | None, gate: StoredGate | None
) -> Finding:
    health, said, advice = _judged(name, target, outcome)
    if health is Health.OK and gate is not None and gate.failures and gate.reason:
        said, advice = f"{said}; but the last message failed: {one_line(gate.reason)}", _NOTHING_TO_DO
    return Finding(Check.TARGET, name, health, f"{target.type_name}, {said}", advice)


def _judged(name: str, target: Target, outcome: Outcome | Unreachable | None) -> tuple[Health, str, str]:
    """Say how a target is, in what words, and what to do."""
    match outcome:
        case None:
            host = urlsplit(target.url.reveal()).hostname
            said = f"{host} is there; only a message shows whether it takes any"
            return Health.OK, said, f"to send one: notifier test {name}"
        case Delivered(reason):
            return Health.OK, one_line(reason), ""
        case Unreachable(reason):
            return Health.FAILED, reason, f"check targets.{name}.url, and whether this machine reaches it"
        case Rejected(reason):
            said = f"{one_line(reason)} to the question how it is; only a message shows whether it takes any"
            return Health.WARNING, said, f"to send one: notifier test {name}"
        case TargetBroken(reason):
            advice = f"put a working url into targets.{name}.url: this one is revoked or wrong"
            return Health.FAILED, one_line(reason), advice
        case Retry(reason, after) if after is not None:
            return Health.WARNING, f"{one_line(reason)}; for {spell(after)}", _NOTHING_TO_DO
        case Retry(reason):
            is_ours = "check the target's url" in reason
            advice = f"mend targets.{name}.url" if is_ours else _NOTHING_TO_DO
            return Health.FAILED, one_line(reason), advice
