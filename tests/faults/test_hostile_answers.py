"""Whatever the API and the receivers answer: it means something, and costs little."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.answer import Answer, Unreachable
from notifier.clock import SystemClock
from notifier.config import Useapi
from notifier.delivery import LONGEST_HINT, Delivered, Outcome, Rejected, Retry, TargetBroken
from notifier.event import Event, EventType, TrackNews, track_event
from notifier.secret import Masker, Secret, url_parts
from notifier.sending import send
from notifier.store import Owed, Store
from notifier.targets import TYPES, Request
from notifier.targets.slack import _escaped
from notifier.text import clean, one_line
from notifier.track import Track, compact_json
from notifier.transition import detect
from notifier.useapi import NotFound, Reading, Refused, Unreadable, UseApi
from notifier.wire import Wire
from tests.support import hostile
from tests.support.bombs import BOMBS, Bomb, Bomber, bombing
from tests.support.exploring import examples, growth_of
from tests.support.hostile import NOW
from tests.support.process import Daemon, daemon
from tests.support.scenes import ACCEPTED
from tests.support.tracks import audio_id, completed
from tests.targets.given import make, payload_of

MEBIBYTE = 1024 * 1024
LONGEST_REASON = 320
DAY = timedelta(days=1)


# --- Bytes that an HTTP server can send

_WAITS = (
    "0",
    "-1",
    "1e9",
    "nan",
    "9" * 400,
    "Wed, 21 Oct 2099 07:28:00 GMT",
    "Mon, 99 Foo",
    "2099-01-01T00:00:00Z",
    " ",
)
_HEADERS = (
    *(
        "Retry-After",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset-After",
        "X-RateLimit-Reset",
        "X-RateLimit-Scope",
    ),
    *("X-RateLimit-Global", "Content-Type", "Location", "Content-Encoding", "Server", "Via"),
)
header_values = st.one_of(
    st.sampled_from(_WAITS),
    st.sampled_from(
        ["text/html", "application/json", "gzip", "br", "true", "global", "shared", "http://[", "//x"]
    ),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(_WAITS)
        if name.startswith("R")
        else st.one_of(st.sampled_from(_WAITS), header_values)
        for name in _HEADERS
    },
)

_BODIES = (
    *(
        b"",
        b"ok",
        b"null",
        b"{}",
        b"[]",
        b'""',
        b"0",
        b"NaN",
        b"-",
        b'{"',
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"<html>",
    ),
    *(
        b'{"audio_status": 1e999}',
        b'{"audio_status_name": "\\ud800"}',
        b'{"audio_status": ' + b"9" * 5000 + b"}",
    ),
    *(
        b"[" * 5000,
        b'{"a":' * 5000,
        b'{"audio_status_name": "COMPLETED", "x": ' + b"[" * 500 + b"]" * 500 + b"}",
    ),
    *(b'{"error": {"message": null}}', b'{"error": []}', b'{"retry_after": "soon", "global": 1}'),
    *(b'{"retry_after": 1e400}', b'{"retry_after": -1}', b'{"code": 50027, "message": {"a": 1}}'),
    *(b'{"retryAfter": "0000-00-00"}', b'{"retryAfter": "9999-12-31T23:59:59+99:99"}', b"invalid_payload"),
    *(b"rate_limited", b"no_service", b'{"id": "web.incoming_webhook.general.app_error"}'),
)
bodies = st.one_of(
    st.sampled_from(_BODIES),
    st.binary(max_size=100),
    st.one_of(hostile.answers(), hostile.values).map(lambda value: json.dumps(value).encode()),
    st.tuples(hostile.answers(), st.integers(0, 300)).map(
        lambda drawn: json.dumps(drawn[0], ensure_ascii=False).encode("utf-8", "surrogatepass")[: drawn[1]]
    ),
)
statuses = st.one_of(
    st.sampled_from(
        [200, 200, 200, 204, 301, 400, 401, 402, 403, 404, 408, 410, 412, 413, 422, 429, 500, 503, 596]
    ),
    st.integers(200, 999),
)


def http(status: int, fields: dict[str, str], body: bytes, *, length: int = 0) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body) + length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


whole_answers = st.builds(http, statuses, headers, bodies)
told_to_wait = st.tuples(headers, st.sampled_from(_WAITS)).map(
    lambda drawn: {**drawn[0], "Retry-After": drawn[1]}
)
refusals = st.builds(http, st.sampled_from([429, 503, 204]), told_to_wait, bodies)
tracks = hostile.answers().map(lambda track: http(200, {}, json.dumps(track).encode()))


@st.composite
def broken_answers(draw: st.DrawFn) -> bytes:
    """Draw an answer in which bytes are missing, doubled or others."""
    answer = bytearray(draw(st.builds(http, statuses, headers, bodies, length=st.integers(-5, 5))))
    for _ in range(draw(st.integers(1, 3))):
        at, gone = draw(st.integers(0, len(answer))), draw(st.integers(0, 5))
        answer[at : at + gone] = draw(
            st.one_of(st.binary(max_size=5), st.sampled_from([b"\r\n", b"\n", b":", b"\0"]))
        )
    return bytes(answer)


# --- A world that hypothesis can use again and again


class World:
    """A real server that answers with the bytes it is given, and those who ask it."""

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self._answer = b""
        self._numbers = iter(range(10**9))
        self._runner.run(self._open(directory))

    async def _open(self, directory: Path) -> None:
        self._serving = bombing(lambda _path: self._answer)
        bomber = await self._serving.__aenter__()
        token, second = Secret("user:1-abc"), timedelta(seconds=1)
        settings = Useapi.model_construct(token=token, base_url=bomber.url, timeout=second, concurrency=1)
        self.api = UseApi(settings, SystemClock())
        self.wire = Wire(timeout=second, connections=1, largest_answer=64 * 1024)
        self.store = Store(directory / "state.db")
        await self.store.open()
        self.targets = {kind: make(kind, url=f"{bomber.url}/{kind}") for kind in TYPES}

    def close(self) -> None:
        async def close() -> None:
            await self.api.close()
            await self.wire.close()
            await self.store.close()
            await self._serving.__aexit__(None, None, None)

        self._runner.run(close())
        self._runner.close()

    def read(self, answer: bytes) -> Reading:
        """Let the API answer a read."""
        self._answer = answer
        return self._runner.run(self.api.read(self.api.url_of(audio_id())))

    def send(self, answer: bytes) -> Answer | Unreachable:
        """Let a receiver answer a message."""
        self._answer = answer
        request = Request("POST", self.targets["webhook"].url, {}, b"{}")
        return self._runner.run(send(self.wire, request, Masker(["hunter2hunter2"])))

    def tell(self, track: Track) -> list[Event]:
        """Store what a track's first look tells, and return its events as they come out again."""
        return self._runner.run(self._tell(track))

    async def _tell(self, track: Track) -> list[Event]:
        identifier = audio_id(next(self._numbers))
        change = detect(None, track, now=NOW, stalled_after=DAY)
        assert change is not None
        news = TrackNews(identifier, track.name or identifier, change.sighting.status, None, track)
        events = [track_event(kind, news, NOW) for kind in change.events]
        owed = [Owed(event, tuple(TYPES)) for event in events]
        await self.store.record(identifier, change.sighting, track, owed, now=NOW)
        kept = await self.store.as_returned(identifier)
        assert kept == compact_json(track.fields)
        told = []
        for kind in TYPES:
            due = await self.store.due(kind, limit=10)
            assert len(due) == len(events)
            told += [delivery.event for delivery in due]
            await self.store.drop([delivery.id for delivery in due])
        return told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


