"""Several workspaces in one dataset: each with its own watermark, told apart everywhere, never mixed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import handmade
import pytest
from comparison import column_values, differences
from conftest import IMPATIENT, VERSION
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from prefect_api import PrefectApi, now, seconds
from soundness import unsound
from warehouses import DuckdbFile

from prefect_runs import ConfigurationError
from prefect_runs.dimensions import DIMENSIONS
from prefect_runs_pipelines.cli import main
from prefect_runs_pipelines.command.outcomes import (
    EXIT_CONFIGURATION,
    EXIT_DRIFT,
    EXIT_ERROR,
    EXIT_GAPS,
    EXIT_OK,
    EXIT_RETRY,
    worst,
)
from prefect_runs_pipelines.destination.warehouse import Warehouse
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.sync import sync
from prefect_runs_pipelines.target import asked_only
from prefect_runs_pipelines.workspaces import configured, each_workspace, workspace_of


@dataclass
class Dataset:
    """A folder with the configuration of several workspaces, and the dataset that they share."""

    folder: Path
    since: datetime = field(default_factory=lambda: now() - seconds(0.5))

    @property
    def warehouse(self) -> DuckdbFile:
        return DuckdbFile(self.folder, "prefect_runs.duckdb")

    @property
    def database(self) -> Path:
        return self.warehouse.file

    def configure(self, workspaces: dict[str, str], more: str = "") -> None:
        """Write `.dlt/config.toml` with the URL of each workspace."""
        sections = [
            f'[sources.prefect_runs.workspaces."{name}"]\napi_url = "{url}"\n' for name, url in workspaces.items()
        ]
        (self.folder / ".dlt").mkdir(exist_ok=True)
        (self.folder / ".dlt" / "config.toml").write_text("\n".join([*sections, more]))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The installed command in this folder, with next to no environment."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "DLT_DATA_DIR": str(self.folder / "dlt"),
            "RUNTIME__REQUEST_MAX_ATTEMPTS": "2",
            "RUNTIME__REQUEST_BACKOFF_FACTOR": "0.01",
            # other tests share one of the servers
            "SOURCES__PREFECT_RUNS__FILTERS__START_DATE": self.since.isoformat(),
            **variables,
        }
        command = [Path(sys.executable).parent / "prefect-runs", *arguments]
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)

    def works(self, *arguments: str) -> str:
        """Run a command, which ends with 0; what it printed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def rows(self, table: str, workspace: str) -> list[tuple[Any, ...]]:
        """A workspace's rows of a table, as they are."""
        with duckdb.connect(str(self.database), read_only=True) as warehouse:
            sql = f"SELECT * FROM prefect.{table} WHERE workspace = ? ORDER BY id"
            return warehouse.execute(sql, [workspace]).fetchall()

    def values(self, sql: str) -> list[Any]:
        return column_values(self.warehouse, sql)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


@pytest.fixture(scope="module")
def second() -> Iterator[LocalServer]:
    """Another server, with a database file that can be copied."""
    with contextlib.closing(LocalServer(VERSION, settings=IMPATIENT)) as running:
        yield running.start()


@pytest.fixture(scope="module")
def second_api(second: LocalServer) -> Iterator[PrefectApi]:
    client = PrefectApi(second.url)
    yield client
    client.close()


def populate(api: PrefectApi) -> str:
    """A flow run that ended, with a task run; its id."""
    run_id = api.flow_run("PENDING", tags=["nightly"])
    api.task_run("COMPLETED", flow_run_id=run_id)
    api.set_flow_run(run_id, "RUNNING")
    api.set_flow_run(run_id, "COMPLETED")
    return run_id


