"""What a person reads at the end of a command. Pure: text from reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from .sync import SyncReport

# tables of which every sync loads all rows again, so that "changed" would say nothing
READ_WHOLE = ("flows", "deployments", "work_pools", "work_queues", "flow_run_history", "task_run_history")


def text_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns in plain text: numbers to the right, everything else to the left."""
    lines = [[cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *lines]) for i in range(len(header))]
    numeric = [all(line[i].replace(",", "").isdigit() or line[i] == "" for line in lines) for i in range(len(header))]

    def joined(line: Sequence[str]) -> str:
        cells = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(line, widths, numeric, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "\n".join([joined(header), joined(["-" * width for width in widths]), *map(joined, lines)])


def cell(value: Any) -> str:
    """One value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return " ".join(str(value).split())


def sync_screen(report: SyncReport) -> str:
    """The screen after a sync."""
    rows = [
        (name, rows, report.new.get(name, 0), "read whole" if name in READ_WHOLE else report.changed.get(name, 0))
        for name, rows in report.rows.items()
        if name != "syncs"
    ]
    since = f"changes since {cell(report.window_start)}" if report.window_start else "first load"
    server = f"Prefect {report.server_version}" if report.server_version else "Prefect Cloud"
    lines = [
        f"{report.workspace} ({server}) → {report.destination}, dataset {report.dataset}",
        f"{since} up to {cell(report.window_end)} UTC, {report.requests:,} requests, {report.seconds:.1f} s",
        "",
        text_table(("table", "rows", "new", "changed"), rows),
        "",
        "whole: nothing is known to be missing" if report.whole else "not whole:",
        *(f"  - {gap}" for gap in report.gaps),
    ]
    return "\n".join(lines).rstrip()
