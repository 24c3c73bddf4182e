"""What a load that was killed left between the destination's commit and dlt's own record of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import dlt
from dlt.common.schema.utils import get_inherited_table_hint
from dlt.common.storages.load_package import PackageStorage
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase

from prefect_runs.read_ahead import batches


def undo_unrecorded(pipeline: dlt.Pipeline, load_id: str) -> None:
    """Take out what a killed load committed a moment before dlt recorded it: dlt loads those files once more.

    Rows that are twice in the staging dataset, with one `_dlt_id`, would be merged twice.
    """
    from pyarrow.parquet import read_table  # type: ignore[import-untyped]

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
            if path.suffix != ".parquet" or recorded.exists():
                continue
            merged = get_inherited_table_hint(tables, table, "write_disposition") == "merge"
            with client.with_staging_dataset() if merged else contextlib.nullcontext():
                sql = f"DELETE FROM {client.make_qualified_table_name(table)} WHERE _dlt_id IN "
                for ids in batches(read_table(path, columns=["_dlt_id"])["_dlt_id"].to_pylist(), 1_000):
                    client.execute_sql(f"{sql} ({', '.join(['%s'] * len(ids))})", *ids)
