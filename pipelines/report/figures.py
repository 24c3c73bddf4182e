"""What the report shows, asked of the models. No layout, no plotting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_runs.clock import as_utc

from ..answers import Answers, literal

Answer = dict[str, Any]

FLOWS_SHOWN = 15
LANES_SHOWN = 60
RUNS_INSIDE = 4
TASKS_INSIDE = 25
EPISODES_SHOWN = 200
DEPLOYMENTS_SHOWN = 100

# in this order they are shown
HEALTH = ("broken", "overdue", "flaky", "healthy", "idle", "paused")
FLAKY_BELOW_PERCENT = 95


@dataclass(frozen=True)
class Findings:
    """What the report shows of one workspace, of the days before `now` (UTC).

    days: day, outcome, runs. flows: flow_name, runs, ended, completed, percentiles of duration and delay in seconds.
    lanes: the latest runs, with their states. inside: the latest of them that called tasks, with those. episodes,
    deployments: rows of failure_episodes and deployment_health, the latter with a `health` word.
    """

    workspace: str
    now: datetime
    since: datetime
    days: list[Answer]
    flows: list[Answer]
    lanes: list[Answer]
    inside: list[Answer]
    episodes: list[Answer]
    deployments: list[Answer]
    last_sync: Answer | None
    last_verify: Answer | None

    @property
    def runs(self) -> int:
        """Runs that were due in these days."""
        return sum(int(day["runs"]) for day in self.days)


def find(answers: Answers, workspace: str, now: datetime, days: int) -> Findings:
    """Ask for everything that the report shows."""
    since = (now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
    own = f"workspace = {literal(workspace)}"
    due = f"{own} AND expected_start_time >= {_time(since)} AND expected_start_time < {_time(now)}"
    lanes = answers.ask(
        f"""
        SELECT run.id, run.name, COALESCE(flow.name, run.flow_id) AS flow_name, run.start_time, run.end_time,
            run.state_type, run.state_name
        FROM flow_runs AS run
        LEFT JOIN flows AS flow ON flow.id = run.flow_id
        WHERE run.{own} AND run.start_time >= {_time(since)}
        ORDER BY run.start_time DESC
        LIMIT {LANES_SHOWN}
        """
    )
    tasks = _of_runs(
        answers,
        """
        SELECT id, name, flow_run_id, start_time, end_time, state_type, state_name
        FROM task_runs
        WHERE flow_run_id IN ({ids})
        ORDER BY COALESCE(start_time, expected_start_time), id
        """,
        [run["id"] for run in lanes],
    )
    inside: list[Answer] = []
    for run in lanes:
        of_run = [task for task in tasks if task["flow_run_id"] == run["id"]]
        if of_run and len(inside) < RUNS_INSIDE:
            inside.append({**run, "tasks": of_run[:TASKS_INSIDE], "tasks_left_out": max(len(of_run) - TASKS_INSIDE, 0)})
    shown = [*lanes, *(task for run in inside for task in run["tasks"])]
    states: dict[str, list[Answer]] = {}
    for state in _of_runs(
        answers,
        "SELECT run_id, type, name, timestamp FROM stg_run_states WHERE run_id IN ({ids}) ORDER BY timestamp, sequence",
        [run["id"] for run in shown],
    ):
        states.setdefault(state["run_id"], []).append(state)
    for run in shown:
        run["states"] = states.get(run["id"], [])
    for run in inside:
        run["states"] = states.get(run["id"], [])
    return Findings(
        workspace,
        now,
        since,
        days=answers.ask(
            f"""
            SELECT DATE_TRUNC('day', expected_start_time AT TIME ZONE 'UTC') AS day,
                COALESCE(outcome, LOWER(state_type), 'no state') AS outcome, COUNT(*) AS runs
            FROM stg_runs
            WHERE run_kind = 'flow' AND {due}
            GROUP BY 1, 2
            ORDER BY 1, 2
            """
        ),
        flows=answers.ask(
            f"""
            SELECT COALESCE(flow_name, flow_id, 'without a flow') AS flow_name, COUNT(*) AS runs,
                SUM(CASE WHEN is_terminal THEN 1 ELSE 0 END) AS ended,
                SUM(CASE WHEN is_success THEN 1 ELSE 0 END) AS completed,
                QUANTILE_CONT(duration_seconds, 0.5) AS duration_p50,
                QUANTILE_CONT(duration_seconds, 0.9) AS duration_p90,
                QUANTILE_CONT(duration_seconds, 0.95) AS duration_p95,
                QUANTILE_CONT(duration_seconds, 0.99) AS duration_p99,
                QUANTILE_CONT(start_delay_seconds, 0.5) AS delay_p50,
                QUANTILE_CONT(start_delay_seconds, 0.9) AS delay_p90,
                QUANTILE_CONT(start_delay_seconds, 0.95) AS delay_p95,
                QUANTILE_CONT(start_delay_seconds, 0.99) AS delay_p99
            FROM flow_run_facts
            WHERE {due}
            GROUP BY 1
            ORDER BY runs DESC, 1
            LIMIT {FLOWS_SHOWN}
            """
        ),
        lanes=lanes,
        inside=inside,
        episodes=answers.ask(
            f"""
            SELECT * FROM failure_episodes
            WHERE {own} AND (broken_at >= {_time(since)} OR recovered_at >= {_time(since)} OR recovered_at IS NULL)
            ORDER BY broken_at DESC
            LIMIT {EPISODES_SHOWN}
            """
        ),
        deployments=_by_health(answers.ask(f"SELECT * FROM deployment_health WHERE {own} ORDER BY name, id")),
        last_sync=_first(
            answers.ask(
                f"SELECT window_end, whole FROM syncs WHERE {own} AND window_end IS NOT NULL "
                "ORDER BY finished_at DESC LIMIT 1"
            )
        ),
        last_verify=_first(
            answers.ask(f"SELECT verified_at, whole FROM verifications WHERE {own} ORDER BY verified_at DESC LIMIT 1")
        ),
    )


def health(deployment: Answer) -> str:
    """One word for how a deployment does."""
    if deployment["failures_in_a_row"]:
        return "broken"
    if deployment["paused"]:
        return "paused"
    if deployment["is_overdue"]:
        return "overdue"
    if not deployment["runs_7d"]:
        return "idle"
    return "flaky" if float(deployment["success_percent_7d"]) < FLAKY_BELOW_PERCENT else "healthy"


def _by_health(deployments: list[Answer]) -> list[Answer]:
    told = [{**deployment, "health": health(deployment)} for deployment in deployments]
    return sorted(told, key=lambda row: (HEALTH.index(row["health"]), -row["failures_in_a_row"], row["name"] or ""))


def _of_runs(answers: Answers, sql: str, ids: list[str]) -> list[Answer]:
    return answers.ask(sql.format(ids=", ".join(map(literal, ids)))) if ids else []


def _time(moment: datetime) -> str:
    return f"CAST({literal(as_utc(moment).astimezone(UTC).isoformat())} AS TIMESTAMPTZ)"


def _first(rows: list[Answer]) -> Answer | None:
    return rows[0] if rows else None
