"""Tables as dlt resources: columns with their hints, and how loaded rows meet those that are there."""

from __future__ import annotations

from typing import Any

import dlt
from dlt.extract import DltResource

from .tables import Table

# a column never gets a second type beside its own: a field of another type is refused before it lands (rows.Shape)
CONTRACT: Any = {"tables": "evolve", "columns": "evolve", "data_type": "freeze"}


def resource(rows: Any, table: Table) -> DltResource:
    """The resource that loads `rows` (a generator function, or lists of rows) into `table`."""
    # rows are merged, for reads overlap on purpose; the newest copy wins where one load holds two
    hints: dict[str, Any] = {"write_disposition": "append"}
    columns: Any = table.hints()
    if "id" in table.key:
        hints = {"write_disposition": "merge", "primary_key": list(table.key)}
        if "updated" in columns:
            columns["updated"]["dedup_sort"] = "desc"
    elif table.key:
        # an hour's counts are replaced together
        hints = {"write_disposition": "merge", "merge_key": list(table.key)}
    if table.removed_where:
        columns[table.removed_where]["hard_delete"] = True
    children: Any = {
        name: {"columns": child.hints(), "write_disposition": hints["write_disposition"]}
        for name, child in table.children.items()
    }
    made: DltResource = dlt.resource(
        rows,
        name=table.name,
        columns=columns,
        nested_hints=children or None,
        references=[_reference(column, to) for column, to in table.leads_to.items()],
        schema_contract=CONTRACT,
        **hints,
    )
    made.apply_hints(additional_table_hints={"description": table.description})
    return made


def _reference(column: str, table: str) -> Any:
    # told for diagrams and catalogues; no destination enforces it
    return {
        "cardinality": "many_to_one",
        "columns": [column],
        "referenced_table": table,
        "referenced_columns": ["id"],
    }
