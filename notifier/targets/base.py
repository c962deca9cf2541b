"""What every type of target has: its settings, how it renders events and what an answer means.

A target does no I/O, sleeps nowhere and remembers nothing: it turns events into a `Request` and an `Answer`
into an `Outcome`. What follows from an outcome is decided elsewhere, once for all types.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from notifier.answer import Answer, retry_after, told_wait
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event
from notifier.gate import Pace
from notifier.secret import Secret
from notifier.settings import SecretUrl, Settings, Unresolved, mistake

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that carries the first `event_count` of the events it was rendered from."""

    method: str
    url: Secret
    headers: Mapping[str, str]
    body: bytes
    event_count: int = 1
    warning: str | None = None
    """What the operator should know of how the body came about."""

    def __repr__(self) -> str:
        return f"Request({self.method}, {len(self.body)} bytes, {self.event_count} events)"


class Target(Settings, ABC):
    """A named destination. Subclasses are the types; each stands in `notifier.targets.TYPES`."""

    pace: ClassVar[Pace | None] = None
    """The requests that the service takes from us."""
    foreign_hosts: ClassVar[Mapping[str, str]] = {}
    """Hosts that belong to another type of target, with that type's name."""

    url: SecretUrl = Field(description="Where messages are posted. A secret: use a reference.")

    @property
    def type_name(self) -> str:
        """The type, as the watchlist says it."""
        return str(getattr(self, "type"))  # noqa: B009 - declared by each type as its own literal

    @property
    def lanes(self) -> int:
        """How many requests may be under way at once; 1 keeps the order of events."""
        return 1

    @abstractmethod
    def render(self, events: Sequence[Event], *, now: datetime) -> Request:
        """Return the request that tells as many of the events, from the first on, as one message takes."""

    @property
    def most_events(self) -> int:
        """How many events one message can take at the most."""
        return 1

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Say what an answer means for the message and for the target."""
        return classify_by_status(answer, now=now)

    @field_validator("url", mode="after")
    @classmethod
    def _belongs_to_this_type(cls, url: Secret) -> Secret:
        if not isinstance(url, Unresolved):
            host = (urlsplit(url.reveal()).hostname or "").lower()
            for domain, owner in cls.foreign_hosts.items():
                if host == domain or host.endswith(f".{domain}"):
                    raise mistake(f"is a {owner.capitalize()} URL: this target's type should be {owner}")
        return url

    def secrets(self) -> Sequence[str]:
        """Return what must never be shown of this target."""
        return [self.url.reveal()]


def as_many_as_fit(parts: Iterable[Part], fits: Callable[[Sequence[Part]], bool]) -> list[Part]:
    """Return the first part and those after it that one message still takes, in order."""
    taken: list[Part] = []
    for part in parts:
        if taken and not fits([*taken, part]):
            break
        taken.append(part)
    return taken


def classify_by_status(answer: Answer, *, now: datetime) -> Outcome:
    """Classify by HTTP status alone, as every service means it; types refine this with their own bodies."""
    reason = answer.describe()
    match answer.status:
        case status if 200 <= status < 300:
            return Delivered(reason)
        case status if 300 <= status < 400:
            return Retry(f"{reason}, which is not followed: check the target's url")
        case 401 | 403 | 404 | 410:
            return TargetBroken(reason)
        case 429:
            return Retry(reason, after=told_wait(answer, now))
        case status if status >= 500 or status in {408, 425}:
            return Retry(reason, after=retry_after(answer.headers, now))
        case _:
            return Rejected(reason)
