"""The whole examination against an API and receivers that answer after the vendors' documents."""

import asyncio
import itertools
import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notifier.delivery import DeliveryState
from notifier.doctor import Check, Finding, Health, Limits, examine
from notifier.event import EventType
from notifier.gate import GateState
from notifier.gatebook import API_GATE, api_fingerprint, fingerprint
from notifier.loading import load
from notifier.store import Owed, Settlement, Store, StoredGate
from notifier.transition import Sighting
from tests.support.scenes import Scene
from tests.support.servers import Received, Reply, Server, free_port
from tests.support.tracks import answer, audio_id, completed, failed, not_found, path_of, track
from tests.targets.given import news

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
WEBHOOK = answer({"id": "1", "type": 1, "name": "Track bot", "token": "hushhushhush"})
GONE = answer({"message": "Unknown Webhook", "code": 10015}, 404)


def playing(request: Received) -> Reply:
    """Answer as the services do when they are asked without a message, or with an empty one."""
    match request.path.split("/")[1], request.method:
        case "discord", "GET":
            return WEBHOOK
        case "api", "GET":
            return answer({"status": "OK"})
        case _:
            return Reply(405)


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    scene.useapi["token"] = "user:1-hushhushhush"
    scene.poll["list"] = "never"  # what lists tell of stands in test_lists.py
    receiver.otherwise(playing)
    tracks = (answer(track(number)) for number in itertools.count(1))
    api.otherwise(lambda request: next(tracks) if "music:" in request.path else answer({"data": []}))
    return scene


def add_all(scene: Scene) -> None:
    """Add a target of each type, whose secrets can be told from anything else."""
    scene.target("room", "/slack/hushhushhush")
    scene.target("studio", "/discord/hushhushhush", mention=["everyone"])
    scene.target("archive", "/webhook/hushhushhush")
    scene.target("office", "/mattermost/hushhushhush")
    scene.targets["office"]["url"] = f"{scene.receiver.url}/hooks/hushhushhush"


async def found(scene: Scene, **limits: Any) -> list[Finding]:
    return await examine(str(scene.file), None, limits=Limits(**limits))


def of(findings: list[Finding], check: Check) -> dict[str, Finding]:
    """Return the findings of one kind by what they are about."""
    return {one.subject: one for one in findings if one.check is check}


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check.value, one.subject) for one in findings if one.health is Health.FAILED]


async def remember(scene: Scene, *gates: StoredGate, **statuses: str) -> None:
    """Write a state file in which tracks have ended and gates are closed."""
    async with Store(scene.state) as store:
        for name, status in statuses.items():
            identifier = audio_id(int(name.removeprefix("track_")))
            sighting = Sighting(status, is_final=True, name="Own name", first_seen=NOW - HOUR)
            await store.record(identifier, sighting, None, [], now=NOW - HOUR)
        salt = await store.salt()
        for gate in gates:
            await store.save_gate(replace(gate, fingerprint=_mark(scene, gate, salt)))


def _mark(scene: Scene, gate: StoredGate, salt: str) -> str:
    if gate.name == API_GATE:
        return api_fingerprint(scene.useapi["base_url"], scene.useapi["token"], salt)
    return fingerprint(gate.fingerprint or load(str(scene.file)).config.targets[gate.name].remote_end, salt)


def told(name: str, reason: str) -> StoredGate:
    """Return a gate behind which the other side wants to be left alone for an hour."""
    return StoredGate(name, GateState.WAITING, reason, NOW, NOW + HOUR, NOW + HOUR, failures=1)


