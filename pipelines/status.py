"""`prefect-runs status`: what the warehouse holds and how fresh it is. Asks the destination only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from prefect_runs import unfinished
from prefect_runs.clock import as_utc

from .failures import explained, patiently
from .options import SyncOptions
from .screen import cell, text_table
from .sync import as_row
from .target import Target
from .warehouse import Warehouse

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
        target = Target(options)
        patiently(target.pipeline.sync_destination)
        return Status(
            workspace=target.workspace,
            pipeline=target.pipeline.pipeline_name,
            destination=options.where,
            dataset=options.dataset,
            rows=patiently(target.warehouse.counts),
            watermarks=target.watermarks(),
            first_load_unfinished=unfinished(dict(target.pipeline.state)),
            newest_state=_newest_state(target.warehouse),
            syncs=_last_syncs(target.warehouse),
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


def _newest_state(warehouse: Warehouse) -> datetime | None:
    times = [
        as_utc(row[0])
        for table in ("flow_runs", "task_runs")
        for row in warehouse.rows(f"SELECT max(state_timestamp) FROM {{{table}}}")
        if row[0]
    ]
    return max(times, default=None)


def _last_syncs(warehouse: Warehouse) -> list[dict[str, Any]]:
    columns = ("window_start", "window_end", "requests", "rows_changed", "whole", "gaps")
    sql = f"SELECT {', '.join(columns)} FROM {{syncs}} ORDER BY window_end DESC, _dlt_load_id DESC LIMIT {SYNCS_SHOWN}"
    return [as_row(columns, row) for row in warehouse.rows(sql)]
