"""Where the files of this program are when nobody says otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path

CONFIG = "/etc/notifier/watchlist.yaml"
SYSTEM_STATE = Path("/var/lib/notifier")
_UNIT = Path("/etc/systemd/system/notifier.service")
_NAME = "state.db"


def config_file(given: str | None, environment: Mapping[str, str] | None = None) -> str:
    """Return the watchlist to read: the one given, else ``$NOTIFIER_CONFIG``, else the system's."""
    environment = os.environ if environment is None else environment
    return given or environment.get("NOTIFIER_CONFIG") or CONFIG


def state_file(
    given: str | None,
    configured: str | None,
    *,
    environment: Mapping[str, str] | None = None,
    system: Path = SYSTEM_STATE,
) -> Path:
    """Return the state file: given on the command line, configured, or where this system keeps state."""
    environment = os.environ if environment is None else environment
    if given or configured:
        # NB: unlike Path.expanduser this leaves a home that nobody has as it is written.
        return Path(os.path.expanduser(given or configured or "")).absolute()
    directory = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if directory:
        return Path(directory) / _NAME
    if system.is_dir():
        return system / _NAME
    home = environment.get("XDG_STATE_HOME")
    try:
        base = Path(home) if home else Path.home() / ".local" / "state"
    except RuntimeError:
        return system / _NAME  # no home at all; opening it says what is wrong
    return base / "notifier" / _NAME


def how_to_start(unit: Path = _UNIT) -> str:
    """Return the command that starts the daemon on this machine."""
    return "sudo systemctl start notifier" if unit.exists() else "notifier run"
