"""The report's charts, drawn with plotly. Colours of text, lines and paper come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.io import to_html

from prefect_runs.clock import as_utc

from .figures import Answer, Findings

PERCENT = "completed, % of ended"
# of states and outcomes; readable on white and on black, and told apart without red and green
COLOURS = {
    "completed": "#2a9d6f",
    "failed": "#d1495b",
    "timed out": "#b5179e",
    "crashed": "#f08a24",
    "cancelled": "#8d99ae",
    "cancelling": "#8d99ae",
    "running": "#2f7ed8",
    "pending": "#7b6fd0",
    "scheduled": "#a9b4c2",
    "paused": "#c9a227",
    PERCENT: "#1b98b5",
}
OTHER = "#6c757d"
ENDED = ("completed", "failed", "timed out", "crashed", "cancelled")
DAY_MILLISECONDS = 86_400_000
HOUR = 3600
TICKS = (
    0.01,
    0.1,
    1,
    3,
    10,
    30,
    60,
    180,
    600,
    1800,
    HOUR,
    3 * HOUR,
    12 * HOUR,
    24 * HOUR,
    72 * HOUR,
    168 * HOUR,
    672 * HOUR,
)
LABEL_WIDTH = 26
NARROW = {"l": 8, "r": 8, "t": 8, "b": 8}


def days_chart(found: Findings) -> str:
    """Runs a day by outcome, and how many of those that ended completed."""
    outcomes = [name for name in COLOURS if any(day["outcome"] == name for day in found.days)]
    outcomes += sorted({day["outcome"] for day in found.days} - set(COLOURS))
    figure = go.Figure()
    for outcome in outcomes:
        rows = [day for day in found.days if day["outcome"] == outcome]
        figure.add_bar(
            x=[_day(row["day"]) for row in rows],
            y=[int(row["runs"]) for row in rows],
            name=escape(outcome),
            marker_color=COLOURS.get(outcome, OTHER),
            # else the bar of a single day is a line
            width=0.75 * DAY_MILLISECONDS,
        )
    ended, completed = _per_day(found.days, ENDED), _per_day(found.days, ("completed",))
    figure.add_scatter(
        x=list(map(_day, ended)),
        y=[100 * completed.get(day, 0) / ended[day] for day in ended],
        name=PERCENT,
        yaxis="y2",
        mode="lines+markers",
        line={"color": COLOURS[PERCENT]},
    )
    figure.update_layout(
        barmode="stack",
        yaxis={"title": "runs", "rangemode": "tozero"},
        yaxis2={"overlaying": "y", "side": "right", "range": [0, 105], "tickvals": [0, 50, 100], "showgrid": False},
        showlegend=False,
    )
    begin, end = found.since - timedelta(hours=12), found.now.replace(hour=12, minute=0)
    figure.update_xaxes(tickformat="%d %b", range=[_day(begin), _day(end)])
    return _legend([*outcomes, PERCENT]) + _drawn(figure, "days", 300)


def percentiles_chart(flows: Sequence[Answer], what: str, title: str) -> str:
    """Percentiles of `duration` or `delay` by flow, from the median to 99 %, on a logarithmic axis."""
    rows = [flow for flow in flows if flow[f"{what}_p50"] is not None][::-1]
    labels = Labels()
    names = [labels.of(row["flow_name"], row["flow_name"]) for row in rows]
    figure = go.Figure()
    for row, name in zip(rows, names, strict=True):
        ends = [_positive(row[f"{what}_p50"]), _positive(row[f"{what}_p99"])]
        figure.add_scatter(
            x=ends, y=[name, name], mode="lines", line={"color": OTHER}, showlegend=False, hoverinfo="skip"
        )
    for percent, colour in ((50, "#2f7ed8"), (90, "#7b6fd0"), (95, "#f08a24"), (99, "#d1495b")):
        values = [float(row[f"{what}_p{percent}"]) for row in rows]
        figure.add_scatter(
            x=list(map(_positive, values)),
            y=names,
            mode="markers",
            name=f"p{percent}",
            marker={"color": colour, "size": 9},
            text=list(map(seconds_text, values)),
            hovertemplate="%{y}<br>%{text}",
        )
    figure.update_xaxes(type="log", title=title, tickvals=TICKS, ticktext=[seconds_text(tick) for tick in TICKS])
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return _drawn(figure, what, 130 + 26 * len(rows))


def lanes_chart(found: Findings) -> str:
    """The latest runs on a common axis of time, one lane a flow, from start to end."""
    figure, labels = go.Figure(), Labels()
    shown: set[str] = set()
    for run in found.lanes[::-1]:
        outcome = _outcome(run)
        start = as_utc(run["start_time"])
        end = as_utc(run["end_time"]) if run["end_time"] else found.now
        figure.add_bar(
            x=[max((end - start).total_seconds(), 0.001) * 1000],
            base=[_moment(start)],
            y=[labels.of(run["flow_name"], run["flow_name"])],
            orientation="h",
            name=escape(outcome),
            marker={"color": COLOURS.get(outcome, OTHER), "line": {"width": 1, "color": COLOURS.get(outcome, OTHER)}},
            hovertext=f"{escape(str(run['name']))}<br>{escape(str(run['state_name']))}<br>{_moment(start)} UTC, "
            f"{seconds_text((end - start).total_seconds())}",
            hoverinfo="text",
        )
        shown.add(outcome)
    lanes = len({run["flow_name"] for run in found.lanes})
    figure.update_layout(barmode="overlay", showlegend=False)
    figure.update_xaxes(type="date")
    return _legend(shown) + _drawn(figure, "lanes", 90 + 30 * lanes)


def inside_chart(run: Answer, number: int, now: datetime) -> str:
    """A run and its task runs, each state from when it was entered, in seconds since the run's start."""
    rows = [run, *run["tasks"]]
    different = Labels()
    labels = [f"<b>{different.of(run['id'], run['name'])}</b>"]
    labels += [different.of(task["id"], task["name"]) for task in run["tasks"]]
    start = as_utc(run["start_time"])
    figure = go.Figure()
    shown: set[str] = set()
    for row, label in zip(rows, labels, strict=True):
        for type_, name, begin, end in _segments(row, now):
            figure.add_bar(
                x=[max((end - begin).total_seconds(), 0.0005)],
                base=[(begin - start).total_seconds()],
                y=[label],
                orientation="h",
                name=type_,
                marker_color=COLOURS.get(type_, OTHER),
                hovertext=f"{escape(name)} for {seconds_text((end - begin).total_seconds())}",
                hoverinfo="text",
            )
            shown.add(type_)
        if row["end_time"] and row["states"]:
            figure.add_scatter(
                x=[(as_utc(row["states"][-1]["timestamp"]) - start).total_seconds()],
                y=[label],
                mode="markers",
                marker={"color": COLOURS.get(_outcome(row), OTHER), "symbol": "diamond", "size": 9},
                hovertext=escape(str(row["state_name"])),
                hoverinfo="text",
            )
    figure.update_layout(barmode="overlay", showlegend=False)
    figure.update_xaxes(title="seconds since the start")
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1])
    return _legend(shown) + _drawn(figure, f"inside-{number}", 100 + 24 * len(rows))


