import copy
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.secret import Masker, url_parts
from notifier.targets import Target
from tests.support.hostile import MINUTE, NOW
from tests.support.tracks import audio_id, completed, failed
from tests.targets.given import (
    COMPLETED,
    EVENTS,
    FAILED,
    answer,
    backlogs,
    make,
    news,
    payload_of,
    takes,
    told_in_full,
)
from tests.targets.limits import refused
from tests.targets.limits_mattermost import check_mattermost, check_mattermost_plain, read

URL = "https://chat.example.com/hooks/k8hrsecrethookid9bd3xe7qwn"


def mattermost(url: str = URL) -> Target:
    return make("mattermost", url=url)


def payload(*events: Event, is_plain: bool = False) -> Any:
    return payload_of(mattermost().render(events, now=NOW, is_plain=is_plain))


def card(event: Event) -> Any:
    (attachment,) = payload(event)["attachments"]
    return attachment


def test_a_completed_track() -> None:
    assert payload(COMPLETED) == {
        "attachments": [
            {
                "fallback": "✅ Intro theme is ready (3:22, music-2.6)",
                "color": "#2EB67D",
                "title": "✅ Intro theme is ready",
                "text": "> warm pads\n\n"
                "[Listen](https://media.pixverse.ai/pixverse/audio/music/1.mp3)"
                "  ·  `user:12345-pixverse:me@example.com-music:1`",
                "footer": "2026-06-23 12:38 UTC",
                "fields": [
                    {"title": "Length", "value": "3&#58;22", "short": True},
                    {"title": "Model", "value": "music&#45;2&#46;6", "short": True},
                    {"title": "Credits", "value": "40", "short": True},
                    {"title": "Took", "value": "3&#58;22", "short": True},
                ],
            }
        ]
    }


def test_a_failed_track_says_why_and_that_trying_again_often_works() -> None:
    told = card(FAILED)

    assert (told["title"], told["color"]) == ("❌ Intro theme failed", "#E01E5A")
    assert told["text"] == (
        "The backend was busy\n\n> warm pads\n\nSubmitting the same request again often works.\n\n"
        "`user:12345-pixverse:me@example.com-music:1`"
    )
    assert {"title": "Code", "value": "music&#95;generation&#95;failed", "short": True} in told["fields"]


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_keeps_mattermosts_rules(event: Event) -> None:
    check_mattermost(payload(event))
    check_mattermost_plain(payload(event, is_plain=True))


@given(events=backlogs())
def test_nothing_from_outside_breaks_mattermosts_rules(events: list[Event]) -> None:
    links = check_mattermost(payload(*events))

    assert {urlsplit(link).hostname for link in links} <= {"media.pixverse.ai", "::1"}


@settings(max_examples=50)
@given(events=backlogs())
def test_nothing_from_outside_breaks_mattermosts_rules_in_plain_text(events: list[Event]) -> None:
    links = check_mattermost_plain(payload(*events, is_plain=True))

    assert {urlsplit(link).hostname for link in links} <= {"media.pixverse.ai", "::1"}


def test_a_few_events_are_cards_under_a_headline_for_the_notification() -> None:
    told = payload(*takes(1), FAILED)

    assert told["text"] == "⚠️ 2 updates: 1 ready, 1 failed"
    assert [one["title"] for one in told["attachments"]] == [
        "✅ Take 000 is ready",
        "❌ Intro theme failed",
    ]
    check_mattermost(told)


def test_a_backlog_is_summed_up_with_the_time_it_took() -> None:
    first, *others = takes(11)
    late = news(EventType.FAILED, failed(11), at=NOW + 7 * MINUTE, audio_id=audio_id(11))
    missing = news(EventType.MISSING, name="Lost take", audio_id=audio_id(12), at=NOW + 8 * MINUTE)

    (told,) = payload(first, *others, late, missing)["attachments"]

    assert told["title"] == "⚠️ 13 updates&#58; 11 ready, 1 failed, 1 missing"
    assert told["fallback"] == "⚠️ 13 updates: 11 ready, 1 failed, 1 missing"
    assert told["color"] == "#ECB22E"
    assert told["footer"] == "2026-06-23 12:38 – 2026-06-23 12:46 UTC"
    lines = told["text"].split("\n")
    assert lines[0] == (
        "✅ Take 000 is ready &#40;3&#58;22&#41; "
        "[Listen](https://media.pixverse.ai/pixverse/audio/music/0.mp3)"
    )
    assert (
        lines[11]
        == "❌ Intro theme failed&#58; The backend was busy `user:12345-pixverse:me@example.com-music:11`"
    )
    assert lines[12] == "❌ Lost take is missing `user:12345-pixverse:me@example.com-music:12`"


