"""The matrices of servers and destinations: what they make of pytest's report, and what they write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import destinations
import matrix
import outcome
import pytest
from lakes import LAKES
from pages import table_in
from warehouses import WAREHOUSES

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
    result = outcome.counted(report)
    assert (result.passed, result.failed) == (2, 2)
    assert result.reasons == {"not in 3.0": 1, "known to fail: a limit": 1}
    assert not result.good


def test_a_run_without_a_report_is_not_good(tmp_path: Path) -> None:
    assert not outcome.counted(tmp_path / "report.xml").good


def test_what_was_between_the_markers_is_replaced_and_nothing_else() -> None:
    place = matrix.PLACE
    text = f"before\n{place.begin}\nold\n\n{place.end}after\n"
    made = matrix.table([matrix.Result(TARGET, outcome.Outcome(passed=3), soaked=True)])
    assert "| 3.8.8 | SQLite |" in made
    assert place.written(text, made) == f"before\n{place.begin}\n{made}\n{place.end}after\n"
    assert place.written(place.written(text, made), made) == place.written(text, made)
    with pytest.raises(ValueError, match="markers"):
        place.written("no markers", made)


def test_table_of_the_readme_has_every_server() -> None:
    servers = [tuple(row[:2]) for row in table_in(matrix.PLACE)]
    assert servers in ([], [(target.version, matrix.DATABASES[target.database]) for target in matrix.TARGETS])


def test_table_of_destinations_has_every_one_that_tests_can_run_on() -> None:
    assert {target.name for target in destinations.TARGETS} == {*WAREHOUSES, *LAKES}
    # a row each when it was run
    told = [row[0] for row in table_in(destinations.PLACE)]
    assert told == [target.title for target in destinations.TARGETS if target.title in told]


def test_a_destination_that_is_run_again_has_a_new_row_and_the_others_keep_theirs() -> None:
    first, second = (
        [destinations.row(target, outcome.Outcome(passed=passed)) for target in destinations.TARGETS[:2]]
        for passed in (1, 2)
    )
    made = destinations.table([*first, second[1]]).splitlines()[2:]
    assert made == [first[0], second[1]]
