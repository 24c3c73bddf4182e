"""State histories as rows and events tell them, and what else the events of a time name: runs that the server lost.

Events of task runs tell states whole, 50 a request, and how states follow each other; of flow runs' states they leave
out the details. Read for a span of time, they are those of all runs, the deleted ones too, and dropped behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from .cancellations import Cancellations
from .chains import Chain, Chains, StateEvent
from .change_capture import ChangeCapture
from .clock import EVER, MICROSECOND, parse, text
from .event_buffer import AFTER, BEFORE, EventBuffer
from .events import LONGEST_QUERY
from .exceptions import AccessRefused, NotFound
from .held_states import HeldStates
from .histories import RunHistory
from .outcome import Outcome, RunRef
from .progress import State
from .read_ahead import batches
from .run_reader import DAY, FLOW_RUN
from .windows import Window

# runs looked up in events at once
BATCH = 1_000
# what one reply has of them
EVENTS_A_PAGE = 50

Asked = Mapping[str, set[str]]
"""Run id → the states that make its history worth reading."""


class ToldHistories:
    """The histories that need no request of their own.

    Args:
        capture: reads the runs.
        held: where states stand that the warehouse has.
        buffer: what gives the events around a window; asked for where that is wanted.
        cancellations: tells which of the flow runs of task runs were cancelled.
        lasts: whether another run of the source may follow, and take what is read ahead.
    """

    def __init__(
        self,
        capture: ChangeCapture,
        held: HeldStates,
        buffer: Callable[[], EventBuffer],
        cancellations: Cancellations,
        lasts: bool,
    ) -> None:
        self._capture = capture
        self._held = held
        self._buffer = buffer
        self._events: EventBuffer | None = None
        self._cancellations = cancellations
        self._lasts = lasts
        self._begin: datetime | None = None
        self._reached: datetime | None = None
        self._looked_until: datetime | None = None
        self._seen: set[str] = set()

    def begin(self, state: State) -> None:
        """Go on where `state` says that an unfinished first load came to."""
        goes_on = self._capture.goes_on(state)
        self._begin = None if goes_on else self._capture.reader.start or EVER
        self._reached = parse(state["reached"]) if goes_on and "reached" in state else None

    def of(self, runs: Iterable[RunRef], asked: Asked, part: Outcome) -> Iterator[list[RunHistory]]:
        """Of the `runs` of a part those whose history was told whole, with the states that the warehouse lacks."""
        for batch in batches(sorted(runs, key=lambda run: run.expected), BATCH):
            if part.in_windows:
                yield from self._of_time(batch, asked, part)
            else:
                yield self._chained(part.events, batch, asked, part)

    def end(self, part: Outcome, state: State) -> None:
        """Note how far a first load came or, where it came to its end, look for the lost runs behind its last run."""
        # a backfill leaves what an unfinished first load noted
        if not part.first_load:
            return
        if "snapshot" not in state:
            state.pop("reached", None)
            self._look_for_lost_since(self._reached or self._begin)
        elif self._reached:
            # the next chunk looks for lost runs from here, for its own first run may come long after
            state["reached"] = text(self._reached)

    def close(self) -> None:
        """Drop the events that are held."""
        if self._events:
            self._events.close()

    def _of_time(self, runs: list[RunRef], asked: Asked, part: Outcome) -> Iterator[list[RunHistory]]:
        """The same for runs that follow each other in time, from the events of that time."""
        end = runs[-1].expected + MICROSECOND
        begin = self._first_load_from(runs[0]) if part.first_load else runs[0].expected
        self._seen.update(run.id for run in runs)
        # read again after those that followed them: their events were dropped
        again = runs if end <= begin else [run for run in runs if run.expected + MICROSECOND < begin]
        if again:
            yield self._chained([], again, asked, part)
        runs = runs[len(again) :]
        if not runs:
            return
        self._reached = end
        for piece, events in self._events_of(Window(begin, end), len(runs), part.first_load and self._lasts):
            here = [run for run in runs if run.expected < piece.end]
            runs = runs[len(here) :]
            yield self._chained(events, here, asked, part)
            self._look_for_lost(events, piece)

    def _first_load_from(self, first: RunRef) -> datetime:
        """From where on the events are read of which those of the run `first` are the first that are needed."""
        if self._reached or not (self._begin and self._capture.lost and self._capture.lost.can_tell):
            return self._reached or first.expected
        # lost ones may have been before. A server that keeps events for years has no end of times without any
        expected = max(first.expected, EVER)
        before = Window(max(self._begin, expected - LONGEST_QUERY), expected - BEFORE - AFTER)
        try:
            return before.start if self._buffer().total(before) else first.expected
        except (NotFound, AccessRefused):
            return first.expected

    def _chained(
        self, events: Iterable[StateEvent], runs: list[RunRef], asked: Asked, part: Outcome
    ) -> list[RunHistory]:
        ids = {run.id for run in runs}
        of_runs = [event for event in events if event.run_id in ids]
        named = {event.state_id for event in of_runs} | {event.follows for event in of_runs if event.follows}
        places = self._held.places(named)
        # of the runs of a first load there are numbers only where there are places
        last = {} if part.first_load and not places else self._held.last_numbers({event.run_id for event in of_runs})
        chains = Chains(of_runs, places, last)
        told: list[tuple[RunRef, Chain]] = []
        for run in runs:
            if run.state_id is None:
                continue
            chain = chains.find(run.id, run.state_id, run.state, run.born_with, run.begun_again)
            if chain and asked[run.id] <= chain.ids:
                told.append((run, chain))
        if part.first_load and not part.are_new:
            # what the endpoint alone told before is in no event now either
            last = self._held.last_numbers({run.id for run, _ in told})
            told = [(run, chain) for run, chain in told if last.get(run.id, 0) <= len(chain.states)]
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
        # clients' clocks may be off, and for a day the server cancels what a cancelled flow run still starts
        begin = max(begin, EVER)
        return self._cancellations.among(ids, part, Window(begin - DAY - BEFORE, max(begin, end) + AFTER))

    def _look_for_lost_since(self, begin: datetime | None) -> None:
        """Look for lost runs behind the last run of a first load, or in all of its time where there was no run."""
        if self._capture.lost and self._capture.lost.can_tell and begin and begin < self._recorded_before:
            for piece, events in self._events_of(Window(begin, self._recorded_before)):
                self._look_for_lost(events, piece)

    def _look_for_lost(self, events: Iterable[StateEvent], piece: Window) -> None:
        """Look up the runs that events name up to the end of a piece, and that no window up to there brought."""
        if self._capture.lost:
            # those of the pieces before were looked up with them
            since = piece.start if piece.start == self._looked_until else EVER
            self._looked_until = piece.end
            time = Window(since, min(piece.end, self._recorded_before))
            named = (event for event in events if time.start <= event.occurred < time.end)
            self._capture.lost.look_up(event for event in named if event.run_id not in self._seen)

    @property
    def _recorded_before(self) -> datetime:
        """What was not recorded within the lookback will not be; younger events are read by the next sync."""
        return self._capture.next_since(self._capture.ceiling)

    def _events_of(
        self, window: Window, runs: int = 0, more_follows: bool = False
    ) -> Iterator[tuple[Window, list[StateEvent]]]:
        """The pieces of a window in order, each with the events around its time.

        The rest is one piece without events where asking for each of so many `runs` is cheaper, or there are none.
        """
        # of flow runs' states the events tell no details: whether there are any must be asked of the endpoint
        if self._capture.reader.kind is not FLOW_RUN:
            events = self._events = self._buffer()
            try:
                # most may be of runs that the user does not want
                too_many = self._capture.reader.narrowed and events.total(window) > runs * EVENTS_A_PAGE
                while not (window.empty or too_many):
                    piece, held = events.around(window, more_follows)
                    yield piece, held
                    window = window.rest(piece)
            except (NotFound, AccessRefused):
                pass
        if not window.empty:
            yield window, []