async def test_all_that_is_well_is_found_well_and_nobody_hears_of_it(scene: Scene) -> None:
    add_all(scene)
    scene.complete(2)
    scene.write(1, 2)
    findings = await found(scene)
    assert wrong(findings) == []
    absent = {Check.CREDENTIAL, Check.OUTBOX, Check.ACCOUNT, Check.CALLBACK, Check.USAGE}
    assert {one.check for one in findings} == {*Check} - absent
    assert of(findings, Check.TARGET)["studio"].detail == "discord, Discord has the webhook “Track bot”"
    assert [(one.method, one.path) for one in scene.receiver.requests if one.body] == []
    assert {(one.method, one.path) for one in scene.receiver.requests} == {
        ("GET", "/slack/hushhushhush"),  # no Slack of Slack's own, which might show an empty message
        ("GET", "/discord/hushhushhush"),
        ("GET", "/api/v4/system/ping"),
    }
    assert not scene.state.exists()


async def test_what_is_well_can_be_told_from_what_only_a_message_shows(scene: Scene) -> None:
    add_all(scene)
    scene.write()
    targets = of(await found(scene), Check.TARGET)
    shown = {name: one.advice for name, one in targets.items()}
    assert shown == {
        "room": "to send one: notifier test room",
        "studio": "",
        "archive": "to send one: notifier test archive",
        "office": "to send one: notifier test office",
    }


BROKEN = {
    "a Slack webhook that is gone": ("room", "/slack/hushhushhush", Reply(404, "no_service"), "failed"),
    "another's page in the place of a Slack webhook": (
        "room",
        "/slack/hushhushhush",
        Reply(404, "no such page"),
        "warning",
    ),
    "a Discord webhook that is gone": ("studio", "/discord/hushhushhush", GONE, "failed"),
    "a token of Discord's that is wrong": (
        "studio",
        "/discord/hushhushhush",
        answer({"message": "Invalid Webhook Token", "code": 50027}, 401),
        "failed",
    ),
    "a wait that Discord asks for": (
        "studio",
        "/discord/hushhushhush",
        Reply(429, '{"retry_after": 7.5, "global": false}'),
        "warning",
    ),
    "a Mattermost in trouble": ("office", "/api/v4/system/ping", Reply(500, "unhealthy"), "failed"),
    "a Mattermost that has moved": (
        "office",
        "/api/v4/system/ping",
        Reply(301, "", {"Location": "https://new.example/hushhushhush"}),
        "failed",
    ),
}


@pytest.mark.parametrize(("name", "path", "reply", "health"), BROKEN.values(), ids=BROKEN)
async def test_a_target_that_is_not_well_is_found_out_without_a_message(
    scene: Scene, name: str, path: str, reply: Reply, health: str
) -> None:
    add_all(scene)
    scene.write()
    scene.receiver.reply(path, reply)
    findings = await found(scene)
    finding = of(findings, Check.TARGET)[name]
    assert finding.health == health
    assert finding.advice
    others = [one for key, one in of(findings, Check.TARGET).items() if key != name]
    assert {one.health for one in others} == {Health.OK}
    assert [one.method for one in scene.receiver.requests if one.method != "GET"] == []


async def test_a_webhook_that_nobody_listens_at_is_found_out_by_a_connection(scene: Scene) -> None:
    port = free_port()
    scene.target("archive", "/webhook", method="PUT")
    scene.targets["archive"]["url"] = f"http://127.0.0.1:{port}/webhook/hushhushhush"
    scene.write()
    finding = of(await found(scene), Check.TARGET)["archive"]
    assert finding.health is Health.FAILED
    assert finding.detail == f"webhook, no connection to 127.0.0.1:{port}: Connection refused"


async def test_a_target_that_is_paused_is_not_asked_again(scene: Scene) -> None:
    add_all(scene)
    scene.write()
    await remember(scene, StoredGate("room", GateState.PAUSED, "HTTP 404: no_service", NOW - HOUR))
    finding = of(await found(scene), Check.TARGET)["room"]
    assert (finding.health, finding.detail) == (
        Health.FAILED,
        "slack, paused 1h ago: HTTP 404: no_service",
    )
    assert "notifier resume room" in finding.advice
    assert scene.receiver.to("/slack/hushhushhush") == []


