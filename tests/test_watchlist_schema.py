"""The two files in ``config/``: the schema that editors use, and the example that people start from."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are not worth a dependency
import pytest
import yaml
from click.testing import CliRunner

from notifier.cli import main
from notifier.config import Config
from notifier.targets import TYPES
from notifier.watchlist_schema import json_schema
from tests.support.watchlists import ENVIRONMENT, EVERYTHING, MINIMAL, TRACK, loaded

DIRECTORY = Path(__file__).parents[1] / "config"
SCHEMA_FILE = DIRECTORY / "watchlist.schema.json"
EXAMPLE = (DIRECTORY / "watchlist.yaml").read_text()
ADDRESSES = {
    **{name: f"https://example.com/hooks/{name}" for name in re.findall(r"\$\{env:(\w+_URL)\}", EXAMPLE)},
    "USEAPI_TOKEN": ENVIRONMENT["TOKEN"],
    **ENVIRONMENT,
}
"""What the example's references stand for; a type that is particular about its URL needs a line."""


def with_every_example() -> str:
    """Return the example file with each commented-out line of it enabled; the head explains and stays."""
    head, body = EXAMPLE.split("\n\n", 1)
    return head + "\n\n" + re.sub(r"(?m)^( *)# ", r"\1", body)


def complaints(data: Any) -> list[str]:
    """Return where the schema finds something wrong."""
    validator = jsonschema.Draft202012Validator(json_schema())
    return sorted({error.json_path for error in validator.iter_errors(data)})


def changed(path: tuple[str | int, ...], value: Any) -> Any:
    """Return the complete file's data with another value at one place."""
    data = yaml.safe_load(EVERYTHING)
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return data


# ----------------------------------------------------------------------------------------------- the schema


def test_the_file_is_what_the_command_prints() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert result.output == SCHEMA_FILE.read_text()
    assert json.loads(result.output) == json_schema()


def test_the_schema_is_a_valid_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def described(node: Any, path: str = "") -> list[str]:
    """Return the keys of the watchlist that editors would show no sentence for."""
    if isinstance(node, list):
        return [name for index, item in enumerate(node) for name in described(item, f"{path}[{index}]")]
    if not isinstance(node, dict):
        return []
    silent = [
        f"{path}.{key}"
        for key, schema in node.get("properties", {}).items()
        if "description" not in schema and "$ref" not in schema
    ]
    return silent + [name for key, member in node.items() for name in described(member, f"{path}.{key}")]


def test_editors_show_a_sentence_for_every_key() -> None:
    assert described(json_schema()) == []


def test_defaults_stand_in_the_schema_as_one_writes_them() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["Poll"]["properties"]["interval"]["default"] == "15s"
    assert definitions["DeliverySettings"]["properties"]["give_up_after"]["default"] == "3d"
    assert definitions["Useapi"]["properties"]["rate"]["default"] == "5/s"
    assert definitions["Useapi"]["properties"]["concurrency"]["default"] == 8
    assert definitions["Defaults"]["properties"]["events"]["default"] == ["completed", "failed"]
    assert "default" not in definitions["Watch"]["properties"]["name"]


