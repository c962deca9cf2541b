"""What the real daemon puts on the wire: how many messages, how far apart, and what it makes of answers."""

import asyncio
import re
import signal
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.process import Daemon, command, daemon
from tests.support.scenes import ACCEPTED, Scene, cards, tracks_told
from tests.support.servers import Received, Reply, Server, serving
from tests.support.tracks import answer, audio_id, completed, not_found, path_of


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    return Scene(tmp_path, api, receiver)


@pytest.mark.parametrize(("kind", "pace"), [("slack", 1), ("mattermost", 1), ("discord", 0)])
async def test_the_first_event_leaves_at_once_and_what_queues_behind_the_pace_leaves_together(
    scene: Scene, kind: str, pace: float
) -> None:
    taken, path = asyncio.Event(), f"/{kind}"
    scene.receiver.reply(path, replace(ACCEPTED[kind], delay_until=taken), ACCEPTED[kind])
    scene.target("room", path)
    scene.target("archive", "/webhook", concurrency=1)
    async with daemon(scene.write(1, 2, 3, 4, 5)) as running:
        ready = asyncio.get_running_loop().time()
        scene.complete(1)
        await scene.receiver.until_count(path, 1)  # while there is nothing else that it could wait for
        scene.complete(2, 3, 4, 5)
        in_order = await scene.receiver.until_count("/webhook", 5)  # and so they are in the outbox
        taken.set()
        await running.logged("delivery.delivered", 10)
        assert await running.stop() == 0
    names = [request.json()["data"]["name"] for request in in_order]
    assert sorted(names) == [f"Track {number}" for number in range(1, 6)]
    told = scene.receiver.to(path)
    assert [tracks_told(request) for request in told] == [["Track 1"], names[1:]]
    assert_apart([ready], told, pace)


def assert_apart(
    ready: Sequence[float], requests: Sequence[Received], seconds: float, *, but: int = 1
) -> None:
    """Fail when more requests than some leave within so many seconds.

    NB: reckoned from when there was something to tell, since a machine that stands still hands over late what
    left in time.
    """
    for earlier, later in zip(ready, requests[but:], strict=False):
        assert later.at >= earlier + seconds


async def one_by_one(scene: Scene, path: str, *, tracks: int) -> tuple[list[float], list[Received]]:
    """Run the daemon until each track, ready only once the last is told, is told by each target.

    Returns when what each request tells was ready, and the requests.
    """
    count, ready = len(scene.targets), list[float]()
    async with daemon(scene.write(*range(1, tracks + 1))) as running:
        for number in range(1, tracks + 1):
            ready += [asyncio.get_running_loop().time()] * count
            scene.complete(number)
            await scene.receiver.until_count(path, number * count)
        assert await running.stop() == 0
    requests = scene.receiver.to(path)
    assert [tracks_told(request) for request in requests] == [
        [f"Track {number}"] for number in range(1, tracks + 1) for _ in range(count)
    ]
    return ready, requests


@pytest.mark.parametrize(
    ("rooms", "tracks"), [(["room"], 2), (["room", "same-room"], 2)], ids=["one target", "two of one URL"]
)
async def test_slack_gets_one_message_a_second(scene: Scene, rooms: list[str], tracks: int) -> None:
    for room in rooms:
        scene.target(room, "/slack")
    assert_apart(*await one_by_one(scene, "/slack", tracks=tracks), 1)


@pytest.mark.parametrize(
    ("queries", "tracks"),
    [([""], 6), (["?thread_id=1", "?thread_id=2"], 3)],
    ids=["one target", "two threads of one webhook"],
)
async def test_discord_gets_five_messages_in_two_seconds_at_the_most(
    scene: Scene, queries: list[str], tracks: int
) -> None:
    for number, query in enumerate(queries):
        scene.target(f"studio-{number}", f"/discord{query}")
    ready, requests = await one_by_one(scene, "/discord", tracks=tracks)
    assert_apart(ready, requests, 2, but=5)
    asked = sorted(request.raw_path for request in requests)
    expected = [f"/discord{query}{'&' if query else '?'}wait=true" for query in queries]
    assert asked == sorted(expected * tracks)


async def attempts_shown(scene: Scene, delivery: int) -> list[str]:
    """Return what ``deliveries show`` says of each attempt, without its moment."""
    code, out, err = await command("deliveries", "show", str(delivery), "-c", str(scene.file))
    assert (code, err) == (0, "")
    return re.findall(r"^  \d{4}-\d\d-\d\dT[\d:.]+Z  (.*)$", out, re.MULTILINE)


