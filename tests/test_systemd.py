import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from notifier.systemd import ServiceManager

LARGEST_DATAGRAM = 4096
"""What systemd reads of one; the rest would be lost."""


class Listener:
    """The service manager's end of ``$NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def messages(self) -> list[list[str]]:
        """Return the datagrams that have come since the last call, each as its lines."""
        messages: list[list[str]] = []
        while True:
            try:
                datagram = self._socket.recv(65_536)
            except BlockingIOError:
                return messages
            assert len(datagram) <= LARGEST_DATAGRAM
            messages.append(datagram.decode().split("\n"))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    """Listen at both kinds of address that systemd uses."""
    listener = Listener(str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify")
    yield listener
    listener.close()


@pytest.fixture
def manager(listener: Listener) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": listener.address})


def test_ready_carries_the_status_in_the_same_datagram(listener: Listener, manager: ServiceManager) -> None:
    manager.ready("watching 3 tracks")
    assert listener.messages() == [["READY=1", "STATUS=watching 3 tracks"]]


def test_a_reload_carries_the_moment_it_began(listener: Listener, manager: ServiceManager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    [[begun, moment]] = listener.messages()
    assert begun == "RELOADING=1"
    name, _, microseconds = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= after


def test_stopping_is_said(listener: Listener, manager: ServiceManager) -> None:
    manager.stopping()
    assert listener.messages() == [["STOPPING=1", "STATUS=stopping"]]


def test_feeding_the_watchdog_says_nothing_else(listener: Listener, manager: ServiceManager) -> None:
    manager.feed_watchdog()
    assert listener.messages() == [["WATCHDOG=1"]]


def test_a_whole_life_arrives_in_its_order(listener: Listener, manager: ServiceManager) -> None:
    manager.ready("up")
    manager.feed_watchdog()
    manager.reloading()
    manager.ready("reloaded")
    manager.stopping()
    firsts = [message[0] for message in listener.messages()]
    assert firsts == ["READY=1", "WATCHDOG=1", "RELOADING=1", "READY=1", "STOPPING=1"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("", ""),
        ("watching 3 tracks", "watching 3 tracks"),
        ("API trouble: naïve → 502", "API trouble: naïve → 502"),
        ("  much \t space  ", "much space"),
        ("down\nREADY=1", "down READY=1"),
        ("down\r\nWATCHDOG=trigger\x00\n", "down WATCHDOG=trigger"),
        ("line\u2028separator\x85next", "line separatornext"),
        ("red \x1b[31malert\x07", "red [31malert"),
        ("evil \u202etrack", "evil track"),
        ("half \ud83d emoji", "half \ufffd emoji"),
    ],
)
def test_a_status_from_outside_stays_one_harmless_line(
    listener: Listener, manager: ServiceManager, status: str, shown: str
) -> None:
    manager.status(status)
    manager.ready(status)
    assert listener.messages() == [[f"STATUS={shown}"], ["READY=1", f"STATUS={shown}"]]


@pytest.mark.parametrize("character", ["x", "é", "漢", "\U0001f600", "word "])
def test_a_long_status_is_cut_to_what_systemd_reads(
    listener: Listener, manager: ServiceManager, character: str
) -> None:
    manager.ready(character * 10_000)
    [[ready, status]] = listener.messages()
    assert ready == "READY=1"
    assert status.startswith(f"STATUS={character}")
    assert status.endswith("…")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "relative/notify"},
        {"NOTIFY_SOCKET": "vsock:2:9999"},
        {"NOTIFY_SOCKET": "@"},
        {"NOTIFY_SOCKET": "@pixverse-notifier-nobody-listens-here"},
        {"NOTIFY_SOCKET": "/nonexistent/notify"},
        {"NOTIFY_SOCKET": "/dev/null"},
        {"NOTIFY_SOCKET": "/" + "x" * 300},
    ],
    ids=str,
)
def test_where_nobody_listens_nothing_is_raised(environment: dict[str, str]) -> None:
    say_everything(ServiceManager(environment))


def say_everything(manager: ServiceManager) -> None:
    manager.ready("up")
    manager.status("well")
    manager.reloading()
    manager.feed_watchdog()
    manager.stopping()


def test_a_relative_address_is_not_taken_for_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listener = Listener("notify")
    ServiceManager({"NOTIFY_SOCKET": "notify"}).ready("up")
    assert listener.messages() == []
    listener.close()


def test_a_manager_that_went_away_and_came_back_is_told_again(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    manager = ServiceManager({"NOTIFY_SOCKET": str(address)})
    first = Listener(str(address))
    manager.status("one")
    assert first.messages() == [["STATUS=one"]]

    first.close()
    manager.status("two")  # the file is there, nobody behind it
    address.unlink()
    manager.status("three")

    second = Listener(str(address))
    manager.status("four")
    assert second.messages() == [["STATUS=four"]]
    second.close()


@pytest.mark.timeout(20)
def test_a_full_queue_loses_messages_and_never_blocks(listener: Listener, manager: ServiceManager) -> None:
    sent = 5_000  # far more than net.unix.max_dgram_qlen, so that a blocking send would hang here
    for _ in range(sent):
        manager.feed_watchdog()
    assert 0 < len(listener.messages()) < sent

    manager.feed_watchdog()
    assert listener.messages() == [["WATCHDOG=1"]]


def test_messages_leave_no_descriptor_behind(listener: Listener, manager: ServiceManager) -> None:
    before = os.listdir("/proc/self/fd")
    say_everything(manager)
    listener.close()
    say_everything(manager)
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1


def test_without_an_environment_given_the_process_has_one(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    manager = ServiceManager()
    manager.ready("up")
    assert listener.messages() == [["READY=1", "STATUS=up"]]
    assert manager.watchdog_interval == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, timedelta(seconds=20)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": ""}, timedelta(seconds=20)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "{this}"}, timedelta(seconds=20)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "me"}, None),
        ({"WATCHDOG_PID": "{this}"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-3000000"}, None),
        ({"WATCHDOG_USEC": "3e6"}, None),
        ({"WATCHDOG_USEC": "60s"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "9" * 30}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_watchdog_is_fed_three_times_in_what_systemd_allows_this_process(
    environment: dict[str, str], interval: timedelta | None
) -> None:
    environment = {name: value.format(this=os.getpid()) for name, value in environment.items()}
    assert ServiceManager(environment).watchdog_interval == interval
