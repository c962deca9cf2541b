import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from notifier.clock import SystemClock, to_rfc3339
from notifier.config import Config
from notifier.delivery import DeliveryState
from notifier.engine import Engine
from notifier.event import Alert, EventType, Problem, TrackNews, track_event
from notifier.gate import GateState
from notifier.gatebook import fingerprint
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Backlog, Owed, Settlement, StorageError, Store, StoredGate
from notifier.track import parse
from notifier.transition import Sighting
from tests.support.catalogue import ME, Catalogue
from tests.support.clocks import ManualClock
from tests.support.servers import PATIENCE, Reply, Server
from tests.support.tracks import MUSIC, audio_id, completed, track

DAY = timedelta(days=1)
NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)


def config(*numbers: int, targets: Collection[str] = ("archive",), url: str = "http://127.0.0.1:9") -> Config:
    watches = "".join(f"  - {audio_id(number)}\n" for number in numbers)
    entries = "".join(f"  {name}: {{type: webhook, url: '{url}/{name}'}}\n" for name in targets)
    text = f"""useapi: {{token: abc, base_url: "http://127.0.0.1:9"}}
delivery: {{timeout: 5m}}
targets:
{entries}
alerts: [archive]
watch:
{watches}"""
    return load_content(text.encode(), "x", resolve=True, sources=Sources({})).config


def engine_for(config: Config, store: Store, clock: ManualClock) -> Engine:
    return Engine(config, store, masker=Masker(), clock=clock, rng=Random(1))


async def told(store: Store, problem: Problem) -> list[tuple[str, bool]]:
    """Return what `alerts` are told of one kind of problem."""
    abouts = [delivery.event.about for delivery in await store.due("archive", limit=99)]
    alerts = [about for about in abouts if isinstance(about, Alert) and about.problem is problem]
    return [(alert.subject, alert.is_resolved) for alert in alerts]


async def finish(store: Store, number: int, *targets: str) -> None:
    news = TrackNews(audio_id(number), "x", "COMPLETED", None, None)
    event = track_event(EventType.COMPLETED, news, NOON)
    sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=NOON)
    await store.record(audio_id(number), sighting, None, [Owed(event, targets)], now=NOON)


def settled(delivery: int, target: str, state: DeliveryState) -> Settlement:
    return Settlement(target, (delivery,), NOON, 200, "", "", "x", state)


async def pause(store: Store, config: Config, target: str) -> None:
    mark = fingerprint(config.targets[target].remote_end, await store.salt())
    await store.save_gate(StoredGate(target, GateState.PAUSED, "HTTP 404", NOON, fingerprint=mark))


async def die(store: Store, number: int, target: str) -> None:
    """Let a track's delivery to a target be a dead letter, the first delivery of all."""
    await finish(store, number, target)
    await store.settle(settled(1, target, DeliveryState.DEAD))


class Interrupted(Store):
    """A state file that cannot be read at times, and that others change at the worst moment."""

    failing = ""
    meanwhile: Callable[[], Awaitable[object]] | None = None

    def _check(self, name: str) -> None:
        if name == self.failing:
            raise StorageError("the file is locked")

    async def data_version(self) -> int:
        self._check("data_version")
        return await super().data_version()

    async def gates(self) -> dict[str, StoredGate]:
        self._check("gates")
        return await super().gates()

    async def backlogs(self) -> dict[str, Backlog]:
        self._check("backlogs")
        return await super().backlogs()

    async def mark_watched(
        self, watched: Collection[str], *, now: datetime, accounts: Collection[str] = ()
    ) -> None:
        await super().mark_watched(watched, now=now, accounts=accounts)
        if self.meanwhile is not None:
            await self.meanwhile()


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

    clock.move((2 * DAY).total_seconds())
    await engine.give_up()
    assert [(row.id, row.state) for row in await store.deliveries(target="gone")] == [(3, "pending")]
    clock.move(DAY.total_seconds())
    await engine.give_up()
    await engine.tidy()
    (given_up,) = await store.deliveries(target="gone")
    assert (given_up.state, given_up.last_error) == ("dead", "the target gone is not on the watchlist")
    assert [row.name for row in await store.deliveries(target="archive", state="pending")] == [
        "delivery_dead"
    ]
    assert sorted(await store.sightings()) == [audio_id(1), audio_id(2)]
    clock.move((87 * DAY).total_seconds())
    await engine.tidy()
    assert sorted(await store.sightings()) == [audio_id(2)]
    await engine.stop()


