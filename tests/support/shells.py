"""Shells as people type into them: on a terminal, with Tab."""

import os
import pty
import re
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.support.process import COMMAND, environment
from tests.support.servers import PATIENCE


def around(extra: Mapping[str, str]) -> dict[str, str]:
    """Return what a shell sees of this machine."""
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    return environment({"PATH": path, "TERM": "dumb", "PS1": "$ ", **extra})


class Terminal:
    """A shell that was just started."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until something stands on the screen; forget what stood there so far."""
        screen, deadline = "", time.monotonic() + PATIENCE
        while True:
            found = re.search(pattern, screen)
            if found:
                return found
            ready = self._selector.select(deadline - time.monotonic())
            assert ready, f"{pattern} is not on the screen: {screen!r}"
            screen += os.read(self._descriptor, 65536).decode(errors="replace")

    def completed(self, line: str) -> list[str]:
        """Type a line and Tab; return the words that the shell would have run."""
        beginning_of_line, end_of_line = "\x01", "\x05"
        # NB: what is typed shows on the screen too, but only what is printed has no quotes in the middle.
        self.type(f"{line}\t{beginning_of_line}printf '<%s>' {end_of_line} E''ND\n")
        return re.findall(r"<([^<>]*)>", self.shows(r"(<[^<>%]*>)+<END>")[0])[:-1]


@contextmanager
def terminal(arguments: Sequence[str], setup: str, extra: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a shell on a terminal of its own for the length of a block."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=around(extra), start_new_session=True
    )
    try:
        os.close(theirs)
        shell = Terminal(ours)
        shell.type(f"{setup}\necho REA''DY\n")
        shell.shows("READY")
        yield shell
    finally:
        process.kill()
        process.wait()
        os.close(ours)
