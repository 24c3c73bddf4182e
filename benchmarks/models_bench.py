"""How long the models and the report take on a million task runs in DuckDB.

    python benchmarks/models_bench.py [--task-runs 1000000] [--write-docs]

The rows are made by SQL, in the tables that dlt made: a fifth as many flow runs of 50 deployments over four weeks, with
their states, retries, failures and tags, a tenth of them subflows or theirs. Times are of one go, on the file just
written; every line is printed as it comes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import handmade
from measured import measured

from prefect_runs_pipelines.models import models
from prefect_runs_pipelines.views import create_views

DOCS = Path(__file__).parents[1] / "docs" / "models-benchmark.md"
TASKS_PER_FLOW_RUN = 5
DEPLOYMENTS = 50

# what a number becomes by lot, the same on every run
LOT = "(hash(n || '{salt}') % 1000)"

FILL = """
CREATE TABLE {schema}.task_runs__tags AS FROM {schema}.flow_runs__tags LIMIT 0;
DELETE FROM {schema}.flow_runs; DELETE FROM {schema}.task_runs;
DELETE FROM {schema}.flow_run_states; DELETE FROM {schema}.task_run_states; DELETE FROM {schema}.flow_runs__tags;
INSERT INTO {schema}.flows BY NAME
SELECT 'flow-' || n AS id, '{workspace}' AS workspace, 'flow ' || n AS name, 'f' || n AS _dlt_id, 'x' AS _dlt_load_id
FROM range({deployments}) AS r(n);
INSERT INTO {schema}.deployments BY NAME
SELECT 'deployment-' || n AS id, '{workspace}' AS workspace, 'deployment ' || n AS name, 'flow-' || n AS flow_id,
    false AS paused, 'd' || n AS _dlt_id, 'x' AS _dlt_load_id
FROM range({deployments}) AS r(n);

CREATE TEMP TABLE flow_lot AS
SELECT n, 'flow' AS kind, 'f-' || n AS id, NULL AS flow_run_id,
    now() - INTERVAL 28 DAY + n * (INTERVAL 28 DAY / {flow_runs}) AS due,
    2 + {lot_wait} / 20.0 AS waited, 5 + {lot_time} / 3.0 AS ran, {lot_end} AS outcome, {lot_retry} < 30 AS retried
