"""HTTP as this program speaks it: no redirects, no cookies, no endless bodies, and errors as sentences.

The only place that opens connections to others. Knows neither tracks nor messages.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import Self

import aiohttp
from yarl import URL

from notifier import USER_AGENT
from notifier.answer import Answer, Unreachable
from notifier.duration import spell
from notifier.lookup import Lookup, stuck_for

_FAILURES = (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError)

_HUNG_UP = {errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN}


class Wire:
    """A pool of connections to one side. Use it as an async context manager, inside the event loop.

    No more than `connections` at a time; None where whoever sends sees to that.
    """

    def __init__(
        self,
        *,
        timeout: timedelta,
        connections: int | None,
        largest_answer: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._timeout = timeout
        self._largest_answer = largest_answer
        self._under_way = 0
        self._is_retired = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections or 0, resolver=Lookup()),
            timeout=aiohttp.ClientTimeout(total=timeout.total_seconds()),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # an answer that is compressed unasked stays as small as it came
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def retire(self) -> None:
        """Let the requests under way finish, and close all connections with the last; none may begin."""
        self._is_retired = True
        await self._close_when_done()

    async def _close_when_done(self) -> None:
        if not self._under_way:
            await self.close()

    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        largest_answer: int | None = None,
    ) -> Answer | Unreachable:
        """Send one request and read its answer, cut at `largest_answer` bytes; never raises for the net.

        With its status the other side has answered, and what it did is done: an answer whose body breaks off
        comes back as far as it came, with the reason.
        """
        self._under_way += 1
        try:
            return await self._send(method, url, headers, body, largest_answer or self._largest_answer)
        finally:
            self._under_way -= 1
            if self._is_retired:
                await self._close_when_done()

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str] | None, body: bytes | None, largest: int
    ) -> Answer | Unreachable:
        try:
            response = await self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            )
            try:
                content, failure = await self._read(response, largest)
            finally:
                response.release()
            broken_off = None if failure is None else self._sentence(failure, url)
            return Answer(response.status, response.headers, content, broken_off=broken_off)
        except _FAILURES as error:
            is_asked = not isinstance(error, aiohttp.ClientConnectorError) and not self._is_nameless(
                error, url
            )
            return Unreachable(self._sentence(error, url), is_asked)

    async def knock(self, url: URL) -> Unreachable | None:
        """Connect to where a URL leads, with TLS where it says so, and hang up; None when that worked."""
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                await _connect(url)
        except _FAILURES as error:
            return Unreachable(self._why_unconnected(error, url), is_asked=False)
        return None

    async def _read(self, response: aiohttp.ClientResponse, largest: int) -> tuple[str, Exception | None]:
        """Read the body as far as it comes; return what broke it off as well.

        One that is larger than allowed is cut there and its connection dropped.
        """
        content = bytearray()
        failure: Exception | None = None
        try:
            while not response.content.at_eof():
                content += await response.content.readany()
                if len(content) > largest:
                    response.close()
                    break
        except _FAILURES as error:
            response.close()
            failure = error
        return content[: largest + 1].decode("utf-8", "replace"), failure

    def _is_nameless(self, error: Exception, url: URL) -> bool:
        """Say whether the name was not resolved, or not in time: most of it has gone into the look-up."""
        if isinstance(error, TimeoutError):
            return stuck_for(url.raw_host or "") >= self._timeout.total_seconds() / 2
        return isinstance(error, aiohttp.ClientConnectorDNSError)

    def _why_unconnected(self, error: Exception, url: URL) -> str:
        """Say of an error of the system's own, which no client has wrapped, what `_sentence` would."""
        match error:
            case socket.gaierror():
                return f"the name {url.host} cannot be resolved"
            case ssl.SSLCertVerificationError():
                return f"the certificate of {url.host} is not valid: {_certificate(error)}"
            case ssl.SSLError():
                return f"no TLS connection to {url.host}"
            case OSError(errno=int()):
                return f"no connection to {url.host}:{url.port}: {_system(error)}"
            case _:
                return self._sentence(error, url)

    def _sentence(self, error: Exception, url: URL) -> str:
        host = url.host or "the host"
        match error:
            case _ if self._is_nameless(error, url):
                return f"the name {host} cannot be resolved"
            case TimeoutError():
                return f"no answer from {host} within {spell(self._timeout)}"
            case aiohttp.ClientConnectorCertificateError():
                return f"the certificate of {host} is not valid: {_certificate(error.certificate_error)}"
            case aiohttp.ClientSSLError():
                return f"no TLS connection to {host}"
            case OSError() | aiohttp.ServerDisconnectedError() if _is_hung_up(error):
                return f"{host} closed the connection without an answer"
            case aiohttp.ClientConnectorError():
                return f"no connection to {host}:{url.port}: {_system(error.os_error)}"
            case aiohttp.ClientPayloadError():
                return f"the answer of {host} was cut short"
            case aiohttp.ClientResponseError():
                return f"the answer of {host} is not HTTP"
            case OSError():
                return f"the connection to {host} broke: {_system(error)}"
            case _:
                return f"the request to {host} could not be sent ({type(error).__name__})"


async def _connect(url: URL) -> None:
    """Connect to the first address that takes a connection. Raises OSError, of the last one if none does."""
    host, port = url.raw_host or "", url.port or 0
    context = ssl.create_default_context() if url.scheme == "https" else None
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for found in await Lookup().resolve(host, port, socket.AF_UNSPEC):
        try:
            _, writer = await asyncio.open_connection(
                found["host"], found["port"], ssl=context, server_hostname=host if context else None
            )
        except OSError as error:
            failure = error
        else:
            writer.transport.abort()
            return
    raise failure


def _is_hung_up(error: Exception) -> bool:
    """Say whether the other side has closed the connection.

    NB: chance decides which of these errors tells it, and a text that changed by chance would fill the log.
    """
    match error:
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            return True
        case aiohttp.ClientConnectorError(os_error=cause):
            return isinstance(cause, ConnectionResetError) or cause.errno in _HUNG_UP
        case aiohttp.ClientOSError(errno=number):
            return number is None or number in _HUNG_UP
        case _:
            return False


def _system(error: OSError) -> str:
    """Return the system's own words; those of asyncio name addresses that the sentence has already."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__


def _certificate(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return type(error).__name__
