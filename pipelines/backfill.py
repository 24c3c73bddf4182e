"""`prefect-runs backfill`: reads the runs of a span of time again, in chunks, and leaves the watermark alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from dlt.common.runtime.collector_base import Collector

from prefect_runs import ConfigurationError, Selection
from prefect_runs.clock import as_utc, text
from prefect_runs.settings import RUN_TABLES, STATE_TABLES
from prefect_runs.windows import Window

from .destination.failures import explained, patiently
from .options import SyncOptions
from .reload import reload, unfinished_backfill
from .sync import check_resources
from .target import Target

BACKFILLED = (*RUN_TABLES, *STATE_TABLES)


@dataclass(frozen=True)
class BackfillOptions:
    """Runs expected to start in `[start, end)`; `end` is now unless given, or that of the backfill that goes on."""

    start: datetime
    end: datetime | None = None
    newest_first: bool = False


@dataclass
class BackfillReport:
    """What one backfill did. Times are expected starts."""

    workspace: str
    destination: str
    dataset: str
    start: datetime
    end: datetime
    continued: bool
    requests: int = 0
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether everything in the span was read."""
        return not self.gaps

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps({**asdict(self), "whole": self.whole}, default=str)


def backfill(options: SyncOptions, how: BackfillOptions, progress: Collector | None = None) -> BackfillReport:
    """Backfill; called again with the same start and order after it was killed, it goes on where it stopped.

    Raises:
        PrefectRunsError: see `prefect_runs.exceptions`; what was loaded before stays.
    """
    started = time.monotonic()
    resources = _resources(options.resources)
    with explained(), Target(options, progress) as target:
        target.restore()
        asked = unfinished_backfill(target, resources)
        goes_on = asked is not None and _is_same(asked, how)
        end = as_utc(asked[1]) if asked and goes_on else how.end or datetime.now(UTC)
        window = Window(how.start, end)
        if window.empty:
            raise ConfigurationError(f"there is no time between --start {how.start} and --end {end}")
        report = BackfillReport(target.workspace, options.where, options.dataset, how.start, end, continued=goes_on)
        before = patiently(target.warehouse.counts)
        selection = Selection(window=window, newest_first=how.newest_first)
        for row in reload(target, dict.fromkeys(RUN_TABLES, selection), resources):
            report.requests += row["requests"]
            report.gaps += [gap for gap in row["gaps"] if gap not in report.gaps]
        report.rows = {name: count for name, count in patiently(target.warehouse.counts).items() if name in resources}
        report.new = {name: count - before.get(name, 0) for name, count in report.rows.items()}
        report.seconds = round(time.monotonic() - started, 2)
        return report


def _resources(asked: Sequence[str]) -> Sequence[str]:
    check_resources(asked)
    others = set(asked) - set(BACKFILLED)
    if others:
        raise ConfigurationError(f"{', '.join(sorted(others))} cannot be backfilled; there are {', '.join(BACKFILLED)}")
    return asked or BACKFILLED


def _is_same(asked: list[Any], how: BackfillOptions) -> bool:
    """Whether an unfinished backfill has this start and order, and this end if one is given."""
    start, end, newest_first = asked
    return start == text(how.start) and newest_first == how.newest_first and how.end in (None, as_utc(end))
