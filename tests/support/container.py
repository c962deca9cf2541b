"""The daemon in a container: process 1, a foreign user, a root that cannot be written to, no home."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from tests.support.machine import lacking, needs
from tests.support.process import Daemon

USER = 12345
"""A number that no account has."""
PATH = "/usr/sbin:/usr/bin"
NOTIFIER = (sys.executable, "-m", "notifier")
WITHOUT_INPUT = ("/bin/sh", "-c", 'exec "$@" <&-', "sh")
"""What runs a command in its own place with its standard input closed."""
_CHECKOUT = Path(__file__).parents[2]
_SCRIPT = Path(__file__).with_name("container.sh")
_DYING_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_NAMESPACES = ("unshare", "--pid", "--mount", "--fork", "--kill-child")


class Volumes:
    """What is mounted into a container, with what stands there: the watchlist, secrets and the state."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.config = directory / "config"
        self.secrets = directory / "secrets"
        self.state = directory / "state"
        for one in (self.root, self.config, self.secrets, self.state):
            one.mkdir(mode=0o755)
        os.chown(self.state, USER, USER)

    def write(self, watchlist: str) -> None:
        """Replace the watchlist in one go, as an editor does."""
        new = self.config / "watchlist.yaml.new"
        new.write_text(watchlist, encoding="utf-8")
        new.rename(self.config / "watchlist.yaml")

    def mounts(self) -> list[str]:
        """Return what the script is told to mount; the interpreter and the checkout are the image."""
        image = {sys.base_prefix, sys.prefix, str(_CHECKOUT)}
        return [
            *(f"ro:{one}:{one}" for one in sorted(image) if not one.startswith("/usr")),
            f"ro:{self.config}:/etc/notifier",
            f"ro:{self.secrets}:/run/secrets",
            f"rw:{self.state}:/var/lib/notifier",
        ]


class Contained(Daemon):
    """A daemon in a container; signals reach process 1 there, as those of ``docker stop`` and ``kill`` do."""

    @property
    def first(self) -> int:
        """The process that is number 1 in there."""
        [first] = children(self.process.pid)
        return first

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.first, number)

    def kill(self) -> None:
        """Kill process 1, and with it all others of the container."""
        for child in children(self.process.pid):
            os.kill(child, signal.SIGKILL)

    async def execute(self, *command: str, user: int = USER) -> tuple[int, str]:
        """Run another command in there, as ``docker exec`` does; return exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(self.first), "--pid", "--mount"),
            *("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--"),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": PATH},
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()


def children(process: int) -> list[int]:
    """Return the processes that have this one as their parent."""
    with contextlib.suppress(FileNotFoundError):
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


@contextlib.asynccontextmanager
async def contained(
    volumes: Volumes,
    *,
    init: Sequence[str] = (),
    command: Sequence[str] = (*NOTIFIER, "run"),
    extra: Mapping[str, str] | None = None,
    is_up: bool = True,
) -> AsyncIterator[Contained]:
    """Run a container for the length of a block, which begins when the daemon in it has started.

    It dies with this process, however that ends.
    """
    needs("unshare")
    if os.geteuid() != 0:
        lacking("a container needs root")
    process = await asyncio.create_subprocess_exec(
        *_DYING_WITH_US,
        *_NAMESPACES,
        *(str(_SCRIPT), str(volumes.root), str(USER), *volumes.mounts(), "--"),
        *(*init, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": PATH, **(extra or {})},
    )
    running = Contained(process)
    try:
        if is_up:
            await running.logged("daemon.started")
        yield running
    finally:
        running.kill()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await running.ended()
