"""Every metric against its definition, in a real daemon to which everything has happened."""

import math
import re
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from notifier import __version__
from notifier.metrics import OTHER, Metrics
from notifier.track import Status
from tests.monitoring.history import HOSTILE_STATUSES, TARGETS, History, Scrape
from tests.support.machine import lacking, needs
from tests.support.process import daemon
from tests.support.scenes import Scene
from tests.support.servers import Server, free_port

EVENTS = {"track.completed", "track.failed", "track.missing", "track.stalled"}
OUTCOMES = {"delivered", "retry", "rejected", "target_broken"}
REASONS = {"token", "api", "storage", "scheduler", "loop"}
CONCURRENCY = 8
ANSWERS = {"ok", "not_found", "unreadable", "token", "throttled", "account", "unavailable"}
HEARD = {"read", "looked", "finished", "unknown", "unusable", "dropped", "refused"}
GAUGES = {
    "notifier_build_info": {"version"},
    "notifier_tracks": {"status"},
    "notifier_deliveries": {"target", "state"},
    "notifier_delivery_oldest_pending_seconds": {"target"},
    "notifier_target_paused": {"target"},
    "notifier_unhealthy": {"reason"},
    "notifier_asyncio_tasks": set(),
    "notifier_config_last_reload_success": set(),
    "notifier_config_last_reload_timestamp_seconds": set(),
}
COUNTERS = {
    "notifier_api_requests": {"kind", "outcome"},
    "notifier_api_fixed_reads": set(),
    "notifier_callbacks": {"outcome"},
    "notifier_events": {"type"},
    "notifier_delivery_attempts": {"target", "outcome"},
}
HISTOGRAMS = {
    "notifier_api_request_seconds": set(),
    "notifier_poll_lateness_seconds": set(),
    "notifier_delivery_seconds": {"target"},
}


# --- Form


def test_names_labels_and_types_are_those_of_the_contract(seen: History) -> None:
    for scrape in (seen.start, seen.end, seen.after):
        families = {name: one for name, one in scrape.families.items() if name.startswith("notifier_")}
        assert set(families) == {*GAUGES, *COUNTERS, *HISTOGRAMS}
        for kind, expected in (("gauge", GAUGES), ("counter", COUNTERS), ("histogram", HISTOGRAMS)):
            for name, labels in expected.items():
                assert families[name].type == kind
                assert families[name].documentation
                assert {frozenset(one.labels.keys() - {"le"}) for one in families[name].samples} == {
                    frozenset(labels)
                }


def test_the_readme_lists_every_metric_with_its_labels(seen: History) -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[0] for line in readme.splitlines() if line.startswith("| `notifier_")]
    listed = {
        name.removesuffix("_total"): {*labels.split(",")} - {""}
        for name, labels in re.findall(r"`(notifier_\w+)(?:\{([\w,]*)\})?`", " ".join(cells))
    }
    assert listed == {**GAUGES, **COUNTERS, **HISTOGRAMS}


def test_promtool_has_nothing_to_say(seen: History) -> None:
    needs("promtool")
    for scrape in (seen.start, seen.end, seen.after):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=scrape.text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_no_series_stands_twice_and_every_value_is_a_number(seen: History) -> None:
    for scrape in (seen.start, seen.end, seen.after):
        series = Counter((one.name, *sorted(one.labels.items())) for one in scrape.samples)
        assert set(series.values()) == {1}
        assert not any(math.isnan(one.value) for one in scrape.samples)


def test_all_that_is_known_beforehand_is_there_with_0(seen: History) -> None:
    """Or the first one of each could not be told from one that was always there."""
    start = seen.start
    for kind in ("track", "list"):
        asked = start.by("outcome", "notifier_api_requests_total", kind=kind)
        assert asked == dict.fromkeys(ANSWERS, 0)
    assert start.by("outcome", "notifier_callbacks_total") == dict.fromkeys(HEARD, 0)
    assert start.by("type", "notifier_events_total") == dict.fromkeys(EVENTS, 0)
    assert start.by("reason", "notifier_unhealthy") == dict.fromkeys(REASONS, 0)
    assert {status for status, count in start.by("status", "notifier_tracks").items() if count == 0} == {
        *Status
    } - {Status.UNKNOWN}
    for target in TARGETS:
        attempts = start.by("outcome", "notifier_delivery_attempts_total", target=target)
        assert attempts == dict.fromkeys(OUTCOMES, 0)
        states = start.by("state", "notifier_deliveries", target=target)
        assert states == dict.fromkeys(("pending", "delivered", "dead"), 0)
        assert start("notifier_delivery_seconds_count", target=target) == 0
        assert start("notifier_delivery_oldest_pending_seconds", target=target) == 0
        assert start("notifier_target_paused", target=target) == 0


