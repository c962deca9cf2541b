"""What reads tracks at a real API, put together as the daemon does, by a clock that stands still."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from notifier.admission import Admission
from notifier.config import Useapi
from notifier.document import Scalar
from notifier.event import EventType
from notifier.gathering import Gathering
from notifier.metrics import Metrics
from notifier.mistake import Place
from notifier.poller import Limits, Poller
from notifier.store import Store
from notifier.trouble import Reporter
from notifier.upstream import Upstream
from notifier.usage import Meter
from notifier.useapi import UseApi
from tests.support.clocks import ManualClock
from tests.support.servers import Server

MINUTE = timedelta(minutes=1)
ALL = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.MISSING, EventType.STALLED})


@dataclass
class Asker:
    """A poller and what it works with."""

    reader: UseApi
    reporter: Reporter
    upstream: Upstream
    admission: Admission
    metrics: Metrics
    meter: Meter
    poller: Poller
    gathering: Gathering
    """What takes turns."""


def scalar(text: str) -> Scalar:
    return Scalar(text, Place(1, 1))


@asynccontextmanager
async def asking(
    api: Server,
    store: Store,
    clock: ManualClock,
    *,
    alerts: tuple[str, ...] = (),
    reads_lists: bool = False,
    wake: Callable[[tuple[str, ...]], None] = lambda _targets: None,
) -> AsyncIterator[Asker]:
    """Read tracks at an API that lives by the same clock."""
    api.now = clock.now
    metrics = Metrics()
    reporter = Reporter(store, clock, alerts)
    reader = UseApi(Useapi(token=scalar("user:1-abc"), base_url=scalar(f"{api.url}/v2/pixverse")), clock)
    upstream = Upstream(
        interval=timedelta(seconds=15),
        max_interval=5 * MINUTE,
        spacing=timedelta(milliseconds=1),
        clock=clock,
        rng=Random(1),
        report=reporter.report,
        remember=store.save_gate,
    )
    upstream.fingerprint = "token"
    meter = Meter(now=upstream.time_up, period=float)
    admission = Admission(upstream=upstream, store=store, clock=clock, metrics=metrics, concurrency=8)
    poller = Poller(
        reader=reader,
        store=store,
        upstream=upstream,
        admission=admission,
        limits=Limits(3, 30 * MINUTE, 5 * MINUTE),
        clock=clock,
        rng=Random(1),
        metrics=metrics,
        wake=wake,
        reporter=reporter,
        meter=meter,
    )
    gathering = Gathering(
        poller, upstream=upstream, admission=admission, clock=clock, rng=Random(1), is_on=reads_lists
    )
    try:
        yield Asker(reader, reporter, upstream, admission, metrics, meter, poller, gathering)
    finally:
        await reader.close()