REDIRECTS = {302: '<a href="{location}">Found</a>.', 308: ""}
"""What servers say beside a redirect, by its status: many name the place once more."""


async def test_a_redirect_is_a_failure_that_says_where_to_and_is_tried_again(scene: Scene) -> None:
    scene.delivery = {"first_retry": "300ms"}
    async with serving() as elsewhere:
        location = elsewhere.url.replace("127.0.0.1", "localhost") + "/new-home?key=new-key"
        for status, body in REDIRECTS.items():
            moved = Reply(status, body.format(location=location), {"Location": location})
            scene.receiver.reply(f"/webhook/{status}", moved, moved, Reply(status=204))
            scene.target(f"moved-{status}", f"/webhook/{status}")
        scene.complete(1)
        async with daemon(scene.write(1)) as running:
            await running.logged("delivery.delivered", len(REDIRECTS))
            assert await running.stop() == 0
    assert elsewhere.requests == []
    said = {
        f"moved-{status}": f"HTTP {status}: redirects to http://localhost, which is not followed: "
        "check the target's url"
        for status in REDIRECTS
    }
    scheduled = running.records("delivery.retry_scheduled")
    assert {record["target"]: record["error"] for record in scheduled} == said
    for delivery, status in enumerate(REDIRECTS, start=1):
        first, second, third = scene.receiver.to(f"/webhook/{status}")
        assert_apart([first.at], [first, second], 0.3)
        assert_apart([second.at], [second, third], 0.6)
        failed = f"retry  {said[f'moved-{status}']}"
        assert await attempts_shown(scene, delivery) == [failed, failed, "delivered  HTTP 204"]


async def no_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_what_cannot_be_reached_reads_as_a_sentence(scene: Scene, certificate: ssl.SSLContext) -> None:
    server = await asyncio.start_server(no_answer, "127.0.0.1", 0, ssl=certificate)
    async with server:
        untrusted = server.sockets[0].getsockname()[1]
        reasons = {
            "http://nothing.invalid": "the name nothing.invalid cannot be resolved",
            "http://127.0.0.1:9": "no connection to 127.0.0.1:9: Connection refused",
            f"https://localhost:{untrusted}": "the certificate of localhost is not valid: "
            "self-signed certificate",
            scene.receiver.url.replace("http:", "https:"): "no TLS connection to 127.0.0.1",
        }
        await assert_unreachable(scene, reasons)


async def test_an_answer_that_does_not_come_in_time_reads_as_a_sentence(scene: Scene) -> None:
    never = asyncio.Event()
    scene.receiver.reply("/secret-path", Reply(delay_until=never))
    scene.delivery = {"timeout": "200ms"}
    await assert_unreachable(scene, {scene.receiver.url: "no answer from 127.0.0.1 within 200ms"})
    never.set()


async def assert_unreachable(scene: Scene, reasons: dict[str, str]) -> None:
    """Fail unless the log and ``deliveries show`` say of each address why it was not reached."""
    scene.delivery |= {"first_retry": "2h"}
    names = [f"archive-{number}" for number in range(len(reasons))]
    for name, origin in zip(names, reasons, strict=True):
        scene.targets[name] = {"type": "webhook", "url": f"{origin}/secret-path"}
    scene.complete(1)
    async with daemon(scene.write(1)) as running:
        scheduled = await running.logged("delivery.retry_scheduled", len(reasons))
        assert await running.stop() == 0
    assert {record["target"]: record["error"] for record in scheduled} == dict(
        zip(names, reasons.values(), strict=True)
    )
    for delivery, reason in enumerate(reasons.values(), start=1):
        assert await attempts_shown(scene, delivery) == [f"retry  {reason}"]
    assert "secret-path" not in "\n".join(running.lines)


@pytest.mark.parametrize("kind", ["slack", "discord"])
async def test_alerts_that_queue_for_one_chat_target_come_in_one_message(scene: Scene, kind: str) -> None:
    read, path = asyncio.Event(), f"/{kind}"
    scene.receiver.reply(path, replace(ACCEPTED[kind], delay_until=read), ACCEPTED[kind])
    scene.target("office", path)
    scene.target("pager", "/webhook/pager", concurrency=1)
    scene.alerts = ["office", "pager"]
    for name, reply in (("one", Reply(404)), ("two", Reply(410)), ("three", Reply(422))):
        scene.receiver.reply(f"/webhook/{name}", reply)
        scene.target(name, f"/webhook/{name}")
    scene.notify = ["one", "two", "three"]
    scene.api.reply(path_of(audio_id(2)), Reply(410))
    async with daemon(scene.write(1, 2)) as running:
        await scene.receiver.until_count(path, 1)
        scene.complete(1)
        in_order = await scene.receiver.until_count("/webhook/pager", 4)  # and so they are in the outbox
        read.set()
        await running.logged("delivery.delivered", 8)
        assert await running.stop() == 0
    first, *later = ([alert.json()["data"]["summary"]] for alert in in_order)
    assert [
        [card.split("\n")[1:2] for card in cards(request.json())] for request in scene.receiver.to(path)
    ] == [[first], later]
    assert {alert.json()["data"]["subject"] for alert in in_order} == {audio_id(2), "one", "two", "three"}


