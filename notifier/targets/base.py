"""What every type of target has: its settings, how it renders events and what an answer means.

A target does no I/O, sleeps nowhere and remembers nothing: it turns events into a `Request` and an `Answer`
into an `Outcome`. What follows from an outcome is decided elsewhere, once for all types.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from notifier.answer import Answer, retry_after, told_wait
from notifier.delivery import Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event
from notifier.gate import Pace
from notifier.secret import Secret
from notifier.settings import SecretUrl, Settings, Unresolved, mistake


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


class Meaning(Enum):
    """What a service's own word for an error says, where its HTTP status alone would mislead."""

    THIS_MESSAGE = auto()
    """The message is refused, now and later; others may pass."""
    ITS_LAYOUT = auto()
    """The message is refused for how it is laid out; plain text may pass."""
    THE_TARGET = auto()
    """Every message is refused until a person acts."""
    FOR_NOW = auto()
    """The same message may pass later."""


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

    @property
    def remote_end(self) -> str:
        """What tells the remote end from others; targets of the same one share its gate. A secret."""
        return self.url.reveal()

    @property
    def limiter(self) -> str:
        """What the service counts our requests by; targets of the same one wait together. A secret."""
        return self.remote_end

    @property
    def shares_limit(self) -> bool:
        """Whether the service may count what goes to other remote ends together with this target's."""
        return self.limiter != self.remote_end

    @abstractmethod
    def render(self, events: Sequence[Event], *, now: datetime, is_plain: bool = False) -> Request:
        """Return the request that tells as many of the events, from the first on, as one message takes.

        In plain text, for a service that has refused the layout of the message, if the type has any.
        """

    @property
    def most_events(self) -> int:
        """How many events one message can take at the most."""
        return 1

    def meaning(self, answer: Answer) -> Meaning | None:
        """Return what the service's own word for an error says; None leaves it to the status."""
        del answer
        return None

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Say what an answer means for the message and for the target.

        The status says it as every service means it, but for those that refuse a message or are the
        service's own trouble (400, 5xx and the like): there the service's word for the error decides.
        """
        reason = answer.describe()
        match answer.status:
            case status if status < 200:
                return Retry(f"{reason}, which is no answer to a message: check the target's url")
            case status if 200 <= status < 300:
                return Delivered(reason)
            case status if 300 <= status < 400:
                return Retry(f"{reason}, which is not followed: check the target's url")
            case 401 | 403 | 404 | 410:
                return TargetBroken(reason)
            case 429:
                return Retry(reason, after=told_wait(answer, now))
        match self.meaning(answer):
            case Meaning.THIS_MESSAGE:
                return Rejected(reason)
            case Meaning.ITS_LAYOUT:
                return Rejected(reason, is_layout=True)
            case Meaning.THE_TARGET:
                return TargetBroken(reason)
            case Meaning.FOR_NOW:
                return Retry(reason, after=retry_after(answer.headers, now))
            case None if answer.status >= 500 or answer.status in {408, 425}:
                return Retry(reason, after=retry_after(answer.headers, now))
            case None:
                return Rejected(reason)

    def probe(self) -> Request | None:
        """Return a request that shows whether the service takes messages, and that nobody ever sees.

        None where there is no such request: then only the connection can be tried.
        """
        return None

    def diagnose(self, answer: Answer, *, now: datetime) -> Outcome | None:
        """Say what the answer to the probe means; None when it says nothing of what becomes of messages.

        Rejected is the probe alone, so that messages may pass all the same.
        """
        outcome = self.classify(answer, now=now)
        return None if isinstance(outcome, Rejected) else outcome  # NB: what it refuses was no message

    def spared_for(self, answer: Answer, *, now: datetime) -> timedelta | None:
        """Return how long the service asks not to be sent the next request, whatever became of this one."""
        del answer, now
        return None

    @field_validator("url", mode="after")
    @classmethod
    def _belongs_to_this_type(cls, url: Secret) -> Secret:
        if not isinstance(url, Unresolved):
            host = (urlsplit(url.reveal()).hostname or "").lower()
            for domain, owner in cls.foreign_hosts.items():
                if is_within(host, domain):
                    raise mistake(f"is a {owner.capitalize()} URL: this target's type should be {owner}")
        return url

    def secrets(self) -> Sequence[str]:
        """Return what must never be shown of this target."""
        return [self.url.reveal()]


def is_within(host: str, domain: str) -> bool:
    """Say whether a host belongs to a domain."""
    return host == domain or host.endswith(f".{domain}")
