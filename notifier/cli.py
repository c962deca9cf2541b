"""The commands: what they take, what they print and with which code they exit.

Imports what needs the network only where a command needs it, so that the others start quickly.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from notifier import __version__, display, loading, paths, report
from notifier.clock import SystemClock
from notifier.config import Config
from notifier.delivery import DeliveryState
from notifier.loading import InvalidConfigError
from notifier.store import InUseError, RunLock, StorageError, Store, is_running

T = TypeVar("T")

EXIT_STORAGE = 74
EXIT_IN_USE = 75
EXIT_CONFIG = 78

_config_option = click.option(
    "-c",
    "--config",
    metavar="FILE",
    help="The watchlist; default $NOTIFIER_CONFIG, else /etc/notifier/watchlist.yaml.",
)
_state_option = click.option(
    "--state-file", metavar="PATH", help="The state file, instead of the watchlist's."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="notifier")
def main() -> None:
    """Watch PixVerse music tracks and tell Slack, Discord or any webhook when they end."""


def _fail(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


@main.command()
@_config_option
@_state_option
def run(config: str | None, state_file: str | None) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    _open_standard_streams()
    file = paths.config_file(config)
    try:
        loaded = loading.load(file)
    except InvalidConfigError as error:
        _fail("\n".join(error.lines()), EXIT_CONFIG)
    for warning in loaded.warnings:
        click.echo(warning.line(file), err=True)
    path = paths.state_file(state_file, loaded.config.state)
    lock = RunLock(path)
    try:
        lock.acquire()
        _run_daemon(loaded, file, path)
    except InUseError as error:
        _fail(f"notifier: {error}", EXIT_IN_USE)
    except StorageError as error:
        _fail(f"notifier: {error}", EXIT_STORAGE)
    finally:
        lock.release()


def _open_standard_streams() -> None:
    """Occupy closed descriptors, lest the state file gets one of them and a stray line lands in it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run_daemon(loaded: loading.Loaded, file: str, path: Path) -> None:
    from notifier import log  # noqa: PLC0415
    from notifier.app import App  # noqa: PLC0415

    log.configure(loaded.config.log.level, loaded.config.log.format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_daemon(App, loaded, file, path))


async def _daemon(app: Any, loaded: loading.Loaded, file: str, path: Path) -> None:
    await app(loaded, config_file=file, state_file=path).run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@main.command()
@_config_option
@click.option("--resolve", is_flag=True, help="Resolve references too, instead of judging their form only.")
def check(config: str | None, resolve: bool) -> None:
    """Validate the watchlist and print every mistake."""
    file = paths.config_file(config)
    try:
        loaded = loading.load(file, resolve=resolve)
    except InvalidConfigError as error:
        for line in error.lines():
            click.echo(line)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(warning.line(file))
    watches, targets = len(loaded.config.watch), len(loaded.config.targets)
    click.echo(f"{file}: valid, {_count(watches, 'track')}, {_count(targets, 'target')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@main.command()
def schema() -> None:
    """Print the JSON Schema of the watchlist."""
    from notifier.watchlist_schema import json_schema  # noqa: PLC0415

    display.print_json(json_schema())


@main.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--event", type=click.Choice(["completed", "failed"]), default="completed", help="Which sample."
)
@_config_option
def test(targets: tuple[str, ...], event: str, config: str | None) -> None:
    """Send a sample event to targets, all of them by default, and show what each answered."""
    from notifier.trial import try_targets  # noqa: PLC0415

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
            raise click.UsageError(_unknown_target(name, loaded.config.targets))
    results = asyncio.run(try_targets(loaded, names, is_completed=event == "completed"))
    display.table(
        "Test messages",
        ("target", "type", "result", "answer"),
        ((result.target, result.type, result.verdict, result.answer) for result in results),
        empty="no targets",
    )
    sys.exit(0 if all(result.is_accepted for result in results) else 1)


def _unknown_target(name: str, known: Any) -> str:
    from notifier.document import did_you_mean, printable  # noqa: PLC0415

    return f"unknown target '{printable(name)}'{did_you_mean(name, known)}"


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
        self.path = paths.state_file(state_file, configured)

    def use(self, work: Callable[[Store | None], Awaitable[T]], *, is_read_only: bool = True) -> T:
        """Do some work on the state file, or on None when there is none yet."""
        if not self.path.exists():
            return asyncio.run(_await(work(None)))
        _become_owner(self.path)
        try:
            return asyncio.run(self._with_store(work, is_read_only=is_read_only))
        except StorageError as error:
            _fail(f"notifier: {error}", EXIT_STORAGE)

    async def _with_store(self, work: Callable[[Store | None], Awaitable[T]], *, is_read_only: bool) -> T:
        async with Store(self.path, is_read_only=is_read_only) as store:
            return await work(store)


async def _await(work: Awaitable[T]) -> T:
    return await work


def _become_owner(path: Path) -> None:
    """Touch the state file as the user it belongs to: root's files beside it would stop the daemon."""
    about = path.stat()
    if os.geteuid() == 0 and about.st_uid != 0:
        os.setegid(about.st_gid)
        os.seteuid(about.st_uid)


@main.command()
@_config_option
@_state_option
@_json_option
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


_target_option = click.option("--target", metavar="T", help="Only this target's.")
_row_state_option = click.option(
    "--state", type=click.Choice([state.value for state in DeliveryState]), help="Only those in this state."
)
_ids = click.argument("ids", nargs=-1, type=click.IntRange(min=1), metavar="ID...")


@main.group(invoke_without_command=True)
@_config_option
@_state_option
@_target_option
@_row_state_option
@_json_option
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
@_config_option
@_state_option
@_target_option
@_row_state_option
@_json_option
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
@_config_option
@_state_option
@_json_option
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
        _fail(f"notifier: there is no delivery {delivery}", 1)
    row, attempts = found
    if given["as_json"]:
        attempts_json = [report.attempt_json(attempt) for attempt in attempts]
        display.print_json({**report.delivery_json(row), "attempts": attempts_json})
    else:
        display.print_delivery(row, attempts, SystemClock().now())


@deliveries.command("retry")
@_ids
@click.option("--dead", is_flag=True, help="All dead letters, of --target if that is given.")
@_config_option
@_state_option
@_target_option
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
@_ids
@_config_option
@_state_option
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


@main.command()
@click.argument("target")
@_config_option
@_state_option
def resume(target: str, config: str | None, state_file: str | None) -> None:
    """Un-pause a target after it has been mended."""
    situation = _Situation(config, state_file)
    if situation.config is None and situation.error is not None:
        click.echo(situation.error, err=True)
    known = set(situation.config.targets) if situation.config is not None else set()

    async def work(store: Store | None) -> bool:
        gates = {} if store is None else await store.gates()
        if target not in known and (target not in gates or target.startswith(":")):
            raise click.UsageError(_unknown_target(target, known))
        return store is not None and await store.reopen(target, now=SystemClock().now())

    was_paused = situation.use(work, is_read_only=False)
    click.echo(f"{target} {'takes messages again' if was_paused else 'was not paused'}")


@main.command()
@click.option(
    "--speed",
    type=click.FloatRange(min=10, max=100),
    default=20.0,
    show_default=True,
    help="How much faster than real time the simulated tracks are made.",
)
def demo(speed: float) -> None:
    """Show the whole thing without an account: a simulated API, a watchlist and receivers on this machine."""
    from notifier.demo import play  # noqa: PLC0415

    sys.exit(asyncio.run(play(speed)))
