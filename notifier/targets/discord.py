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
from notifier.answer import Answer, answered_at, milliseconds, retry_after, seconds, until_epoch
from notifier.clock import to_rfc3339
from notifier.delivery import Delivered, Outcome, Retry
from notifier.document import Scalar
from notifier.gate import Pace
from notifier.message import Message, Tone, sum_up
from notifier.secret import Secret
from notifier.settings import leaf
from notifier.targets.base import Meaning, Request
from notifier.targets.chat import Chat, Payload, as_many_as_fit
from notifier.targets.mention import NumericMentions
from notifier.text import one_line, shorten

_MOST_CHARACTERS = 6000
"""All texts of all embeds of a message together."""
_LONGEST_DESCRIPTION = 4096
_LONGEST_CONTENT = 2000
_LONGEST_HEADLINE = 120
_LONGEST_OVERVIEW = 256
_LONGEST_SPAN = 50
_LONGEST_DETAIL = 1000
_LONGEST_PROMPT = 500
_LONGEST_LINE = 300
_LONGEST_NAME = 80
_LONGEST_ID = 150
_LONGEST_LINK = 2048
_LONGEST_PLAIN_LINK = 600
_SUPPRESS_EMBEDS = 4
_HOSTS = frozenset({"discord.com", "ptb.discord.com", "canary.discord.com", "discordapp.com"})
_WEBHOOK = re.compile(r"/api(?:/v\d+)?/webhooks/(\d+/[^/]+)(?:/(?:slack|github))?/?")
_COLOURS = {Tone.GOOD: 0x2EB67D, Tone.BAD: 0xE01E5A, Tone.WARNING: 0xECB22E}
_CODES: Mapping[int, Meaning] = {
    50006: Meaning.THIS_MESSAGE,  # empty
    50109: Meaning.THIS_MESSAGE,  # no JSON
    200000: Meaning.THIS_MESSAGE,  # moderated
    200001: Meaning.THIS_MESSAGE,
    240000: Meaning.THIS_MESSAGE,  # a harmful link
    50035: Meaning.ITS_LAYOUT,  # invalid form body
    40005: Meaning.ITS_LAYOUT,  # too large
    50045: Meaning.ITS_LAYOUT,
    10003: Meaning.THE_TARGET,  # unknown channel, guild, webhook
    10004: Meaning.THE_TARGET,
    10015: Meaning.THE_TARGET,
    40067: Meaning.THE_TARGET,  # the forum wants a tag
    50001: Meaning.THE_TARGET,  # no access
    50008: Meaning.THE_TARGET,  # no channel for text
    50013: Meaning.THE_TARGET,  # no permission
    50024: Meaning.THE_TARGET,
    50027: Meaning.THE_TARGET,  # invalid token
    50083: Meaning.THE_TARGET,  # the thread is archived
    160005: Meaning.THE_TARGET,  # the thread is locked
    220001: Meaning.THE_TARGET,  # a forum needs a thread_id
    220002: Meaning.THE_TARGET,
    220003: Meaning.THE_TARGET,
    220004: Meaning.THE_TARGET,
    20016: Meaning.FOR_NOW,  # slow mode, rate limits
    20028: Meaning.FOR_NOW,
    20029: Meaning.FOR_NOW,
    40062: Meaning.FOR_NOW,
    40004: Meaning.FOR_NOW,  # sending is disabled for a while
}
"""https://discord.com/developers/docs/topics/opcodes-and-status-codes#json"""
_MARKUP = re.compile(r"[\\*_~`|>#\-+\[\]()<:@]")
_API_VERSION = re.compile(r"/api/v(\d+)/webhooks/")
_FIRST_IN_SECONDS = 8
"""Before this version of the API all waits are milliseconds."""
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