# --- What each one counts


def test_requests_to_the_api_are_counted_by_what_came_of_them(seen: History) -> None:
    counts = seen.end.by("outcome", "notifier_api_requests_total", kind="track")
    once = {"token": 1, "throttled": 1, "unavailable": 1, "unreadable": 1, "not_found": 2}
    assert {name: counts[name] for name in once} == once
    assert counts["account"] >= 1
    assert counts["ok"] >= len(HOSTILE_STATUSES)


@pytest.mark.parametrize("name", ["notifier_api_request_seconds", "notifier_poll_lateness_seconds"])
def test_each_request_has_a_length_and_a_lateness(seen: History, name: str) -> None:
    assert seen.start(f"{name}_count") <= len(HOSTILE_STATUSES)
    answered = sum(one.value for one in seen.end.samples if one.name == "notifier_api_requests_total")
    assert 0 <= seen.end(f"{name}_count") - answered <= CONCURRENCY  # which are under way
    assert seen.end(f"{name}_sum") > 0


def test_fixed_reads_are_counted_for_each_track_that_was_seen(seen: History) -> None:
    assert seen.start("notifier_api_fixed_reads_total") == 0
    sighted = sum(seen.end.by("status", "notifier_tracks").values()) - 1  # that of the account in trouble
    assert seen.end("notifier_api_fixed_reads_total") >= sighted


def test_calls_are_counted_by_what_came_of_them(seen: History) -> None:
    once = {"read": 1, "finished": 1, "unknown": 1, "unusable": 1, "refused": 1}
    assert seen.end.by("outcome", "notifier_callbacks_total") == {**dict.fromkeys(HEARD, 0), **once}


def test_events_are_counted_once_each(seen: History) -> None:
    assert seen.end.by("type", "notifier_events_total") == dict.fromkeys(EVENTS, 1)


def test_an_attempt_is_one_request_however_many_deliveries_it_carries(seen: History) -> None:
    attempts = {
        target: {
            outcome: count
            for outcome, count in seen.end.by(
                "outcome", "notifier_delivery_attempts_total", target=target
            ).items()
            if count
        }
        for target in TARGETS
    }
    assert attempts["archive"] == {"delivered": 4}
    assert attempts["strict"] == {"rejected": 4}
    assert attempts["slow"] == {"retry": 2, "delivered": 4}
    assert attempts["broken"].keys() == {"target_broken"}
    assert attempts["room"].keys() == {"delivered"}
    for target in TARGETS:
        assert sum(attempts[target].values()) == seen.requests[target]
    assert seen.requests["room"] < len(EVENTS)


def test_deliveries_are_counted_where_they_stand(seen: History) -> None:
    expected = {"archive": "delivered", "room": "delivered", "slow": "delivered", "strict": "dead"}
    for target in TARGETS:
        states = seen.end.by("state", "notifier_deliveries", target=target)
        assert states == {
            state: len(EVENTS) if state == expected.get(target, "pending") else 0
            for state in ("pending", "delivered", "dead")
        }


def test_only_what_is_pending_has_an_age(seen: History) -> None:
    ages = seen.end.by("target", "notifier_delivery_oldest_pending_seconds")
    assert 0 < ages.pop("broken") <= (seen.ended - seen.began).total_seconds()
    assert set(ages.values()) == {0}


def test_the_way_of_an_event_ends_with_its_acceptance(seen: History) -> None:
    for target in TARGETS:
        count = len(EVENTS) if target in {"archive", "room", "slow"} else 0
        assert seen.end("notifier_delivery_seconds_count", target=target) == count
    assert seen.end("notifier_delivery_seconds_sum", target="slow") >= 0.2  # two waits of 100 ms


