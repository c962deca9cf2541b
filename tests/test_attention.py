"""What a person reads first: how everything is, what needs him, and what goes on by itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifier.attention import Matter, standing
from notifier.gate import GateState
from notifier.report import AccountStatus, Overview, TargetStatus, TrackStatus
from notifier.store import Backlog

NOW = datetime(2026, 6, 23, 3, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def track(number: int, **fields: Any) -> TrackStatus:
    unfinished = TrackStatus(f"id {number}", f"Track {number}", "GENERATING", False, True, NOW, NOW)
    return replace(unfinished, **fields)


def done(number: int) -> TrackStatus:
    return track(number, status="COMPLETED", is_final=True)


def target(name: str = "band-room", state: GateState = GateState.OPEN, **fields: Any) -> TargetStatus:
    well = TargetStatus(name, "slack", state, None, None, None, Backlog(), is_gone=False)
    return replace(well, **fields)


WELL = Overview(
    True,
    "w.yaml",
    None,
    GateState.OPEN,
    None,
    (track(1), track(2), track(3), *map(done, range(4, 16))),
    (target(),),
)
PAUSED = target(state=GateState.PAUSED, reason="HTTP 404: no_service", since=NOW - 3 * HOUR)
WAITING = target("studio", GateState.WAITING, reason="HTTP 500: busy", until=NOW + 7 * MINUTE)
DEAD = target("archive", backlog=Backlog(dead=3, delivered=1), newest_error="HTTP 422: bad body")


def read(overview: Overview) -> tuple[str, list[str], list[str]]:
    how = standing(overview, NOW, how_to_start="notifier run")
    return how.headline, [matter.what for matter in how.needs], [matter.what for matter in how.notices]


def needs(**fields: Any) -> tuple[Matter, ...]:
    return standing(replace(WELL, **fields), NOW, how_to_start="notifier run").needs


def test_all_is_well_in_one_line() -> None:
    assert read(WELL) == ("running, all well: 3 tracks under way, 12 done, nothing waiting", [], [])


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"tracks": ()}, "no tracks under way, 0 done, nothing waiting"),
        (
            {"tracks": (track(1), replace(done(2), is_watched=False))},
            "1 track under way, 0 done, nothing waiting",
        ),
        (
            {"targets": (target(backlog=Backlog(pending=1)),)},
            "3 tracks under way, 12 done, 1 delivery waiting",
        ),
    ],
)
def test_what_is_watched_and_what_waits_is_counted(fields: dict[str, Any], counts: str) -> None:
    assert read(replace(WELL, **fields))[0] == f"running, all well: {counts}"


def test_what_needs_a_person_is_counted_in_the_first_line_and_comes_with_the_command_to_run() -> None:
    assert needs(targets=(PAUSED, DEAD)) == (
        Matter(
            "target band-room has been paused for 3h: HTTP 404: no_service",
            "put a working url in; or mend it, then: notifier resume band-room",
        ),
        Matter(
            "3 dead letters for archive: HTTP 422: bad body",
            "see which and why: notifier deliveries --state dead",
        ),
    )
    headline, _, _ = read(replace(WELL, targets=(PAUSED, DEAD)))
    assert headline.startswith("2 things need you; running: 3 tracks under way")
    assert read(replace(WELL, targets=(PAUSED,)))[0].startswith("1 thing needs you; running: ")


@pytest.mark.parametrize("status", [401, 402])
def test_a_token_that_is_rejected_says_what_to_do_and_how_to_see_that_it_is_done(status: int) -> None:
    overview = replace(WELL, api_state=GateState.WAITING, api_reason=f"HTTP {status}: no")
    (matter,) = standing(overview, NOW, how_to_start="notifier run").needs
    assert read(overview)[2] == [], "it is told once"
    assert matter.what == f"useapi.net refuses the token (HTTP {status}: no): no track is read"
    assert matter.do.endswith("notifier doctor")


def test_what_goes_on_by_itself_needs_nobody() -> None:
    slow = track(1, stalled_at=NOW)
    overview = replace(
        WELL,
        api_state=GateState.WAITING,
        api_reason="HTTP 503: down",
        api_until=NOW + MINUTE,
        tracks=(slow,),
        targets=(replace(WAITING, backlog=Backlog(pending=2)),),
    )
    how = standing(overview, NOW, how_to_start="notifier run")
    assert how.headline == (
        "running, nothing for you to do: 1 track under way, 0 done, 2 deliveries waiting (next try in 7m)"
    )
    assert how.notices == (
        Matter("useapi.net is not read for now: HTTP 503: down", "it is asked again in 1m"),
        Matter("target studio is waiting: HTTP 500: busy", "it is tried again in 7m"),
        Matter("Track 1 takes longer than usual", "it is polled on"),
    )


@pytest.mark.parametrize("is_running", [True, False])
def test_an_api_that_nobody_has_to_read_is_not_said_to_be_asked_again_by_itself(is_running: bool) -> None:
    idle = replace(WELL, is_running=is_running, tracks=(done(1),), api_reason="HTTP 503: down")
    (notice,) = standing(idle, NOW, how_to_start="notifier run").notices
    assert notice.do == "it is asked again once there is a track to read"


def test_several_that_take_long_are_one_line() -> None:
    overview = replace(WELL, tracks=(track(1, stalled_at=NOW), track(2, stalled_at=NOW)))
    assert read(overview)[2] == ["2 tracks take longer than usual"]


def test_a_daemon_that_is_not_running_is_needed_where_there_is_work() -> None:
    idle = replace(WELL, is_running=False, tracks=(done(1),))
    assert read(idle)[:2] == (
        "not running, and nothing to do: no tracks under way, 1 done, nothing waiting",
        [],
    )
    owed = replace(idle, targets=(replace(WAITING, backlog=Backlog(pending=1)),))
    for busy in (replace(idle, tracks=(track(1),)), owed):
        how = standing(busy, NOW, how_to_start="sudo systemctl start notifier")
        assert how.needs == (Matter("the daemon is not running", "start it: sudo systemctl start notifier"),)
        assert "next try" not in how.headline
        assert {matter.do for matter in how.notices} <= {"it is tried again when the daemon runs"}


def test_an_invalid_watchlist_is_told_with_its_first_mistakes() -> None:
    error = "\n".join(f"w.yaml:{line}:1: wrong" for line in range(1, 6))
    (matter,) = needs(config_error=error)
    assert matter.what == (
        "w.yaml is invalid; the earlier one stays in force: 1:1: wrong; 2:1: wrong; 3:1: wrong; and 2 more"
    )
    assert "notifier check" in matter.do
    (stopped, *_) = needs(config_error="w.yaml:1:1: wrong", is_running=False)
    assert stopped.what == "w.yaml is invalid: 1:1: wrong"


def test_a_target_that_left_the_watchlist_needs_nobody() -> None:
    assert needs(targets=(replace(PAUSED, is_gone=True),)) == ()
    assert read(replace(WELL, targets=(replace(WAITING, is_gone=True),)))[2] == []


def test_dead_letters_of_many_targets_are_one_matter() -> None:
    (matter,) = needs(targets=tuple(replace(DEAD, name=f"t{number}") for number in range(5)))
    assert matter.what == "15 dead letters for t0, t1, t2 and 2 more: HTTP 422: bad body"


def test_foreign_text_is_one_short_line() -> None:
    reason = "HTTP 404: " + "\x1b[31mred\n" * 100
    (matter,) = needs(targets=(replace(PAUSED, reason=reason),))
    assert matter.what.isprintable()
    assert len(matter.what) < 200


ACCOUNT = AccountStatus("me@example.com", None, NOW, 3, NOW, 1, None)
UNREADABLE = replace(ACCOUNT, trouble="HTTP 404: no such account", is_hopeless=True)


def test_an_account_that_is_followed_is_counted_and_needs_nobody() -> None:
    headline, needed, notices = read(replace(WELL, accounts=(ACCOUNT,)))
    assert headline == ("running, all well: 1 account followed, 3 tracks under way, 12 done, nothing waiting")
    assert (needed, notices) == ([], [])


def test_a_list_that_cannot_be_read_needs_somebody() -> None:
    (matter,) = needs(accounts=(ACCOUNT, UNREADABLE))
    assert matter.what == "the list of the account me@example.com cannot be read: HTTP 404: no such account"
    assert matter.do == "correct the address on the watchlist, or see to the account at useapi.net"


def test_a_list_that_fails_for_now_is_looked_at_again_by_itself() -> None:
    failing = replace(UNREADABLE, is_hopeless=False)
    _, needed, notices = read(replace(WELL, accounts=(failing,)))
    assert needed == []
    assert notices == ["the list of the account me@example.com was not read: HTTP 404: no such account"]
    down = replace(WELL, accounts=(failing,), api_reason="HTTP 503", api_state=GateState.WAITING)
    assert read(down)[2] == ["useapi.net is not read for now: HTTP 503"]


def test_an_account_alone_is_work_for_a_daemon() -> None:
    idle = replace(WELL, tracks=(), accounts=(ACCOUNT,), is_running=False)
    assert read(idle)[1] == ["the daemon is not running"]
