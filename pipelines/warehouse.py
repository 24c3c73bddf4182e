"""What the destination holds, asked in SQL. Gives the source its `Known`, and the screens their numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from prefect_runs import Version
from prefect_runs.clock import as_utc
from prefect_runs.tables import TABLES


class Warehouse:
    """Questions to the dataset of one pipeline. A table that does not exist yet is empty."""

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        self._pipeline = pipeline

    def versions(self, table: str, since: datetime) -> Mapping[str, Version]:
        """See `prefect_runs.known.Known`."""
        rows = self.rows(
            f"SELECT id, updated, state_timestamp FROM {{{table}}} "
            "WHERE updated >= %s OR end_time >= %s OR end_time IS NULL",
            since,
            since,
        )
        return {id_: (as_utc(updated), as_utc(entered) if entered else None) for id_, updated, entered in rows}

    def present(self, table: str, ids: Collection[str]) -> set[str]:
        """See `prefect_runs.known.Known`."""
        if not ids:
            return set()
        places = ", ".join(["%s"] * len(ids))
        return {row[0] for row in self.rows(f"SELECT id FROM {{{table}}} WHERE id IN ({places})", *ids)}

    def counts(self) -> dict[str, int]:
        """Rows of each table that exists."""
        answers = self._answers((f"SELECT count(*) FROM {{{table}}}", ()) for table in TABLES)
        return {table: int(rows[0][0]) for table, rows in zip(TABLES, answers, strict=False) if rows}

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows that `sql` gives; `{table}` stands for a table of the dataset."""
        return next(self._answers([(sql, parameters)]), [])

    def _answers(self, questions: Iterable[tuple[str, tuple[Any, ...]]]) -> Iterator[list[tuple[Any, ...]]]:
        # before the first load there is no schema, and so no dataset to ask; opening one costs 40 ms each time
        if self._pipeline.default_schema_name is None:
            return
        with self._pipeline.sql_client() as client:
            names = {table: client.make_qualified_table_name(table) for table in TABLES}
            for sql, parameters in questions:
                try:
                    with client.execute_query(sql.format(**names), *parameters) as cursor:
                        yield [tuple(row) for row in cursor.fetchall()]
                except DatabaseUndefinedRelation:
                    yield []
