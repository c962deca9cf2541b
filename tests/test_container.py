"""What README says of containers: the real daemon in one of the plainest kind."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.support.container import NOTIFIER, USER, WITHOUT_INPUT, Contained, Volumes, children, contained
from tests.support.machine import needs
from tests.support.servers import PATIENCE, Reply, Server, free_port, ok_receiver, serving
from tests.support.tracks import answer, audio_id, completed, path_of, track

TOKEN = "user:1-token-of-the-container"
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## In a container\n")[2].partition("\n## ")[0]
PROBE = re.search(r"python3 -c '(.*)'", SECTION)
"""What README shows as a health check."""


class Ship:
    """The container that most tests share, and the world around it."""

    def __init__(self, volumes: Volumes, api: Server, receiver: Server) -> None:
        self.volumes, self.api, self.receiver = volumes, api, receiver
        self.port = free_port()
        (volumes.secrets / "useapi-token").write_text(f"{TOKEN}\n")
        api.otherwise(lambda request: answer(track(int(request.path.rpartition(":")[2]))))
        receiver.otherwise(ok_receiver)

    @property
    def extra(self) -> dict[str, str]:
        """The environment: a secret, and what a container's own supervisor may leave in it."""
        return {"HOOK_URL": f"{self.receiver.url}/hook", "JOURNAL_STREAM": "8:12345"}

    def watch(self, *numbers: int, http: bool = True) -> None:
        listen = f'http: {{listen: "0.0.0.0:{self.port}", hosts: [notifier]}}' if http else ""
        watches = [{"audio_id": audio_id(number), "name": f"Track {number}"} for number in numbers]
        base_url = f"{self.api.url}/v2/pixverse"
        self.volumes.write(
            f"""useapi: {{token: "${{file:/run/secrets/useapi-token}}", base_url: "{base_url}"}}
poll: {{interval: 50ms, max_interval: 200ms, stalled_after: 3000d}}
targets: {{archive: {{type: webhook, url: "${{env:HOOK_URL}}"}}}}
{listen}
watch: {json.dumps(watches)}
"""
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ship]:
    async with serving() as api, serving() as receiver:
        yield Ship(Volumes(tmp_path_factory.mktemp("ship")), api, receiver)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(world: Ship) -> AsyncIterator[Contained]:
    """The daemon in its container, told all it knows by files and the environment of that."""
    world.watch(1, 2)
    world.api.reply(path_of(audio_id(1)), answer(completed()))
    async with contained(
        world.volumes, command=(*WITHOUT_INPUT, *NOTIFIER, "run"), extra=world.extra
    ) as running:
        yield running


@pytest.fixture
async def ship(tmp_path: Path, api: Server, receiver: Server) -> Ship:
    """A container of one test's own, that is not started yet."""
    return Ship(Volumes(tmp_path), api, receiver)


in_the_shared_container = pytest.mark.asyncio(loop_scope="module")


async def until_no_orphan_is_left(process: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while children(process):
            await asyncio.sleep(0.02)


@in_the_shared_container
async def test_the_daemon_is_process_1_of_nobody_with_nothing_to_write_to_but_its_state(
    running: Contained, world: Ship
) -> None:
    """That is, the container is what the other tests take it for."""
    inside = Path(f"/proc/{running.first}")
    status = dict(
        line.split(":\t", 1) for line in (inside / "status").read_text().splitlines() if "\t" in line
    )
    assert status["NSpid"].split()[-1] == "1"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
    assert (int(status["CapEff"], 16), status["Groups"].strip()) == (0, "")
    variables = {one.partition("=")[0] for one in (inside / "environ").read_text().split("\0") if one}
    assert variables - {"PWD"} == {"PATH", *world.extra}
    code, said = await running.execute("/bin/touch", "/x", "/tmp/x", "/var/tmp/x", "/etc/notifier/x", user=0)
    assert code == 1
    assert said.count("Read-only file system") + said.count("No such file or directory") == 4
    assert not (inside / "root/etc/passwd").exists()


@in_the_shared_container
async def test_a_track_is_told_and_remembered_in_the_volume(running: Contained, world: Ship) -> None:
    await running.logged("delivery.delivered")
    assert [request.json()["data"]["name"] for request in world.receiver.to("/hook")][:1] == ["Track 1"]
    assert {file.stat().st_uid for file in world.volumes.state.iterdir()} == {USER}
    assert (world.volumes.state / "state.db").stat().st_mode & 0o777 == 0o600
    assert world.api.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


@in_the_shared_container
async def test_every_line_on_stderr_is_a_json_object_with_a_time(running: Contained) -> None:
    """The warnings of the watchlist as well: it listens to other machines."""
    await running.logged("delivery.delivered")
    records = [json.loads(line) for line in running.lines]
    assert {"config.warning", "daemon.started", "track.completed"} <= {one["event"] for one in records}
    for record in records:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["timestamp"])
    assert TOKEN not in "\n".join(running.lines)
    assert "/hook" not in "\n".join(running.lines)


@in_the_shared_container
@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("10.42.0.7", 200), ("localhost", 200), ("notifier", 200), ("other", 403)],
)
async def test_health_is_told_by_any_address_and_by_the_names_in_hosts(
    running: Contained, world: Ship, host: str, status: int
) -> None:
    url = f"http://127.0.0.1:{world.port}/healthz"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Host": f"{host}:{world.port}"}) as found,
    ):
        assert found.status == status, running.lines