async def test_a_target_whose_url_was_changed_since_it_was_paused_is_asked(scene: Scene) -> None:
    add_all(scene)
    scene.write()
    old = StoredGate("room", GateState.PAUSED, "HTTP 404: no_service", NOW, fingerprint="http://old.example")
    await remember(scene, old)
    assert of(await found(scene), Check.TARGET)["room"].health is Health.OK
    assert len(scene.receiver.to("/slack/hushhushhush")) == 1


async def test_a_target_that_asked_for_a_wait_is_left_alone_until_it_is_over(scene: Scene) -> None:
    add_all(scene)
    scene.target("archive", "/webhook/other")
    scene.write()
    await remember(scene, told("room", "HTTP 429: slow down"))
    finding = of(await found(scene), Check.TARGET)["room"]
    assert finding.health is Health.SKIPPED
    assert re.search(r"left alone for (1h|\d+m)", finding.detail)
    assert scene.receiver.to("/slack/hushhushhush") == []


async def test_a_target_that_failed_lately_is_asked_and_both_are_told(scene: Scene) -> None:
    add_all(scene)
    scene.write()
    await remember(
        scene, StoredGate("studio", GateState.WAITING, "HTTP 500: busy", NOW, NOW + HOUR, failures=3)
    )
    finding = of(await found(scene), Check.TARGET)["studio"]
    assert finding.health is Health.OK
    assert finding.detail.endswith("but the last message failed: HTTP 500: busy")


async def test_targets_of_one_url_are_asked_once(scene: Scene) -> None:
    for number in range(40):
        scene.target(f"studio-{number}", f"/discord/hushhushhush?thread_id={number + 1}")
    scene.write()
    assert len(of(await found(scene), Check.TARGET)) == 40
    assert len(scene.receiver.requests) == 1


async def test_the_api_and_the_targets_are_asked_at_the_same_time(scene: Scene) -> None:
    scene.target("studio", "/discord/hushhushhush")
    scene.write(1)
    held = asyncio.Event()
    scene.api.reply(path_of(audio_id(1)), replace(answer(track(1)), delay_until=held))
    scene.receiver.reply("/discord/hushhushhush", replace(WEBHOOK, delay_until=held))
    examination = asyncio.create_task(found(scene))
    await scene.api.until(lambda: len(scene.api.requests) == 1)
    await scene.receiver.until(lambda: len(scene.receiver.requests) == 1)
    held.set()
    assert wrong(await examination) == []


async def test_many_targets_are_asked_a_few_at_a_time(scene: Scene) -> None:
    held = asyncio.Event()
    for number in range(40):
        scene.target(f"studio-{number}", f"/discord/{number}")
    scene.receiver.otherwise(lambda _: replace(WEBHOOK, delay_until=held))
    scene.write()
    examination = asyncio.create_task(found(scene))
    await scene.receiver.until(lambda: len(scene.receiver.requests) == 32)
    held.set()
    assert {one.health for one in of(await examination, Check.TARGET).values()} == {Health.OK}
    assert len(scene.receiver.requests) == 40


async def test_a_token_that_is_rejected_is_one_read_and_no_more(scene: Scene) -> None:
    add_all(scene)
    scene.write(*range(1, 10))
    scene.api.otherwise(lambda _: answer({"error": "Unauthorized user:1-hushhushhush", "code": 401}, 401))
    await remember(
        scene, told(API_GATE, "HTTP 401: Unauthorized")
    )  # a wait of our own, as the daemon keeps it
    findings = await found(scene)
    assert wrong(findings) == [("token", "127.0.0.1")]
    token = of(findings, Check.TOKEN)["127.0.0.1"]
    assert token.detail == "useapi.net refuses the token: HTTP 401: Unauthorized ***"
    assert token.advice.startswith("put a valid token into useapi.token")
    assert len(scene.api.requests) == 1
    (skipped,) = of(findings, Check.WATCH).values()
    assert (skipped.subject, skipped.health) == ("9 unfinished watches", Health.SKIPPED)


