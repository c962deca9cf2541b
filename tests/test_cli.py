"""The commands as people and scripts use them: what they print and how they exit."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notifier import __version__
from notifier.delivery import DeliveryState
from notifier.event import EventType, TrackNews, track_event
from notifier.gate import GateState
from notifier.store import Owed, Settlement, Store, StoredGate
from notifier.track import parse
from notifier.transition import Sighting
from tests.support.process import command, daemon
from tests.support.servers import Reply, Server
from tests.support.tracks import audio_id, completed

NOON = datetime(2026, 6, 23, 12, 0, tzinfo=UTC)
FILE = """useapi: {{token: "${{env:TOKEN}}"}}
targets:
  archive: {{type: webhook, url: "${{env:HOOK}}"}}
  band-room: {{type: slack, url: "${{credential:slack-url}}"}}
watch:
  - {{audio_id: '{first}', name: Intro theme}}
  - '{second}'
state: {state}
"""


@pytest.fixture
def watchlist(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_text(FILE.format(first=audio_id(1), second=audio_id(2), state=tmp_path / "state.db"))
    return file


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state file with one delivery delivered, one dead, and two pending behind a paused target."""
    path = tmp_path / "state.db"
    async with Store(path) as store:
        for number in (1, 3):
            track = parse(completed(number))
            news = TrackNews(audio_id(number), f"Track {number}", "COMPLETED", None, track)
            event = track_event(EventType.COMPLETED, news, NOON)
            sighting = Sighting("COMPLETED", is_final=True, name=f"Track {number}", first_seen=NOON)
            owed = [Owed(event, ("archive", "band-room"))]
            await store.record(audio_id(number), sighting, track, owed, now=NOON)
        await store.mark_watched({audio_id(1), audio_id(2)}, now=NOON)
        await store.save_gate(StoredGate("archive", GateState.OPEN, None, NOON))
        await store.settle(
            Settlement("archive", (1,), NOON, 204, "", "", "delivered", DeliveryState.DELIVERED)
        )
        await store.settle(
            Settlement(
                "archive", (3,), NOON, 422, "bad body", "HTTP 422: bad body", "rejected", DeliveryState.DEAD
            )
        )
        await store.save_gate(StoredGate("band-room", GateState.PAUSED, "HTTP 404: no_service", NOON))
        await store.settle(
            Settlement(
                "band-room",
                (2,),
                NOON,
                404,
                "no_service",
                "HTTP 404: no_service",
                "target_broken",
                DeliveryState.PENDING,
            )
        )
    return path


async def printed(*arguments: str) -> Any:
    code, out, err = await command(*arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


async def test_the_bare_command_prints_help_and_exits_2() -> None:
    code, out, err = await command()
    assert code == 2
    assert "deliveries" in out + err


async def test_the_version_is_printed() -> None:
    assert await command("--version") == (0, f"notifier, version {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("deliveries", "retry"),
        ("deliveries", "retry", "1", "--dead"),
        ("deliveries", "drop"),
        ("deliveries", "list", "--state", "lost"),
        ("deliveries", "show", "x"),
        ("demo", "--speed", "0"),
        ("demo", "--speed", "nan"),
    ],
)
async def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    assert (await command(*arguments))[0] == 2


async def test_check_of_a_valid_file_says_so_and_reads_no_secret(watchlist: Path) -> None:
    assert await command("check", "-c", str(watchlist)) == (
        0,
        f"{watchlist}: valid, 2 tracks, 2 targets\n",
        "",
    )


async def test_check_prints_every_mistake_on_stdout_and_exits_1(watchlist: Path) -> None:
    watchlist.write_text(
        watchlist.read_text().replace("archive:", "archiv e:").replace("name: Intro", "nam: Intro")
    )
    code, out, err = await command("check", "-c", str(watchlist))
    assert (code, err) == (1, "")
    assert [line.split(": ", 2)[1] for line in out.splitlines()] == ["targets.archiv e", "watch[0].nam"]


async def test_check_resolves_on_request_and_names_what_is_missing(watchlist: Path) -> None:
    code, out, _ = await command("check", "--resolve", "-c", str(watchlist), extra={"TOKEN": "user:1-abc"})
    assert code == 1
    assert out.splitlines() == [
        f"{watchlist}:3:33: targets.archive.url: the environment variable HOOK is missing or empty",
        f"{watchlist}:4:33: targets.band-room.url: there are no credentials here: $CREDENTIALS_DIRECTORY is "
        "not set, systemd sets it where the unit has LoadCredential=slack-url:PATH",
    ]


