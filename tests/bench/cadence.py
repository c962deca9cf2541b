"""What the cadence that learns costs and how late it is, beside reads at the interval, on the same tracks.

A simulation: nothing is measured, and the same seed comes to the same figures on every machine.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from tests.support.lifetimes import CHANGING, INTERVAL, LEARNABLE, UNFORESEEABLE, Cost, Draw, Told, cost, told

_FRESH = 20
"""How many tracks of a run are its fresh start."""
_AFTER = 50
"""How many tracks behind a change are its aftermath."""
_KINDS = {
    "can be learned": LEARNABLE,
    "cannot be foreseen": UNFORESEEABLE,
    "changes half-way": CHANGING,
}


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one case: of all tracks, the first, the later half, and those behind a change."""

    case: str
    kind: str
    whole: Cost
    fresh: Cost
    later: Cost
    aftermath: Cost | None


def row(case: str, kind: str, draw: Draw, *, tracks: int, seeds: int, interval: float) -> Row:
    """Go through a case with some seeds."""
    runs = [told(draw, count=tracks, seed=seed, interval=interval) for seed in range(1, seeds + 1)]
    half = tracks // 2
    return Row(
        case,
        kind,
        _of(runs, slice(None)),
        _of(runs, slice(_FRESH)),
        _of(runs, slice(half, None)),
        _of(runs, slice(half, half + _AFTER)) if draw in CHANGING.values() else None,
    )


def _of(runs: Sequence[Sequence[Told]], part: slice) -> Cost:
    return cost([one for run in runs for one in run[part]])


_HEAD = (
    ("", "requests a track", "mean lag, s", "p95, s", f"first {_FRESH}", "later half"),
    ("", "fixed learned ratio", "fixed learned", "fixed learned", "ratio  lag", "ratio  lag"),
)
_WIDTHS = (26, 22, 16, 16, 18, 18)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    for cells in _HEAD:
        yield "".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    for kind in _KINDS:
        yield kind
        for one in rows:
            if one.kind == kind:
                yield _line(one)
                if one.aftermath is not None:
                    yield _aftermath(one.aftermath)


def _line(one: Row) -> str:
    whole = one.whole
    return (
        f"  {one.case:24}{whole.fixed_requests:9.1f}{whole.requests:8.1f}{whole.ratio:5.0%}"
        f"{whole.fixed_lag:9.1f}{whole.lag:7.1f}{whole.fixed_p95:9.1f}{whole.p95:7.1f}"
        f"{one.fresh.ratio:8.0%} {_lags(one.fresh)}{one.later.ratio:8.0%} {_lags(one.later)}"
    )


def _aftermath(after: Cost) -> str:
    requests, lags = f"{after.ratio:.0%} of the requests", _lags(after).strip()
    return f"    the {_AFTER} tracks behind the change: {requests}, lag {lags}"


def _lags(of: Cost) -> str:
    return f"{f'{of.lag:.1f}/{of.fixed_lag:.1f}':>9}"


@click.command
@click.option("--tracks", default=500, show_default=True, type=click.IntRange(2 * _FRESH))
@click.option("--seeds", default=4, show_default=True, type=click.IntRange(1))
@click.option("--interval", default=INTERVAL, show_default=True, type=click.FloatRange(0.1))
def cadence(tracks: int, seeds: int, interval: float) -> None:
    """Simulate tracks that end after times of many kinds; compare learned reads with fixed ones."""
    rows = [
        row(case, kind, draw, tracks=tracks, seeds=seeds, interval=interval)
        for kind, cases in _KINDS.items()
        for case, draw in cases.items()
    ]
    for line in _table(rows):
        print(line)
    settings = {"bench": "cadence", "tracks": tracks, "seeds": seeds, "interval_s": interval}
    print(json.dumps({**settings, "cases": {one.case: _figures(one) for one in rows}}))


def _figures(one: Row) -> dict[str, dict[str, float]]:
    parts = {"whole": one.whole, "first": one.fresh, "later": one.later}
    if one.aftermath is not None:
        parts["behind the change"] = one.aftermath
    return {name: _numbers(of) for name, of in parts.items()}


def _numbers(of: Cost) -> dict[str, float]:
    return {
        "requests": round(of.requests, 2),
        "fixed_requests": round(of.fixed_requests, 2),
        "ratio": round(of.ratio, 3),
        "lag_s": round(of.lag, 2),
        "fixed_lag_s": round(of.fixed_lag, 2),
        "p95_s": round(of.p95, 1),
        "fixed_p95_s": round(of.fixed_p95, 1),
    }
