"""The whole contract of the watchlist: what each key takes, and every mistake in words and with its place."""

import copy
import os
import re
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifier.config import Listen
from notifier.document import place_after
from notifier.duration import parse_rate
from notifier.event import EventType
from notifier.loading import InvalidConfigError, digest_of, load
from notifier.secret import Secret, Sources
from notifier.targets.discord import Discord
from notifier.targets.slack import Slack
from notifier.targets.webhook import Webhook
from tests.support.watchlists import (
    A_TYPE,
    BASE,
    ENVIRONMENT,
    EVERYTHING,
    MINIMAL,
    TARGET,
    TRACK,
    USEAPI,
    WATCH,
    loaded,
    mistakes,
    paths_of,
    polling,
    watching,
    webhook,
)

TOKEN = "is not a token: expected it as useapi.net shows it, without spaces or line breaks"
SECRET = "is no signing secret: expected whsec_ and the base64 of 24 to 64 bytes"
FORM = "is not a duration: write it like 250ms, 15s, 5m, 2h, 1h30m or 3d"
ADDRESS = "is no address to listen on: expected HOST:PORT, such as 127.0.0.1:8720"
NEITHER = "w:4:5: watch[0].audio_id: is missing, and there is no account either"
MENTION = "is no mention: expected user:ID, role:ID, here or everyone"


# ---------------------------------------------------------------------------------------- what keys say


def test_every_key_is_read() -> None:
    config = loaded(EVERYTHING).config

    assert config.useapi.token == Secret(ENVIRONMENT["TOKEN"])
    assert config.useapi.base_url == "https://useapi.example.com/v2/pixverse"
    assert config.useapi.timeout == timedelta(seconds=20)
    assert config.useapi.concurrency == 16
    assert config.useapi.rate == parse_rate("30/m")

    assert config.poll.interval == timedelta(seconds=12)
    assert config.poll.max_interval == timedelta(minutes=10)
    assert config.poll.missing_after == 4
    assert config.poll.stalled_after == timedelta(minutes=90)
    assert (config.poll.list, config.poll.cadence) == ("never", "fixed")

    assert config.delivery.timeout == timedelta(milliseconds=2500)
    assert config.delivery.first_retry == timedelta(milliseconds=1500)
    assert config.delivery.max_retry == timedelta(hours=2)
    assert config.delivery.give_up_after == timedelta(days=3)

    slack, discord, webhook = config.targets.values()
    assert [*config.targets] == ["band-room", "studio", "archive"]
    assert isinstance(slack, Slack)
    assert slack.url == Secret(ENVIRONMENT["SLACK_URL"])
    assert slack.mention == ("user:U123ABC", "here")
    assert isinstance(discord, Discord)
    assert (discord.username, discord.mention) == ("Track bot", ("role:1234567890",))
    assert isinstance(webhook, Webhook)
    assert webhook.secret == (Secret(ENVIRONMENT["HOOK_SECRET"]), Secret(ENVIRONMENT["NEXT_SECRET"]))
    assert webhook.headers == {"X-Team": Secret("music"), "X-Floor": Secret("3")}
    assert (webhook.method, webhook.concurrency) == ("PUT", 2)
    assert webhook.body is not None
    assert webhook.body.source.startswith('{"text": {{ (event.name')

    assert config.defaults.notify == ("band-room",)
    assert config.defaults.events == ("completed", "failed", "missing", "stalled")
    assert config.alerts == ("studio",)

    full, short = config.tracks
    assert (full.audio_id, full.name) == (TRACK, "Intro theme")
    assert (full.notify, full.events) == (("band-room", "studio"), ("completed",))
    assert full.interval == timedelta(seconds=10)
    assert short.audio_id == "user:123-pixverse:me+tag@example.com-music:789"
    assert (short.name, short.notify, short.events, short.interval) == (None, None, None, None)
    (account,) = config.accounts
    assert (account.account, account.name) == ("me@example.com", "The band")
    assert (account.notify, account.events) == (("archive",), ("completed", "stalled"))
    assert account.interval == timedelta(seconds=30)
    assert account.models == ("music-2.6", "music-v1")
    assert account.match == ("intro", "lo-fi * piano")
    assert config.watch == (full, short, account)

    assert config.state == "/srv/notifier/state.db"
    assert config.http is not None
    assert config.http.listen == Listen(host="127.0.0.1", port=8720)
    assert config.http.hosts == ("notifier.example.com",)
    assert config.callback is not None
    assert config.callback.listen == Listen(host="127.0.0.1", port=8721)
    assert config.callback.path.reveal() == ENVIRONMENT["CALLBACK_PATH"]
    assert (config.log.level, config.log.format) == ("debug", "logfmt")


def test_every_key_that_is_left_out_has_its_documented_default() -> None:
    config = loaded(MINIMAL).config

    assert config.useapi.base_url == "https://api.useapi.net/v2/pixverse"
    assert config.useapi.timeout == timedelta(seconds=15)
    assert config.useapi.concurrency == 8
    assert config.useapi.rate.spacing == timedelta(milliseconds=200)

    assert config.poll.interval == timedelta(seconds=15)
    assert config.poll.max_interval == timedelta(minutes=5)
    assert config.poll.missing_after == 3
    assert config.poll.stalled_after == timedelta(minutes=30)
    assert (config.poll.list, config.poll.cadence) == ("auto", "learned")

    assert config.delivery.timeout == timedelta(seconds=10)
    assert config.delivery.first_retry == timedelta(seconds=5)
    assert config.delivery.max_retry == timedelta(hours=6)
    assert config.delivery.give_up_after == timedelta(hours=72)

    (slack,) = config.targets.values()
    assert isinstance(slack, Slack)
    assert slack.mention == ()

    assert config.defaults.notify is None
    assert config.defaults.events == ("completed", "failed")
    assert (config.alerts, config.watch, config.state, config.http) == ((), (), None, None)
    assert config.callback is None
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_a_webhook_has_defaults_of_its_own() -> None:
    (hook,) = loaded(webhook("")).config.targets.values()
    assert isinstance(hook, Webhook)
    assert (hook.secret, hook.headers, hook.method, hook.body) == ((), {}, "POST", None)
    assert hook.concurrency == 4


@pytest.mark.parametrize("watch", ["watch: []", "watch:", "watch: ~", "watch: null", "watch:\n# - one\n"])
def test_an_empty_watch_is_valid(watch: str) -> None:
    assert loaded(f"{USEAPI}{TARGET}{watch}\n").config.watch == ()


def test_no_target_at_all_is_valid() -> None:
    assert loaded(f"{USEAPI}{WATCH}targets: {{}}\n").config.targets == {}


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("127.0.0.1:8720", "127.0.0.1", 8720),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("localhost:65535", "localhost", 65535),
        ("'[::1]:8720'", "::1", 8720),
        ("{listen: 127.0.0.1:8720}", "127.0.0.1", 8720),
    ],
)
def test_http_has_a_short_form(written: str, host: str, port: int) -> None:
    http = loaded(f"{BASE}http: {written}\n").config.http
    assert http is not None
    assert (http.listen, http.hosts) == (Listen(host=host, port=port), ())


def test_a_single_signing_secret_needs_no_list() -> None:
    (hook,) = loaded(webhook("secret: ${env:HOOK_SECRET}")).config.targets.values()
    assert isinstance(hook, Webhook)
    assert hook.secret == (Secret(ENVIRONMENT["HOOK_SECRET"]),)


def test_a_base_url_loses_its_last_slash() -> None:
    text = BASE.replace("token: abc", "token: abc, base_url: http://127.0.0.1:9/v2/")
    assert loaded(text).config.useapi.base_url == "http://127.0.0.1:9/v2"


