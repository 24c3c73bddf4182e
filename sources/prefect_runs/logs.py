"""Logs, by the time they were written: of all runs, or of those that failed.

Prefect can filter logs by time, level and run, and sorts them by time; it can neither count them nor sort them in any
order without ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from .change_capture import ChangeCapture
from .client import PrefectClient
from .clock import parse
from .paging import Body, Key, Page, Row, keyset
from .progress import State, StateCursor
from .read_ahead import batches
from .tally import Tally
from .timeline import Part
from .windows import Window

WRITTEN = Key("timestamp", "TIMESTAMP_ASC", unique_sort=None)
FAILED_STATE_TYPES = ("FAILED", "CRASHED")
# runs whose logs are asked for together
RUNS_ASKED = 100


class Logs:
    """Logs of at least one level."""

    def __init__(self, client: PrefectClient, lowest_level: int) -> None:
        self._client = client
        self._own: Body = {"level": {"ge_": lowest_level}} if lowest_level else {}

    def read(self, window: Window) -> Iterator[Part]:
        """All logs written in `window`, oldest first."""
        for rows in self._pages(self._own, window.start, window.last):
            yield Part(rows, parse(rows[-1]["timestamp"]))

    def of_flow_runs(self, run_ids: list[str]) -> Iterator[list[Row]]:
        """Pages of all logs of these flow runs and of their task runs."""
        for ids in batches(run_ids, RUNS_ASKED):
            yield from self._pages({**self._own, "flow_run_id": {"any_": ids}}, None, None)

    def _pages(self, own: Body, low: datetime | None, high: datetime | None) -> Iterator[list[Row]]:
        def read(sort: str, bounds: Body, offset: int) -> Page:
            return self._client.page("/logs/filter", {"logs": {**own, **bounds}, "sort": sort, "offset": offset})

        return keyset(read, WRITTEN, low, high)


class FailedLogs:
    """Logs of the flow runs that failed or crashed, read when the run did, and again for the length of the lookback.

    Args:
        capture: reads the flow runs that changed.
        logs: reads their logs.
        asked: what is kept in the state of which logs are asked for.
        tally: counts what is read.
    """

    def __init__(self, capture: ChangeCapture, logs: Logs, asked: str, tally: Tally) -> None:
        self._capture = capture
        self._logs = logs
        self._asked = asked
        self._tally = tally

    def new_rows(self, state: State) -> Iterator[list[Row]]:
        """Logs that the warehouse lacks, of the runs that changed since the watermark in `state`."""
        known = self._capture.known
        for part in self._capture.read_runs(StateCursor(state), state):
            failed = sorted({run.id for run in part.runs if run.state_type in FAILED_STATE_TYPES})
            for rows in self._logs.of_flow_runs(failed):
                self._tally.read("logs", len(rows))
                present = known.present("logs", [row["id"] for row in rows]) if known else set()
                yield [row for row in rows if row["id"] not in present]
        # the capture may have cleared it
        state["asked"] = self._asked