def episodes_chart(found: Findings) -> str:
    """Times in which a deployment or a flow was broken."""
    figure, labels = go.Figure(), Labels()
    for episode in found.episodes[::-1]:
        begin = as_utc(episode["broken_at"])
        end = as_utc(episode["recovered_at"] or episode["gone_at"] or found.now)
        figure.add_bar(
            x=[max((end - begin).total_seconds(), 1) * 1000],
            base=[_moment(begin)],
            y=[labels.of(episode["group_id"], episode["group_name"] or episode["group_id"])],
            orientation="h",
            marker={
                "color": COLOURS["failed" if episode["recovered_at"] else "crashed"],
                "line": {"width": 1, "color": COLOURS["failed"]},
            },
            hovertext=f"{episode['failures']} failures, {seconds_text((end - begin).total_seconds())}"
            + ("" if episode["recovered_at"] else ", then gone" if episode["gone_at"] else ", still broken"),
            hoverinfo="text",
        )
    lanes = len({episode["group_id"] for episode in found.episodes})
    figure.update_layout(barmode="overlay", showlegend=False)
    figure.update_xaxes(type="date")
    return _drawn(figure, "episodes", 90 + 30 * lanes)


def seconds_text(seconds: float | None) -> str:
    """A length of time as a person says it."""
    if seconds is None:
        return "-"
    seconds = float(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _per_day(days: Sequence[Answer], outcomes: Collection[str]) -> dict[datetime, int]:
    found: dict[datetime, int] = {}
    for day in days:
        if day["outcome"] in outcomes:
            found[day["day"]] = found.get(day["day"], 0) + int(day["runs"])
    return found


def _legend(names: Iterable[str]) -> str:
    """What the colours mean; plotly's own legend takes half of a narrow screen."""
    ordered = sorted(names, key=lambda name: [*COLOURS, name].index(name))
    items = "".join(
        f'<li><span style="background: {COLOURS.get(name, OTHER)}"></span>{escape(name)}</li>' for name in ordered
    )
    return f'<ul class="legend">{items}</ul>'


def _segments(row: Answer, now: datetime) -> list[tuple[str, str, datetime, datetime]]:
    """The states that a run was in for a while: type, name, from, to. The last one lasts while it is in flight."""
    entered = [
        (state["type"].lower(), state["name"] or state["type"], as_utc(state["timestamp"])) for state in row["states"]
    ]
    ends = [time for _, _, time in entered[1:]]
    if entered:
        ends.append(entered[-1][2] if row["end_time"] else now)
    segments = zip(entered, ends, strict=True)
    return [(type_, name, begin, end) for (type_, name, begin), end in segments if type_ != "scheduled" and end > begin]


def _outcome(run: Answer) -> str:
    return "timed out" if run["state_name"] == "TimedOut" else str(run["state_type"] or "no state").lower()


def _positive(seconds: float) -> float:
    # a logarithmic axis has no zero
    return max(float(seconds), 0.01)


class Labels:
    """Names that fit beside a chart. Two things keep two lanes though their names begin alike, or are the same."""

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}

    def of(self, id_: str, name: object) -> str:
        """The label of a thing."""
        if id_ not in self._by_id:
            text = str(name)
            short = escape(text if len(text) <= LABEL_WIDTH else text[: LABEL_WIDTH - 1] + "…")
            # nothing shows of what tells them apart
            self._by_id[id_] = short + "\u200b" * len(self._by_id)
        return self._by_id[id_]


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"


def _day(day: datetime) -> str:
    return f"{day:%Y-%m-%d %H:%M}"


def _drawn(figure: Any, name: str, height: int) -> str:
    figure.update_layout(
        template="none",
        height=height,
        margin=NARROW,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        bargap=0.25,
        dragmode=False,
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    figure.update_xaxes(automargin=True, fixedrange=True)
    figure.update_yaxes(automargin=True, fixedrange=True)
    drawn: str = to_html(
        figure,
        full_html=False,
        include_plotlyjs=False,
        div_id=f"chart-{name}",
        default_width="100%",
        default_height=f"{height}px",
        config={"responsive": True, "displayModeBar": False},
    )
    return drawn