async def test_an_api_that_asked_to_be_left_alone_is(scene: Scene) -> None:
    scene.write(1, 2, 3)
    await remember(scene, told(API_GATE, "HTTP 429: slow down"), track_3="COMPLETED")
    findings = await found(scene)
    assert of(findings, Check.TOKEN)["127.0.0.1"].health is Health.SKIPPED
    assert of(findings, Check.WATCH)[audio_id(3)].detail == "COMPLETED 1h ago, from the state file"
    assert of(findings, Check.WATCH)["2 unfinished watches"].health is Health.SKIPPED
    assert scene.api.requests == []


@pytest.mark.parametrize(
    ("reply", "health"),
    [
        (Reply(429, "", {"Retry-After": "60"}), Health.WARNING),
        (Reply(503, "down"), Health.FAILED),
        (Reply(200, "<html>Sign in</html>"), Health.FAILED),
        (Reply(drop=True), Health.FAILED),
        (Reply(402, '{"error": "subscription expired"}'), Health.FAILED),
        (Reply(403, '{"error": "not yours"}'), Health.OK),
        (Reply(400, '{"error": "email is required"}'), Health.OK),
        (Reply(404, '{"error": "not found"}'), Health.OK),
    ],
)
async def test_without_a_watch_the_token_is_shown_by_one_read_all_the_same(
    scene: Scene, reply: Reply, health: Health
) -> None:
    scene.write()
    scene.api.otherwise(lambda _: reply)
    finding = of(await found(scene), Check.TOKEN)["127.0.0.1"]
    assert finding.health is health
    assert bool(finding.advice) is (health is not Health.OK)
    asked = {(one.method, one.raw_path, one.headers["Authorization"]) for one in scene.api.requests}
    assert asked == {("GET", "/v2/pixverse/music/?limit=1", "Bearer user:1-hushhushhush")}


async def test_each_watch_is_told_with_what_to_do_about_it(scene: Scene) -> None:
    scene.useapi["rate"] = "500/s"
    scene.stalled_after = "30m"
    scene.write(*range(1, 9))
    fresh = (datetime.now(UTC) - timedelta(minutes=3)).isoformat()
    scene.api.reply(path_of(audio_id(1)), answer(track(1, created_at=fresh)))
    scene.api.reply(path_of(audio_id(2)), answer(track(2)))
    scene.api.reply(path_of(audio_id(3)), answer(failed(3)))
    scene.api.reply(path_of(audio_id(4)), not_found(audio_id(4)))
    scene.api.reply(path_of(audio_id(5)), Reply(403, '{"error": "not yours"}'))
    scene.api.reply(path_of(audio_id(6)), Reply(596, '{"error": "account"}'))
    await remember(scene, track_7="COMPLETED", track_8="MISSING")
    watches = [*of(await found(scene), Check.WATCH).values()]
    assert [(one.name, one.health.value, one.detail.split(",")[0]) for one in watches] == [
        ("Track 1", "ok", "GENERATING"),
        ("Track 2", "warning", "GENERATING"),
        ("Track 3", "ok", "FAILED"),
        (
            "Track 4",
            "failed",
            f"useapi.net does not know this track: HTTP 404: Music {audio_id(4)} not found",
        ),
        ("Track 5", "failed", "cannot be read: HTTP 403: not yours"),
        ("Track 6", "failed", "cannot be read: HTTP 596: account"),
        ("Track 7", "ok", "COMPLETED 1h ago"),
        ("Track 8", "warning", "MISSING 1h ago"),
    ]
    assert watches[3].advice.endswith(f"notifier watch remove {audio_id(4)}")
    assert [one.subject for one in watches if one.health is Health.FAILED and not one.advice] == []
    assert len(scene.api.requests) == 6, "what has ended is not read again"


