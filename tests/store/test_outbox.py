import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifier.delivery import DeliveryState
from notifier.event import Alert, Event, EventType, Problem, TrackNews, public_json, track_event
from notifier.gate import GateState
from notifier.store import Backlog, Owed, Settlement, Store, StoredGate
from notifier.track import Track, parse
from notifier.transition import Sighting
from tests.support.tracks import audio_id, completed

NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def ready(number: int = 1) -> tuple[Sighting, Track, Event]:
    track = parse(completed(number))
    news = TrackNews(audio_id(number), f"Track {number}", "COMPLETED", "GENERATING", track)
    event = track_event(EventType.COMPLETED, news, NOON)
    return Sighting("COMPLETED", is_final=True, name="Intro", first_seen=NOON), track, event


async def finish(store: Store, number: int, *targets: str) -> Event:
    sighting, track, event = ready(number)
    await store.record(audio_id(number), sighting, track, [Owed(event, targets)], now=NOON)
    return event


def settlement(
    *deliveries: int,
    state: DeliveryState = DeliveryState.DELIVERED,
    outcome: str = "delivered",
    gate: StoredGate | None = None,
    at: datetime = NOON,
    expires: datetime | None = None,
    target: str = "a",
) -> Settlement:
    status = 200 if state is DeliveryState.DELIVERED else 500
    return Settlement(
        target,
        deliveries,
        at,
        status,
        "what came",
        "HTTP 500: what came",
        outcome,
        state,
        gate,
        expires,
        behind=(target,),
    )


async def test_a_changed_track_and_its_deliveries_are_one_transaction(store: Store) -> None:
    event = await finish(store, 1, "a", "b")
    assert await store.sightings() == {audio_id(1): ready(1)[0]}
    (delivery,) = await store.due("a", limit=10)
    assert delivery.event == event
    assert public_json(delivery.event) == public_json(event)
    assert (delivery.attempt_count, delivery.counts_from) == (0, NOON)
    assert [row.target for row in await store.deliveries()] == ["a", "b"]


async def test_an_event_recorded_twice_is_owed_once(store: Store) -> None:
    await finish(store, 1, "a")
    await finish(store, 1, "a", "b")
    assert [(row.target, row.state) for row in await store.deliveries()] == [
        ("a", "pending"),
        ("b", "pending"),
    ]


async def test_what_is_due_comes_in_the_order_of_events_and_without_what_is_under_way(store: Store) -> None:
    for number in range(5):
        await finish(store, number, "a", "b")
    first = await store.due("a", limit=3)
    assert [delivery.event.audio_id for delivery in first] == [audio_id(number) for number in range(3)]
    under_way = {first[0].id, first[2].id}
    rest = await store.due("a", limit=2, under_way=under_way)
    assert [delivery.event.audio_id for delivery in rest] == [audio_id(1), audio_id(3)]


async def test_an_attempt_is_written_down_with_its_result(store: Store) -> None:
    await finish(store, 1, "a")
    await store.begin(StoredGate("a", GateState.OPEN, None, NOON, fingerprint="mark"))
    waiting = StoredGate("", GateState.WAITING, "HTTP 500", NOON, NOON + MINUTE, None, 1, "mark")
    assert await store.settle(settlement(1, state=DeliveryState.PENDING, outcome="retry", gate=waiting)) == {}
    (row,) = await store.deliveries()
    assert (row.state, row.attempt_count, row.last_status, row.last_error) == (
        "pending",
        1,
        500,
        "HTTP 500: what came",
    )
    assert row.next_attempt_at == NOON + MINUTE
    assert await store.settle(settlement(1, at=NOON + MINUTE)) == {}
    (row,) = await store.deliveries()
    assert (row.state, row.attempt_count, row.last_status, row.last_error) == ("delivered", 2, 200, None)
    assert row.next_attempt_at is None
    assert [(attempt.at, attempt.outcome) for attempt in await store.attempts(1)] == [
        (NOON, "retry"),
        (NOON + MINUTE, "delivered"),
    ]
    assert await store.due("a", limit=10) == []


async def test_a_delivery_that_was_dropped_under_way_stays_dropped(store: Store) -> None:
    await finish(store, 1, "a")
    assert await store.drop([1, 77]) == [1]
    assert await store.settle(settlement(1)) == {}
    assert await store.deliveries() == []
    assert await store.attempts(1) == []


