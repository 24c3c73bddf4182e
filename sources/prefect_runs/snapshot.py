"""The first load: every run, by windows of expected start, oldest first, in chunks that can be resumed.

`expected_start_time` is written once and never null, so no run moves from a window that is still to be read into
one that was. What changes meanwhile is later than the snapshot's ceiling, and the next sync reads from there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from datetime import timedelta
from itertools import chain, repeat
from threading import Semaphore
from typing import NamedTuple

from .paging import Row
from .read_ahead import read_ahead
from .run_reader import RunReader
from .server_counts import Intervals, ServerCounts
from .settings import HISTORY_INTERVALS, ROWS_PER_WINDOW, RUNS_PER_HISTORY
from .windows import Window, counted_windows, packed

# windows that wait to be taken beside those that are being read
WAITING = 4
# as many are taken to be left as the server cannot count
MANY = 10**9


class WindowRead(NamedTuple):
    """All pages of the runs of a window, and how many runs were counted in it before."""

    window: Window
    counted: int
    pages: list[list[Row]]


def snapshot(reader: RunReader, whole: Window) -> Iterator[WindowRead]:
    """Windows of `whole` in order, of at most `ROWS_PER_WINDOW` rows, with all pages of their runs."""
    windows = planned_windows(ServerCounts(reader), whole, ROWS_PER_WINDOW)
    return read_ahead(_reads(reader, windows), reader.client.connections)


def _reads(reader: RunReader, windows: Iterator[tuple[Window, int]]) -> Iterator[Callable[[], WindowRead]]:
    def call(window: Window, count: int) -> Callable[[], WindowRead]:
        # a run made between the count and here is later than the ceiling
        return lambda: WindowRead(window, count, reader.expected(window) if count else [])

    return (call(window, count) for window, count in windows)


def planned_windows(
    counts: ServerCounts, whole: Window, rows: int, newest_first: bool = False, counted: int | None = None
) -> Iterator[tuple[Window, int]]:
    """Windows that cover `whole` in order, each with about as many runs as it holds, at most `rows`.

    By the server's counts of many intervals in one request: a count for each window would wait behind the pages.

    Args:
        counted: how many runs `whole` holds, where that was asked already.
    """
    for part, runs in counted_windows(whole, counts.runs, RUNS_PER_HISTORY, newest_first, counted):
        yield from _planned(counts, part, runs, rows, newest_first)


def _planned(
    counts: ServerCounts, window: Window, runs: int, rows: int, newest_first: bool
) -> Iterator[tuple[Window, int]]:
    step = window.step(HISTORY_INTERVALS)
    if runs <= rows:
        yield window, runs
    elif window.end - window.start <= step:
        yield from counted_windows(window, counts.runs, rows, newest_first)
    else:
        intervals = list(chain.from_iterable(_counted(part, step, rows) for part in counts.intervals(window, step)))
        for part, in_part in packed(intervals[::-1] if newest_first else intervals, rows):
            # never said to be empty, for runs without a state are in no such count
            yield from _planned(counts, part, max(in_part, 1), rows, newest_first)


def _counted(intervals: Intervals, step: timedelta, rows: int) -> Iterator[tuple[Window, int]]:
    """Each interval with its number of runs; with more than `rows`, to be cut, where the server cannot count them."""
    told = (sum(state["count_runs"] for state in interval["states"]) for interval in intervals.counts)
    # nothing of the window is left out, however many intervals the server answers
    return zip(intervals.window.parts(step), chain(told, repeat(rows + 1 if intervals.error else 0)), strict=False)


class Snapshots:
    """Snapshots of one kind of run in chunks: while one chunk is loaded, the next is being read.

    Args:
        reader: reads the runs.
        turns: one for each window that is read at the same time, of whatever kind of run.
        with_histories: whether histories are read too; fewer runs are then read ahead.
    """

    def __init__(self, reader: RunReader, turns: Semaphore, with_histories: bool = False) -> None:
        self._reader = reader
        self._turns = turns
        self._with_histories = with_histories
        # with how many runs are left
        self._under_way: dict[tuple[Window, bool], tuple[Generator[WindowRead, None, None], int]] = {}
        self._ahead: dict[Window, WindowRead] = {}
        self._failed: BaseException | None = None

    def chunk(self, whole: Window, chunk_rows: int | None, newest_first: bool = False) -> Iterator[WindowRead]:
        """Windows of `whole` in order, until they hold `chunk_rows` rows; in the last chunks of several fewer.

        While the last one is loaded nothing is left to be read, so it should be short. The end of the last window (its
        start, newest first) is where the next chunk goes on.
        """
        under_way = self._under_way.pop((whole, newest_first), None)
        reading, left = under_way or self._begin(whole, chunk_rows, newest_first)
        enough = max(left // 2, ROWS_PER_WINDOW) if under_way else left
        rows_read = 0
        for read in reading:
            self._ahead.pop(read.window, None)
            yield read
            rows_read += read.counted
            if chunk_rows is not None and (
                rows_read >= chunk_rows or enough <= rows_read <= left - ROWS_PER_WINDOW // 2
            ):
                rest = whole.rest(read.window, newest_first)
                self._under_way[rest, newest_first] = reading, left - rows_read
                return

    def _begin(
        self, whole: Window, chunk_rows: int | None, newest_first: bool
    ) -> tuple[Generator[WindowRead, None, None], int]:
        """Windows of `whole`, and how many runs are in it."""
        rows = min(ROWS_PER_WINDOW, chunk_rows or ROWS_PER_WINDOW)
        self._failed = None
        counts = ServerCounts(self._reader)
        runs = 0 if whole.empty else counts.runs(whole)
        windows = planned_windows(counts, whole, rows, newest_first, runs)
        return self._beside_loads(_reads(self._reader, windows)), MANY if runs is None else runs

    @property
    def ahead(self) -> list[WindowRead]:
        """The windows of the next chunk that are read already."""
        return sorted(self._ahead.values(), key=lambda read: read.window.start)

    def _beside_loads(self, reads: Iterable[Callable[[], WindowRead]]) -> Generator[WindowRead, None, None]:
        """Results of `reads` for chunks that are loaded, while another kind of run is read too."""
        connections = self._reader.client.connections
        if self._with_histories:
            # they keep the server busy anyway
            return read_ahead(map(self._noted, reads), max(connections // 2, 1))
        # as many as a load leaves time for: so soon as one kind of run is read, the other has all connections
        return read_ahead(map(self._noted, reads), connections, waiting=min(connections, WAITING))

    def _noted(self, call: Callable[[], WindowRead]) -> Callable[[], WindowRead]:
        def read() -> WindowRead:
            with self._turns:
                # of those that waited for their turn nobody wants the result
                if self._failed:
                    raise self._failed
                try:
                    found = call()
                except BaseException as error:
                    self._failed = error
                    raise
            self._ahead[found.window] = found
            return found

        return read

    def close(self) -> None:
        """Drop what was read ahead."""
        self._failed = CancelledError()
        while self._under_way:
            _, (reading, _) = self._under_way.popitem()
            reading.close()
        self._ahead.clear()
