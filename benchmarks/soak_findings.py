"""What a sync left different from the server, and whether any read of a sync could have shown it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
from comparison import STATES_OF, Difference, ServerRows, select
from prefect_api import Row, seconds
from soak_changes import Change

from prefect_runs.clock import as_utc

RUN_TABLE = {states: runs for runs, states in STATES_OF.items()} | {runs: runs for runs in STATES_OF}
# of a flow run, edited through the API or by a worker
EDITED = {"name", "tags", "labels", "parameters", "flow_version", "infrastructure_pid", "updated"}
# the server changes these of a queue's runs, and their `updated` stands still
QUEUE = {"work_queue_id", "work_queue_name", "work_pool_id", "work_pool_name"}
DELETED = "deleted when it had ended before the lookback"
EDIT = "edited when it had ended before the lookback"
QUEUE_CHANGED = "its work queue changed"
FORCED_TASK = "task run set through the API when it had ended before the lookback: no event tells"
RECORDED_LATE = "recorded by the server later than the lookback"
FINDING = "FINDING"
# between a row's `updated` and the moment it is visible to all
VISIBLE_AFTER = seconds(1)


@dataclass(frozen=True)
class Left:
    """One run that the last sync left different: of what kind, and what led to it."""

    kind: str
    table: str
    run_id: str
    differences: tuple[str, ...]
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.kind}: {self.table} {self.run_id}", *(f"    {text}" for text in (*self.differences, *self.trace))]
        )


class Findings:
    """Explains differences by the log of changes and by what each sync read.

    Args:
        server: the server's rows.
        database: the warehouse.
        changes: everything that was changed through the API.
    """

    def __init__(self, server: ServerRows, database: Path, changes: Sequence[Change]) -> None:
        self._changes = changes
        self._server = {kind: {row["id"]: row for row in server[kind]} for kind in STATES_OF}
        with duckdb.connect(str(database), read_only=True) as warehouse:
            self._held = {
                kind: {row["id"]: row for row in select(warehouse, f"SELECT * FROM prefect.{kind}")}
                for kind in STATES_OF
            }
            tombstones = select(warehouse, "SELECT * FROM prefect.tombstones WHERE resource = 'flow_runs'")
            self._gone = {row["id"]: as_utc(row["noticed_at"]) for row in tombstones}
            self._syncs = [
                (as_utc(row["window_start"]) if row["window_start"] else None, as_utc(row["window_end"]))
                for row in select(warehouse, "SELECT * FROM prefect.syncs WHERE purpose = 'sync' ORDER BY window_end")
            ]

    def without_earlier_lives(self, differences: Iterable[Difference]) -> list[Difference]:
        """Less the states of runs that were deleted and came back: the warehouse keeps what the server forgot."""
        return [
            difference
            for difference in differences
            if not (
                difference.table not in STATES_OF
                and difference.what == "not on the server"
                and difference.run_id in self._server[RUN_TABLE[difference.table]]
                and self._deletion(RUN_TABLE[difference.table], difference.run_id)
            )
        ]

    def left(self, differences: Iterable[Difference]) -> list[Left]:
        """The runs that differ, each with its kind."""
        of_run: dict[tuple[str, str], list[Difference]] = defaultdict(list)
        for difference in differences:
            of_run[RUN_TABLE[difference.table], difference.run_id].append(difference)
        return [
            Left(
                self._kind(table, run_id, found),
                table,
                run_id,
                tuple(map(str, found)),
                tuple(change.line for change in self._about(table, run_id)),
            )
            for (table, run_id), found in of_run.items()
        ]

    def _kind(self, table: str, run_id: str, found: list[Difference]) -> str:
        what = {difference.what for difference in found}
        row, held = self._server[table].get(run_id), self._held[table].get(run_id)
        if row is None and held is not None and what == {"not on the server"}:
            deleted = self._deleted_at(table, run_id)
            return DELETED if deleted and not self._was_readable(held, deleted) else FINDING
        if row is None or not what <= {"missing", "stale"}:
            return FINDING
        columns = {difference.column for difference in found if difference.table in STATES_OF} - {""}
        if held is not None and columns and columns <= QUEUE:
            return QUEUE_CHANGED
        if not columns and held is not None:
            # the run is as it is on the server, and some of its states are not
            return FINDING
        if self._was_readable(row, as_utc(row["updated"])):
            return FINDING
        if held is not None and columns <= EDITED | QUEUE:
            return EDIT
        if table == "task_runs":
            return self._kind_of_task(run_id, held)
        return FINDING

    def _kind_of_task(self, run_id: str, held: Row | None) -> str:
        if held is None or held["end_time"] is None:
            return RECORDED_LATE
        path = f"/task_runs/{run_id}/set_state"
        return FORCED_TASK if any(path in call for change in self._changes for call in change.calls) else FINDING

    def _was_readable(self, row: Row, changed: datetime) -> bool:
        """Whether a sync after the change read runs that ended as early as this one, or that have no end."""
        ended = as_utc(row["end_time"]) if row["end_time"] else None
        return any(
            ended is None or since is None or ended >= since
            for since, ceiling in self._syncs
            if ceiling > changed + VISIBLE_AFTER
        )

    def _deletion(self, table: str, run_id: str) -> Change | None:
        """The last change that deleted the run, or what it belonged to."""
        deletions = [
            change
            for change in self._about(table, run_id)
            if "delete" in change.kind and not change.refused.startswith("Refused")
        ]
        return deletions[-1] if deletions else None

    def _deleted_at(self, table: str, run_id: str) -> datetime | None:
        """When the run was deleted; None where nothing tells."""
        if deletion := self._deletion(table, run_id):
            return deletion.ended
        # with its flow run, which the server deleted when a schedule changed
        parent = self._held[table][run_id].get("flow_run_id")
        return self._gone.get(parent) if parent not in self._server["flow_runs"] else None

    def _about(self, table: str, run_id: str) -> list[Change]:
        """Changes of the run, and of what it belongs to where they may have changed it too."""
        row = self._server[table].get(run_id) or self._held[table].get(run_id) or {}
        flow_run = self._held["flow_runs"].get(row.get("flow_run_id") or "", row)
        owners = {row.get("flow_run_id"), flow_run.get("flow_id"), row.get("deployment_id")} - {None}
        return [
            change
            for change in self._changes
            if change.is_about(run_id)
            or (not change.kind.startswith("new ") and any(change.is_about(str(id_)) for id_ in owners))
        ]
