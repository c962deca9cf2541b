"""The way back from a release that has taken the state file to a later version."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from notifier import handover
from notifier.handover import copy_of, keep, take_back
from notifier.store.database import STEPS, open_database
from tests.support.disks import small_disk

LATER = [
    *STEPS,
    "ALTER TABLE delivery ADD COLUMN channel TEXT;\nALTER TABLE gate DROP COLUMN reason;\n"
    "CREATE TABLE further (a TEXT);\nINSERT INTO further VALUES ('new');\n",
]
"""The version after this one: something is added, something is dropped."""
UNLIKE = [*STEPS, "UPDATE delivery SET target = 'a';\nALTER TABLE event RENAME TO fact_told;\n"]
"""A version that the way back does not know the way to."""


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    """The state of a release that has told one event and owes another."""
    file = tmp_path / "state.db"
    with opened(file) as connection:
        tell(connection, "told", state="delivered")
        tell(connection, "owed", state="pending")
    return file


@contextlib.contextmanager
def opened(file: Path, steps: Sequence[str] = STEPS) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_database(file, steps=steps)) as connection:
        yield connection


def tell(connection: sqlite3.Connection, event: str, *, state: str) -> None:
    """Write down an event that is owed to one target, or is told already."""
    at = "2026-06-23T12:38:20.123Z"
    connection.execute("INSERT INTO event VALUES (?, 'track.completed', 'a', 'n', ?, '{}')", (event, at))
    connection.execute(
        "INSERT INTO delivery (event_id, target, state, created_at, counts_from) VALUES (?, 't', ?, ?, ?)",
        (event, state, at, at),
    )


def outbox(file: Path) -> dict[str, str]:
    """Return what this release reads there."""
    with opened(file) as connection:
        return dict(connection.execute("SELECT event_id, state FROM delivery"))


def files(state_file: Path) -> set[str]:
    return {one.name for one in state_file.parent.iterdir()}


def test_a_state_file_of_the_same_version_stays_as_it_is_with_all_that_was_told(state_file: Path) -> None:
    keep(state_file)
    with opened(state_file) as connection:
        connection.execute("UPDATE delivery SET state = 'delivered'")
    before = state_file.stat().st_ino, state_file.read_bytes()
    assert take_back(state_file) == ""
    assert (state_file.stat().st_ino, state_file.read_bytes()) == before
    assert files(state_file) == {"state.db"}


def test_what_a_later_release_told_stays_told_when_its_version_is_taken_back(state_file: Path) -> None:
    keep(state_file)
    with opened(state_file, LATER) as connection:
        connection.execute("UPDATE delivery SET state = 'delivered', channel = 'x' WHERE event_id = 'owed'")
        tell(connection, "seen since", state="delivered")
        tell(connection, "owed since", state="pending")
        connection.execute("INSERT INTO gate (name, state, since) VALUES ('t', 'paused', 'now')")
    assert "knows what was told since then" in take_back(state_file)
    assert files(state_file) == {"state.db"}
    assert state_file.stat().st_mode & 0o777 == 0o600
    assert outbox(state_file) == {
        "told": "delivered",
        "owed": "delivered",
        "seen since": "delivered",
        "owed since": "pending",
    }
    with opened(state_file) as connection:
        assert connection.execute("SELECT name, state, reason FROM gate").fetchall() == [
            ("t", "paused", None)
        ]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_ids_are_never_given_twice(state_file: Path) -> None:
    """People name deliveries by them."""
    keep(state_file)
    with opened(state_file, LATER) as connection:
        tell(connection, "third", state="pending")
        tell(connection, "dropped", state="pending")
        connection.execute("DELETE FROM event WHERE id IN ('owed', 'dropped')")
    take_back(state_file)
    with opened(state_file) as connection:
        tell(connection, "fourth", state="pending")
        assert connection.execute("SELECT id, event_id FROM delivery ORDER BY id").fetchall() == [
            (1, "told"),
            (3, "third"),
            (5, "fourth"),
        ]


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_each_version_there_was_can_be_taken_back(tmp_path: Path, version: int) -> None:
    file = tmp_path / "state.db"
    earlier = STEPS[:version]
    with opened(file, earlier) as connection:
        tell(connection, "owed", state="pending")
    keep(file)
    with opened(file) as connection:
        connection.execute("UPDATE delivery SET state = 'delivered'")
    assert "knows what was told since then" in take_back(file)
    with opened(file, earlier) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
        assert connection.execute("SELECT state FROM delivery").fetchall() == [("delivered",)]


def test_what_does_not_fit_leaves_the_copy_and_says_what_that_means(state_file: Path) -> None:
    keep(state_file)
    with opened(state_file, UNLIKE) as connection:
        connection.execute("UPDATE delivery SET state = 'delivered'")
    assert "what was told since then may be told again" in take_back(state_file)
    assert outbox(state_file) == {"told": "delivered", "owed": "pending"}
    assert files(state_file) == {"state.db"}


@pytest.mark.parametrize("damage", ["no database at all", ""])
def test_a_file_that_was_damaged_or_emptied_is_replaced_by_the_copy(state_file: Path, damage: str) -> None:
    keep(state_file)
    state_file.write_text(damage)
    assert "may be told again" in take_back(state_file)
    assert outbox(state_file) == {"told": "delivered", "owed": "pending"}


def test_a_copy_that_an_upgrade_left_is_put_aside_before_the_next_one(state_file: Path) -> None:
    """Whether it was killed or could not take the file back, nothing else is of the earlier version."""
    keep(state_file)
    with opened(state_file, LATER):
        pass
    code, out, err = step("keep", state_file)
    aside = state_file.with_name("state.db.before.old")
    assert (code, err) == (0, "")
    assert out == f"an earlier upgrade was cut off; the state file of before it is {aside}\n"
    assert step("let-go", state_file) == (0, "", "")
    assert outbox(aside) == {"told": "delivered", "owed": "pending"}
    keep(state_file)
    assert keep(state_file) == "", "a copy of the same version is of no use"
    copy_of(state_file).write_text("no database at all")
    assert "cut off" in keep(state_file), "what is damaged hinders no upgrade"


def test_a_file_that_has_gone_is_back(state_file: Path) -> None:
    keep(state_file)
    state_file.unlink()
    assert take_back(state_file) == f"{state_file} was gone and is back"
    assert outbox(state_file) == {"told": "delivered", "owed": "pending"}


def test_the_copy_holds_what_a_killed_daemon_left_in_the_log(state_file: Path) -> None:
    connection = open_database(state_file)
    connection.execute("UPDATE delivery SET state = 'dead'")
    keep(state_file)  # while the log is still there
    connection.close()
    copied = sqlite3.connect(copy_of(state_file))
    assert copied.execute("SELECT DISTINCT state FROM delivery").fetchall() == [("dead",)]
    copied.close()
    assert copy_of(state_file).stat().st_mode & 0o777 == 0o600


def test_where_there_is_no_state_yet_nothing_is_made_of_it(tmp_path: Path) -> None:
    keep(tmp_path / "state.db")
    assert take_back(tmp_path / "state.db") == ""
    assert files(tmp_path / "state.db") == set()


def step(name: str, state_file: Path) -> tuple[int, str, str]:
    """Run the file as the installer does: alone, by a Python that has no part of the program."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", handover.__file__, name, str(state_file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_the_installer_runs_it_as_a_program_of_its_own(state_file: Path) -> None:
    assert step("keep", state_file) == (0, "", "")
    with opened(state_file, LATER):
        assert copy_of(state_file).exists()
    code, out, err = step("take-back", state_file)
    assert (code, err) == (0, "")
    assert out.endswith("knows what was told since then\n")
    assert out.count("\n") == 1
    assert step("keep", state_file) == (0, "", "")
    assert step("let-go", state_file) == (0, "", "")
    assert files(state_file) == {"state.db"}


def test_a_copy_for_which_there_is_no_room_is_none_and_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        file = disk.path / "state.db"
        with opened(file) as connection:
            tell(connection, "told", state="delivered")
            connection.execute("UPDATE event SET data = ?", ("x" * 300_000,))
        disk.fill()
        code, _, err = step("keep", file)
        assert code == 1
        assert err.startswith(f"{file}: ")
        assert not [name for name in files(file) if "before" in name]
        assert take_back(file) == ""
        disk.make_room()
        assert outbox(file) == {"told": "delivered"}


@pytest.mark.parametrize("room", [*range(32_768, 327_680, 16_384), 2**19])
def test_the_way_back_on_a_disk_with_little_room_is_whole_and_told_as_it_is(
    tmp_path: Path, room: int
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        file = disk.path / "state.db"
        with opened(file) as connection:
            tell(connection, "owed", state="pending")
        keep(file)
        with opened(file, LATER) as connection:
            connection.execute("UPDATE delivery SET state = 'delivered'")
            connection.execute("UPDATE event SET data = ?", ("x" * 150_000,))
        disk.fill(leaving=room)
        code, said, _ = step("take-back", file)
        disk.make_room()
        if code == 0 and "knows what was told" in said:
            assert outbox(file) == {"owed": "delivered"}
        else:
            assert outbox(file if code == 0 else copy_of(file)) == {"owed": "pending"}
            assert code or "may be told again" in said


def test_a_copy_that_cannot_be_made_is_a_sentence_and_a_failure(state_file: Path) -> None:
    state_file.write_text("no database at all")
    code, out, err = step("keep", state_file)
    assert (code, out) == (1, "")
    assert err == f"{state_file}: file is not a database\n"
