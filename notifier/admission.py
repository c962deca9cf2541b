"""When a request to the API may leave: past the gates of account and token, not too many, at the pace.

Who asks waits here, however long that takes, and goes home when somebody else goes first or when nobody wants
the answer any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from notifier.clock import Clock
from notifier.gate import Gate, Passage
from notifier.metrics import Metrics
from notifier.store import Store
from notifier.upstream import Upstream

_LOOK_AGAIN = 1.0
"""How long a wait goes on, in seconds, before it is looked whether a person has ended it."""

Got = TypeVar("Got")
Passages = tuple[Passage, Passage]
"""The right to send a request: that of the token's gate and that of the account's."""


class Admission:
    """Lets requests leave. Used from one event loop."""

    def __init__(
        self, *, upstream: Upstream, store: Store, clock: Clock, metrics: Metrics, concurrency: int
    ) -> None:
        self._upstream = upstream
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._places = asyncio.Semaphore(concurrency)
        """One for each request that may be under way."""
        self._turnstile = asyncio.Lock()
        """Lets one request at a time wait for the pace, first come first served."""

    def limit(self, concurrency: int) -> None:
        """Let so many requests be under way from now on, beside those that are."""
        self._places = asyncio.Semaphore(concurrency)

    def passing(self, account: str, is_wanted: Callable[[], bool], *, is_suspect: bool = False) -> "Passing":
        """Pass the gates of an account and of the token; None when somebody else goes first."""
        gate, token = self._upstream.gate_of(account), self._upstream.token
        return Passing(gate, token, is_wanted, self._clock, is_suspect=is_suspect)

    async def paced(
        self, passages: Passages, is_wanted: Callable[[], bool], ask: Callable[[], Awaitable[Got]]
    ) -> tuple[float, Got] | None:
        """Ask when the pace allows it; return when it left and what came, None when it is not to leave."""
        async with self._places:
            if not await self._in_turn(passages[0], is_wanted):
                return None
            for passage in passages:
                passage.has_left = True
            began = self._clock.monotonic()
            got = await ask()
            self._metrics.api_request_seconds.observe(self._clock.monotonic() - began)
        return began, got

    async def _in_turn(self, passage: Passage, is_wanted: Callable[[], bool]) -> bool:
        """Wait for the pace behind those who wait already; False when it is not to be asked any more."""
        is_next = not self._turnstile.locked()
        if is_next and is_wanted() and self._may_ask(passage) and self._enter() <= 0:
            return True  # NB: as nearly always; taking the lock costs as much as all of this
        async with self._turnstile:
            while is_wanted() and self._may_ask(passage):
                wait = self._enter()
                if wait <= 0:
                    return True
                await self._clock.sleep(min(wait, _LOOK_AGAIN))
        return False

    def _enter(self) -> float:
        """Let a request leave now; if the pace does not allow that, return for how many seconds."""
        now = self._clock.monotonic()
        wait = self._upstream.token.remaining(now)
        if wait <= 0:
            self._upstream.token.enter(now)
        return wait

    def _may_ask(self, passage: Passage) -> bool:
        """Say whether a turn is to go on: another's failure may have closed the gate, or the disk may fail.

        NB: nobody keeps the address of a watch that is gone up to date; a new token must not go there.
        """
        return self._upstream.token.allows(passage) and self._store.trouble is None


class Passing:
    """The way through the gates of an account and of the token, as a context.

    NB: not made of generators, which cost more than all else that a turn does beside its request.
    """

    __slots__ = ("_account", "_clock", "_is_suspect", "_is_wanted", "_passed", "_token")

    def __init__(
        self, account: Gate, token: Gate, is_wanted: Callable[[], bool], clock: Clock, *, is_suspect: bool
    ) -> None:
        self._account = account
        self._is_suspect = is_suspect
        self._token = token
        self._is_wanted = is_wanted
        self._clock = clock
        self._passed: list[tuple[Gate, Passage]] = []

    async def __aenter__(self) -> Passages | None:
        try:
            of_account = await self._pass(self._account)
            of_token = None if of_account is None else await self._pass(self._token)
        except BaseException:
            self._release()
            raise
        return None if of_account is None or of_token is None else (of_token, of_account)

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        for gate, passage in self._passed:
            gate.release(passage)

    async def _pass(self, gate: Gate) -> Passage | None:
        """Pass a gate, as its probe after the wait when it is closed; None when somebody else goes first.

        The wait ends early for what is not wanted any more, as a track that has left the watchlist, and for a
        suspect whose place another one has taken.
        """
        passage = self._claim(gate)
        if passage is None:
            return None
        while (
            self._is_wanted()
            and gate.allows(passage)
            and (wait := gate.closed_for(self._clock.monotonic())) > 0
        ):
            await self._clock.sleep(min(wait, _LOOK_AGAIN))
        if not gate.is_current(passage):
            return self._claim(gate)  # reopened meanwhile: it is the new token whose answer counts
        return passage if gate.allows(passage) else None

    def _claim(self, gate: Gate) -> Passage | None:
        passage = gate.claim(is_suspect=self._is_suspect)
        if passage is not None:
            self._passed.append((gate, passage))
        return passage
