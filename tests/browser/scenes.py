"""State files and watchlists for the status page to show, on the daemon's own listener."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from notifier.bookmark import Bookmark
from notifier.clock import to_rfc3339
from notifier.delivery import DeliveryState
from notifier.event import Alert, EventType, Problem, TrackNews, track_event
from notifier.gate import GateState
from notifier.gatebook import API_GATE
from notifier.metrics import Metrics
from notifier.page import Situation, StatusPage
from notifier.report import overview
from notifier.secret import Masker
from notifier.store import Owed, Settlement, Store, StoredGate
from notifier.track import compact_json, parse
from notifier.transition import Sighting
from notifier.usage import DAY, Usage, hour_of
from notifier.web import Health, Site, Views
from tests.support.clocks import ManualClock
from tests.support.hostile import NASTY, URLS
from tests.support.servers import free_port
from tests.support.tracks import audio_id, completed, failed, track
from tests.support.watchlists import loaded

NOW = datetime(2026, 6, 23, 12, 38, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TARGETS = {
    "band-room": {"type": "slack", "url": "https://hooks.slack.com/services/T0/B0/slackhunter2"},
    "studio": {"type": "discord", "url": "https://discord.com/api/webhooks/1/discordhunter2"},
    "archive": {"type": "webhook", "url": "https://example.com/hooks/archivehunter2"},
}
SECRETS = ("slackhunter2", "discordhunter2", "archivehunter2", "tokenhunter2")


@dataclass(slots=True)
class Scene:
    """A page that is being served. Change what it shows through `store`, `clock` and `situation`."""

    url: str
    store: Store
    clock: ManualClock
    situation: Situation
    site: Site


class Author:
    """Writes a state file as the daemon would, and the watchlist that goes with it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.watch: list[dict[str, Any]] = []
        self.targets: dict[str, dict[str, str]] = dict(TARGETS)
        self.situation: dict[str, Any] = {}
        self.http = f"127.0.0.1:{free_port()}"

    async def seen(
        self,
        number: int,
        fields: Mapping[str, Any],
        *,
        name: str | None = None,
        ago: timedelta = timedelta(0),
        told: Iterable[str] = (),
        event: EventType | None = None,
        is_missing: bool = False,
        is_watched: bool = True,
    ) -> None:
        """Let a track have been seen like this some time ago, and an event be owed to some targets."""
        at = NOW - ago
        if is_watched:
            self.watch.append({"audio_id": audio_id(number), **({"name": name} if name else {})})
        found = parse(fields)
        status = "MISSING" if is_missing else found.status
        sighting = Sighting(status, found.is_final or is_missing, found.name, at)
        news = TrackNews(
            audio_id(number), name or found.name or audio_id(number), status, "GENERATING", found
        )
        owed = [Owed(track_event(event, news, at), tuple(told))] if event is not None else []
        await self.store.record(audio_id(number), sighting, found, owed, now=at)

    async def delivered(self, target: str, *, status: int, answer: str = "") -> None:
        """Let all that a target is owed have been delivered a moment after it happened."""
        for delivery in await self.store.due(target, limit=1000):
            at = delivery.event.detected_at + timedelta(seconds=1)
            state = DeliveryState.DELIVERED
            ids = (delivery.id,)
            await self.store.settle(Settlement(target, ids, at, status, answer, "", "delivered", state))

    async def refused(
        self, target: str, *, status: int, answer: str, ago: timedelta, state: DeliveryState, count: int = 1
    ) -> None:
        """Let the oldest that a target is owed have been tried some time ago, in vain."""
        ids = tuple(delivery.id for delivery in await self.store.due(target, limit=count))
        error = f"HTTP {status}: {answer}"
        outcome = "rejected" if state is DeliveryState.DEAD else "retry"
        await self.store.settle(Settlement(target, ids, NOW - ago, status, answer, error, outcome, state))

    async def closed(
        self, target: str, state: GateState, reason: str, *, since: timedelta, until: timedelta | None = None
    ) -> None:
        """Let a target take no messages since some time."""
        ends = None if until is None else NOW + until
        await self.store.save_gate(StoredGate(target, state, reason, NOW - since, ends, failures=1))

    def watchlist(self) -> str:
        """Return the watchlist; JSON is YAML too."""
        useapi = {"token": "user:12345-tokenhunter2"}
        return json.dumps({"useapi": useapi, "targets": self.targets, "watch": self.watch, "http": self.http})


Build = Callable[[Author], Awaitable[None]]


