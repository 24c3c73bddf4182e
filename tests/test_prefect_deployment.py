"""The sync as a Prefect deployment: it copies the server that it runs on, its own runs included."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison import EVER, column_values, differences
from conftest import IMPATIENT
from deployed import WORKSPACE, Deployment, flow_python
from fault_proxy import FaultProxy, status
from prefect_api import PrefectApi

from prefect_runs import RESOURCES, ConfigurationError
from prefect_runs_pipelines.local.server import LocalServer, free_port, local_server
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.parts import one_report, parts
from prefect_runs_pipelines.sync import sync

pytestmark = pytest.mark.long

KEY = "pnu_secret_0123456789"

# several runs of the flow in one process, for starting one takes seconds; none waits before it tries again
SCRIPT = """
import json, sys
from prefect_runs_pipelines import prefect_flow
prefect_flow.sync_part = prefect_flow.sync_part.with_options(retry_delay_seconds=0)
for parameters in json.loads(sys.argv[1]):
    state = prefect_flow.sync_runs(**parameters, return_state=True)
    print(json.dumps([str(state.state_details.flow_run_id), state.type.value, state.name, state.message]))
"""


# a server of its own: a schedule's runs would be in the way of other tests
@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server(settings=IMPATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def deployment(server: LocalServer, api: PrefectApi, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(server, api, tmp_path_factory.mktemp("deployment"))


def test_deployment_copies_the_server_that_it_runs_on(deployment: Deployment, api: PrefectApi) -> None:
    before = api.flow_run("RUNNING", tags=["by somebody else"])
    deployment.deploy()
    with deployment.worker():
        first = deployment.run()
        while api.call("GET", f"/flow_runs/{first}")["state_type"] == "SCHEDULED":
            time.sleep(0.1)
        refused = deployment.run()
        api.wait("flow_runs", refused, "Cancelled")
        api.wait("flow_runs", first, "Completed")
        # in flight while it synced, so that only the next one sees its end
        assert state_in(deployment, first) == "Running"
        second = deployment.run(verify=True)
        api.wait("flow_runs", second, "Completed")
    states = [state_in(deployment, run) for run in (before, refused, first, second)]
    assert states == ["Running", "Cancelled", "Completed", "Running"]
    tasks = [*(f"sync {part}" for part in parts()), "verify"]
    attempts(api, first, len(tasks) - 1)
    attempts(api, second, len(tasks))
    assert api.call("GET", f"/flow_runs/{second}")["state"]["message"] == "nothing is known to be missing"
    assert sync(deployment.options).whole
    assert differences(api, deployment.warehouse, EVER) == []
    sql = f"SELECT name FROM prefect.task_runs WHERE flow_run_id = '{second}' ORDER BY start_time"
    assert column_values(deployment.warehouse, sql) == tasks
    artifacts = api.call("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [second]}}})
    shown = {artifact["key"]: artifact["data"] for artifact in artifacts}
    assert shown.keys() == {f"prefect-runs-sync-{WORKSPACE}", f"prefect-runs-verify-{WORKSPACE}"}
    assert "whole: nothing is known to be missing" in shown[f"prefect-runs-sync-{WORKSPACE}"]
    assert "whole up to" in shown[f"prefect-runs-verify-{WORKSPACE}"]


def state_in(deployment: Deployment, run_id: str) -> str:
    """The state of a flow run as the warehouse has it."""
    [state] = column_values(deployment.warehouse, f"SELECT state_name FROM prefect.flow_runs WHERE id = '{run_id}'")
    return str(state)


def test_states_of_the_flow_tell_what_the_exit_codes_tell(
    deployment: Deployment, server: LocalServer, api: PrefectApi
) -> None:
    # events are read by every sync but the first
    sync(deployment.options)
    asked = {"database": str(deployment.database), "workspace": WORKSPACE}
    with FaultProxy(server.url) as proxy:
        proxy.inject(status(404), "/events/filter", times=None)
        cases: list[dict[str, Any]] = [
            {**asked, "api_url": proxy.url},
            {**asked, "database": "somewhere.duckdb"},
            {**asked, "publish": "somewhere.duckdb"},
            {**asked, "resources": ["flow_runs", "flow_walks"]},
            {**asked, "api_url": server.url.replace("/api", "/other/api")},
            {**asked, "api_url": f"http://127.0.0.1:{free_port()}/api"},
        ]
        gaps, not_full, copy_not_full, unknown, no_api, nobody = flows(deployment, cases)
    assert gaps[1:3] == ["COMPLETED", "Gaps"]
    assert "the server gives no events" in gaps[3]
    for run, said in (
        (not_full, "in full"),
        (copy_not_full, "copy in full"),
        (unknown, "flow_walks"),
        (no_api, "there is no Prefect API"),
    ):
        assert run[1:3] == ["FAILED", "Misconfigured"]
        assert said in run[3]
    assert nobody[1:3] == ["FAILED", "Unavailable"]
    # a wrong configuration is not tried again; where nobody answers, one task tries again and no other waits too
    assert attempts(api, no_api[0], 3) == [1, 1, 1]
    assert attempts(api, nobody[0], 1) == [3]
    # neither in logs, parameters, states and artifacts, which the server keeps, nor beside the warehouse
    kept = [path for place in (server.home, deployment.folder) for path in place.rglob("*") if path.is_file()]
    assert server.home / "prefect.db" in kept
    assert [path for path in kept if KEY.encode() in path.read_bytes()] == []


def flows(deployment: Deployment, cases: list[dict[str, Any]]) -> list[list[str]]:
    """Id, state's type, name and message of a run of the flow with each of these parameters."""
    environment = {**deployment.environment, "RUNTIME__REQUEST_MAX_ATTEMPTS": "1", "PREFECT_API_KEY": KEY}
    command = [flow_python(), "-c", SCRIPT, json.dumps(cases)]
    result = subprocess.run(
        command, env=environment, cwd=deployment.folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def attempts(api: PrefectApi, flow_run_id: str, tasks: int) -> list[int]:
    """How often each of so many tasks was run; the server records them after their flow run has ended."""
    deadline = time.monotonic() + 300
    while True:
        runs = api.task_runs_of(flow_run_id)
        if len(runs) >= tasks and all(run["state"] and run["end_time"] for run in runs):
            return [run["run_count"] for run in runs]
        assert time.monotonic() < deadline, runs
        time.sleep(0.2)


class TestParts:
    def test_each_resource_is_in_one_part(self) -> None:
        assert sorted(name for names in parts().values() for name in names) == sorted(RESOURCES)
        assert list(parts()) == ["flow runs", "task runs", "other tables"]

    def test_only_what_is_asked_for(self) -> None:
        assert parts(["task_run_states", "flows", "task_runs"]) == {
            "task runs": ("task_runs", "task_run_states"),
            "other tables": ("flows",),
        }

    def test_extras_are_among_the_other_tables(self) -> None:
        assert parts(["flow_runs"], ["logs"]) == {"flow runs": ("flow_runs",), "other tables": ("logs",)}
        assert parts(extras=["logs"])["other tables"][-1] == "logs"

    def test_unknown_resources_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="flow_walks"):
            parts(["flow_walks"])

    def test_their_reports_are_one(self, server: LocalServer, api: PrefectApi, tmp_path: Path) -> None:
        api.task_run("RUNNING", flow_run_id=api.flow_run("RUNNING"))
        at_once, in_parts = (
            SyncOptions(server.url, "parts", database=str(tmp_path / name), pipelines_dir=str(tmp_path))
            for name in ("at_once.duckdb", "in_parts.duckdb")
        )
        reports = [sync(replace(in_parts, resources=names)) for names in parts().values()]
        together, alone = one_report(reports), sync(at_once)
        assert together.rows.pop("syncs") == len(reports)
        assert together.new.pop("syncs") == len(reports)
        assert alone.rows.pop("syncs") == alone.new.pop("syncs") == 1
        assert together.rows == together.new == alone.rows == alone.new
        assert together.first_load
        assert together.whole
        assert together.window_end == reports[0].window_end
        again = one_report([reports[0], sync(replace(in_parts, resources=parts()["task runs"])), reports[-1]])
        assert not again.first_load
        assert again.window_start is not None
