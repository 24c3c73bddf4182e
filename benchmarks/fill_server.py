"""Fill a real Prefect 3.8.8 server's SQLite database with generated runs, as many as you like, in seconds.

    python benchmarks/fill_server.py --flow-runs 20000 --task-runs 50000 --home DIR

The schema is the server's own; the rows are written past it, and whoever starts a server on it
(with ``UNDISTURBED``, or its services begin to correct the data) reads them through the API.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from run_generator import FlowRun, full_hour, generate
from server_events import EventWriter
from server_rows import Row, TableRow, catalogue_rows, run_rows

from prefect_runs_pipelines.local.server import DEFAULT_VERSION, LocalServer, empty_database

# self-hosted servers keep events for so long
EVENT_DAYS = 7
# flow runs written at a time: memory stays flat, and executemany has enough to do
BATCH = 1000

UNDISTURBED = {
    # marks overdue runs Late
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    # makes new runs of the schedules
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    # marks pools, queues and deployments that nobody polls NOT_READY
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    # cancels what is left of cancelled flow runs
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    # not disturbing, but loops over the database beside a measurement
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    # deletes old events, and cannot be switched off: "false" means "events only"
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P3650D",
}


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written: rows by table, the moment (UTC) no timestamp is later than, the seconds it took."""

    rows: Mapping[str, int]
    end: datetime
    seconds: float

    @property
    def flow_runs(self) -> int:
        """Flow runs written."""
        return self.rows.get("flow_run", 0)

    @property
    def task_runs(self) -> int:
        """Task runs written."""
        return self.rows.get("task_run", 0)

    @property
    def states(self) -> int:
        """States of flow runs and task runs written."""
        return self.rows.get("flow_run_state", 0) + self.rows.get("task_run_state", 0)

    @property
    def events(self) -> int:
        """Events written."""
        return self.rows.get("events", 0)


def default_end() -> datetime:
    """The last full hour that is over for at least one hour (UTC): then no row is younger than that."""
    return full_hour(datetime.now(UTC) - timedelta(hours=1))


def fill(
    home: Path,
    flow_runs: int,
    task_runs: int,
    days: int = 30,
    seed: int = 1,
    events: bool = False,
    end: datetime | None = None,
    event_resources: bool = True,
    event_days: int = EVENT_DAYS,
) -> Filled:
    """Write runs of the ``days`` days before ``end`` into the database of the stopped server in ``home``.

    The schema is made first when there is none. Ids and timestamps depend on the arguments alone, so give
    ``end`` where the same rows are wanted tomorrow. Events are written on request, for the last ``event_days``; without
    ``event_resources`` they are found by time and name only, and the database is a third smaller.

    Raises:
        ValueError: when the database holds runs already.
    """
    database = home / "prefect.db"
    if not database.exists():
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(empty_database(), database)
    end = end or default_end()
    generated = generate(flow_runs, task_runs, end, days, seed)
    writer = EventWriter(end - timedelta(days=event_days), seed, event_resources) if events else None
    began = time.perf_counter()
    with _bulk_connection(database) as connection:
        _refuse_filled(connection, home)
        rows = _insert(connection, catalogue_rows(generated.catalogue, polled=end))
        for batch in _batches(generated.runs):
            rows += _insert(connection, _rows_of(batch, writer))
    return Filled(rows, end, time.perf_counter() - began)


@contextlib.contextmanager
def filled_server(
    flow_runs: int,
    task_runs: int,
    days: int = 30,
    seed: int = 1,
    events: bool = False,
    end: datetime | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[LocalServer]:
    """A started server that holds generated runs, for the length of a ``with`` block; removed at its end.

    ``settings`` are variables of the server on top of ``UNDISTURBED``; the rest are arguments of ``fill``.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-filled-", ignore_cleanup_errors=True) as folder:
        fill(Path(folder), flow_runs, task_runs, days, seed, events, end)
        server = LocalServer(DEFAULT_VERSION, home=Path(folder), settings={**UNDISTURBED, **(settings or {})})
        try:
            yield server.start()
        finally:
            server.close()


@contextlib.contextmanager
def _bulk_connection(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose block is one transaction; the write-ahead log is folded in at the end."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        # a half-written benchmark database is thrown away, so nothing has to survive a power cut
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        with connection:
            yield connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _refuse_filled(connection: sqlite3.Connection, home: Path) -> None:
    if connection.execute("SELECT EXISTS (SELECT 1 FROM flow_run)").fetchone()[0]:
        raise ValueError(f"the server in {home} holds runs already; fill an empty one")


def _batches(runs: Iterator[FlowRun]) -> Iterator[Iterable[FlowRun]]:
    numbered = enumerate(runs)
    for _, batch in groupby(numbered, key=lambda pair: pair[0] // BATCH):
        yield (run for _, run in batch)


def _rows_of(runs: Iterable[FlowRun], writer: EventWriter | None) -> Iterator[TableRow]:
    for run in runs:
        yield from run_rows(run)
        if writer:
            yield from writer.rows(run)


def _insert(connection: sqlite3.Connection, rows: Iterable[TableRow]) -> Counter[str]:
    """Insert rows table by table, columns they do not name by the schema's defaults; count them by table."""
    by_table: dict[str, list[Row]] = {}
    for table, row in rows:
        by_table.setdefault(table, []).append(row)
    for table, found in by_table.items():
        columns = list(found[0])
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        values = itemgetter(*columns)
        connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", map(values, found))
    return Counter({table: len(found) for table, found in by_table.items()})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fill a stopped Prefect server's SQLite database.")
    parser.add_argument("--flow-runs", type=int, required=True)
    parser.add_argument("--task-runs", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True, help="PREFECT_HOME of the server")
    parser.add_argument("--days", type=int, default=30, help="how far back runs reach")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", action="store_true", help="events too")
    parser.add_argument("--event-days", type=int, default=EVENT_DAYS, help="how far back events reach")
    parser.add_argument("--event-resources", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--end", type=datetime.fromisoformat, help="with time zone; default: 1 to 2 hours ago")
    return parser.parse_args()


def main() -> None:
    """Fill the database the command line names and print what was written."""
    arguments = vars(_arguments())
    filled = fill(**arguments)
    for table, count in filled.rows.items():
        print(f"{table:20} {count:>9,}")
    print(f"up to {filled.end:%Y-%m-%d %H:%M} UTC, in {filled.seconds:.1f} s")


if __name__ == "__main__":
    main()
