import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.targets import Target
from tests.support.hostile import MINUTE, NOW
from tests.support.tracks import audio_id, completed, failed
from tests.targets.given import (
    COMPLETED,
    EVENTS,
    FAILED,
    alert,
    answer,
    backlogs,
    make,
    news,
    payload_of,
    takes,
    told_in_full,
)
from tests.targets.limits import check_slack, check_slack_plain, refused, spoilt

URL = "https://hooks.slack.com/services/T0/B0/secret"
ALL_MENTIONS = ["user:U1", "role:S2", "here", "everyone"]
ALL_PINGS = ["<@U1>", "<!subteam^S2>", "<!here>", "<!channel>"]
MENTIONS_AT_THEIR_LONGEST = [f"role:{'S' * 38}{number:02}" for number in range(20)]
PINGS_AT_THEIR_LONGEST = [f"<!subteam^{'S' * 38}{number:02}>" for number in range(20)]


def slack(**keys: Any) -> Target:
    return make("slack", url=URL, **keys)


def payload(*events: Event, is_plain: bool = False, **keys: Any) -> Any:
    return payload_of(slack(**keys).render(events, now=NOW, is_plain=is_plain))


def texts(block: Any) -> list[str]:
    return [text["text"] for text in ([block["text"]] if "text" in block else block["elements"])]


def shown(*events: Event, **keys: Any) -> list[str]:
    """Return the texts of the blocks, from top to bottom."""
    return [text for block in payload(*events, **keys)["blocks"] for text in texts(block)]


def test_a_completed_track() -> None:
    assert payload(COMPLETED) == {
        "text": "✅ Intro theme is ready (3:22, music-2.6)",
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": "✅ Intro theme is ready", "emoji": False},
            },
            {
                "type": "context",
                "elements": [
                    {
                        "type": "mrkdwn",
                        "text": "*<https://media.pixverse.ai/pixverse/audio/music/1.mp3|Listen>*",
                        "verbatim": True,
                    },
                    {
                        "type": "plain_text",
                        "text": "Length 3:22  ·  Model music-2.6  ·  Credits 40  ·  Took 3:22",
                        "emoji": False,
                    },
                ],
            },
            {"type": "section", "text": {"type": "plain_text", "text": "“warm pads”", "emoji": False}},
            {
                "type": "context",
                "elements": [
                    {
                        "type": "mrkdwn",
                        "text": "`user:12345-pixverse:me@example.com-music:1`",
                        "verbatim": True,
                    },
                    {
                        "type": "mrkdwn",
                        "text": "<!date^1782218280^{date_short_pretty} {time}|2026-06-23 12:38 UTC>",
                        "verbatim": True,
                    },
                ],
            },
        ],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def test_a_failed_track_says_why_and_that_trying_again_often_works() -> None:
    assert shown(FAILED) == [
        "❌ Intro theme failed",
        "Code music_generation_failed  ·  Model music-2.6  ·  Credits 40",
        "The backend was busy",
        "“warm pads”",
        "Submitting the same request again often works.",
        "`user:12345-pixverse:me@example.com-music:1`",
        "<!date^1782218280^{date_short_pretty} {time}|2026-06-23 12:38 UTC>",
    ]


def test_a_backlog_is_summed_up_under_what_became_of_it_and_from_when_to_when() -> None:
    broken = news(EventType.FAILED, failed(12), name="Outro", audio_id=audio_id(12), at=NOW + 5 * MINUTE)
    events = [*takes(10), broken]

    told = payload(*events)

    assert told["text"] == "⚠️ 11 updates: 10 ready, 1 failed"
    assert [texts(block) for block in told["blocks"]] == [
        ["⚠️ 11 updates: 10 ready, 1 failed"],
        [
            "<!date^1782218280^{date_short_pretty} {time}|2026-06-23 12:38 UTC> – "
            "<!date^1782218580^{date_short_pretty} {time}|2026-06-23 12:43 UTC>"
        ],
        *(
            [
                f"✅ Take {number:03} is ready (3:22)",
                f"*<https://media.pixverse.ai/pixverse/audio/music/{number}.mp3|Listen>*",
            ]
            for number in range(10)
        ),
        ["❌ Outro failed: The backend was busy", "`user:12345-pixverse:me@example.com-music:12`"],
    ]
    assert check_slack(told) == [
        f"https://media.pixverse.ai/pixverse/audio/music/{number}.mp3" for number in range(10)
    ]


