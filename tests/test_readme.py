"""What README.md and config/ show works as shown, and messages look as shown."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from notifier.cli import main
from notifier.delivery import TargetBroken
from notifier.event import Alert, Event, EventType, alert_event
from notifier.loading import load_content
from notifier.metrics import Metrics
from notifier.narrator import Narrator
from notifier.sample import sample_event
from notifier.secret import Sources
from tests.support import looks
from tests.support.clocks import ManualClock
from tests.support.hostile import NOW
from tests.support.tracks import completed, failed, track
from tests.targets.given import answer, make, news, payload_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """Return the fenced blocks of a language, without the indentation of the list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_watchlist_in_the_readme_is_valid(text: str) -> None:
    loaded = load_content(text.encode(), "README.md", resolve=False, sources=Sources({}))
    assert loaded.config.watch
    assert loaded.warnings == ()


def test_the_two_set_up_commands_stand_where_a_newcomer_looks() -> None:
    for name, command in (("run", "notifier demo"), ("test", "pytest")):
        found = re.search(rf"<!-- newcomer: {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
        assert found is not None
        assert command in found[1].splitlines()[-1]


def test_every_command_that_exists_is_in_the_readme_and_no_other() -> None:
    table = README.partition("## Commands")[2].partition("##")[0]
    named = set(re.findall(r"^\| `notifier (\w+)", table, re.MULTILINE))
    assert named == set(main.commands)


def test_every_link_to_a_file_leads_to_one() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).is_file(), target


def test_the_picture_of_the_page_is_small() -> None:
    (picture,) = [ROOT / name for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size <= 150 * 1024


READ_AT = datetime(2026, 6, 23, 17, 0, tzinfo=timezone(timedelta(hours=2)))
"""A reader in Berlin, in summer. NB: a fixed offset, for machines without a database of time zones."""
SLACK = make("slack", url="https://hooks.slack.com/services/T0/B0/secret")
DISCORD = make("discord", url="https://discord.com/api/webhooks/1/secret")

INTRO = completed(
    prompt="A slow synthwave intro: warm pads, a distant saxophone, rain on the windows",
    updated_at="2026-06-23T12:37:26Z",
)
BOSS = failed(
    prompt="Orchestra & distorted guitars, choir in Latin",
    updated_at="2026-06-23T12:36:46Z",
    fail_reason="The backend was busy and gave up on this track",
)
DRONE = track(prompt="One chord, for ever", created_at="2026-06-23T12:08:20Z")
TAPE = track(prompt="Lo-fi hiss and a music box")


def audio_id(number: int) -> str:
    return f"user:123-pixverse:me@example.com-music:{number}"


READY = news(EventType.COMPLETED, INTRO, name="Intro theme", audio_id=audio_id(456))
FAILED = news(EventType.FAILED, BOSS, name="Boss fight", audio_id=audio_id(457))
STALLED = news(EventType.STALLED, DRONE, name="Endless drone", audio_id=audio_id(458))
MISSING = news(EventType.MISSING, TAPE, name="Lost tape", audio_id=audio_id(459), status="MISSING")
TEST = sample_event(is_completed=True, event_type=EventType.TEST)


def sketch(number: int) -> Event:
    """Return what became of one of many tracks of the evening before; one in sixteen has failed."""
    if number % 16 == 2:
        kind, fields = EventType.FAILED, failed(fail_reason="The backend was busy")
    else:
        kind, fields = EventType.COMPLETED, completed(duration=150 + number)
    fields |= {"created_at": "2026-06-22T18:50:00Z", "updated_at": f"2026-06-22T19:{number:02}:00Z"}
    return news(kind, fields, name=f"Sketch {number}", audio_id=audio_id(number))


BACKLOG = [sketch(number) for number in range(1, 49)]


def in_slack(*events: Event) -> str:
    return "\n".join(looks.slack(payload_of(SLACK.render(events, now=READ_AT)), READ_AT))


def in_discord(*events: Event) -> str:
    return "\n".join(looks.discord(payload_of(DISCORD.render(events, now=READ_AT)), READ_AT))


def on_a_phone(event: Event) -> str:
    return "\n".join(looks.notification(payload_of(SLACK.render([event], now=READ_AT))))


def beginning(message: str, line_count: int) -> str:
    """Return the first lines and how many more there are."""
    lines = message.split("\n")
    return "\n".join([*lines[:line_count], f"… {len(lines) - line_count} more lines"])


async def alerts_of_a_pause() -> list[Event]:
    """Return what is told of a Slack channel whose webhook was revoked, and once it has another."""
    told: list[Event] = []

    async def report(alert: Alert) -> None:
        told.append(alert_event(alert, NOW))

    revoked = SLACK.classify(answer(404, "no_service"), now=NOW)
    assert isinstance(revoked, TargetBroken)
    narrator = Narrator("band-room", clock=ManualClock(), metrics=Metrics(), report=report)
    await narrator.paused(revoked.reason)
    await narrator.well()
    return told


async def test_messages_look_as_shown() -> None:
    section = README.partition("## What the messages look like")[2].partition("\n## ")[0]
    messages = [
        [on_a_phone(READY) + "\n" + on_a_phone(FAILED)],
        [in_slack(event) for event in (READY, FAILED, STALLED, MISSING, TEST)],
        [in_discord(event) for event in (READY, FAILED, *await alerts_of_a_pause())],
        [beginning(in_slack(*BACKLOG), 5)],
    ]
    for shown, expected in zip(blocks("text", section), messages, strict=True):
        assert shown == "\n\n".join(expected) + "\n"
