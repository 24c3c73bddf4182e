"""What the destination holds, asked in SQL. Gives the source its `Known`, and the screens their numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from prefect_runs import Stranger, Version
from prefect_runs.chains import Place
from prefect_runs.clock import as_utc
from prefect_runs.read_ahead import batches
from prefect_runs.settings import RUN_TABLES, TERMINAL_STATE_TYPES
from prefect_runs.tables import ALL_TABLES, LINKS, TABLES
from prefect_runs.windows import Window

from .failures import patiently
from .opened import Opened

Answer = list[tuple[Any, ...]]
Question = tuple[str, tuple[Any, ...]]
"""SQL, in which `{table}` stands for a table of the dataset, and its parameters."""

# destinations that stay open for a moment: opening one takes longer than most questions
LINGER = ("duckdb", "ducklake")

# a run that its client began again has the end of before
IN_FLIGHT = f"(end_time IS NULL OR state_type NOT IN ({', '.join(map(repr, TERMINAL_STATE_TYPES))}))"

# ids in one statement: databases take no more than some thousands
IDS_ASKED = 1_000


class Warehouse:
    """Questions to one workspace's rows in the dataset of one pipeline. A table that does not exist yet is empty.

    Questions wait while the destination is locked, as loads do.
    """

    def __init__(self, pipeline: dlt.Pipeline, workspace: str) -> None:
        self._pipeline = pipeline
        self._workspace = workspace
        self.opened = Opened(self._client, pipeline.destination.destination_type.rpartition(".")[2] in LINGER)
        self._is_without_tombstones: bool | None = None
        self._is_alone: bool | None = None
        self._columns: dict[str, set[str]] | None = None

    def versions(self, table: str, since: datetime, open_from: datetime) -> Mapping[str, Version]:
        """See `prefect_runs.known.Known`."""
        rows = self.of_workspace(
            f"SELECT id, updated, state_timestamp FROM {{{table}}} AS run WHERE (updated >= %s OR end_time >= %s "
            f"OR {IN_FLIGHT} AND expected_start_time >= %s) AND {self.live(table)}",
            since,
            since,
            open_from,
        )
        return {id_: (as_utc(updated), as_utc(entered) if entered else None) for id_, updated, entered in rows}

    def due(self, table: str, ended: Window, open_window: Window) -> set[str]:
        """See `prefect_runs.known.Known`."""
        rows = self.of_workspace(
            f"SELECT id FROM {{{table}}} AS run "
            f"WHERE (end_time >= %s AND end_time < %s OR {IN_FLIGHT} AND expected_start_time >= %s "
            "AND (expected_start_time < %s OR state_type <> 'SCHEDULED')) "
            f"AND {self.live(table)}",
            ended.start,
            ended.end,
            open_window.start,
            open_window.end,
        )
        return {row[0] for row in rows}

    def present(self, table: str, ids: Collection[str]) -> set[str]:
        """See `prefect_runs.known.Known`."""
        if not self.has(table):
            return set()
        return {row[0] for row in self._with_ids(f"SELECT id FROM {{{table}}} AS run WHERE run.id IN ({{ids}})", ids)}

    def live_ids(self, table: str) -> set[str]:
        """See `prefect_runs.known.Known`."""
        if not self.has(table):
            return set()
        return {row[0] for row in self.of_workspace(f"SELECT id FROM {{{table}}} AS run WHERE {self.live(table)}")}

    def places(self, table: str, ids: Collection[str]) -> Mapping[str, Place]:
        """See `prefect_runs.known.Known`."""
        sequence = "sequence" if self.has(table, "sequence") else "NULL"
        rows = self._with_ids(
            f"SELECT id, {sequence}, timestamp FROM {{{table}}} AS run WHERE run.id IN ({{ids}})", ids
        )
        return {id_: Place(number, as_utc(entered)) for id_, number, entered in rows}

    def last_numbers(self, table: str, run_ids: Collection[str]) -> Mapping[str, int]:
        """See `prefect_runs.known.Known`."""
        if not self.has(table, "sequence"):
            return {}
        run = _run_column(table)
        last: dict[str, int] = {}
        sql = f"SELECT {run}, sequence FROM {{{table}}} AS run WHERE sequence IS NOT NULL AND {run} IN ({{ids}})"
        for run_id, number in self._with_ids(sql, run_ids):
            last[run_id] = max(number, last.get(run_id, 0))
        return last

    def numbers(self, states: str, run_ids: Collection[str]) -> Mapping[str, Mapping[str, int | None]]:
        """Run id → state id → number of the state, of the runs `run_ids` of which the table `states` has any."""
        found: dict[str, dict[str, int | None]] = {}
        sequence = "sequence" if self.has(states, "sequence") else "NULL"
        run = _run_column(states)
        sql = f"SELECT {run}, id, {sequence} FROM {{{states}}} AS run WHERE {run} IN ({{ids}})"
        for run_id, state_id, number in self._with_ids(sql, run_ids):
            found.setdefault(run_id, {})[state_id] = number
        return found

    def were_in(self, table: str, run_ids: Collection[str], state_types: Collection[str]) -> set[str]:
        """See `prefect_runs.known.Known`."""
        run, types = _run_column(table), ", ".join(f"'{type_}'" for type_ in state_types)
        sql = f"SELECT {run} FROM {{{table}}} AS run WHERE run.type IN ({types}) AND {run} IN ({{ids}})"
        return {row[0] for row in self._with_ids(sql, run_ids)}

    def has_runs(self, table: str, window: Window) -> bool:
        """See `prefect_runs.known.Known`."""
        where = "expected_start_time >= %s AND expected_start_time < %s AND run.workspace = %s"
        return self._any(f"{{{table}}} AS run WHERE {where}", window.start, window.end, self._workspace)

    def of_others(self, table: str, ids: Collection[str]) -> Stranger | None:
        """See `prefect_runs.known.Known`."""
        if self._is_alone is None:
            self._is_alone = not self._any("{syncs} WHERE workspace <> %s", self._workspace)
        if self._is_alone:
            return None
        sql = f"SELECT id, workspace FROM {{{table}}} AS run WHERE run.id IN ({{ids}})"
        for id_, workspace in self._with_ids(sql, ids, whose="<>"):
            synced = "SELECT finished_at, server_url FROM {syncs} WHERE workspace = %s AND server_url IS NOT NULL"
            _, url = max(self.rows(synced, workspace), default=(None, None), key=lambda row: as_utc(row[0]))
            return Stranger(id_, workspace, url)
        return None

    def links(self, table: str, ids: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """See `prefect_runs.known.Known`."""
        columns = LINKS[table]
        some = " OR ".join(f"{column} IS NOT NULL" for column in columns)
        sql = f"SELECT id, {', '.join(columns)} FROM {{{table}}} AS run WHERE ({some}) AND run.id IN ({{ids}})"
        return {
            id_: {column: value for column, value in zip(columns, values, strict=True) if value is not None}
            for id_, *values in self._with_ids(sql, ids)
        }

    def task_runs_of(self, ids: Collection[str], buried: bool = False) -> set[str]:
        """See `prefect_runs.known.Known`."""
        which = f"NOT ({self.live('task_runs')})" if buried else self.live("task_runs")
        sql = f"SELECT run.id FROM {{task_runs}} AS run WHERE {which} AND run.flow_run_id IN ({{ids}})"
        return {row[0] for row in self._with_ids(sql, ids)}

    def tombstoned(self, table: str, ids: Collection[str]) -> set[str]:
        """See `prefect_runs.known.Known`."""
        if self._is_without_tombstones is None:
            self._is_without_tombstones = not self._any("{tombstones}")
        if self._is_without_tombstones:
            return set()
        sql = f"SELECT id FROM {{tombstones}} AS run WHERE resource = '{table}' AND run.id IN ({{ids}})"
        return {row[0] for row in self._with_ids(sql, ids)}

    def ends(self, table: str, ids: Collection[str]) -> Mapping[str, datetime | None]:
        """See `prefect_runs.known.Known`."""
        sql = f"SELECT run.id, run.end_time FROM {{{table}}} AS run WHERE run.id IN ({{ids}})"
        if table == "task_runs" and self.has("flow_runs"):
            sql = (
                "SELECT run.id, coalesce(flow.end_time, run.end_time) FROM {task_runs} AS run "
                "LEFT JOIN {flow_runs} AS flow ON flow.id = run.flow_run_id WHERE run.id IN ({ids})"
            )
        return {id_: as_utc(ended) if ended else None for id_, ended in self._with_ids(sql, ids)}

    def counts(self) -> dict[str, int]:
        """Rows of the workspace in each table that exists."""
        own = (self._workspace,)
        answers = self._answers((f"SELECT count(*) FROM {{{table}}} WHERE workspace = %s", own) for table in TABLES)
        # before the first load there are none
        return {table: int(rows[0][0]) for table, rows in zip(TABLES, answers, strict=False) if rows}

    def rows(self, sql: str, *parameters: Any) -> Answer:
        """Rows that `sql` gives; `{table}` stands for a table of the dataset."""
        answers = patiently(lambda: self._answers([(sql, parameters)]))
        return answers[0] if answers else []

    def _any(self, rows: str, *parameters: Any) -> bool:
        """Whether there are such rows, with a workspace in each. Not by a `LIMIT`, which not every database knows."""
        return any(found for (found,) in self.rows(f"SELECT min(workspace) FROM {rows}", *parameters))

    def live(self, table: str, run: str = "run") -> str:
        """The condition that a row, called `run` in the query, has no tombstone."""
        if not self.has("tombstones"):
            return "1 = 1"
        return f"NOT EXISTS (SELECT 1 FROM {{tombstones}} AS t WHERE t.resource = '{table}' AND t.id = {run}.id)"

    def has(self, table: str, column: str = "_dlt_id") -> bool:
        """Whether the table was loaded before, by whatever workspace, and with this column."""
        if self._columns is None:
            # not dlt's schema, which tells what this workspace's pipeline loaded
            self._columns = patiently(self._columns_of_all)
        return column in self._columns.get(table, ())

    def _columns_of_all(self) -> dict[str, set[str]]:
        # asked for at once, for opening a database takes longer than many such questions
        columns: dict[str, set[str]] = {}
        with self.opened.client() as client:
            if client is None:
                return columns
            for table in ALL_TABLES:
                sql = f"SELECT * FROM {client.make_qualified_table_name(table)} WHERE 1 = 0"
                with contextlib.suppress(DatabaseUndefinedRelation), client.execute_query(sql) as cursor:
                    # Snowflake writes them in capitals
                    columns[table] = {column.lower() for column in _columns(cursor)}
        return columns

    def _client(self) -> SqlClientBase[Any] | None:
        """A client; None before the first load, when there is no schema, and so no dataset to ask."""
        return self._pipeline.sql_client() if self._pipeline.default_schema_name else None

    def loaded(self) -> None:
        """Take note that something was loaded: there may be tables and columns that were not there before."""
        self.opened.loaded()
        self._is_without_tombstones = None
        self._is_alone = None
        self._columns = None

    def workspaces(self) -> list[str]:
        """The names of all workspaces that were ever synced into the dataset."""
        return sorted(row[0] for row in self.rows("SELECT DISTINCT workspace FROM {syncs}"))

    def missing(self, tables: Iterable[str]) -> list[str]:
        """Those of `tables` that are not in the dataset, whoever's pipeline loads into it."""
        return [table for table in tables if not self.has(table)]

    def of_workspace(self, sql: str, *parameters: Any) -> Answer:
        """Rows that `sql` gives, which ends in a condition and calls the run's table `run`."""
        return self.rows(f"{sql} AND run.workspace = %s", *parameters, self._workspace)

    def _with_ids(self, sql: str, ids: Collection[str], whose: str = "=") -> Answer:
        """Rows of the workspace, or of others with `<>`; `sql` ends in a condition and calls the table `run`."""
        return [
            row
            for batch in batches(ids, IDS_ASKED)
            for row in self.rows(
                f"{sql.replace('{ids}', ', '.join(['%s'] * len(batch)))} AND run.workspace {whose} %s",
                *batch,
                self._workspace,
            )
        ]

    def _answers(self, questions: Iterable[Question]) -> list[Answer]:
        """The answers; empty where a table does not exist, none before the first load."""
        answers: list[Answer] = []
        with self.opened.client() as client:
            if client is None:
                return answers
            names = {table: client.make_qualified_table_name(table) for table in ALL_TABLES}
            for sql, parameters in questions:
                try:
                    with client.execute_query(sql.format(**names), *map(as_stored(client), parameters)) as cursor:
                        answers.append([tuple(row) for row in cursor.fetchall()])
                except DatabaseUndefinedRelation:
                    answers.append([])
        return answers


