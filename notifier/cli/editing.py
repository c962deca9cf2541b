"""What ``watch add`` and ``watch remove`` do: one valid watchlist becomes another, or stays as it is."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import click

from notifier import document, loading, revision, rewriting
from notifier.cli.options import fail, unknown_target
from notifier.config import Watch
from notifier.document import Mapping, value_at
from notifier.duration import parse_duration, spell_compact
from notifier.loading import InvalidConfigError, Loaded
from notifier.mistake import did_you_mean, printable
from notifier.revision import Entry, RefusedError
from notifier.rewriting import RewritingError
from notifier.secret import Sources
from notifier.settings import Unresolved

_BOM = b"\xef\xbb\xbf"
_UNCHANGED = "nothing was changed"


def put(entry: Entry, file: str) -> None:
    """Put an entry on the watchlist and say who will be told; exit 1 where that is not possible."""

    def change(content: bytes, before: Loaded) -> str:
        text = _text(content)
        there = next((one for one in before.config.tracks if one.audio_id == entry.audio_id), None)
        if there is None:
            _check_targets(text, entry.notify)
            return revision.with_entry(text, entry)
        differences = [*_differences(there, entry)]
        if differences:
            fail(
                f"notifier: {entry.audio_id} is watched already, {' and '.join(differences)}; {_UNCHANGED}", 1
            )
        return text

    after = _rewrite(file, change)
    if after is None:
        click.echo(f"{entry.audio_id} is watched already")
        return
    added = f"watch[{len(after.config.watch) - 1}]"
    for warning in after.warnings:
        if warning.path.startswith(added):
            click.echo(warning.line(file), err=True)
    told = ", ".join(after.config.notified(after.config.watch[-1])) or "nobody"
    click.echo(f"{entry.audio_id} is watched now; told: {told}")


def take(audio_id: str, file: str) -> None:
    """Take an entry off the watchlist; exit 1 where it is not there."""

    def change(content: bytes, before: Loaded) -> str:
        watched = [str(one.audio_id) if isinstance(one, Watch) else "" for one in before.config.watch]
        if audio_id not in watched:
            fail(f"notifier: {file} does not watch {printable(audio_id, 200)}{_hint(audio_id, before)}", 1)
        return revision.without_entry(_text(content), watched.index(audio_id))

    _rewrite(file, change)
    click.echo(f"{audio_id} is not watched any more")


def _hint(audio_id: str, before: Loaded) -> str:
    """Say what may be meant: another track, or one that is watched with its account."""
    for account in (one.account for one in before.config.accounts):
        if f"-pixverse:{account}-music:" in audio_id:
            return f" by itself, but follows the account {account}: narrow that entry by models or match"
    return did_you_mean(audio_id, [str(one.audio_id) for one in before.config.tracks])


def _rewrite(file: str, change: Callable[[bytes, Loaded], str]) -> Loaded | None:
    """Change a valid file into another valid one; return what it says now, or None when it is as it was."""
    after: Loaded | None = None

    def checked(content: bytes) -> bytes:
        nonlocal after
        text = change(content, _load(content, file))
        changed = (_BOM if content.startswith(_BOM) else b"") + text.encode()
        after = _load_changed(changed, file) if changed != content else None
        return changed

    try:
        rewriting.rewrite(Path(file), checked, read=document.read)
    except RewritingError as error:
        fail(f"notifier: {error}; {_UNCHANGED}", 1)
    except RefusedError as error:
        fail(f"notifier: {file}: {error}; {_UNCHANGED}", 1)
    return after


def _text(content: bytes) -> str:
    return content.decode("utf-8-sig")


def _load(content: bytes, file: str) -> Loaded:
    try:
        return loading.load_content(content, file, resolve=False, sources=Sources())
    except InvalidConfigError as error:
        fail(f"{error.brief()}\nnotifier: the watchlist has mistakes; {_UNCHANGED}", 1)


def _load_changed(content: bytes, file: str) -> Loaded:
    """Read what is about to be written; its places mean nothing to who has the old file before him."""
    try:
        return loading.load_content(content, file, resolve=False, sources=Sources())
    except InvalidConfigError as error:
        mistakes = "; ".join(f"{one.path}: {one.message}" for one in error.mistakes)
        fail(f"notifier: {mistakes}; {_UNCHANGED}", 1)


def _check_targets(text: str, names: tuple[str, ...]) -> None:
    root, _ = document.parse(text)
    targets = value_at(root, ("targets",))
    known = targets if isinstance(targets, Mapping) else {}
    for name in names:
        if name not in known:
            raise click.UsageError(unknown_target(name, known))


def _differences(there: Watch, entry: Entry) -> Iterator[str]:
    """Yield what is otherwise than it is to be now; what was not asked for may be as it likes."""
    if entry.name is not None and entry.name != there.name:
        yield f"its name is '{printable(there.name)}'" if there.name is not None else "without a name"
    if entry.notify and set(entry.notify) != set(there.notify or ()):
        yield f"it tells {', '.join(there.notify)}" if there.notify else "it tells the default targets"
    if entry.events and set(entry.events) != set(there.events or ()):
        yield f"its events are {', '.join(there.events)}" if there.events else "it tells the default events"
    if entry.interval is not None and there.interval != parse_duration(entry.interval):
        yield f"its interval is {_spelled(there.interval)}"


def _spelled(interval: timedelta | None) -> str:
    if interval is None:
        return "the default one"
    return str(interval) if isinstance(interval, Unresolved) else spell_compact(interval)
