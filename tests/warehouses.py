"""Real warehouses: a PostgreSQL of its own, and what a warehouse answers, as rows that compare whichever it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import psycopg2
import pytest

from prefect_runs_pipelines.local_postgresql import LocalPostgresql
from prefect_runs_pipelines.options import SyncOptions


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
