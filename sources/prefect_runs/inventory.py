"""Small things that are read whole at every sync: workers, variables, automations, concurrency limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .client import PrefectClient
from .dimensions import of_pools, pages_of
from .paging import Row

# parts of an automation's action beside its ids. Parameters, job variables, payloads and texts may hold secrets
ACTION_PARTS = frozenset({"type", "source", "state", "schedule_after"})
PREFIX_OF_TAG = "tag:"
ACTIONS = ("actions", "actions_on_trigger", "actions_on_resolve")


def workers(client: PrefectClient) -> Iterator[list[Row]]:
    """Pages of the workers of all work pools."""
    return of_pools(client, "workers")


def variables(client: PrefectClient) -> Iterator[list[Row]]:
    """Pages of all variables."""
    return pages_of(client, "/variables/filter", {"sort": "NAME_ASC"})


def automations(client: PrefectClient) -> Iterator[list[Row]]:
    """Pages of all automations, of their actions only what they are and what they act on."""
    for rows in pages_of(client, "/automations/filter", {"sort": "NAME_ASC"}):
        yield [{**row, **{name: _safe_actions(row.get(name)) for name in ACTIONS}} for row in rows]


def concurrency_limits(client: PrefectClient) -> Iterator[list[Row]]:
    """Pages of all concurrency limits: first those of tags, then the global ones.

    Servers from 3.4 on keep a tag's limit as a global one too, under the same id, and give few of them, or none, as one
    of a tag where there are many global ones.
    """
    tags: set[str] = set()
    for rows in pages_of(client, "/concurrency_limits/filter"):
        tags.update(row["id"] for row in rows)
        yield [_limit_of_tag(row) for row in rows]
    for rows in pages_of(client, "/v2/concurrency_limits/filter"):
        yield [
            {**row, "concurrency_limit": row["limit"], "tag": _tag_of(row["name"])}
            for row in rows
            if row["id"] not in tags
        ]


INVENTORY: Mapping[str, Callable[[PrefectClient], Iterator[list[Row]]]] = {
    "workers": workers,
    "variables": variables,
    "automations": automations,
    "concurrency_limits": concurrency_limits,
}


def _safe_actions(actions: Any) -> Any:
    if not isinstance(actions, list):
        return None
    return [
        {name: part for name, part in action.items() if name in ACTION_PARTS or name.endswith("_id")}
        for action in actions
        if isinstance(action, dict)
    ]


def _tag_of(name: str) -> str | None:
    return name.removeprefix(PREFIX_OF_TAG) if name.startswith(PREFIX_OF_TAG) else None


def _limit_of_tag(row: Row) -> Row:
    return {
        **row,
        "name": f"{PREFIX_OF_TAG}{row['tag']}",
        "active": True,
        "active_slots": len(row.get("active_slots") or []),
    }
