"""The real command as a process: start, stop, reload, crash."""

import asyncio
import signal
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from notifier.store import Store
from tests.support.catalogue import Catalogue
from tests.support.process import command, daemon, environment
from tests.support.servers import Received, Reply, Server, raw_server, serving
from tests.support.tracks import answer, audio_id, completed, path_of, track
from tests.support.watchlists import A_TYPE

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Place:
    """A directory with a watchlist that can be changed as an editor does."""

    def __init__(self, directory: Path, api: Server, receiver: Server) -> None:
        self.file = directory / "watchlist.yaml"
        self.state = directory / "state.db"
        self._api, self._receiver = api, receiver

    def text(self, *numbers: int, more: str = "", delivery: str = "{first_retry: 100ms}") -> str:
        watches = "".join(
            f"  - {{audio_id: '{audio_id(number)}', name: Track {number}}}\n" for number in numbers
        )
        return f"""useapi: {{token: user:1-abc, base_url: "{self._api.url}/v2/pixverse", rate: 500/s}}
poll: {{interval: 100ms, max_interval: 200ms, stalled_after: 3000d}}
delivery: {delivery}
targets:
  band-room: {{type: slack, url: "{self._receiver.url}/slack/secret-path-of-slack"}}
  studio: {{type: discord, url: "{self._receiver.url}/discord/secret-path-of-discord"}}
  archive: {{type: webhook, url: "{self._receiver.url}/hook", secret: {WHSEC}}}
state: {self.state}
{more}
watch:
{watches or "  []"}
"""

    def write(self, *numbers: int, **options: Any) -> Path:
        """Replace the file in one go, as most editors do."""
        new = self.file.with_suffix(".new")
        new.write_text(self.text(*numbers, **options))
        new.chmod(0o600)
        new.replace(self.file)
        return self.file


@pytest.fixture
def place(tmp_path: Path, api: Server, receiver: Server) -> Place:
    return Place(tmp_path, api, receiver)


def names(receiver: Server, path: str = "/hook") -> list[str]:
    return [request.json()["data"]["name"] for request in receiver.to(path)]


async def test_a_track_that_completes_reaches_every_target_once(
    place: Place, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(track()), answer(track()), answer(completed()))
    async with daemon(place.write(1)) as running:
        await receiver.until_count("/slack/secret-path-of-slack", 1)
        await receiver.until_count("/discord/secret-path-of-discord", 1)
        await receiver.until_count("/hook", 1)
        await running.logged("delivery.delivered", 3)
        assert await running.stop() == 0
    assert len(receiver.requests) == 3
    assert len(api.requests) == 3
    events = [record["event"] for record in running.records()]
    assert events[0] == "daemon.started"
    assert events[-1] == "daemon.stopped"
    assert "track.completed" in events
    assert "secret" not in "\n".join(running.lines)
    assert "user:1-abc" not in "\n".join(running.lines)


async def test_a_message_survives_a_kill_between_detection_and_delivery(
    place: Place, api: Server, receiver: Server
) -> None:
    """Each target has the message exactly once when the daemon dies before it could deliver."""
    api.reply(path_of(audio_id(1)), answer(track()), answer(completed()))
    await receiver.pause()
    async with daemon(place.write(1)) as running:
        await running.logged("delivery.retry_scheduled", 3)
        running.kill()
        assert await running.ended() == -signal.SIGKILL
    await receiver.start()
    async with daemon(place.file) as running:
        await running.logged("delivery.delivered", 3)
        assert await running.stop() == 0
    async with daemon(place.file) as running:
        assert await running.stop() == 0
    paths = sorted(request.path.split("/")[1] for request in receiver.requests)
    assert paths == ["discord", "hook", "slack"]