@contextlib.asynccontextmanager
async def shown(directory: Path, build: Build) -> AsyncIterator[Scene]:
    """Serve the page of a scene for the length of a block."""
    clock = ManualClock(NOW)
    async with Store(directory / "state.db") as store:
        author = Author(store)
        await build(author)
        read = loaded(author.watchlist())
        situation = Situation(
            config=read.config,
            config_file="/etc/notifier/watchlist.yaml",
            config_error=None,
            loaded_at=NOW - 130 * MINUTE,
            reasons=(),
            degraded=(),
            clock_offset=timedelta(0),
            mask=Masker(read.secrets).mask,
        )
        scene = Scene("", store, clock, replace(situation, **author.situation), Site(None))  # type: ignore[arg-type]

        async def nothing() -> None:
            return None

        views = Views(
            health=lambda: Health(tuple(scene.situation.reasons), tuple(scene.situation.degraded)),
            overview=lambda: overview(
                store, read.config, config_file="w", config_error=None, is_running=True, now=clock.now()
            ),
            refresh_metrics=nothing,
            metrics=Metrics(),
            page=StatusPage(store, clock=clock, situation=lambda: scene.situation),
        )
        scene.site = Site(views)
        await scene.site.move(read.config.http)
        scene.url = f"http://{author.http}"
        try:
            yield scene
        finally:
            await scene.site.move(None)


def made(took: timedelta, *, ago: timedelta, **fields: Any) -> dict[str, str]:
    """Return when a track was begun and ended."""
    ended = NOW - ago
    return {"created_at": to_rfc3339(ended - took), "updated_at": to_rfc3339(ended), **fields}


def begun(age: timedelta) -> dict[str, str]:
    """Return when a track was begun that is under way."""
    return {"created_at": to_rfc3339(NOW - age), "updated_at": to_rfc3339(NOW - age)}


async def empty(author: Author) -> None:
    """Tell of a daemon that has just been installed."""


READY = (
    ("Menu loop", "Marimba and soft percussion, loops without a seam", 96, 131),
    ("Credits roll", "Strings that open up, brass towards the end", 184, 172),
    ("Yesterday's ballad", "Piano and one voice, as if recorded at home", 221, 140),
    ("Rooftop chase", "Breakbeat, 170 bpm, double bass and sirens far away", 147, 165),
    ("Intro theme", "A slow synthwave intro: warm pads, a distant saxophone, rain on the windows", 202, 150),
)
UNDER_WAY: Sequence[tuple[int, str, int, dict[str, Any]]] = (
    (1, "Endless drone", 1260, {}),
    (2, "Train to the coast", 121, {}),
    (3, "Harbour at night", 62, {}),
    (4, "Two left feet", 9, {"audio_status": 5, "audio_status_name": "QUEUED"}),
)


async def tracks_of_a_day(author: Author, media: str = "https://media.example.com") -> None:
    """Let some tracks be ready, one have failed and some be under way."""
    for index, (name, prompt, length, took) in enumerate(READY):
        ago, number = (3 + 14 * (len(READY) - index)) * MINUTE, 10 + index
        when = made(timedelta(seconds=took), ago=ago)
        fields = completed(number, prompt=prompt, duration=length, url=f"{media}/{number}.mp3", **when)
        await author.seen(number, fields, name=name, ago=ago, told=TARGETS, event=EventType.COMPLETED)
    when = made(timedelta(seconds=110), ago=9 * MINUTE)
    reason = "The backend was busy and gave up on this track"
    fields = failed(20, prompt="Orchestra & distorted guitars, choir in Latin", fail_reason=reason, **when)
    await author.seen(20, fields, name="Boss fight", ago=9 * MINUTE, told=TARGETS, event=EventType.FAILED)
    for number, name, seconds, status in UNDER_WAY:
        age = timedelta(seconds=seconds)
        await author.seen(number, track(number, **status, **begun(age)), name=name, ago=age)


async def typical(author: Author) -> None:
    """Tell of an afternoon like any other."""
    await tracks_of_a_day(author)
    await author.delivered("band-room", status=200, answer="ok")
    await author.delivered("studio", status=200)
    await author.delivered("archive", status=204)
    await author.store.add_usage(hour_of(NOW), Usage(62, 57, 341.0), kept_from=NOW - DAY)


