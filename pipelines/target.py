"""One server, one destination, and the dlt pipeline between them: what sync, backfill and verify share."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import dlt
from dlt.common.destination import Destination
from dlt.common.destination.client import WithStateSync
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.common.runtime.collector_base import Collector

from prefect_runs import Access, ConfigurationError, Selection, prefect_runs
from prefect_runs.clock import EVER, as_utc
from prefect_runs.filters import scope
from prefect_runs.run_reader import FAR_FUTURE
from prefect_runs.settings import RUN_TABLES, STATE_TABLES
from prefect_runs.tables import TABLES
from prefect_runs.windows import Window

from .alone import loading, working_folder
from .destination.failures import out_of_memory, patiently
from .destination.killed_load import undo_unrecorded
from .destination.memory import keep_small, small_loads
from .destination.pipeline_states import states_of_others, stored_state
from .destination.torso import remove_torso
from .destination.warehouse import Untrusted, Warehouse
from .destination.zero_character import REFUSED_BY, without_zeros
from .names import pipeline_name, staging_layout
from .options import SyncOptions
from .watermarks import SCHEMA, Reached, furthest
from .working_folder import put_aside, remove_half_made
from .workspaces import configured, workspace_of

# where dlt's local state keeps which state of the destination a load was read for
FOLLOWS = "follows"

# rows of a first load or backfill that are committed together: what a killed one loses is read again in seconds
CHUNK_ROWS = 5_000

# those that load parquet many times faster than the format they prefer, and without any more packages; others choose
PARQUET = ("duckdb", "motherduck", "ducklake", "filesystem")

SYNC_COLUMNS = (
    *("server_version", "window_start", "window_end", "finished_at"),
    *("requests", "rows_changed", "whole", "gaps", "warnings"),
)


class Target:
    """Where one workspace's runs come from and where they go.

    To be used in a `with` block: until its end no other command works in the same working folder.
    """

    def __init__(self, options: SyncOptions, progress: Collector | None = None) -> None:
        keep_small()
        self.options = options
        configured = workspace_of(options)
        self.workspace = configured.name
        self.credentials = configured.credentials
        self.connection = configured.connection
        self.settings = configured.settings
        self.filters = configured.filters
        self.privacy = configured.privacy
        name = pipeline_name(options, self.workspace)
        destination: Any = Destination.from_reference(options.dlt_destination())
        destination.config_params["staging_dataset_name_layout"] = staging_layout(self.workspace)
        # before dlt makes or reads the working folder
        self._folders = Path(options.pipelines_dir or get_dlt_pipelines_dir())
        self._lock = working_folder(self._folders / name)
        try:
            self.pipeline = dlt.pipeline(
                name,
                destination=destination,
                dataset_name=options.dataset,
                progress=progress,  # type: ignore[arg-type]  # None is dlt's own default
                pipelines_dir=options.pipelines_dir,  # type: ignore[arg-type]
            )
        except BaseException:
            self._lock.release()
            raise
        self.warehouse = Warehouse(self.pipeline, self.workspace)

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.warehouse.opened.close()
        finally:
            self._lock.release()

    def restore(self) -> None:
        """Make the pipeline's state and schema those of the destination, and load what an earlier sync left."""
        if self.options.destination == "duckdb":
            remove_torso(Path(self.options.where))
        remove_half_made(Path(self.pipeline.working_dir))
        if not (self.pipeline.has_pending_data and patiently(self._pending_follows)):
            # dlt believes a newer state here more than the destination's, which may be another one of that name, be put
            # back from a backup, or be begun anew by another workspace: the watermark would pass over what it lacks
            with put_aside(Path(self.pipeline.working_dir)):
                self.pipeline.drop()
        self.ask_destination()
        if self.pipeline.has_pending_data:
            with self._alone():
                self._load_pending()
        self.warehouse.loaded()

    def _load_pending(self) -> None:
        for load_id in self.pipeline.list_normalized_load_packages():
            patiently(lambda load_id=load_id: undo_unrecorded(self.pipeline, load_id))  # type: ignore[misc]
        while self.pipeline.has_pending_data:
            patiently(self.pipeline.run)

    def _pending_follows(self) -> bool:
        """Whether what is left to load follows what the destination holds: its state, or its own where that is in."""
        stored = stored_state(self.pipeline, self.pipeline.pipeline_name)
        local: Any = self.pipeline.state["_local"]
        own = (local.get(FOLLOWS), local.get("_last_extracted_hash"))
        return (stored["_version_hash"] if stored else None) in own

    def ask_destination(self) -> None:
        """Make the pipeline's state and schema those of the destination."""
        self._note_file()
        patiently(self._sync_destination)
        if not self.pipeline.default_schema_name:
            patiently(self._share_schema)

    def _note_file(self) -> None:
        """Tell dlt's own commands, and `dlt.attach`, where the DuckDB file is: they would look for one of their own."""
        if self.options.destination == "duckdb":
            self.pipeline.set_local_state_val("duckdb_database", str(Path(self.options.where).resolve()))

    def _sync_destination(self) -> None:
        with self.warehouse.opened.client():
            self.pipeline.sync_destination()

    def _share_schema(self) -> None:
        """Take the schema that other workspaces made the dataset with: this one has not loaded anything into it yet."""
        with self.pipeline.destination_client() as client, contextlib.suppress(DestinationUndefinedEntity):
            stored = client.get_stored_schema(SCHEMA) if isinstance(client, WithStateSync) else None
            if stored:
                with self.pipeline.managed_state():
                    self.pipeline.schemas.save_schema(dlt.Schema.from_dict(json.loads(stored.schema)))
                    self.pipeline.default_schema_name = stored.schema_name  # type: ignore[assignment]

    def require_runs(self) -> None:
        """Refuse a destination that has no runs.

        Raises:
            ConfigurationError: nothing was loaded into it yet.
        """
        if not self.warehouse.has("flow_runs"):
            raise ConfigurationError(f"there are no runs in {self.options.where} yet: run prefect-runs sync first")

    def require_workspace(self) -> None:
        """Refuse a workspace that neither the dataset nor the configuration knows.

        Raises:
            ConfigurationError: naming those that are there.
        """
        there = self.warehouse.workspaces()
        if self.workspace not in (*there, *configured()):
            raise ConfigurationError(
                f"there is nothing of {self.workspace} in {self.options.where}; there is of {', '.join(there)}: "
                "name one with --workspace"
            )

    def access(self) -> Access:
        """What several sources share, one after the other."""
        with_histories = not set(STATE_TABLES).isdisjoint(self.options.read)
        return Access(self.connection, self.settings, with_histories=with_histories)

    def source(self, access: Access, trusting: bool = True, selections: Mapping[str, Selection] | None = None) -> Any:
        """The source, ready to be read once.

        Args:
            access, selections: see `prefect_runs.prefect_runs`.
            trusting: whether what the warehouse has need not be loaded again.
        """
        settings = self.settings.copy()
        settings.chunk_rows = settings.chunk_rows or CHUNK_ROWS
        known = self.warehouse if trusting else Untrusted(self.warehouse)
        source = prefect_runs(
            self.credentials, self.workspace, self.filters, settings, known, selections, access, self.privacy
        )
        if self.options.kind in REFUSED_BY:
            for name, rows in source.resources.items():
                rows.add_map(without_zeros(TABLES[name]))
        return source

    def load(self, source: Any) -> tuple[str, Mapping[str, int]]:
        """Extract, normalize and load `source`; its load id, and the rows of each table."""
        fast = self.options.kind in PARQUET
        # whose rows a load that fails may be loaded after
        self.pipeline.set_local_state_val(FOLLOWS, self.pipeline.state["_local"].get("_last_extracted_hash"))
        self.pipeline.extract(source, loader_file_format="parquet" if fast else None)
        normalized = self.pipeline.normalize()
        info = patiently(self._load_package)
        self.warehouse.loaded()
        return info.loads_ids[-1], normalized.row_counts

    def sync_row(self, load_id: str) -> dict[str, Any]:
        """The row of `syncs` of a load: times in UTC, lists as lists, whatever the destination gives."""
        sql = f"SELECT {', '.join(SYNC_COLUMNS)} FROM {{syncs}} WHERE _dlt_load_id = %s"
        [row] = self.warehouse.rows(sql, load_id)
        return as_row(SYNC_COLUMNS, row)

    def reached(self) -> Reached:
        """Up to when the runs of this workspace and these filters were read, by whichever pipeline in the dataset."""
        others = states_of_others(self.pipeline)
        return furthest(self.pipeline.state, others, scope(self.filters, self.workspace))

    @property
    def lacks_watermark(self) -> bool:
        """Whether the dataset has runs of the workspace that were loaded under another name or path."""
        if Reached(self.pipeline.state).has_read_runs:
            return False
        if self.pipeline.state.get("sources"):
            # a backfill, or a repair of what another one loaded
            return not self.reached().own
        return any(self.warehouse.has_runs(table, Window(EVER, FAR_FUTURE)) for table in self.run_tables())

    def run_tables(self) -> list[str]:
        """Those of `flow_runs` and `task_runs` that were loaded."""
        return [table for table in RUN_TABLES if self.warehouse.has(table)]

    @property
    def warnings(self) -> list[str]:
        """What whoever reads the destination must know."""
        if self.options.kind != "filesystem":
            return []
        from .destination.lake import ONLY_GROWS

        client: Any
        with self.pipeline.destination_client() as client:
            return [ONLY_GROWS] if client.config.table_format == "parquet" else []

    def _load_package(self) -> Any:
        try:
            with small_loads():
                return self._load()
        except Exception as error:
            if not out_of_memory(error):
                raise
            return self._load()

    def _load(self) -> Any:
        # a connection held open for the length of the load: else DuckDB opens and closes its file for every table
        # with nothing else of it open, for a load bounds the memory of all of them
        self.warehouse.opened.close()
        with self._alone(), self.pipeline.sql_client():
            return self.pipeline.load()

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """While a lake is loaded into: of two commits at a time, Iceberg tables without a catalogue keep one."""
        if self.options.kind != "filesystem":
            return contextlib.nullcontext()
        client: Any
        with self.pipeline.destination_client() as client:
            if client.config.table_format == "parquet":
                return contextlib.nullcontext()
            return loading(self._folders, f"{client.config.protocol}://{client.dataset_path}")


@contextlib.contextmanager
def asked_only(options: SyncOptions) -> Iterator[Target]:
    """A target to ask and load nothing into: in a working folder of its own, so that it need not wait for a sync.

    A DuckDB file is opened to be read only, as others may read it meanwhile.
    """
    with (
        tempfile.TemporaryDirectory(prefix="prefect-runs-") as folder,
        Target(replace(options, pipelines_dir=folder, only_asks=True)) as target,
    ):
        target.ask_destination()
        yield target


def as_row(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """A row of `syncs`, its times in UTC and its lists lists, whatever the destination gives."""
    row = dict(zip(columns, values, strict=True))
    if row.get("whole") is not None:
        # SQLite and MySQL have numbers
        row["whole"] = bool(row["whole"])
    for name in ("window_start", "window_end", "finished_at"):
        if row.get(name):
            row[name] = as_utc(row[name])
    for name in ("gaps", "warnings"):
        if name in row:
            row[name] = (json.loads(row[name]) if isinstance(row[name], str) else row[name]) or []
    return row
