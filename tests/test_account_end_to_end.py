"""Accounts that are followed, by the real daemon: what their lists bring is told like a listed track."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogue import ME, Catalogue
from tests.support.process import daemon
from tests.support.servers import Server
from tests.support.tracks import completed, failed, track

Write = Callable[..., Path]


def made(number: int, *, days: int = 0) -> str:
    """Return when a track was made: all in the order of their numbers, shortly before now."""
    ago = timedelta(days=days, hours=1) - timedelta(seconds=number)
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def catalogue(api: Server) -> Catalogue:
    return Catalogue(api)


@pytest.fixture
def write(tmp_path: Path, api: Server, receiver: Server) -> Write:
    """Return what writes the watchlist, with these entries, as an editor does."""

    def write(*entries: dict[str, Any], **more: Any) -> Path:
        hooks = {name: {"type": "webhook", "url": f"{receiver.url}/{name}"} for name in ("band", "other")}
        watchlist = {
            "useapi": {"token": "user:1-abc", "base_url": f"{api.url}/v2/pixverse", "rate": "500/s"},
            "poll": {"interval": "50ms", "max_interval": "200ms", "stalled_after": "3000d"},
            "targets": hooks,
            "defaults": {"notify": ["band"]},
            "alerts": ["other"],
            "state": str(tmp_path / "state.db"),
            "watch": [*entries],
            **more,
        }
        new = tmp_path / "watchlist.new"
        new.write_text(json.dumps(watchlist))
        new.chmod(0o600)
        return new.replace(tmp_path / "watchlist.yaml")

    return write


def told(receiver: Server, path: str = "/band") -> list[tuple[str, str]]:
    """Return the types and names of what a target was told."""
    messages = [request.json() for request in receiver.to(path)]
    return [(one["type"].removeprefix("track."), one["data"].get("name", "")) for one in messages]


async def test_new_tracks_are_told_like_listed_ones_and_old_ones_are_not(
    catalogue: Catalogue, receiver: Server, write: Write
) -> None:
    for number in range(1, 61):
        catalogue.put(completed(number, created_at=made(number)))
    catalogue.put(track(61, created_at=made(61)))
    file = write({"account": ME})
    async with daemon(file) as running:
        (begun,) = await running.logged("account.followed")
        assert (begun["account"], begun["unfinished"]) == (ME, 1)
        catalogue.put(track(62, created_at=made(62)))
        catalogue.put(completed(63, created_at=made(63)))  # made and ready between two looks
        catalogue.put(completed(64, created_at=made(64), create_mode="tts"))
        await running.logged("track.found", 2)
        catalogue.put(failed(62, created_at=made(62)))
        catalogue.put(completed(61, created_at=made(61)))
        await receiver.until_count("/band", 3)
        assert await running.stop() == 0
    expected = [
        ("completed", "PixVerse_Music_61.mp3"),
        ("completed", "PixVerse_Music_63.mp3"),
        ("failed", "PixVerse_Music_62.mp3"),
    ]
    assert sorted(told(receiver)) == sorted(expected)