def test_a_layout_that_is_refused_has_a_plain_form() -> None:
    assert payload(COMPLETED, FAILED, is_plain=True, mention=["here"]) == {
        "text": (
            "<!here>\n"
            "✅ Intro theme is ready (3:22, music-2.6)\n"
            "user:12345-pixverse:me@example.com-music:1\n"
            "<https://media.pixverse.ai/pixverse/audio/music/1.mp3>\n\n"
            "❌ Intro theme failed (music-2.6): The backend was busy\n"
            "Submitting the same request again often works.\n"
            "user:12345-pixverse:me@example.com-music:1"
        ),
        "unfurl_links": False,
        "unfurl_media": False,
    }


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_keeps_slacks_rules_in_every_form(event: Event) -> None:
    check_slack(payload(event))
    check_slack(payload(*[event] * 11))
    check_slack_plain(payload(event, is_plain=True))


@pytest.mark.parametrize(
    ("mention", "pings"), [([], []), (ALL_MENTIONS, ALL_PINGS)], ids=["no mentions", "mentions"]
)
@settings(max_examples=60)
@given(events=backlogs(), is_plain=st.booleans())
def test_nothing_from_outside_breaks_slacks_rules(
    mention: list[str], pings: list[str], events: list[Event], is_plain: bool
) -> None:
    told = payload(*events, mention=mention, is_plain=is_plain)

    links = (check_slack_plain if is_plain else check_slack)(told, pings=pings)

    ours = ("https://media.pixverse.ai/", "https://[::1]/")
    assert [link for link in links if not link.startswith(ours)] == []


def test_two_hundred_completions_are_five_messages_that_name_each_once_and_in_order() -> None:
    requests = told_in_full(slack(), takes(200))

    assert [request.event_count for request in requests] == [48, 48, 48, 48, 8]
    bodies = [payload_of(request) for request in requests]
    assert [body["text"] for body in bodies[:4]] == ["✅ 48 updates: 48 ready"] * 4
    assert [texts(body["blocks"][0]) for body in bodies[:4]] == [["✅ 48 updates: 48 ready"]] * 4
    links = [link for body in bodies for link in check_slack(body)]
    assert links == [f"https://media.pixverse.ai/pixverse/audio/music/{number}.mp3" for number in range(200)]
    told = " ".join(text for body in bodies for block in body["blocks"] for text in texts(block))
    assert re.findall(r"Take \d+", told) == [f"Take {number:03}" for number in range(200)]


def test_two_hundred_of_all_kinds_are_counted_by_kind() -> None:
    kinds = [COMPLETED, COMPLETED, FAILED, EVENTS["stalled"], EVENTS["missing"], alert()]

    requests = told_in_full(slack(), (kinds * 34)[:200])

    assert payload_of(requests[0])["text"] == (
        "⚠️ 48 updates: 16 ready, 8 failed, 8 taking long, 8 missing, 8 needing attention"
    )
    assert sum(request.event_count for request in requests) == 200
    assert 4 <= len(requests) <= 6
    for request in requests:
        check_slack(payload_of(request))


def worst(number: int) -> Event:
    """Return a failure in which every text is long and needs escaping."""
    fields = failed(number, model="&" * 900, fail_code="<" * 900, fail_reason="&" * 9000, prompt=">" * 9000)
    return news(EventType.FAILED, fields, name="&" * 900, audio_id="&" * 900 + str(number))


def worst_ready(number: int, query: str = "&" * 590) -> Event:
    """Return a completed track whose link is as long as links get, and its texts no shorter."""
    url = f"https://a.example/?{query}"
    fields = completed(number, model="&" * 900, prompt=">" * 9000, url=url)
    return news(fields=fields, name="&" * 900, audio_id="&" * 900 + str(number))


def plain(number: int) -> Event:
    return news(EventType.FAILED, failed(number), audio_id=audio_id(number))


@pytest.mark.parametrize(
    ("events", "mention", "told"),
    [
        ([plain(number) for number in range(10)], [], 10),
        ([plain(number) for number in range(10)], ["here"], 9),  # 50 blocks, one of which pings
        ([worst(number) for number in range(10)], [], 2),
        ([plain(number) for number in range(60)], [], 48),  # and two blocks of heading
        ([plain(number) for number in range(60)], ["here"], 47),
        ([worst(number) for number in range(60)], [], 11),
        ([worst_ready(number) for number in range(60)], [], 3),
    ],
)
def test_one_message_tells_as_many_events_as_its_limits_take(
    events: Sequence[Event], mention: list[str], told: int
) -> None:
    request = slack(mention=mention).render(events, now=NOW)

    assert request.event_count == told
    check_slack(payload_of(request), pings=["<!here>"] if mention else [])


