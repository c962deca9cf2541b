"""The commands. Each module here holds the commands of one kind; this one puts them together.

What a command alone needs it imports when it runs: whoever presses Tab waits for all these modules.
"""

import click

from notifier import __version__
from notifier.cli.completion import completion
from notifier.cli.deliveries import deliveries
from notifier.cli.doctor import doctor
from notifier.cli.manual import manual
from notifier.cli.outbox import resume, status
from notifier.cli.watch import watch
from notifier.cli.watchlist import check, demo, run, schema, test


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="notifier")
def main() -> None:
    """Watch PixVerse music tracks and tell Slack, Discord, Mattermost or any webhook when they end."""


for command in (
    run,
    check,
    test,
    status,
    deliveries,
    resume,
    doctor,
    watch,
    schema,
    completion,
    manual,
    demo,
):
    main.add_command(command)

__all__ = ["main"]
