"""What of an overview needs a person, and what does not: the first lines of ``notifier status``.

Pure. A thing needs a person when nothing will mend it by itself; all else goes on and is only told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from notifier.duration import ago, until
from notifier.gate import GateState
from notifier.gatebook import OF_TOKEN
from notifier.report import Overview, TargetStatus, TrackStatus
from notifier.text import one_line, shorten

_LONGEST_REASON = 120
_MOST_MISTAKES = 3
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Matter:
    """Something that is not as it should be, and what to do about it."""

    what: str
    do: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How everything is, in a line, and what is not as it should be."""

    headline: str
    needs: tuple[Matter, ...]
    """What needs a person, the most important first."""
    notices: tuple[Matter, ...]
    """What goes on by itself."""


def standing(overview: Overview, now: datetime, *, how_to_start: str) -> Standing:
    """Say how everything is, as one reads it who was woken by it."""
    needs = (*_needs(overview, now, how_to_start),)
    notices = (*_notices(overview, now),)
    running = "running" if overview.is_running else "not running"
    if needs:
        things = "1 thing needs you" if len(needs) == 1 else f"{len(needs)} things need you"
        headline = f"{things}; {running}"
    elif not overview.is_running:
        headline = f"{running}, and nothing to do"
    elif notices:
        headline = f"{running}, nothing for you to do"
    else:
        headline = f"{running}, all well"
    return Standing(f"{headline}: {_counts(overview, now)}", needs, notices)


def _needs(overview: Overview, now: datetime, how_to_start: str) -> Iterator[Matter]:
    if overview.config_error is not None:
        yield _invalid(overview, overview.config_error)
    if not overview.is_running and _has_work(overview):
        yield Matter("the daemon is not running", f"start it: {how_to_start}")
    if _is_of_token(overview):
        what = f"useapi.net refuses the token ({_short(overview.api_reason)}): no track is read"
        yield Matter(what, "put a new one into useapi.token, then see whether it is taken: notifier doctor")
    for account in overview.accounts:
        if account.is_hopeless and account.trouble:
            what = f"the list of the account {account.account} cannot be read: {_short(account.trouble)}"
            yield Matter(what, "correct the address on the watchlist, or see to the account at useapi.net")
    for target in overview.targets:
        if target.state is GateState.PAUSED and not target.is_gone:
            length = _since(target.since, now)
            what = f"target {target.name} has been paused for {length}: {_short(target.reason)}"
            do = f"put a working url in; or mend it, then: notifier resume {target.name}"
            yield Matter(what, do)
    if dead := [target for target in overview.targets if target.backlog.dead]:
        yield _dead(dead)


def _invalid(overview: Overview, error: str) -> Matter:
    mistakes = error.splitlines()
    more = len(mistakes) - _MOST_MISTAKES
    told = "; ".join(line.removeprefix(f"{overview.config_file}:") for line in mistakes[:_MOST_MISTAKES])
    stays = "; the earlier one stays in force" if overview.is_running else ""
    what = f"{overview.config_file} is invalid{stays}: {told}{f'; and {more} more' if more > 0 else ''}"
    return Matter(what, "mend it: notifier check shows every mistake")


def _has_work(overview: Overview) -> bool:
    return _has_unfinished(overview) or bool(overview.totals.pending)


def _has_unfinished(overview: Overview) -> bool:
    """Say whether there is anything to ask the API."""
    return bool(overview.accounts) or any(
        track.is_watched and not track.is_final for track in overview.tracks
    )


def _is_of_token(overview: Overview) -> bool:
    return (overview.api_reason or "").startswith(OF_TOKEN)


def _dead(targets: list[TargetStatus]) -> Matter:
    count = sum(target.backlog.dead for target in targets)
    names = ", ".join(target.name for target in targets[:_MOST_NAMED])
    names += f" and {len(targets) - _MOST_NAMED} more" if len(targets) > _MOST_NAMED else ""
    error = next((target.newest_error for target in targets if target.newest_error), None)
    why = f": {_short(error)}" if error else ""
    what = f"{count:,} dead letter{'' if count == 1 else 's'} for {names}{why}"
    return Matter(what, "see which and why: notifier deliveries --state dead")


def _notices(overview: Overview, now: datetime) -> Iterator[Matter]:
    if overview.api_reason is not None and not _is_of_token(overview):
        what = f"useapi.net is not read for now: {_short(overview.api_reason)}"
        is_asked = _has_unfinished(overview)
        again = _again("it is asked again", overview.api_until, overview, now)
        yield Matter(what, again if is_asked else "it is asked again once there is a track to read")
    for account in overview.accounts:
        if account.trouble and not account.is_hopeless and overview.api_reason is None:
            what = f"the list of the account {account.account} was not read: {_short(account.trouble)}"
            yield Matter(what, _again("it is looked at again", None, overview, now))
    for target in overview.targets:
        if target.state is GateState.WAITING and not target.is_gone:
            what = f"target {target.name} is waiting: {_short(target.reason)}"
            yield Matter(what, _again("it is tried again", target.until, overview, now))
    if stalled := [track for track in overview.tracks if track.stalled_at and track.is_watched]:
        polled = "polled on" if overview.is_running else "polled on when the daemon runs"
        yield Matter(
            f"{_stalled(stalled)} longer than usual",
            f"{'it is' if len(stalled) == 1 else 'they are'} {polled}",
        )


def _stalled(tracks: list[TrackStatus]) -> str:
    if len(tracks) == 1:
        return f"{shorten(one_line(tracks[0].name), 60)} takes"
    return f"{len(tracks):,} tracks take"


def _counts(overview: Overview, now: datetime) -> str:
    watched = [track for track in overview.tracks if track.is_watched]
    done = sum(track.is_final for track in watched)
    under_way = len(watched) - done
    tracks = f"{f'{under_way:,}' if under_way else 'no'} track{'' if under_way == 1 else 's'} under way"
    pending = overview.totals.pending
    waiting = (
        f"{pending:,} {'delivery' if pending == 1 else 'deliveries'} waiting"
        if pending
        else "nothing waiting"
    )
    following = min((target.until for target in overview.targets if target.until is not None), default=None)
    later = (
        f" (next try {until(following, now)})"
        if pending and following is not None and overview.is_running
        else ""
    )
    count = len(overview.accounts)
    accounts = f"{count:,} account{'' if count == 1 else 's'} followed, " if count else ""
    return f"{accounts}{tracks}, {done:,} done, {waiting}{later}"


def _again(what: str, moment: datetime | None, overview: Overview, now: datetime) -> str:
    return f"{what} {until(moment or now, now) if overview.is_running else 'when the daemon runs'}"


def _since(moment: datetime | None, now: datetime) -> str:
    return ago(moment, now).removesuffix(" ago")


def _short(reason: str | None) -> str:
    return shorten(one_line(reason or ""), _LONGEST_REASON)
