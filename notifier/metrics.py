"""What Prometheus can read of the daemon. Names and labels are part of the public interface.

A series is there from the start, with 0, wherever its labels are known: an increase can be told from a first
sample only then. What the API may call a status is bounded, what a label says is never foreign text.
"""

import time
from collections import Counter as Count
from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from notifier import __version__
from notifier.store import Backlog
from notifier.track import Status

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody here reads

OTHER = "OTHER"
"""What stands for all statuses of the API beyond the first few that it does not document."""
_MOST_STATUSES = 20
_REQUEST = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
_LATENESS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60)
_DELIVERY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)


class RequestKind(StrEnum):
    """What a request to the API asks for."""

    TRACK = "track"
    LIST = "list"


class Metrics:
    """All metrics of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        _Process(registry=self.registry)
        self._statuses: set[str] = {*Status}
        self._outcomes: dict[str, Collection[str]] = {}
        """What attempts to each target are counted by."""
        build = Gauge("notifier_build_info", "The running version.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self.api_requests = Counter(
            "notifier_api_requests",
            "Requests to the API, by what was asked for and what came of it.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self._fixed_reads = 0.0
        self.api_fixed_reads = Counter(
            "notifier_api_fixed_reads",
            "Requests that reading each track at its interval, by itself, would have made in the same time.",
            registry=self.registry,
        )
        self.api_request_seconds = Histogram(
            "notifier_api_request_seconds",
            "How long a request to the API took, whatever came of it.",
            buckets=_REQUEST,
            registry=self.registry,
        )
        self.poll_lateness = Histogram(
            "notifier_poll_lateness_seconds",
            "How long after its due time a track was read; what the rate makes it wait counts.",
            buckets=_LATENESS,
            registry=self.registry,
        )
        self.callbacks = Counter(
            "notifier_callbacks",
            "Tracks that calls of the API's replyUrl named, and calls that named none, by what came of them.",
            ["outcome"],
            registry=self.registry,
        )
        self.tracks = Gauge(
            "notifier_tracks",
            "Tracks on the watchlist, by the status last seen; UNKNOWN before the first read.",
            ["status"],
            registry=self.registry,
        )
        self.events = Counter(
            "notifier_events",
            "Events found in tracks, whether or not anybody is told.",
            ["type"],
            registry=self.registry,
        )
        self.attempts = Counter(
            "notifier_delivery_attempts",
            "Attempts, by what came of them; one may carry many deliveries.",
            ["target", "outcome"],
            registry=self.registry,
        )
        self.deliveries = Gauge(
            "notifier_deliveries",
            "Deliveries that the state file holds, by their state; old ones are forgotten.",
            ["target", "state"],
            registry=self.registry,
        )
        self.oldest_pending = Gauge(
            "notifier_delivery_oldest_pending_seconds",
            "Age of the oldest pending delivery, 0 without one.",
            ["target"],
            registry=self.registry,
        )
        self.delivery_seconds = Histogram(
            "notifier_delivery_seconds",
            "From the event to its acceptance by the target.",
            ["target"],
            buckets=_DELIVERY,
            registry=self.registry,
        )
        self.target_paused = Gauge(
            "notifier_target_paused",
            "1 while the target is paused, which only a person can end.",
            ["target"],
            registry=self.registry,
        )
        self.unhealthy = Gauge(
            "notifier_unhealthy",
            "1 while /healthz answers 503 for this reason.",
            ["reason"],
            registry=self.registry,
        )
        self.tasks = Gauge("notifier_asyncio_tasks", "What asyncio has under way.", registry=self.registry)
        self.reload_success = Gauge(
            "notifier_config_last_reload_success",
            "1 while the watchlist on the disk is the one in force, 0 while it is invalid.",
            registry=self.registry,
        )
        self.reload_timestamp = Gauge(
            "notifier_config_last_reload_timestamp_seconds",
            "When a watchlist was last taken, in seconds since 1970.",
            registry=self.registry,
        )

    def begin_target(self, target: str, outcomes: Collection[str]) -> None:
        """Count a target's attempts from 0, unless they are counted already."""
        self._outcomes[target] = outcomes
        self.delivery_seconds.labels(target)
        for outcome in outcomes:
            self.attempts.labels(target, outcome)

    def forget_target(self, target: str) -> None:
        """Count no attempts any more of a target that is gone, lest former names pile up."""
        if target in self._outcomes:
            self.delivery_seconds.remove(target)
        for outcome in self._outcomes.pop(target, ()):
            self.attempts.remove(target, outcome)

    def show_fixed_reads(self, count: float) -> None:
        """Replace the count of what fixed polling would have asked; it only grows."""
        self.api_fixed_reads.inc(count - self._fixed_reads)
        self._fixed_reads = count

    def show_tracks(self, by_status: Mapping[str, int]) -> None:
        """Replace the counts of tracks."""
        counts: Count[str] = Count(dict.fromkeys(Status, 0))
        for status, count in by_status.items():
            counts[self._label(status)] += count
        self.tracks.clear()
        for label, count in counts.items():
            self.tracks.labels(label).set(count)

    def _label(self, status: str) -> str:
        """Return what shows a status: itself, unless the API has made up too many of them."""
        if status not in self._statuses:
            if len(self._statuses) >= len(Status) + _MOST_STATUSES:
                return OTHER
            self._statuses.add(status)
        return status

    def show_health(self, reasons: Mapping[str, bool]) -> None:
        """Replace what is known of the reasons for which the daemon may not do its work."""
        for reason, holds in reasons.items():
            self.unhealthy.labels(reason).set(holds)

    def show_backlogs(
        self, backlogs: Mapping[str, Backlog], paused: Mapping[str, bool], now: datetime
    ) -> None:
        """Replace what is known of the outbox and of the targets' gates."""
        for gauge in (self.deliveries, self.oldest_pending, self.target_paused):
            gauge.clear()
        for target in {*backlogs, *paused}:
            backlog = backlogs.get(target, Backlog())
            self.deliveries.labels(target, "pending").set(backlog.pending)
            self.deliveries.labels(target, "delivered").set(backlog.delivered)
            self.deliveries.labels(target, "dead").set(backlog.dead)
            age = (now - backlog.oldest_pending).total_seconds() if backlog.oldest_pending else 0.0
            self.oldest_pending.labels(target).set(max(0.0, age))
            self.target_paused.labels(target).set(paused.get(target, False))

    def config_loaded(self, now: datetime) -> None:
        """Note that a configuration was taken."""
        self.reload_success.set(1)
        self.reload_timestamp.set(now.timestamp())

    def config_rejected(self) -> None:
        """Note that a configuration was refused."""
        self.reload_success.set(0)

    def exposition(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)


class _Process(ProcessCollector):
    """Memory, processor, files and start of this process."""

    def _boot_time(self) -> float:
        # NB: not from /proc/stat, which ProcSubset=pid hides; all else stands in the process's own directory
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
