"""The first load: every run, by windows of expected start, oldest first, in chunks that can be resumed.

`expected_start_time` is written once and never null, so no run moves from a window that is still to be read into
one that was. What changes meanwhile is later than the snapshot's ceiling, and the next sync reads from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .paging import Row
from .read_ahead import read_ahead
from .run_reader import RunReader
from .settings import ROWS_PER_WINDOW
from .windows import Window, counted_windows

Counted = tuple[Window, int]


def chunk(windows: Iterable[Counted], rows: int | None) -> Iterator[Counted]:
    """The first of `windows` that hold `rows` rows together; all of them without a bound."""
    planned = 0
    for window, count in windows:
        yield window, count
        planned += count
        if rows is not None and planned >= rows:
            return


def snapshot(
    reader: RunReader, whole: Window, chunk_rows: int | None, newest_first: bool = False
) -> Iterator[tuple[Window, list[list[Row]]]]:
    """Windows of `whole` in order with all pages of their runs, until `chunk_rows` rows are read.

    The end of the last window (its start, newest first) is where the next chunk goes on.
    """

    def call(window: Window, count: int) -> Callable[[], tuple[Window, list[list[Row]]]]:
        # a run made between the count and here is later than the ceiling
        return lambda: (window, reader.expected(window) if count else [])

    rows = min(ROWS_PER_WINDOW, chunk_rows or ROWS_PER_WINDOW)
    windows = chunk(counted_windows(whole, reader.count, rows, newest_first), chunk_rows)
    return read_ahead((call(window, count) for window, count in windows), reader.client.connections)
