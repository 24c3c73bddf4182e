"""Rows of the API shaped into rows of the tables. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from dlt.common.json import json

from .clock import parse
from .exceptions import UnexpectedReply, described
from .paging import Row
from .privacy import ColumnRules, Privacy
from .tables import LINKS, Column, Table

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
    (dlt stores it as JSON), and a field of another type than the table's is refused before anything lands. What
    privacy rules drop or hash is not in the shaped row, nor in the refusal.
    """

    def __init__(self, table: Table, workspace: str | None, privacy: Privacy) -> None:
        rules = privacy.of(table)
        columns = [column for column in table.columns if column.name not in rules.dropped]
        self._table = table
        self._constant: Row = {} if workspace is None else {"workspace": workspace}
        self._columns = [(column.name, JSON_TYPES[column.type]) for column in columns]
        self._times = [column.name for column in columns if column.type == "timestamp"]
        self._converted = [(column.name, convert) for column in columns if (convert := _conversion(column, rules))]

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
        for name, convert in self._converted:
            if name in shaped:
                shaped[name] = convert(shaped[name])
        return shaped

    def _check_time(self, row: Row, name: str, value: str) -> None:
        if not _is_time(value):
            raise self._refusal(row, name, value)

    def _refusal(self, row: Row, name: str, value: Any) -> UnexpectedReply:
        return UnexpectedReply(
            f"{self._table.name} row {row.get('id')}: {name} is {described(value)}, which this version does not "
            "understand; nothing of this read was loaded."
        )


def _conversion(column: Column, rules: ColumnRules) -> Callable[[Any], Any] | None:
    """What makes the value to load of the API's; None where it is loaded as it is."""
    change = rules.changes.get(column.name)
    if column.type != "json" or change is None:
        return _as_text if column.type == "json" else change

    def convert(value: Any) -> str | None:
        changed = change(value)
        return None if changed is None else _as_text(changed)

    return convert


def _as_text(value: Any) -> str:
    # dlt drops the first character of values inside JSON that begin with U+F026 to U+F02E, with which it marks types in
    # its own files
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
        "created": _is_time(row.get("created")),
        "updated": _is_time(row.get("updated")),
        "expected_start_time": _is_time(row.get("expected_start_time")),
        "end_time": row.get("end_time") is None or _is_time(row["end_time"]),
        "state": state is None or _is_time(timestamp),
    }
    for field, good in sound.items():
        if not good:
            raise UnexpectedReply(
                f"{asked} answered run {row['id']} with {field} {described(row.get(field))}, which this version does "
                "not understand; nothing of this read was loaded."
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


class TagsShape:
    """Shapes a row's tags into the texts that dlt makes a child table of."""

    def __init__(self, owner: Table, privacy: Privacy) -> None:
        rules = privacy.of(owner.children["tags"])
        self._dropped = rules.nothing
        self._change = rules.changes.get("value")

    def __call__(self, row: Row) -> list[str]:
        """The tags.

        Raises:
            UnexpectedReply: they are no list of texts.
        """
        tags = row.get("tags")
        if tags is None or self._dropped:
            return []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise UnexpectedReply(f"row {row.get('id')}: tags are {described(tags)}, not a list of texts")
        return [self._change(tag) for tag in tags] if self._change else tags


class RunShape:
    """Shapes rows of `flow_runs` or `task_runs`: the state's time and message lifted out, its details a child.

    Attributes:
        links: columns whose first value is kept, for the warehouse has it as it was: no rule is for them.
    """

    def __init__(self, table: Table, workspace: str, privacy: Privacy) -> None:
        rules = privacy.of(table)
        ruled = {*rules.dropped, *rules.changes}
        self.links = tuple(column for column in LINKS.get(table.name, ()) if column not in ruled)
        self._shape = Shape(table, workspace, privacy)
        self._tags = TagsShape(table, privacy)
        self._details = DetailsShape(table, privacy)

    def __call__(self, row: Row) -> Row:
        """The shaped row with its children `tags` and `state_details`."""
        state = row.get("state")
        if state is not None:
            row = {**row, "state_timestamp": state.get("timestamp"), "state_message": state.get("message")}
        shaped = self._shape(row)
        shaped["tags"] = self._tags(row)
        shaped["state_details"] = self._details(state)
        return shaped


class StateShape:
    """Shapes states of a run's history: `shape(state, run_id)`."""

    def __init__(self, table: Table, run_column: str, workspace: str, privacy: Privacy) -> None:
        self._shape = Shape(table, workspace, privacy)
        self._details = DetailsShape(table, privacy)
        self._run_column = run_column

    def __call__(self, state: Row, run_id: str) -> Row:
        """The shaped state with its child `state_details`."""
        shaped = self._shape({**state, self._run_column: run_id})
        shaped["state_details"] = self._details(state)
        return shaped


class DetailsShape:
    """Shapes a state's `state_details` into at most one child row."""

    def __init__(self, owner: Table, privacy: Privacy) -> None:
        child = owner.children["state_details"]
        rules = privacy.of(child)
        self._shape = Shape(child, None, privacy)
        self._dropped = rules.nothing
        self._says_nothing = {*RUN_IDS, *rules.dropped}

    def __call__(self, state: Row | None) -> list[Row]:
        """One row where the details say anything beyond the run's ids and `false`, else none."""
        details = (state or {}).get("state_details") or {}
        if not isinstance(details, dict):
            raise UnexpectedReply(f"state {(state or {}).get('id')}: state_details are {described(details)}, no object")
        if self._dropped or not any(value for name, value in details.items() if name not in self._says_nothing):
            return []
        return [self._shape({**details, "state_id": (state or {}).get("id")})]


def shaped_pages(pages: Iterable[list[Row]], shape: Callable[[Row], Row]) -> Iterator[list[Row]]:
    """`pages`, each row shaped when its page is taken."""
    return ([shape(row) for row in page] for page in pages)


def shaped_with_children(table: Table, workspace: str, privacy: Privacy) -> Callable[[Row], Row]:
    """A shape for the small tables: columns, and each child taken as the API nests it."""
    shape = Shape(table, workspace, privacy)
    tags = TagsShape(table, privacy) if "tags" in table.children else None
    children = {
        name: None if privacy.of(child).nothing else Shape(child, None, privacy)
        for name, child in table.children.items()
        if name != "tags"
    }

    def shaped(row: Row) -> Row:
        result = shape(row)
        if tags:
            result["tags"] = tags(row)
        for name, child in children.items():
            result[name] = [child(item) for item in _items(row, name)] if child else []
        return result

    return shaped


def _items(row: Row, name: str) -> list[Row]:
    items = row.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UnexpectedReply(f"row {row.get('id')}: {name} are {described(items)}, not a list of objects")
    return items
