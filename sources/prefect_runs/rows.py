"""Rows of the API shaped into rows of the tables. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from dlt.common.json import json

from .clock import parse
from .exceptions import UnexpectedReply
from .paging import Row
from .tables import Table

# what a column of each type may hold in the API's JSON
JSON_TYPES: dict[str, frozenset[type]] = {
    "text": frozenset({str}),
    "timestamp": frozenset({str}),
    "double": frozenset({float, int}),
    "bigint": frozenset({int}),
    "bool": frozenset({bool}),
    "json": frozenset({dict, list, str, int, float, bool}),
}

# details that every state has, whether or not anything was said
RUN_IDS = ("flow_run_id", "task_run_id")


class Shape:
    """Takes the columns of one table out of the API's rows.

    Nulls are left out (the column exists all the same), unknown fields are dropped, free-form JSON becomes text
    (dlt stores it as JSON), and a field of another type than the table's is refused before anything lands.
    """

    def __init__(self, table: Table, workspace: str | None) -> None:
        self._table = table
        self._constant: Row = {} if workspace is None else {"workspace": workspace}
        self._columns = [(column.name, JSON_TYPES[column.type]) for column in table.columns]
        self._times = [column.name for column in table.columns if column.type == "timestamp"]
        self._free_form = [column.name for column in table.columns if column.type == "json"]

    def __call__(self, row: Row) -> Row:
        """The shaped row.

        Raises:
            UnexpectedReply: a field has another type, or a time cannot be read.
        """
        shaped: Row = dict(self._constant)
        get = row.get
        for name, types in self._columns:
            value = get(name)
            if value is None:
                continue
            # the exact type: true and false are integers to isinstance
            if type(value) not in types:
                raise self._refusal(row, name, value)
            shaped[name] = value
        for name in self._times:
            if name in shaped:
                self._check_time(row, name, shaped[name])
        for name in self._free_form:
            if name in shaped:
                # as text, for dlt drops the first character of values inside JSON that begin with U+F026 to U+F02E,
                # with which it marks types in its own files
                shaped[name] = _as_text(shaped[name])
        return shaped

    def _check_time(self, row: Row, name: str, value: str) -> None:
        try:
            parse(value)
        except ValueError:
            raise self._refusal(row, name, value) from None

    def _refusal(self, row: Row, name: str, value: Any) -> UnexpectedReply:
        return UnexpectedReply(
            f"{self._table.name} row {row.get('id')}: {name} is {str(value)[:80]!r} ({type(value).__name__}), "
            f"which this version does not understand; nothing of this read was loaded. Is the server a Prefect 3?"
        )


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        return json.dumps(_storable(value))


def _storable(value: Any) -> Any:
    """`value` with its integers beyond 64 bits as text, for dlt would make floats of them and lose their digits."""
    if isinstance(value, dict):
        return {key: _storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return str(value) if type(value) is int and not -(2**63) <= value < 2**64 else value


def check_run(row: Row, asked: str) -> None:
    """Refuse a run whose fields a sync itself relies on are not what they must be.

    Raises:
        UnexpectedReply: naming the request, the run, the field and what it holds.
    """
    state = row.get("state")
    timestamp = state.get("timestamp") if isinstance(state, dict) else None
    sound = {
        "updated": _is_time(row.get("updated")),
        "expected_start_time": _is_time(row.get("expected_start_time")),
        "end_time": row.get("end_time") is None or _is_time(row["end_time"]),
        "state": state is None or _is_time(timestamp),
    }
    for field, good in sound.items():
        if not good:
            raise UnexpectedReply(
                f"{asked} answered run {row['id']} with {field} {str(row.get(field))[:80]!r}, which this version does "
                "not understand; nothing of this read was loaded. Is the server a Prefect 3?"
            )


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and parse(value) is not None
    except ValueError:
        return False


def version(row: Row) -> tuple[datetime, datetime | None]:
    """What tells two copies of a run's row apart: `updated`, and the time of its state (None while torn)."""
    state = row.get("state")
    return parse(row["updated"]), parse(state["timestamp"]) if state else None


def is_torn(row: Row) -> bool:
    """Whether the server showed a row whose state it has not written yet."""
    return row.get("state_id") is not None and row.get("state") is None


def tags_of(row: Row) -> list[str]:
    """The row's tags, as the child table takes them."""
    tags = row.get("tags")
    if tags is None:
        return []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UnexpectedReply(f"row {row.get('id')}: tags are {str(tags)[:80]!r}, not a list of texts")
    return tags


class RunShape:
    """Shapes rows of `flow_runs` or `task_runs`: the state's time and message lifted out, its details a child."""

    def __init__(self, table: Table, workspace: str) -> None:
        self._shape = Shape(table, workspace)
        self._details = DetailsShape(table)

    def __call__(self, row: Row) -> Row:
        """The shaped row with its children `tags` and `state_details`."""
        state = row.get("state")
        if state is not None:
            row = {**row, "state_timestamp": state.get("timestamp"), "state_message": state.get("message")}
        shaped = self._shape(row)
        shaped["tags"] = tags_of(row)
        shaped["state_details"] = self._details(state)
        return shaped


class StateShape:
    """Shapes states of a run's history: `shape(state, run_id)`."""

    def __init__(self, table: Table, run_column: str, workspace: str) -> None:
        self._shape = Shape(table, workspace)
        self._details = DetailsShape(table)
        self._run_column = run_column

    def __call__(self, state: Row, run_id: str) -> Row:
        """The shaped state with its child `state_details`."""
        shaped = self._shape({**state, self._run_column: run_id})
        shaped["state_details"] = self._details(state)
        return shaped


class DetailsShape:
    """Shapes a state's `state_details` into at most one child row."""

    def __init__(self, owner: Table) -> None:
        self._shape = Shape(owner.children["state_details"], None)

    def __call__(self, state: Row | None) -> list[Row]:
        """One row where the details say anything beyond the run's ids and `false`, else none."""
        details = (state or {}).get("state_details") or {}
        if not isinstance(details, dict):
            raise UnexpectedReply(
                f"state {(state or {}).get('id')}: state_details are {str(details)[:80]!r}, no object"
            )
        if not any(value for name, value in details.items() if name not in RUN_IDS):
            return []
        return [self._shape({**details, "state_id": (state or {}).get("id")})]


def shaped_with_children(table: Table, workspace: str) -> Callable[[Row], Row]:
    """A shape for the small tables: columns, and each child taken as the API nests it."""
    shape = Shape(table, workspace)
    children = {name: Shape(child, None) for name, child in table.children.items() if name != "tags"}

    def shaped(row: Row) -> Row:
        result = shape(row)
        if "tags" in table.children:
            result["tags"] = tags_of(row)
        for name, child in children.items():
            result[name] = [child(item) for item in row.get(name) or []]
        return result

    return shaped
