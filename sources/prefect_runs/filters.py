"""The user's filters and a read's own bounds, as the body of a `/filter`, `/count` or `/history` request."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection
from typing import Any

from dlt.common.json import json

from .clock import parse, text
from .paging import Body
from .settings import STATE_TYPES, RunFilters


def body(filters: RunFilters, kind: str, own: Body) -> Body:
    """The request body for runs of `kind` (`flow_runs` or `task_runs`) that match `filters` and `own`.

    Args:
        own: conditions on the runs' own columns, such as `{"end_time": {"after_": …}}`.
    """
    own = dict(own)
    _narrow_state_types(filters, own)
    _narrow_start(filters, own)
    result: Body = {kind: own} if own else {}
    tags = _without_none({"any_": filters.tags_any, "all_": filters.tags_all})
    if tags:
        result["flow_runs"] = {**result.get("flow_runs", {}), "tags": tags}
    if filters.flow_names:
        result["flows"] = {"name": {"any_": filters.flow_names}}
    if filters.deployments:
        result["deployments"] = _deployments(filters.deployments)
    return result


def scope(filters: RunFilters, workspace: str) -> str:
    """A short text that differs when other runs are asked for: then what is loaded must be read anew."""
    asked = json.dumps([workspace, {**dict(filters), "start_date": str(filters.start)}], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def wanted_state_types(filters: RunFilters) -> set[str] | None:
    """The state types that `filters` let through; None for all."""
    if not filters.state_types and not filters.exclude_state_types:
        return None
    return set(filters.state_types or STATE_TYPES) - set(filters.exclude_state_types or ())


def lets_through(filters: RunFilters, state_types: Collection[str]) -> bool:
    """Whether `filters` let runs of all these state types through."""
    wanted = wanted_state_types(filters)
    return wanted is None or wanted.issuperset(state_types)


def _narrow_state_types(filters: RunFilters, own: Body) -> None:
    wanted = wanted_state_types(filters)
    if wanted is None:
        return
    # by what is wanted only: task runs have no filter for what is not
    asked = own.get("state", {}).get("type", {}).get("any_", STATE_TYPES)
    own["state"] = {"type": {"any_": [name for name in asked if name in wanted]}}


def _narrow_start(filters: RunFilters, own: Body) -> None:
    if filters.start is None:
        return
    expected = own.get("expected_start_time", {})
    if "after_" not in expected or parse(expected["after_"]) < filters.start:
        own["expected_start_time"] = {**expected, "after_": text(filters.start)}


def _deployments(names_or_ids: list[str]) -> dict[str, Any]:
    ids = [value for value in names_or_ids if _is_id(value)]
    names = [value for value in names_or_ids if not _is_id(value)]
    by_id, by_name = {"id": {"any_": ids}}, {"name": {"any_": names}}
    if ids and names:
        return {"operator": "or_", **by_id, **by_name}
    return by_id if ids else by_name


def _is_id(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
