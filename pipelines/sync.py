"""`prefect-runs sync`: loads what changed, in chunks while the first load lasts, and reports what it did."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
from dlt.common.configuration import resolve_configuration
from dlt.common.runtime.collector_base import Collector

from prefect_runs import (
    RESOURCES,
    ConfigurationError,
    PrefectCredentials,
    ReadSettings,
    RunFilters,
    Version,
    prefect_runs,
    unfinished,
)
from prefect_runs.clock import as_utc

from .failures import explained, patiently
from .killed_load import undo_unrecorded
from .memory import keep_small
from .warehouse import Warehouse

DEFAULT_DATABASE = "prefect_runs.duckdb"
DEFAULT_DATASET = "prefect"
SECTIONS = ("sources", "prefect_runs")

# rows of the first load that are kept and committed together: what a killed sync can lose is read again in seconds
CHUNK_ROWS = 10_000
# a first load that took longer than this is followed by a sync of what changed meanwhile
FRESH = timedelta(minutes=1)


@dataclass(frozen=True)
class SyncOptions:
    """What to sync where; what is None comes from dlt's or Prefect's configuration."""

    api_url: str | None = None
    workspace: str | None = None
    destination: str = "duckdb"
    dataset: str = DEFAULT_DATASET
    database: str | None = None
    resources: Sequence[str] = ()
    start_date: str | None = None
    full: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    pipelines_dir: str | None = None


@dataclass
class SyncReport:
    """What one sync did. Times are the server's."""

    workspace: str
    server_url: str
    server_version: str | None
    pipeline: str
    destination: str
    dataset: str
    first_load: bool
    window_start: datetime | None
    window_end: datetime
    requests: int
    seconds: float
    rows: dict[str, int]
    new: dict[str, int]
    changed: dict[str, int]
    whole: bool
    gaps: list[str]

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), default=str)


@dataclass(frozen=True)
class PatientKnown:
    """What the warehouse holds, asked again while a reader holds its file; see `prefect_runs.known.Known`."""

    warehouse: Warehouse

    def versions(self, table: str, since: datetime) -> Mapping[str, Version]:
        """See `Warehouse.versions`."""
        return patiently(lambda: self.warehouse.versions(table, since))

    def present(self, table: str, ids: Collection[str]) -> set[str]:
        """See `Warehouse.present`."""
        return patiently(lambda: self.warehouse.present(table, ids))


