import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from notifier import __version__
from notifier.delivery import Delivered, Rejected, Retry, TargetBroken
from notifier.document import Mapping
from notifier.event import Event, EventType
from notifier.settings import Unresolved
from notifier.targets import TYPES, Target
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import completed, failed
from tests.targets.given import COMPLETED, EVENTS, FAILED, PLACE, alert, answer, make, news, payload_of
from tests.targets.limits import check_discord, refused, unescaped

URL = "https://discord.com/api/webhooks/1234567890/secret"
SECOND = timedelta(seconds=1)


def discord(url: str = URL, **keys: Any) -> Target:
    return make("discord", url=url, **keys)


def payload(*events: Event, **keys: Any) -> Any:
    return payload_of(discord(**keys).render(events, now=NOW))


def test_a_completed_track() -> None:
    assert payload(COMPLETED) == {
        "embeds": [
            {
                "title": "✅ Intro theme is ready",
                "url": "https://media.pixverse.ai/pixverse/audio/music/1.mp3",
                "color": 0x2EB67D,
                "timestamp": "2026-06-23T12:38:20.123Z",
                "description": "> warm pads",
                "fields": [
                    {"name": "Length", "value": "3\\:22", "inline": True},
                    {"name": "Model", "value": "music\\-2.6", "inline": True},
                    {"name": "Credits", "value": "40", "inline": True},
                    {"name": "Took", "value": "3\\:22", "inline": True},
                ],
                "footer": {"text": "user:12345-pixverse:me@example.com-music:1"},
            }
        ],
        "allowed_mentions": {"parse": []},
    }


def test_a_failed_track_says_why_and_that_trying_again_often_works() -> None:
    embed = payload(FAILED)["embeds"][0]

    assert embed["title"] == "❌ Intro theme failed"
    assert embed["description"] == (
        "The backend was busy\n\n> warm pads\n\nSubmitting the same request again often works."
    )
    assert unescaped(embed["fields"][0]["value"]) == "music_generation_failed"
    assert "url" not in embed


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_keeps_discords_rules(event: Event) -> None:
    check_discord(payload(event))


@given(events=st.lists(hostile.events, min_size=1, max_size=12))
def test_nothing_from_outside_breaks_discords_rules(events: list[Event]) -> None:
    links = check_discord(payload(*events))

    assert {urlsplit(link).hostname for link in links} <= {"media.pixverse.ai", "::1"}


@settings(max_examples=40)
@given(events=st.lists(hostile.events, min_size=1, max_size=12))
def test_with_mentions_content_holds_them_and_nothing_foreign(events: list[Event]) -> None:
    told = payload(*events, mention=["user:1", "role:2", "role:3", "here"], username="Track bot")

    check_discord(
        told,
        content="<@1> <@&2> <@&3> @here",
        allowed={"parse": ["everyone"], "users": ["1"], "roles": ["2", "3"]},
        username="Track bot",
    )


@pytest.mark.parametrize(
    ("mention", "content", "allowed"),
    [
        ([], None, {"parse": []}),
        (["user:1"], "<@1>", {"parse": [], "users": ["1"]}),
        (["role:1234567890"], "<@&1234567890>", {"parse": [], "roles": ["1234567890"]}),
        (["everyone"], "@everyone", {"parse": ["everyone"]}),
        (["here"], "@here", {"parse": ["everyone"]}),
        (["user:1", "user:1"], "<@1>", {"parse": [], "users": ["1"]}),  # Discord refuses a repeated one
    ],
)
def test_only_who_is_configured_may_be_pinged(
    mention: list[str], content: str | None, allowed: dict[str, list[str]]
) -> None:
    for event in (COMPLETED, alert()):
        told = payload(event, mention=mention)

        assert (told.get("content"), told["allowed_mentions"]) == (content, allowed)


@pytest.mark.parametrize(
    "prompt",
    [
        "**loud** _soft_ ~~gone~~ ||spoiler|| `code`",
        "[Listen](https://evil.example)",
        "https://evil.example",
        "<@1> <@&2> <#3> @everyone <t:1:R> <:smile:4> :smile:",
        "# heading\n-# small\n- item\n* item\n1. one\n 22. two\n> quote\n>>> all",
        "a\\b\\\\c",
        "```\ncode\n```",
    ],
)
def test_foreign_text_shows_as_it_was_written(prompt: str) -> None:
    told = payload(news(fields=completed(prompt=prompt)))

    check_discord(told)
    lines = told["embeds"][0]["description"].split("\n")
    assert [unescaped(line.removeprefix("> ")) for line in lines] == prompt.split("\n")
    assert all(line.startswith("> ") for line in lines)


def worst(number: int) -> Event:
    """Return a failure in which every text is long and needs escaping."""
    fields = failed(number, model="*" * 900, fail_code="_" * 900, fail_reason="~" * 9000, prompt="`\n" * 900)
    return news(EventType.FAILED, fields, name="#" * 900, audio_id="@" * 900 + str(number))


