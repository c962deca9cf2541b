"""The alert rules that ship: right by promtool, true to the daemon, and of use at three in the morning."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.expressions import assert_shown, selectors
from tests.monitoring.history import History
from tests.support.machine import needs

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "config/monitoring/prometheus-rules.yaml"
TESTS = Path(__file__).with_name("prometheus-rules.test.yaml")
README = (ROOT / "README.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]

each = pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])


def promtool(*arguments: str) -> None:
    needs("promtool")
    ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(FILE))


def test_the_job_that_the_readme_shows_is_the_one_that_the_rules_go_by(tmp_path: Path) -> None:
    (shown,) = [block for block in re.findall(r"```text\n(.*?)```", README, re.DOTALL) if "job_name" in block]
    file = tmp_path / "prometheus.yml"
    file.write_text(shown.replace("/etc/prometheus/pixverse-notifier.yaml", str(FILE)))
    promtool("check", "config", str(file))
    (job,) = yaml.safe_load(shown)["scrape_configs"]
    assert {*re.findall(r'job="([^"]*)"', FILE.read_text(encoding="utf-8"))} == {job["job_name"]}


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", str(TESTS))


def test_the_cases_have_every_alert_firing_and_over() -> None:
    cases = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    fired = set()
    for case in cases:
        states = [
            {re.findall(r'alertname="(\w+)"', one["labels"])[0] for one in check["exp_samples"]}
            for check in case["promql_expr_test"]
        ]
        assert set() in states, "no alert is there all the time"
        fired |= set().union(*states)
    assert fired == {rule["alert"] for rule in RULES}


@each
def test_an_alert_asks_for_what_the_daemon_shows(rule: dict[str, Any], seen: History) -> None:
    assert_shown(rule["expr"], seen.end)


@each
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook"}
    assert len(annotations["summary"]) < 80
    headings = re.findall(r'README\.md,\s+"([^"]+)"', annotations["runbook"])
    assert headings, "where is more about it?"
    for heading in headings:
        assert f"\n## {heading}\n" in README or f"\n### {heading}\n" in README


@each
def test_what_an_annotation_quotes_is_there(rule: dict[str, Any], seen: History) -> None:
    quoted = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    own = {
        label
        for metric, _ in selectors(rule["expr"])
        for sample in seen.end.samples
        if sample.name == metric
        for label in sample.labels
    }
    assert quoted <= own | {"job", "instance"}
