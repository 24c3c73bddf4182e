"""Destinations other than DuckDB, a little of each: `make destinations` runs all tests of changes on them."""

from __future__ import annotations

import contextlib
import sqlite3
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dlt
import psycopg2
import pytest
from conftest import Copy
from prefect_api import PrefectApi
from warehouses import Postgresql

from prefect_runs import ConfigurationError, PrefectRunsError, WarehouseBusy
from prefect_runs_pipelines.cli import main
from prefect_runs_pipelines.command.outcomes import EXIT_CONFIGURATION, EXIT_RETRY
from prefect_runs_pipelines.destination import failures
from prefect_runs_pipelines.destination.killed_load import _row_ids
from prefect_runs_pipelines.status import status
from prefect_runs_pipelines.views import create_views

SECRET = "sesame-open"
ODD_TEXTS = ["plain", "it's", "a'),('b", "{}", 'two\nlines,"quoted"', "back\\slash", "\\u0000"]

Elsewhere = Callable[[str], Copy]


@pytest.fixture
def elsewhere(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """The test's copy at another destination."""

    def at(destination: str) -> Copy:
        other = replace(copy, destination=destination)
        for name, value in other.warehouse.environment.items():
            # and so it is gone after the test
            monkeypatch.setenv(name, value)
        return other

    return at


@pytest.mark.parametrize("destination", ["postgresql", "sqlite"])
def test_late_change_is_loaded_and_a_row_changed_by_hand_repaired(
    elsewhere: Elsewhere, api: PrefectApi, destination: str
) -> None:
    copy = elsewhere(destination)
    run_id = api.flow_run("RUNNING", tags=ODD_TEXTS, parameters={"texts": [*ODD_TEXTS, "ze\0ro"], "pi": 3.14})
    api.task_run("COMPLETED", flow_run_id=run_id)
    copy.sync_and_compare()
    api.set_flow_run(run_id, "COMPLETED")
    api.outlive_its_second()
    assert copy.sync_and_compare().changed["flow_runs"] == 1
    copy.change(f"UPDATE prefect.flow_runs SET state_name = 'Odd' WHERE id = '{run_id}'")
    report = copy.verify(sweep=True, repair=True)
    assert [drift.what for drift in report.passes[0].drifts] == ["changed"]
    assert report.whole
    copy.assert_true()
    shown = status(copy.sync_options())
    assert shown.rows["flow_runs"] == 1
    assert [sync["whole"] for sync in shown.syncs] == [True] * 2
    assert shown.whole_up_to is not None


def test_what_sqlite_cannot_do_is_refused_in_words(
    elsewhere: Elsewhere, api: PrefectApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = elsewhere("sqlite")
    monkeypatch.setenv("DLT_DATA_DIR", str(copy.folder))
    api.flow_run("RUNNING")
    place = ["--api-url", copy.url, "--workspace", "test", *copy.warehouse.arguments]
    assert main(["sync", *place, "--resources", "flow_runs", "--start-date", copy.since.isoformat()]) == 0
    for command in (["models"], ["dbt"], ["report", "--file", str(copy.folder / "page.html")]):
        assert main([*command, *place]) == EXIT_CONFIGURATION
        assert "cannot be written in the SQL of this destination (sqlite)" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="DuckDB file"):
        copy.sync(publish=str(copy.folder / "copy.duckdb"))


def test_locked_sqlite_is_waited_for_and_loaded_by_the_next_sync(
    elsewhere: Elsewhere, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = elsewhere("sqlite")
    monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("DESTINATION__SQLALCHEMY__ENGINE_KWARGS", '{"connect_args": {"timeout": 0.1}}')
    copy.sync()
    api.flow_run("RUNNING")
    with contextlib.closing(sqlite3.connect(copy.folder / "copy__prefect.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(WarehouseBusy, match="held by another program"):
            copy.sync()
    copy.sync_and_compare()


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """The URL of a PostgreSQL that asks this user for a password, without it."""
    url = Postgresql(tmp_path).url
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SHOW hba_file")
        rules = Path(cursor.fetchone()[0])
        rules.write_text(f"local all stranger scram-sha-256\n{rules.read_text()}")
        cursor.execute("DROP ROLE IF EXISTS stranger")
        cursor.execute("CREATE ROLE stranger LOGIN PASSWORD 'another'")
        cursor.execute("SELECT pg_reload_conf()")
    return urlsplit(url)._replace(netloc=f"stranger:{SECRET}@localhost").geturl()


class TestRefusals:
    def told(self, capsys: pytest.CaptureFixture[str], destination: str, code: int) -> str:
        """What a command says that cannot reach its destination."""
        assert main(["status", "--api-url", "http://127.0.0.1:9/api", "--destination", destination]) == code
        said = capsys.readouterr().err
        assert SECRET not in said
        assert "Traceback" not in said
        assert "unexpected" not in said
        return said

    @pytest.mark.parametrize(
        ("change", "words", "code"),
        [
            pytest.param(lambda url: url, "password authentication failed", EXIT_CONFIGURATION, id="wrong password"),
            pytest.param(
                lambda url: url.replace("/copy_", "/no_"), "does not exist", EXIT_CONFIGURATION, id="no such database"
            ),
            pytest.param(
                lambda _: f"postgresql://someone:{SECRET}@127.0.0.1:9/x", "Connection refused", EXIT_RETRY, id="down"
            ),
        ],
    )
    def test_postgresql(
        self,
        stranger: str,
        change: Callable[[str], str],
        words: str,
        code: int,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if words == "does not exist":
            # it is told to those only who are let in
            stranger = stranger.replace(f"stranger:{SECRET}", "postgres:none")
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", change(stranger))
        assert words in self.told(capsys, "postgres", code)

    def test_sqlite_without_its_folder(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DESTINATION__SQLALCHEMY__CREDENTIALS", "sqlite:////no/such/folder/x.db")
        assert "unable to open database file" in self.told(capsys, "sqlalchemy", EXIT_CONFIGURATION)

    def test_package_that_is_not_installed(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DESTINATION__SNOWFLAKE__CREDENTIALS", f"snowflake://someone:{SECRET}@account/x")
        assert "pip install 'dlt[snowflake]'" in self.told(capsys, "snowflake", EXIT_CONFIGURATION)

    def test_destination_that_dlt_does_not_know(self, capsys: pytest.CaptureFixture[str]) -> None:
        first, *_ = self.told(capsys, "nonsense", EXIT_CONFIGURATION).splitlines()
        assert first.startswith("prefect-runs: there is no destination nonsense: name one of dlt's, such as postgres")


@pytest.mark.parametrize("kind", ["postgresql", "delta"])
def test_destination_of_a_name_of_its_own_is_what_its_type_is(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    named = replace(copy, destination=kind)
    dlts_own = named.warehouse.destination.upper()
    monkeypatch.setattr(type(named.warehouse), "destination", "depot")
    variables = {
        "DESTINATION__DEPOT__DESTINATION_TYPE": dlts_own.lower(),
        **{name.replace(dlts_own, "DEPOT"): value for name, value in named.warehouse.environment.items()},
    }
    monkeypatch.setattr(type(named.warehouse), "environment", variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run_id = api.flow_run("RUNNING", parameters={"text": "ze\0ro"})
    for _ in range(2):
        named.sync(resources=("flow_runs",))
        api.set_flow_run(run_id, "COMPLETED")
        api.outlive_its_second()
    assert named.values("SELECT state_type FROM prefect.flow_runs") == ["COMPLETED"]


class TestAnswersOfADatabaseServer:
    def explained(self, *said: str) -> str:
        """What is told where each of `said` is the cause of the one before."""
        error: Exception | None = None
        for text in reversed(said):
            cause, error = error, RuntimeError(text)
            error.__cause__ = cause
        assert error is not None
        with pytest.raises((PrefectRunsError, RuntimeError)) as told, failures.explained():
            raise error
        trace = "".join(traceback.format_exception(told.value))
        assert SECRET not in trace
        assert all(text not in trace for text in said[:-1])
        return f"{type(told.value).__name__}: {told.value}"

    @pytest.mark.parametrize(
        "said",
        [
            "deadlock detected",
            "canceling statement due to statement timeout",
            "canceling statement due to lock timeout",
            "tuple concurrently updated",
            'duplicate key value violates unique constraint "pg_namespace_nspname_index"',
            "SSL connection has been closed unexpectedly",
            "(2006, 'MySQL server has gone away')",
        ],
    )
    def test_that_pass_are_worth_another_try(self, said: str) -> None:
        assert self.explained("a step failed", said).startswith("WarehouseBusy: ")

    def test_with_credentials_are_in_no_traceback(self) -> None:
        url = f"postgres://loader:{SECRET}@db.example.com/lake"
        assert "***@db" in self.explained("a step failed", f"connection refused: {url}")
        assert "***@db" in self.explained(f"never heard of {url}")

    def test_views_of_others_are_named(self, copy: Copy, api: PrefectApi, elsewhere: Elsewhere) -> None:
        there = elsewhere("postgresql")
        api.flow_run("COMPLETED")
        there.sync()
        create_views(there.sync_options())
        there.change("CREATE VIEW prefect.mine AS SELECT * FROM prefect.stg_runs")
        with pytest.raises(ConfigurationError, match="view mine depends on view stg_runs"):
            create_views(there.sync_options())
        there.change("DROP VIEW prefect.mine")
        create_views(there.sync_options())


@pytest.mark.parametrize(
    ("destination", "file_format"),
    [("duckdb", "parquet"), ("postgres", "insert_values"), ("sqlalchemy", "typed-jsonl")],
)
def test_rows_of_a_file_that_was_to_be_loaded_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, file_format: Any
) -> None:
    monkeypatch.setenv("DESTINATION__SQLALCHEMY__CREDENTIALS", "sqlite://")
    pipeline = dlt.pipeline("files", destination=destination, pipelines_dir=str(tmp_path))
    rows = [{"id": number, "text": text, "_dlt_id": f"row {number}"} for number, text in enumerate(ODD_TEXTS)]
    pipeline.extract(rows, table_name="odd", loader_file_format=file_format)
    pipeline.normalize()
    [load_id] = pipeline.list_normalized_load_packages()
    jobs = pipeline.get_load_package_info(load_id).jobs["new_jobs"]
    [job] = [job for job in jobs if job.job_file_info.table_name == "odd"]
    assert job.job_file_info.file_format == file_format
    assert _row_ids(Path(job.file_path), file_format, "postgres") == [row["_dlt_id"] for row in rows]