def test_two_servers_of_which_one_is_down_for_a_while(
    dataset: Dataset, server: LocalServer, api: PrefectApi, second: LocalServer, second_api: PrefectApi
) -> None:
    dataset.configure({"north": server.url, "south": second.url})
    populate(api)
    southern = populate(second_api)
    changed_meanwhile = second_api.flow_run("RUNNING")
    told = json.loads(dataset.works("sync", "--json"))
    assert told["exit_code"] == 0
    assert {name: entry["first_load"] for name, entry in told["workspaces"].items()} == {"north": True, "south": True}

    second_api.set_flow_run(changed_meanwhile, "COMPLETED")
    second.stop()
    populate(api)
    published = DuckdbFile(dataset.folder, "published.duckdb")
    ended = dataset.run("sync", "--publish", str(published.file))
    assert ended.returncode == 3
    assert f"prefect-runs: south: GET {second.url}/admin/version got no answer" in ended.stderr
    assert "north (" in ended.stdout
    assert "whole: nothing is known to be missing" in ended.stdout
    assert [line.split()[:2] for line in ended.stdout.splitlines()[-2:]] == [["north", "0"], ["south", "3"]]
    assert differences(api, dataset.warehouse, dataset.since, "north") == []
    # what was loaded is published all the same
    assert column_values(published, "SELECT count(*) FROM prefect.flow_runs WHERE workspace = 'north'") == [2]

    second.start()
    populate(second_api)
    told = json.loads(dataset.works("sync", "--json"))
    # each from its own watermark
    windows = {name: entry["window_start"] for name, entry in told["workspaces"].items()}
    assert windows["south"] < windows["north"]
    assert differences(api, dataset.warehouse, dataset.since, "north") == []
    assert differences(second_api, dataset.warehouse, dataset.since, "south") == []
    assert unsound(dataset.warehouse) == []
    verified = json.loads(dataset.works("verify", "--sweep", "--json"))["workspaces"]
    assert {name: entry["whole"] for name, entry in verified.items()} == {"north": True, "south": True}
    assert southern in dataset.values("SELECT id FROM prefect.flow_runs WHERE workspace = 'south'")


def test_histories_that_only_another_workspace_loads_are_not_missed(
    dataset: Dataset, server: LocalServer, api: PrefectApi, second: LocalServer, second_api: PrefectApi
) -> None:
    populate(api)
    populate(second_api)
    dataset.configure({"north": server.url, "south": second.url})
    dataset.works("sync", "--workspace", "north")
    dataset.works("sync", "--workspace", "south", "--resources", "flow_runs,task_runs")
    dataset.works("verify")
    dataset.works("models")
    sql = "SELECT workspace FROM prefect.data_quality WHERE name LIKE '%without state history'"
    assert set(dataset.values(sql)) == {"north"}


SHARED = ("flow_runs", "task_runs", "flow_run_states", "task_run_states", *DIMENSIONS)


@pytest.fixture(scope="module")
def backed_up(second: LocalServer, second_api: PrefectApi) -> Iterator[LocalServer]:
    """A server restored from a backup of the second one."""
    populate(second_api)
    pool = f"pool of {now()}"
    second_api.call("POST", "/work_pools/", {"name": pool, "type": "process"})
    second_api.call("POST", "/deployments/", {"name": "daily", "flow_id": second_api.flow()})
    restored = LocalServer(VERSION, settings=IMPATIENT)
    with (
        contextlib.closing(restored),
        contextlib.closing(sqlite3.connect(second.home / "prefect.db", timeout=60)) as there,
        contextlib.closing(sqlite3.connect(restored.home / "prefect.db")) as here,
    ):
        there.backup(here)
        yield restored.start()


def options_of(folder: Path, workspace: str, url: str, **options: Any) -> SyncOptions:
    """A sync of one of several workspaces into one file."""
    return SyncOptions(
        api_url=url,
        workspace=workspace,
        database=str(folder / "prefect_runs.duckdb"),
        pipelines_dir=str(folder / "pipelines"),
        **options,
    )


