"""The tables: every column with its type and meaning. dlt's schema, its hints and the docs come from here.

Column names are the API's own. Columns that the API computes at read time (`estimated_run_time`,
`estimated_start_time_delta`) change while `updated` stands still and are left out; so is what holds secrets in
practice (`job_variables`, `pull_steps`, a state's `data`, `base_job_template`).
"""

from __future__ import annotations

from .columns import Column, Table, Type
from .dimensions import DEPLOYMENTS, FLOWS, WORK_POOLS, WORK_QUEUES
from .extras import (
    ARTIFACTS,
    AUTOMATIONS,
    CONCURRENCY_LIMITS,
    DEPLOYMENT_CHANGES,
    EVENTS,
    LOGS,
    VARIABLES,
    WORK_POOL_STATUS,
    WORK_QUEUE_STATUS,
    WORKERS,
)
from .records import SYNCS, TOMBSTONES, VERIFICATIONS
from .runs import (
    FLOW_RUN_HISTORY,
    FLOW_RUN_STATES,
    FLOW_RUNS,
    LINKS,
    STATE_DETAILS,
    TASK_RUN_HISTORY,
    TASK_RUN_STATES,
    TASK_RUNS,
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

__all__ = [
    "ALL_TABLES",
    "DEPLOYMENTS",
    "DEPLOYMENT_CHANGES",
    "EXTRAS",
    "FLOWS",
    "FLOW_RUNS",
    "FLOW_RUN_HISTORY",
    "FLOW_RUN_STATES",
    "LINKS",
    "OF_THE_STATE",
    "RECORDS",
    "TABLES",
    "TASK_RUNS",
    "TASK_RUN_HISTORY",
    "TASK_RUN_STATES",
    "Column",
    "Table",
    "Type",
]