async def test_the_watchlist_is_found_by_the_environment(watchlist: Path) -> None:
    code, out, _ = await command("check", extra={"NOTIFIER_CONFIG": str(watchlist)})
    assert (code, out.split(":")[0]) == (0, str(watchlist))


async def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    code, out, _ = await command("check", "-c", str(tmp_path / "none.yaml"))
    assert (code, out) == (1, f"{tmp_path}/none.yaml:1:1: cannot be read: No such file or directory\n")


async def test_status_before_the_first_run_is_empty(watchlist: Path, tmp_path: Path) -> None:
    status = await printed("status", "--json", "-c", str(watchlist))
    assert status == {
        "running": False,
        "config": {"file": str(watchlist), "valid": True, "error": None},
        "api": {"state": "open", "reason": None},
        "usage": {"last_hour": UNUSED, "last_day": UNUSED},
        "tracks": [
            {"audio_id": audio_id(1), "name": "Intro theme", **UNREAD},
            {"audio_id": audio_id(2), "name": audio_id(2), **UNREAD},
        ],
        "targets": [
            {"name": "archive", "type": "webhook", **OPEN, **NOTHING},
            {"name": "band-room", "type": "slack", **OPEN, **NOTHING},
        ],
        "deliveries": NOTHING,
        "accounts": [],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["watchlist.yaml"]


OPEN = {"state": "open", "reason": None, "since": None}
UNUSED = {"requests": 0, "track": 0, "list": 0, "fixed": 0, "saved": None}
NOTHING = {"pending": 0, "dead": 0, "delivered": 0}
UNREAD = {"status": "UNKNOWN", "final": False, "watched": True, "first_seen": None, "changed_at": None}


@pytest.mark.usefixtures("state")
async def test_status_shows_tracks_targets_and_the_outbox(watchlist: Path) -> None:
    status = await printed("status", "--json", "-c", str(watchlist))
    seen = {"status": "COMPLETED", "final": True}
    moments = {"first_seen": "2026-06-23T12:00:00.000Z", "changed_at": "2026-06-23T12:00:00.000Z"}
    assert status["tracks"] == [
        {"audio_id": audio_id(2), "name": audio_id(2), **UNREAD},
        {"audio_id": audio_id(1), "name": "Intro theme", "watched": True, **seen, **moments},
        {"audio_id": audio_id(3), "name": "Track 3", "watched": False, **seen, **moments},
    ]
    assert status["targets"] == [
        {
            "name": "archive",
            "type": "webhook",
            **OPEN,
            "pending": 0,
            "dead": 1,
            "delivered": 1,
        },
        {
            "name": "band-room",
            "type": "slack",
            "state": "paused",
            "reason": "HTTP 404: no_service",
            "since": "2026-06-23T12:00:00.000Z",
            "pending": 2,
            "dead": 0,
            "delivered": 0,
        },
    ]
    assert status["deliveries"] == {"pending": 2, "dead": 1, "delivered": 1}


async def test_status_for_people_says_since_when_and_what_to_do(watchlist: Path, state: Path) -> None:
    async with Store(state) as store:
        since = datetime.now(UTC) - timedelta(days=3, hours=2)
        await store.save_gate(StoredGate("band-room", GateState.PAUSED, "HTTP 404: no_service", since))
    code, out, _ = await command("status", "-c", str(watchlist))
    assert code == 0
    paused = "paused 3d ago: HTTP 404: no_service; after mending: notifier resume band-room"
    assert out.splitlines() == [
        "3 things need you; not running: 1 track under way, 1 done, 2 deliveries waiting",
        "needs you\tthe daemon is not running\tstart it: notifier run",
        "needs you\ttarget band-room has been paused for 3d: HTTP 404: no_service\t"
        "put a working url in; or mend it, then: notifier resume band-room",
        "needs you\t1 dead letter for archive: HTTP 422: bad body\t"
        "see which and why: notifier deliveries --state dead",
        f"{watchlist} is valid; deliveries: 2 waiting, 1 dead, 1 delivered",
        f"{audio_id(2)}\tUNKNOWN\t—\t{audio_id(2)}",
        f"Intro theme\tCOMPLETED\t{_days_since_noon()} ago\t{audio_id(1)}",
        f"Track 3 (not watched)\tCOMPLETED\t{_days_since_noon()} ago\t{audio_id(3)}",
        "archive\twebhook\topen\t0\t1\t1\tdead: HTTP 422: bad body",
        f"band-room\tslack\tpaused\t2\t0\t0\t{paused}",
    ]


def _days_since_noon() -> str:
    return f"{(datetime.now(UTC) - NOON).days}d"


async def test_status_with_an_invalid_watchlist_still_shows_the_state(watchlist: Path, state: Path) -> None:
    watchlist.write_text("watch: [\n")
    status = await printed("status", "--json", "-c", str(watchlist), "--state-file", str(state))
    assert status["config"]["valid"] is False
    assert status["config"]["error"].startswith(f"{watchlist}:2:1: YAML: ")
    assert [track["watched"] for track in status["tracks"]] == [True, False]
    assert status["deliveries"]["pending"] == 2


async def test_status_of_a_corrupt_state_file_is_74(watchlist: Path, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"rubbish" * 1000)
    code, out, err = await command("status", "-c", str(watchlist))
    assert (code, out) == (74, "")
    assert err.startswith(f"notifier: {tmp_path}/state.db is corrupt")


async def test_status_says_whether_the_daemon_runs(watchlist: Path) -> None:
    extra = {
        "TOKEN": "user:1-abc",
        "HOOK": "http://127.0.0.1:9/",
        "CREDENTIALS_DIRECTORY": str(watchlist.parent),
    }
    (watchlist.parent / "slack-url").write_text("http://127.0.0.1:9/\n")
    text = watchlist.read_text().replace("useapi: {", 'useapi: {base_url: "http://127.0.0.1:9", ')
    watchlist.write_text(text)
    async with daemon(watchlist, extra=extra):
        assert (await printed("status", "--json", "-c", str(watchlist)))["running"] is True
        _, out, _ = await command("status", "-c", str(watchlist))
        assert re.match(r"running, .*: 2 tracks under way, 0 done, nothing waiting\n", out)
    assert (await printed("status", "--json", "-c", str(watchlist)))["running"] is False


DEAD = {
    "id": 3,
    "type": "track.completed",
    "audio_id": audio_id(3),
    "name": "Track 3",
    "target": "archive",
    "state": "dead",
    "attempt_count": 1,
    "created_at": "2026-06-23T12:00:00.000Z",
    "next_attempt_at": None,
    "last_status": 422,
    "last_error": "HTTP 422: bad body",
}


async def test_deliveries_are_listed_and_filtered(state: Path) -> None:
    where = ("--state-file", str(state), "--json")
    rows = await printed("deliveries", "list", *where)
    assert [(row["id"], row["state"]) for row in rows] == [
        (1, "delivered"),
        (2, "pending"),
        (3, "dead"),
        (4, "pending"),
    ]
    (dead,) = await printed("deliveries", "--state", "dead", *where)
    assert dead.pop("event_id").startswith("evt_")
    assert dead == DEAD
    assert [row["id"] for row in await printed("deliveries", "--target", "band-room", *where)] == [2, 4]


async def test_a_delivery_is_shown_with_its_attempts(state: Path) -> None:
    shown = await printed("deliveries", "show", "3", "--json", "--state-file", str(state))
    attempt = {"at": "2026-06-23T12:00:00.000Z", "status": 422, "answer": "bad body", "outcome": "rejected"}
    assert shown.pop("event_id").startswith("evt_")
    assert shown == {**DEAD, "attempts": [attempt]}
    code, out, _ = await command("deliveries", "show", "3", "--state-file", str(state))
    assert code == 0
    assert "try it again:  notifier deliveries retry 3" in out
    assert await command("deliveries", "show", "99", "--state-file", str(state)) == (
        1,
        "",
        "notifier: there is no delivery 99\n",
    )


async def test_dead_letters_are_replayed_one_by_one_or_together(state: Path) -> None:
    where = ("--state-file", str(state))
    assert await command("deliveries", "retry", "3", *where) == (0, "delivery 3: will be tried again\n", "")
    assert await command("deliveries", "retry", "--dead", *where) == (0, "there are no dead letters\n", "")
    code, out, err = await command("deliveries", "retry", "1", "3", *where)
    assert (code, out) == (1, "delivery 3: will be tried again\n")
    assert err == "notifier: there is no undelivered delivery 1\n"


async def test_a_retry_to_a_paused_target_says_what_comes_first(watchlist: Path, state: Path) -> None:
    where = ("-c", str(watchlist), "--state-file", str(state))
    waits = "waits, for band-room is paused; after mending: notifier resume band-room"
    assert await command("deliveries", "retry", "4", *where) == (0, f"delivery 4: {waits}\n", "")
    assert (await command("resume", "band-room", *where))[0] == 0
    assert await command("deliveries", "retry", "4", *where) == (0, "delivery 4: will be tried again\n", "")


@pytest.mark.parametrize("is_paused", [True, False])
async def test_what_a_removed_target_is_owed_waits_for_its_return(
    watchlist: Path, state: Path, is_paused: bool
) -> None:
    where = ("-c", str(watchlist), "--state-file", str(state))
    if not is_paused:
        assert (await command("resume", "band-room", *where))[0] == 0
    watchlist.write_text(watchlist.read_text().replace("band-room:", "back-room:"))
    _, shown, _ = await command("deliveries", "show", "4", *where)
    assert "  next try   removed" in shown.splitlines()
    assert shown.splitlines()[-2:] == [
        "band-room is not on the watchlist: this waits for its return",
        "forget it:     notifier deliveries drop 4",
    ]
    again = "delivery 4: will be tried again when band-room is on the watchlist again\n"
    assert await command("deliveries", "retry", "4", *where) == (0, again, "")
    _, listed, _ = await command("deliveries", "--target", "band-room", *where)
    assert [line.split("\t")[7] for line in listed.splitlines()] == ["removed", "removed"]
    _, status, _ = await command("status", *where)
    assert status.splitlines()[-1].endswith("\tnot on the watchlist: its deliveries wait for its return")


async def test_an_invalid_watchlist_removes_no_target(watchlist: Path, state: Path) -> None:
    watchlist.write_text("watch: [\n")
    where = ("-c", str(watchlist), "--state-file", str(state))
    _, shown, _ = await command("deliveries", "show", "4", *where)
    assert shown.splitlines()[-1] == "mend the url of band-room, then:  notifier resume band-room"


async def test_filters_hold_for_what_is_named_by_id_too(state: Path) -> None:
    where = ("--state-file", str(state))
    assert (await command("deliveries", "--target", "archive", "drop", "2", *where))[0] == 1
    assert (await command("deliveries", "drop", "3", "--state", "pending", *where))[0] == 1
    assert (await command("deliveries", "show", "2", "--target", "archive", *where))[0] == 1
    assert len(await printed("deliveries", "--json", *where)) == 4
    code, out, _ = await command("deliveries", "retry", "--dead", "--target", "band-room", *where)
    assert (code, out) == (0, "there are no dead letters\n")
    (retried,) = await printed("deliveries", "retry", "--dead", "--target", "archive", "--json", *where)
    assert (retried["id"], retried["state"]) == (3, "pending")


@pytest.mark.parametrize("arguments", [("list",), ("retry", "--dead"), ("show", "1"), ("drop", "1")])
async def test_an_unknown_target_is_wrong_usage(state: Path, arguments: tuple[str, ...]) -> None:
    where = ("--state-file", str(state), "--target", "archiv")
    code, _, err = await command("deliveries", *arguments, *where)
    assert code == 2
    assert "unknown target 'archiv', did you mean 'archive'?" in err


@pytest.mark.parametrize("arguments", [("status",), ("deliveries",), ("resume", "archive")])
async def test_a_state_file_that_cannot_be_looked_at_is_one_clear_line(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    name = "x" * 300
    code, out, err = await command(*arguments, "--state-file", str(tmp_path / name))
    assert (code, out) == (74, "")
    assert err.splitlines()[-1] == f"notifier: {tmp_path}/{name} cannot be read: File name too long"


async def test_a_state_file_that_is_only_being_made_counts_as_none(watchlist: Path, tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    assert (await printed("status", "--json", "-c", str(watchlist)))["deliveries"] == NOTHING
    assert (await command("deliveries", "retry", "1", "-c", str(watchlist)))[0] == 1
    assert (tmp_path / "state.db").stat().st_size == 0


async def test_status_says_when_the_api_is_not_read(watchlist: Path, state: Path) -> None:
    async with Store(state) as store:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
        gate = StoredGate(":useapi", GateState.WAITING, "HTTP 401: Unauthorized", NOON, until, failures=1)
        await store.save_gate(gate)
    status = await printed("status", "--json", "-c", str(watchlist))
    assert status["api"] == {"state": "waiting", "reason": "HTTP 401: Unauthorized"}
    assert [target["name"] for target in status["targets"]] == ["archive", "band-room"]
    _, out, _ = await command("status", "-c", str(watchlist))
    assert "useapi.net refuses the token (HTTP 401: Unauthorized): no track is read" in out


async def test_deliveries_are_dropped(state: Path) -> None:
    where = ("--state-file", str(state))
    assert (await command("deliveries", "drop", "2", "99", *where))[0] == 1
    assert [row["id"] for row in await printed("deliveries", "list", "--json", *where)] == [1, 3, 4]


async def test_resume_unpauses_once_and_knows_its_targets(watchlist: Path, state: Path) -> None:
    where = ("-c", str(watchlist), "--state-file", str(state))
    assert await command("resume", "band-room", *where) == (0, "band-room takes messages again\n", "")
    assert await command("resume", "band-room", *where) == (0, "band-room was not paused\n", "")
    code, _, err = await command("resume", "band-rom", *where)
    assert code == 2
    assert "unknown target 'band-rom', did you mean 'band-room'?" in err


async def test_commands_on_a_state_file_that_is_not_there_create_none(tmp_path: Path) -> None:
    where = ("--state-file", str(tmp_path / "state.db"))
    assert await printed("deliveries", "--json", *where) == []
    assert (await command("deliveries", "retry", "1", *where))[0] == 1
    assert (await command("deliveries", "drop", "1", *where))[0] == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_test_message_shows_each_answer_and_calls_a_404_a_failure(
    watchlist: Path, receiver: Server, tmp_path: Path
) -> None:
    (tmp_path / "slack-url").write_text(f"{receiver.url}/slack/very-secret-path\n")
    extra = {"TOKEN": "user:1-abc", "HOOK": f"{receiver.url}/hook", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    where = ("-c", str(watchlist))
    code, out, _ = await command("test", *where, extra=extra)
    assert (code, out) == (
        0,
        "archive\twebhook\taccepted\tHTTP 204\nband-room\tslack\taccepted\tHTTP 200: ok\n",
    )
    (hook,) = receiver.to("/hook")
    event = hook.json()
    assert (event["type"], event["data"]["status"]) == ("notifier.test", "COMPLETED")
    assert hook.headers["webhook-id"].startswith("evt_")

    receiver.reply("/slack/very-secret-path", Reply(404, "no_service /slack/very-secret-path"))
    code, out, err = await command("test", "band-room", "--event", "failed", *where, extra=extra)
    assert (code, out) == (
        1,
        "band-room\tslack\trefused: the target needs mending\tHTTP 404: no_service ***\n",
    )
    assert "secret" not in err
    assert (await command("test", "nobody", *where, extra=extra))[0] == 2


async def test_a_secret_that_an_answer_quotes_is_not_shown_in_part_either(
    watchlist: Path, receiver: Server, tmp_path: Path
) -> None:
    receiver.reply("/hook/very-secret-path", Reply(400, "x" * 275 + "/hook/very-secret-path"))
    hook = f"{receiver.url}/hook/very-secret-path"
    (tmp_path / "slack-url").write_text("http://127.0.0.1:9/slack\n")
    extra = {"TOKEN": "user:1-abc", "HOOK": hook, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    code, out, _ = await command("test", "archive", "-c", str(watchlist), extra=extra)
    assert code == 1
    assert "very" not in out


async def test_a_test_message_to_nobody_at_home_is_a_failure(watchlist: Path, tmp_path: Path) -> None:
    (tmp_path / "slack-url").write_text("http://127.0.0.1:9/slack\n")
    extra = {"TOKEN": "user:1-abc", "HOOK": "http://127.0.0.1:9/hook", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    code, out, _ = await command("test", "archive", "-c", str(watchlist), extra=extra)
    assert code == 1
    assert out == "archive\twebhook\tnot reached\tno connection to 127.0.0.1:9: Connection refused\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
async def test_root_looking_at_the_state_leaves_nothing_that_stops_the_daemon(state: Path) -> None:
    nobody = 65534
    for path in (state.parent, state):
        os.chown(path, nobody, nobody)
    async with Store(state) as daemon_of_nobody:
        await daemon_of_nobody.salt()
        assert (await command("deliveries", "retry", "3", "--state-file", str(state)))[0] == 0
        assert (await command("status", "--state-file", str(state), "-c", "/nonexistent"))[0] == 0
        assert {path.stat().st_uid for path in state.parent.iterdir()} == {nobody}
    assert (await command("deliveries", "drop", "3", "--state-file", str(state)))[0] == 0
    assert {path.stat().st_uid for path in state.parent.iterdir()} == {nobody}


async def test_the_schema_is_printed() -> None:
    code, out, _ = await command("schema")
    assert code == 0
    assert json.loads(out)["title"] == "The watchlist of pixverse-notifier"
