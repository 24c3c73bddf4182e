"""Destinations that are files: rows meet as in a database, and what cannot be right is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from conftest import Copy
from lakes import LAKES
from prefect_api import PrefectApi

from prefect_runs import ConfigurationError
from prefect_runs.resources import resource
from prefect_runs.tables import TABLES
from prefect_runs_pipelines.destination import lake
from prefect_runs_pipelines.destination.lake.tables import OpenTable
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.status import status
from prefect_runs_pipelines.views import create_views, printed

TAGS = """
SELECT run.id, run.state_type, list(tag.value ORDER BY tag.value) FILTER (tag.value IS NOT NULL)
FROM prefect.flow_runs AS run LEFT JOIN prefect.flow_runs__tags AS tag ON tag._dlt_parent_id = run._dlt_id
GROUP BY ALL ORDER BY 1
"""


class Loads:
    """Rows loaded into a lake without a server; each call is one load."""

    def __init__(self, folder: Path, lake_format: str) -> None:
        self.lake = LAKES[lake_format](folder)
        self.pipeline = dlt.pipeline(
            "loads",
            pipelines_dir=str(folder / "pipelines"),
            destination=SyncOptions(destination="filesystem").dlt_destination(),
            dataset_name="prefect",
        )

    def __call__(self, table: str, *rows: dict[str, Any]) -> None:
        self.pipeline.extract(resource([{"workspace": "w", **row} for row in rows], TABLES[table]))
        self.pipeline.normalize()
        self.pipeline.load()

    def answers(self, sql: str) -> list[tuple[Any, ...]]:
        """What readers of the files are told, which is what dlt's client is told too."""
        with self.lake.reading() as reader:
            found = reader.execute(sql).fetchall()
        with self.pipeline.sql_client() as client, client.execute_query(sql) as cursor:
            assert [tuple(row) for row in cursor.fetchall()] == found
        return found

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.answers(f"SELECT count(*) FROM prefect.{table}")[0][0])


def run(id_: str, second: int, state: str, *tags: str) -> dict[str, Any]:
    """A row of flow_runs that was updated in that second."""
    return {"id": id_, "updated": f"2026-01-01T00:00:{second:02d}Z", "state_type": state, "tags": list(tags)}


