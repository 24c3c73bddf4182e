"""`kill -9` at any moment of a sync: the next sync makes the copy whole, and nothing is there twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from conftest import SHORT_LOOKBACK_SECONDS, Copy
from prefect_api import PrefectApi, now
from soundness import unsound
from warehouses import CHOSEN

pytestmark = pytest.mark.long

FLOW_RUNS = 60
CHUNKS = 3
FIRST_LOADS, LATER_SYNCS = 3, 4

# the command, with windows small enough for some dozens of runs to be several chunks
COMMAND = """
import os, sys
import prefect_runs.snapshot
prefect_runs.snapshot.ROWS_PER_WINDOW = 10
moved_to = os.environ.get("KILLED_BEFORE_A_MOVE_TO")
def kill(event, arguments):
    if event == "os.rename" and moved_to in str(arguments[1]):
        os.kill(os.getpid(), 9)
if moved_to:
    sys.addaudithook(kill)
from prefect_runs_pipelines.cli import main
sys.exit(main())
"""


class Syncs:
    """Runs `prefect-runs sync` of one warehouse in processes of their own."""

    def __init__(self, copy: Copy, folder: Path) -> None:
        folder.mkdir()
        copy.folder = folder
        self.copy = copy
        self._environment = {
            **os.environ,
            "DLT_DATA_DIR": str(folder / "dlt"),
            "SOURCES__PREFECT_RUNS__SETTINGS__CHUNK_ROWS": str(FLOW_RUNS // CHUNKS),
            "SOURCES__PREFECT_RUNS__SETTINGS__LOOKBACK_MINUTES": str(SHORT_LOOKBACK_SECONDS / 60),
        }

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """A sync that has just begun."""
        options = ["--api-url", self.copy.url, "--workspace", "test", "--start-date", self.copy.since.isoformat()]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "sync", *self.copy.warehouse.arguments, *options],
            cwd=self.copy.folder,
            env={**self._environment, **self.copy.warehouse.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def whole(self) -> float:
        """Sync to the end; returns how long it took."""
        started = time.monotonic()
        process = self.start()
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return time.monotonic() - started

    def killed(self, after: float) -> float | None:
        """Kill a sync after so many seconds; how long it took, when it had ended by then."""
        started = time.monotonic()
        process = self.start()
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return None if process.returncode == -9 else time.monotonic() - started

    def killed_before_a_move_to(self, part: str) -> bool:
        """Kill a sync when it is about to move a file to a path with this part; whether it came to that."""
        process = self.start(KILLED_BEFORE_A_MOVE_TO=part)
        process.communicate(timeout=120)
        return process.returncode == -9

    def loads(self) -> int:
        """How many loads the warehouse holds."""
        return len(self.copy.values("SELECT load_id FROM prefect._dlt_loads"))

    def assert_sound(self) -> None:
        """Everything is there, nothing twice, no child without its parent, and dlt has nothing left to load."""
        self.copy.assert_true()
        assert unsound(self.copy.warehouse) == []
        working = self.copy.folder / "dlt" / "pipelines"
        packages = [*working.glob("*/normalize/extracted/*"), *working.glob("*/load/normalized/*")]
        assert [path for path in packages if path.is_dir()] == []


@pytest.fixture(scope="module")
def runs_since(api: PrefectApi) -> datetime:
    """Since when there are a hundred and twenty runs, of every kind that is loaded differently."""
    since = now()
    for number in range(FLOW_RUNS):
        run_id = api.flow_run("RUNNING", tags=["killed", f"number {number % 7}"], parameters={"number": number})
        api.task_run("COMPLETED" if number % 2 else "RUNNING", flow_run_id=run_id, tags=["killed"])
        if number % 3 == 0:
            api.set_flow_run(run_id, "COMPLETED")
    return since


@pytest.fixture
def moments() -> Iterator[random.Random]:
    """Seeded so that a failure can be had again: PREFECT_RUNS_SEED."""
    seed = int(os.environ.get("PREFECT_RUNS_SEED") or random.randrange(1_000_000))
    print(f"PREFECT_RUNS_SEED={seed}")
    return random.Random(seed)


def spread(moments: random.Random, number: int) -> list[float]:
    """Random parts of a sync's length, one in each of equal parts but its first fifth, in which Python imports."""
    return [0.2 + 0.8 * (part + moments.random()) / number for part in range(number)]


