"""The Prefect deployment of docs/schedulers/prefect.md on a schedule, syncing the very server that it runs on.

    python benchmarks/deployment.py [--minutes 10] [--every 60]

Other flows run on the server meanwhile. Then the worker is stopped, one sync follows from outside, and every run and
every state on the server, those of the syncs included, is compared with the warehouse. Exit code 1 when anything
differs, or when a run of the deployment did not end as it should.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from comparison import EVER, column_values, compared, server_rows
from deployed import Deployment
from prefect_api import PrefectApi, now

from prefect_runs_pipelines.local.server import LocalServer, local_server
from prefect_runs_pipelines.sync import sync

OTHERS = Path(__file__).parents[1] / "tests" / "real_flows.py"
# a run of the deployment takes some seconds, on a busy machine more
LAST_RUN_SECONDS = 120.0
SECONDS_BETWEEN_OTHERS = 20.0


def play(deployment: Deployment, minutes: float) -> None:
    """Let the schedule and other flows run for so long, and the last sync come to its end."""
    deadline = time.monotonic() + 60 * minutes
    with deployment.worker():
        while time.monotonic() < deadline:
            deployment.server.run("-P", str(OTHERS), "ordinary_flows", check=False)
            time.sleep(SECONDS_BETWEEN_OTHERS)
            told(deployment)
        [deployed] = deployment.api.call("POST", "/deployments/filter", {})
        # pausing deletes what is scheduled and has not begun
        deployment.api.call("PATCH", f"/deployments/{deployed['id']}", {"paused": True})
        deadline = time.monotonic() + LAST_RUN_SECONDS
        while any(run["state_type"] in ("PENDING", "RUNNING") for run in own_runs(deployment)):
            if time.monotonic() > deadline:
                break
            time.sleep(1)


def own_runs(deployment: Deployment) -> list[dict[str, Any]]:
    """The deployment's flow runs, as the server has them."""
    return [run for run in deployment.api.runs("flow_runs", EVER) if run["deployment_id"]]


def told(deployment: Deployment) -> None:
    """Print how it stands."""
    states = Counter(run["state_name"] for run in own_runs(deployment))
    print(f"{now():%H:%M:%S} runs of the deployment: {dict(states)}", flush=True)


def problems(deployment: Deployment) -> list[str]:
    """What is wrong at the end, in words."""
    api, warehouse = deployment.api, deployment.warehouse
    api.wait_at_rest(EVER, 180)
    report = sync(deployment.options)
    server = server_rows(api)
    for table, rows in server.items():
        print(f"{table}: {len(rows):,} on the server, {report.rows[table]:,} in the warehouse")
    # what was scheduled ahead, and deleted when the schedule was paused
    print(f"{report.rows['tombstones']:,} that the server no longer has, with a tombstone")
    runs = own_runs(deployment)
    ids = {run["id"] for run in runs}
    tasks = [run for run in server["task_runs"] if run["flow_run_id"] in ids]
    loaded = set(column_values(warehouse, "SELECT id FROM prefect.flow_runs WHERE deployment_id IS NOT NULL"))
    tasks_loaded = set(column_values(warehouse, "SELECT id FROM prefect.task_runs"))
    print(f"of the deployment itself: {len(runs)} flow runs, {len(ids & loaded)} of them in the warehouse")
    print(f"and {len(tasks)} task runs, {len({run['id'] for run in tasks} & tasks_loaded)} of them in the warehouse")
    ends = Counter(run["state_name"] for run in runs)
    print(f"they ended: {dict(ends)}")
    found = [str(difference) for difference in compared(server, warehouse)]
    if not report.whole:
        found += report.gaps
    if ends.keys() - {"Completed", "Cancelled"}:
        found.append(f"runs of the deployment ended otherwise: {dict(ends)}")
    if not ends["Completed"]:
        found.append("no run of the deployment completed")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the schedule runs (10)")
    parser.add_argument("--every", type=int, default=60, help="seconds between two syncs (60)")
    asked = parser.parse_args()
    with local_server() as server, tempfile.TemporaryDirectory(prefix="deployment-") as folder:
        return measure(server, Path(folder), asked.minutes, asked.every)


def measure(server: LocalServer, folder: Path, minutes: float, every: int) -> int:
    """Run it all; the exit code."""
    api = PrefectApi(server.url)
    deployment = Deployment(server, api, folder, schedule={"interval": every})
    try:
        deployment.deploy()
        print(f"a sync every {every} s for {minutes:g} minutes on {server.url} (Prefect {server.version})", flush=True)
        play(deployment, minutes)
        found = problems(deployment)
    finally:
        api.close()
    print("\n".join([*found, f"{'FAILED' if found else 'passed'}: {len(found)} differences"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
