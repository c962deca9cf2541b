"""A useapi.net with accounts of many tracks, which answers for each track and for lists as documented."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from notifier.useapi import account_of
from tests.support.servers import Received, Reply, Server
from tests.support.tracks import MUSIC, answer, audio_id, not_found, page_of, track

ME = "me@example.com"


class Catalogue:
    """What the API knows. `tracks` are in the order they were made in, lists have the newest first."""

    def __init__(self, api: Server, numbers: Iterable[int] = (), *, account: str = ME) -> None:
        self.tracks: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()
        """Tracks that no list shows."""
        self.list_replies: Callable[[Received], Reply | None] = lambda _request: None
        """What lists answer instead, if anything."""
        self.page_size = 50
        """How many entries a page holds at the most."""
        self._api = api
        for number in numbers:
            self.put(track(number), account=account)
        api.otherwise(self.reply)

    def put(self, fields: dict[str, Any], *, account: str = ME) -> str:
        """Let there be a track, or let it be another way; return its audio_id."""
        identifier = audio_id(fields["asset_id"], account)
        self.tracks[identifier] = {**fields, "audio_id": identifier}
        return identifier

    def of(self, account: str) -> list[dict[str, Any]]:
        """Return what the list of an account holds, the newest first."""
        shown = [identifier for identifier in self.tracks if identifier not in self.hidden]
        return [self.tracks[one] for one in reversed(shown) if account_of(one) == account]

    def reply(self, request: Received) -> Reply:
        """Answer a read of a track or of a list."""
        if request.path == MUSIC:
            account = request.query.get("email", ME)
            return self.list_replies(request) or self.page(self.of(account), request)
        identifier = request.path.removeprefix(MUSIC)
        found = self.tracks.get(identifier)
        return not_found(identifier) if found is None else answer(found)

    def page(self, tracks: Sequence[Mapping[str, Any]], request: Received) -> Reply:
        """Answer with a page of a list."""
        limit = min(self.page_size, int(request.query["limit"]))
        return answer(page_of(tracks, {**request.query, "limit": str(limit)}))

    def asked(self) -> list[str]:
        """Return what was asked for since the last time: numbers of tracks, and where pages begin, as +0."""
        asked = [
            f"+{request.query['offset']}" if request.path == MUSIC else request.path.rpartition(":")[2]
            for request in self._api.requests
        ]
        self._api.requests.clear()
        return asked
