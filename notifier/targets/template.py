"""The `body` setting of webhook targets: a sandboxed Jinja2 template that renders JSON.

Source: https://jinja.palletsprojects.com/en/stable/sandbox/
"""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import ChainableUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from notifier.event import Event, public_data
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
            self._template = _ENVIRONMENT.from_string(source)
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
            body = self._template.render(event=_view(event))
        except Exception as error:
            raise BodyError(f"fails on a {event.type} event: {_sentence(error)}") from None
        if len(body) > _LARGEST_BODY:
            raise BodyError(f"renders more than {_LARGEST_BODY} characters for a {event.type} event")
        try:
            json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BodyError(f"renders no JSON for a {event.type} event: {_sentence(error)}") from None
        return body.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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


def _sentence(error: BaseException) -> str:
    line = getattr(error, "lineno", None)
    text = one_line(str(error) or type(error).__name__)
    where = (
        f" (line {line} of the template)"
        if isinstance(line, int) and isinstance(error, TemplateError)
        else ""
    )
    return f"{shorten(text, 200)}{where}"
