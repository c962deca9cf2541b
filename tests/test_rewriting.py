"""A file is given another content all at once, as the same file to everybody else, or not at all."""

import errno
import fcntl
import os
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from notifier.rewriting import RewritingError, rewrite
from tests.support.disks import small_disk
from tests.support.machine import lacking

NOBODY = 65534
_ANY = 0xFFFFFFFF
ACCESS_LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, _ANY), (2, 4, 12), (4, 4, _ANY), (0x10, 4, _ANY), (0x20, 0, _ANY))
)
"""As the kernel keeps it: the owner may write, user 12 and the group may read."""


def more(content: bytes) -> bytes:
    return content + b"more\n"


def rewritten(file: Path, change: Callable[[bytes], bytes] = more) -> bool:
    return rewrite(file, change, read=Path.read_bytes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_bytes(b"some\n")
    return file


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that another user can reach, with a file of root's."""
    if os.geteuid() != 0:
        lacking("another user cannot be had without root")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "watchlist.yaml").write_bytes(b"some\n")
        yield directory


@contextmanager
def as_somebody(group: int = NOBODY) -> Iterator[None]:
    """Have the rights of an ordinary user for the length of a block."""
    os.setegid(group)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def names(file: Path) -> list[str]:
    return sorted(one.name for one in file.parent.iterdir())


def test_the_file_is_replaced_and_nothing_is_left_beside_it(file: Path) -> None:
    before = file.stat().st_ino
    with file.open("rb") as reader:
        assert rewritten(file)
        assert reader.read() == b"some\n"
    assert file.read_bytes() == b"some\nmore\n"
    assert file.stat().st_ino != before
    assert names(file) == ["watchlist.yaml"]


def test_what_does_not_change_is_not_written(file: Path) -> None:
    before = file.stat()
    assert not rewritten(file, bytes)
    after = file.stat()  # NB: not all of it: reading the file may set when it was last read
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o444, 0o2664])
def test_the_mode_stays_whatever_the_mask(file: Path, mode: int) -> None:
    file.chmod(mode)
    before = os.umask(0o077)
    try:
        assert rewritten(file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_owner_and_group_stay(shared: Path) -> None:
    file = shared / "watchlist.yaml"
    os.chown(file, 12, NOBODY)
    assert rewritten(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (12, NOBODY)


def test_access_lists_and_attributes_stay(file: Path) -> None:
    os.setxattr(file, "user.note", b"mine")
    os.setxattr(file, "system.posix_acl_access", ACCESS_LIST)
    before = {name: os.getxattr(file, name) for name in os.listxattr(file)}
    assert before.keys() >= {"user.note", "system.posix_acl_access"}
    assert rewritten(file)
    assert {name: os.getxattr(file, name) for name in os.listxattr(file)} == before


def test_a_link_stays_one_and_the_file_that_it_leads_to_is_replaced(file: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "watchlist.yaml"
    link.symlink_to("../watchlist.yaml")
    assert rewritten(link)
    assert link.is_symlink()
    assert file.read_bytes() == b"some\nmore\n"
    assert names(link) == ["watchlist.yaml"]


def test_what_an_editor_writes_in_between_is_not_lost(file: Path) -> None:
    def change(content: bytes) -> bytes:
        if b"edited" not in content:
            file.write_bytes(content + b"edited\n")
        return more(content)

    assert rewritten(file, change)
    assert file.read_bytes() == b"some\nedited\nmore\n"


def test_a_mode_that_is_given_in_between_is_kept(file: Path) -> None:
    def change(content: bytes) -> bytes:
        file.chmod(0o600)
        return more(content)

    assert rewritten(file, change)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_never_rests_is_left_alone(file: Path) -> None:
    def change(content: bytes) -> bytes:
        file.write_bytes(content + b"edited\n")
        return more(content)

    with pytest.raises(RewritingError, match="by something else all the time"):
        rewritten(file, change)
    assert b"more" not in file.read_bytes()
    assert names(file) == ["watchlist.yaml"]


def test_whoever_else_rewrites_it_waits_until_it_is_done(file: Path) -> None:
    def change(content: bytes) -> bytes:
        other = os.open(file.parent, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)
        return more(content)

    assert rewritten(file, change)


def test_what_the_change_raises_goes_on_and_changes_nothing(file: Path) -> None:
    def change(_content: bytes) -> bytes:
        raise KeyError

    with pytest.raises(KeyError):
        rewritten(file, change)
    assert (file.read_bytes(), names(file)) == (b"some\n", ["watchlist.yaml"])


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        file = disk.path / "watchlist.yaml"
        file.write_bytes(b"some\n")
        disk.fill()
        with pytest.raises(RewritingError, match=os.strerror(errno.ENOSPC)):
            rewritten(file, lambda content: content * 9999)
        assert file.read_bytes() == b"some\n"
        assert names(file) == ["filling", "watchlist.yaml"]


def test_a_disk_that_cannot_be_written_is_said_to_be_such(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        file = disk.path / "..data" / "watchlist.yaml"
        file.parent.mkdir()
        file.write_bytes(b"some\n")
        link = disk.path / "watchlist.yaml"
        link.symlink_to("..data/watchlist.yaml")
        disk.make_read_only()
        with pytest.raises(RewritingError, match=r"/disk/..data is read-only; change it where"):
            rewritten(link)


def test_a_file_that_is_a_mount_of_its_own_is_said_to_be_such(file: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted.yaml"
    mounted.touch()
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", file, mounted], check=False).returncode:
        lacking("a file cannot be mounted here")
    try:
        with pytest.raises(RewritingError, match="a mount of its own"):
            rewritten(mounted)
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert names(file) == ["mounted.yaml", "watchlist.yaml"]
    assert file.read_bytes() == b"some\n"


def test_a_directory_of_somebody_else_is_not_written_to(shared: Path) -> None:
    file = shared / "watchlist.yaml"
    file.chmod(0o666)
    with as_somebody(), pytest.raises(RewritingError, match=f"Permission denied; .* as who owns {shared}"):
        rewritten(file)
    assert file.read_bytes() == b"some\n"


def test_a_file_that_would_change_hands_is_left_alone(shared: Path) -> None:
    """The daemon, which reads it by its group, could not read it any more."""
    file = shared / "watchlist.yaml"
    shared.chmod(0o777)
    with as_somebody(), pytest.raises(RewritingError, match="belongs to somebody else"):
        rewritten(file)
    assert file.read_bytes() == b"some\n"
    assert names(file) == ["watchlist.yaml"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", "absent does not exist"),
        ("directory", "directory is no file that could be replaced"),
        ("pipe", "pipe is no file that could be replaced"),
    ],
)
def test_what_is_no_file_is_left_alone(tmp_path: Path, what: str, message: str) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RewritingError, match=message):
        rewritten(tmp_path / what)
