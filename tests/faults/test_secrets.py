"""Secrets stay secret: everything is run with marked ones, and then looked through for the mark."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from notifier.cli import main
from tests.support.echo import MANNERS, Echo, Manner, echoing
from tests.support.process import Daemon, command, daemon, environment
from tests.support.scenes import ACCEPTED
from tests.support.servers import Reply, Server, free_port, serving
from tests.support.tracks import MUSIC, audio_id, completed

MARK = "zQ9secret"
"""Part of every secret here. Letters and digits are written the same in every encoding but base64."""
TYPES = ("slack", "discord", "mattermost", "webhook")
TOKEN = f"user:777-{MARK}-To/ken=&1"
OLD_KEY = f"whsec_{MARK}OLD{'A' * 32}"
NEW_KEY = f"whsec_{MARK}NEW/{'B+' * 15}B"
HEADER = f'{MARK}-"header"/<value>&1'
CALLBACK = f"/{MARK}callback/useapi/{MARK}-0123456789"
ALERT_TARGET = "webhook-alerts"


def marks() -> list[bytes]:
    """Return the mark as it can be found: as it is, and as base64 has it wherever it begins."""
    found = [MARK.lower().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + MARK.encode())
        found.append(encoded[4 if shift else 0 : len(encoded) - 4].lower())
    return found


def assert_unmarked(where: str, content: str | bytes) -> None:
    """Fail where the mark is found, with what stands around it."""
    data = (content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")).lower()
    for mark in marks():
        at = data.find(mark)
        assert at < 0, f"{where}: …{data[max(0, at - 200) : at + 60]!r}…"


def url_of(kind: str, number: int) -> str:
    """Return the secret part of a webhook's URL, with all that URLs can hold in it."""
    path = f"/{kind}/T0001/{MARK}{kind}{number:02}/{MARK}-%2F_b~.{number:02}"
    return f"{path}?key={MARK}%3D{number:02}&x=a+b"