def check_reason(reason: str) -> None:
    assert reason
    assert len(reason) <= LONGEST_REASON
    assert one_line(reason) == reason


def check_reading(world: World, reading: Reading) -> None:
    """Whatever was read has a reason for people, or makes messages that every service takes."""
    match reading:
        case NotFound() | Unreadable() | Refused():
            check_reason(reading.reason)
            after = reading.after if isinstance(reading, Refused) else None
            assert after is None or timedelta(0) <= after <= LONGEST_HINT
        case Track():
            assert one_line(reading.status) == reading.status
            for event in world.tell(reading):
                for target in world.targets.values():
                    for is_plain in (False, True):
                        request = target.render([event], now=NOW, is_plain=is_plain)
                        assert isinstance(payload_of(request), dict)


@given(st.one_of(whole_answers, tracks, tracks))
@examples(120)
def test_whatever_the_api_answers_is_a_track_or_a_sentence(world: World, answer: bytes) -> None:
    check_reading(world, world.read(answer))


@given(broken_answers())
@examples(60)
def test_whatever_breaks_an_answer_of_the_api_is_a_sentence(world: World, answer: bytes) -> None:
    check_reading(world, world.read(answer))


def check_outcome(outcome: Outcome) -> None:
    check_reason(outcome.reason)
    match outcome:
        case Retry(after=after):
            assert after is None or timedelta(0) <= after <= LONGEST_HINT
        case _:
            assert isinstance(outcome, Delivered | Rejected | TargetBroken)


@given(st.one_of(refusals, refusals, whole_answers, broken_answers()))
@examples(120)
def test_whatever_a_receiver_answers_is_an_outcome_with_a_sentence(world: World, answer: bytes) -> None:
    got = world.send(answer)
    if isinstance(got, Unreachable):
        check_reason(got.reason)
        return
    for target in world.targets.values():
        check_outcome(target.classify(got, now=NOW))
        spared = target.spared_for(got, now=NOW)
        assert spared is None or timedelta(0) <= spared <= LONGEST_HINT


@pytest.mark.parametrize("kind", [*TYPES])
def test_a_switch_to_another_protocol_costs_no_message(kind: str) -> None:
    outcome = make(kind, url="http://localhost/x").classify(Answer(101, {}, ""), now=NOW)
    assert isinstance(outcome, Retry)
    assert outcome.reason == "HTTP 101, which is no answer to a message: check the target's url"


