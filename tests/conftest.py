"""A real Prefect server for each process that runs tests, and a fresh copy of it for each test."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytest
import work_units
from comparison import column_values, differences
from fault_proxy import FaultProxy
from lakes import LAKES
from prefect_api import PrefectApi, now
from warehouses import CHOSEN, WAREHOUSES, Warehouse

from prefect_runs_pipelines.local.server import DEFAULT_VERSION, Database, LocalServer, local_server
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.sync import SyncReport, sync
from prefect_runs_pipelines.verify import VerifyOptions, VerifyReport, verify

# as the command does, for what it calls is most of what tests do
gc.set_threshold(50_000, 20, 20)

# the server that the tests run against; `make matrix` runs them against several
VERSION = os.environ.get("PREFECT_RUNS_TEST_SERVER", DEFAULT_VERSION)
DATABASE = cast(Database, os.environ.get("PREFECT_RUNS_TEST_DATABASE", "sqlite"))

# a server that does at once what others do after a while; nothing about its answers differs
IMPATIENT = {
    # a duration, not a number: older servers refuse to start with one
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "PT2S",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
}

# so that a test need not wait ten minutes for a run to be older than the lookback
SHORT_LOOKBACK_SECONDS = 2.0
# in which a sync surely ends, and is compared, on a busy machine; lakes commit table by table
SYNC_SECONDS = 20.0 if CHOSEN == "duckdb" else 45.0


@dataclass
class Copy:
    """A warehouse of one test: syncs what the server has since the test began, and compares."""

    api: PrefectApi
    folder: Path
    since: datetime
    url: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    destination: str = CHOSEN

    @cached_property
    def warehouse(self) -> Warehouse:
        """Where to; another copy in the same folder has the same."""
        return {**WAREHOUSES, **LAKES}[self.destination](self.folder)

    @property
    def database(self) -> Path:
        """The DuckDB file, in tests of that destination."""
        return Path(self.warehouse.options["database"])

    def sync_options(self, **options: Any) -> SyncOptions:
        """What every command on this copy is told."""
        # dlt reads it whenever it makes a pipeline, and the copy used last may have been another
        os.environ.update(self.warehouse.environment)
        given = {"start_date": self.since.isoformat(), **self.warehouse.options, **self.options, **options}
        return SyncOptions(
            api_url=self.url,
            workspace="test",
            pipelines_dir=str(self.folder / "pipelines"),
            settings=self.settings,
            **given,
        )

    def sync(self, **options: Any) -> SyncReport:
        """Sync once."""
        return sync(self.sync_options(**options))

    def verify(self, **how: Any) -> VerifyReport:
        """Verify once: since, sweep, repair."""
        return verify(self.sync_options(), VerifyOptions(**how))

    def assert_true(self) -> None:
        """Every loaded column of every run and every state equals what the server answers."""
        assert differences(self.api, self.warehouse, self.since) == []

    def sync_and_compare(self) -> SyncReport:
        """Sync once, then compare everything."""
        report = self.sync()
        self.assert_true()
        return report

    def outlive_lookback(self) -> None:
        """Wait until what happened so far is older than the lookback of the next sync but one."""
        time.sleep(SHORT_LOOKBACK_SECONDS + 1.5)
        self.sync()

    def change(self, *statements: str) -> None:
        """Change the warehouse by hand."""
        self.warehouse.change(*statements)

    def values(self, sql: str) -> list[Any]:
        """The first column of what `sql` gives."""
        return column_values(self.warehouse, sql)


def pytest_report_header() -> str:
    return f"server: Prefect {VERSION} on {DATABASE}; destination: {CHOSEN}"


def server_before(version: str) -> bool:
    """Whether the server is older than `version`."""
    return [int(number) for number in VERSION.split(".")] < [int(number) for number in version.split(".")]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> work_units.WorkUnits:
    return work_units.WorkUnits(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    work_units.long_first(items)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    with local_server(VERSION, IMPATIENT, DATABASE) as running:
        yield running


# a module may have a server of its own
@pytest.fixture(scope="module")
def api(server: LocalServer) -> Iterator[PrefectApi]:
    client = PrefectApi(server.url)
    yield client
    client.close()


@pytest.fixture
def proxy(server: LocalServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


@pytest.fixture
def copy(api: PrefectApi, server: LocalServer, tmp_path: Path) -> Iterator[Copy]:
    settings = {"lookback_minutes": SHORT_LOOKBACK_SECONDS / 60}
    # not a moment earlier: the test before may have made its last run just now
    yield Copy(api, tmp_path, now(), server.url, settings)
    # runs of the future would belong to every later test
    future = {"flow_runs": {"expected_start_time": {"after_": now().isoformat()}}}
    for run in api.call("POST", "/flow_runs/filter", future):
        api.call("DELETE", f"/flow_runs/{run['id']}")