class Office:
    """A webhook that hears the alerts, in order."""

    def __init__(self, scene: Scene) -> None:
        scene.target("office", "/webhook/office", concurrency=1)
        scene.alerts = ["office"]
        self._receiver = scene.receiver

    def heard(self) -> list[tuple[str, str, bool]]:
        """Return problem and subject of each alert, and whether it is over."""
        told = [request.json()["data"] for request in self._receiver.to("/webhook/office")]
        return [(one["problem"], one["subject"], one["resolved"]) for one in told]

    async def hears(self, *alerts: tuple[str, str, bool]) -> None:
        """Wait until these alerts were told, in this order and no others."""
        await self._receiver.until(lambda: len(self.heard()) >= len(alerts))
        assert self.heard() == [*alerts]


async def test_a_pause_is_told_once_and_is_over_when_a_resumed_target_takes_messages(scene: Scene) -> None:
    office = Office(scene)
    scene.target("room", "/slack")
    scene.notify = ["room"]
    scene.receiver.reply("/slack", Reply(404, "no_service"))
    scene.complete(1)
    async with daemon(scene.write(1)) as running:
        await office.hears(("target_paused", "room", False))
        assert await resumed(scene, "room") == "room takes messages again\n"
        await running.logged("target.paused", 2)  # for nobody has mended it
        scene.receiver.reply("/slack", ACCEPTED["slack"])
        assert await resumed(scene, "room") == "room takes messages again\n"
        await office.hears(("target_paused", "room", False), ("target_paused", "room", True))
        assert await running.stop() == 0
    assert [tracks_told(request) for request in scene.receiver.to("/slack")] == [["Track 1"]] * 3


async def resumed(scene: Scene, target: str) -> str:
    code, out, err = await command("resume", target, "-c", str(scene.file))
    assert (code, err) == (0, "")
    return out


async def reloaded(running: Daemon, count: int) -> None:
    running.signal(signal.SIGHUP)
    await running.logged("config.reloaded", count)


async def test_a_missing_track_is_told_once_and_never_said_to_be_back(scene: Scene) -> None:
    """It is polled no more, whatever becomes of it and of its entry, so that nobody could know."""
    office = Office(scene)
    scene.notify = []
    gone, other = path_of(audio_id(1)), path_of(audio_id(3))
    scene.api.reply(gone, Reply(410))
    async with daemon(scene.write(1, 2)) as running:
        await office.hears(("track_missing", audio_id(1), False))
        scene.complete(1)
        scene.write(2)
        await reloaded(running, 1)
        scene.write(1, 2)
        await reloaded(running, 2)
        assert await running.stop() == 0
    async with daemon(scene.file) as running:
        scene.api.reply(other, Reply(410))
        scene.write(1, 2, 3)
        await reloaded(running, 1)
        await office.hears(("track_missing", audio_id(1), False), ("track_missing", audio_id(3), False))
        assert await running.stop() == 0
    assert len(scene.api.to(gone)) == 1


async def test_a_track_that_is_back_before_it_counts_as_missing_is_no_alert(scene: Scene) -> None:
    office = Office(scene)
    scene.notify = []
    unknown = not_found(audio_id(1))
    scene.api.reply(path_of(audio_id(1)), unknown, unknown, answer(completed(1)))
    async with daemon(scene.write(1, 2)) as running:
        await running.logged("track.completed")
        scene.api.reply(path_of(audio_id(2)), Reply(410))
        await office.hears(("track_missing", audio_id(2), False))
        assert await running.stop() == 0


async def test_a_stalled_track_that_is_missing_in_the_end_is_stalled_no_more(scene: Scene) -> None:
    office = Office(scene)
    scene.notify = []
    scene.stalled_after = "1s"
    async with daemon(scene.write(1)) as running:
        await office.hears(("track_stalled", audio_id(1), False))
        scene.api.reply(path_of(audio_id(1)), Reply(410))
        await office.hears(
            ("track_stalled", audio_id(1), False),
            ("track_missing", audio_id(1), False),
            ("track_stalled", audio_id(1), True),
        )
        assert await running.stop() == 0
