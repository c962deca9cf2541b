import os
from pathlib import Path

import pytest

from notifier.paths import config_file, state_file

NOWHERE = Path("/nobody/has/this")


@pytest.mark.parametrize(
    ("given", "environment", "file"),
    [
        ("mine.yaml", {"NOTIFIER_CONFIG": "/srv/watchlist.yaml"}, "mine.yaml"),
        (None, {"NOTIFIER_CONFIG": "/srv/watchlist.yaml"}, "/srv/watchlist.yaml"),
        (None, {"NOTIFIER_CONFIG": ""}, "/etc/notifier/watchlist.yaml"),
        (None, {}, "/etc/notifier/watchlist.yaml"),
    ],
)
def test_the_watchlist_is_the_one_given_else_the_environments_else_the_systems(
    given: str | None, environment: dict[str, str], file: str
) -> None:
    assert config_file(given, environment) == file


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"STATE_DIRECTORY": "/run/state", "XDG_STATE_HOME": "/home/me/state"}, "/run/state/state.db"),
        ({"STATE_DIRECTORY": "/run/one:/run/two"}, "/run/one/state.db"),
        ({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/home/me/state"}, "/home/me/state/notifier/state.db"),
    ],
)
def test_the_state_file_is_where_the_environment_keeps_state(environment: dict[str, str], path: str) -> None:
    assert state_file(None, None, environment=environment, system=NOWHERE) == Path(path)


def test_the_systems_state_directory_comes_before_the_users_where_it_exists(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": "/home/me/state"}
    assert state_file(None, None, environment=environment, system=tmp_path) == tmp_path / "state.db"
    under = state_file(None, None, environment={"STATE_DIRECTORY": "/run/state"}, system=tmp_path)
    assert under == Path("/run/state/state.db")


def test_without_any_hint_the_state_file_is_in_the_users_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = state_file(None, None, environment={}, system=NOWHERE)
    assert path == tmp_path / ".local" / "state" / "notifier" / "state.db"


def test_the_option_comes_before_the_watchlist_and_both_before_the_environment() -> None:
    environment = {"STATE_DIRECTORY": "/run/state"}
    assert state_file("/a.db", "/b.db", environment=environment) == Path("/a.db")
    assert state_file(None, "/b.db", environment=environment) == Path("/b.db")


def test_a_relative_state_file_is_beside_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_file("state.db", None) == Path(os.getcwd(), "state.db")


def test_a_home_is_filled_in_and_one_that_nobody_has_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert state_file(None, "~/music/state.db") == tmp_path / "music" / "state.db"
    assert state_file(None, "~nobody-has-this-name/state.db").name == "state.db"
