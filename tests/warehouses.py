"""Real warehouses: the destination that the tests run on, and what it holds, whichever it is."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

import duckdb
import psycopg2
import psycopg2.extras
import pyarrow as pa
import pytest
import sqlglot

from prefect_runs_pipelines.local.postgresql import LocalPostgresql
from prefect_runs_pipelines.options import SyncOptions

DATASET = "prefect"
LAKE = "prefect_lake"


class Warehouse(ABC):
    """The warehouse of one test: how commands are told of it, and how the test reads and changes it itself.

    Args:
        folder: of the test; whatever the destination keeps in files is inside.
    """

    destination: ClassVar[str]
    """As `--destination` takes it."""
    dialect: ClassVar[str]
    """sqlglot's name of its SQL."""
    keeps_doubles: ClassVar[bool] = True
    """Whether a key may be there twice."""
    stores_json_as_it_is: ClassVar[bool] = True
    """Whether a text may hold the zero character, and a number is written as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def options(self) -> dict[str, str]:
        """What `SyncOptions` are told, and the command by options of the same names."""
        return {"destination": self.destination}

    @property
    def arguments(self) -> list[str]:
        """The same on the command line."""
        return [argument for name, value in self.options.items() for argument in (f"--{name}", value)]

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that configure dlt for it."""
        return {}

    @abstractmethod
    def tables(self) -> Mapping[str, pa.Table]:
        """All tables of the dataset; none before the first load."""

    @abstractmethod
    def change(self, *statements: str) -> None:
        """Change it by hand, in DuckDB's SQL, in one transaction."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """What it holds now, to be asked in DuckDB's SQL."""
        with duckdb.connect() as connection:
            connection.execute(f"CREATE SCHEMA {DATASET}")
            for name, rows in self.tables().items():
                connection.register("read", rows)
                connection.execute(f'CREATE TABLE {DATASET}."{name}" AS SELECT * FROM read')
                connection.unregister("read")
            yield connection


