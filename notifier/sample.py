"""Invented events for templates to be tried on and for ``notifier test``; the vendor's documented example."""

from datetime import UTC, datetime, timedelta

from notifier.clock import to_rfc3339
from notifier.event import Event, EventType, TrackNews, track_event
from notifier.track import parse

AUDIO_ID = "user:12345-pixverse:you@example.com-music:11223344"
_FINISHED = datetime(2026, 6, 23, 12, 38, 20, 123000, tzinfo=UTC)
_TOOK = timedelta(minutes=3, seconds=24)
_NOTICED_AFTER = timedelta(seconds=2)

_COMMON = {
    "audio_id": AUDIO_ID,
    "asset_id": 11223344,
    "create_mode": "music",
    "provider": "minimax",
    "model": "music-2.6",
    "prompt": "A slow synthwave intro: warm pads, a distant saxophone, rain on the windows",
    "auto_lyrics": True,
    "name": "PixVerse_Music_11223344.mp3",
    "credits": 40,
}
_COMPLETED = {
    **_COMMON,
    "audio_status": 1,
    "status": "finish",
    "url": "https://media.pixverse.ai/pixverse/audio/music/11223344.mp3",
    "duration": 202,
    "audio_status_name": "COMPLETED",
    "audio_status_final": True,
}
_FAILED = {
    **_COMMON,
    "audio_status": 8,
    "fail_code": "music_generation_failed",
    "fail_reason": "The backend was busy and gave up on this track.",
    "audio_status_name": "FAILED",
    "audio_status_final": True,
}


def sample_event(
    *, is_completed: bool, event_type: EventType | None = None, detected_at: datetime = _FINISHED
) -> Event:
    """Return an invented event of a completed or a failed track, of its own type unless another is given."""
    fields = _COMPLETED if is_completed else _FAILED
    took = {"created_at": detected_at - _TOOK, "updated_at": detected_at - _NOTICED_AFTER}
    track = parse({**fields, **{field: to_rfc3339(moment) for field, moment in took.items()}})
    own_type = EventType.COMPLETED if is_completed else EventType.FAILED
    news = TrackNews(AUDIO_ID, "Sample track", track.status, "GENERATING", track)
    return track_event(event_type or own_type, news, detected_at)