def test_first_load_killed_at_any_moment(
    copy: Copy, runs_since: datetime, moments: random.Random, tmp_path: Path
) -> None:
    copy.since = runs_since
    unkilled = Syncs(copy, tmp_path / "unkilled")
    length = unkilled.whole()
    unkilled.assert_sound()
    assert unkilled.loads() >= CHUNKS - 1
    killed = 0
    for number, part in enumerate(spread(moments, FIRST_LOADS)):
        print(f"kill {number} after {part * length:.2f} of {length:.2f} s")
        syncs = Syncs(copy, tmp_path / str(number))
        took = syncs.killed(part * length)
        killed += took is None
        # how busy the machine is varies: one that was too quick to be killed tells how long one takes now
        length = took or length
        syncs.whole()
        syncs.assert_sound()
    assert killed >= FIRST_LOADS // 2


def test_first_load_that_goes_on_after_a_kill_reads_what_changed_since(
    copy: Copy, api: PrefectApi, runs_since: datetime, tmp_path: Path
) -> None:
    copy.since = runs_since
    syncs = Syncs(copy, tmp_path / "warehouse")
    assert syncs.killed_before_a_move_to("started_jobs")
    running = {"state": {"type": {"any_": ["RUNNING"]}}, "expected_start_time": {"after_": runs_since.isoformat()}}
    oldest_first = {"flow_runs": running, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
    [run] = api.call("POST", "/flow_runs/filter", oldest_first)
    api.set_flow_run(run["id"], "COMPLETED")
    syncs.whole()
    syncs.assert_sound()


def test_later_syncs_killed_at_any_moment(copy: Copy, api: PrefectApi, moments: random.Random, tmp_path: Path) -> None:
    syncs = Syncs(copy, tmp_path / "later")
    runs = [api.flow_run("RUNNING", tags=["a"]) for _ in range(LATER_SYNCS)]
    syncs.whole()
    length = syncs.whole()
    killed = 0
    for number, part in enumerate(spread(moments, LATER_SYNCS)):
        print(f"kill {number} after {part * length:.2f} of {length:.2f} s")
        api.set_flow_run(runs[number], "COMPLETED")
        for _ in range(5):
            api.task_run("COMPLETED", flow_run_id=api.flow_run("RUNNING", tags=["b", "c"]), tags=["d"])
        took = syncs.killed(part * length)
        killed += took is None
        length = took or length
        syncs.whole()
        syncs.assert_sound()
    assert killed >= LATER_SYNCS // 2


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("/.pending_transitions/syncs.", id="an appended row is committed and not recorded"),
        pytest.param("/.pending_transitions/task_runs.", id="staged rows are committed and not recorded"),
        pytest.param("/load/loaded/", id="the end of a load is committed and not recorded"),
    ],
)
def test_killed_between_a_commit_and_its_record(copy: Copy, api: PrefectApi, tmp_path: Path, part: str) -> None:
    if CHOSEN in ("delta", "iceberg") and "task_runs" in part:
        pytest.skip("rows of open tables are not staged")
    syncs = Syncs(copy, tmp_path / "warehouse")
    api.flow_run("RUNNING")
    syncs.whole()
    api.task_run("COMPLETED", flow_run_id=api.flow_run("RUNNING", tags=["a"]), tags=["b", "c"])
    assert syncs.killed_before_a_move_to(part)
    syncs.whole()
    syncs.assert_sound()
