"""Which flow runs were cancelled: the server then cancels their task runs itself, and no event tells of that.

A task run may go on all the same, and the events of its client pass over the server's state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from .chains import StateEvent
from .known import Known
from .outcome import Outcome
from .paging import Row
from .run_reader import FLOW_RUN
from .settings import TERMINAL_STATE_TYPES
from .windows import Window

CANCELLED = ("CANCELLED", "CANCELLING")


class Cancellations:
    """Tells it of flow runs from what was read of them, and asks their events where that is not enough.

    Args:
        known: what the warehouse has, if it can be asked.
        told: gives the states that the events of a window tell of flow runs, given their ids.
        wanted: whether the user's filters let cancelled flow runs through.
        states_read: whether this load reads the states of flow runs.
    """

    def __init__(
        self,
        known: Known | None,
        told: Callable[[Collection[str], Window], Iterable[StateEvent]],
        wanted: bool,
        states_read: Callable[[], bool],
    ) -> None:
        self._known = known
        self._told = told
        self._wanted = wanted
        self._states_read = states_read
        # whether the run had ended when its states were read
        self._read: dict[str, bool] = {}
        self._cancelled: set[str] = set()

    def note(self, states: Iterable[tuple[str, Row]]) -> None:
        """States of flow runs, with the runs' ids, that this load read: those of a run in their order."""
        for run_id, state in states:
            self._read[run_id] = state["type"] in TERMINAL_STATE_TYPES
            if state["type"] in CANCELLED:
                self._cancelled.add(run_id)

    def among(self, flow_run_ids: Collection[str], task_runs: Outcome, during: Window) -> set[str]:
        """Those of the flow runs of `task_runs` that were ever cancelled; those not heard of yet, `during` a time."""
        ids = set(flow_run_ids)
        before = self._known.were_in(FLOW_RUN.states, ids, CANCELLED) if self._known and ids else set()
        heard = before | ids & (self._cancelled | task_runs.cancelled)
        unknown = self._in_doubt(ids - heard, task_runs.in_windows)
        # the server's own filter for the type finds nothing before 3.4 on SQLite, and answers 200
        return heard | {event.run_id for event in self._told(unknown, during) if event.type in CANCELLED}

    def _in_doubt(self, ids: set[str], in_windows: bool) -> set[str]:
        """Those of `ids` that may have been cancelled though no state of theirs says so."""
        if not (self._wanted and self._states_read()):
            return ids
        # what changed in a time is read with the events of flow runs of that time: any earlier states will do. In
        # windows a run that was in flight may have been cancelled since
        unknown = {run_id for run_id in ids if run_id not in self._read or (in_windows and not self._read[run_id])}
        if self._known and unknown:
            not_read = unknown - self._read.keys()
            if in_windows:
                not_read = {run_id for run_id, end in self._known.ends(FLOW_RUN.name, not_read).items() if end}
            unknown -= self._known.last_numbers(FLOW_RUN.states, not_read).keys()
        return unknown
