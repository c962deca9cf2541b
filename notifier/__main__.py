"""The ``notifier`` command, also as ``python -m notifier``."""

import gc
import os
import signal
import sys


def main() -> None:
    """Run the command, which takes signals from the first moment when it is the daemon.

    NB: importing the rest takes half a second, in which SIGHUP would kill the daemon: under systemd a start
    that fails, elsewhere an end that nobody wanted.
    """
    if sys.argv[1:2] == ["run"]:
        take_signals()
        gc.disable()  # until it has started: what is made by then stays
    from notifier import cli  # noqa: PLC0415

    cli.main()


def take_signals() -> None:
    """Until the daemon listens to signals itself: a stop is an orderly one, and a reload comes by itself.

    The daemon starts no processes. Those that end under it as process 1 of a container are orphans of others,
    such as probes that were cut short, whose remains nobody else takes away.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


if __name__ == "__main__":
    main()
