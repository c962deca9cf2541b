"""Names resolved to addresses by the system, each in a thread of its own that nobody waits for.

What the system does for a name cannot be called off, and while a name server is silent it takes longer than
any request may. In a pool of threads a few such names would keep every other name, and all else that the pool
is for, from having a thread, and the process from ending.
"""

import asyncio
import errno
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


@dataclass(frozen=True, slots=True)
class _Question:
    host: str
    port: int
    family: socket.AddressFamily


@dataclass(frozen=True, slots=True)
class _LookUp:
    """A look-up that is under way."""

    since: float = field(default_factory=time.monotonic)
    answer: "Future[list[ResolveResult]]" = field(default_factory=Future)


_under_way: dict[_Question, _LookUp] = {}
"""At most one for each question in the whole process, so that there are no more threads than names."""
_lock = threading.Lock()


class Lookup(AbstractResolver):
    """Resolves names for aiohttp."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError when it has none or no answer came."""
        return await asyncio.wrap_future(_ask(_Question(host, port, family)))

    async def close(self) -> None:
        """Leave the threads alone, which end by themselves."""


def stuck_for(host: str) -> float:
    """Return for how many seconds the look-up of a name has been under way, 0 when none is."""
    with _lock:
        since = [look_up.since for question, look_up in _under_way.items() if question.host == host]
    return time.monotonic() - min(since) if since else 0.0


def _ask(question: _Question) -> "Future[list[ResolveResult]]":
    with _lock:
        look_up = _under_way.get(question)
        if look_up is not None:
            return look_up.answer
        look_up = _under_way[question] = _LookUp()
    look_up.answer.set_running_or_notify_cancel()  # from now on nobody who gives up ends it for others
    thread = threading.Thread(target=_answer, args=(question, look_up), name="lookup", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the system has no thread for us
        _done(question)
        raise OSError(errno.EAGAIN, str(error)) from error
    return look_up.answer


def _answer(question: _Question, look_up: _LookUp) -> None:
    """Run in a thread: find the answer, and only then let others ask anew."""
    try:
        addresses = _addresses(question)
    except Exception as error:
        _done(question)
        look_up.answer.set_exception(error)
    else:
        _done(question)
        look_up.answer.set_result(addresses)


def _done(question: _Question) -> None:
    with _lock:
        _under_way.pop(question)


def _addresses(question: _Question) -> list[ResolveResult]:
    found = socket.getaddrinfo(
        question.host,
        question.port,
        type=socket.SOCK_STREAM,
        family=question.family,
        flags=socket.AI_ADDRCONFIG,
    )
    return [_result(question.host, family, proto, address) for family, _, proto, _, address in found]


def _result(host: str, family: int, proto: int, address: tuple[Any, ...]) -> ResolveResult:
    # NB: asks nobody; it spells the interface of a link-local address, too
    numeric, port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return ResolveResult(
        hostname=host, host=numeric, port=int(port), family=family, proto=proto, flags=_NUMERIC
    )