@in_the_shared_container
async def test_the_health_check_of_the_readme_works_inside(running: Contained, world: Ship) -> None:
    assert PROBE is not None
    probe = PROBE[1].replace("8720", str(world.port))
    assert probe != PROBE[1]
    assert await running.execute(sys.executable, "-c", probe) == (0, "")
    code, _ = await running.execute(sys.executable, "-c", probe.replace("healthz", "nowhere"))
    assert code == 1


@in_the_shared_container
async def test_commands_work_inside_without_home_and_terminal(running: Contained) -> None:
    await running.logged("delivery.delivered")
    code, said = await running.execute(*NOTIFIER, "status", "--json")
    status = json.loads(said)
    assert (code, status["running"], status["config"]["valid"]) == (0, True, True)
    assert status["deliveries"]["delivered"] >= 1


@in_the_shared_container
async def test_sighup_to_process_1_reads_the_mounted_watchlist_again(running: Contained, world: Ship) -> None:
    before = len(running.records("config.reloaded"))
    world.watch(1, 2, 3)
    running.reload()
    reloaded = await running.logged("config.reloaded", before + 1)
    assert reloaded[before]["watching"] == 3
    await world.api.until_count(path_of(audio_id(3)), 1)


@in_the_shared_container
async def test_what_a_probe_leaves_behind_is_cleared_away_when_it_ends(running: Contained) -> None:
    code, said = await running.execute(
        "/bin/sh", "-c", "(exec sleep 1000 >/dev/null 2>&1) & (exec sleep 1000 >/dev/null 2>&1) &"
    )
    assert (code, said) == (0, "")
    orphans = children(running.first)
    assert len(orphans) == 2
    for orphan in orphans:
        os.kill(orphan, signal.SIGTERM)
    await until_no_orphan_is_left(running.first)


@in_the_shared_container
async def test_a_second_replica_on_the_same_volume_is_refused(running: Contained, world: Ship) -> None:
    async with contained(world.volumes, extra=world.extra, is_up=False) as second:
        assert await second.ended() == 75
    assert "another notifier is running on /var/lib/notifier/state.db" in "\n".join(second.lines)
    assert running.process.returncode is None


@in_the_shared_container
async def test_sqlite_needs_no_other_place_for_what_is_large_and_passing(running: Contained) -> None:
    """It would sort and roll back by files in /tmp, or in the working directory."""
    await running.logged("delivery.delivered")
    work = f"""
from pathlib import Path
from notifier.store.database import open_database, open_for_reading
for connect in (open_database, open_for_reading):
    rows = connect(Path("/var/lib/notifier/state.db")).execute({SORT!r}).fetchall()
    print(len(rows), rows == sorted(rows))
"""
    assert await running.execute(sys.executable, "-c", work) == (0, "9000 True\n9000 True\n")


SORT = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
SELECT randomblob(1000) AS b FROM n ORDER BY b"""


@pytest.mark.parametrize("init", [(), ("/usr/bin/tini", "--")], ids=["process 1", "under an init"])
async def test_sigterm_ends_it_with_0_after_the_attempt_under_way(ship: Ship, init: tuple[str, ...]) -> None:
    if init:
        needs(init[0])
    held = asyncio.Event()
    ship.receiver.reply("/hook", Reply(status=204, delay_until=held))
    ship.api.reply(path_of(audio_id(1)), answer(completed()))
    ship.watch(1, http=False)
    async with contained(ship.volumes, init=init, extra=ship.extra) as running:
        await ship.receiver.until_count("/hook", 1)
        running.signal(signal.SIGTERM)
        held.set()
        assert await running.ended() == 0
    assert [one["event"] for one in running.records()][-2:] == ["delivery.delivered", "daemon.stopped"]


async def test_a_second_sigterm_ends_process_1_at_once(ship: Ship) -> None:
    """The kernel gives process 1 no signal that it does not handle, so that it has to end itself."""
    ship.receiver.reply("/hook", Reply(status=204, delay_until=asyncio.Event()))
    ship.api.reply(path_of(audio_id(1)), answer(completed()))
    ship.watch(1, http=False)
    async with contained(ship.volumes, extra=ship.extra) as running:
        await ship.receiver.until_count("/hook", 1)
        while running.process.returncode is None and (first := children(running.process.pid)):
            os.kill(first[0], signal.SIGTERM)
            await asyncio.sleep(0.05)
        assert await running.ended() == 128 + signal.SIGTERM
    assert running.records("daemon.stopped") == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.support.container import Volumes, contained

async def main():
    command = ("/bin/sh", "-c", "echo up >&2; exec sleep 1000")
    async with contained(Volumes(Path(sys.argv[1])), command=command, is_up=False) as running:
        await running.until(lambda: running.lines == ["up"])
        print(running.first, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_container_dies_with_the_process_that_ran_it(tmp_path: Path) -> None:
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    async with asyncio.timeout(PATIENCE):
        while Path(f"/proc/{int(out)}").exists():
            await asyncio.sleep(0.02)
