"""What the commands print for people: tables and colour on a terminal, plain lines elsewhere.

What draws tables is imported where one is drawn: plain lines do without.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from notifier.clock import to_rfc3339
from notifier.delivery import DeliveryState
from notifier.duration import ago, until
from notifier.gate import GateState
from notifier.text import one_line, shorten
from notifier.track import Status

if TYPE_CHECKING:
    from notifier.store import AttemptRow, DeliveryRow

_STYLES = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.MISSING: "red",
    GateState.OPEN: "green",
    GateState.WAITING: "yellow",
    GateState.PAUSED: "red",
    DeliveryState.DELIVERED: "green",
    DeliveryState.PENDING: "yellow",
    DeliveryState.DEAD: "red",
}
_ERASE = "\r\x1b[2K"


def is_terminal() -> bool:
    """Say whether a person looks at stdout."""
    return sys.stdout is not None and sys.stdout.isatty()


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is waited for, on a terminal in a line that goes when it is over.

    Yields what says something else instead; elsewhere than on a terminal only that is said.
    """
    is_seen = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def say(what: str) -> None:
        _tell(f"{_ERASE}{what} …" if is_seen else f"{what}\n")

    if is_seen:
        say(text)
    try:
        yield say
    finally:
        if is_seen:
            _tell(_ERASE)


def _tell(text: str) -> None:
    if sys.stderr is not None:  # NB: print takes None for stdout
        print(text, end="", file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """Print one JSON document, without colour and the same everywhere."""
    _write(json.dumps(value, ensure_ascii=True, indent=2))


def _write(line: str) -> None:
    print(line)  # noqa: T201 - this module is what prints


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is told with a word for how it is, what it is about, and perhaps what to do."""

    word: str
    style: str
    subject: str
    text: str
    advice: str = ""


def width() -> int:
    """Return how many columns the terminal has."""
    from rich.console import Console

    return Console().width


def cut(text: str, columns: int) -> str:
    """Return one line of so many columns at the most, however wide its characters are."""
    from rich.text import Text

    shown = Text(one_line(text))
    shown.truncate(columns, overflow="ellipsis")
    return shown.plain


def gap() -> None:
    """Print an empty line, on a terminal only."""
    if is_terminal():
        _write("")


def line(text: str, *, style: str = "bold") -> None:
    """Print one line, on a terminal in a style."""
    if not is_terminal():
        _write(one_line(text))
        return
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(one_line(text), style=style))


def heading(text: str) -> None:
    """Print the heading of what follows, on a terminal only."""
    if is_terminal():
        gap()
        line(text)


def entries(rows: Iterable[Entry]) -> None:
    """Print entries, each as a paragraph on a terminal, else as a tab-separated line."""
    if not is_terminal():
        for row in rows:
            cells = (row.word, row.subject, *([row.text] if row.text else []), row.advice)
            _write("\t".join(map(one_line, cells)).rstrip("\t"))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        text = Text.assemble((one_line(row.subject), "bold"), f": {one_line(row.text)}" if row.text else "")
        if row.advice:
            text.append(f"\n→ {one_line(row.advice)}", style="cyan")
        grid.add_row(Text(row.word, style=row.style), text)
    Console().print(grid)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under a title: a table on a terminal, else tab-separated lines."""
    rows = [*rows]
    if not is_terminal():
        for row in rows:
            _write("\t".join(one_line(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not rows:
        console.print(Text(empty, style="dim"))
        return
    shown = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False
    )
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(one_line(cell), style=_STYLES.get(cell, "")) for cell in row))  # type: ignore[call-overload]
    console.print(shown)


def print_deliveries(rows: Sequence["DeliveryRow"], now: datetime, gone: Collection[str]) -> None:
    """Print what ``deliveries list`` shows; the watchlist no longer names the targets that are gone."""
    table(
        "Deliveries",
        ("id", "state", "target", "event", "name", "since", "tries", "next", "what came back"),
        (
            (
                str(row.id),
                row.state,
                row.target,
                row.type,
                row.name,
                ago(row.created_at, now),
                str(row.attempt_count),
                _next(row, now, gone),
                shorten(row.last_error or "", 120),
            )
            for row in rows
        ),
        empty="no deliveries",
    )


def _next(row: "DeliveryRow", now: datetime, gone: Collection[str]) -> str:
    if row.state is not DeliveryState.PENDING:
        return "—"
    if row.target in gone:
        return "removed"
    if row.next_attempt_at is None:
        return "paused"
    return until(row.next_attempt_at, now)


def print_delivery(
    row: "DeliveryRow", attempts: Sequence["AttemptRow"], now: datetime, gone: Collection[str]
) -> None:
    """Print what ``deliveries show`` shows, with what to do next."""
    _write(f"delivery {row.id}: {row.type} of {one_line(row.name)} to {row.target}: {row.state}")
    _write(f"  event      {row.event_id}")
    if row.audio_id:
        _write(f"  track      {row.audio_id}")
    _write(f"  created    {to_rfc3339(row.created_at)} ({ago(row.created_at, now)})")
    _write(f"  next try   {_next(row, now, gone)}")
    for attempt in attempts:
        _write(f"  {to_rfc3339(attempt.at)}  {attempt.outcome}  {_came_back(attempt)}")
    for line in _advice(row, gone):
        _write(line)


def _came_back(attempt: "AttemptRow") -> str:
    """Say what an attempt came to: status and words of the answer, or why there is none."""
    status = "" if attempt.status is None else f"HTTP {attempt.status}"
    return ": ".join(filter(None, (status, one_line(attempt.answer))))


def retried(row: "DeliveryRow", gone: Collection[str]) -> str:
    """Say what becomes of a delivery that a person wants to be tried again."""
    if row.target in gone:
        return f"will be tried again when {row.target} is on the watchlist again"
    if row.next_attempt_at is None:
        return f"waits, for {row.target} is paused; after mending: notifier resume {row.target}"
    return "will be tried again"


def _advice(row: "DeliveryRow", gone: Collection[str]) -> list[str]:
    match row.state:
        case DeliveryState.DEAD:
            return [
                f"try it again:  notifier deliveries retry {row.id}",
                f"forget it:     notifier deliveries drop {row.id}",
            ]
        case DeliveryState.PENDING if row.target in gone:
            return [
                f"{row.target} is not on the watchlist: this waits for its return",
                f"forget it:     notifier deliveries drop {row.id}",
            ]
        case DeliveryState.PENDING if row.next_attempt_at is None:
            return [f"mend the url of {row.target}, then:  notifier resume {row.target}"]
        case DeliveryState.PENDING if row.last_status == 429:  # its wait is not ours to cut short
            return ["it is tried again by itself while the daemon runs"]
        case DeliveryState.PENDING:
            return [
                "it is tried again by itself while the daemon runs",
                f"once what is wrong is mended, without waiting:  notifier deliveries retry {row.id}",
            ]
        case DeliveryState.DELIVERED:
            return []
