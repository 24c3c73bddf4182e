"""The DuckDB file stays open for a moment between questions, and is anybody's soon after."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dlt
import pytest
from conftest import Copy
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials
from prefect_api import PrefectApi
from warehouses import CHOSEN

import prefect_runs_pipelines.destination.opened as opened
from prefect_runs_pipelines.target import Target

pytestmark = pytest.mark.skipif(CHOSEN != "duckdb", reason="a DuckDB file keeps others out while it is open")

OPEN = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The times that dlt's client opened the file."""
    made: list[object] = []
    open_connection = DuckDbSqlClient.open_connection

    def noted(self: DuckDbSqlClient) -> object:
        made.append(self)
        return open_connection(self)

    monkeypatch.setattr(DuckDbSqlClient, "open_connection", noted)
    return made


def somebody_else_opens(file: str) -> bool:
    """Whether another process can, as soon as it tries."""
    tried = subprocess.run([sys.executable, "-c", OPEN, file], capture_output=True, text=True)
    assert tried.returncode == 0 or "Could not set lock" in tried.stderr
    return tried.returncode == 0


@contextmanager
def asked(copy: Copy, api: PrefectApi) -> Iterator[Target]:
    """A copy with a run, to ask questions of."""
    api.complete_flow_run(api.flow_run(None))
    copy.sync()
    with Target(copy.sync_options()) as target:
        target.ask_destination()
        yield target


def stay_open(monkeypatch: pytest.MonkeyPatch, moment: float, at_most: float = 60.0) -> None:
    """In seconds: for how long after a question, and for how long of many questions."""
    monkeypatch.setattr(opened, "MOMENT_SECONDS", moment)
    monkeypatch.setattr(opened, "AT_MOST_SECONDS", at_most)


def test_opened_once_for_questions_that_follow_each_other(
    copy: Copy, api: PrefectApi, opens: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_open(monkeypatch, moment=60.0)
    with asked(copy, api) as target:
        opens.clear()
        for _ in range(3):
            assert target.warehouse.counts()["flow_runs"] == 1
            assert target.warehouse.live_ids("flow_runs")
        assert len(opens) <= 1


def test_given_back_a_moment_after_a_question(copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_open(monkeypatch, moment=6.0)
    with asked(copy, api) as target:
        target.warehouse.counts()
        assert not somebody_else_opens(copy.sync_options().where)
        time.sleep(6)
        while not somebody_else_opens(copy.sync_options().where):
            time.sleep(0.1)
        assert target.warehouse.counts()["flow_runs"] == 1


def test_given_back_at_once_by_what_asks_for_long(
    copy: Copy, api: PrefectApi, opens: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_open(monkeypatch, moment=60.0, at_most=0.0)
    with asked(copy, api) as target:
        opens.clear()
        for _ in range(3):
            target.warehouse.counts()
            assert somebody_else_opens(copy.sync_options().where)
        assert len(opens) == 3


def test_given_back_at_once_after_an_error_and_at_the_end(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_open(monkeypatch, moment=60.0)
    where = copy.sync_options().where
    with asked(copy, api) as target:
        target.warehouse.counts()
        assert not somebody_else_opens(where)
        with pytest.raises(Exception, match="nonsense"):
            target.warehouse.rows("SELECT nonsense FROM {flow_runs}")
        assert somebody_else_opens(where)
        target.warehouse.counts()
    assert somebody_else_opens(where)


def test_what_keeps_nobody_out_stays_open_however_long_it_is_asked(
    copy: Copy, api: PrefectApi, opens: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_open(monkeypatch, moment=0.0, at_most=0.0)
    monkeypatch.setattr(opened, "LAKE_SECONDS", 60.0)
    monkeypatch.setattr(opened, "keeps_others_out", lambda client: False)
    with asked(copy, api) as target:
        opens.clear()
        for _ in range(3):
            target.warehouse.counts()
        assert len(opens) <= 1
    assert somebody_else_opens(copy.sync_options().where)


@pytest.mark.parametrize(
    ("catalog", "keeps"), [("postgresql://loader:x@localhost/lake", False), ("duckdb:///lake.duckdb", True)]
)
def test_lake_keeps_nobody_out_if_a_server_keeps_its_catalogue(
    catalog: str, keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = dlt.destinations.ducklake(credentials=DuckLakeCredentials("lake", catalog=catalog))
    pipeline = dlt.pipeline("lake", destination=lake, dataset_name="prefect", pipelines_dir=str(tmp_path))
    # made, and not opened
    pipeline.extract([{"id": 1}], table_name="runs")
    assert opened.keeps_others_out(pipeline.sql_client()) is keeps
