"""Runs, their states, and the server's own counts of them."""

from __future__ import annotations

from .columns import CREATED, ID, UPDATED, WORKSPACE, Column, Table, columns, tags

STATE_DETAILS = columns(
    ("state_id", "text", "Id of the state that these details belong to."),
    ("child_flow_run_id", "text", "Flow run that this task run stands for (subflow)."),
    ("scheduled_time", "timestamp", "Time for which a SCHEDULED state asks."),
    ("cache_key", "text", "Cache key of the task's result."),
    ("cache_expiration", "timestamp", "When the cached result stops being valid."),
    ("deferred", "bool", "Whether the task run was submitted to be run elsewhere."),
    ("untrackable_result", "bool", "Whether the result could not be tracked."),
    ("pause_timeout", "timestamp", "When a paused run fails if nobody resumes it."),
    ("pause_reschedule", "bool", "Whether the run is suspended: it leaves its process and is scheduled again."),
    ("pause_key", "text", "Name of the pause, so that it happens once."),
    ("run_input_keyset", "json", "Keys under which a pause keeps the input it waits for."),
    ("refresh_cache", "bool", "Whether the cache was to be refreshed."),
    ("retriable", "bool", "Whether the run may be retried after this state."),
    ("transition_id", "text", "Id of the attempt to enter this state."),
    ("task_parameters_id", "text", "Id of the stored parameters of a deferred task run."),
    ("traceparent", "text", "OpenTelemetry trace context."),
    ("deployment_concurrency_lease_id", "text", "Lease on the deployment's concurrency limit."),
)


def state_details(owner: str, what: str) -> Table:
    description = f"Details of {what}, where they say more than the run's own ids."
    return Table(f"{owner}__state_details", description, STATE_DETAILS, (), relied_on=("state_id",))


# links of runs that the server nulls when it deletes what they lead to: the first value is kept


LINKS = {"flow_runs": ("parent_task_run_id", "deployment_id", "work_pool_id", "work_pool_name", "work_queue_id")}

RUN_STATE = columns(
    ("state_id", "text", "Id of the present state; null for a run without a state."),
    ("state_type", "text", "SCHEDULED, PENDING, RUNNING, PAUSED, CANCELLING, COMPLETED, FAILED, CRASHED, CANCELLED."),
    ("state_name", "text", "Name of the present state: free text, such as Late, AwaitingRetry, Cached."),
    ("state_timestamp", "timestamp", "When the present state was entered."),
    ("state_message", "text", "Message of the present state."),
)

RUN_RELIED_ON = ("state_id", "state_type", "state_name", "state_timestamp", "expected_start_time", "end_time")

RUN_TIMES = columns(
    ("run_count", "bigint", "Times the run entered RUNNING, resumes included."),
    ("expected_start_time", "timestamp", "When the run was first due; written once."),
    ("next_scheduled_start_time", "timestamp", "When the run is due next, while it is SCHEDULED."),
    ("start_time", "timestamp", "When the run first entered RUNNING."),
    ("end_time", "timestamp", "When the run entered its terminal state; null while it is in flight."),
    ("total_run_time", "double", "Seconds spent in RUNNING, over all attempts."),
)

FLOW_RUNS = Table(
    "flow_runs",
    "Latest known row of each flow run. Rows stay when the server forgets them.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *columns(
            ("name", "text", "Name of the flow run."),
            ("flow_id", "text", "The flow that ran (flows.id)."),
            ("deployment_id", "text", "The deployment it was made from (deployments.id), if any."),
            ("deployment_version", "text", "Version of the deployment at that time."),
            ("work_pool_id", "text", "The work pool it was given to (work_pools.id)."),
            ("work_pool_name", "text", "Name of that work pool."),
            ("work_queue_id", "text", "The work queue it was given to (work_queues.id)."),
            ("work_queue_name", "text", "Name of that work queue."),
            ("flow_version", "text", "Version of the flow's code."),
            ("parameters", "json", "Parameters of the run."),
            ("idempotency_key", "text", "Key under which the run was made once."),
            ("context", "json", "Free-form context."),
            ("empirical_policy", "json", "Retries and delays in force."),
            ("labels", "json", "Labels (servers from 3.1.5)."),
            ("parent_task_run_id", "text", "The task run that stands for this subflow run in its parent."),
        ),
        *RUN_STATE,
        *RUN_TIMES,
        *columns(
            ("auto_scheduled", "bool", "Whether a schedule made the run."),
            ("infrastructure_document_id", "text", "Block document of the infrastructure."),
            ("infrastructure_pid", "text", "Identifier that the infrastructure gave."),
            ("created_by", "json", "Who or what made the run."),
        ),
    ),
    ("id",),
    {"tags": tags("flow_runs"), "state_details": state_details("flow_runs", "the present state")},
    leads_to={
        "flow_id": "flows",
        "deployment_id": "deployments",
        "work_pool_id": "work_pools",
        "work_queue_id": "work_queues",
        "parent_task_run_id": "task_runs",
    },
    relied_on=RUN_RELIED_ON,
)

