"""Notices that the watchlist has changed, however an editor writes it.

Looks at the content, not at events of the file system: in-place writes, renames, swapped symlinks and mounts
over a network all look the same. A change counts once two looks agree, so that a half-written file does not.
"""

import stat
import time
from pathlib import Path

from notifier.document import read
from notifier.loading import digest_of

_RESTED = 2.0


class FileWatch:
    """Remembers which content of a file is known. Call `look` every second or two."""

    def __init__(self, file: str, known: str) -> None:
        self._file = Path(file)
        self._known = known
        self._candidate: str | None = None
        self._signature: tuple[int, ...] | None = None

    def accept(self, digest: str) -> None:
        """Take a content for known: it was applied or refused, and is not to be looked at again."""
        self._known = digest
        self._candidate = None
        self._signature = None  # NB: that of another content, to which a swapped symlink may return

    def forget(self) -> None:
        """Take no content for known, so that whatever is there next is looked at anew."""
        self._known = ""
        self._candidate = None
        self._signature = None

    def has_settled_on(self, digest: str) -> bool:
        """Say whether this is the content that two looks have agreed on, and not known yet."""
        return digest == self._candidate and digest != self._known

    @property
    def is_unsettled(self) -> bool:
        """Whether the last look saw another content, which the next one is to agree on."""
        return self._candidate is not None

    def look(self) -> bool:
        """Return whether the file has settled on a content that is not known. Blocks on the disk."""
        digest = self._digest()
        if digest is None or digest == self._known:
            self._candidate = None
            return False
        has_settled = digest == self._candidate
        self._candidate = digest
        return has_settled

    def _digest(self) -> str | None:
        """Return the content's digest without reading what has the same signature as the last look."""
        try:
            about = self._file.stat()
            if not stat.S_ISREG(about.st_mode):
                return None  # reading a pipe again would take what is not there for a change
            signature = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
            if signature == self._signature:
                return self._candidate or self._known
            digest = digest_of(read(self._file))
        except OSError:
            self._signature = None
            return None
        # NB: a write within the clock's tick of the last one leaves the signature as it was, so that a fresh
        # file is read each time until it has rested.
        self._signature = signature if abs(time.time() - about.st_ctime) > _RESTED else None
        return digest
