"""A machine beside this one whose PID 1 is a real systemd: see the script `boot`, which makes it."""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.machine import lacking, needs
from tests.support.servers import PATIENCE

BOOT = Path(__file__).parent / "boot"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
PROGRAMS = ("dbus-daemon", "nsenter", "setpriv", "systemctl", "unshare")

Record = dict[str, Any]
"""An entry of the journal with its fields, such as ``MESSAGE`` and ``PRIORITY``."""


class Machine:
    """A booted machine. Commands run inside as root; files are written and read from outside."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        names = ("mount", "pid", "net", "ipc", "uts", "cgroup")
        self.inside = ["nsenter", f"--target={pid}", *(f"--{name}" for name in names), "--"]
        """What comes before a command to run it in the machine."""

    def run(
        self, *command: str, stdin: str | None = None, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            [*self.inside, *command],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
            env={**ENVIRONMENT, **(extra or {})},
        )

    def done(self, *command: str) -> str:
        """Run a command that must succeed; return what it printed."""
        ended = self.run(*command)
        assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def path(self, path: str) -> Path:
        """Return where a file of the machine is for us. NB: an absolute symlink leads out of the machine."""
        return Path(f"/proc/{self._pid}/root{path}")

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's in place, and the directories above it where there are none."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.done("systemctl", "show", "--value", f"--property={name}", unit).rstrip("\n")

    def journal(self, *options: str) -> list[Record]:
        """Return all entries that the options of journalctl choose, once all that was written has come."""
        self.done("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", "--all", "--no-pager", *options).stdout
        return [json.loads(line) for line in lines.splitlines()]

    def follow(self, *options: str) -> Iterator[Record]:
        """Yield such entries as they come, for as long as a test may wait for one."""
        journalctl = [
            "timeout",
            str(PATIENCE),
            "journalctl",
            "--follow",
            "--no-tail",
            "--output=json",
            "--all",
        ]
        with subprocess.Popen(
            [*self.inside, *journalctl, *options], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            try:
                yield from map(json.loads, process.stdout)
            finally:
                process.kill()

    def until(self, condition: Callable[[], Any], what: str = "it") -> None:
        """Wait until something is true in the machine, which does not tell us by itself."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen\n{self._last_words()}"
            time.sleep(0.05)

    def _last_words(self) -> str:
        return self.run("journalctl", "--no-pager", "--lines=40", "--output=short-monotonic").stdout

    def listen(self) -> socket.socket:
        """Open a port of the machine's loopback; who serves it stays out here."""
        with ThreadPoolExecutor(1) as thread:  # NB: the namespace is the thread's, which ends with this
            return thread.submit(self._listen).result()

    def _listen(self) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)  # os.setns comes with Python 3.12
        with open(f"/proc/{self._pid}/ns/net", "rb") as namespace:
            if libc.setns(namespace.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server(("127.0.0.1", 0))

    def wait_for_systemd(self) -> None:
        """Wait until all is up that is to come up."""
        self.until(lambda: self._state() in {"running", "degraded"}, "the boot")
        assert self._state() == "running", self.run("systemctl", "--failed").stdout

    def _state(self) -> str:
        return self.run("systemctl", "is-system-running").stdout.strip()


@contextlib.contextmanager
def booted(
    *, read_only: Mapping[str, Path] | None = None, writable: Mapping[str, Path] | None = None
) -> Iterator[Machine]:
    """Boot a machine for the length of a block; the mappings say what of this machine lies where in it.

    It dies with this process, however that ends. Skips the test where no machine can be booted.
    """
    if os.geteuid() != 0:
        lacking("only root can boot a systemd")
    for program in PROGRAMS:
        needs(program)
    binds = [
        word
        for mode, places in (("ro", read_only or {}), ("rw", writable or {}))
        for place, source in places.items()
        for word in (mode, str(source.resolve()), place)
    ]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(BOOT), *binds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        with process:  # closes its standard input at the end and waits for it
            assert process.stdout is not None
            pid = process.stdout.readline().strip()
            if not pid:
                process.communicate()
                errors.seek(0)
                lacking(f"no systemd can be booted here: {errors.read().strip()}")
            machine = Machine(int(pid))
            machine.wait_for_systemd()
            yield machine
