"""Events of generated runs, as rows of ``events`` and ``event_resources`` of a Prefect 3.8.8 server.

Only events of states: no heartbeats, no events of workers, deployments or work pools.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from run_catalogue import Ids
from run_generator import TERMINAL, FlowRun, State, TaskRun, utc_text
from server_rows import STORED_AFTER, Row, TableRow, run_time, sql_time, task_policy, task_run_name

Resource = dict[str, str]

# the server names the state before only when it is younger than this
FOLLOWS_WITHIN = timedelta(minutes=5)


class EventWriter:
    """Turns the states of runs into rows of ``events`` and ``event_resources``, from ``since`` on.

    It has random numbers of its own, so that runs are the same with and without events. Without ``resources`` the
    rows are left out by which a server finds the events of a resource: nine of an event's ten.
    """

    def __init__(self, since: datetime, seed: int, resources: bool = True) -> None:
        self._since = since
        self._resources = resources
        self._rng = random.Random(f"events {seed}")
        self._ids = Ids(self._rng)

    def rows(self, run: FlowRun) -> Iterator[TableRow]:
        """Rows of all events of a flow run and its task runs."""
        if run.states[-1].timestamp < self._since:
            return
        related = _related_to_flow_run(run)
        for before, state in _with_previous(run.states):
            if self._is_written(state):
                resource = _state_resource("flow-run", run.id, run.name, state)
                yield from self._event(before, state, resource, related, _flow_run_payload(before, state))
        for task_run in run.task_runs:
            yield from self._task_run_rows(task_run, run)

    def _task_run_rows(self, task_run: TaskRun, run: FlowRun) -> Iterator[TableRow]:
        related = _related_to_task_run(task_run, run)
        name = task_run_name(task_run)
        for before, state in _with_previous(task_run.states):
            if self._is_written(state):
                resource = _state_resource("task-run", task_run.id, name, state)
                resource["prefect.orchestration"] = "client"
                payload = _task_run_payload(before, state, task_run)
                yield from self._event(before, state, resource, related, payload)

    def _is_written(self, state: State) -> bool:
        return state.announced and state.timestamp >= self._since

    def _event(
        self,
        before: State | None,
        state: State,
        resource: Resource,
        related: Sequence[Resource],
        payload: Row,
    ) -> Iterator[TableRow]:
        received = state.timestamp + timedelta(seconds=self._rng.uniform(0.003, 0.06))
        recorded = received + timedelta(seconds=self._rng.uniform(0.1, 5))
        kind = resource["prefect.resource.id"].rsplit(".", 1)[0]
        yield (
            "events",
            {
                "occurred": sql_time(state.timestamp),
                "event": f"{kind}.{state.name}",
                "resource_id": resource["prefect.resource.id"],
                "resource": json.dumps(resource),
                "related_resource_ids": json.dumps([other["prefect.resource.id"] for other in related]),
                "related": json.dumps(related),
                "payload": json.dumps(payload),
                "received": sql_time(received),
                "recorded": sql_time(recorded),
                "follows": _follows(before, state),
                "id": state.id,
                "created": sql_time(recorded + STORED_AFTER),
                "updated": sql_time(recorded + STORED_AFTER),
            },
        )
        for other in (resource, *related) if self._resources else ():
            yield "event_resources", self._resource_row(other, state, recorded)

    def _resource_row(self, resource: Resource, state: State, recorded: datetime) -> Row:
        own_columns = ("prefect.resource.id", "prefect.resource.role")
        return {
            "occurred": sql_time(state.timestamp),
            "resource_id": resource["prefect.resource.id"],
            # the resource an event is about has no role
            "resource_role": resource.get("prefect.resource.role", ""),
            "resource": json.dumps({key: value for key, value in resource.items() if key not in own_columns}),
            "event_id": state.id,
            "id": self._ids.v4(),
            "created": sql_time(recorded + STORED_AFTER),
            "updated": sql_time(recorded + STORED_AFTER),
        }


def _with_previous(states: Sequence[State]) -> Iterator[tuple[State | None, State]]:
    return zip((None, *states[:-1]), states, strict=True)


def _follows(before: State | None, state: State) -> str | None:
    if before is None or state.timestamp - before.timestamp >= FOLLOWS_WITHIN:
        return None
    return before.id


def _state_resource(kind: str, run_id: str, name: str, state: State) -> Resource:
    return {
        "prefect.resource.id": f"prefect.{kind}.{run_id}",
        "prefect.resource.name": name,
        "prefect.run-count": str(state.run_count),
        "prefect.state-message": state.message or "",
        "prefect.state-name": state.name,
        "prefect.state-timestamp": state.timestamp.isoformat(),
        "prefect.state-type": state.type,
    }


def _resource(kind: str, resource_id: str, name: str | None = None) -> Resource:
    found = {"prefect.resource.id": f"prefect.{kind}.{resource_id}", "prefect.resource.role": kind}
    return found if name is None else {**found, "prefect.resource.name": name}


def _related_to_flow_run(run: FlowRun) -> list[Resource]:
    related = [_resource("flow", run.flow.id, run.flow.name)]
    if run.deployment:
        queue = run.deployment.queue
        related.append(_resource("deployment", run.deployment.id, run.deployment.name))
        related.append(_resource("work-queue", queue.id, queue.name))
        pool = _resource("work-pool", queue.pool.id, queue.pool.name)
        related.append({**pool, "prefect.work-pool.type": queue.pool.type})
    return related + [_resource("tag", tag) for tag in run.tags]


def _related_to_task_run(task_run: TaskRun, run: FlowRun) -> list[Resource]:
    tags = [_resource("tag", tag) for tag in task_run.tags]
    # the client, which writes these, knows no type of the work pool
    inherited = [
        {key: value for key, value in resource.items() if key != "prefect.work-pool.type"}
        for resource in _related_to_flow_run(run)
    ]
    return [*tags, _resource("flow-run", run.id, run.name), *inherited]


def _flow_run_payload(before: State | None, state: State) -> Row:
    return {
        "intended": {"from": before.type if before else None, "to": state.type},
        "initial_state": _state_summary(before) if before else None,
        "validated_state": _state_summary(state),
    }


def _state_summary(state: State) -> Row:
    summary: Row = {"type": state.type, "name": state.name}
    return {**summary, "message": state.message} if state.message else summary


def _task_run_payload(before: State | None, state: State, task_run: TaskRun) -> Row:
    return {
        "intended": {"from": before.type if before else None, "to": state.type},
        "initial_state": _task_state(before) if before else None,
        "validated_state": {**_task_state(state), "data": None},
        "task_run": _task_run_then(state, task_run),
    }


def _task_state(state: State) -> Row:
    return {
        "type": state.type,
        "name": state.name,
        "message": state.message or "",
        "state_details": dict(state.details),
    }


def _task_run_then(state: State, task_run: TaskRun) -> Row:
    """The task run as it was when it took a state."""
    told = task_run.states[: task_run.states.index(state) + 1]
    start = next((other.timestamp for other in told if other.type == "RUNNING"), None)
    times = {"expected_start_time": utc_text(told[0].timestamp)}
    if start:
        times["start_time"] = utc_text(start)
    if state.type in TERMINAL:
        times["end_time"] = utc_text(state.timestamp)
    return {
        "name": task_run_name(task_run),
        "task_key": task_run.task_key,
        "dynamic_key": task_run.dynamic_key,
        "empirical_policy": task_policy(task_run),
        "tags": list(task_run.tags),
        "labels": {},
        "task_inputs": {"n": []},
        "run_count": state.run_count,
        # 0 until the task has begun
        "flow_run_run_count": task_run.attempt if start else 0,
        **times,
        "total_run_time": run_time(told).total_seconds(),
    }
