"""Whatever stands in the watchlist's place: it is taken, or refused in so many readable lines."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.loading import InvalidConfigError, load_content
from notifier.mistake import MOST_MISTAKES, printable
from notifier.secret import Sources
from tests.support import mutations
from tests.support.exploring import examples, growth_of, work_of
from tests.support.process import environment
from tests.support.watchlists import BASE, ENVIRONMENT, TARGET, USEAPI, WATCH, mistakes, polling

LINE = re.compile(r"w:([1-9][0-9]*):([1-9][0-9]*): (.+)")
LONGEST_LINE = 3000
"""A path of forty levels and a sentence."""
VALUES = ("hunter", "aHVud")
"""What every value that a reference brings in has in it."""
MEBIBYTE = 1024 * 1024
SPARE = 50 * MEBIBYTE
"""What reading an ordinary file of a few kilobytes may differ by from another."""


def refusal(content: bytes, *, resolve: bool = True) -> list[str]:
    """Return what is said of a file, nothing where it is taken."""
    try:
        load_content(content, "w", resolve=resolve, sources=Sources(ENVIRONMENT))
    except InvalidConfigError as error:
        lines = error.lines()
        assert lines, "a refusal says why"
        return lines
    return []


def check_lines(lines: list[str], content: bytes) -> None:
    text = content.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    lengths = [len(line) for line in text.split("\n")]
    for line in lines:
        assert line.isprintable()
        assert len(line) <= LONGEST_LINE
        assert not [value for value in VALUES if value in line], "a value that came in is never repeated"
        found = LINE.fullmatch(line)
        assert found is not None, line
        row, column = int(found[1]), int(found[2])
        assert row <= len(lengths), f"{line} stands beyond the end"
        assert column <= lengths[row - 1] + 1, f"{line} stands beyond its line"


@given(mutations.watchlists(), st.booleans())
@examples(120)
def test_a_watchlist_that_something_happened_to_is_taken_or_refused_line_by_line(
    content: bytes, resolve: bool
) -> None:
    check_lines(refusal(content, resolve=resolve), content)


@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
)
@examples(60)
def test_no_content_at_all_does_more_than_to_be_refused(content: bytes) -> None:
    check_lines(refusal(content), content)


@given(st.lists(mutations.fragments, max_size=30).map(lambda parts: BASE + "".join(parts)))
@examples(60)
def test_no_mixture_of_syntax_does_more_than_to_be_refused(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    check_lines(refusal(content), content)


# --- Files that are made to hurt


def checked(file: Path) -> tuple[int, list[str], int]:
    """Run ``notifier check`` on a file; return its exit code, its lines and its peak of memory in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "notifier", "check", "-c", str(file)],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    lines = [line.replace(str(file), "w", 1) for line in output.splitlines()]
    return process.returncode, lines, usage.ru_maxrss * 1024


