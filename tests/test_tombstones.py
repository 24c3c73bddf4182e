"""Runs that the server no longer has: their rows and states stay, and a tombstone says why and since when."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from datetime import timedelta

import pytest
from conftest import Copy
from fault_proxy import FaultProxy, replace_json
from prefect_api import PrefectApi, Row, now, scheduled, seconds


def tombstones(copy: Copy) -> dict[str, str]:
    """Run id → reason."""
    return dict(copy.values("SELECT [id, reason] FROM prefect.tombstones"))


def states(copy: Copy, kind: str, run_id: str) -> list[str]:
    one = kind.removesuffix("_runs")
    sql = f"SELECT type FROM prefect.{one}_run_states WHERE {one}_run_id = '{run_id}' ORDER BY timestamp"
    return copy.values(sql)


def test_table_is_there_before_anything_is_deleted(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("RUNNING")
    copy.sync_and_compare()
    assert tombstones(copy) == {}


def test_deleted_runs_keep_their_rows_and_states(copy: Copy, api: PrefectApi) -> None:
    # long enough that the run has not ended long before, however slow the destination
    copy.settings["lookback_minutes"] = 1
    open_run, ended_run = api.flow_run("PENDING"), api.flow_run("PENDING")
    task_run = api.task_run("RUNNING", flow_run_id=open_run)
    api.complete_flow_run(ended_run)
    copy.sync_and_compare()
    for run_id in (open_run, ended_run):
        api.call("DELETE", f"/flow_runs/{run_id}")
    report = copy.sync_and_compare()
    assert tombstones(copy) == dict.fromkeys((open_run, ended_run, task_run), "deleted")
    assert report.new["tombstones"] == 3
    assert states(copy, "flow_runs", ended_run) == ["PENDING", "RUNNING", "COMPLETED"]
    assert states(copy, "task_runs", task_run) == ["RUNNING"]
    noticed = copy.values("SELECT noticed_at FROM prefect.tombstones ORDER BY id")
    # a run that is gone is not asked for again
    assert copy.sync().requests <= report.requests
    assert copy.values("SELECT noticed_at FROM prefect.tombstones ORDER BY id") == noticed


def test_task_runs_that_ended_long_before_go_with_their_flow_run(copy: Copy, api: PrefectApi) -> None:
    flow_run = api.flow_run("RUNNING")
    task_run = api.task_run("COMPLETED", flow_run_id=flow_run)
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.call("DELETE", f"/flow_runs/{flow_run}")
    copy.sync_and_compare()
    assert tombstones(copy) == dict.fromkeys((flow_run, task_run), "deleted")


def test_scheduled_runs_replaced_when_a_schedule_changes(copy: Copy, api: PrefectApi) -> None:
    deployment = api.call(
        "POST",
        "/deployments/",
        {
            "flow_id": api.flow(),
            "name": "replaced",
            "schedules": [{"active": True, "schedule": {"interval": 7200}}],
        },
    )["id"]
    runs = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "expected_start_time": {"before_": soon()}}}
    first = wait_for_runs(api, runs, set())
    copy.sync_and_compare()
    [schedule] = api.call("GET", f"/deployments/{deployment}/schedules")
    api.call("PATCH", f"/deployments/{deployment}/schedules/{schedule['id']}", {"schedule": {"interval": 10800}})
    wait_for_runs(api, runs, first)
    copy.sync_and_compare()
    api.call("DELETE", f"/deployments/{deployment}")
    copy.sync_and_compare()
    assert first <= tombstones(copy).keys()
    assert set(tombstones(copy).values()) == {"deleted"}
    live = "SELECT count(*) FROM prefect.flow_runs AS r ANTI JOIN prefect.tombstones AS t ON t.id = r.id"
    assert copy.values(live) == [len(api.runs("flow_runs", copy.since))]


def soon() -> str:
    return (now() + timedelta(hours=20)).isoformat()


def wait_for_runs(api: PrefectApi, asked: dict[str, object], but: set[str]) -> set[str]:
    """Ids of the runs that a schedule makes, when none of `but` is left."""
    deadline = time.monotonic() + 60
    while True:
        found = {run["id"] for run in api.call("POST", "/flow_runs/filter", asked)}
        if found and not found & but:
            return found
        assert time.monotonic() < deadline, "the scheduler makes no runs"
        time.sleep(0.5)


def test_parent_link_of_a_subflow_stays_when_its_parent_is_deleted(copy: Copy, api: PrefectApi) -> None:
    parent = api.flow_run("RUNNING")
    wrapper = api.task_run("RUNNING", flow_run_id=parent)
    child = api.flow_run("RUNNING", parent_task_run_id=wrapper)
    copy.sync_and_compare()
    api.call("DELETE", f"/flow_runs/{parent}")
    assert api.call("GET", f"/flow_runs/{child}")["parent_task_run_id"] is None
    api.set_flow_run(child, "COMPLETED")
    for options in ({}, {"full": True}):
        copy.sync(**options)
        copy.assert_true()
        link = copy.values(f"SELECT [parent_task_run_id, state_name] FROM prefect.flow_runs WHERE id = '{child}'")
        assert link == [[wrapper, "Completed"]]


def test_tombstone_of_a_run_that_is_back_is_removed(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    gone = api.flow_run("RUNNING")
    copy.sync_and_compare()
    api.call("DELETE", f"/flow_runs/{gone}")
    copy.sync()
    # as if the server had been set back to a backup and then again to the present
    copy.change(f"UPDATE prefect.tombstones SET id = '{run_id}' WHERE id = '{gone}'")
    for _ in range(2):
        copy.sync()
        assert tombstones(copy) == {gone: "deleted"}


def test_task_runs_are_back_with_their_flow_run(copy: Copy, api: PrefectApi) -> None:
    run_id, other = (api.flow_run("RUNNING") for _ in range(2))
    ended, deleted = (api.task_run("COMPLETED", flow_run_id=run_id) for _ in range(2))
    in_flight = api.task_run("RUNNING", flow_run_id=run_id)
    copy.sync_and_compare()
    api.call("DELETE", f"/flow_runs/{other}")
    copy.sync()
    # as if the server had been another one for a while, whose sync found nothing of these
    resources = {run_id: "flow_runs", ended: "task_runs", deleted: "task_runs", in_flight: "task_runs"}
    for id_, resource in resources.items():
        copy.change(
            f"INSERT INTO prefect.tombstones SELECT * REPLACE ('{resource}' AS resource, '{id_}' AS id, "
            f"'{id_}' AS _dlt_id) FROM prefect.tombstones WHERE id = '{other}'"
        )
    api.call("DELETE", f"/task_runs/{deleted}")
    api.call("POST", f"/task_runs/{in_flight}/set_state", {"state": {"type": "COMPLETED", "name": "Completed"}})
    # what ended of it is long out of every read
    copy.outlive_lookback()
    api.set_flow_run(run_id, "COMPLETED")
    api.outlive_its_second()
    copy.sync()
    assert tombstones(copy) == {other: "deleted", deleted: "deleted"}
    copy.sync_and_compare()


def test_scheduled_run_that_was_deleted_is_no_late_run(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run(scheduled(now() + seconds(3600)))
    copy.sync_and_compare()
    copy.outlive_lookback()
    api.call("DELETE", f"/flow_runs/{run_id}")
    copy.sync_and_compare()
    assert tombstones(copy) == {run_id: "deleted"}


def test_run_that_was_started_long_before_it_was_due_is_followed(copy: Copy, api: PrefectApi) -> None:
    copy.settings["horizon_hours"] = 1
    pending, gone = (api.flow_run(scheduled(now() + seconds(72 * 3600))) for _ in range(2))
    for run_id in (pending, gone):
        api.set_flow_run(run_id, "PENDING", force=True)
    copy.sync_and_compare()
    for _ in range(2):
        copy.outlive_lookback()
    api.call("DELETE", f"/flow_runs/{gone}")
    copy.sync_and_compare()
    assert tombstones(copy) == {gone: "deleted"}


def in_no_page(proxy: FaultProxy, queues: Collection[str]) -> set[str]:
    """Ids of those of `queues` that no page had, which are found as pages are asked for: three rows each."""
    hidden: set[str] = set()
    before: list[Row] = []

    def one_of_the_page_before_in_its_place(rows: list[Row]) -> list[Row]:
        nonlocal before
        # the first and the last row of a page are compared with the pages beside it
        if before and len(rows) == 3 and before[-1]["id"] == rows[0]["id"] and rows[1]["id"] in queues:
            hidden.add(rows[1]["id"])
            rows = [rows[0], before[0], rows[2]]
        before = rows
        return rows

    in_pages = replace_json(one_of_the_page_before_in_its_place)
    proxy.inject(in_pages, "/work_queues/filter", times=None, when=lambda request: "work_queues" not in request.body)
    return hidden


@pytest.mark.parametrize("default", [True, False], ids=["the queue that every pool has", "another one"])
def test_queue_that_is_in_no_page_of_the_first_sync_is_found(
    copy: Copy, api: PrefectApi, proxy: FaultProxy, default: bool
) -> None:
    """It would be in none of the next syncs either, for the server sorts the same rows alike."""
    copy.settings["page_size"] = 3
    pools = [f"pool-{uuid.uuid4().hex}" for _ in range(4)]
    made = [api.call("POST", "/work_pools/", {"name": pool, "type": "process"}) for pool in pools]
    others = [api.call("POST", f"/work_pools/{pool}/queues/", {"name": "high"})["id"] for pool in pools]
    queues = {pool["default_queue_id"] for pool in made} if default else set(others)
    hidden = in_no_page(proxy, queues)
    copy.url = proxy.url
    report = copy.sync(resources=["work_queues", "work_queue_status"])
    assert hidden
    for table in ("work_queues", "work_queue_status"):
        id_ = "id" if table == "work_queues" else "work_queue_id"
        loaded = copy.values(f"SELECT {id_} FROM prefect.{table}")
        assert {*queues, *others} <= set(loaded), table
        assert len(loaded) == len(set(loaded)), table
    by_pool = [request.path for request in proxy.requests if request.path.endswith("/queues/filter")]
    assert bool(by_pool) != default
    assert not report.gaps
    for pool in pools:
        api.call("DELETE", f"/work_pools/{pool}")


def test_queue_that_is_in_no_page_is_not_gone(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    """Queues of several pools have one name, by which the server sorts them: in another order on each page."""
    copy.settings["page_size"] = 3
    queues = {api.call("POST", "/work_queues/", {"name": f"queue-{uuid.uuid4().hex}"})["id"] for _ in range(8)}
    copy.url = proxy.url
    copy.sync_and_compare()
    hidden = in_no_page(proxy, queues)
    copy.sync()
    proxy.clear()
    assert hidden
    assert tombstones(copy) == {}
    gone = hidden.pop()
    api.call("DELETE", f"/work_queues/{gone}")
    copy.sync()
    assert tombstones(copy) == {gone: "deleted"}


def test_deployments_and_flows_that_were_deleted_and_come_back(copy: Copy, api: PrefectApi) -> None:
    flow = api.call("POST", "/flows/", {"name": f"short-lived-{now().timestamp()}"})["id"]
    deployment = api.call("POST", "/deployments/", {"name": "short-lived", "flow_id": flow})["id"]
    api.flow_run("RUNNING")
    copy.sync()
    assert tombstones(copy) == {}
    api.call("DELETE", f"/flows/{flow}")
    copy.sync()
    reasons = dict(copy.values("SELECT [resource, id] FROM prefect.tombstones ORDER BY resource"))
    assert reasons == {"deployments": deployment, "flows": flow}
    assert set(tombstones(copy).values()) == {"deleted"}
    assert flow in copy.values("SELECT id FROM prefect.flows")
    noticed = copy.values("SELECT noticed_at FROM prefect.tombstones ORDER BY id")
    api.call("POST", "/flows/", {"name": f"another-{now().timestamp()}"})
    copy.sync()
    assert copy.values("SELECT noticed_at FROM prefect.tombstones ORDER BY id") == noticed
    # as if the server had been restored from its backup
    there = api.call("POST", "/flows/filter", {"limit": 1})[0]["id"]
    copy.change(f"UPDATE prefect.tombstones SET id = '{there}' WHERE resource = 'flows'")
    api.call("POST", "/flows/", {"name": f"a-third-{now().timestamp()}"})
    copy.sync()
    assert sorted(tombstones(copy)) == sorted((deployment, flow))
