"""What would be sent where: the watches that tell the same events to the same targets, together."""

from collections.abc import Iterator, Sequence

from notifier.config import AccountWatch, Config, Watch
from notifier.doctor.finding import Check, Finding, Health
from notifier.document import Scalar
from notifier.event import EVENTS

_MOST_NAMED = 3


def routes(config: Config) -> Iterator[Finding]:
    """Yield a finding for all watches that are alike, and one for the daemon's own trouble."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Watch | AccountWatch]] = {}
    for watch in config.watch:
        told = config.events_of(watch)
        events = tuple(name for name, event in EVENTS.items() if event in told)
        alike.setdefault((events, config.notified(watch)), []).append(watch)
    for (events, targets), watches in alike.items():
        yield _route(config, events, targets, [label(watch) for watch in watches])
    yield _alerts(config)


def label(watch: Watch | AccountWatch) -> str:
    """Return what an entry is called; by what it watches where its name is a reference, not resolved."""
    watched = watch.account if isinstance(watch, AccountWatch) else watch.audio_id
    return watched if watch.name is None or isinstance(watch.name, Scalar) else watch.name


def _route(config: Config, events: Sequence[str], targets: Sequence[str], names: Sequence[str]) -> Finding:
    what = ", ".join(events) or "nothing"
    if not targets or not events:
        advice = "name targets in its `notify`, and events in its `events`"
        return Finding(Check.ROUTE, _sum(names), Health.WARNING, f"{what} → {_to(config, targets)}", advice)
    return Finding(Check.ROUTE, _sum(names), Health.OK, f"{what} → {_to(config, targets)}")


def _alerts(config: Config) -> Finding:
    advice = "" if config.alerts else "`alerts: [TARGET]` in the watchlist tells somebody"
    detail = f"the daemon's own trouble → {_to(config, config.alerts)}"
    return Finding(Check.ROUTE, "alerts", Health.OK, detail, advice)


def _to(config: Config, targets: Sequence[str]) -> str:
    return ", ".join(f"{name} ({_type(config, name)})" for name in targets) or "nobody"


def _type(config: Config, name: str) -> str:
    """Return a target's type; one whose type is a reference that is not resolved is left out of a config."""
    return config.targets[name].type_name if name in config.targets else "?"


def _sum(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    if len(names) <= _MOST_NAMED:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[: _MOST_NAMED - 1])} and {len(names) - _MOST_NAMED + 1:,} more"
