"""The Prefect deployment of docs/schedulers/prefect.md: deployed on a real server, run by a real worker, syncing it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import yaml
from pages import commands, files
from prefect_api import PrefectApi
from warehouses import DuckdbFile

from prefect_runs_pipelines.local.environments import environment_python
from prefect_runs_pipelines.local.server import DEFAULT_VERSION, LocalServer
from prefect_runs_pipelines.options import SyncOptions

ROOT = Path(__file__).parents[1]
PAGE = "schedulers/prefect.md"
WORKSPACE = "own"


def scheduler_python(label: str, pins: str, *requirements: str) -> Path:
    """The Python of an environment with a scheduler and what the connector needs; see `packages` for the connector."""
    needed = [requirement for requirement in requires("dlt-source-prefect") or () if "extra ==" not in requirement]
    return environment_python(label, pins, *requirements, *needed)


def flow_python() -> Path:
    """The Python of an environment with Prefect."""
    return scheduler_python(f"flow-{DEFAULT_VERSION}", "prefect-flow", f"prefect=={DEFAULT_VERSION}")


def packages(folder: Path) -> Path:
    """A folder for `PYTHONPATH` with the connector: a kept environment cannot have an install of one clone."""
    made = folder / "packages"
    made.mkdir()
    (made / "prefect_runs").symlink_to(ROOT / "sources" / "prefect_runs")
    (made / "prefect_runs_pipelines").symlink_to(ROOT / "pipelines")
    return made


@dataclass
class Deployment:
    """The deployment of the page on one server, with a warehouse and all else in `folder`."""

    server: LocalServer
    api: PrefectApi
    folder: Path
    schedule: dict[str, Any] | None = None

    @property
    def warehouse(self) -> DuckdbFile:
        return DuckdbFile(self.folder, "own.duckdb")

    @property
    def database(self) -> Path:
        return self.warehouse.file

    @property
    def options(self) -> SyncOptions:
        """What a command on the same warehouse is told."""
        return SyncOptions(
            api_url=self.server.url,
            workspace=WORKSPACE,
            database=str(self.database),
            pipelines_dir=str(self.folder / "dlt" / "pipelines"),
        )

    @cached_property
    def environment(self) -> dict[str, str]:
        return {
            **self.server.environment(PREFECT_LOGGING_LEVEL="INFO", PREFECT_WORKER_QUERY_SECONDS="1"),
            "PATH": f"{flow_python().parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(packages(self.folder)),
            "DLT_DATA_DIR": str(self.folder / "dlt"),
        }

    def deploy(self) -> None:
        """Do what the page says, with this warehouse; the schedule is the given one."""
        configured = yaml.safe_load(files(PAGE)["prefect.yaml"])
        [deployment] = configured["deployments"]
        deployment["parameters"].update(database=str(self.database), workspace=WORKSPACE)
        deployment["schedules"] = [self.schedule] if self.schedule else []
        (self.folder / "prefect.yaml").write_text(yaml.safe_dump(configured))
        for command in self._commands("work-pool", "deploy"):
            result = subprocess.run(
                command, env=self.environment, cwd=self.folder, check=False, capture_output=True, text=True
            )
            assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A worker that runs what is due; it and the flows that it started do not outlive the block."""
        [command] = self._commands("worker")
        with (self.folder / "worker.log").open("a") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield
        finally:
            # stopped orderly first, so that what it runs is told to the server
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run(self, **parameters: Any) -> str:
        """Id of a new run of the deployment, which a worker takes up."""
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        [deployment] = self.api.call("POST", "/deployments/filter", {})
        return str(self.api.call("POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def _commands(self, *kinds: str) -> list[list[str]]:
        """The page's `prefect` commands that do these things."""
        split = [shlex.split(command) for command in commands(PAGE)]
        prefect = [command for command in split if command[0] == "prefect"]
        return [command for command in prefect if next(w for w in command[1:] if w[0] != "-") in kinds]
