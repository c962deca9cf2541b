"""What the unit promises, shown by a real systemd that runs it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.servers import Reply, Server, ok_receiver, serving
from tests.support.tracks import answer, audio_id, completed, path_of, track
from tests.systemd import deeds
from tests.systemd.booted import Machine
from tests.systemd.deeds import FORBIDDEN, NEEDED
from tests.systemd.service import (
    CREDENTIALS,
    ENVIRONMENT,
    PYTHON,
    SLACK_PATH,
    STATE,
    TOKEN,
    UNIT,
    WATCHLIST,
    Service,
    fields,
    installed,
    watchlist,
)

PRIORITIES = {"2": "critical", "3": "error", "4": "warning", "6": "info", "7": "debug"}

CRASHING = ("systemd-run", "--quiet", "--wait", "--property=SyslogIdentifier=crashing", "--")
CRASH = """
from notifier import log
log.configure("info", "auto")
raise RuntimeError("first line\\nsecond line")
"""

DEEDS = Path(deeds.__file__)
PROBE = "/etc/systemd/system/probe.service"

PROBING = f"""[Service]
Type=oneshot
Restart=no
SyslogIdentifier=probe
ExecStart=
ExecStart={PYTHON} /run/deeds.py
"""

NOWHERE = """
  nowhere: {type: webhook, url: "https://nowhere.example/hook"}
"""
NOBODY = "http://127.0.0.1:9"
"""An API that is not there."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with installed() as machine:
        yield machine


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """The service, stopped, as if nothing had ever been."""
    service = Service(machine)
    service.begin_anew()
    yield service
    service.ctl("stop")


@pytest.fixture
def running(machine: Machine) -> Service:
    """The service, up, with some valid watchlist; tests share it."""
    service = Service(machine)
    if service.show("ActiveState") != "active":
        service.begin_anew()
        alone(service)
        service.start()
    service.begin_journal()
    return service


@pytest.fixture
async def api(machine: Machine) -> AsyncIterator[Server]:
    async with serving(machine.listen()) as server:
        yield server


@pytest.fixture
async def receiver(machine: Machine) -> AsyncIterator[Server]:
    async with serving(machine.listen()) as server:
        server.otherwise(ok_receiver)
        yield server


def alone(service: Service, *numbers: int) -> None:
    """Write a valid watchlist and secrets for a world in which nobody answers."""
    service.credential("useapi-token", TOKEN)
    service.credential("slack-url", NOBODY + SLACK_PATH)
    service.watchlist(watchlist(*numbers, api=NOBODY))


# --- The unit


def test_systemd_finds_nothing_wrong_with_the_installed_unit(machine: Machine) -> None:
    verdict = machine.run("systemd-analyze", "verify", UNIT)
    assert (verdict.stderr, verdict.returncode) == ("", 0)


def test_the_installed_unit_is_exposed_by_at_most_one_and_a_half(machine: Machine) -> None:
    machine.done("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", UNIT)


# --- While it runs


def test_a_reload_with_mistakes_is_refused_and_the_daemon_stays_as_it_is(running: Service) -> None:
    before = running.show("MainPID")
    running.watchlist(watchlist(1, api=NOBODY).replace("type: slack", "type: slak"))
    assert running.ctl("reload").returncode != 0
    assert (running.show("ActiveState"), running.show("MainPID")) == ("active", before)
    errors = running.messages("--identifier=notifier", "--priority=err")
    assert [error for error in errors if "did you mean 'slack'?" in error], errors
    assert not running.logged("config.reloaded")

    alone(running, 3, 4)
    assert running.ctl("reload").returncode == 0
    running.wait_for("config.reloaded", watching="2")
    running.machine.until(lambda: "watching 2 tracks" in running.show("StatusText"), "the status")
    assert running.show("MainPID") == before


def test_an_edit_is_seen_inside_the_sandbox(running: Service) -> None:
    alone(running, 5, 6, 7)
    running.wait_for("config.reloaded", watching="3")


def test_a_crash_is_followed_by_a_restart(running: Service) -> None:
    before = running.show("MainPID")
    running.machine.done("systemctl", "kill", "--signal=KILL", "notifier")
    running.wait_for("daemon.started")
    assert running.show("MainPID") != before
    assert running.show("ActiveState") == "active"


# --- Start and stop


def test_a_start_is_over_when_the_daemon_is_up_and_a_reload_right_after_it_is_heard(service: Service) -> None:
    alone(service, 1, 2)
    service.start()
    assert service.ctl("reload").returncode == 0
    assert service.show("StatusText").startswith("watching 2 tracks, 2 unfinished")
    [started] = service.logged("daemon.started")
    assert started["watching"] == "2"
    service.wait_for("config.reloaded")
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")