@pytest.fixture(params=LAKES)
def load(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loads:
    for name, value in LAKES[request.param](tmp_path).environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
    return Loads(tmp_path, request.param)


def test_newest_of_two_rows_in_one_load_comes_with_its_own_tags(load: Loads) -> None:
    load("flow_runs", run("a", 2, "RUNNING", "new"), run("a", 1, "PENDING", "old", "older"))
    assert load.answers(TAGS) == [("a", "RUNNING", ["new"])]
    assert load.count("flow_runs__tags") == 1


def test_several_processes_normalise(load: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMALIZE__WORKERS", "2")
    load("flow_runs", run("a", 1, "RUNNING", "x", "y"))
    assert load.answers(TAGS) == [("a", "RUNNING", ["x", "y"])]


def test_tags_that_a_run_lost_are_gone(load: Loads) -> None:
    load("flow_runs", run("a", 1, "RUNNING", "x", "y"), run("b", 1, "RUNNING", "z"))
    load("flow_runs", run("a", 2, "COMPLETED", "x"), run("c", 2, "PENDING"))
    assert load.answers(TAGS) == [("a", "COMPLETED", ["x"]), ("b", "RUNNING", ["z"]), ("c", "PENDING", None)]
    # a load without a single tag has no file of tags
    load("flow_runs", run("a", 3, "COMPLETED"), run("b", 3, "FAILED"))
    assert load.answers(TAGS) == [("a", "COMPLETED", None), ("b", "FAILED", None), ("c", "PENDING", None)]
    assert load.count("flow_runs__tags") == 0


def test_tombstone_of_what_came_back_is_gone(load: Loads) -> None:
    def tombstone(id_: str, **more: Any) -> dict[str, Any]:
        return {"resource": "flow_runs", "id": id_, **more}

    load("tombstones", tombstone("a", reason="deleted"), tombstone("b", reason="deleted"))
    load("tombstones", tombstone("a", returned=True))
    assert load.answers("SELECT id FROM prefect.tombstones") == [("b",)]
    load("tombstones", tombstone("a", reason="aged_out"))
    assert load.count("tombstones") == 2


def test_counts_of_an_hour_are_replaced_together(load: Loads) -> None:
    def hour(number: int, state: str | None, count: int | None, **more: Any) -> dict[str, Any]:
        return {"interval_start": f"2026-01-01T{number:02d}:00:00Z", "state_type": state, "count_runs": count, **more}

    load("flow_run_history", hour(1, "FAILED", 1), hour(1, "RUNNING", 2), hour(2, "FAILED", 3), hour(3, "FAILED", 4))
    load("flow_run_history", hour(1, "COMPLETED", 3), hour(2, None, None, emptied=True))
    counts = "SELECT hour(interval_start AT TIME ZONE 'UTC'), state_type, count_runs FROM prefect.flow_run_history"
    assert load.answers(f"{counts} ORDER BY 1") == [(1, "COMPLETED", 3), (3, "FAILED", 4)]


def test_load_that_was_killed_between_two_tables_is_made_again(load: Loads) -> None:
    if load.lake.format == "parquet":
        pytest.skip("no table is merged when plain parquet is loaded")
    load("flow_runs", run("a", 1, "RUNNING", "x", "y"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenTable, "replace", _killed_at("flow_runs", OpenTable.replace))
        with pytest.raises(Exception, match="killed"):
            load("flow_runs", run("a", 2, "COMPLETED", "z"))
    load.pipeline.load()
    assert load.answers(TAGS) == [("a", "COMPLETED", ["z"])]
    assert load.count("flow_runs__tags") == 1


def _killed_at(table: str, replace: Callable[..., None]) -> Callable[..., None]:
    def killed(self: OpenTable, *arguments: Any) -> None:
        if self.name == table:
            raise RuntimeError("killed")
        replace(self, *arguments)

    return killed


@pytest.mark.parametrize("lake_format", ["parquet", "delta"])
def test_changes_reach_a_lake_and_verify_finds_it_whole(copy: Copy, api: PrefectApi, lake_format: str) -> None:
    copy.destination = lake_format
    changing, deleted = api.flow_run("RUNNING", tags=["a", "b"], parameters={"x": 1}), api.flow_run("RUNNING")
    report = copy.sync_and_compare()
    assert (lake.ONLY_GROWS in report.warnings) == (lake_format == "parquet")
    api.set_flow_run(changing, "COMPLETED")
    api.call("PATCH", f"/flow_runs/{changing}", {"tags": ["a"]})
    api.call("DELETE", f"/flow_runs/{deleted}")
    report = copy.sync_and_compare()
    assert (report.changed["flow_runs"], report.new["tombstones"]) == (1, 1)
    assert copy.verify(sweep=True).whole
    assert copy.sync().changed["flow_runs"] == 0
    assert dict(status(copy.sync_options()).rows)["flow_runs"] == 2


def test_printed_views_run_in_duckdb(copy: Copy, api: PrefectApi) -> None:
    copy.destination = "parquet"
    options = copy.sync_options()
    with pytest.raises(ConfigurationError, match="no runs in filesystem yet"):
        list(printed(options, "duckdb"))
    run_id = api.flow_run("RUNNING", tags=["a"])
    copy.sync()
    api.set_flow_run(run_id, "COMPLETED")
    copy.sync()
    with duckdb.connect() as reader:
        for statement in printed(options, "duckdb"):
            reader.execute(statement)
        assert reader.execute("SELECT id, outcome FROM prefect.flow_run_facts").fetchall() == [(run_id, "completed")]
    spark = "".join(printed(options, "spark"))
    assert "FROM parquet.`" in spark
    assert "QUALIFY" not in spark
    with pytest.raises(ConfigurationError, match="duckdb, spark, not for snowflake"):
        list(printed(options, "snowflake"))
    with pytest.raises(ConfigurationError, match="keeps no views"):
        create_views(options)


def test_format_that_is_not_that_of_the_tables_is_refused(load: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    load("syncs", {"requests": 1})
    other = "delta" if load.lake.format == "parquet" else "parquet"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__TABLE_FORMAT", other)
    with pytest.raises(Exception, match=f"holds {load.lake.format} tables, and table_format is {other}"):
        Loads(load.lake.folder, load.lake.format)("syncs", {"requests": 2})


@pytest.mark.parametrize("table_format", ["delta", "iceberg"])
def test_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_format: str
) -> None:
    monkeypatch.setattr(lake, "find_spec", lambda name: None)
    for name, value in LAKES[table_format](tmp_path).environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"pip install 'dlt-source-prefect\[{table_format}\]'"):
        Loads(tmp_path, table_format)("syncs", {"requests": 1})


def test_iceberg_in_a_folder_that_pyiceberg_would_not_find_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LAKES["iceberg"](tmp_path / "a b").environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="no folder with a space"):
        Loads(tmp_path, "iceberg")("syncs", {"requests": 1})
