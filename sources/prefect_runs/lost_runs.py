"""Task runs that the server told of in events and never recorded, for it was stopped in between.

Their events remain for as long as events are kept, and tell their states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from .chains import Chains, StateEvent
from .clock import parse
from .events import RUNS_ASKED
from .known import Known
from .paging import Row
from .read_ahead import batches
from .run_reader import RunReader
from .windows import Window


class LostTaskRuns:
    """Finds them among runs that events name, and tells their states.

    Args:
        reader: reads task runs, with the user's filters.
        flow_runs: reads their flow runs, without filters.
        told: gives the states that the events of a window tell of runs, given their ids.
        known: what the warehouse has.
        kept: the time whose events the server has.
    """

    def __init__(
        self,
        reader: RunReader,
        flow_runs: RunReader,
        told: Callable[[Collection[str], Window], Iterable[StateEvent]],
        known: Known,
        kept: Callable[[], Window],
    ) -> None:
        self._reader = reader
        self._flow_runs = flow_runs
        self._told = told
        self._known = known
        self._kept = kept
        self.found: dict[str, list[Row]] = {}
        """Run id → its states, oldest first; numbered where they are the whole history."""

    @property
    def can_tell(self) -> bool:
        """Whether the user wants such runs; of those who asked for some runs only, nothing tells."""
        return not self._reader.narrowed

    def look_up(self, events: Iterable[StateEvent]) -> None:
        """Add to `found` the runs that `events` name and that neither the server nor the warehouse has.

        Those that were deleted with their flow run are left out.
        """
        if not self.can_tell:
            return
        flow_runs: dict[str, str | None] = {}
        for event in events:
            flow_runs[event.run_id] = event.flow_run_id or flow_runs.get(event.run_id)
        unknown = flow_runs.keys() - self.found.keys()
        unknown -= self._known.present(self._reader.kind.name, unknown)
        unknown = self._reader.unfiltered.missing(unknown)
        # their task runs were deleted with them, and need not have been lost
        deleted = self._flow_runs.missing(id_ for run_id in unknown if (id_ := flow_runs[run_id]))
        for run_ids in batches(sorted(id_ for id_ in unknown if flow_runs[id_] not in deleted), RUNS_ASKED):
            self.found.update(self._histories(run_ids))

    def _histories(self, run_ids: Collection[str]) -> Iterator[tuple[str, list[Row]]]:
        of_run: dict[str, list[StateEvent]] = {}
        # how long the server keeps events is not asked where nothing is unknown
        for event in self._told(run_ids, self._kept()):
            of_run.setdefault(event.run_id, []).append(event)
        start = self._reader.start
        for run_id, events in of_run.items():
            states = _states(run_id, events)
            if states and (start is None or parse(states[0]["timestamp"]) >= start):
                yield run_id, states


def _states(run_id: str, events: list[StateEvent]) -> list[Row]:
    """What the events tell; no number is made up where the first of the states is not among them."""
    events = sorted(events, key=lambda event: event.occurred)
    chain = Chains(events, {}).find(run_id, events[-1].state_id, None, False)
    return chain.states if chain else [event.state for event in events if event.state is not None]