# ------------------------------------------------------------------------------ YAML as 1.2 core reads it


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("true", "true"),
        ("123", "123"),
        ("010", "010"),
        ("1.50", "1.50"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("2026-06-23", "2026-06-23"),
        (".inf", ".inf"),
        ("nUll", "nUll"),
        ("'null'", "null"),
        ('"~"', "~"),
        ("Søren's 🎵 – live", "Søren's 🎵 – live"),
        ("|-\n      two\n      lines", "two\nlines"),
    ],
)
def test_where_a_key_wants_text_a_plain_scalar_is_its_own_text(written: str, name: str) -> None:
    text = watching(f"audio_id: {TRACK}\n    name: {written}")
    assert loaded(text).config.watch[0].name == name


@pytest.mark.parametrize(
    ("written", "count"), [("3", 3), ("010", 10), ("08", 8), ("+5", 5), ("100000", 100_000)]
)
def test_a_number_is_decimal(written: str, count: int) -> None:
    assert loaded(polling(f"missing_after: {written}")).config.poll.missing_after == count


@pytest.mark.parametrize(
    ("written", "seconds"), [("20", 20.0), ("'20'", 20.0), ("020", 20.0), ("20s", 20.0), ("0.5", 0.5)]
)
def test_a_bare_number_is_a_duration_in_seconds(written: str, seconds: float) -> None:
    assert loaded(polling(f"interval: {written}")).config.poll.interval == timedelta(seconds=seconds)


def test_targets_may_be_named_like_yamls_booleans() -> None:
    text = f"{USEAPI}targets:\n  on: &t {{type: slack, url: 'https://example.com'}}\n  yes: *t\n  1: *t\n"
    config = loaded(f"{text}alerts: [on, yes, 1]\n{WATCH}").config
    assert [*config.targets] == ["on", "yes", "1"]
    assert config.alerts == ("on", "yes", "1")


def test_merge_keys_and_anchors_save_writing() -> None:
    text = f"""{USEAPI}targets:
  one: &slack
    type: slack
    url: https://hooks.slack.com/services/T/B/one
    mention: [here]
  two:
    <<: *slack
    url: https://hooks.slack.com/services/T/B/two
watch:
  - &track
    audio_id: {TRACK}
    events: [completed]
    interval: 20s
  - {{<<: *track, audio_id: {TRACK}0}}
"""
    config = loaded(text).config
    one, two = config.targets.values()
    assert isinstance(one, Slack)
    assert isinstance(two, Slack)
    assert (two.mention, two.url.reveal()[-3:]) == (one.mention, "two")
    assert [watch.interval for watch in config.watch] == [timedelta(seconds=20)] * 2


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_files_from_other_systems_are_read_alike(end: str) -> None:
    assert loaded(EVERYTHING.replace("\n", end)).config == loaded(EVERYTHING).config
    assert mistakes((BASE + "x: 1\n").replace("\n", end)) == ["w:4:1: x: unknown key 'x'"]


def test_a_byte_order_mark_is_skipped_and_not_counted() -> None:
    assert loaded(b"\xef\xbb\xbf" + MINIMAL.encode()).config == loaded(MINIMAL).config
    assert mistakes(b"\xef\xbb\xbfx: 1\n" + BASE.encode()) == ["w:1:1: x: unknown key 'x'"]


def test_a_file_may_be_one_line_of_json() -> None:
    text = '{"useapi": {"token": "abc", "concurrency": 4}, "targets": {}, "watch": []}'
    assert loaded(text).config.useapi.concurrency == 4


# ------------------------------------------------------------------------------------- mistakes, key by key


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("eight", "'eight' is not a whole number"),
        ("'8'", "'8' is not a whole number"),
        ("8.0", "'8.0' is not a whole number"),
        ("0x8", "'0x8' is not a whole number"),
        ("1_0", "'1_0' is not a whole number"),
        ("yes", "'yes' is not a whole number"),
        ("٨", "'٨' is not a whole number"),
        ("9999999999999", "'9999999999999' is not a whole number"),
        ("0", "'0' is out of range: expected 1 to 100000"),
        ("-1", "'-1' is out of range: expected 1 to 100000"),
        ("100001", "'100001' is out of range: expected 1 to 100000"),
        ("[8]", "expected a whole number, found a list"),
        ("{a: 8}", "expected a whole number, found a mapping"),
        ("", "expected a whole number, found nothing: give it a value or remove the key"),
    ],
)
def test_what_is_no_count(written: str, sentence: str) -> None:
    (line,) = mistakes(polling(f"missing_after: {written}"))
    place = "5:18" if written else "5:17"
    assert line == f"w:{place}: poll.missing_after: {sentence}"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("soon", f"'soon' {FORM}"),
        ("5 minutes", f"'5 minutes' {FORM}"),
        ("15S", f"'15S' {FORM}"),
        ("-5s", f"'-5s' {FORM}"),
        ("12:30", f"'12:30' {FORM}"),
        ("true", f"'true' {FORM}"),
        ("''", f"'' {FORM}"),
        ("0", "'0' is too short: the shortest duration is 50ms"),
        ("49ms", "'49ms' is too short: the shortest duration is 50ms"),
        ("9999d", "'9999d' is too long: the longest duration is 3650d"),
        ("[15s]", "expected a duration such as 15s, found a list"),
        ("~", "expected a duration such as 15s, found nothing: give it a value or remove the key"),
    ],
)
def test_what_is_no_duration(written: str, sentence: str) -> None:
    assert mistakes(polling(f"stalled_after: {written}")) == [f"w:5:18: poll.stalled_after: {sentence}"]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("5", "'5' is not a rate: write it like 5/s, 30/m or 100/h"),
        ("5/S", "'5/S' is not a rate: write it like 5/s, 30/m or 100/h"),
        ("-5/s", "'-5/s' is not a rate: write it like 5/s, 30/m or 100/h"),
        ("0/s", "'0/s' is not a rate: it must be above zero"),
        ("1000000/s", "'1000000/s' is too quick: the highest rate is 100000/s"),
        ("{s: 5}", "expected a rate such as 5/s, found a mapping"),
    ],
)
def test_what_is_no_rate(written: str, sentence: str) -> None:
    text = f"useapi:\n  token: abc\n  rate: {written}\n{TARGET}{WATCH}"
    assert mistakes(text) == [f"w:3:9: useapi.rate: {sentence}"]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("''", TOKEN),
        ("a b", TOKEN),
        ('"hunter2\\n"', TOKEN),
        ("hünter2", TOKEN),
        ("[hunter2]", "expected a token, found a list"),
        ("", "expected a token, found nothing: give it a value or remove the key"),
    ],
)
def test_what_is_no_token_and_is_not_shown(written: str, sentence: str) -> None:
    (line,) = mistakes(f"useapi:\n  token: {written}\n{TARGET}{WATCH}")
    assert line.endswith(f": useapi.token: {sentence}")
    assert "nter2" not in line


