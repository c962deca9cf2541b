"""Mattermost's rules, written down apart from the code that has to keep them.

Stricter than the clients where that is cheaper to prove: what could be markup is refused unless it is known
to be ours. Sources: https://github.com/mattermost/mattermost (server/channels/app: ``slack.go``,
``webhook.go``, ``notification.go``, ``mention_parser_standard.go``; webapp: ``text_formatting.tsx``,
``emoticons.tsx``), https://github.com/mattermost/marked, https://github.com/mattermost/commonmark.js
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.hostile import misleading

Members = Mapping[str, Any]

_LARGEST_BODY = 300_000
_SLACK = re.compile(r"<!(?:channel|here|all)>|<@[A-Za-z0-9]+>|<[^<|]+\|[^>]+>")
"""What the server translates before it reads any Markdown, in code as well."""
_CODE = re.compile(r"`[^`<\]\n\u2424]+`")
_LISTEN = re.compile(r"(?<!!)\[Listen\]\((https?://[^()<>;|\s]+)\)")
_REFERENCE = re.compile(r"&#[0-9]{1,7};")
_NAME = re.compile(r"@[\w.:-]+")
_MARKUP = re.compile(
    r"[\\`*_~|<>\[\]$&#/\u2424]|[:;](?=\S)|\bwww\d{0,3}\.|\bx-d\b|(?m:^(?:[^\S\n]|[-+=]|\d+[.)]\s))",
    re.IGNORECASE,
)
_MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d"
_SPAN = re.compile(f"{_MOMENT}(?: – {_MOMENT})? UTC")


def check_mattermost(payload: Members) -> list[str]:
    """Hold a message of attachments against the rules; return the URLs that it links to."""
    assert set(payload) - {"text"} == {"attachments"}
    assert len(json.dumps(payload, ensure_ascii=False).encode()) <= _LARGEST_BODY
    attachments: Sequence[Members] = payload["attachments"]
    assert 1 <= len(attachments) <= 10
    assert "text" not in payload or _markdown(payload["text"], 100) == []
    return [url for attachment in attachments for url in _attachment(attachment)]


def check_mattermost_plain(payload: Members) -> list[str]:
    """Hold a message that is only text against the rules; return the URLs that it links to."""
    assert set(payload) == {"text"}
    return _markdown(payload["text"], 4000)


def _attachment(attachment: Members) -> list[str]:
    assert set(attachment) - {"fields"} == {"fallback", "color", "title", "text", "footer"}
    assert re.fullmatch("#[0-9A-F]{6}", attachment["color"])
    assert _SPAN.fullmatch(attachment["footer"])
    assert 1 <= len(attachment["fallback"]) <= 500
    assert _shows_what_it_is(attachment["fallback"])
    assert _NAME.findall(attachment["fallback"]) == []
    assert _markdown(attachment["title"], 1000) == []
    for field in attachment.get("fields", ()):
        assert set(field) == {"title", "value", "short"}
        assert field["title"].isalpha()
        assert _markdown(field["value"], 1250) == []
        assert field["short"] is True
    return _markdown(attachment["text"], 16_000) if attachment["text"] else []


def _markdown(text: str, limit: int) -> list[str]:
    """Check a text: references, code, quoted lines and links of ours, no other markup, and no name."""
    assert text.strip()
    assert len(text) <= limit
    assert _shows_what_it_is(text)
    assert _SLACK.search(text) is None
    unquoted = "\n".join(line.removeprefix("> ") for line in text.split("\n"))
    linked = _CODE.sub("·", unquoted)
    words = _LISTEN.sub("·", linked)
    assert _MARKUP.findall(_REFERENCE.sub("·", words)) == []
    assert _NAME.findall(html.unescape(words)) == []
    return _LISTEN.findall(linked)


def _shows_what_it_is(text: str) -> bool:
    return text.strip() != "" and misleading(text.replace("@\u2060", "@")) == set()


def read(markdown: str) -> str:
    """Return what a reader sees of a text without code and links."""
    return html.unescape(markdown).replace("@\u2060", "@")
