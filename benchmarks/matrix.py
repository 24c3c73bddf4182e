"""Runs the tests of changes against every server that is promised, and writes what came out into the README."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SOAK = Path(__file__).with_name("soak.py")
SOAK_MINUTES = "1"
# processes that run tests, each with a server of its own: much of their time is waiting
WORKERS = "2"

# those that a server's version or database can make fail
TESTS = ("tests/test_changes.py", "tests/test_real_flows.py")

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def markers(target: str) -> tuple[str, str]:
    """What stands in a page around the part that `make TARGET` writes."""
    return f"<!-- made by make {target} -->\n", f"<!-- end of what make {target} made -->\n"


BEGIN, END = markers("matrix")


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
    passed: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why tests were skipped, and which fail as they are known to, with how many of each."""
    soaked: bool | None = None

    @property
    def good(self) -> bool:
        return self.passed > 0 and not self.failed and self.soaked is not False


def run(target: Target) -> Result:
    """Run the tests, then a short soak, on one server; their output goes to the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        environment = {
            **os.environ,
            "PREFECT_RUNS_TEST_SERVER": target.version,
            "PREFECT_RUNS_TEST_DATABASE": target.database,
        }
        command = [sys.executable, "-m", "pytest", "-q", "-n", WORKERS, f"--junitxml={report}", *TESTS]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        result = counted(target, report)
    if code and not result.failed:
        # the run itself broke, which no test case tells
        result.failed = 1
    # what else is run for every server has its place here
    if SOAK.exists():
        soak = ["--minutes", SOAK_MINUTES, "--server", target.version, "--database", target.database]
        result.soaked = subprocess.run([sys.executable, str(SOAK), *soak], cwd=ROOT, check=False).returncode == 0
    return result


def counted(target: Target, report: Path) -> Result:
    """The result that pytest's XML report tells; nothing passed where there is none."""
    result = Result(target)
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif skipped is None:
            result.passed += 1
        elif skipped.get("type") == "pytest.xfail":
            result.reasons[f"known to fail: {skipped.get('message')}"] += 1
        else:
            result.reasons[str(skipped.get("message"))] += 1
    return result


def table(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    lines = ["| server | database | Python | passed | failed | not run or known to fail | soak |", "|" + "---|" * 7]
    notes: dict[str, int] = {}
    for result in results:
        marks = [f"{count} [{notes.setdefault(why, len(notes) + 1)}]" for why, count in sorted(result.reasons.items())]
        cells = [
            result.target.version,
            DATABASES[result.target.database],
            ".".join(platform.python_version_tuple()[:2]),
            str(result.passed),
            str(result.failed),
            ", ".join(marks) or "0",
            {None: "not run", True: "whole", False: "failed"}[result.soaked],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n[{number}] {why}" for why, number in notes.items())]) + "\n"


def written(text: str, made: str, target: str = "matrix") -> str:
    """`text` with `made` between the markers of `make TARGET`, in place of what was there."""
    first, last = markers(target)
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"the markers {first.strip()} and {last.strip()} are not in the text")
    return f"{before}{begin}\n{made}\n{end}{after}"


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
        README.write_text(written(README.read_text(), table(results)))
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
