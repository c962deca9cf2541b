"""The log: one event a line on stderr, in the form that whoever reads it expects, without secrets.

Under systemd's journal a line carries a ``<N>`` priority and no time of its own; see
https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from notifier.secret import Masker

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_LONGEST_VALUE = 4000


class _Masking:
    """Masks secrets in every value, for all loggers at once; a reload gives it a new masker."""

    masker = Masker()

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> EventDict:
        return {key: self._safe(value) for key, value in event.items()}

    def _safe(self, value: Any) -> Any:
        match value:
            case str():
                text = self.masker.mask(value)
                return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
            case None | bool() | int() | float():
                return value
            case list() | tuple():
                return [self._safe(member) for member in value]
            case Mapping():
                return {str(key): self._safe(member) for key, member in value.items()}
            case _:
                return self._safe(str(value))


_masking = _Masking()


def mask_with(masker: Masker) -> None:
    """Mask these secrets in all that is logged from now on."""
    _masking.masker = masker


class _Stderr:
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


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Say whether a stream leads straight to the journal, by the comparison that systemd asks for."""
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


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
        logger_factory=lambda *_: _Stderr(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_stdlib(number)


def _open_null() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _common(*, in_journal: bool) -> list[Processor]:
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        _masking,
    ]
    if not in_journal:
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    return processors


def _renderer(form: str, stream: TextIO, environment: Mapping[str, str]) -> Processor:
    match form:
        case "json":
            return structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False)
        case "logfmt":
            return _logfmt
        case _:
            colors = _is_terminal(stream) and not environment.get("NO_COLOR")
            return structlog.dev.ConsoleRenderer(colors=colors)


_logfmt_renderer = structlog.processors.LogfmtRenderer(
    key_order=["timestamp", "level", "event"], drop_missing=True, bool_as_flag=False
)


def _logfmt(logger: Any, name: str, event: EventDict) -> str:
    return _logfmt_renderer(logger, name, {key: _joined(value) for key, value in event.items()})


def _joined(value: Any) -> Any:
    return ", ".join(str(member) for member in value) if isinstance(value, list) else value


def _with_priority(renderer: Processor) -> Processor:
    def render(logger: Any, name: str, event: EventDict) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), 6)
        line = str(renderer(logger, name, event))
        return f"<{priority}>" + line.replace("\n", " ")

    return render


def _adopt_stdlib(level: int) -> None:
    """Let what the libraries log through the standard library come out as our own lines."""
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


class _Bridge(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        level = record.levelname.lower()
        write: Callable[..., Any] = getattr(log, level if level in _PRIORITIES else "error")
        write(
            "library.message",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )
