"""The notifier as a service of a booted machine, with a watchlist, secrets and a state of the test's own."""

import asyncio
import contextlib
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tests.support.machine import lacking
from tests.support.servers import Server
from tests.support.tracks import audio_id
from tests.systemd.booted import Machine, Record, booted

ROOT = Path(__file__).parents[2]
UNIT = "/etc/systemd/system/notifier.service"
DROP_INS = f"{UNIT}.d"
WATCHLIST = "/etc/notifier/watchlist.yaml"
ENVIRONMENT = "/etc/notifier/environment"
CREDENTIALS = "/etc/notifier/credentials"
STATE = "/var/lib/notifier"
CURRENT = "/opt/notifier/current"
PYTHON = f"{CURRENT}/bin/python"
SYSTEMS_PYTHON = "/usr/bin/python3"

TOKEN = "user:1-hunter2hunter2"
SLACK_PATH = "/slack/hunter3hunter3"

COMMAND = f"""#!{PYTHON}
import sys
from notifier.__main__ import main
sys.exit(main())
"""


@contextlib.contextmanager
def installed() -> Iterator[Machine]:
    """Boot a machine that has the checkout's unit, and as its program the checkout itself.

    Its Python is the system's own, as the sandbox demands; the packages are those that the tests run with.
    """
    packages, source = "/opt/notifier/packages", "/opt/notifier/source"
    with booted(read_only={packages: Path(sysconfig.get_path("purelib"))}) as machine:
        _demand_same_python(machine)
        shutil.copytree(ROOT / "notifier", machine.path(f"{source}/notifier"))
        machine.done(SYSTEMS_PYTHON, "-m", "compileall", "-q", source)
        machine.done(SYSTEMS_PYTHON, "-m", "venv", "--without-pip", CURRENT)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        machine.put(f"{CURRENT}/lib/{version}/site-packages/notifier.pth", f"{source}\n{packages}\n")
        machine.put(f"{CURRENT}/bin/notifier", COMMAND, mode=0o755)
        machine.path("/usr/local/bin/notifier").symlink_to(f"{CURRENT}/bin/notifier")
        machine.put(UNIT, (ROOT / "systemd" / "notifier.service").read_text(encoding="utf-8"))
        account = (ROOT / "systemd" / "notifier.sysusers.conf").read_text(encoding="utf-8")
        machine.put("/etc/sysusers.d/notifier.conf", account)
        machine.done("systemd-sysusers")
        yield machine


def _demand_same_python(machine: Machine) -> None:
    """Packages that were compiled for one Python are of no use to another."""
    version = machine.run(SYSTEMS_PYTHON, "-c", "import sys; print(*sys.version_info[:2])").stdout.split()
    if version != [str(part) for part in sys.version_info[:2]]:
        lacking(f"{SYSTEMS_PYTHON} is {'.'.join(version) or 'not there'}, and the tests run with another")