class Stage:
    """A watchlist of targets of every type, each of which is answered in another manner."""

    def __init__(self, directory: Path, api: Echo, receivers: Echo, trap: Server) -> None:
        self.directory = directory
        self.file, self.state = directory / "watchlist.yaml", directory / "state" / "state.db"
        self.api, self.receivers, self.trap = api, receivers, trap
        self.credentials = directory / "credentials"
        self.credentials.mkdir(mode=0o700)
        self.environment = {
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "HEADER": HEADER,
            "NEW_KEY": NEW_KEY,
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), trap.url),
            "NETRC": str(directory / "netrc"),
            "HOME": str(directory),
        }
        for name in ("netrc", ".netrc"):
            (directory / name).write_text(f"machine 127.0.0.1 login {MARK} password {MARK}netrc\n")
            (directory / name).chmod(0o600)
        self.token_file = directory / "token"
        self.token_file.write_text(TOKEN + "\n")
        self.port, self.callback_port = free_port(), free_port()
        self.targets: dict[str, dict[str, object]] = {}
        for kind in TYPES:
            for number in range(len(MANNERS)):
                self._target(kind, number)

    def _target(self, kind: str, number: int) -> None:
        url = f"{self.receivers.url}{url_of(kind, number)}"
        target: dict[str, object] = {"type": kind}
        if kind == "webhook":
            target |= {"secret": ["${env:NEW_KEY}", OLD_KEY], "headers": {"X-Key": "${env:HEADER}"}}
            url = url.replace("http://", f"http://{MARK}user{number:02}:{MARK}pass%2F{number:02}@")
        match number % 3:
            case 0:
                name = f"{kind}-{number}"
                (self.credentials / name).write_text(url)
                target["url"] = f"${{credential:{name}}}"
            case 1:
                self.environment[f"URL_{kind}_{number}"] = url
                target["url"] = f"${{env:URL_{kind}_{number}}}"
            case _:
                target["url"] = url
        self.targets[f"{kind}-{number:02}"] = target

    def add_failures(self, silent: int, plain: int) -> None:
        """Add targets that cannot be reached, each for another reason."""
        addresses = {
            "refused": f"http://127.0.0.1:{free_port()}",
            "tls": f"https://127.0.0.1:{plain}",
            "dns": "http://nowhere.invalid",
            "silent": f"http://127.0.0.1:{silent}",
        }
        for name, address in addresses.items():
            self.targets[name] = {"type": "webhook", "url": f"{address}{url_of(name, 0)}"}

    def write(self, **other: object) -> Path:
        """Write the watchlist, with other sections where they are given."""
        watchlist: dict[str, object] = {
            "useapi": {
                "token": f"${{file:{self.token_file}}}",
                "base_url": f"{self.api.url}{MUSIC.removesuffix('/music/')}",
                "rate": "1000/s",
                "concurrency": 1,
            },
            "poll": {"interval": "50ms", "max_interval": "50ms", "stalled_after": "3000d"},
            "delivery": {"first_retry": "50ms", "max_retry": "100ms", "timeout": "300ms"},
            "targets": self.targets,
            "alerts": [ALERT_TARGET],
            "state": str(self.state),
            "http": f"127.0.0.1:{self.port}",
            "callback": {"listen": f"127.0.0.1:{self.callback_port}", "path": CALLBACK},
            "log": {"level": "debug"},
            "watch": [audio_id(number) for number in range(len(MANNERS) + 1)],
            **other,
        }
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(watchlist, indent=1))
        new.chmod(0o600)
        new.replace(self.file)
        return self.file

    async def pages(self) -> None:
        """Ask the daemon for all that it says of itself, and look it through."""
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/api/status", "/healthz", "/metrics"):
                async with session.get(f"http://127.0.0.1:{self.port}{path}") as response:
                    assert_unmarked(path, await response.text())
            for method, path in (("POST", CALLBACK), ("GET", CALLBACK), ("POST", CALLBACK[:-1])):
                url = f"http://127.0.0.1:{self.callback_port}{path}"
                said = {"audio_id": audio_id(1), "replyUrl": url}
                async with session.request(method, url, json=said) as response:
                    assert_unmarked(path, f"{response.headers} {await response.text()}")

    async def command(self, *arguments: str) -> str:
        """Give a command inside this process, which is quicker, and look through what it says."""
        runner = CliRunner(env={**self.environment, "NO_COLOR": "1"})
        result = await asyncio.to_thread(runner.invoke, main, [*arguments, "-c", str(self.file)])
        assert_unmarked(" ".join(arguments), result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.stdout

    async def commands(self) -> None:
        """Give every command, and look through what each says."""
        rows = json.loads(await self.command("deliveries", "--json"))
        first, last = str(rows[0]["id"]), str(rows[-1]["id"])
        paused = next(row["target"] for row in rows if row["last_status"] == 404)
        for arguments in (
            ("check",),
            ("check", "--resolve"),
            ("test",),
            ("test", "webhook-13", "--event", "failed"),
            ("status",),
            ("status", "--json"),
            ("doctor",),
            ("doctor", "--json", "--all"),
            ("deliveries",),
            ("deliveries", "show", first),
            ("deliveries", "show", last, "--json"),
            ("deliveries", "retry", first),
            ("deliveries", "retry", "--dead", "--json"),
            ("resume", paused),
            ("resume", MARK[:4]),
        ):
            await self.command(*arguments)
        _, out, err = await command("schema")
        assert_unmarked("schema", out + err)

    def look_through_state(self) -> None:
        """Look through the state file as it lies on the disk, byte by byte."""
        files = [*self.state.parent.iterdir()]
        assert {file.name for file in files} >= {"state.db", "state.db-wal"}
        for file in files:
            assert_unmarked(file.name, file.read_bytes())


def _also() -> list[str]:
    """Return what every answer repeats whatever it was asked: the secrets that others hold, too."""
    pair = base64.b64encode(f"{MARK}user03:{MARK}pass/03".encode()).decode()
    return [
        TOKEN,
        OLD_KEY,
        NEW_KEY,
        NEW_KEY.removeprefix("whsec_"),
        HEADER,
        pair,
        *(url_of(kind, number) for kind in TYPES for number in (0, 1, 2)),
    ]


class _Api:
    """Reads of each track: once in its own manner, then it is ready."""

    def __init__(self, trap: str) -> None:
        self._asked: set[str] = set()
        self._trap = trap

    def __call__(self, path: str) -> Manner | bytes:
        number = int(path.rpartition(":")[2])
        if number < len(MANNERS) and path not in self._asked:
            self._asked.add(path)
            return MANNERS[number]
        places = dict.fromkeys(
            ("cover", "video_url", "audio_url", "thumbnail", "callback", "replyUrl"), self._trap
        )
        track = completed(
            number, url=f"{self._trap}/audio.mp3", prompt=f"by {TOKEN}", path="/audio", **places
        )
        body = json.dumps(track).replace("/", "\\/").encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _receivers(path: str) -> Manner | bytes:
    kind, name = path.split("/")[1:4:2]
    number = int(name[-2:])
    if (kind, number) == ("webhook", len(MANNERS)):
        reply = ACCEPTED[kind]
        return b"HTTP/1.1 %d OK\r\n\r\n" % reply.status
    return MANNERS[number]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving() as trap:
        trap.otherwise(lambda _request: Reply(status=200, body="ok"))
        async with (
            echoing(Echo([TOKEN], _Api(trap.url), trap.url)) as api,
            echoing(Echo(_also(), _receivers, trap.url)) as receivers,
        ):
            yield Stage(tmp_path, api, receivers, trap)


async def _attempted(running: Daemon, stage: Stage) -> None:
    """Wait until every target has answered and every track is ready."""
    paths = {url_of(kind, number).partition("?")[0] for kind in TYPES for number in range(len(MANNERS))}

    def all_asked() -> bool:
        return paths <= {path.partition("?")[0] for path in stage.receivers.requests}

    await stage.receivers.until(all_asked)
    await running.logged("track.completed", len(MANNERS) + 1)


async def test_no_secret_is_ever_shown_whatever_the_others_answer(stage: Stage) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(128)  # connections are made, and nobody ever answers
        stage.add_failures(silent.getsockname()[1], int(stage.receivers.url.rpartition(":")[2]))
        stage.targets[ALERT_TARGET] = {
            "type": "webhook",
            "url": f"{stage.receivers.url}{url_of('webhook', len(MANNERS))}",
        }
        async with daemon(stage.write(), extra=stage.environment) as running:
            await _attempted(running, stage)
            for name in ("refused", "tls", "dns", "silent"):
                await running.until(lambda name=name: name in _failed(running), name)  # type: ignore[misc]
            await stage.pages()
            await stage.commands()
            await _reloads(running, stage)
            stage.look_through_state()
            assert await running.stop() == 0
    log = "\n".join(running.lines)
    assert_unmarked("the log", log)
    assert "***" in log, "the echoes were read"
    assert_unmarked("the state file", stage.state.read_bytes())
    assert stage.trap.requests == [], "neither tracks, redirects nor proxies are followed"


def _failed(running: Daemon) -> set[str]:
    return {record["target"] for record in running.records("delivery.retry_scheduled")}


async def _reloads(running: Daemon, stage: Stage) -> None:
    """Change the watchlist to one that is wrong in its secrets, then to one with others."""
    (stage.credentials / "bad").write_text(f"htp:/{MARK}bad/{'x' * 20}")
    (stage.directory / "body").write_text("{{ " + f"{MARK}body" + " | nofilter }}")
    (stage.directory / "lines").write_text(f"{MARK}a\n{MARK}b\n")
    wrong: dict[str, dict[str, object]] = {
        "url": {"type": "webhook", "url": "${credential:bad}"},
        "literal-url": {"type": "webhook", "url": f"htp://example.com/{MARK}"},
        "slack": {"type": "slack", "url": f"https://discord.com/api/webhooks/1/{MARK}"},
        "key": {"type": "webhook", "url": "http://localhost/", "secret": [f"whsec_{MARK}!", f"{MARK}"]},
        "body": {"type": "webhook", "url": "http://localhost/", "body": f"${{file:{stage.directory}/body}}"},
        "header": {
            "type": "webhook",
            "url": "http://localhost/",
            "headers": {"X-A": f"${{file:{stage.directory}/lines}}"},
        },
        "kind": {"type": f"${{file:{stage.token_file}}}", "url": f"http://localhost/{MARK}"},
    }
    stage.token_file.write_text(f"{MARK} with blanks")
    stage.write(targets={**stage.targets, **wrong})
    await running.logged("config.rejected")
    (rejected,) = running.records("config.rejected")
    assert {line.split(": ")[1].split(".")[1].split("[")[0] for line in rejected["mistakes"]} >= {
        "token",
        *wrong,
    }
    await stage.pages()
    for arguments in (("check",), ("check", "--resolve"), ("status",), ("status", "--json"), ("test",)):
        await stage.command(*arguments)
    stage.token_file.write_text(TOKEN.replace("To+ken", "rotated"))
    for credential in stage.credentials.iterdir():
        credential.write_text(credential.read_text().replace("T0001", "T0002"))
    stage.write()
    await running.logged("config.reloaded")
    await stage.receivers.until(lambda: any("T0002" in path for path in stage.receivers.requests))
    await stage.pages()


async def test_nothing_that_is_printed_on_a_refused_start_shows_a_secret(stage: Stage) -> None:
    stage.token_file.write_text(f"{MARK} {MARK}")
    code, out, err = await command("run", "-c", str(stage.write()), extra=stage.environment)
    assert (code, out) == (78, "")
    assert "useapi.token: is not a token" in err
    assert_unmarked("stderr", err)


CRASH = """
import asyncio, logging, sys, threading, warnings
from notifier import log
from notifier.loading import load
from notifier.secret import Masker

loaded = load(sys.argv[1])
log.configure("debug", "json")
log.mask_with(Masker(loaded.secrets))
token = loaded.config.useapi.token.reveal()

def fail(text):
    local = text  # a traceback that showed this would show the token
    raise RuntimeError(f"cannot send {local}", {"Authorization": local}) from KeyError(local)

async def forgotten():
    asyncio.get_running_loop().create_task(asyncio.to_thread(fail, token))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(fail, token)
    await asyncio.sleep(0)

asyncio.run(forgotten())
logging.getLogger("aiohttp.server").error("Error handling %s", token, exc_info=ValueError(token))
warnings.warn(f"deprecated: {token}")
thread = threading.Thread(target=fail, args=(token,))
thread.start()
thread.join()
print(repr(loaded), str(loaded.config), loaded.config.targets, file=sys.stderr)
fail(token)
"""


def test_an_uncaught_exception_that_holds_a_secret_is_told_without_it(tmp_path: Path) -> None:
    file = tmp_path / "watchlist.yaml"
    file.write_text(f"useapi: {{token: '{TOKEN}'}}\ntargets: {{}}\nwatch: []\n")
    told = subprocess.run(
        [sys.executable, "-c", CRASH, str(file)],
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    assert told.returncode == 1
    assert_unmarked("stderr", told.stderr)
    events = [json.loads(line)["event"] for line in told.stderr.splitlines() if line.startswith("{")]
    assert events.count("daemon.crashed") == 2
    assert events.count("library.message") >= 3
    assert "cannot send ***" in told.stderr


async def test_a_daemon_whose_state_file_breaks_under_it_tells_no_secret(stage: Stage) -> None:
    stage.targets = {
        "refused": {"type": "webhook", "url": f"http://127.0.0.1:{free_port()}{url_of('webhook', 0)}"}
    }
    file = stage.write(alerts=["refused"])
    async with daemon(file, extra=stage.environment) as running:
        await running.logged("delivery.retry_scheduled")
        with contextlib.closing(sqlite3.connect(stage.state, isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout = 30000")
            for table in ("delivery", "event"):
                other.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")
        await running.logged("storage.failed")
        await stage.pages()
    assert_unmarked("the log", "\n".join(running.lines))


# --- What lies on the disk is its owner's


@pytest.fixture(params=[0o000, 0o022])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_state_is_made_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    file = tmp_path / "watchlist.yaml"
    state = tmp_path / "a" / "b" / "state.db"
    file.write_text(f"useapi: {{token: abc}}\ntargets: {{}}\nwatch: []\nstate: {state}\n")
    async with daemon(file):
        assert modes(tmp_path)["a"] == 0o700, "nor may others put another directory in its place"
        assert modes(tmp_path / "a") == {"b": 0o700}
        found = modes(state.parent)
        assert found == dict.fromkeys(("state.db", "state.db-wal", "state.db-shm", "state.db.lock"), 0o600)


async def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "watchlist.yaml"
    state = tmp_path / "state" / "state.db"
    file.write_text(f"useapi: {{token: abc}}\ntargets: {{}}\nwatch: []\nstate: {state}\n")
    async with daemon(file) as running:
        assert await running.stop() == 0
    for path, mode in ((state.parent, 0o750), (state, 0o640), (state.with_name("state.db.lock"), 0o660)):
        path.chmod(mode)
    async with daemon(file):
        assert modes(tmp_path)["state"] == 0o750
        assert modes(state.parent)["state.db"] == 0o640
        assert modes(state.parent)["state.db.lock"] == 0o660