def plain(number: int) -> Event:
    return news(EventType.FAILED, failed(number), audio_id=f"user:1-pixverse:a@b-music:{number}")


def test_ten_events_make_one_message() -> None:
    request = discord().render([plain(number) for number in range(12)], now=NOW)

    assert request.event_count == 10
    assert len(payload_of(request)["embeds"]) == 10


def test_events_with_long_texts_make_several() -> None:
    request = discord().render([worst(number) for number in range(12)], now=NOW)

    assert request.event_count == len(payload_of(request)["embeds"]) == 2
    check_discord(payload_of(request))


def counted(embed: dict[str, Any]) -> int:
    """Return how many characters of an embed count."""
    texts = [embed["title"], embed["description"], embed["footer"]["text"]]
    return sum(map(len, texts)) + sum(len(field["name"] + field["value"]) for field in embed["fields"])


@pytest.mark.parametrize(("size", "fitting"), [(500, 10), (600, 10), (601, 9), (1000, 6), (1001, 5)])
def test_as_many_events_as_six_thousand_characters_take(size: int, fitting: int) -> None:
    def of_length(length: int) -> list[Event]:
        track = failed(fail_reason="x" * length)
        return [news(EventType.FAILED, track, name=str(number)) for number in range(10)]

    around = counted(payload(*of_length(1))["embeds"][0]) - 1

    embeds = payload(*of_length(size - around))["embeds"]

    assert [counted(embed) for embed in embeds] == [size] * fitting


def test_embeds_of_the_same_link_are_all_shown() -> None:
    same = [news(fields=completed(), audio_id=f"user:1-pixverse:a@b-music:{number}") for number in range(3)]

    embeds = payload(*same)["embeds"]

    assert ["url" in embed for embed in embeds] == [True, False, False]


def test_a_name_cannot_push_what_happened_out_of_sight() -> None:
    assert payload(news(fields=completed(), name="very " * 2000))["embeds"][0]["title"].endswith("… is ready")


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        # without a version Discord means v6, whose waits are milliseconds
        ("https://discord.com/api/webhooks/1/tok", "https://discord.com/api/v10/webhooks/1/tok?wait=true"),
        ("https://discord.com/api/v6/webhooks/1/tok", "https://discord.com/api/v10/webhooks/1/tok?wait=true"),
        (
            "https://discord.com/api/v10/webhooks/1/tok",
            "https://discord.com/api/v10/webhooks/1/tok?wait=true",
        ),
        # v10 is not served there
        ("https://discordapp.com/api/webhooks/1/tok", "https://discord.com/api/v10/webhooks/1/tok?wait=true"),
        (
            "https://canary.discord.com/api/webhooks/1/tok",
            "https://canary.discord.com/api/v10/webhooks/1/tok?wait=true",
        ),
        # the other contracts' endpoints, as people copy them
        (
            "https://discord.com/api/webhooks/1/tok/slack",
            "https://discord.com/api/v10/webhooks/1/tok?wait=true",
        ),
        ("https://discord.com/api/webhooks/1/tok/", "https://discord.com/api/v10/webhooks/1/tok?wait=true"),
        # the owner's query stays, but for what we have to know
        (
            "https://discord.com/api/webhooks/1/tok?thread_id=5&wait=false",
            "https://discord.com/api/v10/webhooks/1/tok?thread_id=5&wait=true",
        ),
        # other hosts are left alone
        ("http://127.0.0.1:8080/discord", "http://127.0.0.1:8080/discord?wait=true"),
        (
            "https://proxy.example/api/webhooks/1/tok/slack",
            "https://proxy.example/api/webhooks/1/tok/slack?wait=true",
        ),
    ],
)
def test_the_message_goes_where_its_answer_can_be_understood(url: str, asked: str) -> None:
    assert discord(url).render([COMPLETED], now=NOW).url.reveal() == asked


def test_posts_say_who_asks_and_carry_no_webhook_id() -> None:
    headers = discord().render([COMPLETED], now=NOW).headers

    assert set(headers) == {"Content-Type", "User-Agent"}
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("DiscordBot (")
    assert f"pixverse-notifier/{__version__}" in headers["User-Agent"]


@pytest.mark.parametrize(
    ("body", "headers", "after", "is_global"),
    [
        ('{"retry_after": 0.65, "global": false}', {"Retry-After": "1"}, SECOND, False),
        ('{"retry_after": 64.57, "global": false}', {"Retry-After": "65"}, 65 * SECOND, False),
        ('{"retry_after": 64.57}', {}, 64.57 * SECOND, False),
        ("{}", {"X-RateLimit-Reset-After": "1.5"}, 1.5 * SECOND, False),
        ('{"retry_after": 2, "global": true}', {}, 2 * SECOND, True),
        ('{"retry_after": 2}', {"X-RateLimit-Global": "true"}, 2 * SECOND, True),
        ('{"retry_after": "soon", "global": "no"}', {}, 60 * SECOND, False),
        ('{"retry_after": -1}', {}, 60 * SECOND, False),
        ('{"retry_after": 1e9}', {}, timedelta(days=1), False),
        ("[]", {}, 60 * SECOND, False),
        ("<html>error 1015</html>", {}, 15 * 60 * SECOND, False),
        ("<html>error 1015</html>", {"Retry-After": "30"}, 30 * SECOND, False),
    ],
)
def test_a_limit_is_kept_as_told(
    body: str, headers: dict[str, str], after: timedelta, is_global: bool
) -> None:
    outcome = discord().classify(answer(429, body, headers), now=NOW)

    assert isinstance(outcome, Retry)
    assert (outcome.after, outcome.is_global) == (after, is_global)


