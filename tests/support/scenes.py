"""A watchlist to run the real daemon on, tracks that end when told, and receivers that accept everything."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.servers import Received, Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id, completed, path_of, track

Payload = Mapping[str, Any]

ACCEPTED = {
    "slack": Reply(body="ok", content_type="text/html"),
    "discord": Reply(body='{"id": "1"}'),
    "mattermost": Reply(body="ok", content_type="text/plain"),
    "webhook": Reply(status=204),
}
"""What each type of receiver answers to a message that it takes."""
_MARKDOWN = re.compile(r"\\([^0-9A-Za-z\s])")


def at_work(request: Received) -> Reply:
    """Answer for any track that it is being made, and for lists that there are none."""
    if request.path == MUSIC:
        return answer({"error": "no lists here"}, 404)
    return answer(track(int(request.path.rpartition(":")[2])))


def accepting(request: Received) -> Reply:
    """Accept a message as the type of receiver does that its path begins with."""
    return ACCEPTED[request.path.split("/")[1]]


class Scene:
    """See the module. The paths of a receiver begin with its type: ``/slack``, ``/webhook/archive``."""

    def __init__(self, directory: Path, api: Server, receiver: Server) -> None:
        self.file = directory / "watchlist.yaml"
        self.state = directory / "state.db"
        self.api, self.receiver = api, receiver
        self.targets: dict[str, dict[str, Any]] = {}
        self.notify: Sequence[str] | None = None
        self.alerts: Sequence[str] = ()
        self.delivery: dict[str, str] = {"first_retry": "100ms"}
        self.useapi: dict[str, Any] = {
            "token": "user:1-abc",
            "base_url": f"{api.url}/v2/pixverse",
            "rate": "500/s",
        }
        self.stalled_after = "3000d"
        self.poll: dict[str, Any] = {"interval": "50ms", "max_interval": "200ms"}
        self.http: str | None = None
        self.callback: dict[str, str] | None = None
        self.accounts: Sequence[Mapping[str, Any]] = ()
        """Entries that follow accounts, behind those of tracks."""
        api.otherwise(at_work)
        receiver.otherwise(accepting)

    def target(self, name: str, path: str, **keys: Any) -> None:
        """Add a target of the type that its path begins with."""
        kind = path.partition("?")[0].split("/")[1]
        self.targets[name] = {"type": kind, "url": f"{self.receiver.url}{path}", **keys}

    def write(self, *numbers: int) -> Path:
        """Replace the watchlist, which as JSON is YAML too, by one of these tracks."""
        watchlist = {
            "useapi": self.useapi,
            "poll": {**self.poll, "stalled_after": self.stalled_after},
            "delivery": self.delivery,
            "targets": self.targets,
            "defaults": {"notify": [*(self.targets if self.notify is None else self.notify)]},
            "alerts": [*self.alerts],
            "state": str(self.state),
            "watch": [
                *({"audio_id": audio_id(number), "name": f"Track {number}"} for number in numbers),
                *self.accounts,
            ],
        }
        if self.http is not None:
            watchlist["http"] = self.http
        if self.callback is not None:
            watchlist["callback"] = self.callback
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(watchlist, indent=2))
        new.chmod(0o600)
        new.replace(self.file)
        return self.file

    def complete(self, *numbers: int) -> None:
        """Let tracks be ready from their next read on."""
        for number in numbers:
            self.api.reply(path_of(audio_id(number)), answer(completed(number)))


def cards(payload: Payload) -> list[str]:
    """Return the texts of a chat message as people read them, one for each event that it tells."""
    if "blocks" in payload:
        return [*_slack_cards(payload["blocks"])]
    if "embeds" in payload:
        return [
            _MARKDOWN.sub(r"\1", f"{embed['title']}\n{embed.get('description', '')}")
            for embed in payload["embeds"]
        ]
    return [html.unescape(f"{card['title']}\n{card['text']}") for card in payload["attachments"]]


def _slack_cards(blocks: Sequence[Payload]) -> Iterator[str]:
    """Split a message at its headers."""
    lines: list[str] = []
    for block in blocks:
        if block["type"] == "header" and lines:
            yield "\n".join(lines)
            lines = []
        lines += [text["text"] for text in block.get("elements") or [block["text"]]]
    yield "\n".join(lines)


def tracks_told(request: Received) -> list[str]:
    """Return the names of the tracks that a message tells of, in order."""
    return [name for card in cards(request.json()) for name in re.findall(r"Track \d+", card.split("\n")[0])]