# --- Bombs


def peak_of(running: Daemon) -> int:
    """Return the most memory that the daemon has had, in bytes."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


class Bombed:
    """An API and receivers that answer each track and each target with a bomb, and behave from then on."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self.names = list(BOMBS)

    def __call__(self, path: str) -> bytes | Bomb:
        if path.startswith("/fine/"):
            return _plain(ACCEPTED["webhook"].status, b"")
        if path.startswith("/hook/"):
            return self._once(path, int(path.split("/")[2]), _plain(204, b""))
        number = int(path.rpartition(":")[2])
        return self._once(path, number, _plain(200, json.dumps(completed(number)).encode()))

    def _once(self, path: str, number: int, then: bytes) -> bytes | Bomb:
        if path in self._seen or number >= len(self.names):
            return then
        self._seen.add(path)
        return BOMBS[self.names[number]]


def _plain(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body


@pytest.fixture
async def bomber() -> AsyncIterator[Bomber]:
    async with bombing(Bombed()) as bomber:
        yield bomber


def watchlist(directory: Path, bomber: Bomber, *, bombs: bool) -> Path:
    targets: dict[str, Any] = {
        f"hook-{number}": {"type": "webhook", "url": f"{bomber.url}/hook/{number}"}
        for number in range(len(BOMBS))
    }
    file = directory / "watchlist.yaml"
    last = len(BOMBS)
    content = {
        "useapi": {
            "token": "a",
            "base_url": f"{bomber.url}/v2/pixverse",
            "rate": "1000/s",
            "timeout": "300ms",
        },
        "poll": {"interval": "50ms", "max_interval": "50ms"},
        "delivery": {"first_retry": "50ms", "max_retry": "50ms", "timeout": "1s"},
        "targets": {**targets, "fine": {"type": "webhook", "url": f"{bomber.url}/fine/x"}},
        "state": f"{directory}/state.db",
        "watch": [
            {"audio_id": audio_id(last), "notify": ["fine"]},
            *({"audio_id": audio_id(number), "notify": ["fine"]} for number in range(last) if bombs),
            *({"audio_id": audio_id(last + 1), "notify": [*targets]} for _ in range(bombs)),
        ],
    }
    file.write_text(json.dumps(content))
    file.chmod(0o600)
    return file


async def test_no_bomb_costs_memory_or_a_message(tmp_path: Path, bomber: Bomber) -> None:
    async with daemon(watchlist(tmp_path, bomber, bombs=False)) as running:
        await running.until(
            lambda: _delivered(running) >= {("fine", audio_id(len(BOMBS)))}, "an ordinary track"
        )
        before = peak_of(running)
        watchlist(tmp_path, bomber, bombs=True)
        running.signal(signal.SIGHUP)
        expected = {("fine", audio_id(number)) for number in range(len(BOMBS) + 1)}
        # what answers with 2xx has taken the message, however long its answer is
        taken = {("hook-" + str(number), audio_id(len(BOMBS) + 1)) for number in range(len(BOMBS))}
        await running.until(lambda: _delivered(running) >= expected | taken, "all tracks")
        assert peak_of(running) - before < 40 * MEBIBYTE
        assert await running.stop() == 0
    for record in running.records():
        for sentence in (record.get("error"), record.get("reason")):
            if sentence is not None:
                check_reason(str(sentence))
    assert not running.records("daemon.crashed")
    assert not running.records("delivery.crashed")
    assert not running.records("library.message")
    assert len(running.lines) < 20 * len(BOMBS), "and no flood in the log"


def _delivered(running: Daemon) -> set[tuple[str, str]]:
    return {(record["target"], record["audio_id"]) for record in running.records("delivery.delivered")}


# --- Texts that patterns are run over


@pytest.mark.parametrize(
    "piece",
    [
        "\u200d",
        "a\u200d",
        " \u200d",
        "\n",
        "\n ",
        " ",
        "`",
        "<&>",
        "*_~",
        "https://",
        "[",
        "1. ",
        "\n1",
        "@",
        ":a",
        "\\",
        "/s",
        "%2",
        "&#",
    ],
)
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    urls = [f"https://hooks.slack.com/services/T{number}/B/{'x' * number}" for number in range(9, 60)]
    masker = Masker(part for url in urls for part in url_parts(url))
    track = completed()

    def show(text: str) -> None:
        masker.mask(text)
        clean(text)
        _escaped(text[:20_000], 3000)
        Answer(400, {}, text).describe()
        for field in ("prompt", "name", "fail_reason"):
            news = TrackNews(
                audio_id(), text, "COMPLETED", None, Track("COMPLETED", True, {**track, field: text})
            )
            for kind in TYPES:
                make(kind, url="http://localhost/x").render(
                    [track_event(EventType.COMPLETED, news, NOW)], now=NOW
                )

    assert growth_of(show, lambda size: piece * size, 8000) < 12
