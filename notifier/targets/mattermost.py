"""Mattermost incoming webhooks: an attachment an event, in Markdown that foreign text has no part in.

Sources: https://developers.mattermost.com/integrate/webhooks/incoming/,
https://developers.mattermost.com/integrate/reference/message-attachments/ and, for errors, mentions and what
is translated from Slack, https://github.com/mattermost/mattermost/tree/master/server/channels/app
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from notifier.answer import Answer
from notifier.delivery import Delivered, Outcome, Retry
from notifier.gate import Pace
from notifier.message import Message, Tone, sum_up
from notifier.secret import Secret
from notifier.targets.base import Meaning, Request
from notifier.targets.chat import Chat, Payload, as_many_as_fit
from notifier.text import shorten
from notifier.track import compact_json

_MOST_CHARACTERS = 16_000
"""All attachments of a message together; a server takes 300,000 bytes unless it is set otherwise."""
_LONGEST_TEXT = 4000
"""What servers of every age and database take in one post, the newer ones 16,383; they split a longer one."""
_LONGEST_DETAIL = 1000
_LONGEST_PROMPT = 500
_LONGEST_LINE = 250
_LONGEST_LINK = 2000
_LONGEST_ID = 150
_COLOURS = {Tone.GOOD: "#2EB67D", Tone.BAD: "#E01E5A", Tone.WARNING: "#ECB22E"}
_MARKUP = re.compile(r"[#$&()*+\-./:;<=>\[\\\]_`|~\u2424]")
"""What a client or the server may act upon; the web takes U+2424, a picture of a line end, for one."""
_ENDS_LINK = re.compile(r"[();]")
_LEAVES_CODE = re.compile(r"[`<\]\u2424]")
_SOME_ERROR = "web.incoming_webhook.general.app_error"
_ERRORS: Mapping[str, Meaning] = {
    "web.incoming_webhook.invalid.app_error": Meaning.THE_TARGET,  # no such webhook, or not any more
    "web.incoming_webhook.disabled.app_error": Meaning.THE_TARGET,  # no webhooks at all on this server
    "web.incoming_webhook.decode.app_error": Meaning.ITS_LAYOUT,
    "model.incoming_hook.parse_data.app_error": Meaning.ITS_LAYOUT,
    "web.incoming_webhook.attachment.app_error": Meaning.ITS_LAYOUT,  # too long
    "web.incoming_webhook.split_props_length.app_error": Meaning.ITS_LAYOUT,
    "api.context.request_body_too_large.app_error": Meaning.ITS_LAYOUT,
}


class Mattermost(Chat):
    """A Mattermost channel behind an incoming webhook."""

    type: Literal["mattermost"] = Field(description="A Mattermost incoming webhook.")

    pace: ClassVar[Pace] = Pace(1, timedelta(seconds=1))
    """Of the ten that a server which limits at all takes from one address, unless it is set otherwise."""
    foreign_hosts: ClassVar[Mapping[str, str]] = {
        "slack.com": "slack",
        "slack-gov.com": "slack",
        "discord.com": "discord",
        "discordapp.com": "discord",
    }

    def cards(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell each message in an attachment; what a notification shows of one is its ``fallback``."""
        cards = as_many_as_fit(
            map(_card, messages), lambda cards: len(compact_json(cards)) <= _MOST_CHARACTERS
        )
        told = messages[: len(cards)]
        headline = {"text": sum_up(told).title} if len(told) > 1 else {}
        return {**headline, "attachments": cards}, len(told)

    def summed_up(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell each message in a line, its link beside it."""
        lines = as_many_as_fit(map(_line, messages), lambda lines: len("\n".join(lines)) <= _MOST_CHARACTERS)
        told = messages[: len(lines)]
        return {"attachments": [_attachment(sum_up(told), _span(told), "\n".join(lines))]}, len(told)

    def plain(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell messages in ``text`` alone."""
        told = as_many_as_fit(
            map(_paragraph, messages), lambda parts: len("\n\n".join(parts)) <= _LONGEST_TEXT
        )
        return {"text": "\n\n".join(told)}, len(told)

    def meaning(self, answer: Answer) -> Meaning | None:
        """Look the id of Mattermost's error up.

        NB: newer servers give one id to all errors. With status 400 it can only mean that there is no such
        webhook, for what else they refuse so is not in our messages; with 501, that there are none at all.
        """
        error = answer.json_object().get("id")
        if error == _SOME_ERROR:
            return Meaning.THE_TARGET if answer.status in {400, 501} else None
        return _ERRORS.get(error) if isinstance(error, str) else None

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Take only ``ok`` for a success: a page to sign in at comes with 200 as well."""
        outcome = super().classify(answer, now=now)
        if isinstance(outcome, Delivered) and answer.body.strip() != "ok":
            return Retry(f"{answer.describe()} (expected ok)")
        return outcome

    def probe(self) -> Request | None:
        """Ask the server how it is: to an empty message it says the same whether it has the webhook or not.

        Source: https://developers.mattermost.com/api-documentation/#/operations/GetPing
        """
        parts = urlsplit(self.url.reveal())
        before, found, _ = parts.path.rpartition("/hooks/")
        if not found:
            return None
        url = urlunsplit((parts.scheme, parts.netloc, f"{before}/api/v4/system/ping", "", ""))
        return Request("GET", Secret(url), {"Accept": "application/json"}, b"", event_count=0)

    def diagnose(self, answer: Answer, *, now: datetime) -> Outcome | None:
        """Hear only that the server is unwell or elsewhere; a proxy may keep all but webhooks from us."""
        is_elsewhere = 300 <= answer.status < 400
        return self.classify(answer, now=now) if is_elsewhere or answer.status >= 429 else None


def _card(message: Message) -> dict[str, Any]:
    card = _attachment(message, _span([message]), "\n\n".join(_paragraphs(message)))
    facts = [{"title": label, "value": _escape(value), "short": True} for label, value in message.facts]
    return {**card, "fields": facts}


def _attachment(message: Message, span: str, text: str) -> dict[str, Any]:
    """Write what every attachment has.

    NB: no ``title_link``. A title with one is plain text to some clients and Markdown to others, so that
    nothing foreign could be written for all of them.
    """
    return {
        "fallback": _unheard(shorten(message.summary, _LONGEST_LINE)),
        "color": _COLOURS[message.tone],
        "title": _escape(message.title),
        "text": text,
        "footer": span,
    }


def _paragraphs(message: Message) -> list[str]:
    parts = [_escape(shorten(message.detail, _LONGEST_DETAIL))] if message.detail else []
    if message.prompt:
        lines = _escape(shorten(message.prompt, _LONGEST_PROMPT)).split("\n")
        parts.append("\n".join(f"> {line}" for line in lines))
    handles = "  ·  ".join(filter(None, (_link(message.url), _code(message.audio_id))))
    return [*parts, *filter(None, (message.note, handles))]


def _line(message: Message) -> str:
    line = _escape(shorten(message.line, _LONGEST_LINE))
    handle = _link(message.url) or _code(message.audio_id)
    return f"{line} {handle}" if handle else line


def _paragraph(message: Message) -> str:
    summary = _escape(shorten(message.summary, _LONGEST_LINE))
    lines = (summary, message.note, _code(message.audio_id), _link(message.url))
    return "\n".join(filter(None, lines))


def _span(messages: Sequence[Message]) -> str:
    """Write from when to when things happened; there is no markup for the reader's own zone."""
    first, last = (
        f"{pick(message.at for message in messages).astimezone(UTC):%Y-%m-%d %H:%M}" for pick in (min, max)
    )
    return f"{first} UTC" if first == last else f"{first} – {last} UTC"


def _link(url: str | None) -> str:
    """Write the link, whose label is ours and whose URL cannot end it early or hold a reference."""
    safe = _ENDS_LINK.sub(lambda found: f"%{ord(found[0]):02X}", url or "")
    return f"[Listen]({safe})" if 0 < len(safe) <= _LONGEST_LINK else ""


def _code(text: str | None) -> str:
    """Write something to copy as it stands, but for what Mattermost would read in spite of the code.

    NB: the server translates Slack's ``<url|label>`` first, and the web's ``[label](url)`` may end in code.
    """
    bare = _LEAVES_CODE.sub("'", text or "")
    return f"`{shorten(bare, _LONGEST_ID)}`" if bare else ""


def _escape(text: str) -> str:
    """Write all that could be markup as character references, and no line with white space before it.

    Every client shows them as what they stand for and gives that no meaning. Backslashes stop neither
    emoji and hashtags nor what the server translates from Slack, and are shown before ``<`` and ``:``.
    """
    written = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)
    return _unheard("\n".join(line.strip() for line in written.split("\n")))


def _unheard(text: str) -> str:
    """Part each ``@`` from what follows by a word joiner, so that it names nobody.

    NB: the server looks for names after it has resolved references and backslashes.
    """
    return text.replace("@", "@\u2060")
