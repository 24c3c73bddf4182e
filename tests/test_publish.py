"""`--publish`: readers have a copy of their own, always whole, and syncs never wait for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from command import run_command
from conftest import Copy
from prefect_api import PrefectApi

from prefect_runs import ConfigurationError
from prefect_runs_pipelines.destination.in_place import in_place_of
from prefect_runs_pipelines.destination.publish import check_publish, publish
from prefect_runs_pipelines.options import SyncOptions

# five minutes: PREFECT_RUNS_READERS_SECONDS=300
READERS_SECONDS = float(os.environ.get("PREFECT_RUNS_READERS_SECONDS", "15"))

# a reader that opens the copy again and again, holds it open for a while, and never sees less than before
READER = """
import sys, time, duckdb
seen = reads = 0
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    with duckdb.connect(sys.argv[1], read_only=True) as warehouse:
        for _ in range(3):
            [(runs,)] = warehouse.execute("SELECT count(*) FROM prefect.flow_runs").fetchall()
            assert runs >= seen, (runs, seen)
            seen, reads = runs, reads + 1
            time.sleep(0.1)
print(seen, reads)
"""


def test_readers_and_syncs_do_not_meet(copy: Copy, api: PrefectApi, tmp_path: Path) -> None:
    published = tmp_path / "published.duckdb"
    api.flow_run("COMPLETED")
    copy.sync(publish=str(published))
    command = [sys.executable, "-c", READER, str(published), str(READERS_SECONDS)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    until = time.monotonic() + READERS_SECONDS
    syncs = 0
    while time.monotonic() < until - 1:
        api.flow_run("COMPLETED")
        began = time.monotonic()
        assert copy.sync(publish=str(published)).whole
        # nobody waited for a lock
        assert time.monotonic() - began < 30
        syncs += 1
    for reader in readers:
        told, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
        seen, reads = map(int, told.split())
        assert reads > syncs
        assert 1 < seen <= syncs + 1
    assert syncs > 1
    with duckdb.connect(str(published), read_only=True) as warehouse:
        assert warehouse.execute("SELECT count(*) FROM prefect.flow_runs").fetchall() == [(syncs + 1,)]
    assert list(tmp_path.glob("*.part")) == []


def test_two_that_put_a_file_in_one_place_take_turns(tmp_path: Path) -> None:
    file = tmp_path / "copy.duckdb"
    within, go_on, second = threading.Event(), threading.Event(), threading.Event()

    def first_writes() -> None:
        with in_place_of(file) as beside:
            beside.write_text("one, the longer one")
            within.set()
            assert go_on.wait(60)

    def second_writes() -> None:
        with in_place_of(file) as beside:
            second.set()
            beside.write_text("two")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(first_writes)
        assert within.wait(60)
        other = pool.submit(second_writes)
        assert not second.wait(0.5)
        assert not file.exists()
        go_on.set()
        first.result()
        other.result()
    assert file.read_text() == "two"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_writer_left_is_in_the_copy(tmp_path: Path) -> None:
    database, published = tmp_path / "x.duckdb", tmp_path / "y.duckdb"
    made = "c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE t AS SELECT 1 AS n')"
    killed = f"import duckdb, os, sys; {made}; os._exit(1)"
    subprocess.run([sys.executable, "-c", killed, str(database)], check=False)
    assert database.with_name("x.duckdb.wal").exists()
    publish(database, published)
    with duckdb.connect(str(published), read_only=True) as copied:
        assert copied.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_what_cannot_be_published_is_refused_at_once(copy: Copy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names the database itself"):
        copy.sync(publish=str(copy.database))
    with pytest.raises(ConfigurationError, match="make it, or name another file"):
        copy.sync(publish=str(tmp_path / "no" / "x.duckdb"))
    with pytest.raises(ConfigurationError, match="is a folder: name a file in it"):
        copy.sync(publish=str(tmp_path))
    with pytest.raises(ConfigurationError, match="copies a DuckDB file"):
        check_publish(SyncOptions(destination="postgres", publish=str(tmp_path / "x.duckdb")))
    assert not copy.database.exists()


def test_command(copy: Copy, api: PrefectApi, tmp_path: Path) -> None:
    run_id = api.flow_run("RUNNING")
    assert run_command(copy, "sync", "--publish", str(tmp_path / "p.duckdb")).returncode == 0
    with duckdb.connect(str(tmp_path / "p.duckdb"), read_only=True) as warehouse:
        assert (run_id,) in warehouse.execute("SELECT id FROM prefect.flow_runs").fetchall()
