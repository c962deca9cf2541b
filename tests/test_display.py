"""What the commands print on a real terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import environment
from tests.support.tracks import audio_id


def on_a_terminal(*arguments: str, **extra: str) -> str:
    """Run a command on a pseudo terminal of 120 columns and return what it wrote there."""
    ours, theirs = pty.openpty()
    variables = environment({"TERM": "xterm-256color", "COLUMNS": "120", **extra})
    process = subprocess.Popen(
        [sys.executable, "-m", "notifier", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal is gone with its last user
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


@pytest.fixture
def watchlist(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_text(
        f"""useapi: {{token: "${{env:T}}"}}
targets: {{archive: {{type: webhook, url: "${{env:U}}"}}}}
watch: [{{audio_id: "{audio_id(1)}", name: "Name with \\e[31m an escape"}}]
state: {tmp_path}/state.db
"""
    )
    return file


def test_status_is_a_table_with_headings_and_colour(watchlist: Path) -> None:
    shown = on_a_terminal("status", "-c", str(watchlist))
    assert "\x1b[1mTracks" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(r"name +status +changed +audio_id", plain)
    assert re.search(r"archive +webhook +open +0 +0 +0", plain)
    assert f"Name with [31m an escape  UNKNOWN  —        {audio_id(1)}" in plain
    assert "no deliveries" in on_a_terminal("deliveries", "-c", str(watchlist))


def test_no_color_is_honoured(watchlist: Path) -> None:
    shown = on_a_terminal("status", "-c", str(watchlist), NO_COLOR="1")
    assert "UNKNOWN" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_json_has_no_colour_on_a_terminal_either(watchlist: Path) -> None:
    assert "\x1b" not in on_a_terminal("status", "--json", "-c", str(watchlist))