LONG = "https://example.com/" + "x" * 4096


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("hooks.slack.com/services", "is not a URL: expected it to start with https:// or http://"),
        ("ftp://example.com", "is not a URL: expected it to start with https:// or http://"),
        ("file:///etc/passwd", "is not a URL: expected it to start with https:// or http://"),
        ("//example.com", "is not a URL: expected it to start with https:// or http://"),
        ("''", "is not a URL: expected it to start with https:// or http://"),
        ("https://", "is not a URL: it names no host"),
        ("https:///path", "is not a URL: it names no host"),
        ("https://exa%41mple.com", "is not a URL: it names no host"),
        ("https://a..b/", "is not a URL: it names no host"),
        ("'https://a\\@b'", "is not a URL: it names no host"),
        ("https://example.com/a b", "is not a URL: it holds white space or control characters"),
        ('"https://example.com\\n"', "is not a URL: it holds white space or control characters"),
        ('"https://example.com/\\u202e"', "is not a URL: it holds white space or control characters"),
        ("https://example.com:99999", "is not a URL"),
        ("'https://[::1'", "is not a URL"),
        (LONG, "is longer than 4096 characters"),
        ("8720", "is not a URL: expected it to start with https:// or http://"),
        ("[https://example.com]", "expected a URL, found a list"),
        ("", "expected a URL, found nothing: give it a value or remove the key"),
    ],
)
@pytest.mark.parametrize("kind", ["slack", "discord", "webhook"])
def test_what_is_no_url_of_a_target_and_is_not_shown(kind: str, written: str, sentence: str) -> None:
    (line,) = mistakes(f"{USEAPI}{WATCH}targets:\n  a:\n    type: {kind}\n    url: {written}\n")
    assert line == f"w:6:{10 if written else 9}: targets.a.url: {sentence}"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/hook",
        "https://[2001:db8::1]/hook",
        "https://me:word@example.com/",
        "https://bücher.example/hook?key=a%20b&c",
        "http://hook_er.internal/",
        "HTTPS://EXAMPLE.COM",
    ],
)
def test_any_http_url_of_any_host_is_taken(url: str) -> None:
    (hook,) = loaded(webhook("").replace("https://example.com", f"'{url}'")).config.targets.values()
    assert hook.url.reveal() == url


def test_a_base_url_is_shown_since_it_is_no_secret() -> None:
    text = BASE.replace("token: abc", "token: abc, base_url: api.useapi.net")
    expected = "'api.useapi.net' is not a URL: expected it to start with https:// or http://"
    assert mistakes(text) == [f"w:1:32: useapi.base_url: {expected}"]
    text = BASE.replace("token: abc", "token: abc, base_url: 'https://example.com/?v=2'")
    assert "'?' or '#'" in mistakes(text)[0]


@pytest.mark.parametrize(
    ("kind", "url", "owner"),
    [
        ("discord", "https://hooks.slack.com/services/T/B/x", "slack"),
        ("discord", "https://HOOKS.slack.com/services/T/B/x", "slack"),
        ("discord", "https://hooks.slack-gov.com/services/T/B/x", "slack"),
        ("slack", "https://discord.com/api/webhooks/1/x", "discord"),
        ("slack", "https://canary.discord.com/api/webhooks/1/x", "discord"),
        ("slack", "https://discordapp.com/api/webhooks/1/x", "discord"),
    ],
)
def test_a_url_of_the_other_chat_service_is_a_mistake(kind: str, url: str, owner: str) -> None:
    expected = f"is a {owner.capitalize()} URL: this target's type should be {owner}"
    text = f"{USEAPI}{WATCH}targets:\n  a: {{type: {kind}, url: '{url}'}}\n"
    (line,) = mistakes(text)
    assert line.endswith(f": targets.a.url: {expected}")


@pytest.mark.parametrize(
    "audio_id",
    [
        "123",
        "user:123-pixverse:me@example.com-music:",
        "user:123-pixverse:me@example.com-music:abc",
        "user:123-pixverse:me@example.com-music:４５６",
        "user:123-pixverse:me-music:456",
        "user:-pixverse:me@example.com-music:456",
        "123-pixverse:me@example.com-music:456",
        "user:123-music:456",
        "user:123-pixverse:me@example.com-video:456",
        "user:123-pixverse:me@example.com/..-music:456",
        "user:123-pixverse:me@example.com?-music:456",
        "user:123-pixverse:m e@example.com-music:456",
        "User:123-pixverse:me@example.com-music:456",
        f"{TRACK} ",
        f"{TRACK}\u200b",
        f"user:123-pixverse:{'m' * 600}@example.com-music:456",
    ],
)
def test_a_malformed_audio_id_is_a_mistake_in_both_forms(audio_id: str) -> None:
    sentence = "is not an audio_id: expected user:ID-pixverse:EMAIL-music:NUMBER"
    (short,) = mistakes(watching(f"'{audio_id}'"))
    (full,) = mistakes(watching(f"audio_id: '{audio_id}'"))
    assert short.startswith("w:4:5: watch[0]: '")
    assert full.startswith("w:4:15: watch[0].audio_id: '")
    assert short.endswith(sentence)
    assert full.endswith(sentence)


