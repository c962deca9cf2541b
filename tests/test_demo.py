import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from notifier.event import Event, EventType
from notifier.simulation import FATES, TOKEN, Receivers, SimulatedApi, World
from tests.support.hostile import NOW
from tests.support.process import command, environment
from tests.support.servers import PATIENCE
from tests.support.tracks import completed, failed
from tests.targets.given import make, news

NAMES = ("Intro theme", "Rooftop chase", "Boss fight", "Yesterday's ballad", "Lost tape", "Endless drone")


async def test_the_demo_shows_every_message_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code, out, err = await command("demo", "--speed", "25", extra={"TMPDIR": str(tmp_path)})
    assert (code, err) == (0, ""), out
    ending = re.search(
        r"^19 messages received, 0 lost, 0 repeated; (\d+) requests to the API, "
        r"one outage and one rate limit on the way\.$",
        out,
        re.MULTILINE,
    )
    assert ending
    assert int(ending[1]) < 30, "one by one the tracks would take more than 35"
    for expected in (
        "✅ Intro theme is ready",
        "❌ Boss fight failed",
        "❌ Lost tape is missing",
        "⚠️ Endless drone is still GENERATING",
        "track.completed  Yesterday's ballad  new → COMPLETED",
        "answers 503 for a while",
        "answers 429: retry after",
    ):
        assert expected in out
    assert all(name in out for name in NAMES)
    assert "\x1b[" not in out
    assert list(tmp_path.iterdir()) == []


async def test_the_demos_track_that_is_to_stall_is_shown_to_have_stalled_however_late_it_is_read() -> None:
    """Of a daemon that takes ten seconds to come up, too: the clock waits for its first read."""
    world = World(25, lambda _who, _what: None)
    async with TestClient(TestServer(SimulatedApi(world).app())) as client:

        async def status() -> str:
            path = f"/v2/pixverse/music/{FATES[-1].audio_id}"
            answer = await client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
            return str((await answer.json())["audio_status_name"]) if answer.ok else answer.reason or ""

        assert world.now() == 0
        seen = [await status()]
        for _ in range(3):
            assert world.started is not None
            world.started -= 60
            seen.append(await status())
    assert seen == ["QUEUED", "Service Unavailable", "GENERATING", "COMPLETED"]


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_text(errors="replace")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_demo_that_is_ended_early_leaves_no_daemon_and_no_files(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "notifier", "demo"),
        stdout=asyncio.subprocess.PIPE,
        env=environment({"TMPDIR": str(tmp_path)}),
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while b"archive" not in await process.stdout.readline():
            pass  # the daemon is at work once the first message has come
        process.send_signal(number)
        await process.stdout.read()
        assert await process.wait() == 1
    assert list(tmp_path.iterdir()) == []
    assert [one for one in command_lines() if str(tmp_path) in one] == []


READY = news(
    fields=completed(prompt="Double bass & sirens <@here> *now*\n\n1. again"),
    name="Rooftop chase",
    audio_id="user:1-pixverse:a_b@example.com-music:1",
)
FAILED = news(
    EventType.FAILED,
    failed(fail_reason="Out of patience <!channel> &amp; [so](it) goes"),
    name="Boss fight",
    audio_id="user:1-pixverse:a_b@example.com-music:2",
)
RECEIVED = [("track.completed", "Rooftop chase"), ("track.failed", "Boss fight")]

