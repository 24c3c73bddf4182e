"""State history: the states of the runs that changed, from what rows and events told, else from the endpoint.

The endpoint answers one run at a time. Events tell the states of task runs whole, 50 a request, and how states follow
each other; of flow runs' states they leave out the details.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from .cancellations import Cancellations
from .chains import Chain, Chains, Place, StateEvent
from .change_capture import ChangeCapture
from .clock import MICROSECOND, parse, text
from .event_buffer import AFTER, BEFORE, EventBuffer
from .exceptions import AccessRefused, NotFound
from .histories import Histories
from .outcome import Outcome, RunRef
from .paging import Row
from .progress import State, StateCursor
from .read_ahead import batches
from .run_reader import FLOW_RUN
from .settings import REMEMBERED_RUNS
from .tally import Tally
from .windows import Window

# states handed on, and runs looked up in events, at once
BATCH = 1_000
# what one reply has of them
EVENTS_A_PAGE = 50
# histories in memory at once
HISTORIES = 200

EVER = datetime(2000, 1, 1, tzinfo=UTC)

RunState = tuple[str, Row]
"""A run's id and one of its states."""

Asked = Mapping[str, set[str]]
"""Run id → the states that make its history worth reading."""


class StateHistory:
    """The states of the runs that one change capture reads.

    Args:
        capture: reads the runs.
        buffer: what gives the events around a window; asked for where that is wanted.
        histories: fetches histories from the endpoint.
        lasts: whether another run of the source may follow, and take what is read ahead.
        cancellations: tells which of the flow runs of task runs were cancelled.
        tally: counts what is read.
    """

    def __init__(
        self,
        capture: ChangeCapture,
        buffer: Callable[[], EventBuffer],
        histories: Histories,
        cancellations: Cancellations,
        tally: Tally,
        lasts: bool,
    ) -> None:
        self._capture = capture
        self._cancellations = cancellations
        self._buffer = buffer
        self._events: EventBuffer | None = None
        self._endpoint = histories
        self._lasts = lasts
        self._more_follows = False
        self._seen: set[str] = set()
        self._reached: datetime | None = None
        self._tally = tally
        self._table = f"{capture.reader.kind.one}_run_states"

    def changed_states(self, state: State) -> Iterator[list[RunState]]:
        """The states that the warehouse lacks, with their runs' ids and their numbers in the run.

        A run's history is read when its present state, or one that an event names, is not in the warehouse. A history
        without the state that asked for it is fetched again by the syncs of the next lookback: its rows are not all
        recorded yet, and nothing else will show when they are.
        """
        again: dict[str, str] = state.get("again", {})
        done: set[str] = set()
        incomplete: dict[str, str] = {}
        noticed = text(self._capture.ceiling)
        goes_on = self._capture.goes_on(state)
        begin = None if goes_on else self._capture.reader.start or EVER
        self._reached = parse(state["reached"]) if goes_on and "reached" in state else None
        for part in self._capture.read_runs(StateCursor(state), state):
            asked = {run_id: ids for run_id, ids in self._asked_for(part).items() if run_id not in done}
            done |= asked.keys()
            refs = {run.id: run for run in part.runs if run.id in asked}
            for batch in batches(sorted(refs.values(), key=lambda run: run.expected), BATCH):
                told = self._told(batch, asked, part)
                for run_id, _ in told:
                    asked.pop(run_id, None)
                yield from self._handed_on(told)
            fetched = {*asked, *(again.keys() - done)}
            done |= fetched
            for histories in batches(self._endpoint.of(sorted(fetched)), HISTORIES):
                for run_id, states in histories:
                    if not asked.get(run_id, set()) <= {state_["id"] for state_ in states}:
                        incomplete[run_id] = noticed
                yield from self._missing(histories)
        for gap in self._endpoint.gaps:
            self._tally.gap(gap)
        forget = self._capture.next_since(self._capture.ceiling)
        if part.first_load:
            # a backfill leaves that of an unfinished first load
            state.pop("reached", None)
        self._more_follows = self._lasts and part.first_load and "snapshot" in state
        if part.first_load and "snapshot" not in state:
            self._look_for_lost_since(self._reached or begin, forget)
        elif part.first_load and self._reached:
            # the next chunk looks for lost runs from here, for its own first run may come long after
            state["reached"] = text(self._reached)
        if self._events and not self._more_follows:
            self._events.close()
        yield from self._handed_on(list(self._capture.lost.found.items() if self._capture.lost else ()))
        still = {run_id: since for run_id, since in again.items() if parse(since) > forget}
        remembered = sorted({**incomplete, **still}.items(), key=lambda noticed: noticed[1])
        state["again"] = dict(remembered[-REMEMBERED_RUNS:])
        if len(remembered) > REMEMBERED_RUNS:
            self._tally.gap(
                f"{self._table}: the server gave {len(remembered)} histories without their last states, and of "
                f"{len(remembered) - REMEMBERED_RUNS} no sync asks again; verify --repair reads them"
            )

    def read_ahead(self) -> None:
        """Begin to fetch histories that the next chunk of a first load will want, while this one is loaded."""
        # of task runs the events tell
        if self._more_follows and self._capture.reader.kind is FLOW_RUN:
            runs = [run for run in self._capture.runs_ahead if not run.born_with]
            self._endpoint.begin(self._asked_for(Outcome(runs)))

    def _asked_for(self, part: Outcome) -> dict[str, set[str]]:
        known = self._capture.known
        pairs = [(run.id, run.state_id) for run in part.runs if run.state_id and (known or run.news)]
        if known:
            pairs.extend((event.run_id, event.state_id) for event in part.events)
        places = self._places(state_id for _, state_id in pairs)
        asked: dict[str, set[str]] = {}
        for run_id, state_id in pairs:
            if state_id not in places:
                asked.setdefault(run_id, set()).add(state_id)
        return asked

    def _told(self, runs: list[RunRef], asked: Asked, part: Outcome) -> list[tuple[str, list[Row]]]:
        """The runs whose history rows and events tell whole, with the states that the warehouse lacks."""
        events = part.events
        ids = {run.id for run in runs}
        if part.in_windows:
            until = runs[-1].expected + MICROSECOND
            begin = self._reached if part.first_load and self._reached else runs[0].expected
            events = self._events_around(Window(begin, until), len(runs), more_follows=part.first_load and self._lasts)
            self._reached = until
            self._seen |= ids
            self._look_for_lost(events, until)
        of_runs = [event for event in events if event.run_id in ids]
        named = {event.state_id for event in of_runs} | {event.follows for event in of_runs if event.follows}
        places = self._places(named)
        # of the runs of a first load there are numbers only where there are places
        last = {} if part.first_load and not places else self._last_numbers({event.run_id for event in of_runs})
        chains = Chains(of_runs, places, last)
        told: list[tuple[RunRef, Chain]] = []
        for run in runs:
            if run.state_id is None:
                continue
            chain = chains.find(run.id, run.state_id, run.state, run.born_with, run.begun_again)
            if chain and asked[run.id] <= chain.ids:
                told.append((run, chain))
        doubtful = self._doubtful(told, part)
        return [(run.id, chain.states) for run, chain in told if run.flow_run_id not in doubtful]

    def _doubtful(self, told: list[tuple[RunRef, Chain]], part: Outcome) -> set[str]:
        """The flow runs to whose task runs the server may have given a state that is in no event."""
        of_flow_runs = [(run, chain) for run, chain in told if run.flow_run_id]
        if not of_flow_runs:
            return set()
        begin = min(run.expected for run, _ in of_flow_runs)
        end = max(parse(chain.states[-1]["timestamp"]) for _, chain in of_flow_runs)
        ids = {run.flow_run_id for run, _ in of_flow_runs if run.flow_run_id}
        # clients' clocks may be off
        return self._cancellations.among(ids, part, Window(begin - BEFORE, max(begin, end) + AFTER))

    def _look_for_lost(self, events: Iterable[StateEvent], before: datetime) -> None:
        """Look up the runs that events of before a time name, and that no window up to that time brought."""
        if self._capture.lost:
            # what was not recorded within the lookback will not be; younger events are read by the next sync
            before = min(before, self._capture.next_since(self._capture.ceiling))
            self._capture.lost.look_up({event.run_id for event in events if event.occurred < before} - self._seen)

    def _look_for_lost_since(self, begin: datetime | None, before: datetime) -> None:
        """The same for the time behind the last run of a first load, or for all of it where there was no run."""
        if self._capture.lost and self._capture.lost.can_tell and begin and begin < before:
            self._look_for_lost(self._events_around(Window(begin, before)), before)

    def _events_around(self, window: Window, runs: int | None = None, more_follows: bool = False) -> list[StateEvent]:
        """The events of the time of a window; none where asking for each of so many `runs` is cheaper."""
        # of flow runs' states the events tell no details: whether there are any must be asked of the endpoint
        if self._capture.reader.kind is FLOW_RUN:
            return []
        self._events = self._buffer()
        try:
            # most events may be of runs that the user does not want
            if runs and self._capture.reader.narrowed and self._events.total(window) > runs * EVENTS_A_PAGE:
                return []
            return self._events.around(window, more_follows)
        except (NotFound, AccessRefused):
            return []

    def _handed_on(self, histories: list[tuple[str, list[Row]]]) -> Iterator[list[RunState]]:
        for states in batches(((run_id, row) for run_id, rows in histories for row in rows), BATCH):
            self._count(states)
            yield states

    def _count(self, states: list[RunState]) -> None:
        self._tally.read(self._table, len(states))
        if self._capture.reader.kind is FLOW_RUN:
            self._cancellations.note(states)

    def _missing(self, histories: list[tuple[str, list[Row]]]) -> Iterator[list[RunState]]:
        """The states that the warehouse lacks, or has with another number."""
        for states in batches(((run_id, row) for run_id, rows in histories for row in rows), BATCH):
            self._count(states)
            places = self._places(row["id"] for _, row in states)
            missing = [(run_id, row) for run_id, row in states if not _is_at(places.get(row["id"]), row)]
            if missing:
                yield missing

    def _last_numbers(self, run_ids: Collection[str]) -> Mapping[str, int]:
        known = self._capture.known
        return known.last_numbers(self._table, run_ids) if known else {}

    def _places(self, ids: Iterable[str]) -> Mapping[str, Place]:
        known = self._capture.known
        return known.places(self._table, list(ids)) if known else {}


def _is_at(place: Place | None, state: Row) -> bool:
    return place is not None and place.sequence == state["sequence"]
