"""Discord webhooks: one embed an event, and nobody is pinged who was not configured.

Sources: https://discord.com/developers/docs/resources/webhook#execute-webhook,
https://discord.com/developers/docs/topics/rate-limits
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, PlainValidator, WithJsonSchema

from notifier import __version__
from notifier.answer import Answer, seconds, told_wait
from notifier.clock import to_rfc3339
from notifier.delivery import Delivered, Outcome, Retry
from notifier.document import Scalar
from notifier.event import Event
from notifier.gate import Pace
from notifier.message import Message, Tone, compose
from notifier.secret import Secret
from notifier.settings import leaf
from notifier.targets.base import Request, Target, as_many_as_fit
from notifier.targets.mention import NumericMentions
from notifier.text import shorten
from notifier.track import compact_json

_MOST_EVENTS = 10
_MOST_CHARACTERS = 6000
"""All texts of all embeds of a message together."""
_LONGEST_HEADLINE = 120
_LONGEST_DETAIL = 1000
_LONGEST_PROMPT = 500
_LONGEST_FOOTER = 150
_HOSTS = frozenset({"discord.com", "ptb.discord.com", "canary.discord.com", "discordapp.com"})
_WEBHOOK = re.compile(r"/api(?:/v\d+)?/webhooks/(\d+/[^/]+)(?:/(?:slack|github))?/?")
_COLOURS = {Tone.GOOD: 0x2EB67D, Tone.BAD: 0xE01E5A, Tone.WARNING: 0xECB22E}
_MARKUP = re.compile(r"[\\*_~`|>#\-+\[\]()<:@]")
_LIST_NUMBER = re.compile(r"^(\s*\d+)\.", re.MULTILINE)


def _username(value: Scalar) -> str:
    name = value.strip()
    if not 1 <= len(name) <= 80:
        raise ValueError("is no username: Discord takes 1 to 80 characters")
    lowered = name.lower()
    if "clyde" in lowered or "discord" in lowered or lowered in {"everyone", "here"}:
        raise ValueError("is a username that Discord refuses")
    if any(mark in name for mark in ("@", "#", ":", "```")):
        raise ValueError("is a username that Discord refuses: it may not hold @, #, : or ```")
    return name


Username = Annotated[
    str, PlainValidator(leaf(_username, "text")), WithJsonSchema({"type": "string", "maxLength": 80})
]


class Discord(Target):
    """A Discord channel behind a webhook."""

    type: Literal["discord"] = Field(description="A Discord webhook.")
    username: Username | None = Field(default=None, description="The name that messages appear under.")
    mention: NumericMentions = Field(
        default=(), description="Who is pinged with each message: user:ID, role:ID, here, everyone."
    )

    pace: ClassVar[Pace] = Pace(5, timedelta(seconds=2))
    foreign_hosts: ClassVar[Mapping[str, str]] = {"slack.com": "slack", "slack-gov.com": "slack"}

    @property
    def most_events(self) -> int:
        """How many events one message can take at the most."""
        return _MOST_EVENTS

    def render(self, events: Sequence[Event], *, now: datetime) -> Request:
        """Return one message with an embed for each of as many events as it takes, ten at the most."""
        embeds = as_many_as_fit(
            (_embed(compose(event)) for event in events[:_MOST_EVENTS]),
            lambda embeds: sum(map(_length, embeds)) <= _MOST_CHARACTERS,
        )
        payload: dict[str, Any] = {
            "embeds": _distinct_links(embeds),
            "allowed_mentions": _allowed(self.mention),
        }
        if self.username:
            payload["username"] = self.username
        if self.mention:
            payload["content"] = " ".join(_ping(mention) for mention in self.mention)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"DiscordBot (https://useapi.net, {__version__}) pixverse-notifier/{__version__}",
        }
        url = Secret(_execute_url(self.url.reveal()))
        return Request("POST", url, headers, compact_json(payload).encode(), len(embeds))

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Read Discord's own rate-limit hints besides the status."""
        outcome = super().classify(answer, now=now)
        match outcome:
            case Retry() if answer.status == 429:
                fields = answer.json_object()
                told = told_wait(answer, now, *_hints(fields, answer.headers))
                is_global = fields.get("global") is True or "X-RateLimit-Global" in answer.headers
                return replace(outcome, after=told, is_global=is_global)
            case Delivered() if answer.headers.get("X-RateLimit-Remaining", "").strip() == "0":
                return replace(outcome, hold=seconds(answer.headers.get("X-RateLimit-Reset-After")))
            case _:
                return outcome


