"""What a check has found: how something is, and what a person can do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """What is looked at; the values are what ``doctor --json`` says."""

    CONFIG = "config"
    CREDENTIAL = "credential"
    STATE = "state"
    DAEMON = "daemon"
    OUTBOX = "outbox"
    TOKEN = "token"  # noqa: S105 - what is looked at
    USAGE = "usage"
    CLOCK = "clock"
    WATCH = "watch"
    ACCOUNT = "account"
    TARGET = "target"
    CALLBACK = "callback"
    ROUTE = "route"


class Health(StrEnum):
    """How it is. Only what has failed makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. Whatever has failed comes with advice."""

    check: Check
    subject: str
    health: Health
    detail: str
    advice: str = ""
    name: str = ""
    """What people call the subject, if not just that."""

    def as_json(self) -> dict[str, str]:
        """Return the shape that ``doctor --json`` promises."""
        return {
            "check": self.check.value,
            "subject": self.subject,
            "state": self.health.value,
            "detail": f"{self.name}: {self.detail}" if self.name else self.detail,
            "advice": self.advice,
        }