async def test_a_failing_target_gives_up_what_is_too_old_and_nothing_else(store: Store) -> None:
    await finish(store, 1, "a", "b")
    later = NOON + timedelta(hours=1)
    sighting, track, event = ready(2)
    late = track_event(EventType.COMPLETED, event.about, later)  # type: ignore[arg-type]
    await store.record(audio_id(2), sighting, track, [Owed(late, ("a",))], now=later)
    dead = await store.settle(
        settlement(1, state=DeliveryState.PENDING, outcome="retry", at=later, expires=NOON + MINUTE)
    )
    assert dead == {"a": [1]}
    assert [(row.id, row.target, row.state) for row in await store.deliveries()] == [
        (1, "a", "dead"),
        (2, "b", "pending"),
        (3, "a", "pending"),
    ]


async def test_a_dead_letter_is_replayed_with_all_its_time_before_it(store: Store) -> None:
    await finish(store, 1, "a")
    await store.settle(settlement(1, state=DeliveryState.DEAD, outcome="rejected"))
    now = NOON + timedelta(days=5)
    assert await store.replay([1, 99], now=now) == [1]
    (delivery,) = await store.due("a", limit=1)
    assert (delivery.counts_from, delivery.attempt_count) == (now, 1)


async def test_a_delivered_message_cannot_be_replayed(store: Store) -> None:
    await finish(store, 1, "a")
    await store.settle(settlement(1))
    assert await store.replay([1], now=NOON) == []


@pytest.mark.parametrize(
    ("told_until", "state", "until"),
    [
        (None, GateState.OPEN, None),
        (NOON, GateState.OPEN, None),
        (NOON + MINUTE / 2, GateState.WAITING, NOON + MINUTE / 2),
    ],
)
async def test_a_replay_ends_our_own_back_off_but_no_wait_that_was_told(
    store: Store, told_until: datetime | None, state: GateState, until: datetime | None
) -> None:
    await finish(store, 1, "a")
    await store.save_gate(
        StoredGate("a", GateState.WAITING, "busy", NOON, NOON + MINUTE, told_until, failures=3)
    )
    await store.replay([1], now=NOON)
    gate = (await store.gates())["a"]
    assert (gate.state, gate.until, gate.failures) == (state, until, 0)


async def test_resuming_spares_what_was_pending_the_time_of_the_pause(store: Store) -> None:
    await finish(store, 1, "a", "b")
    await store.save_gate(StoredGate("a", GateState.PAUSED, "HTTP 404", NOON + MINUTE))
    (row, _) = await store.deliveries()
    assert row.next_attempt_at is None
    assert await store.reopen("a", now=NOON + timedelta(days=9)) is True
    assert await store.reopen("a", now=NOON + timedelta(days=9)) is False
    assert [delivery.counts_from for delivery in await store.due("a", limit=1)] == [
        NOON + timedelta(days=9) - MINUTE
    ]
    assert [delivery.counts_from for delivery in await store.due("b", limit=1)] == [NOON]
    assert (await store.gates())["a"].state is GateState.OPEN


async def test_targets_of_one_remote_end_are_resumed_together_and_none_beside_them(store: Store) -> None:
    for name, mark in (("a", "same"), ("b", "same"), ("c", "another")):
        await store.save_gate(StoredGate(name, GateState.PAUSED, "HTTP 404", NOON, fingerprint=mark))
    await finish(store, 1, "a", "b", "c")
    assert await store.reopen("a", now=NOON + MINUTE) is True
    gates = await store.gates()
    assert [gates[name].state for name in "abc"] == [GateState.OPEN, GateState.OPEN, GateState.PAUSED]
    counted = [delivery.counts_from for name in "abc" for delivery in await store.due(name, limit=1)]
    assert counted == [NOON + MINUTE, NOON + MINUTE, NOON]
    assert await store.reopen("b", now=NOON + MINUTE) is False


async def test_a_target_with_another_url_leaves_those_it_shared_one_with_as_they_are(store: Store) -> None:
    for name in ("a", "b"):
        await store.save_gate(StoredGate(name, GateState.PAUSED, "HTTP 404", NOON, fingerprint="same"))
    await store.begin(StoredGate("a", GateState.OPEN, None, NOON, fingerprint="another"))
    gates = await store.gates()
    assert [gates[name].state for name in "ab"] == [GateState.OPEN, GateState.PAUSED]
    assert [gates[name].fingerprint for name in "ab"] == ["another", "same"]


async def test_a_remote_end_is_written_down_for_all_who_ever_had_it_and_for_nobody_else(
    store: Store,
) -> None:
    for name, mark in (("a", "same"), ("gone", "same"), ("c", "another")):
        await store.begin(StoredGate(name, GateState.OPEN, None, NOON, fingerprint=mark))
    await store.save_end(StoredGate("", GateState.PAUSED, "HTTP 404", NOON, fingerprint="same"))
    states = {name: gate.state for name, gate in (await store.gates()).items()}
    assert states == {"a": GateState.PAUSED, "gone": GateState.PAUSED, "c": GateState.OPEN}


