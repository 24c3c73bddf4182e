"""Runs the tests of changes against every server that is promised, and writes what came out into the README."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outcome import ROOT, Notes, Outcome, Place, outcome_of

SOAK = Path(__file__).with_name("soak.py")
SOAK_MINUTES = "1"

# those that a server's version or database can make fail
TESTS = ("tests/test_changes.py", "tests/test_real_flows.py")

PLACE = Place(ROOT / "README.md", "make matrix")
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Target:
    """A server to run against."""

    version: str
    database: str

    def __str__(self) -> str:
        return f"Prefect {self.version} on {DATABASES[self.database]}"


TARGETS = (
    Target("3.8.8", "sqlite"),
    Target("3.8.8", "postgresql"),
    Target("3.4.25", "sqlite"),
    Target("3.0.11", "sqlite"),
)


@dataclass
class Result:
    """What came out on one server. `soaked` is None where no soak was run."""

    target: Target
    tests: Outcome
    soaked: bool | None = None

    @property
    def good(self) -> bool:
        return self.tests.good and self.soaked is not False


def run(target: Target) -> Result:
    """Run the tests, then a short soak, on one server; their output goes to the terminal."""
    chosen = {"PREFECT_RUNS_TEST_SERVER": target.version, "PREFECT_RUNS_TEST_DATABASE": target.database}
    result = Result(target, outcome_of(TESTS, chosen))
    # what else is run for every server has its place here
    if SOAK.exists():
        soak = ["--minutes", SOAK_MINUTES, "--server", target.version, "--database", target.database]
        result.soaked = subprocess.run([sys.executable, str(SOAK), *soak], cwd=ROOT, check=False).returncode == 0
    return result


def table(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    lines = ["| server | database | Python | passed | failed | not run or known to fail | soak |", "|" + "---|" * 7]
    notes = Notes()
    for result in results:
        cells = [
            result.target.version,
            DATABASES[result.target.database],
            ".".join(platform.python_version_tuple()[:2]),
            str(result.tests.passed),
            str(result.tests.failed),
            notes.marks(result.tests),
            {None: "not run", True: "whole", False: "failed"}[result.soaked],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *notes.lines()]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 when anything failed on any server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="VERSION-DATABASE", help="one server, such as 3.4.25-sqlite; writes nothing")
    only = parser.parse_args(arguments).only
    targets = [target for target in TARGETS if only in (None, f"{target.version}-{target.database}")]
    if not targets:
        parser.error(f"no such server: {only}")
    results = []
    for target in targets:
        print(f"\n== {target}", flush=True)
        results.append(run(target))
    print(f"\n{table(results)}")
    if only is None:
        PLACE.write(table(results))
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
