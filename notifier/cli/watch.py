"""``watch``: puts a track on the watchlist or takes it off, in the file that people edit too."""

from typing import Any

import click

from notifier import paths
from notifier.cli import words
from notifier.cli.options import config_option
from notifier.event import EVENTS


def _judged(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a word that the watchlist would refuse; one that is empty says nothing."""
    if context.resilient_parsing or value is None or (isinstance(parameter, click.Option) and not value):
        return value or None
    from pydantic import TypeAdapter, ValidationError

    from notifier.document import Scalar
    from notifier.mistake import Place
    from notifier.settings import AudioId, Duration, Text

    kind: Any = {"audio_id": AudioId, "name": Text, "interval": Duration}[parameter.name or ""]
    try:
        value.encode()
        TypeAdapter(kind).validate_python(Scalar(value, Place(1, 1), is_plain=False))
    except UnicodeEncodeError:
        raise click.BadParameter("is not UTF-8 text") from None
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"]) from None
    return value


@click.group()
def watch() -> None:
    """Put tracks on the watchlist, or take them off."""


@watch.command(short_help="Put a track on the watchlist.")
@click.argument("audio_id", callback=_judged)
@click.option("--name", metavar="N", callback=_judged, help="A label; default: the track's own name.")
@click.option(
    "--notify", metavar="T", multiple=True, shell_complete=words.targets, help="A target to tell; repeatable."
)
@click.option(
    "--event", "events", type=click.Choice([*EVENTS]), multiple=True, help="An event to tell; repeatable."
)
@click.option("--interval", metavar="D", callback=_judged, help="How often to read it.")
@config_option
def add(config: str | None, **given: Any) -> None:
    """Put a track on the watchlist; a running daemon polls it within 5 seconds.

    Adds lines to the file and leaves all others as they are. A track that is there already, with the options
    given here, is left alone, and that is no failure: a script may try again.
    """
    from notifier.cli.editing import put
    from notifier.revision import Entry

    entry = Entry(**given | {key: tuple(dict.fromkeys(given[key])) for key in ("notify", "events")})
    put(entry, paths.config_file(config))


@watch.command(short_help="Take a track off the watchlist.")
@click.argument("audio_id", shell_complete=words.tracks)
@config_option
def remove(audio_id: str, config: str | None) -> None:
    """Take a track off the watchlist; a running daemon polls it no more within 5 seconds.

    Takes the entry's own lines out of the file and leaves all others as they are. What is pending for the
    track still goes out, and what was told is remembered.
    """
    from notifier.cli.editing import take

    take(audio_id, paths.config_file(config))
