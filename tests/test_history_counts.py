"""Hours of the server's counts: each that has runs once, and no request for each of decades without any."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_runs.exceptions import ServerUnavailable
from prefect_runs.history_counts import READ_UNCOUNTED, history_counts, history_window
from prefect_runs.settings import ReadSettings
from prefect_runs.windows import Window

END = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Runs:
    """Stands in for the reader of a server whose runs are expected at `starts`; counts what it was asked.

    `tires` tells whether what it is asked for is too much.
    """

    def __init__(self, *starts: datetime, tires: Callable[[Window], bool] = lambda window: False) -> None:
        self.starts = starts
        self.requests = 0
        self._tires = tires

    def count(self, window: Window) -> int:
        self.requests += 1
        return sum(window.start <= start < window.end for start in self.starts)

    def history(self, window: Window, step: timedelta) -> list[dict[str, Any]]:
        self.requests += 1
        parts = list(window.parts(step))
        assert len(parts) <= 500
        if self._tires(window):
            raise ServerUnavailable("canceling statement due to statement timeout")
        return [
            {
                "interval_start": part.start.isoformat(),
                "interval_end": part.end.isoformat(),
                "states": [{"count_runs": 1}] if any(part.start <= start < part.end for start in self.starts) else [],
            }
            for part in parts
        ]


def rows(runs: Any, start: datetime, uncounted: list[Window] | None = None) -> list[dict[str, Any]]:
    def note(hour: Window, error: ServerUnavailable) -> None:
        assert uncounted is not None, error
        uncounted.append(hour)

    return [row for page in history_counts(runs, Window(start, END), note) for row in page]


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


def test_server_that_cannot_count_long_spans_is_asked_for_shorter_ones() -> None:
    runs = Runs(END - 90 * HOUR, tires=lambda window: window.end - window.start > 7 * HOUR)
    found = rows(runs, END - 96 * HOUR)
    assert [row["interval_start"] for row in found] == [(END - n * HOUR).isoformat() for n in range(96, 0, -1)]
    # the length that failed is not tried again
    assert runs.requests <= 24


def test_next_read_begins_where_the_server_could_not_count() -> None:
    settings = ReadSettings()
    state = {"until": END.isoformat()}
    trailing = history_window(state, END, settings, lambda: None).start
    assert trailing == END - timedelta(hours=settings.history_hours)
    state["uncounted"] = (END - 900 * HOUR).isoformat()
    assert history_window(state, END, settings, lambda: None).start == END - 900 * HOUR


def test_hour_that_cannot_be_counted_is_told_and_the_others_are_there() -> None:
    busy = END - 50 * HOUR
    runs = Runs(busy, tires=lambda window: window.start <= busy < window.end)
    found = rows(runs, END - 96 * HOUR, told := [])
    assert told == [Window(busy, busy + HOUR)]
    assert [row["interval_start"] for row in found] == [
        (END - n * HOUR).isoformat() for n in range(96, 0, -1) if n != 50
    ]