@pytest.mark.parametrize("audio_id", [TRACK, "user:1-pixverse:a.b-c+d@x-y.example.com-music:1"])
def test_the_email_of_an_audio_id_may_hold_what_addresses_do(audio_id: str) -> None:
    assert loaded(watching(audio_id)).config.tracks[0].audio_id == audio_id


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (watching("{}"), NEITHER),
        (watching("name: Intro"), NEITHER),
        (watching("[]"), "w:4:5: watch[0]: expected a mapping, found a list"),
        (
            watching(""),
            "w:4:4: watch[0]: expected an audio_id, found nothing: give it a value or remove the key",
        ),
        (
            watching("audio_id:"),
            "w:4:14: watch[0].audio_id: expected an audio_id, found nothing: "
            "give it a value or remove the key",
        ),
        (
            watching(f"audio_id: {TRACK}\n    notify: a"),
            "w:5:13: watch[0].notify: expected a list, found text",
        ),
        (
            watching(f"audio_id: {TRACK}\n    events:"),
            "w:5:12: watch[0].events: expected a list, found nothing",
        ),
        (
            watching(f"audio_id: {TRACK}\n    notify: [[a]]"),
            "w:5:14: watch[0].notify[0]: expected text, found a list",
        ),
        (watching(f"audio_id: {TRACK}\n    name: ''"), "w:5:11: watch[0].name: '' is empty"),
        (watching(f"audio_id: {TRACK}\n    name: [x]"), "w:5:11: watch[0].name: expected text, found a list"),
        (
            watching(f"audio_id: {TRACK}\n    events: [complete]"),
            "w:5:14: watch[0].events[0]: 'complete' is none of completed, failed, missing, stalled, "
            "did you mean 'completed'?",
        ),
        (
            watching(f"audio_id: {TRACK}\n    notfy: [a]"),
            "w:5:5: watch[0].notfy: unknown key 'notfy', did you mean 'notify'?",
        ),
        (
            watching(f"audio_id: {TRACK}\n    interval: 6m"),
            "w:5:15: watch[0].interval: 6m is above the default poll.max_interval, 5m",
        ),
        (f"{USEAPI}{TARGET}watch: {TRACK}\n", "w:3:8: watch: expected a list, found text"),
        (f"{USEAPI}{TARGET}watch: {{a: b}}\n", "w:3:8: watch: expected a list, found a mapping"),
    ],
)
def test_what_is_wrong_with_a_watch(text: str, line: str) -> None:
    assert mistakes(text) == [line]


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ("secret: hunter2", [f"w:5:13: targets.a.secret: {SECRET}"]),
        ("secret: whsec_", [f"w:5:13: targets.a.secret: {SECRET}"]),
        ("secret: whsec_aHVudGVyMg==", [f"w:5:13: targets.a.secret: {SECRET}"]),
        ("secret: whsec_not base64 at all!", [f"w:5:13: targets.a.secret: {SECRET}"]),
        (f"secret: whsec_{'A' * 88}", [f"w:5:13: targets.a.secret: {SECRET}"]),
        (f"secret: {ENVIRONMENT['HOOK_SECRET'][6:]}", [f"w:5:13: targets.a.secret: {SECRET}"]),
        ("secret: ''", [f"w:5:13: targets.a.secret: {SECRET}"]),
        (
            f"secret:\n- {ENVIRONMENT['HOOK_SECRET']}\n- hunter2\n- [x]",
            [
                f"w:7:7: targets.a.secret[1]: {SECRET}",
                "w:8:7: targets.a.secret[2]: expected a signing secret, found a list",
            ],
        ),
        ("secret: {a: b}", ["w:5:13: targets.a.secret: expected a signing secret, found a mapping"]),
        ("method: GET", ["w:5:13: targets.a.method: 'GET' is none of POST, PUT, PATCH"]),
        (
            "method: post",
            ["w:5:13: targets.a.method: 'post' is none of POST, PUT, PATCH, did you mean 'POST'?"],
        ),
        ("headers: [X]", ["w:5:14: targets.a.headers: expected a mapping, found a list"]),
        ("headers: {X Y: 1}", ["w:5:15: targets.a.headers.X Y: is no header name"]),
        ("headers: {'': 1}", ["w:5:15: targets.a.headers.: is no header name"]),
        (
            "headers: {Webhook-Id: 1}",
            ["w:5:15: targets.a.headers.Webhook-Id: the header Webhook-Id is set by the notifier itself"],
        ),
        (
            'headers: {X: "a\\r\\nY: b"}',
            ["w:5:18: targets.a.headers.X: is no header value: expected printable ASCII on one line"],
        ),
        ("headers: {X: [1]}", ["w:5:18: targets.a.headers.X: expected a header value, found a list"]),
        ("username: x", ["w:5:5: targets.a.username: unknown key 'username'"]),
        ("bdoy: x", ["w:5:5: targets.a.bdoy: unknown key 'bdoy', did you mean 'body'?"]),
        ("concurrency: 0", ["w:5:18: targets.a.concurrency: '0' is out of range: expected 1 to 100000"]),
    ],
)
def test_what_is_wrong_with_a_webhook(keys: str, lines: list[str]) -> None:
    found = mistakes(webhook(keys))
    assert found == lines
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    "body",
    [
        "{{ event.name",
        "{% if %}",
        "{% for x in y %}",
        "{{ 'a' | nonsense }}",
        "plain text",
        '{"text": {{ event.name }}}',
        '{"text": "{{ event.name }}",}',
        "{{ 1 / 0 }}",
        "{{ ''.__class__.__mro__ }}",
        "{% if event.status == 'COMPLETED' %}{}{% endif %}",
        "",
    ],
)
def test_a_template_that_does_not_compile_or_renders_no_json_is_a_mistake_at_it(body: str) -> None:
    quoted = body.replace("'", "''")
    (line,) = mistakes(webhook(f"body: '{quoted}'"))
    assert line.startswith("w:5:11: targets.a.body: ")


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("{}", ["w:4:3: targets.a.type: is missing", "w:4:3: targets.a.url: is missing"]),
        ("[]", ["w:4:6: targets.a: expected a mapping, found a list"]),
        ("https://hunter2", ["w:4:6: targets.a: expected a mapping, found text"]),
        ("", ["w:4:5: targets.a: expected a mapping, found nothing"]),
        ("{type: slack}", ["w:4:3: targets.a.url: is missing"]),
        (
            "{type: slak, url: 'https://example.com'}",
            [f"w:4:13: targets.a.type: unknown type 'slak', {A_TYPE}, did you mean 'slack'?"],
        ),
        (
            "{type: Slack, url: 'https://example.com'}",
            [f"w:4:13: targets.a.type: unknown type 'Slack', {A_TYPE}, did you mean 'slack'?"],
        ),
        (
            "{type: email, url: 'https://example.com'}",
            [f"w:4:13: targets.a.type: unknown type 'email', {A_TYPE}"],
        ),
        (
            "{type: , url: 'https://example.com'}",
            [f"w:4:13: targets.a.type: {A_TYPE}, found nothing"],
        ),
        (
            "{type: [slack], url: 'https://example.com'}",
            [f"w:4:13: targets.a.type: {A_TYPE}, found a list"],
        ),
        # what is wrong with every type is told although the type is not known
        (
            "{type: slak, url: hunter2, foo: 1, mention: [x]}",
            [
                f"w:4:13: targets.a.type: unknown type 'slak', {A_TYPE}, did you mean 'slack'?",
                "w:4:24: targets.a.url: is not a URL: expected it to start with https:// or http://",
                "w:4:33: targets.a.foo: unknown key 'foo'",
            ],
        ),
        (
            "{url: 'https://example.com', username: x, secret: y, nurl: z}",
            [
                "w:4:3: targets.a.type: is missing",
                "w:4:59: targets.a.nurl: unknown key 'nurl', did you mean 'url'?",
            ],
        ),
        (
            "{type: slack, url: 'https://example.com', secret: hunter2}",
            ["w:4:48: targets.a.secret: unknown key 'secret'"],
        ),
        (
            "{type: slack, url: 'https://example.com', mention: [U1, 'user:', everybody, 'role:1']}",
            [
                f"w:4:58: targets.a.mention[0]: 'U1' {MENTION}",
                f"w:4:62: targets.a.mention[1]: 'user:' {MENTION}",
                f"w:4:71: targets.a.mention[2]: 'everybody' {MENTION}",
            ],
        ),
        (
            "{type: discord, url: 'https://example.com', mention: ['role:abc', everybody, here]}",
            [
                "w:4:60: targets.a.mention[0]: 'role:abc' names somebody by letters: "
                "an ID has only digits here",
                f"w:4:72: targets.a.mention[1]: 'everybody' {MENTION}",
            ],
        ),
        (
            "{type: webhook, url: 'https://example.com', secret: []}",
            [
                "w:4:58: targets.a.secret: holds no signing secret: "
                "give it one, or remove the key to sign nothing",
            ],
        ),
        (
            "{type: slack, url: 'https://example.com', mention: here}",
            ["w:4:57: targets.a.mention: expected a list, found text"],
        ),
        (
            "{type: discord, url: 'https://example.com', username: Clyde}",
            ["w:4:60: targets.a.username: 'Clyde' is a username that Discord refuses"],
        ),
    ],
)
def test_what_is_wrong_with_a_target(target: str, lines: list[str]) -> None:
    found = mistakes(f"{USEAPI}{WATCH}targets:\n  a: {target}\n")
    assert found == lines
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize("name", ["a b", "-a", ".a", "a/b", "ä", "'[key]'", "x" * 65])
def test_the_name_of_a_target_is_a_plain_word(name: str) -> None:
    text = f"{USEAPI}{WATCH}targets:\n  {name}: {{type: slack, url: 'https://example.com'}}\n"
    (line,) = mistakes(text)
    assert line.startswith("w:4:3: targets.")
    assert line.endswith(": is no name for a target: expected up to 64 letters, digits, '.', '_' and '-'")


