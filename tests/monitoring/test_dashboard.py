"""The dashboard that ships: whoever imports it sees something in every panel."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring.expressions import assert_shown, grouped_by, selectors
from tests.monitoring.history import History
from tests.support.machine import needs

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "config/monitoring/grafana-dashboard.json").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads(TEXT)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel, target) for panel in PANELS for target in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


def plain(expression: str) -> str:
    """Put in what Grafana would."""
    for name, value in {"$__rate_interval": "5m", "$job": "notifier", "$instance": ".*"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def test_promtool_understands_every_expression(tmp_path: Path) -> None:
    needs("promtool")
    rules = [
        {"record": f"panel:{panel['id']}:{target['refId']}", "expr": plain(target["expr"])}
        for panel, target in QUERIES
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    ended = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr


def test_every_panel_asks_for_what_the_daemon_shows(seen: History) -> None:
    for _, target in QUERIES:
        assert_shown(target["expr"], seen.end)
        for _, labels in selectors(target["expr"]):
            assert {"job", "instance"} <= labels.keys(), "an installation sees only its own"


def test_every_metric_is_on_the_dashboard(seen: History) -> None:
    asked = {re.sub("_bucket$", "", one.metric) for _, target in QUERIES for one in selectors(target["expr"])}
    families = {name: one for name, one in seen.end.families.items() if name.startswith("notifier_")}
    shown = {f"{name}_total" if one.type == "counter" else name for name, one in families.items()}
    assert shown <= asked


def test_a_legend_shows_labels_that_are_left() -> None:
    for _, target in QUERIES:
        left = grouped_by(target["expr"]) or {"instance", "job", "version"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left


def test_nothing_of_any_installation_is_in_it() -> None:
    sources = [panel["datasource"] for panel in PANELS] + [target["datasource"] for _, target in QUERIES]
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    sources += [variable["datasource"] for variable in variables.values() if "datasource" in variable]
    assert all(source == SOURCE for source in sources)
    assert variables.keys() == {"datasource", "job", "instance"}
    assert variables["datasource"]["query"] == "prometheus"
    assert "id" not in DASHBOARD, "Grafana gives it one"
    assert not re.search(r"https?://|localhost|\d+\.\d+\.\d+\.\d+|:\d{4}\b", TEXT)


def test_every_panel_has_an_id_a_title_a_meaning_and_a_unit() -> None:
    ids = Counter(panel["id"] for panel in DASHBOARD["panels"])
    titles = Counter(panel["title"] for panel in DASHBOARD["panels"])
    assert set(ids.values()) == set(titles.values()) == {1}
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < WIDTH
        assert not cells & taken, panel["title"]
        taken |= cells
