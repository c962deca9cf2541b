"""The services' documented rules, written down apart from the code that has to keep them.

Sources: https://docs.slack.dev/reference/block-kit/blocks,
https://docs.slack.dev/messaging/formatting-message-text,
https://discord.com/developers/docs/resources/message#embed-object
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from tests.support.hostile import misleading

_ENTITY = re.compile(r"&(?:amp|lt|gt);")
_TOKEN = re.compile(r"<[^<>]*>")
_SLACK_LINK = re.compile(r"<(https?://[^|<>\s]+)\|Listen>")
_ESCAPED = re.compile(r"\\([^0-9A-Za-z\s])")
_DISCORD_MARKUP = re.compile(r"[*_~`|<>@\[\]#\\]|://|(?m:^\s*(?:[-+]|\d+\.)\s)")


def check_slack(payload: Mapping[str, Any], *, pings: Collection[str] = ()) -> list[str]:
    """Hold a message against Slack's rules; return the URLs that it links to."""
    assert set(payload) == {"text", "blocks", "unfurl_links", "unfurl_media"}
    assert payload["unfurl_links"] is False
    assert payload["unfurl_media"] is False
    assert 1 <= len(payload["text"]) <= 4000
    assert _markup(payload["text"]) == [*pings]
    blocks: Sequence[Mapping[str, Any]] = payload["blocks"]
    assert 1 <= len(blocks) <= 50
    texts = [text for block in blocks for text in _slack_texts(block)]
    assert sum(len(text["text"]) for text in texts) <= 10_000
    tokens = [token for text in texts for token in _slack_text(text)]
    assert [token for token in tokens if not _SLACK_LINK.fullmatch(token)] == [*pings]
    return [link[1].replace("&amp;", "&") for token in tokens if (link := _SLACK_LINK.fullmatch(token))]


def _slack_texts(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    match block["type"]:
        case "header":
            assert set(block) == {"type", "text"}
            assert block["text"]["type"] == "plain_text"
            assert len(block["text"]["text"]) <= 150
            return [block["text"]]
        case "section":
            assert set(block) == {"type", "text"}
            return [block["text"]]
        case "context":
            assert set(block) == {"type", "elements"}
            assert 1 <= len(block["elements"]) <= 10
            return [*block["elements"]]
        case other:
            raise AssertionError(f"a block of type {other}")


def _slack_text(text: Mapping[str, Any]) -> list[str]:
    """Check a text object and return the tokens that Slack would act upon."""
    assert 1 <= len(text["text"]) <= 3000
    assert text["text"].strip()
    assert misleading(text["text"]) == set()
    if text["type"] == "plain_text":
        assert set(text) == {"type", "text", "emoji"}
        assert text["emoji"] is False
        return []
    assert set(text) == {"type", "text", "verbatim"}
    assert text["type"] == "mrkdwn"
    assert text["verbatim"] is True
    return _markup(text["text"])


def _markup(mrkdwn: str) -> list[str]:
    """Return the tokens of a text; everything around them must be escaped."""
    around = _ENTITY.sub("", _TOKEN.sub("", mrkdwn))
    assert not set(around) & set("<>&")
    return _TOKEN.findall(mrkdwn)


def check_discord(
    payload: Mapping[str, Any],
    *,
    content: str | None = None,
    allowed: Mapping[str, Sequence[str]] | None = None,
    username: str | None = None,
) -> list[str]:
    """Hold a message against Discord's rules; return the URLs that it links to."""
    optional = {"content": content, "username": username}
    given = {key for key, value in optional.items() if value is not None}
    assert set(payload) == {"embeds", "allowed_mentions", *given}
    assert {key: payload[key] for key in given} == {key: optional[key] for key in given}
    assert payload["allowed_mentions"] == (allowed or {"parse": []})
    embeds: Sequence[Mapping[str, Any]] = payload["embeds"]
    assert 1 <= len(embeds) <= 10
    assert sum(map(_embed, embeds)) <= 6000
    urls = [embed["url"] for embed in embeds if "url" in embed]
    assert len(urls) == len(set(urls))
    return urls


def _embed(embed: Mapping[str, Any]) -> int:
    """Check an embed and return how many characters of it count."""
    assert set(embed) <= {"title", "url", "color", "timestamp", "description", "fields", "footer"}
    assert 0 <= embed["color"] <= 0xFFFFFF
    assert datetime.fromisoformat(embed["timestamp"]).tzinfo is not None
    if "url" in embed:
        assert urlsplit(embed["url"]).scheme in {"http", "https"}
        assert len(embed["url"]) <= 2048
    sizes = [_discord_text(embed["title"], 256)]
    if "description" in embed:
        sizes.append(_discord_text(embed["description"], 4096))
    if "footer" in embed:
        assert set(embed["footer"]) == {"text"}
        sizes.append(_size(embed["footer"]["text"], 2048))
    assert len(embed.get("fields", ())) <= 25
    for field in embed.get("fields", ()):
        assert set(field) == {"name", "value", "inline"}
        sizes += [_size(field["name"], 256), _discord_text(field["value"], 1024)]
    return sum(sizes)


def _size(text: str, limit: int) -> int:
    assert len(text.strip()) >= 1
    assert len(text) <= limit
    assert misleading(text) == set()
    return len(text)


def _discord_text(text: str, limit: int) -> int:
    quoted = "\n".join(line.removeprefix("> ") for line in text.split("\n"))
    assert _DISCORD_MARKUP.findall(_ESCAPED.sub("", quoted)) == []
    return _size(text, limit)


def unescaped(markdown: str) -> str:
    """Return what a reader sees of escaped Markdown."""
    return _ESCAPED.sub(r"\1", markdown)


def refused(check: Callable[[], object]) -> bool:
    """Say whether a rule is broken."""
    try:
        check()
    except AssertionError:
        return True
    return False
