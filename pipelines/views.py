"""`prefect-runs models`: the models as views in the destination, or as SQL in any dialect that sqlglot writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from prefect_runs import ConfigurationError
from prefect_runs.tables import ALL_TABLES

from .answers import placed_tables
from .destination.failures import explained, patiently
from .destination.lake.statements import lake_statements
from .destination.warehouse import dialect_of
from .models import Model, check_destination, check_dialect, meanings, models, tables_of
from .models.catalogue import empty_table
from .models.dialects import said_in
from .options import SyncOptions
from .target import Target, asked_only


@dataclass(frozen=True)
class ModelsReport:
    """The views that were made, in their order, and the tables that are still without a row and so were not there."""

    destination: str
    dataset: str
    views: list[str]
    missing: list[str]

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self))

    def as_text(self) -> str:
        """The report for a person."""
        lines = [f"{len(self.views)} views in {self.destination}, dataset {self.dataset}: {', '.join(self.views)}"]
        if self.missing:
            lines.append(f"without a row yet, and taken as empty until this is run again: {', '.join(self.missing)}")
        return "\n".join(lines)


def create_views(options: SyncOptions) -> ModelsReport:
    """Make or refresh all views, beside the tables and in one transaction.

    Raises:
        ConfigurationError: nothing was loaded into the destination yet.
        PrefectRunsError: see `prefect_runs.exceptions`.
    """
    if options.kind == "filesystem":
        raise ConfigurationError("a filesystem keeps no views: have them printed for your engine, with --print")
    options.check_file()
    with explained(), Target(options) as target:
        target.restore()
        target.require_runs()
        all_models = models()
        missing = target.warehouse.missing(tables_of(all_models))
        patiently(lambda: _create(target, all_models, missing))
        return ModelsReport(options.where, options.dataset, [model.name for model in all_models], missing)


def printed(options: SyncOptions, dialect: str) -> Iterator[str]:
    """The statements that make all views, in a dialect; for a filesystem those of the tables before them.

    A filesystem is asked which tables it has; no other destination is asked anything.

    Raises:
        ConfigurationError: sqlglot does not know the dialect, or there are no runs on the filesystem yet.
    """
    check_dialect(dialect)
    missing: Collection[str] = ()
    if options.kind == "filesystem":
        with explained(), asked_only(options) as target:
            target.require_runs()
            missing = target.warehouse.missing(ALL_TABLES)
            yield from lake_statements(target.pipeline, missing, dialect)

    def place(name: str) -> exp.Table | exp.Query:
        return empty_table(ALL_TABLES[name]) if name in missing else exp.table_(name, db=options.dataset)

    for model in models():
        query = said_in(model.placed(place), dialect)
        name = exp.table_(model.name, db=options.dataset)
        created = exp.Create(this=name, kind="VIEW", replace=True, expression=query)
        yield f"-- {model.description}\n{created.sql(dialect, pretty=True)};\n"


def _create(target: Target, all_models: list[Model], missing: Collection[str]) -> None:
    # asked before, for it takes a connection of its own
    has = target.warehouse.has
    loaded = [
        (table, {column.name: column.description for column in table.columns if has(table.name, column.name)})
        for table in ALL_TABLES.values()
    ]
    with target.pipeline.sql_client() as client:
        dialect, place = dialect_of(client), placed_tables(client, missing)
        check_destination(dialect)
        with client.begin_transaction():
            # the other way round, and then anew: a view cannot change its columns while others are made from it
            for model in reversed(all_models):
                client.execute_sql(f"DROP VIEW IF EXISTS {client.make_qualified_table_name(model.name)}")
            for model in all_models:
                name = client.make_qualified_table_name(model.name)
                client.execute_sql(f"CREATE VIEW {name} AS {said_in(model.placed(place), dialect).sql(dialect)}")
                with client.execute_query(f"SELECT * FROM {name} WHERE 1 = 0") as cursor:
                    columns = [column[0] for column in cursor.description or ()]
                # DuckLake describes a view, and not its columns
                told = {} if target.options.kind == "ducklake" else meanings(model, all_models)
                described = {column: told[column] for column in columns if column in told}
                _comment(client, "VIEW", model.name, model.description, described)
            for table, described in loaded:
                if described:
                    _comment(client, "TABLE", table.name, table.description, described)


def _comment(client: SqlClientBase[Any], kind: str, name: str, description: str, columns: dict[str, str]) -> None:
    """Describe a table or a view and its columns, where the dialect can."""
    dialect = dialect_of(client)
    if dialect not in ("duckdb", "postgres", "redshift", "snowflake"):
        return
    qualified = client.make_qualified_table_name(name)
    client.execute_sql(f"COMMENT ON {kind} {qualified} IS {_quoted(description, dialect)}")
    if dialect in ("duckdb", "postgres"):
        for column, meaning in columns.items():
            escaped = client.escape_column_name(column)
            client.execute_sql(f"COMMENT ON COLUMN {qualified}.{escaped} IS {_quoted(meaning, dialect)}")


def _quoted(text: str, dialect: str) -> str:
    return exp.Literal.string(text).sql(dialect)
