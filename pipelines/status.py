"""`prefect-runs status`: what the warehouse holds and how fresh it is. Asks the destination only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from prefect_runs import RESOURCES, ConfigurationError
from prefect_runs.clock import as_utc
from prefect_runs.retention import Retention
from prefect_runs.tables import TABLES

from .destination.failures import explained, patiently
from .destination.warehouse import Warehouse
from .options import SyncOptions
from .target import Target, as_row, asked_only
from .watermarks import LACKS_WATERMARK

SYNCS_SHOWN = 5


@dataclass
class Status:
    """What the warehouse holds. Times are the server's, in UTC."""

    workspace: str
    pipeline: str
    destination: str
    dataset: str
    rows: dict[str, int]
    watermarks: dict[str, datetime]
    first_load_unfinished: bool
    newest_state: datetime | None
    syncs: list[dict[str, Any]]
    whole_up_to: datetime | None
    """What the last verification proved; None where none did."""
    warnings: list[str]
    workspaces: list[str]
    """All that were ever synced into the dataset."""

    def as_json(self) -> str:
        """The status as one JSON object."""
        return json.dumps(asdict(self), default=str)


def status(options: SyncOptions) -> Status:
    """The status of one destination.

    Raises:
        ConfigurationError: there is no such DuckDB file, or nothing in the dataset.
        PrefectRunsError: the destination cannot be asked.
    """
    options.check_file()
    with explained(), asked_only(options) as target:
        rows = patiently(target.warehouse.counts)
        workspaces = target.warehouse.workspaces()
        if not any(map(target.warehouse.has, TABLES)):
            raise ConfigurationError(f"there is nothing in {options.where} yet: run prefect-runs sync first")
        reached = target.reached()
        return Status(
            workspace=target.workspace,
            pipeline=target.pipeline.pipeline_name,
            destination=options.where,
            dataset=options.dataset,
            rows=rows,
            watermarks=reached.watermarks,
            first_load_unfinished=reached.first_load_unfinished(RESOURCES),
            newest_state=_newest_state(target.warehouse),
            syncs=_last_syncs(target.warehouse),
            whole_up_to=_whole_up_to(target.warehouse),
            warnings=_warnings(target, reached.watermarks),
            workspaces=workspaces,
        )


def _newest_state(warehouse: Warehouse) -> datetime | None:
    times = [
        as_utc(row[0])
        for table in ("flow_runs", "task_runs")
        for row in warehouse.of_workspace(f"SELECT max(state_timestamp) FROM {{{table}}} AS run WHERE 1 = 1")
        if row[0]
    ]
    return max(times, default=None)


def _last_syncs(warehouse: Warehouse) -> list[dict[str, Any]]:
    columns = ("window_start", "window_end", "requests", "rows_changed", "whole", "gaps")
    sql = f"SELECT {', '.join(columns)}, _dlt_load_id FROM {{syncs}} AS run WHERE window_end IS NOT NULL"
    rows = sorted(warehouse.of_workspace(sql), key=lambda row: (as_utc(row[1]), row[-1]), reverse=True)
    return [as_row(columns, row[:-1]) for row in rows[:SYNCS_SHOWN]]


def _whole_up_to(warehouse: Warehouse) -> datetime | None:
    """Up to when the last verification of each table proved it whole, the earlier of the two.

    One of a part of the time proves nothing of the rest, unless that it is not whole.
    """
    if not warehouse.has("verifications"):
        return None
    sql = "SELECT resource, whole_up_to, verified_at, after_repair, whole FROM {verifications} AS run WHERE 1 = 1"
    # a repair may end in the second in which what it repairs was found
    rows = sorted(warehouse.of_workspace(sql), key=lambda row: (as_utc(row[2]), bool(row[3])))
    latest = {resource: whole_up_to for resource, whole_up_to, _, _, whole in rows if whole_up_to or not whole}
    return min((as_utc(time) for time in latest.values()), default=None) if all(latest.values()) else None


def _warnings(target: Target, watermarks: Mapping[str, datetime]) -> list[str]:
    """What is to be said of the time since the last sync, by this machine's clock and what that sync learned."""
    lacking = []
    if target.lacks_watermark:
        lacking = [f"{LACKS_WATERMARK}with prefect-runs the next sync reads everything again"]
    runs = [watermarks[table] for table in target.run_tables() if table in watermarks]
    if not runs:
        return lacking
    settings = target.settings.copy()
    runs_kept, events_kept = _kept_days(target.warehouse)
    settings.runs_kept_days = settings.runs_kept_days or runs_kept
    settings.events_kept_days = settings.events_kept_days or events_kept
    retention = Retention.of(settings, target.connection.is_cloud, dict)
    return [*lacking, *retention.warnings(min(runs), datetime.now(UTC))]


def _kept_days(warehouse: Warehouse) -> tuple[float | None, float | None]:
    """Days that the server keeps runs and events, as the last sync that asked was told."""
    if not warehouse.has("syncs", "events_kept_days"):
        return None, None
    sql = "SELECT window_end, runs_kept_days, events_kept_days FROM {syncs} AS run WHERE window_end IS NOT NULL"
    told = warehouse.of_workspace(f"{sql} AND events_kept_days IS NOT NULL")
    _, runs, events = max(told, default=(None, None, None), key=lambda row: as_utc(row[0]))
    return runs, events
