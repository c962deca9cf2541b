"""useapi.net and the receivers as one server, cheap enough not to matter, and a watchlist that leads there.

Every track is being made until it is said to have completed. What a message is answered with is the business
of whoever asked for its receiver.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.cheaphttp import NO_CONTENT, Request, response
from tests.support.tracks import audio_id, completed, track

PROMPT = "A slow synthwave intro: warm pads, a distant saxophone, rain on the windows"
"""A prompt of the usual length."""
BASE = "/v2/pixverse"
BARE = "/bare"
"""Where tracks are read that nobody counts."""

Receive = Callable[[Request], None]


class World:
    """Answers reads of tracks, and hands messages to receivers by the first word of their path."""

    def __init__(self, receivers: Mapping[str, Receive] | None = None) -> None:
        self._receivers = receivers or {}
        self._generating = response(json.dumps(track(prompt=PROMPT)).encode())
        self._read_at: dict[str, float] = {}
        self.completed: set[str] | frozenset[str] = frozenset()
        """The tracks that have completed."""
        self.told_at: dict[str, float] = {}
        """When it was first said of each of these."""
        self.began_at: float | None = None
        """When the first track was read."""
        self.on_first_poll: Callable[[], None] = lambda: None
        self.forget()

    def forget(self) -> None:
        """Measure from now on."""
        self.polls = 0
        self.gaps: list[float] = []
        """How many seconds apart two reads of one track came."""

    @property
    def polled(self) -> int:
        """How many tracks have been read."""
        return len(self._read_at)

    def take(self, request: Request) -> None:
        """Answer a request."""
        receive = self._receivers.get(request.path[1:])
        if receive is not None:
            receive(request)
        elif request.path.startswith(BASE):
            self._read(request)
        else:
            request.connection.send(self._generating)

    def _read(self, request: Request) -> None:
        now, identifier = time.monotonic(), request.path.rpartition("/")[2]
        before = self._read_at.get(identifier)
        if before is not None:
            self.gaps.append(now - before)
        elif self.began_at is None:
            self.began_at = now
            self.on_first_poll()
        self._read_at[identifier] = now
        self.polls += 1
        if identifier in self.completed:
            self.told_at.setdefault(identifier, now)
            request.connection.send(_completed(identifier))
        else:
            request.connection.send(self._generating)


def accept(request: Request) -> None:
    """Take a message as most receivers do."""
    request.connection.send(NO_CONTENT)


def _completed(identifier: str) -> bytes:
    return response(json.dumps(completed(int(identifier.rpartition(":")[2]), prompt=PROMPT)).encode())


def write_watchlist(place: Path, head: str, watches: int, *, first: str = "Track 0") -> Path:
    """Write a watchlist of so many tracks into a directory, beside where the state file will be."""
    names = [first, *(f"Track {number}" for number in range(1, watches))]
    entries = (f"  - audio_id: {audio_id(number)}\n    name: {name}\n" for number, name in enumerate(names))
    watchlist = place / "watchlist.yaml"
    watchlist.write_text(f"state: {place / 'state.db'}\n{head}watch:\n{''.join(entries)}", encoding="utf-8")
    watchlist.chmod(0o600)
    return watchlist
