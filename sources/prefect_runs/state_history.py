"""State history: the states of the runs that changed, from what rows and events told, else from the endpoint.

The endpoint answers one run at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from .cancellations import Cancellations
from .chains import Place
from .change_capture import ChangeCapture
from .clock import parse, text
from .held_states import HeldStates
from .histories import Histories, RunHistory
from .outcome import Outcome
from .paging import Row
from .progress import State, StateCursor
from .read_ahead import batches
from .run_reader import FLOW_RUN
from .settings import REMEMBERED_RUNS
from .tally import Tally
from .told_histories import ToldHistories

# states handed on at once
BATCH = 1_000
# histories in memory at once
HISTORIES = 200

RunState = tuple[str, Row]
"""A run's id and one of its states."""


class StateHistory:
    """The states of the runs that one change capture reads.

    Args:
        capture: reads the runs.
        held: where states stand that the warehouse has.
        told: tells histories from rows and events.
        histories: fetches them from the endpoint.
        cancellations: notes the states of flow runs.
        tally: counts what is read.
        lasts: whether another run of the source may follow, and take what is read ahead.
    """

    def __init__(
        self,
        capture: ChangeCapture,
        held: HeldStates,
        told: ToldHistories,
        histories: Histories,
        cancellations: Cancellations,
        tally: Tally,
        lasts: bool,
    ) -> None:
        self._capture = capture
        self._held = held
        self._told = told
        self._endpoint = histories
        self._cancellations = cancellations
        self._tally = tally
        self._lasts = lasts
        self._more_follows = False
        self._table = capture.reader.kind.states

    def changed_states(self, state: State) -> Iterator[list[RunState]]:
        """The states that the warehouse lacks, with their runs' ids and their numbers in the run.

        A run's history is read when its present state, or one that an event names, is not in the warehouse. A history
        without the state that asked for it is fetched again by the syncs of the next lookback: its rows are not all
        recorded yet, and nothing else will show when they are.
        """
        again: dict[str, str] = state.get("again", {})
        done: set[str] = set()
        incomplete: set[str] = set()
        self._told.begin(state)
        for part in self._capture.read_runs(StateCursor(state), state):
            asked = {run_id: ids for run_id, ids in self._asked_for(part).items() if run_id not in done}
            done |= asked.keys()
            refs = {run.id: run for run in part.runs if run.id in asked}
            for told in self._told.of(refs.values(), asked, part):
                for run_id, _ in told:
                    asked.pop(run_id, None)
                yield from self._handed_on(told)
            fetched = {*asked, *(again.keys() - done)}
            done |= fetched
            for histories in batches(self._endpoint.of(sorted(fetched)), HISTORIES):
                for run_id, states in histories:
                    if not asked.get(run_id, set()) <= {state_["id"] for state_ in states}:
                        incomplete.add(run_id)
                yield from self._missing(histories)
        self._told.end(part, state)
        self._more_follows = self._lasts and part.first_load and "snapshot" in state
        if not self._more_follows:
            self._told.close()
        yield from self._handed_on(list(self._capture.lost.found.items() if self._capture.lost else ()))
        for gap in self._endpoint.gaps:
            self._tally.gap(gap)
        state["again"] = self._to_ask_again(again, incomplete)

    def _to_ask_again(self, again: dict[str, str], incomplete: set[str]) -> dict[str, str]:
        """Run id → when its history was found to be incomplete, as it is remembered for a lookback."""
        noticed = text(self._capture.ceiling)
        forget = self._capture.next_since(self._capture.ceiling)
        still = {run_id: since for run_id, since in again.items() if parse(since) > forget}
        remembered = sorted({**dict.fromkeys(sorted(incomplete), noticed), **still}.items(), key=lambda item: item[1])
        if len(remembered) > REMEMBERED_RUNS:
            self._tally.gap(
                f"{self._table}: the server gave {len(remembered)} histories without their last states, and of "
                f"{len(remembered) - REMEMBERED_RUNS} no sync asks again; verify --repair reads them"
            )
        return dict(remembered[-REMEMBERED_RUNS:])

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
        places = self._held.places(state_id for _, state_id in pairs)
        asked: dict[str, set[str]] = {}
        for run_id, state_id in pairs:
            if state_id not in places:
                asked.setdefault(run_id, set()).add(state_id)
        return asked

    def _handed_on(self, histories: list[RunHistory]) -> Iterator[list[RunState]]:
        for states in batches(((run_id, row) for run_id, rows in histories for row in rows), BATCH):
            self._count(states)
            yield states

    def _count(self, states: list[RunState]) -> None:
        self._tally.read(self._table, len(states))
        if self._capture.reader.kind is FLOW_RUN:
            self._cancellations.note(states)

    def _missing(self, histories: list[RunHistory]) -> Iterator[list[RunState]]:
        """The states that the warehouse lacks, or has with another number."""
        for states in batches(((run_id, row) for run_id, rows in histories for row in rows), BATCH):
            self._count(states)
            places = self._held.places(row["id"] for _, row in states)
            missing = [(run_id, row) for run_id, row in states if not _is_at(places.get(row["id"]), row)]
            if missing:
                yield missing


def _is_at(place: Place | None, state: Row) -> bool:
    return place is not None and place.sequence == state["sequence"]
