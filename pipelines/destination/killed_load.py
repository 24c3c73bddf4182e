"""What a load that was killed left between the destination's commit and dlt's own record of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import dlt
from dlt.common.json import json
from dlt.common.schema.utils import get_inherited_table_hint
from dlt.common.storages import FileStorage
from dlt.common.storages.load_package import PackageStorage
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase

from prefect_runs.read_ahead import batches

from .warehouse import dialect_of

ROW_ID = "_dlt_id"


def undo_unrecorded(pipeline: dlt.Pipeline, load_id: str) -> None:
    """Take out what a killed load committed a moment before dlt recorded it: dlt loads those files once more.

    Rows that are twice in the staging dataset, with one `_dlt_id`, would be merged twice.
    """
    package = pipeline.get_load_package_info(load_id)
    # with this mark, made before the package is moved away, dlt refuses to end the load: for ever
    Path(package.package_path, PackageStorage.PACKAGE_COMPLETED_FILE_NAME).unlink(missing_ok=True)
    tables = pipeline.default_schema.tables
    with pipeline.destination_client() as destination, contextlib.suppress(DatabaseUndefinedRelation):
        # files on a filesystem have names of their own, and are written over
        if not isinstance(destination, SqlJobClientBase):
            return
        client = destination.sql_client
        client.execute_sql(f"DELETE FROM {client.make_qualified_table_name('_dlt_loads')} WHERE load_id = %s", load_id)
        for job in package.jobs["started_jobs"]:
            path, table = Path(job.file_path), job.job_file_info.table_name
            recorded = path.parents[1] / PackageStorage.PENDING_TRANSITIONS_FOLDER / path.name
            if recorded.exists():
                continue
            merged = get_inherited_table_hint(tables, table, "write_disposition") == "merge"
            with client.with_staging_dataset() if merged else contextlib.nullcontext():
                sql = f"DELETE FROM {client.make_qualified_table_name(table)} WHERE {ROW_ID} IN "
                for ids in batches(_row_ids(path, job.job_file_info.file_format, dialect_of(client)), 1_000):
                    client.execute_sql(f"{sql} ({', '.join(['%s'] * len(ids))})", *ids)


def _row_ids(path: Path, file_format: str, dialect: str) -> list[str]:
    """The `_dlt_id` of each row in a file that was to be loaded; none of a file that holds statements."""
    if file_format == "parquet":
        from pyarrow.parquet import read_table  # type: ignore[import-untyped]

        return list(read_table(path, columns=[ROW_ID])[ROW_ID].to_pylist())
    with FileStorage.open_zipsafe_ro(str(path), "rb") as file:
        if file_format == "insert_values":
            import sqlglot

            # its head has a place for the name of the table
            inserted = sqlglot.parse_one(file.read().decode().replace("{}", "inserted", 1), read=dialect)
            at = [column.name for column in inserted.this.expressions].index(ROW_ID)
            return [row.expressions[at].name for row in inserted.expression.expressions]
        if file_format in ("jsonl", "typed-jsonl"):
            lines = [json.typed_loadb(line) for line in file]
            return [row[ROW_ID] for line in lines for row in (line if isinstance(line, list) else [line])]
    return []
