"""Rows shaped a second, without and with privacy rules: `python benchmarks/privacy.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prefect_runs import PrivacyRules
from prefect_runs.privacy import Privacy
from prefect_runs.rows import RunShape
from prefect_runs.tables import FLOW_RUNS

ROWS, ROUNDS = 2_000, 15
TIME = "2026-01-31T12:00:00.123456Z"

RULES: dict[str, dict[str, list[str]]] = {
    "no rules": {},
    "two columns dropped": {"drop": ["state_message", "flow_runs.infrastructure_pid"]},
    "name and tags hashed": {"hash": ["flow_runs.name", "tags"]},
    "two keys dropped, one hashed": {
        "drop": ["parameters.password", "parameters.servers.token"],
        "hash": ["parameters.user"],
    },
    "two keys kept": {"keep": ["parameters.region", "parameters.days"]},
    "all of these": {
        "drop": ["state_message", "flow_runs.infrastructure_pid", "parameters.password", "parameters.servers.token"],
        "hash": ["flow_runs.name", "tags", "parameters.user"],
        "keep": ["parameters.region", "parameters.days", "parameters.servers"],
    },
}


def run(number: int) -> dict[str, Any]:
    """A flow run as the API gives it, with a dozen values among its parameters."""
    servers = [{"host": f"server-{server}", "port": 5432, "token": "hidden"} for server in range(3)]
    parameters = {"user": "ada", "password": "hidden", "region": "eu", "days": number, "servers": servers}
    state = {"id": f"s{number}", "type": "COMPLETED", "name": "Completed", "timestamp": TIME, "message": "All states"}
    times = dict.fromkeys(("created", "updated", "expected_start_time", "start_time", "end_time"), TIME)
    ids = dict.fromkeys(("flow_id", "deployment_id", "work_queue_id", "state_id"), f"id-{number}")
    return {
        "id": f"run-{number}",
        "name": f"run number {number}",
        **times,
        **ids,
        "state_type": "COMPLETED",
        "state_name": "Completed",
        "state": {**state, "state_details": {"flow_run_id": f"run-{number}", "deferred": False}},
        "parameters": parameters,
        "context": {},
        "labels": {"prefect.flow.id": "id"},
        "empirical_policy": {"retries": 0, "retry_delay": 0, "pause_keys": [], "resuming": False},
        "created_by": {"id": "id", "type": "DEPLOYMENT", "display_value": "nightly"},
        "tags": ["nightly", "eu"],
        "run_count": 1,
        "total_run_time": 1.5,
        "auto_scheduled": True,
    }


def microseconds(shape: Callable[[dict[str, Any]], Any], rows: list[dict[str, Any]]) -> float:
    """The least time that a row took, over some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for row in rows:
            shape(row)
        best = min(best, time.process_time() - started)
    return best / len(rows) * 1e6


def main() -> None:
    """Print a line for each set of rules."""
    rows = [run(number) for number in range(ROWS)]
    for name, options in RULES.items():
        rules = PrivacyRules()
        rules.salt = "grains of salt for the benchmark"
        for option, value in options.items():
            setattr(rules, option, value)
        spent = microseconds(RunShape(FLOW_RUNS, "w", Privacy(rules)), rows)
        print(f"{name:30} {spent:6.1f} µs a row {1e6 / spent:9,.0f} rows a second")


if __name__ == "__main__":
    main()
