from pathlib import Path

from tests.support.process import command

NAMES = ("Intro theme", "Rooftop chase", "Boss fight", "Yesterday's ballad", "Lost tape", "Endless drone")


async def test_the_demo_shows_every_message_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code, out, err = await command("demo", "--speed", "25", extra={"TMPDIR": str(tmp_path)})
    assert (code, err) == (0, ""), out
    assert "19 messages received, 0 lost, 0 repeated" in out
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