class TestSharedIds:
    def test_are_refused_and_nothing_is_overwritten(
        self, dataset: Dataset, second: LocalServer, backed_up: LocalServer
    ) -> None:
        sync(options_of(dataset.folder, "south", second.url))
        before = {table: dataset.rows(table, "south") for table in SHARED}
        assert all(before.values())
        for resources in ((), *((table,) for table in SHARED)):
            options = options_of(dataset.folder, "restored", backed_up.url, resources=resources)
            with pytest.raises(ConfigurationError) as refused:
                sync(options)
            told = str(refused.value)
            assert f"of the workspace 'restored' ({backed_up.url})" in told
            assert f"workspace 'south' ({second.url})" in told
            assert "restored from a backup" in told
            assert "dataset of its own (--dataset)" in told
            table, id_ = told.split()[:2]
            assert table in (resources or SHARED)
            assert id_ in {row[0] for row in before[table]}
            with pytest.raises(ConfigurationError):
                # nothing of the refused sync waits to be loaded
                sync(options)
        assert {table: dataset.rows(table, "south") for table in SHARED} == before
        for table in (*SHARED, "tombstones", "syncs"):
            assert dataset.values(f"SELECT 1 FROM prefect.{table} WHERE workspace = 'restored'") == []
        # the first one goes on
        assert sync(options_of(dataset.folder, "south", second.url)).whole

    def test_are_refused_when_a_server_is_replaced_by_a_backup_of_another(
        self, dataset: Dataset, server: LocalServer, second: LocalServer, backed_up: LocalServer
    ) -> None:
        start = dataset.since.isoformat()
        sync(options_of(dataset.folder, "south", second.url))
        sync(options_of(dataset.folder, "staging", server.url, start_date=start))
        flows = dataset.rows("flows", "south")
        with pytest.raises(ConfigurationError, match="is in this dataset as a row of the workspace 'south'"):
            sync(options_of(dataset.folder, "staging", backed_up.url, start_date=start))
        assert dataset.rows("flows", "south") == flows

    def test_under_another_name_of_the_same_server(self, dataset: Dataset, second: LocalServer) -> None:
        sync(options_of(dataset.folder, "south", second.url))
        with pytest.raises(ConfigurationError, match=r"loaded from the same URL\. .* use the name 'south' again"):
            sync(options_of(dataset.folder, "renamed", second.url))

    def test_cost_an_idle_sync_no_query(
        self, dataset: Dataset, second: LocalServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        of_others = Warehouse.of_others

        def counted(self: Warehouse, table: str, ids: Collection[str]) -> Any:
            asked.append(table)
            return of_others(self, table, ids)

        monkeypatch.setattr(Warehouse, "of_others", counted)
        options = options_of(dataset.folder, "south", second.url)
        sync(options)
        assert "flow_runs" in asked
        asked.clear()
        sync(options)
        assert asked == []


def test_a_workspace_that_loaded_nothing_yet_can_be_asked_for(
    dataset: Dataset, second: LocalServer, second_api: PrefectApi
) -> None:
    populate(second_api)
    sync(options_of(dataset.folder, "south", second.url))
    dataset.configure({"east": "http://127.0.0.1:9/api", "south": second.url})
    shown = dataset.works("status")
    assert "holds nothing of east yet" in shown
    assert "south → prefect_runs.duckdb" in shown
    assert "views in prefect_runs.duckdb" in dataset.works("models")
    told = json.loads(dataset.works("report", "--workspace", "south", "--json"))
    assert (told["workspace"], told["flow_runs"] > 0) == ("south", True)
    assert json.loads(dataset.works("report", "--workspace", "east", "--json"))["flow_runs"] == 0
    shown = dataset.works("status", "--workspace", "east")
    assert "nothing of east yet, but of south (--workspace)" in shown
    unknown = dataset.run("report", "--workspace", "nope", "--api-url", second.url)
    assert (unknown.returncode, "there is of south: name one" in unknown.stderr) == (2, True)
    refused = dataset.run("report")
    assert (refused.returncode, "name one of east, south (--workspace)" in refused.stderr) == (2, True)


def test_what_other_workspaces_loaded_last_hides_no_table(tmp_path: Path) -> None:
    options = handmade.load(tmp_path, "duckdb")
    # whose pipeline, and so the schema that is stored last, knows of one run and of no task run
    handmade.load(tmp_path, "duckdb", only=("missed",), workspace="another", prefix="other-")
    # on another machine
    with asked_only(options) as target:
        assert target.warehouse.has("task_run_states", "sequence")
        assert target.warehouse.has("flow_runs__tags")
        assert not target.warehouse.has("flow_runs", "no_such_column")
        assert not target.warehouse.has("verifications")


NORTH, SOUTH = "http://north:4200/api", "http://south:4200/api"


@pytest.fixture
def project(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    """The folder as dlt's project of this process, without what is configured elsewhere."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "SOURCES__")):
            monkeypatch.delenv(name)
    context = Container()[PluggableRunContext]
    before = context.context.run_dir
    context.reload(str(dataset.folder))
    yield dataset
    context.reload(before)


def reload() -> None:
    """Read dlt's files again."""
    Container()[PluggableRunContext].reload_providers()


class TestConfiguration:
    def configure(self, project: Dataset, workspaces: dict[str, str], more: str = "", secrets: str = "") -> None:
        project.configure(workspaces, more)
        (project.folder / ".dlt" / "secrets.toml").write_text(secrets)
        reload()

    def test_without_workspaces_there_is_one_server(self, project: Dataset) -> None:
        assert configured() == []
        assert each_workspace(SyncOptions()) is None
        assert workspace_of(SyncOptions(api_url=NORTH)).name == "north:4200"

    def test_names_come_from_both_files_and_from_the_environment(
        self, project: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secrets = f"[sources.prefect_runs.workspaces.south]\napi_url = '{SOUTH}'\napi_key = 'pnu_south'\n"
        self.configure(project, {"127.0.0.1:4200": "http://127.0.0.1:4200/api", "North": NORTH}, secrets=secrets)
        variable = "SOURCES__PREFECT_RUNS__WORKSPACES__{}"
        monkeypatch.setenv(variable.format("EAST__API_URL"), "http://east:4200/api")
        monkeypatch.setenv(variable.format("NORTH__API_URL"), "http://moved:4200/api")
        monkeypatch.setenv(variable.format("NORTH__API_KEY"), "pnu_north")
        assert configured() == ["127.0.0.1:4200", "North", "east", "south"]
        found = {name: workspace_of(SyncOptions(workspace=name)) for name in configured()}
        assert [workspace.connection.url for workspace in found.values()] == [
            *("http://127.0.0.1:4200/api", "http://moved:4200/api", "http://east:4200/api", SOUTH),
        ]
        keys = [workspace.credentials.api_key for workspace in found.values()]
        assert keys == [None, "pnu_north", None, "pnu_south"]

    def test_settings_and_filters_fall_back_to_the_common_ones(self, project: Dataset) -> None:
        more = """
            [sources.prefect_runs.settings]
            lookback_minutes = 3.0
            page_size = 100
            [sources.prefect_runs.filters]
            tags_any = ["nightly"]
            [sources.prefect_runs.workspaces.north.settings]
            page_size = 50
            [sources.prefect_runs.workspaces.south.filters]
            tags_any = []
        """
        self.configure(project, {"north": NORTH, "south": SOUTH}, more)
        north, south = (workspace_of(SyncOptions(workspace=name)) for name in ("north", "south"))
        assert (north.settings.lookback_minutes, north.settings.page_size) == (3.0, 50)
        assert (south.settings.lookback_minutes, south.settings.page_size) == (3.0, 100)
        assert (north.filters.tags_any, south.filters.tags_any) == (["nightly"], [])

    def test_a_key_of_one_server_is_not_sent_to_another(
        self, project: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secrets = f"[sources.prefect_runs.credentials]\napi_url = '{SOUTH}'\napi_key = 'pnu_other'\n"
        self.configure(project, {"north": NORTH}, secrets=secrets)
        # what other programs call so
        monkeypatch.setenv("API_KEY", "of something else")
        assert workspace_of(SyncOptions(workspace="north")).connection.auth is None
        # a key beside which Prefect has no URL is for all of them, as one of Prefect Cloud is
        monkeypatch.setenv("PREFECT_API_KEY", "pnu_of_the_account")
        assert workspace_of(SyncOptions(workspace="north")).connection.auth is not None

    def test_one_some_or_all(self, project: Dataset) -> None:
        self.configure(project, {"north": NORTH, "south": SOUTH})
        assert [one.workspace for one in each_workspace(SyncOptions()) or ()] == ["north", "south"]
        assert [one.workspace for one in each_workspace(SyncOptions(workspace="south, north")) or ()] == [
            *("south", "north"),
        ]
        # as with one server
        assert each_workspace(SyncOptions(workspace="south")) is None
        assert workspace_of(SyncOptions(workspace="south")).connection.url == SOUTH
        assert each_workspace(SyncOptions(api_url="http://other:4200/api")) is None
        assert workspace_of(SyncOptions(api_url="http://other:4200/api", workspace="x")).name == "x"

    @pytest.mark.parametrize(
        ("workspaces", "asked", "message"),
        [
            pytest.param({"a": NORTH, "b": "http://north:4200"}, None, "a and b are one server", id="URL twice"),
            pytest.param(
                {"a": "http://localhost:4200/api", "b": "http://127.0.0.1:4200/dashboard"},
                None,
                "a and b are one server",
                id="two names of this machine",
            ),
            pytest.param(
                {
                    "a": "https://app.prefect.cloud/account/x/workspace/y/runs",
                    "b": "https://api.prefect.cloud/api/accounts/x/workspaces/y",
                },
                None,
                "a and b are one server, https://api.prefect.cloud/api/accounts/x/workspaces/y",
                id="page and API of Cloud",
            ),
            pytest.param({"a": NORTH, "A": SOUTH}, None, "differ in capitals only", id="capitals"),
            pytest.param({"a": NORTH, "b": SOUTH}, "c", "no workspace c is configured; there are a, b", id="unknown"),
            pytest.param({"a": NORTH, "b": SOUTH}, "a,c", "no workspace c is configured", id="one unknown"),
            pytest.param({"a": NORTH, "b": SOUTH}, None, "name one of a, b", id="none named"),
            pytest.param({"a": ""}, "a", "set sources.prefect_runs.workspaces.a.api_url", id="without a URL"),
        ],
    )
    def test_what_is_refused(
        self, project: Dataset, workspaces: dict[str, str], asked: str | None, message: str
    ) -> None:
        self.configure(project, workspaces)
        options = SyncOptions(workspace=asked)
        refused = each_workspace if asked and "," in asked else workspace_of
        with pytest.raises(ConfigurationError, match=message):
            refused(options)

    def test_a_workspace_that_is_no_section_is_refused(self, project: Dataset) -> None:
        self.configure(project, {}, f"[sources.prefect_runs.workspaces]\nnorth = '{NORTH}'\n")
        with pytest.raises(ConfigurationError, match="north is no section"):
            configured()


class TestExitCode:
    @pytest.mark.parametrize(
        ("codes", "expected"),
        [
            ([EXIT_OK, EXIT_OK], EXIT_OK),
            ([EXIT_OK, EXIT_GAPS], EXIT_GAPS),
            ([EXIT_GAPS, EXIT_DRIFT], EXIT_DRIFT),
            ([EXIT_DRIFT, EXIT_RETRY], EXIT_RETRY),
            ([EXIT_RETRY, EXIT_ERROR], EXIT_ERROR),
            ([EXIT_ERROR, EXIT_CONFIGURATION, EXIT_OK], EXIT_CONFIGURATION),
        ],
    )
    def test_is_the_one_that_says_most_about_what_to_do(self, codes: list[int], expected: int) -> None:
        assert worst(codes) == expected

    def test_a_wrong_configuration_of_one_stops_no_other(self, dataset: Dataset, second: LocalServer) -> None:
        dataset.configure({"broken": "ftp://nowhere", "south": second.url})
        ended = dataset.run("sync", "--json")
        assert ended.returncode == EXIT_CONFIGURATION
        told = json.loads(ended.stdout)
        codes = {name: entry["exit_code"] for name, entry in told["workspaces"].items()}
        assert codes == {"broken": EXIT_CONFIGURATION, "south": EXIT_OK}
        assert "ftp://nowhere is not an http" in told["workspaces"]["broken"]["error"]
        assert "prefect-runs: broken: ftp://nowhere is not an http" in ended.stderr


def test_several_names_where_no_workspace_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["sync", "--workspace", "a,b", "--api-url", "http://127.0.0.1:9/api"]
    assert main(asked) == EXIT_CONFIGURATION
    assert "no workspaces are configured here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
