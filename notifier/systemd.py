"""The service manager's protocol: datagrams to ``$NOTIFY_SOCKET``.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import os
import re
import socket
import time
from collections.abc import Mapping
from datetime import timedelta

from notifier.text import one_line, shorten

_LONGEST_STATUS = 500
_MICROSECONDS = re.compile("[1-9][0-9]{0,14}")


class ServiceManager:
    """Tells systemd how the service is; outside systemd it tells nobody."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = _watchdog(environment)

    @property
    def watchdog_interval(self) -> timedelta | None:
        """How often `feed_watchdog` is to be called, a third of what systemd allows; None when it is off."""
        return self._watchdog

    def ready(self, status: str) -> None:
        """Say that the service has started, or that a reload is over."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def status(self, status: str) -> None:
        """Show a line in ``systemctl status``."""
        self._send(_status(status))

    def stopping(self) -> None:
        """Say that the service is on its way out."""
        self._send("STOPPING=1", _status("stopping"))

    def feed_watchdog(self) -> None:
        """Say that the service makes progress."""
        self._send("WATCHDOG=1")

    def _send(self, *fields: str) -> None:
        if self._address[:1] not in {"/", "\0"}:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.setblocking(False)  # a full queue loses one message, it never stops the loop
                connection.connect(self._address)
                connection.sendall("\n".join(fields).encode())
        except OSError:
            return  # nobody to tell; a watchdog that hears nothing acts by itself


def _status(text: str) -> str:
    """Make a status of text that may come from outside: a line feed in it would begin another field."""
    return f"STATUS={shorten(one_line(text), _LONGEST_STATUS)}"


def _watchdog(environment: Mapping[str, str]) -> timedelta | None:
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    is_meant_for_us = pid in {"", str(os.getpid())}
    if not is_meant_for_us or not _MICROSECONDS.fullmatch(microseconds):
        return None
    return timedelta(microseconds=int(microseconds)) / 3