class Sync:
    """One destination and one server, and the pipeline between them."""

    def __init__(self, options: SyncOptions, progress: Collector | None = None) -> None:
        unknown = set(options.resources) - set(RESOURCES)
        if unknown:
            raise ConfigurationError(
                f"there is no resource {', '.join(sorted(unknown))}; there are {', '.join(RESOURCES)}"
            )
        keep_small()
        self.options = options
        self._credentials = _resolved(PrefectCredentials, SECTIONS, {"api_url": options.api_url})
        self.connection = self._credentials.connection()
        self.workspace = (
            options.workspace or dlt.config.get("sources.prefect_runs.workspace") or self.connection.workspace
        )
        self.pipeline = dlt.pipeline(
            pipeline_name(options, self.workspace),
            destination=_destination(options),
            dataset_name=options.dataset,
            progress=progress,  # type: ignore[arg-type]  # None is dlt's own default
            pipelines_dir=options.pipelines_dir,  # type: ignore[arg-type]
        )
        self.warehouse = Warehouse(self.pipeline)

    def restore(self) -> None:
        """Make the pipeline's state and schema those of the destination, and load what an earlier sync left."""
        patiently(self.pipeline.sync_destination)
        for load_id in self.pipeline.list_normalized_load_packages():
            patiently(lambda load_id=load_id: undo_unrecorded(self.pipeline, load_id))  # type: ignore[misc]
        while self.pipeline.has_pending_data:
            patiently(self.pipeline.run)

    def run(self) -> SyncReport:
        """Load everything that changed.

        Raises:
            PrefectRunsError: see `prefect_runs.exceptions`; what was loaded before stays, and the next sync goes on.
        """
        started = time.monotonic()
        with explained():
            self.restore()
            if self.options.full:
                self._forget()
            before = patiently(self.warehouse.counts)
            loads, loaded = self._load_all()
            return self._report(before, loads, loaded, time.monotonic() - started)

    def _load_all(self) -> tuple[list[str], Counter[str]]:
        loads: list[str] = []
        loaded: Counter[str] = Counter()
        began: datetime | None = None
        while True:
            self._load(loads, loaded)
            row = self._sync_rows(loads[-1:])[0]
            began = began or row["window_end"]
            if unfinished(dict(self.pipeline.state)):
                continue
            # the last chunk of a first load is whole up to when its first chunk began
            if row["window_start"] is None and row["finished_at"] - began > FRESH:
                began = row["finished_at"]
                continue
            return loads, loaded

    def _load(self, loads: list[str], loaded: Counter[str]) -> None:
        source = self._source()
        self.pipeline.extract(source, loader_file_format="parquet")
        normalized = self.pipeline.normalize()
        info = patiently(self._load_package)
        loads.extend(info.loads_ids)
        loaded.update(normalized.row_counts)

    def _load_package(self) -> Any:
        # a connection held open for the length of the load: else DuckDB opens and closes its file for every table
        with self.pipeline.sql_client():
            return self.pipeline.load()

    def _source(self) -> Any:
        settings = _resolved(ReadSettings, (*SECTIONS, "settings"), self.options.settings)
        settings.chunk_rows = settings.chunk_rows or CHUNK_ROWS
        filters = _resolved(RunFilters, (*SECTIONS, "filters"), {"start_date": self.options.start_date})
        # a full sync takes nothing for granted, or states missing from the warehouse would not come back
        known = None if self.options.full else PatientKnown(self.warehouse)
        source = prefect_runs(self._credentials, self.workspace, filters, settings, known)
        return source.with_resources(*self.options.resources, "syncs") if self.options.resources else source

    def _forget(self) -> None:
        """Start anew: every resource makes its first load again, merged into what is there."""
        with self.pipeline.managed_state() as state:
            for name in self.options.resources or RESOURCES:
                state.get("sources", {}).get("prefect_runs", {}).get("resources", {}).pop(name, None)

    def _sync_rows(self, loads: Sequence[str]) -> list[dict[str, Any]]:
        columns = ("server_version", "window_start", "window_end", "finished_at", "requests", "whole", "gaps")
        places = ", ".join(["%s"] * len(loads))
        sql = f"SELECT {', '.join(columns)} FROM {{syncs}} WHERE _dlt_load_id IN ({places}) ORDER BY _dlt_load_id"
        return [as_row(columns, row) for row in patiently(lambda: self.warehouse.rows(sql, *loads))]

    def _report(self, before: dict[str, int], loads: list[str], loaded: Counter[str], seconds: float) -> SyncReport:
        rows = self._sync_rows(loads)
        after = patiently(self.warehouse.counts)
        new = {table: count - before.get(table, 0) for table, count in after.items()}
        return SyncReport(
            workspace=self.workspace,
            server_url=self.connection.url,
            server_version=rows[-1]["server_version"],
            pipeline=self.pipeline.pipeline_name,
            destination=where(self.options),
            dataset=self.options.dataset,
            first_load=rows[0]["window_start"] is None,
            window_start=rows[0]["window_start"],
            window_end=rows[-1]["window_end"],
            requests=sum(row["requests"] for row in rows),
            seconds=round(seconds, 2),
            rows=after,
            new=new,
            changed={table: max(loaded[table] - new[table], 0) for table in after},
            whole=rows[-1]["whole"],
            gaps=rows[-1]["gaps"],
        )


def sync(options: SyncOptions, progress: Collector | None = None) -> SyncReport:
    """Sync once. Arguments and errors as in `Sync`."""
    with explained():
        return Sync(options, progress).run()


def as_row(columns: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """A row of `syncs`, its times in UTC and its gaps a list, whatever the destination gives."""
    row = dict(zip(columns, values, strict=True))
    for name in ("window_start", "window_end", "finished_at"):
        if row.get(name):
            row[name] = as_utc(row[name])
    row["gaps"] = (json.loads(row["gaps"]) if isinstance(row["gaps"], str) else row["gaps"]) or []
    return row


def where(options: SyncOptions) -> str:
    """The destination in words: its name, or the DuckDB file."""
    return options.database or DEFAULT_DATABASE if options.destination == "duckdb" else options.destination


def pipeline_name(options: SyncOptions, workspace: str) -> str:
    """A name of its own for each workspace and destination, for dlt keeps the watermark under it."""
    identity = [options.destination, options.dataset, workspace]
    if options.destination == "duckdb":
        identity.append(str(Path(where(options)).resolve()))
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:6]
    readable = re.sub(r"[^a-z0-9]+", "_", workspace.lower()).strip("_")[:30]
    return f"prefect_runs_{readable}_{digest}"


def _destination(options: SyncOptions) -> Any:
    if options.destination == "duckdb":
        return dlt.destinations.duckdb(where(options))
    if options.database:
        raise ConfigurationError(
            "--database names a DuckDB file; other destinations are configured in .dlt/secrets.toml"
        )
    return options.destination


def _resolved(spec: Any, sections: tuple[str, ...], given: dict[str, Any]) -> Any:
    """Configuration of `spec`: what is given here, else dlt's, else (credentials) what Prefect's own client takes."""
    values = {key: value for key, value in given.items() if value is not None}
    return resolve_configuration(spec(), sections=sections, explicit_value=values or None)
