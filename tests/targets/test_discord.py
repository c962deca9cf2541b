import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from notifier import __version__
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.document import Mapping
from notifier.event import Event, EventType
from notifier.settings import Unresolved
from notifier.targets import TYPES, Target
from tests.support.hostile import MINUTE, NOW
from tests.support.tracks import audio_id, completed, failed
from tests.targets.given import (
    COMPLETED,
    EVENTS,
    FAILED,
    PLACE,
    alert,
    answer,
    backlogs,
    make,
    news,
    payload_of,
    takes,
    told_in_full,
)
from tests.targets.limits import check_discord, check_discord_plain, refused, spoilt, unescaped

URL = "https://discord.com/api/webhooks/1234567890/secret"
SECOND = timedelta(seconds=1)
ROLES = [f"{number:020}" for number in range(20)]
ROLE_PINGS = " ".join(f"<@&{role}>" for role in ROLES)
ROLES_ONLY = {"parse": [], "roles": ROLES}


def discord(url: str = URL, **keys: Any) -> Target:
    return make("discord", url=url, **keys)


def payload(*events: Event, is_plain: bool = False, **keys: Any) -> Any:
    return payload_of(discord(**keys).render(events, now=NOW, is_plain=is_plain))


def test_a_completed_track() -> None:
    assert payload(COMPLETED) == {
        "embeds": [
            {
                "title": "✅ Intro theme is ready",
                "url": "https://media.pixverse.ai/pixverse/audio/music/1.mp3",
                "color": 0x2EB67D,
                "timestamp": "2026-06-23T12:38:18.000Z",
                "description": "> warm pads\n\n`user:12345-pixverse:me@example.com-music:1`",
                "fields": [
                    {"name": "Length", "value": "3\\:22", "inline": True},
                    {"name": "Model", "value": "music\\-2.6", "inline": True},
                    {"name": "Credits", "value": "40", "inline": True},
                    {"name": "Took", "value": "3\\:22", "inline": True},
                ],
            }
        ],
        "allowed_mentions": {"parse": []},
    }


def test_a_failed_track_says_why_and_that_trying_again_often_works() -> None:
    embed = payload(FAILED)["embeds"][0]

    assert embed["title"] == "❌ Intro theme failed"
    assert embed["description"] == (
        "The backend was busy\n\n> warm pads\n\nSubmitting the same request again often works.\n\n"
        "`user:12345-pixverse:me@example.com-music:1`"
    )
    assert unescaped(embed["fields"][0]["value"]) == "music_generation_failed"
    assert "url" not in embed


def test_a_backlog_is_summed_up_under_what_became_of_it() -> None:
    broken = news(EventType.FAILED, failed(12), name="Outro", audio_id=audio_id(12), at=NOW + 5 * MINUTE)

    told = payload(*takes(10), broken)

    assert told == {
        "embeds": [
            {
                "title": "⚠️ 11 updates\\: 10 ready, 1 failed",
                "color": 0xECB22E,
                "description": "\n".join(
                    [
                        "<t:1782218298:f> – <t:1782218600:f>",
                        *(
                            f"✅ Take {number:03} is ready \\(3\\:22\\) "
                            f"[Listen](https://media.pixverse.ai/pixverse/audio/music/{number}.mp3)"
                            for number in range(10)
                        ),
                        f"❌ Outro failed\\: The backend was busy `{audio_id(12)}`",
                    ]
                ),
            }
        ],
        "allowed_mentions": {"parse": []},
    }
    assert check_discord(told) == [
        f"https://media.pixverse.ai/pixverse/audio/music/{number}.mp3" for number in range(10)
    ]