@pytest.mark.no_cover
@pytest.mark.parametrize("event", [worst, worst_ready])
@pytest.mark.parametrize("count", [1, 10, 11, 60])
def test_twenty_mentions_and_the_worst_texts_still_fit(event: Callable[[int], Event], count: int) -> None:
    one = slack(mention=MENTIONS_AT_THEIR_LONGEST)
    events = [event(number) for number in range(count)]

    for request in told_in_full(one, events):
        check_slack(payload_of(request), pings=PINGS_AT_THEIR_LONGEST)
    for request in told_in_full(one, events, is_plain=True):
        check_slack_plain(payload_of(request), pings=PINGS_AT_THEIR_LONGEST)


@pytest.mark.no_cover
@pytest.mark.parametrize("mark", ["a", "&"])
@pytest.mark.parametrize("count", [1, 11])
def test_links_of_any_length_fit_or_are_left_out(mark: str, count: int) -> None:
    one = slack(mention=MENTIONS_AT_THEIR_LONGEST)
    for length in range(0, 2000, 41):
        events = [worst_ready(number, mark * length) for number in range(count)]

        told, plain_told = (one.render(events, now=NOW, is_plain=is_plain) for is_plain in (False, True))

        check_slack(payload_of(told), pings=PINGS_AT_THEIR_LONGEST)
        check_slack_plain(payload_of(plain_told), pings=PINGS_AT_THEIR_LONGEST)


def failures(*lengths: int) -> list[Event]:
    """Return failures whose reasons have those lengths."""
    return [news(EventType.FAILED, failed(fail_reason="x" * length)) for length in lengths]


def test_plain_text_takes_as_many_events_as_four_thousand_characters() -> None:
    one = slack(mention=["here"])
    around = len(payload(*failures(*[250] * 9, 1), is_plain=True, mention=["here"])["text"]) - 1
    rest = 4000 - around

    fitting, too_many = (
        one.render(failures(*[250] * 9, last), now=NOW, is_plain=True) for last in (rest, rest + 1)
    )

    assert (fitting.event_count, len(payload_of(fitting)["text"])) == (10, 4000)
    assert too_many.event_count == 9


def test_code_in_a_foreign_text_cannot_swallow_what_follows() -> None:
    told = payload(news(fields=completed(), name="```"), COMPLETED, is_plain=True)["text"]

    assert "''' is ready" in told
    assert "`" not in told


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://media.pixverse.ai/a.mp3?x=1&y=2", "*<https://media.pixverse.ai/a.mp3?x=1&amp;y=2|Listen>*"),
        ("https://media.pixverse.ai/a|Free money", None),
        ("https://media.pixverse.ai/a|Free", "*<https://media.pixverse.ai/a%7CFree|Listen>*"),
        (
            "https://media.pixverse.ai/a>b<!channel>",
            "*<https://media.pixverse.ai/a%3Eb%3C!channel%3E|Listen>*",
        ),
        ("javascript:alert(1)", None),
        ("https://media.pixverse.ai@evil.example/a.mp3", None),
        ("https://media.pixverse.ai/" + "&" * 700, None),
    ],
)
def test_a_link_goes_where_the_api_said_under_a_label_of_ours(url: str, link: str | None) -> None:
    links = [text for text in shown(news(fields=completed(url=url))) if "Listen" in text]

    assert links == ([link] if link else [])


def test_a_track_with_nothing_but_a_link_that_does_not_fit_has_no_empty_block() -> None:
    bare = {"audio_status": 1, "url": "https://media.pixverse.ai/" + "&" * 700}

    check_slack(payload(news(fields=bare)))


def test_a_name_cannot_push_what_happened_out_of_sight() -> None:
    assert shown(news(fields=completed(), name="very " * 2000))[0].endswith("… is ready")


def test_the_notification_text_is_escaped_and_never_cut_inside_an_entity() -> None:
    events = [news(fields=completed(number), name="&" * 80, audio_id=f"{number}") for number in range(10)]

    lines = payload(*events)["text"].split("\n")

    assert [len(line) <= 280 for line in lines] == [True] * 10
    assert all(set(line.replace("&amp;", "")) <= set("✅ …isready(3:2,muc-.6)") for line in lines)


