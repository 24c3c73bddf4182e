"""A first load of a filled server, killed with SIGKILL at ten random moments, each followed by another sync.

    python benchmarks/kill_syncs.py [--flow-runs 20000] [--task-runs 50000] [--kills 10] [--seed 1]

At the end one sync runs through, and the warehouse is compared with the server: runs and their rows in child tables,
none missing, none twice. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import requests
from fill_server import filled_server

RESOURCES = ("flow_runs", "task_runs")
# a sync of 70,000 runs lasts about 40 seconds: ten kills fall well inside the load
LONGEST_LIFE_SECONDS = 10.0


def sync(url: str, folder: Path, life: float | None) -> int | None:
    """Run the command; the exit code, or None when it was killed after `life` seconds."""
    command = [Path(sys.executable).parent / "prefect-runs", "sync", "--api-url", url, "--workspace", "bench"]
    command += ["--resources", ",".join(RESOURCES), "--database", folder / "bench.duckdb"]
    environment = {**os.environ, "DLT_DATA_DIR": str(folder / "dlt")}
    with subprocess.Popen(
        list(map(str, command)), env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait(life)
        except subprocess.TimeoutExpired:
            process.kill()
            return None


def faults(url: str, database: Path) -> Iterator[str]:
    """What differs between the server and the warehouse."""
    with duckdb.connect(str(database), read_only=True) as warehouse:

        def number(sql: str) -> int:
            return int((warehouse.execute(sql).fetchone() or (0,))[0])

        for table in RESOURCES:
            # what no sync loads: runs scheduled beyond the horizon, of which a filled server has none
            server = int(requests.post(f"{url}/{table}/count", json={}, timeout=60).json())
            rows, ids = (
                number(f"SELECT count(*) FROM prefect.{table}"),
                number(f"SELECT count(DISTINCT id) FROM prefect.{table}"),
            )
            print(f"{table}: {server:,} on the server, {rows:,} rows and {ids:,} ids in the warehouse")
            if not server == rows == ids:
                yield f"{table}: {server - ids} missing, {rows - ids} double"
            for child in ("tags", "state_details"):
                name = f"prefect.{table}__{child}"
                same = f"SELECT 1 FROM {name} GROUP BY _dlt_parent_id, _dlt_list_idx HAVING count(*) > 1"
                double = number(f"SELECT count(*) FROM ({same})")
                orphans = number(
                    f"SELECT count(*) FROM {name} WHERE _dlt_parent_id NOT IN (SELECT _dlt_id FROM prefect.{table})"
                )
                if double or orphans:
                    yield f"{name}: {double} double, {orphans} without a run"
            # almost every state has details, so that a lost child row shows
            without = number(
                f"SELECT count(*) FROM prefect.{table} WHERE _dlt_id NOT IN "
                f"(SELECT _dlt_parent_id FROM prefect.{table}__state_details)"
            )
            print(f"{table}: {without:,} runs without details of their state")


def main() -> int:
    """Kill, sync, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flow-runs", type=int, default=20_000)
    parser.add_argument("--task-runs", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    moments = random.Random(asked.seed)
    print(f"seed {asked.seed}", flush=True)
    with filled_server(asked.flow_runs, asked.task_runs) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed = 0
        for _ in range(asked.kills):
            life = moments.uniform(0.5, LONGEST_LIFE_SECONDS)
            ended = sync(server.url, folder, life)
            killed += ended is None
            print(f"after {life:.1f} s: {'killed' if ended is None else f'had ended with {ended}'}", flush=True)
        ended = sync(server.url, folder, None)
        found = list(faults(server.url, folder / "bench.duckdb"))
    print(f"{killed} syncs killed, the last one ended with {ended}")
    print("\n".join(found) or "nothing missing, nothing double")
    return 1 if found or ended else 0


if __name__ == "__main__":
    sys.exit(main())