@pytest.mark.parametrize(
    ("value", "place"),
    [("~", "4:3"), ("{}", "4:3"), ("{type: slack, url: 'http://a', '[key]': 1}", "4:43")],
)
def test_a_key_that_reads_like_a_mark_of_pydantic_is_one_like_any_other(value: str, place: str) -> None:
    found = mistakes(f"{USEAPI}{WATCH}targets:\n  '[key]': {value}\n")
    assert any(line.startswith("w:4:3: targets.[key]: is no name for a target") for line in found)
    assert found[-1].startswith(f"w:{place}: targets.[key]")


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "slack", "type", "123", "x" * 64])
def test_names_of_targets_that_are_fine(name: str) -> None:
    text = (
        f"{USEAPI}{WATCH}targets:\n  {name}: {{type: slack, url: 'https://example.com'}}\nalerts: [{name}]\n"
    )
    assert loaded(text).config.alerts == (name,)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "http: 8720\n",
            [f"w:4:7: http: '8720' {ADDRESS}"],
        ),
        (
            "http: '::1:8720'\n",
            [f"w:4:7: http: '::1:8720' {ADDRESS}"],
        ),
        (
            "http: 127.0.0.1:65536\n",
            [f"w:4:7: http: '127.0.0.1:65536' {ADDRESS}"],
        ),
        ("http: []\n", ["w:4:7: http: expected a mapping, found a list"]),
        (
            "http:\n",
            [
                "w:4:6: http: expected an address such as 127.0.0.1:8720, found nothing: "
                "give it a value or remove the key"
            ],
        ),
        (
            "http: {hosts: [a b]}\n",
            ["w:4:1: http.listen: is missing", "w:4:16: http.hosts[0]: 'a b' is no host name"],
        ),
        (
            "http: {listen: '127.0.0.1:1', host: x}\n",
            ["w:4:31: http.host: unknown key 'host', did you mean 'hosts'?"],
        ),
        ("log: debug\n", ["w:4:6: log: expected a mapping, found text"]),
        ("log:\n", ["w:4:5: log: expected a mapping, found nothing"]),
        (
            "log: {level: warn, format: xml}\n",
            [
                "w:4:14: log.level: 'warn' is none of debug, info, warning, error, did you mean 'warning'?",
                "w:4:28: log.format: 'xml' is none of auto, console, logfmt, json",
            ],
        ),
        ("poll: []\n", ["w:4:7: poll: expected a mapping, found a list"]),
        ("poll: {list: always}\n", ["w:4:14: poll.list: 'always' is none of auto, never"]),
        (
            "poll: {cadence: learnt}\n",
            ["w:4:17: poll.cadence: 'learnt' is none of learned, fixed, did you mean 'learned'?"],
        ),
        ("state: ''\n", ["w:4:8: state: '' is empty"]),
        ('state: "/a\\0b"\n', ["w:4:8: state: '/a?b' is no path: it holds control characters"]),
        ("state: [a]\n", ["w:4:8: state: expected a path, found a list"]),
        ("alerts: a\n", ["w:4:9: alerts: expected a list, found text"]),
        ("alerts: [b]\n", ["w:4:10: alerts[0]: unknown target 'b'"]),
        (
            "defaults: {notify: [A], events: [done]}\n",
            [
                "w:4:21: defaults.notify[0]: unknown target 'A', did you mean 'a'?",
                "w:4:34: defaults.events[0]: 'done' is none of completed, failed, missing, stalled",
            ],
        ),
        ("defaults: {interval: 5s}\n", ["w:4:12: defaults.interval: unknown key 'interval'"]),
        (
            "delivery: {give_up: 1h}\n",
            ["w:4:12: delivery.give_up: unknown key 'give_up', did you mean 'give_up_after'?"],
        ),
        ("dleivery: {}\n", ["w:4:1: dleivery: unknown key 'dleivery', did you mean 'delivery'?"]),
        ("'': 1\n", ["w:4:1: unknown key ''"]),
        ('"a\\nb": 1\n', ["w:4:1: a?b: unknown key 'a?b'"]),
        ("~: 1\n", ["w:4:1: ~: unknown key '~'"]),
    ],
)
def test_what_is_wrong_elsewhere(text: str, lines: list[str]) -> None:
    assert mistakes(BASE + text) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{BASE}account: me\n", ["w:4:1: account: unknown key 'account'"]),
        (polling("callback: x"), ["w:5:3: poll.callback: unknown key 'callback'"]),
        (
            f"{BASE}callback: {{}}\n",
            ["w:4:1: callback.listen: is missing", "w:4:1: callback.path: is missing"],
        ),
        (f"{BASE}callback: 127.0.0.1:8721\n", ["w:4:11: callback: expected a mapping, found text"]),
        (
            f"{BASE}callback: {{listen: 80, pth: x, path: ~}}\n",
            [
                f"w:4:20: callback.listen: '80' {ADDRESS}",
                "w:4:24: callback.pth: unknown key 'pth', did you mean 'path'?",
                "w:4:38: callback.path: expected a path, found nothing: give it a value or remove the key",
            ],
        ),
    ],
)
def test_what_is_wrong_where_it_may_not_stand(text: str, lines: list[str]) -> None:
    assert mistakes(text) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["w:1:1: expected a mapping with useapi, targets and watch, found nothing"]),
        ("# only a comment\n", ["w:1:1: expected a mapping with useapi, targets and watch, found nothing"]),
        ("~\n", ["w:1:1: expected a mapping with useapi, targets and watch, found nothing"]),
        ("watch\n", ["w:1:1: expected a mapping with useapi, targets and watch, found text"]),
        ("- watch\n", ["w:1:1: expected a mapping with useapi, targets and watch, found a list"]),
        (
            "# comment\n{}\n",
            ["w:2:1: targets: is missing", "w:2:1: useapi: is missing", "w:2:1: watch: is missing"],
        ),
        (
            "account: x\n",
            [
                "w:1:1: account: unknown key 'account'",
                "w:1:1: targets: is missing",
                "w:1:1: useapi: is missing",
                "w:1:1: watch: is missing",
            ],
        ),
        (
            "useapi:\ntargets:\nwatch:\n",
            [
                "w:1:8: useapi: expected a mapping, found nothing",
                "w:2:9: targets: expected a mapping, found nothing",
            ],
        ),
        (f"useapi: {{}}\n{TARGET}{WATCH}", ["w:1:1: useapi.token: is missing"]),
        (f"{TARGET}{WATCH}\nuseapi:\n  rate: 1/s\n", ["w:4:1: useapi.token: is missing"]),
    ],
)
def test_what_is_missing_is_reported_at_its_parent(text: str, lines: list[str]) -> None:
    assert mistakes(text) == lines


# ---------------------------------------------------------------------------------- all mistakes in one run

BROKEN = """\
useapi:
  token: two words
  base_url: useapi
  timeout: never
  concurrency: many
  rate: fast
  tokne: abc
poll:
  interval: 2h
  max_interval: 1h
  missing_after: -1
  stalled_after: 0s
  list: always
  cadence: slow
  interval: 15s
delivery:
  timeout: 5x
  first_retry: 7h
  max_retry: []
  give_up_after: {}
targets:
  band room:
    type: slack
    url: nowhere
    mention: [me]
  studio:
    type: discord
    url: https://hooks.slack.com/services/T/B/x
    username: discord
    avatar: x
  archive:
    type: webhook
    secret: whsec_x
    headers: {Host: x}
    method: GET
    body: "{{"
    concurrency: 1.5
  pager:
    type: sms
defaults:
  notify: [studoi]
  events: [finished]
alerts: [nobody]
watch:
  - audio_id: one
    name: ''
    notify: [archiv, studio]
    events: [miss]
    interval: 2d
    colour: red
  - one
  - user:1-pixverse:a@b-music:1
  - audio_id: user:1-pixverse:a@b-music:1
    interval: 6m
    notify: everyone
state: ""
http: {listen: 80, hosts: x}
callback: {}
log: {level: loud, format: !!str pretty, colour: !red yes}
logs: {}
"""


