"""A small history, loaded as the source loads it, of which every figure can be worked out by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb

from prefect_runs.privacy import Privacy
from prefect_runs.resources import resource
from prefect_runs.rows import RunShape, Shape, StateShape, shaped_with_children
from prefect_runs.tables import ALL_TABLES, TABLES
from prefect_runs_pipelines.models import WRITTEN_IN, models
from prefect_runs_pipelines.models.catalogue import empty_table
from prefect_runs_pipelines.names import pipeline_name
from prefect_runs_pipelines.options import SyncOptions

Row = dict[str, Any]

WORKSPACE = "handmade"
OPEN = Privacy()
# ten o'clock yesterday, so that all of it lies in one day and within a week
TEN = (datetime.now(UTC) - timedelta(days=1)).replace(hour=10, minute=0, second=0, microsecond=0)


def at(clock: str) -> datetime:
    """A time of yesterday, such as 10:02:30."""
    hours, minutes, seconds = map(int, clock.split(":"))
    return TEN.replace(hour=hours, minute=minutes, second=seconds)


@dataclass
class Run:
    """A run and its states: clock, type and name of each, oldest first."""

    id: str
    due: str
    states: list[tuple[str, str, str]]
    kind: str = "flow"
    fields: Row = field(default_factory=dict)

    def history(self) -> list[Row]:
        """Its states as the API gives them."""
        return [
            {
                "id": f"{self.id}-{number}",
                "type": type_,
                "name": name,
                "timestamp": at(clock).isoformat(),
                "message": None,
                "sequence": number,
                "state_details": {},
            }
            for number, (clock, type_, name) in enumerate(self.states, 1)
        ]

    def row(self) -> Row:
        """The run as the API gives it."""
        history = self.history()
        running = [number for number, state in enumerate(self.states) if state[1] == "RUNNING"]
        ends = [
            number
            for number, state in enumerate(self.states)
            if state[1] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        ]
        spent = sum(
            (at(self.states[number + 1][0]) - at(self.states[number][0])).total_seconds()
            for number in running
            if number + 1 < len(self.states)
        )
        return {
            "id": self.id,
            "name": self.id,
            "created": at(self.due).isoformat(),
            "updated": history[-1]["timestamp"],
            "expected_start_time": at(self.due).isoformat(),
            "start_time": at(self.states[running[0]][0]).isoformat() if running else None,
            # a forced change leaves the end where it was
            "end_time": at(self.states[ends[0]][0]).isoformat() if ends else None,
            "run_count": len(running),
            "total_run_time": spent,
            "state_id": history[-1]["id"],
            "state_type": history[-1]["type"],
            "state_name": history[-1]["name"],
            "state": history[-1],
            "tags": [],
            **self.fields,
        }


DEPLOYED = {
    "flow_id": "flow",
    "deployment_id": "deployment",
    "work_pool_name": "pool",
    "work_queue_name": "queue",
    "auto_scheduled": True,
    "tags": ["nightly"],
}
PENDING, RUNNING = ("PENDING", "Pending"), ("RUNNING", "Running")
COMPLETED, FAILED, CRASHED = ("COMPLETED", "Completed"), ("FAILED", "Failed"), ("CRASHED", "Crashed")
RUNS = [
    Run(
        "good", "10:00:00", [("10:00:05", *PENDING), ("10:00:15", *RUNNING), ("10:01:15", *COMPLETED)], fields=DEPLOYED
    ),
    Run(
        "late",
        "10:10:00",
        [
            ("10:09:00", "SCHEDULED", "Scheduled"),
            ("10:10:15", "SCHEDULED", "Late"),
            ("10:10:40", *PENDING),
            ("10:10:50", *RUNNING),
            ("10:11:20", "SCHEDULED", "AwaitingRetry"),
            ("10:12:20", "RUNNING", "Retrying"),
            ("10:12:50", *FAILED),
        ],
        fields=DEPLOYED,
    ),
    Run(
        "crashed", "10:20:00", [("10:19:59", *PENDING), ("10:20:10", *RUNNING), ("10:20:30", *CRASHED)], fields=DEPLOYED
    ),
    Run(
        "forced",
        "10:30:00",
        [("10:30:00", *PENDING), ("10:30:05", *RUNNING), ("10:31:05", *COMPLETED), ("10:40:00", *FAILED)],
        fields=DEPLOYED,
    ),
    Run(
        "better",
        "11:00:00",
        [("11:00:02", *PENDING), ("11:00:10", *RUNNING), ("11:00:40", *COMPLETED)],
        fields=DEPLOYED,
    ),
    # never taken up, and gone
    Run(
        "missed",
        "11:30:00",
        [("11:00:00", "SCHEDULED", "Scheduled"), ("11:30:15", "SCHEDULED", "Late")],
        fields=DEPLOYED,
    ),
    # a subflow of `good`, while that one runs
    Run(
        "subflow",
        "10:00:30",
        [("10:00:30", *PENDING), ("10:00:31", *RUNNING), ("10:00:41", "FAILED", "TimedOut")],
        fields={"flow_id": "flow", "parent_task_run_id": "stands-for", "auto_scheduled": False},
    ),
    Run(
        "stands-for",
        "10:00:30",
        [("10:00:30", *PENDING), ("10:00:31", *RUNNING), ("10:00:41", *FAILED)],
        kind="task",
        fields={"flow_run_id": "good", "task_key": "subflow", "dynamic_key": "0"},
    ),
    Run(
        "cached",
        "10:00:50",
        [("10:00:50", *PENDING), ("10:00:51", "COMPLETED", "Cached")],
        kind="task",
        fields={"flow_run_id": "good", "task_key": "cached", "dynamic_key": "0"},
    ),
    Run(
        "retried",
        "10:00:20",
        [
            ("10:00:20", *PENDING),
            ("10:00:21", *RUNNING),
            ("10:00:24", "SCHEDULED", "AwaitingRetry"),
            ("10:00:34", "RUNNING", "Retrying"),
            ("10:00:36", *COMPLETED),
        ],
        kind="task",
        fields={"flow_run_id": "good", "task_key": "retried", "dynamic_key": "0"},
    ),
]

SCHEDULES = [{"id": "schedule", "active": True, "schedule": {"interval": 600}}]
# run id → when it was noticed that the server no longer has the run
GONE = {"missed": "12:00:00"}
# of what else is gone
TOMBSTONES: list[Row] = []
# syncs that were made beside
SYNCS: list[Row] = []
# up to when the last sync read
WINDOW_END: str | None = None


# columns with ids, which no two workspaces share
IDS = ("id", "flow_id", "deployment_id", "flow_run_id", "task_run_id", "parent_task_run_id", "state_id")


def of_workspace(prefix: str, row: Row) -> Row:
    """The row with `prefix` before all its ids."""
    return {name: f"{prefix}{value}" if name in IDS and value else value for name, value in row.items()}


@dlt.source(name="prefect_runs")
def handmade(only: Collection[str], flow_name: str, workspace: str = WORKSPACE, prefix: str = "") -> Iterator[Any]:
    """The history, in the tables of the source."""
    for kind in ("flow", "task"):
        runs, states = TABLES[f"{kind}_runs"], TABLES[f"{kind}_run_states"]
        of_kind = [run for run in RUNS if run.kind == kind and run.id in (only or run.id)]
        shape, state_shape = RunShape(runs, workspace, OPEN), StateShape(states, f"{kind}_run_id", workspace, OPEN)
        yield resource([of_workspace(prefix, shape(run.row())) for run in of_kind], runs)
        history = [state_shape(state, run.id) for run in of_kind for state in run.history()]
        yield resource([of_workspace(prefix, state) for state in history], states)
    named = {"created": TEN.isoformat(), "updated": TEN.isoformat()}
    for name, row in (
        ("flows", {"id": "flow", "name": flow_name, **named}),
        (
            "deployments",
            {
                "id": "deployment",
                "name": f"nightly {flow_name}",
                "flow_id": "flow",
                "paused": False,
                "schedules": SCHEDULES,
                **named,
            },
        ),
    ):
        yield resource([of_workspace(prefix, shaped_with_children(TABLES[name], workspace, OPEN)(row))], TABLES[name])
    shape = Shape(TABLES["tombstones"], workspace, OPEN)
    gone = [
        {"resource": "flow_runs", "id": id_, "noticed_at": at(clock).isoformat(), "reason": "deleted"}
        for id_, clock in GONE.items()
    ]
    gone += TOMBSTONES
    yield resource([of_workspace(prefix, shape(row)) for row in gone], TABLES["tombstones"])
    rest = "flow_runs: the first load came to 10:00; sync again to go on"
    synced = [
        {"whole": False, "gaps": [rest], "unfinished": True},
        {"whole": False, "gaps": [rest, "flow_runs: the server could not give one"], "unfinished": False},
        # as a version wrote it that did not have the column
        {"whole": False, "gaps": ["flow_runs: the server could not give one"]},
        {"whole": True, "gaps": [], "unfinished": False, "window_end": WINDOW_END},
    ]
    synced += SYNCS
    shape = Shape(TABLES["syncs"], workspace, OPEN)
    yield resource([shape({"finished_at": TEN.isoformat(), **row}) for row in synced], TABLES["syncs"])


def rows() -> Iterator[tuple[str, Row]]:
    """Table and row: the rows of all tables, as dlt makes them of the source's."""
    for name, made in handmade((), "etl").resources.items():
        for number, row in enumerate(made):
            children = TABLES[name].children
            own_id = f"{name} {number}"
            yield name, {"_dlt_id": own_id, **{column: row[column] for column in row.keys() - children.keys()}}
            for list_name, child in children.items():
                for place, item in enumerate(row.get(list_name, ())):
                    columns = item if isinstance(item, dict) else {"value": item}
                    yield child.name, {"_dlt_id": f"{own_id} {place}", "_dlt_parent_id": own_id, **columns}


