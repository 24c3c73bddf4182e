"""Statements that make a view of each table of a lake, for whoever reads it with an engine of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import dlt
import sqlglot

from prefect_runs import ConfigurationError

from .views import latest_views

# what stands for the rows of a folder; each needs the engine's own reader of the format, which is part of it or added
READERS = {
    ("duckdb", "parquet"): "READ_PARQUET('{url}/*.parquet', union_by_name = TRUE)",
    ("duckdb", "delta"): "DELTA_SCAN('{url}')",
    ("duckdb", "iceberg"): "ICEBERG_SCAN('{url}', version_name_format = '%s%s.metadata.json')",
    ("spark", "parquet"): "parquet.`{url}`",
    ("spark", "delta"): "delta.`{url}`",
    ("spark", "iceberg"): "iceberg.`{url}`",
}
PLACE = "rows_of_{table}"


def lake_statements(pipeline: dlt.Pipeline, missing: Collection[str], dialect: str) -> Iterator[str]:
    """The statements, less those of tables that are not there yet; those of plain parquet give the latest rows.

    Raises:
        ConfigurationError: there is no reader of files in that dialect.
    """
    client: Any
    with pipeline.destination_client() as client:
        dataset, table_format = client.dataset_name, client.config.table_format
        reader = READERS.get((dialect, table_format))
        if reader is None:
            known = ", ".join(sorted({of for of, _ in READERS}))
            raise ConfigurationError(f"views of files can be printed for {known}, not for {dialect}")
        yield f"CREATE SCHEMA IF NOT EXISTS {dataset};\n"
        for name, latest in latest_views(dataset, lambda table: PLACE.format(table=table)):
            if name not in missing:
                place = PLACE.format(table=name)
                sql = latest if table_format == "parquet" else f"SELECT * FROM {place}"
                url = client.get_open_table_location("native", name).rstrip("/").removeprefix("file://")
                created = f"CREATE OR REPLACE VIEW {dataset}.{name} AS {sql}"
                yield _in_dialect(created, dialect).replace(place, reader.format(url=url)) + ";\n"


def _in_dialect(sql: str, dialect: str) -> str:
    return sqlglot.transpile(sql, read="duckdb", write=dialect, pretty=True)[0]
