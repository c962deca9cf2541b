"""The services' documented rules, written down apart from the code that has to keep them.

Each `check_…` holds one form of a message against them and returns the URLs that it links to. Stricter than
the services where that is cheaper to prove: markup is refused unless it is known to be ours.

Sources: https://docs.slack.dev/reference/block-kit/blocks,
https://docs.slack.dev/messaging/formatting-message-text,
https://discord.com/developers/docs/resources/webhook#execute-webhook,
https://discord.com/developers/docs/resources/message#embed-object
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.support.hostile import misleading

Members = Mapping[str, Any]

_ENTITY = re.compile(r"&(?:amp|lt|gt);")
_TOKEN = re.compile(r"<[^<>]*>")
_LISTEN = re.compile(r"\*<(https?://[^|<>\s]+)\|Listen>\*")
_BARE_LINK = re.compile(r"^<(https?://[^|<>\s]+)>$", re.MULTILINE)
_DATE = re.compile(r"<!date\^(\d+)\^\{date_short_pretty\} \{time\}\|([^<>|^]+)>")
_CODE = re.compile(r"`(?:[^`<>&\s]|&(?:amp|lt|gt);| (?! ))+`")
_DISCORD_TOKEN = re.compile(
    r"\A<t:\d+:f>(?: – <t:\d+:f>)?(?=\n)|\\[^0-9A-Za-z\s]|`[^`\n]+`|(?<=.) \[Listen\]\((?P<url>https?://[^()<>\s]+)\)(?=\n|\Z)"
)
_SPAN = re.compile(r"<t:\d+:f>(?: – <t:\d+:f>)?\n")
_DISCORD_MARKUP = re.compile(r"[*_~`|<>@\[\]#\\]|://|:\w+:|(?m:^\s*(?:[-+]|\d+\.)\s)")
_ESCAPED = re.compile(r"\\([^0-9A-Za-z\s])")


def check_slack(payload: Members, *, pings: Sequence[str] = ()) -> list[str]:
    """Hold blocks and their notification against Slack's rules, with those pings and no others."""
    assert set(payload) == {"text", "blocks", "unfurl_links", "unfurl_media"}
    blocks: Sequence[Members] = payload["blocks"]
    assert _tokens(_slack_message(payload, pings)) == []
    assert 1 <= len(blocks) <= 50
    texts = [text for block in blocks for text in _slack_texts(block)]
    if pings:
        opening = {"type": "mrkdwn", "text": " ".join(pings), "verbatim": True}
        assert blocks[0] == {"type": "section", "text": opening}
        del texts[0]
    urls = [url for text in texts for url in _slack_text(text)]
    assert len(" ".join(pings)) + sum(len(text["text"]) for text in texts) <= 10_000
    return urls


def check_slack_plain(payload: Members, *, pings: Sequence[str] = ()) -> list[str]:
    """Hold a message that is only text against Slack's rules; its links show where they lead."""
    assert set(payload) == {"text", "unfurl_links", "unfurl_media"}
    told = _slack_message(payload, pings)
    assert _tokens(_BARE_LINK.sub("", told)) == []
    assert "`" not in told
    return [_unescaped(url) for url in _BARE_LINK.findall(told)]


def _slack_message(payload: Members, pings: Sequence[str]) -> str:
    """Check what every message has and return its text after the line that pings."""
    assert payload["unfurl_links"] is False
    assert payload["unfurl_media"] is False
    text: str = payload["text"]
    assert 1 <= len(text) <= 4000
    assert misleading(text) == set()
    opening, _, told = text.partition("\n") if pings else ("", "", text)
    assert opening == " ".join(pings)
    assert told.strip()
    return told


def _slack_texts(block: Members) -> list[Members]:
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


def _slack_text(text: Members) -> list[str]:
    """Check a text object; where Slack reads markup, it is a link, code or a moment of ours."""
    assert text["type"] in {"plain_text", "mrkdwn"}
    shown: str = text["text"]
    assert 1 <= len(shown) <= 3000
    assert shown.strip()
    assert misleading(shown) == set()
    if text["type"] == "plain_text":
        assert set(text) == {"type", "text", "emoji"}
        assert text["emoji"] is False
        return []
    assert set(text) == {"type", "text", "verbatim"}
    assert text["verbatim"] is True
    if link := _LISTEN.fullmatch(shown):
        return [_unescaped(link[1])]
    assert _CODE.fullmatch(shown) or all(map(_is_moment, shown.split(" – ")))
    return []


