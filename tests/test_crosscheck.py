"""What keys say of each other; the files are read whole, since that is how places come about."""

import pytest

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

NOTHING = "expected an audio_id, found nothing: give it a value or remove the key"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{BASE}alerts: [b]\n", ["w:4:10: alerts[0]: unknown target 'b'"]),
        (
            f"{MINIMAL}alerts: [band-rom, band-room]\n",
            ["w:8:10: alerts[0]: unknown target 'band-rom', did you mean 'band-room'?"],
        ),
        (
            f"{BASE}defaults: {{notify: [a, A]}}\n",
            ["w:4:24: defaults.notify[1]: unknown target 'A', did you mean 'a'?"],
        ),
        (
            watching(f"audio_id: {TRACK}\n    notify: [a, '', 1, ~]"),
            [
                "w:5:17: watch[0].notify[1]: '' is empty",
                "w:5:21: watch[0].notify[2]: unknown target '1'",
                f"w:5:24: watch[0].notify[3]: {NOTHING.replace('an audio_id', 'text')}",
            ],
        ),
        (f"{BASE}alerts: ['${{env:TOKEN}}']\n", ["w:4:10: alerts[0]: unknown target"]),
        # without a list of targets there is nothing to compare with
        (
            f"{USEAPI}{WATCH}targets: []\nalerts: [b]\n",
            ["w:3:10: targets: expected a mapping, found a list"],
        ),
        # a target that is wrong in itself is known all the same
        (
            f"{USEAPI}{WATCH}targets: {{a: {{type: sms, url: 'https://example.com'}}}}\nalerts: [a]\n",
            [f"w:3:21: targets.a.type: unknown type 'sms', {A_TYPE}"],
        ),
    ],
)
def test_a_target_that_does_not_exist_is_a_mistake_where_it_is_named(text: str, lines: list[str]) -> None:
    assert mistakes(text) == lines


def test_the_same_track_twice_is_a_mistake_at_the_second() -> None:
    entries = [TRACK, f"{TRACK}0", f"audio_id: {TRACK}", f"'{TRACK}'", "", ""]
    text = f"{USEAPI}{TARGET}watch:\n" + "".join(f"  - {entry}\n" for entry in entries)
    assert mistakes(text) == [
        "w:6:15: watch[2].audio_id: the same audio_id as watch[0]",
        "w:7:5: watch[3]: the same audio_id as watch[0]",
        f"w:8:4: watch[4]: {NOTHING}",
        f"w:9:4: watch[5]: {NOTHING}",
    ]


def test_the_same_track_from_references_is_noticed_once_they_are_resolved() -> None:
    text = f"{USEAPI}{TARGET}watch: ['${{env:ID}}', '${{env:ID}}']\n"
    assert mistakes(text, {"ID": TRACK}) == ["w:3:22: watch[1]: the same audio_id as watch[0]"]
    assert len(loaded(text, {}, resolve=False).config.watch) == 2


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            polling("interval: 2m\n  max_interval: 1m"),
            ["w:5:13: poll.interval: 2m is above poll.max_interval, 1m"],
        ),
        (polling("interval: 6m"), ["w:5:13: poll.interval: 6m is above the default poll.max_interval, 5m"]),
        (
            polling("max_interval: 10s"),
            ["w:4:1: poll.interval: the default 15s is above poll.max_interval, 10s"],
        ),
        (
            watching(f"audio_id: {TRACK}\n    interval: 5m1s"),
            ["w:5:15: watch[0].interval: 5m1s is above the default poll.max_interval, 5m"],
        ),
        (
            f"{BASE}delivery: {{first_retry: 2h, max_retry: 90m}}\n",
            ["w:4:25: delivery.first_retry: 2h is above delivery.max_retry, 1h30m"],
        ),
        (
            f"{BASE}delivery: {{max_retry: 500ms}}\n",
            ["w:4:1: delivery.first_retry: the default 5s is above delivery.max_retry, 500ms"],
        ),
        # a duration that is none is complained about by itself
        (
            polling("interval: 2x\n  max_interval: 1s"),
            ["w:5:13: poll.interval: '2x' is not a duration: write it like 250ms, 15s, 5m, 2h, 1h30m or 3d"],
        ),
    ],
)
def test_a_shorter_wait_above_the_longest_is_a_mistake(text: str, lines: list[str]) -> None:
    assert mistakes(text) == lines


