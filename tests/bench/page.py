"""What the status page costs with thousands of tracks, and how long the daemon's loop stands still for it."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from notifier.page import StatusPage
from notifier.reloader import settle
from tests.bench.measuring import cost_of, longest_stall, median, print_json_line, print_table
from tests.browser.scenes import Scene, many, shown

_ROUNDS = 20


async def _times(count: int, work: Callable[[], Awaitable[object]]) -> None:
    for _ in range(count):
        await work()


async def _read_anew(page: StatusPage, scene: Scene) -> None:
    """Read everything, as after a change that counts."""
    scene.situation = replace(scene.situation, config=scene.situation.config.model_copy())
    await page.mark()


async def _measure(count: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as directory:
        async with shown(Path(directory), partial(many, count=count)) as scene:
            page = StatusPage(scene.store, clock=scene.clock, situation=lambda: scene.situation)
            works: dict[str, Callable[[], Awaitable[object]]] = {
                "nothing": partial(asyncio.sleep, 0.02),
                "nothing has changed": page.mark,
                "a page": partial(page.html, {}),
                "a search": partial(page.html, {"q": "99"}),
                "all read anew": partial(_read_anew, page, scene),
            }
            results = {}
            settle()
            for name, work in works.items():
                cost = median([await cost_of(_times(1, work), units=1) for _ in range(_ROUNDS)])
                stall = await longest_stall(_times(_ROUNDS, work))
                results[name] = {
                    "cpu_ms": round(cost.cpu * 1000, 1),
                    "wall_ms": round(cost.wall * 1000, 1),
                    "longest_stall_ms": round(stall * 1000, 1),
                }
            return results


@click.command()
@click.option("--tracks", default=5000, show_default=True, help="How many tracks there are.")
def page(tracks: int) -> None:
    """Read and render the status page of many tracks."""
    results = asyncio.run(_measure(tracks))
    columns = ("work", "CPU ms", "wall ms", "longest stall ms")
    print_table(columns, [(name, *map(str, costs.values())) for name, costs in results.items()])
    print_json_line({"tracks": tracks, **results})
