"""What the tests in a booted machine stand on."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.booted import Machine, booted


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "word").write_text("from outside", encoding="utf-8")
    with booted(read_only={"/mnt/read-only": shared}, writable={"/mnt/writable": shared}) as machine:
        yield machine


def test_systemd_runs_units(machine: Machine) -> None:
    machine.put(
        "/etc/systemd/system/hello.service", "[Service]\nType=oneshot\nExecStart=/bin/echo hello world\n"
    )
    machine.done("systemctl", "daemon-reload")
    machine.done("systemctl", "start", "hello")
    assert machine.show("hello", "Result") == "success"
    assert "hello world" in [entry["MESSAGE"] for entry in machine.journal("--unit=hello")]


def test_a_command_can_run_as_a_service_and_be_waited_for(machine: Machine) -> None:
    assert machine.done("systemd-run", "--quiet", "--wait", "--pipe", "echo", "hello") == "hello\n"


def test_nothing_that_happens_in_the_machine_changes_ours(machine: Machine) -> None:
    machine.put("/usr/local/bin/of-the-booted-machine", "")
    assert machine.run("test", "-e", "/usr/local/bin/of-the-booted-machine").returncode == 0
    assert not Path("/usr/local/bin/of-the-booted-machine").exists()
    assert machine.run("sh", "-c", "echo 1 > /proc/sys/kernel/sysrq").returncode != 0


def test_what_is_bound_can_be_read_and_if_wanted_written(machine: Machine) -> None:
    assert machine.done("cat", "/mnt/read-only/word") == "from outside"
    assert machine.run("touch", "/mnt/read-only/new").returncode != 0
    machine.done("touch", "/mnt/writable/new")


KILLED = """
import os, signal
from tests.systemd.booted import booted
with booted() as machine:
    machine.done("systemd-run", "--quiet", "sleep", "12345.678")
    print(machine.inside[1], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_machine_dies_with_the_process_that_booted_it(machine: Machine) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pid = killed.stdout.strip().removeprefix("--target=")
    machine.until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the other machine")
