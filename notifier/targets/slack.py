"""Slack incoming webhooks: Block Kit with a plain ``text`` for notifications.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/apis/web-api/rate-limits
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, ClassVar, Literal

from pydantic import Field

from notifier.answer import Answer
from notifier.delivery import Delivered, Outcome, Retry
from notifier.event import Event
from notifier.gate import Pace
from notifier.message import Message, compose
from notifier.targets.base import Request, Target, as_many_as_fit
from notifier.targets.mention import Mentions
from notifier.text import shorten
from notifier.track import compact_json

Block = dict[str, Any]

_MOST_EVENTS = 10
_MOST_BLOCKS = 50
_MOST_CHARACTERS = 10_000
"""All texts of a message together; Slack documents no limit and refuses from about 12,000 on."""
_LONGEST_HEADER = 150
_LONGEST_MARKUP = 3000
_LONGEST_DETAIL = 2000
_LONGEST_PROMPT = 600
_LONGEST_SMALL = 600
_LONGEST_LINE = 300
_LONGEST_ENTITY = len("&amp;")
_ALL_LINES = 2800

_GROUP_PINGS = {"here": "<!here>", "everyone": "<!channel>"}


class Slack(Target):
    """A Slack channel behind an incoming webhook."""

    type: Literal["slack"] = Field(description="A Slack incoming webhook.")
    mention: Mentions = Field(
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
        """Return one message of as many events as its blocks take, ten at the most."""
        pings = " ".join(_ping(mention) for mention in self.mention)
        opening = [_section(pings)] if pings else []
        messages = [compose(event) for event in events[:_MOST_EVENTS]]
        parts = as_many_as_fit(map(_blocks, messages), lambda parts: _fits([opening, *parts]))
        told = messages[: len(parts)]
        payload = {
            "text": _fallback(told, pings),
            "blocks": list(chain(opening, *parts)),
            "unfurl_links": False,
            "unfurl_media": False,
        }
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return Request("POST", self.url, headers, compact_json(payload).encode(), len(told))

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
    room = min(_LONGEST_LINE, _ALL_LINES // len(messages))
    lines = [escaped(shorten(message.summary, _LONGEST_LINE), room) for message in messages]
    return "\n".join([*([pings] if pings else []), *lines])


def _fits(parts: Sequence[Sequence[Block]]) -> bool:
    blocks = list(chain(*parts))
    return len(blocks) <= _MOST_BLOCKS and sum(map(_length, blocks)) <= _MOST_CHARACTERS


def _length(block: Block) -> int:
    texts = [block["text"]] if "text" in block else block["elements"]
    return sum(len(text["text"]) for text in texts)


def _blocks(message: Message) -> list[Block]:
    blocks = [_header(f"{message.emoji} {message.headline}")]
    if elements := [*_link(message.url), *_texts(_facts(message))]:
        blocks.append(_context(elements))
    if message.detail:
        blocks.append(_plain(shorten(message.detail, _LONGEST_DETAIL)))
    if message.prompt:
        blocks.append(_plain(f"“{shorten(message.prompt, _LONGEST_PROMPT)}”"))
    if elements := _texts(message.note, message.audio_id):
        blocks.append(_context(elements))
    return blocks


def _facts(message: Message) -> str:
    return "  ·  ".join(f"{label} {value}" for label, value in message.facts)


def _texts(*texts: str | None) -> list[Block]:
    return [_plain_text(text, _LONGEST_SMALL) for text in texts if text]


def _link(url: str | None) -> list[Block]:
    """Write the link, whose label is ours and whose URL cannot end it early."""
    if url is None:
        return []
    safe = re.sub(r"[|<>\"\s]", lambda found: f"%{ord(found[0]):02X}", url)
    markup = f"*<{escape(safe)}|Listen>*"
    return [_mrkdwn(markup)] if len(markup) <= _LONGEST_MARKUP else []


def _context(elements: list[Block]) -> Block:
    return {"type": "context", "elements": elements}


def _header(text: str) -> Block:
    return {"type": "header", "text": _plain_text(text, _LONGEST_HEADER)}


def _section(markup: str) -> Block:
    return {"type": "section", "text": _mrkdwn(markup)}


def _plain(text: str) -> Block:
    return {"type": "section", "text": _plain_text(text, _LONGEST_MARKUP)}


def _plain_text(text: str, limit: int) -> Block:
    return {"type": "plain_text", "text": shorten(text, limit), "emoji": False}


def _mrkdwn(markup: str) -> Block:
    """Write markup of ours; `verbatim` keeps Slack from making links and mentions of plain words."""
    return {"type": "mrkdwn", "text": markup, "verbatim": True}


def escaped(text: str, limit: int) -> str:
    """Escape as much of the text as fits into `limit`, which never cuts an entity in two."""
    while (excess := len(escape(text)) - limit) > 0:
        text = shorten(text, len(text) - max(1, excess // _LONGEST_ENTITY))
    return escape(text)


def escape(text: str) -> str:
    """Escape the three characters that Slack gives a meaning; more would show up literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
