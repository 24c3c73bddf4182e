"""The source in a user's own dlt pipeline, and what the `sync` command adds to it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import pytest
from comparison import column_values, differences
from conftest import SHORT_LOOKBACK_SECONDS, Copy
from fault_proxy import FaultProxy, replace_json, status
from prefect_api import PrefectApi, Row, now, scheduled, seconds
from warehouses import DuckdbFile

import prefect_runs_pipelines.sync
from prefect_runs import RESOURCES, ServerUnavailable, prefect_runs, unfinished
from prefect_runs.progress import first_load_unfinished
from prefect_runs.tables import ALL_TABLES, TABLES
from prefect_runs_pipelines.destination.warehouse import Answer, Question, Warehouse
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.status import status as shown_status
from prefect_runs_pipelines.sync import IN_FULL
from prefect_runs_pipelines.target import Target

# what dlt adds to the tables
DLT_COLUMNS = {"_dlt_id", "_dlt_load_id", "_dlt_parent_id", "_dlt_root_id", "_dlt_list_idx"}
DLT_TYPES = {
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "bool": "BOOLEAN",
    "json": "JSON",
}
RUNS = ("flow_runs", "task_runs", "flow_run_states", "task_run_states")
DIMENSIONS = ("flows", "deployments", "work_pools", "work_queues")


@dataclass
class Own:
    """A pipeline of a user's own, which gives the source no `known`."""

    api: PrefectApi
    folder: Path
    since: datetime
    settings: dict[str, Any] = field(default_factory=lambda: {"lookback_minutes": SHORT_LOOKBACK_SECONDS / 60})

    @property
    def warehouse(self) -> DuckdbFile:
        return DuckdbFile(self.folder, "own.duckdb")

    @property
    def pipeline(self) -> dlt.Pipeline:
        # a new object each time, as in a new process
        return dlt.pipeline(
            "own",
            destination=dlt.destinations.duckdb(str(self.warehouse.file)),
            dataset_name="prefect",
            pipelines_dir=str(self.folder / "pipelines"),
        )

    def source(self, *resources: str, **filters: Any) -> Any:
        source = prefect_runs(
            self.api.url,
            workspace="test",
            filters={"start_date": self.since.isoformat(), **filters},
            settings=self.settings,
        )
        return source.with_resources(*resources) if resources else source

    def load(self, *resources: str, **filters: Any) -> dlt.Pipeline:
        """Run the pipeline once."""
        pipeline = self.pipeline
        pipeline.run(self.source(*resources, **filters))
        return pipeline

    def values(self, sql: str) -> list[Any]:
        return column_values(self.warehouse, sql)

    def ids(self, table: str) -> list[str]:
        """Ids of the loaded rows, each as often as it is there."""
        if table not in self.tables():
            return []
        return sorted(self.values(f"SELECT id FROM prefect.{table}"))

    def tables(self) -> set[str]:
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'prefect'"
        return {name for name in self.values(sql) if not name.startswith("_dlt")}

    def assert_true(self) -> None:
        assert differences(self.api, self.warehouse, self.since) == []


@pytest.fixture
def own(api: PrefectApi, tmp_path: Path) -> Own:
    return Own(api, tmp_path, now())


@dataclass
class Population:
    """Runs with something in every column's neighbourhood, made once for this module."""

    since: datetime
    ids: dict[str, str]


PARAMETERS = {"a b": {"c.d": [1, {"e": None}]}, "id": "not an id", "A": 1, "a": 2}


def deploy(api: PrefectApi, flow_id: str, name: str, **fields: Any) -> str:
    """Id of a new deployment."""
    return str(api.call("POST", "/deployments/", {"name": name, "flow_id": flow_id, **fields})["id"])