async def test_alerts_hear_when_the_last_dead_letter_is_gone(store: Store, clock: ManualClock) -> None:
    await finish(store, 1, "studio")
    await finish(store, 2, "studio")
    for delivery in (1, 2):
        await store.settle(settled(delivery, "studio", DeliveryState.DEAD))
    engine = engine_for(config(), store, clock)
    await engine.reporter.report(Alert(Problem.DELIVERY_DEAD, "studio", "two"))
    async with Store(store.path) as person:
        await person.drop([1])
        await engine.look_again()
        assert await told(store, Problem.DELIVERY_DEAD) == [("studio", False)]
        await person.drop([2])
    await engine.look_again()
    await engine.look_again()
    assert await told(store, Problem.DELIVERY_DEAD) == [("studio", False), ("studio", True)]
    await engine.stop()


@pytest.mark.parametrize("mended", ["retry", "drop"])
async def test_dead_letters_that_were_mended_while_no_daemon_ran_are_over_at_the_start(
    store: Store, clock: ManualClock, mended: str
) -> None:
    watchlist = config(1, targets=("archive", "studio"))
    await die(store, 1, "studio")
    await store.report(Alert(Problem.DELIVERY_DEAD, "studio", "one"), ("archive",), now=NOON)
    await (store.replay([1], now=NOON) if mended == "retry" else store.drop([1]))

    for _ in range(2):
        engine = engine_for(watchlist, store, clock)
        await engine.start()
        await engine.stop()
    assert await told(store, Problem.DELIVERY_DEAD) == [("studio", False), ("studio", True)]


async def test_dead_letters_that_are_too_old_to_be_kept_are_over_as_well(
    store: Store, clock: ManualClock
) -> None:
    await die(store, 1, "archive")
    await store.mark_watched(set(), now=NOON)
    engine = engine_for(config(), store, clock)
    await engine.reporter.report(Alert(Problem.DELIVERY_DEAD, "archive", "one"))
    clock.move((89 * DAY).total_seconds())
    await engine.tidy()
    assert engine.reporter.subjects(Problem.DELIVERY_DEAD) == ["archive"]
    clock.move(DAY.total_seconds())
    await engine.tidy()
    assert engine.reporter.subjects(Problem.DELIVERY_DEAD) == []
    assert await store.problems() == set()
    await engine.stop()


@pytest.mark.parametrize("failing", ["data_version", "gates", "backlogs"])
async def test_what_a_person_mended_is_taken_up_after_a_look_that_failed(
    tmp_path: Path, clock: ManualClock, failing: str
) -> None:
    watchlist = config(1, targets=("archive", "broken", "studio"))
    async with Interrupted(tmp_path / "state.db") as store, Store(tmp_path / "state.db") as person:
        await pause(store, watchlist, "broken")
        await die(store, 1, "studio")
        engine = engine_for(watchlist, store, clock)
        await engine.start()
        assert [*engine.deliverer.paused()] == ["broken"]
        await person.reopen("broken", now=NOON)
        await person.drop([1])

        store.failing = failing
        await engine.look_again()
        assert await told(store, Problem.DELIVERY_DEAD) == [("studio", False)]
        store.failing = ""
        await engine.look_again()
        assert engine.deliverer.paused() == {}
        assert await told(store, Problem.DELIVERY_DEAD) == [("studio", False), ("studio", True)]
        await engine.stop()


async def test_what_a_person_mends_during_the_start_is_taken_up_by_the_first_look(
    tmp_path: Path, clock: ManualClock
) -> None:
    watchlist = config(targets=("archive", "broken"))
    async with Interrupted(tmp_path / "state.db") as store, Store(tmp_path / "state.db") as person:
        await pause(store, watchlist, "broken")
        store.meanwhile = lambda: person.reopen("broken", now=NOON)
        engine = engine_for(watchlist, store, clock)
        await engine.start()
        assert [*engine.deliverer.paused()] == ["broken"]
        await engine.look_again()
        assert engine.deliverer.paused() == {}
        await engine.stop()


async def test_problems_of_targets_that_are_not_on_the_watchlist_end_untold_at_the_start(
    store: Store, clock: ManualClock
) -> None:
    kept = (Problem.CONFIG_REJECTED, "gone")
    for problem in (Problem.TARGET_PAUSED, Problem.DELIVERY_DEAD, Problem.CONFIG_REJECTED):
        await store.report(Alert(problem, "gone", "x"), (), now=NOON)
    engine = engine_for(config(), store, clock)
    await engine.start()
    await engine.stop()
    assert await store.problems() == {kept}
    assert await store.deliveries() == []


