"""The `body` setting of webhook targets: a sandboxed Jinja2 template that renders JSON.

A template sees the `event` as it is and, as `message`, what the chat types say of it in words.

Source: https://jinja.palletsprojects.com/en/stable/sandbox/
"""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import ChainableUndefined, TemplateError, Undefined
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from notifier.clock import to_rfc3339
from notifier.event import Event, public_data
from notifier.message import Message, compose
from notifier.text import one_line, shorten
from notifier.track import compact_json

_LARGEST_BODY = 1_000_000


class BodyError(ValueError):
    """The template cannot be compiled, or renders something that is no JSON."""


def _tojson(value: object) -> str:
    """Write a value as JSON; what an event does not have is ``null``, wherever it stands in the value."""
    return compact_json(_defined(value))


def _defined(value: object) -> object:
    match value:
        case Undefined():
            return None
        case dict():
            return {key: _defined(member) for key, member in value.items()}
        case list() | tuple():
            return [_defined(member) for member in value]
        case _:
            return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no value of JSON")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=ChainableUndefined, autoescape=False, cache_size=0)
    environment.filters["tojson"] = _tojson
    return environment


_ENVIRONMENT = _environment()


class BodyTemplate:
    """A compiled template. Raises BodyError, with the template's own line, when it does not compile."""

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            parsed = _ENVIRONMENT.parse(source)
            self._mentions_message = "message" in find_undeclared_variables(parsed)
            self._template = _ENVIRONMENT.from_string(parsed)
        except (
            Exception
        ) as error:  # NB: Jinja lets Python's own errors through, such as too many nested loops
            raise BodyError(f"does not compile: {_sentence(error)}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BodyTemplate) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def render(self, event: Event) -> str:
        """Render the body for an event. Raises BodyError when the result is no JSON."""
        try:
            body = self._template.render(self._variables(event))
        except Exception as error:
            raise BodyError(f"fails on a {event.type} event: {_sentence(error)}") from None
        if len(body) > _LARGEST_BODY:
            raise BodyError(f"renders more than {_LARGEST_BODY} characters for a {event.type} event")
        try:
            json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BodyError(f"renders no JSON for a {event.type} event: {_sentence(error)}") from None
        return body.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _variables(self, event: Event) -> Mapping[str, Any]:
        words = {"message": _in_words(compose(event))} if self._mentions_message else {}
        return {"event": _view(event), **words}


def _view(event: Event) -> Mapping[str, Any]:
    data = public_data(event)
    return {
        "status": None,
        **data,
        "track": data.get("track") or {},
        "name": event.name,
        "id": event.id,
        "type": event.type.value,
        "timestamp": data["detected_at"],
        "data": data,
    }


def _in_words(message: Message) -> Mapping[str, Any]:
    """Return a message as templates know it: cleaned as for the chat types, escaped for no markup."""
    return {
        "tone": message.tone.value,
        "emoji": message.emoji,
        "headline": message.headline,
        "summary": message.summary,
        "url": message.url,
        "facts": [{"label": label, "value": value} for label, value in message.facts],
        "prompt": message.prompt,
        "detail": message.detail,
        "note": message.note,
        "audio_id": message.audio_id,
        "at": to_rfc3339(message.at),
    }


def _sentence(error: BaseException) -> str:
    line = getattr(error, "lineno", None)
    text = one_line(str(error) or type(error).__name__)
    where = (
        f" (line {line} of the template)"
        if isinstance(line, int) and isinstance(error, TemplateError)
        else ""
    )
    return f"{shorten(text, 200)}{where}"
