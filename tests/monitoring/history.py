"""One run of the real daemon in which everything happens that a metric counts, scraped on the way."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import Daemon, daemon
from tests.support.servers import PATIENCE, Received, Reply, Server, free_port, serving
from tests.support.tracks import answer, audio_id, completed, failed, not_found, path_of, track

HOSTILE_STATUSES = [f'"}} {number}\nnotifier_events_total{{type="\\forged"}} 9' for number in range(30)]
"""More of them than are shown by name, each of which would end the label that it stands in."""
TARGETS = {
    "archive": "webhook",
    "broken": "webhook",
    "room": "slack",
    "slow": "webhook",
    "strict": "webhook",
}
ACCOUNT = "b@example.com"
_FIRST_HOSTILE = 20

Labels = Mapping[str, str]


class Scrape:
    """The text of one scrape, and its samples."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the value of the one series with a name and exactly these labels."""
        (value,) = (one.value for one in self.samples if one.name == name and one.labels == labels)
        return float(value)

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the values of the series with a name and, among others, these labels, by one label."""
        found = (one for one in self.samples if one.name == name and labels.items() <= one.labels.items())
        return {one.labels[label]: one.value for one in found}


@dataclass(frozen=True, slots=True)
class History:
    """What was seen of the run, and when."""

    start: Scrape
    """Before anything was answered."""
    end: Scrape
    """After everything has happened, with a watchlist on the disk that is invalid."""
    after: Scrape
    """With a valid one again, which has lost the target `slow`."""
    requests: Mapping[str, int]
    """How often each target was posted to."""
    began: datetime
    ended: datetime


async def history(directory: Path) -> History:
    """Let it happen."""
    async with serving() as api, serving() as receiver, aiohttp.ClientSession() as session:
        began, address = datetime.now(UTC), f"127.0.0.1:{free_port()}"

        async def scrape() -> Scrape:
            async with session.get(f"http://{address}/metrics") as response:
                assert response.status == 200
                return Scrape(await response.text())

        may_answer = asyncio.Event()
        _script(api, receiver, may_answer)
        watchlist = _watchlist(directory, api, receiver, address)
        file = _written(directory, watchlist)
        async with daemon(file) as running:
            start = await scrape()
            may_answer.set()
            await _until(scrape, _all_has_happened)
            await _called(session, watchlist["callback"])
            _written(directory, {**watchlist, "watch": [{"audio_id": "nonsense"}]})
            await running.logged("config.rejected")
            end = await _until(scrape, lambda seen: seen("notifier_config_last_reload_success") == 0)
            requests = {name: len(receiver.to(_path(name))) for name in TARGETS}
            after = await _without(running, directory, watchlist, scrape)
        return History(start, end, after, requests, began, datetime.now(UTC))


async def _called(session: aiohttp.ClientSession, callback: Mapping[str, str]) -> None:
    """Let calls come about a track at work, one that has ended and one that nobody knows, and odd ones."""
    url = f"http://{callback['listen']}{callback['path']}"
    for said in ({"audio_id": audio_id(4)}, completed(1), {"audio_id": audio_id(999)}, {"odd": 1}):
        async with session.post(url, json=said) as response:
            assert response.status == 204
    async with session.get(url) as response:
        assert response.status == 405


async def _without(running: Daemon, directory: Path, watchlist: dict[str, Any], scrape: Any) -> Scrape:
    targets = {name: target for name, target in watchlist["targets"].items() if name != "slow"}
    _written(directory, {**watchlist, "targets": targets})
    await running.logged("config.reloaded")
    name = "notifier_delivery_seconds_count"
    return await _until(scrape, lambda seen: "slow" not in seen.by("target", name))


async def _until(scrape: Any, condition: Callable[[Scrape], bool]) -> Scrape:
    async with asyncio.timeout(PATIENCE):
        while True:
            seen: Scrape = await scrape()
            if condition(seen):
                return seen
            await asyncio.sleep(0.05)


def _all_has_happened(seen: Scrape) -> bool:
    outcomes = seen.by("outcome", "notifier_api_requests_total", kind="track")
    events = seen.by("type", "notifier_events_total")
    states = [seen.by("state", "notifier_deliveries", target=name) for name in TARGETS]
    hostile = seen.by("status", "notifier_tracks").get("OTHER", 0)
    is_settled = all(
        state["pending"] == 0 or name == "broken" for name, state in zip(TARGETS, states, strict=True)
    )
    has_all = all(sum(state.values()) == len(events) for state in states)
    is_well = seen("notifier_unhealthy", reason="token") == 0
    return all([*outcomes.values(), *events.values(), hostile, is_settled, has_all, is_well])


def _path(target: str) -> str:
    return f"/{TARGETS[target]}/{target}"


def _script(api: Server, receiver: Server, may_answer: asyncio.Event) -> None:
    """Let each track and each target have its fate."""
    now = datetime.now(UTC).isoformat()

    def at_work(number: int, **fields: Any) -> Reply:
        return answer(track(number, created_at=now, **fields))

    def first(reply: Reply) -> Reply:
        return Reply(reply.status, reply.body, reply.headers, delay_until=may_answer)

    fates = {
        1: [answer(completed(1))],
        2: [answer(failed(2))],
        3: [answer({"error": "expired"}, 410)],
        4: [answer(track(4, created_at="2020-01-01T00:00:00Z"))],
        5: [answer({"error": "odd"}, 422), at_work(5)],
        7: [
            Reply(429, "{}", {"Retry-After": "0.1"}),
            answer({"error": "Unauthorized"}, 401),
            Reply(500),
            at_work(7),
        ],
        8: [not_found(audio_id(8)), at_work(8)],
    }
    for index, status in enumerate(HOSTILE_STATUSES):
        number = _FIRST_HOSTILE + index
        fates[number] = [at_work(number, audio_status_name=status)]
    for number, replies in fates.items():
        api.reply(path_of(audio_id(number)), first(replies[0]), *replies[1:])
    api.reply(path_of(audio_id(6, ACCOUNT)), first(answer({"error": "no credits"}, 596)))
    receiver.otherwise(_taken)
    receiver.reply(_path("slow"), Reply(503), Reply(503), Reply(204))
    receiver.reply(_path("strict"), Reply(422, "not like that"))
    receiver.reply(_path("broken"), Reply(404, "gone"))


def _taken(request: Received) -> Reply:
    return Reply(200, "ok", content_type="text/plain") if "slack" in request.path else Reply(204)


def _watchlist(directory: Path, api: Server, receiver: Server, address: str) -> dict[str, Any]:
    numbers = [1, 2, 3, 4, 5, 7, 8, *range(_FIRST_HOSTILE, _FIRST_HOSTILE + len(HOSTILE_STATUSES))]
    return {
        "useapi": {"token": "user:1-abc", "base_url": f"{api.url}/v2/pixverse", "rate": "500/s"},
        "poll": {"interval": "100ms", "max_interval": "200ms", "stalled_after": "1h", "list": "never"},
        "delivery": {"first_retry": "100ms", "max_retry": "100ms"},
        "targets": {
            name: {"type": kind, "url": f"{receiver.url}{_path(name)}"} for name, kind in TARGETS.items()
        },
        "defaults": {"events": ["completed", "failed", "missing", "stalled"]},
        "state": str(directory / "state.db"),
        "http": address,
        "callback": {"listen": f"127.0.0.1:{free_port()}", "path": "/hooks/useapi/9f3c1b7e24d8a6050c1e"},
        "watch": [*(audio_id(number) for number in numbers), audio_id(6, ACCOUNT)],
    }


def _written(directory: Path, watchlist: Mapping[str, Any]) -> Path:
    """Write a watchlist, which as JSON is YAML too, in one go."""
    new = directory / "new"
    new.write_text(json.dumps(watchlist))
    new.chmod(0o600)
    return new.replace(directory / "watchlist.yaml")
