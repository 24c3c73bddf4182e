"""How far a resource came: what its pipeline state remembers besides the watermark, and the plan made from it.

The pipeline state is saved with the rows it describes, so a killed sync goes on where the last load stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from .clock import parse, text
from .windows import Window

State = dict[str, Any]
"""Keys: `scope`, `snapshot` {ceiling, position, end} while the first load is unfinished, `backfill` while one is,
`behind` while a late sync is, `events`, `events_since` while the server refuses them, `torn`, `old`; for state history
also `watermark` and `again`."""

# where a resource's pipeline state keeps it; dlt keeps the watermark of the runs beside it
STATE_KEY = "progress"
# the keys of what stopped after a chunk
GOES_ON = frozenset({"snapshot", "behind"})


class Cursor(Protocol):
    """The watermark of one resource; `dlt.sources.incremental` is one."""

    @property
    def start_value(self) -> datetime | None:
        """The watermark at the sync's start; None before the first load."""

    def advance(self, last_value: datetime) -> object:
        """Move the watermark to `last_value`, when what came before it was read in full."""


@dataclass(frozen=True)
class Plan:
    """What one resource reads in one sync.

    A first load reads `window` (its rest) of expected start times; `since` is then None. A later sync reads what
    changed at `since` or after. `ceiling` becomes the watermark, unless a selection is read. `rest` is what a sync
    that comes late leaves to its next load: from the ceiling to the server's time.
    """

    ceiling: datetime
    start_value: datetime | None = None
    since: datetime | None = None
    window: Window | None = None
    selected: bool = False
    rest: Window | None = None

    @property
    def now(self) -> datetime:
        """The server's time, as far as this plan goes by it."""
        return self.rest.end if self.rest else self.ceiling


class StateCursor:
    """A watermark kept in a resource's state, for resources whose own rows have no `updated`."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def start_value(self) -> datetime | None:
        """The watermark at the sync's start."""
        value = self._state.get("watermark")
        return parse(value) if value else None

    def advance(self, last_value: datetime) -> None:
        """Move the watermark."""
        self._state["watermark"] = text(last_value)


def snapshot_state(ceiling: datetime, rest: Window) -> State:
    """What is remembered of an unfinished first load."""
    return {"ceiling": text(ceiling), "position": text(rest.start), "end": text(rest.end)}


def snapshot_plan(state: State) -> Plan:
    """The plan that goes on with an unfinished first load."""
    return Plan(parse(state["ceiling"]), window=Window(parse(state["position"]), parse(state["end"])))


def unfinished(pipeline_state: State, resources: Collection[str] | None = None) -> bool:
    """Whether a first load, or a sync that came late, stopped after a chunk: run the pipeline again.

    Args:
        resources: those that the next run reads; all where they are not named.
    """
    return any(
        progress.keys() & GOES_ON
        for name, progress in progresses(pipeline_state)
        if resources is None or name in resources
    )


def first_load_unfinished(pipeline_state: State, resources: Collection[str]) -> bool:
    """Whether a first load of one of these stopped after a chunk."""
    return any("snapshot" in progress for name, progress in progresses(pipeline_state) if name in resources)


def progresses(pipeline_state: State) -> Iterator[tuple[str, State]]:
    """Each resource with how far it came; what is changed there is changed in the pipeline's state."""
    for source in pipeline_state.get("sources", {}).values():
        for name, resource in source.get("resources", {}).items():
            if STATE_KEY in resource:
                yield name, resource[STATE_KEY]
