"""Every loaded column of every run and every state, compared with what the server answers."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
from prefect_api import PrefectApi, Row

from prefect_runs.clock import as_utc
from prefect_runs.tables import TABLES, Column, Table

LINKS = ("parent_task_run_id", "deployment_id", "work_pool_id", "work_pool_name", "work_queue_id")
RUN_IDS = ("flow_run_id", "task_run_id")


def differences(api: PrefectApi, database: Path, since: datetime) -> list[str]:
    """What differs between the server and the warehouse, in words; empty when nothing does."""
    found: list[str] = []
    with duckdb.connect(str(database), read_only=True) as warehouse:
        for kind in ("flow_runs", "task_runs"):
            one = kind.removesuffix("_runs")
            runs = api.runs(kind, since)
            loaded = _loaded(warehouse, TABLES[kind])
            gone = {row["id"] for row in _rows(warehouse, "tombstones") if row["resource"] == kind}
            found += [f"{kind}: {id_} has a tombstone without a row" for id_ in gone - loaded.keys()]
            server = {row["id"]: row for row in runs}
            live = {id_: _as_linked(row, server.get(id_, {})) for id_, row in loaded.items() if id_ not in gone}
            found += _compare(kind, [_run(row) for row in runs], live)
            histories = [_state(row, one, run["id"]) for run in runs for row in api.states(kind, run["id"])]
            states = TABLES[f"{one}_run_states"]
            live_states = {
                id_: row for id_, row in _loaded(warehouse, states).items() if row[f"{one}_run_id"] not in gone
            }
            found += _compare(states.name, histories, live_states)
    return found


def _as_linked(copy: Row, server: Row) -> Row:
    """The row without links that the server nulled meanwhile, which the warehouse keeps."""
    return {**copy, **{link: None for link in LINKS if link in copy and link in server and server[link] is None}}


def _run(row: Row) -> Row:
    state = row["state"] or {}
    return {
        **row,
        "state_timestamp": state.get("timestamp"),
        "state_message": state.get("message"),
        "tags": sorted(row["tags"]),
        "state_details": _details(row["state"]),
    }


def _state(row: Row, one: str, run_id: str) -> Row:
    return {**row, f"{one}_run_id": run_id, "state_details": _details(row)}


def _details(state: Row | None) -> Row | None:
    details = {} if state is None else state["state_details"]
    if not any(value for name, value in details.items() if name not in RUN_IDS):
        return None
    assert state is not None
    return {**details, "state_id": state["id"]}


def _compare(table: str, server: list[Row], loaded: dict[str, Row]) -> list[str]:
    found = [f"{table}: {id_} is not on the server" for id_ in loaded.keys() - {row["id"] for row in server}]
    for row in server:
        copy = loaded.get(row["id"])
        if copy is None:
            found.append(f"{table}: {row['id']} ({row.get('state_name') or row.get('name')}) is missing")
            continue
        found += _compare_row(f"{table}: {row['id']}", TABLES[table], row, copy)
    return found


def _compare_row(what: str, table: Table, row: Row, copy: Row) -> list[str]:
    found = []
    for column in table.columns:
        if column.name == "workspace":
            continue
        server, loaded = _value(column, row.get(column.name)), _value(column, copy[column.name])
        if server != loaded:
            found.append(f"{what}: {column.name} is {server!r} on the server, {loaded!r} in the warehouse")
    if "tags" in table.children and row["tags"] != copy["tags"]:
        found.append(f"{what}: tags are {row['tags']} on the server, {copy['tags']} in the warehouse")
    found += _compare_details(what, table.children["state_details"], row["state_details"], copy["state_details"])
    return found


def _compare_details(what: str, table: Table, row: Row | None, copy: Row | None) -> list[str]:
    if row is None or copy is None:
        return [] if row is copy else [f"{what}: state_details are {row} on the server, {copy} in the warehouse"]
    return [
        f"{what}: state_details.{column.name} is {row.get(column.name)!r}, {copy[column.name]!r} in the warehouse"
        for column in table.columns
        if _value(column, row.get(column.name)) != _value(column, copy[column.name])
    ]


def _value(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.type == "timestamp":
        return as_utc(value)
    if column.type == "json":
        return json.loads(value) if isinstance(value, str) else value
    if column.type == "double":
        return float(value)
    return value


def _loaded(warehouse: duckdb.DuckDBPyConnection, table: Table) -> dict[str, Row]:
    rows = _rows(warehouse, table.name)
    loaded: dict[str, Row] = {}
    parents = {}
    for row in rows:
        assert row["id"] not in loaded, f"{table.name} has {row['id']} twice"
        loaded[row["id"]] = {column.name: None for column in table.columns} | {**row, "tags": [], "state_details": None}
        parents[row["_dlt_id"]] = row["id"]
    for name in table.children:
        child = f"{table.name}__{name}"
        for row in _rows(warehouse, child):
            copy = loaded[parents[row["_dlt_parent_id"]]]
            if name == "tags":
                copy["tags"] = sorted([*copy["tags"], row["value"]])
            else:
                assert copy["state_details"] is None, f"{child} has two rows for {copy['id']}"
                copy["state_details"] = row
    return loaded


def _rows(warehouse: duckdb.DuckDBPyConnection, table: str) -> list[Row]:
    return select(warehouse, f"SELECT * FROM prefect.{table}") if _exists(warehouse, table) else []


def select(warehouse: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    """Rows as dictionaries."""
    cursor = warehouse.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _exists(warehouse: duckdb.DuckDBPyConnection, table: str) -> bool:
    sql = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'prefect' AND table_name = ?"
    return bool((warehouse.execute(sql, [table]).fetchone() or (0,))[0])


def column_values(database: Path, sql: str) -> list[Any]:
    """The first column of what `sql` gives."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        return [row[0] for row in warehouse.execute(sql).fetchall()]