FROM range({flow_runs}) AS r(n);
CREATE TEMP TABLE task_lot AS
SELECT n, 'task' AS kind, 't-' || n AS id, 'f-' || (n // {tasks}) AS flow_run_id,
    now() - INTERVAL 28 DAY + (n // {tasks}) * (INTERVAL 28 DAY / {flow_runs}) + INTERVAL 10 SECOND AS due,
    0.1 + {lot_wait} / 1000.0 AS waited, 0.5 + {lot_time} / 30.0 AS ran, {lot_end} AS outcome,
    {lot_retry} < 60 AS retried
FROM range({task_runs}) AS r(n);
CREATE TEMP TABLE lots AS
SELECT *, due + to_microseconds((waited * 1e6)::BIGINT) AS pending, pending + INTERVAL 1 SECOND AS running,
    running + to_microseconds((ran * 1e6)::BIGINT) AS left_running,
    left_running + CASE WHEN retried THEN INTERVAL 30 SECOND ELSE INTERVAL 0 SECOND END AS ended,
    CASE WHEN outcome < 940 THEN 'COMPLETED' WHEN outcome < 980 THEN 'FAILED' ELSE 'CRASHED' END AS state_type
FROM (FROM flow_lot UNION ALL FROM task_lot);

CREATE TEMP TABLE states AS
SELECT kind, id AS run_id, id || '-' || number AS id, number AS sequence, type, name, entered AS timestamp
FROM (
    SELECT kind, id, 1 AS number, 'SCHEDULED' AS type, 'Scheduled' AS name, due - INTERVAL 1 HOUR AS entered
    FROM lots WHERE kind = 'flow'
    UNION ALL SELECT kind, id, 2, 'PENDING', 'Pending', pending FROM lots
    UNION ALL SELECT kind, id, 3, 'RUNNING', 'Running', running FROM lots
    UNION ALL SELECT kind, id, 4, 'SCHEDULED', 'AwaitingRetry', left_running FROM lots WHERE retried
    UNION ALL SELECT kind, id, 5, 'RUNNING', 'Retrying', left_running + INTERVAL 20 SECOND FROM lots WHERE retried
    UNION ALL SELECT kind, id, 6, state_type, upper(state_type[1]) || lower(state_type[2:]), ended FROM lots
);
INSERT INTO {schema}.flow_run_states BY NAME
SELECT id, '{workspace}' AS workspace, run_id AS flow_run_id, sequence, type, name, timestamp, 's' || id AS _dlt_id,
    'x' AS _dlt_load_id
FROM states WHERE kind = 'flow';
INSERT INTO {schema}.task_run_states BY NAME
SELECT id, '{workspace}' AS workspace, run_id AS task_run_id, sequence, type, name, timestamp, 's' || id AS _dlt_id,
    'x' AS _dlt_load_id
FROM states WHERE kind = 'task';
INSERT INTO {schema}.flow_runs BY NAME
SELECT id, '{workspace}' AS workspace, 'run ' || n AS name, 'flow-' || (n % {deployments}) AS flow_id,
    'deployment-' || (n % {deployments}) AS deployment_id, 'pool' AS work_pool_name, 'queue' AS work_queue_name,
    due - INTERVAL 1 HOUR AS created, ended AS updated, due AS expected_start_time, running AS start_time,
    ended AS end_time, CASE WHEN retried THEN 2 ELSE 1 END AS run_count, ran AS total_run_time, id || '-6' AS state_id,
    state_type, upper(state_type[1]) || lower(state_type[2:]) AS state_name, ended AS state_timestamp,
    true AS auto_scheduled, CASE WHEN n % 20 IN (1, 2) THEN 't-' || ((n - 1) * {tasks}) END AS parent_task_run_id,
    id AS _dlt_id, 'x' AS _dlt_load_id
FROM lots WHERE kind = 'flow';
INSERT INTO {schema}.flow_runs__tags BY NAME
SELECT 'tag ' || (n % 7) AS value, id AS _dlt_parent_id, id || 'tag' AS _dlt_id, id AS _dlt_root_id, 0 AS _dlt_list_idx
FROM lots WHERE kind = 'flow';
INSERT INTO {schema}.task_runs BY NAME
SELECT id, '{workspace}' AS workspace, 'task ' || n AS name, flow_run_id, 'extract' AS task_key,
    n::VARCHAR AS dynamic_key, due AS created, ended AS updated, due AS expected_start_time, running AS start_time,
    ended AS end_time, CASE WHEN retried THEN 2 ELSE 1 END AS run_count, ran AS total_run_time, id || '-6' AS state_id,
    state_type, upper(state_type[1]) || lower(state_type[2:]) AS state_name, ended AS state_timestamp, id AS _dlt_id,
    'x' AS _dlt_load_id
FROM lots WHERE kind = 'task';
"""


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def fill(database: str, task_runs: int) -> str:
    """Fill the tables of a warehouse; what it holds, in words."""
    lots = {f"lot_{name}": LOT.format(salt=name) for name in ("wait", "time", "end", "retry")}
    given = {"task_runs": task_runs, "flow_runs": task_runs // TASKS_PER_FLOW_RUN, "tasks": TASKS_PER_FLOW_RUN}
    with duckdb.connect(database) as connection:
        connection.execute(
            FILL.format(schema="prefect", workspace=handmade.WORKSPACE, deployments=DEPLOYMENTS, **given, **lots)
        )
        tables = ("flow_runs", "task_runs", "flow_run_states", "task_run_states")
        counts = [connection.execute(f"SELECT count(*) FROM prefect.{table}").fetchall()[0][0] for table in tables]
    return ", ".join(f"{count:,} {table.replace('_', ' ')}" for count, table in zip(counts, tables, strict=True))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task-runs", type=int, default=1_000_000)
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCS.name}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prefect-bench-") as folder:
        options = handmade.load(Path(folder), "duckdb")
        held = fill(options.where, asked.task_runs)
        print(held, flush=True)
        create_views(options)
        lines = ["| model | rows | as a table, seconds | as a view, seconds |", "|---|---|---|---|"]
        as_tables = as_views = 0.0
        with duckdb.connect(options.where) as connection:
            connection.execute("CREATE SCHEMA built")
            for model in models():
                # as dbt does: each from the tables made before
                connection.execute("SET search_path = 'built,prefect'")
                table = timed(
                    lambda sql=model.sql, name=model.name: connection.execute(f"CREATE TABLE built.{name} AS {sql}")
                )
                [(rows,)] = connection.execute(f"SELECT count(*) FROM built.{model.name}").fetchall()
                whole = f"CREATE TEMP TABLE answer AS SELECT * FROM prefect.{model.name}"
                view = timed(lambda sql=whole: connection.execute(sql))
                connection.execute("DROP TABLE answer")
                as_tables, as_views = as_tables + table, as_views + view
                lines.append(f"| {model.name} | {rows:,} | {table:.1f} | {view:.1f} |")
                print(lines[-1], flush=True)
        lines.append(f"| together | | {as_tables:.1f} | {as_views:.1f} |")
        print(lines[-1], flush=True)
        command = [Path(sys.executable).with_name("prefect-runs"), "report", "--database", options.where]
        names = [
            "--workspace",
            handmade.WORKSPACE,
            "--days",
            "28",
            "--file",
            str(Path(folder, "report.html")),
            "--json",
        ]
        report = measured([*command, *names], Path(folder), {"DLT_DATA_DIR": folder})
        says = f"`prefect-runs report` as a process: {report.seconds:.1f} s, {report.peak_mb:.0f} MB at the peak."
        print(says)
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    machine = f"{cores}, Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    text = "\n".join(
        [
            "# How long the models take",
            "",
            f"Written by `make bench-models` on {datetime.now(UTC):%Y-%m-%d}, {machine}:",
            f"{held}, made by SQL.",
            "*As a table*: made from the tables of the models before it, as dbt does. *As a view*: the whole",
            "view read, every model below it computed anew, as `prefect-runs models` makes it.",
            "",
            *lines,
            "",
            says,
            "",
        ]
    )
    if asked.write_docs:
        DOCS.write_text(text)


if __name__ == "__main__":
    main()
