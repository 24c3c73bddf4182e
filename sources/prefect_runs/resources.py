"""Tables as dlt resources: columns with their hints, and how loaded rows meet those that are there."""

from __future__ import annotations

from typing import Any

import dlt
from dlt.common.schema.utils import has_table_seen_data
from dlt.extract import DltResource

from .exceptions import ConfigurationError
from .tables import Table

# a column never gets a second type beside its own: a field of another type is refused before it lands (rows.Shape)
CONTRACT: Any = {"tables": "evolve", "columns": "evolve", "data_type": "freeze"}


def resource(
    rows: Any, table: Table, write_disposition: dict[str, Any] | None = None, selected: bool = True
) -> DltResource:
    """The resource that loads `rows` (a generator function, or lists of rows) into `table`.

    Args:
        write_disposition: by default rows are merged where the table has a key, and appended where not.
        selected: whether it is read unless others are asked for.
    """
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
    if write_disposition:
        hints = {"write_disposition": write_disposition}
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
        selected=selected,
        **hints,
    )
    made.apply_hints(additional_table_hints={"description": table.description})
    return made


def require_scd2(table: str) -> None:
    """Refuse a destination that cannot keep the times of a row's validity.

    Raises:
        ConfigurationError: the pipeline's destination lacks dlt's merge strategy `scd2`.
    """
    destination = dlt.current.pipeline().destination
    if "scd2" not in (destination.capabilities().supported_merge_strategies or ()):
        raise ConfigurationError(
            f"{table} needs dlt's merge strategy scd2, which the destination {destination.destination_name} does not "
            "have: leave the table out, or load it into a database"
        )


def has_rows(table: str) -> bool:
    """Whether the pipeline that reads this ever loaded rows into `table`."""
    pipeline = dlt.current.pipeline()
    name = pipeline.default_schema_name
    found = pipeline.schemas[name].tables.get(table) if name else None
    return found is not None and has_table_seen_data(found)


def _reference(column: str, table: str) -> Any:
    # told for diagrams and catalogues; no destination enforces it
    return {
        "cardinality": "many_to_one",
        "columns": [column],
        "referenced_table": table,
        "referenced_columns": ["id"],
    }
