import contextlib
import io
import json
import logging
import math
import os
import subprocess
import sys
import termios
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from notifier import log as setup
from notifier.secret import Masker, Secret
from tests.support.process import environment

SECRET = "whsec_C2FVsBQIhrscChlQIMV"
FORMS = ["json", "logfmt", "console"]
JOURNAL_LINE_MAX = 48 * 1024
"""https://www.freedesktop.org/software/systemd/man/latest/journald.conf.html#LineMax="""

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Undo what setting up the log does to the whole process."""
    root, scheduler = logging.getLogger(), logging.getLogger("apscheduler")
    before = (root.handlers, root.level, scheduler.level, sys.excepthook, threading.excepthook)
    configuration = structlog.get_config() if structlog.is_configured() else None
    logging.captureWarnings(capture=False)
    yield
    logging.captureWarnings(capture=False)
    root.handlers, root.level, scheduler.level, sys.excepthook, threading.excepthook = before
    structlog.reset_defaults()
    if configuration is not None:
        structlog.configure(**configuration)
    setup.mask_with(Masker())


class Destination:
    """Where stderr leads: a real pipe or a real terminal, and what has come out at its other end."""

    def __init__(self, descriptor: int, reader: int, variables: dict[str, str] | None = None) -> None:
        self.stream: TextIO = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        self.environment = dict(variables or {})
        self._reader = reader
        os.set_blocking(reader, False)

    def lines(self) -> list[str]:
        """Return the lines that have come since the last call."""
        received = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._reader, 1 << 20):
                received += chunk
        *lines, rest = received.decode().split("\n")
        assert rest == "", "the last line has an end"
        return lines

    def line(self) -> str:
        """Return the one line that has come since the last call."""
        [line] = self.lines()
        return line

    def record(self) -> dict[str, Any]:
        """Return the one JSON object that has come since the last call."""
        record = json.loads(self.line(), parse_constant=pytest.fail)
        assert isinstance(record, dict)
        return record

    def configure(self, form: str, level: str = "debug") -> None:
        setup.configure(level, form, stream=self.stream, environment=self.environment)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            os.close(self._reader)


def open_pipe() -> Destination:
    reader, writer = os.pipe()
    return Destination(writer, reader)


def open_journal() -> Destination:
    destination = open_pipe()
    about = os.fstat(destination.stream.fileno())
    destination.environment["JOURNAL_STREAM"] = f"{about.st_dev}:{about.st_ino}"
    return destination


def open_terminal() -> Destination:
    main, terminal = os.openpty()
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST  # line feeds as they are written
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    return Destination(terminal, main)


def opened(opener: Callable[[], Destination]) -> Callable[[], Iterator[Destination]]:
    def fixture() -> Iterator[Destination]:
        destination = opener()
        yield destination
        destination.close()

    return fixture


pipe = pytest.fixture(opened(open_pipe), name="pipe")
journal = pytest.fixture(opened(open_journal), name="journal")
terminal = pytest.fixture(opened(open_terminal), name="terminal")


@pytest.fixture(params=["pipe", "journal", "terminal"])
def anywhere(request: pytest.FixtureRequest) -> Destination:
    destination = request.getfixturevalue(request.param)
    assert isinstance(destination, Destination)
    return destination


# --- Forms


def test_outside_a_terminal_and_the_journal_a_line_is_json(pipe: Destination) -> None:
    pipe.configure("auto")
    log.info("track.completed", audio_id="a:1", status="COMPLETED", attempt=2, ratio=0.5, ok=True, gone=None)
    record = pipe.record()
    assert list(record)[:3] == ["event", "level", "timestamp"]
    timestamp = datetime.fromisoformat(record.pop("timestamp"))
    assert timestamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - timestamp) < timedelta(hours=1)
    assert record == {
        "event": "track.completed",
        "level": "info",
        "audio_id": "a:1",
        "status": "COMPLETED",
        "attempt": 2,
        "ratio": 0.5,
        "ok": True,
        "gone": None,
    }


def test_under_the_journal_a_line_is_logfmt_with_a_priority_and_no_time(journal: Destination) -> None:
    journal.configure("auto")
    log.warning("poll.failed", audio_id="a:1", error="HTTP 502: bad gateway", repeated=True, reason=None)
    assert journal.line() == (
        '<4>event=poll.failed level=warning audio_id=a:1 error="HTTP 502: bad gateway" repeated=true reason='
    )


def test_at_a_terminal_a_line_is_for_people(terminal: Destination) -> None:
    terminal.configure("auto")
    log.info("track.completed", name="Intro theme")
    line = terminal.line()
    assert "\x1b[" in line
    assert line.index("info") < line.index("track.completed") < line.index('"Intro theme"')


def test_logfmt_outside_the_journal_has_the_time(pipe: Destination) -> None:
    pipe.configure("logfmt")
    log.info("daemon.stopped")
    event, level, timestamp = pipe.line().split(" ")
    assert (event, level) == ("event=daemon.stopped", "level=info")
    assert datetime.fromisoformat(timestamp.removeprefix("timestamp=")).utcoffset() == timedelta(0)


def test_a_form_that_was_asked_for_is_used_everywhere(anywhere: Destination) -> None:
    anywhere.configure("json")
    log.info("daemon.stopped")
    assert json.loads(anywhere.line().removeprefix("<6>"))["event"] == "daemon.stopped"
    anywhere.configure("logfmt")
    log.info("daemon.stopped")
    assert anywhere.line().removeprefix("<6>").startswith("event=daemon.stopped level=info")


@pytest.mark.parametrize("form", ["auto", *FORMS])
@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_every_line_in_the_journal_has_its_levels_priority(
    journal: Destination, form: str, level: str, priority: int
) -> None:
    journal.configure(form)
    getattr(log, level)("daemon.event")
    line = journal.line()
    assert line.startswith(f"<{priority}>")
    assert "timestamp" not in line
    assert f"{datetime.now(UTC):%Y-}" not in line


def test_json_in_the_journal_is_json_behind_the_priority(journal: Destination) -> None:
    journal.configure("json")
    log.error("target.paused", target="studio")
    priority, line = journal.line().split(">", 1)
    assert priority == "<3"
    assert json.loads(line) == {"event": "target.paused", "level": "error", "target": "studio"}


@pytest.mark.parametrize("stated", ["", ":", "8:1", "garbage", "{st_dev}", "{st_ino}", "{st_ino}:{st_dev}"])
def test_another_journal_stream_is_not_the_journal(pipe: Destination, stated: str) -> None:
    about = os.fstat(pipe.stream.fileno())
    pipe.environment["JOURNAL_STREAM"] = stated.format(st_dev=about.st_dev, st_ino=about.st_ino)
    pipe.configure("auto")
    log.info("daemon.stopped")
    assert "timestamp" in pipe.record()


def test_stderr_redirected_under_the_journal_is_not_the_journal(
    journal: Destination, pipe: Destination
) -> None:
    pipe.environment = journal.environment
    pipe.configure("auto")
    log.info("daemon.stopped")
    assert "timestamp" in pipe.record()


def test_a_stream_without_a_descriptor_is_neither_journal_nor_terminal() -> None:
    stream = io.StringIO()
    setup.configure("info", "auto", stream=stream, environment={"JOURNAL_STREAM": "0:0"})
    log.info("daemon.stopped")
    assert json.loads(stream.getvalue())["event"] == "daemon.stopped"


@pytest.mark.parametrize(
    ("variables", "has_colors"),
    [
        ({}, True),
        ({"NO_COLOR": "", "TERM": "xterm"}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_gets_colors_unless_it_or_somebody_wants_none(
    terminal: Destination, variables: dict[str, str], has_colors: bool
) -> None:
    terminal.environment = variables
    terminal.configure("console")
    log.warning("poll.failed", error="HTTP 502")
    line = terminal.line()
    assert ("\x1b" in line) is has_colors
    assert "poll.failed" in line


def test_a_pipe_gets_no_colors(pipe: Destination) -> None:
    pipe.configure("console")
    log.error("poll.failed", error="HTTP 502")
    timestamp, rest = pipe.line().split(" ", 1)
    assert datetime.fromisoformat(timestamp).utcoffset() == timedelta(0)
    assert rest == 'error    poll.failed error="HTTP 502"'


# --- Levels


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_nothing_below_the_level_is_logged(pipe: Destination, level: str, shown: list[str]) -> None:
    pipe.configure("json", level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("daemon.event")
    assert [json.loads(line)["level"] for line in pipe.lines()] == shown


def test_a_reload_changes_level_and_form_of_loggers_in_use(pipe: Destination) -> None:
    pipe.configure("json", "error")
    bound = log.bind(target="studio")
    bound.info("delivery.delivered")
    assert pipe.lines() == []
    pipe.configure("logfmt", "info")
    log.bind(target="studio").info("delivery.delivered")
    log.info("daemon.stopped")
    assert [line.split(" ")[0] for line in pipe.lines()] == [
        "event=delivery.delivered",
        "event=daemon.stopped",
    ]


# --- One event, one line


def value_in(form: str, line: str) -> str:
    """Read the value of `x`, the last key of a line, back."""
    if form == "json":
        value = json.loads(line)["x"]
    else:
        word = line.split(" x=", 1)[1]
        value = json.loads(word) if word.startswith('"') else word
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize("form", FORMS)
@given(text=st.text(st.characters(), max_size=200))
def test_any_text_is_one_visible_line_and_can_be_read_back(form: str, text: str) -> None:
    stream = io.StringIO()
    setup.configure("info", form, stream=stream, environment={})
    log.info("daemon.event", x=text)
    line = stream.getvalue().removesuffix("\n")
    assert line.isprintable()
    assert value_in(form, line) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two\nlines",
        "a\r\nb\rc",
        "\x1b[2J\x1b]0;owned\x07",
        "x level=error event=daemon.stopped",
        'a "quoted" \\ word',
        "C:\\new",
        "key=value",
        "tab\there",
        "nul\x00 del\x7f c1\x9b",
        "\u2028\u2029\x85\x0b\x0c",
        "right \u202eto left",
        "half \ud83d emoji",
        "naïve 漢字 \U0001f3b5",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_name_stays_within_its_value(anywhere: Destination, form: str, text: str) -> None:
    anywhere.environment["NO_COLOR"] = "1"
    anywhere.configure(form)
    log.info("track.completed", x=text)
    line = anywhere.line()
    assert line.isprintable()
    assert value_in(form, line.removeprefix("<6>")) == text


@pytest.mark.parametrize("form", FORMS)
def test_a_traceback_is_one_line(anywhere: Destination, form: str) -> None:
    anywhere.environment["NO_COLOR"] = "1"
    anywhere.configure(form)
    try:
        raise ValueError("first line\nsecond line")
    except ValueError as error:
        log.exception("delivery.crashed")
        log.warning("delivery.crashed", exc_info=error)
    one, other = anywhere.lines()
    for line in (one, other):
        assert line.isprintable()
        assert "Traceback (most recent call last):" in line
        assert r"ValueError: first line\nsecond line" in line


def test_a_list_of_mistakes_is_a_list_in_json_and_one_value_in_logfmt(pipe: Destination) -> None:
    mistakes = ["w.yaml:1:1: watch: is missing", "w.yaml:2:3: poll: expected a mapping"]
    pipe.configure("json")
    log.error("config.rejected", mistakes=mistakes)
    assert pipe.record()["mistakes"] == mistakes
    pipe.configure("logfmt")
    log.error("config.rejected", mistakes=mistakes)
    assert pipe.line().endswith(
        ' mistakes="w.yaml:1:1: watch: is missing; w.yaml:2:3: poll: expected a mapping"'
    )


# --- Values


class Color(StrEnum):
    RED = "red"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**53 + 1, 2**53 + 1),
        (10**5000, "<int>"),
        (Color.RED, "red"),
        (Path("/var/lib/notifier"), "/var/lib/notifier"),
        (datetime(2026, 6, 23, 12, tzinfo=UTC), "2026-06-23 12:00:00+00:00"),
        (timedelta(seconds=90), "0:01:30"),
        (("a", 1, None), ["a", 1, None]),
        ({"seconds": 1.5, 2: [True]}, {"seconds": 1.5, "2": [True]}),
        ({"only"}, ["only"]),
        (Secret("hunter2hunter2"), "***"),
        (ValueError("wrong"), "wrong"),
        (Unspeakable(), "<Unspeakable>"),
        ([Unspeakable()], ["<Unspeakable>"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_becomes_valid_json(pipe: Destination, value: object, shown: object) -> None:
    pipe.configure("json")
    log.info("daemon.event", x=value)
    assert pipe.record()["x"] == shown


# --- Secrets


def log_chained() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError("unrelated") from error
    except ValueError:
        log.exception("delivery.crashed")


def log_through_a_library() -> None:
    try:
        raise OSError(f"cannot connect to https://hooks.example.com/{SECRET}")
    except OSError:
        logging.getLogger("aiohttp.client").exception("request failed")


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "write",
    [
        lambda: log.info("daemon.event", x=SECRET),
        lambda: log.info("daemon.event", x=f"Bearer {SECRET}, sent\ntwice: {SECRET}"),
        lambda: log.info("daemon.event", x=["mistake", ("deeper", [SECRET])]),
        lambda: log.info("daemon.event", x={"header": {"Authorization": SECRET}}),
        lambda: log.info("daemon.event", x={SECRET: 1}),
        lambda: log.info("daemon.event", x={SECRET}),
        lambda: log.info("daemon.event", x=SECRET.encode()),
        lambda: log.info("daemon.event", x=ValueError(SECRET)),
        lambda: log.info("daemon.event", x=Path("/hooks") / SECRET),
        lambda: log.info(f"answered {SECRET}"),
        lambda: log.info("answered %s", SECRET),
        lambda: log.bind(token=SECRET).info("daemon.event"),
        lambda: log.error("delivery.crashed", exc_info=ValueError(SECRET)),
        log_chained,
        log_through_a_library,
        lambda: logging.getLogger("asyncio").error("task got %s", [SECRET]),
        lambda: warnings.warn(f"strange: {SECRET}", stacklevel=1),
    ],
)
def test_a_secret_is_masked_wherever_it_stands(
    anywhere: Destination, form: str, write: Callable[[], None]
) -> None:
    setup.mask_with(Masker([SECRET]))
    anywhere.configure(form)
    write()
    line = anywhere.line()
    assert SECRET not in line
    assert "***" in line


@pytest.mark.parametrize("before", range(3_700, 3_760))
def test_a_secret_at_the_place_of_a_cut_is_masked_first(pipe: Destination, before: int) -> None:
    setup.mask_with(Masker([SECRET]))
    pipe.configure("json")
    log.info("daemon.event", x="x" * before + SECRET + "x" * 5_000)
    assert SECRET[:4] not in pipe.line()


def test_a_reload_brings_new_secrets_for_loggers_in_use(pipe: Destination) -> None:
    pipe.configure("json")
    bound = log.bind(target="studio")
    setup.mask_with(Masker(["old-secret"]))
    setup.mask_with(Masker([SECRET]))
    bound.info("daemon.event", x=SECRET)
    assert pipe.record()["x"] == "***"


# --- Bounds


def test_a_long_value_keeps_its_beginning(pipe: Destination) -> None:
    pipe.configure("json")
    log.info("daemon.event", x="begin " + "x" * 100_000, y="short")
    record = pipe.record()
    assert record["x"].startswith("begin xxx")
    assert record["x"].endswith("x…")
    assert len(record["x"]) <= 4_000
    assert record["y"] == "short"


def test_a_long_traceback_keeps_its_end(pipe: Destination) -> None:
    pipe.configure("json")
    log.error("delivery.crashed", exc_info=ValueError("x" * 100_000 + " at last"))
    record = pipe.record()
    assert record["exception"].startswith("…x")
    assert record["exception"].endswith("x at last")
    assert len(record["exception"]) <= 4_000


def test_two_hundred_mistakes_are_logged_whole(journal: Destination) -> None:
    mistakes = [f"/etc/notifier/watchlist.yaml:{n}:3: watch[{n}].notify: unknown target" for n in range(200)]
    journal.configure("json")
    log.error("config.rejected", mistakes=mistakes)
    assert json.loads(journal.line().removeprefix("<3>"))["mistakes"] == mistakes


def endless_list() -> list[object]:
    endless: list[object] = ["turn"]
    endless.append(endless)
    return endless


def deep_list() -> list[object]:
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "value",
    [
        "\x00" * 100_000,
        "\U0001f600" * 100_000,
        "\U000e0041" * 100_000,
        ["\U000e0041" * 10_000] * 100,
        [f"mistake {n}" for n in range(10_000)],
        [n**9 for n in range(10_000)],
        [[]] * 100_000,
        {f"key {n}": n for n in range(10_000)},
        {f"{n}" + "\n" * 10_000: "\n" * 10_000 for n in range(100)},
        endless_list(),
        deep_list(),
    ],
    ids=[
        "nul",
        "astral",
        "invisible",
        "many",
        "short",
        "numbers",
        "empty",
        "dict",
        "keys",
        "endless",
        "deep",
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_event_is_longer_than_the_journal_takes(form: str, value: object) -> None:
    stream = io.StringIO()
    setup.configure("info", form, stream=stream, environment={})
    log.error("daemon.event", one=value, two=value, exc_info=ValueError(str(value)))
    line = stream.getvalue().removesuffix("\n")
    assert line.isprintable()
    assert len(line.encode()) < JOURNAL_LINE_MAX
    assert "daemon.event" in line[:60]


def test_what_a_cut_list_lost_is_counted(pipe: Destination) -> None:
    pipe.configure("json")
    log.error("config.rejected", mistakes=[f"mistake {n}" for n in range(10_000)])
    *kept, last = pipe.record()["mistakes"]
    assert kept == [f"mistake {n}" for n in range(len(kept))]
    assert last == f"… and {10_000 - len(kept)} more"


# --- Streams that fail


def closed_file(tmp_path: Path) -> TextIO:
    stream = (tmp_path / "log").open("w", encoding="utf-8")
    stream.close()
    return stream


def pipe_without_reader(_tmp_path: Path) -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def full_disk(_tmp_path: Path) -> TextIO:
    return Path("/dev/full").open("w", encoding="utf-8")


def file_opened_to_read(tmp_path: Path) -> TextIO:
    file = tmp_path / "log"
    file.touch()
    return file.open(encoding="utf-8")


def ascii_file(tmp_path: Path) -> TextIO:
    return (tmp_path / "log").open("w", encoding="ascii")


@pytest.mark.parametrize(
    "broken", [closed_file, pipe_without_reader, full_disk, file_opened_to_read, ascii_file]
)
@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_a_broken_stream_stops_nobody(
    tmp_path: Path, pipe: Destination, form: str, broken: Callable[[Path], TextIO]
) -> None:
    stream = broken(tmp_path)
    setup.configure("info", form, stream=stream, environment={"JOURNAL_STREAM": "1:2"})
    for _ in range(1_000):
        log.error("daemon.event", x="naïve")
        logging.getLogger("asyncio").error("naïve")
    with contextlib.suppress(OSError):
        stream.close()

    pipe.configure("json")
    log.info("daemon.stopped")
    assert pipe.record()["event"] == "daemon.stopped"


def run_script(script: str, *, redirection: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python code as a process of its own whose log is JSON."""
    prelude = "import structlog\nfrom notifier import log\nfrom notifier.secret import Masker\n"
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, prelude + script],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("redirection", ["2>&-", "2>&1 >&- 2>&-", "2>/dev/full"])
def test_a_process_without_stderr_goes_on(redirection: str) -> None:
    script = """
import os
log.configure("info", "auto")
structlog.get_logger().error("daemon.event")
os._exit(7)
"""
    assert run_script(script, redirection=redirection).returncode == 7


