"""The daemon's own listener: which requests it answers, and where it may listen without a warning."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.process import daemon
from tests.support.servers import free_port
from tests.support.watchlists import BASE, loaded, mistakes


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    port = free_port()
    file = tmp_path / "watchlist.yaml"
    http = f"{{listen: '127.0.0.1:{port}', hosts: [notifier.example.com]}}"
    file.write_text(
        f"useapi: {{token: abc}}\ntargets: {{}}\nwatch: []\nstate: {tmp_path}/s.db\nhttp: {http}\n"
    )
    file.chmod(0o600)
    async with daemon(file):
        yield port


async def status_of(port: int, request: bytes) -> int:
    """Send the bytes of a request; return the status of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    line = await reader.readline()
    writer.close()
    return int(line.split(b" ")[1])


REQUESTS = [
    (b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    (b"GET /api/status HTTP/1.1\r\nhOST:   LOCALHOST:8720  \r\n\r\n", 200),
    (b"GET /api/status HTTP/1.1\r\nHost: notifier.example.com\r\n\r\n", 200),
    (b"GET /api/status HTTP/1.1\r\nHost: 192.0.2.1:1\r\n\r\n", 200),
    (b"GET /api/status HTTP/1.1\r\nHost: [2001:db8::1]:1\r\n\r\n", 200),
    (b"GET http://localhost/api/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    # names of others, however they are dressed up
    (b"GET /api/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: evil.example:80:localhost\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost:80:80\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost:evil\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: [localhost]\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: [::1\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: 2130706433\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost.\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: \r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: \xff\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.0\r\n\r\n", 403),
    (b"GET http://evil.example/api/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
    (b"GET http://localhost/api/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    (b"GET http://evil.example/api/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    (b"GET /api/status HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n", 403),
    # what is no request
    (b"GET /api/status HTTP/1.1\r\n\r\n", 400),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
    (b"GET /api/status HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 400),
    (b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    # nothing is taken in or passed on
    (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
    (b"POST /api/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 405),
    (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
]


async def test_only_requests_for_its_own_names_are_answered(port: int) -> None:
    got = [(request, await status_of(port, request)) for request, _ in REQUESTS]
    assert got == REQUESTS


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.com:1", "localhost.example:1", "0:1"]
)
def test_an_address_that_others_reach_is_warned_of(address: str) -> None:
    (warning,) = loaded(f"{BASE}http: '{address}'\n").warnings
    assert warning.line("w") == "w:4:7: http: warning: answers to other machines too, without a password"
    (other,) = loaded(f"{BASE}http: {{listen: '{address}', hosts: [a.example]}}\n").warnings
    assert other.path == "http"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_an_address_of_this_machine_alone_is_not_warned_of(address: str) -> None:
    assert loaded(f"{BASE}http: '{address}'\n").warnings == ()


def test_without_the_key_nothing_listens_and_no_address_is_left_to_chance() -> None:
    assert loaded(BASE).config.http is None
    for address in (":8720", "8720", "*:8720", "[]:8720"):
        (line,) = mistakes(f"{BASE}http: '{address}'\n")
        assert "is no address to listen on" in line


@pytest.mark.parametrize(
    "address",
    [
        "a..b:80",
        ".a:80",
        "a.:80",
        "a" * 64 + ":80",
        "a." * 127 + "a:80",
        "[:::]:80",
        "[1.2.3.4]:80",
        "a:65536",
    ],
)
def test_what_no_system_can_listen_on_is_refused_beforehand(address: str) -> None:
    """The codec of international names raises an error of its own for these, which ended the daemon."""
    (line,) = mistakes(f"{BASE}http: '{address}'\n")
    assert "is no address to listen on" in line


def test_an_api_that_wants_a_password_is_refused_since_the_token_takes_its_place() -> None:
    (line,) = mistakes(
        "useapi: {token: abc, base_url: 'https://me:hunter2@example.com/v2'}\n" + BASE.split("\n", 1)[1]
    )
    assert line == (
        "w:1:32: useapi.base_url: holds a user name or a password: the token alone is what the API is shown"
    )
