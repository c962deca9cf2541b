"""``status`` and ``resume``: how tracks and targets are, and mending a target."""

from typing import TYPE_CHECKING

import click

from notifier import display
from notifier.cli import words
from notifier.cli.options import config_option, json_option, state_option

if TYPE_CHECKING:
    from notifier.report import Overview
    from notifier.store import Store


@click.command(short_help="Show tracks, targets and the outbox.")
@config_option
@state_option
@json_option
@click.option("--all", "is_all", is_flag=True, help="Show everything on a terminal, too.")
def status(config: str | None, state_file: str | None, as_json: bool, is_all: bool) -> None:
    """Show tracks, targets and the outbox, whether the daemon runs or not.

    What needs a person comes first, then what is under way; on a terminal, what ended long ago is summed up.
    """
    from notifier import report
    from notifier.cli.overview import show
    from notifier.cli.situation import Situation
    from notifier.clock import SystemClock
    from notifier.store import is_running

    situation = Situation(config, state_file)
    now = SystemClock().now()

    async def work(store: "Store | None") -> "Overview":
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
        show(overview, now, is_all=is_all)


@click.command()
@click.argument("target", shell_complete=words.targets)
@config_option
@state_option
def resume(target: str, config: str | None, state_file: str | None) -> None:
    """Un-pause a target after it has been mended."""
    from notifier.cli.situation import Situation
    from notifier.clock import SystemClock

    situation = Situation(config, state_file)
    if situation.error is not None:
        click.echo(situation.error, err=True)

    async def work(store: "Store | None") -> bool:
        await situation.check_target(target, store)
        return store is not None and await store.reopen(target, now=SystemClock().now())

    was_paused = situation.use(work, is_read_only=False)
    click.echo(f"{target} {'takes messages again' if was_paused else 'was not paused'}")