def test_an_alert_is_told_with_the_mention_as_well() -> None:
    assert shown(alert(), mention=["user:U1"]) == [
        "<@U1>",
        "⚠️ pixverse-notifier needs attention",
        "the target studio is paused",
        "<!date^1782218280^{date_short_pretty} {time}|2026-06-23 12:38 UTC>",
    ]


def test_a_problem_that_is_over_looks_well() -> None:
    assert shown(EVENTS["resolved alert"]) == [
        "✅ pixverse-notifier: a problem is over",
        "the target studio takes messages again",
        "<!date^1782218280^{date_short_pretty} {time}|2026-06-23 12:38 UTC>",
    ]


def test_posts_are_json_and_carry_no_webhook_id() -> None:
    headers = slack().render([COMPLETED], now=NOW).headers

    assert headers == {"Content-Type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("body", "is_delivered"),
    [
        ("ok", True),
        ("ok\n", True),
        ('{"ok": true}', True),
        ("", False),
        ("okay", False),
        ("OK, but not yet", False),
        ("invalid_token", False),
        ('{"ok": false, "error": "no_permission"}', False),
        ('{"ok": "true"}', False),
        ("<html>Sign in</html>", False),
    ],
)
def test_only_ok_is_delivered(body: str, is_delivered: bool) -> None:
    outcome = slack().classify(answer(200, body), now=NOW)

    assert isinstance(outcome, Delivered if is_delivered else Retry)


refused_layout = partial(Rejected, is_layout=True)
BREAKING = [
    "invalid_token",
    "action_prohibited",
    "posting_to_general_channel_denied",
    "channel_not_found",
    "no_service",
    "no_service_id",
    "no_active_hooks",
    "no_team",
    "channel_is_archived",
    "team_disabled",
]


@pytest.mark.parametrize(
    ("status", "word", "outcome"),
    [
        (400, "invalid_payload", Rejected),
        (400, "invalid_blocks", refused_layout),
        (400, "invalid_blocks_format", refused_layout),
        (400, "invalid_attachments", refused_layout),
        (400, "missing_text_or_fallback_or_attachments", Rejected),
        (500, "missing_text_or_fallback_or_attachments", Rejected),  # as it was long ago
        (400, "no_text", Rejected),
        (500, "no_text", Rejected),
        (400, "msg_blocks_too_long", refused_layout),
        (400, "msg_too_long", refused_layout),
        (400, "too_many_attachments", refused_layout),
        (400, "user_not_found", TargetBroken),
        (403, "invalid_token", TargetBroken),
        (403, "action_prohibited", TargetBroken),
        (403, "posting_to_general_channel_denied", TargetBroken),
        (404, "channel_not_found", TargetBroken),
        (404, "no_service", TargetBroken),
        (404, "no_service_id", TargetBroken),
        (404, "no_active_hooks", TargetBroken),
        (404, "no_team", TargetBroken),
        (410, "channel_is_archived", TargetBroken),
        (403, "team_disabled", TargetBroken),
        (404, "team_disabled", TargetBroken),
        (500, "rollup_error", Retry),
        (502, "bad gateway", Retry),
        (503, "", Retry),
        # the status decides where it means the same everywhere
        (401, "rollup_error", TargetBroken),
        (403, "invalid_blocks", TargetBroken),
        (404, "rollup_error", TargetBroken),
        (410, "invalid_payload", TargetBroken),
        # and the word where a status may mean anything
        *((400, word, TargetBroken) for word in BREAKING),
        (500, "no_service", TargetBroken),
        (400, "rollup_error", Retry),
        (413, "msg_too_long", refused_layout),
        (500, "invalid_blocks", refused_layout),
        (400, "invalid_blocks\n", refused_layout),
        # a word that nobody has heard of says nothing
        (400, "unheard_of", Rejected),
        (413, "", Rejected),
        (500, "unheard_of", Retry),
    ],
)
def test_slacks_errors_mean_what_they_say_although_they_come_as_html(
    status: int, word: str, outcome: Callable[[str], Outcome]
) -> None:
    judged = slack().classify(answer(status, word, {"Content-Type": "text/html"}), now=NOW)

    assert judged == outcome(f"HTTP {status}: {word.strip()}" if word else f"HTTP {status}")