@pytest.mark.parametrize(("count", "messages"), [(1, 1), (10, 1), (11, 1), (50, 1), (51, 2), (200, 4)])
def test_a_backlog_is_a_few_messages(count: int, messages: int) -> None:
    assert len(told_in_full(mattermost(), takes(count))) == messages


def worst(number: int) -> Event:
    """Return a failure in which every text is long and needs escaping."""
    fields = failed(
        number,
        model="|" * 900,
        fail_code="~" * 900,
        fail_reason="|" * 9000,
        prompt="~\n" * 900,
        url="https://media.pixverse.ai/" + "(" * 650,
    )
    return news(EventType.FAILED, fields, name="|" * 900, audio_id="@" * 900 + str(number))


@pytest.mark.parametrize(("count", "is_plain", "told"), [(10, False, 1), (60, False, 11), (10, True, 2)])
def test_a_message_of_the_worst_texts_stays_within_its_limits(count: int, is_plain: bool, told: int) -> None:
    request = mattermost().render([worst(number) for number in range(count)], now=NOW, is_plain=is_plain)

    check = check_mattermost_plain if is_plain else check_mattermost
    check(payload_of(request))
    assert request.event_count == told


@pytest.mark.parametrize(
    "text",
    [
        "**loud** __soft__ _low_ ~~gone~~ `code` $x^2$",
        "[Listen](https://evil.example) ![x](https://evil.example/spy.png) [a]: https://evil.example",
        "https://evil.example www.evil.example evil.example/x me@evil.example tel:110 <https://evil.example>",
        "# heading\n## heading\n- item\n* item\n+ item\n1. one\n2) two\n> quote\n- [ ] task",
        "heading\n===\nheading\n---\n***",
        "| a | b |\n|---|---|\n| c | d |",
        "```\ncode\n```\n~~~\ncode",
        "@channel @all @here @someone @some.one",
        "\\@channel &#64;channel &commat;channel",
        "<!channel> <!here> <!all> <@k8hr> <https://evil.example|Listen> <a\n|b>",
        "~town-square #hashtag :smile: :+1: :) ;-) :D x-d <3 &lt;3",
        "a\\b a\\\\b \\* \\",
        "&amp; &lt; &#58; & &&",
        "<b>bold</b> <!-- gone --> <img src=x>",
        "the web makes line ends of these ␤␤- item",
    ],
)
def test_foreign_text_shows_as_it_was_written(text: str) -> None:
    first_line = text.split("\n", maxsplit=1)[0]
    track = failed(prompt=text, fail_reason=text, model=text)
    event = news(EventType.FAILED, track, name=first_line)

    told = card(event)

    check_mattermost({"attachments": [told]})
    detail, prompt = told["text"].split("\n\n")[:2]
    assert read(detail) == text
    assert [read(line.removeprefix("> ")) for line in prompt.split("\n")] == text.split("\n")
    assert read(told["title"]).startswith(f"❌ {first_line[:60]}")
    check_mattermost_plain(payload(event, is_plain=True))


def test_long_texts_are_cut() -> None:
    told = card(news(EventType.FAILED, failed(prompt="p" * 9000, fail_reason="r" * 9000), name="n" * 900))

    assert told["title"] == f"❌ {'n' * 79}… failed"
    assert len(told["fallback"]) == 250
    assert told["text"].split("\n\n")[:2] == [f"{'r' * 999}…", f"> {'p' * 499}…"]


def test_white_space_before_a_line_makes_no_code() -> None:
    told = card(news(EventType.FAILED, failed(prompt="a\n\tb\n     c", fail_reason="a\n    b")))

    assert told["text"].split("\n\n")[:2] == ["a\nb", "> a\n> b\n> c"]


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://media.pixverse.ai/a.mp3?x=1&y=2", "[Listen](https://media.pixverse.ai/a.mp3?x=1&y=2)"),
        ("https://media.pixverse.ai/a_(b)*c", "[Listen](https://media.pixverse.ai/a_%28b%29*c)"),
        (
            "https://media.pixverse.ai/a)b](https://e",
            "[Listen](https://media.pixverse.ai/a%29b]%28https://e)",
        ),
        ("https://media.pixverse.ai/?a&copy;=1", "[Listen](https://media.pixverse.ai/?a&copy%3B=1)"),
        ("https://media.pixverse.ai/a>b<c|d", "[Listen](https://media.pixverse.ai/a%3Eb%3Cc%7Cd)"),
        ("https://media.pixverse.ai/a b", None),
        ("javascript:alert(1)", None),
        ("https://media.pixverse.ai@evil.example/a.mp3", None),
        ("https://media.pixverse.ai/" + "(" * 1900, None),
    ],
)
@pytest.mark.parametrize("form", ["card", "summed up", "plain"])
def test_a_link_goes_where_the_api_said_under_a_label_of_ours(url: str, link: str | None, form: str) -> None:
    event = news(fields=completed(url=url))

    told = payload(*[event] * (11 if form == "summed up" else 1), is_plain=form == "plain")

    text = told["text"] if form == "plain" else told["attachments"][0]["text"]
    assert ("[Listen](" in text) is (link is not None)
    assert link is None or link in text


