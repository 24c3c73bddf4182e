"""Whether a warehouse is in order by itself, whatever the server has."""

from __future__ import annotations

from collections.abc import Iterator

from comparison import select
from warehouses import Warehouse

from prefect_runs.tables import TABLES

HISTORY_KEY = (*TABLES["flow_run_history"].key, "state_type", "state_name")


def unsound(warehouse: Warehouse) -> list[str]:
    """Duplicate keys, children without parents and loads without an end, in all tables of the dataset."""
    with warehouse.reading() as dataset:
        columns: dict[str, list[str]] = {}
        sql = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'prefect'"
        for row in select(dataset, sql):
            columns.setdefault(row["table_name"], []).append(row["column_name"])
        questions = [question for table, names in columns.items() for question in _questions(table, names)]
        return [f"{what}: {rows}" for what, sql in questions if (rows := dataset.execute(sql).fetchall())]


def _questions(table: str, columns: list[str]) -> Iterator[tuple[str, str]]:
    """What is wrong when the query gives rows."""
    for key in _keys(table, columns):
        yield (
            f"{table} has one {key} twice",
            f"SELECT {key}, count(*) FROM prefect.{table} GROUP BY {key} HAVING count(*) > 1",
        )
    if "_dlt_parent_id" in columns:
        parent = table.rpartition("__")[0]
        yield (
            f"{table} has children without a parent",
            f"SELECT * FROM prefect.{table} WHERE _dlt_parent_id NOT IN (SELECT _dlt_id FROM prefect.{parent})",
        )
    if "_dlt_load_id" in columns:
        yield (
            f"{table} has rows of a load that did not end",
            f"SELECT DISTINCT _dlt_load_id FROM prefect.{table} "
            "WHERE _dlt_load_id NOT IN (SELECT load_id FROM prefect._dlt_loads WHERE status = 0)",
        )


def _keys(table: str, columns: list[str]) -> Iterator[str]:
    if "id" in columns:
        yield "id"
    if table == "syncs":
        yield "_dlt_load_id"
    if table == "_dlt_loads":
        yield "load_id"
    if table.endswith("_history"):
        yield ", ".join(name for name in columns if name in HISTORY_KEY)
    if "_dlt_parent_id" in columns:
        yield "_dlt_parent_id, _dlt_list_idx"
    if "_dlt_id" in columns and not table.startswith("_dlt_"):
        yield "_dlt_id"
