"""Which runs changed: the reads of one sync, and how the watermark moves.

Prefect cannot be asked what changed since a time. Three reads together can: what ended (by `end_time`), what is
open, and what the events feed names. What the warehouse has and those reads should have brought is read back by id:
it changed against the clock, or it is gone. The table in README.md says which read finds which change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain

from .clock import parse, text
from .event_ledger import SETTLE, EventLedger
from .exceptions import AccessRefused, NotFound
from .known import Known
from .late_sync import LateSync
from .lost_runs import LostTaskRuns
from .news import News
from .outcome import Outcome, RunRef, run_ref, sift
from .paging import Row
from .progress import Cursor, Plan, State, snapshot_plan, snapshot_state
from .recent_events import RecentEvents
from .retention import Retention
from .rows import RunShape, is_torn, version
from .run_reader import FAR_FUTURE, FLOW_RUN, TASK_RUN, RunReader
from .selection import Selection
from .settings import REMEMBERED_RUNS, STATE_TYPES, ReadSettings
from .snapshot import Snapshots
from .tally import Tally
from .windows import Window

KNOWN_STATE_TYPES = {*STATE_TYPES, None}
CANCELLED = ("CANCELLED", "CANCELLING")
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
        ceiling: the server's time when this sync began.
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
        ceiling: Callable[[], datetime],
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
        self._events = events
        self._settings = settings
        self._scope = scope
        self._ceiling = ceiling
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
        are_new = self._are_new(plan)
        for page in self._carry_out(plan, state, outcome):
            rows = [shape(row) for row in page]
            yield rows if are_new else self._with_links(rows, shape.links)
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
                yield Outcome(runs, [], outcome.in_windows, outcome.first_load)
            yield outcome
        else:
            yield outcome
        self._finish(plan, outcome, cursor, state)

    @property
    def outcomes(self) -> Iterable[Outcome]:
        """What `changed_rows` has brought so far."""
        return self._outcomes.values()

    @property
    def runs_ahead(self) -> Iterator[RunRef]:
        """Runs of a first load's next chunk, as far as they were read ahead."""
        pages = chain.from_iterable(read.pages for read in self._snapshots.ahead)
        return (run_ref(row, True, True) for row in chain.from_iterable(pages) if not is_torn(row))

    @property
    def ceiling(self) -> datetime:
        """The server's time when this sync began."""
        return self._ceiling()

    def next_since(self, ceiling: datetime) -> datetime:
        """From when on the sync after one with `ceiling` reads again."""
        return ceiling - self._settings.lookback

    @cached_property
    def _whole(self) -> RunReader:
        """Reads without the user's filters: a run that the warehouse has may have left them."""
        return self.reader.unfiltered

    def goes_on(self, state: State) -> bool:
        """Whether `state` tells how far a reading of the same runs came; else everything is read anew."""
        return state.get("scope") == self._scope

    def _plan(self, cursor: Cursor, state: State) -> Plan:
        if self._selection:
            return Plan(self._ceiling(), window=self._selection.rest(state), selected=True)
        if not self.goes_on(state):
            state.clear()
            return self._first_plan()
        if "snapshot" in state:
            return snapshot_plan(state["snapshot"])
        start_value, now = cursor.start_value, self._ceiling()
        if start_value is None:
            return self._first_plan()
        ceiling = self._late.ceiling(start_value, now)
        # a server's clock can be set back; what it calls now is then the later of the two bounds
        since = self.next_since(min(start_value, ceiling))
        return Plan(ceiling, start_value, since, rest=Window(ceiling, now) if ceiling < now else None)

    def _first_plan(self) -> Plan:
        ceiling = self._ceiling()
        end = ceiling + self._settings.horizon
        oldest = self.reader.oldest
        return Plan(ceiling, window=Window(oldest or end, end))

    def _finish(self, plan: Plan, outcome: Outcome, cursor: Cursor, state: State) -> None:
        if plan.selected:
            state.update(outcome.remembered)
            return
        for key in ("snapshot", "behind", "events", "torn"):
            state.pop(key, None)
        state.update(outcome.remembered)
        state["scope"] = self._scope
        # while the first load is unfinished this is the ceiling at its start, so nothing that changed since is lost
        cursor.advance(plan.ceiling)

    def _carry_out(self, plan: Plan, state: State, outcome: Outcome) -> Iterator[list[Row]]:
        table = self.reader.kind.name
        open_from = self._open_window(plan.now).start
        known = self.known.versions(table, plan.since, open_from) if self.known and plan.since else None
        news = News(plan, known, self._settings.lookback, self._settings.horizon)
        outcome.torn.update(state.get("torn", ()))
        outcome.in_windows = plan.window is not None
        outcome.first_load = outcome.in_windows and not plan.selected
        self._tally.reading(plan.since, plan.ceiling)
        if self._selection:
            pages = self._selected(plan, self._selection, outcome, news)
        elif plan.since is None:
            pages = self._snapshot(plan, outcome, news)
        else:
            self._watch_retention(plan, goes_on="behind" in state)
            if plan.rest:
                outcome.remembered["behind"] = True
                self._tally.gap(f"{table}: of a long pause, changes up to {text(plan.ceiling)} were read; {UNFINISHED}")
            pages = chain(self._changes(plan, outcome, news), self._changes_by_event(plan, state, outcome, news))
            pages = chain(pages, self._missed(plan, outcome, news))
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
            for rows in self._read(self.reader.settled_from(plan.window.end)):
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
        yield from self._read_back(selection.ids, outcome, news)

    def _windows(self, whole: Window, newest_first: bool = False) -> Iterator[tuple[Window, list[Row]]]:
        """Windows of a chunk of `whole`, each with all its rows."""
        for read in self._snapshots.chunk(whole, self._settings.chunk_rows, newest_first):
            for rows in self._read([list(chain.from_iterable(read.pages))]):
                yield read.window, rows

    def _torn(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """Torn rows read again: most are whole a moment later. The rest are remembered for a day."""
        still: list[str] = []
        for rows in self._read(self.reader.by_ids(outcome.torn)):
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

    def _changes(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        assert plan.since is not None
        for rows in chain(
            self._read(self.reader.ended(Window(plan.since, plan.ceiling), or_later=not plan.rest)),
            self._read(self.reader.open(self._open_window(plan.now))),
        ):
            yield sift(news.unseen(rows), outcome, news)

    def _changes_by_event(self, plan: Plan, state: State, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        try:
            events, ledger = self._events.read(plan, state)
        except (NotFound, AccessRefused) as error:
            self._tally.gap(
                f"{self.reader.kind.name}: the server gives no events, so changes from one terminal state to "
                f"another are only found by verify ({error})"
            )
            return
        outcome.events = [event for event in events if event.kind == self.reader.kind.resource_prefix]
        of_flow_runs = [event for event in events if event.kind == FLOW_RUN.resource_prefix]
        outcome.cancelled = {event.run_id for event in of_flow_runs if event.type in CANCELLED}
        latest: dict[str, datetime] = {}
        for event in outcome.events:
            latest[event.run_id] = max(event.occurred, latest.get(event.run_id, event.occurred))
        behind = [run_id for run_id, occurred in latest.items() if news.is_behind(run_id, occurred)]
        answered: set[str] = set()
        for rows in self._read(self.reader.by_ids(behind)):
            answered.update(row["id"] for row in rows)
            yield sift(news.newer(rows), outcome, news, asked_for=True)
        # a run that is still behind its event was not recorded yet: its events are read again by the next sync
        late = {run_id for run_id in behind if news.is_behind(run_id, latest[run_id])}
        outside, deleted = self._out_of_reach(late - answered, latest)
        unresolved = late - outside - deleted
        if self.known:
            loaded = self.known.present(self.reader.kind.name, deleted)
            outcome.gone |= loaded - self.known.tombstoned(self.reader.kind.name, loaded)
        if self.lost:
            # what was not recorded within the lookback will not be
            self.lost.look_up({run_id for run_id in unresolved if latest[run_id] < self.next_since(plan.ceiling)})
        self._tell_unheard(plan, outcome, ledger)
        again = [event.occurred for event in outcome.events if event.run_id in unresolved]
        outcome.events = [event for event in outcome.events if event.run_id not in late]
        if self.reader.kind is TASK_RUN:
            # the server gives a subflow's new state to the task run that stands for it, and no event tells of that
            standing = news.not_seen({event.task_run_id for event in of_flow_runs if event.task_run_id})
            yield from self._read_anew(standing, outcome, news)
        outcome.remembered["events"] = ledger.without(again).since(self.next_since(plan.ceiling)).state()

    def _tell_unheard(self, plan: Plan, outcome: Outcome, ledger: EventLedger) -> None:
        """A gap where flow runs changed and the server has no event at all: it answers so too when it keeps none."""
        if self.reader.kind is not FLOW_RUN or ledger.total:
            return
        # by then an event is there; what changed in a lookback is read by every sync of that time
        heard = Window(ledger.window.start, plan.ceiling - max(SETTLE, self._settings.lookback / 2))
        unheard = [run for run in outcome.runs if _is_told(run) and heard.start <= _entered(run) < heard.end]
        if unheard:
            self._tally.gap(
                f"{self.reader.kind.name}: {len(unheard)} changed between {text(heard.start)} and {text(heard.end)}, "
                "and the server has no event of that time, so changes from one terminal state to another are only "
                "found by verify; is its event persister off (PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED)?"
            )

    def _out_of_reach(self, run_ids: set[str], latest: Mapping[str, datetime]) -> tuple[set[str], set[str]]:
        """Those of `run_ids` that no later sync will bring: outside the user's filters, and deleted."""
        if not run_ids:
            return set(), set()
        rows = chain.from_iterable(self._read(self._whole.by_ids(run_ids))) if self.reader.filtered else ()
        entered = {row["id"]: version(row)[1] for row in rows}
        outside = {run_id for run_id, time in entered.items() if time is not None and time >= latest[run_id]}
        # a flow run is written before its event; a task run may be written long after
        deleted = run_ids - entered.keys() - self.reader.unreadable if self.reader.kind is FLOW_RUN else set()
        return outside, deleted

    def _missed(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """Runs that the reads would have brought, were they as the warehouse has them, and that none brought."""
        assert plan.since is not None
        if self.known:
            ended = Window(plan.since, plan.ceiling if plan.rest else FAR_FUTURE)
            due = self.known.due(self.reader.kind.name, ended, self._open_window(plan.now))
            yield from self._read_back(news.not_seen(due), outcome, news)

    def _read_back(self, ids: Iterable[str], outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """The runs with these ids, in the user's filters or not; those that the server does not have are noted."""
        gone = set(ids)
        for rows in self._read(self._whole.by_ids(gone)):
            gone = gone - {row["id"] for row in rows}
            yield sift(news.newer(rows), outcome, news, asked_for=True)
        outcome.gone |= gone - self.reader.unreadable

    def _read_anew(self, ids: set[str], outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """The runs with these ids: those that the warehouse has as `_read_back` does, others if the user wants them."""
        table = self.reader.kind.name
        had = self.known.present(table, ids) if self.known else set()
        live = had - self.known.tombstoned(table, had) if self.known else had
        yield from self._read_back(live, outcome, news)
        for rows in self._read(self.reader.by_ids(ids - live)):
            yield sift(news.newer(rows), outcome, news, asked_for=True)

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

    def _open_window(self, ceiling: datetime) -> Window:
        return Window(ceiling - timedelta(days=self._settings.in_flight_days), ceiling + self._settings.horizon)

    def _read(self, pages: Iterable[list[Row]]) -> Iterator[list[Row]]:
        for rows in pages:
            self._tally.read(self.reader.kind.name, len(rows))
            for unknown in {row.get("state_type") for row in rows} - KNOWN_STATE_TYPES:
                self._tally.gap(
                    f"{self.reader.kind.name}: the state type {unknown} is new to this version; runs in it are loaded "
                    "as they are, and may be taken for ended or in flight wrongly"
                )
            yield rows
        for gap in self.reader.gaps:
            self._tally.gap(gap)


def _is_told(run: RunRef) -> bool:
    """Whether the server makes an event of a flow run's state, which it does not of those that a schedule makes."""
    return run.state is not None and run.state_type != "SCHEDULED"


def _entered(run: RunRef) -> datetime:
    assert run.state is not None
    return parse(run.state["timestamp"])


def _nulls_filled(row: Row, links: Mapping[str, str], columns: Collection[str]) -> Row:
    return {column: value for column, value in links.items() if column in columns and row.get(column) is None}
