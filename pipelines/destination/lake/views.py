"""A lake asked in SQL: DuckDB over its parquet files, every table with its latest rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dlt.common.destination.utils import prepare_load_table
from dlt.common.schema.utils import get_columns_names_with_prop, get_first_column_name_with_prop
from dlt.destinations.impl.filesystem.sql_client import FilesystemSqlClient

from prefect_runs.resources import resource
from prefect_runs.tables import TABLES

if TYPE_CHECKING:
    from . import LakeClient

LOAD_ID, ROW_ID, PARENT_ID = "_dlt_load_id", "_dlt_id", "_dlt_parent_id"


class LakeSqlClient(FilesystemSqlClient):
    """Makes a view of each table that a query names, once; a client is to be made anew after a load.

    DuckDB is given the files that a Delta or Iceberg table has at present: its own extensions would be downloaded.
    """

    remote_client: LakeClient

    def _build_pending_views(self, tables: dict[str, str], existing_tables: set[str]) -> list[tuple[str, str]]:
        # dlt lists the files before it looks whether the view is there
        asked = {table: view for table, view in tables.items() if view not in existing_tables}
        return super()._build_pending_views(asked, existing_tables)

    def create_view_select(self, table_schema: Any, schema: Any = None) -> tuple[str, str] | None:
        """The location of a table and the query of its rows."""
        schema = schema or self.schema
        name = table_schema["name"]
        if name in schema.dlt_table_names():
            return super().create_view_select(table_schema, schema)
        location = self.remote_client.get_open_table_location("native", name)
        return location, self._rows(table_schema)

    def _rows(self, table: Any) -> str:
        rows = self._stored(table)
        if table.get("table_format"):
            return rows
        parent = table.get("parent")
        return latest(table, f"({rows})", f"({self._rows(self._prepared(parent))})" if parent else None)

    def _prepared(self, name: str) -> Any:
        return prepare_load_table(self.schema.tables, self.schema.get_table(name), self.remote_client.capabilities)

    def _stored(self, table: Any) -> str:
        """All rows in the files, with every column of the schema, whichever of them each file has."""
        mapper, escape = self.capabilities.get_type_mapper(), self.escape_column_name
        columns = table["columns"].values()
        empty = ", ".join(
            f"NULL::{mapper.to_destination_type(column, table)} AS {escape(column['name'])}" for column in columns
        )
        names = ", ".join(escape(column["name"]) for column in columns)
        files = self.remote_client.table_files(table)
        if not files:
            return f"SELECT {empty} WHERE false"
        listed = ", ".join(self.capabilities.escape_literal(file) for file in files)
        return (
            f"SELECT {names} FROM (SELECT {empty} WHERE false "
            f"UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name=true))"
        )


def latest(table: Any, rows: str, parents: str | None = None) -> str:
    """Of rows that every load added to, those that a destination that merges would have.

    Args:
        table: the table of a dlt schema, with the hints of its root table.
        rows: query of all its rows, or their place.
        parents: query of the latest rows of its parent, for a child table.
    """
    if table["write_disposition"] != "merge":
        return f"SELECT * FROM {rows}"
    if parents is not None:
        return f"SELECT * FROM {rows} WHERE {PARENT_ID} IN (SELECT {ROW_ID} FROM {parents})"
    keys = get_columns_names_with_prop(table, "primary_key")
    if keys:
        newest = [f"{column} DESC NULLS LAST" for column in get_columns_names_with_prop(table, "dedup_sort")]
        order = ", ".join([f"{LOAD_ID} DESC", *newest, ROW_ID])
        last = f"row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {order}) = 1"
    else:
        keys = get_columns_names_with_prop(table, "merge_key")
        last = f"rank() OVER (PARTITION BY {', '.join(keys)} ORDER BY {LOAD_ID} DESC) = 1"
    removed = get_first_column_name_with_prop(table, "hard_delete")
    there = f" AND {removed} IS NOT TRUE" if removed else ""
    return f"SELECT * FROM {rows} QUALIFY {last}{there}"


def latest_views(dataset: str, place: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The name and the query of a view for every table of the source, in DuckDB's SQL, each after its parent.

    Args:
        dataset: where the views are to be.
        place: table → what stands for all its rows in a query.
    """
    for table in TABLES.values():
        hints = resource([], table).compute_table_schema()
        yield table.name, latest(hints, place(table.name))
        for child in table.children.values():
            yield child.name, latest(hints, place(child.name), f"{dataset}.{table.name}")