async def test_resuming_what_only_waits_changes_nothing(store: Store) -> None:
    waiting = StoredGate("a", GateState.WAITING, "busy", NOON, NOON + MINUTE, NOON + MINUTE, failures=2)
    await store.save_gate(waiting)
    assert await store.reopen("a", now=NOON) is False
    assert (await store.gates())["a"] == waiting


async def test_resuming_leaves_what_the_other_side_asked_for(store: Store) -> None:
    await store.save_gate(StoredGate("a", GateState.PAUSED, "HTTP 404", NOON, None, NOON + MINUTE))
    assert await store.reopen("a", now=NOON) is True
    gate = (await store.gates())["a"]
    assert (gate.state, gate.until) == (GateState.WAITING, NOON + MINUTE)


async def test_only_the_part_of_a_pause_that_a_delivery_has_waited_is_spared(store: Store) -> None:
    await store.save_gate(StoredGate("a", GateState.PAUSED, "HTTP 404", NOON - timedelta(days=10)))
    await finish(store, 1, "a")
    await store.reopen("a", now=NOON + MINUTE)
    (delivery,) = await store.due("a", limit=1)
    assert delivery.counts_from == NOON + MINUTE


async def test_a_replay_ends_the_back_off_of_all_who_share_it(store: Store) -> None:
    await finish(store, 1, "a")
    for name in ("a", "b"):
        waiting = StoredGate(name, GateState.WAITING, "down", NOON, NOON + MINUTE, fingerprint="same")
        await store.save_gate(waiting)
    await store.replay([1], now=NOON)
    assert {gate.state for gate in (await store.gates()).values()} == {GateState.OPEN}


async def test_a_fingerprint_stays_when_the_gate_changes(store: Store) -> None:
    await store.begin(StoredGate("a", GateState.OPEN, None, NOON, fingerprint="mark"))
    await store.save_gate(StoredGate("a", GateState.PAUSED, "HTTP 404", NOON))
    await store.save_gate(StoredGate("a", GateState.OPEN, None, NOON + MINUTE))
    assert (await store.gates())["a"].fingerprint == "mark"


@pytest.mark.parametrize(
    ("now", "remaining"),
    [
        (NOON, MINUTE),
        (NOON + MINUTE / 2, MINUTE / 2),
        (NOON + 2 * MINUTE, timedelta(0)),
        (NOON - timedelta(days=1), MINUTE),
    ],
    ids=["at once", "half way", "over", "the clock went back a day"],
)
def test_a_stored_wait_is_never_longer_than_it_was(now: datetime, remaining: timedelta) -> None:
    gate = StoredGate("a", GateState.WAITING, "busy", NOON, NOON + MINUTE)
    assert gate.remaining(now) == remaining


async def test_a_problem_is_told_once_and_once_when_it_is_over(store: Store) -> None:
    problem = Alert(Problem.TARGET_PAUSED, "a", "a is paused")
    over = Alert(Problem.TARGET_PAUSED, "a", "a is well", is_resolved=True)
    assert await store.report(over, ("b",), now=NOON) is None
    first = await store.report(problem, ("b",), now=NOON)
    assert first is not None
    assert await store.report(problem, ("b",), now=NOON) is None
    assert await store.problems() == {(Problem.TARGET_PAUSED, "a")}
    second = await store.report(over, ("b",), now=NOON)
    assert second is not None
    assert second.id != first.id
    assert await store.problems() == set()
    assert [delivery.event for delivery in await store.due("b", limit=9)] == [first, second]


async def test_tracks_off_the_watchlist_are_kept_for_a_while_and_remembered_when_they_return(
    store: Store,
) -> None:
    for number in (1, 2):
        await finish(store, number, "a")
    await store.mark_watched({audio_id(2)}, now=NOON)
    assert [row.unwatched_since for row in await store.tracks()] == [NOON, None]
    await store.mark_watched({audio_id(1), audio_id(2)}, now=NOON + MINUTE)
    assert [row.unwatched_since for row in await store.tracks()] == [None, None]


async def test_forgetting_spares_watched_tracks_recent_ones_and_pending_deliveries(store: Store) -> None:
    for number in (1, 2, 3, 4):
        await finish(store, number, "a")
    await store.settle(settlement(1, 2, 4))
    await store.mark_watched({audio_id(1)}, now=NOON)
    await store.mark_watched({audio_id(1), audio_id(4)}, now=NOON + MINUTE)
    await store.mark_watched({audio_id(1)}, now=NOON + 2 * MINUTE)
    assert await store.forget(unwatched_before=NOON + MINUTE) == 2
    assert sorted(await store.sightings()) == [audio_id(1), audio_id(3), audio_id(4)]
    assert [row.id for row in await store.deliveries()] == [1, 3, 4]


