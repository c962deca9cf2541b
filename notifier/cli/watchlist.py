"""The commands around the watchlist: ``run``, ``check``, ``schema``, ``test``, and ``demo``."""

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from notifier import display, paths
from notifier.cli import words
from notifier.cli.options import as_errors, config_option, state_option, unknown_target

if TYPE_CHECKING:
    from notifier.config import Config


@click.command()
@config_option
@state_option
def run(config: str | None, state_file: str | None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    from notifier.cli.service import serve

    serve(config, state_file)


@click.command()
@config_option
@click.option("--resolve", is_flag=True, help="Resolve references too, instead of judging their form only.")
def check(config: str | None, resolve: bool) -> None:
    """Validate the watchlist and print every mistake."""
    from notifier import loading
    from notifier.loading import InvalidConfigError

    file = paths.config_file(config)
    try:
        loaded = loading.load(file, resolve=resolve)
    except InvalidConfigError as error:
        for line in as_errors(error.lines(), sys.stdout):
            click.echo(line)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(warning.line(file))
    click.echo(f"{file}: valid, {', '.join(_counts(loaded.config))}")


def _counts(config: "Config") -> Iterator[str]:
    yield _count(len(config.tracks), "track")
    if config.accounts:
        yield _count(len(config.accounts), "account")
    yield _count(len(config.targets), "target")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@click.command()
def schema() -> None:
    """Print the JSON Schema of the watchlist."""
    from notifier.watchlist_schema import json_schema

    display.print_json(json_schema())


@click.command(short_help="Send a sample event to targets.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=words.targets)
@click.option(
    "--event", type=click.Choice(["completed", "failed"]), default="completed", help="Which sample."
)
@config_option
def test(targets: tuple[str, ...], event: str, config: str | None) -> None:
    """Send a sample event to targets, all of them by default, and show what each answered."""
    import asyncio

    from notifier import loading
    from notifier.loading import InvalidConfigError
    from notifier.trial import try_targets

    file = paths.config_file(config)
    try:
        loaded = loading.load(file)
    except InvalidConfigError as error:
        for line in error.lines():
            click.echo(line, err=True)
        sys.exit(1)
    names = targets or tuple(loaded.config.targets)
    for name in names:
        if name not in loaded.config.targets:
            raise click.UsageError(unknown_target(name, loaded.config.targets))
    results = asyncio.run(try_targets(loaded, names, is_completed=event == "completed"))
    display.table(
        "Test messages",
        ("target", "type", "result", "answer"),
        ((result.target, result.type, result.verdict, result.answer) for result in results),
        empty="no targets",
    )
    sys.exit(0 if all(result.is_accepted for result in results) else 1)


@click.command(short_help="Show the whole thing without an account.")
@click.option(
    "--speed",
    type=click.FloatRange(min=10, max=100),
    default=20.0,
    show_default=True,
    metavar="N",
    help="How much faster than real time the simulated tracks are made.",
)
def demo(speed: float) -> None:
    """Show the whole thing without an account: a simulated API, a watchlist and receivers on this machine."""
    import asyncio

    from notifier.demo import play

    if not math.isfinite(speed):
        raise click.BadParameter("expected a number", param_hint="--speed")
    sys.exit(asyncio.run(play(speed)))
