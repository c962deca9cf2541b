"""PromQL as far as these tests have to understand it: which metrics with which labels an expression names."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.monitoring.history import Scrape

OF_PROMETHEUS = {"job", "instance", "le"}
"""What labels Prometheus itself adds, or takes away."""
_SELECTOR = re.compile(r"\b(up|(?:notifier|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")


class Selector(NamedTuple):
    metric: str
    labels: dict[str, str]


def selectors(expression: str) -> Iterator[Selector]:
    """Yield what is selected."""
    for metric, matchers in _SELECTOR.findall(expression):
        yield Selector(metric, dict(_MATCHER.findall(matchers)))


def grouped_by(expression: str) -> set[str]:
    """Return the labels that an expression groups or joins by."""
    return {name.strip() for group in _GROUPING.findall(expression) for name in group.split(",")}


def assert_shown(expression: str, scrape: Scrape) -> None:
    """Hold that all that an expression asks for is what the daemon shows."""
    known = set(OF_PROMETHEUS)
    assert [*selectors(expression)], f"no metric in {expression}"
    for metric, labels in selectors(expression):
        if metric == "up":
            continue
        shown = [sample.labels for sample in scrape.samples if sample.name == metric]
        assert shown, f"the daemon shows no {metric}"
        known |= shown[0].keys()
        for label, values in labels.items():
            if label not in OF_PROMETHEUS:
                seen = {one[label] for one in shown}
                assert {*values.split("|")} <= seen, f"{metric} has no {label} {values}, but {seen}"
    assert grouped_by(expression) <= known, f"unknown labels in {expression}"
