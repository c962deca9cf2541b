"""Boots a machine and opens a shell in it: ``python -m tests.systemd``, as root."""

import subprocess

from tests.systemd.booted import booted


def main() -> None:
    """See the module."""
    with booted() as machine:
        print("a machine with a systemd of its own; leave it with: exit")
        subprocess.run([*machine.inside, "bash", "-l"], check=False)


if __name__ == "__main__":
    main()
