"""Which rows of one sync are worth loading. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from .clock import parse
from .known import Version
from .paging import Row
from .progress import Plan
from .rows import version


class News:
    """Remembers the versions of the rows that a sync has read, and tells which the warehouse lacks.

    Args:
        plan: what the sync reads.
        known: versions in the warehouse; None where it cannot be asked. Rows inside the lookback are then
            loaded again and merged.
        lookback, horizon: the settings of that name.
    """

    def __init__(
        self, plan: Plan, known: Mapping[str, Version] | None, lookback: timedelta, horizon: timedelta
    ) -> None:
        self._plan = plan
        self._known = known
        self._seen: dict[str, Version] = {}
        # a run that was scheduled long ago and comes within the horizon now has an old `updated`
        self._horizon_before = plan.start_value - lookback + horizon if plan.start_value else None

    def unseen(self, rows: list[Row]) -> list[Row]:
        """Those of `rows` that no read of this sync brought before."""
        fresh = [row for row in rows if row["id"] not in self._seen]
        self._seen.update((row["id"], version(row)) for row in fresh)
        return fresh

    def newer(self, rows: list[Row]) -> list[Row]:
        """Those of `rows`, read a second time, that differ from what this sync read before."""
        fresh = [row for row in rows if self._seen.get(row["id"]) != version(row)]
        self._seen.update((row["id"], version(row)) for row in fresh)
        return fresh

    def not_seen(self, ids: set[str]) -> set[str]:
        """Those of `ids` that no read of this sync brought."""
        return ids - self._seen.keys()

    def is_behind(self, run_id: str, occurred: datetime) -> bool:
        """Whether no copy of the run, read or known, is in the state that it entered at `occurred`, or a later one."""
        copies = (self._seen.get(run_id), self._known.get(run_id) if self._known else None)
        return not any(copy[1] is not None and copy[1] >= occurred for copy in copies if copy)

    def is_news(self, row: Row, asked_for: bool = False) -> bool:
        """Whether the warehouse lacks this version of the row, as far as is known.

        Args:
            asked_for: the row was read by its id for a reason of its own.
        """
        if self._known is not None:
            return self._known.get(row["id"]) != version(row)
        if asked_for or self._plan.since is None or self._horizon_before is None:
            return True
        return parse(row["updated"]) >= self._plan.since or parse(row["expected_start_time"]) >= self._horizon_before
