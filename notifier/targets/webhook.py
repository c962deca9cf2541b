"""Generic webhooks: the event's public JSON, or the owner's template, signed after Standard Webhooks.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from notifier import USER_AGENT
from notifier.answer import Answer, seconds, told_wait
from notifier.delivery import Outcome, Retry
from notifier.document import Scalar, Sequence_
from notifier.event import Event, public_json
from notifier.sample import sample_event
from notifier.secret import Secret
from notifier.settings import Count, OneOf, leaf, mistake
from notifier.targets.base import Request, Target
from notifier.targets.template import BodyError, BodyTemplate

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_OWN_PREFIX = "webhook-"


def _signing_secret(value: Scalar) -> Secret:
    """Take ``whsec_`` and the strict base64 of 24 to 64 bytes; the message never shows the value."""
    _key(str(value))
    return Secret(str(value))


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise mistake("is no signing secret: expected whsec_ and the base64 of 24 to 64 bytes")
    return key


def _as_list(value: Any) -> Any:
    if isinstance(value, Sequence_) and not value:
        raise mistake("holds no signing secret: give it one, or remove the key to sign nothing")
    return value if isinstance(value, Sequence_ | tuple) else (value,)


def _header_value(value: Scalar) -> Secret:
    if not value.isprintable() or not value.isascii():
        raise mistake("is no header value: expected printable ASCII on one line")
    return Secret(str(value))


def _header_name(value: Any) -> str:
    name = str(value)
    if not _HEADER_NAME.fullmatch(name):
        raise mistake("is no header name")
    if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIX):
        raise mistake(f"the header {name} is set by the notifier itself")
    return name


def _body(value: Scalar) -> BodyTemplate:
    """Compile the template and try it on a completed and a failed event."""
    try:
        template = BodyTemplate(str(value))
        for is_completed in (True, False):
            template.render(sample_event(is_completed=is_completed))
    except BodyError as error:
        if value.is_from_reference:  # the template's own complaint would quote it
            raise mistake("does not render a sample event to JSON; it came from a reference") from None
        raise mistake(str(error)) from None
    return template


SigningSecret = Annotated[
    Secret, PlainValidator(leaf(_signing_secret, "a signing secret")), WithJsonSchema({"type": "string"})
]
HeaderName = Annotated[str, PlainValidator(_header_name), WithJsonSchema({"type": "string"})]
HeaderValue = Annotated[
    Secret,
    PlainValidator(leaf(_header_value, "a header value")),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Body = Annotated[
    BodyTemplate,
    PlainValidator(leaf(_body, "a template")),
    PlainSerializer(lambda template: template.source),
    WithJsonSchema({"type": "string"}),
]


class Webhook(Target):
    """Any URL that takes JSON."""

    type: Literal["webhook"] = Field(description="Any URL that takes JSON.")
    secret: Annotated[
        tuple[SigningSecret, ...],
        BeforeValidator(_as_list, json_schema_input_type=SigningSecret | tuple[SigningSecret, ...]),
    ] = Field(
        default=(),
        description="Signs each request after Standard Webhooks; a list of several while rotating.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(default={}, description="Further request headers.")
    method: Annotated[str, OneOf("POST", "PUT", "PATCH")] = Field(
        default="POST", description="The HTTP method."
    )
    body: Body | None = Field(
        default=None,
        description="A Jinja2 template of JSON from `event` and `message`; default: the standard JSON.",
    )
    concurrency: Count = Field(default=4, description="How many requests may be under way at once.")

    @property
    def lanes(self) -> int:
        """How many requests may be under way at once."""
        return self.concurrency

    def render(self, events: Sequence[Event], *, now: datetime, is_plain: bool = False) -> Request:
        """Return the request for the first event: webhooks are never merged and have no plainer form."""
        event = events[0]
        text, warning = self._render_body(event)
        body = text.encode()
        headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        for name, value in self.headers.items():
            headers = {own: kept for own, kept in headers.items() if own.lower() != name.lower()}
            headers[name] = value.reveal()
        headers["webhook-id"] = event.id
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        if self.secret:
            headers["webhook-signature"] = _sign(self.secret, headers, body)
        return Request(self.method, self.url, headers, body, warning=warning)

    def _render_body(self, event: Event) -> tuple[str, str | None]:
        """Return the body and, when the template failed on this event, why the standard JSON goes out."""
        if self.body is None:
            return public_json(event), None
        try:
            return self.body.render(event), None
        except BodyError as error:
            return public_json(event), f"the template {error}"

    def classify(self, answer: Answer, *, now: datetime) -> Outcome:
        """Read the waits that common services write into the body of a 429, besides its header."""
        outcome = super().classify(answer, now=now)
        if isinstance(outcome, Retry) and answer.status == 429:
            return replace(outcome, after=told_wait(answer, now, *_told_waits(answer.json_object())))
        return outcome

    def secrets(self) -> Sequence[str]:
        """Return what must never be shown of this target."""
        signing = [secret.reveal() for secret in self.secret]
        return [*super().secrets(), *signing, *(secret.removeprefix("whsec_") for secret in signing)]


def _told_waits(fields: Mapping[str, Any]) -> Iterator[timedelta | None]:
    """Yield ``retry_after`` in seconds, as many services have it, and where Telegram has it.

    Source: https://core.telegram.org/bots/api#responseparameters
    """
    yield seconds(fields.get("retry_after"))
    parameters = fields.get("parameters")
    if isinstance(parameters, dict):
        yield seconds(parameters.get("retry_after"))


def _sign(secrets: Sequence[Secret], headers: Mapping[str, str], body: bytes) -> str:
    """Sign id, timestamp and the very bytes of the body with each secret."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digests = (hmac.digest(_key(secret.reveal()), signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
