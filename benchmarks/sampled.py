"""State history in the warehouse compared with what the endpoint answers, state by state, for a sample of runs."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import requests

READERS = 4
KINDS = ("flow", "task")
# every state's details name its run; the warehouse has that in a column of the state
RUN_IDS = ("flow_run_id", "task_run_id")

States = dict[str, list[dict[str, Any]]]
"""Run id → its states, oldest first."""


def differences(url: str, database: Path, size: int) -> tuple[int, int, list[str]]:
    """Runs compared, their states, and what differs in words.

    The sample is the same each time; it is drawn from the runs of both kinds in proportion.
    """
    runs = states = 0
    found: list[str] = []
    ids = {kind: _ids(database, kind) for kind in KINDS}
    whole = sum(map(len, ids.values()))
    for kind in KINDS:
        share = min(len(ids[kind]), round(size * len(ids[kind]) / whole))
        sample = random.Random(1).sample(ids[kind], share)
        answered = _answered(url, kind, sample)
        loaded = _loaded(database, kind, sample)
        runs += len(sample)
        states += sum(map(len, answered.values()))
        for run_id in sample:
            if answered[run_id] != loaded.get(run_id, []):
                found.append(f"{kind} run {run_id}: {answered[run_id]} answered, {loaded.get(run_id)} loaded")
    return runs, states, found


def _ids(database: Path, kind: str) -> list[str]:
    return [row["id"] for row in _select(database, f"SELECT id FROM prefect.{kind}_runs ORDER BY id")]


def _answered(url: str, kind: str, ids: list[str]) -> States:
    session = requests.Session()

    def fetch(run_id: str) -> tuple[str, list[dict[str, Any]]]:
        reply = session.get(f"{url}/{kind}_run_states/", params={f"{kind}_run_id": run_id}, timeout=60)
        reply.raise_for_status()
        states = sorted(reply.json(), key=lambda state: _time(state["timestamp"]))
        return run_id, [
            _comparable(state, _time(state["timestamp"]), number, state["state_details"])
            for number, state in enumerate(states, 1)
        ]

    with ThreadPoolExecutor(READERS) as pool:
        return dict(pool.map(fetch, ids))


def _loaded(database: Path, kind: str, ids: list[str]) -> States:
    table = f"prefect.{kind}_run_states"
    wanted = f"(SELECT unnest({json.dumps(ids)}))".replace('"', "'")
    states = _select(database, f"SELECT * FROM {table} WHERE {kind}_run_id IN {wanted} ORDER BY timestamp")
    mine = f"(SELECT _dlt_id FROM {table} WHERE {kind}_run_id IN {wanted})"
    details = {
        row["_dlt_parent_id"]: row
        for row in _select(database, f"SELECT * FROM {table}__state_details WHERE _dlt_parent_id IN {mine}")
    }
    loaded: States = {}
    for row in states:
        state = _comparable(
            row, row["timestamp"].astimezone(UTC), row["sequence"], _columns(details.get(row["_dlt_id"]))
        )
        loaded.setdefault(row[f"{kind}_run_id"], []).append(state)
    return loaded


def _columns(row: dict[str, Any] | None) -> dict[str, Any]:
    own = {"state_id", "workspace"}
    return {name: value for name, value in (row or {}).items() if name not in own and not name.startswith("_dlt_")}


def _comparable(row: dict[str, Any], at: datetime, number: int, details: dict[str, Any]) -> dict[str, Any]:
    said = {name: _value(value) for name, value in details.items() if value and name not in RUN_IDS}
    own = {name: row[name] for name in ("id", "type", "name", "message")}
    return {**own, "timestamp": at, "sequence": number, "details": said}


def _value(value: Any) -> Any:
    """A detail as both sides have it: times as times, JSON as JSON."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str):
        for read in (_time, json.loads):
            try:
                return read(value)
            except ValueError:
                continue
    return value


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC)


def _select(database: Path, sql: str) -> list[dict[str, Any]]:
    with duckdb.connect(str(database), read_only=True) as warehouse:
        cursor = warehouse.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
