"""The world of ``notifier demo``: a useapi.net whose clock runs fast, and receivers that show what they got.

Nothing here is used by the daemon; it talks to these servers over HTTP like to the real ones.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from aiohttp import web

from notifier.clock import from_rfc3339, to_rfc3339
from notifier.event import EventType
from notifier.track import Status

USER = "user:4711-pixverse:demo@example.com-music:"
TOKEN = "user:4711-demo"  # noqa: S105 - opens nothing
STALLED_AFTER = timedelta(minutes=30)
_QUEUED_FOR = 20.0
_STALL_SHOWS_AFTER = 1.5
"""After how many real seconds it is seen by whoever goes by the dates of answers, which are whole seconds."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What will become of a simulated track; seconds are on the simulated clock."""

    number: int
    name: str
    prompt: str
    events: tuple[EventType, ...]
    ends_at: float
    ending: Status
    seconds: int = 0
    stalls_at: float | None = None
    notify: tuple[str, ...] = ()

    @property
    def audio_id(self) -> str:
        """The track's id."""
        return f"{USER}{self.number}"


FATES = (
    Fate(
        101,
        "Intro theme",
        "A slow synthwave intro: warm pads, a distant saxophone, rain on the windows",
        (EventType.COMPLETED,),
        150,
        Status.COMPLETED,
        seconds=202,
    ),
    Fate(
        102,
        "Rooftop chase",
        "Breakbeat, 170 bpm, double bass and sirens far away <@here> *now*",
        (EventType.COMPLETED,),
        185,
        Status.COMPLETED,
        seconds=147,
    ),
    Fate(
        103,
        "Boss fight",
        "Orchestra and distorted guitars, choir in Latin",
        (EventType.FAILED,),
        110,
        Status.FAILED,
    ),
    Fate(
        104,
        "Yesterday's ballad",
        "Piano and one voice, as if recorded at home",
        (EventType.COMPLETED,),
        0,
        Status.COMPLETED,
        seconds=221,
        notify=("archive",),
    ),
    Fate(105, "Lost tape", "Lo-fi hiss and a music box", (EventType.MISSING,), 60, Status.MISSING),
    Fate(
        106,
        "Endless drone",
        "One chord, for ever",
        (EventType.STALLED, EventType.COMPLETED),
        200,
        Status.COMPLETED,
        seconds=600,
        stalls_at=125,
    ),
)


