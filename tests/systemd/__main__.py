"""Boots a machine with this checkout and its unit and opens a shell there: ``python -m tests.systemd``."""

import subprocess

from tests.systemd.service import CREDENTIALS, ROOT, WATCHLIST, Service, installed


def main() -> None:
    """See the module."""
    with installed() as machine:
        service = Service(machine)
        service.watchlist((ROOT / "config" / "watchlist.yaml").read_text(encoding="utf-8"))
        service.credential("useapi-token", "user:1-secret")
        print(f"edit {WATCHLIST}, write {CREDENTIALS}/…, systemctl start notifier; leave with: exit")
        subprocess.run([*machine.inside, "bash", "-l"], check=False)


if __name__ == "__main__":
    main()
