"""The log: one event a line on stderr, in the form that whoever reads it expects, without secrets.

Whatever a value holds, a line stays a line: what cannot be seen is escaped, what is endless is cut, and of
warnings that come by the hundred the rest is counted. Under
systemd's journal a line carries a ``<N>`` priority and no time of its own; see
https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html
"""

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from notifier.flood import Floodgate
from notifier.secret import Masker

_Renderer = Callable[[Any, str, EventDict], str]

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_STDLIB_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)
_SAID_ONCE = ("track.", "config.rejected", "daemon.")
"""How the names begin of what is said once of each thing, however many there are."""
_FIRST_KEYS = ("event", "level", "timestamp")
_LONGEST_VALUE = 3_750
_LONGEST_ESCAPE = 12
"""What one character takes at worst: two escaped surrogates."""
_LONGEST_LINE = 45_000
"""Of all values together. The journal splits lines of more than 48 KiB (LineMax= in journald.conf)."""
_LEAST_OF_A_VALUE = 28
"""What the longest number takes."""
_RESERVE = 2_400
"""Room that lists leave to the values behind them."""
_DEEPEST = 5

_RESET, _DIM, _BOLD, _CYAN = "\x1b[0m", "\x1b[2m", "\x1b[1m", "\x1b[36m"
_LEVEL_COLORS = {
    "debug": _DIM,
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31;1m",
}