class Service:
    """``notifier.service`` in a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._since: list[str] = []

    def begin_anew(self) -> None:
        """Leave nothing of what was: no process, no state, no drop-in, and the journal begins here."""
        self.machine.run("systemctl", "stop", "notifier")
        self.machine.run("systemctl", "reset-failed", "notifier")
        for directory in (STATE, DROP_INS, CREDENTIALS):
            shutil.rmtree(self.machine.path(directory), ignore_errors=True)
        self.machine.path(ENVIRONMENT).unlink(missing_ok=True)
        self.drop_in("RestartSec=100ms")
        self.begin_journal()

    def begin_journal(self) -> None:
        """Let the journal begin here."""
        self.machine.done("systemd-cat", "--identifier=test", "echo", "begin")
        [mark] = self.machine.journal("--identifier=test", "--lines=1")
        self._since = [f"--cursor={mark['__CURSOR']}"]

    def drop_in(self, *settings: str) -> None:
        """Add settings to the unit, or change some."""
        name = f"{len([*self.machine.path(DROP_INS).glob('*.conf')])}.conf"
        self.machine.put(f"{DROP_INS}/{name}", "\n".join(["[Service]", *settings, ""]))
        self.machine.done("systemctl", "daemon-reload")

    def credential(self, name: str, value: str) -> None:
        """Write a secret as the README says."""
        self.machine.put(f"{CREDENTIALS}/{name}", f"{value}\n", mode=0o600)
        self.machine.path(CREDENTIALS).chmod(0o700)

    def watchlist(self, text: str) -> None:
        """Replace the watchlist in one go, as most editors do."""
        self.machine.put(f"{WATCHLIST}.new", text, mode=0o640)
        self.machine.done("chgrp", "notifier", f"{WATCHLIST}.new")
        self.machine.path(f"{WATCHLIST}.new").replace(self.machine.path(WATCHLIST))

    def watch(self, *numbers: int, api: Server, receiver: Server, targets: str = "") -> None:
        """Write secrets and a watchlist that names them."""
        self.credential("useapi-token", TOKEN)
        self.credential("slack-url", receiver.url + SLACK_PATH)
        self.watchlist(watchlist(*numbers, api=api.url, targets=targets))

    def ctl(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Let systemctl do something with the service."""
        return self.machine.run("systemctl", verb, *options, "notifier")

    def start(self) -> None:
        """Start the service, which must succeed."""
        started = self.ctl("start")
        assert started.returncode == 0, "\n".join(self.messages())

    def stop(self) -> None:
        """Stop the service, which must succeed."""
        assert self.ctl("stop").returncode == 0
        assert (self.show("Result"), self.show("ExecMainStatus")) == ("success", "0")

    def show(self, name: str) -> str:
        """Return a property."""
        return self.machine.show("notifier", name)

    def journal(self, *options: str) -> list[Record]:
        """Return what the journal has of the service, in this test."""
        return self.machine.journal("--unit=notifier", *self._since, *options)

    def messages(self, *options: str) -> list[str]:
        """Return the texts of the journal."""
        return [str(entry["MESSAGE"]) for entry in self.journal(*options)]

    def logged(self, event: str) -> list[dict[str, str]]:
        """Return the events of that name, each with its keys."""
        events = [fields(message) for message in self.messages("--identifier=notifier")]
        return [one for one in events if one.get("event") == event]

    def wait_for(self, event: str, count: int = 1, **keys: str) -> list[dict[str, str]]:
        """Wait until an event, with these keys if any are given, was logged so often."""
        wanted = {"event": event, **keys}
        found: list[dict[str, str]] = []
        for entry in self.machine.follow("--unit=notifier", "--identifier=notifier", *self._since):
            found += [one for one in [fields(str(entry["MESSAGE"]))] if wanted.items() <= one.items()]
            if len(found) == count:
                return found
        raise AssertionError(f"{wanted} was not logged:\n" + "\n".join(self.messages()))

    async def until_logged(self, event: str, count: int = 1) -> list[dict[str, str]]:
        """Wait so while servers of ours answer the machine."""
        return await asyncio.to_thread(self.wait_for, event, count)


def watchlist(*numbers: int, api: str, targets: str = "") -> str:
    """Return a watchlist with a Slack channel whose address is a credential."""
    watches = "".join(f"\n  - {{audio_id: '{audio_id(number)}', name: Track {number}}}" for number in numbers)
    return f"""useapi:
  token: ${{credential:useapi-token}}
  base_url: {api}/v2/pixverse
  rate: 500/s
poll: {{interval: 100ms, max_interval: 200ms, stalled_after: 3000d}}
delivery: {{first_retry: 100ms}}
targets:
  band-room:
    type: slack
    url: ${{credential:slack-url}}{targets}
watch:{watches or " []"}
"""


def fields(line: str) -> dict[str, str]:
    """Split a line of logfmt."""
    try:
        words = shlex.split(line)
    except ValueError:
        return {}
    return dict(word.partition("=")[::2] for word in words)
