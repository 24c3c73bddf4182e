"""The tables: every column with its type and meaning. dlt's schema, its hints and the docs come from here.

Column names are the API's own. Columns that the API computes at read time (`estimated_run_time`,
`estimated_start_time_delta`) change while `updated` stands still and are left out; so is what holds secrets in
practice (`job_variables`, `pull_steps`, a state's `data`, `base_job_template`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Type = Literal["text", "timestamp", "double", "bigint", "bool", "json"]


@dataclass(frozen=True)
class Column:
    """One column: its name, dlt's data type, what it means."""

    name: str
    type: Type
    description: str
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A table that a resource loads, with the child tables that dlt makes of its nested columns."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    children: dict[str, Table] = field(default_factory=dict)
    removed_where: str | None = None
    """Column that is true in rows that take the row of their key away."""
    leads_to: dict[str, str] = field(default_factory=dict)
    """Column with the id of a row of another table → that table."""
    relied_on: tuple[str, ...] = ()
    """Columns that syncs and verify read back, besides the key and `updated`."""

    def why_needed(self, column: Column) -> str | None:
        """Why a column can be neither left out nor hashed; None where it can."""
        if column.name in self.key or not column.nullable:
            return "it tells rows apart"
        if column.name in self.leads_to:
            return f"it leads to rows of {self.leads_to[column.name]}"
        if column.name == "updated" and self.key:
            return "it tells which copy of a row is the newest"
        if column.name == self.removed_where:
            return "it takes rows away"
        return "syncs and verify go by it" if column.name in self.relied_on else None

    def hints(self) -> dict[str, dict[str, Any]]:
        """dlt's column hints: name → schema of the column."""
        return {
            column.name: {
                "name": column.name,
                "data_type": column.type,
                "description": column.description,
                "nullable": column.nullable and column.name not in self.key,
            }
            for column in self.columns
        }


def _columns(*rows: tuple[str, Type, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


WORKSPACE = Column("workspace", "text", "Configured name of the server or Cloud workspace.", nullable=False)
ID = Column("id", "text", "Id that Prefect gave (UUID).", nullable=False)
CREATED = Column("created", "timestamp", "When the server made the row.")
UPDATED = Column("updated", "timestamp", "When the server last changed the row.")

STATE_DETAILS = _columns(
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


def _tags(owner: str) -> Table:
    return Table(
        f"{owner}__tags",
        f"One row a tag of a row of {owner}.",
        (Column("value", "text", "The tag."),),
        (),
    )


def _state_details(owner: str, what: str) -> Table:
    description = f"Details of {what}, where they say more than the run's own ids."
    return Table(f"{owner}__state_details", description, STATE_DETAILS, (), relied_on=("state_id",))


# links of runs that the server nulls when it deletes what they lead to: the first value is kept
LINKS = {"flow_runs": ("parent_task_run_id", "deployment_id", "work_pool_id", "work_pool_name", "work_queue_id")}

RUN_STATE = _columns(
    ("state_id", "text", "Id of the present state; null for a run without a state."),
    ("state_type", "text", "SCHEDULED, PENDING, RUNNING, PAUSED, CANCELLING, COMPLETED, FAILED, CRASHED, CANCELLED."),
    ("state_name", "text", "Name of the present state: free text, such as Late, AwaitingRetry, Cached."),
    ("state_timestamp", "timestamp", "When the present state was entered."),
    ("state_message", "text", "Message of the present state."),
)

RUN_RELIED_ON = ("state_id", "state_type", "state_name", "state_timestamp", "expected_start_time", "end_time")

RUN_TIMES = _columns(
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
        *_columns(
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
        *_columns(
            ("auto_scheduled", "bool", "Whether a schedule made the run."),
            ("infrastructure_document_id", "text", "Block document of the infrastructure."),
            ("infrastructure_pid", "text", "Identifier that the infrastructure gave."),
            ("created_by", "json", "Who or what made the run."),
        ),
    ),
    ("id",),
    {"tags": _tags("flow_runs"), "state_details": _state_details("flow_runs", "the present state")},
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
        *_columns(
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
    {"tags": _tags("task_runs"), "state_details": _state_details("task_runs", "the present state")},
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
            *_columns(
                (f"{run}_run_id", "text", f"The run (`{run}_runs.id`)."),
                ("type", "text", "Type of the state, as in state_type of the run."),
                ("name", "text", "Name of the state: free text."),
                ("timestamp", "timestamp", "When the state was entered."),
                ("sequence", "bigint", "Number of the state in its run, from 1; null where it was loaded by 0.1.0."),
                ("message", "text", "Message of the state."),
            ),
        ),
        ("id",),
        {"state_details": _state_details(name, "the state")},
        leads_to={f"{run}_run_id": f"{run}_runs"},
        relied_on=("type", "name", "timestamp", "sequence"),
    )


FLOW_RUN_STATES = _states("flow")
TASK_RUN_STATES = _states("task")

FLOWS = Table(
    "flows",
    "Flows: the code that runs.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the flow."),
            ("labels", "json", "Labels (servers from 3.1.5)."),
        ),
    ),
    ("id",),
    {"tags": _tags("flows")},
)

