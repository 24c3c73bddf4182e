"""Which flow runs were cancelled: the server then cancels their task runs itself, and no event tells of that.

A task run may go on all the same, and the events of its client pass over the server's state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from .change_capture import CANCELLED, Outcome
from .events import EventFeed
from .known import Known
from .paging import Row
from .read_ahead import batches
from .run_reader import FLOW_RUN
from .windows import Window

# flow runs whose events are asked for in one request
RUNS_ASKED = 200


class Cancellations:
    """Tells it of flow runs from what was read of them, and asks their events where that is not enough.

    Args:
        known: what the warehouse has, if it can be asked.
        feed: makes a feed of the events of flow runs, given their ids.
        kept: the time whose events the server has.
    """

    def __init__(
        self, known: Known | None, feed: Callable[[Collection[str]], EventFeed], kept: Callable[[], Window]
    ) -> None:
        self._known = known
        self._feed = feed
        self._kept = kept
        self._read: set[str] = set()
        self._cancelled: set[str] = set()

    def note(self, states: Iterable[tuple[str, Row]]) -> None:
        """States of flow runs, with the runs' ids, that this load read."""
        for run_id, state in states:
            self._read.add(run_id)
            if state["type"] in CANCELLED:
                self._cancelled.add(run_id)

    def among(self, flow_run_ids: Collection[str], task_runs: Outcome) -> set[str]:
        """Those of the flow runs of `task_runs` that were ever cancelled."""
        ids = set(flow_run_ids)
        before = self._known.were_in("flow_run_states", ids, CANCELLED) if self._known and ids else set()
        if task_runs.in_windows:
            self._ask_about(ids - before)
        # what changed in a time is read with the events of flow runs of that time
        return before | ids & (self._cancelled | task_runs.cancelled)

    def _ask_about(self, flow_run_ids: set[str]) -> None:
        unknown = flow_run_ids - self._read
        if self._known and unknown:
            ends = self._known.ends(FLOW_RUN.name, unknown)
            told = self._known.last_numbers("flow_run_states", [run_id for run_id, end in ends.items() if end])
            unknown -= told.keys()
        for asked in batches(sorted(unknown), RUNS_ASKED):
            events = self._feed(asked).read(self._kept()).states
            # the server's own filter for that finds nothing before 3.4 on SQLite, and answers 200
            self._cancelled.update(event.run_id for event in events if event.type in CANCELLED)
        self._read |= unknown
