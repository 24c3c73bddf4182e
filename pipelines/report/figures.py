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

    days: day, outcome, runs. flows: flow_name, runs, percentiles of duration and delay in seconds.
    lanes: the latest runs. inside: the latest of them that called tasks, with those and their states. episodes,
    deployments: rows of failure_episodes and deployment_health, the latter with a `health` word. recovery: broken_now
    and mean seconds_to_recover of all episodes.
    """

    workspace: str
    now: datetime
    since: datetime
    days: list[Answer]
    flows: list[Answer]
    lanes: list[Answer]
    inside: list[Answer]
    episodes: list[Answer]
    recovery: Answer
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
    # scheduled runs that were deleted before they were due are no runs
    due = (
        f"{own} AND expected_start_time >= {_time(since)} AND expected_start_time < {_time(now)} "
        "AND (is_live OR gone_at >= expected_start_time)"
    )
    lanes = answers.ask(
        f"""
        SELECT id, name, COALESCE(flow_name, flow_id, 'without a flow') AS flow_name, start_time,
            COALESCE(end_time, gone_at) AS end_time, state_type, state_name
        FROM flow_run_facts
        WHERE {own} AND start_time >= {_time(since)}
        ORDER BY start_time DESC, id
        LIMIT {LANES_SHOWN}
        """
    )
    inside = _inside(answers, lanes)
    shown = [row for run in inside for row in (run, *run["tasks"])]
    states = _states(answers, [row["id"] for row in shown])
    for row in shown:
        row["states"] = states.get(row["id"], [])
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
            ORDER BY CASE WHEN recovered_at IS NULL THEN 0 ELSE 1 END, broken_at DESC
            LIMIT {EPISODES_SHOWN}
            """
        ),
        recovery=answers.ask(
            f"""
            SELECT SUM(CASE WHEN recovered_at IS NULL THEN 1 ELSE 0 END) AS broken_now,
                AVG(CASE WHEN recovered_at >= {_time(since)} THEN seconds_to_recover END) AS seconds_to_recover
            FROM failure_episodes
            WHERE {own}
            """
        )[0],
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


def _inside(answers: Answers, lanes: list[Answer]) -> list[Answer]:
    """The latest of the runs that called tasks, each with `tasks`, the first of them, and `tasks_left_out`."""
    counts = _of_runs(
        answers,
        "SELECT flow_run_id, COUNT(*) AS tasks FROM task_runs WHERE flow_run_id IN ({ids}) GROUP BY flow_run_id",
        [run["id"] for run in lanes],
    )
    called = {row["flow_run_id"]: int(row["tasks"]) for row in counts}
    shown = [run for run in lanes if run["id"] in called][:RUNS_INSIDE]
    tasks = _of_runs(
        answers,
        f"""
        SELECT id, name, flow_run_id, start_time, end_time, state_type, state_name
        FROM (
            SELECT id, name, flow_run_id, start_time, COALESCE(end_time, gone_at) AS end_time, state_type, state_name,
                ROW_NUMBER() OVER (
                    PARTITION BY flow_run_id ORDER BY COALESCE(start_time, expected_start_time), id
                ) AS place
            FROM task_run_facts
            WHERE flow_run_id IN ({{ids}})
        ) AS task
        WHERE place <= {TASKS_INSIDE}
        ORDER BY flow_run_id, place
        """,
        [run["id"] for run in shown],
    )
    inside = []
    for run in shown:
        own = [task for task in tasks if task["flow_run_id"] == run["id"]]
        inside.append({**run, "tasks": own, "tasks_left_out": called[run["id"]] - len(own)})
    return inside


def _states(answers: Answers, run_ids: list[str]) -> dict[str, list[Answer]]:
    """Run id → its states, oldest first."""
    sql = (
        "SELECT run_id, type, name, timestamp FROM stg_run_states WHERE run_id IN ({ids}) ORDER BY timestamp, sequence"
    )
    found: dict[str, list[Answer]] = {}
    for state in _of_runs(answers, sql, run_ids):
        found.setdefault(state["run_id"], []).append(state)
    return found


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