@contextlib.contextmanager
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables, and all models as views of them, in the schema that is in use: far sooner there than by a load."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE SCHEMA prefect")
        connection.execute("USE prefect")
        for table in ALL_TABLES.values():
            connection.execute(f"CREATE TABLE {table.name} AS {empty_table(table).sql(WRITTEN_IN)}")
        for name, row in rows():
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        for model in models():
            connection.execute(f"CREATE VIEW {model.name} AS {model.sql}")
        yield connection


def load(
    folder: Path,
    destination: str,
    only: Collection[str] = (),
    flow_name: str = "etl",
    workspace: str = WORKSPACE,
    prefix: str = "",
) -> SyncOptions:
    """Load the history, or some of its runs, into a DuckDB file in `folder` or elsewhere; returns how to find it."""
    options = SyncOptions(
        api_url="http://127.0.0.1:9/api",
        workspace=workspace,
        destination=destination,
        database=str(folder / "handmade.duckdb") if destination == "duckdb" else None,
        pipelines_dir=str(folder / "pipelines"),
    )
    pipeline = dlt.pipeline(
        pipeline_name(options, workspace),
        destination=options.dlt_destination(),
        dataset_name=options.dataset,
        pipelines_dir=options.pipelines_dir,
    )
    pipeline.run(handmade(only, flow_name, workspace, prefix), loader_file_format="parquet")
    return options