# --- What libraries and Python itself write


def test_a_librarys_message_is_a_line_of_ours(anywhere: Destination) -> None:
    anywhere.configure("json")
    logging.getLogger("aiohttp.server").error("refused %s\nfor %d reasons\n", "it", 2)
    record = json.loads(anywhere.line().removeprefix("<3>"))
    record.pop("timestamp", None)
    assert record == {
        "event": "library.message",
        "level": "error",
        "logger": "aiohttp.server",
        "message": "refused it\nfor 2 reasons",
    }


def test_a_librarys_traceback_stays_in_the_line(pipe: Destination) -> None:
    pipe.configure("json")
    try:
        raise KeyError("job")
    except KeyError:
        logging.getLogger("apscheduler.executors.default").exception("job failed")
    record = pipe.record()
    assert record["message"] == "job failed"
    assert record["exception"].endswith("KeyError: 'job'")


def test_a_library_that_logs_an_exception_where_there_is_none_is_heard(pipe: Destination) -> None:
    pipe.configure("json")
    logging.getLogger("asyncio").exception("nothing happened")
    record = pipe.record()
    assert record["message"] == "nothing happened"
    assert "exception" not in record


def test_a_library_that_says_that_there_is_no_exception_is_heard(pipe: Destination) -> None:
    pipe.configure("json")
    logging.getLogger("asyncio").error("unclosed", exc_info=False)
    assert pipe.record()["message"] == "unclosed"