def test_one_run_tells_every_mistake_in_the_order_of_the_file() -> None:
    assert [line.removeprefix("w:") for line in mistakes(BROKEN)] == [
        f"2:10: useapi.token: {TOKEN}",
        "3:13: useapi.base_url: 'useapi' is not a URL: expected it to start with https:// or http://",
        f"4:12: useapi.timeout: 'never' {FORM}",
        "5:16: useapi.concurrency: 'many' is not a whole number",
        "6:9: useapi.rate: 'fast' is not a rate: write it like 5/s, 30/m or 100/h",
        "7:3: useapi.tokne: unknown key 'tokne', did you mean 'token'?",
        "9:13: poll.interval: 2h is above poll.max_interval, 1h",
        "11:18: poll.missing_after: '-1' is out of range: expected 1 to 100000",
        "12:18: poll.stalled_after: '0s' is too short: the shortest duration is 50ms",
        "13:9: poll.list: 'always' is none of auto, never",
        "14:12: poll.cadence: 'slow' is none of learned, fixed",
        "15:3: poll.interval: appears a second time, first in line 9",
        f"17:12: delivery.timeout: '5x' {FORM}",
        "19:14: delivery.max_retry: expected a duration such as 15s, found a list",
        "20:18: delivery.give_up_after: expected a duration such as 15s, found a mapping",
        "22:3: targets.band room: is no name for a target: "
        "expected up to 64 letters, digits, '.', '_' and '-'",
        "24:10: targets.band room.url: is not a URL: expected it to start with https:// or http://",
        f"25:15: targets.band room.mention[0]: 'me' {MENTION}",
        "28:10: targets.studio.url: is a Slack URL: this target's type should be slack",
        "29:15: targets.studio.username: 'discord' is a username that Discord refuses",
        "30:5: targets.studio.avatar: unknown key 'avatar'",
        "31:3: targets.archive.url: is missing",
        f"33:13: targets.archive.secret: {SECRET}",
        "34:15: targets.archive.headers.Host: the header Host is set by the notifier itself",
        "35:13: targets.archive.method: 'GET' is none of POST, PUT, PATCH",
        "36:11: targets.archive.body: does not compile: unexpected 'end of template' "
        "(line 1 of the template)",
        "37:18: targets.archive.concurrency: '1.5' is not a whole number",
        "38:3: targets.pager.url: is missing",
        f"39:11: targets.pager.type: unknown type 'sms', {A_TYPE}",
        "41:12: defaults.notify[0]: unknown target 'studoi', did you mean 'studio'?",
        "42:12: defaults.events[0]: 'finished' is none of completed, failed, missing, stalled",
        "43:10: alerts[0]: unknown target 'nobody'",
        "45:15: watch[0].audio_id: 'one' is not an audio_id: expected user:ID-pixverse:EMAIL-music:NUMBER",
        "46:11: watch[0].name: '' is empty",
        "47:14: watch[0].notify[0]: unknown target 'archiv', did you mean 'archive'?",
        "48:14: watch[0].events[0]: 'miss' is none of completed, failed, missing, stalled, "
        "did you mean 'missing'?",
        "49:15: watch[0].interval: 2d is above poll.max_interval, 1h",
        "50:5: watch[0].colour: unknown key 'colour'",
        "51:5: watch[1]: 'one' is not an audio_id: expected user:ID-pixverse:EMAIL-music:NUMBER",
        "51:5: watch[1]: the same audio_id as watch[0]",
        "53:15: watch[3].audio_id: the same audio_id as watch[2]",
        "55:13: watch[3].notify: expected a list, found text",
        "56:8: state: '' is empty",
        f"57:16: http.listen: '80' {ADDRESS}",
        "57:27: http.hosts: expected a list, found text",
        "58:1: callback.listen: is missing",
        "58:1: callback.path: is missing",
        "59:14: log.level: 'loud' is none of debug, info, warning, error",
        "59:28: log.format: 'pretty' is none of auto, console, logfmt, json",
        "59:42: log.colour: unknown key 'colour'",
        "59:50: log.colour: the tag !red is not supported",
        "60:1: logs: unknown key 'logs', did you mean 'log'?",
    ]


# ---------------------------------------------------------- each key of the complete file, one at a time

Path_ = tuple[str | int, ...]
COMPLETE: dict[str, Any] = yaml.safe_load(EVERYTHING)


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        yield from leaves(member, (*path, key))
    if not members:
        yield path


