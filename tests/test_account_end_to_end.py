"""Accounts that are followed, by the real daemon: what their lists bring is told like a listed track."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from notifier.store import Store
from tests.support.catalogue import ME, Catalogue
from tests.support.process import command, daemon
from tests.support.servers import Server
from tests.support.tracks import MUSIC, answer, audio_id, completed, failed, track

Write = Callable[..., Path]


class World(Catalogue):
    """An API whose tracks were made one after the other, an hour ago."""

    def appear(self, *numbers: int, **fields: Any) -> None:
        """Let tracks be ready that nobody has seen before."""
        for number in numbers:
            self.put(completed(number, created_at=made(number), **fields))

    def begin(self, *numbers: int) -> None:
        """Let tracks be made that are not ready yet."""
        for number in numbers:
            self.put(track(number, created_at=made(number)))


def made(number: int) -> str:
    """Return when a track was made."""
    return (datetime.now(UTC) - timedelta(hours=1, seconds=-number)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def world(api: Server) -> World:
    return World(api)


@pytest.fixture
def write(tmp_path: Path, api: Server, receiver: Server) -> Write:
    """Return what writes the watchlist, with these entries, as an editor does."""

    def write(*entries: dict[str, Any], **more: Any) -> Path:
        hooks = {name: {"type": "webhook", "url": f"{receiver.url}/{name}"} for name in ("band", "other")}
        poll = {"interval": "50ms", "max_interval": "200ms", "stalled_after": "3000d", "cadence": "fixed"}
        watchlist = {
            "useapi": {"token": "user:1-abc", "base_url": f"{api.url}/v2/pixverse", "rate": "500/s"},
            "poll": poll | more.pop("poll", {}),
            "targets": hooks,
            "defaults": {"notify": ["band"]},
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


def file_name(number: int) -> str:
    return f"PixVerse_Music_{number}.mp3"


async def test_new_tracks_are_told_like_listed_ones_and_old_ones_are_not(
    world: World, receiver: Server, write: Write
) -> None:
    world.appear(*range(1, 61))
    world.begin(61)
    file = write({"account": ME, "name": "The band"})
    async with daemon(file) as running:
        (begun,) = await running.logged("account.followed")
        assert (begun["account"], begun["unfinished"]) == (ME, 1)
        world.begin(62)
        world.appear(63)  # made and ready between two looks
        world.appear(64, create_mode="tts")
        await running.logged("track.found", 2)
        world.put(failed(62, created_at=made(62)))
        world.appear(61)
        await receiver.until_count("/band", 3)
        code, out, _ = await command("status", "-c", str(file))
        assert code == 0
        assert "1 account followed, no tracks under way, 3 done, nothing waiting" in out.split("\n")[0]
        assert f"The band ({ME})\t" in out
        assert await running.stop() == 0
    expected = [("completed", 61), ("completed", 63), ("failed", 62)]
    assert sorted(told(receiver)) == [(kind, f"The band: {file_name(number)}") for kind, number in expected]
    code, out, _ = await command("status", "--json", "-c", str(file))
    status = json.loads(out)
    (account,) = status["accounts"]
    assert account.items() >= {"account": ME, "name": "The band", "found": 3, "under_way": 0}.items()
    assert account["trouble"] is None
    assert account["looked_at"] >= account["last_found"] > made(64)
    shown = {one["audio_id"]: (one["name"], one["status"], one["watched"]) for one in status["tracks"]}
    assert shown == {
        audio_id(61): (f"The band: {file_name(61)}", "COMPLETED", True),
        audio_id(62): (f"The band: {file_name(62)}", "FAILED", True),
        audio_id(63): (f"The band: {file_name(63)}", "COMPLETED", True),
    }


async def test_a_daemon_that_is_killed_again_and_again_tells_each_new_track_once(
    world: World, api: Server, receiver: Server, write: Write
) -> None:
    rng = Random(7)
    world.appear(*range(1, 71))
    file = write({"account": ME})
    async with daemon(file) as running:
        await running.logged("account.followed")
        assert await running.stop() == 0
    world.appear(*range(71, 231))  # nobody looks for a long time
    last = 230
    for _ in range(3):
        async with daemon(file, is_up=False) as running:
            api.requests.clear()
            await api.until(lambda: len(api.to(MUSIC)) > 0)
            for _ in range(rng.randint(0, 40)):
                await asyncio.sleep(0.01)
            running.kill()
            await running.ended()
        last += 1
        world.appear(last)
    expected = {file_name(number) for number in range(71, last + 1)}
    async with daemon(file) as running:
        await receiver.until(lambda: {name for _, name in told(receiver)} >= expected)
        assert await running.stop() == 0
    assert {name for _, name in told(receiver)} == expected
    ids = Counter(request.headers["webhook-id"] for request in receiver.to("/band"))
    assert len(ids) == len(expected)
    async with Store(file.with_name("state.db")) as store:
        assert Counter(row.state for row in await store.deliveries()) == {"delivered": len(expected)}


async def test_an_entry_may_be_changed_taken_out_and_put_back_while_the_daemon_runs(
    world: World, receiver: Server, write: Write
) -> None:
    world.appear(1)
    async with daemon(write({"account": ME}, poll={"list": "never"})) as running:
        await running.logged("account.followed")
        world.begin(2, 3, 4)
        await running.logged("track.found", 3)
        # what was found already is told as the entry says now, and a track's own entry goes first
        own = {"audio_id": audio_id(3), "name": "Mine", "notify": ["band"]}
        write({"account": ME, "notify": ["other"], "match": "pads"}, own, poll={"list": "never"})
        running.reload()
        await running.logged("config.reloaded")
        world.appear(2, 3)
        world.put(completed(4, created_at=made(4), prompt="drums"))  # which is not meant any more
        await running.logged("track.completed", 3)
        world.appear(5)
        await receiver.until_count("/other", 2)
        # while it is out, nothing is followed
        world.begin(6)
        await running.logged("track.found", 5)
        write(own)
        running.reload()
        await running.logged("config.reloaded", 2)
        world.appear(6, 7)
        world.begin(8)
        # what it had found it goes on with, what has appeared meanwhile is old
        write({"account": ME, "notify": ["other"]}, own)
        running.reload()
        await running.logged("account.followed", 2)
        world.appear(8, 9)
        await receiver.until_count("/other", 5)
        assert await running.stop() == 0
    assert told(receiver) == [("completed", "Mine")]
    assert sorted(told(receiver, "/other")) == [
        ("completed", file_name(number)) for number in (2, 5, 6, 8, 9)
    ]


async def test_a_list_that_cannot_be_read_is_told_to_people_and_shown(
    world: World, receiver: Server, write: Write
) -> None:
    world.list_replies = lambda _request: answer({"error": "no such account"}, 404)
    file = write({"account": ME}, alerts=["other"])
    async with daemon(file) as running:
        (message,) = await receiver.until_count("/other", 1)
        problem = message.json()["data"]
        assert (problem["problem"], problem["subject"]) == ("account_unreadable", ME)
        assert problem["summary"] == (
            f"the list of the PixVerse account {ME} cannot be read (HTTP 404: no such account): "
            "new tracks of it are not noticed"
        )
        code, out, _ = await command("status", "-c", str(file))
        assert (code, out.split("\n")[0].split(";")[0]) == (0, "1 thing needs you")
        assert f"the list of the account {ME} cannot be read: HTTP 404: no such account" in out
        world.list_replies = lambda _request: None
        await running.logged("account.readable")
        await receiver.until_count("/other", 2)
        world.appear(1)
        await receiver.until_count("/band", 1)
    assert [one["level"] for one in running.records("account.unreadable")] == ["error"]


async def test_what_has_ended_leaves_memory_and_a_look_costs_a_request(
    world: World, api: Server, receiver: Server, write: Write
) -> None:
    file = write({"account": ME})
    async with daemon(file) as running:
        await running.logged("account.followed")
        world.appear(*range(1, 21))
        await receiver.until_count("/band", 20)
        api.requests.clear()
        await api.until_count(MUSIC, 3)
        assert {request.path for request in api.requests} == {MUSIC}
        running.reload()
        (reloaded,) = await running.logged("config.reloaded")
        assert (reloaded["watching"], reloaded["unfinished"]) == (0, 0)
    async with Store(file.with_name("state.db")) as store:
        assert (await store.accounts())[ME].found == 20
