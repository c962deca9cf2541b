"""Each recipe of config/recipes, as a person copies it, held against the rules of its service."""

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings

from notifier.event import Event, EventType
from notifier.loading import InvalidConfigError, Loaded, load_content
from notifier.message import Message, compose
from notifier.secret import Sources
from notifier.targets import Request, Target
from notifier.targets.webhook import Webhook
from tests.support import hostile
from tests.support.hostile import NOW, misleading
from tests.support.tracks import completed, failed
from tests.targets.given import COMPLETED, EVENTS, news, payload_of

FOLDER = Path(__file__).parent.parent / "config" / "recipes"
NAMES = ["google-chat", "home-assistant", "mattermost", "microsoft-teams", "ntfy", "telegram"]
ENVIRONMENT = {
    "GOOGLE_CHAT_URL": "https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=googlehunter2",
    "HOME_ASSISTANT_URL": "https://homeassistant.example/api/webhook/homehunter2",
    "MATTERMOST_URL": "https://mattermost.example/hooks/mattermosthunter2",
    "NTFY_TOPIC": "ntfyhunter2",
    "TEAMS_URL": "https://prod.westus.logic.azure.com/workflows/a/invoke?sig=teamshunter2",
    "TELEGRAM_TOKEN": "123456789:telegramhunter2",
}


def loaded(name: str, sources: Sources, *, resolve: bool = True) -> Loaded:
    """Read a watchlist that holds nothing but the recipe and what every watchlist must."""
    recipe = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    text = f"useapi: {{token: user:123-hunter2hunter2}}\nwatch: []\n{recipe}"
    return load_content(text.encode(), name, resolve=resolve, sources=sources)


@pytest.fixture(scope="module")
def targets() -> Mapping[str, Target]:
    """Every recipe's target, made by the real loader."""
    return {name: loaded(name, Sources(ENVIRONMENT)).config.targets[name] for name in NAMES}


def told(target: Target, event: Event) -> Request:
    request = target.render([event], now=NOW)
    assert request.warning is None
    return request


# ------------------------------------------------------------------------------ what the services ask for

Reader = Iterator[str]
"""What a person reads of a message, text by text."""


def only(items: Sequence[Any]) -> Any:
    """Return the one item that there may be."""
    assert len(items) == 1
    return items[0]


def size(text: str, most: int) -> str:
    """Hold a text against a limit of characters."""
    assert len(text.strip()) >= 1
    assert len(text) <= most
    assert misleading(text.replace("@\u2060", "@")) == set()
    return text


def bytes_of(text: str, most: int) -> str:
    """Hold a text against a limit of bytes."""
    assert len(text.strip()) >= 1
    assert len(text.encode()) <= most
    assert misleading(text) == set()
    return text


def link(url: Any) -> str:
    """Hold a link against what a browser may be sent to."""
    assert urlsplit(url).scheme in {"http", "https"}
    assert re.search(r"[\s<>|\"]", url) is None
    assert isinstance(url, str)
    return url


def google_chat(request: Request, _: Message) -> Reader:
    """Source: https://developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages."""
    assert len(request.body) <= 32_000
    payload = payload_of(request)
    assert set(payload) == {"fallbackText", "cardsV2"}
    size(payload["fallbackText"], 300)
    assert "<" not in payload["fallbackText"]  # <users/all>, should it be read like a message's text
    card = only(payload["cardsV2"])
    assert set(card) == {"cardId", "card"}
    assert set(card["card"]) == {"sections"}
    section = only(card["card"]["sections"])
    assert set(section) == {"widgets"}
    for widget in section["widgets"]:
        assert len(widget) == 1
        match widget:
            case {"textParagraph": {"text": text}}:
                yield google_chat_text(text)
            case {"buttonList": {"buttons": [{"text": "Listen", "onClick": {"openLink": {"url": url}}}]}}:
                yield link(url)
            case other:
                raise AssertionError(f"a widget of {other}")


def google_chat_text(text: str) -> str:
    """Source: https://developers.google.com/workspace/chat/format-messages#card-formatting."""
    assert text.count("<b>") == text.count("</b>")
    assert text.count("<i>") == text.count("</i>")
    shown = re.sub("</?[bi]>", "", text).replace("<br>", "\n")
    assert re.search("[<>]|&(?!(?:amp|lt|gt);)", shown) is None
    return size(html.unescape(shown), 2000)