def test_a_layout_that_is_refused_has_a_plain_form_without_a_username() -> None:
    assert payload(COMPLETED, FAILED, is_plain=True, mention=["user:1"], username="Track bot") == {
        "content": (
            "<@1>\n"
            "✅ Intro theme is ready \\(3\\:22, music\\-2.6\\)\n"
            "`user:12345-pixverse:me@example.com-music:1`\n"
            "<https://media.pixverse.ai/pixverse/audio/music/1.mp3>\n\n"
            "❌ Intro theme failed \\(music\\-2.6\\)\\: The backend was busy\n"
            "Submitting the same request again often works.\n"
            "`user:12345-pixverse:me@example.com-music:1`"
        ),
        "allowed_mentions": {"parse": [], "users": ["1"]},
        "flags": 4,
    }


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_keeps_discords_rules_in_every_form(event: Event) -> None:
    check_discord(payload(event))
    check_discord(payload(*[event] * 11))
    check_discord_plain(payload(event, is_plain=True))


@settings(max_examples=60)
@given(events=backlogs(), is_plain=st.booleans())
def test_nothing_from_outside_breaks_discords_rules(events: list[Event], is_plain: bool) -> None:
    links = (check_discord_plain if is_plain else check_discord)(payload(*events, is_plain=is_plain))

    assert {urlsplit(link).hostname for link in links} <= {"media.pixverse.ai", "::1"}


@settings(max_examples=60)
@given(events=backlogs(), is_plain=st.booleans())
def test_with_mentions_only_the_configured_ones_ping(events: list[Event], is_plain: bool) -> None:
    keys = {"mention": ["user:1", "role:2", "role:3", "here"], "username": "Track bot"}
    content = "<@1> <@&2> <@&3> @here"
    allowed = {"parse": ["everyone"], "users": ["1"], "roles": ["2", "3"]}

    told = payload(*events, is_plain=is_plain, **keys)

    if is_plain:
        check_discord_plain(told, content=content, allowed=allowed)
    else:
        check_discord(told, content=content, allowed=allowed, username="Track bot")


@pytest.mark.parametrize(
    "hostile",
    [
        news(fields=completed(), name="@everyone"),
        news(EventType.FAILED, failed(fail_reason="@everyone: look")),
        news(fields=completed(), audio_id="@everyone"),
        news(fields=completed(url="https://media.pixverse.ai/@everyone")),
        alert("@everyone"),
    ],
    ids=["name", "reason", "audio_id", "url", "alert"],
)
def test_whoever_may_call_here_does_not_let_foreign_text_call_everyone(hostile: Event) -> None:
    told = payload(hostile, is_plain=True, mention=["here"])

    assert told["allowed_mentions"] == {"parse": ["everyone"]}  # Discord knows no finer permission
    assert "@everyone" not in told["content"]
    assert "everyone" in told["content"]


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
    lines = told["embeds"][0]["description"].partition("\n\n`")[0].split("\n")
    assert [unescaped(line.removeprefix("> ")) for line in lines] == prompt.split("\n")
    assert all(line.startswith("> ") for line in lines)


def worst(number: int) -> Event:
    """Return a failure in which every text is long and needs escaping."""
    fields = failed(number, model="*" * 900, fail_code="_" * 900, fail_reason="~" * 9000, prompt="`\n" * 900)
    return news(EventType.FAILED, fields, name="#" * 900, audio_id="@" * 900 + str(number))


def worst_ready(number: int, query: str = "a" * 1970) -> Event:
    """Return a completed track whose link is as long as links get, and its texts no shorter."""
    url = f"https://a.example/{number}?{query}"
    fields = completed(number, model="*" * 900, prompt="`\n" * 900, url=url)
    return news(fields=fields, name="#" * 900, audio_id="@" * 900 + str(number))


def worst_link(number: int) -> Event:
    """Return a completed track with a link that Markdown makes three times as long."""
    return news(fields=completed(number, url=f"https://a.example/{number}?" + "()" * 980))


def plain(number: int) -> Event:
    return news(EventType.FAILED, failed(number), audio_id=audio_id(number))