DEPLOYMENTS = Table(
    "deployments",
    "Deployments, with their schedules and tags.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the deployment, unique within its flow."),
            ("version", "text", "Version of the deployment."),
            ("description", "text", "Description."),
            ("flow_id", "text", "The flow it runs (flows.id)."),
            ("paused", "bool", "Whether its schedules are paused."),
            ("concurrency_limit", "bigint", "Runs allowed at the same time."),
            ("global_concurrency_limit", "json", "The concurrency limit as the server keeps it."),
            ("concurrency_options", "json", "What happens to runs over the limit."),
            ("parameters", "json", "Default parameters."),
            ("parameter_openapi_schema", "json", "Schema of the parameters."),
            ("labels", "json", "Labels (servers from 3.1.5)."),
            ("work_queue_id", "text", "The work queue (work_queues.id; servers from 3.6.2)."),
            ("work_queue_name", "text", "Name of the work queue."),
            ("work_pool_name", "text", "Name of the work pool."),
            ("last_polled", "timestamp", "When a worker last asked for its runs."),
            ("path", "text", "Path of the code."),
            ("entrypoint", "text", "Entry point of the flow."),
            ("storage_document_id", "text", "Block document of the code's storage."),
            ("infrastructure_document_id", "text", "Block document of the infrastructure."),
            ("created_by", "json", "Who made it."),
            ("updated_by", "json", "Who changed it last."),
            ("status", "text", "READY or NOT_READY."),
            ("enforce_parameter_schema", "bool", "Whether parameters are checked."),
        ),
    ),
    ("id",),
    {
        "tags": _tags("deployments"),
        "schedules": Table(
            "deployments__schedules",
            "Schedules of a deployment.",
            _columns(
                ("id", "text", "Id of the schedule."),
                ("created", "timestamp", "When the schedule was made."),
                ("updated", "timestamp", "When the schedule was changed; the deployment's own `updated` stands still."),
                ("schedule", "json", "Interval, cron or rrule, with its time zone."),
                ("active", "bool", "Whether it makes runs."),
                ("max_scheduled_runs", "bigint", "Runs kept scheduled ahead, at most."),
                ("parameters", "json", "Parameters for its runs."),
                ("slug", "text", "Name of the schedule."),
            ),
            (),
        ),
    },
    leads_to={"flow_id": "flows", "work_queue_id": "work_queues"},
)

WORK_POOLS = Table(
    "work_pools",
    "Work pools.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the work pool."),
            ("description", "text", "Description."),
            ("type", "text", "Type of infrastructure."),
            ("is_paused", "bool", "Whether it gives out no runs."),
            ("concurrency_limit", "bigint", "Runs allowed at the same time."),
            ("status", "text", "READY, NOT_READY or PAUSED."),
            ("default_queue_id", "text", "Its default work queue (work_queues.id)."),
            ("active_slots", "bigint", "Slots in use (servers from 3.6.23)."),
        ),
    ),
    ("id",),
)

WORK_QUEUES = Table(
    "work_queues",
    "Work queues.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the work queue, unique within its pool."),
            ("description", "text", "Description."),
            ("is_paused", "bool", "Whether it gives out no runs."),
            ("concurrency_limit", "bigint", "Runs allowed at the same time."),
            ("priority", "bigint", "Queues with a lower number are served first."),
            ("work_pool_id", "text", "Its work pool (work_pools.id)."),
            ("work_pool_name", "text", "Name of its work pool."),
            ("last_polled", "timestamp", "When a worker last asked it for runs."),
            ("status", "text", "READY, NOT_READY or PAUSED."),
            ("active_slots", "bigint", "Slots in use (servers from 3.6.23)."),
        ),
    ),
    ("id",),
    leads_to={"work_pool_id": "work_pools"},
)


