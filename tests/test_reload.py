"""Each `look` stands for one second of the daemon; a change counts once two of them agree."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from notifier.loading import InvalidConfigError, digest_of, load
from notifier.reload import FileWatch

BEFORE = b"watch: []  # 1\n"
AFTER = b"watch: []  # 2\n"
LONG_UNTOUCHED = Path(shutil.__file__)
"""A file that nothing has written for a while."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "watchlist.yaml"
    file.write_bytes(BEFORE)
    return file


def watching(file: Path, known: bytes = BEFORE) -> FileWatch:
    return FileWatch(str(file), digest_of(known))


def looks(watch: FileWatch, times: int = 3) -> list[bool]:
    return [watch.look() for _ in range(times)]


def in_place(file: Path) -> None:
    file.write_bytes(AFTER)


def appended(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"# more\n")


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def renamed_over(file: Path) -> None:
    swap = file.with_suffix(".swp")
    swap.write_bytes(AFTER)
    swap.replace(file)


def moved_away_and_written_anew(file: Path) -> None:
    file.rename(file.with_suffix(".yaml~"))
    file.write_bytes(AFTER)


def made_a_symlink(file: Path) -> None:
    other = file.with_name("other.yaml")
    other.write_bytes(AFTER)
    file.unlink()
    file.symlink_to(other)


def of_the_same_size_with_the_old_times(file: Path) -> None:
    about = file.stat()
    file.write_bytes(AFTER)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def of_the_same_size_and_times_renamed_over(file: Path) -> None:
    about = file.stat()
    renamed_over(file)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        appended,
        emptied,
        renamed_over,
        moved_away_and_written_anew,
        made_a_symlink,
        of_the_same_size_with_the_old_times,
        of_the_same_size_and_times_renamed_over,
    ],
)
def test_a_change_is_noticed_however_it_is_written_and_told_once_accepted(
    file: Path, change: Callable[[Path], None]
) -> None:
    watch = watching(file)
    assert looks(watch) == [False, False, False]
    change(file)
    assert looks(watch, 2) == [False, True]
    watch.accept(digest_of(file.read_bytes()))
    assert looks(watch) == [False, False, False]


def test_a_swapped_symlink_is_a_change(tmp_path: Path, file: Path) -> None:
    new, link, swap = tmp_path / "new.yaml", tmp_path / "link.yaml", tmp_path / "swap.yaml"
    new.write_bytes(AFTER)
    link.symlink_to(file)
    watch = watching(link)
    assert looks(watch) == [False, False, False]
    swap.symlink_to(new)
    swap.replace(link)
    assert looks(watch, 2) == [False, True]


def test_a_mounted_volume_that_swaps_its_data_directory_is_a_change(tmp_path: Path) -> None:
    for version, content in (("..2026_01", BEFORE), ("..2026_02", AFTER)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "watchlist.yaml").write_bytes(content)
    (tmp_path / "..data").symlink_to("..2026_01")
    file = tmp_path / "watchlist.yaml"
    file.symlink_to("..data/watchlist.yaml")
    watch = watching(file)
    assert looks(watch) == [False, False, False]
    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..2026_01")
    assert looks(watch, 2) == [False, True]


def touched(file: Path) -> None:
    os.utime(file)


def written_again_as_it_was(file: Path) -> None:
    file.write_bytes(BEFORE)


def replaced_by_its_copy(file: Path) -> None:
    shutil.copy(file, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


def made_private(file: Path) -> None:
    file.chmod(0o600)


@pytest.mark.parametrize("change", [touched, written_again_as_it_was, replaced_by_its_copy, made_private])
def test_what_leaves_the_content_as_it_was_is_no_change(file: Path, change: Callable[[Path], None]) -> None:
    watch = watching(file)
    watch.look()
    change(file)
    assert looks(watch) == [False, False, False]


def test_a_half_written_file_waits_until_it_is_finished(file: Path) -> None:
    watch = watching(file)
    file.write_bytes(AFTER[:5])
    assert not watch.look()
    file.write_bytes(AFTER)
    assert looks(watch, 2) == [False, True]


def test_a_file_that_keeps_changing_never_settles(file: Path) -> None:
    watch = watching(file)
    for number in range(5):
        file.write_bytes(b"%d" % number)
        assert not watch.look()


def test_a_change_that_is_taken_back_is_none(file: Path) -> None:
    watch = watching(file)
    file.write_bytes(AFTER)
    assert not watch.look()
    file.write_bytes(BEFORE)
    assert looks(watch) == [False, False, False]
    file.write_bytes(AFTER)
    assert looks(watch, 2) == [False, True]


def test_a_file_that_is_missing_for_a_moment_is_no_change(file: Path) -> None:
    watch = watching(file)
    file.unlink()
    assert looks(watch) == [False, False, False]
    file.write_bytes(BEFORE)
    assert looks(watch) == [False, False, False]


def test_a_file_that_returns_changed_needs_two_looks_again(file: Path) -> None:
    watch = watching(file)
    file.write_bytes(AFTER)
    assert not watch.look()
    file.unlink()
    assert not watch.look()
    file.write_bytes(AFTER)
    assert looks(watch, 2) == [False, True]


def test_a_change_is_told_again_until_it_is_accepted(file: Path) -> None:
    watch = watching(file)
    file.write_bytes(AFTER)
    assert looks(watch, 4) == [False, True, True, True]


def test_a_return_to_the_content_before_the_accepted_one_is_a_change(file: Path) -> None:
    watch = watching(file)
    file.write_bytes(AFTER)
    assert looks(watch, 2) == [False, True]
    watch.accept(digest_of(AFTER))
    file.write_bytes(BEFORE)
    assert looks(watch, 2) == [False, True]


def test_a_file_that_has_long_rested_is_compared_without_reading_it_anew() -> None:
    content = LONG_UNTOUCHED.read_bytes()
    assert looks(watching(LONG_UNTOUCHED, content)) == [False, False, False]
    changed = watching(LONG_UNTOUCHED, BEFORE)
    assert looks(changed, 2) == [False, True]
    changed.accept(digest_of(content))
    assert looks(changed) == [False, False, False]


def test_a_file_renamed_over_a_rested_one_is_a_change(tmp_path: Path) -> None:
    link = tmp_path / "watchlist.yaml"
    link.symlink_to(LONG_UNTOUCHED)
    watch = watching(link, LONG_UNTOUCHED.read_bytes())
    assert looks(watch) == [False, False, False]
    renamed_over(link)
    assert looks(watch, 2) == [False, True]


def test_a_file_too_large_to_read_whole_is_refused_once(tmp_path: Path) -> None:
    file = tmp_path / "watchlist.yaml"
    with file.open("wb") as stream:
        stream.truncate(65 * 1024 * 1024)
    watch = watching(file)
    assert looks(watch, 2) == [False, True]
    with pytest.raises(InvalidConfigError) as caught:
        load(str(file))
    watch.accept(caught.value.digest)
    assert looks(watch, 2) == [False, False]


def test_a_pipe_is_never_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "watchlist.yaml"
    os.mkfifo(pipe)
    assert looks(watching(pipe)) == [False, False, False]


def test_a_directory_in_the_files_place_is_no_change(tmp_path: Path) -> None:
    assert looks(watching(tmp_path)) == [False, False, False]
