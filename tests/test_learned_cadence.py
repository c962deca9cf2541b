"""The cadence that learns, in the daemon: real requests, the real schedule, the real state file."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from notifier.clock import SystemClock, to_rfc3339
from notifier.config import Config
from notifier.durations import Durations, Ending
from notifier.engine import Engine
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Store
from notifier.transition import Sighting
from tests.support.catalogue import Catalogue
from tests.support.servers import PATIENCE, Reply, Server
from tests.support.tracks import answer, audio_id, completed, path_of, track

USUAL = "music-2.6"
UNHEARD = "unheard-of"


def config(api: Server, *numbers: int, poll: str = "", interval: str = "50ms") -> Config:
    watches = "".join(f"  - {audio_id(number, f'{number}@example.com')}\n" for number in numbers)
    text = f"""useapi: {{token: abc, base_url: "{api.url}/v2/pixverse", rate: 1000/s}}
poll: {{interval: {interval}, {poll}}}
targets:
  archive: {{type: webhook, url: 'http://127.0.0.1:9/'}}
watch:
{watches}"""
    return load_content(text.encode(), "x", resolve=True, sources=Sources({})).config


def path(number: int) -> str:
    return path_of(audio_id(number, f"{number}@example.com"))


def aged(seconds: float, model: str) -> Reply:
    """Return the answer of a track that was made so long ago."""
    made = datetime.now(UTC) - timedelta(seconds=seconds)
    return answer(track(created_at=to_rfc3339(made), model=model))


async def experience(store: Store, *, model: str = USUAL) -> None:
    """Let the state file know of a hundred tracks that took about 200 seconds."""
    rng = random.Random(1)
    sighting = Sighting("COMPLETED", is_final=True, name=None, first_seen=datetime.now(UTC))
    for number in range(100):
        seconds = rng.lognormvariate(5.3, 0.15)
        ending = Ending(f"before {number}", model, seconds, is_end=True, gain=0.1, on_paper=0.3)
        await store.record(ending.audio_id, sighting, None, [], now=datetime.now(UTC), ending=ending)


@contextlib.asynccontextmanager
async def running(config: Config, store: Store) -> AsyncIterator[Engine]:
    engine = Engine(config, store, masker=Masker(), clock=SystemClock(), rng=Random(1))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def until(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while await look() != wanted:
            await asyncio.sleep(0.01)


async def status_of(store: Store, number: int) -> str | None:
    sighting = (await store.sightings()).get(audio_id(number, f"{number}@example.com"))
    return None if sighting is None else sighting.status


async def stalled(store: Store, number: int) -> bool:
    sighting = (await store.sightings()).get(audio_id(number, f"{number}@example.com"))
    return sighting is not None and sighting.stalled_at is not None


def counts(api: Server, numbers: Sequence[int]) -> list[int]:
    return [len(api.to(path(number))) for number in numbers]


async def test_a_young_track_of_a_known_model_is_left_alone_and_any_other_is_not(
    api: Server, store: Store
) -> None:
    """What an earlier run has learned counts from the first read on, which tells what kind of track it is."""
    await experience(store)
    api.reply(path(1), aged(20, USUAL))
    api.reply(path(2), aged(20, UNHEARD))
    api.reply(path(3), aged(100_000, USUAL))
    async with running(config(api, 1, 2, 3), store):
        await api.until_count(path(2), 24)
        young, other, old = counts(api, [1, 2, 3])
    assert young < 7
    assert abs(other - old) <= 3


@pytest.mark.parametrize("has_list", [True, False])
async def test_tracks_that_are_read_one_by_one_since_their_list_is_of_no_use_save_and_spend_for_themselves(
    api: Server, store: Store, has_list: bool
) -> None:
    """With what all of them together saved there would be next to nothing to spend, and ends told late."""
    catalogue = Catalogue(api)
    made = to_rfc3339(datetime.now(UTC) - timedelta(seconds=20))
    for number in (1, 2):
        catalogue.put(track(number, created_at=made))
    catalogue.list_replies = lambda _request: None if has_list else Reply(404)
    text = f"""useapi: {{token: abc, base_url: "{api.url}/v2/pixverse"}}