def _history(run: str) -> Table:
    return Table(
        f"{run}_run_history",
        f"The server's own counts of {run} runs per hour of expected start time and present state.",
        (
            Column("interval_start", "timestamp", "Start of the hour.", nullable=False),
            WORKSPACE,
            *_columns(
                ("interval_end", "timestamp", "End of the hour, itself not inside."),
                ("state_type", "text", "State type that the runs have now."),
                ("state_name", "text", "State name that the runs have now."),
                ("count_runs", "bigint", "Runs expected to start in that hour that are in that state now."),
                ("sum_estimated_run_time", "double", "Their run times together (seconds)."),
                ("sum_estimated_lateness", "double", "Their lateness together (seconds)."),
                ("emptied", "bool", "Always null here: marks an hour whose runs are all gone, so that it is removed."),
            ),
        ),
        ("workspace", "interval_start"),
        removed_where="emptied",
    )


FLOW_RUN_HISTORY = _history("flow")
TASK_RUN_HISTORY = _history("task")

TOMBSTONES = Table(
    "tombstones",
    "What the server no longer has: runs, flows, deployments, work pools, work queues. Rows and states stay; what has "
    "no row here is live.",
    (
        Column("resource", "text", "Table of what is gone: flow_runs, task_runs, deployments, …", nullable=False),
        ID,
        WORKSPACE,
        *_columns(
            ("noticed_at", "timestamp", "When it was first seen to be gone (server's clock)."),
            (
                "reason",
                "text",
                "deleted: the server still keeps runs of that age; aged_out: by retention or vacuum; events_only: a "
                "task run that it told of in events and has no row of, so that there are only states.",
            ),
            ("returned", "bool", "Always null here: marks what came back, so that its tombstone is removed."),
        ),
    ),
    ("resource", "id"),
    removed_where="returned",
)

SYNCS = Table(
    "syncs",
    "One row a load: what was read from which server, and whether the copy was whole up to `window_end` then.",
    (
        WORKSPACE,
        *_columns(
            ("server_url", "text", "URL of the API."),
            ("server_version", "text", "Version of the server; null on Prefect Cloud."),
            ("window_start", "timestamp", "Changes since this time were read; null for a first load."),
            ("window_end", "timestamp", "The ceiling: changes up to this time (server's clock) were read."),
            ("finished_at", "timestamp", "Server's clock when everything was read."),
            ("requests", "bigint", "Requests sent to the server, retries included."),
            ("rows_read", "bigint", "Rows received."),
            ("rows_changed", "bigint", "Rows loaded, new or changed."),
            ("resources", "json", "Rows read and loaded per resource."),
            ("whole", "bool", "Whether nothing is known to be missing."),
            ("gaps", "json", "What is known to be missing, and why."),
            ("warnings", "json", "What is not missing yet, and will be when nothing is done."),
            ("lost_from", "timestamp", "Runs that ended from here on may be lost: the sync came too late."),
            ("lost_until", "timestamp", "Runs that ended up to here may be lost: the sync came too late."),
            ("runs_kept_days", "double", "Days that the server keeps ended runs; null: for ever, or not asked."),
            ("events_kept_days", "double", "Days that the server keeps events; null: not asked."),
            ("purpose", "text", "sync (or null), backfill or repair; only a sync has a window."),
        ),
    ),
    (),
)

VERIFICATIONS = Table(
    "verifications",
    "One row a comparison of a table with the server: what differed, and up to when the copy was proven whole.",
    (
        WORKSPACE,
        *_columns(
            ("resource", "text", "The table that was compared: flow_runs or task_runs."),
            ("verified_at", "timestamp", "Server's clock when the comparison began."),
            ("whole", "bool", "Whether nothing differed but what the next sync loads."),
            (
                "whole_up_to",
                "timestamp",
                "Changes up to this time are all in the table; null where it is not whole, or compared in part.",
            ),
            ("window_start", "timestamp", "Runs expected to start from here on were compared."),
            ("window_end", "timestamp", "Runs expected to start before this time were compared."),
            ("swept", "bool", "Whether every column was compared, not only counts."),
            ("after_repair", "bool", "Whether this is the comparison after a repair."),
            ("server_runs", "bigint", "Runs on the server."),
            ("warehouse_runs", "bigint", "Live runs in the table."),
            ("missing", "bigint", "Runs that the table lacked."),
            ("changed", "bigint", "Runs that differed, were there twice, or whose state history lacked their state."),
            ("deleted", "bigint", "Live runs that the server no longer had, though it keeps runs of that age."),
            ("aged_out", "bigint", "Live runs that retention or vacuum had removed; the copy is whole all the same."),
            ("since_last_sync", "bigint", "Runs that changed after the last sync, which the next one loads."),
            ("requests", "bigint", "Requests sent for this comparison, both tables together."),
            ("gaps", "json", "What could not be compared, and why."),
            ("drift", "json", "What differed: run ids (or intervals), at most 1,000."),
        ),
    ),
    (),
)

