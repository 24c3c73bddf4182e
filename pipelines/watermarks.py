"""Up to when the runs of a workspace were read: by its pipeline's state, else by what syncs left in the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prefect_runs.clock import EVER, as_utc
from prefect_runs.progress import STATE_KEY
from prefect_runs.run_reader import FAR_FUTURE
from prefect_runs.settings import RUN_TABLES, STATE_TABLES
from prefect_runs.windows import Window

from .destination.warehouse import Warehouse

# dlt names a schema after its source
SCHEMA = "prefect_runs"

LACKS_WATERMARK = (
    "the runs of this workspace were loaded by another pipeline (one of Airflow or Dagster), or when the DuckDB file "
    "had another path or the destination another name, and the watermark belongs to that: "
)


def of_state(pipeline_state: Mapping[str, Any]) -> dict[str, datetime]:
    """Resource → watermark, as a pipeline's state has them."""
    found: dict[str, datetime] = {}
    for name, state in sorted(source_state(pipeline_state).get("resources", {}).items()):
        progress = state.get(STATE_KEY, {})
        value = state.get("incremental", {}).get("updated", {}).get("last_value")
        value = value or progress.get("watermark") or progress.get("until")
        if value:
            found[name] = as_utc(value)
    return found


class SyncsOfOthers:
    """What the table `syncs` tells of the syncs of a workspace, whichever pipeline made them."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        unfinished = "unfinished" if warehouse.has("syncs", "unfinished") else "1 = 0"
        sql = f"SELECT window_end, window_start, {unfinished} FROM {{syncs}} AS run WHERE window_end IS NOT NULL"
        rows = warehouse.of_workspace(sql)
        self._last = max(rows, key=lambda row: as_utc(row[0]), default=None)

    def watermarks(self) -> dict[str, datetime]:
        """Table of runs or states that has rows → when the last sync began, by the server's time."""
        if self._last is None:
            return {}
        window = Window(EVER, FAR_FUTURE)
        runs = [table for table in RUN_TABLES if self._warehouse.has(table) and self._warehouse.has_runs(table, window)]
        loaded = self._warehouse.counts() if runs else {}
        states = [table for table in STATE_TABLES if loaded.get(table)]
        return dict.fromkeys((*runs, *states), as_utc(self._last[0]))

    @property
    def first_load_unfinished(self) -> bool:
        """Whether the last of them stopped after a chunk of a first load."""
        return self._last is not None and self._last[1] is None and bool(self._last[2])


def source_state(pipeline_state: Any) -> dict[str, Any]:
    """What a pipeline's state holds of the source: its `resources`, and what concerns them all."""
    found: dict[str, Any] = pipeline_state.get("sources", {}).get(SCHEMA, {})
    return found
