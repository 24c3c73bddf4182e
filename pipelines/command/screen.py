"""What a person reads at the end of a command. Pure: text from reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from prefect_runs.drift import Drift
from prefect_runs.server import WHOLE
from prefect_runs.tables import FLOW_RUN_HISTORY, TASK_RUN_HISTORY

from ..backfill import BackfillReport
from ..status import Status
from ..sync import SyncReport
from ..verify import Pass, VerifyReport
from .outcomes import Outcome

# wide enough for an error message's beginning
CELL_WIDTH = 72

# lines of a verification that a person reads
DRIFTS_SHOWN = 30
DRIFT_COLUMNS = ("table", "expected from (UTC)", "what", "run", "on the server", "in the warehouse", "columns")

# of these a sync loads rows again that did not change, so that counting them as changed would say nothing
INSTEAD_OF_CHANGED = {
    **dict.fromkeys(WHOLE, "read whole"),
    **dict.fromkeys((FLOW_RUN_HISTORY.name, TASK_RUN_HISTORY.name), "last hours"),
}


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
        (name, rows, max(report.new[name], 0), INSTEAD_OF_CHANGED.get(name, report.changed[name]))
        for name, rows in report.rows.items()
        if name not in ("syncs", "verifications")
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
        *(f"warning: {warning}" for warning in report.warnings),
    ]
    return "\n".join(lines).rstrip()


def outcomes_screen(outcomes: Sequence[Outcome]) -> str:
    """The last lines after several workspaces: what became of each."""
    rows = [(outcome.workspace, outcome.exit_code, outcome.words) for outcome in outcomes]
    return text_table(("workspace", "exit code", "outcome"), rows)


def backfill_screen(report: BackfillReport) -> str:
    """The screen after a backfill."""
    goes_on = "went on with runs" if report.continued else "runs"
    lines = [
        f"{report.workspace} → {report.destination}, dataset {report.dataset}",
        f"{goes_on} expected from {cell(report.start)} to {cell(report.end)} UTC, "
        f"{report.requests:,} requests, {report.seconds:.1f} s",
        "",
        text_table(("table", "rows", "new"), [(name, rows, report.new[name]) for name, rows in report.rows.items()]),
        *(f"  - {gap}" for gap in report.gaps),
    ]
    return "\n".join(lines).rstrip()


def status_screen(shown: Status) -> str:
    """The screen of `status`."""
    if not any(shown.rows.values()):
        of_others = f", but of {', '.join(shown.workspaces)} (--workspace)" if shown.workspaces else ""
        return f"{shown.destination} holds nothing of {shown.workspace} yet{of_others}; run prefect-runs sync"
    watermarks = [(name, time) for name, time in shown.watermarks.items()]
    lines = [
        f"{shown.workspace} → {shown.destination}, dataset {shown.dataset} (dlt pipeline {shown.pipeline})",
        f"newest state loaded: {cell(shown.newest_state) or 'none'} UTC",
        f"proven whole up to: {cell(shown.whole_up_to)} UTC" if shown.whole_up_to else "never proven whole by verify",
        *(["the first load is unfinished; run prefect-runs sync to go on"] if shown.first_load_unfinished else []),
        *(f"warning: {warning}" for warning in shown.warnings),
        "",
        text_table(("table", "rows"), shown.rows.items()),
        "",
        text_table(("resource", "watermark (UTC)"), watermarks),
        "",
        "last sync" if len(shown.syncs) == 1 else f"last {len(shown.syncs)} syncs",
        text_table(
            ("up to (UTC)", "since", "requests", "rows loaded", "whole", "gaps"),
            [
                (
                    sync["window_end"],
                    cell(sync["window_start"]) or "first load",
                    sync["requests"],
                    sync["rows_changed"],
                    sync["whole"],
                    "; ".join(sync["gaps"]),
                )
                for sync in shown.syncs
            ],
        ),
    ]
    return "\n".join(lines)


def verify_screen(report: VerifyReport) -> str:
    """The screen after a verification: what differed, and what differs after a repair."""
    server = f"Prefect {report.server_version}" if report.server_version else "Prefect Cloud"
    lines = [
        f"{report.workspace} ({server}) ↔ {report.destination}, dataset {report.dataset}",
        f"{report.requests:,} requests, {report.seconds:.1f} s",
    ]
    for pass_ in report.passes:
        lines += ["", "after the repair:" if pass_.after_repair else "", *_pass_lines(pass_)]
    end = report.passes[-1].whole_up_to
    whole = f"whole up to {cell(end)} UTC" if end else "whole, as far as it was compared"
    lines += ["", whole if report.whole else "not whole; run prefect-runs verify --repair"]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def _pass_lines(pass_: Pass) -> list[str]:
    how = "every column" if pass_.swept and not pass_.after_repair else "counts"
    how += ", histories" if pass_.histories and not pass_.after_repair else ""
    tables = [
        (found.table, found.server_runs, found.warehouse_runs, f"{found.intervals:,} intervals, {how}")
        for found in pass_.tables
    ]
    lines = [text_table(("table", "on the server", "in the warehouse", "compared"), tables)]
    lines += ["", *(f"not compared: {gap}" for gap in pass_.gaps)] if pass_.gaps else []
    drifts = sorted(pass_.drifts, key=lambda drift: (not drift.matters, drift.table, drift.interval.start))
    if drifts:
        lines += ["", text_table(DRIFT_COLUMNS, [_drift_cells(drift) for drift in drifts[:DRIFTS_SHOWN]])]
    if len(drifts) > DRIFTS_SHOWN:
        lines.append(f"… and {len(drifts) - DRIFTS_SHOWN:,} more, all of them with --json")
    return lines


def _drift_cells(drift: Drift) -> tuple[Any, ...]:
    what = drift.what.replace("_", " ") + (", since the last sync" if drift.since_last_sync else "")
    run = drift.run_id or f"{drift.runs:,} runs"
    columns = ", ".join(drift.columns)
    return drift.table, cell(drift.interval.start), what, run, drift.on_server, drift.in_warehouse, columns
