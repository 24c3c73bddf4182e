"""The first sync of runs next to the bare download of the same pages, on a real server filled with runs.

    python benchmarks/bench_sync.py [--flow-runs 20000] [--task-runs 50000] [--repeat 3]

The floor sends the very requests that a sync sent, over as many connections, and throws the replies away. Both are
measured in turns, in one run; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import requests
from fill_server import filled_server
from requests import PreparedRequest

from prefect_runs.client import CountingAdapter
from prefect_runs_pipelines.sync import SyncOptions, sync

RESOURCES = ("flow_runs", "task_runs")
CONNECTIONS = 4


@dataclass
class Request:
    """One request as it was sent."""

    method: str
    url: str
    body: bytes | None


@dataclass
class Measured:
    """One measurement: seconds of wall time, requests, bytes received, peak memory in MB where it is a process."""

    seconds: float
    requests: int
    received: int = 0
    peak_mb: float = 0.0
    state_bytes: int = 0

    @property
    def line(self) -> str:
        """What was measured, in words."""
        parts = [f"{self.requests} requests"]
        if self.received:
            parts.append(f"{self.received / 1e6:.0f} MB")
        if self.peak_mb:
            parts.append(f"peak {self.peak_mb:.0f} MB, pipeline state {self.state_bytes:,} bytes")
        return f"{self.seconds:.1f} s ({', '.join(parts)})"


def recorded_requests(url: str, folder: Path) -> list[Request]:
    """The requests of a first sync, in the order in which they were sent."""
    sent: list[Request] = []
    lock = threading.Lock()
    send = CountingAdapter.send

    def recording(self: CountingAdapter, request: PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        with lock:
            sent.append(Request(str(request.method), str(request.url), body))
        return send(self, request, *args, **kwargs)

    with patch.object(CountingAdapter, "send", recording):
        sync(options(url, folder))
    return sent


def options(url: str, folder: Path) -> SyncOptions:
    """A first sync of runs into an empty folder."""
    return SyncOptions(
        api_url=url,
        workspace="bench",
        database=str(folder / "bench.duckdb"),
        pipelines_dir=str(folder / "pipelines"),
        resources=RESOURCES,
    )


def bare_download(sent: list[Request]) -> Measured:
    """The same requests with nothing done to the replies."""
    local = threading.local()

    def fetch(request: Request) -> int:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        headers = {"Content-Type": "application/json"}
        reply = local.session.request(request.method, request.url, data=request.body, headers=headers, timeout=60)
        reply.raise_for_status()
        return len(reply.content)

    started = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        received = sum(pool.map(fetch, sent))
    return Measured(time.monotonic() - started, len(sent), received)


def whole_sync(url: str, folder: Path) -> Measured:
    """The command as a user runs it, start-up included."""
    command = [Path(sys.executable).parent / "prefect-runs", "sync", "--api-url", url, "--workspace", "bench"]
    command += ["--resources", ",".join(RESOURCES), "--database", folder / "bench.duckdb", "--json"]
    started = time.monotonic()
    # DLT_DATA_DIR keeps the pipeline's folder apart, so that every sync is a first one
    environment = {**os.environ, "DLT_DATA_DIR": str(folder / "dlt")}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder
    )
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, report
    seconds = time.monotonic() - started
    return Measured(seconds, report["requests"], 0, usage.ru_maxrss / 1024, state_bytes(folder / "bench.duckdb"))


def state_bytes(database: Path) -> int:
    """Size of the pipeline state that the destination keeps: compressed text."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        sql = "SELECT max(length(state)) FROM prefect._dlt_pipeline_state"
        return int((warehouse.execute(sql).fetchone() or (0,))[0])


def rows(database: Path) -> int:
    """Runs in the warehouse."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        counts = [warehouse.execute(f"SELECT count(*) FROM prefect.{table}").fetchone() for table in RESOURCES]
        return sum(count[0] for count in counts if count)


def measured(url: str, repeat: int) -> Iterator[tuple[Measured, Measured, int]]:
    """Floor and sync in turns."""
    with tempfile.TemporaryDirectory() as folder:
        sent = recorded_requests(url, Path(folder))
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            floor = bare_download(sent)
            copied = whole_sync(url, Path(folder))
            yield floor, copied, rows(Path(folder) / "bench.duckdb")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flow-runs", type=int, default=20_000)
    parser.add_argument("--task-runs", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    with filled_server(asked.flow_runs, asked.task_runs) as server:
        results = []
        for floor, copied, count in measured(server.url, asked.repeat):
            results.append((floor, copied))
            print(f"{count:,} runs: floor {floor.line}, sync {copied.line}", flush=True)
    floor_seconds = statistics.median(floor.seconds for floor, _ in results)
    sync_seconds = statistics.median(copied.seconds for _, copied in results)
    print(f"median: floor {floor_seconds:.1f} s, sync {sync_seconds:.1f} s, {sync_seconds / floor_seconds:.2f} times")


if __name__ == "__main__":
    main()
