"""What a person reads at the end of a command. Pure: text from reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from .sync import SyncReport

# wide enough for an error message's beginning
CELL_WIDTH = 72

# tables of which every sync loads all rows again, so that "changed" would say nothing
READ_WHOLE = ("flows", "deployments", "work_pools", "work_queues", "flow_run_history", "task_run_history")


def text_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as plain text under their column names: numbers to the right, all else to the left."""
    rows = list(rows)
    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(widths))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(_aligned, line, widths, numeric)).rstrip() for line in lines)


def _aligned(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def cell(value: Any) -> str:
    """A value as one short line: times in UTC to the second, nothing for null."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"


def sync_screen(report: SyncReport) -> str:
    """The screen after a sync."""
    rows = [
        (name, rows, max(report.new[name], 0), "read whole" if name in READ_WHOLE else report.changed[name])
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
