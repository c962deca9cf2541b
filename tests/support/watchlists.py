"""Watchlists to start from, and what comes of reading them."""

import pytest

from notifier.loading import InvalidConfigError, Loaded, load_content
from notifier.secret import Sources
from notifier.targets import TYPES

ENVIRONMENT = {
    "TOKEN": "user:123-hunter2hunter2",
    "SLACK_URL": "https://hooks.slack.com/services/T0123/B4567/slackhunter2",
    "DISCORD_URL": "https://discord.com/api/webhooks/1234567890/discordhunter2",
    "HOOK_SECRET": "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==",
    "CALLBACK_PATH": "/hooks/useapi/9f3c-hunter2hunter2",
    "NEXT_SECRET": "whsec_aHVudGVyM2h1bnRlcjNodW50ZXIzaHVudGVyMw==",
}

MINIMAL = """\
useapi:
  token: ${env:TOKEN}
targets:
  band-room:
    type: slack
    url: ${env:SLACK_URL}
watch: []
"""

EVERYTHING = """\
useapi:
  token: ${env:TOKEN}
  base_url: https://useapi.example.com/v2/pixverse
  timeout: 20s
  concurrency: 16
  rate: 30/m

poll:
  interval: 12s
  max_interval: 10m
  missing_after: 4
  stalled_after: 1h30m
  list: never
  cadence: fixed

delivery:
  timeout: 2500ms
  first_retry: 1.5s
  max_retry: 2h
  give_up_after: 3d

targets:
  band-room:
    type: slack
    url: ${env:SLACK_URL}
    mention: ["user:U123ABC", here]
  studio:
    type: discord
    url: ${env:DISCORD_URL}
    username: Track bot
    mention: ["role:1234567890"]
  archive:
    type: webhook
    url: https://example.com/hooks/music
    secret: ["${env:HOOK_SECRET}", "${env:NEXT_SECRET}"]
    headers: {X-Team: music, X-Floor: 3}
    method: PUT
    body: |
      {"text": {{ (event.name ~ " is " ~ event.status) | tojson }}}
    concurrency: 2

defaults:
  notify: [band-room]
  events: [completed, failed, missing, stalled]

alerts: [studio]

watch:
  - audio_id: user:123-pixverse:me@example.com-music:456
    name: Intro theme
    notify: [band-room, studio]
    events: [completed]
    interval: 10s
  - user:123-pixverse:me+tag@example.com-music:789
  - account: me@example.com
    name: The band
    notify: [archive]
    events: [completed, stalled]
    interval: 30s
    models: [music-2.6, music-v1]
    match: [intro, "lo-fi * piano"]

state: /srv/notifier/state.db
http: {listen: "127.0.0.1:8720", hosts: [notifier.example.com]}
callback: {listen: "127.0.0.1:8721", path: "${env:CALLBACK_PATH}"}
log: {level: debug, format: logfmt}
"""
"""Every key there is. A type of target whose keys are those of another has no need to stand here."""

USEAPI = "useapi: {token: abc}\n"
TARGET = "targets: {a: {type: slack, url: 'https://hooks.slack.com/services/T/B/x'}}\n"
WATCH = "watch: []\n"
BASE = USEAPI + TARGET + WATCH
"""Three lines; what is added stands from line 4 on."""

A_TYPE = f"expected {', '.join(TYPES)}"
"""What is said where a type of target should stand."""

TRACK = "user:123-pixverse:me@example.com-music:456"


def loaded(
    text: str | bytes,
    environment: dict[str, str] | None = None,
    *,
    resolve: bool = True,
    is_public: bool = False,
) -> Loaded:
    """Read a file that must be valid, called ``w``."""
    content = text if isinstance(text, bytes) else text.encode()
    sources = Sources(ENVIRONMENT if environment is None else environment)
    return load_content(content, "w", resolve=resolve, sources=sources, is_public=is_public)


def mistakes(
    text: str | bytes, environment: dict[str, str] | None = None, *, resolve: bool = True
) -> list[str]:
    """Return what is wrong with a file that must be invalid."""
    with pytest.raises(InvalidConfigError) as caught:
        loaded(text, environment, resolve=resolve)
    return caught.value.lines()


def paths_of(lines: list[str]) -> list[str]:
    """Return which keys are complained about."""
    return [line.split(": ")[1] for line in lines]


def polling(text: str) -> str:
    """Write what is said of polling, from line 5 on."""
    return f"{BASE}poll:\n  {text}\n"


def webhook(keys: str) -> str:
    """Write a webhook whose keys begin in line 5."""
    indented = keys.replace("\n", "\n    ")
    return f"{USEAPI}{WATCH}targets:\n  a:\n    {indented}\n    type: webhook\n    url: https://example.com\n"


def watching(entry: str) -> str:
    """Write a watch whose entry begins in line 4, behind the dash."""
    return f"{USEAPI}{TARGET}watch:\n  - {entry}\n"
