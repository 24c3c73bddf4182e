"""`prefect-runs status`: what the warehouse holds and how fresh it is. Asks the destination only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from prefect_runs import unfinished
from prefect_runs.clock import as_utc

from .failures import explained, patiently
from .screen import cell, text_table
from .sync import Sync, SyncOptions, as_row, where

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

    def as_json(self) -> str:
        """The status as one JSON object."""
        return json.dumps(asdict(self), default=str)


def status(options: SyncOptions) -> Status:
    """The status of one destination.

    Raises:
        PrefectRunsError: the destination cannot be asked.
    """
    with explained():
        sync = Sync(options)
        patiently(sync.pipeline.sync_destination)
        resources = sync.pipeline.state.get("sources", {}).get("prefect_runs", {}).get("resources", {})
        return Status(
            workspace=sync.workspace,
            pipeline=sync.pipeline.pipeline_name,
            destination=where(options),
            dataset=options.dataset,
            rows=patiently(sync.warehouse.counts),
            watermarks=_watermarks(resources),
            first_load_unfinished=unfinished(dict(sync.pipeline.state)),
            newest_state=_newest_state(sync),
            syncs=_last_syncs(sync),
        )


def status_screen(shown: Status) -> str:
    """The status as a person reads it."""
    if not shown.rows:
        return f"{shown.destination} holds nothing of {shown.workspace} yet; run prefect-runs sync"
    watermarks = [(name, time) for name, time in shown.watermarks.items()]
    lines = [
        f"{shown.workspace} → {shown.destination}, dataset {shown.dataset} (dlt pipeline {shown.pipeline})",
        f"newest state loaded: {cell(shown.newest_state) or 'none'} UTC",
        "the first load is unfinished; run prefect-runs sync to go on" if shown.first_load_unfinished else "",
        "",
        text_table(("table", "rows"), shown.rows.items()),
        "",
        text_table(("resource", "watermark (UTC)"), watermarks),
        "",
        f"last {len(shown.syncs)} syncs",
        text_table(
            ("up to (UTC)", "since", "requests", "rows changed", "whole", "gaps"),
            [
                (
                    sync["window_end"],
                    cell(sync["window_start"]) or "first load",
                    sync["requests"],
                    sync["rows_changed"],
                    sync["whole"],
                    "; ".join(sync["gaps"]),
                )
                for sync in shown.syncs
            ],
        ),
    ]
    return "\n".join(lines)


def _watermarks(resources: dict[str, Any]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for name, state in sorted(resources.items()):
        value = state.get("incremental", {}).get("updated", {}).get("last_value")
        value = value or state.get("progress", {}).get("watermark") or state.get("progress", {}).get("until")
        if value:
            found[name] = as_utc(value)
    return found


def _newest_state(sync: Sync) -> datetime | None:
    times = [
        as_utc(row[0])
        for table in ("flow_runs", "task_runs")
        for row in sync.warehouse.rows(f"SELECT max(state_timestamp) FROM {{{table}}}")
        if row[0]
    ]
    return max(times, default=None)


def _last_syncs(sync: Sync) -> list[dict[str, Any]]:
    columns = ("window_start", "window_end", "requests", "rows_changed", "whole", "gaps")
    sql = f"SELECT {', '.join(columns)} FROM {{syncs}} ORDER BY window_end DESC, _dlt_load_id DESC LIMIT {SYNCS_SHOWN}"
    return [as_row(columns, row) for row in sync.warehouse.rows(sql)]
