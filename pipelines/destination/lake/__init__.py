"""The destination `filesystem` as this package uses it: Delta or Iceberg tables that merge, or files that only grow.

dlt merges such tables by upsert: it knows no order among two copies of a row in one load, leaves child rows of what a
list lost, and has no `merge_key`; Iceberg takes no row away either. Here they merge as tables of a database do.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

from dlt.common.configuration import configspec, resolve_type
from dlt.common.configuration.specs import CredentialsConfiguration
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.normalizers.naming import NamingConvention
from dlt.common.schema.typing import TLoaderMergeStrategy
from dlt.common.schema.utils import get_nested_tables, get_root_table, has_table_seen_data
from dlt.common.storages.load_package import ParsedLoadJobFileName
from dlt.destinations import filesystem
from dlt.destinations.impl.filesystem.configuration import FilesystemDestinationClientConfiguration
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient, ReferenceFollowupJob

from prefect_runs import ConfigurationError

from .merge import merge_chain
from .tables import OpenTable, open_table
from .views import LakeSqlClient

TableFormat = Literal["parquet", "delta", "iceberg"]
TABLE_FORMATS = ("delta", "iceberg")
PACKAGES = {"parquet": (), "delta": ("deltalake",), "iceberg": ("pyiceberg", "sqlalchemy")}
ONLY_GROWS = (
    "parquet files keep every version of a row: read the latest through the views that `prefect-runs models "
    "--destination filesystem --print` writes, or have tables that merge (table_format)"
)


@configspec
class LakeConfiguration(FilesystemDestinationClientConfiguration):
    """dlt's configuration of a filesystem, and what the tables there are."""

    table_format: TableFormat = "parquet"
    """Tables that are merged when they are loaded, or parquet files to which loads add, merged when they are read."""

    def on_resolved(self) -> None:
        """Refuse what could not be written, or not be found again."""
        missing = [name for name in PACKAGES[self.table_format] if find_spec(name) is None]
        if missing:
            raise ConfigurationError(
                f"{self.table_format} tables need {' and '.join(missing)}: "
                f"pip install 'dlt-source-prefect[{self.table_format}]'"
            )
        if self.table_format == "iceberg" and self.is_local_filesystem and "%" in (self.bucket_url or ""):
            raise ConfigurationError(
                f"Iceberg tables cannot be in {self.bucket_url}: pyiceberg takes no folder with a space or another "
                "character that URLs escape in its name"
            )

    @resolve_type("credentials")
    def resolve_credentials_type(self) -> type[CredentialsConfiguration]:
        """Those of the bucket URL's protocol: dlt looks for this in each class anew."""
        return super().resolve_credentials_type()


class LakeJob(ReferenceFollowupJob):
    """Merges the files of a table and of its child tables into Delta or Iceberg tables."""

    _job_client: LakeClient

    def run(self) -> None:
        """Load them, whole or not at all for each table; once more does no harm."""
        files: dict[str, list[str]] = {}
        for path in self.file_paths:
            name = ParsedLoadJobFileName.parse(self._job_client.pathlib.basename(path)).table_name
            files.setdefault(name, []).append(path)
        merge_chain(self._job_client.chain(self.load_table_name), files, self._job_client.open_table)


class LakeClient(FilesystemClient):
    """Writes a table together with its child tables, and reads without what DuckDB would have to download."""

    batch_table_chain = True
    config: LakeConfiguration

    @property
    def sql_client_class(self) -> Any:
        """Reads every format."""
        return LakeSqlClient

    @property
    def sql_client(self) -> Any:
        """A client whose DuckDB lives as long as this one."""
        if not self._sql_client:
            self._sql_client = LakeSqlClient(self, self.dataset_name)
        return self._sql_client

    @sql_client.setter
    def sql_client(self, client: Any) -> None:
        self._sql_client = client

    @staticmethod
    def get_reference_followup_job_class(table: Any) -> type[ReferenceFollowupJob] | None:
        """The job that merges, for tables with a format."""
        return LakeJob if table.get("table_format") in TABLE_FORMATS else None

    def initialize_storage(self, truncate_tables: Any = None) -> None:
        """Make the folder of the dataset.

        Raises:
            ConfigurationError: its tables have another format than the one that is configured.
        """
        found, wanted = self.found_format(), self.config.table_format
        if found not in (None, wanted):
            raise ConfigurationError(
                f"the dataset {self.dataset_name} in {self.config.bucket_url} holds {found} tables, and table_format "
                f"is {wanted}: configure {found}, or name another --dataset, into which everything is loaded anew"
            )
        super().initialize_storage(truncate_tables)

    def found_format(self) -> TableFormat | None:
        """The format of the tables that are there; None before the first load."""
        folder = self.pathlib.join(self.dataset_path, "syncs")
        if not self.fs_client.exists(folder) or not self.fs_client.ls(folder):
            return None
        logs: dict[TableFormat, str] = {"delta": "_delta_log", "iceberg": "metadata"}
        there = [name for name, log in logs.items() if self.fs_client.exists(self.pathlib.join(folder, log))]
        return there[0] if there else "parquet"

    def chain(self, table: str) -> list[Any]:
        """The root table of `table` and its child tables that have rows, as they are to be loaded."""
        root = str(get_root_table(self.schema.tables, table)["name"])
        nested = get_nested_tables(self.schema.tables, root)
        return [self.prepare_load_table(str(each["name"])) for each in nested if has_table_seen_data(each)]

    def open_table(self, name: str) -> OpenTable:
        """The Delta or Iceberg table of that name, there or not yet."""
        return open_table(self, name, self.config.table_format)

    def table_files(self, table: Any) -> list[str]:
        """The parquet files with the rows of a table, as URLs or local paths."""
        if table.get("table_format") in TABLE_FORMATS:
            return self.open_table(table["name"]).files()
        try:
            files = self.list_table_files(table["name"])
        except DestinationUndefinedEntity:
            return []
        return files if self.is_local_filesystem else [self.make_remote_url(file) for file in files]


class Lake(filesystem):
    """dlt's destination `filesystem` with tables that merge."""

    @property
    def spec(self) -> type[LakeConfiguration]:
        """Its configuration."""
        return LakeConfiguration

    @property
    def client_class(self) -> type[LakeClient]:
        """Its client."""
        return LakeClient

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        capabilities = super()._raw_capabilities()
        capabilities.preferred_loader_file_format = "parquet"
        capabilities.supported_merge_strategies = ["delete-insert"]
        # of every table: those without a format are merged when they are read
        capabilities.merge_strategies_selector = _all_supported
        return capabilities

    @classmethod
    def adjust_capabilities(
        cls, caps: DestinationCapabilitiesContext, config: Any, naming: NamingConvention | None
    ) -> DestinationCapabilitiesContext:
        """The format that is configured is that of every table."""
        table_format: Any = config.table_format if config.table_format in TABLE_FORMATS else None
        caps.preferred_table_format = table_format
        return super().adjust_capabilities(caps, config, naming)


def _all_supported(supported: Sequence[TLoaderMergeStrategy], /, **of_table: Any) -> Sequence[TLoaderMergeStrategy]:
    # a function with a name, for dlt hands it to the processes that normalise where there are several
    return supported
