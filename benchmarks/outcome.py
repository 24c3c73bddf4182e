"""What came out of a run of tests, and how a page tells it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
# processes that run tests, each with a server of its own: much of their time is waiting
WORKERS = "2"


@dataclass
class Outcome:
    """How many tests passed and failed."""

    passed: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why tests were skipped, and which fail as they are known to, with how many of each."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether tests were run, and none failed."""
        return self.passed > 0 and not self.failed


@dataclass
class Notes:
    """Reasons, numbered in the order in which they are first given."""

    _numbers: dict[str, int] = field(default_factory=dict)

    def marks(self, outcome: Outcome) -> str:
        """How many tests were not run or are known to fail, each with the number of its reason."""
        counts = sorted(outcome.reasons.items())
        return ", ".join(f"{n} [{self._numbers.setdefault(why, len(self._numbers) + 1)}]" for why, n in counts) or "0"

    def lines(self) -> list[str]:
        """The reasons, as they stand below a table."""
        return [f"\n[{number}] {why}" for why, number in self._numbers.items()]


def outcome_of(tests: Sequence[str], environment: Mapping[str, str], python: str = sys.executable) -> Outcome:
    """Run some tests with more variables; their output goes to the terminal."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [python, "-m", "pytest", "-q", "-n", WORKERS, f"--junitxml={report}", *tests]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode
        outcome = counted(report)
    if code and not outcome.failed:
        # the run itself broke, which no test case tells
        outcome.failed = 1
    outcome.seconds = time.monotonic() - started
    return outcome


def counted(report: Path) -> Outcome:
    """What pytest's XML report tells; nothing passed where there is none."""
    outcome = Outcome()
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif skipped is None:
            outcome.passed += 1
        elif skipped.get("type") == "pytest.xfail":
            outcome.reasons[f"known to fail: {skipped.get('message')}"] += 1
        else:
            outcome.reasons[str(skipped.get("message"))] += 1
    return outcome


@dataclass(frozen=True)
class Place:
    """The part of a page that a command writes: what is between its two markers."""

    page: Path
    command: str

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- made by {self.command} -->\n"

    @property
    def end(self) -> str:
        """The line behind it."""
        return f"<!-- end of what {self.command} made -->\n"

    def written(self, text: str, made: str) -> str:
        """`text` with `made` between the markers, in place of what was there."""
        before, begin, rest = text.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not (begin and end):
            raise ValueError(f"the markers {self.begin.strip()} and {self.end.strip()} are not in the text")
        return f"{before}{begin}\n{made}\n{end}{after}"

    def rows(self) -> list[str]:
        """The lines of the table that the page has; none before the command has run."""
        made = self.page.read_text().partition(self.begin)[2].partition(self.end)[0]
        return [line for line in made.splitlines() if line.startswith("|")][2:]

    def write(self, made: str) -> None:
        """Write it into the page."""
        self.page.write_text(self.written(self.page.read_text(), made))
