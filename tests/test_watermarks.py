"""Runs that another pipeline loaded, as Airflow's or Dagster's do: what the commands tell of them."""

from __future__ import annotations

from typing import Any

import dlt
import pytest
from command import run_command
from conftest import Copy
from prefect_api import PrefectApi

from prefect_runs import ConfigurationError, PrivacyRules, prefect_runs
from prefect_runs.settings import RUN_TABLES, STATE_TABLES
from prefect_runs_pipelines.destination.warehouse import Warehouse
from prefect_runs_pipelines.status import status


def load_with_own_pipeline(
    copy: Copy,
    *resources: str,
    workspace: str = "test",
    chunk_rows: int | None = None,
    drop: list[str] | None = None,
    **filters: Any,
) -> None:
    """As a DAG does: another name, and so another watermark."""
    pipeline = dlt.pipeline(
        "a_dag",
        destination=dlt.destinations.duckdb(str(copy.database)),
        dataset_name="prefect",
        pipelines_dir=str(copy.folder / "pipelines of others"),
    )
    source = prefect_runs(
        copy.url,
        workspace,
        {"start_date": copy.since.isoformat(), **filters},
        {**copy.settings, "chunk_rows": chunk_rows},
        Warehouse(pipeline, workspace),
        privacy=PrivacyRules(drop=drop),
    )
    pipeline.run(source.with_resources(*resources) if resources else source)


def test_what_another_pipeline_loaded_is_shown_verified_and_repaired(copy: Copy, api: PrefectApi) -> None:
    runs = [api.flow_run("COMPLETED") for _ in range(3)]
    api.task_run("RUNNING", flow_run_id=runs[0])
    load_with_own_pipeline(copy)

    shown = status(copy.sync_options())
    [window_end] = copy.values("SELECT window_end FROM prefect.syncs")
    for table in (*RUN_TABLES, *STATE_TABLES):
        assert shown.watermarks[table] == window_end
    [warning] = shown.warnings
    assert "loaded by another pipeline" in warning
    assert not shown.first_load_unfinished

    assert copy.verify(histories=True).whole
    copy.change(f"DELETE FROM prefect.flow_runs WHERE id = '{runs[1]}'")
    assert [drift.run_id for drift in copy.verify().passes[0].drifts] == [runs[1]]
    assert copy.verify(repair=True).whole
    copy.assert_true()
    # a repair has no watermark of its own
    assert status(copy.sync_options()).warnings == [warning]
    assert copy.verify().whole

    later = api.flow_run("RUNNING")
    load_with_own_pipeline(copy)
    copy.assert_true()
    assert later in copy.values("SELECT id FROM prefect.flow_runs")


def test_a_sync_of_what_another_pipeline_loaded_begins_anew(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("COMPLETED")
    load_with_own_pipeline(copy)
    report = copy.sync_and_compare()
    assert report.first_load
    assert "loaded by another pipeline" in report.warnings[0]
    assert status(copy.sync_options()).warnings == []
    assert copy.sync().warnings == []


def test_a_first_load_of_another_pipeline_is_verified_when_all_chunks_are_there(copy: Copy, api: PrefectApi) -> None:
    for _ in range(3):
        api.flow_run("COMPLETED")
    load_with_own_pipeline(copy, chunk_rows=2)
    assert status(copy.sync_options()).first_load_unfinished
    with pytest.raises(ConfigurationError, match="the first load is not finished"):
        copy.verify()
    load_with_own_pipeline(copy, chunk_rows=2)
    assert not status(copy.sync_options()).first_load_unfinished
    assert copy.verify().whole


def test_each_kind_of_run_has_a_watermark_of_its_own(copy: Copy, api: PrefectApi) -> None:
    task_run = api.task_run("RUNNING", flow_run_id=api.flow_run("RUNNING"))
    load_with_own_pipeline(copy)
    api.set_task_run(task_run, "COMPLETED")
    api.outlive_its_second()
    load_with_own_pipeline(copy, "flow_runs", "flow_run_states", "syncs")
    watermarks = status(copy.sync_options()).watermarks
    assert watermarks["flow_runs"] > watermarks["task_runs"]
    verified = copy.verify()
    assert verified.whole
    assert [drift.since_last_sync for drift in verified.passes[0].drifts] == [True]


def test_what_was_loaded_with_other_filters_is_not_compared(copy: Copy, api: PrefectApi) -> None:
    for state in ("COMPLETED", "FAILED"):
        api.flow_run(state)
    load_with_own_pipeline(copy, state_types=["FAILED"])
    with pytest.raises(ConfigurationError, match="no pipeline in the dataset loaded the runs of this workspace with"):
        copy.verify(repair=True)
    assert copy.values("SELECT state_type FROM prefect.flow_runs") == ["FAILED"]


def test_what_was_loaded_with_other_privacy_rules_is_not_compared(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("COMPLETED")
    load_with_own_pipeline(copy, drop=["flow_runs.name"])
    with pytest.raises(ConfigurationError, match="loaded with other privacy rules"):
        copy.verify(repair=True)
    assert copy.values("SELECT name FROM prefect.flow_runs") == [None]


def test_another_workspace_in_the_dataset_tells_nothing_of_this_one(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("COMPLETED")
    load_with_own_pipeline(copy, workspace="other")
    with pytest.raises(ConfigurationError, match="the first load is not finished"):
        copy.verify()
    assert status(copy.sync_options()).watermarks == {}


def test_of_two_pipelines_the_one_that_went_on_counts(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("COMPLETED")
    load_with_own_pipeline(copy)
    copy.sync()
    before = status(copy.sync_options())
    assert before.warnings == []
    api.outlive_its_second()
    load_with_own_pipeline(copy)
    after = status(copy.sync_options())
    assert after.watermarks["flow_runs"] > before.watermarks["flow_runs"]
    assert after.warnings == []


def test_a_backfill_into_an_empty_dataset_is_nobody_elses_load(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("COMPLETED")
    filled = run_command(copy, "backfill", "--start", copy.since.isoformat())
    assert filled.returncode == 0, filled.stderr
    assert status(copy.sync_options()).warnings == []
    assert copy.sync_and_compare().warnings == []


def test_a_dataset_without_anything_has_no_status(copy: Copy) -> None:
    dlt.pipeline(
        "empty",
        destination=dlt.destinations.duckdb(str(copy.database)),
        dataset_name="prefect",
        pipelines_dir=str(copy.folder / "pipelines of others"),
    ).run([{"a": 1}], table_name="others")
    shown = run_command(copy, "status")
    assert (shown.returncode, "there is nothing in" in shown.stderr) == (2, True)
