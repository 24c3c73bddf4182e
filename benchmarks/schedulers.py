"""Pastes what docs/schedulers/airflow.md and dagster.md give, and runs it against a real server.

    python benchmarks/schedulers.py [airflow dagster]

Each in an environment of its own, made on the first call (a minute). Runs are made and synced, then changed, deleted
and synced again, and every row and state is compared with the server. Exit code 1 when anything differs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from comparison import EVER, column_values, differences
from deployed import packages, scheduler_python
from pages import files
from prefect_api import PrefectApi
from warehouses import DuckdbFile

from prefect_runs_pipelines.local.server import LocalServer, local_server

PLACE = "/var/lib/prefect-runs"
REQUIREMENTS = {"airflow": ["apache-airflow"], "dagster": ["dagster", "dagster-dlt"]}
PREPARED = {"airflow": [["airflow", "db", "migrate"]], "dagster": []}
SYNC = {
    "airflow": ["airflow", "dags", "test", "prefect_runs_sync"],
    "dagster": ["dagster", "job", "execute", "-f", "definitions.py", "-j", "sync"],
}


class Pasted:
    """One page's files in a folder, with the environment in which they run."""

    def __init__(self, name: str, server: LocalServer, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.warehouse = DuckdbFile(folder, "prefect_runs.duckdb")
        for file, text in files(f"schedulers/{name}.md").items():
            (folder / file).write_text(text.replace(PLACE, str(folder)))
        python = scheduler_python(name, name, *REQUIREMENTS[name])
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        self.environment = {
            **clean,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(packages(folder)),
            "PREFECT_API_URL": server.url,
            "DLT_DATA_DIR": str(folder / "dlt"),
            "SOURCES__PREFECT_RUNS__SETTINGS__LOOKBACK_MINUTES": "0.05",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "DAGSTER_HOME": str(folder),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }
        for command in PREPARED[name]:
            self._run(command)

    def sync(self) -> None:
        """What the scheduler does when it is time."""
        self._run(SYNC[self.name])

    def _run(self, command: list[str]) -> None:
        result = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")


def problems(name: str, server: LocalServer, api: PrefectApi, folder: Path) -> list[str]:
    """What differs after two syncs, in words."""
    pasted = Pasted(name, server, folder)
    running, gone = (api.flow_run("RUNNING", tags=[name]) for _ in range(2))
    api.task_run("COMPLETED", flow_run_id=running)
    pasted.sync()
    found = differences(api, pasted.warehouse, EVER)
    api.set_flow_run(running, "COMPLETED")
    api.call("DELETE", f"/flow_runs/{gone}")
    api.task_run("FAILED", flow_run_id=api.flow_run("FAILED"))
    pasted.sync()
    found += differences(api, pasted.warehouse, EVER)
    if column_values(pasted.warehouse, "SELECT id FROM prefect.tombstones") != [gone]:
        found.append(f"the flow run {gone} was deleted, and has no tombstone")
    starts = column_values(pasted.warehouse, "SELECT window_start FROM prefect.syncs ORDER BY finished_at")
    if [start is None for start in starts] != [True, False]:
        found.append(f"the second sync did not go on from the first: {starts}")
    return found


def main() -> int:
    found = []
    for name in sys.argv[1:] or REQUIREMENTS:
        with local_server() as server, tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            api = PrefectApi(server.url)
            wrong = problems(name, server, api, Path(folder))
            api.close()
        print("\n".join([*wrong, f"{name}: {'FAILED' if wrong else 'passed'}, two syncs"]), flush=True)
        found += wrong
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
