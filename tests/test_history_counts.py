"""Hours of the server's counts: each that has runs once, and no request for each of decades without any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_runs.history_counts import READ_UNCOUNTED, history_counts
from prefect_runs.windows import Window

END = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Runs:
    """Stands in for the reader of a server whose runs are expected at `starts`; counts what it was asked."""

    def __init__(self, *starts: datetime) -> None:
        self.starts = starts
        self.requests = 0

    def count(self, window: Window) -> int:
        self.requests += 1
        return sum(window.start <= start < window.end for start in self.starts)

    def history(self, window: Window, step: timedelta) -> list[dict[str, Any]]:
        self.requests += 1
        parts = list(window.parts(step))
        assert len(parts) <= 500
        return [
            {
                "interval_start": part.start.isoformat(),
                "interval_end": part.end.isoformat(),
                "states": [{"count_runs": 1}] if any(part.start <= start < part.end for start in self.starts) else [],
            }
            for part in parts
        ]


def rows(runs: Any, start: datetime) -> list[dict[str, Any]]:
    return [row for page in history_counts(runs, Window(start, END)) for row in page]


def test_run_of_long_ago_costs_few_requests() -> None:
    first, last = datetime(1, 1, 2, tzinfo=UTC), END - 30 * HOUR
    runs = Runs(first, last)
    found = rows(runs, first)
    assert [row["interval_start"] for row in found if "count_runs" in row] == [first.isoformat(), last.isoformat()]
    assert runs.requests < 100
    assert len(found) < 2 * READ_UNCOUNTED * 500


def test_hours_of_some_months_are_all_told_without_a_count() -> None:
    start = END - 100 * 24 * HOUR
    runs = Runs(start, END - HOUR)
    found = rows(runs, start)
    assert [row["interval_start"] for row in found] == [(start + n * HOUR).isoformat() for n in range(2400)]
    assert runs.requests == 5