@pytest.mark.parametrize("word", ["", "rate_limited", "invalid_token", "no_service", "invalid_blocks"])
def test_a_limit_or_a_redirect_is_no_refusal_whatever_it_says(word: str) -> None:
    limited = slack().classify(answer(429, word, {"Retry-After": "30"}), now=NOW)
    moved = slack().classify(answer(302, word, {"Location": "https://slack.example/x"}), now=NOW)

    assert isinstance(limited, Retry)
    assert limited.after == MINUTE / 2
    assert isinstance(moved, Retry)
    assert moved.after is None


def test_the_pace_is_one_message_a_second() -> None:
    pace = type(slack()).pace

    assert pace is not None
    assert (pace.count, pace.period.total_seconds()) == (1, 1.0)


@pytest.mark.parametrize(
    "keys",
    [
        {"url": "https://discord.com/api/webhooks/1/token"},
        {"url": "https://ptb.discord.com/api/webhooks/1/token"},
        {"mention": ["channel"]},
        {"mention": ["user:"]},
        {"mention": ["user:U1> <!channel"]},
        {"mention": [f"user:U{number}" for number in range(21)]},
        {"username": "Track bot"},
        {"url": "https://hooks.slack.com/triggers/T0/123/0123456789abcdef"},
        {"url": "https://hooks.slack.com/workflows/T0/A0/1/x"},
        {"url": "https://hooks.slack.com/actions/T0/1/x"},
        {"url": "https://hooks.slack.com/commands/T0/1/x"},
        {"url": "https://hooks.slack-gov.com/triggers/T0/123/0123456789abcdef"},
        {"url": "https://HOOKS.Slack.COM/triggers/T0/123/0123456789abcdef"},
        {"url": "https://hooks.SLACK-GOV.com/Workflows/T0/A0/1/x"},
    ],
)
def test_settings_that_cannot_work_are_mistakes(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make("slack", **{"url": URL, **keys})


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack-gov.com/services/T0/B0/x",
        "https://hooks.slack.com/T0/B0/x",
        "http://127.0.0.1:8080/slack",
        "https://notdiscord.com/hook",
        "https://proxy.example/triggers/T0/1/x",
        "https://notslack.com/workflows/T0/A0/1/x",
        "https://slack.com.example/actions/T0/1/x",
    ],
)
def test_slack_may_live_elsewhere(url: str) -> None:
    assert make("slack", url=url).render([COMPLETED], now=NOW).url.reveal() == url


def test_a_slack_webhook_is_told_from_others_by_its_url() -> None:
    one, same, other = (make("slack", url=url) for url in (URL, URL, f"{URL}2"))

    assert one.remote_end == one.limiter == same.remote_end == URL
    assert other.remote_end != one.remote_end


def plain_text(text: str, *, emoji: bool = False) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": emoji}


def mrkdwn(text: str, *, verbatim: bool = True) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": verbatim}


def section(text: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"type": "section", "text": text, **members}


