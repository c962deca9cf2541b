"""The API as one remote end: when it may be asked, and what its outages mean to people.

One gate for the token, which every request shares, and one for each PixVerse account that has been in
trouble. Says once that an outage began, once that it is over, and tells `alerts` when a person is needed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import structlog

from notifier.clock import Clock
from notifier.delivery import Backoff
from notifier.duration import spell
from notifier.event import Alert, Problem
from notifier.gate import Gate, Pace, Passage
from notifier.gatebook import API_GATE, take_up, written_down
from notifier.store import StoredGate
from notifier.useapi import Refused, Trouble

_SUBJECT = "useapi.net"
_PATIENCE = timedelta(minutes=10)
_UNHEALTHY_AFTER = 3
_URGENT = frozenset({Trouble.TOKEN, Trouble.ACCOUNT})
"""What does not mend itself: a person has to."""
_MOMENT = timedelta(milliseconds=50)

Report = Callable[[Alert], Awaitable[None]]
Remember = Callable[[StoredGate], Awaitable[None]]

log = structlog.get_logger()


@dataclass(slots=True)
class _Outage:
    """A time in which the API, or one account, cannot be asked."""

    since: float
    reason: str
    problem: Problem
    is_urgent: bool = False
    is_told: bool = False


class Upstream:
    """Gates and outages of the API. Used from one event loop."""

    def __init__(
        self,
        *,
        interval: timedelta,
        max_interval: timedelta,
        spacing: timedelta,
        clock: Clock,
        rng: Random,
        report: Report,
        remember: Remember,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(interval, max_interval)
        self._report = report
        self._remember = remember
        self._outages: dict[str, _Outage] = {}
        self._confirmed: set[str] = set()
        self._accounts: dict[str, Gate] = {}
        self._never_closed = self._open_gate()
        self.token = Gate(backoff=self._backoff, pace=_pace(spacing), rng=rng)
        self.fingerprint: str | None = None
        """Tells this token at this address from any other; a wait of another one is not ours."""
        self._down_since: float | None = None
        self._was_down = 0.0
        self.failures_in_a_row = 0
        self.successes = 0
        """How many answers have shown the API well."""

    def reconfigure(self, *, interval: timedelta, max_interval: timedelta, spacing: timedelta) -> None:
        """Take other settings on; waits that have begun go on."""
        self._backoff = Backoff(interval, max_interval)
        self.token.backoff = self._backoff
        self.token.repace(_pace(spacing))
        for gate in self._accounts.values():
            gate.backoff = self._backoff

    def take_up(self, stored: StoredGate | None, *, is_rejected: bool) -> None:
        """Go on with the wait of an earlier run, unless the token or the address was another one."""
        if stored is None or stored.fingerprint != self.fingerprint:
            return
        take_up(self.token, stored, self._clock)
        if self.token.failures:
            self.failures_in_a_row = self.token.failures
            self._goes_down()
            problem = Problem.TOKEN_REJECTED if is_rejected else Problem.UPSTREAM_UNREACHABLE
            reason = stored.reason or "as in the run before"
            self._outages[""] = _Outage(self._clock.monotonic(), reason, problem, is_urgent=is_rejected)
            _say_unavailable(reason, is_urgent=is_rejected)

    def renew(self, fingerprint: str) -> None:
        """Ask again at once: the token or the address is another one now."""
        self.fingerprint = fingerprint
        self.failures_in_a_row = 0
        self._comes_up()
        self.token.renew()

    def gate_of(self, account: str) -> Gate:
        """Return the gate of an account; one that was never in trouble shares an open one."""
        return self._accounts.get(account, self._never_closed)

    def _open_gate(self) -> Gate:
        return Gate(backoff=self._backoff, pace=None, rng=self._rng)

    def is_closed(self, account: str) -> bool:
        """Say whether an account is not to be read just now but by one that goes first as the probe."""
        of_account = self._accounts.get(account)
        return self.token.failures > 0 or (of_account is not None and of_account.failures > 0)

    def closed_for(self, account: str) -> float | None:
        """Return the seconds until somebody may ask of an account again; None when everybody may."""
        if not self.is_closed(account):
            return None
        now = self._clock.monotonic()
        return max(self.token.closed_for(now), self.gate_of(account).closed_for(now))

    @property
    def is_token_rejected(self) -> bool:
        """Whether the API refuses the token."""
        outage = self._outages.get("")
        return outage is not None and outage.problem is Problem.TOKEN_REJECTED

    @property
    def trouble(self) -> str | None:
        """Why the API counts as not working, or None while it does: refused, or three failures in a row."""
        outage = self._outages.get("")
        if outage is None:
            return None
        is_down = self.is_token_rejected or self.failures_in_a_row >= _UNHEALTHY_AFTER
        return outage.reason if is_down else None

    def accounts_in_trouble(self) -> dict[str, str]:
        """Return the PixVerse accounts that cannot be used, and why."""
        return {account: outage.reason for account, outage in self._outages.items() if account}

    async def succeeded(self, account: str, passages: tuple[Passage, Passage]) -> None:
        """Note an answer that shows the API well for this account."""
        of_token, of_account = passages
        if not self.token.is_current(of_token):
            return
        self.successes += 1
        if self.token.failures and not of_token.is_probe:
            return  # it left before the failure, and does not tell that this is over
        await self._token_is_well()
        if account in self._accounts and not of_account.is_probe:
            return  # the same with the account
        self._accounts.pop(account, None)
        await self._recovered(account)

    async def _token_is_well(self) -> None:
        self.failures_in_a_row = 0
        self._comes_up()
        if self.token.succeeded():
            await self._write_down()
        await self._recovered("")

    def _goes_down(self) -> None:
        if self._down_since is None:
            self._down_since = self._clock.awake()

    def _comes_up(self) -> None:
        if self._down_since is not None:
            self._was_down += self._clock.awake() - self._down_since
            self._down_since = None

    def time_up(self) -> float:
        """Return seconds on a clock that stands while the machine sleeps or the API is not to be asked."""
        now = self._clock.awake() if self._down_since is None else self._down_since
        return now - self._was_down

    async def _write_down(self) -> None:
        await self._remember(self.row())

    def row(self) -> StoredGate:
        """Return how the API's gate stands, for the state file."""
        return replace(written_down(API_GATE, self.token, self._clock), fingerprint=self.fingerprint)

    async def failed(self, refused: Refused, account: str, passages: tuple[Passage, Passage]) -> None:
        """Close the gate that the trouble concerns, and say so once. What an earlier token got is no news."""
        now = self._clock.monotonic()
        of_token, of_account = passages
        if not self.token.is_current(of_token):
            return
        if refused.trouble is Trouble.ACCOUNT:
            if of_token.is_probe or not self.token.failures:
                await self._token_is_well()
            gate = self._accounts.setdefault(account, self._open_gate())
            gate.failed(now, of_account, refused.reason)
            await self._outage(account, refused, Problem.UPSTREAM_UNREACHABLE)
            return
        self.failures_in_a_row += 1
        self._goes_down()
        is_token = refused.trouble is Trouble.TOKEN
        after = self._backoff.longest if is_token else refused.after
        if self.token.failed(now, of_token, refused.reason, after=after):
            await self._write_down()
        await self._outage("", refused, Problem.TOKEN_REJECTED if is_token else Problem.UPSTREAM_UNREACHABLE)

    async def _outage(self, key: str, refused: Refused, problem: Problem) -> None:
        outage = self._outages.get(key)
        if outage is None or outage.problem is not problem:
            if outage is not None:
                await self._resolve(key, outage.problem)
            outage = self._outages[key] = _Outage(self._clock.monotonic(), refused.reason, problem)
            _say_unavailable(refused.reason, key, is_urgent=refused.trouble in _URGENT)
        outage.reason = refused.reason
        outage.is_urgent = refused.trouble in _URGENT
        await self._tell(key, outage)

    async def remind(self) -> None:
        """Tell `alerts` of an outage that has become long enough for people to know of it."""
        for key, outage in [*self._outages.items()]:
            await self._tell(key, outage)

    async def _tell(self, key: str, outage: _Outage) -> None:
        lasts = self._clock.monotonic() - outage.since
        if outage.is_told or not (outage.is_urgent or lasts >= _PATIENCE.total_seconds()):
            return
        outage.is_told = True
        await self._report(Alert(outage.problem, key or _SUBJECT, _summary(key, outage)))

    async def _recovered(self, key: str) -> None:
        """Say that an outage is over, also one of an earlier run that only the state file remembers."""
        if key in self._confirmed and key not in self._outages:
            return
        self._confirmed.add(key)
        outage = self._outages.pop(key, None)
        if outage is not None:
            lasted = timedelta(seconds=self._clock.monotonic() - outage.since)
            log.info("upstream.recovered", after=spell(lasted), **_account(key))
        for problem in (Problem.TOKEN_REJECTED, Problem.UPSTREAM_UNREACHABLE):
            await self._resolve(key, problem)

    async def _resolve(self, key: str, problem: Problem) -> None:
        what = f"the PixVerse account {key}" if key else "useapi.net"
        alert = Alert(problem, key or _SUBJECT, f"{what} can be read again", is_resolved=True)
        await self._report(alert)


def _pace(spacing: timedelta) -> Pace:
    """Keep a rate; a high one over a moment instead of from one request to the next.

    NB: what a wake-up comes late by is lost for good when the next request counts from it.
    """
    count = max(1, _MOMENT // spacing)
    return Pace(count, count * spacing)


def _say_unavailable(reason: str, key: str = "", *, is_urgent: bool) -> None:
    if is_urgent:
        log.error("upstream.unavailable", reason=reason, **_account(key))
    else:
        log.warning("upstream.unavailable", reason=reason, **_account(key))


def _account(key: str) -> dict[str, str]:
    return {"account": key} if key else {}


def _summary(key: str, outage: _Outage) -> str:
    if outage.problem is Problem.TOKEN_REJECTED:
        return f"useapi.net refuses the token ({outage.reason}): no track is read until it is valid again"
    if key:
        return f"useapi.net cannot use the PixVerse account {key} ({outage.reason})"
    return f"useapi.net cannot be read ({outage.reason})"