def _run_column(states: str) -> str:
    """The column in which a table of states, called `run` in the query, has its run."""
    return f"run.{states.removesuffix('_states')}_id"


def dialect_of(client: SqlClientBase[Any]) -> str:
    """sqlglot's name of a destination's SQL."""
    return str(client.capabilities.sqlglot_dialect or "duckdb")


def _columns(cursor: Any) -> Iterable[str]:
    """The columns of what a cursor gives: SQLAlchemy's calls them keys."""
    return cursor.keys() if hasattr(cursor, "keys") else [column[0] for column in cursor.description or ()]


def as_stored(client: SqlClientBase[Any]) -> Callable[[Any], Any]:
    """What makes of a parameter what the destination can compare with its columns.

    Through SQLAlchemy dlt stores times in UTC without a time zone, and SQLite has them as text.
    """
    # asked of the client, not of its class, for SQLAlchemy may not be installed
    dialect = getattr(client, "dialect_name", None)

    def stored(value: Any) -> Any:
        if dialect is None or not isinstance(value, datetime):
            return value
        naive = as_utc(value).replace(tzinfo=None)
        return naive.isoformat(" ", "microseconds") if dialect == "sqlite" else naive

    return stored


class Untrusted(Warehouse):
    """The same warehouse for a sync that takes nothing for granted: rows and states are all loaded again."""

    def __init__(self, trusted: Warehouse) -> None:
        super().__init__(trusted._pipeline, trusted._workspace)
        self.opened = trusted.opened

    def versions(self, table: str, since: datetime, open_from: datetime) -> Mapping[str, Version]:
        """Nothing."""
        return {}

    def present(self, table: str, ids: Collection[str]) -> set[str]:
        """The runs, lest one that the server no longer has is taken for one that it never recorded; nothing else."""
        return super().present(table, ids) if table in RUN_TABLES else set()

    def places(self, table: str, ids: Collection[str]) -> Mapping[str, Place]:
        """Nothing."""
        return {}
