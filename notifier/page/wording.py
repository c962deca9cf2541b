"""What the status page says: the state file, the watchlist and the daemon in words. Pure.

Everything foreign is cleaned and masked here, and escaped by the template.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from notifier import __version__
from notifier.clock import from_rfc3339, to_rfc3339
from notifier.config import AccountWatch, Config
from notifier.delivery import DeliveryState
from notifier.duration import ago, spell
from notifier.estimate import Experience, Left
from notifier.event import Alert, Event, EventType, TrackNews, track_event
from notifier.gate import GateState
from notifier.gatebook import API_GATE
from notifier.message import Message, Tone, compose
from notifier.page.catalogue import Catalogue, Query, Selection, Standing, outcome
from notifier.page.content import AccountView, Choice, DeliveryView, Moment, Page, TargetView, TrackView
from notifier.report import AWAY, account_status
from notifier.store import Backlog, Glance, StoredGate, Told, TrackLine
from notifier.text import clean, minutes, one_line, shorten
from notifier.track import Track
from notifier.usage import DAY, HOUR, NOTHING, Usage, of_the_last, rhythm, words

_LONGEST_NAME, _LONGEST_ANSWER, _LONGEST_PROMPT, _LONGEST_STATUS = 120, 300, 600, 24
_WORDS = {
    Standing.READY: ("ready", Tone.GOOD),
    Standing.FAILED: ("failed", Tone.BAD),
    Standing.MISSING: ("missing", Tone.BAD),
}
_EVENT = {
    Standing.READY: EventType.COMPLETED,
    Standing.FAILED: EventType.FAILED,
    Standing.MISSING: EventType.MISSING,
}
_TITLES = {
    None: "All",
    Standing.WORKING: "In progress",
    Standing.READY: "Ready",
    Standing.FAILED: "Failed",
    Standing.MISSING: "Missing",
    Standing.REMOVED: "Off the watchlist",
}
_STATES = {
    DeliveryState.DELIVERED: ("delivered", Tone.GOOD),
    DeliveryState.PENDING: ("waiting", Tone.WARNING),
    DeliveryState.DEAD: ("given up", Tone.BAD),
}
_FOLLOWED: tuple[str, Tone | None] = ("followed", Tone.GOOD)
_NOT_LOOKED_AT: tuple[str, Tone | None] = ("not looked at yet", None)
_NOT_READABLE: tuple[str, Tone | None] = ("not readable", Tone.WARNING)
_TONES = {GateState.OPEN: Tone.GOOD, GateState.WAITING: Tone.WARNING, GateState.PAUSED: Tone.BAD}


@dataclass(frozen=True, slots=True)
class Situation:
    """How the daemon is, beside what the state file says."""

    config: Config
    config_file: str
    config_error: str | None
    """The mistakes of the watchlist on the disk, when that is not the one in force."""
    loaded_at: datetime
    reasons: Sequence[str]
    """Why the daemon does not do its work."""
    degraded: Sequence[str]
    clock_offset: timedelta
    """By how much the API's clock is ahead of ours."""
    looked_at: Mapping[str, datetime] = field(default_factory=dict)
    """When the lists of accounts were last looked at."""
    mask: Callable[[str], str] = str
    """Takes out of a text what must not be shown."""
    counted: Usage = NOTHING
    """What this run has asked the API."""
    written: Usage = NOTHING
    """What of that the state file knows."""

    @property
    def mark(self) -> object:
        """What differs whenever something else would be shown of it."""
        return self.config_error, self.loaded_at, tuple(self.reasons), tuple(self.degraded)


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of the state file."""

    glance: Glance
    catalogue: Catalogue
    experience: Experience
    hours: Mapping[datetime, Usage]
    """What the API was asked, by the hour."""
    written: Usage
    """What of this run is in that."""


class View:
    """Puts what is known into words, at one moment."""

    def __init__(self, situation: Situation, known: Known, now: datetime) -> None:
        self._situation = situation
        self._known = known
        self._now = now
        self._mask = situation.mask

    def page(self, selection: Selection, tracks: Mapping[str, Track], stale: str | None) -> Page:
        """Return all that is shown."""
        situation, glance = self._situation, self._known.glance
        word, tone = self._verdict()
        api, api_tone = self._api(glance.gates.get(API_GATE))
        summary = self._summary()
        return Page(
            version=__version__,
            title=f"{summary} · pixverse-notifier" if tone is Tone.GOOD else f"{word} · pixverse-notifier",
            word=word,
            tone=tone,
            summary=summary,
            reasons=[self._line(reason) for reason in situation.reasons],
            degraded=[self._line(reason) for reason in situation.degraded],
            config_file=self._line(situation.config_file),
            config_error=None if situation.config_error is None else clean(situation.config_error),
            loaded=self._ago(situation.loaded_at),
            api=api,
            api_tone=api_tone,
            usage=self._usage(),
            choices=[*self._choices(selection.query)],
            selection=selection,
            tracks=[self._track(line, tracks.get(line.audio_id)) for line in selection.lines],
            accounts=[self._account(entry, glance) for entry in situation.config.accounts],
            targets=self._targets(glance),
            totals=Backlog.total(glance.backlogs.values()),
            recent=[self._delivery(told) for told in glance.recent],
            dead=[self._delivery(told) for told in glance.dead],
            stale=stale,
        )

    def _verdict(self) -> tuple[str, Tone]:
        if self._situation.reasons:
            return "Not working", Tone.BAD
        if self._situation.degraded or any(one.dead for one in self._known.glance.backlogs.values()):
            return "Needs attention", Tone.WARNING
        return "All is well", Tone.GOOD

    def _summary(self) -> str:
        catalogue = self._known.catalogue
        shown = (Standing.WORKING, Standing.READY, Standing.FAILED, Standing.MISSING)
        counts = [(catalogue.count(standing), _TITLES[standing].lower()) for standing in shown]
        return ", ".join(f"{count:,} {word}" for count, word in counts if count) or "no tracks"

    def _choices(self, query: Query) -> Sequence[Choice]:
        catalogue = self._known.catalogue
        counts = {standing: catalogue.count(standing) for standing in _TITLES}
        return [
            Choice(title, counts[each], query.href(state=each, page=None), each is query.standing)
            for each, title in _TITLES.items()
            if counts[each] or each in {None, query.standing}
        ]

    def _api(self, gate: StoredGate | None) -> tuple[str, Tone]:
        if gate is None or gate.is_open(self._now):
            return "answers", Tone.GOOD
        until = f", next try {self._in(gate.remaining(self._now))}" if gate.until is not None else ""
        return f"{gate.state}: {self._line(gate.reason or '')}{until}", _TONES[gate.state]

    def _usage(self) -> str | None:
        """Say how much the API is asked, if it was in the last day."""
        hours, unwritten = self._known.hours, self._situation.counted + self._known.written * -1
        if not of_the_last(DAY, hours, self._now) + unwritten:
            return None
        last_hour = of_the_last(HOUR, hours, self._now) + unwritten
        return words(last_hour, "in the last hour", rhythm(self._situation.config.intervals))

    def _track(self, line: TrackLine, track: Track | None) -> TrackView:
        standing, name = self._known.catalogue.standing(line), self._known.catalogue.name(line)
        ended = outcome(line)
        # NB: masked before it is cut, or half of a secret might be left
        news = TrackNews(line.audio_id, self._mask(name), line.status, None, self._masked(track))
        message = compose(track_event(_EVENT.get(ended, EventType.STALLED), news, self._now))
        word, tone = _WORDS.get(ended, (self._under_way(line), None))
        age = None if line.is_final else self._age(line, track)
        expected, progress = self._expected(track, age)
        return TrackView(
            key=_key("track", line.audio_id),
            name=self._line(name, _LONGEST_NAME) or self._line(line.audio_id),
            audio_id=self._line(line.audio_id),
            word=f"{word}, off the watchlist" if standing is Standing.REMOVED else word,
            tone=tone,
            since=self._ago(from_rfc3339(line.changed_at)) if line.changed_at and line.is_final else None,
            took=None if age is None else minutes(age.total_seconds()),
            expected=expected,
            progress=progress,
            facts=[(label, self._line(value)) for label, value in message.facts],
            detail=self._text(message.detail),
            prompt=self._text(message.prompt),
            url=self._url(message, track),
        )

    def _under_way(self, line: TrackLine) -> str:
        if not line.first_seen:
            return "not read yet"
        return shorten(self._mask(one_line(line.status)).lower(), _LONGEST_STATUS)

    def _age(self, line: TrackLine, track: Track | None) -> timedelta | None:
        """Return for how long a track is being made; None when it was never read."""
        if track is not None and track.created_at is not None:
            return max(timedelta(0), self._now + self._situation.clock_offset - track.created_at)
        if not line.first_seen:
            return None
        return max(timedelta(0), self._now - from_rfc3339(line.first_seen))

    def _expected(self, track: Track | None, age: timedelta | None) -> tuple[str | None, int | None]:
        if track is None or age is None:
            return None, None
        left = self._known.experience.time_left(track.text("model"), age)
        if left is None:
            return None, None
        return str(left), round(100 * (age / (age + left.about))) if isinstance(left, Left) else None

    def _masked(self, track: Track | None) -> Track | None:
        if track is None:
            return None
        fields = {
            key: self._mask(value) if isinstance(value, str) else value for key, value in track.fields.items()
        }
        return replace(track, fields=fields)

    def _url(self, message: Message, track: Track | None) -> str | None:
        """Return the audio's address unless it holds a secret of ours."""
        told = track.text("url") if track is not None else None
        return message.url if told is not None and self._mask(told) == told else None

    def _account(self, entry: AccountWatch, glance: Glance) -> AccountView:
        looked_at = self._situation.looked_at.get(entry.key)
        status = account_status(entry, glance.accounts.get(entry.key), looked_at, is_hopeless=False)
        word, tone = _FOLLOWED if status.looked_at else _NOT_LOOKED_AT
        if status.trouble:
            word, tone = _NOT_READABLE
        return AccountView(
            key=_key("account", entry.key),
            account=self._line(entry.account),
            name=None if status.name is None else self._line(status.name, _LONGEST_NAME),
            word=word,
            tone=tone,
            looked=self._ago(status.looked_at) if status.looked_at else None,
            found=status.found,
            last=self._ago(status.last_found) if status.last_found else None,
            under_way=status.under_way,
            trouble=self._line(status.trouble) if status.trouble else None,
        )

    def _targets(self, glance: Glance) -> list[TargetView]:
        configured = self._situation.config.targets
        gone = sorted(name for name in glance.backlogs if name not in configured)
        return [self._target(name, glance) for name in (*configured, *gone)]

    def _target(self, name: str, glance: Glance) -> TargetView:
        target = self._situation.config.targets.get(name)
        backlog = glance.backlogs.get(name, Backlog())
        word, reason, when, advice = "open", None, None, None
        tone: Tone | None = Tone.GOOD
        gate = glance.gates.get(name)
        if target is None:
            word, tone = "removed", Tone.WARNING if backlog.pending else None
            advice = AWAY if backlog.pending else None
        elif gate is not None and not gate.is_open(self._now):
            word, tone, reason = gate.state.value, _TONES[gate.state], self._line(gate.reason or "")
            when = self._since_or_until(gate)
            if gate.state is GateState.PAUSED:
                advice = f"after mending: notifier resume {name}"
        return TargetView(
            key=_key("target", name),
            name=self._line(name),
            type=target.type_name if target is not None else "",
            word=word,
            tone=tone,
            reason=reason,
            when=when,
            advice=advice,
            backlog=backlog,
            oldest=self._ago(backlog.oldest_pending) if backlog.oldest_pending else None,
        )

    def _since_or_until(self, gate: StoredGate) -> Moment:
        if gate.state is GateState.PAUSED:
            return Moment(f"for {ago(gate.since, self._now).removesuffix(' ago')}", to_rfc3339(gate.since))
        remaining = gate.remaining(self._now)
        return Moment(f"next try {self._in(remaining)}", to_rfc3339(self._now + remaining))

    def _in(self, wait: timedelta) -> str:
        return f"in {spell(wait)}" if wait >= timedelta(seconds=1) else "now"

    def _delivery(self, told: Told) -> DeliveryView:
        message = compose(self._masked_event(told.event))
        answer = told.answer or told.error or ""
        word, tone = _STATES[told.state]
        headline = (
            f"{message.headline}: {message.detail}" if told.event.audio_id is None else message.headline
        )
        return DeliveryView(
            key=_key(told.state, str(told.id)),
            id=told.id,
            headline=self._line(headline, _LONGEST_NAME * 2),
            tone=message.tone,
            target=self._line(told.target),
            word=word,
            state_tone=tone,
            at=self._ago(told.at),
            tries=f"{told.attempt_count} tries" if told.attempt_count > 1 else None,
            status=told.status,
            answer=self._line(answer, _LONGEST_ANSWER) or None,
        )

    def _masked_event(self, event: Event) -> Event:
        match event.about:
            case TrackNews() as news:
                name, status = self._mask(news.name), self._mask(news.status)
                return replace(event, about=replace(news, name=name, status=status), stored_data=None)
            case Alert() as alert:
                return replace(
                    event, about=replace(alert, summary=self._mask(alert.summary)), stored_data=None
                )

    def _ago(self, moment: datetime) -> Moment:
        age = self._now - moment
        return Moment(
            "just now" if age < timedelta(seconds=5) else ago(moment, self._now), to_rfc3339(moment)
        )

    def _line(self, text: str, limit: int = 500) -> str:
        return shorten(self._mask(one_line(text)), limit)

    def _text(self, text: str | None) -> str | None:
        return None if text is None else shorten(self._mask(text), _LONGEST_PROMPT)


def _key(kind: str, name: str) -> str:
    """Return an HTML id that stays the same while a thing is shown."""
    return f"{kind}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"