def test_an_audio_id_cannot_leave_its_code_or_be_translated_in_it() -> None:
    told = payload(news(fields=completed(), audio_id="a`b <x|y> <!channel> [c](https://evil.example) ␤"))

    check_mattermost(told)
    assert told["attachments"][0]["text"].endswith("`a'b 'x|y> '!channel> [c'(https://evil.example) '`")


def test_plain_text_is_nothing_but_text() -> None:
    assert payload(COMPLETED, FAILED, is_plain=True) == {
        "text": "✅ Intro theme is ready &#40;3&#58;22, music&#45;2&#46;6&#41;\n"
        "`user:12345-pixverse:me@example.com-music:1`\n"
        "[Listen](https://media.pixverse.ai/pixverse/audio/music/1.mp3)\n\n"
        "❌ Intro theme failed &#40;music&#45;2&#46;6&#41;&#58; The backend was busy\n"
        "Submitting the same request again often works.\n"
        "`user:12345-pixverse:me@example.com-music:1`"
    }


@pytest.mark.parametrize(
    ("body", "is_delivered"),
    [
        ("ok", True),
        ("ok\n", True),
        ("", False),
        ("OK, sign in first", False),
        ('{"ok": true}', False),
        ("<html>Sign in</html>", False),
    ],
)
def test_only_ok_is_delivered(body: str, is_delivered: bool) -> None:
    outcome = mattermost().classify(answer(200, body), now=NOW)

    assert isinstance(outcome, Delivered if is_delivered else Retry)


LAYOUT = Rejected("", is_layout=True)


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        # as older servers say it
        (400, "web.incoming_webhook.invalid.app_error", TargetBroken("")),  # unknown or deleted
        (501, "web.incoming_webhook.disabled.app_error", TargetBroken("")),  # on the whole server
        (403, "web.incoming_webhook.permissions.app_error", TargetBroken("")),
        (403, "web.incoming_webhook.channel_locked.app_error", TargetBroken("")),
        (403, "web.incoming_webhook.user.app_error", TargetBroken("")),  # its maker was removed
        (404, "app.channel.get.existing.app_error", TargetBroken("")),
        (404, "web.incoming_webhook.channel.app_error", TargetBroken("")),
        (400, "model.incoming_hook.parse_data.app_error", LAYOUT),
        (400, "web.incoming_webhook.split_props_length.app_error", LAYOUT),
        (400, "web.incoming_webhook.attachment.app_error", LAYOUT),
        (400, "web.incoming_webhook.text.app_error", Rejected("")),
        (500, "api.post.create_webhook_post.creating.app_error", Retry("")),
        (500, "app.channel.get.find.app_error", Retry("")),
        # as newer ones do: one word for everything
        (400, "web.incoming_webhook.general.app_error", TargetBroken("")),
        (403, "web.incoming_webhook.general.app_error", TargetBroken("")),
        (404, "web.incoming_webhook.general.app_error", TargetBroken("")),
        (500, "web.incoming_webhook.general.app_error", Retry("")),
        (501, "web.incoming_webhook.general.app_error", TargetBroken("")),
        (400, "web.incoming_webhook.decode.app_error", LAYOUT),
        (413, "api.context.request_body_too_large.app_error", LAYOUT),
        # hardened, or something else
        (500, "", Retry("")),
        (501, "", Retry("")),
        (400, "", Rejected("")),
        (400, ["web.incoming_webhook.invalid.app_error"], Rejected("")),
    ],
)
def test_errors_mean_what_mattermost_means(status: int, error: object, outcome: Outcome) -> None:
    body = json.dumps({"id": error, "message": "oops", "status_code": status})

    judged = mattermost().classify(answer(status, body, {"Content-Type": "application/json"}), now=NOW)

    assert type(judged) is type(outcome)
    assert getattr(judged, "is_layout", False) is getattr(outcome, "is_layout", False)
    assert judged.reason == f"HTTP {status}: {body}"


def test_the_webhook_that_an_error_names_is_masked() -> None:
    body = f'{{"id":"web.incoming_webhook.general.app_error","message":"… {URL.rpartition("/")[2]}."}}'
    one = mattermost()

    reason = one.classify(answer(400, body), now=NOW).reason
    masker = Masker(part for secret in one.secrets() for part in url_parts(secret))

    assert masker.mask(reason).endswith('"message":"… ***."}')


