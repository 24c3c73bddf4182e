"""Tables that are loaded only where they are asked for."""

from __future__ import annotations

from .columns import CREATED, ID, UPDATED, WORKSPACE, Column, Table, columns, tags
from .dimensions import DEPLOYMENTS

LOGS = Table(
    "logs",
    "Log records of flow runs and task runs. Rows never change.",
    (
        ID,
        WORKSPACE,
        CREATED,
        *columns(
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
        *columns(
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
        *columns(
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
        *columns(
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
    {"tags": tags("variables")},
)

AUTOMATIONS = Table(
    "automations",
    "Automations: what triggers them and what they do.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *columns(
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
    {"tags": tags("automations")},
)

CONCURRENCY_LIMITS = Table(
    "concurrency_limits",
    "Concurrency limits: global ones, and those of tags.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *columns(
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
IN_FORCE = columns(
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
        *columns(
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
        *columns(
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
        *columns(
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
