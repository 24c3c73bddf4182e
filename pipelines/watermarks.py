"""Up to when runs were read, as the states of pipelines tell it: this one's, or one's that loads the same runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_runs.clock import as_utc
from prefect_runs.progress import STATE_KEY, first_load_unfinished
from prefect_runs.settings import RUN_TABLES

# dlt names a schema after its source
SCHEMA = "prefect_runs"

LACKS_WATERMARK = (
    "the runs of this workspace were loaded by another pipeline (one of Airflow or Dagster), or when the DuckDB file "
    "had another path or the destination another name, and the watermark belongs to that: "
)


@dataclass(frozen=True)
class Reached:
    """How far a pipeline came, by its `state`; `own` says that it is the one that the commands load with."""

    state: Mapping[str, Any]
    own: bool = True

    @property
    def resources(self) -> Mapping[str, Any]:
        """Resource → what dlt and the source remember of it."""
        found: Mapping[str, Any] = source_state(self.state).get("resources", {})
        return found

    @property
    def watermarks(self) -> dict[str, datetime]:
        """Resource → up to when its changes were read."""
        found: dict[str, datetime] = {}
        for name, state in sorted(self.resources.items()):
            progress = state.get(STATE_KEY, {})
            value = state.get("incremental", {}).get("updated", {}).get("last_value")
            value = value or progress.get("watermark") or progress.get("until")
            if value:
                found[name] = as_utc(value)
        return found

    @property
    def has_read_runs(self) -> bool:
        """Whether it has a watermark of any kind of run."""
        return not self.watermarks.keys().isdisjoint(RUN_TABLES)

    def first_load_unfinished(self, resources: Sequence[str]) -> bool:
        """Whether a first load of one of these stopped after a chunk."""
        return first_load_unfinished(dict(self.state), resources)

    def scopes(self) -> set[str]:
        """Which runs were asked for, as `prefect_runs.filters.scope` tells them apart."""
        told = (self.resources.get(table, {}).get(STATE_KEY, {}).get("scope") for table in RUN_TABLES)
        return {scope for scope in told if scope}


def furthest(own: Mapping[str, Any], others: Iterable[Mapping[str, Any]], scope: str) -> Reached:
    """The pipeline that read the runs of `scope` last: the one with the state `own`, or one of `others`."""
    alike = [other for state in others if scope in (other := Reached(state, own=False)).scopes()]
    return max((Reached(own), *alike), key=_newest)


def _newest(reached: Reached) -> float:
    times = (time for table, time in reached.watermarks.items() if table in RUN_TABLES)
    return max((time.timestamp() for time in times), default=0)


def source_state(pipeline_state: Any) -> dict[str, Any]:
    """What a pipeline's state holds of the source: its `resources`, and what concerns them all."""
    found: dict[str, Any] = pipeline_state.get("sources", {}).get(SCHEMA, {})
    return found