@pytest.mark.parametrize(
    ("event", "count", "told"),
    [
        (plain, 10, 10),
        (plain, 60, 50),
        (worst, 10, 2),  # as 6000 characters take
        (worst, 60, 10),
        (worst_ready, 60, 2),
        (worst_link, 60, 50),  # the link does not fit, the audio_id does
    ],
)
def test_one_message_tells_as_many_events_as_its_limits_take(
    event: Callable[[int], Event], count: int, told: int
) -> None:
    request = discord().render([event(number) for number in range(count)], now=NOW)

    assert request.event_count == told
    check_discord(payload_of(request))


@pytest.mark.no_cover
@pytest.mark.parametrize("event", [worst, worst_ready, worst_link])
@pytest.mark.parametrize("count", [1, 10, 11, 60])
def test_twenty_mentions_and_the_worst_texts_still_fit(event: Callable[[int], Event], count: int) -> None:
    one = discord(mention=[f"role:{role}" for role in ROLES], username="x" * 80)
    events = [event(number) for number in range(count)]

    for request in told_in_full(one, events):
        check_discord(payload_of(request), content=ROLE_PINGS, allowed=ROLES_ONLY, username="x" * 80)
    for request in told_in_full(one, events, is_plain=True):
        check_discord_plain(payload_of(request), content=ROLE_PINGS, allowed=ROLES_ONLY)


@pytest.mark.no_cover
@pytest.mark.parametrize("mark", ["a", "("])
@pytest.mark.parametrize("count", [1, 11])
def test_links_of_any_length_fit_or_are_left_out(mark: str, count: int) -> None:
    one = discord(mention=[f"role:{role}" for role in ROLES])
    for length in range(0, 2000, 41):
        events = [worst_ready(number, mark * length) for number in range(count)]

        told, plain_told = (one.render(events, now=NOW, is_plain=is_plain) for is_plain in (False, True))

        check_discord(payload_of(told), content=ROLE_PINGS, allowed=ROLES_ONLY)
        check_discord_plain(payload_of(plain_told), content=ROLE_PINGS, allowed=ROLES_ONLY)


@pytest.mark.no_cover
def test_a_summary_of_lines_of_any_length_fits() -> None:
    for length in range(80, 500, 7):
        told = payload(*takes(60, url="https://a.example/" + "a" * length))

        check_discord(told)


def failures(*lengths: int) -> list[Event]:
    """Return failures whose reasons have those lengths."""
    return [news(EventType.FAILED, failed(fail_reason="x" * length)) for length in lengths]


def test_plain_text_takes_as_many_events_as_two_thousand_characters() -> None:
    one = discord(mention=["here"])
    around = len(payload(*failures(*[200] * 5, 1), is_plain=True, mention=["here"])["content"]) - 1
    rest = 2000 - around

    fitting, too_many = (
        one.render(failures(*[200] * 5, last), now=NOW, is_plain=True) for last in (rest, rest + 1)
    )

    assert (fitting.event_count, len(payload_of(fitting)["content"])) == (6, 2000)
    assert too_many.event_count == 5


def test_two_hundred_completions_are_four_messages_that_name_each_once_and_in_order() -> None:
    requests = told_in_full(discord(), takes(200))

    assert [request.event_count for request in requests] == [50, 50, 50, 50]
    bodies = [payload_of(request) for request in requests]
    assert [unescaped(body["embeds"][0]["title"]) for body in bodies] == ["✅ 50 updates: 50 ready"] * 4
    links = [link for body in bodies for link in check_discord(body)]
    assert links == [f"https://media.pixverse.ai/pixverse/audio/music/{number}.mp3" for number in range(200)]
    told = " ".join(request.body.decode() for request in requests)
    assert re.findall(r"Take \d+", told) == [f"Take {number:03}" for number in range(200)]


