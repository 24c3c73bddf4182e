"""How loaded rows meet those of Delta and Iceberg tables: as dlt's `delete-insert` does it in databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from dlt.common.schema.utils import (
    get_columns_names_with_prop,
    get_dedup_sort_tuple,
    get_first_column_name_with_prop,
)
from pyarrow.parquet import read_table  # type: ignore[import-untyped]

from .tables import OpenTable

LOAD_ID, ROW_ID, ROOT_ID = "_dlt_load_id", "_dlt_id", "_dlt_root_id"


def merge_chain(chain: Sequence[Any], files: Mapping[str, list[str]], open_table: Callable[[str], OpenTable]) -> None:
    """Put one load's rows of a table and its child tables in place of those that they replace.

    Child tables come first: a load that was killed in between finds the same rows to replace when it is made again.

    Args:
        chain: the table and its child tables, of a dlt schema.
        files: table → parquet files with its rows.
        open_table: gives the table of a name.
    """
    root, *children = chain
    table, read = open_table(root["name"]), _rows(files[root["name"]])
    keys = keys_of(root)
    kept, replaced = newest(root, read), read.select(keys).group_by(keys).aggregate([])
    if children:
        # those of the rows that are there now, and those that a killed attempt at this very load put in
        roots = pa.table({ROOT_ID: [*table.ids(replaced), *read[ROW_ID].to_pylist()]})
        for child in children:
            rows = _rows(files[child["name"]]) if child["name"] in files else None
            if rows is not None:
                rows = rows.filter(pc.is_in(rows[ROOT_ID], kept[ROW_ID]))
            open_table(child["name"]).replace(rows, roots)
    table.replace(kept, replaced)


def keys_of(table: Any) -> list[str]:
    """The columns that say which rows a row replaces: a table that only grows may have part of this very load."""
    if table["write_disposition"] != "merge":
        return [LOAD_ID]
    return get_columns_names_with_prop(table, "primary_key") or get_columns_names_with_prop(table, "merge_key")


def newest(table: Any, rows: pa.Table) -> pa.Table:
    """The last of the rows of each primary key, by the column that tells, without those that take a row away."""
    keys = get_columns_names_with_prop(table, "primary_key")
    if table["write_disposition"] == "merge" and keys:
        if order := get_dedup_sort_tuple(table):
            column, direction = order
            rows = rows.sort_by([(column, "ascending" if direction == "desc" else "descending")])
        numbered = rows.select(keys).append_column("_row", pa.array(range(len(rows)), pa.int64()))
        rows = rows.take(numbered.group_by(keys).aggregate([("_row", "max")])["_row_max"])
    if removed := get_first_column_name_with_prop(table, "hard_delete"):
        rows = rows.filter(pc.invert(pc.fill_null(rows[removed], False)))
    return rows


def _rows(files: Sequence[str]) -> pa.Table:
    rows = pa.concat_tables([read_table(file) for file in files], promote_options="default")
    # of keys that go, the other columns are not told
    return rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema]))
