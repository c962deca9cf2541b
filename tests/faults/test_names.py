"""Names that cannot be resolved, with name servers of our own: the daemon asks as the system tells it to."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from notifier.store import Store
from tests.support.faulty import NameServer, with_names
from tests.support.process import Daemon, daemon
from tests.support.scenes import Scene
from tests.support.servers import PATIENCE, Server

DEAD = tuple(f"dead-{number}.test" for number in range(8))
"""More names than a pool of threads has threads to wait in."""


class NamedScene(Scene):
    """A scene whose API and targets are asked by name."""

    api_host = "127.0.0.1"

    def target_on(self, host: str) -> None:
        """Add the receiver as a target, by the name of a host."""
        self.target(host, "/webhook")
        self.targets[host]["url"] = f"http://{host}:{urlsplit(self.receiver.url).port}/webhook"

    def write(self, *numbers: int) -> Path:
        file = super().write(*numbers)
        text = file.read_text().replace(self.api.url, self.api.url.replace("127.0.0.1", self.api_host))
        file.write_text(text)
        return file


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    async with NameServer() as server:
        yield server


@pytest.fixture
def scene(tmp_path: Path, api: Server, receiver: Server) -> NamedScene:
    scene = NamedScene(tmp_path, api, receiver)
    scene.delivery = {"timeout": "1s", "first_retry": "100ms", "max_retry": "200ms"}
    return scene


def without_uvloop(directory: Path) -> dict[str, str]:
    """Return the environment of a machine that has no uvloop."""
    (directory / "without").mkdir()
    (directory / "without/uvloop.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(directory / "without")}


async def tried(scene: Scene, target: str, times: int) -> None:
    """Wait until a target was tried so often."""
    async with asyncio.timeout(PATIENCE), Store(scene.state, is_read_only=True) as store:
        while sum(row.attempt_count for row in await store.deliveries(target=target)) < times:
            await asyncio.sleep(0.05)


def reasons(running: Daemon, event: str) -> list[str]:
    return [record.get("error") or record["reason"] for record in running.records(event)]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_name_servers_that_never_answer_hold_up_nothing_else(
    scene: NamedScene, names: NameServer, tmp_path: Path, loop: str
) -> None:
    for host in (*DEAD, "well.test"):
        scene.target_on(host)
    names.silent |= {*DEAD}
    scene.complete(1, 2)
    extra = without_uvloop(tmp_path) if loop == "asyncio" else None
    async with daemon(
        scene.write(1), extra=extra, within=with_names(tmp_path, names, hosts=["well.test"])
    ) as running:
        await names.until(lambda: {*DEAD} <= {*names.asked})
        scene.delivery["timeout"] = "900ms"  # which brings new connections about, and with them new questions
        scene.write(1, 2)
        await running.logged("config.reloaded")
        await scene.receiver.until_count("/webhook", 2)
        await tried(scene, DEAD[0], 4)
        assert await running.stop() == 0
    assert {*reasons(running, "delivery.retry_scheduled")} == {
        f"the name {host} cannot be resolved" for host in DEAD
    }
    assert max(names.asked.count(host) for host in DEAD) <= 2, "more than its two kinds of addresses"


async def test_names_that_are_gone_for_a_while_cost_nothing_and_two_lines(
    scene: NamedScene, names: NameServer, tmp_path: Path
) -> None:
    scene.api_host = "api.test"
    scene.target_on("hook.test")
    scene.complete(1)

    async def asked_again(name: str, times: int = 3) -> None:
        before = names.asked.count(name)
        await names.until(lambda: names.asked.count(name) >= before + times)

    within = with_names(tmp_path, names, patience="timeout:1 attempts:1")
    async with daemon(scene.write(1), within=within) as running:
        await asked_again("api.test")
        names.silent.add("api.test")
        await asked_again("api.test", times=1)
        names.silent.clear()
        names.known["api.test"] = "127.0.0.1"
        await running.logged("upstream.recovered")
        await asked_again("hook.test")
        names.known["hook.test"] = "127.0.0.1"
        await running.logged("delivery.delivered")
        assert await running.stop() == 0
    assert reasons(running, "upstream.unavailable") == ["the name api.test cannot be resolved"]
    assert reasons(running, "delivery.retry_scheduled") == ["the name hook.test cannot be resolved"]
    assert len(scene.receiver.requests) == 1