def test_the_pace_is_one_message_a_second() -> None:
    pace = type(mattermost()).pace

    assert pace is not None
    assert (pace.count, pace.period.total_seconds()) == (1, 1.0)


@pytest.mark.parametrize(
    ("url", "owner"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "slack"),
        ("https://hooks.slack-gov.com/services/T0/B0/x", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://ptb.discord.com/api/webhooks/1/x", "discord"),
        ("https://discordapp.com/api/webhooks/1/x", "discord"),
    ],
)
def test_a_url_of_another_service_is_a_mistake(url: str, owner: str) -> None:
    with pytest.raises(ValidationError, match=f"this target's type should be {owner}"):
        mattermost(url)


@pytest.mark.parametrize("key", ["mention", "username", "channel"])
def test_nobody_can_be_pinged_and_nothing_else_be_set(key: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        make("mattermost", url=URL, **{key: "here"})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8065/hooks/x", "https://example.com/chat/hooks/x"])
def test_mattermost_lives_anywhere(url: str) -> None:
    assert mattermost(url).render([COMPLETED], now=NOW).url.reveal() == url


def in_the(place: str, text: str) -> Callable[[Any], None]:
    def spoil(told: Any) -> None:
        told["attachments"][0][place] = text

    return spoil


def in_a_field(text: str) -> Callable[[Any], None]:
    def spoil(told: Any) -> None:
        told["attachments"][0]["fields"][0]["value"] = text

    return spoil


def foreign_headline(told: Any) -> None:
    told["text"] = "Intro theme for @channel"


def own_image(told: Any) -> None:
    told["attachments"][0]["image_url"] = "https://evil.example/spy.png"


def too_large(told: Any) -> None:
    told["attachments"] *= 11


SPOILS: Sequence[Callable[[Any], None]] = [
    foreign_headline,
    own_image,
    too_large,
    in_the("fallback", "@channel"),
    in_the("fallback", "a\u202eb"),
    in_the("color", "green"),
    in_the("footer", "yesterday"),
    in_the("title", "**loud**"),
    in_the("title", " "),
    in_the("title", "x" * 1001),
    in_the("text", "@channel"),
    in_the("text", "&#64;channel"),
    in_the("text", "&#60;!channel> <!channel>"),
    in_the("text", "`<!channel>`"),
    in_the("text", "`<https://evil.example|Listen>`"),
    in_the("text", "\\@channel"),
    in_the("text", "[Play](https://evil.example)"),
    in_the("text", "![Listen](https://evil.example)"),
    in_the("text", "https://evil.example"),
    in_the("text", "www.evil.example"),
    in_the("text", "~town"),
    in_the("text", "#hashtag"),
    in_the("text", ":smile:"),
    in_the("text", ";)"),
    in_the("text", "$x$"),
    in_the("text", "&commat;channel"),
    in_the("text", "a\n- b"),
    in_the("text", "a\n1. b"),
    in_the("text", "a\n==="),
    in_the("text", "    code"),
    in_the("text", "a | b"),
    in_the("text", "a␤␤b"),
    in_the("text", "`a␤␤b`"),
    in_the("text", "a\u200bb"),
    in_a_field("@channel"),
    in_a_field("_low_"),
]


@pytest.mark.parametrize("spoil", SPOILS)
def test_the_rules_catch_a_message_that_breaks_them(spoil: Callable[[Any], None]) -> None:
    told = copy.deepcopy(payload(COMPLETED))
    assert not refused(lambda: check_mattermost(told))

    spoil(told)

    assert refused(lambda: check_mattermost(told))


@pytest.mark.parametrize("text", ["", "x" * 4001, "@here", "<!here>", "**loud**", "https://evil.example"])
def test_the_rules_catch_plain_text_that_breaks_them(text: str) -> None:
    assert not refused(lambda: check_mattermost_plain({"text": "Intro theme is ready"}))

    assert refused(lambda: check_mattermost_plain({"text": text}))


@pytest.mark.parametrize(
    ("url", "ping"),
    [
        ("https://example.com/hooks/x", "https://example.com/api/v4/system/ping"),
        ("https://example.com:8065/chat/hooks/x?a=b", "https://example.com:8065/chat/api/v4/system/ping"),
    ],
)
def test_a_probe_asks_the_server_how_it_is(url: str, ping: str) -> None:
    probe = make("mattermost", url=url).probe()
    assert probe is not None
    assert (probe.method, probe.url.reveal()) == ("GET", ping)


def test_what_stands_elsewhere_than_mattermosts_webhooks_is_not_asked() -> None:
    assert make("mattermost", url="https://example.com/relay/x").probe() is None