def home_assistant(request: Request, _: Message) -> Reader:
    """Source: https://www.home-assistant.io/docs/automation/trigger/#webhook-trigger."""
    assert "json" in request.headers["Content-Type"]
    payload = payload_of(request)
    assert set(payload) == {"type", "tone", "title", "message", "url", "audio_id", "at"}
    assert all(value is None or isinstance(value, str) for value in payload.values())
    assert payload["type"] in set(EventType)
    assert payload["tone"] in {"good", "bad", "warning"}
    assert "<" not in payload["title"] + payload["message"]
    yield size(payload["title"], 200)
    yield size(payload["message"], 1500)
    if payload["url"]:
        yield link(payload["url"])
    if payload["audio_id"]:
        yield payload["audio_id"]


_CODE = re.compile(r"`([^`<\n]+)`")
_LINK = re.compile(r"\[Listen\]\((https?://[^\s()<>|]+)\)")
_REFERENCE = re.compile(r"&#[0-9]{1,7};")
_MARKUP = re.compile(r"[\\`*_~\[\]#|<>&$\n\u2424]|[:;](?=\S)|\bwww\.|^\s*(?:[-+=]|\d+[.)])\s")
_NAME = re.compile(r"@(?!\u2060)")


def mattermost(request: Request, _: Message) -> Reader:
    """Sources: https://developers.mattermost.com/integrate/webhooks/incoming/ and the server's code.

    To it a mention is an @ right before a word, outside of code, and it looks for one after it has replaced
    character references, :emoji: and Slack's markup.
    """
    payload = payload_of(request)
    assert set(payload) == {"text"}
    assert len(payload["text"]) <= 16_383
    headline, *paragraphs = payload["text"].split("\n\n")
    bold = re.fullmatch(r"(\S+) \*\*(\S|\S.*\S)\*\*", headline)
    assert bold is not None
    yield f"{bold[1]} {mattermost_text(bold[2])}"
    for paragraph in paragraphs:
        if code := _CODE.fullmatch(paragraph):
            yield size(code[1], 10_000)
        elif listen := _LINK.fullmatch(paragraph):
            yield link(listen[1])
        else:
            yield mattermost_text(paragraph)


def mattermost_text(text: str) -> str:
    assert _MARKUP.findall(_REFERENCE.sub("·", text)) == []
    assert _NAME.findall(html.unescape(text)) == []
    return size(html.unescape(text), 16_383)


def microsoft_teams(request: Request, _: Message) -> Reader:
    """Sources: https://learn.microsoft.com/adaptive-cards/schema-explorer and the limit of 28 kB.

    One client (the Ruby gem msteams_hermes) has measured 21,000 bytes; so that is the limit here.
    """
    assert len(request.body) <= 21_000
    payload = payload_of(request)
    assert set(payload) == {"type", "attachments"}
    assert payload["type"] == "message"
    attachment = only(payload["attachments"])
    assert set(attachment) == {"contentType", "contentUrl", "content"}
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert set(card) == {"$schema", "type", "version", "body", "actions"}
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    for block in card["body"]:
        assert set(block) == {"type", "inlines"}
        assert block["type"] == "RichTextBlock"  # a TextBlock or a FactSet would read Markdown
        yield "".join(map(microsoft_teams_run, block["inlines"])).rstrip()
    for action in card["actions"]:
        assert set(action) == {"type", "title", "url"}
        assert (action["type"], action["title"]) == ("Action.OpenUrl", "Listen")
        yield link(action["url"])


def microsoft_teams_run(run: Mapping[str, Any]) -> str:
    assert run["type"] == "TextRun"
    assert set(run) <= {"type", "text", "size", "weight", "color", "isSubtle"}
    assert run.get("color", "Default") in {"Default", "Good", "Attention", "Warning"}
    return size(run["text"], 1000)


