"""What the commands around the state file need: the watchlist as far as it is valid, and the file itself."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import click

from notifier import loading, paths
from notifier.cli.options import EXIT_STORAGE, fail, unknown_target
from notifier.config import Config
from notifier.loading import InvalidConfigError
from notifier.settings import Unresolved
from notifier.store import DeliveryRow, StorageError, Store

T = TypeVar("T")


class Situation:
    """The watchlist, read without its secrets, and the state file, which no command makes."""

    def __init__(self, config: str | None, state_file: str | None) -> None:
        self.file = paths.config_file(config)
        self.config: Config | None = None
        self.error: str | None = None
        try:
            self.config = loading.load(self.file, resolve=False).config
        except InvalidConfigError as error:
            self.error = error.brief()
        configured = self.config.state if self.config is not None else None
        if isinstance(configured, Unresolved) and state_file is None:
            fail(f"notifier: {self.file}: the reference in state: leads nowhere here; use --state-file", 1)
        self.path = paths.state_file(state_file, configured)

    def use(self, work: Callable[[Store | None], Awaitable[T]], *, is_read_only: bool = True) -> T:
        """Do some work on the state file, or on None when there is none yet.

        NB: run by root, SQLite gives the files it makes beside the state file to that file's owner.
        """
        try:
            is_there = self._is_there()
            return asyncio.run(self._with_store(work, is_read_only) if is_there else _await(work(None)))
        except StorageError as error:
            fail(f"notifier: {error}", EXIT_STORAGE)

    def _is_there(self) -> bool:
        """Say whether there is a state file; one that is empty is only about to become one."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror}") from error

    async def _with_store(self, work: Callable[[Store | None], Awaitable[T]], is_read_only: bool) -> T:
        async with Store(self.path, is_read_only=is_read_only) as store:
            return await work(store)

    def gone(self, rows: Iterable[DeliveryRow]) -> set[str]:
        """Return the targets of deliveries that the watchlist does not name; none while it is not valid."""
        if self.config is None:
            return set()
        return {row.target for row in rows} - self.config.targets.keys()

    async def check_target(self, target: str | None, store: Store | None) -> None:
        """Refuse a target that neither the watchlist nor the state file knows, as wrong usage."""
        known = set(self.config.targets) if self.config is not None else set()
        if store is not None:
            stored = {*await store.gates(), *await store.backlogs()}
            known |= {name for name in stored if not name.startswith(":")}
        if target is not None and target not in known:
            raise click.UsageError(unknown_target(target, known))


async def _await(work: Awaitable[T]) -> T:
    return await work
