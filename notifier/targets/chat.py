"""What the chat types have in common: many events make one message, in the form that reads best.

Up to ten events are told as cards, each with all that is worth knowing. A larger backlog is summed up: a
headline that counts, and a line for each event. A message whose layout the service has refused is told in
plain text. What each form looks like, its markup and its limits are the service's.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from notifier.event import Event
from notifier.message import Message, compose
from notifier.secret import Secret
from notifier.targets.base import Request, Target
from notifier.track import compact_json

Part = TypeVar("Part")
Payload = dict[str, Any]

_MOST_CARDS = 10
_MOST_LINES = 50


class Chat(Target):
    """A chat channel. Each form returns a payload and how many of the messages, in order, it tells."""

    @property
    def most_events(self) -> int:
        """How many events one message can take at the most."""
        return _MOST_LINES

    @property
    def headers(self) -> Mapping[str, str]:
        """What every request says of itself."""
        return {"Content-Type": "application/json; charset=utf-8"}

    @property
    def post_url(self) -> Secret:
        """Where messages are posted in fact."""
        return self.url

    def render(self, events: Sequence[Event], *, now: datetime, is_plain: bool = False) -> Request:
        """Return one message of as many events as it takes: as cards, summed up or in plain text."""
        del now
        messages = [compose(event) for event in events[:_MOST_LINES]]
        if is_plain:
            payload, count = self.plain(messages)
        elif len(messages) > _MOST_CARDS:
            payload, count = self.summed_up(messages)
        else:
            payload, count = self.cards(messages)
        return Request("POST", self.post_url, self.headers, compact_json(payload).encode(), count)

    @abstractmethod
    def cards(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell few messages, each with all that is worth knowing."""

    @abstractmethod
    def summed_up(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell many messages under a headline that counts them, each in a line."""

    @abstractmethod
    def plain(self, messages: Sequence[Message]) -> tuple[Payload, int]:
        """Tell messages with as little layout as can be."""


def as_many_as_fit(parts: Iterable[Part], fits: Callable[[Sequence[Part]], bool]) -> list[Part]:
    """Return the first part and those after it that one message still takes, in order."""
    taken: list[Part] = []
    for part in parts:
        if taken and not fits([*taken, part]):
            break
        taken.append(part)
    return taken
