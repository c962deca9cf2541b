"""The kinds of values that keys of the watchlist take, for pydantic models to be made of.

Each kind turns a scalar as written into a typed value or raises a sentence that says what was expected. A
value that came from a reference is never repeated in such a sentence. In a file that is only checked, a
reference is left unresolved and passes for a value of any kind.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from yarl import URL

from notifier.document import Mapping, Scalar, Sequence_
from notifier.duration import DURATION_FORM, RATE_FORM, parse_duration, parse_rate
from notifier.duration import Rate as RateValue
from notifier.mistake import did_you_mean, printable
from notifier.secret import Secret

T = TypeVar("T")

AUDIO_ID_FORM = r"^user:[^\s:/?#]+-pixverse:[^\s:/?#]+@[^\s:/?#]+-music:[0-9]+$"
EMAIL_FORM = r"^[^\s:/?#@]+@[^\s:/?#@]+$"
_AUDIO_ID = re.compile(AUDIO_ID_FORM)
_EMAIL = re.compile(EMAIL_FORM)
_LONGEST_AUDIO_ID = 512
_LONGEST_EMAIL = 254
_LONGEST_URL = 4096
_LONGEST_PATH = 512
_PATH = re.compile(r"/(?!/)[A-Za-z0-9/._~!$&'()*+,;=:@-]*")
"""What arrives as it was written, whoever passes it on."""
_INTEGER = re.compile(r"[-+]?[0-9]+")
_LARGEST_COUNT = 100_000
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
TEXT_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_REFERENCE = r"\$\{"
_REFERENCE_SCHEMA = {"type": "string", "pattern": _REFERENCE}


class Unresolved(Scalar):
    """A scalar whose references were judged by their form only."""

    __slots__ = ()


class Settings(BaseModel):
    """A mapping of the watchlist: strict about its keys, and immutable once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Show which keys are set and never their values: any of them may have come from a reference."""
        return [(None, key) for key in sorted(self.model_fields_set)]


def mistake(message: str) -> PydanticCustomError:
    """Return the error that pydantic carries to the report, with this sentence in it."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


def shown(value: Scalar) -> str:
    """Quote a value in a message, unless it came from a reference."""
    return "the referenced value" if value.is_from_reference else f"'{printable(value)}'"


def kind_of(value: object) -> str:
    """Name what stands in the place of a value, without showing it."""
    match value:
        case Mapping():
            return "a mapping"
        case Sequence_():
            return "a list"
        case Scalar() if not value.is_null:
            return "text"
        case _:
            return "nothing"


def leaf(read: Callable[[Scalar], T], expected: str) -> Callable[[Any], Any]:
    """Make a validator of a function that reads a scalar; `expected` completes "expected …"."""

    def validate(value: Any) -> Any:
        if isinstance(value, Unresolved):
            return value
        if isinstance(value, Mapping | Sequence_):
            raise mistake(f"expected {expected}, found {kind_of(value)}")
        if not isinstance(value, Scalar) or value.is_null:
            raise mistake(f"expected {expected}, found nothing: give it a value or remove the key")
        try:
            return read(value)
        except PydanticCustomError:
            raise
        except ValueError as error:
            raise mistake(f"{shown(value)} {error}") from None

    return validate


def _text(value: Scalar) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return str(value)


def _file_path(value: Scalar) -> str:
    if not value.strip():
        raise ValueError("is empty")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise ValueError("is no path: it holds control characters")
    return str(value)


def _count(value: Scalar) -> int:
    if not value.is_plain or not _INTEGER.fullmatch(value) or len(value) > 12:
        raise ValueError("is not a whole number")
    number = int(value)
    if not 1 <= number <= _LARGEST_COUNT:
        raise ValueError(f"is out of range: expected 1 to {_LARGEST_COUNT}")
    return number


def _duration(value: Scalar) -> timedelta:
    return parse_duration(value)


def _rate(value: Scalar) -> RateValue:
    return parse_rate(value)


def is_audio_id(text: str) -> bool:
    """Say whether a text has the form of a track's name at the API."""
    return len(text) <= _LONGEST_AUDIO_ID and bool(_AUDIO_ID.fullmatch(text)) and text.isprintable()


def _audio_id(value: Scalar) -> str:
    if not is_audio_id(value):
        hint = "; to follow an account, write 'account:' before it" if _EMAIL.fullmatch(value) else ""
        raise ValueError(f"is not an audio_id: expected user:ID-pixverse:EMAIL-music:NUMBER{hint}")
    return str(value)


