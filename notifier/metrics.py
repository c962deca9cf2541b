"""What Prometheus can read of the daemon. Names and labels are part of the public interface."""

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from notifier import __version__
from notifier.store import Backlog

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody here reads

_LATENESS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60)
_DELIVERY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)


class Metrics:
    """All metrics of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        build = Gauge("notifier_build_info", "The running version.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self.api_requests = Counter(
            "notifier_api_requests",
            "Requests to the API by what came of them.",
            ["outcome"],
            registry=self.registry,
        )
        self.api_request_seconds = Histogram(
            "notifier_api_request_seconds", "How long a request to the API took.", registry=self.registry
        )
        self.poll_lateness = Histogram(
            "notifier_poll_lateness_seconds",
            "How long after its due time a track was read.",
            buckets=_LATENESS,
            registry=self.registry,
        )
        self.tracks = Gauge(
            "notifier_tracks", "Tracks on the watchlist by status.", ["status"], registry=self.registry
        )
        self.events = Counter("notifier_events", "Events found.", ["type"], registry=self.registry)
        self.attempts = Counter(
            "notifier_delivery_attempts",
            "Attempts by outcome.",
            ["target", "outcome"],
            registry=self.registry,
        )
        self.deliveries = Gauge(
            "notifier_deliveries", "Deliveries in the outbox.", ["target", "state"], registry=self.registry
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
            "1 while a person has to mend the target.",
            ["target"],
            registry=self.registry,
        )
        self.tasks = Gauge("notifier_asyncio_tasks", "What asyncio has under way.", registry=self.registry)
        self.reload_success = Gauge(
            "notifier_config_last_reload_success", "1 when the last reload was taken.", registry=self.registry
        )
        self.reload_timestamp = Gauge(
            "notifier_config_last_reload_timestamp_seconds",
            "When a configuration was last taken.",
            registry=self.registry,
        )

    def show_tracks(self, by_status: Mapping[str, int]) -> None:
        """Replace the counts of tracks."""
        self.tracks.clear()
        for status, count in by_status.items():
            self.tracks.labels(status).set(count)

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
