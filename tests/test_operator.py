"""The outbox mended by hand and targets tried out, as people do it at three in the morning."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.process import command, daemon
from tests.support.scenes import ACCEPTED, Scene, cards, tracks_told
from tests.support.servers import Received, Reply, Server, serving
from tests.support.tracks import audio_id
from tests.test_display import on_a_terminal

LIMITED = Reply(429, '{"message": "slow down", "retry_after": 7200.0}')
"""What a service says that wants to be left alone for two hours."""


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    return Scene(tmp_path, api, receiver)


async def said(scene: Scene, *arguments: str) -> list[str]:
    """Run a command that does what it was asked for and return the lines that it prints."""
    code, out, err = await command(*arguments, "-c", str(scene.file))
    assert (code, err) == (0, "")
    return out.splitlines()


async def printed(scene: Scene, *arguments: str) -> Any:
    return json.loads("\n".join(await said(scene, *arguments, "--json")))


REPLIES = {
    "room": ("/slack", Reply(404, "no_service")),
    "studio": ("/discord", LIMITED),
    "down": ("/webhook/down", Reply(500, "busy")),
    "strict": ("/webhook/strict", Reply(422, "bad body")),
    "archive": ("/webhook/archive", Reply(204)),
}
"""Targets whose first delivery ends each in another way; their deliveries have the ids from 1 on."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def night(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """What a daemon left that has told one track to each of the targets and was stopped."""
    async with serving() as api, serving() as receiver:
        scene = Scene(tmp_path_factory.mktemp("night"), api, receiver)
        scene.delivery = {"first_retry": "2h"}
        for name, (path, reply) in REPLIES.items():
            receiver.reply(path, reply)
            scene.target(name, path)
        scene.complete(1)
        async with daemon(scene.write(1)) as running:
            for event in ("target.paused", "delivery.dead", "delivery.delivered"):
                await running.logged(event)
            await running.logged("delivery.retry_scheduled", 2)
            assert await running.stop() == 0
        yield scene


IN_TWO_HOURS = r"in (1h 5\dm|2h( \d+[ms])?)"
"""A wait of ours is up to a fifth longer than it need be."""
LISTED = [
    ("1", "pending", "room", "paused", "HTTP 404: no_service"),
    ("2", "pending", "studio", IN_TWO_HOURS, re.escape(f"HTTP 429: {LIMITED.body}")),
    ("3", "pending", "down", IN_TWO_HOURS, "HTTP 500: busy"),
    ("4", "dead", "strict", "—", "HTTP 422: bad body"),
    ("5", "delivered", "archive", "—", ""),
]


async def test_the_outbox_is_listed_in_plain_lines(night: Scene) -> None:
    """Each line says what, where, since when, how often tried, when next and what came back."""
    lines = await said(night, "deliveries")
    assert len(lines) == len(LISTED)
    for line, (number, state, target, after, answer) in zip(lines, LISTED, strict=True):
        start = f"{number}\t{state}\t{target}\ttrack\\.completed\tTrack 1\t"
        assert re.fullmatch(rf"{start}\d+[sm] ago\t1\t{after}\t{answer}", line)


def test_the_outbox_is_a_table_on_a_terminal(night: Scene) -> None:
    shown = on_a_terminal("deliveries", "-c", str(night.file), COLUMNS="200")
    assert "\x1b[33mpending" in shown
    assert "\x1b[31mdead" in shown
    title, heading, *lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert title.strip() == "Deliveries"
    assert re.split(r"  +", heading.strip()) == [
        *("id", "state", "target", "event", "name", "since", "tries", "next", "what came back")
    ]
    assert len(lines) == len(LISTED)
    for line, (number, state, target, after, answer) in zip(lines, LISTED, strict=True):
        start = rf"{number} +{state} +{target} +track\.completed +Track 1 +"
        assert re.fullmatch(rf"{start}\d+[sm] ago +1 +{after} *{answer}", line.rstrip())


NEXT_STEPS = {
    "room": ["mend the url of room, then:  notifier resume room"],
    "studio": ["it is tried again by itself while the daemon runs"],  # no retry ends a wait that was told
    "down": [
        "it is tried again by itself while the daemon runs",
        "once what is wrong is mended, without waiting:  notifier deliveries retry 3",
    ],
    "strict": [
        "try it again:  notifier deliveries retry 4",
        "forget it:     notifier deliveries drop 4",
    ],
}


@pytest.mark.parametrize("listed", [listed for listed in LISTED if listed[2] in NEXT_STEPS], ids=NEXT_STEPS)
async def test_a_delivery_is_shown_with_what_came_back_and_the_next_step(
    night: Scene, listed: tuple[str, ...]
) -> None:
    number, state, target, after, answer = listed
    what, *lines = await said(night, "deliveries", "show", number)
    facts, (attempt,), advice = lines[:4], lines[4:5], lines[5:]
    assert what == f"delivery {number}: track.completed of Track 1 to {target}: {state}"
    assert re.fullmatch(r"  event +evt_[0-9a-f]{32}", facts[0])
    assert re.fullmatch(rf"  track +{audio_id(1)}", facts[1])
    assert re.fullmatch(r"  created +2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \(\d+[sm] ago\)", facts[2])
    assert re.fullmatch(rf"  next try +{after}", facts[3])
    assert re.fullmatch(rf"  2\d{{3}}-.*Z  \w+  {answer}", attempt)
    assert advice == NEXT_STEPS[target]


async def test_a_retry_ends_a_back_off_of_ours_but_no_wait_that_we_were_told(scene: Scene) -> None:
    scene.delivery = {"first_retry": "2h"}
    scene.target("told", "/discord")
    scene.target("own", "/webhook")
    scene.receiver.reply("/discord", LIMITED)
    scene.receiver.reply("/webhook", Reply(500), ACCEPTED["webhook"])
    scene.complete(1)
    async with daemon(scene.write(1)) as running:
        await running.logged("delivery.retry_scheduled", 2)
        assert await said(scene, "deliveries", "retry", "1", "2") == [
            "delivery 1: will be tried again",
            "delivery 2: will be tried again",
        ]
        await running.logged("delivery.delivered")
        assert await running.stop() == 0
    assert len(scene.receiver.to("/webhook")) == 2
    assert len(scene.receiver.to("/discord")) == 1
    shown = await said(scene, "deliveries", "show", "1")
    assert re.fullmatch(rf"  next try +{IN_TWO_HOURS}", shown[4])


async def test_a_dropped_delivery_is_never_sent_by_the_daemon_that_knew_it(scene: Scene) -> None:
    scene.delivery = {"first_retry": "2h"}
    scene.target("room", "/slack")
    scene.target("archive", "/webhook")
    scene.receiver.reply("/slack", Reply(500), ACCEPTED["slack"])
    async with daemon(scene.write(1, 2, 3)) as running:
        scene.complete(1)
        await running.logged("delivery.retry_scheduled")
        for number in (2, 3):
            scene.complete(number)
            await scene.receiver.until_count("/webhook", number)  # and so it is in the outbox
        pending = await printed(scene, "deliveries", "--target", "room")
        ids = {row["name"]: str(row["id"]) for row in pending}
        dropped = [f"delivery {ids[name]}: dropped" for name in ("Track 1", "Track 2")]
        assert await said(scene, "deliveries", "drop", ids["Track 1"], ids["Track 2"]) == dropped
        await said(scene, "deliveries", "retry", ids["Track 3"])
        await running.logged("delivery.delivered", 4)
        assert await running.stop() == 0
    assert [tracks_told(request) for request in scene.receiver.to("/slack")] == [["Track 1"], ["Track 3"]]
    rows = await printed(scene, "deliveries", "--target", "room")
    assert [(row["name"], row["state"]) for row in rows] == [("Track 3", "delivered")]


async def test_a_paused_target_is_left_alone_until_it_is_resumed_and_then_told_all_together(
    scene: Scene,
) -> None:
    scene.target("room", "/slack")
    scene.target("archive", "/webhook", concurrency=1)
    scene.receiver.reply("/slack", REPLIES["room"][1], ACCEPTED["slack"])
    async with daemon(scene.write(1, 2, 3)) as running:
        scene.complete(1)
        await running.logged("target.paused")
        scene.complete(2, 3)
        in_order = await scene.receiver.until_count("/webhook", 3)  # and so they are in the outbox
        assert await said(scene, "resume", "room") == ["room takes messages again"]
        await running.logged("target.resumed")
        await running.logged("delivery.delivered", 6)
        assert await running.stop() == 0
    names = [request.json()["data"]["name"] for request in in_order]
    assert [tracks_told(request) for request in scene.receiver.to("/slack")] == [["Track 1"], names]
    assert await said(scene, "resume", "room") == ["room was not paused"]


async def test_resuming_a_target_that_waits_as_told_says_so_and_ends_no_wait(scene: Scene) -> None:
    scene.delivery = {"first_retry": "2h"}
    scene.target("told", "/discord")
    scene.target("own", "/webhook")
    scene.receiver.reply("/discord", LIMITED)
    scene.receiver.reply("/webhook", Reply(500), ACCEPTED["webhook"])
    scene.complete(1)
    async with daemon(scene.write(1)) as running:
        await running.logged("delivery.retry_scheduled", 2)
        before = await printed(scene, "deliveries", "show", "1")
        assert await said(scene, "resume", "told") == ["told was not paused"]
        assert await printed(scene, "deliveries", "show", "1") == before
        await said(scene, "deliveries", "retry", "2")
        await running.logged("delivery.delivered")  # and so the daemon has looked at what was done
        assert await running.stop() == 0
    (told, _) = (await printed(scene, "status"))["targets"]
    assert (told["name"], told["state"], told["pending"]) == ("told", "waiting", 1)
    assert len(scene.receiver.to("/discord")) == 1
    assert running.records("target.resumed") == []


KINDS = {"room": "slack", "studio": "discord", "office": "mattermost", "archive": "webhook"}


@pytest.fixture
def targets(scene: Scene) -> Scene:
    """A watchlist with a target of each type."""
    for name, kind in KINDS.items():
        scene.target(name, f"/{kind}")
    scene.write()
    return scene


async def tried(scene: Scene, *arguments: str) -> tuple[int, list[list[str]]]:
    """Run ``notifier test``; return its exit code and the cells of the lines that it prints."""
    code, out, err = await command("test", *arguments, "-c", str(scene.file))
    assert err == ""
    return code, [line.split("\t") for line in out.splitlines()]


NOT_THERE = "refused: the target needs mending"
OF_ALL: dict[str, tuple[Reply, str, str]] = {
    "404": (Reply(404, "gone"), NOT_THERE, "HTTP 404: gone"),
    "429": (Reply(429, "slow down", {"Retry-After": "60"}), "not now", "HTTP 429: slow down"),
}


@pytest.mark.parametrize(("reply", "verdict", "answer"), OF_ALL.values(), ids=OF_ALL)
async def test_a_test_message_that_no_target_takes_is_a_failure_with_its_answer(
    targets: Scene, reply: Reply, verdict: str, answer: str
) -> None:
    targets.receiver.otherwise(lambda _request: reply)
    assert await tried(targets) == (1, [[name, kind, verdict, answer] for name, kind in KINDS.items()])
    assert len(targets.receiver.requests) == 4


async def test_a_test_message_follows_no_redirect_and_says_where_it_pointed(targets: Scene) -> None:
    async with serving() as elsewhere:
        location = elsewhere.url.replace("127.0.0.1", "localhost") + "/new-home?key=new-key"
        moved = Reply(302, f'<a href="{location}">Found</a>', {"Location": location})
        targets.receiver.otherwise(lambda _request: moved)
        answer = "HTTP 302: redirects to http://localhost, which is not followed: check the target's url"
        assert await tried(targets) == (
            1,
            [[name, kind, "not accepted", answer] for name, kind in KINDS.items()],
        )
    assert elsewhere.requests == []


async def test_an_accepted_test_message_looks_like_the_real_one(targets: Scene) -> None:
    assert await tried(targets) == (
        0,
        [
            ["room", "slack", "accepted", "HTTP 200: ok"],
            ["studio", "discord", "accepted", 'HTTP 200: {"id": "1"}'],
            ["office", "mattermost", "accepted", "HTTP 200: ok"],
            ["archive", "webhook", "accepted", "HTTP 204"],
        ],
    )
    assert_sample(targets, "Test: Sample track is ready", "COMPLETED")


async def test_a_test_message_of_a_failure_says_why_and_what_to_do(targets: Scene) -> None:
    code, lines = await tried(targets, "--event", "failed")
    assert (code, [line[2] for line in lines]) == (0, ["accepted"] * 4)
    assert_sample(targets, "Test: Sample track failed", "FAILED")


def assert_sample(scene: Scene, headline: str, status: str) -> None:
    *chats, hook = (received_by(scene, kind) for kind in KINDS.values())
    for chat in chats:
        (card,) = cards(chat.json())
        assert headline in card.split("\n")[0]
    event = hook.json()
    assert (event["type"], event["data"]["name"], event["data"]["status"]) == (
        "notifier.test",
        "Sample track",
        status,
    )


def received_by(scene: Scene, kind: str) -> Received:
    (request,) = scene.receiver.to(f"/{kind}")
    return request


@pytest.mark.parametrize("body", ["invalid_token", "<html>Sign in</html>"])
async def test_a_200_whose_body_is_not_ok_is_a_failure_where_ok_is_promised(
    targets: Scene, body: str
) -> None:
    targets.receiver.otherwise(lambda _request: Reply(200, body))
    code, lines = await tried(targets)
    said = "HTTP 200: an HTML page" if body.startswith("<") else f"HTTP 200: {body}"
    promised = ["not accepted", f"{said} (expected ok)"]
    is_page = body.startswith("<")
    discord = ["not accepted", f"{said} (expected JSON)"] if is_page else ["accepted", said]
    assert (code, lines) == (
        1,
        [
            ["room", "slack", *promised],
            ["studio", "discord", *discord],
            ["office", "mattermost", *promised],
            ["archive", "webhook", "accepted", said],
        ],
    )


async def test_one_target_that_fails_is_a_failure_and_only_those_named_are_tried(targets: Scene) -> None:
    targets.receiver.reply("/slack", Reply(404, "no_service"))
    archive = ["archive", "webhook", "accepted", "HTTP 204"]
    room = ["room", "slack", NOT_THERE, "HTTP 404: no_service"]
    assert await tried(targets, "archive", "room") == (1, [archive, room])
    assert await tried(targets, "archive") == (0, [archive])
    assert [request.path for request in targets.receiver.requests].count("/slack") == 1
    assert {request.path for request in targets.receiver.requests} == {"/slack", "/webhook"}


async def test_test_messages_are_a_table_on_a_terminal(targets: Scene) -> None:
    shown = await asyncio.to_thread(on_a_terminal, "test", "room", "archive", "-c", str(targets.file))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert [re.split(r"  +", line.strip()) for line in plain.splitlines()] == [
        ["Test messages"],
        ["target", "type", "result", "answer"],
        ["room", "slack", "accepted", "HTTP 200: ok"],
        ["archive", "webhook", "accepted", "HTTP 204"],
    ]
