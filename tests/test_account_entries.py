"""Entries of the watchlist that follow an account: what they say, and what is wrong with them."""

from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from notifier.cli import main
from notifier.event import EventType
from tests.support.watchlists import ENVIRONMENT, MINIMAL, TRACK, loaded, mistakes, watching

ACCOUNT = "account: me@example.com"
AGAIN = ": name something or remove the key"


def test_an_account_has_the_options_that_a_track_has_and_the_same_defaults() -> None:
    config = loaded(watching(f"{ACCOUNT}\n    interval: 1m\n    events: [missing]\n  - {ACCOUNT}.org")).config
    full, short = config.accounts
    assert config.notified(full) == config.notified(short) == ("a",)
    assert config.interval_of(full) == timedelta(minutes=1)
    assert config.interval_of(short) == timedelta(seconds=15)
    assert config.events_of(full) == {EventType.MISSING}
    assert config.events_of(short) == {EventType.COMPLETED, EventType.FAILED}
    assert (short.name, short.models, short.match) == (None, None, None)


def test_entries_of_both_kinds_stand_in_any_order() -> None:
    config = loaded(watching(f"{TRACK}\n  - {ACCOUNT}\n  - audio_id: {TRACK}0\n    name: Outro")).config
    assert [entry.audio_id for entry in config.tracks] == [TRACK, f"{TRACK}0"]
    assert [entry.account for entry in config.accounts] == ["me@example.com"]
    assert len(config.watch) == 3


def test_one_text_to_match_may_stand_alone() -> None:
    (entry,) = loaded(watching(f"{ACCOUNT}\n    match: 7")).config.accounts
    assert entry.match == ("7",)


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        (
            f"{ACCOUNT}\n    audio_id: {TRACK}",
            ["w:5:5: watch[0].audio_id: an entry is about a track or about an account: make two of it"],
        ),
        (
            "models: [a]",
            [
                "w:4:5: watch[0].audio_id: is missing, and there is no account either",
                "w:4:5: watch[0].models: only an entry with an account has 'models'",
            ],
        ),
        (
            "accout: me@example.com",
            [
                "w:4:5: watch[0].accout: unknown key 'accout', did you mean 'account'?",
                "w:4:5: watch[0].audio_id: is missing, and there is no account either",
            ],
        ),
        (
            f"audio_id: {TRACK}\n    match: a",
            ["w:5:5: watch[0].match: only an entry with an account has 'match'"],
        ),
        (
            f"{ACCOUNT}\n    model: [a]",
            ["w:5:5: watch[0].model: unknown key 'model', did you mean 'models'?"],
        ),
        (
            f"{ACCOUNT}\n    models: []",
            [f"w:5:13: watch[0].models: is an empty list, which no track is on{AGAIN}"],
        ),
        (
            f"{ACCOUNT}\n    match: []",
            [f"w:5:12: watch[0].match: is an empty list, which no track is on{AGAIN}"],
        ),
        (f"{ACCOUNT}\n    models: a", ["w:5:13: watch[0].models: expected a list, found text"]),
        (f"{ACCOUNT}\n    match: {{}}", ["w:5:12: watch[0].match: expected a list, found a mapping"]),
        (f"{ACCOUNT}\n    match: '* *'", [f"w:5:12: watch[0].match: '* *' is in every text{AGAIN}"]),
        (
            f"{ACCOUNT}\n    match: [{'a' * 201}]",
            [f"w:5:13: watch[0].match[0]: '{'a' * 59}…' is longer than 200 characters"],
        ),
        (f"{ACCOUNT}\n    notify: [b]", ["w:5:14: watch[0].notify[0]: unknown target 'b'"]),
        (
            f"{ACCOUNT}\n    interval: 1h",
            ["w:5:15: watch[0].interval: 1h is above the default poll.max_interval, 5m"],
        ),
        (
            f"{ACCOUNT}\n  - account: ME@example.COM",
            ["w:5:14: watch[1].account: the same account as watch[0]"],
        ),
        (
            "me@example.com",
            [
                "w:4:5: watch[0]: 'me@example.com' is not an audio_id: expected "
                "user:ID-pixverse:EMAIL-music:NUMBER; to follow an account, write 'account:' before it"
            ],
        ),
    ],
)
def test_what_is_wrong_with_an_account_is_told_in_a_line(entry: str, lines: list[str]) -> None:
    assert mistakes(watching(entry)) == lines


