"""Health, metrics and status of the real daemon over HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import Daemon, command, daemon
from tests.support.servers import PATIENCE, Reply, Server, free_port
from tests.support.tracks import answer, audio_id, completed, path_of, track

HOSTILE = '<script>alert(1)</script> & "quotes"'
METRICS = {
    "notifier_build_info",
    "notifier_api_requests",
    "notifier_api_request_seconds",
    "notifier_poll_lateness_seconds",
    "notifier_tracks",
    "notifier_events",
    "notifier_delivery_attempts",
    "notifier_deliveries",
    "notifier_delivery_oldest_pending_seconds",
    "notifier_delivery_seconds",
    "notifier_target_paused",
    "notifier_config_last_reload_success",
    "notifier_config_last_reload_timestamp_seconds",
}


class Page:
    """The daemon's own site, asked as a client would."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
        async with self.session.request(method, self.url + path, headers=headers) as response:
            return response.status, await response.text(), dict(response.headers)


@pytest.fixture
async def running(tmp_path: Path, api: Server, receiver: Server) -> AsyncIterator[tuple[Daemon, Page]]:
    api.reply(path_of(audio_id(1)), answer(completed(1, name=HOSTILE)))
    api.reply(path_of(audio_id(2)), answer(track(2)))
    receiver.reply("/paused-secret-path", Reply(404, "gone"))
    port = free_port()
    file = tmp_path / "watchlist.yaml"
    file.write_text(
        f"""useapi: {{token: user:1-abcdef, base_url: "{api.url}/v2/pixverse", rate: 500/s}}
poll: {{interval: 100ms, max_interval: 200ms, stalled_after: 3000d}}
targets:
  archive: {{type: webhook, url: "{receiver.url}/hook"}}
  broken: {{type: slack, url: "{receiver.url}/paused-secret-path"}}
state: {tmp_path}/state.db
http: 127.0.0.1:{port}
watch: ['{audio_id(1)}', '{audio_id(2)}']
"""
    )
    file.chmod(0o600)
    async with daemon(file) as process, aiohttp.ClientSession() as session:
        await process.logged("delivery.delivered")
        await process.logged("target.paused")
        await api.until_count(path_of(audio_id(2)), 2)
        yield process, Page(session, f"http://127.0.0.1:{port}")


async def test_health_is_200_and_names_what_is_degraded(running: tuple[Daemon, Page]) -> None:
    status, body, headers = await running[1].get("/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body) == {
        "status": "ok",
        "reasons": [],
        "degraded": ["the target broken is paused: HTTP 404: gone"],
    }


async def test_health_is_503_while_the_token_is_rejected(running: tuple[Daemon, Page], api: Server) -> None:
    api.reply(path_of(audio_id(2)), answer({"error": "Unauthorized"}, 401))
    await running[0].logged("upstream.unavailable")
    status, body, _ = await running[1].get("/healthz")
    assert (status, json.loads(body)["reasons"]) == (503, ["the API cannot be read: HTTP 401: Unauthorized"])
    api.reply(path_of(audio_id(2)), answer(track(2)))
    await running[0].logged("upstream.recovered")
    assert (await running[1].get("/healthz"))[0] == 200


async def test_health_is_503_after_three_failures_in_a_row_and_not_before(
    running: tuple[Daemon, Page], api: Server
) -> None:
    seen = len(api.to(path_of(audio_id(2))))
    api.reply(path_of(audio_id(2)), Reply(500))
    await api.until_count(path_of(audio_id(2)), seen + 4)
    async with asyncio.timeout(PATIENCE):
        while (await running[1].get("/healthz"))[0] != 503:
            await asyncio.sleep(0.01)


async def test_every_metric_of_the_contract_is_there_and_true(running: tuple[Daemon, Page]) -> None:
    status, body, headers = await running[1].get("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert {name for name in families if name.startswith("notifier_")} == METRICS | {
        "notifier_api_fixed_reads",
        "notifier_asyncio_tasks",
        "notifier_callbacks",
        "notifier_unhealthy",
    }
    values = {
        (s.name, *sorted(s.labels.items())): s.value for family in families.values() for s in family.samples
    }
    assert values["notifier_tracks", ("status", "COMPLETED")] == 1
    assert values["notifier_tracks", ("status", "GENERATING")] == 1
    assert values["notifier_events_total", ("type", "track.completed")] == 1
    assert values["notifier_deliveries", ("state", "delivered"), ("target", "archive")] == 1
    assert values["notifier_deliveries", ("state", "pending"), ("target", "broken")] == 1
    assert values["notifier_target_paused", ("target", "broken")] == 1
    assert values["notifier_target_paused", ("target", "archive")] == 0
    assert values["notifier_delivery_attempts_total", ("outcome", "target_broken"), ("target", "broken")] == 1
    assert values["notifier_delivery_oldest_pending_seconds", ("target", "broken")] > 0
    assert values["notifier_config_last_reload_success",] == 1
    assert values["notifier_api_requests_total", ("kind", "track"), ("outcome", "ok")] >= 2