def ntfy(request: Request, _: Message) -> Reader:
    """Source: https://docs.ntfy.sh/publish/ and, for 8192 bytes of JSON, the server's transformBodyJSON."""
    assert len(request.body) <= 8192
    assert urlsplit(request.url.reveal()).path in {"", "/"}
    payload = payload_of(request)
    required = {"topic", "title", "message", "tags", "priority", "markdown"}
    assert required <= set(payload) <= required | {"click"}
    assert payload["topic"] == ENVIRONMENT["NTFY_TOPIC"]
    assert payload["tags"] in (["white_check_mark"], ["x"], ["warning"])
    assert payload["priority"] in {3, 4}
    assert payload["markdown"] is False
    yield bytes_of(payload["title"], 200)
    yield bytes_of(payload["message"], 4095)
    if "click" in payload:
        yield link(payload["click"])


def telegram(request: Request, message: Message) -> Reader:
    """Source: https://core.telegram.org/bots/api#sendmessage.

    Telegram finds mentions by itself, but where a word stands before the @ it is an address. The audio_id is
    the operator's own, and is there to be copied as it is.
    """
    payload = payload_of(request)
    assert set(payload) == {"chat_id", "text", "link_preview_options"}
    assert isinstance(payload["chat_id"], int)
    assert payload["link_preview_options"] == {"is_disabled": True}
    assert len(payload["text"].encode("utf-16-le")) // 2 <= 4096
    rest, _, last = payload["text"].rpartition("\n\n")
    is_audio_id = message.audio_id is not None and message.audio_id.startswith(last.removesuffix("…"))
    around = rest if is_audio_id else payload["text"]
    assert re.search(r"(?<!\w)@\w", around.replace(message.url or "\0", "")) is None
    yield size(payload["text"], 2048)


CHECKS: Mapping[str, Callable[[Request, Message], Reader]] = {
    "google-chat": google_chat,
    "home-assistant": home_assistant,
    "mattermost": mattermost,
    "microsoft-teams": microsoft_teams,
    "ntfy": ntfy,
    "telegram": telegram,
}


def read(name: str, request: Request, event: Event) -> str:
    """Hold a request against its service's rules; return what a person reads, one text a line."""
    return "\n".join(CHECKS[name](request, compose(event)))


# ------------------------------------------------------------------------------------------ the recipes


def test_every_recipe_is_tested() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == [f"{name}.yaml" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_one_webhook_that_can_be_checked_without_its_secrets(name: str) -> None:
    target = loaded(name, Sources({}), resolve=False)

    assert [*target.config.targets] == [name]
    assert isinstance(target.config.targets[name], Webhook)
    assert target.warnings == ()


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("google-chat", "url: the environment variable GOOGLE_CHAT_URL"),
        ("home-assistant", "url: the environment variable HOME_ASSISTANT_URL"),
        ("mattermost", "url: the environment variable MATTERMOST_URL"),
        ("microsoft-teams", "url: the environment variable TEAMS_URL"),
        ("ntfy", "body: the environment variable NTFY_TOPIC"),
        ("telegram", "url: the environment variable TELEGRAM_TOKEN"),
    ],
)
def test_a_recipe_reaches_nobody_before_it_is_told_whom(name: str, missing: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        loaded(name, Sources({}))

    (line,) = caught.value.lines()
    assert line.endswith(f": targets.{name}.{missing} is missing or empty")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("google-chat", ENVIRONMENT["GOOGLE_CHAT_URL"]),
        ("home-assistant", ENVIRONMENT["HOME_ASSISTANT_URL"]),
        ("mattermost", ENVIRONMENT["MATTERMOST_URL"]),
        ("microsoft-teams", ENVIRONMENT["TEAMS_URL"]),
        ("ntfy", "https://ntfy.sh"),
        ("telegram", "https://api.telegram.org/bot123456789:telegramhunter2/sendMessage"),
    ],
)
def test_a_recipe_posts_json_where_its_reference_says(
    name: str, url: str, targets: Mapping[str, Target]
) -> None:
    request = told(targets[name], COMPLETED)

    assert (request.method, request.url.reveal()) == ("POST", url)
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_kind_of_event_is_told_with_all_that_is_known_of_it(
    name: str, event: Event, targets: Mapping[str, Target]
) -> None:
    message = compose(event)
    facts = [f"{label} {value}" for label, value in message.facts]
    parts = [message.headline, message.url, message.detail, message.prompt, message.note, *facts]
    if name != "ntfy":  # the few lines of a phone's notification have no room for it
        parts.append(message.audio_id)

    text = read(name, told(targets[name], event), event)

    assert [part for part in parts if part and part not in text] == []


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80)
@given(event=hostile.events)
def test_nothing_from_outside_breaks_a_services_rules(
    name: str, event: Event, targets: Mapping[str, Target]
) -> None:
    request = told(targets[name], event)

    assert read(name, request, event)


