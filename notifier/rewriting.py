"""A file that people edit, given another content all at once: readers see the old content or the new one.

The new content stands beside the file first, complete and on the disk, with the file's owner, mode and
extended attributes, and then takes its place. Who else does so at the same time waits; what an editor has
written in between is not lost. Nothing is left behind. Knows nothing of what the file says.
"""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_LONGEST_WAIT = 10.0
_PAUSE = 0.02
_MOST_TRIES = 5
_LOCKS_OF_NO_KIND = frozenset({errno.EBADF, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP})
_NO_ATTRIBUTES = frozenset({errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENODATA, errno.EINVAL})


class RewritingError(Exception):
    """The file keeps its content; the message says why."""


def rewrite(file: Path, change: Callable[[bytes], bytes], *, read: Callable[[Path], bytes]) -> bool:
    """Give a file, or what a link leads to, the content that `change` makes of the present one.

    Returns False when that is the same. `change` is asked again when somebody else has changed the file.
    Raises RewritingError, and whatever `change` raises; the file is as it was then.
    """
    try:
        actual = Path(os.path.realpath(file, strict=True))
        with _turn(actual.parent):
            return _rewrite(actual, change, read)
    except OSError as error:
        raise RewritingError(_words(error, file)) from error


def _rewrite(file: Path, change: Callable[[bytes], bytes], read: Callable[[Path], bytes]) -> bool:
    for _ in range(_MOST_TRIES):
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise RewritingError(f"{file} is no file that could be replaced")
        content = read(file)
        changed = change(content)
        if changed == content:
            return False
        with _beside(file, changed, about) as new:
            if _is_same(about, file.stat()) and read(file) == content:
                new.replace(file)
                _sync(file.parent)
                return True
    raise RewritingError(f"{file} is being changed by something else all the time")


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino, one.st_mode) == (other.st_dev, other.st_ino, other.st_mode)


@contextlib.contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Wait until nobody else rewrites a file of a directory, where its file system knows locks.

    The lock is the directory's, so that no file has to be left for it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LONGEST_WAIT
        while not _has_locked(descriptor):
            if time.monotonic() > deadline:
                raise RewritingError(f"something else keeps {directory} locked")
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _has_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _LOCKS_OF_NO_KIND:
            raise
    return True


@contextlib.contextmanager
def _beside(file: Path, content: bytes, about: os.stat_result) -> Iterator[Path]:
    """Have a file with this content beside another one, of the same owner and mode, for a block."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".new", dir=file.parent)
    try:
        with open(descriptor, "wb") as stream:
            _take_after(descriptor, file, about)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _take_after(descriptor: int, file: Path, about: os.stat_result) -> None:
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (about.st_uid, about.st_gid):
        try:
            os.fchown(descriptor, about.st_uid if own.st_uid != about.st_uid else -1, about.st_gid)
        except PermissionError:
            raise RewritingError(
                f"{file} belongs to somebody else, and would not any more: run this as its owner or as root"
            ) from None
    os.fchmod(descriptor, stat.S_IMODE(about.st_mode))
    _copy_attributes(file, descriptor)


def _copy_attributes(file: Path, descriptor: int) -> None:
    """Copy extended attributes, access lists among them, as far as the system lets us."""
    try:
        names = os.listxattr(file)
    except OSError:
        return
    for name in names:
        try:
            os.setxattr(descriptor, name, os.getxattr(file, name))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise


def _sync(directory: Path) -> None:
    """See to it that a power failure does not bring the old name back; some file systems cannot."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _words(error: OSError, file: Path) -> str:
    why = error.strerror or type(error).__name__
    where = Path(os.path.realpath(file)).parent
    match error.errno:
        case errno.ENOENT:
            return f"{file} does not exist"
        case errno.EACCES | errno.EPERM:
            return f"{file} cannot be replaced: {why}; run this as root or as who owns {where}"
        case errno.EROFS:
            return f"{file} cannot be replaced: {where} is read-only; change it where it comes from"
        case errno.EBUSY | errno.EXDEV:
            return f"{file} cannot be replaced: it is a mount of its own; change it where it comes from"
        case _:
            return f"{file} cannot be replaced: {why}"
