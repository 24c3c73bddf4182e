"""Every loaded column of every run and every state, compared with what the server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import duckdb
from prefect_api import PrefectApi, Row
from warehouses import Warehouse

from prefect_runs.clock import as_utc
from prefect_runs.settings import STATES_OF
from prefect_runs.tables import TABLES, Column, Table

LINKS = ("parent_task_run_id", "deployment_id", "work_pool_id", "work_pool_name", "work_queue_id")
RUN_IDS = ("flow_run_id", "task_run_id")
EVER, NEVER = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Difference:
    """One thing that differs between the server and the warehouse, and in words."""

    table: str
    id: str
    run_id: str
    what: Literal["missing", "stale", "double", "not on the server", "tombstone without a row"]
    text: str
    column: str = ""

    def __str__(self) -> str:
        return self.text


ServerRows = dict[str, list[Row]]
"""Table → its rows as the server has them: runs, and states with the id of their run."""


def differences(api: PrefectApi, warehouse: Warehouse, since: datetime, workspace: str | None = None) -> list[str]:
    """What differs between the server and the warehouse, in words; empty when nothing does.

    Args:
        workspace: the server's rows are those of this workspace, where the dataset has several.
    """
    found = compared(server_rows(api, since), warehouse, workspace=workspace)
    return [str(difference) for difference in found]


def server_rows(api: PrefectApi, since: datetime = EVER, ahead: datetime = NEVER) -> ServerRows:
    """All runs expected since then and their states, less those that wait for a time from `ahead` on."""
    found: ServerRows = {}
    for kind, states in STATES_OF.items():
        runs = [row for row in api.runs(kind, since) if not _waits(row, ahead)]
        found[kind] = [_run(row) for row in runs]
        found[states] = [state for run in runs for state in _history(api.states(kind, run["id"]), kind, run["id"])]
    return found


def compared(
    server: ServerRows, warehouse: Warehouse, ahead: datetime = NEVER, workspace: str | None = None
) -> list[Difference]:
    """What differs between the server's rows and the warehouse's; runs with a tombstone are to be gone there.

    Runs of the warehouse that wait for a time from `ahead` on are left out: syncs do not follow those.
    """
    found: list[Difference] = []
    if not warehouse.stores_json_as_it_is:
        server = _without_zeros(server)
    with warehouse.reading() as rows:
        for kind, states in STATES_OF.items():
            loaded = _loaded(rows, TABLES[kind], found, workspace)
            tombstones = _of(workspace, _rows(rows, "tombstones"))
            reasons = {row["id"]: row["reason"] for row in tombstones if row["resource"] == kind}
            gone = reasons.keys()
            # a run that is known from events alone never had a row
            with_row = {id_ for id_, reason in reasons.items() if reason != "events_only"}
            for id_ in with_row - loaded.keys():
                text = f"{kind}: {id_} has a tombstone without a row"
                found.append(Difference(kind, id_, id_, "tombstone without a row", text))
            out = gone | {id_ for id_, row in loaded.items() if _waits(row, ahead)}
            on_server = {row["id"]: row for row in server[kind]}
            live = {id_: _as_linked(row, on_server.get(id_, {})) for id_, row in loaded.items() if id_ not in out}
            found += _compare(kind, server[kind], live)
            loaded_states = _loaded(rows, TABLES[states], found, workspace)
            live_states = {id_: row for id_, row in loaded_states.items() if row[_run_column(kind)] not in out}
            found += _compare(states, server[states], live_states)
    return found


def _without_zeros(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_zeros(inner) for inner in value]
    return {name: _without_zeros(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _waits(run: Row, ahead: datetime) -> bool:
    return run["state_type"] == "SCHEDULED" and as_utc(run["expected_start_time"]) >= ahead


def _run_column(table: str) -> str:
    return f"{table.partition('_')[0]}_run_id"


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


def _details(state: Row | None) -> Row | None:
    details = {} if state is None else state["state_details"]
    if not any(value for name, value in details.items() if name not in RUN_IDS):
        return None
    assert state is not None
    return {**details, "state_id": state["id"]}


def _history(states: list[Row], kind: str, run_id: str) -> list[Row]:
    ordered = sorted(states, key=lambda state: as_utc(state["timestamp"]))
    run = {_run_column(kind): run_id}
    return [{**row, **run, "sequence": n, "state_details": _details(row)} for n, row in enumerate(ordered, 1)]


def _compare(table: str, server: list[Row], loaded: dict[str, Row]) -> list[Difference]:
    run_column = "id" if table in STATES_OF else _run_column(table)
    found = []
    for id_ in loaded.keys() - {row["id"] for row in server}:
        text = f"{table}: {id_} is not on the server"
        found.append(Difference(table, id_, loaded[id_][run_column], "not on the server", text))
    for row in server:
        copy = loaded.get(row["id"])
        if copy is None:
            text = f"{table}: {row['id']} ({row.get('state_name') or row.get('name')}) is missing"
            found.append(Difference(table, row["id"], row[run_column], "missing", text))
            continue
        for column, text in _compare_row(f"{table}: {row['id']}", TABLES[table], row, copy):
            found.append(Difference(table, row["id"], row[run_column], "stale", text, column))
    return found


def _compare_row(what: str, table: Table, row: Row, copy: Row) -> Iterator[tuple[str, str]]:
    """Column, and how it differs in words."""
    for column in table.columns:
        if column.name == "workspace":
            continue
        server, loaded = _value(column, row.get(column.name)), _value(column, copy[column.name])
        if server != loaded:
            yield column.name, f"{what}: {column.name} is {server!r} on the server, {loaded!r} in the warehouse"
    if "tags" in table.children and row["tags"] != copy["tags"]:
        yield "tags", f"{what}: tags are {row['tags']} on the server, {copy['tags']} in the warehouse"
    details = table.children["state_details"]
    for text in _compare_details(what, details, row["state_details"], copy["state_details"]):
        yield "state_details", text


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


def _loaded(
    warehouse: duckdb.DuckDBPyConnection, table: Table, found: list[Difference], workspace: str | None
) -> dict[str, Row]:
    """Rows by id, with their children; what is there twice is added to `found`."""
    loaded: dict[str, Row] = {}
    parents = {}
    for row in _of(workspace, _rows(warehouse, table.name)):
        if row["id"] in loaded:
            found.append(_double(table.name, row, f"{table.name} has {row['id']} twice"))
        loaded[row["id"]] = {column.name: None for column in table.columns} | {**row, "tags": [], "state_details": None}
        parents[row["_dlt_id"]] = row["id"]
    for name in table.children:
        child = f"{table.name}__{name}"
        for row in _rows(warehouse, child):
            if row["_dlt_parent_id"] not in parents and workspace:
                continue
            copy = loaded[parents[row["_dlt_parent_id"]]]
            if name == "tags":
                copy["tags"] = sorted([*copy["tags"], row["value"]])
            else:
                if copy["state_details"] is not None:
                    found.append(_double(table.name, copy, f"{child} has two rows for {copy['id']}"))
                copy["state_details"] = row
    return loaded


def _double(table: str, row: Row, text: str) -> Difference:
    return Difference(table, row["id"], row["id" if table in STATES_OF else _run_column(table)], "double", text)


def _of(workspace: str | None, rows: list[Row]) -> list[Row]:
    return [row for row in rows if workspace in (None, row["workspace"])]


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


def column_values(warehouse: Warehouse, sql: str) -> list[Any]:
    """The first column of what `sql` gives."""
    with warehouse.reading() as rows:
        return [row[0] for row in rows.execute(sql).fetchall()]
