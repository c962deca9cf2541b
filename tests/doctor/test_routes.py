"""What would be sent where."""

import pytest

from notifier.doctor.finding import Health
from notifier.doctor.routes import routes
from tests.support.tracks import audio_id
from tests.support.watchlists import ENVIRONMENT, MINIMAL, loaded

TARGETS = f"""\
useapi: {{token: "${{env:TOKEN}}"}}
targets:
  band-room: {{type: slack, url: "${{env:SLACK_URL}}"}}
  studio: {{type: discord, url: "${{env:DISCORD_URL}}"}}
watch:
  - {{audio_id: '{audio_id(1)}', name: Intro theme}}
"""
MORE = "".join(f"  - '{audio_id(number)}'\n" for number in range(2, 10))


def said(text: str, *, resolve: bool = True) -> list[tuple[str, str]]:
    config = loaded(text, ENVIRONMENT, resolve=resolve).config
    return [(route.subject, route.detail) for route in routes(config)]


def test_a_watch_tells_its_events_to_its_targets() -> None:
    assert said(TARGETS) == [
        ("Intro theme", "completed, failed → band-room (slack), studio (discord)"),
        ("alerts", "the daemon's own trouble → nobody"),
    ]


def test_watches_that_are_alike_are_told_of_together() -> None:
    own = f"  - {{audio_id: '{audio_id(99)}', name: Own, notify: [studio], events: [stalled, completed]}}\n"
    assert said(f"{TARGETS}{own}{MORE}alerts: [studio]\n") == [
        (f"Intro theme, {audio_id(2)} and 7 more", "completed, failed → band-room (slack), studio (discord)"),
        ("Own", "completed, stalled → studio (discord)"),
        ("alerts", "the daemon's own trouble → studio (discord)"),
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_few_are_all_named(count: int) -> None:
    more = "".join(f"  - {{audio_id: '{audio_id(n)}', name: Track {n}}}\n" for n in range(2, count + 1))
    names = "Intro theme and Track 2" if count == 2 else "Intro theme, Track 2 and Track 3"
    assert said(TARGETS + more)[0][0] == names


@pytest.mark.parametrize(
    ("keys", "detail"),
    [("notify: []", "completed, failed → nobody"), ("events: []", "nothing → band-room (slack)")],
)
def test_a_watch_that_nobody_hears_of_is_worth_a_look(keys: str, detail: str) -> None:
    watch = f"watch: [{{audio_id: '{audio_id(1)}', {keys}}}]"
    route = next(iter(routes(loaded(MINIMAL.replace("watch: []", watch)).config)))
    assert (route.health, route.detail) == (Health.WARNING, detail)
    assert route.advice


def test_references_that_are_not_resolved_are_no_names() -> None:
    text = TARGETS.replace("name: Intro theme", 'name: "${env:NAME}"').replace(
        "type: slack", 'type: "${env:K}"'
    )
    assert said(text, resolve=False)[0] == (audio_id(1), "completed, failed → studio (discord)")
