"""``notifier doctor`` as people and scripts use it, beside a daemon and without one."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from notifier.loading import InvalidConfigError, load
from tests.support.faulty import NameServer, with_names
from tests.support.process import command, daemon
from tests.support.scenes import ACCEPTED, Scene
from tests.support.servers import Received, Reply, Server, serving
from tests.support.tracks import answer, audio_id
from tests.test_display import on_a_terminal

LIMITED = Reply(429, '{"message": "slow down", "retry_after": 7200.0}')


def playing(request: Received) -> Reply:
    """Take messages as the services do, and answer those who only ask after a webhook."""
    if request.method == "GET":
        return answer({"id": "1", "name": "Track bot"})
    return ACCEPTED[request.path.split("/")[1]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def beside(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Scene, str, str, int]]:
    """What the doctor says beside a daemon that has a paused target, one that waits, and one that is well."""
    async with serving() as api, serving() as receiver:
        scene = Scene(tmp_path_factory.mktemp("beside"), api, receiver)
        receiver.otherwise(playing)
        receiver.reply("/slack/room", Reply(404, "no_service"))
        receiver.reply("/discord/limited", LIMITED)
        for path in ("/slack/room", "/discord/limited", "/discord/studio", "/webhook/archive"):
            scene.target(path.rpartition("/")[2], path)
        scene.complete(1)
        async with daemon(scene.write(1, 2)) as running:
            await running.logged("target.paused")
            await running.logged("delivery.retry_scheduled")
            await running.logged("delivery.delivered", 2)
            before, names = len(receiver.requests), sorted(os.listdir(scene.file.parent))
            code, out, err = await command("doctor", "--json", "-c", str(scene.file))
            assert (code, err) == (1, "")
            _, lines, _ = await command("doctor", "-c", str(scene.file))
            assert sorted(os.listdir(scene.file.parent)) == names
            asked = receiver.requests[before:]
            assert {(one.method, one.path, one.body) for one in asked} == {("GET", "/discord/studio", b"")}
            scene.complete(2)
            await receiver.until_count("/webhook/archive", 2)
            assert await running.stop() == 0
            assert running.records("storage.failed") == []
        yield scene, out, lines, len(asked)


async def test_beside_a_daemon_nothing_is_disturbed_and_what_it_waits_for_is_not_asked(
    beside: tuple[Scene, str, str, int],
) -> None:
    scene, out, _, asked = beside
    findings = {(one["check"], one["subject"]): one for one in json.loads(out)}
    states = {subject: one["state"] for (check, subject), one in findings.items() if check == "target"}
    assert states == {"room": "failed", "limited": "skipped", "studio": "ok", "archive": "ok"}
    assert findings["daemon", "notifier run"]["state"] == "ok"
    assert findings["watch", audio_id(1)]["detail"].startswith("Track 1: COMPLETED")
    assert findings["watch", audio_id(2)]["detail"].startswith("Track 2: GENERATING")
    assert findings["outbox", "pending"]["detail"] == "2 waiting to be sent"
    assert asked == 2, "one for each run"
    assert len(scene.receiver.to("/slack/room")) == 1, "the daemon's own"


async def test_json_is_a_list_of_checks_that_all_look_alike(beside: tuple[Scene, str, str, int]) -> None:
    _, out, _, _ = beside
    for one in json.loads(out):
        assert [*one] == ["check", "subject", "state", "detail", "advice"]
        assert one["state"] in {"ok", "warning", "failed", "skipped"}
        assert one["advice"] or one["state"] != "failed"


async def test_what_is_wrong_comes_first_and_what_goes_where_last(
    beside: tuple[Scene, str, str, int],
) -> None:
    scene, _, lines, _ = beside
    summary, first, *others = lines.splitlines()
    assert re.fullmatch(r"1 thing is wrong, 0 to look at, \d+ well", summary)
    paused = r"failed\ttarget room\tslack, paused \d+[sm] ago: HTTP 404: no_service\t.*notifier resume room"
    assert re.fullmatch(paused, first)
    assert [line.split("\t")[0] for line in others] == ["ok"] * (len(others) - 3) + ["skipped", "ok", "ok"]
    targets = "room (slack), limited (discord), studio (discord), archive (webhook)"
    assert others[-2] == f"ok\troute Track 1 and Track 2\tcompleted, failed → {targets}"
    assert scene.receiver.url not in lines


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> Scene:
    scene = Scene(tmp_path, api, receiver)
    receiver.otherwise(playing)
    return scene


async def test_on_a_terminal_it_reads_as_paragraphs_with_colour(scene: Scene) -> None:
    scene.target("studio", "/discord/studio")
    scene.useapi["rate"] = "500/s"
    scene.write(*range(1, 31))
    argv = ("doctor", "--all", "-c", str(scene.file))
    shown = await asyncio.to_thread(on_a_terminal, *argv, COLUMNS="80")
    assert "\x1b[32mok" in shown
    waited, shown = shown.split("\x1b[2K")[1:]
    assert waited == "asking the API and the targets …\r"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "")
    assert plain.startswith("nothing is wrong, 1 to look at, ")
    assert re.search(r"^ok       watch 10 more: ", plain, re.M), "of what is alike the first twenty"
    assert re.search(r"^What is sent where\n.*Track 1, Track 2 and 28 more: completed,", plain, re.M)
    assert max(map(len, plain.splitlines())) <= 80


async def test_an_invalid_watchlist_is_a_failure_with_every_mistake(scene: Scene) -> None:
    scene.file.write_text("useapi: {token: a}\ntargets: {a: {typ: slack}}\nwatch: [x]\n")
    code, out, err = await command("doctor", "-c", str(scene.file))
    assert (code, err) == (1, "")
    mistakes = [line for line in out.splitlines() if line.startswith(f"failed\tconfig {scene.file}\t")]
    with pytest.raises(InvalidConfigError) as caught:
        load(str(scene.file))
    assert len(mistakes) == len(caught.value.mistakes) > 1


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    async with NameServer() as server:
        yield server


@pytest.mark.parametrize(
    ("reply", "code"), [(Reply(400, "no_text"), 0), (Reply(404, "no_service"), 1)], ids=["there", "gone"]
)
async def test_slack_itself_is_sent_an_empty_message_and_no_other(
    scene: Scene, names: NameServer, tmp_path: Path, reply: Reply, code: int
) -> None:
    host = f"hooks.slack.com:{urlsplit(scene.receiver.url).port}"
    scene.targets["room"] = {"type": "slack", "url": f"http://{host}/services/T0/B0/hush"}
    scene.receiver.reply("/services/T0/B0/hush", reply)
    within = with_names(tmp_path, names, hosts=["hooks.slack.com"])
    exit_code, out, _ = await command("doctor", "-c", str(scene.write(1)), within=within)
    assert exit_code == code
    assert ("Slack has the webhook" in out) is (code == 0)
    (request,) = scene.receiver.requests
    assert (request.method, request.json()) == ("POST", {"text": ""})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
async def test_root_looking_leaves_nothing_that_stops_the_daemon(scene: Scene) -> None:
    scene.target("archive", "/webhook/archive")
    scene.complete(1)
    async with daemon(scene.write(1)) as running:
        await running.logged("delivery.delivered")
        running.kill()  # so that its write-ahead log is still there
        await running.ended()
    nobody = 65534
    for path in (scene.file.parent, *scene.file.parent.iterdir()):
        os.chown(path, nobody, nobody)
    assert (await command("doctor", "-c", str(scene.file)))[0] == 0
    assert {path.stat().st_uid for path in scene.file.parent.iterdir()} == {nobody}
