"""Credentials as the unit has them, with directories of our own in the places of systemd's."""

from pathlib import Path

import pytest

from notifier.doctor.credentials import NotedSources, credentials, sources
from notifier.doctor.finding import Finding, Health
from notifier.secret import ReferenceError_


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir(mode=0o700)
    (directory / "slack-url").write_text("hush\n")
    return directory


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return tmp_path / "given"


def found(kept: Path, given: Path, *names: str, environment: dict[str, str] | None = None) -> list[Finding]:
    """Return what is found about these credentials after a watchlist has asked for them."""
    asked = sources(environment or {}, kept=kept)
    for name in names:
        try:
            asked.resolve("credential", name, None)
        except ReferenceError_:
            continue
    return [*credentials(asked, kept=kept, given=given)]


def test_a_person_outside_the_unit_sees_the_files_that_the_unit_reads(kept: Path, given: Path) -> None:
    asked = sources({}, kept=kept)
    assert asked.resolve("credential", "slack-url", None) == "hush"
    (finding,) = found(kept, given, "slack-url")
    detail = f"{kept}/slack-url is there, for its owner only"
    assert (finding.subject, finding.health, finding.detail) == ("slack-url", Health.OK, detail)


def test_a_directory_that_was_named_comes_first(kept: Path, given: Path, tmp_path: Path) -> None:
    own = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / "slack-url").write_text("own\n")
    assert sources(own, kept=kept).resolve("credential", "slack-url", None) == "own"
    (finding,) = found(kept, given, "slack-url", environment=own)
    assert str(tmp_path / "slack-url") in finding.detail


def test_only_what_the_watchlist_names_is_looked_at(kept: Path, given: Path) -> None:
    (kept / "other").write_text("")
    assert [finding.subject for finding in found(kept, given, "slack-url", "slack-url")] == ["slack-url"]
    assert found(kept, given) == []


@pytest.mark.parametrize(
    ("content", "detail"), [(None, "does not exist"), ("", "is empty"), ("\n", "is empty")]
)
def test_a_credential_that_is_missing_has_failed_and_how_to_write_it_is_said(
    kept: Path, given: Path, content: str | None, detail: str
) -> None:
    if content is not None:
        (kept / "useapi-token").write_text(content)
    (finding,) = found(kept, given, "useapi-token")
    assert (finding.health, finding.detail) == (Health.FAILED, f"{kept}/useapi-token {detail}")
    assert finding.advice == (
        f"sudo install -m 600 /dev/stdin {kept}/useapi-token (paste, Enter, Ctrl-D), "
        "then: sudo systemctl restart notifier"
    )


@pytest.mark.parametrize(
    ("directory", "file", "health"),
    [(0o700, 0o644, Health.OK), (0o755, 0o600, Health.OK), (0o755, 0o644, Health.WARNING)],
)
def test_a_credential_is_private_by_its_own_mode_or_its_directorys(
    kept: Path, given: Path, directory: int, file: int, health: Health
) -> None:
    (kept / "slack-url").chmod(file)
    kept.chmod(directory)
    (finding,) = found(kept, given, "slack-url")
    assert finding.health is health
    assert (finding.advice == f"chmod 600 {kept}/slack-url") is (health is Health.WARNING)


def test_a_credential_that_changed_under_the_running_service_needs_a_restart(kept: Path, given: Path) -> None:
    given.mkdir()
    (given / "slack-url").write_text("hush\n")
    assert [finding.health for finding in found(kept, given, "slack-url")] == [Health.OK]
    (given / "slack-url").write_text("older\n")
    (finding,) = found(kept, given, "slack-url")
    assert (finding.health, finding.advice) == (Health.FAILED, "sudo systemctl restart notifier")
    assert "has changed since the service was started" in finding.detail
    assert "hush" not in f"{finding}"


def test_a_credential_that_the_unit_does_not_load_is_told_with_the_line_that_is_missing(
    kept: Path, given: Path
) -> None:
    given.mkdir()
    (finding,) = found(kept, given, "slack-url")
    assert finding.health is Health.FAILED
    assert f"LoadCredential=slack-url:{kept}/slack-url" in finding.advice


def test_what_the_service_has_says_nothing_of_a_directory_of_ones_own(
    kept: Path, given: Path, tmp_path: Path
) -> None:
    given.mkdir()
    (tmp_path / "slack-url").write_text("own\n")
    (tmp_path / "slack-url").chmod(0o600)
    (finding,) = found(kept, given, "slack-url", environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert finding.health is Health.OK


def test_a_person_who_may_not_look_is_told_how_to_ask_as_root(kept: Path, given: Path) -> None:
    asked = NotedSources({}, {"slack-url": None})
    (finding,) = credentials(asked, kept=kept, given=given)
    assert finding.health is Health.FAILED
    assert finding.detail == f"{kept} cannot be read by this user, and $CREDENTIALS_DIRECTORY is not set"
    assert "sudo env CREDENTIALS_DIRECTORY=/etc/notifier/credentials notifier doctor" in finding.advice


def test_where_there_is_no_unit_the_watchlist_itself_has_said_it(tmp_path: Path, given: Path) -> None:
    assert found(tmp_path / "none", given, "slack-url") == []
