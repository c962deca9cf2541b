"""The commands around the state file: ``status``, ``deliveries``, ``resume``. They read no secret."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click

from notifier import display, loading, paths, report
from notifier.cli.common import (
    EXIT_STORAGE,
    config_option,
    fail,
    ids_argument,
    json_option,
    row_state_option,
    state_option,
    target_option,
    unknown_target,
)
from notifier.clock import SystemClock
from notifier.config import Config
from notifier.loading import InvalidConfigError
from notifier.settings import Unresolved
from notifier.store import StorageError, Store, is_running

T = TypeVar("T")


class _Situation:
    """What the commands around the state file need: the watchlist as far as it is valid, and the file."""

    def __init__(self, config: str | None, state_file: str | None) -> None:
        self.file = paths.config_file(config)
        self.config: Config | None = None
        self.error: str | None = None
        try:
            self.config = loading.load(self.file, resolve=False).config
        except InvalidConfigError as error:
            self.error = "\n".join(error.lines())
        configured = self.config.state if self.config is not None else None
        if isinstance(configured, Unresolved) and state_file is None:
            fail(f"notifier: {self.file}: the reference in state: leads nowhere here; use --state-file", 1)
        self.path = paths.state_file(state_file, configured)

    def use(self, work: Callable[[Store | None], Awaitable[T]], *, is_read_only: bool = True) -> T:
        """Do some work on the state file, or on None when there is none yet; never makes one.

        NB: run by root, SQLite gives the files it makes beside the state file to that file's owner.
        """
        if not self.path.exists():
            return asyncio.run(_await(work(None)))
        try:
            return asyncio.run(self._with_store(work, is_read_only=is_read_only))
        except StorageError as error:
            fail(f"notifier: {error}", EXIT_STORAGE)

    async def _with_store(self, work: Callable[[Store | None], Awaitable[T]], *, is_read_only: bool) -> T:
        async with Store(self.path, is_read_only=is_read_only) as store:
            return await work(store)


async def _await(work: Awaitable[T]) -> T:
    return await work


@click.command(short_help="Show tracks, targets and the outbox.")
@config_option
@state_option
@json_option
def status(config: str | None, state_file: str | None, as_json: bool) -> None:
    """Show tracks, targets and the outbox, whether the daemon runs or not."""
    situation = _Situation(config, state_file)
    now = SystemClock().now()

    async def work(store: Store | None) -> report.Overview:
        return await report.overview(
            store,
            situation.config,
            config_file=situation.file,
            config_error=situation.error,
            is_running=is_running(situation.path),
            now=now,
        )

    overview = situation.use(work)
    if as_json:
        display.print_json(report.overview_json(overview))
    else:
        display.print_overview(overview, now)


@click.group(invoke_without_command=True)
@config_option
@state_option
@target_option
@row_state_option
@json_option
@click.pass_context
def deliveries(context: click.Context, /, **options: Any) -> None:
    """Show and mend the outbox."""
    context.obj = options
    if context.invoked_subcommand is None:
        context.invoke(list_deliveries, **options)


def _merged(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Let options stand before or after the subcommand."""
    outer = context.find_object(dict) or {}
    return {
        name: value if value not in {None, False} else outer.get(name, value)
        for name, value in options.items()
    }


@deliveries.command("list")
@config_option
@state_option
@target_option
@row_state_option
@json_option
@click.pass_context
def list_deliveries(context: click.Context, /, **options: Any) -> None:
    """List deliveries in the order of their events."""
    given = _merged(context, options)
    situation = _Situation(given["config"], given["state_file"])

    async def work(store: Store | None) -> Sequence[Any]:
        return () if store is None else await store.deliveries(target=given["target"], state=given["state"])

    rows = situation.use(work)
    if given["as_json"]:
        display.print_json([report.delivery_json(row) for row in rows])
    else:
        display.print_deliveries(rows, SystemClock().now())


@deliveries.command("show")
@click.argument("delivery", type=click.IntRange(min=1), metavar="ID")
@config_option
@state_option
@json_option
@click.pass_context
def show_delivery(context: click.Context, /, delivery: int, **options: Any) -> None:
    """Show a delivery with all its attempts and what to do next."""
    given = _merged(context, options)
    situation = _Situation(given["config"], given["state_file"])

    async def work(store: Store | None) -> tuple[Any, Any] | None:
        rows = [] if store is None else await store.deliveries(ids=[delivery])
        return (rows[0], await store.attempts(delivery)) if rows and store is not None else None

    found = situation.use(work)
    if found is None:
        fail(f"notifier: there is no delivery {delivery}", 1)
    row, attempts = found
    if given["as_json"]:
        attempts_json = [report.attempt_json(attempt) for attempt in attempts]
        display.print_json({**report.delivery_json(row), "attempts": attempts_json})
    else:
        display.print_delivery(row, attempts, SystemClock().now())


@deliveries.command("retry")
@ids_argument
@click.option("--dead", is_flag=True, help="All dead letters, of --target if that is given.")
@config_option
@state_option
@target_option
@click.pass_context
def retry_deliveries(context: click.Context, /, ids: tuple[int, ...], dead: bool, **options: Any) -> None:
    """Try dead or pending deliveries again, with all their time before them."""
    given = _merged(context, options)
    if bool(ids) == dead:
        raise click.UsageError("name deliveries by ID, or all dead letters by --dead")
    situation = _Situation(given["config"], given["state_file"])

    async def work(store: Store | None) -> tuple[Sequence[int], Sequence[int]]:
        if store is None:
            return ids, ()
        chosen = await store.ids_in_state("dead", target=given["target"]) if dead else ids
        return chosen, await store.replay(chosen, now=SystemClock().now())

    chosen, replayed = situation.use(work, is_read_only=False)
    _say_what_was_done("will be tried again", chosen, replayed, "there is no undelivered delivery")


@deliveries.command("drop")
@ids_argument
@config_option
@state_option
@click.pass_context
def drop_deliveries(context: click.Context, /, ids: tuple[int, ...], **options: Any) -> None:
    """Delete deliveries for good."""
    given = _merged(context, options)
    if not ids:
        raise click.UsageError("name the deliveries by ID")
    situation = _Situation(given["config"], given["state_file"])

    async def work(store: Store | None) -> Sequence[int]:
        return () if store is None else await store.drop(ids)

    dropped = situation.use(work, is_read_only=False)
    _say_what_was_done("dropped", ids, dropped, "there is no delivery")


def _say_what_was_done(done: str, chosen: Sequence[int], changed: Sequence[int], missing: str) -> None:
    for delivery in changed:
        click.echo(f"delivery {delivery}: {done}")
    if not chosen:
        click.echo("there are no dead letters")
    absent = [delivery for delivery in chosen if delivery not in set(changed)]
    for delivery in absent:
        click.echo(f"notifier: {missing} {delivery}", err=True)
    sys.exit(1 if absent else 0)


@click.command()
@click.argument("target")
@config_option
@state_option
def resume(target: str, config: str | None, state_file: str | None) -> None:
    """Un-pause a target after it has been mended."""
    situation = _Situation(config, state_file)
    if situation.config is None and situation.error is not None:
        click.echo(situation.error, err=True)
    known = set(situation.config.targets) if situation.config is not None else set()

    async def work(store: Store | None) -> bool:
        gates = {} if store is None else await store.gates()
        if target not in known and (target not in gates or target.startswith(":")):
            raise click.UsageError(unknown_target(target, known))
        return store is not None and await store.reopen(target, now=SystemClock().now())

    was_paused = situation.use(work, is_read_only=False)
    click.echo(f"{target} {'takes messages again' if was_paused else 'was not paused'}")
