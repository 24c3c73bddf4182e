"""One test per kind of change: after the next sync every run and every state equals what the server answers."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from conftest import SHORT_LOOKBACK_SECONDS, SYNC_SECONDS, Copy, server_before
from fault_proxy import FaultProxy, status
from prefect_api import PrefectApi, now, scheduled, seconds

from prefect_runs_pipelines.local.server import LocalServer

TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_new_run(copy: Copy, api: PrefectApi) -> None:
    copy.sync_and_compare()
    api.flow_run("RUNNING", name="new", tags=["a", "b"], parameters={"x": 1})
    api.task_run("PENDING", flow_run_id=api.flow_run("PENDING"), tags=["t"])
    report = copy.sync_and_compare()
    assert report.new["flow_runs"] == 2
    assert report.new["task_runs"] == 1


def test_run_in_flight_over_several_syncs(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run(None)
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        api.set_flow_run(run_id, state)
        copy.sync_and_compare()
        copy.outlive_lookback()
    copy.assert_true()


def test_end_after_the_lookback(copy: Copy, api: PrefectApi) -> None:
    flow_run_id, task_run_id = api.flow_run("RUNNING"), api.task_run("RUNNING")
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_task_run(task_run_id, "FAILED")
    api.set_flow_run(flow_run_id, "COMPLETED")
    report = copy.sync_and_compare()
    assert report.changed["flow_runs"] == report.changed["task_runs"] == 1


def test_retry_of_a_run_that_ended_before_the_lookback(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("PENDING")
    api.set_flow_run(run_id, "RUNNING")
    api.set_flow_run(run_id, "FAILED")
    copy.sync_and_compare()
    copy.outlive_lookback()
    assert api.set_flow_run(run_id, scheduled(now(), "AwaitingRetry"), force=True) == "ACCEPT"
    copy.sync_and_compare()
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        api.set_flow_run(run_id, state)
        copy.sync_and_compare()
    assert copy.values(f"SELECT run_count FROM prefect.flow_runs WHERE id = '{run_id}'") == [2]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("FAILED", "COMPLETED/Fixed by hand", id="another type"),
        pytest.param("COMPLETED", "COMPLETED/Looked at", id="same type, another name"),
        pytest.param("COMPLETED", "COMPLETED", id="same type and name"),
    ],
)
def test_forced_change_from_terminal_to_terminal(copy: Copy, api: PrefectApi, before: str, after: str) -> None:
    run_id = api.flow_run("PENDING")
    api.set_flow_run(run_id, "RUNNING")
    api.set_flow_run(run_id, before)
    copy.sync_and_compare()
    copy.outlive_lookback()
    assert api.set_flow_run(run_id, after, force=True) == "ACCEPT"
    report = copy.sync_and_compare()
    assert report.changed["flow_runs"] == 1
    assert report.new["flow_run_states"] == 1


def test_terminal_run_set_to_another_terminal_state_long_after_it_ended(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    api.set_flow_run(run_id, "COMPLETED")
    copy.sync_and_compare()
    for _ in range(2):
        copy.outlive_lookback()
    assert copy.sync().changed["flow_runs"] == 0
    api.set_flow_run(run_id, "CRASHED/Found out later", force=True)
    copy.sync_and_compare()


def test_subflow_that_gets_another_end_long_after(copy: Copy, api: PrefectApi) -> None:
    parent = api.flow_run("RUNNING")
    wrapper = api.task_run("RUNNING", flow_run_id=parent)
    subflow = api.flow_run("RUNNING", parent_task_run_id=wrapper)
    api.set_flow_run(subflow, "FAILED")
    copy.sync_and_compare()
    assert copy.values(f"SELECT state_type FROM prefect.task_runs WHERE id = '{wrapper}'") == ["FAILED"]
    copy.outlive_lookback()
    api.set_flow_run(subflow, "COMPLETED/Fixed by hand", force=True)
    # the server gives it to the task run that stands for the subflow, without an event
    api.wait("task_runs", wrapper, "Fixed by hand")
    copy.sync_and_compare()


@pytest.mark.parametrize(
    ("resources", "flow_names"),
    [
        pytest.param(("task_runs", "task_run_states"), None, id="task runs alone"),
        pytest.param((), '["parent"]', id="runs of the parent's flow alone"),
    ],
)
def test_task_run_that_stands_for_a_subflow_that_is_not_copied(
    copy: Copy,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
    resources: tuple[str, ...],
    flow_names: str | None,
) -> None:
    if flow_names:
        monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES", flow_names)
    copy.options["resources"] = resources
    parent = api.flow_run("RUNNING", flow_id=api.flow("parent"))
    wrapper = api.task_run("RUNNING", flow_run_id=parent)
    subflow = api.flow_run("RUNNING", parent_task_run_id=wrapper)
    api.set_flow_run(subflow, "FAILED")
    copy.sync()
    copy.outlive_lookback()
    api.set_flow_run(subflow, "COMPLETED/Fixed by hand", force=True)
    api.wait("task_runs", wrapper, "Fixed by hand")
    copy.sync()
    assert copy.values(f"SELECT state_name FROM prefect.task_runs WHERE id = '{wrapper}'") == ["Fixed by hand"]
    # once it was deleted, it is no news any more
    api.call("DELETE", f"/task_runs/{wrapper}")
    api.set_flow_run(subflow, "FAILED/After all", force=True)
    for _ in range(2):
        copy.sync()
    assert copy.values("SELECT id FROM prefect.tombstones WHERE resource = 'task_runs'") == [wrapper]


def test_task_run_that_stands_for_an_unwanted_subflow_is_not_wanted_either(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES", '["wanted"]')
    wanted, unwanted = (api.flow_run("RUNNING", flow_id=api.flow(name)) for name in ("wanted", "unwanted"))
    copy.sync()
    api.flow_run("COMPLETED", parent_task_run_id=api.task_run("RUNNING", flow_run_id=unwanted))
    api.task_run("RUNNING", flow_run_id=wanted)
    assert copy.sync().rows["task_runs"] == 1
    assert copy.values("SELECT flow_run_id FROM prefect.task_runs") == [wanted]


def test_pause_and_resume(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    timeout = (now() + seconds(3600)).isoformat()
    details = {"pause_timeout": timeout, "pause_reschedule": False, "pause_key": "approve"}
    api.set_flow_run(run_id, {"type": "PAUSED", "name": "Paused", "state_details": details})
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.call("POST", f"/flow_runs/{run_id}/resume", {})
    copy.sync_and_compare()
    api.set_flow_run(run_id, "COMPLETED")
    copy.sync_and_compare()


def test_suspend(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    timeout = (now() + seconds(3600)).isoformat()
    details = {"pause_timeout": timeout, "pause_reschedule": True, "pause_key": "wait"}
    copy.sync_and_compare()
    api.set_flow_run(run_id, {"type": "PAUSED", "name": "Suspended", "state_details": details})
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_flow_run(run_id, scheduled(now(), "Resuming"), force=True)
    copy.sync_and_compare()


def test_cancel_of_a_scheduled_run(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run(scheduled(now() + seconds(3600)))
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_flow_run(run_id, "CANCELLED")
    report = copy.sync_and_compare()
    assert report.changed["flow_runs"] == 1


def test_cancel_of_a_far_future_run_that_no_read_of_open_runs_reaches(copy: Copy, api: PrefectApi) -> None:
    copy.settings["horizon_hours"] = 1
    copy.sync_and_compare()
    run_id = api.flow_run(scheduled(now() + seconds(72 * 3600)))
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_flow_run(run_id, "CANCELLED")
    copy.sync_and_compare()


def test_crash(copy: Copy, api: PrefectApi) -> None:
    pending, running = api.flow_run("PENDING"), api.flow_run("RUNNING")
    copy.sync_and_compare()
    copy.outlive_lookback()
    for run_id in (pending, running):
        api.set_flow_run(run_id, {"type": "CRASHED", "name": "Crashed", "message": "killed: signal 9"})
    copy.sync_and_compare()


def test_late_run(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run(scheduled(now() + seconds(SYNC_SECONDS + 5)))
    copy.sync_and_compare()
    api.wait("flow_runs", run_id, "Late", SYNC_SECONDS + 60)
    copy.sync_and_compare()
    assert copy.values(f"SELECT state_name FROM prefect.flow_runs WHERE id = '{run_id}'") == ["Late"]


def test_far_future_scheduled_run_next_to_an_ad_hoc_one(copy: Copy, api: PrefectApi) -> None:
    copy.sync_and_compare()
    api.flow_run(scheduled(now() + seconds(60 * 86400)))
    ad_hoc = api.flow_run("RUNNING")
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_flow_run(ad_hoc, "COMPLETED")
    copy.sync_and_compare()


def test_scheduled_run_is_loaded_when_it_comes_within_the_horizon(copy: Copy, api: PrefectApi) -> None:
    # long enough that the run is not marked late before it was compared, however busy the machine
    horizon = seconds(30 + SYNC_SECONDS)
    copy.settings["horizon_hours"] = horizon / seconds(3600)
    due = now() + horizon + seconds(SYNC_SECONDS)
    run_id = api.flow_run(scheduled(due))
    copy.sync()
    count = f"SELECT count(*) FROM prefect.flow_runs WHERE id = '{run_id}'"
    assert copy.values("SELECT count(*) FROM information_schema.tables WHERE table_name = 'flow_runs'") == [0]
    # the server's time comes in whole seconds
    time.sleep(max(0.0, (due - horizon + seconds(1.5) - now()).total_seconds()))
    copy.sync()
    assert copy.values(count) == [1]
    copy.assert_true()


def test_first_load_finds_a_run_cancelled_long_before_it_was_due(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run(scheduled(now() + seconds(60 * 86400)))
    api.set_flow_run(run_id, "CANCELLED")
    api.flow_run("RUNNING")
    copy.sync_and_compare()


def test_change_of_a_time_in_which_events_were_refused_is_loaded_later(
    copy: Copy, api: PrefectApi, server: LocalServer
) -> None:
    run_id = api.flow_run("COMPLETED")
    copy.sync()
    # the first load reads no events
    copy.outlive_lookback()
    api.set_flow_run(run_id, "FAILED", force=True)
    api.outlive_its_second()
    with FaultProxy(server.url) as proxy:
        proxy.inject(status(404), "/events/filter", times=None)
        for _ in range(2):
            refused = replace(copy, url=proxy.url).sync()
            assert ["the server gives no events" in gap for gap in refused.gaps] == [True, True]
            time.sleep(SHORT_LOOKBACK_SECONDS + 1.5)
    assert copy.sync_and_compare().changed["flow_runs"] == 1
    assert copy.sync_and_compare().changed["flow_runs"] == 0


@pytest.mark.parametrize("state", TERMINAL)
def test_run_created_directly_in_a_terminal_state(copy: Copy, api: PrefectApi, state: str) -> None:
    copy.sync_and_compare()
    api.flow_run(state)
    api.task_run(state)
    report = copy.sync_and_compare()
    assert report.new["flow_runs"] == report.new["task_runs"] == 1


def test_run_without_a_state_of_its_own_choice(copy: Copy, api: PrefectApi) -> None:
    copy.sync_and_compare()
    api.flow_run(None)
    api.task_run(None)
    report = copy.sync_and_compare()
    assert report.new["flow_runs"] == report.new["task_runs"] == 1


def test_task_run_outside_any_flow(copy: Copy, api: PrefectApi) -> None:
    run_id = api.task_run("PENDING")
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_task_run(run_id, "RUNNING")
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.set_task_run(run_id, "COMPLETED")
    copy.sync_and_compare()
    assert copy.values(f"SELECT flow_run_id FROM prefect.task_runs WHERE id = '{run_id}'") == [None]


def test_two_syncs_with_nothing_in_between_load_nothing(copy: Copy, api: PrefectApi) -> None:
    copy.settings["lookback_minutes"] = 10
    run_id = api.flow_run("RUNNING")
    api.task_run("COMPLETED", flow_run_id=run_id)
    api.flow_run(scheduled(now() + seconds(3600)))
    copy.sync_and_compare()
    copy.sync_and_compare()
    report = copy.sync_and_compare()
    tables = ("flow_runs", "task_runs", "flow_run_states", "task_run_states")
    assert {report.new[table] + report.changed[table] for table in tables} == {0}
    # servers that cannot filter task runs by their end are asked for open ones twice: not started, and in flight
    assert report.requests <= (14 if server_before("3.6.22") else 13)