def _email(value: Scalar) -> str:
    if len(value) > _LONGEST_EMAIL or not _EMAIL.fullmatch(value) or not value.isprintable():
        raise ValueError("is no e-mail address: expected that of a PixVerse account, such as me@example.com")
    return str(value)


def split_url(url: str) -> SplitResult:
    """Split an http(s) URL. Raises ValueError with a sentence that does not repeat it."""
    if len(url) > _LONGEST_URL:
        raise ValueError(f"is longer than {_LONGEST_URL} characters")
    if " " in url or not url.isprintable():
        raise ValueError("is not a URL: it holds white space or control characters")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("is not a URL: expected it to start with https:// or http://")
    if not _is_host(_host_of(url)):
        raise ValueError("is not a URL: it names no host")
    return parts


def _host_of(url: str) -> str:
    """Return the host as the client that asks it will read the URL, nothing where it will refuse to."""
    try:
        address = URL(url)
        return (address.host and address.raw_host) or ""
    except ValueError:
        return ""


def _is_host(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return _HOST.fullmatch(name) is not None


def _base_url(value: Scalar) -> str:
    parts = split_url(value)
    if parts.username is not None or parts.password is not None:
        raise mistake("holds a user name or a password: the token alone is what the API is shown")
    if parts.query or parts.fragment:
        raise ValueError("is no base URL: paths are added to it, so it cannot hold '?' or '#'")
    return str(value).rstrip("/")


def _secret_url(value: Scalar) -> Secret:
    try:
        split_url(value)
    except ValueError as error:
        raise mistake(str(error)) from None  # a webhook's URL is a secret: never shown
    return Secret(str(value))


def _secret_path(value: Scalar) -> Secret:
    if len(value) > _LONGEST_PATH or not _PATH.fullmatch(value) or {".", ".."} & {*value.split("/")}:
        raise mistake(
            "is no path to answer: expected / and then letters, digits or any of /-._~!$&'()*+,;=:@"
        )
    return Secret(str(value))


def _token(value: Scalar) -> Secret:
    if not value.strip() or not value.isascii() or not value.isprintable() or " " in value:
        raise mistake("is not a token: expected it as useapi.net shows it, without spaces or line breaks")
    return Secret(str(value))


def _or_reference(pattern: str) -> str:
    return f"{pattern}|{_REFERENCE}"


Text = Annotated[str, PlainValidator(leaf(_text, "text")), WithJsonSchema(TEXT_SCHEMA)]
FilePath = Annotated[str, PlainValidator(leaf(_file_path, "a path")), WithJsonSchema(TEXT_SCHEMA)]
Count = Annotated[
    int,
    PlainValidator(leaf(_count, "a whole number")),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": _LARGEST_COUNT}, _REFERENCE_SCHEMA]}
    ),
]
Duration = Annotated[
    timedelta,
    PlainValidator(leaf(_duration, "a duration such as 15s")),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _or_reference(DURATION_FORM)},
                {"type": "number", "exclusiveMinimum": 0},
            ]
        }
    ),
]
Rate = Annotated[
    RateValue,
    PlainValidator(leaf(_rate, "a rate such as 5/s")),
    WithJsonSchema({"type": "string", "pattern": _or_reference(RATE_FORM)}),
]
AudioId = Annotated[
    str,
    PlainValidator(leaf(_audio_id, "an audio_id")),
    WithJsonSchema({"type": "string", "pattern": _or_reference(AUDIO_ID_FORM)}),
]
Email = Annotated[
    str,
    PlainValidator(leaf(_email, "an e-mail address")),
    WithJsonSchema({"type": "string", "pattern": _or_reference(EMAIL_FORM)}),
]
BaseUrl = Annotated[str, PlainValidator(leaf(_base_url, "a URL")), WithJsonSchema({"type": "string"})]
SecretUrl = Annotated[Secret, PlainValidator(leaf(_secret_url, "a URL")), WithJsonSchema({"type": "string"})]
SecretPath = Annotated[
    Secret, PlainValidator(leaf(_secret_path, "a path")), WithJsonSchema({"type": "string"})
]
Token = Annotated[Secret, PlainValidator(leaf(_token, "a token")), WithJsonSchema({"type": "string"})]


class OneOf:
    """The annotation of a key that takes one of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(leaf(self._read, " or ".join(self.words)))

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": [*self.words]}, _REFERENCE_SCHEMA]}

    def _read(self, value: Scalar) -> str:
        if value not in self.words:
            near = did_you_mean(value, self.words)
            raise ValueError(f"is none of {', '.join(self.words)}{near}")
        return str(value)