@pytest.fixture(scope="module")
def population(api: PrefectApi) -> Iterator[Population]:
    since = now()
    etl, report = api.flow(f"etl-{uuid.uuid4()}"), api.flow(f"report-{uuid.uuid4()}")
    pool = api.call("POST", "/work_pools/", {"name": f"pool-{uuid.uuid4()}", "type": "process"})
    daily = deploy(api, etl, "daily", tags=["d"], parameters={"x": {"y": 1}}, work_pool_name=pool["name"])
    hourly = deploy(api, report, "hourly")
    schedules = [{"schedule": {"interval": 86400}, "active": False, "slug": "slow"}]
    scheduled_ = deploy(api, etl, "scheduled", schedules=schedules)
    runs = {
        "a": api.flow_run("COMPLETED", flow_id=etl, tags=["a"], parameters=PARAMETERS, deployment_id=daily),
        "ab": api.flow_run("FAILED", flow_id=etl, tags=["a", "b"], context={"k": {"l": 1}}),
        "b": api.flow_run("RUNNING", flow_id=report, tags=["b"], deployment_id=hourly),
        "none": api.flow_run("CRASHED", flow_id=report),
        "paused": api.flow_run(
            {"type": "PAUSED", "name": "Paused", "state_details": {"pause_key": "k", "pause_reschedule": False}},
            flow_id=report,
            deployment_id=scheduled_,
        ),
    }
    tasks = {
        f"task of {name}": api.task_run(state, flow_run_id=runs[name], tags=["t"], task_inputs={"x": []})
        for name, state in (("a", "COMPLETED"), ("ab", "FAILED"), ("b", "RUNNING"))
    }
    tasks["task alone"] = api.task_run("PENDING")
    yield Population(since, {"daily": daily, "hourly": hourly, "etl": etl, "report": report, **runs, **tasks})
    api.call("DELETE", f"/work_pools/{pool['name']}")


def expected_ids(api: PrefectApi, table: str, since: datetime) -> list[str]:
    """Ids that the server has for a table."""
    if table in DIMENSIONS:
        return sorted(row["id"] for row in api.call("POST", f"/{table}/filter", {}))
    if table in ("flow_runs", "task_runs"):
        return sorted(row["id"] for row in api.runs(table, since))
    kind = table.replace("_states", "s")
    return sorted(state["id"] for run in api.runs(kind, since) for state in api.states(kind, run["id"]))


@pytest.mark.parametrize("resource", RESOURCES)
def test_each_resource_alone(own: Own, api: PrefectApi, population: Population, resource: str) -> None:
    own.since = population.since
    own.load(resource)
    roots = {resource, *(f"{resource}__{child}" for child in TABLES[resource].children)}
    assert own.tables() <= roots
    if resource.endswith("_history"):
        counted = own.values(f"SELECT sum(count_runs) FROM prefect.{resource}")
        assert counted == [len(expected_ids(api, resource.replace("_history", "s"), population.since))]
        return
    assert own.ids(resource) == expected_ids(api, resource, population.since)
    if resource in RUNS:
        own.load(resource)
        assert own.ids(resource) == expected_ids(api, resource, population.since), "the second load changes nothing"


