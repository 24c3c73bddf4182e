"""Verify: compares the warehouse with the server's own counts, and narrows what differs to intervals and runs.

The server counts its runs per interval of expected start and present state in one request for 500 intervals
(`/flow_runs/history`, `/task_runs/history`). Only where such a count differs from the warehouse's are runs read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple

from .clock import SECOND, floor
from .comparison import Comparison
from .drift import Drift, Verification, What, one_each
from .holdings import Held, Holdings, as_held, columns_that_differ
from .paging import Row
from .retention import Reason
from .run_reader import FLOW_RUN, RunReader
from .server_counts import ServerCounts
from .settings import HISTORY_INTERVALS, RUNS_PER_HISTORY, STATE_TYPES, TERMINAL_STATE_TYPES
from .snapshot import snapshot
from .windows import Window, counted_windows

# so many runs of intervals that differ are read at once; an interval with more is first cut into finer ones
RUNS_PER_INTERVAL = 400

Counts = Counter[tuple[int, str | None, str | None]]
"""Runs by number of the interval, state type and state name."""


class Differing(NamedTuple):
    """An interval whose counts differ, or neighbouring ones, with the number of runs on either side."""

    window: Window
    server: int
    held: int

    @property
    def as_one(self) -> bool:
        """Whether it is looked at as one: few enough runs to read at once, or all of them missing, or all gone."""
        if not self.server or not self.held:
            # missing ones need not be read, gone ones are rows of the warehouse alone
            return self.held <= RUNS_PER_HISTORY
        return max(self.server, self.held) <= RUNS_PER_INTERVAL

    def with_next(self, other: Differing) -> Differing:
        """Both as one."""
        window = Window(self.window.start, other.window.end)
        return Differing(window, self.server + other.server, self.held + other.held)


class Verify:
    """Compares the runs of one kind.

    Args:
        reader: reads the runs, with the user's filters.
        whole: reads them without filters.
        holdings: the warehouse.
        watermark: up to when the last sync read changes.
        open_from: open runs expected from then on are read by every sync, or counted where they are old and many.
        ended_from: runs that ended from then on are read by the next sync.
        reason: why a run is gone that ended then.
    """

    def __init__(
        self,
        reader: RunReader,
        whole: RunReader,
        holdings: Holdings,
        watermark: datetime,
        open_from: datetime,
        ended_from: datetime,
        reason: Callable[[datetime | None], Reason],
    ) -> None:
        self.reader = reader
        self.whole = whole
        self.holdings = holdings
        self.table = reader.kind.name
        self._watermark = watermark
        self._open_from = open_from
        self._ended_from = ended_from
        self._reason = reason
        self._counts = ServerCounts(reader)

    def kept(self, horizon: timedelta, since: datetime | None) -> Window:
        """What can be compared: from the oldest run of both sides (or `since`) to as far ahead as syncs read."""
        end = floor(self._watermark + horizon, SECOND)
        starts = [start for start in (self.reader.oldest, self.holdings.oldest(self.table)) if start]
        start = min([*starts, end])
        return Window(floor(max(start, since) if since else start, SECOND), end)

    def compare_counts(self, window: Window) -> Verification:
        """Compare counts, and runs where counts differ."""
        found = Verification(self.table, window)
        drifts = [] if window.empty else list(self._compared(window, self._step(window), found))
        return self._ended(found, drifts)

    def sweep(self, window: Window, comparison: Comparison) -> Verification:
        """Compare every column of every run: the first load's reads, which alone show some edits."""
        found = Verification(self.table, window)
        drifts = list(self.swept(window, comparison, found))
        return self._ended(found, drifts)

    def swept(self, window: Window, comparison: Comparison, found: Verification | None = None) -> Iterator[Drift]:
        """What differs of the runs expected in `window`, in any column; `found` counts what was compared."""
        for part, _, pages in snapshot(self.reader, window):
            rows = list(chain.from_iterable(pages))
            copies = [row for row in self.holdings.rows(self.table, part) if self._is_asked_for(row["state_type"])]
            yield from self.compare(part, rows, [as_held(row) for row in copies])
            yield from self._edited(part, rows, {row["id"]: row for row in copies}, comparison)
            if found:
                found.server_runs += len(rows)
                found.warehouse_runs += len(copies)
                found.intervals += 1

    def _edited(
        self, interval: Window, rows: list[Row], copies: Mapping[str, Row], comparison: Comparison
    ) -> Iterator[Drift]:
        for row in rows:
            if copy := copies.get(row["id"]):
                columns = comparison.differing(row, copy)
                if columns:
                    yield self._drift(interval, "changed", as_held(row), as_held(copy), columns)

    def _ended(self, found: Verification, drifts: list[Drift]) -> Verification:
        """`found`, with what differs in its window and beside it."""
        found.drifts = one_each([*drifts, *self._beyond(found.window), *self._without_history(found.window)])
        found.gaps = list(self.reader.gaps)
        return found

    def _step(self, window: Window) -> timedelta:
        requests = max(-(-self.holdings.count(self.table, window) // RUNS_PER_HISTORY), 1)
        return window.step(HISTORY_INTERVALS * requests)

    def _compared(self, window: Window, step: timedelta, found: Verification | None) -> Iterator[Drift]:
        # whole intervals up to the end, for the server rounds up the last one, and beyond the end syncs read little
        window = Window(window.end - -(-(window.end - window.start) // step) * step, window.end)
        for part, counts, error in self._counts.intervals(window, step, HISTORY_INTERVALS):
            if error:
                raise error
            server = _by_state(counts)
            held: Counts = Counter(
                (int((expected - part.start) / step), type_, name)
                for expected, type_, name in self.holdings.states(self.table, part)
                if type_ in STATE_TYPES and self._is_asked_for(type_)
            )
            if found:
                found.server_runs += server.total()
                found.warehouse_runs += held.total()
                found.intervals += (part.end - part.start) // step
            for differing in _differing(part, step, server, held):
                yield from self._narrowed(differing, step)

    def _narrowed(self, differing: Differing, step: timedelta) -> Iterator[Drift]:
        """The runs that differ where counts of intervals of `step` do."""
        interval, runs, held = differing
        if not held and runs > RUNS_PER_INTERVAL:
            yield from self._missing(interval, runs)
            return
        finer = interval.step(HISTORY_INTERVALS)
        if not differing.as_one and finer < step:
            yield from self._compared(interval, finer, None)
            return
        for part, pages in self._read(differing):
            copies = [run for run in self.holdings.runs(self.table, part) if self._is_asked_for(run.state_type)]
            yield from self.compare(part, chain.from_iterable(pages), copies)

    def _missing(self, interval: Window, runs: int) -> Iterator[Drift]:
        """The runs of an interval of which the warehouse has none, apart from those that the next sync loads."""
        after = Window(self._watermark, interval.end).within(interval)
        due_after = 0 if after.empty else runs if after == interval else self.reader.count(after)
        before = Window(self._ended_from, self._watermark).within(interval)
        made_after = self._made_after(before) if runs > due_after else 0
        new = due_after + made_after
        if runs > new:
            older = Window(interval.start, min(interval.end, self._watermark)) if new else interval
            yield Drift(self.table, older, "missing", None, runs - new)
        if new:
            recent = Window(before.start, interval.end) if made_after else after
            yield Drift(self.table, recent, "missing", None, new, since_last_sync=True)

    def _made_after(self, window: Window) -> int:
        """How many runs were due before the last sync, in `window`, and recorded after it: the last ones, if any."""
        found = 0
        for part, _ in counted_windows(window, self.reader.count, RUNS_PER_INTERVAL, newest_first=True):
            rows = list(chain.from_iterable(self.reader.expected(part)))
            made = sum(self._next_sync_has(as_held(row), None) for row in rows)
            found += made
            if rows and not made:
                break
        return found

    def _read(self, differing: Differing) -> Iterator[tuple[Window, list[list[Row]]]]:
        """The server's runs, with the window that they are all the runs of.

        Many that are expected in one second, the finest that the server counts by, come in windows as of a first load:
        at most `ROWS_PER_WINDOW` runs each, or those of one microsecond.
        """
        if differing.as_one:
            yield differing.window, self.reader.expected(differing.window) if differing.server else []
            return
        for part, _, pages in snapshot(self.reader, differing.window):
            yield part, pages

    def compare(self, interval: Window, rows: Iterable[Row], held: Iterable[Held]) -> Iterator[Drift]:
        """How the server's runs of an interval differ from the warehouse's."""
        server = {row["id"]: as_held(row) for row in rows}
        copies = Counter(run.id for run in held)
        warehouse = {run.id: run for run in held}
        for id_ in server.keys() - warehouse.keys():
            yield self._drift(interval, "missing", server[id_], None)
        for id_ in server.keys() & warehouse.keys():
            columns = columns_that_differ(server[id_], warehouse[id_])
            if columns:
                yield self._drift(interval, "changed", server[id_], warehouse[id_], columns)
            elif copies[id_] > 1:
                yield self._drift(interval, "double", server[id_], warehouse[id_])
        yield from self._not_on_server(interval, [warehouse[id_] for id_ in warehouse.keys() - server.keys()])

    def _not_on_server(self, interval: Window, held: list[Held]) -> Iterator[Drift]:
        """Those of `held` that the server no longer has; by their ids, for a page or a count may have lacked them."""
        elsewhere: dict[str, Held] = {}
        # after a vacuum thousands are gone, and one count tells that all are
        if len(held) <= RUNS_PER_INTERVAL or self.whole.count(interval):
            pages = self.whole.by_ids(run.id for run in held)
            elsewhere = {row["id"]: as_held(row) for rows in pages for row in rows}
        ends = self.holdings.ends(self.table, [run.id for run in held])
        for run in held:
            copy = elsewhere.get(run.id)
            if run.id in self.whole.unreadable:
                continue
            if copy is None:
                yield self._drift(interval, self._reason(ends.get(run.id)), None, run)
            elif columns := columns_that_differ(copy, run):
                yield self._drift(interval, "changed", copy, run, columns)

    def _beyond(self, window: Window) -> Iterator[Drift]:
        """Runs that are due later than syncs read ahead and do not wait for it: few, if any."""
        rows = list(chain.from_iterable(self.reader.settled_from(window.end)))
        server = {row["id"] for row in rows}
        ahead = Window(window.end, datetime(9999, 1, 1, tzinfo=UTC))
        held = [run for run in self.holdings.runs(self.table, ahead) if self._is_asked_for(run.state_type)]
        # the warehouse may have read a waiting one for its event; it is compared when its time comes
        yield from self.compare(ahead, rows, [run for run in held if run.id in server or run.state_type != "SCHEDULED"])

    def _without_history(self, window: Window) -> Iterator[Drift]:
        for id_ in self.holdings.without_history(self.table, window):
            yield Drift(self.table, window, "without history", id_)

    def _drift(
        self, interval: Window, what: What, server: Held | None, held: Held | None, columns: tuple[str, ...] = ()
    ) -> Drift:
        run = server or held
        assert run is not None
        return Drift(
            self.table,
            interval,
            what,
            run.id,
            on_server=server.state_name if server else None,
            in_warehouse=held.state_name if held else None,
            columns=columns,
            since_last_sync=self._next_sync_has(server, held),
        )

    def _next_sync_has(self, server: Held | None, held: Held | None) -> bool:
        """Whether the difference arose after the last sync in a way that the next one notices."""
        if server is None:
            # gone while it was open, or soon after it ended
            assert held is not None
            is_read = self._is_open(held) and held.expected_start_time >= self._open_from
            return is_read or self._ended_lately(held)
        if server.updated < self._watermark:
            return False
        if self._is_open(server) or self._ended_lately(server):
            return True
        # of a run that ended before, an event tells another state, and nothing an edit; the server sends events of flow
        # runs itself, those of task runs come from their clients
        return self.reader.kind is FLOW_RUN and held is not None and held.state_id != server.state_id

    def _is_open(self, run: Held) -> bool:
        return run.state_type not in TERMINAL_STATE_TYPES

    def _ended_lately(self, run: Held) -> bool:
        return run.end_time is not None and run.end_time >= self._ended_from

    def _is_asked_for(self, state_type: str | None) -> bool:
        return self.reader.state_types is None or state_type in self.reader.state_types


def _differing(
    part: Window,
    step: timedelta,
    server: Counts,
    held: Counts,
) -> Iterator[Differing]:
    """Intervals whose counts differ, neighbours together as long as they are few runs."""
    on_server, in_warehouse = _by_interval(server), _by_interval(held)
    together: Differing | None = None
    for index in sorted({key[0] for key in server.keys() | held.keys() if server[key] != held[key]}):
        start = part.start + index * step
        interval = Differing(Window(start, min(start + step, part.end)), on_server[index], in_warehouse[index])
        if together and together.window.end == start and (both := together.with_next(interval)).as_one:
            together = both
            continue
        if together:
            yield together
        together = interval
    if together:
        yield together


def _by_state(intervals: Iterable[Row]) -> Counts:
    return Counter(
        {
            (index, state["state_type"], state["state_name"]): state["count_runs"]
            for index, interval in enumerate(intervals)
            for state in interval["states"]
        }
    )


def _by_interval(counts: Counts) -> Counter[int]:
    runs: Counter[int] = Counter()
    for (index, _, _), count in counts.items():
        runs[index] += count
    return runs
