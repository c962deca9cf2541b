import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from notifier.delivery import Delivered, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType
from notifier.targets import Target
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import completed, failed
from tests.targets.given import COMPLETED, EVENTS, FAILED, alert, answer, make, news, payload_of
from tests.targets.limits import check_slack, refused

URL = "https://hooks.slack.com/services/T0/B0/secret"


def slack(**keys: Any) -> Target:
    return make("slack", url=URL, **keys)


def payload(*events: Event, **keys: Any) -> Any:
    return payload_of(slack(**keys).render(events, now=NOW))


def shown(*events: Event, **keys: Any) -> list[str]:
    """Return the texts of the blocks, from top to bottom."""
    return [
        text["text"]
        for block in payload(*events, **keys)["blocks"]
        for text in ([block["text"]] if "text" in block else block["elements"])
    ]


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
                        "type": "plain_text",
                        "text": "user:12345-pixverse:me@example.com-music:1",
                        "emoji": False,
                    }
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
        "user:12345-pixverse:me@example.com-music:1",
    ]


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_every_event_keeps_slacks_rules(event: Event) -> None:
    check_slack(payload(event))


@given(events=st.lists(hostile.events, min_size=1, max_size=12))
def test_nothing_from_outside_breaks_slacks_rules(events: list[Event]) -> None:
    links = check_slack(payload(*events))

    assert [
        link for link in links if not link.startswith(("https://media.pixverse.ai/", "https://[::1]/"))
    ] == []


@settings(max_examples=40)
@given(events=st.lists(hostile.events, min_size=1, max_size=12))
def test_with_mentions_only_the_configured_ones_ping(events: list[Event]) -> None:
    told = payload(*events, mention=["user:U1", "role:S2", "here", "everyone"])

    check_slack(told, pings=["<@U1>", "<!subteam^S2>", "<!here>", "<!channel>"])


def worst(number: int) -> Event:
    """Return a failure in which every text is long and needs escaping."""
    fields = failed(number, model="&" * 900, fail_code="<" * 900, fail_reason="&" * 9000, prompt=">" * 9000)
    return news(EventType.FAILED, fields, name="&" * 900, audio_id="&" * 900 + str(number))


def plain(number: int) -> Event:
    return news(EventType.FAILED, failed(number), audio_id=f"user:1-pixverse:a@b-music:{number}")


@pytest.mark.parametrize(
    ("events", "mention", "told"),
    [
        ([plain(number) for number in range(12)], [], 10),
        ([plain(number) for number in range(12)], ["here"], 9),  # 50 blocks, one of which pings
        ([worst(number) for number in range(12)], [], 2),
    ],
)
def test_one_message_tells_as_many_events_as_its_limits_take(
    events: Sequence[Event], mention: list[str], told: int
) -> None:
    request = slack(mention=mention).render(events, now=NOW)

    assert request.event_count == told
    assert len([one for one in payload_of(request)["blocks"] if one["type"] == "header"]) == told
    check_slack(payload_of(request), pings=["<!here>"] if mention else [])


def test_twenty_mentions_and_the_worst_texts_still_fit() -> None:
    mentions = [f"role:{'S' * 38}{number:02}" for number in range(20)]

    told = payload(*(worst(number) for number in range(10)), mention=mentions)

    check_slack(told, pings=[f"<!subteam^{mention.removeprefix('role:')}>" for mention in mentions])


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
    ]


def test_a_problem_that_is_over_looks_well() -> None:
    assert shown(EVENTS["resolved alert"]) == [
        "✅ pixverse-notifier: a problem is over",
        "the target studio takes messages again",
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


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, "invalid_payload", Rejected("HTTP 400: invalid_payload")),
        (400, "invalid_blocks", Rejected("HTTP 400: invalid_blocks")),
        (403, "action_prohibited", TargetBroken("HTTP 403: action_prohibited")),
        (403, "invalid_token", TargetBroken("HTTP 403: invalid_token")),
        (404, "no_service", TargetBroken("HTTP 404: no_service")),
        (404, "channel_not_found", TargetBroken("HTTP 404: channel_not_found")),
        (410, "channel_is_archived", TargetBroken("HTTP 410: channel_is_archived")),
        (500, "rollup_error", Retry("HTTP 500: rollup_error")),
    ],
)
def test_slacks_errors_are_told_although_they_come_as_html(status: int, body: str, outcome: object) -> None:
    assert slack().classify(answer(status, body, {"Content-Type": "text/html"}), now=NOW) == outcome


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
    ],
)
def test_slack_may_live_elsewhere(url: str) -> None:
    assert make("slack", url=url).render([COMPLETED], now=NOW).url.reveal() == url


def raw_angle(told: Any) -> None:
    told["text"] += " <!here>"


def forged_label(told: Any) -> None:
    told["blocks"][1]["elements"][0]["text"] = "*<https://a.example/x|Free money|Listen>*"


def live_words(told: Any) -> None:
    told["blocks"][1]["elements"][0]["verbatim"] = False


def long_header(told: Any) -> None:
    told["blocks"][0]["text"]["text"] = "x" * 151


def unknown_key(told: Any) -> None:
    told["blocks"][2]["colour"] = "red"


def empty_text(told: Any) -> None:
    told["blocks"][2]["text"]["text"] = ""


def too_many_blocks(told: Any) -> None:
    told["blocks"] = told["blocks"] * 13


@pytest.mark.parametrize(
    "spoil",
    [raw_angle, forged_label, live_words, long_header, unknown_key, empty_text, too_many_blocks],
)
def test_the_rules_catch_a_message_that_breaks_them(spoil: Callable[[Any], None]) -> None:
    told = copy.deepcopy(payload(COMPLETED))
    assert not refused(lambda: check_slack(told))

    spoil(told)

    assert refused(lambda: check_slack(told))
