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


async def test_an_unknown_bench_is_answered_with_the_ones_there_are() -> None:
    code, lines, _ = await bench("--help")
    assert code == 0
    assert any("deliver" in line for line in lines)
    code, _, err = await bench("delivr")
    assert code == 2
    assert "No such command 'delivr'" in err
