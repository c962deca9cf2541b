"""The workers and the deliverer against real receivers and a real state file."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from notifier.aftermath import Equipment
from notifier.answer import Answer
from notifier.clock import SystemClock
from notifier.config import DeliverySettings
from notifier.deliverer import Deliverer
from notifier.delivery import Backoff, Delivery, DeliveryState, Outcome
from notifier.event import Event, EventType, Problem, TrackNews, track_event
from notifier.gate import GateState
from notifier.metrics import Metrics
from notifier.secret import Masker, url_parts
from notifier.store import DeliveryRow, Owed, Settlement, Store, StoredGate
from notifier.targets import Request, Target
from notifier.targets.webhook import Webhook
from notifier.track import parse
from notifier.transition import Sighting
from notifier.trouble import Reporter
from notifier.wire import Wire
from tests.support.servers import PATIENCE, Received, Reply, Server
from tests.support.tracks import audio_id, completed
from tests.targets.given import make

QUICK = DeliverySettings.model_construct(
    timeout=timedelta(seconds=20),
    first_retry=timedelta(milliseconds=50),
    max_retry=timedelta(milliseconds=200),
    give_up_after=timedelta(hours=72),
)


def target(kind: str, url: str, **keys: Any) -> Target:
    return make(kind, url=url, **keys)


@dataclass
class Bench:
    store: Store
    equipment: Equipment
    deliverer: Deliverer
    receiver: Server
    reporter: Reporter

    async def finish(
        self, number: int, *targets: str, at: datetime | None = None, name: str | None = None
    ) -> Event:
        """Let a track complete and wake the targets that are owed it."""
        track = parse(completed(number))
        name = name or f"Track {number}"
        news = TrackNews(audio_id(number), name, "COMPLETED", "GENERATING", track)
        event = track_event(EventType.COMPLETED, news, at or datetime.now(UTC))
        sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=event.detected_at)
        owed = [Owed(event, targets)]
        await self.store.record(audio_id(number), sighting, track, owed, now=event.detected_at)
        self.deliverer.wake(targets)
        return event

    async def rows(self, condition: Callable[[list[DeliveryRow]], bool]) -> list[DeliveryRow]:
        """Wait until the outbox is as expected."""
        async with asyncio.timeout(PATIENCE):
            while True:
                rows = await self.store.deliveries()
                if condition(rows):
                    return rows
                await asyncio.sleep(0.005)


def all_are(state: str) -> Callable[[list[DeliveryRow]], bool]:
    return lambda rows: bool(rows) and all(row.state == state for row in rows)


def failing_on(name: str) -> Callable[[Received], Reply]:
    """Accept all messages but those that tell of a track, as a receiver with a bug does."""

    def reply(request: Received) -> Reply:
        is_ill = f"{name} " in request.body.decode() or f'"{name}"' in request.body.decode()
        return Reply(500, "oops") if is_ill else Reply(body="ok")

    return reply


@pytest.fixture
async def bench(store: Store, receiver: Server) -> AsyncIterator[Bench]:
    reporter = Reporter(store, SystemClock(), ("alerts", "studio"))
    async with Wire(timeout=QUICK.timeout, connections=20, largest_answer=65536) as wire:
        equipment = Equipment(
            store=store,
            wire=wire,
            clock=SystemClock(),
            rng=Random(1),
            metrics=Metrics(),
            settings=QUICK,
            masker=Masker(),
            report=reporter.report,
        )
        deliverer = Deliverer(equipment)
        reporter.wake, reporter.sharing = deliverer.wake, deliverer.sharing
        yield Bench(store, equipment, deliverer, receiver, reporter)
        assert deliverer.crashed() is None
        await deliverer.stop()


async def test_an_event_goes_to_every_target_in_that_targets_language(bench: Bench) -> None:
    url = bench.receiver.url
    await bench.deliverer.apply(
        {
            "band-room": target("slack", f"{url}/slack"),
            "studio": target("discord", f"{url}/discord"),
            "archive": target("webhook", f"{url}/hook"),
        }
    )
    event = await bench.finish(1, "band-room", "studio", "archive")
    await bench.rows(all_are("delivered"))
    (slack,), (discord,), (hook,) = (bench.receiver.to(path) for path in ("/slack", "/discord", "/hook"))
    assert "Track 1 is ready" in slack.json()["text"]
    assert discord.json()["allowed_mentions"] == {"parse": []}
    assert hook.headers["webhook-id"] == event.id
    assert hook.json()["data"]["track"] == completed(1)
    assert "webhook-id" not in slack.headers
    assert "webhook-id" not in discord.headers


async def test_what_was_pending_before_the_start_goes_out_at_the_start(bench: Bench) -> None:
    await bench.finish(1, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    (row,) = await bench.rows(all_are("delivered"))
    assert (row.attempt_count, len(bench.receiver.to("/hook"))) == (1, 1)


async def test_a_failed_send_is_tried_again_with_the_same_id_and_a_fresh_time(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(500, "oops"), Reply(503), Reply(status=204))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    event = await bench.finish(1, "archive")
    (row,) = await bench.rows(all_are("delivered"))
    assert row.attempt_count == 3
    requests = bench.receiver.to("/hook")
    assert {request.headers["webhook-id"] for request in requests} == {event.id}
    attempts = await bench.store.attempts(row.id)
    assert [(attempt.status, attempt.outcome) for attempt in attempts] == [
        (500, "retry"),
        (503, "retry"),
        (204, "delivered"),
    ]
    assert attempts[0].answer == "oops"
    assert requests[1].at - requests[0].at >= 0.05
    assert requests[2].at - requests[1].at >= 0.1


async def test_a_dead_receiver_costs_one_attempt_a_step_however_long_the_queue(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(500))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=4)})
    bench.deliverer.wake()
    for number in range(50):
        await bench.finish(number, "archive")
    requests = await bench.receiver.until_count("/hook", 8)
    waits = [after.at - before.at for before, after in pairwise(requests[3:])]
    assert all(wait >= step for wait, step in zip(waits, (0.05, 0.1, 0.2, 0.2), strict=False))
    bench.receiver.reply("/hook", Reply(status=204))
    await bench.rows(all_are("delivered"))
    delivered = [request.headers["webhook-id"] for request in bench.receiver.to("/hook")]
    assert len(set(delivered)) == 50


async def test_a_silent_target_slows_no_other(bench: Bench) -> None:
    silent = asyncio.Event()
    bench.receiver.reply("/silent", Reply(status=204, delay_until=silent))
    url = bench.receiver.url
    await bench.deliverer.apply(
        {"silent": target("webhook", f"{url}/silent"), "well": target("webhook", f"{url}/well")}
    )
    for number in range(20):
        await bench.finish(number, "silent", "well")
    rows = await bench.rows(
        lambda rows: all(row.state == "delivered" for row in rows if row.target == "well")
    )
    assert {row.state for row in rows if row.target == "silent"} == {"pending"}
    silent.set()
    await bench.rows(all_are("delivered"))
    assert len(bench.receiver.to("/silent")) == 20


async def test_webhooks_run_as_wide_as_their_concurrency_and_no_wider(bench: Bench) -> None:
    held = asyncio.Event()
    bench.receiver.reply("/hook", Reply(status=204, delay_until=held))
    for number in range(10):
        await bench.finish(number, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=3)})
    await bench.receiver.until_count("/hook", 3)
    await bench.finish(11, "archive")
    await bench.store.backlogs()
    assert len(bench.receiver.to("/hook")) == 3
    held.set()
    await bench.rows(all_are("delivered"))
    assert len(bench.receiver.to("/hook")) == 11


async def test_a_refused_message_is_a_dead_letter_and_stops_nothing(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(422, "bad body"), Reply(status=204))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    for number in (1, 2):
        await bench.finish(number, "archive")
    rows = await bench.rows(
        lambda rows: {row.state for row in rows if row.target == "archive"} == {"dead", "delivered"}
    )
    dead = next(row for row in rows if row.state == "dead")
    assert (dead.audio_id, dead.last_status, dead.last_error) == (audio_id(1), 422, "HTTP 422: bad body")
    alerts = [row for row in rows if row.type == "notifier.alert"]
    assert [row.target for row in alerts] == ["alerts", "studio"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_target_that_only_a_person_can_mend_is_paused_and_keeps_its_messages(
    bench: Bench, status: int
) -> None:
    bench.receiver.reply("/slack", Reply(status, "no_service"))
    await bench.deliverer.apply({"studio": target("slack", f"{bench.receiver.url}/slack")})
    for number in (1, 2, 3):
        await bench.finish(number, "studio")
    await bench.rows(lambda rows: any(row.target == "alerts" for row in rows))
    assert list(bench.deliverer.paused()) == ["studio"]
    gate = (await bench.store.gates())["studio"]
    assert (gate.state, gate.reason) == (GateState.PAUSED, f"HTTP {status}: no_service")
    assert len(bench.receiver.to("/slack")) == 1
    rows = await bench.store.deliveries()
    assert {(row.state, row.next_attempt_at) for row in rows if row.target == "studio"} == {("pending", None)}
    assert [row.target for row in rows if row.type == "notifier.alert"] == ["alerts"]

    bench.receiver.reply("/slack", Reply(body="ok"))
    await bench.store.reopen("studio", now=datetime.now(UTC))
    await bench.deliverer.look_again()
    await bench.rows(lambda rows: all(row.state == "delivered" for row in rows if row.target == "studio"))


async def test_a_pause_survives_a_restart_and_ends_with_another_url(bench: Bench) -> None:
    bench.receiver.reply("/slack", Reply(404))
    targets = {"studio": target("slack", f"{bench.receiver.url}/slack")}
    await bench.deliverer.apply(targets)
    await bench.finish(1, "studio")
    await bench.rows(lambda rows: any(row.target == "alerts" for row in rows))
    await bench.deliverer.stop()

    again = Deliverer(bench.equipment)
    await again.apply(targets)
    assert list(again.paused()) == ["studio"]
    await again.apply({"studio": target("slack", f"{bench.receiver.url}/slack/other")})
    assert again.paused() == {}
    await bench.rows(lambda rows: all(row.state == "delivered" for row in rows if row.target == "studio"))
    assert len(bench.receiver.to("/slack")) == 1
    await again.stop()


async def test_what_fails_too_long_is_given_up_and_what_is_new_is_not(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(500, "down"))
    await bench.finish(1, "archive", at=datetime.now(UTC) - timedelta(hours=73))
    await bench.finish(2, "archive", at=datetime.now(UTC) - timedelta(hours=71))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    rows = await bench.rows(lambda rows: any(row.state == "dead" for row in rows))
    assert [(row.audio_id, row.state) for row in rows if row.target == "archive"] == [
        (audio_id(1), "dead"),
        (audio_id(2), "pending"),
    ]
    assert len(bench.receiver.to("/hook")) >= 1


async def test_a_message_that_a_receiver_always_fails_on_holds_up_no_other(bench: Bench) -> None:
    bench.receiver.otherwise(failing_on("Track 1"))
    await bench.finish(1, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    await bench.receiver.until_count("/hook", 2)
    for number in (2, 3, 4):
        await bench.finish(number, "archive")
    rows = await bench.rows(lambda rows: sum(row.state == "delivered" for row in rows) == 3)
    assert [row.state for row in rows] == ["pending", "delivered", "delivered", "delivered"]
    tried = len(bench.receiver.to("/hook"))
    await bench.receiver.until_count("/hook", tried + 2)
    for number in (5, 6, 7):
        await bench.finish(number, "archive")
    await bench.rows(lambda rows: sum(row.state == "delivered" for row in rows) == 6)
    bench.receiver.otherwise(lambda _request: Reply(status=204))
    await bench.rows(all_are("delivered"))


async def test_an_event_that_a_channel_always_fails_on_takes_no_other_with_it(bench: Bench) -> None:
    bench.receiver.otherwise(failing_on("Track 1"))
    for number in range(4):
        await bench.finish(number, "studio")
    await bench.deliverer.apply({"studio": target("mattermost", f"{bench.receiver.url}/mattermost")})
    rows = await bench.rows(lambda rows: sum(row.state == "delivered" for row in rows) == 3)
    assert [row.state for row in rows] == ["delivered", "pending", "delivered", "delivered"]
    await bench.finish(4, "studio")
    await bench.rows(lambda rows: rows[-1].state == "delivered")
    bench.receiver.otherwise(lambda _request: Reply(body="ok"))
    await bench.rows(all_are("delivered"))


async def test_an_event_that_a_channel_always_fails_on_is_found_among_many(bench: Bench) -> None:
    bench.equipment.settings = hasty()
    bench.receiver.otherwise(failing_on("Track 9"))
    for number in range(10):
        await bench.finish(number, "studio")
    await bench.deliverer.apply({"studio": target("mattermost", f"{bench.receiver.url}/mattermost")})
    rows = await bench.rows(lambda rows: sum(row.state == "delivered" for row in rows) == 9)
    assert rows[9].state == "pending"
    assert len(bench.receiver.to("/mattermost")) <= 20, "not a few for each of the others"


async def test_a_short_outage_leaves_what_is_owed_in_order(bench: Bench) -> None:
    bench.receiver.reply("/hook", *[Reply(500)] * 6, Reply(status=204))
    for number in range(5):
        await bench.finish(number, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    await bench.rows(all_are("delivered"))
    told = [json.loads(request.body)["data"]["audio_id"] for request in bench.receiver.to("/hook")]
    assert told == [audio_id(0)] * 6 + [audio_id(number) for number in range(5)]


async def test_what_comes_while_one_message_keeps_a_target_waiting_is_tried_at_once(bench: Bench) -> None:
    bench.receiver.otherwise(failing_on("Track 1"))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook")}
    await bench.finish(1, "archive")
    await bench.deliverer.apply(targets)
    await bench.rows(lambda rows: rows[0].attempt_count == 2)
    bench.equipment.settings = QUICK.model_copy(
        update={"first_retry": timedelta(hours=1), "max_retry": timedelta(hours=6)}
    )
    await bench.deliverer.apply(targets)
    await bench.rows(lambda rows: rows[0].attempt_count >= 3)
    await bench.finish(2, "archive")
    rows = await bench.rows(lambda rows: rows[-1].state == "delivered")
    assert [row.state for row in rows] == ["pending", "delivered"]


def hasty(**keys: timedelta) -> DeliverySettings:
    return QUICK.model_copy(update={"max_retry": QUICK.first_retry, **keys})


async def test_a_receiver_that_is_well_for_one_message_is_not_flooded_with_all_that_failed(
    bench: Bench,
) -> None:
    bench.equipment.settings = hasty()
    bench.receiver.otherwise(lambda _request: Reply(500))
    for number in range(12):
        await bench.finish(number, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    await bench.rows(lambda rows: all(row.attempt_count for row in rows))
    (remote,) = bench.deliverer._remotes.values()
    hour = timedelta(hours=1)

    def once_well(_request: Received) -> Reply:
        bench.equipment.settings = hasty(first_retry=hour, max_retry=hour)
        remote.gate.backoff = Backoff(hour, hour)
        bench.receiver.otherwise(lambda _request: Reply(500))
        return Reply(status=204)

    before = len(bench.receiver.to("/hook"))
    bench.receiver.otherwise(once_well)
    await bench.rows(lambda _rows: remote.gate.closed_for(bench.equipment.clock.monotonic()) > 60)
    assert len(bench.receiver.to("/hook")) <= before + 1 + 4


async def test_what_failed_while_a_receiver_was_down_waits_no_longer_for_it(bench: Bench) -> None:
    bench.equipment.settings = hasty()
    bench.receiver.otherwise(failing_on("Track 1"))
    await bench.finish(1, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    await bench.rows(lambda rows: rows[0].attempt_count >= 20)
    bench.equipment.settings = hasty(max_retry=timedelta(hours=6))
    await bench.finish(2, "archive")
    rows = await bench.rows(lambda rows: rows[1].state == "delivered")
    await bench.rows(lambda now: now[0].attempt_count > rows[0].attempt_count)
    bench.receiver.otherwise(lambda _request: Reply(status=204))
    await bench.rows(all_are("delivered"))


async def test_what_comes_while_messages_known_to_fail_keep_a_target_waiting_is_tried_at_once(
    bench: Bench,
) -> None:
    bench.receiver.otherwise(failing_on("Intro"))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)}
    await bench.deliverer.apply(targets)
    for number in (1, 2):
        await bench.finish(number, "archive", name="Intro")
    await bench.rows(lambda rows: all(row.attempt_count > 3 for row in rows))
    for number in (3, 4, 5):
        await bench.finish(number, "archive")
        await bench.rows(lambda rows: rows[-1].state == "delivered")
    counts = [row.attempt_count for row in (await bench.store.deliveries())[:2]]
    await bench.rows(
        lambda rows: all(now.attempt_count > was + 3 for now, was in zip(rows, counts, strict=False))
    )
    bench.equipment.settings = hasty(first_retry=timedelta(hours=1), max_retry=timedelta(hours=1))
    await bench.deliverer.apply(targets)
    (remote,) = bench.deliverer._remotes.values()
    clock = bench.equipment.clock
    await bench.rows(lambda _rows: remote.gate.closed_for(clock.monotonic()) > 60)
    await bench.finish(6, "archive")
    await bench.rows(lambda rows: rows[-1].state == "delivered")


async def test_more_failing_messages_than_are_read_ahead_hold_up_no_other(bench: Bench) -> None:
    """As after a restart, which forgets what failed by itself."""
    bench.equipment.settings = hasty()
    bench.receiver.otherwise(failing_on("Intro"))
    for number in range(1, 101):
        await bench.finish(number, "archive", name="Intro")
    tried = [row.id for row in await bench.store.deliveries()]
    settlement = Settlement(
        "archive", tuple(tried), datetime.now(UTC), 500, "", "", "retry", DeliveryState.PENDING
    )
    await bench.store.settle(settlement)
    await bench.finish(101, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    await bench.rows(lambda rows: rows[-1].state == "delivered")
    assert len(bench.receiver.to("/hook")) < 20, (
        "eight failures, as where the order is kept, and not a hundred"
    )


async def test_what_comes_while_a_target_is_down_for_all_costs_no_attempts(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(500))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=2)}
    for number in (1, 2):
        await bench.finish(number, "archive")
    await bench.deliverer.apply(targets)
    await bench.receiver.until_count("/hook", 3)
    bench.equipment.settings = QUICK.model_copy(
        update={"first_retry": timedelta(hours=1), "max_retry": timedelta(hours=6)}
    )
    await bench.deliverer.apply(targets)
    await bench.rows(lambda rows: sum(row.attempt_count for row in rows) == 4)
    for number in (3, 4, 5):
        await bench.finish(number, "archive")
    bench.receiver.reply("/other", Reply(status=204))
    await bench.finish(6, "other")
    await bench.deliverer.apply({**targets, "other": target("webhook", f"{bench.receiver.url}/other")})
    await bench.rows(lambda rows: rows[-1].state == "delivered")
    assert len(bench.receiver.to("/hook")) == 4


async def test_a_message_that_fails_too_long_by_itself_is_given_up_alone(bench: Bench) -> None:
    bench.receiver.otherwise(failing_on("Track 1"))
    for number in (1, 2):
        await bench.finish(number, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    await bench.rows(lambda rows: rows[1].state == "delivered")
    bench.equipment.settings = QUICK.model_copy(update={"give_up_after": timedelta(milliseconds=1)})
    rows = await bench.rows(lambda rows: rows[0].state == "dead")
    assert (rows[0].last_error or "").startswith("given up after")
    assert Problem.DELIVERY_DEAD in {problem for problem, _ in await bench.store.problems()}


async def test_a_rate_limit_is_waited_out_and_kept_over_a_restart(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(429, headers={"Retry-After": "3600"}), Reply(status=204))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook")}
    await bench.deliverer.apply(targets)
    await bench.finish(1, "archive")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await bench.deliverer.stop()
    (row,) = await bench.store.deliveries()
    assert row.next_attempt_at is not None
    assert row.next_attempt_at - datetime.now(UTC) > timedelta(minutes=59)

    again = Deliverer(bench.equipment)
    await again.apply(targets)
    await bench.finish(2, "archive")
    await again.look_again()
    await again.stop()
    assert len(bench.receiver.to("/hook")) == 1


async def test_a_global_limit_of_discord_holds_every_discord_target(bench: Bench) -> None:
    url = bench.receiver.url
    limited = Reply(429, json.dumps({"retry_after": 3600, "global": True}))
    bench.receiver.reply("/discord/1", limited)
    await bench.deliverer.apply(
        {
            "one": target("discord", f"{url}/discord/1"),
            "two": target("discord", f"{url}/discord/2"),
            "other": target("slack", f"{url}/slack"),
        }
    )
    await bench.finish(1, "one")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await bench.finish(2, "two", "other")
    await bench.rows(lambda rows: any(row.state == "delivered" for row in rows))
    assert bench.receiver.to("/discord/2") == []


async def test_what_queues_behind_an_outage_leaves_together_and_in_order(bench: Bench) -> None:
    bench.receiver.reply("/slack", Reply(500), Reply(body="ok"))
    await bench.deliverer.apply({"studio": target("slack", f"{bench.receiver.url}/slack")})
    for number in range(4):
        await bench.finish(number, "studio")
    await bench.rows(all_are("delivered"))
    texts = [request.json()["text"].split("\n") for request in bench.receiver.to("/slack")]
    lines = [line for text in texts[1:] for line in text]
    assert ["Track 0" in lines[0], "Track 3" in lines[3], len(lines)] == [True, True, 4]
    assert len(texts) <= 3


async def test_a_batch_that_is_refused_is_split_so_that_one_bad_event_harms_no_other(bench: Bench) -> None:
    def judge(request: Any) -> Reply:
        return Reply(400, "invalid_blocks") if "Track 2" in request.body.decode() else Reply(body="ok")

    bench.receiver.otherwise(judge)
    for number in range(5):
        await bench.finish(number, "band-room")
    await bench.deliverer.apply({"band-room": target("slack", f"{bench.receiver.url}/slack")})
    rows = await bench.rows(
        lambda rows: all(row.state != "pending" for row in rows if row.target == "band-room")
    )
    assert [row.state for row in rows if row.target == "band-room"] == [
        "delivered",
        "delivered",
        "dead",
        "delivered",
        "delivered",
    ]


async def test_a_layout_that_is_refused_is_told_once_more_as_plain_text(bench: Bench) -> None:
    def judge(request: Any) -> Reply:
        return Reply(400, "invalid_blocks") if "blocks" in request.json() else Reply(body="ok")

    bench.receiver.otherwise(judge)
    for number in range(3):
        await bench.finish(number, "band-room")
    await bench.deliverer.apply({"band-room": target("slack", f"{bench.receiver.url}/slack")})
    rows = await bench.rows(all_are("delivered"))
    for row in rows:
        outcomes = [(attempt.status, attempt.outcome) for attempt in await bench.store.attempts(row.id)]
        assert outcomes == [(400, "rejected"), (200, "delivered")]
    together, in_plain_text = bench.receiver.to("/slack")
    assert [f"Track {number}" in in_plain_text.json()["text"] for number in range(3)] == [True] * 3
    assert len(together.json()["blocks"]) > len(in_plain_text.json())


async def test_a_message_that_is_refused_as_plain_text_too_is_a_dead_letter_with_the_answer(
    bench: Bench,
) -> None:
    refusal = json.dumps({"code": 50035, "message": "Invalid Form Body\u0000\n" + "x" * 9000})
    bench.receiver.reply("/discord", Reply(400, refusal))
    await bench.finish(1, "band-room")
    await bench.deliverer.apply({"band-room": target("discord", f"{bench.receiver.url}/discord")})
    rows = await bench.rows(lambda rows: rows[0].state == "dead")
    assert (rows[0].attempt_count, rows[0].last_status) == (2, 400)
    assert rows[0].last_error is not None
    assert "Invalid Form Body" in rows[0].last_error
    assert len(rows[0].last_error) <= 500
    assert rows[0].last_error.isprintable()
    first, second = bench.receiver.to("/discord")
    assert ("embeds" in first.json(), "embeds" in second.json()) == (True, False)
    assert "Track 1" in second.json()["content"]


async def test_a_backlog_of_two_hundred_leaves_in_a_few_messages(bench: Bench) -> None:
    for number in range(200):
        await bench.finish(number, "studio")
    await bench.deliverer.apply({"studio": target("discord", f"{bench.receiver.url}/discord")})
    rows = await bench.rows(all_are("delivered"))
    told = [embed["description"] for one in bench.receiver.to("/discord") for embed in one.json()["embeds"]]
    places = ["\n".join(told).find(f"Track {number} is ready") for number in range(200)]
    assert -1 not in places
    assert places == sorted(places)
    assert len(bench.receiver.to("/discord")) <= 6
    assert [row.attempt_count for row in rows] == [1] * 200


async def test_a_sent_message_is_not_sent_again_while_the_disk_is_full(bench: Bench) -> None:
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    connection = sqlite3.connect(bench.store.path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON attempt BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/hook", 1)
    async with asyncio.timeout(PATIENCE):
        while bench.store.trouble is None:
            await asyncio.sleep(0.005)
    bench.deliverer.wake()
    (row,) = await bench.store.deliveries()
    assert row.state == "pending"
    connection.execute("DROP TRIGGER full")
    connection.close()
    await bench.rows(all_are("delivered"))
    assert len(bench.receiver.to("/hook")) == 1


async def test_stopping_lets_an_attempt_under_way_finish_and_starts_no_other(bench: Bench) -> None:
    held = asyncio.Event()
    bench.receiver.reply("/hook", Reply(status=204, delay_until=held))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=1)})
    await bench.finish(1, "archive")
    await bench.finish(2, "archive")
    await bench.receiver.until_count("/hook", 1)
    stopping = asyncio.create_task(bench.deliverer.stop())
    await asyncio.sleep(0)
    held.set()
    await stopping
    assert [row.state for row in await bench.store.deliveries()] == ["delivered", "pending"]
    assert len(bench.receiver.to("/hook")) == 1


async def test_secrets_are_masked_in_what_is_stored_of_an_answer(bench: Bench) -> None:
    url = f"{bench.receiver.url}/hook/very-secret-part"
    bench.equipment.masker = Masker(url_parts(url))
    bench.receiver.reply("/hook/very-secret-part", Reply(500, f"POST {url}\x00\x1b[31m failed " + "x" * 9000))
    await bench.deliverer.apply({"archive": target("webhook", url)})
    await bench.finish(1, "archive")
    (row, *_) = await bench.rows(lambda rows: rows[0].attempt_count > 0)
    (attempt, *_) = await bench.store.attempts(row.id)
    assert "very-secret-part" not in attempt.answer
    assert len(attempt.answer) <= 500
    assert attempt.answer.startswith("POST ***[31m failed")


async def test_a_removed_target_keeps_what_it_is_owed_until_it_returns(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(500), Reply(status=204))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook")}
    await bench.deliverer.apply(targets)
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/hook", 1)
    await bench.deliverer.apply({})
    (row,) = await bench.store.deliveries()
    await bench.deliverer.apply(targets)
    await bench.rows(all_are("delivered"))
    assert row.id == 1


async def test_another_url_is_used_for_what_is_pending(bench: Bench) -> None:
    bench.receiver.reply("/old", Reply(500))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/old")})
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/old", 1)
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/new")})
    await bench.rows(all_are("delivered"))
    assert len(bench.receiver.to("/new")) == 1


class SlowStore(Store):
    """A state file whose outbox takes its time to be read."""

    held: asyncio.Event
    asked: asyncio.Event

    async def due(self, target: str, *, limit: int, under_way: Collection[int] = ()) -> list[Delivery]:
        found = await super().due(target, limit=limit, under_way=under_way)
        if under_way:
            self.asked.set()
            await self.held.wait()
        return found


async def test_a_limit_told_while_the_outbox_is_read_holds_what_was_found_there(bench: Bench) -> None:
    async with SlowStore(bench.store.path) as slow:
        slow.held, slow.asked = asyncio.Event(), asyncio.Event()
        bench.equipment.store = slow
        told = asyncio.Event()
        limited = Reply(429, headers={"Retry-After": "3600"}, delay_until=told)
        bench.receiver.reply("/hook", limited, Reply(status=204))
        await bench.deliverer.apply(
            {"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=3)}
        )
        await bench.finish(1, "archive")
        await bench.receiver.until_count("/hook", 1)
        for number in (2, 3):
            await bench.finish(number, "archive")
        await slow.asked.wait()
        told.set()
        await bench.rows(lambda rows: rows[0].attempt_count == 1)
        slow.held.set()
        await slow.backlogs()
        await bench.deliverer.stop()
        assert len(bench.receiver.to("/hook")) == 1


async def test_what_the_old_url_answers_late_is_not_charged_to_the_new_one(bench: Bench) -> None:
    late = asyncio.Event()
    bench.receiver.reply("/slack/old", Reply(404, "no_service", delay_until=late))
    await bench.deliverer.apply({"studio": target("slack", f"{bench.receiver.url}/slack/old")})
    await bench.finish(1, "studio")
    await bench.receiver.until_count("/slack/old", 1)
    await bench.deliverer.apply({"studio": target("slack", f"{bench.receiver.url}/slack/new")})
    late.set()
    await bench.rows(all_are("delivered"))
    assert bench.deliverer.paused() == {}
    assert len(bench.receiver.to("/slack/new")) == 1


async def test_stopping_waits_for_the_last_attempt_of_a_removed_target_too(bench: Bench) -> None:
    held = asyncio.Event()
    bench.receiver.reply("/hook", Reply(status=204, delay_until=held))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook")}
    await bench.deliverer.apply(targets)
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/hook", 1)
    await bench.deliverer.apply({})
    await bench.deliverer.apply(targets)  # it returns while its attempt is under way: not sent twice
    stopping = asyncio.create_task(bench.deliverer.stop())
    await bench.store.backlogs()
    held.set()
    await stopping
    assert [row.state for row in await bench.store.deliveries()] == ["delivered"]
    assert len(bench.receiver.to("/hook")) == 1


class Poisoned(Webhook):
    """A webhook that cannot render one of the events, as a bug of ours might have it."""

    def render(self, events: Sequence[Event], *, now: datetime, is_plain: bool = False) -> Request:
        if events[0].name == "Track 1":
            raise RuntimeError("a bug")
        return super().render(events, now=now, is_plain=is_plain)


class Baffled(Webhook):
    """A webhook that cannot judge an answer, as a bug of ours might have it."""

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        if answer.body == "riddle":
            raise RuntimeError("a bug")
        return super().classify(answer, now=now)


async def test_an_attempt_that_crashes_is_tried_again_after_a_back_off(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(body="riddle"), Reply(body="riddle"), Reply(status=204))
    plain = target("webhook", f"{bench.receiver.url}/hook")
    await bench.deliverer.apply({"archive": Baffled.model_construct(**dict(plain))})
    await bench.finish(1, "archive")
    await bench.rows(all_are("delivered"))
    first, second, third = (request.at for request in bench.receiver.to("/hook"))
    assert second - first >= 0.05
    assert third - second >= 0.1


async def test_what_is_tried_at_once_and_crashes_is_not_tried_at_once_again(bench: Bench) -> None:
    bench.receiver.otherwise(failing_on("Track 1"))
    plain = target("webhook", f"{bench.receiver.url}/hook")
    targets = {"archive": Baffled.model_construct(**dict(plain))}
    await bench.finish(1, "archive")
    await bench.deliverer.apply(targets)
    await bench.rows(lambda rows: rows[0].attempt_count == 2)
    bench.equipment.settings = hasty(first_retry=timedelta(hours=1), max_retry=timedelta(hours=1))
    await bench.deliverer.apply(targets)
    await bench.rows(lambda rows: rows[0].attempt_count >= 3)
    bench.receiver.otherwise(lambda _request: Reply(body="riddle"))
    before = len(bench.receiver.to("/hook"))
    await bench.finish(2, "archive")
    await bench.receiver.until_count("/hook", before + 1)
    bench.receiver.reply("/other", Reply(status=204))
    await bench.finish(3, "other")
    await bench.deliverer.apply({**targets, "other": target("webhook", f"{bench.receiver.url}/other")})
    await bench.rows(lambda rows: rows[-1].state == "delivered")
    assert len(bench.receiver.to("/hook")) == before + 1


async def test_an_event_that_cannot_be_rendered_is_a_dead_letter_and_stops_nothing(bench: Bench) -> None:
    plain = target("webhook", f"{bench.receiver.url}/hook", concurrency=1)
    poisoned = Poisoned.model_construct(**dict(plain))
    await bench.deliverer.apply({"archive": poisoned})
    for number in (1, 2):
        await bench.finish(number, "archive")
    rows = await bench.rows(
        lambda rows: {row.state for row in rows if row.target == "archive"} == {"dead", "delivered"}
    )
    dead = next(row for row in rows if row.state == "dead")
    assert (dead.name, dead.last_error) == ("Track 1", "the message could not be put together")


async def test_a_stored_pause_of_a_stranger_concerns_nobody(bench: Bench) -> None:
    await bench.store.save_gate(StoredGate("stranger", GateState.PAUSED, "x", datetime.now(UTC)))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    assert bench.deliverer.paused() == {}


def both(bench: Bench, kind: str = "webhook", path: str = "/same", **keys: Any) -> dict[str, Target]:
    """Return two targets that post to the same place."""
    url = f"{bench.receiver.url}{path}"
    return {"one": target(kind, url, **keys), "two": target(kind, url, **keys)}


async def test_targets_with_the_same_url_wait_together(bench: Bench) -> None:
    limited = Reply(429, headers={"Retry-After": "3600"})
    bench.receiver.reply("/same", limited, Reply(status=204))
    await bench.deliverer.apply(both(bench))
    await bench.finish(1, "one")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await bench.finish(2, "one", "two")
    await bench.deliverer.look_again()
    await bench.deliverer.stop()
    assert len(bench.receiver.to("/same")) == 1
    gates = await bench.store.gates()
    assert [gates[name].state for name in ("one", "two")] == [GateState.WAITING] * 2
    assert [gates[name].told_until is not None for name in ("one", "two")] == [True] * 2


async def test_targets_with_the_same_dead_url_cost_one_attempt_a_step(bench: Bench) -> None:
    bench.receiver.reply("/same", Reply(500))
    await bench.deliverer.apply(both(bench, concurrency=1))
    for number in range(10):
        await bench.finish(number, "one", "two")
    await bench.receiver.until_count("/same", 6)
    starts = [request.at for request in bench.receiver.to("/same")]
    assert [later - earlier >= 0.05 for earlier, later in pairwise(starts)][2:] == [True] * (len(starts) - 3)
    bench.receiver.reply("/same", Reply(status=204))
    await bench.rows(all_are("delivered"))


async def test_targets_with_the_same_url_are_paused_and_resumed_together(bench: Bench) -> None:
    bench.receiver.reply("/same", Reply(404, "gone"))
    targets = both(bench)
    bench.reporter.alerts = ("alerts", "one", "two")
    await bench.deliverer.apply(targets)
    await bench.finish(1, "one", "two")
    rows = await bench.rows(lambda rows: len([row for row in rows if row.target == "alerts"]) == 2)
    assert sorted(bench.deliverer.paused()) == ["one", "two"]
    assert [row.target for row in rows if row.type == "notifier.alert"] == ["alerts", "alerts"]

    await bench.deliverer.stop()
    again = Deliverer(bench.equipment)
    await again.apply(targets)
    assert sorted(again.paused()) == ["one", "two"]

    bench.receiver.reply("/same", Reply(status=204))
    assert await bench.store.reopen("two", now=datetime.now(UTC))
    await again.look_again()
    await bench.rows(lambda rows: all(row.state == "delivered" for row in rows if row.target != "alerts"))
    await again.stop()


async def test_a_target_that_moves_away_leaves_the_other_behind_its_closed_gate(bench: Bench) -> None:
    held = asyncio.Event()
    bench.receiver.reply("/same", Reply(500), Reply(500, delay_until=held), Reply(status=204))
    targets = both(bench, concurrency=1)
    await bench.deliverer.apply({"one": targets["one"]})
    await bench.finish(1, "one")
    await bench.receiver.until_count("/same", 2)  # its probe is under way
    await bench.deliverer.apply({**targets, "one": target("webhook", f"{bench.receiver.url}/other")})
    await bench.finish(2, "one", "two")
    held.set()
    await bench.rows(all_are("delivered"))
    assert bench.receiver.to("/other") != []


async def test_a_target_that_joins_a_paused_one_is_paused_with_it_and_said_to_be(bench: Bench) -> None:
    bench.receiver.reply("/same", Reply(404))
    targets = both(bench)
    await bench.deliverer.apply({"one": targets["one"]})
    await bench.finish(1, "one")
    await bench.rows(lambda rows: any(row.target == "alerts" for row in rows))
    await bench.deliverer.apply(targets)
    await bench.finish(2, "two")
    rows = await bench.rows(lambda rows: len([row for row in rows if row.target == "alerts"]) == 2)
    assert {row.name for row in rows if row.target == "alerts"} == {"target_paused"}
    assert len(bench.receiver.to("/same")) == 1
    assert (await bench.store.gates())["two"].state is GateState.PAUSED


async def test_what_fails_too_long_is_given_up_for_all_who_post_to_the_same_place(bench: Bench) -> None:
    bench.receiver.reply("/same", Reply(500, "down"))
    await bench.finish(1, "one", "two", at=datetime.now(UTC) - timedelta(hours=73))
    await bench.finish(2, "one", "two", at=datetime.now(UTC) - timedelta(hours=71))
    await bench.deliverer.apply(both(bench, concurrency=1))
    rows = await bench.rows(lambda rows: len([row for row in rows if row.state == "dead"]) == 2)
    assert {row.target for row in rows if row.state == "dead"} == {"one", "two"}
    assert {row.audio_id for row in rows if row.state == "dead"} == {audio_id(1)}


async def test_threads_of_one_discord_webhook_share_its_limit_but_not_its_pause(bench: Bench) -> None:
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "3600"}
    bench.receiver.reply("/discord", Reply(body='{"id": "1"}', headers=used_up))
    url = f"{bench.receiver.url}/discord?thread_id="
    await bench.deliverer.apply({"one": target("discord", f"{url}1"), "two": target("discord", f"{url}2")})
    await bench.finish(1, "one")
    await bench.rows(all_are("delivered"))
    await bench.finish(2, "two")
    await bench.deliverer.look_again()
    assert len(bench.receiver.to("/discord")) == 1
    assert (await bench.store.gates())["two"].state is GateState.WAITING

    paths = {request.raw_path for request in bench.receiver.to("/discord")}
    assert paths == {"/discord?thread_id=1&wait=true"}


async def test_a_limit_used_up_by_a_refused_message_is_waited_out_as_well(bench: Bench) -> None:
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "3600"}
    bench.receiver.reply("/discord", Reply(400, '{"code": 50006}', headers=used_up))
    await bench.deliverer.apply({"studio": target("discord", f"{bench.receiver.url}/discord")})
    await bench.finish(1, "studio")
    await bench.rows(lambda rows: rows[0].state == "dead")
    await bench.finish(2, "studio")
    await bench.deliverer.look_again()
    await bench.deliverer.stop()
    assert len(bench.receiver.to("/discord")) == 1


ALERT = "notifier.alert"
TOLD_AN_HOUR = Reply(429, headers={"Retry-After": "3600"})
GONE = Reply(404, "gone")


async def settled(bench: Bench) -> None:
    """Wait until the workers have done all that they now can do."""
    for _ in range(20):
        await bench.store.backlogs()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("told", [TOLD_AN_HOUR, GONE], ids=["wait", "pause"])
async def test_a_target_that_was_away_comes_back_behind_the_gate_as_it_is_now(
    bench: Bench, told: Reply
) -> None:
    bench.receiver.reply("/same", told, Reply(status=204))
    targets = both(bench)
    await bench.deliverer.apply(targets)
    await bench.deliverer.apply({"one": targets["one"]})
    await bench.finish(1, "one")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await bench.deliverer.apply(targets)
    await bench.finish(2, "one", "two")
    await bench.deliverer.look_again()
    await settled(bench)
    await bench.deliverer.stop()

    again = Deliverer(bench.equipment)
    await again.apply(targets)
    await settled(bench)
    assert len(bench.receiver.to("/same")) == 1
    problems = {subject for _, subject in await bench.store.problems()}
    bench.receiver.reply("/same", Reply(status=204))
    was_paused = await bench.store.reopen("two", now=datetime.now(UTC))
    await again.look_again()
    if was_paused:
        await bench.rows(lambda rows: [row.state for row in rows if row.type != ALERT] == ["delivered"] * 3)
    await settled(bench)
    assert again.paused() == {}
    assert (len(bench.receiver.to("/same")) > 1) is was_paused
    assert problems == ({"one", "two"} if was_paused else set())
    await again.stop()


async def test_resuming_a_target_that_only_waits_ends_no_wait_that_was_told(bench: Bench) -> None:
    bench.receiver.reply("/hook", TOLD_AN_HOUR, Reply(status=204))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    await bench.finish(1, "archive")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    assert await bench.store.reopen("archive", now=datetime.now(UTC)) is False
    await bench.deliverer.look_again()
    await settled(bench)
    assert len(bench.receiver.to("/hook")) == 1


def threads(bench: Bench) -> dict[str, Target]:
    """Return two targets in threads of one Discord webhook."""
    url = f"{bench.receiver.url}/discord?thread_id="
    return {"one": target("discord", f"{url}1"), "two": target("discord", f"{url}2")}


async def test_a_pause_is_neither_made_younger_nor_made_again_by_what_happens_beside_it(
    bench: Bench,
) -> None:
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "0.05"}

    def judge(request: Any) -> Reply:
        if "thread_id=1" in request.raw_path:
            return Reply(404, '{"code": 10003}')
        return Reply(body='{"id": "1"}', headers=used_up)

    bench.receiver.otherwise(judge)
    await bench.deliverer.apply(threads(bench))
    await bench.finish(1, "one")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    since = (await bench.store.gates())["one"].since
    await bench.finish(2, "two")
    await bench.rows(lambda rows: rows[-1].state == "delivered" or rows[-2].state == "delivered")
    await settled(bench)
    assert (await bench.store.gates())["one"].since == since

    assert await bench.store.reopen("one", now=datetime.now(UTC))
    await bench.finish(3, "two")
    await bench.rows(lambda rows: {row.state for row in rows if row.target == "two"} == {"delivered"})
    await settled(bench)
    assert (await bench.store.gates())["one"].state is not GateState.PAUSED


async def test_an_attempt_under_way_beside_a_pause_does_not_undo_a_resume(bench: Bench) -> None:
    late = asyncio.Event()
    bench.receiver.reply("/hook", GONE, Reply(500, delay_until=late), Reply(status=204))
    for number in (1, 2):
        await bench.finish(number, "archive")
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook", concurrency=2)})
    await bench.rows(lambda rows: rows[0].attempt_count + rows[1].attempt_count == 1)
    assert await bench.store.reopen("archive", now=datetime.now(UTC))
    late.set()
    await bench.rows(lambda rows: rows[0].attempt_count + rows[1].attempt_count == 2)
    await bench.deliverer.look_again()
    await bench.rows(lambda rows: {row.state for row in rows if row.target == "archive"} == {"delivered"})


async def test_a_thread_that_comes_later_waits_with_its_webhook(bench: Bench) -> None:
    limited = Reply(429, '{"retry_after": 3600}')
    bench.receiver.reply("/discord", limited, Reply(body='{"id": "1"}'))
    one, two = threads(bench).values()
    await bench.deliverer.apply({"one": one})
    await bench.finish(1, "one")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await bench.deliverer.apply({"one": two})
    await settled(bench)
    await bench.deliverer.stop()
    again = Deliverer(bench.equipment)
    await again.apply({"one": two})
    await settled(bench)
    await again.stop()
    assert len(bench.receiver.to("/discord")) == 1


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_who_comes_to_discord_during_a_global_limit_waits_as_well(
    bench: Bench, is_restarted: bool
) -> None:
    bench.receiver.reply("/discord/1", Reply(429, '{"retry_after": 3600, "global": true}'))
    one, two = (target("discord", f"{bench.receiver.url}/discord/{number}") for number in (1, 2))
    deliverer = bench.deliverer
    await deliverer.apply({"one": one})
    await bench.finish(1, "one")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    if is_restarted:
        await deliverer.stop()
        deliverer = Deliverer(bench.equipment)
    await deliverer.apply({"one": two, "two": target("discord", f"{bench.receiver.url}/discord/3")})
    await bench.finish(2, "two")
    await deliverer.look_again()
    await settled(bench)
    await deliverer.stop()
    assert [request.path for request in bench.receiver.requests] == ["/discord/1"]


@pytest.mark.parametrize("told", [TOLD_AN_HOUR, GONE], ids=["wait", "pause"])
async def test_a_renamed_target_keeps_what_its_url_was_told(bench: Bench, told: Reply) -> None:
    bench.receiver.reply("/discord", told)
    same = target("discord", f"{bench.receiver.url}/discord")
    await bench.deliverer.apply({"old": same})
    await bench.finish(1, "old", "new")
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await bench.deliverer.stop()
    again = Deliverer(bench.equipment)
    await again.apply({"new": same})
    await settled(bench)
    await again.stop()
    assert len(bench.receiver.to("/discord")) == 1


async def test_a_retry_by_hand_cuts_our_own_back_off_short_whatever_hints_there_were(bench: Bench) -> None:
    bench.equipment.settings = QUICK.model_copy(update={"max_retry": timedelta(hours=6)})
    bench.receiver.reply("/hook", *[Reply(503, headers={"Retry-After": "0"})] * 8, Reply(status=204))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    await bench.finish(1, "archive")
    for _ in range(8):
        await bench.store.replay([1], now=datetime.now(UTC))
        await bench.deliverer.look_again()
        await settled(bench)
    await bench.rows(all_are("delivered"))
    assert len(bench.receiver.to("/hook")) == 9


async def test_what_a_service_asks_for_counts_also_when_a_person_acted_meanwhile(bench: Bench) -> None:
    held = asyncio.Event()
    late = Reply(429, headers={"Retry-After": "3600"}, delay_until=held)
    bench.receiver.reply("/hook", Reply(500), late, Reply(status=204))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/hook", 2)
    await bench.store.replay([1], now=datetime.now(UTC))
    await bench.deliverer.look_again()
    held.set()
    await bench.rows(lambda rows: rows[0].attempt_count == 2)
    await settled(bench)
    assert len(bench.receiver.to("/hook")) == 2
    gate = (await bench.store.gates())["archive"]
    assert gate.told_until is not None


@pytest.mark.parametrize("status", [429, 404])
async def test_what_a_target_was_told_while_it_left_and_returned_counts(bench: Bench, status: int) -> None:
    held = asyncio.Event()
    told = Reply(status, headers={"Retry-After": "3600"}, delay_until=held)
    bench.receiver.reply("/hook", told, Reply(status=204))
    targets = {"archive": target("webhook", f"{bench.receiver.url}/hook")}
    await bench.deliverer.apply(targets)
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/hook", 1)
    await bench.deliverer.apply({})
    await bench.deliverer.apply(targets)
    held.set()
    await bench.rows(lambda rows: rows[0].attempt_count == 1)
    await settled(bench)
    assert len(bench.receiver.to("/hook")) == 1


class SlowBeginning(Store):
    """A state file that takes its time to write that a target has another URL."""

    held: asyncio.Event | None = None
    begun: asyncio.Event

    async def begin(self, gate: StoredGate) -> None:
        if self.held is not None:
            self.begun.set()
            await self.held.wait()
        await super().begin(gate)


async def test_a_url_that_breaks_while_it_is_replaced_does_not_pause_the_new_one(bench: Bench) -> None:
    async with SlowBeginning(bench.store.path) as slow:
        bench.equipment.store = slow
        late = asyncio.Event()
        bench.receiver.reply("/old", Reply(404, "gone", delay_until=late))
        await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/old")})
        await bench.finish(1, "archive")
        await bench.receiver.until_count("/old", 1)
        slow.held, slow.begun = asyncio.Event(), asyncio.Event()
        new = {"archive": target("webhook", f"{bench.receiver.url}/new")}
        applying = asyncio.create_task(bench.deliverer.apply(new))
        await slow.begun.wait()
        late.set()
        await bench.rows(lambda rows: rows[0].attempt_count >= 1)
        slow.held.set()
        await applying
        await bench.rows(all_are("delivered"))
        assert (await slow.gates())["archive"].state is GateState.OPEN
        await bench.deliverer.stop()
        again = Deliverer(bench.equipment)
        await again.apply(new)
        assert again.paused() == {}
        await again.stop()


async def test_an_answer_is_judged_by_the_type_that_asked(bench: Bench) -> None:
    held = asyncio.Event()
    bench.receiver.reply("/hook", Reply(status=204, delay_until=held))
    await bench.deliverer.apply({"archive": target("webhook", f"{bench.receiver.url}/hook")})
    await bench.finish(1, "archive")
    await bench.receiver.until_count("/hook", 1)
    await bench.deliverer.apply({"archive": target("slack", f"{bench.receiver.url}/slack")})
    held.set()
    await bench.rows(all_are("delivered"))
    assert bench.receiver.to("/slack") == []


async def test_an_event_that_cannot_be_rendered_says_nothing_about_the_target(bench: Bench) -> None:
    bench.receiver.reply("/hook", Reply(500))
    plain = target("webhook", f"{bench.receiver.url}/hook", concurrency=1)
    await bench.deliverer.apply({"archive": Poisoned.model_construct(**dict(plain))})
    await bench.finish(2, "archive")
    await bench.receiver.until_count("/hook", 3)
    await bench.store.drop([1])
    await bench.finish(1, "archive")
    await bench.deliverer.look_again()
    await bench.rows(lambda rows: any(row.state == "dead" for row in rows))
    assert (await bench.store.gates())["archive"].state is GateState.WAITING
