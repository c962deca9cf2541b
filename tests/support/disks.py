"""A disk of its own that a test can fill, make read-only and take away: a small tmpfs."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.machine import lacking

_FILLING = "filling"


class Disk:
    """A mounted file system of a few hundred kilobytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, leaving: int = 0) -> None:
        """Leave not a byte free, or about as many as are given."""
        with contextlib.suppress(OSError), (self.path / _FILLING).open("ab", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass
        os.truncate(filling := self.path / _FILLING, max(filling.stat().st_size - leaving, 0))

    def make_room(self) -> None:
        """Free what `fill` has taken."""
        (self.path / _FILLING).unlink(missing_ok=True)

    def make_read_only(self) -> None:
        """Let nobody open anything for writing any more."""
        _run("mount", "-o", "remount,bind,ro", str(self.path))


@contextlib.contextmanager
def small_disk(path: Path, size: str = "1m") -> Iterator[Disk]:
    """Mount a disk at a path for the length of a block; where that is not allowed, the test is skipped."""
    path.mkdir(mode=0o700, exist_ok=True)
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError):
        lacking("a disk cannot be mounted here")
    try:
        yield Disk(path)
    finally:
        _run("umount", "--lazy", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
