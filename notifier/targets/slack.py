"""Slack incoming webhooks: Block Kit with a plain ``text`` for notifications.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/apis/web-api/rate-limits
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from notifier.answer import Answer
from notifier.delivery import Delivered, Outcome, Rejected, Retry
from notifier.gate import Pace
from notifier.message import Message, sum_up
from notifier.secret import Secret
from notifier.settings import Unresolved, mistake
from notifier.targets.base import Meaning, Request, is_within
from notifier.targets.chat import Chat, Payload, as_many_as_fit
from notifier.targets.mention import Mentions
from notifier.text import shorten

Block = dict[str, Any]

_MOST_BLOCKS = 50
_MOST_CHARACTERS = 10_000
"""All texts of a message together; Slack documents no limit and refuses from about 12,000 on."""
_LONGEST_TEXT = 4000
_LONGEST_HEADER = 150
_LONGEST_MARKUP = 3000
_LONGEST_DETAIL = 2000
_LONGEST_PROMPT = 600
_LONGEST_SMALL = 600
_LONGEST_LINE = 300
_LONGEST_ENTITY = len("&amp;")
_LONGEST_PLAIN_LINK = 1500
_ALL_LINES = 2800

_HOSTS = ("slack.com", "slack-gov.com")
_OTHER_PATHS = ("/triggers/", "/workflows/", "/actions/", "/commands/")
"""What Slack's hosts serve beside incoming webhooks; a trigger says ``ok`` to a message and loses it."""
_GROUP_PINGS = {"here": "<!here>", "everyone": "<!channel>"}
_NOTHING_TO_SAY = frozenset({"no_text", "missing_text_or_fallback_or_attachments"})
_NEVER, _LAYOUT, _TARGET = Meaning.THIS_MESSAGE, Meaning.ITS_LAYOUT, Meaning.THE_TARGET
_ERRORS: Mapping[str, Meaning] = {
    "invalid_payload": _NEVER,
    "no_text": _NEVER,
    "missing_text_or_fallback_or_attachments": _NEVER,
    "invalid_blocks": _LAYOUT,
    "invalid_blocks_format": _LAYOUT,
    "invalid_attachments": _LAYOUT,
    "too_many_attachments": _LAYOUT,
    "msg_blocks_too_long": _LAYOUT,
    "msg_too_long": _LAYOUT,
    "user_not_found": _TARGET,
    "channel_not_found": _TARGET,
    "channel_is_archived": _TARGET,
    "action_prohibited": _TARGET,
    "posting_to_general_channel_denied": _TARGET,
    "invalid_token": _TARGET,
    "no_service": _TARGET,
    "no_service_id": _TARGET,
    "no_active_hooks": _TARGET,
    "no_team": _TARGET,
    "team_disabled": _TARGET,
    "rollup_error": Meaning.FOR_NOW,
}
"""https://docs.slack.dev/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks, and what is seen."""


