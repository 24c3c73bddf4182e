"""What the warehouse holds of the runs that verify compares; see `prefect_runs.holdings.Holdings`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from prefect_runs.clock import as_utc
from prefect_runs.holdings import Held, as_held
from prefect_runs.settings import STATES_OF
from prefect_runs.tables import TABLES
from prefect_runs.windows import Window

from .warehouse import Warehouse

HELD = Held._fields


class WarehouseHoldings:
    """Answers about one workspace's live runs.

    Args:
        loaded: the tables that syncs of the workspace load; another one's may be in the same dataset.
    """

    def __init__(self, warehouse: Warehouse, loaded: Collection[str]) -> None:
        self._warehouse = warehouse
        self._loaded = loaded

    def oldest(self, table: str) -> datetime | None:
        """See `Holdings`."""
        answer = self._rows(table, "min(expected_start_time)", "1 = 1")
        return as_utc(answer[0][0]) if answer and answer[0][0] else None

    def count(self, table: str, window: Window) -> int:
        """See `Holdings`."""
        answer = self._in_window(table, "count(*)", window)
        return int(answer[0][0]) if answer else 0

    def states(self, table: str, window: Window) -> Iterator[tuple[datetime, str | None, str | None]]:
        """See `Holdings`."""
        for expected, type_, name in self._in_window(table, "expected_start_time, state_type, state_name", window):
            yield as_utc(expected), type_, name

    def runs(self, table: str, window: Window) -> list[Held]:
        """See `Holdings`."""
        rows = self._in_window(table, ", ".join(HELD), window)
        return [as_held(dict(zip(HELD, row, strict=True))) for row in rows]

    def ends(self, table: str, ids: Collection[str]) -> Mapping[str, datetime | None]:
        """See `Holdings`."""
        return self._warehouse.ends(table, ids)

    def without_history(self, table: str, window: Window) -> set[str]:
        """See `Holdings`."""
        states = STATES_OF[table]
        if states not in self._loaded or not self._warehouse.has(states):
            return set()
        # a torn row's state may never be written
        missing = (
            "state_timestamp IS NOT NULL AND NOT EXISTS "
            f"(SELECT 1 FROM {{{states}}} AS state WHERE state.id = run.state_id)"
        )
        return {row[0] for row in self._in_window(table, "run.id", window, missing)}

    def numbers(self, table: str, run_ids: Collection[str]) -> Mapping[str, Mapping[str, int | None]]:
        """See `prefect_runs.history_comparison.HeldHistories`; a run without any state there is one too."""
        there = self._warehouse.present(table, run_ids)
        found = self._warehouse.numbers(STATES_OF[table], there)
        return {run_id: found.get(run_id, {}) for run_id in there}

    def rows(self, table: str, window: Window) -> list[dict[str, Any]]:
        """See `Holdings`."""
        columns = ["_dlt_id", *(column.name for column in TABLES[table].columns)]
        rows = [
            dict(zip(columns, values, strict=True))
            for values in self._in_window(table, ", ".join(f"run.{column}" for column in columns), window)
        ]
        tags, details = (self._children(table, child, window) for child in ("tags", "state_details"))
        for row in rows:
            row["tags"] = [tag["value"] for tag in tags[row["_dlt_id"]]]
            row["state_details"] = details[row["_dlt_id"]]
        return rows

    def _children(self, table: str, child: str, window: Window) -> Mapping[str, list[dict[str, Any]]]:
        """Rows of a child table by the `_dlt_id` of their run."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if not self._warehouse.has(f"{table}__{child}"):
            return found
        columns = [column.name for column in TABLES[table].children[child].columns]
        sql = (
            f"SELECT child._dlt_parent_id, {', '.join(f'child.{column}' for column in columns)} "
            f"FROM {{{table}__{child}}} AS child JOIN {{{table}}} AS run ON run._dlt_id = child._dlt_parent_id "
            "WHERE run.expected_start_time >= %s AND run.expected_start_time < %s"
        )
        for parent, *values in self._warehouse.of_workspace(sql, window.start, window.end):
            found[parent].append(dict(zip(columns, values, strict=True)))
        return found

    def _in_window(self, table: str, columns: str, window: Window, condition: str = "1 = 1") -> list[tuple[Any, ...]]:
        inside = f"expected_start_time >= %s AND expected_start_time < %s AND {condition}"
        return self._rows(table, columns, inside, window.start, window.end)

    def _rows(self, table: str, columns: str, condition: str, *parameters: Any) -> list[tuple[Any, ...]]:
        sql = f"SELECT {columns} FROM {{{table}}} AS run WHERE {condition} AND {self._warehouse.live(table)}"
        return self._warehouse.of_workspace(sql, *parameters)
