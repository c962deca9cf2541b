"""``doctor``: what works, what does not and what to do about it; what would be sent where."""

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from notifier import display, paths
from notifier.cli.options import config_option, json_option, state_option

if TYPE_CHECKING:
    from notifier.doctor import Finding

_ORDER = ("failed", "warning", "ok", "skipped")
_MOST_ALIKE = 20
_STYLES = {"failed": "bold red", "warning": "yellow", "ok": "green", "skipped": "dim"}


@click.command(short_help="Find out what works and what does not, without sending a message.")
@config_option
@state_option
@json_option
@click.option("--all", "is_all", is_flag=True, help="Read every unfinished track, however long it takes.")
def doctor(config: str | None, state_file: str | None, as_json: bool, is_all: bool) -> None:
    """Look at watchlist, secrets, state file, token, clock, watches and targets, without sending a message.

    Exits 1 when something is wrong, and says what to do about it.
    """
    import asyncio

    from notifier.doctor import Limits, examine

    with display.progress("asking the API and the targets") as say:
        limits = Limits(is_all, say=say)
        findings = asyncio.run(examine(paths.config_file(config), state_file, limits=limits))
    if as_json:
        display.print_json([finding.as_json() for finding in findings])
    else:
        _print(findings)
    sys.exit(1 if any(finding.health == "failed" for finding in findings) else 0)


def _print(findings: Sequence["Finding"]) -> None:
    """Print what is wrong first, then the rest; what is alike and well is summed up on a terminal."""
    display.line(_summary(findings))
    others = [one for one in findings if one.check != "route"]
    display.entries(_entries([one for health in _ORDER for one in others if one.health == health]))
    if routes := [one for one in findings if one.check == "route"]:
        display.heading("What is sent where")
        display.entries(_entries(routes))


def _summary(findings: Sequence["Finding"]) -> str:
    count = {health: sum(one.health == health for one in findings) for health in _ORDER}
    if count["failed"]:
        things = "1 thing is wrong" if count["failed"] == 1 else f"{count['failed']:,} things are wrong"
        return f"{things}, {count['warning']:,} to look at, {count['ok']:,} well"
    if count["warning"]:
        return f"nothing is wrong, {count['warning']:,} to look at, {count['ok']:,} well"
    return f"all is well, {count['ok']:,} things looked at"


def _entries(findings: Iterable["Finding"]) -> list[display.Entry]:
    """Return what is shown: on a terminal the first of findings that are alike, and how many more."""
    shown, most = [], _MOST_ALIKE if display.is_terminal() else sys.maxsize
    for (check, health), alike in groupby(findings, key=lambda one: (one.check, one.health)):
        found = [*alike]
        word = health.value, _STYLES[health]
        shown += [
            display.Entry(*word, f"{check} {one.name or one.subject}", one.detail, one.advice)
            for one in found[:most]
        ]
        if len(found) > most:
            more = f"{len(found) - most:,} more"
            shown.append(display.Entry(*word, f"{check} {more}", "notifier doctor | cat shows them all"))
    return shown
