"""What the settings say to the rest of the program; reading them is tested in `tests.test_loading`."""

from datetime import timedelta

import pytest

from notifier.event import EventType
from tests.support.watchlists import ENVIRONMENT, MINIMAL, TRACK, loaded

TWO_TARGETS = MINIMAL.replace("watch: []\n", "  studio: {type: discord, url: '${env:DISCORD_URL}'}\n")
TOLD = {EventType.COMPLETED, EventType.FAILED}


@pytest.mark.parametrize(
    ("defaults", "entry", "targets"),
    [
        ("", "", ("band-room", "studio")),
        ("notify: [studio]", "", ("studio",)),
        ("notify: []", "", ()),
        ("notify: [studio]", "notify: [band-room]", ("band-room",)),
        ("notify: [studio]", "notify: []", ()),
        ("", "notify: [studio, band-room, studio]", ("studio", "band-room")),
    ],
)
def test_a_watch_tells_its_own_targets_else_the_default_ones_else_all(
    defaults: str, entry: str, targets: tuple[str, ...]
) -> None:
    watch = f"watch: [{{audio_id: '{TRACK}', {entry}}}]\n"
    config = loaded(f"{TWO_TARGETS}defaults: {{{defaults}}}\n{watch}").config
    assert config.notified(config.watch[0]) == targets


@pytest.mark.parametrize(
    ("defaults", "entry", "events"),
    [
        ("", "", TOLD),
        ("events: [stalled]", "", {EventType.STALLED}),
        ("events: [stalled]", "events: [missing, failed]", {EventType.MISSING, EventType.FAILED}),
        ("events: []", "", set()),
        ("", "events: []", set()),
    ],
)
def test_a_watch_tells_its_own_events_else_the_default_ones(
    defaults: str, entry: str, events: set[EventType]
) -> None:
    watch = f"watch: [{{audio_id: '{TRACK}', {entry}}}]\n"
    config = loaded(f"{TWO_TARGETS}defaults: {{{defaults}}}\n{watch}").config
    assert config.events_of(config.watch[0]) == events


def test_a_watch_is_read_at_its_own_interval_else_the_common_one() -> None:
    watch = f"watch: [{{audio_id: '{TRACK}', interval: 25s}}, '{TRACK}0']\n"
    config = loaded(f"{TWO_TARGETS}poll: {{interval: 20s}}\n{watch}").config
    assert [config.interval_of(each) for each in config.watch] == [
        timedelta(seconds=25),
        timedelta(seconds=20),
    ]


def test_the_token_and_what_targets_hold_are_the_secrets() -> None:
    secrets = set(loaded(f"{TWO_TARGETS}watch:\n").config.secrets())
    assert {ENVIRONMENT["TOKEN"], ENVIRONMENT["SLACK_URL"], ENVIRONMENT["DISCORD_URL"]} <= secrets
    assert {"slackhunter2", "discordhunter2", "/api/webhooks/1234567890/discordhunter2"} <= secrets
