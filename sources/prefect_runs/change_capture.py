"""Which runs changed: the reads of one sync, and how the watermark moves.

Prefect cannot be asked what changed since a time. Three reads together can: what ended (by `end_time`), what is
open, and what the events feed names. The table in README.md says which read finds which change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

from .clock import parse, text
from .event_ledger import EventLedger, slice_start
from .events import EventFeed, StateEvent, state_events
from .exceptions import AccessRefused, NotFound
from .known import Known
from .news import News
from .paging import Row
from .progress import Cursor, Plan, State, snapshot_plan, snapshot_state
from .rows import is_torn, version
from .run_reader import FLOW_RUN, RunReader
from .settings import REMEMBERED_RUNS, STATE_TYPES, ReadSettings, RunFilters
from .snapshot import snapshot
from .tally import Tally
from .windows import Window

KNOWN_STATE_TYPES = {*STATE_TYPES, None}
# self-hosted servers keep events this long
EVENTS_KEPT = timedelta(days=7)
# events of clients whose clocks are ahead, and of the rest of the second that the `Date` header cuts off
EVENTS_AHEAD = timedelta(hours=1)
# a torn row that is not whole after this time is left to `verify`
TORN_REMEMBERED = timedelta(days=1)


class RunRef(NamedTuple):
    """A run that was read: the state it is in, and whether its row was news."""

    id: str
    state_id: str | None
    news: bool


@dataclass
class Outcome:
    """What carrying out a plan brought: the runs read, the events read, torn rows, and what to remember."""

    runs: list[RunRef] = field(default_factory=list)
    events: list[StateEvent] = field(default_factory=list)
    torn: set[str] = field(default_factory=set)
    remembered: State = field(default_factory=dict)


class ChangeCapture:
    """Changed runs of one kind. Resources with the same watermark share one reading of the server.

    Args:
        reader: reads the runs.
        feed: reads their events.
        settings: lookback, horizon and the other bounds.
        scope: differs when other runs are asked for; then everything is read anew.
        ceiling: the server's time when this sync began.
        known: what the warehouse has, if it can be asked.
        tally: counts what is read.
    """

    def __init__(
        self,
        reader: RunReader,
        feed: EventFeed,
        settings: ReadSettings,
        scope: str,
        ceiling: Callable[[], datetime],
        known: Known | None,
        tally: Tally,
    ) -> None:
        self.reader = reader
        self.known = known
        self._feed = feed
        self._settings = settings
        self._scope = scope
        self._ceiling = ceiling
        self._tally = tally
        self._outcomes: dict[Plan, Outcome] = {}

    def changed_rows(self, cursor: Cursor, state: State) -> Iterator[list[Row]]:
        """Pages of the rows that are new or changed since the cursor's start value.

        The watermark and `state` move only when the last page was taken: an error in between loses nothing.
        """
        plan = self._plan(cursor, state)
        outcome = Outcome()
        yield from self._carry_out(plan, state, outcome)
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
                yield Outcome(runs)
            yield Outcome(outcome.runs, outcome.events)
        else:
            yield outcome
        self._finish(plan, outcome, cursor, state)

    @property
    def ceiling(self) -> datetime:
        """The server's time when this sync began."""
        return self._ceiling()

    def next_since(self, ceiling: datetime) -> datetime:
        """From when on the sync after one with `ceiling` reads again."""
        return ceiling - self._settings.lookback

    def _plan(self, cursor: Cursor, state: State) -> Plan:
        if state.get("scope") != self._scope:
            state.clear()
            return self._first_plan()
        if "snapshot" in state:
            return snapshot_plan(state["snapshot"])
        start_value, ceiling = cursor.start_value, self._ceiling()
        if start_value is None:
            return self._first_plan()
        # a server's clock can be set back; what it calls now is then the later of the two bounds
        since = self.next_since(min(start_value, ceiling))
        return Plan(ceiling, start_value, since)

    def _first_plan(self) -> Plan:
        ceiling = self._ceiling()
        end = ceiling + self._settings.horizon
        oldest = self.reader.oldest
        return Plan(ceiling, window=Window(oldest or end, end))

    def _finish(self, plan: Plan, outcome: Outcome, cursor: Cursor, state: State) -> None:
        for key in ("snapshot", "events", "torn"):
            state.pop(key, None)
        state.update(outcome.remembered)
        state["scope"] = self._scope
        # while the first load is unfinished this is the ceiling at its start, so nothing that changed since is lost
        cursor.advance(plan.ceiling)

    def _carry_out(self, plan: Plan, state: State, outcome: Outcome) -> Iterator[list[Row]]:
        table = self.reader.kind.name
        known = self.known.versions(table, plan.since) if self.known and plan.since else None
        news = News(plan, known, self._settings.lookback, self._settings.horizon)
        outcome.torn.update(state.get("torn", ()))
        self._tally.reading_since(plan.since)
        if plan.since is None:
            yield from self._snapshot(plan, outcome, news)
        else:
            yield from self._changes(plan, state, outcome, news)
        yield from self._torn(plan, outcome, news)

    def _snapshot(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        assert plan.window is not None
        position = plan.window.start
        for window, pages in snapshot(self.reader, plan.window, self._settings.chunk_rows):
            for rows in self._read(pages):
                yield _sift(rows, outcome, news)
            position = window.end
        rest = Window(position, plan.window.end)
        if rest.empty:
            for rows in self._read(self.reader.settled_from(plan.window.end)):
                yield _sift(rows, outcome, news)
        else:
            outcome.remembered["snapshot"] = snapshot_state(plan.ceiling, rest)
            self._tally.gap(f"{self.reader.kind.name}: the first load came to {text(position)}; sync again to go on")

    def _torn(self, plan: Plan, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """Torn rows read again: most are whole a moment later. The rest are remembered for a day."""
        still: list[str] = []
        for rows in self._read(self.reader.by_ids(outcome.torn)):
            still.extend(
                row["id"] for row in rows if is_torn(row) and parse(row["updated"]) > plan.ceiling - TORN_REMEMBERED
            )
            yield _sift(rows, outcome, news, asked_for=True, torn_too=True)
        if still:
            outcome.remembered["torn"] = sorted(still)[-REMEMBERED_RUNS:]

    def _changes(self, plan: Plan, state: State, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        assert plan.since is not None
        for rows in chain(
            self._read(self.reader.ended(plan.since)), self._read(self.reader.open(self._open_window(plan.ceiling)))
        ):
            yield _sift(news.unseen(rows), outcome, news)
        yield from self._changes_by_event(plan, state, outcome, news)

    def _changes_by_event(self, plan: Plan, state: State, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        try:
            ledger = self._read_events(plan, state, outcome)
        except (NotFound, AccessRefused) as error:
            self._tally.gap(
                f"{self.reader.kind.name}: the server gives no events, so changes from one terminal state to "
                f"another are only found by verify ({error})"
            )
            return
        events = outcome.events
        latest: dict[str, datetime] = {}
        for event in events:
            latest[event.run_id] = max(event.occurred, latest.get(event.run_id, event.occurred))
        behind = [run_id for run_id, occurred in latest.items() if news.is_behind(run_id, occurred)]
        for rows in self._read(self.reader.by_ids(behind)):
            yield _sift(news.newer(rows), outcome, news, asked_for=True)
        # a run that is still behind its event was not recorded yet: its events are read again by the next sync
        late = {run_id for run_id in behind if news.is_behind(run_id, latest[run_id])}
        unresolved = late - self._out_of_reach(late, latest)
        outcome.events = [event for event in outcome.events if event.run_id not in late]
        again = [event.occurred for event in events if event.run_id in unresolved]
        outcome.remembered["events"] = ledger.without(again).since(self.next_since(plan.ceiling)).state()

    def _out_of_reach(self, run_ids: set[str], latest: Mapping[str, datetime]) -> set[str]:
        """Those of `run_ids` that no later sync will bring: outside the user's filters, or deleted."""
        if not run_ids:
            return set()
        whole = RunReader(self.reader.client, self.reader.kind, RunFilters(), None) if self.reader.filtered else None
        rows = [row for page in self._read(whole.by_ids(run_ids)) for row in page] if whole else []
        entered = {row["id"]: version(row)[1] for row in rows}
        outside = {run_id for run_id, time in entered.items() if time is not None and time >= latest[run_id]}
        # a flow run is written before its event; a task run may be written long after
        deleted = run_ids - entered.keys() if self.reader.kind is FLOW_RUN else set()
        return outside | deleted

    def _read_events(self, plan: Plan, state: State, outcome: Outcome) -> EventLedger:
        """Reads into `outcome` the events since `plan.since` that no earlier sync read; returns the new ledger."""
        assert plan.since is not None
        lookback = self._settings.lookback
        saved = EventLedger.from_state(state["events"], lookback) if "events" in state else None
        begin = slice_start(plan.since, lookback)
        if saved and saved.covers(begin):
            if self._feed.total(Window(begin, plan.ceiling + EVENTS_AHEAD)) == saved.count(begin):
                return EventLedger(Window(begin, plan.ceiling), saved.slice, saved.since(begin).counts)
            settled = max(saved.settled, begin)
            if self._feed.total(Window(begin, settled)) == saved.count(begin, settled):
                newer = self._events_in(Window(settled, plan.ceiling), lookback, outcome)
                return saved.extended(newer, begin)
        if plan.since < plan.ceiling - EVENTS_KEPT:
            self._tally.gap(
                f"{self.reader.kind.name}: changes from one terminal state to another between {text(plan.since)} "
                f"and {text(plan.ceiling - EVENTS_KEPT)}, for servers keep events 7 days; verify finds them"
            )
        return self._events_in(Window(begin, plan.ceiling), lookback, outcome)

    def _events_in(self, window: Window, lookback: timedelta, outcome: Outcome) -> EventLedger:
        events = self._feed.read(Window(window.start, window.end + EVENTS_AHEAD))
        outcome.events.extend(state_events(events))
        return EventLedger.of(window, lookback, (parse(event["occurred"]) for event in events))

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


def _sift(rows: list[Row], outcome: Outcome, news: News, asked_for: bool = False, torn_too: bool = False) -> list[Row]:
    """Those of `rows` to load. Torn rows are set aside to be read again; what was read is noted in `outcome`."""
    result = []
    for row in rows:
        if is_torn(row) and not torn_too:
            outcome.torn.add(row["id"])
            continue
        is_news = news.is_news(row, asked_for)
        outcome.runs.append(RunRef(row["id"], row["state_id"], is_news))
        if is_news:
            result.append(row)
    return result
