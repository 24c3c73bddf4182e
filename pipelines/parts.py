"""A sync in parts that a scheduler shows and tries again one by one, and their reports as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefect_runs import RESOURCES
from prefect_runs.settings import STATES_OF

from .sync import SyncReport, check_resources, each_once

OTHERS = "other tables"


def parts(resources: Sequence[str] = (), extras: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The parts of a sync by name, each with its resources; parts without any are left out.

    Nothing is lost between parts, for every resource has a watermark of its own. Runs and their states are one part,
    for they are found by the same reads, which two parts would make twice.

    Args:
        resources: those that are wanted; all that are read by default where they are not named.
        extras: those that are wanted too.

    Raises:
        ConfigurationError: there is no such resource.
    """
    check_resources((*resources, *extras))
    wanted = dict.fromkeys((*(resources or RESOURCES), *extras))
    runs = {table.replace("_", " "): (table, states) for table, states in STATES_OF.items()}
    found = {part: tuple(name for name in names if name in wanted) for part, names in runs.items()}
    found[OTHERS] = tuple(name for name in wanted if not any(name in names for names in runs.values()))
    return {part: names for part, names in found.items() if names}


def one_report(reports: Sequence[SyncReport]) -> SyncReport:
    """What the parts of one sync did, as if it had been one; `reports` in the order in which they were made."""
    first, last = reports[0], reports[-1]
    # the small tables are always read whole, and have none
    starts = [report.window_start for report in reports if report.window_start]
    return replace(
        last,
        first_load=not starts,
        window_start=min(starts, default=None),
        window_end=first.window_end,
        requests=sum(report.requests for report in reports),
        seconds=round(sum(report.seconds for report in reports), 2),
        new={table: sum(report.new.get(table, 0) for report in reports) for table in last.rows},
        changed={table: sum(report.changed.get(table, 0) for report in reports) for table in last.rows},
        whole=all(report.whole for report in reports),
        gaps=each_once(report.gaps for report in reports),
        warnings=each_once(report.warnings for report in reports),
    )
