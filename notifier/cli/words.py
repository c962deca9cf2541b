"""The words that a command takes here and now, for shells that complete them: targets, tracks, dead letters.

Reads the watchlist as text only, so that a mistake in it matters little and no secret is ever looked up. What
cannot be read has no words.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from notifier import document, paths
from notifier.document import Mapping, Scalar, Sequence_, value_at
from notifier.mistake import printable
from notifier.secret import has_reference

_MOST = 200
"""More of them help nobody who chooses one."""

Words = Iterable[tuple[str, str]]
"""Words with what they mean, which may be nothing."""
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completing(words: Callable[[click.Context], Words]) -> Complete:
    """Make of a source of words what click asks; nobody hears of what goes wrong in it."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given = context.params.get(parameter.name or "")
        taken = {str(one) for one in given} if isinstance(given, tuple) else set()
        items: list[CompletionItem] = []
        with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stderr(io.StringIO()):
            for word, meaning in words(context):
                if word.startswith(incomplete) and word not in taken and word.isprintable():
                    items.append(CompletionItem(word, help=printable(meaning, 80) or None))
                if len(items) == _MOST:
                    break
        return items

    return complete


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the names of files to the shell."""
    return [CompletionItem(incomplete, type="file")]


def _given(context: click.Context, name: str) -> str | None:
    """Return an option of this command or of the one that it belongs to."""
    value = context.params.get(name)
    if value is None and context.parent is not None:
        return _given(context.parent, name)
    return value


def _watchlist(context: click.Context) -> Any:
    content = document.read(Path(paths.config_file(_given(context, "config"))))
    root, _ = document.parse(content.decode("utf-8-sig"))
    return root


def _targets(context: click.Context) -> Words:
    targets = value_at(_watchlist(context), ("targets",))
    for name, target in targets.items() if isinstance(targets, Mapping) else ():
        kind = value_at(target, ("type",))
        yield name, str(kind) if isinstance(kind, Scalar) else ""


def _tracks(context: click.Context) -> Words:
    watch = value_at(_watchlist(context), ("watch",))
    for entry in watch if isinstance(watch, Sequence_) else ():
        audio_id = value_at(entry, ("audio_id",)) if isinstance(entry, Mapping) else entry
        if isinstance(audio_id, Scalar):
            name = value_at(entry, ("name",))
            yield _literal(audio_id), _literal(name) if isinstance(name, Scalar) else ""


def _literal(text: str) -> str:
    """Return a text as it is meant; a reference is left as one."""
    return text if has_reference(text) else text.replace("$$", "$")


def _dead_letters(context: click.Context) -> Iterator[tuple[str, str]]:
    from notifier.cli.situation import Situation
    from notifier.delivery import DeliveryState
    from notifier.store import DeliveryRow, Store

    async def dead(store: Store | None) -> list[DeliveryRow]:
        target = _given(context, "target")
        return [] if store is None else await store.deliveries(state=DeliveryState.DEAD, target=target)

    situation = Situation(_given(context, "config"), _given(context, "state_file"))
    for row in reversed(situation.use(dead)):
        yield str(row.id), f"{row.name} to {row.target}: {row.last_error}"


targets = _completing(_targets)
tracks = _completing(_tracks)
dead_letters = _completing(_dead_letters)
