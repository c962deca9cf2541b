"""What is said of one target's deliveries: lines of the log, alerts, and the time each message took.

A failure that repeats is logged when its text changes and counted otherwise. Decides nothing.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog

from notifier.clock import Clock
from notifier.delivery import Delivery
from notifier.event import Alert, Event, Problem
from notifier.grouping import Retrial
from notifier.metrics import Metrics
from notifier.repetition import Repetition

log = structlog.get_logger()


class Narrator:
    """Speaks for one target."""

    def __init__(
        self, target: str, *, clock: Clock, metrics: Metrics, report: Callable[[Alert], Awaitable[None]]
    ) -> None:
        self._target = target
        self._clock = clock
        self._metrics = metrics
        self._report = report
        self._trouble = Repetition()
        self._template_trouble = Repetition()

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        """Say that messages were accepted."""
        now = self._clock.now()
        self._trouble.forget()
        for delivery in deliveries:
            waited = max(0.0, (now - delivery.event.detected_at).total_seconds())
            self._metrics.delivery_seconds.labels(self._target).observe(waited)
            log.info(
                "delivery.delivered",
                target=self._target,
                delivery=delivery.id,
                type=delivery.event.type.value,
                audio_id=delivery.event.audio_id,
                attempt=delivery.attempt_count + 1,
            )

    def proclaimed(self, event: Event) -> None:
        """Say that a message was accepted which is not in the outbox yet."""
        log.info("alert.told", target=self._target, name=event.name)

    def not_proclaimed(self, event: Event, reason: str) -> None:
        """Say that it was not, and comes with the outbox."""
        if self._trouble.news(reason) is not None:
            log.warning("alert.not_told", target=self._target, name=event.name, error=reason)

    async def well(self) -> None:
        """Tell `alerts` that the target is mended, if they know of a pause."""
        summary = f"the target {self._target} takes messages again"
        await self._report(Alert(Problem.TARGET_PAUSED, self._target, summary, is_resolved=True))

    def retry_scheduled(self, deliveries: Sequence[Delivery], reason: str, wait: float) -> None:
        """Say that an attempt failed and how many seconds the target is left alone."""
        before = self._trouble.news(reason)
        if before is None:
            return
        log.warning(
            "delivery.retry_scheduled",
            target=self._target,
            delivery=deliveries[0].id,
            attempt=deliveries[0].attempt_count + 1,
            wait=round(wait, 1),
            error=reason,
            **({"repeated": before} if before else {}),
        )

    async def paused(self, reason: str) -> None:
        """Say that a person has to mend the target."""
        log.error("target.paused", target=self._target, error=reason)
        summary = (
            f"the target {self._target} is paused ({reason}): "
            f"mend its url, or run: notifier resume {self._target}"
        )
        await self._report(Alert(Problem.TARGET_PAUSED, self._target, summary))

    def resumed(self) -> None:
        """Say that a paused target is tried again."""
        log.info("target.resumed", target=self._target)

    def template_failed(self, delivery: Delivery, warning: str) -> None:
        """Say that an event goes out as the standard JSON, since the template cannot tell it."""
        before = self._template_trouble.news(warning)
        if before is None:
            return
        log.error(
            "delivery.template_failed",
            target=self._target,
            delivery=delivery.id,
            audio_id=delivery.event.audio_id,
            error=f"{warning}; sent as the standard JSON instead",
            **({"repeated": before} if before else {}),
        )

    def refused(self, deliveries: Sequence[Delivery], reason: str, retrial: Retrial) -> None:
        """Say that a message was refused and how its events are tried next."""
        match retrial:
            case Retrial.ONE_BY_ONE:
                log.warning("delivery.batch_split", target=self._target, count=len(deliveries), error=reason)
            case Retrial.PLAIN_TEXT:
                log.warning("delivery.plain_text", target=self._target, count=len(deliveries), error=reason)

    async def dead(self, deliveries: Collection[int], reason: str) -> None:
        """Say that deliveries are dead letters now."""
        for delivery in deliveries:
            log.error("delivery.dead", target=self._target, delivery=delivery, error=reason)
        if deliveries:
            await self.dead_letters(len(deliveries), reason)

    async def dead_letters(self, count: int, reason: str) -> None:
        """Tell `alerts` that there are dead letters; once until there are none."""
        what = "a delivery" if count == 1 else f"{count} deliveries"
        summary = (
            f"{what} to {self._target} will not be tried again ({reason}): "
            f"see: notifier deliveries --state dead --target {self._target}"
        )
        await self._report(Alert(Problem.DELIVERY_DEAD, self._target, summary))
