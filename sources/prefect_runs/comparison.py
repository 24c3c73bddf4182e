"""Every column of a run as the server gives it and as the warehouse has it. Pure: no I/O, no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .clock import as_utc
from .paging import Row
from .privacy import Privacy
from .rows import RunShape
from .tables import LINKS, Column, Table


class Comparison:
    """Tells which columns of a run differ, as privacy rules leave them. Links that the server nulled are none of them.

    What PostgreSQL does not store is not compared: zero characters, which are taken out, and how JSON writes a number:
    it makes `1e22` an integer and `-0.0` zero.

    A row of the warehouse has its columns, `tags` (a list of texts) and `state_details` (a list of rows).
    """

    def __init__(self, table: Table, workspace: str, privacy: Privacy) -> None:
        self._table = table
        self._shape = RunShape(table, workspace, privacy)
        self._details = table.children["state_details"]
        self._links = LINKS.get(table.name, ())

    def differing(self, server: Row, held: Row) -> tuple[str, ...]:
        """Names of the columns and child tables in which the API's row and the warehouse's differ."""
        shaped = self._shape(server)
        ours, theirs = _values(self._table.columns, held), _values(self._table.columns, shaped)
        for link in self._links:
            if theirs[link] is None:
                ours[link] = None
        columns = [name for name in theirs if ours[name] != theirs[name]]
        if sorted(map(_as_stored, held["tags"])) != sorted(map(_as_stored, shaped["tags"])):
            columns.append("tags")
        if self._all_details(held) != self._all_details(shaped):
            columns.append("state_details")
        return tuple(columns)

    def _all_details(self, row: Row) -> list[Row]:
        return [_values(self._details.columns, details) for details in row["state_details"]]


def _values(columns: Iterable[Column], row: Row) -> Row:
    return {column.name: _value(column, row.get(column.name)) for column in columns}


def _value(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.type == "timestamp":
        return as_utc(value)
    if column.type == "json":
        return _as_stored(json.loads(value) if isinstance(value, str) else value)
    return float(value) if column.type == "double" else _as_stored(value)


def _as_stored(value: Any) -> Any:
    """The same for values that PostgreSQL cannot tell apart."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, float) and value.is_integer():
        # not int(value): PostgreSQL keeps the digits that JSON has, and 1e308 as a float is none of the powers of ten
        return int(Decimal(repr(value)))
    if isinstance(value, list):
        return [_as_stored(inner) for inner in value]
    if isinstance(value, dict):
        return {_as_stored(name): _as_stored(inner) for name, inner in value.items()}
    return value