@pytest.mark.parametrize("mode", ["round_robin", "fifo"])
def test_all_resources_in_either_order_of_reading(
    own: Own, api: PrefectApi, population: Population, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("EXTRACT__NEXT_ITEM_MODE", mode)
    own.since = population.since
    pipeline = own.load()
    own.assert_true()
    counts = own.values("SELECT rows_changed FROM prefect.syncs")
    rows = pipeline.last_trace.last_normalize_info.row_counts
    assert counts == [sum(rows.get(table, 0) for table in RESOURCES)]
    pipeline = own.load()
    own.assert_true()
    assert own.values("SELECT whole FROM prefect.syncs") == [True, True]
    for table in (*RUNS, *DIMENSIONS):
        assert len(own.ids(table)) == len(set(own.ids(table)))
    assert_schema(pipeline)
    assert_columns(own)
    state = json.dumps(pipeline.state, default=str)
    assert len(state) < 8_000, state


def assert_schema(pipeline: dlt.Pipeline) -> None:
    """Every table and column is described, keys and types are those of the contract."""
    schema = pipeline.default_schema
    assert {name for name in schema.tables if not name.startswith("_dlt")} <= ALL_TABLES.keys()
    assert {*RESOURCES, "tombstones", "syncs"} <= set(schema.tables)
    for name, table in schema.tables.items():
        if name.startswith("_dlt"):
            continue
        wanted = ALL_TABLES[name]
        if name in TABLES:
            assert table.get("description") == wanted.description
        for column in wanted.columns:
            seen = table["columns"][column.name]
            assert seen.get("description"), f"{name}.{column.name} has no description"
            assert seen["data_type"] == column.type, f"{name}.{column.name}"
            if column.type == "timestamp":
                assert seen.get("timezone", True), f"{name}.{column.name} has no time zone"
        keys = {column for column, hints in table["columns"].items() if hints.get("primary_key")}
        merged = {column for column, hints in table["columns"].items() if hints.get("merge_key")}
        if "id" in wanted.key:
            assert keys == set(wanted.key)
            assert table["write_disposition"] == "merge"
        elif wanted.key:
            assert merged == set(wanted.key)
        assert set(table["columns"]) <= {column.name for column in wanted.columns} | DLT_COLUMNS


def assert_columns(own: Own) -> None:
    """Loaded columns are those of the tables, with their types, and nothing else."""
    for name in own.tables():
        table = ALL_TABLES[name]
        where = f"FROM information_schema.columns WHERE table_schema = 'prefect' AND table_name = '{name}'"
        types = dict(
            zip(
                own.values(f"SELECT column_name {where} ORDER BY 1"),
                own.values(f"SELECT data_type {where} ORDER BY column_name"),
                strict=True,
            )
        )
        loaded = {column: type_ for column, type_ in types.items() if column not in DLT_COLUMNS}
        assert loaded == {column.name: DLT_TYPES[column.type] for column in table.columns}, name
    parameters = own.values("SELECT parameters FROM prefect.flow_runs WHERE list_contains(json_keys(parameters), 'A')")
    assert [json.loads(value) for value in parameters] in ([], [PARAMETERS])


@pytest.mark.parametrize(
    ("filters", "flow_runs", "task_runs"),
    [
        pytest.param({"tags_any": ["a"]}, "a ab", "a ab", id="any tag"),
        pytest.param({"tags_all": ["a", "b"]}, "ab", "ab", id="all tags"),
        pytest.param({"tags_any": ["a", "b"], "tags_all": ["b"]}, "ab b", "ab b", id="any and all tags"),
        pytest.param({"state_types": ["FAILED", "CRASHED"]}, "ab none", "ab", id="state types"),
        pytest.param({"exclude_state_types": ["COMPLETED", "PAUSED", "PENDING"]}, "ab b none", "ab b", id="without"),
        pytest.param({"flow_names": ["etl"]}, "a ab", "a ab", id="flow names"),
        pytest.param({"deployments": ["hourly"]}, "b", "b", id="deployment by name"),
        pytest.param({"deployments": ["daily id"]}, "a", "a", id="deployment by id"),
        pytest.param({"deployments": ["hourly", "daily id"]}, "a b", "a b", id="deployments by name and id"),
        pytest.param({"flow_names": ["etl"], "tags_any": ["b"]}, "ab", "ab", id="two at once"),
    ],
)
def test_filters(
    own: Own, api: PrefectApi, population: Population, filters: dict[str, list[str]], flow_runs: str, task_runs: str
) -> None:
    own.since = population.since
    if "flow_names" in filters:
        id_ = population.ids["etl"]
        filters = {**filters, "flow_names": [api.call("GET", f"/flows/{id_}")["name"]]}
    if "deployments" in filters:
        given = filters["deployments"]
        filters = {"deployments": [population.ids["daily"] if name == "daily id" else name for name in given]}
    mine = set(population.ids.values())
    own.load("flow_runs", "task_runs", **filters)
    # runs of other tests of this module may match as well
    loaded = [set(own.ids(table)) & mine for table in ("flow_runs", "task_runs")]
    assert loaded[0] == {population.ids[name] for name in flow_runs.split()}
    assert loaded[1] == {population.ids[f"task of {name}"] for name in task_runs.split()}


def test_start_date(own: Own, api: PrefectApi) -> None:
    own.settings["horizon_hours"] = 48
    day = seconds(86400)
    late, early = (api.flow_run(scheduled(own.since + number * day)) for number in (1.5, 0.5))
    own.since += day
    own.load("flow_runs")
    assert own.ids("flow_runs") == [late]
    for run_id in (late, early):
        api.call("DELETE", f"/flow_runs/{run_id}")


def test_a_wider_filter_loads_what_is_newly_wanted(own: Own, api: PrefectApi) -> None:
    one, two = api.flow_run("COMPLETED", tags=["one"]), api.flow_run("COMPLETED", tags=["two"])
    resources = ("flow_runs", "flow_run_states")
    own.load(*resources, tags_any=["one"])
    assert own.ids("flow_runs") == [one]
    own.load(*resources, tags_any=["one", "two"])
    own.assert_true()
    assert own.ids("flow_runs") == sorted([one, two])


def test_state_history_selected_later_begins_with_the_earliest_run(own: Own, api: PrefectApi) -> None:
    run_id = api.flow_run(None)
    api.complete_flow_run(run_id)
    own.load("flow_runs")
    assert own.tables() >= {"flow_runs"}
    assert "flow_run_states" not in own.tables()
    own.load("flow_runs", "flow_run_states")
    own.assert_true()
    assert len(own.ids("flow_run_states")) == 3


def test_first_load_in_chunks_with_changes_between_them(own: Own, api: PrefectApi) -> None:
    own.settings["chunk_rows"] = 5
    runs = [api.flow_run("RUNNING") for _ in range(18)]
    tasks = [api.task_run("RUNNING", flow_run_id=runs[0]) for _ in range(12)]
    resources = (*RUNS, "syncs")
    sizes = []
    while True:
        pipeline = own.load(*resources)
        sizes.append(len(own.ids("flow_runs")))
        if not unfinished(dict(pipeline.state)):
            break
        if len(sizes) == 1:
            api.set_flow_run(runs[0], "COMPLETED")
            api.set_flow_run(runs[-1], "FAILED")
            api.set_task_run(tasks[0], "COMPLETED")
            runs.append(api.flow_run("COMPLETED"))
    assert len(sizes) > 2
    assert sizes == sorted(sizes)
    assert sizes[0] < 10
    own.load(*resources)
    own.assert_true()
    gaps = own.values("SELECT gaps FROM prefect.syncs ORDER BY _dlt_load_id")
    assert "sync again to go on" in gaps[0]
    assert own.values("SELECT DISTINCT unfinished FROM prefect.syncs WHERE NOT whole") == [True]
    assert own.values("SELECT whole FROM prefect.syncs ORDER BY _dlt_load_id")[-2:] == [True, True]
    # all chunks are whole up to when the first one began
    *of_chunks, last = own.values("SELECT window_end FROM prefect.syncs ORDER BY _dlt_load_id")
    assert len(set(of_chunks)) == 1
    assert last > of_chunks[0]


def test_one_reading_of_the_server_serves_runs_and_their_states(own: Own, api: PrefectApi, server: LocalServer) -> None:
    api.flow_run("COMPLETED")
    with FaultProxy(server.url) as proxy:
        own_api = PrefectApi(proxy.url)
        through = Own(own_api, own.folder, own.since)
        through.load("flow_runs", "flow_run_states")
        asked = [request.body.get("sort") for request in proxy.requests if request.path == "/flow_runs/filter"]
        own_api.close()
    # the oldest run, the window, and what is settled beyond the horizon
    assert len(asked) == 3
    assert set(own.source().selected_resources) == {*RESOURCES, "tombstones", "syncs"}


def test_a_full_sync_brings_back_what_was_deleted_by_hand(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run(None)
    api.complete_flow_run(run_id)
    api.task_run("COMPLETED", flow_run_id=api.flow_run("FAILED"))
    copy.sync()
    copy.outlive_lookback()
    copy.change(
        f"DELETE FROM prefect.flow_runs WHERE id = '{run_id}'",
        "DELETE FROM prefect.task_run_states",
        # not the state that the run is in now
        f"DELETE FROM prefect.flow_run_states WHERE flow_run_id = '{run_id}' AND type = 'PENDING'",
    )
    copy.sync(full=True)
    copy.assert_true()


def test_a_full_sync_that_was_cut_off_is_gone_on_with_in_full(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        api.complete_flow_run(api.flow_run(None))
    copy.sync()
    copy.outlive_lookback()
    copy.change("DELETE FROM prefect.flow_run_states WHERE type = 'PENDING'")
    copy.settings["chunk_rows"] = 2
    load, loads = Target.load, iter(range(2))

    def goes_down(self: Target, source: Any) -> Any:
        if next(loads) == 1:
            raise ServerUnavailable("it is down")
        return load(self, source)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "load", goes_down)
        with pytest.raises(ServerUnavailable):
            copy.sync(full=True)
    copy.sync()
    copy.assert_true()
    # and no longer than until it came to its end
    copy.sync()
    assert IN_FULL not in pipeline_state(copy)["sources"]["prefect_runs"]


@pytest.mark.parametrize(("resources", "loads"), [(("flow_runs",), 2), (("flows", "flow_run_history"), 1)])
def test_what_changed_in_a_long_first_load_is_read_once(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch, resources: tuple[str, ...], loads: int
) -> None:
    """Small tables are read whole, however long that takes."""
    monkeypatch.setattr(prefect_runs_pipelines.sync, "FRESH", timedelta(days=-1))
    api.flow_run("RUNNING")
    copy.sync(resources=resources)
    assert len(copy.values("SELECT _dlt_load_id FROM prefect.syncs")) == loads


def test_what_changed_in_a_long_first_load_is_read_once_where_one_kind_of_run_needs_fewer_chunks(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs_pipelines.sync, "FRESH", timedelta(days=-1))
    copy.settings["chunk_rows"] = 1
    flow_run = api.flow_run("RUNNING")
    for _ in range(3):
        api.task_run("COMPLETED", flow_run_id=flow_run)
    # or the sync that follows reads what ended in that second in parts
    api.outlive_its_second()
    copy.sync()
    unfinished = copy.values("SELECT unfinished FROM prefect.syncs ORDER BY _dlt_load_id")
    assert unfinished[-3:] == [True, False, False]


def pipeline_state(copy: Copy) -> dict[str, Any]:
    """As the destination has it."""
    with Target(copy.sync_options()) as target:
        target.restore()
        return dict(target.pipeline.state)


def test_extras_that_were_given_up_are_no_unfinished_first_load() -> None:
    resources = {"logs": {"progress": {"snapshot": {}}}, "flow_runs": {"progress": {}}}
    assert not first_load_unfinished({"sources": {"prefect_runs": {"resources": resources}}}, RESOURCES)
    assert first_load_unfinished({"sources": {"prefect_runs": {"resources": resources}}}, [*RESOURCES, "logs"])


def test_no_question_has_a_limit(copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQL Server does not know it."""
    asked: list[str] = []
    answers = Warehouse._answers

    def noted(self: Warehouse, questions: Iterable[Question]) -> list[Answer]:
        told = list(questions)
        asked.extend(sql for sql, _ in told)
        return answers(self, told)

    monkeypatch.setattr(Warehouse, "_answers", noted)
    for _ in range(2):
        api.task_run("COMPLETED", flow_run_id=api.flow_run("RUNNING"))
        copy.sync()
    copy.verify(sweep=True, histories=True)
    shown_status(copy.sync_options())
    assert len(asked) > 20
    assert [sql for sql in asked if re.search(r"\b(limit|top|fetch)\b", sql, re.IGNORECASE)] == []


def test_a_run_of_the_first_days_of_the_calendar(copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ancient {uuid.uuid4()}"
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES", f'["{name}"]')
    copy.since = datetime(1, 1, 1, tzinfo=UTC)
    ancient = api.flow_run(scheduled(copy.since), flow_id=api.flow(name))
    api.task_run(scheduled(copy.since), flow_run_id=ancient)
    try:
        assert copy.sync().whole
        assert copy.values("SELECT id FROM prefect.flow_runs") == [ancient]
        assert len(copy.values("SELECT id FROM prefect.task_run_states")) == 1
    finally:
        api.call("DELETE", f"/flow_runs/{ancient}")


def test_a_warehouse_file_deleted_by_hand_is_filled_again(copy: Copy, api: PrefectApi) -> None:
    api.task_run("COMPLETED", flow_run_id=api.flow_run("FAILED"))
    copy.sync_and_compare()
    copy.database.unlink()
    report = copy.sync_and_compare()
    assert report.first_load
    assert report.new["flow_runs"] == report.new["task_runs"] == 1


@pytest.fixture
def old_server(server: LocalServer, copy: Copy) -> Iterator[FaultProxy]:
    """The server as one of 3.4.25, whose task runs have no filter on `end_time`."""
    with FaultProxy(server.url) as proxy:
        copy.options["resources"] = RUNS
        proxy.inject(replace_json(lambda _: "3.4.25"), "/admin/version", times=None)
        refusal = {"exception_message": "Invalid request received.", "exception_detail": "extra_forbidden"}
        proxy.inject(
            status(422, body=refusal),
            "/task_runs/*",
            times=None,
            when=lambda request: "end_time" in (request.body or {}).get("task_runs", {}),
        )
        copy.url = proxy.url
        yield proxy
        assert 422 not in {request.status for request in proxy.requests}


def test_changes_of_a_server_that_cannot_filter_task_runs_by_their_end(
    copy: Copy, api: PrefectApi, old_server: FaultProxy
) -> None:
    copy.sync_and_compare()
    flow_run = api.flow_run("RUNNING")
    ended, retried, cancelled = (
        api.task_run(state, flow_run_id=flow_run) for state in ("RUNNING", "FAILED", "PENDING")
    )
    waits = api.task_run(scheduled(now() + seconds(3600)))
    report = copy.sync_and_compare()
    assert report.new["task_runs"] == 4
    copy.outlive_lookback()
    api.set_task_run(ended, "COMPLETED")
    api.set_task_run(cancelled, "CANCELLED")
    api.set_task_run(waits, "CANCELLED")
    api.set_task_run(retried, scheduled(now(), "AwaitingRetry"), force=True)
    api.set_flow_run(flow_run, "FAILED")
    report = copy.sync_and_compare()
    assert report.changed["task_runs"] == 4
    copy.outlive_lookback()
    for state in ("RUNNING", "COMPLETED"):
        api.set_task_run(retried, state)
    api.task_run("COMPLETED")
    report = copy.sync_and_compare()
    assert (report.new["task_runs"], report.changed["task_runs"]) == (1, 1)
    assert report.server_version == "3.4.25"


def test_ends_of_an_old_server_are_read_over_pages_that_move(
    copy: Copy, api: PrefectApi, old_server: FaultProxy
) -> None:
    copy.settings["page_size"] = 5
    copy.sync()
    runs = [api.task_run("COMPLETED") for _ in range(16)]
    still_open = api.task_run("RUNNING")

    def change() -> None:
        for run_id in (*runs[-4:], runs[3]):
            api.call("DELETE", f"/task_runs/{run_id}")
        api.set_task_run(still_open, "FAILED")

    def is_second_page(request: Any) -> bool:
        return bool(request.body["sort"] == "END_TIME_DESC" and request.body["offset"])

    old_server.before("/task_runs/filter", change, when=is_second_page)
    copy.sync()
    loaded = set(copy.values("SELECT id FROM prefect.task_runs"))
    assert {*runs[:3], *runs[4:-4]} <= loaded
    copy.sync()
    rows: list[Row] = api.runs("task_runs", copy.since)
    assert {row["id"] for row in rows} <= set(copy.values("SELECT id FROM prefect.task_runs"))
    assert copy.values(f"SELECT state_type FROM prefect.task_runs WHERE id = '{still_open}'") == ["FAILED"]
