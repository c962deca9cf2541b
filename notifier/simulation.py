"""The world of ``notifier demo``: a useapi.net whose clock runs fast, and receivers that show what they got.

Nothing here is used by the daemon; it talks to these servers over HTTP like to the real ones.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from notifier.clock import to_rfc3339
from notifier.event import EventType
from notifier.track import Status

USER = "user:4711-pixverse:demo@example.com-music:"
TOKEN = "user:4711-demo"  # noqa: S105 - opens nothing
STALLED_AFTER = timedelta(minutes=30)
_QUEUED_FOR = 20.0


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
    started: float = 0.0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    request_count: int = 0
    received: list[tuple[str, str, str]] = field(default_factory=list)
    """Receiver, type of event and audio_id or name of each message."""

    def now(self) -> float:
        """Return the simulated seconds since the start."""
        return (asyncio.get_running_loop().time() - self.started) * self.speed

    def moment(self, seconds: float) -> str:
        """Write a simulated moment."""
        return to_rfc3339(self.started_at + timedelta(seconds=seconds))


class SimulatedApi:
    """Answers ``GET /music/{audio_id}`` as the documented API does, with an outage in between."""

    OUTAGE = (70.0, 95.0)

    def __init__(self, world: World) -> None:
        self._world = world
        self._fates = {fate.audio_id: fate for fate in FATES}
        self._is_down = False

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_get("/v2/pixverse/music/{audio_id}", self._music)
        return app

    async def _music(self, request: web.Request) -> web.Response:
        self._world.request_count += 1
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "Unauthorized", "code": 401}, status=401)
        now = self._world.now()
        if self._outage(now):
            return web.Response(status=503, text="<html><h1>503</h1></html>", content_type="text/html")
        fate = self._fates.get(request.match_info["audio_id"])
        if fate is None or (fate.ending is Status.MISSING and now >= fate.ends_at):
            return web.json_response(
                {"error": f"Music {request.match_info['audio_id']} not found"}, status=404
            )
        return web.json_response(self._track(fate, now))

    def _outage(self, now: float) -> bool:
        begins, ends = self.OUTAGE
        is_down = begins <= now < ends
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
        if now >= fate.ends_at:
            track["updated_at"] = self._world.moment(fate.ends_at)
            return track | self._ended(fate)
        if now < _QUEUED_FOR:
            return track | {"audio_status": 5, "audio_status_name": "QUEUED", "audio_status_final": False}
        return track | {"audio_status": 10, "audio_status_name": "GENERATING", "audio_status_final": False}

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
        payload = await request.json()
        for message in _slack_messages(payload["blocks"]):
            self._note("band-room", message[0])
            self._world.say("Slack  band-room", "\n".join(message))
        return web.Response(text="ok")

    async def _discord(self, request: web.Request) -> web.Response:
        payload = await request.json()
        if not self._has_limited:
            self._has_limited = True
            self._world.say("Discord  studio", "answers 429: retry after 0.6 s")
            limited = {"message": "You are being rate limited.", "retry_after": 0.6, "global": False}
            return web.json_response(limited, status=429)
        for embed in payload["embeds"]:
            self._note("studio", embed["title"])
            self._world.say("Discord  studio", "\n".join(_discord_lines(embed)))
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

    def _note(self, receiver: str, headline: str) -> None:
        for fate in FATES:
            for event_type in fate.events:
                if fate.name in headline and _WORDS[event_type] in headline:
                    self._world.received.append((receiver, event_type.value, fate.name))


_WORDS = {
    EventType.COMPLETED: "is ready",
    EventType.FAILED: "failed",
    EventType.MISSING: "is missing",
    EventType.STALLED: "is still",
}


def _slack_messages(blocks: list[Mapping[str, Any]]) -> list[list[str]]:
    """Split a Slack message at its headers and show each part as a client would."""
    messages: list[list[str]] = []
    for block in blocks:
        match block["type"]:
            case "header":
                messages.append([block["text"]["text"]])
            case "section":
                messages[-1].append(_shown(block["text"]))
            case "context":
                messages[-1].append("  ·  ".join(_shown(element) for element in block["elements"]))
    return messages


def _shown(text: Mapping[str, Any]) -> str:
    if text["type"] == "plain_text":
        return str(text["text"])
    shown = str(text["text"]).replace("*<", "").replace("|Listen>*", " (Listen)")
    return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _discord_lines(embed: Mapping[str, Any]) -> list[str]:
    lines = [_plain(embed["title"]) + (f"  {embed['url']}" if "url" in embed else "")]
    if "fields" in embed:
        lines.append("  ·  ".join(f"{field['name']} {_plain(field['value'])}" for field in embed["fields"]))
    lines += [_plain(line) for line in embed.get("description", "").split("\n") if line]
    if "footer" in embed:
        lines.append(embed["footer"]["text"])
    return lines


def _plain(markdown: str) -> str:
    """Show Discord's Markdown without the backslashes that keep foreign text literal."""
    return "".join(
        character
        for index, character in enumerate(markdown)
        if character != "\\" or markdown[index - 1 : index] == "\\"
    )
