"""What does not change is not read again: old runs in flight, of which there are more and more, and hourly counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dlt
import duckdb
import pytest
from conftest import DATABASE, IMPATIENT, VERSION, Copy
from fault_proxy import FaultProxy, Recorded, replace_json
from prefect_api import PrefectApi, now, scheduled

from prefect_runs import UnexpectedReply, open_runs, prefect_runs
from prefect_runs.clock import parse
from prefect_runs_pipelines.local.server import LocalServer, local_server

DAY = timedelta(days=1)
# an hour that does not end amid a test
HOUR_WITHOUT_END = timedelta(days=40_000)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    # of its own: runs of long ago would be in the syncs of no other test, and theirs in those of this one
    with local_server(VERSION, IMPATIENT, DATABASE) as running:
        yield running


@pytest.fixture
def old(copy: Copy, api: PrefectApi, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Flow runs that are in flight for days, more than a page of them, which syncs have read."""
    copy.since = now() - 9 * DAY
    # so that the start date leaves none of them out
    copy.settings.update(page_size=2, in_flight_days=5)
    copy.url = proxy.url
    monkeypatch.setattr(open_runs, "OLD_READ_EVERY", HOUR_WITHOUT_END)
    runs = [in_flight_for_days(api) for _ in range(3)]
    api.flow_run("RUNNING")
    copy.outlive_lookback()
    copy.sync_and_compare()
    proxy.requests.clear()
    yield runs
    for row in api.runs("flow_runs", copy.since):
        api.call("DELETE", f"/flow_runs/{row['id']}")


def in_flight_for_days(api: PrefectApi) -> str:
    run_id = api.flow_run(scheduled(now() - 3 * DAY))
    # else the server would mark it Late, at any moment
    for state in ("PENDING", "RUNNING"):
        api.set_flow_run(run_id, state)
    return run_id


def reads_of_open(proxy: FaultProxy) -> list[datetime]:
    """From which expected start on flow runs in flight were read, for each request."""
    asked = [request.body["flow_runs"] for request in requests_to(proxy, "/flow_runs/filter")]
    return [parse(own["expected_start_time"]["after_"]) for own in asked if own.get("end_time") == {"is_null_": True}]


def requests_to(proxy: FaultProxy, path: str) -> list[Recorded]:
    return [request for request in proxy.requests if request.matches(path)]


def test_a_count_of_another_form_is_refused_and_nothing_is_lost(copy: Copy, old: list[str], proxy: FaultProxy) -> None:
    proxy.inject(replace_json(lambda count: {"count": count}), "/flow_runs/count")
    with pytest.raises(UnexpectedReply, match="POST /flow_runs/count answered a dict of 1 where a number was due"):
        copy.sync()
    copy.sync_and_compare()


def test_old_ones_are_counted_and_not_read(copy: Copy, old: list[str], proxy: FaultProxy) -> None:
    report = copy.sync()
    assert report.changed["flow_runs"] == 0
    assert reads_of_open(proxy)
    assert all(now() - start < 1.1 * DAY for start in reads_of_open(proxy))
    assert len(requests_to(proxy, "/flow_runs/count")) == 1


def test_one_that_is_deleted_gets_its_tombstone_at_once(copy: Copy, old: list[str], api: PrefectApi) -> None:
    api.call("DELETE", f"/flow_runs/{old[0]}")
    copy.sync_and_compare()
    assert copy.values("SELECT id FROM prefect.tombstones") == [old[0]]


def test_changes_with_an_event_are_found_at_once(copy: Copy, old: list[str], api: PrefectApi) -> None:
    api.set_flow_run(old[0], "PAUSED", force=True)
    api.set_flow_run(old[1], "CRASHED", force=True)
    report = copy.sync_and_compare()
    assert report.changed["flow_runs"] == 2


def test_new_one_that_is_old_already_is_found_at_once(copy: Copy, old: list[str], api: PrefectApi) -> None:
    in_flight_for_days(api)
    report = copy.sync_and_compare()
    assert report.new["flow_runs"] == 1