@pytest.mark.parametrize(
    ("headers", "hold"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.25"}, 1.25 * SECOND),
        ({"x-ratelimit-remaining": " 0 ", "x-ratelimit-reset-after": "1.25"}, 1.25 * SECOND),
        ({"X-RateLimit-Remaining": "4", "X-RateLimit-Reset-After": "1.25"}, None),
        ({"X-RateLimit-Remaining": "0"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "soon"}, None),
        ({}, None),
    ],
)
def test_a_limit_that_is_used_up_is_heard_before_it_is_broken(
    headers: dict[str, str], hold: timedelta | None
) -> None:
    outcome = discord().classify(answer(200, '{"id": "1"}', headers), now=NOW)

    assert isinstance(outcome, Delivered)
    assert outcome.hold == hold


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, '{"code": 50035, "message": "Invalid Form Body"}', Rejected),
        (400, '{"code": 50006, "message": "Cannot send an empty message"}', Rejected),
        (401, '{"code": 50027, "message": "Invalid Webhook Token"}', TargetBroken),
        (403, '{"code": 50013, "message": "Missing Permissions"}', TargetBroken),
        (404, '{"code": 10015, "message": "Unknown Webhook"}', TargetBroken),
        (413, '{"code": 40005, "message": "Request entity too large"}', Rejected),
        (502, "<html>502</html>", Retry),
    ],
)
def test_discords_errors_are_judged_by_their_status(status: int, body: str, outcome: type) -> None:
    judged = discord().classify(answer(status, body), now=NOW)

    assert isinstance(judged, outcome)


def test_the_pace_is_five_messages_in_two_seconds() -> None:
    pace = type(discord()).pace

    assert pace is not None
    assert (pace.count, pace.period) == (5, 2 * SECOND)


@pytest.mark.parametrize("username", ["T", "Track bot", "x" * 80, "ÜBER ☃", "here we go"])
def test_a_username_shows(username: str) -> None:
    assert payload(COMPLETED, username=username)["username"] == username


@pytest.mark.parametrize(
    "keys",
    [
        {"url": "https://hooks.slack.com/services/T0/B0/x"},
        {"url": "https://hooks.slack-gov.com/services/T0/B0/x"},
        {"username": "x" * 81},
        {"username": "  "},
        {"username": "My Discord bot"},
        {"username": "Clyde"},
        {"username": "everyone"},
        {"username": "Here"},
        {"username": "a@b"},
        {"mention": ["user:U123ABC"]},  # an ID of Slack
        {"mention": ["role:123456789012345678901"]},
        {"mention": ["@everyone"]},
        {"mention": [f"user:{number}" for number in range(21)]},
    ],
)
def test_settings_that_cannot_work_are_mistakes(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make("discord", **{"url": URL, **keys})


def test_references_that_are_not_resolved_yet_pass_for_any_value() -> None:
    reference = Unresolved("${env:SOMEWHERE}", PLACE)
    keys = Mapping(PLACE)
    keys.update({"type": "discord", "url": reference, "username": reference, "mention": [reference]})

    assert TYPES["discord"].model_validate(keys).type_name == "discord"


def ping(told: Any) -> None:
    told["allowed_mentions"]["parse"] = ["users"]


def silent(told: Any) -> None:
    del told["allowed_mentions"]


def foreign_content(told: Any) -> None:
    told["content"] = "Intro theme"


def markup(told: Any) -> None:
    told["embeds"][0]["description"] = "> **warm** pads"


def live_link(told: Any) -> None:
    told["embeds"][0]["description"] = "> https://evil.example"


def long_title(told: Any) -> None:
    told["embeds"][0]["title"] = "x" * 257


def blank_value(told: Any) -> None:
    told["embeds"][0]["fields"][0]["value"] = " "


def same_link(told: Any) -> None:
    told["embeds"] *= 2


def too_long(told: Any) -> None:
    del told["embeds"][0]["url"]
    told["embeds"][0]["description"] = "x" * 700
    told["embeds"] *= 10


@pytest.mark.parametrize(
    "spoil",
    [ping, silent, foreign_content, markup, live_link, long_title, blank_value, same_link, too_long],
)
def test_the_rules_catch_a_message_that_breaks_them(spoil: Callable[[Any], None]) -> None:
    told = copy.deepcopy(payload(COMPLETED))
    assert not refused(lambda: check_discord(told))

    spoil(told)

    assert refused(lambda: check_discord(told))