MOMENT = "<!date^0^{date_short_pretty} {time}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("text", "Intro theme <!here>"),
        ("text", "Intro theme <https://evil.example>"),
        ("text", "a & b"),
        ("text", "x" * 4001),
        ("text", "a\u202eb"),
        ("text", " "),
        ("text", None),
        ("unfurl_links", True),
        ("unfurl_media", True),
        ("unfurl_media", None),
        ("link_names", True),
        ("blocks", []),
        ("blocks", [section(plain_text("x"))] * 51),
        ("blocks", [section(plain_text("x" * 2500))] * 5),
        ("blocks.4", {"type": "divider"}),
        ("blocks.4", section(plain_text(""))),
        ("blocks.4", section(plain_text(" "))),
        ("blocks.4", section(plain_text("x" * 3001))),
        ("blocks.4", section(plain_text("a\u200bb"))),
        ("blocks.4", section(plain_text("x", emoji=True))),
        ("blocks.4", section(plain_text("x"), fields=[])),
        ("blocks.4", section(mrkdwn("warm pads"))),
        ("blocks.4", section(mrkdwn("<!channel>"))),
        ("blocks.4", section(mrkdwn("<@U1>"))),
        ("blocks.0.text", plain_text("x" * 151)),
        ("blocks.0.text", mrkdwn("`x`")),
        ("blocks.1.block_id", "x"),
        ("blocks.1.elements", []),
        ("blocks.1.elements", [plain_text("x")] * 11),
        ("blocks.1.elements.0", mrkdwn("`x`", verbatim=False)),
        ("blocks.1.elements.0", {**mrkdwn("`x`"), "emoji": False}),
        ("blocks.1.elements.0", {"type": "image", "image_url": "https://a.example/a.png", "alt_text": "a"}),
        ("blocks.1.elements.0", mrkdwn("*<https://a.example/x|Free money|Listen>*")),
        ("blocks.1.elements.0", mrkdwn("*<https://a.example/x|Free money>*")),
        ("blocks.1.elements.0", mrkdwn("*<https://a.example/x>*")),
        ("blocks.1.elements.0", mrkdwn("*<https://a.example/x y|Listen>*")),
        ("blocks.1.elements.0", mrkdwn("*<https://a.example/?a&b|Listen>*")),
        ("blocks.1.elements.0", mrkdwn("*<javascript:alert(1)|Listen>*")),
        ("blocks.3.elements.0", mrkdwn("`a`b`")),
        ("blocks.3.elements.0", mrkdwn("`a\nb`")),
        ("blocks.3.elements.0", mrkdwn("`<!here>`")),
        ("blocks.3.elements.0", mrkdwn("``")),
        ("blocks.3.elements.1", mrkdwn(f"{MOMENT}|2026-06-23 12:38 UTC>")),
        ("blocks.3.elements.1", mrkdwn(f"{MOMENT}|>")),
        ("blocks.3.elements.1", mrkdwn(f"{MOMENT}^https://evil.example|1970-01-01 00:00 UTC>")),
    ],
)
def test_the_rules_catch_a_message_that_breaks_them(place: str, value: object) -> None:
    told = payload(COMPLETED)

    assert not refused(lambda: check_slack(told))
    assert refused(lambda: check_slack(spoilt(told, place, value)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("text", "Intro theme is ready"),
        ("text", "<!here>"),
        ("text", "<!channel>\nIntro theme is ready"),
        ("text", "<!here>\nIntro theme is ready\n<!here>"),
        ("blocks.0", None),
        ("blocks.0", section(mrkdwn("<!channel>"))),
        ("blocks.0", section(mrkdwn("<!here> <@U1>"))),
        ("blocks.5", section(mrkdwn("<!here>"))),
    ],
)
def test_the_rules_catch_a_ping_too_many_or_too_few(place: str, value: object) -> None:
    told = payload(COMPLETED, mention=["here"])

    assert not refused(lambda: check_slack(told, pings=["<!here>"]))
    assert refused(lambda: check_slack(spoilt(told, place, value), pings=["<!here>"]))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("blocks", []),
        ("unfurl_links", True),
        ("unfurl_links", None),
        ("text", ""),
        ("text", "x" * 4001),
        ("text", "a\u202eb"),
        ("text", "Intro theme <!here>"),
        ("text", "<https://evil.example|Listen>"),
        ("text", "Intro theme <https://evil.example>"),
        ("text", "<javascript:alert(1)>"),
        ("text", "<https://a.example/?a&b>"),
        ("text", "a & b"),
        ("text", "```"),
    ],
)
def test_the_rules_catch_plain_text_that_breaks_them(place: str, value: object) -> None:
    told = payload(COMPLETED, is_plain=True)

    assert not refused(lambda: check_slack_plain(told))
    assert refused(lambda: check_slack_plain(spoilt(told, place, value)))


@pytest.mark.parametrize(
    ("host", "status", "said", "outcome"),
    [
        ("hooks.slack.com", 400, "no_text", Delivered),
        ("hooks.slack.com", 400, "missing_text_or_fallback_or_attachments", Delivered),
        ("hooks.slack-gov.com", 400, "invalid_payload", type(None)),
        ("hooks.slack.com", 403, "invalid_token", TargetBroken),
        ("hooks.slack.com", 404, "no_service", TargetBroken),
        ("hooks.slack.com", 410, "channel_is_archived", TargetBroken),
        ("hooks.slack.com", 429, "", Retry),
        ("chat.example.com", 404, "no_service", TargetBroken),
        ("chat.example.com", 404, "no such page", Rejected),
        ("chat.example.com", 410, "", Rejected),
        ("chat.example.com", 405, "", type(None)),
        ("chat.example.com", 200, "<html>", type(None)),
        ("chat.example.com", 302, "", type(None)),
        ("chat.example.com", 502, "", Retry),
    ],
)
def test_a_probe_is_an_empty_message_to_slack_alone(host: str, status: int, said: str, outcome: type) -> None:
    one = make("slack", url=f"https://{host}/services/T0/B0/x")
    assert one.probe().method == ("POST" if "slack" in host else "GET")  # type: ignore[union-attr]
    assert type(one.diagnose(answer(status, said), now=NOW)) is outcome