def mappings(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    if isinstance(value, dict):
        yield path
    for key, member in members:
        yield from mappings(member, (*path, key))


def at(value: Any, path: Path_) -> Any:
    for step in path:
        value = value[step]
    return value


def spelt(path: Path_) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def with_value(path: Path_, value: Any) -> str:
    """Write the complete file with another value at one place."""
    data = copy.deepcopy(COMPLETE)
    at(data, path[:-1])[path[-1]] = value
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


LEAVES = [*leaves(COMPLETE)]
FREE_FORM = [("targets",), ("targets", "archive", "headers")]
"""Mappings whose keys are the owner's to choose."""


def test_the_complete_file_is_as_complete_as_the_model_knows() -> None:
    config = loaded(EVERYTHING).config
    sections = [config, config.useapi, config.poll, config.delivery, config.defaults, config.http, config.log]
    for section in [*sections, config.watch[0], *config.targets.values()]:
        assert section is not None
        assert section.model_fields_set == set(type(section).model_fields)


@pytest.mark.parametrize("path", LEAVES, ids=spelt)
def test_any_value_may_be_a_reference_that_check_judges_by_its_form(path: Path_) -> None:
    text = with_value(path, "${env:NOBODY_SET_THIS}")
    assert loaded(text, {}, resolve=False).warnings == ()


@pytest.mark.parametrize("path", LEAVES, ids=spelt)
def test_a_reference_to_nothing_is_one_mistake_that_names_the_key(path: Path_) -> None:
    (line,) = mistakes(with_value(path, "${env:NOBODY_SET_THIS}"))
    assert line.endswith(f": {spelt(path)}: the environment variable NOBODY_SET_THIS is missing or empty")


@pytest.mark.parametrize("path", LEAVES, ids=spelt)
def test_a_malformed_reference_is_a_mistake_with_or_without_resolving(path: Path_) -> None:
    text = with_value(path, "${NOBODY_SET_THIS}")
    (line,) = mistakes(text)
    assert f": {spelt(path)}: '${{' starts a reference: write ${{env:NAME}}" in line
    assert mistakes(text, {}, resolve=False) == [line]


@pytest.mark.parametrize("path", LEAVES, ids=spelt)
@pytest.mark.parametrize(
    "canary", ["hunter2 ü <&*>", "hunter2", "99d", "-7", "{{ hunter2 ü }}", "https://hunter2.example"]
)
def test_a_referenced_value_is_shown_by_no_message_and_no_repr(path: Path_, canary: str) -> None:
    text = with_value(path, "${env:CANARY}")
    try:
        told = repr(loaded(text, {**ENVIRONMENT, "CANARY": canary}))
    except InvalidConfigError as error:
        told = "\n".join([*error.lines(), repr(error), *traceback.format_exception(error)])
    assert canary not in told
    assert "hunter2" not in told


@pytest.mark.parametrize("value", [{"zzz": 1}, [["zzz"]], None], ids=["a mapping", "a list", "nothing"])
@pytest.mark.parametrize("path", LEAVES, ids=spelt)
def test_a_value_of_another_kind_is_a_mistake_at_its_key(path: Path_, value: Any) -> None:
    found = mistakes(with_value(path, value))
    assert {name.startswith(spelt(path)) for name in paths_of(found)} == {True}


@pytest.mark.parametrize("path", [path for path in mappings(COMPLETE) if path not in FREE_FORM], ids=spelt)
def test_an_unknown_key_is_a_mistake_in_every_mapping(path: Path_) -> None:
    (line,) = mistakes(with_value((*path, "zzz"), "1"))
    assert line.endswith(f": {spelt((*path, 'zzz'))}: unknown key 'zzz'")


@pytest.mark.parametrize(
    "path",
    [
        (*path, key)
        for path in mappings(COMPLETE)
        for key in at(COMPLETE, path)
        if path not in FREE_FORM and len(key) > 2
    ],
    ids=spelt,
)
def test_a_misspelt_key_is_suggested_by_its_right_name(path: Path_) -> None:
    *parent, key = path
    found = mistakes(with_value((*parent, f"{key}e"), "x"))
    assert any(line.endswith(f": unknown key '{key}e', did you mean '{key}'?") for line in found)


# ------------------------------------------------------------------------------- references and secrets


def test_references_stand_in_every_kind_of_value() -> None:
    environment = {
        "TOKEN": "abc\n",
        "COUNT": "7",
        "WAIT": "20s",
        "RATE": "1/s",
        "KIND": "webhook",
        "HOST": "example.com",
        "TRACK": TRACK,
        "NAME": "null",
        "ROOM": "a",
        "EVENT": "missing",
        "HTTP": "127.0.0.1:8720",
        "LEVEL": "debug",
        "NUMBER": "456",
    }
    text = """
useapi: {token: "${env:TOKEN}", concurrency: "${env:COUNT}", timeout: "${env:WAIT}", rate: "${env:RATE}"}
targets: {a: {type: "${env:KIND}", url: "https://${env:HOST}/$$1", headers: {X: "${env:NAME}!"}}}
alerts: ["${env:ROOM}"]
watch:
  - audio_id: ${env:TRACK}
    name: ${env:NAME}
    events: ["${env:EVENT}"]
  - user:123-pixverse:me@example.com-music:${env:NUMBER}0
http: ${env:HTTP}
log:
  level: ${env:LEVEL}
  format: ${env:FORMAT:-json}
"""
    config = loaded(text, environment).config
    assert (config.useapi.token, config.useapi.concurrency) == (Secret("abc"), 7)
    assert (config.useapi.timeout, config.useapi.rate.text) == (timedelta(seconds=20), "1/s")
    (hook,) = config.targets.values()
    assert isinstance(hook, Webhook)
    assert (hook.url, hook.headers) == (Secret("https://example.com/$1"), {"X": Secret("null!")})
    assert config.alerts == ("a",)
    assert [watch.audio_id for watch in config.tracks] == [TRACK, f"{TRACK}0"]
    assert config.watch[0].name == "null"
    assert config.events_of(config.watch[0]) == {EventType.MISSING}
    assert config.http is not None
    assert config.http.listen.port == 8720
    assert (config.log.level, config.log.format) == ("debug", "json")


def test_references_are_expanded_once_and_in_values_only(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("${env:TOKEN}\n")
    text = watching(f"audio_id: {TRACK}\n    name: ${{file:{tmp_path}/name}}")
    assert loaded(text).config.watch[0].name == "${env:TOKEN}"
    (line,) = mistakes(BASE + "${env:TOKEN}: 1\n")
    assert line == "w:4:1: ${env:TOKEN}: unknown key '${env:TOKEN}'"


@pytest.mark.parametrize(
    ("written", "name"),
    [("5$", "5$"), ("$HOME", "$HOME"), ("$$5", "$5"), ("$${env:TOKEN}", "${env:TOKEN}"), ("a$$$$b", "a$$b")],
)
def test_a_dollar_is_a_dollar(written: str, name: str) -> None:
    text = watching(f"audio_id: {TRACK}\n    name: {written}")
    assert loaded(text).config.watch[0].name == name
    assert loaded(text, {}, resolve=False).config.watch[0].name == name


def test_what_came_from_references_and_what_targets_hold_are_secrets() -> None:
    secrets = loaded(EVERYTHING).secrets
    assert set(ENVIRONMENT.values()) <= set(secrets)
    assert {"https://example.com/hooks/music", "slackhunter2", "discordhunter2"} <= set(secrets)
    # what is there to be shown is none: names, tracks, and headers that are written out
    assert not {"Intro theme", TRACK, "music", "studio", "/srv/notifier/state.db"} & set(secrets)


def test_a_value_that_is_only_a_part_of_a_secret_is_a_secret_too() -> None:
    text = webhook("headers: {Authorization: 'Bearer ${env:TOKEN}'}")
    secrets = loaded(text).secrets
    assert {ENVIRONMENT["TOKEN"], f"Bearer {ENVIRONMENT['TOKEN']}"} <= set(secrets)


def test_a_track_and_its_label_may_come_from_references_and_be_shown() -> None:
    text = watching("audio_id: ${env:ID}\n    name: ${env:NAME}")
    secrets = loaded(text, {"ID": TRACK, "NAME": "Intro theme"}).secrets
    assert not {TRACK, "Intro theme"} & set(secrets)


def test_nothing_secret_shows_in_the_repr_of_what_was_loaded() -> None:
    result = loaded(EVERYTHING)
    shown = " ".join(map(repr, [result, result.config, result.config.useapi, result.config.targets]))
    assert "hunter2" not in shown
    assert "example.com" not in shown
    assert "hunter2" not in str(result.config.targets["archive"])


def test_a_file_that_is_only_checked_reads_no_secret(tmp_path: Path) -> None:
    text = MINIMAL.replace("${env:TOKEN}", f"${{file:{tmp_path}/missing}}")
    result = loaded(text, {}, resolve=False)
    assert (result.secrets, result.warnings) == ((), ())


def test_a_check_still_judges_what_is_written_out() -> None:
    text = EVERYTHING.replace("12s", "12x").replace("Intro theme", "''").replace("[studio]", "[studoi]")
    found = mistakes(text, {}, resolve=False)
    assert paths_of(found) == ["poll.interval", "alerts[0]", "watch[0].name"]


def test_a_check_judges_the_rest_of_a_target_whose_type_is_a_reference() -> None:
    target = "{type: '${env:KIND}', url: nowhere, foo: 1, secret: x, mention: [y]}"
    text = f"{USEAPI}{WATCH}targets:\n  a: {target}\n"
    assert mistakes(text, {}, resolve=False) == [
        "w:4:33: targets.a.url: is not a URL: expected it to start with https:// or http://",
        "w:4:42: targets.a.foo: unknown key 'foo'",
    ]
    text = text.replace("nowhere, foo: 1", "'https://example.com'") + "alerts: [a]\n"
    assert loaded(text, {}, resolve=False).config.alerts == ("a",)


@pytest.mark.parametrize(
    "body",
    [
        "{% hunter2 %}",
        "{{ 1 | hunter2 }}",
        "{{ 1 hunter2 }}",
        "{{ event.hunter2.x() }}",
        "hunter2",
        '{"hunter2',
    ],
)
def test_a_template_from_a_reference_is_judged_and_not_shown(body: str) -> None:
    (line,) = mistakes(webhook("body: ${env:BODY}"), {"BODY": body})
    assert line.startswith("w:5:11: targets.a.body: ")
    assert "hunter2" not in line


def test_a_wrong_type_from_a_reference_is_not_shown() -> None:
    text = f"{USEAPI}{WATCH}targets:\n  a: {{type: '${{env:KIND}}', url: 'https://example.com'}}\n"
    (line,) = mistakes(text, {"KIND": "hunter2"})
    assert line == f"w:4:13: targets.a.type: unknown type, {A_TYPE}"


def test_the_state_file_is_known_wherever_its_reference_leads_somewhere() -> None:
    text = f"{BASE}state: ${{env:STATE_HOME}}/state.db\n"
    for resolve in (True, False):
        assert loaded(text, {"STATE_HOME": "/srv"}, resolve=resolve).config.state == "/srv/state.db"
    assert loaded(text, {}, resolve=False).config.state == "${env:STATE_HOME}/state.db"
    assert mistakes(text, {}) == ["w:4:8: state: the environment variable STATE_HOME is missing or empty"]


def test_a_mistake_in_one_reference_hides_no_other() -> None:
    text = MINIMAL.replace("token: ${env:TOKEN}", "token: ${env:A}${env:B}\n  rate: quick").replace(
        "${env:SLACK_URL}", "${file:relative}"
    )
    assert mistakes(text) == [
        "w:2:10: useapi.token: the environment variable A is missing or empty",
        "w:3:9: useapi.rate: 'quick' is not a rate: write it like 5/s, 30/m or 100/h",
        "w:7:10: targets.band-room.url: ${file:…} wants an absolute path",
    ]


# ----------------------------------------------------------------------------------- broken files, any bytes


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\xff\xfeu\x00s\x00", "w:1:1: is not UTF-8 text"),
        (b"watch: []\nname: caf\xe9\n", "w:2:10: is not UTF-8 text"),
        ("é: ü".encode() + b"\xff", "w:1:5: is not UTF-8 text"),
        (b"a: 1\r\nb: \x80", "w:2:4: is not UTF-8 text"),
        (b"a: \xed\xa0\x80", "w:1:4: is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "w:1:1: is not UTF-8 text"),
        (b"watch: \x00\n", "w:1:8: YAML: the character U+0000 is not allowed"),
        (b"\x7fELF", "w:1:1: YAML: the character U+007F is not allowed"),
        (b"useapi:\n\ttoken: abc\n", "w:2:1: YAML: a tab cannot indent, use spaces"),
        (b"alerts: [${env:A}]\n", "w:1:11: YAML: inside [] and {} a value with '${' needs quotes"),
        (b"useapi: {token: ${env:A}}\n", "w:1:18: YAML: inside [] and {} a value with '${' needs quotes"),
        (b"[" * 500, "w:1:41: " + "[0]" * 40 + ": nested deeper than 40 levels"),
        (b"#" * (64 * 1024 * 1024 + 1), "w:1:1: is larger than 64 MiB"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value[:20]),
)
def test_what_is_no_yaml_is_one_mistake_with_its_place(content: bytes, line: str) -> None:
    assert mistakes(content) == [line]


def test_a_file_nested_beyond_what_the_parser_looks_ahead_is_one_mistake() -> None:
    (line,) = mistakes(b"[" * 100_000)
    assert re.fullmatch(r"w:1:\d+: (\S+: )?nested deeper than 40 levels", line)


def test_duplicate_keys_are_told_beside_what_else_is_wrong() -> None:
    text = f"{BASE}poll: {{interval: 5x, interval: 6x}}\nwatch: [x]\nalerts: [b]\n"
    assert mistakes(text) == [
        f"w:4:18: poll.interval: '5x' {FORM}",
        "w:4:22: poll.interval: appears a second time, first in line 4",
        "w:5:1: watch: appears a second time, first in line 3",
        "w:6:10: alerts[0]: unknown target 'b'",
    ]


def test_a_merged_mistake_is_told_where_it_was_written() -> None:
    text = f"{USEAPI}{WATCH}targets:\n  a: &a\n    type: slack\n    url: nowhere\n  b:\n    <<: *a\n"
    sentence = "is not a URL: expected it to start with https:// or http://"
    assert mistakes(text) == [f"w:6:10: targets.a.url: {sentence}", f"w:6:10: targets.b.url: {sentence}"]


def told_well(error: InvalidConfigError, content: bytes) -> None:
    """Assert that each mistake is one line of plain text with a place in the file."""
    assert error.mistakes
    last = place_after(content.decode("utf-8", "replace")).line
    for mistake, line in zip(error.mistakes, error.lines(), strict=True):
        assert line.isprintable()
        assert 1 <= mistake.place.line <= last + 1
        assert mistake.place.column >= 1
        assert line.startswith(f"w:{mistake.place.line}:{mistake.place.column}: ")
        assert mistake.message


FRAGMENTS = [
    *(
        "\t",
        "\x01",
        "\u2028",
        "*a",
        "&a ",
        "<<: *a\n",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "!!x ",
        "? ",
        ": ",
        "- ",
    ),
    *(
        "${env:TOKEN}",
        "${",
        "$$",
        "|\n",
        "\n",
        "\r",
        "---\n",
        "#",
        "@",
        ",",
        "null",
        "12:30",
        "yes",
        "\ufeff",
    ),
    *("type", "url", "watch:", "account: x\n", "https://", "user:1-pixverse:a@b-music:1", "  "),
]
edits = st.lists(
    st.tuples(
        st.integers(0, len(EVERYTHING)),
        st.integers(0, 40),
        st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300)
@given(edits, st.booleans())
def test_a_file_damaged_anywhere_gives_settings_or_mistakes_and_never_a_traceback(
    damage: list[tuple[int, int, str]], resolve: bool
) -> None:
    text = EVERYTHING
    for start, length, replacement in damage:
        text = text[:start] + replacement + text[start + length :]
    content = text.encode()
    try:
        loaded(content, resolve=resolve)
    except InvalidConfigError as error:
        told_well(error, content)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@example(b"\xef\xbb\xbf")
@example(b"?")
@example(b"- - - ?")
@example(b"&a")
@example(b"'\\")
@example(b"%TAG ! !")
def test_any_bytes_are_refused_with_mistakes_and_never_with_a_traceback(content: bytes) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        loaded(content)
    told_well(caught.value, content)


KEYS = [
    "useapi",
    "poll",
    "targets",
    "a",
    "type",
    "url",
    "watch",
    "audio_id",
    "notify",
    "events",
    "http",
    "<<",
    "log",
]
STRUCTURES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["slack", "webhook", "a", "${env:TOKEN}", "15s", TRACK, "[key]"]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from([*KEYS, "[key]", "slack", "0"]), st.text(max_size=3)), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*COMPLETE]), STRUCTURES, min_size=1), st.booleans())
def test_any_structure_under_known_keys_gives_settings_or_mistakes(
    data: dict[str, Any], resolve: bool
) -> None:
    content = yaml.safe_dump({**yaml.safe_load(MINIMAL), **data}).encode()
    try:
        loaded(content, resolve=resolve)
    except InvalidConfigError as error:
        told_well(error, content)


