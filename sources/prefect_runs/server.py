"""One server for the length of one sync: what its resources share.

Nothing is asked of the server before the first resource is read, so a source can be made and inspected offline.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property, partial

from .access import Access
from .cancellations import CANCELLED, Cancellations
from .chains import StateEvent
from .change_capture import UNFINISHED, ChangeCapture
from .clock import ServerClock, in_one_step, parse, text
from .dimensions import DIMENSIONS, dimension
from .events import EventFeed, states_told
from .exceptions import ServerUnavailable
from .filters import lets_through, scope
from .held_states import HeldStates
from .history_comparison import HeldHistories, HistoryComparison
from .history_counts import history_counts, history_window
from .holdings import Holdings
from .inventory import INVENTORY
from .known import Known
from .late_sync import LateSync
from .lost_runs import LostTaskRuns
from .paging import Row
from .privacy import Privacy
from .progress import STATE_KEY, State
from .recent_events import EVENTS_AHEAD, RecentEvents
from .retention import Reason, Retention
from .run_reader import DAY, FLOW_RUN, TASK_RUN, RunKind, RunReader
from .selection import Selection
from .settings import HISTORY_INTERVAL, RUN_TABLES, STATES_OF, ReadSettings, RunFilters
from .shared_ids import shared_id
from .state_history import StateHistory
from .tables import TABLES
from .tally import Tally
from .told_histories import ToldHistories
from .tombstones import Tombstones
from .unchanged import unless_unchanged
from .verify import Verify
from .windows import Window

# for so long the chunks of one load share what was read of small tables: for each deployment a server asks its database
# anew, 9 ms
LATELY_SECONDS = 300.0

# small tables that are read whole, so that what is gone is noticed
WHOLE = (*DIMENSIONS, *INVENTORY)

KINDS = {kind.name: kind for kind in (FLOW_RUN, TASK_RUN)}
# table of states → table of their runs
RUNS_OF = {states: runs for runs, states in STATES_OF.items()}


class Server:
    """The client of one server, one change capture for each kind of run, and the tally of a sync."""

    def __init__(
        self,
        access: Access,
        workspace: str | None,
        filters: RunFilters,
        settings: ReadSettings,
        known: Known | None,
        selections: Mapping[str, Selection] | None = None,
    ) -> None:
        self.client = access.client
        self.workspace = workspace or self.client.connection.workspace
        self.tally = Tally()
        self._access = access
        self._selections = selections or {}
        # a backfill may go back before the date from which runs are synced
        self._filters = filters.without_start() if selections else filters
        self._settings = settings
        self.known = known
        self.scope = scope(filters, self.workspace)
        """Which runs are asked for; what a resource's state remembers as its `scope` is what its last sync read."""
        self._feed = EventFeed(self.client, [f"{kind.resource_prefix}." for kind in KINDS.values()])
        self._late = LateSync(lambda: [self._reader(name) for name in KINDS], self._feed, settings)
        self._cancellations = Cancellations(
            known,
            self._flow_run_events,
            lets_through(filters, CANCELLED),
            lambda: FLOW_RUN.states in self._read,
        )
        self._captures: dict[str, ChangeCapture] = {}
        self._histories: dict[str, StateHistory] = {}
        self._being_read: set[str] = set()
        self._read: set[str] = set()
        # small tables that were read whole and loaded → the ids that the server has
        self._whole: dict[str, set[str]] = {}

    @cached_property
    def version(self) -> str | None:
        """The server's version; None on Prefect Cloud. The first request of every sync."""
        version = self.client.version()
        assert self.client.clock is not None
        self._clock = ServerClock(self.client.clock, self.client.date or self.client.clock)
        return version

    @property
    def ceiling(self) -> datetime:
        """The server's time when this sync began: what changes later belongs to the next one."""
        return self.clock.now

    @property
    def clock(self) -> ServerClock:
        """The server's clock when this sync began."""
        _ = self.version
        return self._clock

    def capture(self, runs: str) -> ChangeCapture:
        """The change capture of `flow_runs` or `task_runs`."""
        if runs not in self._captures:
            kind = KINDS[runs]
            self._captures[runs] = ChangeCapture(
                self._reader(runs),
                self._access.snapshots(self._reader(runs)),
                self._recent_events(kind),
                self._settings,
                self.scope,
                lambda: self.clock,
                self._late,
                lambda: self.retention,
                self.known,
                self.tally,
                self._selections.get(runs),
                self.lost if runs == TASK_RUN.name else None,
            )
        return self._captures[runs]

    def _recent_events(self, kind: RunKind) -> RecentEvents:
        lookback, surely_kept = self._settings.lookback, self._settings.surely_kept
        return RecentEvents(self._feed, kind, lookback, surely_kept, lambda: self.retention, self.tally)

    @cached_property
    def lost(self) -> LostTaskRuns | None:
        """Finds the task runs that the server lost; None where the warehouse cannot be asked."""
        if self.known is None:
            return None

        told = partial(states_told, self.client, TASK_RUN.resource_prefix)
        flow_runs = self._reader(FLOW_RUN.name).unfiltered
        return LostTaskRuns(self._reader(TASK_RUN.name), flow_runs, told, self.known, lambda: self._events_kept)

    def _flow_run_events(self, ids: Collection[str], window: Window) -> Iterable[StateEvent]:
        if not ids:
            return ()
        return states_told(self.client, FLOW_RUN.resource_prefix, ids, window.within(self._events_kept))

    @property
    def _events_kept(self) -> Window:
        return Window(self.ceiling - self.retention.events, self.ceiling + EVENTS_AHEAD)

    @cached_property
    def retention(self) -> Retention:
        """How long the server keeps runs and events; a request at most, and none until it matters."""
        return Retention.of(self._settings, self.client.connection.is_cloud, self.client.server_settings)

    def history(self, runs: str) -> StateHistory:
        """The state history of `flow_runs` or `task_runs`."""
        if runs not in self._histories:
            kind, capture, lasts = KINDS[runs], self.capture(runs), self._access.lasts
            buffer = partial(self._access.event_buffer, kind, lambda: self._events_kept)
            held = HeldStates(self.known, kind.states)
            told = ToldHistories(capture, held, buffer, self._cancellations, lasts)
            endpoint = self._access.histories(kind)
            self._histories[runs] = StateHistory(capture, held, told, endpoint, self._cancellations, self.tally, lasts)
        return self._histories[runs]

    def read_ahead(self) -> None:
        """Have the server begin with what the next run of the source wants, if one is to follow this one."""
        for history in self._histories.values():
            history.read_ahead()

    def hourly_counts_stand(self, runs: str, state: State) -> bool:
        """Whether the counts of `runs` need not be read: they were in this hour, and this sync finds no run changed."""
        if state.get("scope") != self.scope or runs not in self._read or "uncounted" in state:
            return False
        loaded = any(self.tally.rows_loaded[table] for table in RUN_TABLES)
        gone = any(capture.gone for capture in self._captures.values())
        return not (loaded or gone) and in_one_step(parse(state["until"]), self.ceiling, HISTORY_INTERVAL)

    def hourly_counts(self, runs: str, state: State) -> Iterator[list[Row]]:
        """Pages of the server's own counts; `state` remembers up to when they were read."""
        if state.get("scope") != self.scope:
            state.clear()
        reader = self._reader(runs)
        window = history_window(state, self.ceiling, self._settings, lambda: reader.oldest)

        # where the server could not count, the next read begins
        state.pop("uncounted", None)

        def uncounted(hours: Window, error: ServerUnavailable) -> None:
            state.setdefault("uncounted", text(hours.start))
            self.tally.gap(
                f"{runs}: the server cannot count those of {text(hours.start)} to {text(hours.end)} ({error})"
            )

        yield from history_counts(reader, window, uncounted)
        state.update(scope=self.scope, until=text(self.ceiling))

    def watch_privacy(self, privacy: Privacy, state: State) -> None:
        """Warn of rows that were loaded under other rules; `state` remembers those of a resource's first load."""
        if STATE_KEY not in state and privacy.fingerprint:
            state["privacy"] = privacy.fingerprint
        if state.get("privacy") != privacy.fingerprint:
            self.tally.warn(
                "privacy rules were changed, and rows that were loaded before are as the old ones left them: "
                "prefect-runs sync --full reads them again"
            )

    def dimension(self, name: str) -> Iterator[list[Row]]:
        """Pages of all rows of a small table."""
        return dimension(self.client, name, lambda: self.known.live_ids(name) if self.known else set())

    def read_lately(self, table: str) -> bool:
        """Whether another load of the same command read a small table a moment ago: chunks follow each other fast."""
        return time.monotonic() - self._access.small_tables_read.get(table, -LATELY_SECONDS) < LATELY_SECONDS

    def worth_loading(self, table: str, pages: Iterable[list[Row]], state: State) -> Iterable[list[Row]]:
        """`pages` of a small table, or nothing where the command loaded the same ones before."""
        read = self._noted(table, pages)
        if self.known is None:
            yield from read
            return
        before = state.get("loaded")
        yield from unless_unchanged(read, state, self.ceiling)
        if state.get("loaded") == before:
            self._whole.pop(table, None)

    def _noted(self, table: str, pages: Iterable[list[Row]]) -> Iterator[list[Row]]:
        ids: set[str] = set()
        for page in pages:
            self.tally.read(table, len(page))
            ids.update(row["id"] for row in page if table in WHOLE)
            yield page
        if table in WHOLE:
            self._whole[table] = ids
        self._access.small_tables_read[table] = time.monotonic()

    def verify(self, runs: str, holdings: Holdings, watermark: datetime) -> Verify:
        """What compares `flow_runs` or `task_runs` with the warehouse, which was last synced up to `watermark`."""
        whole = self._reader(runs).unfiltered
        open_from = watermark - timedelta(days=self._settings.in_flight_days)
        ended_from = watermark - self._settings.lookback
        return Verify(self._reader(runs), whole, holdings, watermark, open_from, ended_from, self._reason)

    def history_comparison(self, runs: str, held: HeldHistories, watermark: datetime) -> HistoryComparison:
        """What compares the state histories of `flow_runs` or `task_runs` with the endpoint's."""
        return HistoryComparison(self._reader(runs), held, watermark)

    @contextmanager
    def reading(self, resource: str) -> Iterator[None]:
        """Marks that `resource` is being read, for those that wait for it."""
        self._being_read.add(resource)
        self._read.add(resource)
        try:
            yield
        finally:
            self._being_read.discard(resource)

    def others_read(self, *resources: str) -> Iterator[None]:
        """Yields None while one of `resources` (or any, when none is named) is being read.

        dlt reads resources in turns; None tells it that this one waits. A resource that is not selected is never
        waited for, and in dlt's `fifo` mode all before have ended.
        """
        while self._being_read.intersection(resources) if resources else self._being_read:
            yield None

    def loaded(self, resource: str, rows: list[Row]) -> list[Row]:
        """`rows`, counted as loaded.

        Raises:
            ConfigurationError: one of them would overwrite a row of another workspace.
        """
        # states are their run's: where runs are read too, looking those up is enough
        if rows and TABLES[resource].key == ("id",) and RUNS_OF.get(resource) not in self._read and self.known:
            stranger = self.known.of_others(resource, [row["id"] for row in rows])
            if stranger:
                raise shared_id(resource, stranger, self.workspace, self.client.connection.url)
        self.tally.loaded(resource, len(rows))
        return rows

    def tombstones(self) -> Iterator[list[Row]]:
        """Pages of tombstones of what is gone, and of those to be removed from what came back."""
        if self.known is None:
            return
        made = Tombstones(self.known, self.ceiling, self._reason)
        for table, there in self._whole.items():
            yield from made.of_small_table(table, there)
        yield from made.of_gone({table: capture.gone for table, capture in self._captures.items()})
        yield from made.of_lost(TASK_RUN.name, self.lost.found if self.lost else ())
        for table, capture in self._captures.items():
            loaded = [run.id for outcome in capture.outcomes for run in outcome.runs if run.news]
            back = made.buried(table, loaded)
            yield from made.ended_of(table, back)
            if table == FLOW_RUN.name:
                yield from made.ended_of(TASK_RUN.name, self._returned_with(back))

    def _returned_with(self, flow_runs: Collection[str]) -> set[str]:
        """The task runs that were buried with flow runs which are back, and are back too: no read shows them all."""
        assert self.known is not None
        buried = self.known.task_runs_of(flow_runs, buried=True) if flow_runs else set()
        return buried - self._reader(TASK_RUN.name).unfiltered.missing(buried) if buried else buried

    def _reason(self, ended: datetime | None) -> Reason:
        return self.retention.reason(ended, self.ceiling)

    def sync_row(self) -> Row:
        """What this sync did so far, as a row of `syncs`."""
        return {
            "server_url": self.client.connection.url,
            "server_version": self.version,
            "window_start": text(self.tally.since) if self.tally.since else None,
            "window_end": None if self._selections else text(self.tally.ceiling or self.ceiling),
            "finished_at": text(self.client.clock or self.ceiling),
            "requests": self._requests(),
            "rows_read": self.tally.rows_read.total(),
            "rows_changed": self.tally.rows_loaded.total(),
            "resources": self.tally.resources(),
            "whole": not self.tally.gaps,
            "gaps": self.tally.gaps,
            "unfinished": bool(self.tally.gaps) and all(UNFINISHED in gap for gap in self.tally.gaps),
            "warnings": self.tally.warnings,
            "lost_from": text(self.tally.lost.start) if self.tally.lost else None,
            "lost_until": text(self.tally.lost.end) if self.tally.lost else None,
            "purpose": self._purpose,
            **self._kept_days(),
        }

    def _requests(self) -> int:
        told, self._access.requests_told = self._access.requests_told, self.client.requests_sent
        return self._access.requests_told - told

    @property
    def _purpose(self) -> str:
        if not self._selections:
            return "sync"
        return "backfill" if any(selection.window for selection in self._selections.values()) else "repair"

    def _kept_days(self) -> Row:
        if "retention" not in vars(self):
            return {}
        runs, events = self.retention.runs, self.retention.events
        return {"runs_kept_days": runs / DAY if runs else None, "events_kept_days": events / DAY}

    def _reader(self, runs: str) -> RunReader:
        return self._access.reader(KINDS[runs], self._filters, self.version)
