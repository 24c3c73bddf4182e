"""Task runs that the server told of in events and never recorded, for it was stopped in between.

Their events remain for as long as events are kept, and tell their states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from .chains import Chains, StateEvent
from .clock import parse
from .known import Known
from .paging import Row
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

    def look_up(self, run_ids: Collection[str]) -> dict[str, list[Row]]:
        """Those of `run_ids` that neither the server nor the warehouse has; all that were ever found are in `found`."""
        if not self.can_tell:
            return {}
        unknown = set(run_ids) - self.found.keys()
        unknown -= self._known.present(self._reader.kind.name, unknown)
        unknown = self._reader.unfiltered.missing(unknown)
        # how long the server keeps events is not asked where nothing is unknown
        found = dict(self._histories(unknown)) if unknown else {}
        self.found.update(found)
        return found

    def _histories(self, run_ids: Collection[str]) -> Iterator[tuple[str, list[Row]]]:
        of_run: dict[str, list[StateEvent]] = {}
        for event in self._told(run_ids, self._kept()):
            of_run.setdefault(event.run_id, []).append(event)
        start = self._reader.start
        histories = {run_id: _states(run_id, events) for run_id, events in of_run.items()}
        flow_runs = {event.run_id: event.flow_run_id for events in of_run.values() for event in events}
        # their task runs were deleted with them, and need not have been lost
        deleted = self._flow_runs.missing(id_ for id_ in flow_runs.values() if id_)
        for run_id, states in histories.items():
            wanted = states and (start is None or parse(states[0]["timestamp"]) >= start)
            if wanted and flow_runs[run_id] not in deleted:
                yield run_id, states


def _states(run_id: str, events: list[StateEvent]) -> list[Row]:
    """What the events tell; no number is made up where the first of the states is not among them."""
    events = sorted(events, key=lambda event: event.occurred)
    chain = Chains(events, {}).find(run_id, events[-1].state_id, None, False)
    return chain.states if chain else [event.state for event in events if event.state is not None]
