"""Runs that another pipeline loaded, as Airflow's or Dagster's do: what the commands tell of them."""

from __future__ import annotations

from typing import Any

import dlt
import pytest
from command import run_command
from conftest import Copy
from prefect_api import PrefectApi

from prefect_runs import ConfigurationError, prefect_runs
from prefect_runs_pipelines.destination.warehouse import Warehouse
from prefect_runs_pipelines.status import status


def load_with_own_pipeline(copy: Copy, **settings: Any) -> None:
    """As a DAG does: another name, and so another watermark."""
    pipeline = dlt.pipeline(
        "a_dag",
        destination=dlt.destinations.duckdb(str(copy.database)),
        dataset_name="prefect",
        pipelines_dir=str(copy.folder / "pipelines of others"),
    )
    pipeline.run(
        prefect_runs(
            copy.url,
            "test",
            {"start_date": copy.since.isoformat()},
            {**copy.settings, **settings},
            Warehouse(pipeline, "test"),
        )
    )


def test_what_another_pipeline_loaded_is_shown_verified_and_repaired(copy: Copy, api: PrefectApi) -> None:
    runs = [api.flow_run("COMPLETED") for _ in range(3)]
    api.task_run("RUNNING", flow_run_id=runs[0])
    load_with_own_pipeline(copy)

    shown = status(copy.sync_options())
    assert shown.watermarks.keys() == {"flow_runs", "task_runs", "flow_run_states", "task_run_states"}
    [window_end] = copy.values("SELECT window_end FROM prefect.syncs")
    assert set(shown.watermarks.values()) == {window_end}
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


def test_an_unfinished_first_load_of_another_pipeline_is_not_verified(copy: Copy, api: PrefectApi) -> None:
    for _ in range(6):
        api.flow_run("COMPLETED")
    load_with_own_pipeline(copy, chunk_rows=2)
    assert status(copy.sync_options()).first_load_unfinished
    with pytest.raises(ConfigurationError, match="the first load is not finished"):
        copy.verify()


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
