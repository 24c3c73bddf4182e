"""The history of deployments: rows that dlt's `scd2` strategy keeps with the times of their validity.

Pure: no I/O, no clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from .clock import text
from .paging import Row
from .tables import DEPLOYMENT_CHANGES

# who changed a deployment and when is told with a version, and makes none
NO_VERSION = ("updated", "updated_by")
VERSIONED = [
    column.name
    for column in DEPLOYMENT_CHANGES.columns
    if column.name not in (*NO_VERSION, "row_hash", "valid_from", "valid_to")
]
# an id is given anew each time a deployment is deployed
SCHEDULE_PARTS = ("schedule", "active", "max_scheduled_runs", "parameters", "slug")


def deployment_version(deployment: Row, shape: Callable[[Row], Row]) -> Row:
    """A deployment, shaped, with its `row_hash`. What rules of privacy leave out makes no version, and is in no hash.

    Args:
        deployment: as the API gives it.
        shape: that of `deployment_changes`.
    """
    ordered = {
        **deployment,
        "tags": sorted(deployment.get("tags") or []),
        "schedules": sorted(map(_schedule, deployment.get("schedules") or []), key=json.dumps),
    }
    row = shape(json.loads(json.dumps(ordered, sort_keys=True)))
    told = json.dumps([row.get(name) for name in VERSIONED])
    return {**row, "row_hash": hashlib.sha256(told.encode()).hexdigest()[:32]}


def scd2(workspace: str, boundary: datetime | None = None) -> Any:
    """dlt's write disposition: what is not in a load is retired, in this workspace only.

    Not by a merge key: with that the last deployment of a workspace would never be retired.

    Args:
        boundary: the time at which versions begin and end.
    """
    quoted = workspace.replace("'", "''").replace("{", "{{").replace("}", "}}")
    return {
        "disposition": "merge",
        "strategy": "scd2",
        "validity_column_names": ["valid_from", "valid_to"],
        "row_version_column_name": "row_hash",
        "destination_scope": f"workspace = '{quoted}'",
        **({"boundary_timestamp": text(boundary)} if boundary else {}),
    }


def _schedule(schedule: Row) -> Row:
    return {name: schedule.get(name) for name in SCHEDULE_PARTS}
