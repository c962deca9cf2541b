"""That the benches still run; what they measure is not judged here."""

import asyncio
import json
import sys
from pathlib import Path

from tests.support.process import environment
from tests.support.servers import PATIENCE


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
    few = ("--watches", "20", "--interval", "0.5", "--seconds", "0.5", "--burst", "5")
    code, lines, err = await bench("load", *few)
    assert (code, err) == (0, "")
    figures = json.loads(lines[-1])
    phase = {"stall_ms", "still_ms", "waited_ms"}
    assert figures.keys() == {
        *("bench", "watches", "interval_s", "rate", "start", "steady", "burst", "reload", "stop_s"),
    }
    assert figures["start"].keys() == {"few_s", "first_poll_s", "all_polled_s"}
    assert figures["steady"].keys() == phase | {
        *("seconds", "per_second", "cpu_us", "core", "lateness_ms", "interval_off_ms"),
        *("rss_mib", "few_rss_mib", "kib_a_watch"),
    }
    assert figures["reload"].keys() == phase | {"seconds", "per_second"}
    burst = figures["burst"]
    assert burst.keys() == phase | {
        *("tracks", "well_s", "all_s", "posts", "posts_while_dead", "lost", "repeated"),
    }
    assert (burst["tracks"], burst["posts"]["well"], burst["lost"], burst["repeated"]) == (5, 5, 0, 0)


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


async def test_an_unknown_bench_is_answered_with_the_ones_there_are() -> None:
    code, lines, _ = await bench("--help")
    assert code == 0
    assert all(any(name in line for line in lines) for name in ("deliver", "load", "page", "soak"))
    code, _, err = await bench("delivr")
    assert code == 2
    assert "No such command 'delivr'" in err
