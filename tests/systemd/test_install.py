"""``systemd/install.sh`` on a booted machine: install, upgrade, go back, remove."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from notifier import __version__
from notifier.store.database import STEPS
from tests.support.machine import needs
from tests.support.tracks import audio_id, completed, track
from tests.support.wheels import ROOT, build, pack_what_is_needed
from tests.systemd.booted import ENVIRONMENT, Machine, booted

pytestmark = pytest.mark.timeout(300)

NEXT = "99.0.0"
WATCHLIST = "/etc/notifier/watchlist.yaml"
CREDENTIALS = "/etc/notifier/credentials"
VARIABLES = "/etc/notifier/environment"
INSTALLER = "/mnt/checkout/systemd/install.sh"
TO_NEXT = ("--wheel", f"/mnt/wheels/pixverse_notifier-{NEXT}-py3-none-any.whl")
NUMBER = "/run/number"
NUMBERED = ("sh", "-c", f'echo $$ >{NUMBER}; exec "$@"', "sh")
"""What runs a command and notes the number of its process."""
STATE = "/var/lib/notifier"
CURRENT = "/opt/notifier/current"
FOREIGN = "/usr/local/share/fish/vendor_completions.d/notifier.fish"
EXTRAS = {
    "man/man1/notifier.1": ".TH NOTIFIER 1 ",
    "bash-completion/completions/notifier": "# bash completion for notifier",
    "zsh/site-functions/_notifier": "#compdef notifier",
}
TOKEN = "user:1-token-of-the-installer"
AFTER = {
    "stop": [("status",), ("resume", "hook")],
    "kill": [("status",), ("deliveries", "show", "1"), ("resume", "hook"), ("doctor",)],
}
"""What root asks once the daemon has ended in one way or the other."""


class World:
    """The API and a webhook, at the machine's loopback. Track 2 is ready once the next release has asked."""

    def __init__(self, machine: Machine) -> None:
        self.told: list[str] = []
        self.is_ready = False
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                number = int(self.path.rpartition(":")[2])
                world.is_ready |= NEXT in self.headers["User-Agent"]
                is_ready = number == 1 or world.is_ready
                self.answer(json.dumps(completed(number) if is_ready else track(number)).encode())

            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                world.told.append(event["data"]["name"])
                self.answer(b"{}")

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = machine.listen()
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Place:
    """The machine with what an operator does there."""

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine, self.world = machine, world

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the installer of the checkout, which is the earlier release."""
        return subprocess.run(
            self.installer(*options),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env=ENVIRONMENT,
        )

    def installer(self, *options: str) -> list[str]:
        """Return the command that does so."""
        return [*self.machine.inside, *NUMBERED, INSTALLER, "--find-links", "/mnt/wheels", *options]

    def upgrade(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run it for the next release."""
        return self.install(*TO_NEXT, *options)

    def remove(self, *options: str) -> str:
        return self.machine.done(INSTALLER, "--uninstall", *options)

    def put_something_foreign(self) -> None:
        """Write somebody else's file where the installer may have a link of its own."""
        self.machine.path(FOREIGN).unlink(missing_ok=True)
        self.machine.put(FOREIGN, "# somebody else's\n")

    def complete(self) -> None:
        """Put in what a fresh installation lacks, as README says."""
        self.machine.put(f"{CREDENTIALS}/useapi-token", f"{TOKEN}\n", mode=0o600)
        self.watch(1, 2)

    def watch(self, *numbers: int, mistake: str = "") -> None:
        watches = [{"audio_id": audio_id(number), "name": f"Track {number}"} for number in numbers]
        self.machine.put(
            WATCHLIST,
            f"""useapi: {{token: "${{credential:useapi-token}}", base_url: "{self.world.url}/v2/pixverse"}}
poll: {{interval: 100ms, max_interval: 200ms, stalled_after: 3000d}}
targets: {{hook: {{type: webhook, url: "{self.world.url}/hook"}}}}
{mistake}
watch: {json.dumps(watches)}
""",
            mode=0o640,
        )
        self.machine.done("chgrp", "notifier", WATCHLIST)

    def ensure_it_runs(self) -> None:
        """Bring the machine to where the checkout's release runs and has told of the first track."""
        if self.release() != __version__:
            self.remove("--purge")
            self.world.told.clear()
            self.world.is_ready = False
            ended = self.install()
            assert ended.returncode == 0, ended.stderr
        self.complete()
        if not self.is_running():
            ended = self.install()
            assert ended.returncode == 0, ended.stderr
        self.machine.until(lambda: self.world.told, "a message")

    def release(self) -> str:
        """Return the version of the release in use."""
        return self.machine.run("readlink", CURRENT).stdout.strip().removeprefix("releases/")

    def is_running(self) -> bool:
        return self.machine.run("systemctl", "is-active", "notifier").stdout.strip() == "active"

    def pid(self) -> str:
        return self.machine.show("notifier", "MainPID")

    def owners(self) -> dict[str, str]:
        """Return whose the files beside the state file are."""
        lines = self.machine.done("find", STATE, "-mindepth", "1", "-printf", "%f %u %m\n").splitlines()
        return {name: f"{owner} {mode}" for name, owner, mode in map(str.split, lines)}

    def picture(self) -> list[str]:
        """Return all that the installer might touch, with the times of the last changes."""
        found = self.machine.done(
            *("find", "/opt/notifier", "/etc", "/usr/local", STATE),
            *("-not", "-name", "state.db*", "-printf", "%p %y %m %u %g %T@ %s %l\n"),
        )
        return sorted(found.splitlines())

    def state(self) -> tuple[int, dict[str, str]]:
        """Return the version of the state file and how the deliveries stand, by track."""
        copy = self.machine.done("/usr/bin/python3", "-I", "-c", READ_STATE, f"{STATE}/state.db")
        version, deliveries = json.loads(copy)
        return version, deliveries


