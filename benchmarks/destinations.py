"""Runs the tests of changes on every destination that is promised; docs/destinations.md tells what came out."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from outcome import ROOT, Outcome, Place, outcome_of

from prefect_runs_pipelines.local.environments import environment_python

# those that a destination can make fail: late ends, retries, forced changes, deletes, repairs, odd texts and numbers
TESTS = tuple(
    f"tests/test_{name}.py"
    for name in ("changes", "tombstones", "lost_runs", "unchanged", "backfill", "verify", "kills", "real_flows")
)
# what the environments of single destinations hold, in the form of pip's constraints
PINS = Path(__file__).with_name("environments")
PLACE = Place(ROOT / "docs" / "destinations.md", "make destinations")


@dataclass(frozen=True)
class Target:
    """A destination to run on.

    Attributes:
        name: as `PREFECT_RUNS_TEST_DESTINATION` takes it.
        requirements: what its environment holds besides the project, with the versions of `environments/<name>.txt`;
            none for one that needs no other environment than this.
    """

    name: str
    title: str
    requirements: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        """The Python that runs its tests."""
        if not self.requirements:
            return sys.executable
        # the project is installed as it stands here, so every clone has an environment of its own
        clone = hashlib.sha256(str(ROOT).encode() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()[:6]
        project = ("-e", f"{ROOT}[dev]")
        return str(environment_python(f"{self.name}-{clone}", str(PINS / self.name), *project, *self.requirements))


TARGETS = (
    Target("duckdb", "DuckDB"),
    Target("postgresql", "PostgreSQL"),
    Target("sqlite", "SQLite, through SQLAlchemy"),
    Target("parquet", "parquet files"),
    Target("delta", "Delta tables on a filesystem"),
    Target("iceberg", "Iceberg tables on a filesystem"),
    Target(
        "ducklake",
        "DuckLake, catalogue in PostgreSQL",
        ("duckdb-extensions", "duckdb-extension-ducklake", "duckdb-extension-postgres-scanner"),
    ),
)


HEAD = ("destination", "passed", "failed", "not run or known to fail", "seconds", "run on")


def row(target: Target, tests: Outcome) -> str:
    """What came out on one destination, as a line of the table."""
    reasons = "; ".join(f"{number}: {why}" for why, number in sorted(tests.reasons.items())) or "0"
    cells = (target.title, str(tests.passed), str(tests.failed), reasons, f"{tests.seconds:.0f}", str(date.today()))
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[str]) -> str:
    """The rows as Markdown, in the order of `TARGETS`; the last of a destination counts."""
    last = {line.split(" | ")[0].removeprefix("| "): line for line in rows}
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *(last[target.title] for target in TARGETS if target.title in last)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and write each row when its destination is done; 1 when anything failed on any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[target.name for target in TARGETS], help="one of them")
    only = parser.parse_args(arguments).only
    results = []
    for target in TARGETS:
        if only in (None, target.name):
            print(f"\n== {target.title}", flush=True)
            results.append(outcome_of(TESTS, {"PREFECT_RUNS_TEST_DESTINATION": target.name}, target.python))
            PLACE.write(table([*PLACE.rows(), row(target, results[-1])]))
            print(f"\n{table([row(target, results[-1])])}", flush=True)
    return 0 if all(tests.good for tests in results) else 1


if __name__ == "__main__":
    sys.exit(main())