def configure(
    level: str, form: str, *, stream: TextIO | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Set up logging for the process; calling it again changes level and form."""
    stream = stream or sys.stderr or _open_null()
    environment = os.environ if environment is None else environment
    in_journal = is_journal(stream, environment)
    if form == "auto":
        form = "logfmt" if in_journal else "console" if _is_terminal(stream) else "json"
    renderer = _renderer(form, stream, environment)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_common(in_journal=in_journal), _with_priority(renderer) if in_journal else renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_the_rest(number)


def mask_with(masker: Masker) -> None:
    """Mask these secrets in all that is logged from now on."""
    _fit_values.masker = masker


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Say whether a stream leads straight to the journal, by the comparison that systemd asks for."""
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _open_null() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


class _Lines:
    """A structlog logger that writes whole lines and outlives a closed stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        try:
            self._stream.write(message + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody listens any more; the daemon's work does not depend on it

    debug = info = warning = error = critical = exception = log = msg


def _common(*, in_journal: bool) -> list[Processor]:
    stamp = [] if in_journal else [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    level = structlog.processors.add_log_level
    return [level, _dam(), *stamp, structlog.processors.format_exc_info, _fit_values]


def _dam() -> "_Dam":
    """Return the dam that is there already, or a new one: a reload opens none that is full."""
    processors = structlog.get_config()["processors"]
    return next((one for one in processors if isinstance(one, _Dam)), None) or _Dam()


class _Dam:
    """Keeps warnings and errors from flooding the log, whoever makes them up."""

    def __init__(self) -> None:
        self._gate = Floodgate()

    def __call__(self, _logger: Any, _name: str, event: EventDict) -> EventDict:
        name = str(event["event"])
        if event["level"] in {"debug", "info"} or name.startswith(_SAID_ONCE):
            return event
        is_admitted, count = self._gate.admit(name, time.monotonic())
        if is_admitted:
            return {**event, "left_out": count} if count else event
        if count == 1:
            structlog.get_logger().warning("log.shortened", lines=name)
        raise structlog.DropEvent


# --- What the values of an event become before anything is rendered


class _FitValues:
    """Masks, simplifies and bounds all values of an event; a reload gives it a new masker."""

    masker = Masker()

    def __call__(self, _logger: Any, _name: str, event: EventDict) -> EventDict:
        fitting = _Fitting(self.masker)
        first = [key for key in _FIRST_KEYS if key in event]
        rest = [key for key in event if key not in _FIRST_KEYS]
        return {key: fitting.fit(event[key], keep_end=key == "exception") for key in first + rest}


_fit_values = _FitValues()


class _Fitting:
    """Makes the values of one event fit: plain JSON types, masked, and together no longer than a line."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._room = _LONGEST_LINE

    def fit(self, value: Any, *, keep_end: bool = False, depth: int = 0) -> Any:
        self._room -= _LEAST_OF_A_VALUE
        is_shallow = depth < _DEEPEST
        match value:
            case str():
                return self._text(value, keep_end=keep_end)
            case None | bool():
                return value
            case int() if abs(value) < 1 << 64:
                return int(value)
            case float() if math.isfinite(value):
                return float(value)
            case Mapping() if is_shallow:
                return dict(self._items(value, depth))
            case list() | tuple() | set() | frozenset() if is_shallow:
                return list(self._members(value, depth))
            case _:
                return self._text(_spelled(value))

    def _items(self, items: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
        for index, (key, member) in enumerate(items.items()):
            if self._room < _RESERVE:
                yield "…", f"and {len(items) - index} more"
                return
            yield self._text(_spelled(key)), self.fit(member, depth=depth + 1)

    def _members(self, members: Collection[Any], depth: int) -> Iterator[Any]:
        for index, member in enumerate(members):
            if self._room < _RESERVE:
                yield f"… and {len(members) - index} more"
                return
            yield self.fit(member, depth=depth + 1)

    def _text(self, text: str, *, keep_end: bool = False) -> str:
        """Return the text masked and cut; of a traceback the end says most."""
        text = self._masker.mask(text)
        limit = max(1, min(_LONGEST_VALUE, self._room // _LONGEST_ESCAPE))
        if len(text) > limit:
            text = "…" + text[len(text) - limit + 1 :] if keep_end else text[: limit - 1] + "…"
        self._room -= _length_in_json(text)
        return text


def _length_in_json(text: str) -> int:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return len(text) + 2
    return len(json.dumps(text))


def _spelled(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # a value that cannot be shown must not cost the event
        return f"<{type(value).__name__}>"


# --- How an event is rendered


def _renderer(form: str, stream: TextIO, environment: Mapping[str, str]) -> _Renderer:
    match form:
        case "json":
            return _json
        case "logfmt":
            return _logfmt
        case _:
            is_plain = environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
            return _console(has_colors=_is_terminal(stream) and not is_plain)


def _json(_logger: Any, _name: str, event: EventDict) -> str:
    return _escaped(json.dumps(event, ensure_ascii=False))


def _logfmt(_logger: Any, _name: str, event: EventDict) -> str:
    return " ".join(f"{key}={_word(value)}" for key, value in event.items())


def _console(*, has_colors: bool) -> _Renderer:
    def painted(text: str, color: str) -> str:
        return f"{color}{text}{_RESET}" if has_colors else text

    def render(_logger: Any, _name: str, event: EventDict) -> str:
        level = str(event.pop("level"))
        time = [painted(event.pop("timestamp"), _DIM)] if "timestamp" in event else []
        name = painted(_escaped(str(event.pop("event"))), _BOLD)
        words = (f"{painted(key, _CYAN)}={_word(value)}" for key, value in event.items())
        return " ".join([*time, painted(f"{level:<8}", _LEVEL_COLORS[level]), name, *words])

    return render


def _word(value: Any) -> str:
    """Spell a value so that it is one word, in quotes and with JSON's escapes where it needs them."""
    text = _flat(value)
    is_plain = text.isprintable() and not any(character in text for character in ' "=\\')
    if is_plain and (text or value is None):
        return text
    return _escaped(json.dumps(text, ensure_ascii=False))


def _flat(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return "; ".join(map(_flat, value))
        case dict():
            return "; ".join(f"{key}: {_flat(member)}" for key, member in value.items())
        case _:
            return str(value)


def _escaped(text: str) -> str:
    """Return the text with JSON's escapes for whatever cannot be seen: controls, line ends, directions.

    NB: the journal shows a line with control characters as a blob, and a terminal obeys them.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )


def _with_priority(renderer: _Renderer) -> _Renderer:
    def render(logger: Any, name: str, event: EventDict) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), 6)
        return f"<{priority}>{renderer(logger, name, event)}"

    return render


# --- What reaches stderr without our asking


def _adopt_the_rest(level: int) -> None:
    """Let libraries' messages, warnings and uncaught exceptions come out as lines of ours, masked."""
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    threading.excepthook = lambda crash: _log_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _log_crash(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    structlog.get_logger().critical("daemon.crashed", exc_info=(kind, error, traceback))


class _Bridge(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        has_error = isinstance(record.exc_info, tuple) and record.exc_info[0] is not None
        structlog.get_logger().log(
            _level(record.levelno),
            "library.message",
            logger=record.name,
            message=_message(record).strip(),
            exc_info=record.exc_info if has_error else None,
        )


def _level(number: int) -> int:
    return next((least for least in _STDLIB_LEVELS if number >= least), logging.DEBUG)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a library's wrong format string must not harm us
        return _spelled(record.msg)
