"""Options and messages that several commands share."""

import os
import sys
from collections.abc import Iterable
from typing import NoReturn, TextIO

import click

from notifier.cli import words
from notifier.mistake import did_you_mean, printable

EXIT_STORAGE = 74
EXIT_IN_USE = 75
EXIT_CONFIG = 78

config_option = click.option(
    "-c",
    "--config",
    metavar="FILE",
    shell_complete=words.files,
    help="The watchlist; default $NOTIFIER_CONFIG, else /etc/notifier/watchlist.yaml.",
)
state_option = click.option(
    "--state-file",
    metavar="PATH",
    shell_complete=words.files,
    help="The state file, instead of the watchlist's.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def fail(message: str, code: int) -> NoReturn:
    """Say on stderr what is wrong and exit."""
    click.echo(message, err=True)
    sys.exit(code)


def as_errors(lines: list[str], stream: TextIO | None) -> list[str]:
    """Return the lines as the journal knows errors, if that is where they go; else as they are."""
    from notifier.log import is_journal

    return [f"<3>{line}" for line in lines] if stream and is_journal(stream, os.environ) else lines


def unknown_target(name: str, known: Iterable[str]) -> str:
    """Return the sentence for a target that the watchlist does not have."""
    return f"unknown target '{printable(name)}'{did_you_mean(name, known)}"
