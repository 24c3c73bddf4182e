"""`prefect-runs report`: one HTML page about the runs, that opens offline."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prefect_runs import ConfigurationError

from ..answers import Answers
from ..failures import explained, patiently
from ..options import SyncOptions
from ..target import Target
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
    if not file.parent.is_dir() or file.is_dir():
        raise ConfigurationError(f"{file} cannot be written: there is no such folder, or it is one")
    if not 1 <= days <= LONGEST_DAYS:
        raise ConfigurationError(f"--days is {days}; 1 to {LONGEST_DAYS} can be shown")
    try:
        from .page import page
    except ImportError as error:
        raise ConfigurationError(f"{error}: pip install 'dlt-source-prefect[report]'") from None
    # in a working folder of its own, so that it need not wait for a sync
    with (
        explained(),
        tempfile.TemporaryDirectory(prefix="prefect-runs-report-") as folder,
        Target(replace(options, pipelines_dir=folder)) as target,
    ):
        patiently(target.pipeline.sync_destination)
        if not target.warehouse.has("flow_runs"):
            raise ConfigurationError(f"there are no runs in {options.where} yet: run prefect-runs sync first")
        found = find(Answers(target), target.workspace, now, days)
    # a page that is read while it is written anew is the old one or the new one
    beside = file.with_name(file.name + ".part")
    beside.write_text(page(found), encoding="utf-8")
    beside.replace(file)
    return found
