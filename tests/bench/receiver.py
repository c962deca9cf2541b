"""A receiver of messages as a process of its own, so cheap that it is not what a bench measures.

Speaks just enough HTTP for one client on kept connections; counts the requests to each path. Ends when its
standard input does, which is when whoever started it has ended.
"""

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import cast

from tests.bench.cheaphttp import content_length

_COUNTS = "/counts"
_ANSWERS = {"slack": b"ok", "discord": b'{"id":"1"}'}
"""What those services say to a message they take, by the first word of the path; others get a 204."""


class Receiver:
    """The process as its starter sees it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    def counts(self) -> Counter[str]:
        """Return how many requests each path has had."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", _COUNTS)
            return Counter(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


@contextlib.contextmanager
def receiving(core: int | None) -> Iterator[Receiver]:
    """Run a receiver for the length of a block, on a core of its own where there is one."""
    command = [sys.executable, "-m", "tests.bench.receiver", *([] if core is None else [str(core)])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Receiver(int(process.stdout.readline()))
        finally:
            process.stdin.close()


class _Connection(asyncio.Protocol):
    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._unread += data
        while (request := self._next_request()) is not None:
            self._transport.write(self._answer(request))

    def _next_request(self) -> str | None:
        """Take a whole request from what has come and return its path; None while it is not all there."""
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        length = content_length(head)
        if not end or len(rest) < length:
            return None
        self._unread = rest[length:]
        return head.split(b" ", 2)[1].decode()

    def _answer(self, target: str) -> bytes:
        path = target.partition("?")[0]
        if path == _COUNTS:
            return _response(json.dumps(self._counts).encode())
        self._counts[path] += 1
        body = _ANSWERS.get(path.split("/")[1])
        return b"HTTP/1.1 204 No Content\r\n\r\n" if body is None else _response(body)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _serve() -> None:
    loop, starter_has_ended, counts = asyncio.get_running_loop(), asyncio.Event(), Counter[str]()
    server = await loop.create_server(lambda: _Connection(counts), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin, starter_has_ended.set)
    await starter_has_ended.wait()
    server.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(_serve())