async def test_a_target_that_left_paused_and_with_dead_letters_is_told_of_again_when_it_returns(
    store: Store, clock: ManualClock
) -> None:
    watchlist = config(1, targets=("archive", "studio"))
    await pause(store, watchlist, "studio")
    await die(store, 1, "studio")
    engine = engine_for(watchlist, store, clock)
    await engine.start()
    await engine.apply(config(1), Masker())
    assert await store.problems() == set()
    # an attempt that was under way when the target left
    await engine.reporter.report(Alert(Problem.TARGET_PAUSED, "studio", "late"))
    for _ in range(2):
        await engine.apply(watchlist, Masker())
    await engine.stop()
    assert await told(store, Problem.TARGET_PAUSED) == [("studio", False)] * 3
    assert await told(store, Problem.DELIVERY_DEAD) == [("studio", False)] * 2


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


async def test_what_hangs_at_a_target_that_has_left_holds_up_no_other(
    store: Store, clock: ManualClock, receiver: Server
) -> None:
    hung = asyncio.Event()
    for path in ("/archive", "/left"):
        receiver.reply(path, Reply(204, delay_until=hung))
    receiver.reply("/new", Reply(204))
    for number in range(4):
        await finish(store, number, "archive", "left")
    engine = engine_for(config(targets=["archive", "left"], url=receiver.url), store, clock)
    await engine.start()
    for path in ("/archive", "/left"):
        await receiver.until_count(path, 4)
    await finish(store, 9, "new")
    await engine.apply(config(targets=["archive", "new"], url=receiver.url), Masker())
    await receiver.until_count("/new", 1)
    assert {row.state for row in await store.deliveries(target="left")} == {"pending"}
    hung.set()
    await engine.stop()


async def test_an_accounts_list_is_looked_at_when_somebody_wants_it(store: Store, api: Server) -> None:
    catalogue = Catalogue(api)
    text = f"""useapi: {{token: abc, base_url: "{api.url}/v2/pixverse"}}
targets: {{archive: {{type: webhook, url: 'http://127.0.0.1:9/archive'}}}}
poll: {{interval: 1h, max_interval: 1h}}
watch: [{{account: {ME}}}]
"""
    following = load_content(text.encode(), "x", resolve=True, sources=Sources({})).config
    engine = Engine(following, store, masker=Masker(), clock=SystemClock(), rng=Random(1))
    await engine.start()
    while (await store.accounts()).get(ME) is None:
        await asyncio.sleep(0.01)
    assert engine.polling.has_work
    assert not engine.polling.look("you@example.com")
    catalogue.put(completed(1, created_at=to_rfc3339(datetime.now(UTC))))
    assert engine.polling.look(ME.upper())
    await api.until_count(MUSIC, 2)
    async with asyncio.timeout(PATIENCE):
        while await store.deliveries() == []:
            await asyncio.sleep(0.01)
    assert [row.audio_id for row in await store.deliveries()] == [audio_id(1)]
    assert engine.polling.watches == {}
    assert len(engine.polling.schedule) == 0
    assert len(api.requests) == 2
    await engine.stop()


class SleptBefore(SystemClock):
    """The clocks of a machine that was suspended for a night since it was started."""

    def monotonic(self) -> float:
        return super().monotonic() + 8 * 3600.0


async def test_an_accounts_list_is_looked_at_at_its_interval_however_long_the_machine_has_ever_slept(
    store: Store, api: Server
) -> None:
    Catalogue(api)
    text = f"""useapi: {{token: abc, base_url: "{api.url}/v2/pixverse"}}
targets: {{archive: {{type: webhook, url: 'http://127.0.0.1:9/archive'}}}}
poll: {{interval: 100ms}}
watch: [{{account: {ME}}}]
"""
    following = load_content(text.encode(), "x", resolve=True, sources=Sources({})).config
    engine = Engine(following, store, masker=Masker(), clock=SleptBefore(), rng=Random(1))
    await engine.start()
    await api.until_count(MUSIC, 3)
    await engine.stop()


async def test_the_age_of_a_track_is_told_anew_after_the_machine_has_slept(
    store: Store, clock: ManualClock
) -> None:
    """The schedule's clock has stood still meanwhile, the track has not."""
    engine = engine_for(config(1), store, clock)
    await engine.start()
    watch = engine.polling.watches[audio_id(1)]
    seen = parse(track(created_at="2026-06-23T11:59:50Z"))
    now = clock.awake()
    met = engine.polling.foresight.meet(seen, "", at=now, now=now, api_now=clock.now(), interval=15)
    watch.life = met
    clock.move(5)
    await engine.watch_clocks()
    assert watch.life is met is not None
    clock.suspend(timedelta(hours=1))
    await engine.watch_clocks()
    assert watch.life is None
    await engine.stop()
