"""What runs belong to: flows, deployments, work pools, work queues."""

from __future__ import annotations

from .columns import CREATED, ID, UPDATED, WORKSPACE, Table, columns, tags

FLOWS = Table(
    "flows",
    "Flows: the code that runs.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *columns(
            ("name", "text", "Name of the flow."),
            ("labels", "json", "Labels (servers from 3.1.5)."),
        ),
    ),
    ("id",),
    {"tags": tags("flows")},
)

DEPLOYMENTS = Table(
    "deployments",
    "Deployments, with their schedules and tags.",
    (
        ID,
        WORKSPACE,
        CREATED,
        UPDATED,
        *columns(
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
        "tags": tags("deployments"),
        "schedules": Table(
            "deployments__schedules",
            "Schedules of a deployment.",
            columns(
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
        *columns(
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
        *columns(
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
