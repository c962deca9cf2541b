"""The working parts of the daemon with an API that knows lists."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from random import Random

from notifier.clock import SystemClock, to_rfc3339
from notifier.config import Config
from notifier.engine import Engine
from notifier.loading import load_content
from notifier.secret import Masker, Sources
from notifier.store import Store
from tests.support.catalogue import ME, Catalogue
from tests.support.servers import PATIENCE, Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id, completed, path_of, track


def config(
    api: Server,
    numbers: Iterable[int],
    *,
    lists: str = "auto",
    interval: str = "100ms",
    accounts: Iterable[str] = (),
) -> Config:
    watches = "".join(f"  - {audio_id(number)}\n" for number in numbers)
    watches += "".join(f"  - account: {account}\n" for account in accounts)
    text = f"""useapi: {{token: abc, base_url: "{api.url}/v2/pixverse", rate: 1000/s}}
poll: {{interval: {interval}, max_interval: 2h, list: {lists}, cadence: fixed}}
targets:
  archive: {{type: webhook, url: 'http://127.0.0.1:9/'}}
watch:
{watches}"""
    return load_content(text.encode(), "x", resolve=True, sources=Sources({})).config


def engine_for(config: Config, store: Store) -> Engine:
    return Engine(config, store, masker=Masker(), clock=SystemClock(), rng=Random(1))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


class Count:
    """What was asked for since it was made."""

    def __init__(self, api: Server) -> None:
        self._api = api
        self._seen = len(api.requests)

    @property
    def pages(self) -> int:
        return sum(request.path == MUSIC for request in self._api.requests[self._seen :])

    @property
    def tracks(self) -> int:
        return len(self._api.requests) - self._seen - self.pages


async def test_fifty_tracks_of_one_account_cost_one_or_two_requests_a_tick(api: Server, store: Store) -> None:
    catalogue = Catalogue(api, range(1, 51))
    engine = engine_for(config(api, range(1, 51)), store)
    count = Count(api)
    await engine.start()
    await until(lambda: count.pages >= 12)
    assert count.tracks <= count.pages // 10
    for number in range(1, 51):
        catalogue.put(completed(number, updated_at=to_rfc3339(datetime.now(UTC))))
    await until(lambda: all(watch.is_final for watch in engine.polling.watches.values()))
    assert count.tracks <= count.pages // 10
    assert len(await store.deliveries()) == 50
    await until(lambda: len(engine.polling.schedule) == 0)
    await engine.stop()


async def test_a_reload_of_list_takes_effect_both_ways(api: Server, store: Store) -> None:
    Catalogue(api, range(1, 6))
    engine = engine_for(config(api, range(1, 6), lists="never"), store)
    count = Count(api)
    await engine.start()
    await until(lambda: count.tracks >= 10)
    assert count.pages == 0

    await engine.apply(config(api, range(1, 6)), Masker())
    count = Count(api)
    await until(lambda: count.pages >= 3)
    count = Count(api)
    await until(lambda: count.pages >= 10)
    assert count.tracks <= 1 + count.pages // 10

    await engine.apply(config(api, range(1, 6), lists="never"), Masker())
    count = Count(api)
    await until(lambda: count.tracks >= 10)
    assert count.pages <= 1, "the one that was under way"
    await engine.stop()


async def test_a_track_that_joins_is_read_with_a_page_which_shows_the_others_as_well(
    api: Server, store: Store
) -> None:
    catalogue = Catalogue(api, range(1, 4))
    engine = engine_for(config(api, [1, 2], interval="1h"), store)
    await engine.start()
    await until(lambda: all(watch.sighting for watch in engine.polling.watches.values()))
    catalogue.put(completed(1))
    count = Count(api)
    await engine.apply(config(api, [1, 2, 3], interval="1h"), Masker())
    await until(lambda: all(watch.sighting for watch in engine.polling.watches.values()))
    await until(lambda: engine.polling.watches[audio_id(1)].is_final)
    assert (count.pages, count.tracks) == (1, 0)
    assert engine.polling.watches[audio_id(2)].phase == engine.polling.watches[audio_id(3)].phase
    await engine.stop()


async def test_a_hint_that_comes_while_the_gate_is_closed_is_followed_once_it_opens(
    api: Server, store: Store
) -> None:
    Catalogue(api, [1, 2])
    engine = engine_for(config(api, [1, 2], lists="never", interval="1h"), store)
    await engine.start()
    await until(lambda: all(watch.sighting for watch in engine.polling.watches.values()))
    api.reply(path_of(audio_id(1)), Reply(429, headers={"Retry-After": "1"}), answer(completed(1)))
    api.reply(path_of(audio_id(2)), answer(completed(2)))
    engine.polling.hints.take(audio_id(1))
    await until(lambda: engine.polling.upstream.token.failures > 0)
    engine.polling.hints.take(audio_id(2))
    await until(lambda: all(watch.is_final for watch in engine.polling.watches.values()))
    assert len(api.to(path_of(audio_id(1)))) == 3, "it is asked no more often than the gate allows"
    await engine.stop()


async def test_a_hint_at_a_new_track_that_comes_while_the_gate_is_closed_is_followed_once_it_opens(
    api: Server, store: Store
) -> None:
    catalogue = Catalogue(api, [1, 2])
    engine = engine_for(config(api, [1, 2], lists="never", interval="1h", accounts=[ME]), store)
    await engine.start()
    await until(lambda: all(watch.sighting for watch in engine.polling.watches.values()))
    await until(lambda: bool(engine.polling.looked_at()))
    api.reply(path_of(audio_id(1)), Reply(429, headers={"Retry-After": "1"}), answer(completed(1)))
    engine.polling.hints.take(audio_id(1))
    await until(lambda: engine.polling.upstream.token.failures > 0)
    engine.polling.hints.take(audio_id(2))
    await until(lambda: engine.polling.upstream.token._probe is not None)  # it waits to go first
    catalogue.put(track(9))
    engine.polling.hints.take(audio_id(9))
    await until(lambda: audio_id(9) in engine.polling.watches)
    await engine.stop()
