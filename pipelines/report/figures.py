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
    asked = _Questions(answers, workspace, since, now)
    lanes = asked.lanes()
    return Findings(
        workspace,
        now,
        since,
        days=asked.days(),
        flows=asked.flows(),
        lanes=lanes,
        inside=asked.inside(lanes),
        episodes=asked.episodes(),
        recovery=asked.recovery(),
        deployments=asked.deployments(),
        last_sync=asked.last_sync(),
        last_verify=asked.last_verify(),
    )


class _Questions:
    """Each figure's question to the models of one workspace."""

    def __init__(self, answers: Answers, workspace: str, since: datetime, now: datetime) -> None:
        self._ask = answers.ask
        self._since = _time(since)
        self._own = f"workspace = {literal(workspace)}"
        self._due = (
            f"{self._own} AND expected_start_time >= {self._since} AND expected_start_time < {_time(now)} AND was_due"
        )

    def days(self) -> list[Answer]:
        """Runs by day and outcome."""
        return self._ask(
            f"""
            SELECT DATE_TRUNC('day', expected_start_time AT TIME ZONE 'UTC') AS day,
                COALESCE(outcome, LOWER(state_type), 'no state') AS outcome, COUNT(*) AS runs
            FROM stg_runs
            WHERE run_kind = 'flow' AND {self._due}
            GROUP BY 1, 2
            ORDER BY 1, 2
            """
        )

    def flows(self) -> list[Answer]:
        """The flows with the most runs."""
        return self._ask(
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
            WHERE {self._due}
            GROUP BY 1
            ORDER BY runs DESC, 1
            LIMIT {FLOWS_SHOWN}
            """
        )

    def lanes(self) -> list[Answer]:
        """The runs that started last, newest first."""
        return self._ask(
            f"""
            SELECT id, name, COALESCE(flow_name, flow_id, 'without a flow') AS flow_name, start_time,
                COALESCE(end_time, gone_at) AS end_time, state_type, state_name
            FROM flow_run_facts
            WHERE {self._own} AND start_time >= {self._since}
            ORDER BY start_time DESC, id
            LIMIT {LANES_SHOWN}
            """
        )

    def inside(self, lanes: list[Answer]) -> list[Answer]:
        """The first of `lanes` that called tasks: `states`, the first `tasks` with theirs, and `tasks_left_out`."""
        called = self._tasks_called(lanes)
        shown = [run for run in lanes if run["id"] in called][:RUNS_INSIDE]
        tasks = self._first_tasks(shown)
        states = self._states([row["id"] for row in (*shown, *tasks)])

        def with_states(row: Answer) -> Answer:
            return {**row, "states": states.get(row["id"], [])}

        inside = []
        for run in shown:
            own = [with_states(task) for task in tasks if task["flow_run_id"] == run["id"]]
            inside.append({**with_states(run), "tasks": own, "tasks_left_out": called[run["id"]] - len(own)})
        return inside

    def episodes(self) -> list[Answer]:
        """Failure episodes that touch these days, those that last first."""
        return self._ask(
            f"""
            SELECT * FROM failure_episodes
            WHERE {self._own}
                AND (broken_at >= {self._since} OR recovered_at >= {self._since}
                    OR (recovered_at IS NULL AND COALESCE(gone_at, {self._since}) >= {self._since}))
            ORDER BY CASE WHEN recovered_at IS NULL AND gone_at IS NULL THEN 0 ELSE 1 END, broken_at DESC
            LIMIT {EPISODES_SHOWN}
            """
        )

    def recovery(self) -> Answer:
        """How many episodes last, and the mean length of those that ended in these days."""
        return self._ask(
            f"""
            SELECT SUM(CASE WHEN recovered_at IS NULL AND gone_at IS NULL THEN 1 ELSE 0 END) AS broken_now,
                AVG(CASE WHEN recovered_at >= {self._since} THEN seconds_to_recover END) AS seconds_to_recover
            FROM failure_episodes
            WHERE {self._own}
            """
        )[0]

    def deployments(self) -> list[Answer]:
        """Every deployment with its `health`, the worst first."""
        return _by_health(self._ask(f"SELECT * FROM deployment_health WHERE {self._own} ORDER BY name, id"))

    def last_sync(self) -> Answer | None:
        """The sync that finished last."""
        return _first(
            self._ask(
                f"SELECT window_end, whole FROM syncs WHERE {self._own} AND window_end IS NOT NULL "
                "ORDER BY finished_at DESC LIMIT 1"
            )
        )

    def last_verify(self) -> Answer | None:
        """The comparison that was made last: when, and 1 where all tables were whole, in the end."""
        return _first(
            self._ask(
                f"""
                SELECT verified_at, MIN(CASE WHEN whole THEN 1 ELSE 0 END) AS whole
                FROM verifications
                WHERE {self._own}
                GROUP BY verified_at, after_repair
                ORDER BY verified_at DESC, CASE WHEN after_repair THEN 0 ELSE 1 END
                LIMIT 1
                """
            )
        )

    def _tasks_called(self, runs: list[Answer]) -> dict[str, int]:
        """Flow run id → how many tasks it called, if any."""
        sql = "SELECT flow_run_id, COUNT(*) AS tasks FROM task_runs WHERE flow_run_id IN ({ids}) GROUP BY flow_run_id"
        return {row["flow_run_id"]: int(row["tasks"]) for row in self._of_runs(sql, [run["id"] for run in runs])}

    def _first_tasks(self, runs: list[Answer]) -> list[Answer]:
        """The task runs that started first in each of `runs`."""
        sql = f"""
            SELECT id, name, flow_run_id, start_time, end_time, state_type, state_name
            FROM (
                SELECT id, name, flow_run_id, start_time, COALESCE(end_time, gone_at) AS end_time, state_type,
                    state_name,
                    ROW_NUMBER() OVER (
                        PARTITION BY flow_run_id ORDER BY COALESCE(start_time, expected_start_time), id
                    ) AS place
                FROM task_run_facts
                WHERE flow_run_id IN ({{ids}})
            ) AS task
            WHERE place <= {TASKS_INSIDE}
            ORDER BY flow_run_id, place
            """
        return self._of_runs(sql, [run["id"] for run in runs])

    def _states(self, run_ids: list[str]) -> dict[str, list[Answer]]:
        """Run id → its states, oldest first."""
        sql = (
            "SELECT run_id, type, name, timestamp FROM stg_run_states WHERE run_id IN ({ids}) "
            "ORDER BY timestamp, sequence"
        )
        found: dict[str, list[Answer]] = {}
        for state in self._of_runs(sql, run_ids):
            found.setdefault(state["run_id"], []).append(state)
        return found

    def _of_runs(self, sql: str, ids: list[str]) -> list[Answer]:
        return self._ask(sql.format(ids=", ".join(map(literal, ids)))) if ids else []


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


def _time(moment: datetime) -> str:
    return f"CAST({literal(as_utc(moment).astimezone(UTC).isoformat())} AS TIMESTAMPTZ)"


def _first(rows: list[Answer]) -> Answer | None:
    return rows[0] if rows else None
