"""`prefect-runs report`: one HTML page about the runs, that opens offline."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect_runs import ConfigurationError

from ..answers import Answers
from ..destination.failures import explained
from ..destination.in_place import check_place, in_place_of
from ..options import SyncOptions
from ..target import asked_only
from .figures import Findings, find

LONGEST_DAYS = 3_650


def write_report(options: SyncOptions, file: Path, days: int, now: datetime) -> Findings:
    """Write the page into `file`; returns what it shows.

    Args:
        days: how far it looks back from `now`.

    Raises:
        ConfigurationError: nothing was loaded yet, or the plotting library is not installed.
        PrefectRunsError: the destination cannot be asked.
    """
    check_place(file)
    if not 1 <= days <= LONGEST_DAYS:
        raise ConfigurationError(f"--days is {days}; 1 to {LONGEST_DAYS} can be shown")
    try:
        from .page import page
    except ImportError as error:
        raise ConfigurationError(f"{error}: pip install 'dlt-source-prefect[report]'") from None
    options.check_file()
    with explained(), asked_only(options) as target:
        target.require_runs()
        target.require_workspace()
        found = find(Answers(target), target.workspace, now, days)
    with in_place_of(file) as beside:
        beside.write_text(page(found), encoding="utf-8")
    return found