@pytest.mark.parametrize(
    ("number", "level"), [(30, "warning"), (35, "warning"), (40, "error"), (45, "error"), (60, "critical")]
)
def test_a_librarys_level_becomes_one_of_ours(pipe: Destination, number: int, level: str) -> None:
    pipe.configure("json")
    logging.getLogger("asyncio").log(number, "something")
    assert pipe.record()["level"] == level


def test_a_wrong_format_string_of_a_library_does_no_harm(pipe: Destination) -> None:
    pipe.configure("json")
    logging.getLogger("asyncio").error("%d tasks", "many")
    assert pipe.record()["message"] == "%d tasks"


@pytest.mark.parametrize(
    ("name", "number", "level", "is_shown"),
    [
        ("aiohttp.access", logging.INFO, "debug", False),
        ("aiohttp.access", logging.WARNING, "debug", True),
        ("aiohttp.access", logging.WARNING, "warning", True),
        ("aiohttp.access", logging.WARNING, "error", False),
        ("aiohttp.access", logging.ERROR, "error", True),
        ("apscheduler.scheduler", logging.WARNING, "debug", False),
        ("apscheduler.scheduler", logging.ERROR, "debug", True),
    ],
)
def test_libraries_speak_of_trouble_only(
    pipe: Destination, name: str, number: int, level: str, is_shown: bool
) -> None:
    pipe.configure("json", level)
    logging.getLogger(name).log(number, "something")
    assert bool(pipe.lines()) is is_shown


