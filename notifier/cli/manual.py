"""``man``: the manual page notifier(1), in roff, made of the commands as they are.

What no command says of itself, such as files and signals, stands here.
"""

import inspect
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import click

from notifier import __version__, paths
from notifier.cli.options import EXIT_CONFIG, EXIT_IN_USE, EXIT_STORAGE

_REVISED = "2026-11-25"
"""When the words below were last changed. NB: not the day it is, lest one release has many pages."""

_LONG_OPTION = re.compile(r"--\S+")
_FEW = 2
"""An option that more commands have is explained once."""
_DESCRIPTION = """
PixVerse makes music through useapi.net; a track takes minutes, and the API only tells those who ask.
notifier reads the tracks of a watchlist until they end, and posts to Slack, Discord, Mattermost or any
webhook when one is ready, has failed, is missing or takes long. What is to be told is written down before it
is sent: no message is lost, none comes twice.
"""
_EXITS = (
    ("0", "All is well; run: stopped by SIGTERM or SIGINT."),
    (
        "1",
        "What was asked for is wrong or was not done: a mistake, a refusal, a delivery that does not exist.",
    ),
    ("2", "Wrong usage."),
    (str(EXIT_STORAGE), "The state file is corrupt or cannot be read or written."),
    (str(EXIT_IN_USE), "run: another one has the state file, or the port of http: is in use."),
    (str(EXIT_CONFIG), "run: the watchlist is invalid. Trying again does not mend it."),
)
_ENVIRONMENT = (
    ("NOTIFIER_CONFIG", "The watchlist, where no --config names it."),
    ("CREDENTIALS_DIRECTORY", "Where ${credential:NAME} of the watchlist is looked up; systemd sets it."),
    (
        "STATE_DIRECTORY",
        "Where the state file is, unless the watchlist or --state-file says; systemd sets it.",
    ),
    ("XDG_STATE_HOME", f"The same where {paths.SYSTEM_STATE} does not exist; ~/.local/state by default."),
    ("NO_COLOR", "Not empty: no colour, on a terminal either."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM", "How systemd wants to be told of the daemon's state."),
)
_FILES = (
    (paths.CONFIG, "The watchlist: what to watch and whom to tell."),
    (
        str(paths.SYSTEM_STATE / "state.db"),
        "The state file: tracks, events and the outbox; with -wal and -shm.",
    ),
    ("/etc/notifier/credentials", "Secrets of the service, one file for each, for root only."),
    ("/etc/notifier/environment", "Variables of the service, lines of NAME=value."),
)
_SIGNALS = (
    (
        "SIGHUP",
        "run reads the watchlist again; it notices a change by itself, too. Mistakes in it change nothing.",
    ),
    ("SIGTERM, SIGINT", "run stops: attempts under way get 10 seconds. The second one ends it at once."),
)
_EXAMPLES = (
    (
        'notifier watch add "$AUDIO_ID" --name "Intro theme" --notify band-room',
        "Watch a track that POST music/create has just answered with; a running daemon polls it at once.",
    ),
    (
        "notifier check && notifier test",
        "Find every mistake in the watchlist, then send each target a sample.",
    ),
    ("notifier deliveries --state dead", "Show what was given up; show ID says why, retry ID tries again."),
)
_HELP = ("-h, --help", "Show how a command is called.")
_SEE_ALSO = "systemctl(1), journalctl(1), systemd.exec(5)"


@click.command("man", short_help="Print the manual page.")
@click.pass_context
def manual(context: click.Context) -> None:
    """Print the manual page, notifier(1), for the directory man1 of a manual."""
    click.echo("\n".join(page(context.find_root())))


def page(root: click.Context) -> Iterator[str]:
    """Yield the lines of the page."""
    commands = [*_below(root)]
    counts = Counter(record for command in commands for record in _options(command))
    common = {record: None for record, count in counts.items() if count > _FEW}
    yield f'.TH NOTIFIER 1 "{_REVISED}" "pixverse\\-notifier {escape(__version__)}" "User Commands"'
    yield from (".SH NAME", f"notifier \\- {escape(_first_line(root.command))}")
    yield from (".SH SYNOPSIS", ".B notifier", ".I COMMAND", "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]")
    yield from (".SH DESCRIPTION", *_paragraphs(_DESCRIPTION))
    yield ".SH COMMANDS"
    for command in commands:
        yield from _command(command, common)
    for title, items in (
        ("COMMON OPTIONS", (*common, _HELP)),
        ("EXIT STATUS", _EXITS),
        ("ENVIRONMENT", _ENVIRONMENT),
        ("FILES", _FILES),
        ("SIGNALS", _SIGNALS),
        ("EXAMPLES", _EXAMPLES),
    ):
        yield f".SH {title}"
        yield from _items(items)
    yield from (".SH SEE ALSO", escape(_SEE_ALSO))


def escape(text: str) -> str:
    """Return text that roff prints as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", plain, flags=re.MULTILINE)


def _first_line(command: click.Command) -> str:
    return (command.help or "").partition("\n")[0].rstrip(".")


def _below(context: click.Context) -> Iterator[click.Context]:
    """Yield every command below one, each in its place."""
    if not isinstance(context.command, click.Group):
        return
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is not None and not command.hidden:
            below = click.Context(command, info_name=name, parent=context)
            yield below
            yield from _below(below)


def _command(context: click.Context, common: Collection[tuple[str, str]]) -> Iterator[str]:
    """Yield how a command is called, what it does and which options it has."""
    options = [*_options(context)]
    called = ["notifier", *context.command_path.split()[1:], *context.command.collect_usage_pieces(context)]
    yield f".SS {escape(' '.join(piece for piece in called if piece != '[OPTIONS]'))}"
    yield from _paragraphs(context.command.help or "")
    shared = " ".join(names for names, meaning in options if (names, meaning) in common)
    if shared:
        yield from (".PP", f"Takes {escape(', '.join(_LONG_OPTION.findall(shared)))}.")
    yield from _items(record for record in options if record not in common)


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            yield record


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs; those that click is told to leave as they are keep their lines."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".nf", escape(paragraph.removeprefix("\b\n")), ".fi")
        else:
            yield escape(" ".join(paragraph.split()))


def _items(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in items:
        yield from (".TP", f"\\fB{escape(term)}\\fR", escape(" ".join(meaning.split())))