@dataclass(slots=True)
class World:
    """The simulated clock and everybody's view of it."""

    speed: float
    say: Callable[[str, str], None]
    started: float | None = None
    """When the simulated clock began to run, by the loop's."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    request_count: int = 0
    received: list[tuple[str, str, str]] = field(default_factory=list)
    """Receiver, type of event and audio_id or name of each message."""

    def now(self) -> float:
        """Return the simulated seconds since the start."""
        if self.started is None:
            return 0.0
        return (asyncio.get_running_loop().time() - self.started) * self.speed

    def ask(self) -> float:
        """Count a request to the API and return the simulated seconds.

        The clock starts with the first one, lest a daemon that comes up slowly misses what happens.
        """
        if self.started is None:
            self.started, self.started_at = asyncio.get_running_loop().time(), datetime.now(UTC)
        self.request_count += 1
        return self.now()

    def moment(self, seconds: float) -> str:
        """Write a simulated moment."""
        return to_rfc3339(self.started_at + timedelta(seconds=seconds))


class SimulatedApi:
    """Answers for a track and with the account's list as the documented API does, but for an outage."""

    OUTAGE_AFTER, OUTAGE_LASTS = 70.0, 25.0

    def __init__(self, world: World) -> None:
        self._world = world
        self._fates = {fate.audio_id: fate for fate in FATES}
        self._is_down = False
        self._down_since: float | None = None
        self._seen_stalled: set[Fate] = set()

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_get("/v2/pixverse/music/", self._list)
        app.router.add_get("/v2/pixverse/music/{audio_id}", self._music)
        return app

    async def _music(self, request: web.Request) -> web.Response:
        now = self._world.ask()
        refusal = self._refusal(request, now)
        if refusal is not None:
            return refusal
        fate = self._fates.get(request.match_info["audio_id"])
        if fate is None or self._is_gone(fate, now):
            return web.json_response(
                {"error": f"Music {request.match_info['audio_id']} not found"}, status=404
            )
        return web.json_response(self._track(fate, now))

    async def _list(self, request: web.Request) -> web.Response:
        now = self._world.ask()
        refusal = self._refusal(request, now)
        if refusal is not None:
            return refusal
        limit, offset = int(request.query.get("limit", "50")), int(request.query.get("offset", "0"))
        tracks = [self._track(fate, now) for fate in reversed(FATES) if not self._is_gone(fate, now)]
        shown = tracks[offset : offset + limit]
        end = offset + len(shown)
        return web.json_response({"data": shown, "next_offset": end, "has_more": end < len(tracks)})

    def _refusal(self, request: web.Request, now: float) -> web.Response | None:
        """Return the answer to a request that gets nothing, because of its token or an outage."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "Unauthorized", "code": 401}, status=401)
        if self._outage(now):
            return web.Response(status=503, text="<html><h1>503</h1></html>", content_type="text/html")
        return None

    def _is_gone(self, fate: Fate, now: float) -> bool:
        return fate.ending is Status.MISSING and now >= fate.ends_at

    def _outage(self, now: float) -> bool:
        if now >= self.OUTAGE_AFTER and self._down_since is None:
            self._down_since = now  # NB: with a request, or a slow machine might never see it
        is_down = self._down_since is not None and now < self._down_since + self.OUTAGE_LASTS
        if is_down != self._is_down:
            self._is_down = is_down
            self._world.say("useapi.net", "answers 503 for a while" if is_down else "is well again")
        return is_down

    def _track(self, fate: Fate, now: float) -> dict[str, Any]:
        track: dict[str, Any] = {
            "audio_id": fate.audio_id,
            "asset_id": fate.number,
            "create_mode": "music",
            "provider": "minimax",
            "model": "music-2.6",
            "prompt": fate.prompt,
            "name": f"PixVerse_Music_{fate.number}.mp3",
            "credits": 40,
            "created_at": to_rfc3339(self._world.started_at - self._age(fate)),
        }
        if self._has_ended(fate, now):
            track["updated_at"] = self._world.moment(fate.ends_at)
            return track | self._ended(fate)
        if now < _QUEUED_FOR:
            return track | {"audio_status": 5, "audio_status_name": "QUEUED", "audio_status_final": False}
        return track | {"audio_status": 10, "audio_status_name": "GENERATING", "audio_status_final": False}

    def _has_ended(self, fate: Fate, now: float) -> bool:
        """Say whether a track has ended: one that is to stall, once a request has shown that it has."""
        if fate.stalls_at is None or fate in self._seen_stalled:
            return now >= fate.ends_at
        if now >= fate.stalls_at + _STALL_SHOWS_AFTER * self._world.speed:
            self._seen_stalled.add(fate)  # NB: as with the outage
        return False

    def _age(self, fate: Fate) -> timedelta:
        """Return how old a track is at the start; one that is to stall lacks just the time until then."""
        if fate.stalls_at is None:
            return timedelta(0)
        return STALLED_AFTER - timedelta(seconds=fate.stalls_at / self._world.speed)

    def _ended(self, fate: Fate) -> dict[str, Any]:
        if fate.ending is Status.COMPLETED:
            return {
                "audio_status": 1,
                "audio_status_name": "COMPLETED",
                "audio_status_final": True,
                "duration": fate.seconds,
                "url": f"https://media.example.com/{fate.number}.mp3",
            }
        return {
            "audio_status": 8,
            "audio_status_name": "FAILED",
            "audio_status_final": True,
            "fail_code": "music_generation_failed",
            "fail_reason": "The backend ran out of patience <!channel>",
        }


class Receivers:
    """A Slack, a Discord that is rate limited at first, and a webhook; all show what they received."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._has_limited = False

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_post("/slack", self._slack)
        app.router.add_post("/discord", self._discord)
        app.router.add_post("/archive", self._archive)
        return app

    async def _slack(self, request: web.Request) -> web.Response:
        for lines in _slack_messages(await request.json()):
            self._show("Slack", "band-room", lines)
        return web.Response(text="ok")

    async def _discord(self, request: web.Request) -> web.Response:
        payload = await request.json()
        if not self._has_limited:
            self._has_limited = True
            self._world.say("Discord  studio", "answers 429: retry after 0.6 s")
            limited = {"message": "You are being rate limited.", "retry_after": 0.6, "global": False}
            return web.json_response(limited, status=429)
        for lines in _discord_messages(payload):
            self._show("Discord", "studio", lines)
        return web.json_response({"id": "1"})

    async def _archive(self, request: web.Request) -> web.Response:
        body = await request.text()
        event = json.loads(body)
        self._world.received.append(("archive", event["type"], event["data"]["name"]))
        data = event["data"]
        lines = [f"{event['type']}  {data['name']}  {data['previous_status'] or 'new'} → {data['status']}"]
        signature = request.headers["webhook-signature"]
        lines.append(f"webhook-id {request.headers['webhook-id']}, signature {signature[:12]}…")
        self._world.say("webhook  archive", "\n".join(lines))
        return web.Response(status=204)

    def _show(self, service: str, receiver: str, lines: Sequence[str]) -> None:
        """Say what came, and note the events that it tells: one a card, many when they are summed up."""
        for line, fate in product(lines, FATES):
            self._world.received += (
                (receiver, event_type.value, fate.name)
                for event_type in fate.events
                if fate.name in line and _WORDS[event_type] in line
            )
        self._world.say(f"{service}  {receiver}", "\n".join(lines))


