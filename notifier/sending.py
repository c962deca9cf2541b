"""One request of a target sent, for real deliveries and for ``notifier test`` alike."""

from functools import lru_cache

from yarl import URL

from notifier.answer import Answer, Unreachable
from notifier.secret import Masker
from notifier.targets import Request
from notifier.wire import Wire

LARGEST_ANSWER = 64 * 1024
"""How many bytes of a receiver's answer are read."""


async def send(wire: Wire, request: Request, masker: Masker) -> Answer | Unreachable:
    """Send a request; the answer comes back without our secrets, before anybody cuts or quotes it."""
    url = _url(request.url.reveal())
    answer = await wire.send(request.method, url, headers=request.headers, body=request.body or None)
    if isinstance(answer, Answer):
        return answer.masked(masker.mask)
    return answer


@lru_cache(maxsize=1024)
def _url(text: str) -> URL:
    """Take a URL apart once, not for each request; exactly what stands there is asked for."""
    return URL(text, encoded=True)