async def test_a_stop_lets_an_attempt_under_way_finish(
    service: Service, api: Server, receiver: Server
) -> None:
    held = asyncio.Event()
    receiver.reply(SLACK_PATH, Reply(body="ok", delay_until=held))
    api.reply(path_of(audio_id(1)), answer(completed()))
    service.watch(1, api=api, receiver=receiver)
    service.start()
    await receiver.until_count(SLACK_PATH, 1)
    stopping = asyncio.create_task(asyncio.to_thread(service.stop))
    await asyncio.to_thread(
        service.machine.until, lambda: service.show("StatusText") == "stopping", "the stop"
    )
    assert service.show("ActiveState") == "deactivating"
    held.set()
    await stopping
    [delivered] = service.logged("delivery.delivered")
    assert delivered["target"] == "band-room"


# --- What a restart mends, and what not


def test_the_watchdog_restarts_a_daemon_that_stands_still(service: Service) -> None:
    service.drop_in("WatchdogSec=2s")
    alone(service)
    service.start()
    service.machine.done("systemctl", "kill", "--signal=STOP", "notifier")
    service.wait_for("daemon.started", 2)
    assert any("Watchdog timeout" in message for message in service.messages())


def test_an_invalid_watchlist_is_not_tried_again_and_its_mistakes_are_errors(service: Service) -> None:
    service.watchlist("useapi: {}\n")
    assert service.ctl("start").returncode != 0
    assert (service.show("ActiveState"), service.show("ExecMainStatus")) == ("failed", "78")
    assert service.show("NRestarts") == "0"
    errors = service.messages("--identifier=notifier", "--priority=err")
    assert [error for error in errors if error.startswith(f"{WATCHLIST}:1:1: targets: ")], errors


# --- Secrets


async def test_a_track_that_completes_is_told_with_the_secrets_of_the_credentials(
    service: Service, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(track()), answer(track()), answer(completed()))
    service.watch(1, api=api, receiver=receiver)
    service.start()
    [told] = await receiver.until_count(SLACK_PATH, 1)
    assert "Track 1 is ready" in told.json()["text"]
    assert {request.headers["Authorization"] for request in api.requests} == {f"Bearer {TOKEN}"}


def test_credentials_without_a_file_count_as_empty_and_the_daemon_says_so(service: Service) -> None:
    alone(service)
    for name in ("useapi-token", "slack-url"):
        service.machine.path(f"{CREDENTIALS}/{name}").unlink()
    assert service.ctl("start").returncode != 0
    assert service.show("ExecMainStatus") == "78"
    errors = service.messages("--identifier=notifier", "--priority=err")
    assert [error.split(": ", 1)[1] for error in errors] == [
        "useapi.token: the credential useapi-token is empty",
        "targets.band-room.url: the credential slack-url is empty",
    ]


STUDIO = """
  studio: {type: webhook, url: "${credential:studio-url}"}"""


async def wrong(service: Service) -> dict[str, str]:
    """Ask the doctor as root; return what is wrong and what to do about it."""
    asked = await asyncio.to_thread(service.machine.run, "/usr/local/bin/notifier", "doctor", "--json")
    assert asked.stderr == ""
    findings = json.loads(asked.stdout)
    found = {
        f"{one['check']} {one['subject']}": one["advice"] for one in findings if one["state"] == "failed"
    }
    assert asked.returncode == (1 if found else 0)
    assert "hunter" not in asked.stdout
    return found


async def test_the_doctor_tells_root_which_credentials_the_service_does_not_have_as_they_are(
    service: Service, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(track()))
    service.watch(1, api=api, receiver=receiver)
    await asyncio.to_thread(service.start)
    assert await wrong(service) == {}
    assert service.machine.done("find", STATE, "-not", "-user", "notifier") == ""

    service.credential("slack-url", f"{receiver.url}/slack/hunter4hunter4")
    service.credential("studio-url", f"{receiver.url}/webhook/hunter5hunter5")
    service.watchlist(watchlist(1, api=api.url, targets=STUDIO))
    restart, line = "sudo systemctl restart notifier", f"LoadCredential=studio-url:{CREDENTIALS}/studio-url"
    load = f"sudo systemctl edit notifier, with the lines [Service] and {line}; then: {restart}"
    assert await wrong(service) == {"credential slack-url": restart, "credential studio-url": load}

    service.drop_in(line)
    assert (await asyncio.to_thread(service.ctl, "restart")).returncode == 0
    assert await wrong(service) == {}
    assert [request.body for request in receiver.requests if request.body] == [], "nobody was told anything"


def test_what_the_watchlist_takes_from_the_environment_stands_in_a_file(service: Service) -> None:
    alone(service)
    service.machine.put(ENVIRONMENT, f"SLACK_URL={NOBODY}{SLACK_PATH}\n", mode=0o600)
    service.watchlist(watchlist(api=NOBODY).replace("${credential:slack-url}", "${env:SLACK_URL}"))
    service.start()
    assert service.logged("daemon.started")