def test_a_paused_target_is_1(seen: History) -> None:
    paused = seen.end.by("target", "notifier_target_paused")
    assert paused == {target: float(target == "broken") for target in TARGETS}


def test_tracks_are_counted_by_their_status(seen: History) -> None:
    first, last = (scrape.by("status", "notifier_tracks") for scrape in (seen.start, seen.end))
    assert first[Status.UNKNOWN] == sum(first.values()) == sum(last.values())
    assert (last[Status.COMPLETED], last[Status.FAILED], last[Status.MISSING]) == (1, 1, 1)
    assert last[Status.GENERATING] == 4


def test_a_rejected_watchlist_is_0_until_a_valid_one_is_taken(seen: History) -> None:
    name = "notifier_config_last_reload_success"
    assert [scrape(name) for scrape in (seen.start, seen.end, seen.after)] == [1, 0, 1]


def test_the_time_of_the_last_reload_is_that_of_the_last_one_taken(seen: History) -> None:
    name = "notifier_config_last_reload_timestamp_seconds"
    start, end, after = (scrape(name) for scrape in (seen.start, seen.end, seen.after))
    assert seen.began.timestamp() <= start == end < after <= seen.ended.timestamp()


def test_the_version_is_a_label(seen: History) -> None:
    assert seen.end("notifier_build_info", version=__version__) == 1


def test_the_process_is_measured(seen: History) -> None:
    assert seen.end("process_resident_memory_bytes") > 10_000_000
    assert seen.end("process_cpu_seconds_total") > 0
    assert seen.end("process_open_fds") > 3
    started = datetime.fromtimestamp(seen.end("process_start_time_seconds"), seen.began.tzinfo)
    assert abs(started - seen.began).total_seconds() < (seen.ended - seen.began).total_seconds() + 2


# --- What must not grow


def test_statuses_that_the_api_makes_up_are_shown_up_to_a_number_and_forge_nothing(seen: History) -> None:
    shown = seen.end.by("status", "notifier_tracks")
    made_up = shown.keys() - {*Status, OTHER}
    assert len(made_up) == 20
    assert sum(shown[status] for status in made_up) + shown[OTHER] == len(HOSTILE_STATUSES)
    assert all("forged" in status for status in made_up)
    assert seen.end.by("type", "notifier_events_total").keys() == EVENTS


def test_statuses_of_an_api_that_never_repeats_itself_stay_the_same_few() -> None:
    metrics = Metrics()
    labels: set[str] = set()
    for number in range(200):
        metrics.show_tracks({f"STATUS_{number}": 1, Status.GENERATING: 2})
        seen = Scrape(metrics.exposition().decode()).by("status", "notifier_tracks")
        assert sum(seen.values()) == 3
        labels |= seen.keys()
    assert labels - {*Status} == {*(f"STATUS_{number}" for number in range(20)), OTHER}


def test_a_target_that_is_gone_leaves_only_what_the_state_file_holds_of_it(seen: History) -> None:
    of_it = {one.name for one in seen.after.samples if one.labels.get("target") == "slow"}
    assert of_it == {
        "notifier_deliveries",
        "notifier_delivery_oldest_pending_seconds",
        "notifier_target_paused",
    }
    assert seen.after.by("target", "notifier_delivery_seconds_count").keys() == TARGETS.keys() - {"slow"}
    assert seen.after("notifier_delivery_seconds_count", target="archive") == len(EVENTS)


# --- In the sandbox of the unit


@pytest.fixture
def processes_only() -> list[str]:
    """Return what runs a command where /proc shows processes only, as the unit's ProcSubset=pid lets it."""
    script = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    within = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script, "sh"]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        lacking("/proc cannot be mounted here")
    return within


async def test_the_process_is_measured_where_proc_shows_processes_only(
    tmp_path: Path, api: Server, receiver: Server, processes_only: list[str]
) -> None:
    scene = Scene(tmp_path, api, receiver)
    scene.http = f"127.0.0.1:{free_port()}"
    async with (
        daemon(scene.write(), within=processes_only),
        aiohttp.ClientSession() as session,
        session.get(f"http://{scene.http}/metrics") as answer,
    ):
        seen = Scrape(await answer.text())
    assert seen("process_start_time_seconds") > 0
    assert seen("process_resident_memory_bytes") > 10_000_000