async def test_status_is_what_the_command_prints(running: tuple[Daemon, Page], tmp_path: Path) -> None:
    status, body, _ = await running[1].get("/api/status")
    code, out, _ = await command("status", "--json", "-c", str(tmp_path / "watchlist.yaml"))
    assert (status, code) == (200, 0)
    shown, printed = json.loads(body), json.loads(out)
    for one in (shown, printed):
        one.pop("usage")  # the daemon knows what the state file is told of once a minute
    assert shown == printed


async def test_the_page_shows_hostile_names_as_text_and_no_secret(running: tuple[Daemon, Page]) -> None:
    status, body, headers = await running[1].get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.replace('<script src="/status.js" defer></script>', "").count("<script") == 0
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    for path in ("/", "/api/status", "/metrics", "/healthz"):
        text = (await running[1].get(path))[1]
        assert "paused-secret-path" not in text
        assert "user:1-abcdef" not in text


async def test_no_secret_is_shown_that_a_track_tells(running: tuple[Daemon, Page], api: Server) -> None:
    process, page = running
    telling = {"name": "by paused-secret-path", "audio_status_name": "at paused-secret-path"}
    api.reply(path_of(audio_id(2)), answer(track(2, **telling)))
    await process.logged("track.status_unknown")
    await api.until_count(path_of(audio_id(2)), len(api.to(path_of(audio_id(2)))) + 1)  # so it is kept
    status = json.loads((await page.get("/api/status"))[1])
    assert [(one["name"], one["status"]) for one in status["tracks"] if not one["final"]] == [
        ("by ***", "at ***")
    ]
    assert 'notifier_tracks{status="at ***"} 1.0' in (await page.get("/metrics"))[1]
    assert "secret-path" not in (await page.get("/"))[1]


async def test_every_answer_is_guarded_and_nothing_can_be_changed(running: tuple[Daemon, Page]) -> None:
    page = running[1]
    paths = ("/", "/?state=ready&page=2", "/status.css", "/status.js", "/icon.svg", "/healthz", "/api/status")
    for path in (*paths, "/metrics", "/nowhere"):
        status, _, headers = await page.get(path)
        assert status == (404 if path == "/nowhere" else 200)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
    status, _, headers = await page.get("/healthz", "POST")
    assert (status, headers["Allow"]) == (405, "GET,HEAD")
    for path in (*paths, "/events"):
        assert (await page.get(path, "HEAD"))[:2] == (200, "")
        assert (await page.get(path, "PUT"))[0] == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8720", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8720", 200),
        ("evil.example.com", 403),
        ("localhost.evil.example.com:8720", 403),
        ("", 403),
    ],
)
async def test_only_its_own_names_are_answered(running: tuple[Daemon, Page], host: str, status: int) -> None:
    assert (await running[1].get("/api/status", Host=host))[0] == status


async def test_a_reload_moves_the_listener_and_who_listened_is_told(
    running: tuple[Daemon, Page], tmp_path: Path
) -> None:
    process, page = running
    stream = await page.session.get(f"{page.url}/events")
    assert await stream.content.readuntil(b"\n\n") == b"retry: 3000\n\n"
    file = tmp_path / "watchlist.yaml"
    port = free_port()
    old = page.url.rpartition(":")[2]
    file.write_text(file.read_text().replace(f"http: 127.0.0.1:{old}", f"http: 127.0.0.1:{port}"))
    await process.logged("config.reloaded")
    page.url = f"http://127.0.0.1:{port}"
    assert (await page.get("/healthz"))[0] == 200
    await stream.content.read()  # to its end
    stream = await page.session.get(f"{page.url}/events")
    assert await stream.content.readuntil(b"\n\n") == b"retry: 3000\n\n"
    assert await process.stop() == 0
    await stream.content.read()


async def test_a_reload_to_a_taken_port_keeps_the_old_one_until_the_new_one_is_free(
    running: tuple[Daemon, Page], tmp_path: Path
) -> None:
    process, page = running
    file = tmp_path / "watchlist.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        old = page.url.rpartition(":")[2]
        file.write_text(file.read_text().replace(f"http: 127.0.0.1:{old}", f"http: 127.0.0.1:{port}"))
        (failed,) = await process.logged("http.failed")
        assert failed["error"].startswith(f"http: cannot listen on 127.0.0.1:{port}: ")
        assert (await page.get("/healthz"))[0] == 200
    page.url = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert (await page.get("/healthz"))[0] == 200
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def test_a_port_in_use_is_exit_75(tmp_path: Path, api: Server) -> None:
    file = tmp_path / "watchlist.yaml"
    host = api.url.removeprefix("http://")
    file.write_text(
        f"useapi: {{token: a}}\ntargets: {{}}\nwatch: []\nstate: {tmp_path}/state.db\nhttp: '{host}'\n"
    )
    file.chmod(0o600)
    code, _, err = await command("run", "-c", str(file))
    assert code == 75
    assert err.startswith(f"notifier: http: cannot listen on {host}: ")