class DuckdbFile(Warehouse):
    """A DuckDB file."""

    destination = "duckdb"
    dialect = "duckdb"

    def __init__(self, folder: Path, file: str = "copy.duckdb") -> None:
        super().__init__(folder)
        self.file = folder / file

    @property
    def options(self) -> dict[str, str]:
        return {"database": str(self.file)}

    def tables(self) -> Mapping[str, pa.Table]:
        with self.reading() as connection:
            return tables_of(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(str(self.file), read_only=True) as connection:
            yield connection

    def change(self, *statements: str) -> None:
        with duckdb.connect(str(self.file)) as connection:
            for sql in ("SET TimeZone = 'UTC'", *statements):
                connection.execute(sql)


class Postgresql(Warehouse):
    """A database of its own in the PostgreSQL of this process."""

    destination = "postgres"
    dialect = "postgres"
    stores_json_as_it_is = False

    @cached_property
    def url(self) -> str:
        """Where the database is."""
        return new_database(_server_url(), self.folder)

    @property
    def environment(self) -> Mapping[str, str]:
        return {f"DESTINATION__POSTGRES__CREDENTIALS__{name}": value for name, value in _credentials(self.url).items()}

    def tables(self) -> Mapping[str, pa.Table]:
        with contextlib.closing(psycopg2.connect(self.url, options="-c TimeZone=UTC")) as connection:
            for register in (psycopg2.extras.register_default_json, psycopg2.extras.register_default_jsonb):
                register(connection, loads=str)
            cursor = connection.cursor()
            cursor.execute(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{DATASET}'")
            return {name: rows_of(cursor, name) for (name,) in cursor.fetchall()}

    def change(self, *statements: str) -> None:
        with contextlib.closing(psycopg2.connect(self.url, options="-c TimeZone=UTC")) as connection, connection:
            for sql in in_dialect(self.dialect, statements):
                connection.cursor().execute(sql)


class Sqlite(Warehouse):
    """A SQLite file, through SQLAlchemy; dlt puts the dataset into a file beside it."""

    destination = "sqlalchemy"
    dialect = "sqlite"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"DESTINATION__SQLALCHEMY__CREDENTIALS": f"sqlite:///{self.folder / 'copy.sqlite'}"}

    def tables(self) -> Mapping[str, pa.Table]:
        with self._connected() as connection:
            cursor = connection.execute(f"SELECT name FROM {DATASET}.sqlite_master WHERE type = 'table'")
            return {name: rows_of(cursor, name) for (name,) in cursor.fetchall()}

    def change(self, *statements: str) -> None:
        with self._connected() as connection, connection:
            for sql in in_dialect(self.dialect, statements):
                connection.execute(sql)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(f"ATTACH '{self.folder / f'copy__{DATASET}.sqlite'}' AS {DATASET}")
            yield connection


class Ducklake(Warehouse):
    """A DuckLake: parquet files in a folder, the catalogue in the PostgreSQL of this process."""

    destination = "ducklake"
    dialect = "duckdb"

    @cached_property
    def catalog(self) -> str:
        """Where the catalogue is, as dlt takes it."""
        credentials = _credentials(new_database(_server_url(), self.folder))
        user = f"{credentials['USERNAME']}:{credentials['PASSWORD']}"
        query = urlencode(json.loads(credentials["QUERY"]))
        return f"postgresql://{user}@{credentials['HOST']}/{credentials['DATABASE']}?{query}"

    @property
    def environment(self) -> Mapping[str, str]:
        variables = {
            "DUCKLAKE_NAME": LAKE,
            "CATALOG": self.catalog,
            "STORAGE__BUCKET_URL": str(self.folder / "lake"),
            # some commands of tests have another home, where DuckDB would look for them
            "GLOBAL_CONFIG": json.dumps({"extension_directory": _extensions()}),
        }
        return {f"DESTINATION__DUCKLAKE__CREDENTIALS__{name}": value for name, value in variables.items()}

    def tables(self) -> Mapping[str, pa.Table]:
        with self.reading() as connection:
            return tables_of(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        catalog = self.catalog.replace("postgresql:", "postgres:postgres:", 1)
        with duckdb.connect(config={"extension_directory": _extensions()}) as connection:
            at = f"DATA_PATH '{self.folder / 'lake'}', METADATA_SCHEMA '{LAKE}'"
            connection.execute(f"ATTACH 'ducklake:{catalog}' AS {LAKE} ({at}); USE {LAKE}")
            yield connection
            connection.execute(f"USE memory; DETACH {LAKE}")

    def change(self, *statements: str) -> None:
        with self.reading() as connection:
            for sql in ("SET TimeZone = 'UTC'", *statements):
                connection.execute(sql)


WAREHOUSES: dict[str, type[Warehouse]] = {
    "duckdb": DuckdbFile,
    "postgresql": Postgresql,
    "sqlite": Sqlite,
    "ducklake": Ducklake,
}
"""What `PREFECT_RUNS_TEST_DESTINATION` may name."""

CHOSEN = os.environ.get("PREFECT_RUNS_TEST_DESTINATION", "duckdb")


def in_dialect(dialect: str, statements: tuple[str, ...]) -> list[str]:
    """Statements of DuckDB in another dialect."""
    return [made for sql in statements for made in sqlglot.transpile(sql, read="duckdb", write=dialect)]


def rows_of(cursor: Any, table: str) -> pa.Table:
    """All rows of a table of the dataset; a column that holds nothing is of text."""
    cursor.execute(f'SELECT * FROM {DATASET}."{table}"')
    names = [column[0] for column in cursor.description]
    columns = dict(zip(names, zip(*cursor.fetchall(), strict=True), strict=False))
    arrays = {name: pa.array(columns.get(name, ())) for name in names}
    return pa.table(
        {name: array.cast(pa.string()) if array.type == pa.null() else array for name, array in arrays.items()}
    )


def tables_of(connection: duckdb.DuckDBPyConnection) -> dict[str, pa.Table]:
    """All tables of the dataset that a connection of DuckDB has."""
    sql = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{DATASET}'"
    names = [row[0] for row in connection.execute(sql).fetchall()]
    return {name: connection.table(f"{DATASET}.{name}").to_arrow_table() for name in names}


@cache
def _extensions() -> str:
    """The folder of DuckDB's extensions, with those that packages brought."""
    from duckdb_extensions import import_extension

    for name in ("ducklake", "postgres_scanner"):
        import_extension(name)
    return str(Path.home() / ".duckdb" / "extensions")


@cache
def _server_url() -> str:
    """A PostgreSQL that runs until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="prefect-runs-"))
    server = LocalPostgresql(folder / "postgresql")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)
    return server.start().replace("+asyncpg", "")


def new_database(server_url: str, folder: Path) -> str:
    """The URL of a database for the test that has this folder; it is made if it is not there yet."""
    name = f"copy_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    with contextlib.closing(psycopg2.connect(server_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if not cursor.fetchone():
            cursor.execute(f"CREATE DATABASE {name}")
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


class Answers:
    """Answers of a warehouse, as rows by column name that compare whatever it is."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __call__(self, sql: str) -> list[dict[str, Any]]:
        """The rows that `sql` gives; seconds rounded, for times are floats of microseconds in one of them."""
        self._cursor.execute(sql)
        names = [column[0] for column in self._cursor.description]
        return [dict(zip(names, map(self._plain, row), strict=True)) for row in self._cursor.fetchall()]

    def columns(self, view: str) -> list[str]:
        """Its columns."""
        self._cursor.execute(f"SELECT * FROM {view} LIMIT 0")
        return [column[0] for column in self._cursor.description]

    @staticmethod
    def _plain(value: Any) -> Any:
        return round(float(value), 3) if isinstance(value, float | Decimal) else value


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL that dlt's destination `postgres` is configured for; its URL."""
    server = LocalPostgresql(folder / "postgresql")
    try:
        url = server.start().replace("+asyncpg", "")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in _credentials(url).items():
                patch.setenv(f"DESTINATION__POSTGRES__CREDENTIALS__{name}", value)
            yield url
    finally:
        server.stop()


@contextlib.contextmanager
def answers(options: SyncOptions, url: str | None) -> Iterator[Answers]:
    """What a warehouse answers: the DuckDB file of `options`, or the PostgreSQL at `url`."""
    with contextlib.ExitStack() as stack:
        if url:
            connection: Any = stack.enter_context(contextlib.closing(psycopg2.connect(url)))
        else:
            connection = stack.enter_context(duckdb.connect(options.where, read_only=True))
        cursor = connection.cursor()
        # not UTC, for nothing may depend on it
        cursor.execute("SET TimeZone = 'America/New_York'")
        yield Answers(cursor)


def _credentials(url: str) -> dict[str, str]:
    """What dlt asks for, of a URL that names a folder of sockets."""
    parts = urlsplit(url)
    return {
        "HOST": "localhost",
        "DATABASE": parts.path.removeprefix("/"),
        "USERNAME": parts.username or "",
        "PASSWORD": parts.password or "none",
        "QUERY": json.dumps({name: values[0] for name, values in parse_qs(parts.query).items()}),
    }