def worst(mark: str) -> Sequence[Event]:
    """Return a failed and a completed track of which every text is as long as it can be."""
    long = mark * 9000
    url = "https://media.pixverse.ai/" + "a" * 1970
    words: dict[str, Any] = {
        "model": long,
        "fail_code": long,
        "fail_reason": long,
        "prompt": long,
        "url": url,
    }
    tracks = {
        EventType.FAILED: failed(**words),
        EventType.COMPLETED: completed(**words),
        EventType.STALLED: completed(**words),
    }
    return [news(kind, fields, name=long, audio_id=long, status=long) for kind, fields in tracks.items()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "mark", ["x", "x ", "&", "<", '"', "\\", "`", "@", "@a ", "ü", "€", "🎵", "x\n", "|"]
)
def test_the_longest_texts_stay_within_a_services_limits(
    name: str, mark: str, targets: Mapping[str, Target]
) -> None:
    for event in worst(mark):
        assert read(name, told(targets[name], event), event)


@pytest.mark.parametrize(
    ("name", "text", "inert"),
    [
        ("google-chat", "a <users/all> & <b>b</b>", "a &lt;users/all&gt; &amp; &lt;b&gt;b&lt;/b&gt;"),
        ("google-chat", "two\nlines", "two<br>lines"),
        ("home-assistant", "<b>b</b>", "‹b>b‹/b>"),
        ("mattermost", "hey @channel", "hey @\u2060channel"),
        ("mattermost", "&commat;channel", "&#38;commat&#59;channel"),
        ("mattermost", "&#64;here", "&#38;&#35;64&#59;here"),
        ("mattermost", "\\@all", "&#92;@\u2060all"),
        ("mattermost", "<!channel>", "&#60;!channel&#62;"),
        ("mattermost", "<https://a.b|x>", "&#60;https&#58;&#47;&#47;a&#46;b&#124;x&#62;"),
        ("mattermost", "[x](y)", "&#91;x&#93;&#40;y&#41;"),
        ("mattermost", "*b* _i_ `c`", "&#42;b&#42; &#95;i&#95; &#96;c&#96;"),
        ("mattermost", ":joy: $x$", "&#58;joy&#58; &#36;x&#36;"),
        ("mattermost", "one\n# two", "one &#35; two"),
        ("microsoft-teams", "[x](https://evil.example)", "[x](https://evil.example)"),
        ("ntfy", "[x](https://evil.example)", "[x](https://evil.example)"),
        ("telegram", "hey @somebody <b>b</b>", "hey @\u2060somebody <b>b</b>"),
    ],
)
def test_foreign_markup_is_text(name: str, text: str, inert: str, targets: Mapping[str, Target]) -> None:
    event = news(fields=completed(prompt=text))

    told_text = json.dumps(payload_of(told(targets[name], event)), ensure_ascii=False)

    assert json.dumps(inert, ensure_ascii=False)[1:-1] in told_text


def test_a_notification_of_ntfy_is_cut_between_characters(targets: Mapping[str, Target]) -> None:
    long = news(EventType.FAILED, failed(fail_reason="🎵" * 3000), name="€" * 200)

    payload = payload_of(told(targets["ntfy"], long))

    assert set(payload["title"].removesuffix(" failed")) == {"€", "…"}
    assert re.fullmatch("🎵+…", payload["message"])
    assert len(payload["message"].encode()) > 2390


# ------------------------------------------------------------------------------- the rules can be broken


def card_of(payload: Any) -> Any:
    return payload["cardsV2"][0]["card"]["sections"][0]["widgets"]


def body_of(payload: Any) -> Any:
    return payload["attachments"][0]["content"]["body"]


