"""State history: every state of the runs that changed, from the endpoint that answers one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from .change_capture import ChangeCapture, Outcome
from .clock import parse, text
from .paging import Row
from .progress import State, StateCursor
from .read_ahead import batches, read_ahead
from .settings import REMEMBERED_RUNS
from .tally import Tally

# states handed on, and ids asked of the warehouse, at once
BATCH = 1_000
# histories in memory at once
HISTORIES = 200

RunState = tuple[str, Row]
"""A run's id and one of its states."""


class StateHistory:
    """The states of the runs that one change capture reads."""

    def __init__(self, capture: ChangeCapture, tally: Tally) -> None:
        self._capture = capture
        self._tally = tally
        self._client = capture.reader.client
        self._one = capture.reader.kind.one
        self._table = f"{self._one}_run_states"

    def changed_states(self, state: State) -> Iterator[list[RunState]]:
        """The states that the warehouse lacks, with their runs' ids.

        A run's whole history is fetched when its present state, or one that an event names, is not in the
        warehouse. A history without the state that asked for it is fetched again by the syncs of the next
        lookback: its rows are not all recorded yet, and nothing else will show when they are.
        """
        again: dict[str, str] = state.get("again", {})
        done: set[str] = set()
        incomplete: dict[str, str] = {}
        noticed = text(self._capture.ceiling)
        for part in self._capture.read_runs(StateCursor(state), state):
            asked = self._asked_for(part)
            asked.update((run_id, set()) for run_id in again if run_id not in asked)
            for batch in batches(self._histories(asked.keys() - done), HISTORIES):
                for run_id, states in batch:
                    if not asked[run_id] <= {state_["id"] for state_ in states}:
                        incomplete[run_id] = noticed
                yield from self._missing(batch)
            done |= asked.keys()
        forget = self._capture.next_since(self._capture.ceiling)
        still = {run_id: since for run_id, since in again.items() if parse(since) > forget}
        state["again"] = dict(sorted({**incomplete, **still}.items())[-REMEMBERED_RUNS:])

    def _asked_for(self, part: Outcome) -> dict[str, set[str]]:
        """Run id → the states that make its history worth fetching."""
        known = self._capture.known
        pairs = [(run.id, run.state_id) for run in part.runs if run.state_id and (known or run.news)]
        if known:
            pairs.extend((event.run_id, event.state_id) for event in part.events)
        present = self._present([state_id for _, state_id in pairs])
        asked: dict[str, set[str]] = {}
        for run_id, state_id in pairs:
            if state_id not in present:
                asked.setdefault(run_id, set()).add(state_id)
        return asked

    def _histories(self, run_ids: Collection[str]) -> Iterator[tuple[str, list[Row]]]:
        return read_ahead((self._history_call(run_id) for run_id in sorted(run_ids)), self._client.connections)

    def _history_call(self, run_id: str) -> Callable[[], tuple[str, list[Row]]]:
        path, column = f"/{self._one}_run_states/", f"{self._one}_run_id"

        def fetch() -> tuple[str, list[Row]]:
            return run_id, self._client.rows(self._client.get(path, {column: run_id}), f"GET {path}")

        return fetch

    def _missing(self, histories: list[tuple[str, list[Row]]]) -> Iterator[list[RunState]]:
        for states in batches(((run_id, row) for run_id, rows in histories for row in rows), BATCH):
            self._tally.read(self._table, len(states))
            present = self._present([row["id"] for _, row in states])
            missing = [(run_id, row) for run_id, row in states if row["id"] not in present]
            if missing:
                yield missing

    def _present(self, ids: list[str]) -> set[str]:
        if not self._capture.known:
            return set()
        known = self._capture.known
        return {id_ for batch in batches(ids, BATCH) for id_ in known.present(self._table, batch)}
