"""The names in the log: literals in the code, each with its level, and the same ones in README."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
ANY_LEVEL = "as it says"
"""What README has where the level is a library's."""


class Said(NamedTuple):
    name: str
    level: str
    where: str


def is_logger(node: ast.expr) -> bool:
    """Say whether an expression is a logger of structlog, as this code base calls and gets them."""
    match node:
        case ast.Name(id="log"):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="structlog"), attr="get_logger")):
            return True
    return False


def said(file: Path) -> Iterator[Said]:
    """Yield what a module says; a name that is not a literal, or a logger used otherwise, is a failure."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in LEVELS or not is_logger(node.value):
            continue
        where = f"{file.relative_to(ROOT)}:{node.lineno}"
        call = called.get(id(node))
        assert call is not None, f"{where}: a method of a logger that is not called where it stands"
        name = call.args[1 if node.attr == "log" else 0]
        assert isinstance(name, ast.Constant), f"{where}: a name that cannot be searched for"
        level = {"exception": "error", "log": ANY_LEVEL}.get(node.attr, node.attr)
        yield Said(str(name.value), level, where)


@cache
def levels_in_code() -> dict[str, set[str]]:
    levels: dict[str, set[str]] = defaultdict(set)
    for file in sorted((ROOT / "notifier").rglob("*.py")):
        for one in said(file):
            levels[one.name].add(one.level)
    return dict(levels)


def rows() -> list[list[str]]:
    """Return the rows of README's table of names."""
    section = README.partition("### What the log says\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_name_in_the_code_is_in_the_readme_with_its_level_and_no_other() -> None:
    listed = {name.strip("`"): set(level.split(", ")) for name, level, *_ in rows()}
    assert listed == levels_in_code()


def test_the_list_is_in_order_and_says_what_to_do_in_each_row() -> None:
    names = [row[0] for row in rows()]
    assert names == sorted(names)
    for row in rows():
        assert len(row) == 4
        assert all(row)


def test_a_name_is_a_thing_and_what_became_of_it() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in levels_in_code())


def test_names_that_symptoms_and_runbooks_quote_are_names_of_the_log() -> None:
    symptoms = README.partition("## When something is wrong\n")[2].partition("\n### ")[0]
    seen = " ".join(line.split(" | ")[0] for line in symptoms.splitlines())
    runbooks = (ROOT / "config/monitoring/prometheus-rules.yaml").read_text(encoding="utf-8")
    quoted = re.findall(r"`([a-z]+\.[a-z_]+)", seen) + re.findall(r"\b(?:daemon|loop)\.\w+", runbooks)
    assert quoted
    assert {*quoted} <= levels_in_code().keys()