TASK_RUNS = Table(
    "task_runs",
    "Latest known row of each task run. Rows stay when the server forgets them.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *columns(
            ("name", "text", "Name of the task run."),
            ("flow_run_id", "text", "The flow run it belongs to (flow_runs.id); null outside any flow."),
            ("task_key", "text", "Key of the task's code."),
            ("dynamic_key", "text", "Tells the runs of one task in one flow run apart."),
            ("cache_key", "text", "Cache key of the result."),
            ("cache_expiration", "timestamp", "When the cached result stops being valid."),
            ("task_version", "text", "Version of the task's code."),
            ("empirical_policy", "json", "Retries and delays in force."),
            ("labels", "json", "Labels (servers from 3.1.5)."),
            ("task_inputs", "json", "Where the inputs came from: task runs, parameters, constants."),
            ("flow_run_run_count", "bigint", "Attempt of the flow run in which this task run was made."),
        ),
        *RUN_STATE,
        *RUN_TIMES,
    ),
    ("id",),
    {"tags": tags("task_runs"), "state_details": state_details("task_runs", "the present state")},
    leads_to={"flow_run_id": "flow_runs"},
    relied_on=RUN_RELIED_ON,
)


def _states(run: str) -> Table:
    name = f"{run}_run_states"
    return Table(
        name,
        f"State history: one row a state that a {run} run entered. Rows never change.",
        (
            ID,
            WORKSPACE,
            *columns(
                (f"{run}_run_id", "text", f"The run (`{run}_runs.id`)."),
                ("type", "text", "Type of the state, as in state_type of the run."),
                ("name", "text", "Name of the state: free text."),
                ("timestamp", "timestamp", "When the state was entered."),
                (
                    "sequence",
                    "bigint",
                    "Number of the state in its run, from 1; null where the states before it are not known.",
                ),
                ("message", "text", "Message of the state."),
            ),
        ),
        ("id",),
        {"state_details": state_details(name, "the state")},
        leads_to={f"{run}_run_id": f"{run}_runs"},
        relied_on=("type", "name", "timestamp", "sequence"),
    )


FLOW_RUN_STATES = _states("flow")
TASK_RUN_STATES = _states("task")


def _history(run: str) -> Table:
    return Table(
        f"{run}_run_history",
        f"The server's own counts of {run} runs per hour of expected start time and present state, read when a run "
        "changed, and once an hour.",
        (
            Column("interval_start", "timestamp", "Start of the hour.", nullable=False),
            WORKSPACE,
            *columns(
                ("interval_end", "timestamp", "End of the hour, itself not inside."),
                ("state_type", "text", "State type that the runs had when they were counted."),
                ("state_name", "text", "State name that the runs had when they were counted."),
                ("count_runs", "bigint", "Runs expected to start in that hour that were in that state."),
                ("sum_estimated_run_time", "double", "Their run times together, up to then (seconds)."),
                ("sum_estimated_lateness", "double", "Their lateness together, up to then (seconds)."),
                ("emptied", "bool", "Always null here: marks an hour whose runs are all gone, so that it is removed."),
            ),
        ),
        ("workspace", "interval_start"),
        removed_where="emptied",
    )


FLOW_RUN_HISTORY = _history("flow")
TASK_RUN_HISTORY = _history("task")