READ_STATE = """
import json, sqlite3, sys
state = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
deliveries = state.execute("SELECT name, state FROM delivery JOIN event ON event.id = event_id")
print(json.dumps([state.execute("PRAGMA user_version").fetchone()[0], dict(deliveries)]))
"""


def be_the_next_release(package: Path) -> None:
    """Take the state file to a further version, and fail where the environment says so."""
    (package / "store" / "schema-next.sql").write_text("ALTER TABLE delivery ADD COLUMN channel TEXT;\n")
    replace(package / "store" / "database.py", '.sql")\n)\n', '.sql", "schema-next.sql")\n)\n')
    replace(
        package / "app.py",
        "        self._handle_signals()\n",
        "        import os\n"
        '        if os.environ.get("BROKEN") == "early":\n'
        '            raise RuntimeError("broken early")\n'
        "        self._handle_signals()\n",
    )
    replace(
        package / "app.py",
        "            self._say_started()\n",
        "            async def break_once_told(when):\n"
        '                while os.environ.get("BROKEN") == when:\n'
        "                    if sum(one.delivered for one in (await self.store.backlogs()).values()) == 2:\n"
        '                        raise RuntimeError(f"broken {when}")\n'
        "                    await asyncio.sleep(0.02)\n"
        '            while os.environ.get("BROKEN") == "hang" and not self._stop.is_set():\n'
        "                await asyncio.sleep(0.1)\n"
        '            await break_once_told("late")\n'
        "            self._say_started()\n"
        '            await break_once_told("soon")\n',
    )


