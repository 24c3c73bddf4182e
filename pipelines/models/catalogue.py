"""What tables and models look like without any warehouse: their columns, and how they are when nothing was loaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from prefect_runs.tables import ALL_TABLES, TABLES, Table

from . import WRITTEN_IN, Model, meaning

# columns that dlt adds, to tables and to the tables of their lists
DLT_COLUMNS = {"_dlt_id": "VARCHAR"}
DLT_CHILD_COLUMNS = {**DLT_COLUMNS, "_dlt_parent_id": "VARCHAR", "_dlt_root_id": "VARCHAR", "_dlt_list_idx": "BIGINT"}
TYPES = {
    "text": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "bool": "BOOLEAN",
    "json": "JSON",
}


@dataclass(frozen=True)
class ModelColumn:
    """A column of a model: its name, its type in DuckDB, what it means."""

    name: str
    type: str
    description: str


def empty_table(table: Table) -> exp.Query:
    """A query of a table's columns that gives no row: dlt makes a table when it gets its first one."""
    types = {column.name: TYPES[column.type] for column in table.columns}
    types |= DLT_COLUMNS if table.name in TABLES else DLT_CHILD_COLUMNS
    columns = [exp.alias_(exp.cast(exp.null(), type_), name) for name, type_ in types.items()]
    return exp.select(*columns).where(exp.false())


def model_columns(all_models: Collection[Model]) -> dict[str, list[ModelColumn]]:
    """The columns of each model, in their order."""
    found: dict[str, list[ModelColumn]] = {}
    with duckdb.connect(":memory:") as connection:
        for table in ALL_TABLES.values():
            connection.execute(f"CREATE VIEW {table.name} AS {empty_table(table).sql(WRITTEN_IN)}")
        for model in all_models:
            connection.execute(f"CREATE VIEW {model.name} AS {model.sql}")
            described = connection.execute(f"DESCRIBE {model.name}").fetchall()
            found[model.name] = [
                ModelColumn(name, type_.lower(), meaning(model, name, all_models) or "")
                for name, type_, *_ in described
            ]
    return found
