"""Whether the API's calls would be heard: the running daemon asked at the address of `callback`."""

from collections.abc import Iterator
from datetime import timedelta

from yarl import URL

from notifier.answer import Answer, Unreachable
from notifier.config import Callback
from notifier.doctor.finding import Check, Finding, Health
from notifier.wire import Wire

_LARGEST_ANSWER = 4096
_ADVICE = "see callback.failed in the daemon's log; it may not have taken this watchlist"
_PATIENCE = timedelta(seconds=5)
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


async def callers(callback: Callback | None, *, is_running: bool) -> list[Finding]:
    """Return how the listener is. It is asked with a request that is no call, so nothing comes of it."""
    if callback is None:
        return []
    listen = callback.listen
    where = f"{listen.host}:{listen.port}"
    if not is_running:
        detail = "not asked: the daemon is not running"
        return [Finding(Check.CALLBACK, where, Health.SKIPPED, detail)]
    host = _WILDCARDS.get(listen.host, listen.host)
    url = URL.build(scheme="http", host=host, port=listen.port, path=callback.path.reveal(), encoded=True)
    async with Wire(timeout=_PATIENCE, connections=1, largest_answer=_LARGEST_ANSWER) as wire:
        return [*_findings(where, await wire.send("GET", url))]


def _findings(where: str, answer: Answer | Unreachable) -> Iterator[Finding]:
    if isinstance(answer, Unreachable):
        detail = f"nobody listens for calls: {answer.reason}"
        yield Finding(Check.CALLBACK, where, Health.FAILED, detail, _ADVICE)
    elif answer.status == 405 and answer.headers.get("Allow") == "POST":
        yield Finding(Check.CALLBACK, where, Health.OK, "listens for the API's calls, on the path given")
    else:
        detail = f"HTTP {answer.status}: another program listens there, or the daemon on another path"
        yield Finding(Check.CALLBACK, where, Health.FAILED, detail, _ADVICE)