class Slack(Chat):
    """A Slack channel behind an incoming webhook."""

    type: Literal["slack"] = Field(description="A Slack incoming webhook.")
    mention: Mentions = Field(
        default=(),
        description="Who is pinged with each message: user:ID, role:ID (a user group), here, everyone.",
    )

    pace: ClassVar[Pace] = Pace(1, timedelta(seconds=1))
    foreign_hosts: ClassVar[Mapping[str, str]] = {"discord.com": "discord", "discordapp.com": "discord"}

    @field_validator("url", mode="after")
    @classmethod
    def _takes_messages(cls, url: Secret) -> Secret:
        if not isinstance(url, Unresolved):
            parts = urlsplit(url.reveal())
            if _is_slacks(url) and parts.path.lower().startswith(_OTHER_PATHS):
                raise mistake(
                    "is no incoming webhook: expected https://hooks.slack.com/services/…; "
                    "for a workflow use type webhook with a body"
                )
        return url

    def cards(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell each message in a header and up to four blocks."""
        opening = self._opening()
        parts = as_many_as_fit(map(_card, messages), lambda parts: _fits([opening, *parts]))
        told = messages[: len(parts)]
        room = min(_LONGEST_LINE, _ALL_LINES // len(told))
        lines = [_escaped(shorten(message.summary, _LONGEST_LINE), room) for message in told]
        return self._payload(lines, [opening, *parts]), len(told)

    def summed_up(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell each message in a line, its link beside it."""
        opening = self._opening()
        lines = as_many_as_fit(map(_line, messages), lambda lines: _fits([opening, _ROOM, lines]))
        told = messages[: len(lines)]
        overview = sum_up(told)
        heading = [_header(overview.title), _context([_span(told)])]
        notification = _escaped(overview.title, _LONGEST_LINE)
        return self._payload([notification], [opening, heading, lines]), len(told)

    def plain(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell messages in ``text`` alone."""
        room = _LONGEST_TEXT - len(self._pings())
        told = as_many_as_fit(map(_paragraph, messages), lambda parts: len("\n\n".join(parts)) < room)
        payload = self._payload(["\n\n".join(told)], [])
        del payload["blocks"]
        return payload, len(told)

    def _payload(self, lines: Sequence[str], blocks: Sequence[Sequence[Block]]) -> Payload:
        pings = self._pings()
        return {
            "text": "\n".join([*([pings] if pings else []), *lines]),
            "blocks": list(chain(*blocks)),
            "unfurl_links": False,
            "unfurl_media": False,
        }

    def _opening(self) -> list[Block]:
        pings = self._pings()
        return [_section(pings)] if pings else []

    def _pings(self) -> str:
        return " ".join(_ping(mention) for mention in self.mention)

    def meaning(self, answer: Answer) -> Meaning | None:
        """Look Slack's one-word answer up."""
        return _ERRORS.get(answer.body.strip())

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Take only ``ok`` for a success: Slack says 200 to some failures as well."""
        outcome = super().classify(answer, now=now)
        if isinstance(outcome, Delivered) and not _says_ok(answer):
            return Retry(f"{answer.describe()} (expected ok)")
        return outcome

    def probe(self) -> Request:
        """Post a message without a text: how Slack refuses it tells whether there is a webhook.

        NB: others that take Slack's messages may show an empty one. They are asked for the URL instead, and
        only the words of Slack's that they know say something.
        """
        if _is_slacks(self.url):
            return Request("POST", self.url, self.headers, b'{"text": ""}', event_count=0)
        return Request("GET", self.url, self.headers, b"", event_count=0)

    def diagnose(self, answer: Answer, *, now: datetime) -> Outcome | None:
        """Take the complaint that there is no text for the sign of a webhook that works."""
        if answer.body.strip() in _NOTHING_TO_SAY:
            return Delivered("Slack has the webhook")
        is_known = _is_slacks(self.url) or self.meaning(answer) is not None or answer.status >= 429
        if is_known:
            return super().diagnose(answer, now=now)
        return Rejected(answer.describe()) if answer.status in {401, 403, 404, 410} else None


def _is_slacks(url: Secret) -> bool:
    host = (urlsplit(url.reveal()).hostname or "").lower()
    return any(is_within(host, domain) for domain in _HOSTS)


def _says_ok(answer: Answer) -> bool:
    fields = answer.json_object()
    return answer.body.strip() == "ok" or fields.get("ok") is True or fields.get("success") is True


def _ping(mention: str) -> str:
    kind, _, identifier = mention.partition(":")
    if kind == "user":
        return f"<@{identifier}>"
    return f"<!subteam^{identifier}>" if kind == "role" else _GROUP_PINGS[kind]


def _fits(parts: Sequence[Sequence[Block]]) -> bool:
    blocks = list(chain(*parts))
    return len(blocks) <= _MOST_BLOCKS and sum(map(_length, blocks)) <= _MOST_CHARACTERS


def _length(block: Block) -> int:
    texts = [block["text"]] if "text" in block else block["elements"]
    return sum(len(text["text"]) for text in texts)


def _card(message: Message) -> list[Block]:
    blocks = [_header(message.title)]
    if elements := [*_link(message.url), *_texts(_facts(message))]:
        blocks.append(_context(elements))
    if message.detail:
        blocks.append(_plain(shorten(message.detail, _LONGEST_DETAIL)))
    if message.prompt:
        blocks.append(_plain(f"“{shorten(message.prompt, _LONGEST_PROMPT)}”"))
    blocks.append(_context([*_texts(message.note), *_code(message.audio_id), _mrkdwn(_date(message.at))]))
    return blocks


def _line(message: Message) -> Block:
    return _context([*_texts(message.line), *(_link(message.url) or _code(message.audio_id))])


def _paragraph(message: Message) -> str:
    lines = [_escaped(_bare(line), _LONGEST_SMALL) for line in message.plain]
    link = f"<{_escape(_safe(message.url))}>" if message.url else ""
    return "\n".join([*lines, *([link] if 0 < len(link) <= _LONGEST_PLAIN_LINK else [])])


def _span(messages: Sequence[Message]) -> Block:
    """Write from when to when things happened."""
    first, last = (_date(pick(message.at for message in messages)) for pick in (min, max))
    return _mrkdwn(first if first == last else f"{first} – {last}")


def _date(moment: datetime) -> str:
    """Write a moment that Slack shows in the reader's own zone, to the minute."""
    moment = moment.astimezone(UTC).replace(second=0, microsecond=0)
    shown = f"{moment:%Y-%m-%d %H:%M} UTC"
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} {{time}}|{shown}>"


def _facts(message: Message) -> str:
    return "  ·  ".join(f"{label} {value}" for label, value in message.facts)


def _texts(*texts: str | None) -> list[Block]:
    return [_plain_text(text, _LONGEST_SMALL) for text in texts if text]


def _link(url: str | None) -> list[Block]:
    """Write the link, whose label is ours and whose URL cannot end it early."""
    if url is None:
        return []
    markup = f"*<{_escape(_safe(url))}|Listen>*"
    return [_mrkdwn(markup)] if len(markup) <= _LONGEST_MARKUP else []


def _safe(url: str) -> str:
    return re.sub(r"[|<>\"\s]", lambda found: f"%{ord(found[0]):02X}", url)


def _code(text: str | None) -> list[Block]:
    """Write something to copy as it stands."""
    if not text:
        return []
    return [_mrkdwn(f"`{_escaped(shorten(_bare(text), _LONGEST_LINE), _LONGEST_SMALL)}`")]


def _bare(text: str) -> str:
    """Leave out what opens or ends code, which could swallow all that follows."""
    return text.replace("`", "'")


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


def _escaped(text: str, limit: int) -> str:
    """Escape as much of the text as fits into `limit`, which never cuts an entity in two."""
    while (excess := len(_escape(text)) - limit) > 0:
        text = shorten(text, len(text) - max(1, excess // _LONGEST_ENTITY))
    return _escape(text)


def _escape(text: str) -> str:
    """Escape the three characters that Slack gives a meaning; more would show up literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_ROOM = [_header("x" * _LONGEST_HEADER), _context([_mrkdwn("x" * _LONGEST_LINE)])]
"""What the heading of a message that sums up takes at the most."""
