"""The server's own counts per hour of expected start and present state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from .clock import floor, parse
from .exceptions import ServerUnavailable
from .paging import Row
from .progress import State
from .run_reader import RunReader
from .server_counts import ServerCounts
from .settings import HISTORY_INTERVAL, HISTORY_INTERVALS, ReadSettings
from .windows import Window

A_REQUEST = HISTORY_INTERVAL * HISTORY_INTERVALS
# requests for as much as is read without asking first whether there are any runs: half a year
READ_UNCOUNTED = 9
# hours that the server cannot count: each takes it a minute of tries
UNCOUNTED_HOURS = 3


def history_window(
    state: State, ceiling: datetime, settings: ReadSettings, oldest: Callable[[], datetime | None]
) -> Window:
    """Whole hours up to the horizon: from the oldest run at first, then the trailing hours before the last read.

    Args:
        state: `until` is the ceiling of the last read, `uncounted` the first hour that the server could not count then.
        oldest: asks for the expected start of the oldest run.
    """
    since = parse(state["until"]) - timedelta(hours=settings.history_hours) if "until" in state else oldest()
    if since and "uncounted" in state:
        since = min(since, parse(state["uncounted"]))
    return _whole_hours(since or ceiling, ceiling, settings.horizon)


def _whole_hours(since: datetime, ceiling: datetime, horizon: timedelta) -> Window:
    return Window(floor(since, HISTORY_INTERVAL), floor(ceiling + horizon, HISTORY_INTERVAL) + HISTORY_INTERVAL)


def history_counts(
    reader: RunReader, window: Window, uncounted: Callable[[Window, ServerUnavailable], object]
) -> Iterator[list[Row]]:
    """Rows of one hour and state each, a request at a time; an hour without runs gives one row marked `emptied`.

    Nothing comes of long spans without runs, such as between a run that somebody dated 1970 and all others.

    Args:
        uncounted: told of an hour that the server cannot count, and why; after some of all that follow.
    """
    counts, failed = ServerCounts(reader), 0
    for span in _with_runs(counts, window):
        for hours in counts.intervals(span, HISTORY_INTERVAL):
            if hours.error:
                failed += 1
                if failed > UNCOUNTED_HOURS:
                    uncounted(Window(hours.window.start, window.end), hours.error)
                    return
                uncounted(hours.window, hours.error)
            yield [row for interval in hours.counts for row in _rows(interval)]


def _with_runs(counts: ServerCounts, window: Window) -> Iterator[Window]:
    """`window` without spans that have no runs, where it is so long that a count costs less than it saves."""
    requests = (window.end - window.start) / A_REQUEST
    if requests <= READ_UNCOUNTED:
        yield window
        return
    middle = window.start + round(requests / 2) * A_REQUEST
    for half in (Window(window.start, middle), Window(middle, window.end)):
        # None too, for those are too many
        if counts.runs(half) != 0:
            yield from _with_runs(counts, half)


def _rows(interval: Row) -> list[Row]:
    span = {"interval_start": interval["interval_start"], "interval_end": interval["interval_end"]}
    return [{**span, **state} for state in interval["states"]] or [{**span, "emptied": True}]
