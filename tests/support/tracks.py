"""Answers of the API, after the vendor's documentation."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.servers import Received, Reply

MUSIC = "/v2/pixverse/music/"


def audio_id(number: int = 1, account: str = "me@example.com") -> str:
    """Return an audio_id."""
    return f"user:12345-pixverse:{account}-music:{number}"


def path_of(identifier: str) -> str:
    """Return the path that a track is read at."""
    return MUSIC + identifier


def track(number: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a track that is being made, with other fields on request."""
    return {
        "audio_id": audio_id(number),
        "asset_id": number,
        "audio_status": 10,
        "create_mode": "music",
        "provider": "minimax",
        "model": "music-2.6",
        "prompt": "warm pads",
        "name": f"PixVerse_Music_{number}.mp3",
        "credits": 40,
        "created_at": "2026-06-23T12:34:56Z",
        "updated_at": "2026-06-23T12:34:56Z",
        "audio_status_name": "GENERATING",
        "audio_status_final": False,
        **fields,
    }


def completed(number: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a track that is ready."""
    ready = {
        "audio_status": 1,
        "status": "finish",
        "url": f"https://media.pixverse.ai/pixverse/audio/music/{number}.mp3",
        "duration": 202,
        "updated_at": "2026-06-23T12:38:18Z",
        "audio_status_name": "COMPLETED",
        "audio_status_final": True,
    }
    return track(number, **{**ready, **fields})


def failed(number: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a track that failed."""
    ended = {
        "audio_status": 8,
        "audio_status_name": "FAILED",
        "audio_status_final": True,
        "fail_code": "music_generation_failed",
        "fail_reason": "The backend was busy",
    }
    return track(number, **{**ended, **fields})


def answer(fields: Any, status: int = 200) -> Reply:
    """Return the reply that carries some JSON."""
    return Reply(status=status, body=json.dumps(fields))


def not_found(identifier: str) -> Reply:
    """Return the documented 404."""
    return answer({"error": f"Music {identifier} not found"}, 404)


def listing(tracks: Sequence[Mapping[str, Any]], request: Received) -> Reply:
    """Return what the list of an account that has these, newest first, answers to a request."""
    return answer(page_of(tracks, request.query))


def page_of(tracks: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Return the page of a list that a query asks for."""
    limit, offset = int(query.get("limit", 50)), int(query.get("offset", 0))
    shown = tracks[offset : offset + limit]
    end = offset + len(shown)
    return {"data": [*shown], "next_offset": end, "has_more": end < len(tracks)}