async def test_of_many_watches_a_few_are_read_and_the_rest_is_counted(scene: Scene) -> None:
    scene.write(*range(1, 1001))
    watches = of(await found(scene), Check.WATCH)
    unread = watches.pop("980 unfinished watches")
    assert len(watches) == len(scene.api.requests) == 20
    assert (unread.health, unread.detail) == (
        Health.SKIPPED,
        "not read: a glance takes 20 requests at the most",
    )
    assert unread.advice == "to read them all: notifier doctor --all"


async def test_all_of_them_are_read_on_request_and_that_it_takes_long_is_said(scene: Scene) -> None:
    said: list[str] = []
    scene.useapi["rate"] = "1000/s"
    scene.write(*range(1, 51))
    assert len(of(await found(scene, is_all=True, say=said.append), Check.WATCH)) == 50
    assert len(scene.api.requests) == 50
    assert said == []
    Limits(say=said.append).announce(10_000, timedelta(seconds=0.2))
    assert said == ["10,000 requests take 33m 20s at the watchlist's rate"]


async def test_the_rate_of_the_watchlist_is_kept_and_bounds_how_many_are_read(scene: Scene) -> None:
    scene.useapi |= {"rate": "10/s", "timeout": "500ms"}
    scene.write(*range(1, 31))
    watches = of(await found(scene), Check.WATCH)
    times = [request.at for request in scene.api.requests]
    assert len(times) == 6, "as many as one timeout takes"
    assert times[-1] - times[0] >= 5 * 0.1
    assert watches["24 unfinished watches"].detail == "not read: a glance takes 6 requests at the most"


async def test_reading_ends_when_the_api_asks_for_it(scene: Scene) -> None:
    scene.useapi |= {"rate": "20/s", "concurrency": 1}
    scene.write(*range(1, 11))
    scene.api.reply(path_of(audio_id(3)), Reply(429, "slow down", {"Retry-After": "60"}))
    findings = await found(scene)
    assert len(scene.api.requests) == 3
    assert of(findings, Check.TOKEN)["127.0.0.1"].health is Health.OK
    assert of(findings, Check.WATCH)["8 unfinished watches"].detail == "not read: HTTP 429: slow down"


@pytest.mark.parametrize(
    ("offset", "health", "words"),
    [
        (timedelta(0), Health.OK, "agrees"),
        (timedelta(seconds=25), Health.OK, "agrees"),
        (timedelta(minutes=5, seconds=30), Health.WARNING, "5m "),
        (timedelta(minutes=-5, seconds=-30), Health.WARNING, "5m "),
    ],
)
async def test_the_clock_is_compared_with_the_apis(
    scene: Scene, offset: timedelta, health: Health, words: str
) -> None:
    scene.api.now = lambda: datetime.now(UTC) + offset
    scene.write(1)
    finding = of(await found(scene), Check.CLOCK)["127.0.0.1"]
    assert (finding.health, words in finding.detail) == (health, True)
    if health is Health.WARNING:
        assert ("behind" in finding.detail) is (offset > timedelta(0))
        assert "timedatectl" in finding.advice


async def test_a_clock_that_nothing_is_known_of_is_skipped(scene: Scene) -> None:
    scene.useapi["base_url"] = f"http://127.0.0.1:{free_port()}"
    scene.write(1)
    assert of(await found(scene), Check.CLOCK)["127.0.0.1"].health is Health.SKIPPED


async def test_a_watchlist_with_mistakes_is_told_with_all_of_them(scene: Scene) -> None:
    scene.file.write_text("useapi: {}\nwatch: [x]\nstate: " + str(scene.state))
    findings = await found(scene)
    lines = [one.detail for one in findings if one.check is Check.CONFIG]
    assert [line.split(": ")[1] for line in lines] == ["targets", "useapi.token", "watch[0]"]
    assert {one.check for one in findings if one.health is Health.FAILED} == {Check.CONFIG}
    assert [one for one in findings if one.health is Health.FAILED and not one.advice] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