_WORDS = {
    EventType.COMPLETED: "is ready",
    EventType.FAILED: "failed",
    EventType.MISSING: "is missing",
    EventType.STALLED: "is still",
}
_SLACK_TOKEN = re.compile(r"(\*?)<([^<>]*)>\1")
_MARKDOWN = re.compile(
    r"(?P<code>`[^`]*`)|\[(?P<label>\w+)\]\((?P<address>[^()\s]*)\)|<(?P<bare>https?://[^<>\s]*)>"
    r"|<t:(?P<moment>\d+):f>|\\(?P<mark>[^0-9A-Za-z\s])"
)


def _slack_messages(payload: Mapping[str, Any]) -> list[list[str]]:
    """Split a Slack message at its headers, or else its empty lines, and show each part as a client would."""
    if "blocks" not in payload:
        return [_mrkdwn(part).split("\n") for part in payload["text"].split("\n\n")]
    messages: list[list[str]] = []
    for block in payload["blocks"]:
        if block["type"] == "header" or not messages:
            messages.append([])
        elements = block["elements"] if block["type"] == "context" else [block["text"]]
        messages[-1] += "  ".join(map(_slack_text, elements)).split("\n")
    return messages


def _slack_text(text: Mapping[str, Any]) -> str:
    return _mrkdwn(text["text"]) if text["type"] == "mrkdwn" else str(text["text"])


def _mrkdwn(markup: str) -> str:
    """Show Slack's markup, but a link with its address, a moment in UTC and code in its backticks."""
    shown = _SLACK_TOKEN.sub(_slack_token, markup)
    return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _slack_token(found: re.Match[str]) -> str:
    target, _, label = found[2].partition("|")
    if target.startswith("!date^"):
        return label
    return f"{label} ({target})" if label else target


def _discord_messages(payload: Mapping[str, Any]) -> list[list[str]]:
    """Split a Discord message at its titles, or else its empty lines, and show each part alike."""
    if "embeds" not in payload:
        return [_markdown(part).split("\n") for part in payload["content"].split("\n\n")]
    messages: list[list[str]] = []
    for embed in payload["embeds"]:
        if "title" in embed or not messages:
            messages.append([])
        messages[-1] += _embed_lines(embed)
    return messages


def _embed_lines(embed: Mapping[str, Any]) -> Iterator[str]:
    if "title" in embed:
        yield _markdown(embed["title"]) + (f" ({embed['url']})" if "url" in embed else "")
    for line in embed.get("description", "").split("\n"):
        if line:
            yield _markdown(line)
    if "fields" in embed:
        yield "  ·  ".join(f"{field['name']} {_markdown(field['value'])}" for field in embed["fields"])
    if "timestamp" in embed:
        yield f"{from_rfc3339(embed['timestamp']):%Y-%m-%d %H:%M} UTC"


def _markdown(text: str) -> str:
    """Show Discord's Markdown, but a link with its address, a moment in UTC and code in its backticks."""
    return _MARKDOWN.sub(_discord_markup, text)


def _discord_markup(found: re.Match[str]) -> str:
    if found["label"]:
        return f"{found['label']} ({found['address']})"
    if found["moment"]:
        return f"{datetime.fromtimestamp(int(found['moment']), UTC):%Y-%m-%d %H:%M} UTC"
    return found["code"] or found["bare"] or found["mark"]
