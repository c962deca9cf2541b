"""``deliveries``: the outbox as people look at it and mend it at three in the morning."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from notifier import display
from notifier.cli import words
from notifier.cli.options import config_option, fail, json_option, state_option
from notifier.clock import SystemClock
from notifier.delivery import DeliveryState

if TYPE_CHECKING:
    from notifier.store import AttemptRow, DeliveryRow, Store

_STATES = [state.value for state in DeliveryState]
_ids = click.argument(
    "ids", nargs=-1, type=click.IntRange(min=1), metavar="ID...", shell_complete=words.dead_letters
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command here; they may stand before or after its name."""
    for option in (
        click.option("--target", metavar="T", shell_complete=words.targets, help="Only this target's."),
        click.option("--state", type=click.Choice(_STATES), help="Only those in this state."),
        json_option,
        state_option,
        config_option,
    ):
        command = option(command)
    return click.pass_context(command)


class _Question:
    """What was asked: which deliveries, where, and how the answer is to look."""

    def __init__(self, context: click.Context, options: dict[str, Any]) -> None:
        from notifier.cli.situation import Situation

        outer = context.find_object(dict) or {}
        given = {name: value or outer.get(name) for name, value in options.items()}
        self.target: str | None = given["target"]
        self.state: str | None = given["state"]
        self.as_json = bool(given["as_json"])
        self.situation = Situation(given["config"], given["state_file"])

    async def rows(self, store: "Store | None", ids: Sequence[int] | None = None) -> list["DeliveryRow"]:
        """Return the deliveries asked for, of these ids or of all."""
        await self.situation.check_target(self.target, store)
        if store is None:
            return []
        return await store.deliveries(target=self.target, state=self.state, ids=ids)


@click.group(invoke_without_command=True)
@_options
def deliveries(context: click.Context, /, **options: Any) -> None:
    """Show and mend the outbox."""
    context.obj = options
    if context.invoked_subcommand is None:
        context.invoke(list_deliveries, **options)


@deliveries.command("list")
@_options
def list_deliveries(context: click.Context, /, **options: Any) -> None:
    """List deliveries in the order of their events."""
    from notifier import report

    question = _Question(context, options)
    rows = question.situation.use(question.rows)
    if question.as_json:
        display.print_json([report.delivery_json(row) for row in rows])
    else:
        display.print_deliveries(rows, SystemClock().now(), question.situation.gone(rows))


@deliveries.command("show")
@click.argument("delivery", type=click.IntRange(min=1), metavar="ID", shell_complete=words.dead_letters)
@_options
def show_delivery(context: click.Context, /, delivery: int, **options: Any) -> None:
    """Show a delivery with all its attempts and what to do next."""
    from notifier import report

    question = _Question(context, options)

    async def work(store: "Store | None") -> "tuple[DeliveryRow, list[AttemptRow]] | None":
        rows = await question.rows(store, [delivery])
        return (rows[0], await store.attempts(delivery)) if rows and store is not None else None

    found = question.situation.use(work)
    if found is None:
        fail(f"notifier: there is no delivery {delivery}", 1)
    row, attempts = found
    if question.as_json:
        attempts_json = [report.attempt_json(attempt) for attempt in attempts]
        display.print_json({**report.delivery_json(row), "attempts": attempts_json})
    else:
        display.print_delivery(row, attempts, SystemClock().now(), question.situation.gone([row]))


@deliveries.command("retry")
@_ids
@click.option("--dead", is_flag=True, help="All dead letters, of --target if that is given.")
@_options
def retry_deliveries(context: click.Context, /, ids: tuple[int, ...], dead: bool, **options: Any) -> None:
    """Try dead or pending deliveries again, with all their time before them."""
    if bool(ids) == dead:
        raise click.UsageError("name deliveries by ID, or all dead letters by --dead")
    question = _Question(context, options)

    async def work(store: "Store | None") -> tuple[Sequence[int], list["DeliveryRow"]]:
        found = [row.id for row in await question.rows(store, None if dead else ids)]
        if store is None:
            return ids, []
        chosen = (
            [one for one in await store.ids_in_state(DeliveryState.DEAD) if one in found] if dead else ids
        )
        replayed = await store.replay([one for one in chosen if one in found], now=SystemClock().now())
        return chosen, await store.deliveries(ids=replayed)

    chosen, replayed = question.situation.use(work, is_read_only=False)
    gone = question.situation.gone(replayed)
    done = {row: display.retried(row, gone) for row in replayed}
    _answer(question, chosen, done, missing="there is no undelivered delivery")


@deliveries.command("drop")
@_ids
@_options
def drop_deliveries(context: click.Context, /, ids: tuple[int, ...], **options: Any) -> None:
    """Delete deliveries for good."""
    if not ids:
        raise click.UsageError("name the deliveries by ID")
    question = _Question(context, options)

    async def work(store: "Store | None") -> list["DeliveryRow"]:
        found = await question.rows(store, ids)
        dropped = await store.drop([row.id for row in found]) if store is not None else []
        return [row for row in found if row.id in dropped]

    dropped = question.situation.use(work, is_read_only=False)
    _answer(question, ids, dict.fromkeys(dropped, "dropped"), missing="there is no delivery")


def _answer(
    question: _Question, chosen: Sequence[int], done: Mapping["DeliveryRow", str], *, missing: str
) -> None:
    """Say what was done to which deliveries, and exit 1 when one was not there."""
    from notifier import report

    if question.as_json:
        display.print_json([report.delivery_json(row) for row in done])
    else:
        for row, what in done.items():
            click.echo(f"delivery {row.id}: {what}")
        if not chosen:
            click.echo("there are no dead letters")
    absent = [delivery for delivery in chosen if delivery not in {row.id for row in done}]
    for delivery in absent:
        click.echo(f"notifier: {missing} {delivery}", err=True)
    sys.exit(1 if absent else 0)
