"""What one key of a watchlist says about another: unknown targets, repeated tracks, orders of magnitude.

Reads the document, not the model, so that a value that is wrong by itself hides no other mistake.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from notifier.config import BASE_URL, Callback, Config, DeliverySettings, Listen, Poll
from notifier.document import Mapping, Scalar, Sequence_, place_of, value_at
from notifier.duration import parse_duration, spell_compact
from notifier.mistake import KeyPath, Mistake, Suggestions, printable, spell_path
from notifier.secret import Secret, is_guessable
from notifier.settings import Unresolved

_GENTLE_INTERVAL = timedelta(seconds=5)
_INTERVAL: KeyPath = ("poll", "interval")
_EXPRESSION = re.compile(r"[.\])]\*|\.[+?]|[)\]][+?]|\\[A-Za-z.]|\(\?|^\^|\$$|\w\|\w|^/.+/\w*$")
"""What only who has a regular expression in mind writes into the name of a tune."""
_MATCHING = "'*' stands for anything in between, and of a list one is enough"
_DEFAULTS: dict[KeyPath, timedelta] = {
    _INTERVAL: Poll().interval,
    ("poll", "max_interval"): Poll().max_interval,
    ("delivery", "first_retry"): DeliverySettings().first_retry,
    ("delivery", "max_retry"): DeliverySettings().max_retry,
}


def cross_checks(root: Mapping) -> Iterator[Mistake]:
    """Yield what keys say that does not fit together."""
    targets = root.get("targets")
    if isinstance(targets, Mapping):
        suggestions = Suggestions(targets)
        for path in (("alerts",), ("defaults", "notify"), *_watch_paths(root, "notify")):
            yield from _unknown_targets(root, path, targets, suggestions)
    yield from _repeated(root, "audio_id")
    yield from _repeated(root, "account")
    yield from _same_port(root)
    for shorter, longer in (
        (_INTERVAL, ("poll", "max_interval")),
        (("delivery", "first_retry"), ("delivery", "max_retry")),
        *((path, ("poll", "max_interval")) for path in _watch_paths(root, "interval")),
    ):
        yield from _above(root, shorter, longer)


def _is_written(value: Any) -> TypeGuard[Scalar]:
    """Say whether there is text to compare: not a collection, not nothing, not a reference as it stands."""
    return isinstance(value, Scalar) and not isinstance(value, Unresolved) and not value.is_null


def _watch_paths(root: Mapping, key: str) -> Iterator[KeyPath]:
    watch = root.get("watch")
    for index, entry in enumerate(watch if isinstance(watch, Sequence_) else ()):
        if isinstance(entry, Mapping) and key in entry:
            yield ("watch", index, key)


def _unknown_targets(
    root: Mapping, path: KeyPath, targets: Mapping, suggestions: Suggestions
) -> Iterator[Mistake]:
    names = value_at(root, path)
    for index, name in enumerate(names if isinstance(names, Sequence_) else ()):
        if _is_written(name) and name.strip() and name not in targets:
            what = "target" if name.is_from_reference else f"target '{printable(name)}'"
            message = f"unknown {what}{suggestions.near(name)}"
            yield Mistake(name.place, spell_path((*path, index)), message)


def _repeated(root: Mapping, key: str) -> Iterator[Mistake]:
    """Yield entries about a track, or an account, that an earlier one is about."""
    seen: dict[str, int] = {}
    watch = root.get("watch")
    for index, entry in enumerate(watch if isinstance(watch, Sequence_) else ()):
        is_short = not isinstance(entry, Mapping)
        written = entry if is_short else entry.get(key)
        if not _is_written(written) or (is_short and key != "audio_id"):
            continue
        same = written.casefold() if key == "account" else str(written)
        if same in seen:
            path: KeyPath = ("watch", index) if is_short else ("watch", index, key)
            yield Mistake(written.place, spell_path(path), f"the same {key} as watch[{seen[same]}]")
        seen.setdefault(same, index)


def _same_port(root: Mapping) -> Iterator[Mistake]:
    """Yield that calls and the status page cannot be told apart."""
    http, path = root.get("http"), ("callback", "listen")
    page = http.get("listen") if isinstance(http, Mapping) else http
    calls = value_at(root, path)
    if _is_written(page) and _is_written(calls) and _port(page) == _port(calls):
        yield Mistake(calls.place, spell_path(path), "has the port of http: choose another one")


def _port(listen: str) -> str:
    return listen.rpartition(":")[2].lstrip("0")


def _above(root: Mapping, shorter: KeyPath, longer: KeyPath) -> Iterator[Mistake]:
    low, high = _duration_at(root, shorter), _duration_at(root, longer)
    if low is not None and high is not None and low > high:
        is_default = value_at(root, shorter) is None
        place = place_of(root, shorter[:-1], at_key=True) if is_default else place_of(root, shorter)
        message = f"{_told(root, shorter, low)} is above {_named(root, longer, high)}"
        yield Mistake(place, spell_path(shorter), message)


def _told(root: Mapping, path: KeyPath, duration: timedelta) -> str:
    """Write a duration out, unless it came from a reference."""
    value = value_at(root, path)
    if value is None:
        return f"the default {spell_compact(duration)}"
    return "the referenced value" if value.is_from_reference else spell_compact(duration)


def _named(root: Mapping, path: KeyPath, duration: timedelta) -> str:
    """Name a key and what it says."""
    value = value_at(root, path)
    if value is None:
        return f"the default {spell_path(path)}, {spell_compact(duration)}"
    return spell_path(path) if value.is_from_reference else f"{spell_path(path)}, {spell_compact(duration)}"


def _duration_at(root: Mapping, path: KeyPath) -> timedelta | None:
    value = value_at(root, path)
    if value is None:
        return _DEFAULTS.get(path)
    if not _is_written(value):
        return None
    try:
        return parse_duration(value)
    except ValueError:
        return None


def warnings_of(config: Config, root: Mapping, *, is_public: bool) -> Iterator[Mistake]:
    """Yield what is valid but hardly meant; `is_public` when everybody may read the file."""
    for name, target in config.targets.items():
        if isinstance(target.url, Secret) and _travels_in_clear(target.url.reveal()):
            path = ("targets", name, "url")
            yield _warning(root, path, "messages travel unencrypted over http://")
    if _host(config.useapi.base_url) == _host(BASE_URL):
        for polled in [_INTERVAL, *_watch_paths(root, "interval")]:
            interval = _duration_at(root, polled)
            if interval is not None and interval < _GENTLE_INTERVAL:
                yield _warning(root, polled, "the vendor asks for 10s to 30s between reads")
    for match in _match_paths(root):
        if _EXPRESSION.search(value_at(root, match)):
            yield _warning(
                root, match, "is looked for as it stands, and is no regular expression: " + _MATCHING
            )
    listen = config.http.listen if config.http is not None else None
    if isinstance(listen, Listen) and not _is_loopback(listen.host):
        yield _warning(root, ("http",), "answers to other machines too, without a password")
    if config.callback is not None:
        yield from _warnings_of_callback(config.callback, root)
    if is_public:
        for secret in _literal_secrets(root):
            yield _warning(
                root, secret, "a secret in a file that everybody can read: use a reference or chmod 640"
            )


def _warnings_of_callback(callback: Callback, root: Mapping) -> Iterator[Mistake]:
    if isinstance(callback.listen, Listen) and not _is_loopback(callback.listen.host):
        unencrypted = "calls come unencrypted, with the path in them: let a reverse proxy take them"
        yield _warning(root, ("callback", "listen"), unencrypted)
    if isinstance(callback.path, Secret) and is_guessable(callback.path.reveal()):
        weak = "can be guessed: add 16 or more characters drawn by lot, such as openssl rand -hex 16 prints"
        yield _warning(root, ("callback", "path"), weak)


def _match_paths(root: Mapping) -> Iterator[KeyPath]:
    """Yield where a text stands that an account's tracks are to hold."""
    for path in _watch_paths(root, "match"):
        value = value_at(root, path)
        several = [(*path, index) for index in range(len(value))] if isinstance(value, Sequence_) else [path]
        yield from (one for one in several if _is_written(value_at(root, one)))


def _warning(root: Mapping, path: KeyPath, message: str) -> Mistake:
    return Mistake(place_of(root, path), spell_path(path), f"warning: {message}")


def _travels_in_clear(url: str) -> bool:
    return urlsplit(url).scheme == "http" and not _is_loopback(_host(url))


def _host(url: str) -> str:
    return "" if isinstance(url, Unresolved) else urlsplit(url).hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _literal_secrets(root: Mapping) -> Iterator[KeyPath]:
    for path in _secret_paths(root):
        value = value_at(root, path)
        if _is_written(value) and not value.is_from_reference:
            yield path


def _secret_paths(root: Mapping) -> Iterator[KeyPath]:
    yield ("useapi", "token")
    yield ("callback", "path")
    targets = root.get("targets")
    for name in targets if isinstance(targets, Mapping) else ():
        yield ("targets", name, "url")
        yield ("targets", name, "secret")
        several = value_at(root, ("targets", name, "secret"))
        for index in range(len(several) if isinstance(several, Sequence_) else 0):
            yield ("targets", name, "secret", index)
