"""Credentials as the unit has them: where their files are, who may read them, and what the daemon runs with.

systemd copies them when the service starts, and never again: https://systemd.io/CREDENTIALS/
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from notifier.doctor.finding import Check, Finding, Health
from notifier.secret import Sources

KEPT = Path("/etc/notifier/credentials")
"""Where the unit takes credentials from."""
GIVEN = Path("/run/credentials/notifier.service")
"""Where the running service has them; only root and the service see it."""
ENVIRONMENT_FILE = Path("/etc/notifier/environment")
_OTHERS = 0o077
_LARGEST = 65_536
_VARIABLE = "CREDENTIALS_DIRECTORY"
_SYSTEMDS = Path("/run/credentials")
"""Whose files are as private as systemd wants them."""
_RESTART = "sudo systemctl restart notifier"
_AS_ROOT = f"sudo env {_VARIABLE}={KEPT} notifier doctor"


@dataclass(frozen=True, slots=True)
class NotedSources(Sources):
    """Looks references up and remembers what was asked for."""

    credentials: dict[str, None] = field(default_factory=dict)
    """The names of credentials, in the order of the watchlist."""

    def resolve(self, scheme: str, name: str, default: str | None) -> str:
        """Return what a reference stands for. Raises ReferenceError_."""
        if scheme == "credential":
            self.credentials[name] = None
        return Sources.resolve(self, scheme, name, default)


def sources(environment: Mapping[str, str], *, kept: Path = KEPT) -> NotedSources:
    """Return where references lead for a person: outside the unit, to the files that the unit reads."""
    if environment.get(_VARIABLE) or not os.access(kept, os.R_OK | os.X_OK):
        return NotedSources(environment)
    return NotedSources({**environment, _VARIABLE: str(kept)})


def credentials(asked: NotedSources, *, kept: Path = KEPT, given: Path = GIVEN) -> Iterator[Finding]:
    """Yield how each credential is that the watchlist names."""
    used = asked.environment.get(_VARIABLE)
    if used:
        for name in asked.credentials:
            yield _credential(Path(used) / name, given=given if Path(used) == kept else None)
    elif asked.credentials and kept.is_dir():
        detail = f"{kept} cannot be read by this user, and ${_VARIABLE} is not set"
        yield Finding(Check.CREDENTIAL, str(kept), Health.FAILED, detail, f"ask as root: {_AS_ROOT}")


def _credential(path: Path, *, given: Path | None) -> Finding:
    said = _of_file(path)
    if said[0] is Health.OK and given is not None:
        said = _of_service(path, given) or said
    health, detail, advice = said
    return Finding(Check.CREDENTIAL, path.name, health, detail, advice)


def _of_file(path: Path) -> tuple[Health, str, str]:
    """Say how a credential's file is, never what it holds."""
    write = f"sudo install -m 600 /dev/stdin {path} (paste, Enter, Ctrl-D), then: {_RESTART}"
    try:
        is_shown = path.stat().st_mode & path.parent.stat().st_mode & _OTHERS
        is_empty = not _content(path).strip()
    except FileNotFoundError:
        return Health.FAILED, f"{path} does not exist", write
    except OSError as error:
        return Health.FAILED, f"{path} cannot be read: {error.strerror}", f"ask as root: {_AS_ROOT}"
    if is_empty:
        return Health.FAILED, f"{path} is empty", write
    if is_shown and not path.is_relative_to(_SYSTEMDS):
        return Health.WARNING, f"others than its owner may read {path}", f"chmod 600 {path}"
    return Health.OK, f"{path} is there, for its owner only", ""


def _of_service(path: Path, given: Path) -> tuple[Health, str, str] | None:
    """Say where the running service has something else than the file; None where it has not, or none runs."""
    try:
        if not given.is_dir():
            return None
        is_same = _content(given / path.name) == _content(path)
    except FileNotFoundError:
        line = f"LoadCredential={path.name}:{path}"
        how = f"sudo systemctl edit notifier, with the lines [Service] and {line}; then: {_RESTART}"
        return Health.FAILED, f"{path} is there, but the unit does not load it", how
    except OSError:
        return None
    if is_same:
        return None
    return Health.FAILED, f"{path} has changed since the service was started, which has the old one", _RESTART


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST + 1)
