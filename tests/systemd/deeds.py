"""What the daemon needs to do, and what a sandbox is there to deny; run as a program it tries it all.

Prints one object: for each deed ``done``, or the error that came of it. Imports nothing of ours since it runs
alone, and does so only as a service, whose machine it may harm.
"""

import errno
import json
import mmap
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path


def _state() -> Path:
    return Path(os.environ["STATE_DIRECTORY"])


def _run_what_it_wrote() -> None:
    script = _state() / "script"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o700)
    subprocess.run([script], check=True, capture_output=True)


def _make_a_root_program() -> None:
    file = _state() / "root"
    file.touch()
    file.chmod(0o4755)


def _give_away() -> None:
    file = _state() / "given"
    file.touch()
    os.chown(file, os.getuid(), -1)


NEEDED: dict[str, Callable[[], object]] = {
    "write its state": lambda: (_state() / "written").write_bytes(b""),
    "write a temporary file": lambda: tempfile.TemporaryFile().close(),
    "read the watchlist": lambda: Path("/etc/notifier/watchlist.yaml").read_bytes(),
    "read its credentials": lambda: Path(os.environ["CREDENTIALS_DIRECTORY"], "useapi-token").read_bytes(),
    "look up a name": lambda: socket.getaddrinfo("localhost", 443),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
}
FORBIDDEN: dict[str, Callable[[], object]] = {
    "change its watchlist": lambda: Path("/etc/notifier/watchlist.yaml").write_bytes(b""),
    "change its program": lambda: Path("/opt/notifier/current/bin/notifier").write_bytes(b""),
    "write to /usr": lambda: Path("/usr/written").touch(),
    "write to /var/lib": lambda: Path("/var/lib/written").touch(),
    "look into /root": lambda: os.listdir("/root"),
    "look into /home": lambda: Path("/home/somebody").touch(),
    "see the files of its credentials": lambda: os.listdir("/etc/notifier/credentials"),
    "see processes of others": lambda: os.stat("/proc/1"),
    "run what it wrote": _run_what_it_wrote,
    "make memory that is written and run": lambda: mmap.mmap(
        -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "make a program that runs as its owner": _make_a_root_program,
    "give a file away": _give_away,
    "take priority": lambda: os.nice(1),
    "rename the machine": lambda: socket.sethostname("renamed"),
    "make namespaces": lambda: subprocess.run(["unshare", "--user", "true"], check=True, capture_output=True),
    "speak to a hypervisor": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
}


def outcome_of(deed: Callable[[], object]) -> str:
    """Do it, and say what came of it."""
    try:
        deed()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except subprocess.CalledProcessError:
        return "EPERM"  # the program says it in words
    return "done"


if __name__ == "__main__":
    print(json.dumps({name: outcome_of(deed) for name, deed in (NEEDED | FORBIDDEN).items()}))
