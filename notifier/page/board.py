"""The status page at work: reads what has changed, no more often than is cheap, and renders it as HTML."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter

from jinja2 import Environment, PackageLoader, Template, select_autoescape

from notifier.clock import Clock
from notifier.config import Config
from notifier.estimate import Experience, Making, making_of
from notifier.page.catalogue import Catalogue, Query, Selection, Standing, arrange, asked, select
from notifier.page.wording import Known, Situation, View
from notifier.report import headings
from notifier.store import StorageError, Store
from notifier.track import Track
from notifier.usage import DAY, hour_of

_RECENT, _DEAD = 12, 10
_MOST_RENDERED = 32
_LEARNED_FROM = 300
"""How many of the last ready tracks teach how long others will take."""
_SHARE = 20
_LONGEST_REST = 5.0
"""What was read is not read again before 20 times as long as that took, or this: looking is little work."""
_PATIENCE = 3.0
"""How long a reader waits for the state file before he sees what was read of it last."""
_SLOW = "the state file does not answer"


@cache
def _template() -> Template:
    """Return the page's template. NB: only when somebody looks; to compile it takes a tenth of a start."""
    environment = Environment(
        loader=PackageLoader("notifier"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("status.html")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was read last, of which revision, and until when that is not asked again."""

    revision: object
    config: Config
    facts: Known
    good_until: float


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A page, soon or already, and what it shows the state of."""

    of: object
    text: "asyncio.Task[str]"


class StatusPage:
    """Reads what has changed, and no more often than is cheap; renders it for whoever asks."""

    def __init__(
        self, store: Store, *, clock: Clock, situation: Callable[[], Situation], patience: float = _PATIENCE
    ) -> None:
        self._store = store
        self._clock = clock
        self._situation = situation
        self._patience = patience
        self._known: _Reading | None = None
        self._makings: dict[str, Making | None] = {}
        self._stale: str | None = None
        """Why what is known is not how it is now."""
        self._reading = asyncio.Lock()
        self._rendered: dict[Query, _Rendered] = {}

    async def mark(self) -> object:
        """Return what differs whenever the page would, but for the passing of time."""
        now = self._situation()
        try:
            known, stale = await self._current(now)
        except StorageError as error:
            return str(error), now.mark
        return known.revision, stale, now.mark

    async def html(self, parameters: Mapping[str, str]) -> str:
        """Return the page for a query string. Raises StorageError when nothing could ever be read.

        Who asks for the same within a second gets the same: a crowd costs no more than one reader.
        """
        situation, query, now = self._situation(), asked(parameters), self._clock.now()
        known, stale = await self._current(situation)
        of = (known.good_until, stale, situation.mark, now.replace(microsecond=0))
        before = self._rendered.get(query)
        if before is not None and before.of == of:
            return await asyncio.shield(before.text)
        if len(self._rendered) >= _MOST_RENDERED:
            self._rendered.clear()
        view = View(situation, known.facts, now)
        text = asyncio.create_task(self._render(view, known.facts.catalogue, query, stale), name="page")
        self._rendered[query] = _Rendered(of, text)
        return await asyncio.shield(text)

    async def _render(self, view: View, catalogue: Catalogue, query: Query, stale: str | None) -> str:
        selection = await asyncio.to_thread(select, catalogue, query)
        tracks = await self._documents(selection)
        return await asyncio.to_thread(lambda: _template().render(page=view.page(selection, tracks, stale)))

    async def _documents(self, selection: Selection) -> Mapping[str, Track]:
        try:
            async with asyncio.timeout(self._patience):
                return await self._store.documents([line.audio_id for line in selection.lines])
        except (StorageError, TimeoutError):
            return {}

    async def _current(self, now: Situation) -> tuple[_Reading, str | None]:
        """Return what is known, read again if something has changed, and why it is not if it is not."""
        if self._reading.locked() and self._known is not None:
            return self._known, self._stale
        async with self._reading:
            try:
                async with asyncio.timeout(self._patience):
                    known, self._stale = await self._read(now), None
            except (StorageError, TimeoutError) as error:
                if self._known is None:
                    raise error if isinstance(error, StorageError) else StorageError(_SLOW) from None
                known, self._stale = self._known, str(error) or _SLOW
            return known, self._stale

    async def _read(self, now: Situation) -> _Reading:
        known, began, config = self._known, perf_counter(), now.config
        is_same = known is not None and known.config is config
        if known is not None and is_same and began < known.good_until:
            return known
        # NB: usage may be written down before it counts as that
        revision = await self._store.revision(), now.written
        if known is not None and is_same and known.revision == revision:
            return known
        accounts = {entry.key for entry in config.accounts}
        glance = await self._store.glance(recent=_RECENT, dead=_DEAD, followed=accounts)
        labels = {watch.audio_id: watch.name for watch in config.tracks}
        brought = headings(config, glance.followed)
        catalogue = await asyncio.to_thread(arrange, glance.tracks, labels, brought)
        hours = await self._store.usage(since=hour_of(self._clock.now()) - DAY)
        facts = Known(glance, catalogue, await self._learn(catalogue), hours, now.written)
        ended = perf_counter()
        rest = min((ended - began) * _SHARE, _LONGEST_REST)
        self._known = _Reading(revision, config, facts, ended + rest)
        return self._known

    async def _learn(self, catalogue: Catalogue) -> Experience:
        """Look at tracks that became ready since the last time."""
        latest = [line.audio_id for line in catalogue.tracks[Standing.READY][:_LEARNED_FROM]]
        new = [audio_id for audio_id in latest if audio_id not in self._makings]
        tracks = await self._store.documents(new) if new else {}
        seen = {audio_id: making_of(tracks[audio_id]) if audio_id in tracks else None for audio_id in new}
        known = self._makings | seen
        self._makings = {audio_id: known[audio_id] for audio_id in latest}
        return Experience(making for making in self._makings.values() if making is not None)
