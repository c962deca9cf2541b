"""That the benches still run; what they measure is not judged here."""

import asyncio
import json
import sys
from pathlib import Path

from tests.support.process import environment
from tests.support.servers import PATIENCE

NAMES = ("deliver", "detect", "idle", "load", "page", "poll", "soak", "start")


async def bench(*arguments: str) -> tuple[int, list[str], str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench", *arguments),
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        async with asyncio.timeout(PATIENCE * 2):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), err.decode()


async def test_the_bench_of_deliveries_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("deliver", "--events", "20", "--rounds", "1")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    cost = {"cpu_us", "wall_us", "per_second"}
    assert figures.keys() == {
        *("bench", "loop", "events", "rounds", "concurrency", "body_bytes"),
        *("bare", "record", "deliver", "whole"),
        *("cpu_ratio", "wall_ratio", "deliver_cpu_ratio", "deliver_wall_ratio"),
        "burst",
    }
    assert all(figures[part].keys() == cost for part in ("bare", "record", "deliver", "whole"))
    burst = figures["burst"]
    assert burst.keys() == {"events", "seconds", "posts", "stall_ms", "still_ms"}
    assert (figures["events"], burst["events"], burst["posts"]["archive"]) == (20, 20, 20)


async def test_the_bench_of_load_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("load", "--watches", "20", "--interval", "0.5", "--burst", "5")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    phase = {"stall_ms", "still_ms", "waited_ms"}
    assert figures.keys() == {"bench", "watches", "interval_s", "rate", "burst", "reload", "stop_s"}
    assert figures["reload"].keys() == phase | {"seconds", "per_second"}
    burst = figures["burst"]
    assert burst.keys() == phase | {
        *("tracks", "well_s", "all_s", "posts", "posts_while_dead", "lost", "repeated"),
    }
    assert (burst["tracks"], burst["posts"]["well"], burst["lost"], burst["repeated"]) == (5, 5, 0, 0)


async def test_the_bench_of_polls_runs_and_ends_with_its_figures_as_json() -> None:
    few = ("--watches", "20", "--rate", "100", "--rounds", "1", "--seconds", "0.3", "--settle", "0.1")
    code, lines, err = await bench("poll", *few, "--loop", "asyncio")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    assert figures.keys() == {"bench", "loop", "rate", "rounds", "seconds", "sizes"}
    (size,) = figures["sizes"]
    assert size.keys() == {
        *("watches", "interval_s", "per_second", "cpu_us", "core", "bare_cpu_us", "flat_out_cpu_us"),
        *("ratio", "ratio_flat_out"),
        *("lateness_ms", "interval_off_ms", "stall_ms", "waited_ms", "rss_mib", "bytes_a_watch", "most"),
    }
    assert size["most"].keys() == {"per_second", "cpu_us"}
    assert size["per_second"] > 0
    assert size["ratio"] > 0


async def test_the_bench_of_starts_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("start", "--watches", "20", "--rounds", "1")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    assert figures.keys() == {"bench", "rounds", "sizes"}
    (size,) = figures["sizes"]
    assert size.keys() == {
        *("watches", "first_poll_s", "cpu_s", "bare_s", "bare_cpu_s", "ratio", "wall_ratio")
    }
    assert size["first_poll_s"] > 0


async def test_the_bench_of_detection_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("detect", "--events", "4", "--interval", "0.1")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    measured = ("lag_ms", "commit_ms", "callback_ms")
    assert figures.keys() == {"bench", "events", "watches", "interval_s", *measured}
    for name in measured:
        assert 0 < figures[name]["p50"] <= figures[name]["p99"]


async def test_the_bench_of_idleness_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("idle", "--tracks", "20", "--seconds", "0.2", "--settle", "0")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    assert figures.keys() == {
        *("bench", "tracks", "seconds", "cpu_percent", "wakings_a_second", "requests"),
        *("rss_mib", "few_rss_mib", "bytes_a_track"),
    }
    assert figures["requests"] == 0


async def test_the_bench_of_the_page_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("page", "--tracks", "60")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    assert figures.pop("tracks") == 60
    assert figures.keys() == {"nothing", "nothing has changed", "a page", "a search", "all read anew"}
    assert all(cost.keys() == {"cpu_ms", "wall_ms", "longest_stall_ms"} for cost in figures.values())


async def test_a_short_soak_loses_nothing_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("soak", "--minutes", "0.1", "--seed", "1")
    figures = json.loads(lines[-1])
    assert (code, err) == (0, ""), lines
    assert figures.keys() >= {"memory_mib_an_hour", "files", "threads", "kills", "reloads", "refused"}
    assert figures["lost"] == figures["repeated"] == figures["ids_changed"] == figures["dead_letters"] == 0
    assert figures["delivered"] == figures["expected"] > 0


async def test_the_bench_of_the_cadence_runs_and_ends_with_its_figures_as_json() -> None:
    code, lines, err = await bench("cadence", "--tracks", "40", "--seeds", "1")
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    assert figures.keys() == {"bench", "tracks", "seeds", "interval_s", "cases"}
    costs = {"requests", "fixed_requests", "ratio", "lag_s", "fixed_lag_s", "p95_s", "fixed_p95_s"}
    for case, parts in figures["cases"].items():
        assert parts.keys() - {"behind the change"} == {"whole", "first", "later"}
        assert ("behind the change" in parts) == case.startswith("change")
        assert all(of.keys() == costs and of["ratio"] <= 1 for of in parts.values())


async def test_an_unknown_bench_is_answered_with_the_ones_there_are() -> None:
    code, lines, _ = await bench("--help")
    assert code == 0
    assert all(any(name in line for line in lines) for name in NAMES)
    code, _, err = await bench("delivr")
    assert code == 2
    assert "No such command 'delivr'" in err