def test_all_are_read_where_filters_may_leave_some_out(
    copy: Copy, old: list[str], api: PrefectApi, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__STATE_TYPES", '["RUNNING"]')
    for _ in range(3):
        proxy.requests.clear()
        copy.sync()
    assert not requests_to(proxy, "/flow_runs/count")
    assert any(now() - start > 4 * DAY for start in reads_of_open(proxy))


def test_edit_is_not_lost_where_the_source_knows_no_warehouse(old: list[str], api: PrefectApi, tmp_path: Path) -> None:
    settings = {"page_size": 2, "lookback_minutes": 1 / 60}
    database = tmp_path / "own.duckdb"
    pipeline = dlt.pipeline(
        "own", destination=dlt.destinations.duckdb(str(database)), dataset_name="prefect", pipelines_dir=str(tmp_path)
    )
    for name in ("one", "two", "three"):
        api.call("PATCH", f"/flow_runs/{old[0]}", {"name": name})
        pipeline.run(prefect_runs(api.url, workspace="own", settings=settings).with_resources("flow_runs"))
        with duckdb.connect(str(database)) as warehouse:
            sql = f"SELECT name FROM prefect.flow_runs WHERE id = '{old[0]}'"
            assert warehouse.execute(sql).fetchall() == [(name,)]


def test_edit_without_an_event_is_found_within_the_hour(
    copy: Copy, old: list[str], api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.call("PATCH", f"/flow_runs/{old[0]}", {"name": "renamed"})
    monkeypatch.setattr(open_runs, "OLD_READ_EVERY", timedelta(microseconds=1))
    api.outlive_its_second()
    copy.sync_and_compare()
    assert copy.values("SELECT name FROM prefect.flow_runs WHERE name = 'renamed'") == ["renamed"]


def test_edit_of_one_that_leaves_the_days_in_question_is_found_all_the_same(
    copy: Copy, old: list[str], api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.call("PATCH", f"/flow_runs/{old[0]}", {"name": "renamed"})
    copy.settings["in_flight_days"] = 2
    monkeypatch.setattr(open_runs, "OLD_READ_EVERY", timedelta(microseconds=1))
    api.outlive_its_second()
    copy.sync_and_compare()
    assert copy.values("SELECT name FROM prefect.flow_runs WHERE name = 'renamed'") == ["renamed"]


def test_few_are_read_each_time(copy: Copy, old: list[str], api: PrefectApi, proxy: FaultProxy) -> None:
    copy.settings["page_size"] = 200
    # what it reads are as many as a page holds: no longer counted
    api.call("DELETE", f"/flow_runs/{old[0]}")
    copy.sync()
    proxy.requests.clear()
    api.call("PATCH", f"/flow_runs/{old[1]}", {"name": "renamed"})
    copy.sync_and_compare()
    assert not requests_to(proxy, "/flow_runs/count")
    assert any(now() - start > 4 * DAY for start in reads_of_open(proxy))


class TestHourlyCounts:
    """Each counts the requests for the server's own counts."""

    PATHS = ("/flow_runs/history", "/task_runs/history")

    def requests(self, proxy: FaultProxy) -> list[int]:
        found = [len(requests_to(proxy, path)) for path in self.PATHS]
        proxy.requests.clear()
        return found

    @pytest.fixture(autouse=True)
    def hour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("prefect_runs.server.HISTORY_INTERVAL", HOUR_WITHOUT_END)

    @pytest.fixture
    def flow_run(self, copy: Copy, api: PrefectApi, proxy: FaultProxy) -> str:
        """A flow run in flight, which syncs have read, and counted."""
        copy.url = proxy.url
        flow_run = api.flow_run("RUNNING")
        api.outlive_its_second()
        copy.sync()
        copy.sync()
        proxy.requests.clear()
        return flow_run

    def test_are_read_when_a_run_changed(self, copy: Copy, api: PrefectApi, proxy: FaultProxy, flow_run: str) -> None:
        copy.sync()
        assert self.requests(proxy) == [0, 0]
        api.set_flow_run(flow_run, "COMPLETED")
        copy.sync()
        assert self.requests(proxy) == [1, 1]
        sql = "SELECT DISTINCT state_type FROM prefect.flow_run_history WHERE count_runs > 0 AND interval_start >= %s"
        counted = copy.values(sql.replace("%s", f"'{(now() - timedelta(hours=1)).isoformat()}'"))
        assert counted == ["COMPLETED"]

    def test_are_read_when_a_run_is_gone(self, copy: Copy, api: PrefectApi, proxy: FaultProxy, flow_run: str) -> None:
        api.call("DELETE", f"/flow_runs/{flow_run}")
        copy.sync()
        assert self.requests(proxy) == [1, 1]

    def test_are_read_when_the_hour_is_over(
        self, copy: Copy, proxy: FaultProxy, flow_run: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("prefect_runs.server.HISTORY_INTERVAL", timedelta(microseconds=1))
        copy.sync()
        assert self.requests(proxy) == [1, 1]

    def test_are_read_when_no_runs_are(self, copy: Copy, proxy: FaultProxy) -> None:
        copy.url = proxy.url
        for _ in range(2):
            copy.sync(resources=["flow_run_history"])
        assert self.requests(proxy) == [2, 0]
