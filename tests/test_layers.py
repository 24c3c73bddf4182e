"""Imports go down only, as CONTRIBUTING.md draws it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE, PIPELINES = ROOT / "sources" / "prefect_runs", ROOT / "pipelines"
# what a person types, and what Prefect runs
COMMAND = ("cli", "command", "demo", "prefect_flow")
CLIENT = "prefect_runs.client"
BELOW_THE_CLIENT = (
    "clock",
    "credentials",
    "exceptions",
    "pace",
    "paging",
    "prefect_settings",
    "replies",
    "unanswered",
    "urls",
)
DESTINATION = "prefect_runs_pipelines.destination"
# what a destination is told, and what is hidden of its errors
BESIDE_THE_DESTINATION = ("prefect_runs_pipelines.options", "prefect_runs_pipelines.redacted")


def modules(package: str, folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(folder.rglob("*.py")):
        parts = (package, *file.relative_to(folder).with_suffix("").parts)
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(file.read_text())


MODULES = dict([*modules("prefect_runs", SOURCE), *modules("prefect_runs_pipelines", PIPELINES)])


def imported(name: str, tree: ast.Module, deferred: bool) -> set[str]:
    """Modules of this project that a module imports from; `deferred`: those too that it imports when it needs them."""
    package = name if any(other.startswith(f"{name}.") for other in MODULES) else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree) if deferred else tree.body:
        if isinstance(node, ast.ImportFrom):
            up = package.rsplit(".", node.level - 1)[0] if node.level else ""
            of = ".".join(filter(None, (up, node.module)))
            found.update(f"{of}.{alias.name}" if f"{of}.{alias.name}" in MODULES else of for alias in node.names)
    return {module for module in found if module in MODULES and module != name}


def all_below(name: str, graph: Mapping[str, set[str]]) -> set[str]:
    below: set[str] = set()
    todo = [name]
    while todo:
        new = graph[todo.pop()] - below
        below |= new
        todo += new
    return below


DEFERRED_TOO = {name: imported(name, tree, True) for name, tree in MODULES.items()}
OF_SOURCE = {name for name in MODULES if name.partition(".")[0] == "prefect_runs"}
AT_ONCE = {name: imported(name, tree, False) for name, tree in MODULES.items()}


def test_no_module_imports_what_imports_it() -> None:
    assert len(list(TopologicalSorter(AT_ONCE).static_order())) > 100


def test_the_source_knows_nothing_of_the_pipelines() -> None:
    """`dlt init` copies it alone."""
    assert {(name, other) for name in OF_SOURCE for other in DEFERRED_TOO[name] - OF_SOURCE} == set()


def test_nothing_below_knows_of_the_command() -> None:
    commands = {name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in COMMAND}
    assert len(commands) > 10
    assert {(name, other) for name in MODULES.keys() - commands for other in DEFERRED_TOO[name] & commands} == set()


def test_the_client_knows_of_nothing_that_reads() -> None:
    assert all_below(CLIENT, DEFERRED_TOO) == {f"prefect_runs.{name}" for name in BELOW_THE_CLIENT}


def test_what_is_of_the_destination_knows_nothing_of_the_pipelines() -> None:
    for name in MODULES:
        if name.startswith(DESTINATION):
            others = {other for other in DEFERRED_TOO[name] if other.startswith("prefect_runs_pipelines.")}
            above = {other for other in others if not other.startswith(DESTINATION)}
            assert above <= {*BESIDE_THE_DESTINATION}, name


# a screen is pure too, of reports whose types it names
PURE = [
    name for name in sorted(OF_SOURCE) if re.search(r"\bpure\b", ast.get_docstring(MODULES[name]) or "", re.IGNORECASE)
]


def test_window_arithmetic_and_the_shaping_of_rows_are_pure() -> None:
    assert {"prefect_runs.windows", "prefect_runs.rows", "prefect_runs.chains", "prefect_runs.news"} <= {*PURE}


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_reaches_no_client(name: str) -> None:
    assert CLIENT not in all_below(name, DEFERRED_TOO)