async def test_an_attempt_under_way_at_a_kill_repeats_with_the_same_id(
    place: Place, api: Server, receiver: Server
) -> None:
    held = asyncio.Event()
    receiver.reply("/hook", Reply(status=204, delay_until=held), Reply(status=204))
    api.reply(path_of(audio_id(1)), answer(completed()))
    async with daemon(place.write(1)) as running:
        await receiver.until_count("/hook", 1)
        await running.logged("delivery.delivered", 2)
        running.kill()
        await running.ended()
    held.set()
    async with daemon(place.file) as running:
        await running.logged("delivery.delivered")
        await running.stop()
    first, second = receiver.to("/hook")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert len(receiver.requests) == 4


async def test_a_message_that_was_accepted_is_not_repeated_when_the_answer_breaks_off(
    place: Place, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(completed()))
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nok") as port:
        place.file.write_text(place.text(1).replace(receiver.url, f"http://127.0.0.1:{port}"))
        async with daemon(place.file) as running:
            await running.logged("delivery.delivered", 3)
            assert await running.stop() == 0
    async with Store(place.state, is_read_only=True) as store:
        rows = await store.deliveries()
    assert [(row.attempt_count, row.last_status) for row in rows] == [(1, 200)] * 3


async def test_sigterm_lets_an_attempt_under_way_finish(place: Place, api: Server, receiver: Server) -> None:
    held = asyncio.Event()
    receiver.reply("/hook", Reply(status=204, delay_until=held))
    api.reply(path_of(audio_id(1)), answer(completed()))
    async with daemon(place.write(1)) as running:
        await receiver.until_count("/hook", 1)
        await running.logged("delivery.delivered", 2)
        running.signal(signal.SIGTERM)
        held.set()
        assert await running.ended() == 0
    assert len(running.records("delivery.delivered")) == 3
    async with Store(place.state, is_read_only=True) as store:
        assert {row.state for row in await store.deliveries()} == {"delivered"}


async def test_a_second_sigterm_ends_at_once(place: Place, api: Server, receiver: Server) -> None:
    never = asyncio.Event()
    receiver.reply("/hook", Reply(status=204, delay_until=never))
    api.reply(path_of(audio_id(1)), answer(completed()))
    async with daemon(place.write(1), extra={"NOTIFY_SOCKET": ""}) as running:
        await receiver.until_count("/hook", 1)
        await running.logged("delivery.delivered", 2)
        running.signal(signal.SIGTERM)
        while running.process.returncode is None:
            running.signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
        assert await running.ended() == -signal.SIGTERM
    never.set()


async def test_an_invalid_watchlist_is_exit_78_with_every_mistake(place: Place) -> None:
    place.file.write_text("useapi: {}\ntargets: {a: {type: slak, url: 'https://x.y'}}\nwatch: [bad]\n")
    code, out, err = await command("run", "-c", str(place.file))
    assert code == 78
    assert out == ""
    assert err.splitlines() == [
        f"{place.file}:1:1: useapi.token: is missing",
        f"{place.file}:2:21: targets.a.type: unknown type 'slak', {A_TYPE}, did you mean 'slack'?",
        f"{place.file}:3:9: watch[0]: 'bad' is not an audio_id: expected user:ID-pixverse:EMAIL-music:NUMBER",
    ]


async def test_a_second_daemon_on_the_same_state_is_exit_75(place: Place) -> None:
    async with daemon(place.write()):
        code, _, err = await command("run", "-c", str(place.file))
    assert code == 75
    assert err == f"notifier: another notifier is running on {place.state}\n"


async def test_a_corrupt_state_file_is_exit_74(place: Place) -> None:
    place.state.write_bytes(b"not a database" * 1000)
    code, _, err = await command("run", "-c", str(place.write()))
    assert code == 74
    assert err.startswith(f"notifier: {place.state} is corrupt")
    assert "Traceback" not in err