@pytest.mark.parametrize(
    "address",
    ["me", "me@", "@example.com", "a b@example.com", "a@b@c", "a:b@c", "a@b/c", f"{'m' * 250}@b.org"],
)
def test_a_bad_address_is_a_mistake(address: str) -> None:
    (line,) = mistakes(watching(f"account: '{address}'"))
    assert line.startswith("w:4:14: watch[0].account: '")
    assert line.endswith("is no e-mail address: expected that of a PixVerse account, such as me@example.com")


def test_an_account_may_come_from_a_reference() -> None:
    text = MINIMAL.replace("watch: []", "watch: [{account: '${env:ACCOUNT}', match: '${env:TUNE}'}]")
    assert len(loaded(text, {}, resolve=False).config.accounts) == 1
    both = {**ENVIRONMENT, "ACCOUNT": "me@example.com", "TUNE": "intro"}
    (entry,) = loaded(text, both).config.accounts
    assert (entry.account, entry.match) == ("me@example.com", ("intro",))


@pytest.mark.parametrize(
    "text", ["a.*b", "[ab]+", "rock|pop", "^intro", "outro$", r"\bintro", "/intro/i", "(?i)a"]
)
def test_who_writes_a_regular_expression_is_told_that_it_is_none(text: str) -> None:
    (warning,) = loaded(watching(f"{ACCOUNT}\n    match: ['{text}']")).warnings
    assert (warning.path, warning.place) == ("watch[0].match[0]", (5, 13))
    assert "is looked for as it stands, and is no regular expression" in warning.message


@pytest.mark.parametrize(
    "text", ["intro", "lo-fi * piano", "C# (live)", "a/b", "who?", "5 * 3", "R&B | soul", "vol. 2"]
)
def test_what_people_look_for_is_no_regular_expression(text: str) -> None:
    assert loaded(watching(f"{ACCOUNT}\n    match: '{text}'")).warnings == ()


def test_check_counts_accounts_apart(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(watching(f"{TRACK}\n  - {ACCOUNT}"))
    result = CliRunner().invoke(main, ["check", "-c", str(file)])
    assert result.output.endswith("w.yaml: valid, 1 track, 1 account, 1 target\n")
    file.write_text(watching(TRACK))
    result = CliRunner().invoke(main, ["check", "-c", str(file)])
    assert result.output.endswith("w.yaml: valid, 1 track, 1 target\n")


def test_adding_and_removing_tracks_leaves_accounts_alone(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    before = watching(f"{ACCOUNT}   # all of mine\n    models: [a]\n  - {TRACK}")
    file.write_text(before)
    added = CliRunner().invoke(main, ["watch", "add", f"{TRACK}0", "-c", str(file)])
    assert (added.exit_code, file.read_text()) == (0, f"{before}  - {TRACK}0\n")
    for audio_id in (TRACK, f"{TRACK}0"):
        assert CliRunner().invoke(main, ["watch", "remove", audio_id, "-c", str(file)]).exit_code == 0
    assert file.read_text() == before.removesuffix(f"  - {TRACK}\n")


def test_a_track_that_comes_with_its_account_cannot_be_removed_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(watching(ACCOUNT))
    result = CliRunner().invoke(main, ["watch", "remove", TRACK, "-c", str(file)])
    assert result.exit_code == 1
    assert result.stderr == (
        f"notifier: {file} does not watch {TRACK} by itself, but follows the account me@example.com: "
        "narrow that entry by models or match\n"
    )
