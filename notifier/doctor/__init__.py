"""``notifier doctor``: whether what the watchlist says would work, found out without disturbing anybody.

It asks little of the API, sends no message, takes no lock and writes nothing, so that it may be run at any
time beside the daemon. What it finds is one `Finding` for each thing looked at.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from notifier import loading, paths
from notifier.clock import Clock, SystemClock
from notifier.config import Config
from notifier.doctor import credentials
from notifier.doctor.callers import callers
from notifier.doctor.finding import Check, Finding, Health
from notifier.doctor.receivers import receivers
from notifier.doctor.routes import routes
from notifier.doctor.storage import Remembered, storage
from notifier.doctor.upstream import Limits, upstream
from notifier.loading import InvalidConfigError, Loaded
from notifier.secret import Masker
from notifier.settings import Unresolved
from notifier.usage import DAY, HOUR, of_the_last, rhythm, words

_UNRESOLVED = "its secrets could not be read"


async def examine(
    file: str, state_file: str | None, *, limits: Limits, clock: Clock | None = None
) -> list[Finding]:
    """Look at everything that a watchlist names and return what was found, in the order of looking."""
    clock = clock or SystemClock()
    sources = credentials.sources(os.environ)
    try:
        loaded, error = loading.load(file, sources=sources), None
    except InvalidConfigError as found:
        loaded, error = None, found
    config = loaded.config if loaded is not None else _unresolved(file)
    findings = [*_config(file, config, loaded, error), *credentials.credentials(sources)]
    of_storage, remembered = await _storage(config, state_file)
    findings += of_storage
    if loaded is not None:
        findings += await _others(loaded, remembered, limits, clock)
        findings += await callers(loaded.config.callback, is_running=_is_running(of_storage))
    elif config is not None:
        findings.append(Finding(Check.TOKEN, "useapi.net", Health.SKIPPED, f"not asked: {_UNRESOLVED}"))
        skipped = f"not asked: {_UNRESOLVED}"
        findings += (Finding(Check.TARGET, name, Health.SKIPPED, skipped) for name in config.targets)
    if config is not None:
        findings += [*_usage(config, remembered, clock.now()), *routes(config)]
    mask = Masker(loaded.secrets if loaded is not None else ()).mask
    return [_masked(one, mask) for one in findings]


def _masked(found: Finding, mask: Callable[[str], str]) -> Finding:
    """Return a finding without secrets, whoever has put them into the words or the names of tracks.

    What it is about is ours, and by it people find the file or the entry.
    """
    name, detail, advice = mask(found.name), mask(found.detail), mask(found.advice)
    return replace(found, name=name, detail=detail, advice=advice)


def _unresolved(file: str) -> Config | None:
    """Return what the watchlist says beside its secrets, if no more than these are wrong."""
    try:
        return loading.load(file, resolve=False).config
    except InvalidConfigError:
        return None


def _config(
    file: str, config: Config | None, loaded: Loaded | None, error: InvalidConfigError | None
) -> Iterator[Finding]:
    if error is not None:
        advice = _advice(error, is_only_unresolved=config is not None)
        for line in error.lines():
            yield Finding(Check.CONFIG, file, Health.FAILED, line.removeprefix(f"{file}:"), advice)
    elif loaded is not None:
        config = loaded.config
        watches, targets = len(config.tracks), len(config.targets)
        accounts = f", {_count(len(config.accounts), 'account')}" if config.accounts else ""
        counts = f"{_count(watches, 'watch')}{accounts}, {_count(targets, 'target')}"
        detail = f"valid, its secrets are there: {counts}"
        yield Finding(Check.CONFIG, file, Health.OK, detail)
        for warning in loaded.warnings:
            line = warning.line(file).removeprefix(f"{file}:")
            yield Finding(Check.CONFIG, file, Health.WARNING, line)


def _usage(config: Config, remembered: Remembered, now: datetime) -> Iterator[Finding]:
    """Yield how much the daemon has asked the API, and what that saves."""
    if remembered.usage:
        how = rhythm(config.intervals)
        hour = words(of_the_last(HOUR, remembered.usage, now), "in the last hour", how)
        day = words(of_the_last(DAY, remembered.usage, now), "in the last day", how)
        yield Finding(Check.USAGE, "useapi.net", Health.OK, f"{hour}; {day}")


def _is_running(findings: list[Finding]) -> bool:
    return any(one.check is Check.DAEMON and one.health is Health.OK for one in findings)


def _advice(error: InvalidConfigError, *, is_only_unresolved: bool) -> str:
    said = "\n".join(error.lines())
    if ": cannot be read: Permission denied" in said:
        return "ask as root: sudo notifier doctor"
    if not is_only_unresolved:
        return "mend it: a daemon does not start with it, and one that runs keeps to what it has read before"
    if credentials.ENVIRONMENT_FILE.exists() and "the environment variable" in said:
        return f"where it is set in {credentials.ENVIRONMENT_FILE}, ask so: {_WITH_ENVIRONMENT}"
    return "provide it, or correct the reference"


_WITH_ENVIRONMENT = (
    "sudo systemd-run --quiet --pipe --wait"
    f" -p EnvironmentFile={credentials.ENVIRONMENT_FILE} notifier doctor"
)


def _count(number: int, noun: str) -> str:
    plural = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{plural}"


async def _storage(config: Config | None, state_file: str | None) -> tuple[list[Finding], Remembered]:
    configured = config.state if config is not None else None
    if isinstance(configured, Unresolved) and state_file is None:
        detail = "the reference in state: leads nowhere here"
        finding = Finding(Check.STATE, "state", Health.FAILED, detail, "name it: --state-file PATH")
        return [finding], Remembered()
    return await storage(Path(paths.state_file(state_file, configured)))


async def _others(loaded: Loaded, remembered: Remembered, limits: Limits, clock: Clock) -> list[Finding]:
    """Ask the API and the targets at the same time."""
    config = loaded.config
    of_api, of_targets = await asyncio.gather(
        upstream(config, remembered, limits=limits, clock=clock),
        receivers(
            config.targets,
            remembered,
            timeout=config.delivery.timeout,
            masker=Masker(loaded.secrets),
            clock=clock,
        ),
    )
    return [*of_api, *of_targets]


__all__ = ["Check", "Finding", "Health", "Limits", "examine"]