async def test_a_state_directory_that_cannot_be_made_is_exit_74(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = await command(
        "run", "-c", str(place.write()), "--state-file", str(tmp_path / "file/state.db")
    )
    assert code == 74
    assert "is not a directory" in err


@pytest.mark.parametrize("by", ["itself", "SIGHUP"])
async def test_a_changed_watchlist_is_taken_and_an_invalid_one_changes_nothing(
    place: Place, api: Server, receiver: Server, by: str
) -> None:
    api.reply(path_of(audio_id(1)), answer(track(1)))
    api.reply(path_of(audio_id(2)), answer(completed(2)))
    async with daemon(place.write(1, more="alerts: [archive]")) as running:
        place.file.write_text(place.text(1, 2, more="alerts: [archive]\npol: {}\n"))
        if by == "SIGHUP":
            running.signal(signal.SIGHUP)
        (record,) = await running.logged("config.rejected")
        assert record["mistakes"] == [f"{place.file}:10:1: pol: unknown key 'pol', did you mean 'poll'?"]
        (alert,) = await receiver.until_count("/hook", 1)
        assert alert.json()["data"]["problem"] == "config_rejected"
        assert api.to(path_of(audio_id(2))) == []

        place.write(1, 2, more="alerts: [archive]")
        if by == "SIGHUP":
            running.signal(signal.SIGHUP)
        await running.logged("config.reloaded")
        await receiver.until(lambda: len(receiver.to("/hook")) == 3)
        over, ready = sorted(
            (request.json() for request in receiver.to("/hook")[1:]), key=lambda e: e["type"]
        )
        assert (over["data"]["problem"], over["data"]["resolved"]) == ("config_rejected", True)
        assert ready["data"]["audio_id"] == audio_id(2)
        assert await running.stop() == 0
    assert len(running.records("config.rejected")) == 1


async def test_a_reload_takes_token_labels_and_targets_for_what_comes_after(
    place: Place, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(track(1)))
    async with daemon(place.write(1)) as running:
        await api.until_count(path_of(audio_id(1)), 1)
        text = place.text(1).replace("user:1-abc", "user:1-xyz").replace("name: Track 1", "name: Renamed")
        text = text.replace("/hook", "/other-hook").replace("interval: 100ms", "interval: 60ms")
        place.file.write_text(text)
        running.signal(signal.SIGHUP)
        await running.logged("config.reloaded")
        api.reply(path_of(audio_id(1)), answer(completed(1)))
        (event,) = await receiver.until_count("/other-hook", 1)
        assert event.json()["data"]["name"] == "Renamed"
        assert await running.stop() == 0
    tokens = [request.headers["Authorization"] for request in api.requests]
    assert (tokens[0], tokens[-1]) == ("Bearer user:1-abc", "Bearer user:1-xyz")
    assert receiver.to("/hook") == []


async def test_sighup_on_the_same_invalid_file_rejects_it_again(place: Place) -> None:
    async with daemon(place.write()) as running:
        place.file.write_text("watch: [\n")
        running.signal(signal.SIGHUP)
        await running.logged("config.rejected", 1)
        running.signal(signal.SIGHUP)
        first, second = await running.logged("config.rejected", 2)
        assert first["mistakes"] == second["mistakes"]


async def test_a_removed_watch_is_polled_no_more_and_its_return_tells_nothing_twice(
    place: Place, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(completed(1)))
    api.reply(path_of(audio_id(2)), answer(track(2)))
    async with daemon(place.write(1, 2)) as running:
        await running.logged("delivery.delivered", 3)
        place.write(2)
        running.signal(signal.SIGHUP)
        await running.logged("config.reloaded", 1)
        place.write(1, 2)
        running.signal(signal.SIGHUP)
        await running.logged("config.reloaded", 2)
        seen = len(api.to(path_of(audio_id(2))))
        await api.until_count(path_of(audio_id(2)), seen + 3)
        await running.stop()
    assert len(receiver.requests) == 3
    assert len(api.to(path_of(audio_id(1)))) == 1


async def test_a_reload_leaves_the_timing_of_unchanged_watches_alone(place: Place, api: Server) -> None:
    Catalogue(api, range(1, 5)).list_replies = lambda _request: Reply(404)
    slow = {"delivery": "{}\ndefaults: {events: []}"}
    text = place.text(1, **slow).replace(
        "interval: 100ms, max_interval: 200ms", "interval: 1h, max_interval: 2h"
    )
    place.file.write_text(text)
    async with daemon(place.file) as running:
        await api.until_count(path_of(audio_id(1)), 1)
        for number in range(2, 5):
            more = "".join(f"  - '{audio_id(n)}'\n" for n in range(2, number + 1))
            place.file.write_text(text + more)
            running.signal(signal.SIGHUP)
            await running.logged("config.reloaded", number - 1)
            await api.until_count(path_of(audio_id(number)), 1)
        await running.stop()
    assert [len(api.to(path_of(audio_id(number)))) for number in range(1, 5)] == [1, 1, 1, 1]


async def test_the_service_manager_hears_of_start_reload_status_and_stop(
    place: Place, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()

        async def hear() -> dict[str, str]:
            async with asyncio.timeout(30):
                message = (await loop.sock_recv(manager, 4096)).decode()
            return dict(line.split("=", 1) for line in message.split("\n"))

        extra = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        async with daemon(place.write(), extra=extra) as running:
            ready = await hear()
            assert ready == {"READY": "1", "STATUS": "watching 0 tracks, 0 unfinished"}
            for _ in range(3):
                assert await hear() == {"WATCHDOG": "1"}
            running.signal(signal.SIGHUP)
            while (message := await hear()) == {"WATCHDOG": "1"}:
                pass
            assert message["RELOADING"] == "1"
            assert int(message["MONOTONIC_USEC"]) > 0
            while (message := await hear()) == {"WATCHDOG": "1"}:
                pass
            assert message["READY"] == "1"
            place.file.write_text("watch: [\n")
            running.signal(signal.SIGHUP)
            while "the changed watchlist is invalid" not in (await hear()).get("STATUS", ""):
                pass
            running.signal(signal.SIGTERM)
            while (await hear()).get("STOPPING") != "1":
                pass
            assert await running.ended() == 0


async def test_a_person_mends_the_outbox_while_the_daemon_runs(
    place: Place, api: Server, receiver: Server
) -> None:
    receiver.reply("/hook", Reply(422, "no"))
    receiver.reply("/slack/secret-path-of-slack", Reply(404, "no_service"))
    api.reply(path_of(audio_id(1)), answer(completed()))
    async with daemon(place.write(1)) as running:
        await running.logged("delivery.dead")
        await running.logged("target.paused")
        receiver.reply("/hook", Reply(status=204))
        receiver.reply("/slack/secret-path-of-slack", Reply(body="ok"))
        assert (await command("deliveries", "-c", str(place.file), "retry", "--dead"))[0] == 0
        assert (await command("resume", "band-room", "-c", str(place.file)))[0] == 0
        await running.logged("delivery.delivered", 3)
        await running.logged("target.resumed")
        await running.stop()


async def test_closed_standard_streams_do_not_harm_the_state_file(
    place: Place, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(completed()))
    place.write(1)
    shell = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f'exec "{sys.executable}" -m notifier run -c "{place.file}" <&- >&- 2>&-',
    )
    try:
        await receiver.until(lambda: len(receiver.requests) == 3)
        shell.terminate()
        assert await shell.wait() == 0
    finally:
        if shell.returncode is None:
            shell.kill()
            await shell.wait()
    async with Store(place.state) as store:
        assert {row.state for row in await store.deliveries()} == {"delivered"}


@pytest.mark.parametrize("by", ["reload", "restart"])
async def test_a_corrected_token_is_tried_at_once(
    place: Place, api: Server, receiver: Server, by: str
) -> None:
    def judge(request: Received) -> Reply:
        is_known = request.headers["Authorization"] == "Bearer user:1-right"
        return answer(completed()) if is_known else answer({"error": "Unauthorized"}, 401)

    api.otherwise(judge)
    text = place.text(1).replace("max_interval: 200ms", "max_interval: 2h")
    place.file.write_text(text)
    async with daemon(place.file) as running:
        await running.logged("upstream.unavailable")
        place.file.write_text(text.replace("user:1-abc", "user:1-right"))
        if by == "reload":
            running.signal(signal.SIGHUP)
            await running.logged("upstream.recovered")
            await receiver.until_count("/hook", 1)
        assert await running.stop() == 0
    if by == "restart":
        async with daemon(place.file) as running:
            await receiver.until_count("/hook", 1)
            assert await running.stop() == 0


async def test_neither_an_old_secret_nor_a_new_token_ends_where_it_does_not_belong(
    place: Place, api: Server, receiver: Server
) -> None:
    late = asyncio.Event()
    old = "/slack/secret-path-of-slack"
    receiver.reply(old, Reply(500, f"cannot POST {old}", delay_until=late))
    api.reply(path_of(audio_id(1)), answer(completed(1)))
    api.reply(path_of(audio_id(2)), answer(track(2)))
    async with serving() as other, daemon(place.write(1, 2)) as running:
        other.otherwise(lambda _request: answer(track(2)))
        await receiver.until_count(old, 1)
        text = place.text(1, 2).replace(api.url, other.url).replace("user:1-abc", "user:1-new")
        place.file.write_text(text.replace("secret-path-of-slack", "another-path"))
        running.signal(signal.SIGHUP)
        await running.logged("config.reloaded")
        late.set()
        await receiver.until_count("/slack/another-path", 1)
        await other.until_count(path_of(audio_id(2)), 2)
        assert await running.stop() == 0
    assert {request.headers["Authorization"] for request in api.requests} == {"Bearer user:1-abc"}
    assert "secret-path" not in "\n".join(running.lines)
    assert b"secret-path" not in place.state.read_bytes()


async def test_a_disk_that_fails_is_told_once_it_is_back_and_nothing_is_lost(
    place: Place, api: Server, receiver: Server
) -> None:
    held = asyncio.Event()
    ready = answer(completed())
    api.reply(path_of(audio_id(1)), Reply(ready.status, ready.body, delay_until=held))
    async with daemon(place.write(1, more="alerts: [archive]")) as running:
        disk = sqlite3.connect(place.state, isolation_level=None)
        for table in ("track", "fact", "problem"):
            disk.execute(
                f"CREATE TRIGGER {table}_full BEFORE INSERT ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
            )
        held.set()
        (failed,) = await running.logged("storage.failed")
        assert failed["error"] == f"{place.state} cannot be written: the disk is full"
        assert receiver.requests == []
        for table in ("track", "fact", "problem"):
            disk.execute(f"DROP TRIGGER {table}_full")
        disk.close()
        await running.logged("storage.recovered")
        await receiver.until(lambda: len(receiver.to("/hook")) == 3)
        assert await running.stop() == 0
    events = [request.json() for request in receiver.to("/hook")]
    assert [e["data"]["resolved"] for e in events if e["type"] == "notifier.alert"] == [False, True]
    assert len(running.records("storage.failed")) == 1


async def test_a_file_that_was_missing_for_a_moment_is_valid_again_when_it_returns(place: Place) -> None:
    async with daemon(place.write()) as running:
        away = place.file.with_suffix(".away")
        place.file.rename(away)
        running.signal(signal.SIGHUP)
        await running.logged("config.rejected")
        away.rename(place.file)
        await running.logged("config.reloaded")
        assert await running.stop() == 0


async def test_a_thread_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = """
import threading, time
from notifier.cli import service
threading.Thread(target=time.sleep, args=(600,), name=service._THREADS + "_0").start()
service._leave_stuck_threads()
raise SystemExit("it was left behind")
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=environment())
    async with asyncio.timeout(60):
        assert await process.wait() == 0
