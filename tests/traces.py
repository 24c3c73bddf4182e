"""Looks for a text in whatever a sync left behind."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import duckdb
from pyarrow.parquet import read_table


def found(text: str, folder: Path) -> set[str]:
    """Where `text` is below `folder`: files by their kind, and columns of DuckDB files, staging tables included."""
    return {place for path in folder.rglob("*") if path.is_file() for place in _in_file(text, path)}


def _in_file(text: str, path: Path) -> Iterator[str]:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    if content.startswith(b"PAR1"):
        # its pages are compressed
        content += str(read_table(path).to_pylist()).encode()
    if text.encode() in content:
        yield path.suffix or path.name
    if path.suffix == ".duckdb":
        yield from columns_with(text, path)


def columns_with(text: str, database: Path) -> set[str]:
    """`schema.table.column` of all columns of a DuckDB file that have `text` somewhere."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        tables = warehouse.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        return {
            f"{schema}.{table}.{column}"
            for schema, table, column in tables
            if warehouse.execute(
                f'SELECT 1 FROM "{schema}"."{table}" WHERE contains(CAST("{column}" AS VARCHAR), ?) LIMIT 1', [text]
            ).fetchall()
        }