def _is_moment(token: str) -> bool:
    """Say whether a token shows the same moment where Slack knows it and where it does not."""
    date = _DATE.fullmatch(token)
    return date is not None and f"{datetime.fromtimestamp(int(date[1]), UTC):%Y-%m-%d %H:%M UTC}" == date[2]


def _tokens(mrkdwn: str) -> list[str]:
    """Return the tokens that Slack would act upon; everything around them must be escaped."""
    around = _ENTITY.sub("", _TOKEN.sub("", mrkdwn))
    assert not set(around) & set("<>&")
    return _TOKEN.findall(mrkdwn)


def _unescaped(url: str) -> str:
    assert not set(_ENTITY.sub("", url)) & set("<>&")
    return url.replace("&amp;", "&")


def check_discord(
    payload: Members,
    *,
    content: str | None = None,
    allowed: Mapping[str, Sequence[str]] | None = None,
    username: str | None = None,
) -> list[str]:
    """Hold embeds against Discord's rules; nothing foreign stands where it could ping."""
    optional = {"content": content, "username": username}
    given = {key for key, value in optional.items() if value is not None}
    assert set(payload) == {"embeds", "allowed_mentions", *given}
    assert {key: payload[key] for key in given} == {key: optional[key] for key in given}
    assert payload["allowed_mentions"] == (allowed or {"parse": []})
    embeds: Sequence[Members] = payload["embeds"]
    assert 1 <= len(embeds) <= 10
    for number, embed in enumerate(embeds):
        assert (number > 0 and set(embed) == {"description", "color"}) or _heads(embed)
    assert sum(map(_size_of, embeds)) <= 6000
    urls = [embed["url"] for embed in embeds if "url" in embed]
    assert len(urls) == len(set(urls))
    return [*urls, *(url for embed in embeds for url in _links(embed.get("description", "")))]


def check_discord_plain(
    payload: Members, *, content: str | None = None, allowed: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Hold a message that is only content against Discord's rules; there foreign text could ping."""
    assert set(payload) == {"content", "allowed_mentions", "flags"}
    assert payload["allowed_mentions"] == (allowed or {"parse": []})
    assert payload["flags"] == 4
    _size(payload["content"], 2000)
    opening, _, told = payload["content"].partition("\n") if content else (None, "", payload["content"])
    assert opening == content
    assert "@everyone" not in told
    _discord_text(_BARE_LINK.sub("", told), 2000)
    return _BARE_LINK.findall(told)


def _heads(embed: Members) -> bool:
    """Check an embed that begins a message or tells an event."""
    if set(embed) == {"title", "color", "description"}:
        return _SPAN.match(embed["description"]) is not None
    assert {"title", "color", "timestamp"} <= set(embed)
    assert set(embed) <= {"title", "color", "timestamp", "url", "description", "fields"}
    assert datetime.fromisoformat(embed["timestamp"]).tzinfo is not None
    if "url" in embed:
        assert urlsplit(embed["url"]).scheme in {"http", "https"}
        assert len(embed["url"]) <= 2048
    return True


def _size_of(embed: Members) -> int:
    """Check the texts of an embed and return how many characters of it count."""
    assert type(embed["color"]) is int
    assert 0 <= embed["color"] <= 0xFFFFFF
    sizes = [
        _discord_text(embed[member], limit)
        for member, limit in (("title", 256), ("description", 4096))
        if member in embed
    ]
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
    """Check a text with Markdown: escapes, code, quoted lines and links of ours, and no other markup."""
    quoted = "\n".join(line.removeprefix("> ") for line in text.split("\n"))
    assert _DISCORD_MARKUP.findall(_DISCORD_TOKEN.sub("", quoted)) == []
    return _size(text, limit)


def _links(markdown: str) -> list[str]:
    return [token["url"] for token in _DISCORD_TOKEN.finditer(markdown) if token["url"]]


def unescaped(markdown: str) -> str:
    """Return what a reader sees of escaped Markdown."""
    return _ESCAPED.sub(r"\1", markdown)


def spoilt(payload: Members, place: str, value: object) -> Any:
    """Return a copy of a payload with another value at a place such as ``blocks.0.text``.

    The place after the last of a list adds to it, and None takes away what is there.
    """
    told = copy.deepcopy(payload)
    *way, last = (int(step) if step.isdecimal() else step for step in place.split("."))
    holder: Any = told
    for step in way:
        holder = holder[step]
    if value is None:
        del holder[last]
    elif isinstance(holder, list) and last == len(holder):
        holder.append(value)
    else:
        holder[last] = value
    return told


def refused(check: Callable[[], object]) -> bool:
    """Say whether a rule is broken."""
    try:
        check()
    except AssertionError:
        return True
    return False