targets: {{archive: {{type: webhook, url: 'http://127.0.0.1:9/'}}}}
watch: [{audio_id(1)}, {audio_id(2)}]
"""
    both = load_content(text.encode(), "x", resolve=True, sources=Sources({})).config
    async with running(both, store) as engine:
        watches = [*engine.polling.watches.values()]

        async def are_seen() -> bool:
            return all(watch.life is not None for watch in watches)

        await until(are_seen, True)
        one, other = (watch.life.budget for watch in watches if watch.life is not None)
        assert (one is other) is has_list


async def test_a_reload_switches_what_was_learned_off_and_on_again(api: Server, store: Store) -> None:
    await experience(store)
    api.reply(path(1), aged(20, USUAL))
    api.reply(path(2), aged(20, UNHEARD))

    async def reads_while_the_other_has_twenty() -> int:
        before, other = counts(api, [1, 2])
        await api.until_count(path(2), other + 20)
        return counts(api, [1])[0] - before

    async with running(config(api, 1, 2), store) as engine:
        await api.until_count(path(2), 3)
        assert await reads_while_the_other_has_twenty() < 7
        await engine.apply(config(api, 1, 2, poll="cadence: fixed"), Masker())
        await api.until_count(path(1), counts(api, [1])[0] + 2)
        assert await reads_while_the_other_has_twenty() > 13
        await engine.apply(config(api, 1, 2), Masker())
        assert await reads_while_the_other_has_twenty() < 9


async def test_a_track_that_is_gone_is_told_as_missing_after_as_many_404s_as_ever(
    api: Server, store: Store
) -> None:
    await experience(store)
    api.reply(path(1), aged(20, USUAL), Reply(status=404, body='{"error": "not found"}'))
    async with running(config(api, 1), store):
        await until(lambda: status_of(store, 1), "MISSING")
    assert counts(api, [1]) == [4]
    assert [(one.seconds < 60, one.is_end) for one in await store.endings()][-1] == (True, False)


async def test_a_track_that_stalls_is_told_although_nobody_expects_an_end(api: Server, store: Store) -> None:
    """The next read by what was learned would come when the track is two minutes old."""
    await experience(store)
    api.reply(path(1), aged(19.0, USUAL))
    async with running(config(api, 1, poll="stalled_after: 20s, max_interval: 1h", interval="2s"), store):
        await until(lambda: stalled(store, 1), True)
    assert len(api.to(path(1))) == 2
    assert (await store.endings())[-1].is_end is False


async def test_how_long_a_track_took_is_learned_and_known_to_the_next_run(api: Server, store: Store) -> None:
    made = datetime.now(UTC) - timedelta(seconds=300)
    ended = made + timedelta(seconds=120)
    api.reply(
        path(1),
        aged(300, UNHEARD),
        answer(completed(created_at=to_rfc3339(made), updated_at=to_rfc3339(ended), model=UNHEARD)),
    )
    api.reply(
        path(2), answer(completed(created_at=to_rfc3339(made), updated_at=to_rfc3339(ended), model=UNHEARD))
    )
    async with running(config(api, 1, 2), store) as engine:
        unknown = Durations().curve(UNHEARD).survival(150)
        await until(lambda: status_of(store, 1), "COMPLETED")
        await until(lambda: status_of(store, 2), "COMPLETED")
        learned = engine.polling.foresight.durations.curve(UNHEARD).survival(150)
    of_watched, of_ready = sorted(await store.endings(), key=lambda one: one.gain is None)
    assert of_ready == replace(of_ready, model=UNHEARD, seconds=120.0, is_end=True, gain=None)
    assert of_watched.gain is not None, "it was seen unfinished before"
    async with running(config(api), store) as engine:
        assert engine.polling.foresight.durations.curve(UNHEARD).survival(150) == learned < unknown


async def test_a_track_that_is_taken_off_the_watchlist_unfinished_counts_with_how_long_it_was_seen(
    api: Server, store: Store
) -> None:
    for number in (1, 2):
        api.reply(path(number), aged(20 * number, UNHEARD))
    async with running(config(api, 1, 2), store) as engine:
        await api.until_count(path(1), 3)
        await api.until_count(path(2), 3)
        await engine.apply(config(api, 1), Masker())
        (left,) = await store.endings()
        assert (left.audio_id, left.model, left.is_end) == (audio_id(2, "2@example.com"), UNHEARD, False)
        assert left.seconds >= 40
        learned = engine.polling.foresight.durations.curve(UNHEARD)
        assert learned.survival(40) > Durations().curve("").survival(40)
