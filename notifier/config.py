"""The watchlist as a model: every key, its default and its reason.

`notifier.loading` makes it from a file; this module knows no file, only what a valid one says.
"""

import re
from collections.abc import Collection, Iterator
from datetime import timedelta
from functools import lru_cache, reduce
from ipaddress import ip_address
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from notifier.document import Mapping, Scalar, Sequence_
from notifier.duration import parse_rate
from notifier.event import EVENTS, EventType
from notifier.filter import LONGEST_SOUGHT, WILDCARD, Filter
from notifier.secret import token_parts, url_parts
from notifier.settings import (
    TEXT_SCHEMA,
    AudioId,
    BaseUrl,
    Count,
    Duration,
    Email,
    FilePath,
    OneOf,
    Rate,
    SecretPath,
    Settings,
    Text,
    Token,
    leaf,
    mistake,
)
from notifier.targets import TYPES, Target

BASE_URL = "https://api.useapi.net/v2/pixverse"
_LABEL = "[A-Za-z0-9-]{1,63}"
_LISTEN = re.compile(rf"(?P<host>\[[0-9A-Fa-f:.]+\]|{_LABEL}(\.{_LABEL})*):(?P<port>[0-9]{{1,5}})")
_LONGEST_HOST = 253
_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

if TYPE_CHECKING:
    AnyTarget = Target
else:
    AnyTarget = Annotated[reduce(or_, TYPES.values()), Field(discriminator="type")]


class Listen(BaseModel, frozen=True):
    """An address to listen on."""

    host: str
    port: int


def _listen(value: Scalar) -> Listen:
    found = _LISTEN.fullmatch(value)
    if not found or not 0 < int(found["port"]) < 65536 or not _is_host(found["host"]):
        raise ValueError("is no address to listen on: expected HOST:PORT, such as 127.0.0.1:8720")
    return Listen(host=found["host"].strip("[]"), port=int(found["port"]))


def _is_host(host: str) -> bool:
    """Say whether the system can be asked for this host; it raises odd errors for what is none."""
    if not host.startswith("["):
        return len(host) <= _LONGEST_HOST
    try:
        return ip_address(host.strip("[]")).version == 6
    except ValueError:
        return False


def _target_name(value: Any) -> str:
    name = str(value)
    if not _TARGET_NAME.fullmatch(name):
        raise mistake("is no name for a target: expected up to 64 letters, digits, '.', '_' and '-'")
    return name


def _host_name(value: Scalar) -> str:
    if len(value) > _LONGEST_HOST or not re.fullmatch(r"[A-Za-z0-9.-]+", value):
        raise ValueError("is no host name")
    return value.lower()


Address = Annotated[
    Listen,
    PlainValidator(leaf(_listen, "an address such as 127.0.0.1:8720")),
    WithJsonSchema({"type": "string"}),
]
HostName = Annotated[str, PlainValidator(leaf(_host_name, "a host name")), WithJsonSchema({"type": "string"})]
TargetName = Annotated[str, PlainValidator(_target_name), WithJsonSchema({"type": "string"})]
EventName = Annotated[str, OneOf(*EVENTS)]


def _short_http(value: Any) -> Any:
    return _wrap(value, "listen")


def _short_watch(value: Any) -> Any:
    return _wrap(value, "audio_id")


def _wrap(value: Any, key: str) -> Any:
    """Read the short form of an entry, a scalar, as the mapping it stands for."""
    if not isinstance(value, Scalar):
        return value
    mapping = Mapping(value.place)
    mapping[key] = value
    mapping.key_places[key] = value.place
    return mapping


def _kind_of_watch(value: Any) -> str:
    """Say by its keys what an entry is about: a track, unless it names an account."""
    return "account" if isinstance(value, Mapping) and "account" in value else "track"


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise mistake("is an empty list, which no track is on: name something or remove the key")
    return values


def _short_match(value: Any) -> Any:
    """Read a single text as a list of one."""
    if not isinstance(value, Scalar):
        return value
    several = Sequence_(value.place)
    several.append(value)
    return several


def _sought(value: Scalar) -> str:
    if len(value) > LONGEST_SOUGHT:
        raise ValueError(f"is longer than {LONGEST_SOUGHT} characters")
    if not value.replace(WILDCARD, "").strip():
        raise ValueError("is in every text: name something or remove the key")
    return str(value)


