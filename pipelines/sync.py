"""`prefect-runs sync`: loads what changed, in chunks while the first load lasts, and reports what it did."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from dlt.common.runtime.collector_base import Collector

from prefect_runs import EXTRAS, RESOURCES, Access, ConfigurationError, unfinished
from prefect_runs.change_capture import UNFINISHED
from prefect_runs.progress import first_load_unfinished
from prefect_runs.settings import RUN_TABLES, STATE_TABLES

from .destination.failures import explained, patiently
from .destination.memory import collect
from .destination.publish import check_publish, publish
from .options import SyncOptions
from .target import Target
from .watermarks import LACKS_WATERMARK, SCHEMA, source_state

# a first load that took longer than this is followed by a sync of what changed meanwhile
FRESH = timedelta(minutes=1)
RUNS_AND_STATES = frozenset((*RUN_TABLES, *STATE_TABLES))
# where the pipeline's state remembers, beside its resources, that everything is being read again
IN_FULL = "in_full"


@dataclass
class SyncReport:
    """What one sync did. Times are the server's."""

    workspace: str
    server_url: str
    server_version: str | None
    pipeline: str
    destination: str
    dataset: str
    first_load: bool
    window_start: datetime | None
    window_end: datetime
    requests: int
    seconds: float
    rows: dict[str, int]
    new: dict[str, int]
    changed: dict[str, int]
    whole: bool
    gaps: list[str]
    warnings: list[str]

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), default=str)


class Sync:
    """One sync of one target."""

    def __init__(self, options: SyncOptions, progress: Collector | None = None) -> None:
        check_resources((*options.resources, *options.extras))
        check_publish(options)
        self.options = options
        self.target = Target(options, progress)
        self._notes: list[str] = []

    def run(self) -> SyncReport:
        """Load everything that changed.

        Raises:
            PrefectRunsError: see `prefect_runs.exceptions`; what was loaded before stays, and the next sync goes on.
        """
        started = time.monotonic()
        self.target.restore()
        if self._reads_runs and self.target.lacks_watermark:
            self._notes = [f"{LACKS_WATERMARK}everything is read again"]
        if self.options.full:
            self._forget()
        else:
            self._end_full()
        before = patiently(self.target.warehouse.counts)
        with self.target.access() as access:
            rows, loaded = self._load_all(access)
        report = self._report(before, rows, loaded, time.monotonic() - started)
        if self.options.publish:
            self.target.warehouse.opened.close()
            publish(Path(self.options.where), Path(self.options.publish))
        return report

    def _load_all(self, access: Access) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The rows of `syncs` of as many loads as it takes, and how many rows of each table they loaded."""
        rows: list[dict[str, Any]] = []
        loaded: Counter[str] = Counter()
        # what changed since the ceiling of a sync that was killed is not read by going on with its first load
        resumed = first_load_unfinished(dict(self.target.pipeline.state), self.options.read)
        reads_runs = self._reads_runs
        while True:
            load_id, counts = self.target.load(self._source(access))
            loaded.update(counts)
            row = self.target.sync_row(load_id)
            rows.append(row)
            goes_on = unfinished(dict(self.target.pipeline.state), self.options.read)
            # the last chunk of a first load is whole up to when its first chunk began; a kind of run with fewer chunks
            # is by then read up to later
            is_first_load = any(row["window_start"] is None for row in rows)
            is_stale = reads_runs and is_first_load and row["finished_at"] - row["window_end"] > FRESH
            if not goes_on and (resumed or is_stale):
                resumed, reads_runs, goes_on = False, False, True
            if not goes_on:
                return rows, loaded
            collect()

    @property
    def _reads_runs(self) -> bool:
        return not RUNS_AND_STATES.isdisjoint(self.options.read)

    def _source(self, access: Access) -> Any:
        # a full sync takes nothing for granted, or states missing from the warehouse would not come back
        source = self.target.source(access, trusting=not (self.options.full or self._goes_on_in_full))
        return source.with_resources(*self.options.read, "tombstones", "syncs")

    def _forget(self) -> None:
        """Start anew: every resource makes its first load again, merged into what is there."""
        with self.target.pipeline.managed_state() as state:
            own = state.setdefault("sources", {}).setdefault(SCHEMA, {})
            own[IN_FULL] = True
            for name in self.options.read:
                own.get("resources", {}).pop(name, None)

    @property
    def _goes_on_in_full(self) -> bool:
        """Whether an earlier full sync was cut off, which this one goes on with."""
        state = dict(self.target.pipeline.state)
        return IN_FULL in source_state(state) and first_load_unfinished(state, self.options.read)

    def _end_full(self) -> None:
        """Note that the last full sync came to its end; with the next load the destination knows."""
        with self.target.pipeline.managed_state() as state:
            if not first_load_unfinished(dict(state), RUNS_AND_STATES):
                source_state(state).pop(IN_FULL, None)

    def _report(
        self, before: dict[str, int], rows: list[dict[str, Any]], loaded: Counter[str], seconds: float
    ) -> SyncReport:
        after = patiently(self.target.warehouse.counts)
        # of all chunks, but that the load is unfinished is true of the last one only
        gaps = each_once([*([gap for gap in row["gaps"] if UNFINISHED not in gap] for row in rows), rows[-1]["gaps"]])
        new = {table: count - before.get(table, 0) for table, count in after.items()}
        return SyncReport(
            workspace=self.target.workspace,
            server_url=self.target.connection.url,
            server_version=rows[-1]["server_version"],
            pipeline=self.target.pipeline.pipeline_name,
            destination=self.options.where,
            dataset=self.options.dataset,
            first_load=rows[0]["window_start"] is None,
            window_start=rows[0]["window_start"],
            window_end=rows[-1]["window_end"],
            requests=sum(row["requests"] for row in rows),
            seconds=round(seconds, 2),
            rows=after,
            new=new,
            changed={table: max(loaded[table] - new[table], 0) for table in after},
            whole=not gaps,
            gaps=gaps,
            warnings=each_once([self._notes, *(row["warnings"] for row in rows), self.target.warnings]),
        )


def sync(options: SyncOptions, progress: Collector | None = None) -> SyncReport:
    """Sync once. Arguments and errors as in `Sync`."""
    with explained():
        syncing = Sync(options, progress)
        with syncing.target:
            return syncing.run()


def each_once(lists: Iterable[list[str]]) -> list[str]:
    """What is in any of the lists, in order."""
    return list(dict.fromkeys(chain.from_iterable(lists)))


def check_resources(names: Sequence[str]) -> None:
    """Refuse names of resources that do not exist."""
    unknown = set(names) - {*RESOURCES, *EXTRAS}
    if unknown:
        raise ConfigurationError(
            f"there is no resource {', '.join(sorted(unknown))}; there are {', '.join((*RESOURCES, *EXTRAS))}"
        )