SLACK_CARDS = [
    [
        "✅ Rooftop chase is ready",
        "Listen (https://media.pixverse.ai/pixverse/audio/music/1.mp3)"
        "  Length 3:22  ·  Model music-2.6  ·  Credits 40  ·  Took 3:22",
        "“Double bass & sirens <@here> *now*",
        "",
        "1. again”",
        "`user:1-pixverse:a_b@example.com-music:1`  2026-06-23 12:38 UTC",
    ],
    [
        "❌ Boss fight failed",
        "Code music_generation_failed  ·  Model music-2.6  ·  Credits 40",
        "Out of patience <!channel> &amp; [so](it) goes",
        "“warm pads”",
        "Submitting the same request again often works."
        "  `user:1-pixverse:a_b@example.com-music:2`  2026-06-23 12:38 UTC",
    ],
]
DISCORD_CARDS = [
    [
        "✅ Rooftop chase is ready (https://media.pixverse.ai/pixverse/audio/music/1.mp3)",
        "> Double bass & sirens <@here> *now*",
        "> ",
        "> 1. again",
        "`user:1-pixverse:a_b@example.com-music:1`",
        "Length 3:22  ·  Model music-2.6  ·  Credits 40  ·  Took 3:22",
        "2026-06-23 12:38 UTC",
    ],
    [
        "❌ Boss fight failed",
        "Out of patience <!channel> &amp; [so](it) goes",
        "> warm pads",
        "Submitting the same request again often works.",
        "`user:1-pixverse:a_b@example.com-music:2`",
        "Code music_generation_failed  ·  Model music-2.6  ·  Credits 40",
        "2026-06-23 12:38 UTC",
    ],
]
PLAIN = [
    [
        "✅ Rooftop chase is ready (3:22, music-2.6)",
        "user:1-pixverse:a_b@example.com-music:1",
        "https://media.pixverse.ai/pixverse/audio/music/1.mp3",
    ],
    [
        "❌ Boss fight failed (music-2.6): Out of patience <!channel> &amp; [so](it) goes",
        "Submitting the same request again often works.",
        "user:1-pixverse:a_b@example.com-music:2",
    ],
]


def in_backticks(parts: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[f"`{line}`" if line.startswith("user:") else line for line in part] for part in parts]


SUMMED_UP = [
    "✅ Rooftop chase is ready (3:22){gap}Listen (https://media.pixverse.ai/pixverse/audio/music/1.mp3)",
    "❌ Boss fight failed: Out of patience <!channel> &amp; [so](it) goes{gap}"
    "`user:1-pixverse:a_b@example.com-music:2`",
]


async def shown(kind: str, events: Sequence[Event], *, is_plain: bool) -> tuple[list[list[str]], World]:
    """Post a message of a target, again when the rate is limited; return the parts that the demo shows."""
    said: list[tuple[str, str]] = []
    world = World(1, lambda who, what: said.append((who, what)))
    url = {
        "slack": "https://hooks.slack.com/services/T/B/x",
        "discord": "https://discord.com/api/webhooks/1/x",
    }
    request = make(kind, url=url[kind]).render(events, now=NOW, is_plain=is_plain)
    assert request.event_count == len(events)
    async with TestClient(TestServer(Receivers(world).app())) as client:
        while (await client.post(f"/{kind}", data=request.body)).status == 429:
            assert said.pop()[1] == "answers 429: retry after 0.6 s"
    assert {who for who, _ in said} == {{"slack": "Slack  band-room", "discord": "Discord  studio"}[kind]}
    return [what.split("\n") for _, what in said], world


@pytest.mark.parametrize(
    ("kind", "is_plain", "parts"),
    [
        ("slack", False, SLACK_CARDS),
        ("slack", True, PLAIN),
        ("discord", False, DISCORD_CARDS),
        ("discord", True, in_backticks(PLAIN)),
    ],
)
async def test_the_demo_shows_a_message_as_its_reader_would_see_it(
    kind: str, is_plain: bool, parts: list[list[str]]
) -> None:
    said, world = await shown(kind, [READY, FAILED], is_plain=is_plain)
    assert said == parts
    assert [message[1:] for message in world.received] == RECEIVED


@pytest.mark.parametrize(("kind", "gap"), [("slack", "  "), ("discord", " ")])
async def test_the_demo_shows_and_counts_every_event_of_a_message_that_sums_up(kind: str, gap: str) -> None:
    (lines,), world = await shown(kind, [READY, FAILED] * 24, is_plain=False)
    lines.remove("2026-06-23 12:38 UTC")
    expected = [line.format(gap=gap) for line in SUMMED_UP]
    assert lines == ["⚠️ 48 updates: 24 ready, 24 failed", *expected * 24]
    assert [message[1:] for message in world.received] == RECEIVED * 24
