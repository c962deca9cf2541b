"""A network at its worst: a line to a real server that breaks in every way, and a name server that does."""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self, cast
from urllib.parse import urlsplit

import pytest

from tests.support.machine import needs
from tests.support.servers import PATIENCE, free_port


class Fault(StrEnum):
    """What a line does to a connection."""

    NONE = "none"
    REFUSED = "refused"
    RESET_AT_ONCE = "reset before the request was read"
    RESET_UNREAD = "reset while the request is read"
    RESET_AFTER = "reset after the request was read and served"
    CLOSED_AFTER = "closed after the request was read and served"
    SILENCE = "the request read and never answered"
    DRIPPING_HEAD = "one byte of the answer at a time, without end"
    DRIPPING_BODY = "a status, then one byte of the body at a time"
    PAGE = "a proxy's page with 200"
    PAGE_404 = "a proxy's page with 404"
    PAGE_502 = "a proxy's page with 502"
    NO_HTTP = "another protocol"
    NO_TLS = "another protocol, at the first byte"
    NO_STATUS = "a status that is no number"


_PAGE = b"<!DOCTYPE html><html><body>Your proxy says hello</body></html>"
_ANSWERS = {
    Fault.PAGE: b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(_PAGE)
    + _PAGE,
    Fault.PAGE_404: b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + _PAGE,
    Fault.PAGE_502: b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    + _PAGE,
    Fault.NO_HTTP: b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    Fault.NO_STATUS: b"HTTP/1.1 fine OK\r\nContent-Length: 2\r\n\r\nok",
}
_DRIP = 0.02


class Line:
    """Stands before a server on loopback. `become` another fault at any time, also between two requests."""

    def __init__(self, server_url: str, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        """What new connections begin with; None for nothing of the kind, as if somebody had forgotten it."""
        self._origin = "https://localhost" if tls else "http://127.0.0.1"
        self._behind = urlsplit(server_url).port
        self._port = free_port()
        self._fault = Fault.NONE
        self._door: socket.socket | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where the server seems to be."""
        return f"{self._origin}:{self._port}"

    async def become(self, fault: Fault) -> None:
        """Treat new connections like this from now on. Each serves one request."""
        self._fault = fault
        loop = asyncio.get_running_loop()
        if fault is Fault.REFUSED and self._door is not None:
            loop.remove_reader(self._door)
            self._door.close()
            self._door = None
        elif fault is not Fault.REFUSED and self._door is None:
            self._door = socket.create_server(("127.0.0.1", self._port), backlog=1024)
            self._door.setblocking(False)
            loop.add_reader(self._door, self._open, self._door)

    async def end(self) -> None:
        """Refuse new connections and break all that are open."""
        await self.become(Fault.REFUSED)
        for task in [*self._handlers]:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _open(self, door: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = door.accept()
            task = asyncio.create_task(self._take(connection, self._fault))
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)

    async def _take(self, connection: socket.socket, fault: Fault) -> None:
        # NB: not by start_tls, which loses what a client has sent before
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.tls)
        except OSError:
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._treat(fault, reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    async def _treat(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match fault:
            case Fault.NONE:
                await _finish(writer, await self._serve(reader))
            case Fault.RESET_AT_ONCE:
                _reset(writer)
            case Fault.RESET_UNREAD:
                await reader.readexactly(1)
                _reset(writer)
            case Fault.RESET_AFTER | Fault.CLOSED_AFTER:
                await self._serve(reader)
                if fault is Fault.RESET_AFTER:
                    _reset(writer)
            case Fault.SILENCE:
                await _request(reader)
                await reader.read()
            case Fault.DRIPPING_HEAD | Fault.DRIPPING_BODY:
                answer = await self._serve(reader)
                whole = answer.index(b"\r\n\r\n") + 4 if fault is Fault.DRIPPING_BODY else 0
                await _drip(writer, answer, whole)
            case Fault.NO_TLS:
                await reader.readexactly(1)
                await _finish(writer, _ANSWERS[Fault.NO_HTTP])
            case answered:
                await _request(reader)
                await _finish(writer, _ANSWERS[answered])

    async def _serve(self, reader: asyncio.StreamReader) -> bytes:
        """Let the server do what is asked and keep its answer."""
        request = await _request(reader)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            inner_writer.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            return await inner_reader.read()
        finally:
            inner_writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return head + await reader.readexactly(sum(lengths))


async def _finish(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _drip(writer: asyncio.StreamWriter, answer: bytes, whole: int) -> None:
    writer.write(answer[:whole])
    for byte in answer[whole:] + b" " * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(_DRIP)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let the next close send RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.asynccontextmanager
async def line_to(server_url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """Lay a line to a server for the length of a test."""
    line = Line(server_url, tls)
    await line.become(Fault.NONE)
    try:
        yield line
    finally:
        await line.end()


def certificate(file: Path) -> Path:
    """Make a certificate for localhost that nobody else signed, with its key in the same file."""
    needs("openssl")
    key = file.with_suffix(".key")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    made = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(file)]
    subprocess.run([*command, *made], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + key.read_bytes())
    return file


class NameServer(asyncio.DatagramProtocol):
    """A name server of its own on loopback. Needs root, for its port."""

    def __init__(self) -> None:
        self.address = (
            f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
        )
        self.known: dict[str, str] = {}
        """What it resolves; it says of any other name that there is none."""
        self.silent: set[str] = set()
        """What it never answers."""
        self.asked: list[str] = []
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, 53))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()

    def connection_lost(self, _error: Exception | None) -> None:
        self._closed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question, after RFC 1035."""
        labels, at = [], 12
        while (length := data[at]) > 0:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name, (kind,) = ".".join(labels).lower(), struct.unpack_from("!H", data, at + 1)
        self.asked.append(name)
        self._changed.set()
        if name in self.silent:
            return
        address = self.known.get(name)
        found = address is not None and kind == 1
        head = data[:2] + struct.pack("!HHHHH", 0x8180 if address else 0x8183, 1, found, 0, 0)
        record = (
            struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
            if address and found
            else b""
        )
        assert self._transport is not None
        self._transport.sendto(head + data[12 : at + 5] + record, addr)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a question makes the condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def with_names(
    directory: Path, server: NameServer, *, hosts: Sequence[str] = (), patience: str = "timeout:30 attempts:5"
) -> list[str]:
    """Return the beginning of a command that runs where this name server is the only one.

    `hosts` are this machine, whatever it says. By default a look-up that is not answered outlasts any test.
    """
    _needs_a_mount_namespace()
    resolv, known = directory / "resolv.conf", directory / "hosts"
    resolv.write_text(f"nameserver {server.address}\noptions {patience}\n")
    known.write_text(f"127.0.0.1 localhost {' '.join(hosts)}\n")
    script = f'mount --bind "{resolv}" /etc/resolv.conf && mount --bind "{known}" /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def _needs_a_mount_namespace() -> None:
    """Skip a test where a mount namespace cannot be had; where CI runs as root, it has to be."""
    is_root = os.geteuid() == 0
    if is_root and shutil.which("unshare"):
        tried = subprocess.run(
            ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"], check=False
        )
        if tried.returncode == 0:
            return
    if os.environ.get("CI") and is_root:
        pytest.fail("root cannot make a mount namespace here, although the tests need one")
    pytest.skip("a name server of its own needs root and a mount namespace")