SPOILED: Sequence[tuple[str, str, Callable[[Any], object]]] = [
    (
        "google-chat",
        "a live mention",
        lambda one: card_of(one)[1]["textParagraph"].update(text="<users/all>"),
    ),
    ("google-chat", "a bare ampersand", lambda one: card_of(one)[1]["textParagraph"].update(text="a & b")),
    ("google-chat", "an open tag", lambda one: card_of(one)[1]["textParagraph"].update(text="<b>a")),
    (
        "google-chat",
        "a forged link",
        lambda one: card_of(one)[1]["textParagraph"].update(text='<a href="x">'),
    ),
    ("google-chat", "an image", lambda one: card_of(one)[-1].update(image={"imageUrl": "https://a.example"})),
    ("google-chat", "a text message", lambda one: one.update(text="*bold*")),
    ("google-chat", "a long one", lambda one: card_of(one).extend(card_of(one) * 200)),
    ("home-assistant", "a nested value", lambda one: one.update(url={"href": "https://a.example"})),
    ("home-assistant", "HTML", lambda one: one.update(message="<b>bold</b>")),
    ("home-assistant", "a missing key", lambda one: one.pop("url")),
    ("home-assistant", "a script", lambda one: one.update(url="javascript:alert(1)")),
    ("mattermost", "a live mention", lambda one: one.update(text=one["text"] + "\n\nhey @channel")),
    ("mattermost", "a reference by name", lambda one: one.update(text=one["text"] + "\n\n&commat;channel")),
    ("mattermost", "a reference by number", lambda one: one.update(text=one["text"] + "\n\n&#64;here")),
    ("mattermost", "an emoji", lambda one: one.update(text=one["text"] + "\n\n:joy:")),
    ("mattermost", "a formula", lambda one: one.update(text=one["text"] + "\n\n$x$")),
    ("mattermost", "a bare URL", lambda one: one.update(text=one["text"] + "\n\nhttps://a.example")),
    ("mattermost", "Slack's mention", lambda one: one.update(text=one["text"] + "\n\nhey <!channel>")),
    ("mattermost", "a forged link", lambda one: one.update(text=one["text"] + "\n\n[x](https://a.example)")),
    ("mattermost", "a heading", lambda one: one.update(text=one["text"] + "\n\n# big")),
    ("mattermost", "a list", lambda one: one.update(text=one["text"] + "\n\n- item")),
    ("mattermost", "a long one", lambda one: one.update(text=one["text"] + "\n\n" + "x" * 16_383)),
    ("mattermost", "another channel", lambda one: one.update(channel="town-square")),
    ("microsoft-teams", "Markdown", lambda one: body_of(one)[0].update(type="TextBlock", text="[x](y)")),
    ("microsoft-teams", "an unknown key", lambda one: body_of(one)[0]["inlines"][0].update(colour="red")),
    ("microsoft-teams", "no text", lambda one: body_of(one)[0]["inlines"][0].update(text="")),
    ("microsoft-teams", "a long one", lambda one: body_of(one).extend(body_of(one) * 60)),
    ("ntfy", "Markdown", lambda one: one.update(markdown=True)),
    ("ntfy", "a long message", lambda one: one.update(message="€" * 1400)),
    ("ntfy", "a long title", lambda one: one.update(title="€" * 70)),
    (
        "ntfy",
        "much JSON",
        lambda one: one.update(message='"' * 3900, click="https://a.example/" + "a" * 1500),
    ),
    ("ntfy", "a script", lambda one: one.update(click="javascript:alert(1)")),
    ("ntfy", "a priority in words", lambda one: one.update(priority="high")),
    ("telegram", "markup", lambda one: one.update(parse_mode="HTML")),
    ("telegram", "a live mention", lambda one: one.update(text=one["text"].replace("warm", "@somebody"))),
    ("telegram", "a long one", lambda one: one.update(text="🎵" * 2049)),
    ("telegram", "a preview", lambda one: one.update(link_preview_options={"is_disabled": False})),
    ("telegram", "an override", lambda one: one.update(text="\u202e" + one["text"])),
]


@pytest.mark.parametrize(
    ("name", "spoil"), [(name, spoil) for name, _, spoil in SPOILED], ids=[f"{a}: {b}" for a, b, _ in SPOILED]
)
def test_the_rules_refuse_what_a_service_would(
    name: str, spoil: Callable[[Any], object], targets: Mapping[str, Target]
) -> None:
    request = told(targets[name], COMPLETED)
    assert read(name, request, COMPLETED)
    payload = payload_of(request)
    spoil(payload)

    with pytest.raises(AssertionError):
        read(name, replace(request, body=json.dumps(payload, ensure_ascii=False).encode()), COMPLETED)
