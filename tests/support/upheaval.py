"""A watchlist that never stays as it is, tracks that end meanwhile, and receivers that are slow and fail.

What has to arrive follows from the rules alone, whatever the dice say: some watches and targets stay as they
are, and the others are all there in the last watchlist, but for one target that has gone for good.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.support.scenes import tracks_told
from tests.support.servers import Received, Reply, Server
from tests.support.tracks import answer, audio_id, completed, track

KEPT = range(1, 25)
"""Watches that stay; their entries change in nothing that decides who is told of what."""
PASSING = range(31, 39)
"""Watches that come and go."""
OF_GUEST = range(41, 47)
"""Watches that come and go with their target."""
OF_RENAMED = range(51, 57)
"""Watches of a target that is called one thing or another."""
OF_GONE = range(61, 64)
"""Watches of a target that takes nothing, and then leaves for good."""
ALL = (*KEPT, *PASSING, *OF_GUEST, *OF_RENAMED, *OF_GONE)

_SETTINGS = {
    "token": ("user:1-first", "user:1-second"),
    "rate": ("200/s", "300/s"),
    "concurrency": (4, 8),
    "read_timeout": ("60s", "61s"),
    "interval": ("500ms", "600ms"),
    "first_retry": ("50ms", "60ms"),
    "send_timeout": ("60s", "61s"),
    "give_up_after": ("71h", "72h"),
    "lanes": (2, 4),
    "floor": ("a", "b"),
}
"""What is changed of the settings, two at a time; `floor` is where the target `mover` lives."""
_ERRORS = (500, 503, 429)


def expected() -> Counter[tuple[str, int]]:
    """Return who has to be told of which track: each once."""
    told = [*itertools.product(("archive", "band-room", "mover"), KEPT)]
    told += [*itertools.product(("archive",), PASSING)]
    told += [*itertools.product(("guest", "archive"), OF_GUEST)]
    told += [*itertools.product(("renamed",), OF_RENAMED)]
    return Counter(told)


class Upheaval:
    """See the module. Each `turn` makes another watchlist; `last` the one that is to stay."""

    def __init__(self, directory: Path, api: Server, receiver: Server, *, seed: int) -> None:
        self.file = directory / "watchlist.yaml"
        self.state = directory / "state.db"
        self.accepted: Counter[tuple[str, int]] = Counter()
        """How often each receiver has taken the news of each track."""
        self.refused = 0
        self.finished: set[int] = set()
        self._api, self._receiver = api, receiver
        self._rng = Random(seed)
        self._number = 0
        self._settings: dict[str, Any] = {name: values[0] for name, values in _SETTINGS.items()}
        self._passing = {*PASSING}
        self._is_guest_there = self._is_last = False
        self._is_gone = False
        api.otherwise(self._read)
        receiver.otherwise(self._take)

    # --- the servers

    def _soon(self, most: float) -> asyncio.Event:
        """Return an event that is set after a while."""
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(self._rng.uniform(0, most), event.set)
        return event

    def _read(self, request: Received) -> Reply:
        number = int(request.path.rpartition(":")[2])
        reply = answer(completed(number) if number in self.finished else track(number))
        return Reply(body=reply.body, delay_until=self._soon(0.03))

    def _take(self, request: Received) -> Reply:
        name = request.path.split("/")[2]
        if name == "gone" or self._rng.random() < 0.2:
            self.refused += 1
            return self._refusal()
        for number in _numbers(request):
            self.accepted[name, number] += 1
        body = "ok" if request.path.startswith("/slack") else ""
        return Reply(body=body, content_type="text/html", delay_until=self._soon(0.3))

    def _refusal(self) -> Reply:
        status = self._rng.choice(_ERRORS)
        headers = {"Retry-After": "0.1"} if status == 429 else {}
        return Reply(status, headers=headers, delay_until=self._soon(0.1), drop=status == 503)

    # --- the watchlists

    def write(self) -> Path:
        """Replace the watchlist by one that is different from all before."""
        text = f"# {self._number}\n{json.dumps(self._watchlist(), indent=1)}\n"
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.replace(self.file)
        return self.file

    def turn(self) -> bool:
        """Change something, now and then for the worse; return whether the watchlist is valid."""
        self._number += 1
        self._passing ^= {*self._rng.sample(PASSING, 2)}
        self._is_guest_there ^= self._rng.random() < 0.3
        for name in self._rng.sample([*_SETTINGS], 2):
            self._settings[name] = self._rng.choice(_SETTINGS[name])
        self.write()
        if self._number % 20:
            return True
        self.file.write_text(self.file.read_text().replace('"useapi"', '"useapis"'))
        return False

    def part_for_good(self) -> None:
        """Let one target not return."""
        self._is_gone = True

    def last(self) -> None:
        """Write the watchlist that is to stay."""
        self._number += 1
        self._passing = {*PASSING}
        self._is_guest_there = self._is_gone = self._is_last = True
        self.write()

    def _watchlist(self) -> dict[str, Any]:
        now = self._settings
        return {
            "useapi": {
                "token": now["token"],
                "base_url": f"{self._api.url}/v2/pixverse",
                "rate": now["rate"],
                "concurrency": now["concurrency"],
                "timeout": now["read_timeout"],
            },
            "poll": {"interval": now["interval"], "max_interval": "600ms", "stalled_after": "3000d"},
            "delivery": {
                "first_retry": now["first_retry"],
                "max_retry": "100ms",
                "timeout": now["send_timeout"],
                "give_up_after": now["give_up_after"],
            },
            "targets": dict(self._targets()),
            "defaults": {"notify": ["archive"]},
            "state": str(self.state),
            "watch": [*self._watches()],
        }

    def _targets(self) -> Iterator[tuple[str, dict[str, Any]]]:
        url, lanes, floor = self._receiver.url, self._settings["lanes"], self._settings["floor"]
        yield "archive", {"type": "webhook", "url": f"{url}/webhook/archive", "concurrency": lanes}
        yield "band-room", {"type": "slack", "url": f"{url}/slack/band-room"}
        yield "mover", {"type": "webhook", "url": f"{url}/webhook/mover/{floor}", "concurrency": lanes}
        if self._is_guest_there:
            yield "guest", {"type": "webhook", "url": f"{url}/webhook/guest"}
        for name in ("one-name", "another-name"):
            if self._is_last or name == self._name:
                yield name, {"type": "webhook", "url": f"{url}/webhook/renamed"}
        if not self._is_gone:
            yield "gone", {"type": "webhook", "url": f"{url}/webhook/gone"}

    @property
    def _name(self) -> str:
        """What the renamed target is called now."""
        return "one-name" if self._number // 3 % 2 else "another-name"

    def _watches(self) -> Iterator[dict[str, Any]]:
        yield from (self._watch(number, "archive", "band-room", "mover") for number in KEPT)
        yield from (self._watch(number) for number in sorted(self._passing))
        if self._is_guest_there:
            yield from (self._watch(number, "guest", "archive") for number in OF_GUEST)
        yield from (self._watch(number, self._name) for number in OF_RENAMED)
        if not self._is_gone:
            yield from (self._watch(number, "gone") for number in OF_GONE)

    def _watch(self, number: int, *targets: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"audio_id": audio_id(number)}
        if targets:
            entry["notify"] = [*targets]
        if targets == ("gone",):
            return {**entry, "interval": "50ms"}
        if self._rng.random() < 0.1:
            entry["interval"] = self._rng.choice(["400ms", "450ms"])
        return {**entry, "name": f"Track {number} {self._rng.choice(['early', 'late'])}"}


def _numbers(request: Received) -> list[int]:
    """Return the tracks that a message tells of."""
    if request.path.startswith("/slack"):
        return [int(name.split()[1]) for name in tracks_told(request)]
    return [int(request.json()["data"]["audio_id"].rpartition(":")[2])]
