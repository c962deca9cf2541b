"""A message as its reader sees it: the payload that a service gets, as lines of text.

Bold and grey are left out, a link reads ``Listen ↗``, code keeps its backticks. Follows the services' pages
on formatting and nothing of the code that makes the payloads; what is not described here is an error.

Sources: https://docs.slack.dev/messaging/formatting-message-text,
https://support.discord.com/hc/en-us/articles/210298617-Markdown-Text-101
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

Members = Mapping[str, Any]

_WIDTH = 110
_SLACK_TOKEN = re.compile(r"(?P<bold>\*?)<(?P<inside>[^<>]*)>(?P=bold)")
_SLACK_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_MARKDOWN = re.compile(
    r"(?P<code>`[^`\n]+`)|\[(?P<label>[^\[\]\n]+)\]\(https?://[^()\s]+\)|\\(?P<mark>[^0-9A-Za-z\s])"
)
_RELATIVE = {-1: "Yesterday", 0: "Today", 1: "Tomorrow"}


def notification(payload: Members) -> list[str]:
    """Return what a phone shows of a message in Slack before it is opened."""
    return _slack_markup(payload["text"]).split("\n")


def slack(payload: Members, read_at: datetime) -> list[str]:
    """Return a message in Slack, as read at a moment in the reader's own zone."""
    assert set(payload) == {"text", "blocks", "unfurl_links", "unfurl_media"}
    return _wrapped("\n".join(_slack_block(block, read_at) for block in payload["blocks"]))


def _slack_block(block: Members, read_at: datetime) -> str:
    match block["type"]:
        case "header" | "section":
            return _slack_text(block["text"], read_at)
        case "context":
            return "  ".join(_slack_text(element, read_at) for element in block["elements"])
        case other:
            raise AssertionError(f"a block of type {other}")


def _slack_text(text: Members, read_at: datetime) -> str:
    return str(text["text"]) if text["type"] == "plain_text" else _slack_markup(text["text"], read_at)


def _slack_markup(markup: str, read_at: datetime | None = None) -> str:
    """Show tokens and entities; a notification has no dates, so it needs no reader's zone."""

    def token(found: re.Match[str]) -> str:
        match found["inside"].partition("|")[0].split("^"):
            case ["!date", seconds, form] if read_at is not None:
                moment = datetime.fromtimestamp(int(seconds), read_at.tzinfo)
                day = _day(moment, read_at, otherwise=f"{moment:%b} {moment.day}, {moment.year}")
                return form.replace("{date_short_pretty}", day).replace("{time}", f"{moment:%H:%M}")
            case [url] if url.startswith("https://"):
                return f"{found['inside'].partition('|')[2]} ↗"
            case _:
                raise AssertionError(f"the token {found[0]}")

    shown = _SLACK_TOKEN.sub(token, markup)
    return re.sub("&(?:lt|gt|amp);", lambda found: _SLACK_ENTITIES[found[0]], shown)


def discord(payload: Members, read_at: datetime) -> list[str]:
    """Return a message in Discord, read at a moment in the reader's own zone; ``┃`` is the coloured bar."""
    assert set(payload) == {"embeds", "allowed_mentions"}
    return [
        f"┃ {line}".rstrip()
        for embed in payload["embeds"]
        for line in _wrapped("\n".join(_embed_lines(embed, read_at)))
    ]


def _embed_lines(embed: Members, read_at: datetime) -> Iterator[str]:
    assert set(embed) <= {"title", "url", "color", "description", "fields", "timestamp"}
    if "title" in embed:
        yield _markdown(embed["title"]) + (" ↗" if "url" in embed else "")
    if "description" in embed:
        for line in embed["description"].split("\n"):
            yield f"▏{_markdown(line[2:])}" if line.startswith("> ") else _markdown(line)
    if "fields" in embed:
        assert all(field["inline"] for field in embed["fields"])
        yield "   ".join(
            f"{_markdown(field['name'])} {_markdown(field['value'])}" for field in embed["fields"]
        )
    if "timestamp" in embed:
        moment = datetime.fromisoformat(embed["timestamp"]).astimezone(read_at.tzinfo)
        yield f"{_day(moment, read_at, otherwise=f'{moment:%d/%m/%Y}')} at {moment:%H:%M}"


def _markdown(text: str) -> str:
    def shown(found: re.Match[str]) -> str:
        return f"{found['label']} ↗" if found["label"] else found["code"] or found["mark"]

    return _MARKDOWN.sub(shown, text)


def _day(moment: datetime, read_at: datetime, *, otherwise: str) -> str:
    distance = moment.date() - read_at.date()
    return _RELATIVE.get(distance // timedelta(days=1), otherwise)


def _wrapped(text: str) -> list[str]:
    """Break long lines at spaces, as a window does."""
    return [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    ]
