"""The models: answers as SQL, one file each, written in DuckDB's dialect and made from the tables or from each other.

A file begins with comment lines: what the model is, then a line for each column that no table describes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from prefect_runs import ConfigurationError
from prefect_runs.tables import TABLES

HERE = Path(__file__).parent
LAYERS = ("staging", "marts")
COLUMN = re.compile(r"-- (\w+): (.+)")
WRITTEN_IN = "duckdb"
# destinations that are asked in it, or that it can read
SPEAK_DUCKDB = ("duckdb", "motherduck", "ducklake", "filesystem")
# run on the first two; transpiled for the others, and read back in the tests
DIALECTS = ("duckdb", "postgres", "snowflake", "bigquery", "databricks", "redshift", "clickhouse", "trino")


@dataclass(frozen=True)
class Model:
    """One model: its name, its layer (staging or marts), what it is, what its own columns mean, its SQL."""

    name: str
    layer: str
    description: str
    columns: dict[str, str]
    sql: str

    @classmethod
    def of(cls, file: Path) -> Model:
        """The model in a file."""
        lines = file.read_text().splitlines()
        comments = [line for line in lines if line.startswith("--")]
        told = {match[1]: match[2] for line in comments if (match := COLUMN.fullmatch(line))}
        description = " ".join(line.removeprefix("-- ") for line in comments if not COLUMN.fullmatch(line))
        return cls(file.stem, file.parent.name, description, told, "\n".join(lines[len(comments) :]) + "\n")

    @cached_property
    def _parsed(self) -> exp.Query:
        parsed = sqlglot.parse_one(self.sql, read=WRITTEN_IN)
        assert isinstance(parsed, exp.Query)
        return parsed

    @cached_property
    def sources(self) -> frozenset[str]:
        """The tables and models that it is made from."""
        own = {cte.alias for cte in self._parsed.find_all(exp.CTE)}
        return frozenset(table.name for table in self._parsed.find_all(exp.Table)) - own

    def placed(self, place: Callable[[str], exp.Table | exp.Query]) -> exp.Query:
        """Its query, each table or model that it is made from replaced by what `place` makes of its name."""

        def replaced(node: Any) -> Any:
            if isinstance(node, exp.Table) and node.name in self.sources:
                found = place(node.name)
                alias = node.alias or node.name
                return exp.alias_(found, alias, table=True) if isinstance(found, exp.Table) else found.subquery(alias)
            return node

        query: exp.Query = self._parsed.copy().transform(replaced)
        return query


def check_dialect(dialect: str) -> None:
    """Refuse a dialect that SQL cannot be written in.

    Raises:
        ConfigurationError: sqlglot does not know it.
    """
    try:
        sqlglot.Dialect.get_or_raise(dialect)
    except ValueError as error:
        known = ", ".join(sorted(filter(None, sqlglot.Dialect.classes)))
        raise ConfigurationError(f"{error} sqlglot knows {known}") from None


def check_destination(dialect: str) -> None:
    """Refuse a destination whose SQL cannot say what the models say.

    Raises:
        ConfigurationError: it is none of those that the models are transpiled for.
    """
    if dialect not in DIALECTS:
        raise ConfigurationError(
            f"the models cannot be written in the SQL of this destination ({dialect}), only in {', '.join(DIALECTS)}. "
            "Its tables are all there, and can be asked as they are."
        )


def meanings(model: Model, all_models: Collection[Model]) -> dict[str, str]:
    """What columns mean by the models that it is made from and, before them, by itself."""
    told: dict[str, str] = {}
    for other in all_models:
        if other.name in model.sources:
            told |= meanings(other, all_models)
    return {**told, **model.columns}


def meaning(model: Model, column: str, all_models: Collection[Model]) -> str | None:
    """What a column means: by the models, else by the tables that they are made from; None if untold."""
    by_models = meanings(model, all_models).get(column)
    if by_models:
        return by_models
    for source in sorted(model.sources & TABLES.keys()):
        if found := next((told.description for told in TABLES[source].columns if told.name == column), None):
            return found
    below = (meaning(other, column, all_models) for other in all_models if other.name in model.sources)
    return next(filter(None, below), None)


def models() -> list[Model]:
    """All models, each after those that it is made from."""
    found = {file.stem: Model.of(file) for layer in LAYERS for file in sorted((HERE / layer).glob("*.sql"))}
    ordered: dict[str, Model] = {}

    def add(model: Model) -> None:
        for name in sorted(model.sources & found.keys()):
            if name not in ordered:
                add(found[name])
        ordered[model.name] = model

    for model in found.values():
        if model.name not in ordered:
            add(model)
    return list(ordered.values())


def tables_of(all_models: list[Model]) -> Iterator[str]:
    """The tables that the models are made from."""
    names = {model.name for model in all_models}
    yield from sorted({source for model in all_models for source in model.sources} - names)