LOGS = Table(
    "logs",
    "Log records of flow runs and task runs. Rows never change.",
    (
        ID,
        WORKSPACE,
        CREATED,
        *_columns(
            ("name", "text", "Name of the logger."),
            ("level", "bigint", "10 debug, 20 info, 30 warning, 40 error, 50 critical, or any number between."),
            ("message", "text", "The message: whatever the code wrote."),
            ("timestamp", "timestamp", "When it was written, by the clock of the machine that ran the code."),
            ("flow_run_id", "text", "The flow run (flow_runs.id); of a task run's log the one it belongs to."),
            ("task_run_id", "text", "The task run (task_runs.id)."),
        ),
    ),
    ("id",),
    leads_to={"flow_run_id": "flow_runs", "task_run_id": "task_runs"},
    relied_on=("timestamp",),
)

EVENTS = Table(
    "events",
    "Events of the server and of users' own. Rows never change.",
    (
        ID,
        WORKSPACE,
        *_columns(
            ("occurred", "timestamp", "When it happened, by the clock of whoever sent it."),
            ("received", "timestamp", "When the server got it."),
            ("event", "text", "Name of what happened, such as prefect.deployment.updated."),
            ("resource_id", "text", "What it happened to: `prefect.resource.id` of `resource`."),
            ("resource", "json", "Labels of what it happened to."),
            ("related", "json", "Labels of what else was involved."),
            ("follows", "text", "Id of the event before, where the sender told (events.id)."),
            (
                "payload",
                "json",
                "Everything else; only with `event_payloads`, and then without parameters, job variables, values of "
                "variables, bodies of artifacts and actions of automations.",
            ),
        ),
    ),
    ("id",),
    relied_on=("occurred",),
)

ARTIFACTS = Table(
    "artifacts",
    "Artifacts: latest known row of each. Rows stay when the server forgets them.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("key", "text", "Key that the versions of an artifact share; null where it has none."),
            ("type", "text", "markdown, table, link, progress, image, result, or a type of your own."),
            ("description", "text", "Description."),
            ("metadata_", "json", "Free-form metadata."),
            ("flow_run_id", "text", "The flow run that made it (flow_runs.id)."),
            ("task_run_id", "text", "The task run that made it (task_runs.id)."),
            ("data", "text", "The body, JSON where it is no text; only with `artifact_data`."),
        ),
    ),
    ("id",),
    leads_to={"flow_run_id": "flow_runs", "task_run_id": "task_runs"},
)

WORKERS = Table(
    "workers",
    "Workers of all work pools.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the worker, unique within its pool."),
            ("work_pool_id", "text", "Its work pool (work_pools.id)."),
            ("last_heartbeat_time", "timestamp", "When it was last heard of."),
            ("heartbeat_interval_seconds", "bigint", "Seconds between its heartbeats."),
            ("status", "text", "ONLINE or OFFLINE."),
        ),
    ),
    ("id",),
    leads_to={"work_pool_id": "work_pools"},
)

VARIABLES = Table(
    "variables",
    "Names of variables. Their values are never loaded.",
    (ID, WORKSPACE, CREATED, UPDATED, Column("name", "text", "Name of the variable.")),
    ("id",),
    {"tags": _tags("variables")},
)

AUTOMATIONS = Table(
    "automations",
    "Automations: what triggers them and what they do.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the automation."),
            ("description", "text", "Description."),
            ("enabled", "bool", "Whether it is on."),
            ("trigger", "json", "Which events trigger it."),
            ("actions", "json", "What it does: types and ids, without parameters, payloads and messages."),
            ("actions_on_trigger", "json", "What it does when it triggers, in the same way."),
            ("actions_on_resolve", "json", "What it does when it resolves, in the same way."),
        ),
    ),
    ("id",),
    {"tags": _tags("automations")},
)

CONCURRENCY_LIMITS = Table(
    "concurrency_limits",
    "Concurrency limits: global ones, and those of tags.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *_columns(
            ("name", "text", "Name of the limit; of a tag's `tag:` and the tag."),
            ("tag", "text", "The tag of task runs that it limits; null for a global limit."),
            ("active", "bool", "Whether it is in force."),
            ("concurrency_limit", "bigint", "Slots in all (`limit` in the API of global limits)."),
            ("active_slots", "bigint", "Slots in use."),
            ("slot_decay_per_second", "double", "Slots given back each second by themselves."),
        ),
    ),
    ("id",),
)

