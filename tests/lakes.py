"""Destinations that are files: Delta and Iceberg tables and plain parquet, read as their readers read them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot
from sqlglot import exp
from warehouses import DATASET, Warehouse

from prefect_runs.tables import ALL_TABLES
from prefect_runs_pipelines.destination.lake.views import latest_views

LOAD_COLUMNS = {"load_id": "VARCHAR", "status": "BIGINT"}


class Lake(Warehouse):
    """A dataset in a folder."""

    destination = "filesystem"
    dialect = "duckdb"
    format: ClassVar[str] = ""

    @property
    def lake(self) -> Path:
        """The folder that holds datasets."""
        return self.folder / "lake"

    @property
    def environment(self) -> Mapping[str, str]:
        configured = {"BUCKET_URL": str(self.lake), "TABLE_FORMAT": self.format}
        return {f"DESTINATION__FILESYSTEM__{name}": value for name, value in configured.items()}

    def folders(self) -> list[Path]:
        """Those of the tables that are there, with rows or without; dlt makes the folders of all."""
        folders = [self.lake / DATASET / name for name in ALL_TABLES]
        return [folder for folder in folders if any(file.is_file() for file in folder.rglob("*"))]

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with super().reading() as connection:
            # one file for each, in every format
            if any((self.lake / DATASET / "_dlt_loads").glob("*.jsonl")):
                loads = f"read_json('{self.lake}/{DATASET}/_dlt_loads/*.jsonl', columns = {LOAD_COLUMNS})"
                connection.execute(f"CREATE TABLE {DATASET}._dlt_loads AS SELECT * FROM {loads}")
            yield connection

    def change(self, *statements: str) -> None:
        with self.reading() as connection:
            for sql in statements:
                connection.execute(sql)
            for table in sorted(set().union(*map(changed, statements))):
                self.write(table, connection.table(f"{DATASET}.{table}").to_arrow_table())

    def write(self, table: str, rows: pa.Table) -> None:
        """Have these rows and no others in a table."""
        raise NotImplementedError


class Parquet(Lake):
    """Parquet files, read with the views that the package prints for them."""

    format = "parquet"
    keeps_doubles = False

    def tables(self) -> Mapping[str, pa.Table]:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE SCHEMA {DATASET}")
            there = {folder.name for folder in self.folders()}
            for name, sql in latest_views(DATASET, self._place):
                if name in there:
                    connection.execute(f"CREATE VIEW {DATASET}.{name} AS {sql}")
            return {name: connection.table(f"{DATASET}.{name}").to_arrow_table() for name in there}

    def _place(self, table: str) -> str:
        return f"read_parquet('{self.lake}/{DATASET}/{table}/*.parquet', union_by_name=true)"

    def write(self, table: str, rows: pa.Table) -> None:
        folder = self.lake / DATASET / table
        shutil.rmtree(folder)
        folder.mkdir()
        pq.write_table(rows, folder / "changed.parquet")


class Delta(Lake):
    """Delta tables, read by `deltalake`."""

    format = "delta"

    def tables(self) -> Mapping[str, pa.Table]:
        from deltalake import DeltaTable

        return {folder.name: DeltaTable(folder).to_pyarrow_table() for folder in self.folders()}

    def write(self, table: str, rows: pa.Table) -> None:
        from deltalake import write_deltalake

        write_deltalake(self.lake / DATASET / table, rows, mode="overwrite")


class Iceberg(Lake):
    """Iceberg tables, read by `pyiceberg`."""

    format = "iceberg"

    def tables(self) -> Mapping[str, pa.Table]:
        return {folder.name: self._table(folder).scan().to_arrow() for folder in self.folders()}

    def write(self, table: str, rows: pa.Table) -> None:
        self._table(self.lake / DATASET / table).overwrite(rows)

    def _table(self, folder: Path) -> Any:
        from pyiceberg.catalog.sql import SqlCatalog

        catalog = SqlCatalog("tests", uri="sqlite:///:memory:")
        catalog.create_namespace(DATASET)
        metadata = max((folder / "metadata").glob("*.metadata.json"), key=lambda file: file.name)
        return catalog.register_table(f"{DATASET}.{folder.name}", metadata.as_uri())


LAKES: dict[str, type[Warehouse]] = {"parquet": Parquet, "delta": Delta, "iceberg": Iceberg}
"""Destinations that are files, as `PREFECT_RUNS_TEST_DESTINATION` names them."""


def changed(sql: str) -> set[str]:
    """The table of the dataset that a statement changes, if it is one."""
    table = sqlglot.parse_one(sql, read="duckdb").find(exp.Table)
    assert table is not None
    return {table.name} if table.db == DATASET else set()