class Discord(Chat):
    """A Discord channel behind a webhook."""

    type: Literal["discord"] = Field(description="A Discord webhook.")
    username: Username | None = Field(default=None, description="The name that messages appear under.")
    mention: NumericMentions = Field(
        default=(), description="Who is pinged with each message: user:ID, role:ID, here, everyone."
    )

    pace: ClassVar[Pace] = Pace(5, timedelta(seconds=2))
    foreign_hosts: ClassVar[Mapping[str, str]] = {"slack.com": "slack", "slack-gov.com": "slack"}

    @property
    def headers(self) -> Mapping[str, str]:
        """Say who asks in the form that Discord wants, lest it takes us for a browser gone astray."""
        agent = f"DiscordBot (https://useapi.net, {__version__}) pixverse-notifier/{__version__}"
        return {"Content-Type": "application/json", "User-Agent": agent}

    @property
    def post_url(self) -> Secret:
        """The URL with all that makes the answer one that can be understood."""
        return Secret(_execute_url(self.url.reveal()))

    @property
    def remote_end(self) -> str:
        """The webhook, however its URL is written, and the thread in it. A secret."""
        parts = urlsplit(self.post_url.reveal())
        host = "discord.com" if parts.hostname in _HOSTS else parts.netloc
        return urlunsplit(parts._replace(netloc=host))

    @property
    def limiter(self) -> str:
        """The webhook: Discord counts the requests to all its threads together. A secret."""
        return self.remote_end.partition("?")[0]

    def cards(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell each message in an embed."""
        embeds = as_many_as_fit(
            map(_embed, messages), lambda embeds: sum(map(_length, embeds)) <= _MOST_CHARACTERS
        )
        return self._payload(embeds), len(embeds)

    def summed_up(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell each message in a line, its link beside it."""
        room = _MOST_CHARACTERS - _LONGEST_OVERVIEW - _LONGEST_SPAN
        lines = as_many_as_fit(map(_line, messages), lambda lines: len("\n".join(lines)) <= room)
        told = messages[: len(lines)]
        return self._payload(_embeds_of(sum_up(told), [_span(told), *lines])), len(told)

    def plain(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell messages in ``content`` alone, also without the name that they appear under."""
        pings = self._pings()
        room = _LONGEST_CONTENT - len(pings) - 1
        told = as_many_as_fit(map(_paragraph, messages), lambda parts: len("\n\n".join(parts)) <= room)
        payload = {
            "content": "\n".join([*([pings] if pings else []), "\n\n".join(told)]),
            "allowed_mentions": _allowed(self.mention),
            "flags": _SUPPRESS_EMBEDS,
        }
        return payload, len(told)

    def _payload(self, embeds: list[dict[str, Any]]) -> Payload:
        payload: Payload = {"embeds": _distinct_links(embeds), "allowed_mentions": _allowed(self.mention)}
        if self.username:
            payload["username"] = self.username
        if self.mention:
            payload["content"] = self._pings()
        return payload

    def _pings(self) -> str:
        return " ".join(_ping(mention) for mention in self.mention)

    def meaning(self, answer: Answer) -> Meaning | None:
        """Look the code of Discord's answer up."""
        code = answer.json_object().get("code")
        return _CODES.get(code) if isinstance(code, int) else None

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Read Discord's own rate-limit hints besides the status, and take no proxy's page for a success."""
        outcome = super().classify(answer, now=now)
        if isinstance(outcome, Delivered) and answer.is_page:
            return Retry(f"{answer.describe()} (expected JSON)")
        if answer.status != 429 or not isinstance(outcome, Retry):
            return outcome
        fields = answer.json_object()
        told = [_reset(answer, now)]
        if self._counts_milliseconds:
            told += map(milliseconds, (fields.get("retry_after"), answer.headers.get("Retry-After")))
        else:
            told += [seconds(fields.get("retry_after")), retry_after(answer.headers, now)]
        after = max((wait for wait in told if wait is not None), default=outcome.after)
        is_global = fields.get("global") is True or "X-RateLimit-Global" in answer.headers
        return replace(outcome, after=after, is_global=is_global)

    def probe(self) -> Request:
        """Ask for the webhook itself.

        Source: https://discord.com/developers/docs/resources/webhook#get-webhook-with-token
        """
        url = self.post_url.reveal().partition("?")[0]
        return Request("GET", Secret(url), self.headers, b"", event_count=0)

    def diagnose(self, answer: Answer, *, now: datetime) -> Outcome | None:
        """Name the webhook; the rest of the answer, which holds its token, is not quoted."""
        outcome = super().diagnose(answer, now=now)
        if not isinstance(outcome, Delivered):
            return outcome
        name = answer.json_object().get("name")
        called = f" “{shorten(one_line(name), _LONGEST_NAME)}”" if isinstance(name, str) else ""
        return Delivered(f"Discord has the webhook{called}")

    @property
    def _counts_milliseconds(self) -> bool:
        version = _API_VERSION.search(urlsplit(self.post_url.reveal()).path)
        return version is not None and int(version[1]) < _FIRST_IN_SECONDS

    def spared_for(self, answer: Answer, *, now: datetime) -> timedelta | None:
        """Return how long the requests that Discord allows are used up, as its headers say."""
        is_used_up = answer.headers.get("X-RateLimit-Remaining", "").strip() == "0"
        return _reset(answer, now) if is_used_up and answer.status != 429 else None


def _reset(answer: Answer, now: datetime) -> timedelta | None:
    """Return in how long Discord allows requests anew; its moment counts only where it tells no wait."""
    told = seconds(answer.headers.get("X-RateLimit-Reset-After"))
    if told is not None:
        return told
    return until_epoch(answer.headers.get("X-RateLimit-Reset"), answered_at(answer.headers, now))


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
        "title": f"{message.emoji} {_escape(shorten(message.headline, _LONGEST_HEADLINE))}",
        "color": _COLOURS[message.tone],
        "timestamp": to_rfc3339(message.at),
    }
    if message.url:
        embed["url"] = message.url
    if paragraphs := _paragraphs(message):
        embed["description"] = paragraphs
    fields = [{"name": label, "value": _escape(value), "inline": True} for label, value in message.facts]
    if fields:
        embed["fields"] = fields
    return embed


def _paragraphs(message: Message) -> str:
    """Write detail, prompt, note and audio_id; escaping may double the foreign text."""
    parts = []
    if message.detail:
        parts.append(_escape(shorten(message.detail, _LONGEST_DETAIL)))
    if message.prompt:
        lines = _escape(shorten(message.prompt, _LONGEST_PROMPT)).split("\n")
        parts.append("\n".join(f"> {line}" for line in lines))
    if message.note:
        parts.append(message.note)
    if message.audio_id:
        parts.append(_code(message.audio_id))
    return "\n\n".join(parts)


def _line(message: Message) -> str:
    line = _escape(shorten(message.line, _LONGEST_LINE))
    url = _safe(message.url) if message.url else ""
    if 0 < len(url) <= _LONGEST_LINK:
        return f"{line} [Listen]({url})"
    return f"{line} {_code(message.audio_id)}" if message.audio_id else line


def _embeds_of(overview: Message, lines: Sequence[str]) -> list[dict[str, Any]]:
    """Spread lines over embeds, the first of which has the headline."""
    descriptions = [""]
    for line in lines:
        if len(descriptions[-1]) + len(line) < _LONGEST_DESCRIPTION:
            descriptions[-1] += f"\n{line}" if descriptions[-1] else line
        else:
            descriptions.append(line)
    colour = _COLOURS[overview.tone]
    embeds = [{"description": description, "color": colour} for description in descriptions]
    return [{"title": _escape(overview.title), **embeds[0]}, *embeds[1:]]


def _span(messages: Sequence[Message]) -> str:
    """Write from when to when things happened, which Discord shows in the reader's own zone."""
    first, last = (int(pick(message.at for message in messages).timestamp()) for pick in (min, max))
    return f"<t:{first}:f>" if first // 60 == last // 60 else f"<t:{first}:f> – <t:{last}:f>"


def _paragraph(message: Message) -> str:
    """Write a message without layout; its link in brackets, which makes no preview."""
    texts = (message.summary, message.note)
    lines = [_escape(shorten(_unheard(line), _LONGEST_LINE)) for line in texts if line]
    if message.audio_id:
        lines.append(_code(_unheard(message.audio_id)))
    link = f"<{message.url.replace('@', '%40')}>" if message.url else ""
    return "\n".join([*lines, *([link] if 0 < len(link) <= _LONGEST_PLAIN_LINK else [])])


def _unheard(text: str) -> str:
    """Write a text for ``content`` so that it calls nobody.

    NB: neither a backslash nor a code span stops a ping there, and who may call ``here`` may call everyone.
    """
    return text.replace("@everyone", "＠everyone")


def _code(text: str) -> str:
    """Write something to copy as it stands."""
    bare = text.replace("`", "'")
    return f"`{shorten(bare, _LONGEST_ID)}`"


def _safe(url: str) -> str:
    """Write a URL so that it cannot end the link that it stands in."""
    return url.replace("(", "%28").replace(")", "%29")


def _escape(text: str) -> str:
    """Put a backslash before everything that Discord's Markdown gives a meaning, anywhere in the text."""
    return _LIST_NUMBER.sub(r"\1\\.", _MARKUP.sub(r"\\\g<0>", text))


def _length(embed: Mapping[str, Any]) -> int:
    """Count what Discord counts of an embed."""
    texts = [embed["title"], embed.get("description", "")]
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
