"""Delta and Iceberg tables: rows replaced in one commit, and the files that hold the present rows."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa  # type: ignore[import-untyped]
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from prefect_runs import ConfigurationError

if TYPE_CHECKING:
    from . import LakeClient

ROW_ID = "_dlt_id"
# tells rows to take out from rows to put in, inside one Delta merge
REPLACED = "_replaced"


class OpenTable(ABC):
    """A table of parquet files, with a log that says which of them are its present ones. It need not be there yet.

    Args:
        client: knows where it is.
        name: its name in the client's dataset.
    """

    format: Any

    def __init__(self, client: LakeClient, name: str) -> None:
        self.client = client
        self.name = name
        self.native: Any = None
        with contextlib.suppress(DestinationUndefinedEntity):
            self.native = client.load_open_table(self.format, name)

    def replace(self, rows: pa.Table | None, keys: pa.Table) -> None:
        """Put `rows` in the place of the rows whose columns equal a row of `keys`, in one commit.

        None is no rows, for which no table is made.
        """
        if self.native is None:
            if rows is not None:
                self.make(rows)
        elif self.ids(keys):
            self.merge(rows, keys)
        elif rows is not None:
            self.add(rows)

    def ids(self, keys: pa.Table) -> list[str]:
        """`_dlt_id` of the rows whose columns equal a row of `keys`."""
        files = self.files()
        if not files:
            return []
        with self.client.sql_client as sql:
            connection = sql.native_connection
            connection.register("keys_asked", keys)
            query = f"SELECT {ROW_ID} FROM read_parquet($1) SEMI JOIN keys_asked USING ({', '.join(keys.column_names)})"
            found = connection.execute(query, [files]).fetchall()
            connection.unregister("keys_asked")
        return [id_ for (id_,) in found]

    @abstractmethod
    def files(self) -> list[str]:
        """The parquet files that hold the present rows and no others.

        Raises:
            ConfigurationError: another program took rows out in a way that the files do not show.
        """

    @abstractmethod
    def make(self, rows: pa.Table) -> None:
        """Make the table with `rows`."""

    @abstractmethod
    def add(self, rows: pa.Table) -> None:
        """Add `rows`."""

    @abstractmethod
    def merge(self, rows: pa.Table | None, keys: pa.Table) -> None:
        """`replace`, where there is something to replace."""

    def _refuse(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"another program wrote {what} into the {self.format} table {self.name}, which cannot be read here; have "
            "it write the table anew without them"
        )


class DeltaTable(OpenTable):
    """A Delta table."""

    format = "delta"

    def files(self) -> list[str]:
        """See `OpenTable`."""
        if self.native is None:
            return []
        if "deletionVectors" in (self.native.protocol().reader_features or ()):
            raise self._refuse("deletion vectors")
        files = list(self.native.file_uris())
        return [unquote(file) for file in files] if self.client.is_local_filesystem else files

    def make(self, rows: pa.Table) -> None:
        """See `OpenTable`."""
        self._append(self.client.get_open_table_location("delta", self.name), rows)

    def add(self, rows: pa.Table) -> None:
        """See `OpenTable`."""
        if len(rows):
            self._append(self.native, rows)

    def merge(self, rows: pa.Table | None, keys: pa.Table) -> None:
        """See `OpenTable`: one merge, of the keys of what goes, and of what comes, which matches nothing."""
        from dlt.common.libs.deltalake import evolve_delta_table_schema

        source = keys.append_column(REPLACED, pa.repeat(True, len(keys)))
        if rows is not None:
            evolve_delta_table_schema(self.native, rows.schema)
            coming = rows.append_column(REPLACED, pa.repeat(False, len(rows)))
            source = pa.concat_tables([source, coming], promote_options="default")
        same = " AND ".join(f"target.{column} = source.{column}" for column in keys.column_names)
        merge = self.native.merge(
            source,
            f"{same} AND source.{REPLACED}",
            source_alias="source",
            target_alias="target",
            streamed_exec=self.client.config.deltalake_streamed_exec,
        ).when_matched_delete()
        if rows is not None:
            values = {column: f"source.{column}" for column in rows.column_names}
            merge = merge.when_not_matched_insert(values, predicate=f"NOT source.{REPLACED}")
        merge.execute()

    def _append(self, to: Any, rows: pa.Table) -> None:
        from deltalake import write_deltalake
        from dlt.common.libs.deltalake import deltalake_storage_options

        config = self.client.config
        write_deltalake(
            to,
            rows,
            mode="append",
            schema_mode="merge",
            storage_options=deltalake_storage_options(config.credentials, config.deltalake_storage_options),
            configuration=config.deltalake_configuration,
        )


class IcebergTable(OpenTable):
    """An Iceberg table."""

    format = "iceberg"

    def files(self) -> list[str]:
        """See `OpenTable`."""
        if self.native is None:
            return []
        tasks = list(self.native.scan().plan_files())
        if any(task.delete_files for task in tasks):
            raise self._refuse("delete files")
        return [task.file.file_path.removeprefix("file://") for task in tasks]

    def make(self, rows: pa.Table) -> None:
        """See `OpenTable`."""
        from dlt.common.libs.pyiceberg import create_table

        client = self.client
        create_table(
            client.get_open_table_catalog("iceberg"),
            f"{client.dataset_name}.{self.name}",
            table_location=client.get_open_table_location("iceberg", self.name),
            schema=rows.schema,
            properties=client.config.iceberg_table_properties,
        )
        self.native = client.load_open_table("iceberg", self.name)
        self.add(rows)

    def add(self, rows: pa.Table) -> None:
        """See `OpenTable`."""
        self._commit(rows)

    def merge(self, rows: pa.Table | None, keys: pa.Table) -> None:
        """See `OpenTable`."""
        self._commit(rows, _equal(keys))

    def _commit(self, rows: pa.Table | None, replaced: Any = None) -> None:
        with self.native.transaction() as transaction:
            if rows is not None:
                with transaction.update_schema() as update:
                    update.union_by_name(rows.schema)
            if replaced is not None:
                transaction.delete(replaced)
            if rows is not None and len(rows):
                transaction.append(rows)


def _equal(keys: pa.Table) -> Any:
    """The condition that a row's columns equal a row of `keys`: the last one among the values that go together."""
    from pyiceberg.expressions import And, EqualTo, In, Or

    # without their types: pydantic's plugin for mypy knows them, and mypy itself does not
    equal_to: Any = EqualTo
    among: Any = In

    *columns, last = keys.column_names
    groups: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    for row in keys.to_pylist():
        groups[tuple(row[column] for column in columns)].add(row[last])
    conditions = []
    for values, of_last in groups.items():
        condition: Any = among(last, of_last)
        for column, value in zip(columns, values, strict=True):
            condition = And(equal_to(column, value), condition)
        conditions.append(condition)
    equal = conditions[0]
    for condition in conditions[1:]:
        equal = Or(equal, condition)
    return equal


def open_table(client: LakeClient, name: str, table_format: str) -> OpenTable:
    """The table of that name in the client's dataset."""
    return DeltaTable(client, name) if table_format == "delta" else IcebergTable(client, name)
