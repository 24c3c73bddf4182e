"""The zero character, which PostgreSQL stores nowhere: JSON is loaded without it, or its load would fail for ever."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from prefect_runs.tables import Table

# dlt takes it out of texts, and leaves it in JSON, of which the destination then refuses the whole load
REFUSED_BY = ("postgres", "redshift")
# not where the backslash before it is itself escaped
IN_JSON = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def without_zeros(table: Table) -> Callable[[Any], Any]:
    """What takes it out of the JSON columns of a shaped row, and of the rows that the row holds."""
    columns = [column.name for column in table.columns if column.type == "json"]
    children = {name: without_zeros(child) for name, child in table.children.items() if name != "tags"}

    def taken(row: Any) -> Any:
        # dlt passes marks of its own among the rows
        if not isinstance(row, dict):
            return row
        for name in columns:
            if isinstance(row.get(name), str):
                row[name] = IN_JSON.sub(r"\1", row[name])
        for name, child in children.items():
            row[name] = [child(inner) for inner in row.get(name) or ()]
        return row

    return taken
