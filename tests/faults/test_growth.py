"""Failures that go on for ever: the thousandth holds no more than the hundredth did."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import NamedTuple

import pytest
from prometheus_client.samples import Sample

from notifier.engine import Engine
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Store
from tests.support.clocks import ManualClock
from tests.support.faulty import Fault, Line, line_to
from tests.support.servers import PATIENCE, Server
from tests.support.tracks import answer, audio_id, completed, path_of, track

_WATCHES = 20
_TARGETS = 5
_FAILURES = 60
_ATTEMPTS = "notifier_delivery_attempts_total"
_AT_WORK = 1500
"""How many objects more there may be at one moment than at another."""
_KIB = 1024
_MEMORY_AT_WORK = 200 * _KIB
_MOST_TASKS = 3 * (_WATCHES + _TARGETS)
"""Turns and attempts under way, workers, what they wait for, and the servers here."""


@pytest.fixture
async def to_api(api: Server) -> AsyncIterator[Line]:
    async with line_to(api.url) as line:
        yield line


@pytest.fixture
async def to_receiver(receiver: Server) -> AsyncIterator[Line]:
    async with line_to(receiver.url) as line:
        yield line


def engine_for(store: Store, to_api: Line, to_receiver: Line) -> Engine:
    watches = "".join(f"  - {audio_id(number)}\n" for number in range(_WATCHES))
    targets = "".join(
        f"  t-{number}: {{type: webhook, url: '{to_receiver.url}/{number}'}}\n" for number in range(_TARGETS)
    )
    text = f"""useapi: {{token: abc, base_url: "{to_api.url}/v2/pixverse", rate: 1000/s}}
poll: {{interval: 50ms, max_interval: 50ms, stalled_after: 3000d}}
delivery: {{first_retry: 50ms, max_retry: 50ms}}
targets:
{targets}
watch:
{watches}"""
    config = load_content(text.encode(), "x", resolve=True, sources=Sources({})).config
    return Engine(config, store, masker=Masker(), clock=ManualClock(), rng=Random(1))


async def failed(engine: Engine, times: int) -> None:
    """Wait until so many requests have failed on both sides since."""
    before = _failures(engine)
    async with asyncio.timeout(PATIENCE):
        while any(now < then + times for now, then in zip(_failures(engine), before, strict=True)):
            await asyncio.sleep(0.05)


def _samples(engine: Engine) -> Iterator[Sample]:
    for family in engine.metrics.registry.collect():
        yield from family.samples


def _failures(engine: Engine) -> tuple[float, float]:
    values = {(one.name, *one.labels.values()): one.value for one in _samples(engine)}
    polls = values.get(("notifier_api_requests_total", "track", "unavailable"), 0)
    return polls, sum(value for key, value in values.items() if key[0] == _ATTEMPTS and "retry" in key)


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
async def test_neither_tasks_nor_memory_grow_while_everything_fails(
    store: Store, api: Server, to_api: Line, to_receiver: Line
) -> None:
    api.otherwise(lambda _request: answer(track()))
    api.reply(path_of(audio_id(0)), answer(completed(0)))
    await to_receiver.become(Fault.RESET_UNREAD)
    engine = engine_for(store, to_api, to_receiver)
    await engine.start()
    try:
        await api.until(lambda: len(api.requests) > _WATCHES)
        await to_api.become(Fault.REFUSED)
        await failed(engine, _FAILURES)
        earlier, before = held(), sum(_failures(engine))
        await failed(engine, _FAILURES)
        later, failures = held(), sum(_failures(engine)) - before
    finally:
        await engine.stop()
    assert later.tasks <= _MOST_TASKS
    assert later.objects <= earlier.objects + _AT_WORK + 3 * failures, (
        "what belongs to a failure stays behind"
    )
    assert later.memory <= earlier.memory + _MEMORY_AT_WORK + _KIB * failures


class Held(NamedTuple):
    """What there is at one moment: tasks, objects, and bytes that Python has allocated."""

    tasks: int
    objects: int
    memory: int


def held() -> Held:
    gc.collect()
    return Held(len(asyncio.all_tasks()), len(gc.get_objects()), tracemalloc.get_traced_memory()[0])
