"""What dlt keeps in its working folder is never believed more than what the destination holds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command import Command
from conftest import SHORT_LOOKBACK_SECONDS, Copy
from dlt.destinations.job_client_impl import SqlLoadJob
from prefect_api import PrefectApi

from prefect_runs import WarehouseBusy
from prefect_runs_pipelines.command.outcomes import EXIT_RETRY
from prefect_runs_pipelines.destination.lake.tables import OpenTable
from prefect_runs_pipelines.status import status
from prefect_runs_pipelines.sync import SyncReport, sync
from prefect_runs_pipelines.target import Target
from prefect_runs_pipelines.working_folder import put_aside

RESOURCES = ("flow_runs", "task_runs", "flow_run_states", "task_run_states")


@dataclass
class Parts:
    """Workspaces that share a dataset; one server stands in for theirs, each with the runs of one flow."""

    copy: Copy
    monkeypatch: pytest.MonkeyPatch
    runs: dict[str, list[str]] = field(default_factory=dict)

    def run(self, *workspaces: str) -> None:
        """A run of each."""
        for workspace in workspaces:
            run_id = self.copy.api.flow_run(None, flow_id=self.copy.api.flow(f"of-{workspace}"))
            self.copy.api.complete_flow_run(run_id)
            self.runs.setdefault(workspace, []).append(run_id)

    def sync(self, *workspaces: str) -> list[SyncReport]:
        """One after the other."""
        return [self._sync(workspace) for workspace in workspaces]

    def _sync(self, workspace: str) -> SyncReport:
        self.monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES", f'["of-{workspace}"]')
        options = self.copy.sync_options()
        return sync(replace(options, workspace=workspace, resources=RESOURCES))

    def assert_all_there(self) -> None:
        for workspace, runs in self.runs.items():
            ids = self.copy.values(f"SELECT id FROM prefect.flow_runs WHERE workspace = '{workspace}'")
            assert sorted(ids) == sorted(runs)
            states = [state["id"] for run in runs for state in self.copy.api.states("flow_runs", run)]
            told = self.copy.values(f"SELECT id FROM prefect.flow_run_states WHERE workspace = '{workspace}'")
            assert sorted(told) == sorted(states)


def fails_to_load(monkeypatch: pytest.MonkeyPatch, sync: Callable[[], object]) -> None:
    """A sync whose rows were read, and whose load waits for the next one."""

    def out_of_memory(job: SqlLoadJob) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data")

    with monkeypatch.context() as patch:
        patch.setattr(SqlLoadJob, "run", out_of_memory)
        with pytest.raises(WarehouseBusy):
            sync()


@pytest.fixture
def parts(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(copy, monkeypatch)


def test_warehouse_put_back_from_a_backup_gets_what_came_after_it(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("RUNNING")
    copy.sync()
    backup = copy.folder / "backup"
    shutil.copy(copy.database, backup)
    api.complete_flow_run(api.flow_run(None))
    copy.sync_and_compare()
    copy.outlive_lookback()
    shutil.copy(backup, copy.database)
    copy.sync_and_compare()


def test_warehouse_put_back_while_a_load_waits_gets_what_came_between(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load was read for a later state of the warehouse, and its watermark would pass over what that had more."""
    api.flow_run("RUNNING")
    copy.sync()
    backup = copy.folder / "backup"
    shutil.copy(copy.database, backup)
    api.complete_flow_run(api.flow_run(None))
    copy.sync()
    copy.outlive_lookback()
    api.flow_run("RUNNING")
    fails_to_load(monkeypatch, copy.sync)
    shutil.copy(backup, copy.database)
    copy.sync_and_compare()


def test_load_that_waits_is_loaded_where_the_warehouse_is_as_it_was(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.flow_run("RUNNING")
    # the first load of all, and one after others
    for _ in range(2):
        run_id = api.flow_run("RUNNING")
        fails_to_load(monkeypatch, copy.sync)
        with Target(copy.sync_options()) as target:
            target.restore()
        assert run_id in copy.values("SELECT id FROM prefect.flow_runs")
        copy.sync_and_compare()


def test_moved_file_is_read_into_anew_and_that_is_said(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("RUNNING")
    assert copy.sync().warnings == []
    moved = str(copy.database.rename(copy.folder / "moved.duckdb"))
    [warning] = status(copy.sync_options(database=moved)).warnings
    assert "the next sync reads everything again" in warning
    report = copy.sync(database=moved)
    assert report.first_load
    assert "everything is read again" in report.warnings[0]
    assert copy.sync(database=moved).warnings == status(copy.sync_options(database=moved)).warnings == []


def test_file_removed_to_start_anew_is_filled_by_every_workspace(parts: Parts) -> None:
    parts.run("a", "b")
    parts.sync("a", "b")
    time.sleep(SHORT_LOOKBACK_SECONDS + 1.5)
    parts.sync("a", "b")
    parts.copy.database.unlink()
    assert all(report.first_load for report in parts.sync("a", "b"))
    parts.assert_all_there()


def test_commands_load_into_a_lake_one_after_the_other(parts: Parts) -> None:
    """Of two commits at a time, an Iceberg table without a catalogue keeps one."""
    parts.copy.destination = "iceberg"
    parts.run("a", "test")
    parts.sync("a")
    parts.run("a")
    other = Command(parts.copy)
    other.environment["DLT_DATA_DIR"] = str(parts.copy.folder)
    other.environment["SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES"] = '["of-test"]'
    told: list[str] = []
    replaced = OpenTable.replace

    def meanwhile(table: OpenTable, *arguments: Any) -> None:
        if table.name == "flow_runs":
            # the second one finds what the first one has read, and would load that
            told.extend(other.fails(EXIT_RETRY, "another prefect-runs command loads into this") for _ in range(2))
        replaced(table, *arguments)

    with parts.monkeypatch.context() as patch:
        patch.setattr(OpenTable, "replace", meanwhile)
        parts.sync("a")
    assert len(told) == 2
    process = other.start()
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0, f"{output}{error}"
    parts.assert_all_there()


def test_what_a_failed_load_staged_is_not_replaced_by_another_workspace(parts: Parts) -> None:
    parts.run("a", "b")
    parts.sync("a", "b")
    parts.run("a", "b")

    fails_to_load(parts.monkeypatch, lambda: parts.sync("a"))
    parts.sync("b", "a")
    parts.assert_all_there()


class TestKillAmidItsMaking:
    def folder(self, copy: Copy) -> Path:
        with Target(copy.sync_options()) as target:
            return Path(target.pipeline.working_dir)

    def test_folders_of_a_load_that_are_not_all_there(self, copy: Copy, api: PrefectApi) -> None:
        copy.sync_and_compare()
        shutil.rmtree(self.folder(copy) / "load" / "normalized")
        api.flow_run("RUNNING")
        copy.sync_and_compare()

    def test_old_one_that_was_put_aside(self, copy: Copy, api: PrefectApi) -> None:
        copy.sync()
        api.flow_run("RUNNING")
        folder = self.folder(copy)

        def interrupted() -> None:
            # of what was there nothing is left in place
            assert not folder.exists()
            raise InterruptedError

        with pytest.raises(InterruptedError), put_aside(folder):
            interrupted()
        copy.sync_and_compare()
        assert not folder.with_name(f"{folder.name}.dropped").exists()