Sought = Annotated[str, PlainValidator(leaf(_sought, "text")), WithJsonSchema(TEXT_SCHEMA)]
Some = Annotated[tuple[Text, ...], AfterValidator(_not_empty), Field(json_schema_extra={"minItems": 1})]
Several = Annotated[
    tuple[Sought, ...],
    BeforeValidator(_short_match, json_schema_input_type=Sought | tuple[Sought, ...]),
    AfterValidator(_not_empty),
]


class Useapi(Settings):
    """The API that is asked."""

    token: Token = Field(description="The API token of useapi.net. A secret: use a reference.")
    base_url: BaseUrl = Field(default=BASE_URL, description="Where the API is.")
    timeout: Duration = Field(
        default=timedelta(seconds=15), description="One request, from connecting to the last byte."
    )
    concurrency: Count = Field(default=8, description="How many requests may be under way at once.")
    rate: Rate = Field(
        default=parse_rate("5/s"), description="Ceiling over all tracks: N/s, N/m or N/h; spread evenly."
    )


class Poll(Settings):
    """When tracks are read."""

    interval: Duration = Field(
        default=timedelta(seconds=15),
        description="How often an unfinished track is read; the vendor asks for 10 to 30 seconds.",
    )
    max_interval: Duration = Field(
        default=timedelta(minutes=5), description="What errors slow polling down to."
    )
    missing_after: Count = Field(
        default=3,
        description="Answers of 404 in a row before a track counts as missing; a 410 counts at once.",
    )
    stalled_after: Duration = Field(
        default=timedelta(minutes=30), description="Unfinished for so long: told once, and polled on."
    )
    list: Annotated[str, OneOf("auto", "never")] = Field(
        default="auto",
        description="auto: unfinished tracks of an account are read with its list where that takes fewer "
        "requests; never: each is read by itself.",
    )
    cadence: Annotated[str, OneOf("learned", "fixed")] = Field(
        default="learned",
        description="learned: a track is read when an end is likely, by how long others of its model took; "
        "with no more lag on average than at `interval` and fewer requests; fixed: it is read at `interval`.",
    )


class DeliverySettings(Settings):
    """How messages are tried again."""

    timeout: Duration = Field(default=timedelta(seconds=10), description="One attempt.")
    first_retry: Duration = Field(
        default=timedelta(seconds=5), description="The wait after the first failure; it doubles from there."
    )
    max_retry: Duration = Field(default=timedelta(hours=6), description="The longest wait between attempts.")
    give_up_after: Duration = Field(
        default=timedelta(hours=72),
        description="From the event; a delivery that fails later than this becomes a dead letter.",
    )


class Defaults(Settings):
    """What watches have that say nothing else."""

    notify: tuple[Text, ...] | None = Field(default=None, description="Targets told; default: every target.")
    events: tuple[EventName, ...] = Field(default=("completed", "failed"), description="Events told.")


class Watch(Settings):
    """One track to watch."""

    audio_id: AudioId = Field(description="The track, as POST music/create returned it.")
    name: Text | None = Field(
        default=None, description="A label for messages; default: the track's own name."
    )
    notify: tuple[Text, ...] | None = Field(default=None, description="Targets told of this track.")
    events: tuple[EventName, ...] | None = Field(default=None, description="Events told of this track.")
    interval: Duration | None = Field(default=None, description="How often this track is read.")


def key_of(account: str) -> str:
    """Return what is the same for an account however its address is spelt."""
    return account.casefold()


class AccountWatch(Settings):
    """An account whose new tracks are watched as they appear."""

    account: Email = Field(description="The PixVerse account: every new track in its list is watched.")
    name: Text | None = Field(
        default=None, description="A label, put before the names of its tracks; default: none."
    )
    notify: tuple[Text, ...] | None = Field(default=None, description="Targets told of its tracks.")
    events: tuple[EventName, ...] | None = Field(default=None, description="Events told of its tracks.")
    interval: Duration | None = Field(
        default=None, description="How often its list is looked at, and an unfinished track of it read."
    )
    models: Some | None = Field(
        default=None, description="Only tracks of these models, by their exact names; default: all."
    )
    match: Several | None = Field(
        default=None,
        description="Only tracks with this text in their name or prompt, in upper or lower case; '*' stands "
        "for anything in between. Of a list, one is enough.",
    )

    @property
    def key(self) -> str:
        """What is the same however the address is spelt."""
        return key_of(self.account)

    @property
    def filter(self) -> Filter:
        """Which tracks of the account are meant."""
        return Filter(self.models, self.match)