async def test_alerts_are_forgotten_when_they_are_old_and_settled(store: Store) -> None:
    await store.report(Alert(Problem.TARGET_PAUSED, "a", "x"), ("b",), now=NOON)
    assert await store.forget(unwatched_before=NOON + MINUTE) == 0
    await store.settle(settlement(1, target="b"))
    assert await store.forget(unwatched_before=NOON) == 1
    assert await store.deliveries() == []


async def test_backlogs_count_by_target_and_state(store: Store) -> None:
    for number in (1, 2, 3):
        await finish(store, number, "a", "b")
    await store.settle(settlement(1))
    await store.settle(settlement(3, state=DeliveryState.DEAD, outcome="rejected"))
    assert await store.backlogs() == {
        "a": Backlog(pending=1, dead=1, delivered=1, oldest_pending=NOON),
        "b": Backlog(pending=3, dead=0, delivered=0, oldest_pending=NOON),
    }


async def test_deliveries_are_filtered_by_target_state_and_id(store: Store) -> None:
    for number in (1, 2):
        await finish(store, number, "a", "b")
    await store.settle(settlement(1))
    assert [row.id for row in await store.deliveries(target="a")] == [1, 3]
    assert [row.id for row in await store.deliveries(state="delivered")] == [1]
    assert [row.id for row in await store.deliveries(ids=[4, 2])] == [2, 4]
    assert await store.ids_in_state("pending", target="b") == [2, 4]


async def test_another_process_changing_the_file_is_noticed(store: Store) -> None:
    await finish(store, 1, "a")
    before = await store.data_version()
    await finish(store, 2, "a")
    assert await store.data_version() == before
    async with Store(store.path) as person:
        await person.drop([1])
    assert await store.data_version() != before


async def test_hostile_text_is_stored_and_read_back_as_valid_unicode(store: Store) -> None:
    fields = completed(1, name="\ud800 name", prompt="\x00\ud83d", duration=float("nan"))
    track = parse(fields)
    news = TrackNews(audio_id(1), "\udfff label", "COMPLETED", None, track)
    event = track_event(EventType.COMPLETED, news, NOON)
    sighting = Sighting("COMPLETED", is_final=True, name=track.name, first_seen=NOON)
    await store.record(audio_id(1), sighting, track, [Owed(event, ("a",))], now=NOON)
    (delivery,) = await store.due("a", limit=1)
    data = json.loads(public_json(delivery.event))["data"]
    assert (data["name"], data["track"]["name"]) == ("\ufffd label", "\ufffd name")
    assert (data["track"]["prompt"], data["track"]["duration"]) == ("\x00\ufffd", None)


async def test_everything_survives_closing_and_opening(tmp_path: Path) -> None:
    async with Store(tmp_path / "state.db") as store:
        event = await finish(store, 1, "a")
        salt = await store.salt()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.db"]
    async with Store(tmp_path / "state.db") as store:
        assert [delivery.event for delivery in await store.due("a", limit=1)] == [event]
        assert await store.salt() == salt


async def test_a_failure_gives_nothing_up_that_is_under_way_beside_it(store: Store) -> None:
    for number in (1, 2, 3):
        await finish(store, number, "a")
    failure = settlement(1, state=DeliveryState.PENDING, outcome="retry", expires=NOON + MINUTE)
    assert await store.settle(replace(failure, under_way=frozenset({1, 2}))) == {"a": [1, 3]}
    assert await store.settle(settlement(2)) == {}
    assert [row.state for row in await store.deliveries()] == ["dead", "delivered", "dead"]


async def test_a_problem_of_a_track_that_was_never_read_goes_with_its_entry(store: Store) -> None:
    unreadable = Alert(Problem.TRACK_UNREADABLE, audio_id(1), "x")
    await store.report(unreadable, (), now=NOON)
    await store.report(Alert(Problem.CONFIG_REJECTED, "/etc/x", "x"), (), now=NOON)
    await store.mark_watched({audio_id(1)}, now=NOON)
    assert (Problem.TRACK_UNREADABLE, audio_id(1)) in await store.problems()
    await store.mark_watched(set(), now=NOON)
    assert await store.problems() == {(Problem.CONFIG_REJECTED, "/etc/x")}


@pytest.mark.parametrize(
    ("failures", "now", "is_open"),
    [(0, NOON, False), (0, NOON + MINUTE, True), (1, NOON + MINUTE, False)],
    ids=["held", "a hold that is over", "a failure to be probed"],
)
def test_a_wait_that_no_failure_caused_ends_by_itself(failures: int, now: datetime, is_open: bool) -> None:
    gate = StoredGate("a", GateState.WAITING, "x", NOON, NOON + MINUTE, failures=failures)
    assert gate.is_open(now) is is_open
