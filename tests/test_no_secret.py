"""What privacy rules are for is in nothing that a sync leaves: files, tables, logs, errors."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import SHORT_LOOKBACK_SECONDS, Copy
from fault_proxy import FaultProxy, replace_json
from prefect_api import PrefectApi, now
from test_kills import COMMAND
from test_real_flows import play, task_runs_of
from traces import columns_with, found

from prefect_runs_pipelines.command.outcomes import EXIT_ERROR, EXIT_OK
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.views import create_views

PAGE = Path(__file__).parents[1] / "docs/privacy.md"
SECRET = f"opensesame{os.urandom(6).hex()}"
SALT, KEY = "grains of salt for the tests", "pnu_keyofthetests0123456789"

RULES = {
    "drop": ["state_message", "cache_key", "parameters.password", "parameters.servers.token", "schedules.parameters"],
    "hash": ["tags", "flow_runs.name", "task_runs.name", "deployments.description", "flow_runs.idempotency_key"],
    "keep": ["labels.team"],
}
# where it is without rules; deployments' tables are loaded by the other tests of this server too
TOLD_IN = {
    *("flow_runs.name", "flow_runs.parameters", "flow_runs.state_message", "flow_runs__tags.value"),
    *("flow_runs.idempotency_key", "flow_runs.labels", "flow_run_states.message"),
    *("task_runs.name", "task_runs.state_message", "task_runs__tags.value", "task_run_states.message"),
    *("deployments.parameters", "deployments.description", "deployments__tags.value"),
    "deployments__schedules.parameters",
}


def variables(rules: dict[str, list[str]]) -> dict[str, str]:
    """Rules as environment variables."""
    section = "SOURCES__PREFECT_RUNS__PRIVACY__"
    return {f"{section}{name.upper()}": json.dumps(value) for name, value in rules.items()} | {f"{section}SALT": SALT}


@dataclass
class Syncs:
    """`prefect-runs` in processes of their own, at the log level that tells most."""

    copy: Copy
    rules: dict[str, list[str]]
    told: str = ""

    def run(self, *arguments: str, url: str | None = None, **environment: str) -> int:
        """The exit code of a command; what it says is kept in `told`."""
        place = ["--api-url", url or self.copy.url, "--workspace", "test", "--database", str(self.copy.database)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        process = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments, *place],
            cwd=self.copy.folder,
            env={
                **clean,
                "HOME": str(self.copy.folder),
                "DLT_DATA_DIR": str(self.copy.folder),
                "RUNTIME__LOG_LEVEL": "DEBUG",
                "SOURCES__PREFECT_RUNS__CREDENTIALS__API_KEY": KEY,
                "SOURCES__PREFECT_RUNS__FILTERS__START_DATE": self.copy.since.isoformat(),
                "SOURCES__PREFECT_RUNS__SETTINGS__LOOKBACK_MINUTES": str(SHORT_LOOKBACK_SECONDS / 60),
                "SOURCES__PREFECT_RUNS__SETTINGS__CHUNK_ROWS": "5",
                **variables(self.rules),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        self.told += process.stdout + process.stderr
        return process.returncode


@dataclass
class Told:
    """A server with runs that tell a secret, and the id of one that really ran."""

    since: Any
    run_id: str


def tell_more(api: PrefectApi) -> str:
    """Id of another run that tells the secret."""
    failed = {"type": "FAILED", "name": "Failed", "message": f"not with {SECRET}"}
    parameters = {"password": SECRET, "servers": [{"host": "a", "token": SECRET}, [{"TOKEN": SECRET}]]}
    labels = {"team": "etl", "who": SECRET}
    told = {"name": f"run of {SECRET}", "tags": [SECRET], "parameters": parameters, "labels": labels}
    return api.flow_run(failed, **told, idempotency_key=f"{SECRET} {os.urandom(4).hex()}")


@pytest.fixture(scope="module")
def told(api: PrefectApi, server: LocalServer) -> Told:
    since = now()
    run_id = play(server, "secret", SECRET)
    for _ in range(6):
        tell_more(api)
    schedule = {"schedule": {"interval": 86_400}, "active": False, "parameters": {"region": SECRET}}
    api.call(
        "POST",
        "/deployments/",
        {
            "name": f"nightly {os.urandom(4).hex()}",
            "flow_id": api.flow(),
            "description": f"begins with {SECRET}",
            "tags": [SECRET],
            "parameters": {"password": SECRET, "region": "eu"},
            "schedules": [schedule],
        },
    )
    [task_run] = task_runs_of(api, run_id)
    api.wait("task_runs", task_run, "Failed")
    return Told(since, run_id)


@pytest.fixture
def copy_of_told(told: Told, api: PrefectApi, server: LocalServer, tmp_path: Path) -> Copy:
    return Copy(api, tmp_path, told.since, server.url)


def tables_with(text: str, copy: Copy) -> set[str]:
    """`table.column` of the loaded dataset."""
    return {place.partition(".")[2] for place in columns_with(text, copy.database) if place.startswith("prefect.")}


def test_nothing_that_syncs_leave_has_the_secret(
    copy_of_told: Copy, told: Told, api: PrefectApi, proxy: FaultProxy
) -> None:
    copy = copy_of_told
    syncs = Syncs(copy, RULES)

    def mistyped(runs: Any) -> Any:
        return [{**run, "flow_version": [run["name"], run["parameters"]]} for run in runs]

    proxy.inject(replace_json(mistyped), "/flow_runs/filter", times=None)
    assert syncs.run("sync", url=proxy.url) == EXIT_ERROR
    assert "flow_version is a list of 2" in syncs.told
    # a first load in chunks, killed when its first package is about to be loaded
    assert syncs.run("sync", KILLED_BEFORE_A_MOVE_TO="started_jobs") == -9
    assert [path for path in copy.folder.rglob("*.parquet") if "flow_runs" in path.name]
    assert found(SECRET, copy.folder) == set()
    published = copy.folder / "published.duckdb"
    assert syncs.run("sync", "--publish", str(published)) == EXIT_OK
    assert published.exists()
    changed = tell_more(api)
    assert syncs.run("sync") == EXIT_OK
    assert copy.values(f"SELECT id FROM prefect.flow_runs WHERE id = '{changed}'")
    assert syncs.run("verify", "--sweep", "--json") == EXIT_OK
    assert syncs.run("status") == EXIT_OK
    assert found(SECRET, copy.folder) == set()
    assert found(KEY, copy.folder) == found(SALT, copy.folder) == set()
    assert not {text for text in (SECRET, KEY, SALT) if text in syncs.told}
    # what the rules leave is there, and hashes of one value are equal
    key = hmac.new(SALT.encode(), SECRET.encode(), hashlib.sha256).hexdigest()
    assert set(copy.values("SELECT value FROM prefect.flow_runs__tags")) == {key}
    assert set(copy.values("SELECT value FROM prefect.task_runs__tags")) == {key}
    [parameters] = copy.values(f"SELECT parameters FROM prefect.flow_runs WHERE id = '{told.run_id}'")
    assert json.loads(parameters) == {"servers": [{"host": "a"}]}
    [labels] = copy.values(f"SELECT labels FROM prefect.flow_runs WHERE id = '{changed}'")
    assert json.loads(labels) == {"team": "etl"}
    assert set(copy.values("SELECT state_message FROM prefect.flow_runs")) == {None}
    assert set(copy.values("SELECT message FROM prefect.flow_run_states")) == {None}


def test_a_new_rule_is_for_old_rows_after_what_its_page_says(
    copy_of_told: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of_told
    assert Syncs(copy, {}).run("sync", KILLED_BEFORE_A_MOVE_TO="started_jobs") == -9
    assert ".parquet" in found(SECRET, copy.folder), "the search finds nothing, whatever is there"
    gone = tell_more(api)
    assert copy.sync().whole
    assert TOLD_IN - tables_with(SECRET, copy) == set()
    telling = f"SELECT id FROM prefect.flow_runs WHERE contains(state_message, '{SECRET}')"
    assert gone in copy.values(telling)
    for name, value in variables(RULES).items():
        monkeypatch.setenv(name, value)
    api.call("DELETE", f"/flow_runs/{gone}")
    [warning] = copy.sync().warnings
    assert "privacy rules were changed" in warning
    assert copy.values("SELECT id FROM prefect.tombstones WHERE resource = 'flow_runs'") == [gone]
    drifts = copy.verify(sweep=True).passes[0].drifts
    assert {"name", "parameters", "state_message", "tags"} <= {column for drift in drifts for column in drift.columns}
    assert copy.sync(full=True).warnings == []
    assert copy.verify(sweep=True).whole
    # all that is left is of the run that the server no longer has
    assert copy.values(telling) == [gone]
    assert {place.partition(".")[0] for place in tables_with(SECRET, copy)} == {
        *("flow_runs", "flow_runs__tags", "flow_run_states")
    }
    create_views(copy.sync_options())
    page = PAGE.read_text()
    [statements] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with duckdb.connect(str(copy.database)) as warehouse:
        warehouse.execute(statements)
    assert columns_with(SECRET, copy.database) == set()
    monkeypatch.chdir(copy.folder)
    exec(textwrap.dedent(program).replace("prefect_runs.duckdb", str(copy.database)))
    (copy.folder / "fresh.duckdb").replace(copy.database)
    assert found(SECRET, copy.folder) == set()
    assert copy.sync().whole
    assert copy.values("SELECT count(*) > 6 FROM prefect.flow_run_facts") == [True]