async def broken(author: Author) -> None:
    """Tell of a day on which much goes wrong at once."""
    await tracks_of_a_day(author)
    tape = track(21, prompt="Lo-fi hiss and a music box")
    await author.seen(21, tape, name="Lost tape", ago=4 * MINUTE, is_missing=True)
    author.watch.append({"audio_id": audio_id(22), "name": "Not read yet"})
    for account in ("me@example.com", "someone.with.a.longer.address+music@example.com", "new@example.com"):
        author.watch.append({"account": account})
    await author.store.discover("me@example.com", Bookmark(NOW), [audio_id(1)], now=NOW - 20 * MINUTE)
    await author.store.discover(
        "someone.with.a.longer.address+music@example.com", None, now=NOW, trouble="HTTP 404: no such account"
    )
    await author.seen(23, completed(23), ago=2 * 60 * MINUTE, is_watched=False)
    dead, pending = DeliveryState.DEAD, DeliveryState.PENDING
    answer = '{"error": "body.text must not be longer than 200 characters", "request": "f3a91c"}'
    await author.refused("archive", status=422, answer=answer, ago=31 * MINUTE, state=dead, count=2)
    await author.refused("archive", status=503, answer="Service Unavailable", ago=MINUTE, state=pending)
    await author.closed(
        "archive", GateState.WAITING, "HTTP 503: Service Unavailable", since=MINUTE, until=4 * MINUTE
    )
    await author.refused("band-room", status=404, answer="no_service", ago=58 * MINUTE, state=pending)
    await author.closed("band-room", GateState.PAUSED, "HTTP 404: no_service", since=58 * MINUTE)
    await author.delivered("studio", status=200)
    summary = "the target band-room is paused (HTTP 404: no_service): mend its url, or run: notifier resume"
    alert = Alert(Problem.TARGET_PAUSED, "band-room", summary)
    await author.store.report(alert, ("studio",), now=NOW - 58 * MINUTE)
    await author.delivered("studio", status=200)
    await author.closed(API_GATE, GateState.WAITING, "HTTP 401: Unauthorized", since=MINUTE, until=3 * MINUTE)
    author.situation = {
        "config_error": (
            "watchlist.yaml:4:5: targets.band-room.typ: unknown key 'typ', did you mean 'type'?\n"
            "watchlist.yaml:9:14: watch[0].notify[0]: unknown target 'band-rom', did you mean 'band-room'?"
        ),
        "reasons": ("the API cannot be read: HTTP 401: Unauthorized",),
        "degraded": (
            "the target band-room is paused: HTTP 404: no_service",
            "the changed watchlist is invalid, the earlier one is in force",
        ),
    }


MANY = 5000


async def many(author: Author, count: int = MANY) -> None:
    """Tell of thousands of tracks: a third under way, some failed."""
    prompt, rows = "Nine minutes of one idea, turned around " * 20, []
    for number in range(1, count + 1):
        at = to_rfc3339(NOW - timedelta(seconds=10 * (count - number)))
        when = made(timedelta(seconds=120 + number % 60), ago=timedelta(seconds=10 * (count - number)))
        if number % 3 == 0:
            found = parse(track(number, prompt=prompt, **begun(timedelta(seconds=number % 200))))
        else:
            found = parse((failed if number % 50 == 1 else completed)(number, prompt=prompt, **when))
        identifier, text = audio_id(number), compact_json(found.fields)
        author.watch.append({"audio_id": identifier, "name": f"Sketch {number}"})
        rows.append((identifier, found.name, found.status, found.is_final, at, at, text))
    # NB: in one transaction, since the daemon's way of writing them one by one takes seconds
    with contextlib.closing(sqlite3.connect(author.store.path)) as connection, connection:
        connection.executemany(
            "INSERT INTO track (audio_id, name, status, is_final, first_seen, changed_at, as_returned)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )


MARKUP = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</textarea><svg onload=alert(3)>",
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }} {% raw %}",
    "\u202e3pm.rekaf\u202c \u2066hidden\u2069",
    "\u0007\u001b[31mred\u001b[0m",
    "tokenhunter2 and slackhunter2",
    "x" * 51 + "slackhunter2",
    "x" * 71 + "slackhunter2",
    "x" * 111 + "slackhunter2",
    "https://evil.example/track.png",
    "&lt;b&gt; &amp;",
)
HOSTILE_URLS = (
    *URLS,
    "javascript:alert(5)",
    "data:text/html,<script>alert(6)</script>",
    'https://media.example.com/"><script>alert(7)</script>',
    "https://media.example.com/?token=tokenhunter2",
)


async def hostile(author: Author) -> None:
    """Tell of tracks in which everything that comes from outside means harm."""
    texts, count = [*MARKUP, *NASTY], 0
    for count, text in enumerate(texts):
        url = HOSTILE_URLS[count % len(HOSTILE_URLS)]
        fields = {
            "name": text,
            "prompt": text,
            "model": text,
            "url": url,
            "fail_reason": text,
            "fail_code": text,
        }
        kind = (completed, failed, track)[count % 3]
        event = (EventType.COMPLETED, EventType.FAILED, None)[count % 3]
        found = kind(count, **fields, **({"audio_status_name": text} if kind is track else {}))
        await author.seen(count, found, told=("archive",) if count < len(MARKUP) else (), event=event)
    for index, url in enumerate(HOSTILE_URLS, start=count + 1):
        await author.seen(index, completed(index, url=url), ago=MINUTE)
    for text in MARKUP[:5]:
        await author.refused("archive", status=400, answer=text, ago=MINUTE, state=DeliveryState.DEAD)


SCENES: Mapping[str, Build] = {
    "empty": empty,
    "typical": typical,
    "broken": broken,
    "many": many,
    "hostile": hostile,
}
