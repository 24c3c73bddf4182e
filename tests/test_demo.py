"""The demo, run once and whole: a real server, real flow runs, two syncs; its output and its warehouse."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
import requests

from prefect_runs import ConfigurationError
from prefect_runs_pipelines.command.screen import text_table
from prefect_runs_pipelines.demo import run_demo
from prefect_runs_pipelines.models.queries import QUERIES, Query

pytestmark = pytest.mark.long


@dataclass
class Demo:
    """What a finished demo left: its exit code, its output, and its open warehouse."""

    exit_code: int
    output: str
    database: Path
    warehouse: duckdb.DuckDBPyConnection

    def column(self, sql: str) -> list[object]:
        return [row[0] for row in self.warehouse.execute(sql).fetchall()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    database = tmp_path_factory.mktemp("demo") / "demo.duckdb"
    out = io.StringIO()
    exit_code = run_demo(database, out)
    with duckdb.connect(str(database), read_only=True) as warehouse:
        yield Demo(exit_code, out.getvalue(), database, warehouse)


def test_demo_ends_well_and_names_the_file_it_leaves(demo: Demo) -> None:
    assert demo.exit_code == 0
    assert f"The copy stays: {demo.database}" in demo.output


def test_demo_leaves_no_server(demo: Demo) -> None:
    url = re.search(r"http://127\.0\.0\.1:\d+/api", demo.output)
    assert url
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url.group()}/health", timeout=5)


def test_every_flow_run_is_copied_in_its_last_state(demo: Demo) -> None:
    rows = demo.warehouse.execute("select name, state_type, state_name from prefect.flow_runs").fetchall()
    states = {name: (state_type, state_name) for name, state_type, state_name in rows}
    assert len(states) == len(rows) >= 16
    expected = {
        "sales-of-today": ("COMPLETED", "Completed"),
        "sales-of-today-again": ("COMPLETED", "Completed"),
        "report-of-today": ("COMPLETED", "Completed"),
        "report-of-10-rows": ("COMPLETED", "Completed"),
        "partner-import-of-today": ("COMPLETED", "Completed"),
        "payout-of-today": ("COMPLETED", "Completed"),
        "out-of-memory-of-today": ("CRASHED", "Crashed"),
        "model-cancelled": ("CANCELLED", "Cancelled"),
        # these four moved between the two syncs, the last one waits still
        "forecast-of-today": ("COMPLETED", "Completed"),
        "invoices-of-today": ("COMPLETED", "Fixed by hand"),
        "refund-to-approve": ("COMPLETED", "Completed"),
        "model-abandoned": ("CRASHED", "Crashed"),
        "sales-nobody-runs": ("SCHEDULED", "Late"),
    }
    assert {name: states.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("run", "went_through"),
    [
        ("partner-import-of-today", "Pending Running AwaitingRetry Running Completed"),
        ("forecast-of-today", "Pending Running Failed AwaitingRetry Pending Running Completed"),
        ("invoices-of-today", "Pending Running Failed Fixed by hand"),
        ("payout-of-today", "Pending Running Paused Running Completed"),
        ("refund-to-approve", "Scheduled Pending Running Suspended Resuming Pending Running Completed"),
        ("model-cancelled", "Pending Running Cancelling Cancelled"),
        ("model-abandoned", "Pending Running Crashed"),
        ("sales-nobody-runs", "Scheduled Late"),
    ],
)
def test_state_history_is_whole(demo: Demo, run: str, went_through: str) -> None:
    history = demo.column(
        "select s.name from prefect.flow_run_states as s join prefect.flow_runs as r on r.id = s.flow_run_id"
        f" where r.name = '{run}' order by s.timestamp"
    )
    assert " ".join(map(str, history)) == went_through


def test_task_runs_show_the_cache_and_the_retry(demo: Demo) -> None:
    cached = demo.column("select name from prefect.task_runs where state_name = 'Cached'")
    retried = demo.column("select run_count from prefect.task_runs where name like 'fetch_rates-%'")
    mapped = demo.column("select id from prefect.task_runs where name like 'transform-%'")
    assert (len(cached), retried, len(mapped)) == (3, [2, 2], 10)


def test_subflow_run_names_the_task_run_that_stands_for_it(demo: Demo) -> None:
    parents = demo.column(
        "select parent.name from prefect.flow_runs as child"
        " join prefect.task_runs as wrapper on wrapper.id = child.parent_task_run_id"
        " join prefect.flow_runs as parent on parent.id = wrapper.flow_run_id"
    )
    assert parents == ["report-of-today"]


def test_scheduled_runs_belong_to_their_deployment(demo: Demo) -> None:
    states = demo.column(
        "select r.state_name from prefect.flow_runs as r"
        " join prefect.deployments as d on d.id = r.deployment_id"
        " where d.name = 'every-hour' and r.auto_scheduled order by r.expected_start_time"
    )
    assert "Scheduled" in states
    assert states.count("Cancelled") == 2


def test_second_sync_tells_what_changed(demo: Demo) -> None:
    changes = demo.output.partition("state before")[2].partition("5. What an analyst asks")[0]
    lines = {" ".join(line.split()) for line in changes.splitlines()}
    assert {
        "forecast forecast-of-today Failed Completed 4",
        "invoices invoices-of-today Failed Fixed by hand 1",
        "refund refund-to-approve Suspended Completed 4",
        "train-model model-abandoned Running Crashed 1",
        "daily-sales sales-of-today-again Completed 3",
    } <= lines
    assert "payout-of-today" not in changes


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_query_has_an_answer_and_is_printed(demo: Demo, query: Query) -> None:
    assert demo.warehouse.execute(query.sql).fetchall()
    assert query.question in demo.output
    assert query.sql in demo.output


def test_demo_leaves_a_file_that_exists_alone(tmp_path: Path) -> None:
    database = tmp_path / "mine.duckdb"
    database.write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"mine\.duckdb exists already: remove it, or name another"):
        run_demo(database)
    assert database.read_bytes() == b"mine"


def test_table_aligns_numbers_to_the_right() -> None:
    assert text_table(("run", "seconds"), [("a", 1.5), ("long name", None)]) == (
        "run        seconds\n---------  -------\na              1.5\nlong name"
    )