SEEN_AT = Column("seen_at", "timestamp", "When the sync began that saw it first (server's clock).", nullable=False)
IN_FORCE = _columns(
    ("status", "text", "READY, NOT_READY or PAUSED."),
    ("is_paused", "bool", "Whether it gave out no runs."),
    ("concurrency_limit", "bigint", "Runs allowed at the same time."),
)

WORK_POOL_STATUS = Table(
    "work_pool_status",
    "What was in force of a work pool since `seen_at`: a row for each change that a sync saw, up to its next row.",
    (
        WORKSPACE,
        SEEN_AT,
        *_columns(
            ("work_pool_id", "text", "The work pool (work_pools.id)."),
            ("name", "text", "Name of the work pool."),
        ),
        *IN_FORCE,
    ),
    (),
    leads_to={"work_pool_id": "work_pools"},
)

WORK_QUEUE_STATUS = Table(
    "work_queue_status",
    "What was in force of a work queue since `seen_at`: a row for each change that a sync saw, up to its next row.",
    (
        WORKSPACE,
        SEEN_AT,
        *_columns(
            ("work_queue_id", "text", "The work queue (work_queues.id)."),
            ("name", "text", "Name of the work queue, unique within its pool."),
            ("work_pool_id", "text", "Its work pool (work_pools.id)."),
            ("work_pool_name", "text", "Name of its work pool."),
        ),
        *IN_FORCE,
        Column("priority", "bigint", "Queues with a lower number were served first."),
    ),
    (),
    leads_to={"work_queue_id": "work_queues", "work_pool_id": "work_pools"},
)

# what changes while a deployment stays what it is: workers poll, slots are taken
PASSING = ("last_polled", "status", "global_concurrency_limit")

DEPLOYMENT_CHANGES = Table(
    "deployment_changes",
    "Versions of each deployment: a row for each change that a sync saw, valid until the next one or the end.",
    (
        *(column for column in DEPLOYMENTS.columns if column.name not in PASSING),
        *_columns(
            ("tags", "json", "Tags, sorted."),
            ("schedules", "json", "Schedules, without their ids."),
            ("row_hash", "text", "Differs where anything but `updated` and `updated_by` does."),
            ("valid_from", "timestamp", "When the sync began that saw it first (server's clock)."),
            ("valid_to", "timestamp", "When the sync began that no longer saw it; null while it is in force."),
        ),
    ),
    (),
    leads_to={"flow_id": "flows", "work_queue_id": "work_queues", "id": "deployments"},
    relied_on=("row_hash", "valid_from", "valid_to"),
)

TABLES = {
    table.name: table
    for table in (
        FLOW_RUNS,
        TASK_RUNS,
        FLOW_RUN_STATES,
        TASK_RUN_STATES,
        FLOWS,
        DEPLOYMENTS,
        WORK_POOLS,
        WORK_QUEUES,
        FLOW_RUN_HISTORY,
        TASK_RUN_HISTORY,
        TOMBSTONES,
        SYNCS,
        VERIFICATIONS,
        LOGS,
        EVENTS,
        ARTIFACTS,
        WORKERS,
        VARIABLES,
        AUTOMATIONS,
        CONCURRENCY_LIMITS,
        WORK_POOL_STATUS,
        WORK_QUEUE_STATUS,
        DEPLOYMENT_CHANGES,
    )
}

# with the tables that dlt makes of lists
ALL_TABLES = {**TABLES, **{child.name: child for table in TABLES.values() for child in table.children.values()}}

# what a run's row tells of its present state, under the names of the state's own table: the same values
OF_THE_STATE = {
    (f"{run}_runs{child}", ours): (f"{run}_run_states{child}", theirs)
    for run in ("flow", "task")
    for child, ours, theirs in (
        ("", "state_message", "message"),
        *(("__state_details", column.name, column.name) for column in STATE_DETAILS),
    )
}

# loaded beside the resources that are asked for: what became of runs, and what syncs and verifications did
RECORDS = ("tombstones", "syncs", "verifications")

# resources that are read only where they are asked for
EXTRAS = (
    *("logs", "events", "artifacts", "workers", "variables", "automations", "concurrency_limits"),
    *("work_pool_status", "work_queue_status", "deployment_changes"),
)
