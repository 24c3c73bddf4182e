"""The version matrix: what it makes of pytest's report, and what it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matrix
import pytest

TARGET = matrix.Target("3.8.8", "sqlite")

SUITE = """
import pytest

@pytest.fixture
def broken():
    raise OSError("no server")

def test_good(): pass
def test_also_good(): pass
def test_bad(): assert False
def test_error(broken): pass
def test_skipped(): pytest.skip("not in 3.0")
@pytest.mark.xfail(reason="a limit")
def test_limit(): assert False
"""


def test_every_outcome_of_a_run_is_counted(tmp_path: Path) -> None:
    suite, report = tmp_path / "test_suite.py", tmp_path / "report.xml"
    suite.write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(suite)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    result = matrix.counted(TARGET, report)
    assert (result.passed, result.failed) == (2, 2)
    assert result.reasons == {"not in 3.0": 1, "known to fail: a limit": 1}
    assert not result.good


def test_a_run_without_a_report_is_not_good(tmp_path: Path) -> None:
    assert not matrix.counted(TARGET, tmp_path / "report.xml").good


def test_what_was_between_the_markers_is_replaced_and_nothing_else() -> None:
    text = f"before\n{matrix.BEGIN}\nold\n\n{matrix.END}after\n"
    made = matrix.table([matrix.Result(TARGET, passed=3, soaked=True)])
    assert "| 3.8.8 | SQLite |" in made
    assert matrix.written(text, made) == f"before\n{matrix.BEGIN}\n{made}\n{matrix.END}after\n"
    assert matrix.written(matrix.written(text, made), made) == matrix.written(text, made)
    with pytest.raises(ValueError, match="markers"):
        matrix.written("no markers", made)


def test_table_of_the_readme_has_every_server() -> None:
    readme = matrix.README.read_text()
    # it fails where the markers are not
    assert matrix.written(readme, "") != readme
    table = readme.partition(matrix.BEGIN)[2].partition(matrix.END)[0]
    servers = [tuple(line.strip("| ").split(" | ")[:2]) for line in table.splitlines() if line.startswith("| 3.")]
    # none in a clone in which `make matrix` has not run yet
    assert servers in ([], [(target.version, matrix.DATABASES[target.database]) for target in matrix.TARGETS])
