"""Questions to tables and models, written in DuckDB's SQL and asked of any destination, without making a view there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from prefect_runs.tables import ALL_TABLES

from .destination.failures import patiently
from .destination.warehouse import dialect_of
from .models import WRITTEN_IN, Model, check_destination, models
from .models.catalogue import empty_table
from .models.dialects import said_in
from .target import Target

Place = Callable[[str], exp.Table | exp.Query]


def placed_tables(client: SqlClientBase[Any], missing: Collection[str]) -> Place:
    """What stands for a table or a view in a query: its qualified name, or no rows where it is `missing`."""

    def place(name: str) -> exp.Table | exp.Query:
        if name in missing:
            return empty_table(ALL_TABLES[name])
        return exp.to_table(client.make_qualified_table_name(name), dialect=dialect_of(client))

    return place


class Answers:
    """Answers of one target's destination."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._models = models()
        self._missing = target.warehouse.missing(ALL_TABLES)
        with target.pipeline.sql_client() as client:
            check_destination(dialect_of(client))

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """The rows that `sql`, which has no WITH, gives by column name; the models that it names are put before it."""
        return patiently(lambda: self._ask(sql))

    def _ask(self, sql: str) -> list[dict[str, Any]]:
        names = {model.name for model in self._models}
        question = Model("question", "", "", {}, sql)
        with self._target.pipeline.sql_client() as client:
            tables = placed_tables(client, self._missing)

            def place(name: str) -> exp.Table | exp.Query:
                return exp.to_table(name) if name in names else tables(name)

            query = question.placed(place)
            needed = self._needed(question)
            for model in self._models:
                if model.name in needed:
                    query = query.with_(model.name, as_=model.placed(place))
            dialect = dialect_of(client)
            with client.execute_query(said_in(query, dialect).sql(dialect)) as cursor:
                # Snowflake writes them in capitals
                columns = [column[0].lower() for column in cursor.description or ()]
                return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

    def _needed(self, question: Model) -> set[str]:
        by_name = {model.name: model for model in self._models}
        found: set[str] = set()
        todo = [name for name in question.sources if name in by_name]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(source for source in by_name[name].sources if source in by_name)
        return found


def literal(text: str) -> str:
    """A text as it stands in SQL."""
    return exp.Literal.string(text).sql(WRITTEN_IN)