def test_two_hundred_of_all_kinds_are_counted_by_kind() -> None:
    kinds = [COMPLETED, COMPLETED, FAILED, EVENTS["stalled"], EVENTS["missing"], alert()]

    requests = told_in_full(discord(), (kinds * 34)[:200])

    first = payload_of(requests[0])["embeds"]
    assert unescaped(first[0]["title"]).startswith(f"⚠️ {requests[0].event_count} updates: ")
    assert sum(request.event_count for request in requests) == 200
    assert 4 <= len(requests) <= 6
    for request in requests:
        check_discord(payload_of(request))


def test_a_long_summary_goes_on_in_further_embeds() -> None:
    told = payload(*takes(60, url="https://media.pixverse.ai/" + "a" * 70))

    check_discord(told)
    assert [sorted(embed) for embed in told["embeds"]] == [
        ["color", "description", "title"],
        ["color", "description"],
    ]
    assert told["embeds"][0]["description"].startswith("<t:1782218298:f>\n")
    numbers = re.findall(r"Take (\d+)", " ".join(embed["description"] for embed in told["embeds"]))
    assert numbers == [f"{number:03}" for number in range(len(numbers))]


def counted(embed: dict[str, Any]) -> int:
    """Return how many characters of an embed count."""
    texts = [embed["title"], embed["description"]]
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
        ("", {"x-ratelimit-global": "true", "retry-after": "2"}, 2 * SECOND, True),
        ('{"retry_after": 2, "global": "true"}', {"X-RateLimit-Scope": "shared"}, 2 * SECOND, False),
        ('{"retry_after": "soon", "global": "no"}', {}, 60 * SECOND, False),
        ('{"retry_after": -1}', {}, 60 * SECOND, False),
        ('{"retry_after": 1e9}', {}, timedelta(days=1), False),
        ("[]", {}, 60 * SECOND, False),
        # the longest of several
        ('{"retry_after": 2}', {"Retry-After": "3", "X-RateLimit-Reset-After": "4.5"}, 4.5 * SECOND, False),
        ('{"retry_after": 5.5}', {"Retry-After": "3", "X-RateLimit-Reset-After": "4"}, 5.5 * SECOND, False),
        ('{"retry_after": 2}', {"Retry-After": "30"}, 30 * SECOND, False),
        ("", {"Retry-After": "Tue, 23 Jun 2026 12:39:20 GMT"}, 59.877 * SECOND, False),
        # a moment counts where no wait is told
        ("", {"X-RateLimit-Reset": "1782218310.623"}, 10.5 * SECOND, False),
        ("", {"X-RateLimit-Reset": "1782218310.623", "X-RateLimit-Reset-After": "2"}, 2 * SECOND, False),
        ("", {"X-RateLimit-Reset": "1782218310.623", "X-RateLimit-Reset-After": "?"}, 10.5 * SECOND, False),
        ("", {"X-RateLimit-Reset": "1"}, 0 * SECOND, False),
        ("", {"X-RateLimit-Reset": "9" * 400}, timedelta(days=1), False),
        ("", {"X-RateLimit-Reset": "soon"}, 60 * SECOND, False),
        # nobody makes us wait for more than a day
        ('{"retry_after": ' + "9" * 400 + "}", {}, timedelta(days=1), False),
        ("", {"X-RateLimit-Reset-After": "86401"}, timedelta(days=1), False),
        # Cloudflare
        ("error code: 1015", {"Content-Type": "text/html"}, 15 * 60 * SECOND, False),
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


@pytest.mark.parametrize("page", ["<!DOCTYPE html><html></html>", "\n <html>Sign in</html>"])
def test_a_page_is_no_success_of_discord_whatever_its_status(page: str) -> None:
    reason = "HTTP 200: an HTML page (expected JSON)"
    assert discord().classify(answer(200, page), now=NOW) == Retry(reason)