@pytest.mark.parametrize(
    "text",
    [
        polling("interval: 5m"),
        polling("interval: 60\n  max_interval: 1m"),
        polling("interval: 1h\n  max_interval: 1h"),
        f"{BASE}delivery: {{first_retry: 6h}}\n",
        watching(f"audio_id: {TRACK}\n    interval: 300s"),
    ],
)
def test_equal_waits_are_fine(text: str) -> None:
    assert loaded(text).warnings == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            polling("interval: ${env:LONG}"),
            "w:5:13: poll.interval: the referenced value is above the default poll.max_interval, 5m",
        ),
        (
            polling("interval: 20s\n  max_interval: ${env:SHORT}"),
            "w:5:13: poll.interval: 20s is above poll.max_interval",
        ),
        (
            polling("max_interval: ${env:SHORT}"),
            "w:4:1: poll.interval: the default 15s is above poll.max_interval",
        ),
    ],
)
def test_waits_from_references_are_compared_and_not_shown(text: str, line: str) -> None:
    assert mistakes(text, {"LONG": "7h", "SHORT": "7s"}) == [line]
    assert loaded(text, {}, resolve=False).warnings == ()


@pytest.mark.parametrize("broken", ["watch: x", "watch: {a: b}", "watch: [[x], {audio_id: [y]}]"])
def test_what_cannot_be_compared_hides_nothing_else(broken: str) -> None:
    found = mistakes(f"{USEAPI}{TARGET}{broken}\nalerts: [b]\npoll: {{interval: 1h}}\n")
    assert "alerts[0]" in paths_of(found)
    assert "poll.interval" in paths_of(found)


def warnings(text: str, *, is_public: bool = False) -> list[str]:
    return [warning.line("w") for warning in loaded(text, is_public=is_public).warnings]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (EVERYTHING, []),
        (
            webhook("").replace("https:", "http:"),
            ["w:7:10: targets.a.url: warning: messages travel unencrypted over http://"],
        ),
        (webhook("").replace("https://example.com", "http://127.0.0.1:9/x"), []),
        (webhook("").replace("https://example.com", "http://127.9.9.9/x"), []),
        (webhook("").replace("https://example.com", "http://[::1]:9/x"), []),
        (webhook("").replace("https://example.com", "http://localhost/x"), []),
        (
            webhook("").replace("https://example.com", "http://127.example.com/"),
            ["w:7:10: targets.a.url: warning: messages travel unencrypted over http://"],
        ),
        (
            polling("interval: 4s"),
            ["w:5:13: poll.interval: warning: the vendor asks for 10s to 30s between reads"],
        ),
        (polling("interval: 5s"), []),
        (
            watching(f"audio_id: {TRACK}\n    interval: 4999ms"),
            ["w:5:15: watch[0].interval: warning: the vendor asks for 10s to 30s between reads"],
        ),
        (
            polling("interval: 1s").replace("token: abc", "token: abc, base_url: https://API.useapi.net/v3/"),
            ["w:5:13: poll.interval: warning: the vendor asks for 10s to 30s between reads"],
        ),
        (polling("interval: 1s").replace("token: abc", "token: abc, base_url: http://127.0.0.1:9"), []),
        (f"{BASE}http: 127.0.0.1:8720\n", []),
        (f"{BASE}http: '[::1]:8720'\n", []),
        (
            f"{BASE}http: 0.0.0.0:8720\n",
            ["w:4:7: http: warning: answers to other machines too, without a password"],
        ),
    ],
)
def test_what_is_valid_but_hardly_meant_is_a_warning(text: str, lines: list[str]) -> None:
    assert warnings(text) == lines


PUBLIC = "warning: a secret in a file that everybody can read: use a reference or chmod 640"


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (MINIMAL, []),
        (MINIMAL.replace("${env:TOKEN}", "abc"), ["useapi.token"]),
        (MINIMAL.replace("${env:TOKEN}", "abc-${env:TOKEN}"), []),
        (MINIMAL.replace("${env:SLACK_URL}", ENVIRONMENT["SLACK_URL"]), ["targets.band-room.url"]),
        (
            webhook(f"secret: {ENVIRONMENT['HOOK_SECRET']}"),
            ["useapi.token", "targets.a.url", "targets.a.secret"],
        ),
        (
            webhook(f"secret: ['${{env:HOOK_SECRET}}', {ENVIRONMENT['NEXT_SECRET']}]"),
            ["useapi.token", "targets.a.url", "targets.a.secret[1]"],
        ),
    ],
)
def test_secrets_in_a_file_that_everybody_can_read_are_warned_of(text: str, paths: list[str]) -> None:
    found = warnings(text, is_public=True)
    assert paths_of(found) == paths
    assert all(line.endswith(PUBLIC) for line in found)
    assert warnings(text) == []


def test_a_check_warns_of_what_is_written_out_only() -> None:
    text = webhook("secret: ${env:A}").replace("https://example.com", "${env:B}").replace("abc", "'${env:C}'")
    text += "http: ${env:D}\npoll: {interval: '${env:E}'}\n"
    assert loaded(text, {}, resolve=False, is_public=True).warnings == ()