def replace(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, file
    file.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    wheels = tmp_path_factory.mktemp("wheels")
    pack_what_is_needed(wheels)
    build(wheels, NEXT, change=be_the_next_release)
    with booted(read_only={"/mnt/checkout": ROOT, "/mnt/wheels": wheels}) as machine:
        yield Place(machine, World(machine))


def test_a_first_installation_is_complete_but_for_what_a_person_has_to_say(place: Place) -> None:
    needs("zsh")
    needs("fish")
    machine = place.machine
    place.remove("--purge")
    place.put_something_foreign()
    ended = place.install()
    assert ended.returncode == 0, ended.stderr
    assert f"Installed notifier {__version__}. It is not started" in ended.stdout
    assert f"{WATCHLIST}:20:10: useapi.token: the credential useapi-token is empty" in ended.stdout
    assert f"left {FOREIGN} alone" in ended.stdout
    assert (place.release(), place.is_running()) == (__version__, False)
    assert machine.done("notifier", "--version") == f"notifier, version {__version__}\n"
    about = machine.done(
        "stat", "-c", "%n %a %U:%G", "/etc/notifier", WATCHLIST, CREDENTIALS, "/opt/notifier"
    )
    assert about.splitlines() == [
        "/etc/notifier 755 root:root",
        f"{WATCHLIST} 640 root:notifier",
        f"{CREDENTIALS} 700 root:root",
        "/opt/notifier 755 root:root",
    ]
    assert machine.done("getent", "passwd", "notifier").split(":")[5:] == [STATE, "/usr/sbin/nologin\n"]
    for name, beginning in EXTRAS.items():
        assert machine.done("cat", f"/usr/local/share/{name}").startswith(beginning)
    assert machine.done("cat", FOREIGN) == "# somebody else's\n"
    schema = machine.done("cat", "/etc/notifier/watchlist.schema.json")
    assert schema == (ROOT / "config" / "watchlist.schema.json").read_text(encoding="utf-8")
    machine.done("notifier", "status")
    assert machine.run("ls", STATE).stdout == ""


def test_run_again_once_all_is_there_it_starts_the_service_and_keeps_the_watchlist(place: Place) -> None:
    if place.release() != __version__:
        place.install()
    place.machine.run("systemctl", "stop", "notifier")
    place.complete()
    before = place.machine.done("cat", WATCHLIST)
    ended = place.install()
    assert ended.returncode == 0, ended.stderr
    assert f"notifier {__version__} is running" in ended.stdout
    assert place.is_running()
    assert place.machine.done("systemctl", "is-enabled", "notifier") == "enabled\n"
    assert place.machine.done("cat", WATCHLIST) == before
    place.machine.until(lambda: place.world.told == ["Track 1"], "the message")
    assert set(place.owners().values()) == {"notifier 600"}
    assert "state.db.before" not in place.owners()


def test_run_once_more_it_changes_nothing_and_restarts_nothing(place: Place) -> None:
    place.ensure_it_runs()
    before = place.picture(), place.pid()
    ended = place.install()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith(f"notifier {__version__} is running already\n")
    assert (place.picture(), place.pid()) == before


@pytest.mark.parametrize("end", AFTER)
def test_what_root_looks_at_or_mends_stays_the_daemons_own(place: Place, end: str) -> None:
    """After a kill the log is still there, and SQLite makes files to read it."""
    place.ensure_it_runs()
    machine = place.machine
    if end == "kill":
        machine.done("systemctl", "kill", "--signal=KILL", "--kill-who=main", "notifier")
        machine.until(lambda: machine.show("notifier", "SubState") != "running", "the end")
    machine.done("systemctl", "stop", "notifier")
    assert ("state.db-wal" in place.owners()) == (end == "kill")
    for command in AFTER[end]:
        ended = machine.run("notifier", *command)
        assert "Traceback" not in ended.stderr
        assert command == ("doctor",) or ended.returncode == 0, ended.stderr
    assert {owner.split()[0] for owner in place.owners().values()} == {"notifier"}
    machine.done("systemctl", "start", "notifier")
    assert place.is_running()
    assert place.world.told.count("Track 1") == 1


def test_an_upgrade_that_does_not_accept_the_watchlist_leaves_alone_what_runs(place: Place) -> None:
    place.ensure_it_runs()
    pid = place.pid()
    place.watch(1, 2, mistake="retires: 3")
    ended = place.upgrade()
    assert ended.returncode == 1
    assert f"{WATCHLIST}:4:1: retires: unknown key 'retires'" in ended.stderr
    assert "the running service was not touched" in ended.stderr
    assert (place.pid(), place.release()) == (pid, __version__)
    place.watch(1, 2)


def test_an_upgrade_names_the_file_of_a_credential_that_systemd_would_miss(place: Place) -> None:
    place.ensure_it_runs()
    pid, drop_in = place.pid(), "/etc/systemd/system/notifier.service.d/studio.conf"
    place.machine.put(drop_in, f"[Service]\nLoadCredential=studio-url:{CREDENTIALS}/studio-url\n")
    ended = place.upgrade()
    place.machine.done("rm", drop_in)
    missing, not_touched = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert missing.startswith(f"there is no file {CREDENTIALS}/studio-url")
    assert not_touched.endswith("the running service was not touched")
    assert (place.pid(), place.release()) == (pid, __version__)


@pytest.mark.parametrize(
    ("when", "what"),
    [
        ("early", "does not start"),
        ("late", "does not start"),
        ("soon", "starts, but does not stay up"),
    ],
)
def test_a_release_that_fails_at_its_start_gives_way_to_the_earlier_one_with_its_state(
    place: Place, when: str, what: str
) -> None:
    """The later ones have taken the state file to their version and have told of a track before they fail."""
    place.ensure_it_runs()
    pid, told = place.pid(), [*place.world.told]
    place.machine.put(VARIABLES, f"BROKEN={when}\n")
    ended = place.upgrade()
    assert ended.returncode == 1
    assert f"broken {when}" in ended.stderr
    assert f"notifier {NEXT} {what}\n" in ended.stderr
    assert ended.stderr.endswith("the earlier release is back and runs\n")
    assert (place.release(), place.is_running()) == (__version__, True)
    assert place.pid() != pid
    if when != "early":
        told = ["Track 1", "Track 2"]
        assert "knows what was told since then\n" in ended.stderr
    assert place.state() == (len(STEPS), dict.fromkeys(told, "delivered"))
    assert place.world.told == told
    assert "state.db.before" not in place.owners()
    assert {owner.split()[0] for owner in place.owners().values()} == {"notifier"}


@pytest.mark.parametrize("is_read", [True, False], ids=["read along", "its reader cut short as well"])
def test_to_cut_an_upgrade_short_brings_back_the_earlier_release(place: Place, is_read: bool) -> None:
    """The next one has taken the state file further by then, and would not have come up for a long time."""
    place.ensure_it_runs()
    place.machine.put(VARIABLES, "BROKEN=hang\n")
    with subprocess.Popen(
        place.installer(*TO_NEXT),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as upgrade:
        while place.state()[0] == len(STEPS) and upgrade.poll() is None:
            time.sleep(0.1)
        number = place.machine.done("cat", NUMBER).strip()
        second = place.install()
        assert upgrade.stderr is not None
        if not is_read:
            upgrade.stderr.close()
        place.machine.done("kill", number)
        said = upgrade.stderr.read() if is_read else ""
        assert upgrade.wait(240) != 0
    assert (second.returncode, second.stderr) == (1, "install.sh: it is running already\n")
    assert not is_read or said.endswith("the earlier release is back and runs\n")
    assert (place.release(), place.is_running()) == (__version__, True)
    assert place.state()[0] == len(STEPS)


def test_the_way_back_leads_to_what_ran_even_if_the_link_was_switched_before(place: Place) -> None:
    place.ensure_it_runs()
    pid = place.pid()
    assert place.upgrade("--no-start").returncode == 0
    assert (place.release(), place.pid()) == (NEXT, pid)
    place.machine.put(VARIABLES, "BROKEN=early\n")
    ended = place.upgrade()
    assert ended.returncode == 1
    assert ended.stderr.endswith("the earlier release is back and runs\n")
    assert (place.release(), place.is_running()) == (__version__, True)


def test_an_upgrade_takes_over_state_and_command_and_tells_nothing_twice(place: Place) -> None:
    place.ensure_it_runs()
    place.machine.put(VARIABLES, "BROKEN=no\n")
    ended = place.upgrade()
    assert ended.returncode == 0, ended.stderr
    assert (place.release(), place.is_running()) == (NEXT, True)
    assert place.machine.done("notifier", "--version") == f"notifier, version {NEXT}\n"
    place.machine.until(lambda: "Track 2" in place.world.told, "the second message")
    assert sorted(place.world.told) == ["Track 1", "Track 2"]
    assert place.machine.done("ls", "/opt/notifier/releases").split() == [__version__, NEXT]
    assert "state.db.before" not in place.owners()


def test_to_remove_it_leaves_what_a_person_wrote_and_what_was_told(place: Place) -> None:
    if not place.is_running():
        place.ensure_it_runs()
    place.put_something_foreign()
    said = place.remove()
    assert said == "removed; /etc/notifier and /var/lib/notifier are still there (--purge removes them too)\n"
    assert place.machine.run("systemctl", "status", "notifier").returncode == 4
    left = place.machine.done("find", "/etc", "/opt", "/usr/local", "/var/lib", "-name", "*notifier*").split()
    assert sorted(left) == ["/etc/notifier", "/etc/sysusers.d/notifier.conf", FOREIGN, "/var/lib/notifier"]
    assert place.machine.done("cat", f"{CREDENTIALS}/useapi-token") == f"{TOKEN}\n"
    assert "state.db" in place.owners()
    assert place.remove() == said


def test_to_purge_it_leaves_nothing(place: Place) -> None:
    if place.machine.run("ls", STATE).returncode:
        place.ensure_it_runs()
    place.put_something_foreign()
    assert place.remove("--purge") == "removed, with watchlist, secrets and state\n"
    left = place.machine.done("find", "/etc", "/opt", "/usr/local", "/var/lib", "-name", "*notifier*").split()
    assert left == [FOREIGN]
    assert place.machine.run("getent", "passwd", "notifier").returncode == 2
    assert place.machine.run("getent", "group", "notifier").returncode == 2
    place.machine.done("rm", FOREIGN)


def test_a_first_installation_that_does_not_start_has_the_command_to_find_out_why(place: Place) -> None:
    place.remove("--purge")
    place.install()
    place.complete()
    place.machine.put(VARIABLES, "BROKEN=early\n")
    place.remove()
    ended = place.upgrade()
    assert ended.returncode == 1
    assert ended.stderr.endswith("installed, but not started: mend it and run this script again\n")
    assert (place.release(), place.is_running()) == (NEXT, False)
    assert place.machine.done("notifier", "--version") == f"notifier, version {NEXT}\n"
    place.remove("--purge")