# ---------------------------------------------------------------------------------------------------- files


def test_a_file_is_loaded_with_the_digest_of_its_content(tmp_path: Path) -> None:
    file = tmp_path / "watchlist.yaml"
    file.write_text(MINIMAL)
    result = load(str(file), sources=Sources(ENVIRONMENT))
    assert result.digest == digest_of(MINIMAL.encode())
    assert result.config == loaded(MINIMAL).config


def test_the_environment_of_the_process_is_where_references_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "watchlist.yaml"
    file.write_text(MINIMAL)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert load(str(file)).config.useapi.token == Secret(ENVIRONMENT["TOKEN"])


def test_mistakes_name_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text(BASE + "x: 1\n")
    for given_ in ("list.yaml", "./list.yaml", str(tmp_path / "list.yaml")):
        with pytest.raises(InvalidConfigError) as caught:
            load(given_)
        assert caught.value.lines() == [f"{given_}:4:1: x: unknown key 'x'"]
        assert caught.value.digest == digest_of((BASE + "x: 1\n").encode())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.yaml", "No such file or directory"),
        (".", "Is a directory"),
        ("file/inside", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake_too(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    file = os.path.join(tmp_path, name)
    with pytest.raises(InvalidConfigError) as caught:
        load(file)
    assert caught.value.lines() == [f"{file}:1:1: cannot be read: {reason}"]
    assert caught.value.digest == ""


@pytest.mark.parametrize(("mode", "count"), [(0o644, 2), (0o604, 2), (0o640, 0), (0o600, 0)])
def test_who_can_read_a_file_is_seen_from_its_mode(tmp_path: Path, mode: int, count: int) -> None:
    file = tmp_path / "watchlist.yaml"
    file.write_text(BASE)
    file.chmod(mode)
    assert len(load(str(file)).warnings) == count
