"""Slack incoming webhooks: Block Kit with a plain ``text`` for notifications.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/apis/web-api/rate-limits
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from notifier.answer import Answer
from notifier.delivery import Delivered, Outcome, Retry
from notifier.event import Event
from notifier.gate import Pace
from notifier.message import Message, compose
from notifier.targets.base import Request, Target
from notifier.targets.mention import Mention
from notifier.text import shorten
from notifier.track import compact_json

_MOST_EVENTS = 10
_LONGEST_HEADER = 150
_ROOM = 2000
"""Characters for the foreign texts of one message: Slack refuses a message above about 12,000 in all."""

_GROUP_PINGS = {"here": "<!here>", "everyone": "<!channel>"}


class Slack(Target):
    """A Slack channel behind an incoming webhook."""

    type: Literal["slack"] = Field(description="A Slack incoming webhook.")
    mention: tuple[Mention, ...] = Field(
        default=(),
        description="Who is pinged with each message: user:ID, role:ID (a user group), here, everyone.",
    )

    pace: ClassVar[Pace] = Pace(1, timedelta(seconds=1))
    foreign_hosts: ClassVar[Mapping[str, str]] = {"discord.com": "discord", "discordapp.com": "discord"}

    @property
    def most_events(self) -> int:
        """How many events one message can take at the most."""
        return _MOST_EVENTS

    def render(self, events: Sequence[Event], *, now: datetime) -> Request:
        """Return one message of up to ten events."""
        messages = [compose(event) for event in events[:_MOST_EVENTS]]
        room = _ROOM // len(messages)
        blocks = [block for message in messages for block in _blocks(message, room)]
        pings = " ".join(_ping(mention) for mention in self.mention)
        if pings:
            blocks.insert(0, _section(pings))
        payload = {
            "text": _fallback(messages, pings),
            "blocks": blocks,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return Request("POST", self.url, headers, compact_json(payload).encode(), len(messages))

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Take only ``ok`` for a success: Slack says 200 to some failures as well."""
        outcome = super().classify(answer, now=now)
        if isinstance(outcome, Delivered) and not _says_ok(answer):
            return Retry(f"{answer.describe()} (expected ok)")
        return outcome


def _says_ok(answer: Answer) -> bool:
    fields = answer.json_object()
    return answer.body.strip() == "ok" or fields.get("ok") is True or fields.get("success") is True


def _ping(mention: str) -> str:
    kind, _, identifier = mention.partition(":")
    if kind == "user":
        return f"<@{identifier}>"
    return f"<!subteam^{identifier}>" if kind == "role" else _GROUP_PINGS[kind]


def _fallback(messages: Sequence[Message], pings: str) -> str:
    lines = [escape(shorten(message.summary, 300)) for message in messages]
    return "\n".join([*([pings] if pings else []), *lines])


def _blocks(message: Message, room: int) -> list[dict[str, Any]]:
    blocks = [_header(f"{message.emoji} {message.headline}")]
    if message.url or message.facts:
        blocks.append(_context(*_link(message.url), *_texts(_facts(message))))
    if message.detail:
        blocks.append(_plain(shorten(message.detail, room)))
    if message.prompt:
        blocks.append(_plain(f"“{shorten(message.prompt, min(room, 600))}”"))
    if message.note or message.audio_id:
        blocks.append(_context(*_texts(message.note, message.audio_id)))
    return blocks


def _facts(message: Message) -> str:
    return "  ·  ".join(f"{label} {shorten(value, 100)}" for label, value in message.facts)


def _texts(*texts: str | None) -> list[dict[str, Any]]:
    return [{"type": "plain_text", "text": shorten(text, 600), "emoji": False} for text in texts if text]


def _link(url: str | None) -> list[dict[str, Any]]:
    """Write the link, whose label is ours and whose URL cannot end it early."""
    if url is None:
        return []
    safe = re.sub(r"[|<>\"\s]", lambda found: f"%{ord(found[0]):02X}", url)
    return [{"type": "mrkdwn", "text": f"*<{escape(safe)}|Listen>*", "verbatim": True}]


def _context(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "context", "elements": [*elements]}


def _header(text: str) -> dict[str, Any]:
    return {
        "type": "header",
        "text": {"type": "plain_text", "text": shorten(text, _LONGEST_HEADER), "emoji": True},
    }


def _section(markup: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": markup, "verbatim": True}}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}


def escape(text: str) -> str:
    """Escape the three characters that Slack gives a meaning; more would show up literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
