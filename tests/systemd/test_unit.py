import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.machine import needs

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "notifier.service"
BACKOFF = ROOT / "systemd" / "notifier.service.d" / "10-restart-backoff.conf"
INSTALLER = ROOT / "systemd" / "install.sh"
COMMAND = "/opt/notifier/current/bin/notifier"

Settings = dict[str, list[str]]


def settings_of(file: Path) -> Settings:
    """Return each key with all its values in order; keys of different sections do not share names here."""
    settings = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, separator, value = line.partition("=")
            assert separator, f"{file}: {line}"
            settings[key].append(value)
    return dict(settings)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return settings_of(UNIT)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it stands where its program is installed; a program that exists plays that part."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(COMMAND, sys.executable), encoding="utf-8")
    return unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    needs("systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_finds_nothing_to_complain_about(installed: Path) -> None:
    verdict = analyze("verify", str(installed))
    assert (verdict.stderr, verdict.returncode) == ("", 0)  # an unknown key is a message and a 0


@pytest.mark.parametrize("mistake", ["Type=notfy", "Restrat=always", "WatchdogSec=soon"])
def test_systemd_would_complain_about_a_mistake(installed: Path, mistake: str) -> None:
    text = installed.read_text(encoding="utf-8")
    installed.write_text(text.replace("[Service]\n", f"[Service]\n{mistake}\n"), encoding="utf-8")
    assert analyze("verify", str(installed)).stderr != ""


def test_the_exposure_is_at_most_one_and_a_half(installed: Path) -> None:
    verdict = analyze("security", "--offline=true", "--threshold=15", "--no-pager", str(installed))
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert "Overall exposure level" in verdict.stdout


def test_systemd_is_told_how_the_daemon_does(settings: Settings) -> None:
    assert settings["Type"] == ["notify"]
    assert settings["NotifyAccess"] == ["main"]
    assert settings["WatchdogSec"] == ["60s"]


def test_a_reload_checks_the_watchlist_before_the_daemon_hears_of_it(settings: Settings) -> None:
    check, signal = settings["ExecReload"]
    assert check == f"{COMMAND} check --config /etc/notifier/watchlist.yaml"
    assert "kill -HUP $MAINPID" in signal


def test_what_is_checked_is_what_is_run(settings: Settings) -> None:
    [run] = settings["ExecStart"]
    assert run == f"{COMMAND} run --config /etc/notifier/watchlist.yaml"


def test_the_service_restarts_for_ever_but_not_with_an_invalid_watchlist(settings: Settings) -> None:
    assert settings["Restart"] == ["on-failure"]
    assert settings["RestartPreventExitStatus"] == ["78"]
    assert settings["StartLimitIntervalSec"] == ["0"]


def test_a_stop_leaves_attempts_under_way_their_ten_seconds(settings: Settings) -> None:
    [timeout] = settings["TimeoutStopSec"]
    assert int(timeout.removesuffix("s")) > 10


def test_the_user_owns_a_private_state_directory(settings: Settings) -> None:
    assert settings["User"] == settings["Group"] == settings["StateDirectory"] == ["notifier"]
    assert settings["StateDirectoryMode"] == ["0700"]
    account = (ROOT / "systemd" / "notifier.sysusers.conf").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in account if not line.startswith("#")]
    assert line.split()[:2] == ["u", "notifier"]
    assert line.endswith(" /var/lib/notifier")


def credentials(settings: Settings) -> dict[str, str]:
    return dict(line.split(":", 1) for line in settings["LoadCredential"])


def test_each_secret_is_a_file_of_its_name(settings: Settings) -> None:
    files = credentials(settings)
    assert files == {name: f"/etc/notifier/credentials/{name}" for name in files}
    assert len(files) == len(settings["LoadCredential"])


def test_a_secret_that_is_missing_counts_as_empty(settings: Settings) -> None:
    fallbacks = dict(line.split(":", 1) for line in settings["SetCredential"])
    assert fallbacks == dict.fromkeys(credentials(settings), "\\n")


@pytest.mark.parametrize("file", ["README.md", "config/watchlist.yaml", "systemd/install.sh"])
def test_every_credential_that_people_are_shown_is_one_that_the_unit_loads(
    settings: Settings, file: str
) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    shown = set(re.findall(r"(?:url|token|secret|path): +\"?\$\{credential:([^}]+)\}", text))
    shown |= set(re.findall(r"/etc/notifier/credentials/([\w.-]+)", text))
    shown |= set(re.findall(r"s/\\\$\{env:\w+\}/\$\{credential:([^}]+)\}/", text))
    assert shown <= set(credentials(settings))


def test_the_installer_gives_every_secret_of_the_example_a_credential(settings: Settings) -> None:
    example = (ROOT / "config" / "watchlist.yaml").read_text(encoding="utf-8")
    wanted = set(re.findall(r"(?:url|token|secret|path): +\$\{env:(\w+)\}", example))
    substitutions = re.findall(
        r"s/\\\$\{env:(\w+)\}/\$\{credential:([^}]+)\}/", INSTALLER.read_text(encoding="utf-8")
    )
    assert wanted == {variable for variable, _ in substitutions}
    assert {name for _, name in substitutions} == set(credentials(settings))


def test_what_older_systemds_do_not_know_stands_in_the_drop_in_only(settings: Settings) -> None:
    backoff = settings_of(BACKOFF)
    assert set(backoff) == {"RestartSec", "RestartSteps", "RestartMaxDelaySec"}
    assert set(backoff) & set(settings) == {"RestartSec"}


def test_the_installer_is_a_script_that_bash_can_read_and_run() -> None:
    assert INSTALLER.stat().st_mode & 0o111
    verdict = subprocess.run(
        ["bash", "-n", str(INSTALLER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verdict.returncode, verdict.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["--purge"], 2), (["--wheel"], 2), (["--nonsense"], 2), (["stray"], 2)],
)
def test_the_installer_explains_itself_before_it_touches_anything(arguments: list[str], code: int) -> None:
    answer = subprocess.run(
        [str(INSTALLER), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == code
    usage = answer.stdout if code == 0 else answer.stderr
    assert usage.startswith("Usage: sudo systemd/install.sh")