class Http(Settings):
    """Where the daemon answers about itself."""

    listen: Address = Field(description="The address to listen on.")
    hosts: tuple[HostName, ...] = Field(
        default=(), description="Further names under which a reverse proxy may ask, beside the loopback's."
    )


class Callback(Settings):
    """Where the API may say that a track has ended, so that it is read at once."""

    listen: Address = Field(description="The address to listen on; not that of `http`.")
    path: SecretPath = Field(
        description="The path that is answered. A secret that nobody can guess, since whoever knows it can "
        "have tracks read: use a reference."
    )


class Log(Settings):
    """How the daemon logs on stderr."""

    level: Annotated[str, OneOf("debug", "info", "warning", "error")] = Field(
        default="info", description="The least important level that is shown."
    )
    format: Annotated[str, OneOf("auto", "console", "logfmt", "json")] = Field(
        default="auto",
        description="auto: logfmt under systemd's journal, console on a terminal, else JSON.",
    )


class Config(Settings):
    """The whole watchlist."""

    useapi: Useapi = Field(description="The API that is asked.")
    poll: Poll = Field(default=Poll(), description="When tracks are read.")
    delivery: DeliverySettings = Field(
        default=DeliverySettings(), description="How messages are tried again."
    )
    targets: dict[TargetName, AnyTarget] = Field(description="Named destinations of messages.")
    defaults: Defaults = Field(default=Defaults(), description="What watches have that say nothing else.")
    alerts: tuple[Text, ...] = Field(
        default=(), description="Targets to which the daemon reports its own trouble; default: none."
    )
    watch: tuple[
        Annotated[
            Annotated[Watch, Tag("track")] | Annotated[AccountWatch, Tag("account")],
            Discriminator(_kind_of_watch),
            BeforeValidator(_short_watch, json_schema_input_type=str | Watch | AccountWatch),
        ],
        ...,
    ] = Field(
        description="The tracks to watch, and the accounts whose new tracks are to be; may be empty.",
        json_schema_extra={"type": ["array", "null"]},
    )
    state: FilePath | None = Field(
        default=None,
        description="The state file; default: state.db in $STATE_DIRECTORY, /var/lib/notifier or "
        "$XDG_STATE_HOME/notifier.",
    )
    http: Annotated[Http, BeforeValidator(_short_http, json_schema_input_type=str | Http)] | None = Field(
        default=None, description="Where the daemon answers about itself; off when absent."
    )
    callback: Callback | None = Field(
        default=None, description="Where the API's replyUrl may lead; off when absent."
    )
    log: Log = Field(default=Log(), description="How the daemon logs on stderr.")

    @property
    def tracks(self) -> tuple[Watch, ...]:
        """The entries that name a track."""
        return tuple(entry for entry in self.watch if isinstance(entry, Watch))

    @property
    def accounts(self) -> tuple[AccountWatch, ...]:
        """The entries that follow an account."""
        return tuple(entry for entry in self.watch if isinstance(entry, AccountWatch))

    def notified(self, watch: Watch | AccountWatch) -> tuple[str, ...]:
        """Return the names of the targets that a watch tells."""
        names = watch.notify if watch.notify is not None else self.defaults.notify
        return _once_each(tuple(self.targets) if names is None else names)

    def events_of(self, watch: Watch | AccountWatch) -> frozenset[EventType]:
        """Return the events that a watch tells."""
        names = watch.events if watch.events is not None else self.defaults.events
        return _types_of(names)

    def interval_of(self, watch: Watch | AccountWatch) -> timedelta:
        """Return how often a watch is read."""
        return watch.interval or self.poll.interval

    @property
    def intervals(self) -> Collection[timedelta]:
        """How often watches are read, each once; nothing where a reference does not say yet."""
        intervals = {self.interval_of(entry) for entry in self.watch}
        return intervals if all(isinstance(one, timedelta) for one in intervals) else ()

    def secrets(self) -> Iterator[str]:
        """Yield what must never be shown: token, path of callbacks, what each target holds, parts of URLs."""
        yield from token_parts(self.useapi.token.reveal())
        if self.callback is not None:
            yield from url_parts(self.callback.path.reveal())
        for target in self.targets.values():
            for secret in target.secrets():
                yield from url_parts(secret)


@lru_cache(maxsize=256)
def _once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names without repetitions; the very same ones for thousands of watches."""
    return tuple(dict.fromkeys(names))


@lru_cache(maxsize=256)
def _types_of(names: tuple[str, ...]) -> frozenset[EventType]:
    return frozenset(EVENTS[name] for name in names)
