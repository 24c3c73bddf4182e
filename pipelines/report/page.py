"""The report as one HTML page: nothing in it is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from prefect_runs.clock import as_utc

from .charts import (
    ENDED,
    days_chart,
    episodes_chart,
    inside_chart,
    lanes_chart,
    percentiles_chart,
    seconds_text,
)
from .figures import DEPLOYMENTS_SHOWN, Findings

NOTHING = "-"
STYLE = Path(__file__).with_name("page.css")


def page(found: Findings) -> str:
    """The page."""
    title = f"Prefect runs of {escape(found.workspace)}"
    parts = [
        f"<header><h1>{title}</h1><p>{_when(found.since)} to {_when(found.now)}, times in UTC</p></header>",
        _words(found),
        _section("Runs by day", "Flow runs by the day they were due, and how they ended.", _days(found)),
        _section("How long runs take", "Seconds in RUNNING of the flows with most runs.", _flows(found, "duration")),
        _section("How late runs start", "From when a run was due to its start.", _flows(found, "delay")),
        _section("The latest runs", "From start to end, one lane a flow.", _lanes(found)),
        _section("Inside the latest runs", "Their task runs, and the states that each went through.", _inside(found)),
        _section("Failures", "From the first failure to the next success, by deployment or flow.", _episodes(found)),
        _section("Deployments by health", "", _deployments(found)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>\n{STYLE.read_text()}</style>\n'
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _words(found: Findings) -> str:
    ended = sum(int(day["runs"]) for day in found.days if day["outcome"] in ENDED)
    completed = sum(int(day["runs"]) for day in found.days if day["outcome"] == "completed")
    synced, verified = found.last_sync, found.last_verify
    cards = [
        (f"{found.runs:,}", "flow runs"),
        (f"{100 * completed / ended:.1f} %" if ended else NOTHING, "completed of those that ended"),
        (seconds_text(found.recovery["seconds_to_recover"]), "mean time to recover"),
        (f"{int(found.recovery['broken_now'] or 0):,}", "broken now"),
        (
            _when(synced["window_end"]) if synced else NOTHING,
            "loaded up to" + _but(synced and synced["whole"], "with gaps"),
        ),
        (
            _when(verified["verified_at"]) if verified else "never",
            "last compared with the server" + _but(verified and verified["whole"], "and found to differ"),
        ),
    ]
    shown = "".join(f"<li><strong>{value}</strong><span>{meaning}</span></li>" for value, meaning in cards)
    return f'<ul class="cards">{shown}</ul>'


def _but(good: object, otherwise: str) -> str:
    return f", {otherwise}" if good is not None and not good else ""


def _days(found: Findings) -> str:
    return days_chart(found) if found.days else _nothing("No flow run was due in these days.")


def _flows(found: Findings, what: str) -> str:
    if not any(flow[f"{what}_p50"] is not None for flow in found.flows):
        return _nothing("No flow run tells that yet.")
    return percentiles_chart(found.flows, what, "seconds in RUNNING" if what == "duration" else "late by")


def _lanes(found: Findings) -> str:
    return lanes_chart(found) if found.lanes else _nothing("No flow run started in these days.")


def _inside(found: Findings) -> str:
    if not found.inside:
        return _nothing("None of them called a task.")
    charts = []
    for number, run in enumerate(found.inside):
        left_out = f", {run['tasks_left_out']} task runs left out" if run["tasks_left_out"] else ""
        charts.append(f"<h3>{escape(str(run['flow_name']))}{left_out}</h3>{inside_chart(run, number, found.now)}")
    return "".join(charts)


def _episodes(found: Findings) -> str:
    if not found.episodes:
        return _nothing("Nothing failed.")
    rows = [
        (
            row["group_name"] or row["group_id"],
            _when(row["broken_at"]),
            _when(row["recovered_at"]) if row["recovered_at"] else "gone" if row["gone_at"] else "still broken",
            seconds_text(row["seconds_to_recover"]),
            row["failures"],
        )
        for row in found.episodes[:20]
    ]
    return episodes_chart(found) + _table(("what", "broken at", "recovered at", "after", "failures"), rows)


def _deployments(found: Findings) -> str:
    if not found.deployments:
        return _nothing("There are no deployments.")
    rows = [
        (
            row["name"],
            row["flow_name"] or "",
            f'<span class="health {row["health"]}">{row["health"]}</span>',
            row["failures_in_a_row"],
            _when(row["last_success_at"]) if row["last_success_at"] else "never",
            row["missed_runs"],
            _percent(row["success_percent_7d"]),
            _percent(row["success_percent_28d"]),
            seconds_text(row["duration_p50_7d"]),
        )
        for row in found.deployments[:DEPLOYMENTS_SHOWN]
    ]
    header = (
        *("deployment", "flow", "health", "failures in a row", "last success"),
        *("missed runs", "success, 7 days", "success, 4 weeks before", "median run"),
    )
    left_out = len(found.deployments) - len(rows)
    more = f"<p>{left_out} more are left out.</p>" if left_out else ""
    return _table(header, rows, html_in=2) + more


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], html_in: int | None = None) -> str:
    """A table; cells are text, but for those of the column `html_in`."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = "".join(
        "<tr>"
        + "".join(f"<td>{value if column == html_in else escape(str(value))}</td>" for column, value in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scrolls"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{float(value):.1f} %"


def _when(time: datetime) -> str:
    return f"{as_utc(time):%Y-%m-%d %H:%M}"


def _section(title: str, says: str, content: str) -> str:
    explained = f"<p>{says}</p>" if says else ""
    return f"<section><h2>{title}</h2>{explained}{content}</section>"


def _nothing(says: str) -> str:
    return f'<p class="nothing">{says}</p>'
