from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from notifier.config import Config
from notifier.delivery import DeliveryState
from notifier.engine import Engine
from notifier.event import Alert, EventType, Problem, TrackNews, track_event
from notifier.gate import GateState
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Owed, Settlement, Store, StoredGate
from notifier.transition import Sighting
from tests.support.clocks import ManualClock
from tests.support.tracks import audio_id

DAY = timedelta(days=1)
NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)


def config(*numbers: int) -> Config:
    watches = "".join(f"  - {audio_id(number)}\n" for number in numbers)
    text = f"""useapi: {{token: abc, base_url: "http://127.0.0.1:9"}}
targets: {{archive: {{type: webhook, url: "http://127.0.0.1:9/"}}}}
alerts: [archive]
watch:
{watches}"""
    return load_content(text.encode(), "x", resolve=True, sources=Sources({})).config


async def finish(store: Store, number: int, *targets: str) -> None:
    news = TrackNews(audio_id(number), "x", "COMPLETED", None, None)
    event = track_event(EventType.COMPLETED, news, NOON)
    sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=NOON)
    await store.record(audio_id(number), sighting, None, [Owed(event, targets)], now=NOON)


def settled(delivery: int, target: str, state: DeliveryState) -> Settlement:
    gate = StoredGate(target, GateState.OPEN, None, NOON)
    return Settlement(target, (delivery,), NOON, 200, "", "x", state, (gate,))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


async def test_tidying_forgets_old_tracks_and_gives_up_what_a_gone_target_is_owed(
    store: Store, clock: ManualClock
) -> None:
    await finish(store, 1, "archive")
    await finish(store, 2, "archive", "gone")
    await store.settle(settled(1, "archive", DeliveryState.DELIVERED))
    await store.settle(settled(2, "archive", DeliveryState.DELIVERED))
    engine = Engine(config(2), store, masker=Masker(), clock=clock, rng=Random(1))
    await store.mark_watched({audio_id(2)}, now=NOON)

    clock.jump(2 * DAY)
    await engine.tidy()
    assert [(row.id, row.state) for row in await store.deliveries(target="gone")] == [(3, "pending")]
    clock.jump(DAY)
    await engine.tidy()
    (given_up,) = await store.deliveries(target="gone")
    assert (given_up.state, given_up.last_error) == ("dead", "the target gone is not on the watchlist")
    assert [row.name for row in await store.deliveries(target="archive", state="pending")] == [
        "delivery_dead"
    ]
    assert sorted(await store.sightings()) == [audio_id(1), audio_id(2)]
    clock.jump(87 * DAY)
    await engine.tidy()
    assert sorted(await store.sightings()) == [audio_id(2)]
    await engine.stop()


async def test_alerts_hear_when_the_last_dead_letter_is_gone(store: Store, clock: ManualClock) -> None:
    await finish(store, 1, "studio")
    await finish(store, 2, "studio")
    for delivery in (1, 2):
        await store.settle(settled(delivery, "studio", DeliveryState.DEAD))
    engine = Engine(config(), store, masker=Masker(), clock=clock, rng=Random(1))
    await engine.reporter.report(Alert(Problem.DELIVERY_DEAD, "studio", "two"))
    await store.drop([1])
    await engine.look_again()
    assert len(await store.deliveries(target="archive")) == 1
    await store.drop([2])
    await engine.look_again()
    await engine.look_again()
    alerts = [delivery.event.about for delivery in await store.due("archive", limit=9)]
    assert [alert.is_resolved for alert in alerts] == [False, True]  # type: ignore[union-attr]
    await engine.stop()


async def test_a_pause_that_a_crash_kept_from_being_told_is_told_at_the_start(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Store(tmp_path / "state.db") as store:
        await store.save_gate(StoredGate("broken", GateState.PAUSED, "HTTP 404", NOON))
        text = """useapi: {token: abc, base_url: "http://127.0.0.1:9"}
targets:
  archive: {type: webhook, url: "http://127.0.0.1:9/"}
  broken: {type: slack, url: "http://127.0.0.1:9/slack"}
alerts: [archive, broken]
watch: []
"""
        loaded = load_content(text.encode(), "x", resolve=True, sources=Sources({})).config
        first = Engine(loaded, store, masker=Masker(), clock=clock, rng=Random(1))
        await first.deliverer.apply(loaded.targets)
        await first.stop()
        mark = (await store.gates())["broken"].fingerprint
        await store.save_gate(StoredGate("broken", GateState.PAUSED, "HTTP 404", NOON, fingerprint=mark))

        for _ in range(2):
            engine = Engine(loaded, store, masker=Masker(), clock=clock, rng=Random(1))
            await engine.start()
            await engine.stop()
        alerts = [row for row in await store.deliveries() if row.type == "notifier.alert"]
        assert [(row.name, row.target) for row in alerts] == [("target_paused", "archive")]
