"""Which runs changed: the reads of one sync, and how the watermark moves.

Prefect cannot be asked what changed since a time. Three reads together can: what ended (by `end_time`), what is
open, and what the events feed names. What the warehouse has and those reads should have brought is read back by id:
it changed against the clock, or it is gone. The table in README.md says which read finds which change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain

from .changes_by_event import ChangesByEvent
from .clock import ServerClock, parse, text
from .counted_reads import CountedReads
from .known import Known
from .late_sync import LateSync
from .lost_runs import LostTaskRuns
from .news import News
from .open_runs import OpenRuns
from .outcome import Outcome, RunRef, run_ref, sift
from .paging import Row
from .progress import Cursor, Plan, State, snapshot_plan, snapshot_state
from .recent_events import RecentEvents
from .retention import Retention
from .rows import RunShape, is_torn
from .run_reader import FAR_FUTURE, RunReader
from .selection import Selection
from .settings import REMEMBERED_RUNS, ReadSettings
from .snapshot import Snapshots
from .tally import Tally
from .windows import Window

# a torn row that is not whole after this time is left to `verify`
TORN_REMEMBERED = timedelta(days=1)
# how the gap of a load ends that leaves the rest to the next
UNFINISHED = "sync again to go on"


class ChangeCapture:
    """Changed runs of one kind. Resources with the same watermark share one reading of the server.

    Args:
        reader: reads the runs.
        snapshots: reads them by windows of expected start.
        events: reads their events.
        settings: lookback, horizon and the other bounds.
        scope: differs when other runs are asked for; then everything is read anew.
        clock: the server's when this sync began.
        late: tells up to when a load reads that goes on from a watermark.
        retention: asks how long the server keeps things.
        known: what the warehouse has, if it can be asked.
        tally: counts what is read.
        selection: runs to read instead of what changed.
        lost: finds the task runs that the server lost, if the warehouse can be asked.
    """

    def __init__(
        self,
        reader: RunReader,
        snapshots: Snapshots,
        events: RecentEvents,
        settings: ReadSettings,
        scope: str,
        clock: Callable[[], ServerClock],
        late: LateSync,
        retention: Callable[[], Retention],
        known: Known | None,
        tally: Tally,
        selection: Selection | None = None,
        lost: LostTaskRuns | None = None,
    ) -> None:
        self.reader = reader
        self.known = known
        self.lost = lost
        self._snapshots = snapshots
        self._reads = CountedReads(reader, known, tally)
        self._by_event = ChangesByEvent(self._reads, events, settings.lookback, lost)
        self._settings = settings
        self._scope = scope
        self._clock = clock
        self._late = late
        self._retention = retention
        self._tally = tally
        self._selection = selection
        self._outcomes: dict[Plan, Outcome] = {}

    def changed_rows(self, cursor: Cursor, state: State, shape: RunShape) -> Iterator[list[Row]]:
        """Pages of the rows that are new or changed since the cursor's start value, shaped.

        The watermark and `state` move only when the last page was taken: an error in between loses nothing.
        """
        plan = self._plan(cursor, state)
        outcome = Outcome()
        for page in self._carry_out(plan, state, outcome):
            rows = [shape(row) for row in page]
            yield rows if outcome.are_new else self._with_links(rows, shape.links)
        self._outcomes[plan] = outcome
        self._finish(plan, outcome, cursor, state)

    def read_runs(self, cursor: Cursor, state: State) -> Iterator[Outcome]:
        """The same without the rows: the runs that were read, in parts; read anew only where nobody did before."""
        plan = self._plan(cursor, state)
        outcome = self._outcomes.get(plan)
        if outcome is None:
            outcome = Outcome()
            for _ in self._carry_out(plan, state, outcome):
                runs, outcome.runs = outcome.runs, []
                yield Outcome(runs, [], outcome.in_windows, outcome.first_load, outcome.are_new)
            yield outcome
        else:
            yield outcome
        self._finish(plan, outcome, cursor, state)

    @property
    def outcomes(self) -> Iterable[Outcome]:
        """What `changed_rows` has brought so far."""
        return self._outcomes.values()

    @property
    def gone(self) -> set[str]:
        """The ids of the runs that `changed_rows` found the server to have no longer."""
        return {id_ for outcome in self.outcomes for id_ in outcome.gone}

    @property
    def runs_ahead(self) -> Iterator[RunRef]:
        """Runs of a first load's next chunk, as far as they were read ahead."""
        pages = chain.from_iterable(read.pages for read in self._snapshots.ahead)
        return (run_ref(row, True, True) for row in chain.from_iterable(pages) if not is_torn(row))

    @property
    def ceiling(self) -> datetime:
        """The server's time when this sync began."""
        return self._clock().now

    def next_since(self, ceiling: datetime) -> datetime:
        """From when on the sync after one with `ceiling` reads again."""
        return ceiling - self._settings.lookback

    def goes_on(self, state: State) -> bool:
        """Whether `state` tells how far a reading of the same runs came; else everything is read anew."""
        return state.get("scope") == self._scope

    def _plan(self, cursor: Cursor, state: State) -> Plan:
        if self._selection:
            return Plan(self.ceiling, window=self._selection.rest(state), selected=True)
        if not self.goes_on(state):
            state.clear()
            return self._first_plan()
        if "snapshot" in state:
            return snapshot_plan(state["snapshot"])
        start_value, now = cursor.start_value, self.ceiling
        if start_value is None:
            return self._first_plan()
        ceiling = self._late.ceiling(start_value, now)
        since = self._clock().read_since(start_value, self._settings.lookback)
        return Plan(ceiling, start_value, since, rest=Window(ceiling, now) if ceiling < now else None)

    def _first_plan(self) -> Plan:
        ceiling = self.ceiling
        end = ceiling + self._settings.horizon
        oldest = self.reader.oldest
        return Plan(ceiling, window=Window(oldest or end, end))

    def _finish(self, plan: Plan, outcome: Outcome, cursor: Cursor, state: State) -> None:
        if plan.selected:
            state.update(outcome.remembered)
            return
        for key in ("snapshot", "behind", "events", "events_since", "torn", "old"):
            state.pop(key, None)
        state.update(outcome.remembered)
        state["scope"] = self._scope
        # while the first load is unfinished this is the ceiling at its start, so nothing that changed since is lost
        cursor.advance(plan.ceiling)

    def _carry_out(self, plan: Plan, state: State, outcome: Outcome) -> Iterator[list[Row]]:
        table = self.reader.kind.name
        open_ = self._open_runs(plan.now, state)
        known = self.known.versions(table, plan.since, open_.whole.start) if self.known and plan.since else None
        news = News(plan, known, self._settings.lookback, self._settings.horizon)
        outcome.torn.update(state.get("torn", ()))
        outcome.in_windows = plan.window is not None
        outcome.first_load = outcome.in_windows and not plan.selected
        outcome.are_new = self._are_new(plan)
        self._tally.reading(plan.since, plan.ceiling)
        if self._selection:
            pages = self._selected(plan, self._selection, outcome, news)
        elif plan.since is None:
            pages = self._snapshot(plan, outcome, news)
        else:
            if not self._was_set_back(plan):
                self._watch_retention(plan, goes_on="behind" in state)
            if plan.rest:
                outcome.remembered["behind"] = True
                self._tally.gap(f"{table}: of a long pause, changes up to {text(plan.ceiling)} were read; {UNFINISHED}")
            pages = chain(self._changes(plan, open_, outcome, news), self._by_event.read(plan, state, outcome, news))
            pages = chain(pages, self._missed(plan, open_.window, outcome, news))
        yield from chain(pages, self._torn(plan, outcome, news))

    def _snapshot(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        assert plan.window is not None
        # asked now, for it is to be in the warehouse when a later sync comes late
        self._retention()
        rest = plan.window
        for window, rows in self._windows(plan.window):
            yield sift(rows, outcome, news)
            rest = rest.rest(window)
        if rest.empty:
            for rows in self._reads.pages(self.reader.settled_from(plan.window.end)):
                yield sift(rows, outcome, news)
        else:
            outcome.remembered["snapshot"] = snapshot_state(plan.ceiling, rest)
            self._tally.gap(f"{self.reader.kind.name}: the first load came to {text(rest.start)}; {UNFINISHED}")

    def _selected(self, plan: Plan, selection: Selection, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        rest = plan.window
        for window, rows in self._windows(rest, selection.newest_first) if rest else ():
            yield sift(rows, outcome, news)
            assert rest is not None
            rest = rest.rest(window, selection.newest_first)
        if rest:
            outcome.remembered["backfill"] = selection.state(rest)
        yield from self._reads.back(selection.ids, outcome, news)

    def _windows(self, whole: Window, newest_first: bool = False) -> Iterator[tuple[Window, list[Row]]]:
        """Windows of a chunk of `whole`, each with all its rows."""
        for read in self._snapshots.chunk(whole, self._settings.chunk_rows, newest_first):
            for rows in self._reads.pages([list(chain.from_iterable(read.pages))]):
                yield read.window, rows

    def _torn(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """Torn rows read again: most are whole a moment later. The rest are remembered for a day."""
        still: list[str] = []
        for rows in self._reads.pages(self.reader.by_ids(outcome.torn)):
            still.extend(
                row["id"] for row in rows if is_torn(row) and parse(row["updated"]) > plan.now - TORN_REMEMBERED
            )
            yield sift(rows, outcome, news, asked_for=True, torn_too=True)
        if still:
            outcome.remembered["torn"] = sorted(still)[-REMEMBERED_RUNS:]
        if len(still) > REMEMBERED_RUNS:
            self._tally.gap(
                f"{self.reader.kind.name}: the server gave {len(still)} rows without their state, and of "
                f"{len(still) - REMEMBERED_RUNS} no sync asks again; verify --sweep --repair reads them"
            )

    def _changes(self, plan: Plan, open_: OpenRuns, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        assert plan.since is not None
        for rows in chain(
            self._reads.pages(self.reader.ended(Window(plan.since, plan.ceiling), or_later=not plan.rest)),
            self._reads.pages(open_.pages()),
        ):
            yield sift(news.unseen(rows), outcome, news)
        if old := open_.state():
            outcome.remembered["old"] = old

    def _missed(self, plan: Plan, open_window: Window, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """Runs that the reads would have brought, were they as the warehouse has them, and that none brought."""
        assert plan.since is not None
        if self.known:
            ended = Window(plan.since, plan.ceiling if plan.rest else FAR_FUTURE)
            due = self.known.due(self.reader.kind.name, ended, open_window)
            yield from self._reads.back(news.not_seen(due), outcome, news)

    def _are_new(self, plan: Plan) -> bool:
        """Whether the warehouse has none of the runs that a first load is about to read."""
        if not self.known or plan.window is None:
            return False
        return not self.known.has_runs(self.reader.kind.name, Window(plan.window.start, FAR_FUTURE))

    def _with_links(self, rows: list[Row], columns: Collection[str]) -> list[Row]:
        """Shaped `rows`, with the links in `columns` that the server nulled when it deleted what they led to."""
        unlinked = [row["id"] for row in rows if any(row.get(column) is None for column in columns)]
        if not self.known or not unlinked:
            return rows
        links = self.known.links(self.reader.kind.name, unlinked)
        return [{**row, **_nulls_filled(row, links.get(row["id"], {}), columns)} for row in rows]

    def _was_set_back(self, plan: Plan) -> bool:
        """Whether the server's clock was, which is a gap: of changes by the later time, not all are found."""
        assert plan.since is not None
        assert plan.start_value is not None
        by = self._clock().set_back(plan.start_value)
        if by:
            self._tally.gap(
                f"the server's clock was set back by {by} or more since the last sync: changes before "
                f"{text(plan.since)} that it did not see, and forced ones of runs in a state of the later time, are "
                "only found by verify --sweep"
            )
        return bool(by)

    def _watch_retention(self, plan: Plan, goes_on: bool) -> None:
        assert plan.since is not None
        if plan.now - plan.since < self._settings.surely_kept:
            return
        retention = self._retention()
        # the first part of a late sync has told how late it is
        for warning in () if goes_on else retention.warnings(plan.since, plan.now):
            self._tally.warn(warning)
        lost = retention.lost(plan.since, plan.now)
        if lost:
            self._tally.lose(Window(lost.start, min(lost.end, plan.ceiling)), plan.now - lost.end)

    def _open_runs(self, now: datetime, state: State) -> OpenRuns:
        wanted = Window(now - timedelta(days=self._settings.in_flight_days), now + self._settings.horizon)
        # else one may change, and be outside of the filters or without an end, so that only its absence tells; and
        # without a warehouse to ask, what changed before the lookback is not loaded later
        all_told = self.known is not None and self.reader.counts_ended and not self.reader.leaves_out(wanted)
        return OpenRuns(self.reader, wanted, now, state.get("old") if all_told else None)


def _nulls_filled(row: Row, links: Mapping[str, str], columns: Collection[str]) -> Row:
    return {column: value for column, value in links.items() if column in columns and row.get(column) is None}
