"""Verify finds what differs from a real server, whoever made it differ, and a repair makes the copy whole again."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from command import run_command
from conftest import Copy
from fault_proxy import FaultProxy, Recorded, status
from prefect_api import PrefectApi, as_state, now, scheduled, seconds

import prefect_runs.verify
import prefect_runs_pipelines.verify
from prefect_runs import ConfigurationError
from prefect_runs.client import Patience
from prefect_runs.clock import as_utc
from prefect_runs.drift import Drift
from prefect_runs.verify import Verify
from prefect_runs.windows import Window
from prefect_runs_pipelines.command.screen import verify_screen
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.status import status as shown_status
from prefect_runs_pipelines.verify import VerifyReport


def due(copy: Copy, run_id: str, moved_by: timedelta) -> str:
    """When the warehouse has a run expected, moved by some hours; as it stands in SQL."""
    [time] = copy.values(f"SELECT expected_start_time FROM prefect.flow_runs WHERE id = '{run_id}'")
    return f"'{as_utc(time) + moved_by:%Y-%m-%d %H:%M:%S.%f}'"


def found(report: VerifyReport, pass_: int = 0) -> dict[str, str]:
    """Run id → what differs."""
    return {str(drift.run_id): drift.what for drift in report.passes[pass_].drifts}


@pytest.fixture
def runs(copy: Copy, api: PrefectApi) -> list[str]:
    """Five flow runs and a task run that are loaded and whole."""
    ids = [api.flow_run("RUNNING", name=f"run {number}") for number in range(5)]
    for run_id in ids[:3]:
        api.set_flow_run(run_id, "COMPLETED")
    api.task_run("RUNNING", flow_run_id=ids[4])
    api.outlive_its_second()
    copy.sync_and_compare()
    return ids


@pytest.mark.usefixtures("runs")
def test_whole_copy_costs_a_few_requests(copy: Copy) -> None:
    report = copy.verify()
    assert report.whole
    assert found(report) == {}
    assert report.requests <= 8
    flow_runs, task_runs = report.passes[0].tables
    assert flow_runs.server_runs == flow_runs.warehouse_runs == 5
    assert task_runs.server_runs == task_runs.warehouse_runs > 0
    sql = "SELECT [whole, swept, after_repair] FROM prefect.verifications WHERE resource = 'flow_runs'"
    [written] = copy.values(sql)
    assert written == [True, False, False]
    assert report.passes[0].whole_up_to == as_utc(max(copy.values("SELECT window_end FROM prefect.syncs")))


@pytest.mark.parametrize("sweep", [False, True], ids=["by counts", "by a sweep"])
def test_rows_changed_by_hand_are_found_and_repaired(copy: Copy, runs: list[str], sweep: bool) -> None:
    made_up = "00000000-0000-4000-8000-000000000001"
    before = due(copy, runs[2], timedelta(hours=-1))
    copy.change(
        f"DELETE FROM prefect.flow_runs WHERE id = '{runs[0]}'",
        f"UPDATE prefect.flow_runs SET state_name = 'Odd' WHERE id = '{runs[1]}'",
        f"UPDATE prefect.flow_runs SET expected_start_time = {before} WHERE id = '{runs[2]}'",
        f"CREATE TEMP TABLE double AS SELECT * FROM prefect.flow_runs WHERE id = '{runs[3]}'",
        "UPDATE double SET _dlt_id = 'double'",
        "INSERT INTO prefect.flow_runs SELECT * FROM double",
        f"UPDATE double SET _dlt_id = 'made up', id = '{made_up}'",
        "INSERT INTO prefect.flow_runs SELECT * FROM double",
    )
    report = copy.verify(repair=True, sweep=sweep)
    assert found(report) == {
        runs[0]: "missing",
        runs[1]: "changed",
        # outside the window that is compared it is missing inside
        runs[2]: "missing",
        **({runs[3]: "double"} if copy.warehouse.keeps_doubles else {}),
        made_up: "deleted",
    }
    assert found(report, 1) == {}
    assert report.whole
    assert report.requests <= 40
    copy.assert_true()
    assert copy.values("SELECT id FROM prefect.tombstones") == [made_up]
    sql = "SELECT whole FROM prefect.verifications WHERE resource = 'flow_runs'"
    assert copy.values(f"{sql} ORDER BY verified_at, after_repair") == [
        False,
        True,
    ]


def test_run_moved_within_the_window_is_changed_and_not_gone(copy: Copy, runs: list[str]) -> None:
    later = due(copy, runs[0], timedelta(hours=5))
    copy.change(f"UPDATE prefect.flow_runs SET expected_start_time = {later} WHERE id = '{runs[0]}'")
    report = copy.verify(repair=True)
    assert found(report).keys() == {runs[0]}
    assert report.whole
    copy.assert_true()
    assert copy.values("SELECT id FROM prefect.tombstones") == []


def test_state_missing_from_the_history_is_fetched_again(copy: Copy, runs: list[str]) -> None:
    copy.change(f"DELETE FROM prefect.flow_run_states WHERE flow_run_id = '{runs[1]}'")
    report = copy.verify(repair=True)
    assert found(report) == {runs[1]: "without history"}
    assert report.whole
    copy.assert_true()


def test_state_missing_amid_a_history_is_found_run_by_run(copy: Copy, runs: list[str]) -> None:
    gone = f"DELETE FROM prefect.flow_run_states WHERE flow_run_id = '{runs[1]}' AND sequence = 1"
    copy.change(gone, f"UPDATE prefect.flow_run_states SET sequence = 9 WHERE flow_run_id = '{runs[4]}'")
    assert copy.verify(sweep=True).whole
    report = copy.verify(histories=True, repair=True)
    assert found(report) == {runs[1]: "incomplete history", runs[4]: "incomplete history"}
    assert found(report, 1) == {}
    assert report.whole
    copy.assert_true()
    sql = "SELECT [histories, whole] FROM prefect.verifications WHERE resource = 'flow_runs' ORDER BY _dlt_load_id"
    assert copy.values(sql) == [[False, True], [True, False], [True, True]]
    assert "counts, histories" in verify_screen(report)


@pytest.mark.parametrize("repair", [False, True], ids=["compared", "repaired"])
def test_history_that_grows_while_it_is_compared_is_left_to_the_next_sync(
    copy: Copy, api: PrefectApi, runs: list[str], proxy: FaultProxy, repair: bool
) -> None:
    copy.url = proxy.url

    def of_this_run(request: Recorded) -> bool:
        return request.query["flow_run_id"] == runs[4]

    proxy.before("/flow_run_states/", lambda: api.set_flow_run(runs[4], "COMPLETED"), when=of_this_run)
    report = copy.verify(histories=True, repair=repair)
    assert found(report) == {runs[4]: "incomplete history"}
    assert report.passes[0].drifts[0].since_last_sync
    assert report.whole


def test_hole_in_a_history_is_not_left_to_the_next_sync_because_the_run_moved_on(
    copy: Copy, api: PrefectApi, runs: list[str]
) -> None:
    run_id = api.flow_run("PENDING")
    api.set_flow_run(run_id, "RUNNING")
    api.set_flow_run(run_id, "PAUSED")
    copy.sync()
    copy.change(f"DELETE FROM prefect.flow_run_states WHERE flow_run_id = '{run_id}' AND sequence = 2")
    api.set_flow_run(run_id, "COMPLETED", force=True)
    api.outlive_its_second()
    report = copy.verify(histories=True)
    assert not report.whole
    assert run_id in found(report)
    assert copy.verify(histories=True, repair=True).whole
    copy.assert_true()


@pytest.mark.usefixtures("runs")
def test_many_runs_due_before_the_last_sync_and_made_after_it_are_left_to_the_next(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs.verify, "RUNS_PER_INTERVAL", 2)
    # none of the others is due in the second before the last sync
    time.sleep(1.1)
    api.outlive_its_second()
    copy.sync()
    [until] = copy.values("SELECT max(window_end) FROM prefect.syncs")
    late = [api.flow_run(scheduled(as_utc(until) - seconds(number / 10))) for number in range(1, 6)]
    report = copy.verify()
    [drift] = report.passes[0].drifts
    assert (drift.what, drift.runs, drift.since_last_sync) == ("missing", len(late), True)
    assert report.whole
    copy.sync()
    assert set(late) <= set(copy.values("SELECT id FROM prefect.flow_runs"))


def test_changes_after_the_last_sync_are_left_to_the_next(copy: Copy, api: PrefectApi, runs: list[str]) -> None:
    new = api.flow_run("RUNNING")
    api.set_flow_run(runs[4], "COMPLETED")
    report = copy.verify()
    assert found(report) == {new: "missing", runs[4]: "changed"}
    assert all(drift.since_last_sync for drift in report.passes[0].drifts)
    assert report.whole


def test_what_no_sync_finds_is_not_left_to_the_next(copy: Copy, api: PrefectApi) -> None:
    """A task run that somebody sets from one terminal state to another: no event tells, and its end stays."""
    run_id = api.task_run("FAILED", flow_run_id=api.flow_run("RUNNING"))
    copy.sync()
    copy.outlive_lookback()
    api.call("POST", f"/task_runs/{run_id}/set_state", {"state": as_state("COMPLETED"), "force": True})
    report = copy.verify()
    assert found(report) == {run_id: "changed"}
    assert not report.whole
    copy.sync()
    assert found(copy.verify(repair=True)) == {run_id: "changed"}
    copy.assert_true()


def test_edits_that_move_no_count_are_found_by_a_sweep(copy: Copy, api: PrefectApi, runs: list[str]) -> None:
    pool = api.call("POST", "/work_pools/", {"name": uuid.uuid4().hex, "type": "process"})["name"]
    api.call("POST", f"/work_pools/{pool}/queues/", {"name": "before"})
    queue = {"work_pool_name": pool, "work_queue_name": "before"}
    deployment = api.call("POST", "/deployments/", {"flow_id": api.flow(), "name": pool, **queue})["id"]
    queued = api.call("POST", f"/deployments/{deployment}/create_flow_run", {"state": as_state("RUNNING")})["id"]
    api.set_flow_run(queued, "COMPLETED")
    copy.sync_and_compare()
    for _ in range(2):
        copy.outlive_lookback()
    api.call("PATCH", f"/flow_runs/{runs[0]}", {"tags": ["found later"]})
    api.call("PATCH", f"/flow_runs/{runs[1]}", {"name": "renamed"})
    api.call("PATCH", f"/work_pools/{pool}/queues/before", {"name": "after"})
    copy.sync()
    assert copy.verify().whole
    report = copy.verify(sweep=True)
    assert not report.whole
    columns = {drift.run_id: drift.columns for drift in report.passes[0].drifts}
    assert columns == {
        runs[0]: ("updated", "tags"),
        runs[1]: ("updated", "name"),
        # `updated` stood still
        queued: ("work_queue_name",),
    }
    copy.verify(sweep=True, repair=True)
    copy.assert_true()
    assert copy.verify(sweep=True).whole


def test_changed_state_behind_an_equal_count_is_found_by_a_sweep(copy: Copy, runs: list[str]) -> None:
    copy.change(
        f"UPDATE prefect.flow_runs SET state_type = 'RUNNING', state_name = 'Running' WHERE id = '{runs[0]}'",
        f"UPDATE prefect.flow_runs SET state_type = 'COMPLETED', state_name = 'Completed' WHERE id = '{runs[4]}'",
        "UPDATE prefect.flow_runs SET expected_start_time = (SELECT min(expected_start_time) FROM prefect.flow_runs)",
    )
    report = copy.verify(sweep=True, repair=True)
    assert found(report).keys() == set(runs)
    assert report.whole
    copy.assert_true()


def test_old_runs_deleted_on_the_server_get_tombstones(copy: Copy, api: PrefectApi, runs: list[str]) -> None:
    for _ in range(2):
        copy.outlive_lookback()
    api.call("DELETE", f"/flow_runs/{runs[0]}")
    copy.sync()
    assert copy.values("SELECT id FROM prefect.tombstones") == []
    report = copy.verify(repair=True)
    assert found(report) == {runs[0]: "deleted"}
    assert report.whole
    assert copy.values("SELECT [id, reason] FROM prefect.tombstones") == [[runs[0], "deleted"]]
    copy.assert_true()
    assert copy.verify().passes[0].tables[0].warehouse_runs == 4


def test_edit_after_the_last_sync_of_a_run_that_ended_is_not_left_to_the_next(
    copy: Copy, api: PrefectApi, runs: list[str]
) -> None:
    copy.outlive_lookback()
    api.call("PATCH", f"/flow_runs/{runs[0]}", {"tags": ["found later"]})
    report = copy.verify(sweep=True)
    assert [drift.since_last_sync for drift in report.passes[0].drifts] == [False]
    assert not report.whole


@pytest.mark.parametrize("number", [3, 0], ids=["open", "soon after it ended"])
def test_run_deleted_after_the_last_sync_is_left_to_the_next(
    copy: Copy, api: PrefectApi, runs: list[str], number: int
) -> None:
    api.call("DELETE", f"/flow_runs/{runs[number]}")
    report = copy.verify()
    assert found(report) == {runs[number]: "deleted"}
    assert report.whole
    copy.sync()
    assert copy.values("SELECT id FROM prefect.tombstones WHERE resource = 'flow_runs'") == [runs[number]]
    assert found(copy.verify()) == {}


def test_new_runs_of_an_interval_that_began_before_the_last_sync_are_left_to_the_next(
    copy: Copy, api: PrefectApi, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs.verify, "RUNS_PER_INTERVAL", 3)
    # one interval for all that is compared
    monkeypatch.setattr(prefect_runs.verify, "HISTORY_INTERVALS", 1)
    copy.change("DELETE FROM prefect.flow_runs", "DELETE FROM prefect.flow_run_states")
    new = [api.flow_run("RUNNING") for _ in range(4)]
    drifts = [drift for drift in copy.verify().passes[0].drifts if drift.table == "flow_runs"]
    assert [(drift.runs, drift.since_last_sync) for drift in drifts] == [(len(runs), False), (len(new), True)]


def test_sweep_is_not_made_again_for_a_missing_history(
    copy: Copy, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.change(f"DELETE FROM prefect.flow_run_states WHERE flow_run_id = '{runs[0]}'")
    swept = []
    sweep = Verify.swept

    def noted(self: Verify, interval: Window, *rest: Any) -> Iterator[Drift]:
        swept.append(self.table)
        return sweep(self, interval, *rest)

    monkeypatch.setattr(Verify, "swept", noted)
    report = copy.verify(sweep=True, repair=True)
    assert found(report) == {runs[0]: "without history"}
    assert report.whole
    assert swept == ["flow_runs", "task_runs"]
    copy.assert_true()


def test_verification_of_a_part_proves_nothing_of_the_rest(copy: Copy, runs: list[str]) -> None:
    copy.change(f"DELETE FROM prefect.flow_runs WHERE id = '{runs[0]}'")
    assert not copy.verify().whole
    report = copy.verify(since=now() + timedelta(hours=1))
    assert report.whole
    assert report.passes[0].whole_up_to is None
    assert shown_status(copy.sync_options()).whole_up_to is None
    assert copy.verify(repair=True).whole
    assert shown_status(copy.sync_options()).whole_up_to is not None


def test_run_cancelled_far_ahead_is_compared_and_waiting_ones_are_not(copy: Copy, api: PrefectApi) -> None:
    copy.settings["horizon_hours"] = 1
    waiting, cancelled = (api.flow_run(scheduled(now() + timedelta(hours=30))) for _ in range(2))
    api.set_flow_run(cancelled, "CANCELLED")
    copy.sync()
    assert copy.verify().whole
    copy.change(f"UPDATE prefect.flow_runs SET state_name = 'Odd' WHERE id = '{cancelled}'")
    report = copy.verify(sweep=True, repair=True)
    assert found(report) == {cancelled: "changed"}
    assert report.whole
    assert waiting not in copy.values("SELECT id FROM prefect.flow_runs")


def test_interval_that_the_warehouse_lacks_altogether_is_repaired_as_one(
    copy: Copy, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs.verify, "RUNS_PER_INTERVAL", 3)
    copy.change("DELETE FROM prefect.flow_runs", "DELETE FROM prefect.flow_run_states")
    report = copy.verify(repair=True)
    [drift] = [drift for drift in report.passes[0].drifts if drift.table == "flow_runs"]
    assert (drift.what, drift.run_id, drift.runs) == ("missing", None, len(runs))
    assert report.whole
    copy.assert_true()


def test_more_runs_than_are_read_at_once_are_compared_second_by_second_and_finer(
    copy: Copy, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs.verify, "RUNS_PER_INTERVAL", 1)
    copy.change("UPDATE prefect.flow_runs SET state_name = 'Odd'")
    report = copy.verify(repair=True)
    assert found(report) == dict.fromkeys(runs, "changed")
    assert report.whole
    copy.assert_true()


def test_server_that_fails_on_long_windows_is_asked_for_shorter_ones(
    copy: Copy, server: LocalServer, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs_pipelines.verify, "PATIENCE", Patience(seconds=60, attempts=1))

    def too_long(request: Recorded) -> bool:
        span = as_utc(request.body["history_end"]) - as_utc(request.body["history_start"])
        return span > timedelta(hours=7)

    copy.change(f"DELETE FROM prefect.flow_runs WHERE id = '{runs[0]}'")
    with FaultProxy(server.url) as proxy:
        copy.url = proxy.url
        proxy.inject(status(503), path="/flow_runs/history", when=too_long, times=1_000)
        report = copy.verify()
        refused = [request for request in proxy.requests if request.status == 503]
    assert found(report) == {runs[0]: "missing"}
    # the length that failed is not tried again
    assert len(refused) <= 3
    assert report.passes[0].tables[0].server_runs == 5


def test_filtered_copy_is_compared_with_the_runs_that_it_asks_for(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__TAGS_ANY", '["mine"]')
    tagged, left = (api.flow_run("RUNNING", tags=["mine"]) for _ in range(2))
    api.flow_run("RUNNING")
    copy.sync()
    assert set(copy.values("SELECT id FROM prefect.flow_runs")) == {tagged, left}
    api.call("PATCH", f"/flow_runs/{left}", {"tags": []})
    copy.sync()
    # it left the filter, and is on the server all the same
    assert found(copy.verify()) == {}
    api.call("DELETE", f"/flow_runs/{tagged}")
    assert found(copy.verify()) == {tagged: "deleted"}


def test_copy_of_other_runs_than_are_asked_for_is_not_compared(copy: Copy, runs: list[str]) -> None:
    copy.options["start_date"] = (copy.since - timedelta(days=1)).isoformat()
    with pytest.raises(ConfigurationError, match="--start-date"):
        copy.verify()
    copy.sync()
    assert copy.verify().whole
    assert set(runs) <= set(copy.values("SELECT id FROM prefect.flow_runs"))


class TestCommand:
    def test_says_what_differs(self, copy: Copy, runs: list[str]) -> None:
        copy.change(f"DELETE FROM prefect.flow_runs WHERE id = '{runs[0]}'")
        ended = run_command(copy, "verify")
        assert ended.returncode == 5, ended.stderr
        assert runs[0] in ended.stdout
        assert "missing" in ended.stdout
        assert "verify --repair" in ended.stdout
        ended = run_command(copy, "verify", "--repair", "--json")
        assert ended.returncode == 0, ended.stderr
        report: dict[str, Any] = json.loads(ended.stdout)
        assert report["whole"]
        assert report["whole_up_to"]
        assert report["passes"][0]["tables"][0]["drifts"][0]["run_id"] == runs[0]

    @pytest.mark.usefixtures("runs")
    def test_takes_the_start_date_of_the_syncs(self, copy: Copy) -> None:
        ended = run_command(copy, "verify", "--start-date", "2026-01-31")
        assert ended.returncode == 2
        assert "the last sync read other runs" in ended.stderr
        ended = run_command(copy, "verify", "--start-date", copy.since.isoformat())
        assert ended.returncode == 0, ended.stderr

    def test_needs_a_first_load(self, copy: Copy) -> None:
        ended = run_command(copy, "verify")
        assert ended.returncode == 2
        assert "prefect-runs sync" in ended.stderr