async def test_a_watchlist_that_may_not_be_read_is_one_for_root(scene: Scene) -> None:
    os.seteuid(65534)
    try:
        finding, *_ = await examine("/root/watchlist.yaml", str(scene.state), limits=Limits())
    finally:
        os.seteuid(0)
    assert (finding.check, finding.detail) == (Check.CONFIG, "1:1: cannot be read: Permission denied")
    assert finding.advice == "ask as root: sudo notifier doctor"


async def test_a_state_file_that_a_missing_reference_names_is_asked_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    scene.write()
    text = scene.file.read_text().replace(str(scene.state), "${env:NOT_THERE}")
    scene.file.write_text(text)
    findings = await found(scene)
    assert wrong(findings) == [("config", str(scene.file)), ("state", "state")]
    assert of(findings, Check.STATE)["state"].advice == "name it: --state-file PATH"


async def test_secrets_that_are_missing_leave_the_rest_to_be_looked_at(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    add_all(scene)
    scene.useapi["token"] = "${env:NOT_THERE}"
    scene.targets["room"]["url"] = "${credential:slack-url}"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(scene.file.parent))
    scene.write(1)
    findings = await found(scene)
    assert wrong(findings) == [
        ("config", str(scene.file)),
        ("config", str(scene.file)),
        ("credential", "slack-url"),
    ]
    assert [one.health for one in of(findings, Check.TARGET).values()] == [Health.SKIPPED] * 4
    assert of(findings, Check.TOKEN)["useapi.net"].health is Health.SKIPPED
    assert of(findings, Check.ROUTE)["Track 1"].detail.startswith("completed, failed → room (slack), studio")
    assert scene.api.requests == scene.receiver.requests == []


@pytest.fixture
def quoting(scene: Scene) -> Scene:
    """Servers that quote what they were asked for, in their errors and in where they redirect to."""

    def quote(request: Received) -> Reply:
        said = f"{request.raw_path} {request.headers.get('Authorization')}"
        status = 404 if "studio" in request.path else 500
        return Reply(status, json.dumps({"message": said, "error": said}), {"Location": request.raw_path})

    scene.api.otherwise(quote)
    scene.receiver.otherwise(quote)
    add_all(scene)
    scene.target("studio", "/discord/studio-hushhushhush")
    scene.write(1)
    return scene


async def test_no_secret_is_shown_whatever_the_servers_quote(quoting: Scene) -> None:
    await remember(quoting, StoredGate("room", GateState.PAUSED, "HTTP 404: /slack/hushhushhush", NOW))
    findings = await found(quoting)
    assert len(wrong(findings)) == 4  # the token, a paused target, and those that answered
    assert "hush" not in json.dumps([one.as_json() for one in findings])
    assert "hush" not in repr(findings)


async def test_no_secret_is_shown_whatever_tracks_are_called(scene: Scene) -> None:
    add_all(scene)
    scene.write(1, 2)
    named = {"audio_id": audio_id(3)}
    watchlist = json.loads(scene.file.read_text())
    scene.file.write_text(json.dumps({**watchlist, "watch": [*watchlist["watch"], named]}))
    async with Store(scene.state) as store:
        sighting = Sighting("COMPLETED", is_final=True, name="by hushhushhush", first_seen=NOW)
        await store.record(audio_id(3), sighting, None, [], now=NOW)
    findings = await found(scene)
    assert of(findings, Check.WATCH)[audio_id(3)].name == "by ***"
    assert "hush" not in json.dumps([one.as_json() for one in findings])


async def test_dead_letters_are_worth_a_look(scene: Scene) -> None:
    add_all(scene)
    scene.write()
    async with Store(scene.state) as store:
        sighting = Sighting("COMPLETED", is_final=True, name="x", first_seen=NOW)
        owed = [Owed(news(EventType.COMPLETED, completed()), ("room",))]
        await store.record(audio_id(1), sighting, None, owed, now=NOW)
        await store.settle(Settlement("room", (1,), NOW, 422, "", "no", "rejected", DeliveryState.DEAD))
    assert of(await found(scene), Check.OUTBOX)["dead"].detail == "1 dead letter"
