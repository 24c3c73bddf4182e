"""Rows that are written once and never change, read by their own time: logs and events.

Their time is the sender's clock, and they arrive late and in batches. So every sync reads the lookback again, and
only rows that the warehouse lacks are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from .change_capture import UNFINISHED
from .clock import ServerClock, text
from .known import Known
from .paging import Row
from .progress import Plan, State, StateCursor, snapshot_plan, snapshot_state
from .settings import ReadSettings
from .tally import Tally
from .windows import Window

# clocks that are ahead, and the rest of the second that the `Date` header cuts off
AHEAD = timedelta(hours=1)
# a log or an event is a tenth of a run
ROWS_PER_RUN = 10


class Part(NamedTuple):
    """Some rows of a window, in order; all that are earlier than `reached` were read with them or before."""

    rows: list[Row]
    reached: datetime


class Timeline:
    """New rows of one table, in chunks that can be resumed.

    Args:
        table: its name.
        read: gives all rows of a window, oldest first.
        start: nothing of before is read.
        clock: the server's when this sync began.
        settings: lookback, rows of a chunk.
        known: what the warehouse has, if it can be asked.
        tally: counts what is read.
    """

    def __init__(
        self,
        table: str,
        read: Callable[[Window], Iterator[Part]],
        start: datetime,
        clock: ServerClock,
        settings: ReadSettings,
        known: Known | None,
        tally: Tally,
    ) -> None:
        self._table = table
        self._read = read
        self._start = start
        self._clock, self._ceiling = clock, clock.now
        self._settings = settings
        self._known = known
        self._tally = tally

    def new_rows(self, state: State) -> Iterator[list[Row]]:
        """Rows since the watermark in `state`, which moves when all were taken; of a first load a chunk at most."""
        cursor = StateCursor(state)
        plan = self._plan(state, cursor.start_value)
        assert plan.window is not None
        self._tally.reading(plan.window.start if cursor.start_value else None, plan.ceiling)
        rows_read = 0
        for rows, reached in self._read(plan.window):
            self._tally.read(self._table, len(rows))
            rows_read += len(rows)
            yield self._missing(rows) if cursor.start_value else rows
            if self._is_chunk(rows_read) and plan.window.start < reached < plan.window.end:
                state["snapshot"] = snapshot_state(plan.ceiling, Window(reached, plan.window.end))
                self._tally.gap(f"{self._table}: the first load came to {text(reached)}; {UNFINISHED}")
                return
        state.pop("snapshot", None)
        cursor.advance(plan.ceiling)

    def _plan(self, state: State, watermark: datetime | None) -> Plan:
        if "snapshot" in state:
            return snapshot_plan(state["snapshot"])
        since = self._clock.read_since(watermark, self._settings.lookback) if watermark else self._start
        return Plan(self._ceiling, window=Window(max(since, self._start), self._ceiling + AHEAD))

    def _is_chunk(self, rows: int) -> bool:
        return self._settings.chunk_rows is not None and rows >= ROWS_PER_RUN * self._settings.chunk_rows

    def _missing(self, rows: list[Row]) -> list[Row]:
        if not self._known:
            return rows
        present = self._known.present(self._table, [row["id"] for row in rows])
        return [row for row in rows if row["id"] not in present]