@pytest.fixture(scope="module")
def ordinary_peak(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What the program takes for a file of three lines."""
    file = tmp_path_factory.mktemp("ordinary") / "w"
    file.write_text(BASE)
    return checked(file)[2]


def alias_bomb(levels: int) -> str:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, levels):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
    return bomb


def test_an_alias_bomb_of_ten_levels_is_one_mistake_and_takes_no_memory(
    tmp_path: Path, ordinary_peak: int
) -> None:
    file = tmp_path / "w"
    file.write_text(BASE + alias_bomb(10))
    code, lines, peak = checked(file)
    assert (code, lines) == (1, ["w:9:20: a5[2]: more than 250000 values come from aliases"])
    assert peak < ordinary_peak + SPARE


def test_mistakes_do_not_multiply_by_aliases(tmp_path: Path, ordinary_peak: int) -> None:
    """Twelve kilobytes that would make two million mistakes, of which ten thousand are told."""
    file = tmp_path / "w"
    names = f"x: &x [{'zz, ' * 1000}]\n"
    file.write_text(USEAPI + TARGET + names + "watch:\n" + "  - {audio_id: x, events: *x}\n" * 2000)
    code, lines, peak = checked(file)
    assert (code, lines) == (1, ["w:254:27: watch[249].events: more than 250000 values come from aliases"])
    assert peak < ordinary_peak + SPARE


def test_a_file_beyond_64_mib_is_one_mistake(tmp_path: Path, ordinary_peak: int) -> None:
    file = tmp_path / "w"
    with file.open("wb") as stream:
        stream.write(BASE.encode())
        stream.truncate(80 * MEBIBYTE)
    code, lines, peak = checked(file)
    assert (code, lines) == (1, ["w:1:1: is larger than 64 MiB"])
    assert peak < ordinary_peak + SPARE + 2 * 64 * MEBIBYTE


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x: " + "y" * 5_000_000, "w:4:1: x: unknown key 'x'"),
        ("y" * 5_000_000 + ": 1", "w:4:5000001: YAML: could not find expected ':'"),
        ("x: " + "[" * 5_000_000, "nested deeper than 40 levels"),
        ("x: '" + "${" * 2_500_000 + "'", "w:4:4: x: a '${' is never closed; write '$$' for a literal '$'"),
        ("poll: {interval: " + "1h" * 2_500_000 + "}", f"w:4:18: poll.interval: '{printable('1h' * 50)}' is"),
        ("poll: {missing_after: " + "1" * 5_000_000 + "}", "is not a whole number"),
        ("useapi: {rate: " + "1" * 5_000_000 + "/s}", "w:4:1: useapi: appears a second time"),
        ("state: '" + "/x" * 2_500_000 + "'", ""),
        ("alerts: [" + "y" * 5_000_000 + "]", f"w:4:10: alerts[0]: unknown target '{printable('y' * 61)}'"),
        ("http: '" + "a." * 2_500_000 + ":1'", "is no address to listen on: expected HOST:PORT"),
        ("log: {level: " + "y" * 5_000_000 + "}", "is none of debug, info, warning, error"),
    ],
)
def test_a_line_of_five_megabytes_is_a_short_line_of_the_report(text: str, line: str) -> None:
    content = f"{BASE}{text}\n".encode()
    lines = refusal(content)
    check_lines(lines, content)
    assert len(lines) <= 2
    assert any(line in one for one in lines) if line else lines == []


def test_references_cannot_bring_in_more_than_the_file_itself_may_hold(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_text("x" * 65_536)
    entry = f'"${{file:{file}}}", '
    lines = refusal(f"{BASE}x: [{entry * 300}]\ny: '{entry.strip(', ') * 300}'\n".encode())
    room = 16 * MEBIBYTE // 65_536
    too_much = [
        line for line in lines if line.endswith("the references of this file bring in more than it may hold")
    ]
    assert len(too_much) == 300 - room + 1


# --- Mistakes by the thousand


def wrong_throughout(count: int, targets: int) -> str:
    """Write targets of which none is meant by any of the names that are told."""
    targets_ = "".join(
        f"  target-{n}: {{type: slack, url: 'https://hooks.slack.com/services/T/B/{n}'}}\n"
        for n in range(count)
    )
    alerts = "".join(f"  - nobody-{n}\n" for n in range(count))
    return f"{USEAPI}{WATCH}targets:\n{targets_}alerts:\n{alerts}"


def test_suggestions_for_many_unknown_names_take_no_longer_than_for_some() -> None:
    few, many = (work_of(partial(mistakes, wrong_throughout(count, count))) for count in (150, 300))
    assert many < 2.5 * few


def test_ten_thousand_unknown_names_are_all_told() -> None:
    lines = mistakes(wrong_throughout(10_000, 1000))
    assert len(lines) == 10_000
    assert lines[0].endswith("alerts[0]: unknown target 'nobody-0'")
    assert lines[-1].endswith("alerts[9999]: unknown target 'nobody-9999'")


@pytest.mark.parametrize(
    "text",
    [
        lambda n: BASE + "".join(f"key{i}: 1\n" for i in range(n)),
        lambda n: BASE + "poll:\n" + "  interval: 1s\n" * (n + 1),
        lambda n: BASE + "x: [" + "!foo a, " * n + "]",
        lambda n: f"{USEAPI}{TARGET}watch:\n" + "  - x\n" * n,
        lambda n: f"{USEAPI}{WATCH}targets:\n" + "".join(f"  t{i}: {{type: slak}}\n" for i in range(n)),
        lambda n: BASE + "".join(f"k{i}: ${{env:NOPE}}\n" for i in range(n)),
    ],
)
def test_the_work_grows_with_the_mistakes_and_no_faster(text: mutations.Make) -> None:
    few, many = (work_of(partial(mistakes, text(count))) for count in (200, 400))
    assert many < 2.5 * few


def test_more_than_ten_thousand_mistakes_are_not_told_one_by_one() -> None:
    lines = mistakes(BASE + "".join(f"key{n}: 1\n" for n in range(MOST_MISTAKES + 100)))
    assert len(lines) == MOST_MISTAKES + 1
    assert lines[-1] == (
        f"w:{MOST_MISTAKES + 4}:1: not everything that is wrong is told here: "
        f"there are more than {MOST_MISTAKES} mistakes"
    )
    twice = mistakes(polling("interval: 1s\n" + "  interval: 2s\n" * (MOST_MISTAKES + 100)))
    assert len(twice) == MOST_MISTAKES + 1


@pytest.mark.parametrize(
    "piece", ["${env:TOKEN}", "$$", "$", "${", "1h", "a.", "user:", "{{", "&a ", "[", "\r", "é"]
)
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    """The patterns that texts are matched with, too, which run where no work can be counted."""

    def read(text: str) -> None:
        refusal(f"{polling('interval: ')}'{text}'\n".encode())

    assert growth_of(read, lambda size: piece * size, 4000) < 12


# --- Secrets in the wrong place


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "alerts: [https://hooks.slack.com/services/T0/B0/hushhush]",
            "w:4:10: alerts[0]: unknown target 'https://hooks.slack.com/…'",
        ),
        ("poll: {interval: whsec_hushhush}", "w:4:18: poll.interval: 'whsec_…' is not a duration"),
        ("'http://me:hush@example.com/hushhush': x", "w:4:1: http://example.com/…: unknown key"),
        (
            "log: {level: 'x https://example.com/a?hushhush'}",
            "w:4:14: log.level: 'x https://example.com/…' is",
        ),
    ],
)
def test_a_secret_in_the_place_of_something_else_is_not_repeated(text: str, line: str) -> None:
    (found,) = mistakes(f"{BASE}{text}\n")
    assert found.startswith(line)
    assert "hushhush" not in found


def test_pages_and_status_show_a_hundred_mistakes_and_count_the_rest() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load_content(wrong_throughout(150, 1).encode(), "w", resolve=True, sources=Sources({}))
    lines = caught.value.brief().splitlines()
    assert len(lines) == 101
    assert lines[-1] == "and 50 more: notifier check shows them all"
    assert caught.value.brief(lambda _line: "***").startswith("***\n***\n")
