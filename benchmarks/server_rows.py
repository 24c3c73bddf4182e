"""Generated runs as rows of a Prefect 3.8.8 server's SQLite tables, column by column as it writes them.

Known difference: a real server keeps the result of a failed state as an artifact and names it in the state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from run_catalogue import Catalogue, Deployment, Flow, Schedule, WorkPool, WorkQueue
from run_generator import TERMINAL, FlowRun, State, TaskRun

Row = dict[str, object]
TableRow = tuple[str, Row]

# a state is stored this long after its own timestamp
STORED_AFTER = timedelta(milliseconds=9)
DEFAULT_DETAILS: Mapping[str, object] = {
    "flow_run_id": None,
    "task_run_id": None,
    "child_flow_run_id": None,
    "scheduled_time": None,
    "cache_key": None,
    "cache_expiration": None,
    "deferred": False,
    "untrackable_result": False,
    "pause_timeout": None,
    "pause_reschedule": False,
    "pause_key": None,
    "run_input_keyset": None,
    "refresh_cache": None,
    "retriable": None,
    "transition_id": None,
    "task_parameters_id": None,
    "traceparent": None,
    "deployment_concurrency_lease_id": None,
}
PARAMETER_SCHEMA = {
    "title": "Parameters",
    "type": "object",
    "properties": {
        "region": {"default": "eu", "position": 0, "title": "region", "type": "string"},
        "limit": {"default": 10, "position": 1, "title": "limit", "type": "integer"},
        "full_refresh": {"default": False, "position": 2, "title": "full_refresh", "type": "boolean"},
    },
}


def sql_time(moment: datetime) -> str:
    """A UTC moment as SQLAlchemy stores it: ``2026-01-02 03:04:05.678901``."""
    return moment.isoformat(" ", "microseconds")[:26]


def sql_duration(length: timedelta) -> str:
    """A duration as SQLAlchemy stores it in SQLite: the moment that long after 1970."""
    return sql_time(datetime(1970, 1, 1, tzinfo=UTC) + length)


def catalogue_rows(catalogue: Catalogue, polled: datetime) -> Iterator[TableRow]:
    """Rows of pools, queues, flows, deployments and schedules; workers last asked for work at ``polled``."""
    created = sql_time(catalogue.created)
    for pool in catalogue.pools:
        yield "work_pool", _work_pool_row(pool, created)
    for queue in catalogue.queues:
        yield "work_queue", _work_queue_row(queue, created, sql_time(polled))
    for flow in catalogue.flows:
        yield "flow", _flow_row(flow, created)
    for deployment in catalogue.deployments:
        yield "deployment", _deployment_row(deployment, created, sql_time(polled))
        yield "deployment_schedule", _schedule_row(deployment, created)


def _work_pool_row(pool: WorkPool, created: str) -> Row:
    return {
        "id": pool.id,
        "created": created,
        "updated": created,
        "name": pool.name,
        "type": pool.type,
        "base_job_template": json.dumps({"job_configuration": {"env": "{{ env }}"}, "variables": {}}),
        "default_queue_id": pool.default_queue_id,
        "status": "READY",
        "last_transitioned_status_at": created,
    }


def _work_queue_row(queue: WorkQueue, created: str, polled: str) -> Row:
    return {
        "id": queue.id,
        "created": created,
        "updated": polled,
        "name": queue.name,
        "description": "The work pool's default queue." if queue.priority == 1 else "",
        "last_polled": polled,
        "priority": queue.priority,
        "work_pool_id": queue.pool.id,
        "status": "READY",
    }


def _flow_row(flow: Flow, created: str) -> Row:
    return {
        "id": flow.id,
        "created": created,
        "updated": created,
        "name": flow.name,
        "tags": "[]",
        "labels": "{}",
    }


def _deployment_row(deployment: Deployment, created: str, polled: str) -> Row:
    return {
        "id": deployment.id,
        "created": created,
        "updated": created,
        "name": deployment.name,
        "tags": json.dumps(deployment.tags),
        "parameters": json.dumps(deployment.parameters),
        "flow_id": deployment.flow.id,
        "description": f"Runs {deployment.flow.name}.",
        "parameter_openapi_schema": json.dumps(PARAMETER_SCHEMA),
        "version": deployment.version,
        "entrypoint": f"flows.py:{deployment.flow.name.replace('-', '_')}",
        "work_queue_name": _queue_name(deployment),
        "work_queue_id": deployment.queue.id,
        "enforce_parameter_schema": 1,
        "last_polled": polled,
        "status": "READY",
        "labels": json.dumps({"prefect.flow.id": deployment.flow.id}),
    }


def _queue_name(deployment: Deployment) -> str | None:
    # the server leaves the name of the default queue out
    return None if deployment.queue.priority == 1 else deployment.queue.name


def _schedule_row(deployment: Deployment, created: str) -> Row:
    return {
        "id": deployment.schedule.id,
        "created": created,
        "updated": created,
        "schedule": json.dumps({"cron": "0,15,30,45 * * * *", "timezone": "UTC", "day_or": True}),
        "active": 1,
        "deployment_id": deployment.id,
        "parameters": json.dumps(deployment.schedule.parameters),
        "slug": deployment.schedule.slug,
    }


def run_rows(run: FlowRun) -> Iterator[TableRow]:
    """Rows of a flow run, its states, its task runs and their states."""
    yield "flow_run", _flow_run_row(run)
    for place, state in enumerate(run.states):
        # a schedule makes the first state before the run's id is known to it
        owner = None if run.schedule and place == 0 else run.id
        details = {"flow_run_id": owner, "deferred": None if "transition_id" in state.details else False}
        yield "flow_run_state", _state_row(state, details, "flow_run_id", run.id)
    for task_run in run.task_runs:
        yield "task_run", _task_run_row(task_run, run)
        details = {"flow_run_id": run.id, "task_run_id": task_run.id}
        for state in task_run.states:
            # task runs' states are written from their events, in which no message is an empty one
            row = _state_row(state, details, "task_run_id", task_run.id)
            yield "task_run_state", {**row, "message": state.message or ""} if state.announced else row


def _flow_run_row(run: FlowRun) -> Row:
    deployment, schedule, last = run.deployment, run.schedule, run.states[-1]
    waits_for_pickup = schedule is not None and len(run.states) == 1
    return {
        "id": run.id,
        "created": sql_time(run.created),
        # SQLite cuts it to milliseconds
        "updated": sql_time(last.timestamp + STORED_AFTER)[:23] + "000",
        "name": run.name,
        **_progress(run.states, run.expected_start_time),
        "state_timestamp": None if waits_for_pickup else sql_time(last.timestamp),
        "flow_version": _flow_version(run) if last.run_count else None,
        "parameters": json.dumps(run.parameters),
        "idempotency_key": _idempotency_key(run),
        "empirical_policy": _flow_policy(run.flow, begun=last.run_count > 0),
        "tags": json.dumps(run.tags),
        "auto_scheduled": int(schedule is not None),
        "flow_id": run.flow.id,
        "deployment_id": deployment.id if deployment else None,
        "work_queue_name": _queue_name(deployment) if deployment else None,
        "created_by": _created_by(schedule),
        "infrastructure_pid": str(run.process_id) if deployment and last.run_count else None,
        "work_queue_id": deployment.queue.id if deployment else None,
        "deployment_version": deployment.version if deployment else None,
        "labels": json.dumps(_labels(run, begun=last.run_count > 0)),
    }


def _progress(states: Sequence[State], expected: datetime) -> Row:
    """The columns of a run that follow from its states."""
    last = states[-1]
    is_over = last.type in TERMINAL
    # a run that ended before it began gets its end as its start (Prefect 3.6.14 on)
    start = next((state.timestamp for state in states if state.type == "RUNNING" or state.type in TERMINAL), None)
    return {
        "state_id": last.id,
        "state_type": last.type,
        "state_name": last.name,
        "run_count": last.run_count,
        "expected_start_time": sql_time(expected),
        "next_scheduled_start_time": sql_time(expected) if last.type == "SCHEDULED" else None,
        "start_time": sql_time(start) if start else None,
        "end_time": sql_time(last.timestamp) if is_over else None,
        "total_run_time": sql_duration(run_time(states)),
    }


def run_time(states: Sequence[State]) -> timedelta:
    """Time spent in RUNNING states that are over."""
    spans = (after.timestamp - state.timestamp for state, after in pairwise(states) if state.type == "RUNNING")
    return sum(spans, timedelta())


def _flow_version(run: FlowRun) -> str:
    # ad-hoc runs carry the version of the code too
    return run.deployment.version if run.deployment else run.flow.id.replace("-", "")


def _idempotency_key(run: FlowRun) -> str | None:
    if run.deployment is None or run.schedule is None:
        return None
    expected = run.expected_start_time.isoformat(" ")
    return f"scheduled {run.deployment.id} {run.schedule.id} {expected}"


def _flow_policy(flow: Flow, begun: bool) -> str:
    # the client writes the retries when it begins
    return json.dumps(
        {
            "max_retries": 0,
            "retry_delay_seconds": 0.0,
            "retries": flow.retries if begun else None,
            "retry_delay": 30 * flow.retries if begun else None,
            "pause_keys": [],
            "resuming": False,
            "retry_type": None,
        }
    )


def _created_by(schedule: Schedule | None) -> str | None:
    if schedule is None:
        return None
    return json.dumps({"id": schedule.id, "type": "SCHEDULE", "display_value": "CronSchedule"})


def _labels(run: FlowRun, begun: bool) -> Mapping[str, str]:
    labels = {"prefect.flow.id": run.flow.id}
    if run.deployment is None:
        return labels
    labels["prefect.deployment.id"] = run.deployment.id
    if begun:
        pool = run.deployment.queue.pool
        labels |= {"prefect.worker.name": pool.worker_name, "prefect.worker.type": pool.type}
        labels |= {"prefect.work-pool.name": pool.name, "prefect.work-pool.id": pool.id}
    return labels


def _task_run_row(task_run: TaskRun, run: FlowRun) -> Row:
    first, last = task_run.states[0], task_run.states[-1]
    return {
        "id": task_run.id,
        "created": sql_time(first.timestamp + task_run.lag / 2),
        "updated": sql_time(last.timestamp + task_run.lag),
        "name": task_run_name(task_run),
        **_progress(task_run.states, first.timestamp),
        "state_timestamp": sql_time(last.timestamp),
        "task_key": task_run.task_key,
        "dynamic_key": task_run.dynamic_key,
        "empirical_policy": json.dumps({**task_policy(task_run), "retry_jitter_factor": None}),
        "task_inputs": '{"n": []}',
        "tags": json.dumps(task_run.tags),
        "flow_run_id": run.id,
        "flow_run_run_count": task_run.attempt,
        "labels": "{}",
    }


def task_run_name(task_run: TaskRun) -> str:
    """The name the client gives: that of the task and the start of the dynamic key."""
    return f"{task_run.task_key.rsplit('-', 1)[0]}-{task_run.dynamic_key[:3]}"


def task_policy(task_run: TaskRun) -> Row:
    """The retry policy as the client sends it; delays in seconds."""
    delay = 10 if task_run.retries else 0
    return {"max_retries": 0, "retry_delay_seconds": 0.0, "retries": task_run.retries, "retry_delay": delay}


def _state_row(state: State, details: Mapping[str, object], owner_column: str, owner: str) -> Row:
    stored = sql_time(state.timestamp + STORED_AFTER)
    return {
        "id": state.id,
        "created": stored,
        "updated": stored,
        "type": state.type,
        "timestamp": sql_time(state.timestamp),
        "name": state.name,
        "message": state.message,
        "state_details": json.dumps({**DEFAULT_DETAILS, **details, **state.details}),
        owner_column: owner,
    }
