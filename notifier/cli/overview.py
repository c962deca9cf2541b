"""What ``status`` shows people: a line that says it all, what needs them, then tracks and targets."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from notifier import display, paths
from notifier.attention import Matter, standing
from notifier.duration import ago, until
from notifier.gate import GateState
from notifier.report import AccountStatus, Overview, TargetStatus, TrackStatus, usage_words
from notifier.track import Status

_MOST_UNDER_WAY = 12
_MOST_DONE = 5
_MOST_MATTERS = 6
_WIDE = 100
"""From how many columns on an audio_id stands there as a whole."""
_NAME, _WIDEST_NAME, _STATUS, _ID, _WIDEST_ID = 32, 40, 16, 20, 48
"""Columns that a name, a status and an audio_id may take, on narrow terminals and on wide ones."""
_REASON, _WIDEST_REASON = 60, 120
"""The same of why a target takes no messages, which stands above as well."""
_MOST_STATUSES = 5
"""How many of them are told apart in the line that sums up: the API may make up any number."""


def show(overview: Overview, now: datetime, *, is_all: bool) -> None:
    """Print an overview: all of it as plain lines, on a terminal as much as is read at a glance."""
    how = standing(overview, now, how_to_start=paths.how_to_start())
    style = "red" if how.needs else "yellow" if how.notices or not overview.is_running else "green"
    display.line(how.headline, style=f"bold {style}")
    is_all = is_all or not display.is_terminal()
    display.entries(
        [
            *_matters("needs you", "red", how.needs, is_all=is_all),
            *_matters("by itself", "yellow", how.notices, is_all=is_all),
        ]
    )
    is_valid = "valid" if overview.config_error is None else "INVALID"
    totals = overview.totals
    counts = f"{totals.pending} waiting, {totals.dead} dead, {totals.delivered} delivered"
    display.line(f"{overview.config_file} is {is_valid}; deliveries: {counts}", style="dim")
    if overview.last_day:
        display.line(usage_words(overview), style="dim")
    display.gap()
    if overview.accounts:
        _accounts(overview.accounts, now)
        display.gap()
    _tracks(overview.tracks, now, is_all=is_all)
    display.gap()
    targets = sorted(overview.targets, key=_is_well) if display.is_terminal() else overview.targets
    display.table(
        "Targets",
        ("target", "type", "state", "waiting", "dead", "delivered", "what"),
        (_target(target, now) for target in targets),
        empty="no targets",
    )


def _matters(word: str, style: str, matters: Sequence[Matter], *, is_all: bool) -> list[display.Entry]:
    """Return what is told of matters of one kind, and how many more there are if they are many."""
    shown = matters if is_all else matters[:_MOST_MATTERS]
    told = [display.Entry(word, style, matter.what, "", matter.do) for matter in shown]
    if len(shown) < len(matters):
        more = f"{len(matters) - len(shown):,} more"
        told.append(display.Entry(word, style, more, "", "all of them: notifier status --all"))
    return told


def _accounts(accounts: Sequence[AccountStatus], now: datetime) -> None:
    """Print the accounts that are followed, and what they have brought."""
    display.table(
        "Accounts",
        ("account", "looked at", "found", "last", "under way", "what"),
        (
            (
                account.account if account.name is None else f"{account.name} ({account.account})",
                ago(account.looked_at, now),
                str(account.found),
                ago(account.last_found, now),
                str(account.under_way),
                _reason(account.trouble or ""),
            )
            for account in accounts
        ),
        empty="no accounts",
    )


def _tracks(tracks: Sequence[TrackStatus], now: datetime, *, is_all: bool) -> None:
    """Print what is under way, then what was gone wrong with or ended last, and sum up the rest."""
    under_way = sorted((track for track in tracks if _is_under_way(track)), key=_begun)
    others = sorted((track for track in tracks if not _is_under_way(track)), key=_ended, reverse=True)
    shown = [*under_way, *others] if is_all else [*under_way[:_MOST_UNDER_WAY], *others[:_MOST_DONE]]
    display.table(
        "Tracks",
        ("name", "status", "changed", "audio_id"),
        (_track(track, now) for track in shown),
        empty="no tracks yet",
    )
    if len(shown) < len(tracks):
        more = [*under_way[_MOST_UNDER_WAY:], *others[_MOST_DONE:]]
        display.line(
            f"and {len(more):,} more: {_statuses(more)}; all of them: notifier status --all", style="dim"
        )


def _statuses(tracks: Sequence[TrackStatus]) -> str:
    """Count tracks by status, the most frequent ones each and the others together."""
    counts = Counter(display.cut(track.status, _STATUS) for track in tracks)
    told = counts.most_common(_MOST_STATUSES)
    others = len(tracks) - sum(count for _, count in told)
    named = [f"{count:,} {status}" for status, count in told]
    return ", ".join([*named, f"{others:,} others"] if others else named)


def _is_under_way(track: TrackStatus) -> bool:
    return track.is_watched and not track.is_final


def _begun(track: TrackStatus) -> tuple[bool, bool, str]:
    """Sort what takes long first, then what is longest under way; what was never read last."""
    first_seen = track.first_seen.isoformat() if track.first_seen else ""
    return track.stalled_at is None, track.first_seen is None, first_seen


def _ended(track: TrackStatus) -> tuple[bool, str]:
    """Sort what a person should look at last, that is first in reverse, then what ended last."""
    is_missing = track.is_watched and track.status == Status.MISSING
    return is_missing, track.changed_at.isoformat() if track.changed_at else ""


def _track(track: TrackStatus, now: datetime) -> tuple[str, ...]:
    name = track.name if track.is_watched else f"{track.name} (not watched)"
    if not display.is_terminal():
        return name, track.status, ago(track.changed_at, now), track.audio_id
    is_wide = display.width() >= _WIDE
    shown = "—" if track.name == track.audio_id else display.cut(name, _WIDEST_NAME if is_wide else _NAME)
    status, changed = display.cut(track.status, _STATUS), ago(track.changed_at, now)
    return shown, status, changed, _end_of(track.audio_id, _WIDEST_ID if is_wide else _ID)


def _end_of(audio_id: str, columns: int) -> str:
    """Return as much of an audio_id as there is room for, from its end, which tells it from others."""
    if len(audio_id) <= columns:
        return audio_id
    number = audio_id[audio_id.rfind("-music:") :]
    return f"…{number if columns < _WIDEST_ID else audio_id[1 - columns :]}"


def _is_well(target: TargetStatus) -> bool:
    return target.state is GateState.OPEN and not target.backlog.dead and not target.backlog.pending


def _target(target: TargetStatus, now: datetime) -> tuple[str, ...]:
    counts = (target.backlog.pending, target.backlog.dead, target.backlog.delivered)
    return (target.name, target.type or "removed", target.state, *map(str, counts), _what(target, now))


def _what(target: TargetStatus, now: datetime) -> str:
    """Say why a target takes no messages, and when it does again or who has to act."""
    reason = _reason(target.reason or "")
    if target.is_gone:  # nothing is tried before its return
        return reason
    if target.state is GateState.PAUSED and display.is_terminal():  # what to do about it stands above
        return f"paused {ago(target.since, now)}: {reason}"
    if target.state is GateState.PAUSED:
        return f"paused {ago(target.since, now)}: {reason}; after mending: notifier resume {target.name}"
    if target.until is not None:
        return f"{reason}; next try {until(target.until, now)}"
    if target.backlog.dead and not reason:
        return f"dead: {_reason(target.newest_error or 'given up')}"
    return reason


def _reason(text: str) -> str:
    if not display.is_terminal():
        return text
    return display.cut(text, _WIDEST_REASON if display.width() >= _WIDE else _REASON)