# --- The state


async def test_nothing_is_told_twice_whether_the_daemon_restarts_or_crashes(
    service: Service, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(completed()))
    service.watch(1, api=api, receiver=receiver)
    service.start()
    await service.until_logged("delivery.delivered")
    await asyncio.to_thread(service.ctl, "restart")
    service.machine.done("systemctl", "kill", "--signal=KILL", "notifier")
    await service.until_logged("daemon.started", 3)
    api.reply(path_of(audio_id(2)), answer(completed(2)))
    service.watch(1, 2, api=api, receiver=receiver)
    assert (await asyncio.to_thread(service.ctl, "reload")).returncode == 0
    texts = [request.json()["text"] for request in await receiver.until_count(SLACK_PATH, 2)]
    await asyncio.to_thread(service.stop)
    assert [text.split(" is ready")[0] for text in texts] == ["✅ Track 1", "✅ Track 2"]
    assert len(receiver.requests) == 2


# --- The network


async def test_a_name_that_nobody_knows_delays_its_own_target_only(
    service: Service, api: Server, receiver: Server
) -> None:
    api.reply(path_of(audio_id(1)), answer(completed()))
    service.watch(1, api=api, receiver=receiver, targets=NOWHERE)
    service.start()
    await receiver.until_count(SLACK_PATH, 1)
    [delayed, *_] = await service.until_logged("delivery.retry_scheduled")
    assert delayed["target"] == "nowhere"
    assert service.show("ActiveState") == "active"


# --- The journal


async def test_the_journal_has_an_entry_for_each_line_with_its_priority_and_no_secret(
    service: Service, api: Server, receiver: Server
) -> None:
    receiver.reply(SLACK_PATH, Reply(status=404, body="no_service", content_type="text/plain"))
    api.reply(path_of(audio_id(1)), answer(completed(name="two\nlines", prompt="\x1b[31mred")))
    api.reply(path_of(audio_id(2)), answer({"error": f"{TOKEN} is not known", "code": 401}, 401))
    service.watch(1, 2, api=api, receiver=receiver)
    service.start()
    await service.until_logged("target.paused")
    await service.until_logged("upstream.unavailable")
    entries = service.journal("--identifier=notifier")
    assert all(str(entry["MESSAGE"]).startswith("event=") for entry in entries)
    levels = {fields(entry["MESSAGE"])["event"]: PRIORITIES[entry["PRIORITY"]] for entry in entries}
    assert levels == {
        fields(entry["MESSAGE"])["event"]: fields(entry["MESSAGE"])["level"] for entry in entries
    }
    assert levels["track.completed"] == "info"
    alarming = {
        fields(message)["event"]
        for message in service.messages("--identifier=notifier", "--priority=warning")
    }
    assert alarming == {event for event, level in levels.items() if level != "info"} >= {"target.paused"}
    assert "hunter" not in json.dumps(service.journal())


def test_a_traceback_is_one_entry(machine: Machine) -> None:
    machine.run(*CRASHING, PYTHON, "-c", CRASH)
    [entry] = machine.journal("--identifier=crashing", "--lines=1")
    assert entry["PRIORITY"] == "2"
    crash = fields(entry["MESSAGE"])
    assert crash["event"] == "daemon.crashed"
    assert crash["exception"].startswith("Traceback (most recent call last):\\n")
    assert crash["exception"].endswith("RuntimeError: first line\\nsecond line")


# --- The sandbox


@pytest.fixture(scope="module")
def outcomes(machine: Machine) -> dict[str, str]:
    """What came of each deed of `tests/systemd/deeds.py` in the service's own sandbox."""
    machine.put("/run/deeds.py", DEEDS.read_text(encoding="utf-8"))
    machine.put(PROBE, machine.path(UNIT).read_text(encoding="utf-8"))
    machine.put(f"{PROBE}.d/probe.conf", PROBING)
    service = Service(machine)
    service.credential("useapi-token", TOKEN)
    service.watchlist("")
    machine.done("systemctl", "daemon-reload")
    machine.done("systemctl", "start", "probe")
    [entry] = machine.journal("--identifier=probe")
    return dict(json.loads(entry["MESSAGE"]))


@pytest.mark.parametrize("deed", sorted(NEEDED))
def test_the_sandbox_lets_the_daemon_do_its_work(outcomes: dict[str, str], deed: str) -> None:
    assert outcomes[deed] == "done"


@pytest.mark.parametrize("deed", sorted(FORBIDDEN))
def test_the_sandbox_denies_what_the_daemon_never_does(outcomes: dict[str, str], deed: str) -> None:
    assert outcomes[deed] in {"EACCES", "EPERM", "EROFS", "ENOENT", "EAFNOSUPPORT"}