@pytest.mark.parametrize(
    ("url", "body", "headers", "after"),
    [
        # before v8 waits are milliseconds, where nobody has made it v10
        ("http://proxy.example/api/v6/webhooks/1/t", '{"retry_after": 6457}', {}, 6.457 * SECOND),
        ("http://proxy.example/api/v7/webhooks/1/t", '{"retry_after": 6457}', {}, 6.457 * SECOND),
        ("http://proxy.example/api/v7/webhooks/1/t", "", {"Retry-After": "6457"}, 6.457 * SECOND),
        ("http://proxy.example/api/v7/webhooks/1/t", "", {"X-RateLimit-Reset-After": "6.5"}, 6.5 * SECOND),
        (
            "http://proxy.example/api/v6/webhooks/1/t",
            '{"retry_after": 5}',
            {"Retry-After": "7"},
            SECOND * 0.007,
        ),
        ("http://proxy.example/api/v6/webhooks/1/t", '{"retry_after": 86400001}', {}, timedelta(days=1)),
        ("http://proxy.example/api/v6/webhooks/1/t", f'{{"retry_after": {10**400}}}', {}, timedelta(days=1)),
        ("http://proxy.example/api/v6/webhooks/1/t", "", {"Retry-After": "9" * 400}, timedelta(days=1)),
        (
            "http://proxy.example/api/v6/webhooks/1/t",
            "",
            {"Retry-After": "Tue, 23 Jun 2026 12:39:20 GMT"},
            59.877 * SECOND,
        ),
        ("http://proxy.example/api/v6/webhooks/1/t", '{"retry_after": "soon"}', {}, MINUTE),
        # from v8 on seconds
        ("http://proxy.example/api/v8/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        ("http://proxy.example/api/v10/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        ("http://proxy.example/api/v60/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        ("http://proxy.example/api/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        ("http://proxy.example/hook?was=/api/v6/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        # Discord's own hosts are asked at v10
        ("https://discord.com/api/v6/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        ("https://discordapp.com/api/v6/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
        ("https://discord.com/api/webhooks/1/t", '{"retry_after": 6.5}', {}, 6.5 * SECOND),
    ],
)
def test_a_wait_is_milliseconds_only_where_the_url_asks_an_old_version(
    url: str, body: str, headers: dict[str, str], after: timedelta
) -> None:
    outcome = discord(url).classify(answer(429, body, headers), now=NOW)

    assert isinstance(outcome, Retry)
    assert outcome.after == after


@pytest.mark.parametrize(
    ("headers", "spared"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.25"}, 1.25 * SECOND),
        ({"x-ratelimit-remaining": " 0 ", "x-ratelimit-reset-after": "1.25"}, 1.25 * SECOND),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "86401"}, timedelta(days=1)),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1782218301.373"}, 1.25 * SECOND),
        (
            {
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset-After": "1.25",
                "X-RateLimit-Reset": "1782218399",
            },
            1.25 * SECOND,
        ),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1782218300"}, 0 * SECOND),
        ({"X-RateLimit-Remaining": "4", "X-RateLimit-Reset-After": "1.25"}, None),
        ({"X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "1782218399"}, None),
        ({"X-RateLimit-Reset-After": "1.25"}, None),
        ({"X-RateLimit-Remaining": "0"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [200, 204, 400, 413, 500])
def test_a_limit_that_is_used_up_is_heard_before_it_is_broken(
    status: int, headers: dict[str, str], spared: timedelta | None
) -> None:
    assert discord().spared_for(answer(status, '{"id": "1"}', headers), now=NOW) == spared


def test_a_limit_that_is_broken_is_told_once() -> None:
    limited = answer(429, "", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.25"})

    assert discord().classify(limited, now=NOW) == Retry("HTTP 429", after=1.25 * SECOND)
    assert discord().spared_for(limited, now=NOW) is None


HOOK = "https://discord.com/api/v10/webhooks/1/tok?wait=true"


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.com/api/webhooks/1/tok",
        "https://discord.com/api/v6/webhooks/1/tok",
        "https://discord.com/api/v10/webhooks/1/tok/",
        "https://discord.com/api/webhooks/1/tok/slack",
        "https://discord.com/api/webhooks/1/tok?wait=false",
        "https://discord.com/api/webhooks/1/tok?wait=true",
        "https://DISCORD.com/api/webhooks/1/tok",
        "https://discord.com:443/api/webhooks/1/tok",
        "https://ptb.discord.com/api/webhooks/1/tok",
        "https://canary.discord.com/api/v9/webhooks/1/tok",
        "https://discordapp.com/api/webhooks/1/tok",
    ],
)
def test_a_webhook_is_the_same_however_its_url_is_written(url: str) -> None:
    assert discord(url).remote_end == HOOK
    assert discord(url).limiter == HOOK.partition("?")[0]


def test_threads_have_their_own_troubles_but_one_limit() -> None:
    channel, first, second = (
        discord(f"https://discord.com/api/webhooks/1/tok{query}")
        for query in ("", "?thread_id=1", "?wait=true&thread_id=2")
    )

    assert len({channel.remote_end, first.remote_end, second.remote_end}) == 3
    assert channel.limiter == first.limiter == second.limiter


@pytest.mark.parametrize(
    "urls",
    [
        ("https://discord.com/api/webhooks/1/tok", "https://discord.com/api/webhooks/2/tok"),
        ("https://discord.com/api/webhooks/1/tok", "https://discord.com/api/webhooks/1/tok2"),
        ("https://discord.com/api/webhooks/1/tok", "https://proxy.example/api/webhooks/1/tok"),
        ("http://127.0.0.1:8080/api/webhooks/1/tok", "http://127.0.0.1:8081/api/webhooks/1/tok"),
        ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/b"),
        ("http://proxy.example/a", "http://proxy.example.evil.example/a"),
    ],
)
def test_other_webhooks_share_nothing(urls: tuple[str, str]) -> None:
    one, other = map(discord, urls)

    assert one.remote_end != other.remote_end
    assert one.limiter != other.limiter


refused_layout = partial(Rejected, is_layout=True)


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        (10015, 404, TargetBroken),  # unknown webhook
        (10015, 400, TargetBroken),
        (10003, 404, TargetBroken),  # unknown channel
        (10003, 400, TargetBroken),  # the thread is gone
        (10003, 403, TargetBroken),
        (10004, 404, TargetBroken),  # unknown guild
        (10004, 400, TargetBroken),
        (50027, 401, TargetBroken),  # invalid token
        (50027, 400, TargetBroken),
        (50001, 403, TargetBroken),  # no access
        (50001, 400, TargetBroken),
        (50013, 403, TargetBroken),  # no permission
        (50013, 400, TargetBroken),
        (50024, 403, TargetBroken),  # not in this type of channel
        (50024, 400, TargetBroken),
        (50008, 403, TargetBroken),  # no channel for text
        (50008, 400, TargetBroken),
        (50006, 400, Rejected),  # empty message
        (50035, 400, refused_layout),  # invalid form body
        (50109, 400, Rejected),  # invalid JSON
        (40005, 413, refused_layout),  # too large
        (40005, 400, refused_layout),
        (50045, 413, refused_layout),
        (50045, 400, refused_layout),
        (220001, 400, TargetBroken),  # a forum needs a thread
        (220002, 400, TargetBroken),
        (220003, 400, TargetBroken),
        (220004, 400, TargetBroken),
        (40067, 400, TargetBroken),  # a tag is required
        (160005, 400, TargetBroken),  # the thread is locked
        (160005, 403, TargetBroken),
        (50083, 400, TargetBroken),  # the thread is archived
        (50083, 403, TargetBroken),
        (200000, 400, Rejected),  # AutoMod
        (200001, 400, Rejected),
        (240000, 400, Rejected),  # a harmful link
        (40333, 403, TargetBroken),  # Cloudflare
        (40004, 400, Retry),  # sending is disabled for a while
        (40004, 503, Retry),
        # a code that says nothing leaves it to the status
        (0, 400, Rejected),
        (0, 405, Rejected),
        (0, 401, TargetBroken),
        (0, 403, TargetBroken),
        (0, 404, TargetBroken),
        (0, 410, TargetBroken),
        *((0, status, Retry) for status in (500, 502, 503, 504, 520, 521, 522, 523, 524)),
        # the status decides where it means the same everywhere
        (50035, 403, TargetBroken),
        (40004, 404, TargetBroken),
        (20016, 403, TargetBroken),
        # and the code where a status may mean anything
        *((code, 400, Retry) for code in (20016, 20028, 20029, 40062)),
        (10015, 500, TargetBroken),
        (50035, 500, refused_layout),
    ],
)
def test_discords_errors_mean_what_their_code_says(
    code: int, status: int, outcome: Callable[[str], Outcome]
) -> None:
    body = json.dumps({"code": code, "message": "no"})

    assert discord().classify(answer(status, body), now=NOW) == outcome(f"HTTP {status}: {body}")


@pytest.mark.parametrize("code", [20016, 20028, 20029, 40062, 50035, 10015, 50027, 0])
def test_a_limit_or_a_redirect_is_no_refusal_whatever_it_says(code: int) -> None:
    body = json.dumps({"code": code, "retry_after": 2.5})

    limited = discord().classify(answer(429, body), now=NOW)
    moved = discord().classify(answer(307, body, {"Location": "https://discord.example/"}), now=NOW)

    assert limited == Retry(f"HTTP 429: {body}", after=2.5 * SECOND)
    assert isinstance(moved, Retry)


@pytest.mark.parametrize(
    "body", ['{"code": "50035"}', '{"code": 50035.5}', '{"code": [50035]}', "50035", '["code"]', "<html>"]
)
def test_only_a_code_that_can_be_read_says_anything(body: str) -> None:
    outcome = discord().classify(answer(400, body), now=NOW)

    assert isinstance(outcome, Rejected)
    assert not outcome.is_layout


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


EMBED = {"title": "x", "color": 0, "timestamp": "2026-06-23T12:38:18Z"}
FIELD = {"name": "x", "value": "x", "inline": True}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("allowed_mentions", None),
        ("allowed_mentions.parse", ["users"]),
        ("allowed_mentions.replied_user", True),
        ("content", "Intro theme"),
        ("username", "Track bot"),
        ("tts", True),
        ("flags", 4),
        ("embeds", []),
        ("embeds", [EMBED] * 11),
        ("embeds", [{"description": "x", "color": 0}]),
        ("embeds.1", {"description": "x"}),
        ("embeds.1", {**EMBED, "url": "https://media.pixverse.ai/pixverse/audio/music/1.mp3"}),
        ("embeds", [{**EMBED, "description": "x" * 3000}] * 2),
        ("embeds", [{**EMBED, "fields": [{**FIELD, "value": "x" * 1000}] * 6}]),
        ("embeds.0.footer", {"text": "x"}),
        ("embeds.0.author", {"name": "x"}),
        ("embeds.0.image", {"url": "https://a.example/a.png"}),
        ("embeds.0.color", 0x1000000),
        ("embeds.0.color", -1),
        ("embeds.0.color", "red"),
        ("embeds.0.timestamp", "2026-06-23T12:38:18"),
        ("embeds.0.timestamp", None),
        ("embeds.0.url", "javascript:alert(1)"),
        ("embeds.0.url", "https://a.example/" + "a" * 2048),
        ("embeds.0.title", None),
        ("embeds.0.title", " "),
        ("embeds.0.title", "x" * 257),
        ("embeds.0.title", "[x](https://evil.example)"),
        ("embeds.0.title", "*x*"),
        ("embeds.0.title", "a\u202eb"),
        ("embeds.0.fields", [FIELD] * 26),
        ("embeds.0.fields.0.name", ""),
        ("embeds.0.fields.0.value", " "),
        ("embeds.0.fields.0.value", "x" * 1025),
        ("embeds.0.fields.0.value", "**x**"),
        ("embeds.0.fields.0.icon", "x"),
        ("embeds.0.description", ""),
        ("embeds.0.description", "x" * 4097),
        ("embeds.0.description", "a\u200bb"),
        ("embeds.0.description", "> **warm** pads"),
        ("embeds.0.description", "a `b` ` c"),
        ("embeds.0.description", "```\ncode\n```"),
        ("embeds.0.description", "> https://evil.example"),
        ("embeds.0.description", "<@1>"),
        ("embeds.0.description", ":smile:"),
        ("embeds.0.description", "# heading"),
        ("embeds.0.description", "a\n- item"),
        ("embeds.0.description", "a\n 1. item"),
        ("embeds.0.description", "a [Free money](https://evil.example)"),
        ("embeds.0.description", "a [Listen](javascript:alert(1))"),
        ("embeds.0.description", "a [Listen](https://a.example/(b))"),
        ("embeds.0.description", "a [Listen](https://a.example/b c)"),
        ("embeds.0.description", "a [Listen](https://a.example/b) c"),
        ("embeds.0.description", "[Listen](https://a.example/b)"),
    ],
)
def test_the_rules_catch_a_message_that_breaks_them(place: str, value: object) -> None:
    told = payload(COMPLETED)

    assert not refused(lambda: check_discord(told))
    assert refused(lambda: check_discord(spoilt(told, place, value)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("embeds", []),
        ("username", "Track bot"),
        ("flags", 0),
        ("flags", None),
        ("allowed_mentions", None),
        ("allowed_mentions.parse", ["everyone", "users"]),
        ("content", "Intro theme"),
        ("content", "@here"),
        ("content", "@here\n "),
        ("content", "@here\n" + "x" * 2000),
        ("content", "@here\n@everyone"),
        ("content", "@here\n\\@everyone"),
        ("content", "@here\n`@everyone`"),
        ("content", "@here\n<https://a.example/@everyone>"),
        ("content", "@here\n<@1>"),
        ("content", "@here\n**x**"),
        ("content", "@here\nhttps://evil.example"),
        ("content", "@here\nx <https://evil.example>"),
        ("content", "@here\n<javascript:alert(1)>"),
        ("content", "@here\n[x](https://evil.example)"),
        ("content", "@here\na\u202eb"),
    ],
)
def test_the_rules_catch_plain_text_that_breaks_them(place: str, value: object) -> None:
    check = partial(check_discord_plain, content="@here", allowed={"parse": ["everyone"]})
    told = payload(COMPLETED, is_plain=True, mention=["here"])

    assert not refused(lambda: check(told))
    assert refused(lambda: check(spoilt(told, place, value)))


def test_a_probe_asks_for_the_webhook_whatever_thread_messages_go_to() -> None:
    probe = make("discord", url="https://discordapp.com/api/webhooks/1/x/slack?thread_id=7").probe()
    assert probe is not None
    assert (probe.method, probe.url.reveal()) == ("GET", "https://discord.com/api/v10/webhooks/1/x")
    assert probe.headers["User-Agent"].startswith("DiscordBot (")


def test_a_probe_tells_which_webhook_it_is_and_never_its_token() -> None:
    said = {"name": "Band\n`room`", "token": "hush", "url": "https://discord.com/api/webhooks/1/hush"}
    outcome = make("discord", url="https://discord.com/api/webhooks/1/x").diagnose(
        answer(200, json.dumps(said)), now=NOW
    )
    assert outcome == Delivered("Discord has the webhook “Band `room`”")