@pytest.mark.parametrize(
    "text",
    [
        EVERYTHING,
        MINIMAL,
        EXAMPLE,
        with_every_example(),
        MINIMAL.replace("watch: []", "watch:"),
        f"{MINIMAL}http: 127.0.0.1:8720\n",
        f"{MINIMAL}http: ${{env:HTTP:-127.0.0.1:8720}}\nlog: {{level: '${{env:LEVEL:-info}}'}}\n",
        f"{MINIMAL}poll: {{interval: 20, stalled_after: 0.5, missing_after: '${{env:COUNT:-3}}'}}\n",
        MINIMAL.replace("type: slack", "type: webhook\n    secret: ${env:HOOK_SECRET}"),
        MINIMAL.replace("watch: []", f"watch: [{{audio_id: '{TRACK}', name: 123, events: []}}]"),
        MINIMAL.replace("watch: []", "watch: ['${env:ID:-user:1-pixverse:a@b-music:1}']"),
    ],
)
def test_what_the_program_takes_the_schema_takes(text: str) -> None:
    loaded(text, ADDRESSES)
    assert complaints(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("zzz",), 1, "$"),
        (("useapi", "zzz"), 1, "$.useapi"),
        (("poll", "zzz"), 1, "$.poll"),
        (("delivery", "zzz"), 1, "$.delivery"),
        (("defaults", "zzz"), 1, "$.defaults"),
        (("http", "zzz"), 1, "$.http"),
        (("log", "zzz"), 1, "$.log"),
        (("watch", 0, "zzz"), 1, "$.watch[0]"),
        (("targets", "studio", "zzz"), 1, "$.targets.studio"),
        (("targets", "archive", "zzz"), 1, "$.targets.archive"),
        (("targets", "band-room", "secret"), "x", "$.targets['band-room']"),
        (("targets", "band-room", "type"), "slak", "$.targets['band-room']"),
        (("targets", "studio"), "https://example.com", "$.targets.studio"),
        (("targets", "archive", "secret"), 5, "$.targets.archive"),
        (("useapi", "token"), 5, "$.useapi.token"),
        (("useapi", "concurrency"), 0, "$.useapi.concurrency"),
        (("useapi", "concurrency"), "8", "$.useapi.concurrency"),
        (("useapi", "concurrency"), True, "$.useapi.concurrency"),
        (("useapi", "rate"), "fast", "$.useapi.rate"),
        (("useapi", "rate"), 5, "$.useapi.rate"),
        (("poll", "interval"), "5 minutes", "$.poll.interval"),
        (("poll", "interval"), 0, "$.poll.interval"),
        (("poll", "interval"), None, "$.poll.interval"),
        (("poll", "list"), "always", "$.poll.list"),
        (("watch", 0, "audio_id"), "456", "$.watch[0]"),
        (("watch", 0, "events"), ["done"], "$.watch[0]"),
        (("watch", 0, "notify"), "studio", "$.watch[0]"),
        (("watch",), "user", "$.watch"),
        (("watch", 2, "account"), "me", "$.watch[2]"),
        (("watch", 2, "models"), [], "$.watch[2]"),
        (("watch", 2, "match"), {"a": 1}, "$.watch[2]"),
        (("watch", 2, "audio_id"), TRACK, "$.watch[2]"),
        (("alerts",), "studio", "$.alerts"),
        (("log", "level"), "loud", "$.log.level"),
        (("callback",), "127.0.0.1:1", "$.callback"),
        (("callback",), {"listen": "127.0.0.1:1"}, "$.callback"),
        (("callback", "path"), ["/x"], "$.callback.path"),
    ],
)
def test_what_is_no_watchlist_is_underlined_where_it_is_wrong(
    path: tuple[str | int, ...], value: Any, place: str
) -> None:
    assert complaints(changed(path, value)) == [place]


@pytest.mark.parametrize("key", ["useapi", "targets", "watch"])
def test_what_has_no_default_is_required(key: str) -> None:
    data = copy.deepcopy(yaml.safe_load(EVERYTHING))
    del data[key]
    assert complaints(data) == ["$"]


# ---------------------------------------------------------------------------------------------- the example


def test_the_example_opens_with_the_editors_modeline() -> None:
    line = EXAMPLE.split("\n", 1)[0]
    assert line == "# yaml-language-server: $schema=watchlist.schema.json"
    assert SCHEMA_FILE.is_file()


def test_the_example_is_valid_as_it_stands() -> None:
    config = loaded(EXAMPLE, ADDRESSES).config
    assert [*config.targets] == ["band-room"]
    assert config.watch == ()


def test_the_example_is_valid_with_every_line_of_it_enabled() -> None:
    result = loaded(with_every_example(), ADDRESSES)
    assert result.warnings == ()
    assert sorted(target.type_name for target in result.config.targets.values()) == sorted(TYPES)
    assert (len(result.config.tracks), len(result.config.accounts)) == (2, 1)


def test_the_values_that_the_example_shows_for_settings_are_their_defaults() -> None:
    shown = loaded(with_every_example(), ADDRESSES).config
    plain = loaded(EXAMPLE, ADDRESSES).config
    assert (shown.useapi, shown.poll, shown.delivery, shown.log) == (
        plain.useapi,
        plain.poll,
        plain.delivery,
        plain.log,
    )
    assert shown.defaults.events == plain.defaults.events


def test_the_example_shows_every_key() -> None:
    config = loaded(with_every_example(), ADDRESSES).config
    assert config.model_fields_set == set(Config.model_fields)
    assert config.useapi.model_fields_set == set(type(config.useapi).model_fields)
    # it is for a later version to act on
    assert config.poll.model_fields_set == set(type(config.poll).model_fields)
    assert config.delivery.model_fields_set == set(type(config.delivery).model_fields)
    assert config.defaults.model_fields_set == set(type(config.defaults).model_fields)
    assert config.log.model_fields_set == set(type(config.log).model_fields)
    assert config.tracks[0].model_fields_set == set(type(config.tracks[0]).model_fields)
    assert config.accounts[0].model_fields_set == set(type(config.accounts[0]).model_fields)
    for target in config.targets.values():
        assert target.model_fields_set == set(type(target).model_fields)


def test_no_line_of_the_example_is_too_long_to_read() -> None:
    assert max(map(len, EXAMPLE.splitlines())) <= 110