def _hints(fields: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[timedelta | None, ...]:
    return seconds(fields.get("retry_after")), seconds(headers.get("X-RateLimit-Reset-After"))


def _execute_url(url: str) -> str:
    """Ask for the answer (``wait=true``) and, on Discord's own hosts, for API v10 whose waits are seconds."""
    parts = urlsplit(url)
    host, path = parts.netloc, parts.path
    if (parts.hostname or "") in _HOSTS:
        webhook = _WEBHOOK.fullmatch(path)
        path = f"/api/v10/webhooks/{webhook[1]}" if webhook else path
        host = "discord.com" if parts.hostname == "discordapp.com" else host
    query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "wait"]
    return urlunsplit((parts.scheme, host, path, urlencode([*query, ("wait", "true")]), ""))


def _ping(mention: str) -> str:
    kind, _, identifier = mention.partition(":")
    if kind == "user":
        return f"<@{identifier}>"
    return f"<@&{identifier}>" if kind == "role" else f"@{kind}"


def _allowed(mentions: Sequence[str]) -> dict[str, list[str]]:
    allowed: dict[str, list[str]] = {"parse": []}
    for mention in mentions:
        kind, _, identifier = mention.partition(":")
        if kind in {"user", "role"}:
            allowed.setdefault(f"{kind}s", []).append(identifier)
        else:
            allowed["parse"] = ["everyone"]
    return allowed


def _embed(message: Message) -> dict[str, Any]:
    embed: dict[str, Any] = {
        "title": f"{message.emoji} {escape(shorten(message.headline, _LONGEST_HEADLINE))}",
        "color": _COLOURS[message.tone],
        "timestamp": to_rfc3339(message.at),
    }
    if message.url:
        embed["url"] = message.url
    paragraphs = _paragraphs(message)
    if paragraphs:
        embed["description"] = paragraphs
    fields = [{"name": label, "value": escape(value), "inline": True} for label, value in message.facts]
    if fields:
        embed["fields"] = fields
    if message.audio_id:
        embed["footer"] = {"text": shorten(message.audio_id, _LONGEST_FOOTER)}
    return embed


def _paragraphs(message: Message) -> str:
    """Write detail, prompt and note; escaping may double the foreign text."""
    parts = []
    if message.detail:
        parts.append(escape(shorten(message.detail, _LONGEST_DETAIL)))
    if message.prompt:
        lines = escape(shorten(message.prompt, _LONGEST_PROMPT)).split("\n")
        parts.append("\n".join(f"> {line}" for line in lines))
    if message.note:
        parts.append(message.note)
    return "\n\n".join(parts)


def escape(text: str) -> str:
    """Put a backslash before everything that Discord's Markdown gives a meaning, anywhere in the text."""
    return _LIST_NUMBER.sub(r"\1\\.", _MARKUP.sub(r"\\\g<0>", text))


def _length(embed: Mapping[str, Any]) -> int:
    """Count what Discord counts of an embed."""
    texts = [embed["title"], embed.get("description", ""), embed.get("footer", {}).get("text", "")]
    return sum(map(len, texts)) + sum(
        len(field["name"]) + len(field["value"]) for field in embed.get("fields", ())
    )


def _distinct_links(embeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop a link that an earlier embed has: Discord shows only the first of embeds with the same one."""
    seen: set[str] = set()
    for embed in embeds:
        url = embed.get("url")
        if url in seen:
            del embed["url"]
        elif url:
            seen.add(url)
    return embeds
