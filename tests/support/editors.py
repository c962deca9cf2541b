"""How files are written: by programs that people use, and by what puts files into their place.

Each way takes a watchlist whose last lines are its watches, and adds one.
"""

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.machine import needs
from tests.support.tracks import audio_id

_CHUNKS = 6
_RESTED = 3.1
_PAUSE = 0.4
"""How long the slow writer pauses, in seconds: shorter than what lies between two looks."""


def _more(file: Path, number: int) -> str:
    return f"{file.read_text()}  - {audio_id(number)}\n"


async def in_place(file: Path, number: int) -> None:
    """Truncate and write, as `cat >` does."""
    file.write_text(_more(file, number))


async def by_rename(file: Path, number: int) -> None:
    """Write beside it and rename, as careful programs do."""
    beside = file.with_name(".watchlist.tmp")
    beside.write_text(_more(file, number))
    beside.replace(file)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def sed(file: Path, number: int) -> None:
    """Edit with `sed -i`."""
    needs("sed")
    await _run("sed", "-i", f"$a\\  - {audio_id(number)}", str(file))


def _vim() -> str:
    """Return what vim is called here."""
    for name in ("vim.tiny", "vim.basic"):
        if shutil.which(name):
            return name
    needs("vim")
    return "vim"


async def _edit(file: Path, number: int, *settings: str) -> None:
    edits = ["$t$", rf"$s/music:\d\+/music:{number}/", "wq"]
    commands = itertools.chain.from_iterable(("-c", each) for each in (*settings, *edits))
    await _run(_vim(), "-u", "NONE", "-i", "NONE", "-es", *commands, str(file))


async def vim(file: Path, number: int) -> None:
    """Edit with vim, which moves the file away and writes another one."""
    before = file.stat().st_ino
    await _edit(file, number, "set backupskip= backup backupcopy=no")
    assert file.stat().st_ino != before


async def vim_in_place(file: Path, number: int) -> None:
    """Edit with vim when it has to keep the file."""
    before = file.stat().st_ino
    await _edit(file, number, "set backupskip= backup backupcopy=yes")
    assert file.stat().st_ino == before


async def swapped_link(file: Path, number: int) -> None:
    """Let the symlink that the file is lead to another one."""
    other = file.with_name(f"{number}.yaml")
    other.write_text(_more(file, number))
    link = file.with_name("link.new")
    link.symlink_to(other.name)
    link.replace(file)


def as_link(file: Path) -> None:
    """Make the file a symlink."""
    file.rename(file.with_name("first.yaml"))
    file.symlink_to("first.yaml")


async def kubernetes(file: Path, number: int) -> None:
    """Swap the `..data` of a mounted volume, as the kubelet does, which then removes what was there."""
    before = file.with_name("..data").resolve()
    after = file.with_name(f"..{number}")
    after.mkdir()
    (after / file.name).write_text(_more(file, number))
    swap = file.with_name("..data_tmp")
    swap.symlink_to(after.name)
    swap.replace(file.with_name("..data"))
    shutil.rmtree(before)


def as_mounted_volume(file: Path) -> None:
    """Put the file where a mounted volume has it."""
    first = file.with_name("..first")
    first.mkdir()
    file.rename(first / file.name)
    file.with_name("..data").symlink_to(first.name)
    file.symlink_to(f"..data/{file.name}")


async def with_an_older_time(file: Path, number: int) -> None:
    """Put another file there that was written long ago, as `cp -p` and `git stash` may."""
    beside = file.with_name("old.yaml")
    beside.write_text(_more(file, number))
    os.utime(beside, (1_000_000_000, 1_000_000_000))
    beside.replace(file)


async def of_the_same_size_and_time(file: Path, number: int) -> None:
    """Change one character and nothing that `ls` shows, of a file that has rested for some looks."""
    about, text = file.stat(), file.read_text()
    await asyncio.sleep(max(0.0, about.st_ctime + _RESTED - time.time()))
    new = f"{text.rstrip()[:-1]}{number % 10}\n"
    assert (len(new), new == text) == (len(text), False)
    file.write_text(new)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


async def missing_for_a_moment(file: Path, number: int) -> None:
    """Take the file away, and come back with another one after somebody may have looked."""
    text = _more(file, number)
    file.unlink()
    await asyncio.sleep(1.1)
    file.write_text(text)


async def slowly(file: Path, number: int) -> float:
    """Write line after line with pauses; return the longest, which a busy machine may have drawn out."""
    times = []
    with file.open("r+") as stream:
        lines = [*stream.readlines(), f"  - {audio_id(number)}\n"]
        stream.seek(0)
        stream.truncate()
        for chunk in _chunks(lines):
            stream.writelines(chunk)
            stream.flush()
            times.append(time.monotonic())
            if chunk[-1] is not lines[-1]:
                await asyncio.sleep(_PAUSE)
    return max(after - before for before, after in itertools.pairwise(times))


def _chunks(lines: Sequence[str]) -> list[Sequence[str]]:
    """Split lines so that what is there after each chunk but the last is a shorter watchlist, or none."""
    size = -(-len(lines) // _CHUNKS)
    return [lines[start : start + size] for start in range(0, len(lines), size)]
