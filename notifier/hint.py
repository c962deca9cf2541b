"""What a call of the API's `replyUrl` says: which tracks it may be about, and what comes of that.

Pure. The shape of such a call is not published and nobody signs it, so whatever it says is a reason to look
and nothing more: https://useapi.net/docs/api-pixverse-v2/post-pixverse-music-create.
"""

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from urllib.parse import parse_qsl

from notifier.settings import is_audio_id
from notifier.track import read_json

_MOST_TRACKS = 10
"""How many tracks of one call are looked after: it is sent for one."""
_MOST_FIELDS = 50


class Heard(StrEnum):
    """What came of a call, or of each track that it names; the words that calls are counted by."""

    READ = "read"
    LOOKED = "looked"
    FINISHED = "finished"
    UNKNOWN = "unknown"
    UNUSABLE = "unusable"
    DROPPED = "dropped"
    REFUSED = "refused"


def tracks_in(body: bytes) -> tuple[str, ...]:
    """Return the audio_ids that are texts of their own anywhere in JSON or a form, the outer ones first."""
    found = (text for text in _texts(body.decode("utf-8", "replace")) if is_audio_id(text))
    return tuple(islice(dict.fromkeys(found), _MOST_TRACKS))


def _texts(written: str) -> Iterator[str]:
    try:
        yield from _members(read_json(written))
    except (ValueError, RecursionError):
        yield from _fields(written)


def _fields(written: str) -> Iterator[str]:
    """Yield the values of a form, and what those hold that are JSON themselves."""
    try:
        fields = parse_qsl(written, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return
    for _, value in fields:
        try:
            yield from _members(read_json(value))
        except (ValueError, RecursionError):
            yield value


def _members(decoded: object) -> Iterator[str]:
    waiting = deque([decoded])
    while waiting:
        match waiting.popleft():
            case str(text):
                yield text
            case dict() as members:
                waiting.extend(members.values())
            case list() as members:
                waiting.extend(members)
