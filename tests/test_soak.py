"""A short soak: random changes, faults and kills, then everything is compared. `make soak` is the long one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from soak import SoakOptions, soak

# what must have happened for the comparison to mean anything
CHANGES = 40
KINDS_OF_CHANGES = 15
RUNS = 20


@pytest.mark.long
def test_copy_is_true_after_random_changes_faults_and_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("PREFECT_RUNS_SEED") or random.randrange(1_000_000))
    print(f"PREFECT_RUNS_SEED={seed}")
    options = SoakOptions(minutes=50 / 60, seed=seed, lookback_seconds=5, pause_seconds=5, syncs=6)
    report = soak(options, tmp_path, print)
    print("\n".join(report.lines()))
    assert report.findings == []
    assert report.problems == []
    assert report.counts == {"missing": 0, "stale": 0, "double": 0, "lost states": 0}
    assert report.passed
    assert report.changes.total() > CHANGES
    assert len(report.changes) > KINDS_OF_CHANGES
    # how many of so few syncs a kill meets is chance, and test_kills has its own; the long soak has many
    assert report.syncs["exit code 0"] > 1
    assert report.faults.total() > 0
    assert report.tombstones > 0
    assert min(report.rows.values()) > RUNS