def test_setting_up_twice_does_not_double_a_librarys_lines(pipe: Destination) -> None:
    pipe.configure("json")
    pipe.configure("json")
    logging.getLogger("asyncio").error("once")
    assert pipe.record()["message"] == "once"


def test_what_python_itself_prints_is_a_masked_line(tmp_path: Path) -> None:
    script = f"""
import threading, warnings
log.configure("info", "auto")
log.mask_with(Masker([{SECRET!r}]))
warnings.simplefilter("always")
warnings.warn("odd: {SECRET}")

def die():
    raise RuntimeError("in a thread: {SECRET}")

thread = threading.Thread(target=die)
thread.start()
thread.join()
raise RuntimeError("at last: {SECRET}")
"""
    ended = run_script(script)
    warning, in_thread, at_last = (json.loads(line) for line in ended.stderr.splitlines())
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert (warning["event"], warning["level"]) == ("library.message", "warning")
    assert "odd: ***" in warning["message"]
    assert (in_thread["event"], in_thread["level"]) == ("daemon.crashed", "critical")
    assert in_thread["exception"].endswith("RuntimeError: in a thread: ***")
    assert (at_last["event"], at_last["level"]) == ("daemon.crashed", "critical")
    assert at_last["exception"].endswith("RuntimeError: at last: ***")
