"""What is loaded only where it is asked for: logs, events, artifacts, and what else a server has beside runs."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import duckdb
import pytest
from conftest import SHORT_LOOKBACK_SECONDS, Copy
from fault_proxy import FaultProxy, replace_json, status
from prefect_api import PrefectApi, Row, now, seconds

from prefect_runs import EXTRAS, RECORDS, RESOURCES, ConfigurationError, ReadSettings, ServerUnavailable, extras
from prefect_runs.client import PrefectClient
from prefect_runs.clock import MICROSECOND, ServerClock, parse, text
from prefect_runs.deployment_changes import deployment_version
from prefect_runs.event_log import LEFT_OUT, event_row
from prefect_runs.inventory import workers
from prefect_runs.paging import Page, unordered
from prefect_runs.privacy import Privacy
from prefect_runs.progress import snapshot_state
from prefect_runs.retention import Retention
from prefect_runs.rows import Shape
from prefect_runs.tables import DEPLOYMENT_CHANGES
from prefect_runs.tally import Tally
from prefect_runs.windows import Window
from prefect_runs_pipelines.command.screen import sync_screen
from prefect_runs_pipelines.sync import SyncReport

SECRET = f"hunter-{uuid.uuid4().hex}"
LOG_PAGE = 200


@pytest.fixture
def pool(api: PrefectApi) -> Iterator[str]:
    """The name of a work pool, with characters that a URL wants quoted."""
    name = f"pool {uuid.uuid4().hex[:8]} of what?"
    api.call("POST", "/work_pools/", {"name": name, "type": "process"})
    yield name
    api.call("DELETE", f"/work_pools/{quote(name)}")


def rows(copy: Copy, table: str, condition: str = "true") -> list[Row]:
    """Rows of a table, by column name."""
    with duckdb.connect(str(copy.database), read_only=True) as warehouse:
        cursor = warehouse.execute(f"SELECT * FROM prefect.{table} WHERE {condition}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def ids(copy: Copy, table: str, condition: str = "true") -> list[str]:
    """Sorted ids of a table."""
    return sorted(row["id"] for row in rows(copy, table, condition))


def logs_of(copy: Copy, run_id: str) -> list[str]:
    """Ids of the loaded logs of a run: a clock that is ahead may have written others."""
    return ids(copy, "logs", f"flow_run_id = '{run_id}'")


def sync_only(copy: Copy, *names: str, **settings: Any) -> SyncReport:
    """Sync these resources with these settings."""
    copy.settings.update(settings)
    return copy.sync(resources=names)


def files_with(folder: Path, text: str) -> list[str]:
    """Files under `folder` that hold `text`: the destination's, and dlt's own."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def write_logs(api: PrefectApi, run_id: str, count: int = 1, **fields: Any) -> None:
    """Write logs of a flow run, a microsecond apart unless they have a `timestamp`."""
    begun = now()
    made = [
        {
            "name": "prefect.flow_runs",
            "level": 20,
            "message": f"number {number}",
            "timestamp": (begun + number * MICROSECOND).isoformat(),
            "flow_run_id": run_id,
            **fields,
        }
        for number in range(count)
    ]
    for first in range(0, count, LOG_PAGE):
        api.call("POST", "/logs/", made[first : first + LOG_PAGE])


def server_logs(api: PrefectApi, **own: Any) -> list[str]:
    """Ids of the logs that the server's own filter gives."""
    found: list[Row] = []
    while page := api.call("POST", "/logs/filter", {"logs": own, "sort": "TIMESTAMP_ASC", "offset": len(found)}):
        found += page
    return sorted(row["id"] for row in found)


def since(copy: Copy) -> dict[str, Any]:
    return {"timestamp": {"after_": copy.since.isoformat()}}


def test_nothing_of_it_is_asked_for_or_made_unless_it_is_named(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    write_logs(api, api.flow_run("RUNNING"))
    copy.url = proxy.url
    copy.sync()
    assert not {"logs", "artifacts", "variables", "automations"} & {
        request.path.split("/")[1] for request in proxy.requests
    }
    assert not [request for request in proxy.requests if "concurrency_limits" in request.path]
    found = set(copy.values("SELECT table_name FROM information_schema.tables WHERE table_schema = 'prefect'"))
    assert not found & set(EXTRAS)
    report = copy.sync(extras=("logs",))
    assert report.new["logs"] == 1
    assert {"flow_runs", "flows", "logs"} <= report.rows.keys() <= {*RESOURCES, *RECORDS, "logs"}


def test_logs_of_a_level(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    task_run = api.task_run("RUNNING", flow_run_id=run_id)
    for level in (10, 20, 30, 40):
        write_logs(api, run_id, 3, level=level)
        write_logs(api, run_id, level=level, task_run_id=task_run)
    sync_only(copy, "logs", log_level="warning")
    assert ids(copy, "logs") == server_logs(api, level={"ge_": 30}, **since(copy))
    assert len(ids(copy, "logs")) == 8
    assert [row["task_run_id"] for row in rows(copy, "logs", "task_run_id IS NOT NULL")] == [task_run] * 2
    # what was left out before is read when it is asked for
    sync_only(copy, "logs", log_level=None)
    assert ids(copy, "logs") == server_logs(api, **since(copy))


def test_a_sync_loads_new_logs_only_and_those_that_come_late(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    write_logs(api, run_id, 5)
    copy.settings["lookback_minutes"] = 1.0
    assert sync_only(copy, "logs").new["logs"] == 5
    again = sync_only(copy, "logs")
    assert (again.new["logs"], again.changed["logs"]) == (0, 0)
    # written before the last sync, sent after it; and by a clock that is ahead
    write_logs(api, run_id, timestamp=(copy.since + seconds(0.1)).isoformat())
    write_logs(api, run_id, timestamp=(now() + timedelta(minutes=5)).isoformat())
    late = sync_only(copy, "logs")
    assert logs_of(copy, run_id) == server_logs(api, flow_run_id={"any_": [run_id]})
    assert late.new["logs"] == 2


def test_more_logs_of_one_time_than_a_page_holds(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    write_logs(api, run_id, 2 * LOG_PAGE + 50, timestamp=now().isoformat())
    write_logs(api, run_id, 3)
    sync_only(copy, "logs")
    assert logs_of(copy, run_id) == server_logs(api, flow_run_id={"any_": [run_id]})


def test_a_first_load_of_logs_that_breaks_off_goes_on(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    run_id = api.flow_run("RUNNING")
    write_logs(api, run_id, 5 * LOG_PAGE)
    copy.url = proxy.url
    copy.settings["chunk_rows"] = LOG_PAGE // 10
    proxy.inject(status(401), path="/logs/filter", after=3)
    with pytest.raises(ConfigurationError):
        sync_only(copy, "logs")
    loaded = ids(copy, "logs")
    assert 0 < len(loaded) < 5 * LOG_PAGE
    # a sync that does not read them is not kept by them
    copy.sync()
    proxy.clear()
    sync_only(copy, "logs")
    [first, *_] = [request for request in proxy.requests if request.path == "/logs/filter" and request.status == 200][
        3:
    ]
    begun = {row["timestamp"] for row in rows(copy, "logs", f"id IN ({', '.join(map(repr, loaded))})")}
    assert parse(first.body["logs"]["timestamp"]["after_"]) == max(begun)
    assert logs_of(copy, run_id) == server_logs(api, flow_run_id={"any_": [run_id]})
    assert copy.values("SELECT whole FROM prefect.syncs ORDER BY finished_at, _dlt_load_id")[-1]


def test_what_a_server_stops_to_have_amid_its_first_load_does_not_keep_a_sync_from_ending(
    copy: Copy, api: PrefectApi, proxy: FaultProxy
) -> None:
    write_logs(api, api.flow_run("RUNNING"), 3 * LOG_PAGE)
    copy.url = proxy.url
    proxy.inject(status(404), path="/logs/filter", after=2, times=None)
    report = sync_only(copy, "logs", chunk_rows=LOG_PAGE // 10)
    # the chunks before tell that they are followed by others
    assert report.gaps == []
    assert "logs: not loaded, for this server has no such thing" in report.warnings[-1]
    assert ids(copy, "logs")


def test_logs_of_failed_runs(copy: Copy, api: PrefectApi) -> None:
    runs = {state: api.flow_run(state) for state in ("FAILED", "CRASHED", "COMPLETED", "RUNNING")}
    fails_later, is_changed = api.flow_run("RUNNING"), api.flow_run("RUNNING")
    api.set_flow_run(is_changed, "COMPLETED")
    for run_id in (*runs.values(), fails_later, is_changed):
        write_logs(api, run_id, 2)
    failed = [runs["FAILED"], runs["CRASHED"]]
    copy.settings["log_failed_only"] = True
    copy.sync(extras=("logs",))
    assert ids(copy, "logs") == server_logs(api, flow_run_id={"any_": failed})
    copy.outlive_lookback()
    copy.sync(extras=("logs",))
    # logs of long before the last sync, of a run that fails now, and of one that is said to have failed
    api.set_flow_run(fails_later, "FAILED")
    api.set_flow_run(is_changed, "FAILED", force=True)
    copy.sync(extras=("logs",))
    assert ids(copy, "logs") == server_logs(api, flow_run_id={"any_": [*failed, fails_later, is_changed]})
    write_logs(api, fails_later, 2)
    # it failed within the lookback, however slow the machine
    copy.settings["lookback_minutes"] = 10.0
    report = copy.sync(extras=("logs",))
    assert (report.new["logs"], report.changed["logs"]) == (2, 0)


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="log_level is 'LOUD'; write one of DEBUG, INFO"):
        ReadSettings(log_level="LOUD").on_resolved()
    assert [ReadSettings(log_level=level).lowest_log_level for level in (None, "error", "25")] == [0, 40, 25]


def test_an_unknown_resource_is_refused(copy: Copy) -> None:
    with pytest.raises(ConfigurationError, match="there is no resource tails; there are flow_runs"):
        copy.sync(extras=("tails",))


def send_events(api: PrefectApi, name: str, count: int, **fields: Any) -> list[str]:
    """Send events and wait until the server shows them; their ids."""
    made = [
        {
            "id": str(uuid.uuid4()),
            "occurred": now().isoformat(),
            "event": name,
            "resource": {"prefect.resource.id": f"shop.order.{number}", "prefect.resource.name": "order"},
            "related": [{"prefect.resource.id": "shop.customer.1", "prefect.resource.role": "customer"}],
            "payload": {"number": number, "parameters": {"password": SECRET}},
            **fields,
        }
        for number in range(count)
    ]
    for first in range(0, count, LOG_PAGE):
        api.call("POST", "/events", made[first : first + LOG_PAGE])
    for event in made[-3:]:
        api.wait_for_event(event["id"])
    return sorted(event["id"] for event in made)


def test_events_by_prefix(copy: Copy, api: PrefectApi) -> None:
    name = f"shop{uuid.uuid4().hex[:6]}"
    sold = send_events(api, f"{name}.sold", 120)
    send_events(api, f"not-{name}.sold", 1)
    assert sync_only(copy, "events", event_prefixes=[f"{name}."]).new["events"] == 120
    assert ids(copy, "events") == sold
    [row] = rows(copy, "events", "resource_id = 'shop.order.7'")
    assert (row["event"], row["payload"]) == (f"{name}.sold", None)
    assert json.loads(row["related"])[0]["prefect.resource.role"] == "customer"
    again = sync_only(copy, "events")
    assert (again.new["events"], again.changed["events"]) == (0, 0)
    late = (now() - seconds(SHORT_LOOKBACK_SECONDS / 2)).isoformat()
    more = send_events(api, f"{name}.paid", 1, occurred=late)
    copy.settings["lookback_minutes"] = 1.0
    assert sync_only(copy, "events").new["events"] == 1
    assert ids(copy, "events") == sorted([*sold, *more])
    copy.settings["event_payloads"] = True
    # from as early as the server keeps events, and no earlier
    assert copy.sync(resources=("events",), start_date=None).requests < 30
    assert json.loads(rows(copy, "events", "resource_id = 'shop.order.7'")[0]["payload"]) == {"number": 7}
    assert files_with(copy.folder, SECRET) == []


def test_payloads_of_prefects_own_events_tell_no_secret(copy: Copy, api: PrefectApi, pool: str) -> None:
    flow_id = api.flow()
    variable = api.call("POST", "/variables/", {"name": f"v{uuid.uuid4().hex[:8]}", "value": SECRET})
    body: Row = {"name": uuid.uuid4().hex, "flow_id": flow_id, "job_variables": {"env": {"KEY": SECRET}}}
    deployment = api.call("POST", "/deployments/", body)["id"]
    api.call("PATCH", f"/deployments/{deployment}", {"job_variables": {"env": {"KEY": f"{SECRET}2"}}})
    action = {"type": "run-deployment", "source": "selected", "deployment_id": deployment}
    automation = make_automation(api, [{**action, "job_variables": {"KEY": SECRET}}])
    api.call("POST", "/artifacts/", {"key": uuid.uuid4().hex, "type": "markdown", "data": SECRET})
    send_events(api, "the.last", 1)
    sync_only(copy, "events", event_payloads=True)
    assert "the.last" in copy.values("SELECT event FROM prefect.events")
    assert files_with(copy.folder, SECRET) == []
    for path in (f"/variables/{variable['id']}", f"/deployments/{deployment}", f"/automations/{automation}"):
        api.call("DELETE", path)


def test_a_row_of_an_event_is_the_event_without_secrets_at_any_depth() -> None:
    secret = dict.fromkeys(LEFT_OUT, SECRET)
    event = {"id": "e", "resource": {"prefect.resource.id": "r"}, "payload": {"a": [{"b": 1, **secret}], **secret}}
    assert event_row(event, payloads=True) == {**event, "resource_id": "r", "payload": {"a": [{"b": 1}]}}
    assert event_row(event, payloads=False)["payload"] is None


def test_what_a_failed_action_of_an_automation_tells_is_no_payload_either() -> None:
    """As a server of 3.8.8 writes it (`events/actions.py`)."""
    details = dict.fromkeys(("template_source", "notification_log", "validation_error", "reason"), SECRET)
    event = {"id": "e", "payload": {"action_details": {"status_code": 409, **details}}}
    assert event_row(event, payloads=True)["payload"] == {"action_details": {"status_code": 409}}


def make_automation(api: PrefectApi, actions: list[Row]) -> str:
    """Id of a new automation that is triggered by nothing."""
    trigger = {"type": "event", "posture": "Reactive", "expect": ["never"], "threshold": 1, "within": 0}
    body = {"name": uuid.uuid4().hex, "enabled": False, "trigger": trigger, "actions": actions}
    return str(api.call("POST", "/automations/", body)["id"])


def test_artifacts_that_are_new_or_changed_without_their_bodies(copy: Copy, api: PrefectApi) -> None:
    run_id = api.flow_run("RUNNING")
    made = [
        api.call("POST", "/artifacts/", {"key": f"k{number}", "type": "table", "data": data, "flow_run_id": run_id})
        for number, data in enumerate((SECRET, SECRET, {"rows": [SECRET]}))
    ]
    sync_only(copy, "artifacts")
    assert {row["id"] for row in made} <= set(ids(copy, "artifacts"))
    assert rows(copy, "artifacts", "data IS NOT NULL") == []
    assert files_with(copy.folder, SECRET) == []
    copy.outlive_lookback()
    api.call("PATCH", f"/artifacts/{made[0]['id']}", {"description": "changed"})
    before = len(ids(copy, "artifacts"))
    sync_only(copy, "artifacts")
    assert len(ids(copy, "artifacts")) == before
    assert [row["id"] for row in rows(copy, "artifacts", "description = 'changed'")] == [made[0]["id"]]
    sync_only(copy, "artifacts", artifact_data=True)
    bodies = [row["data"] for row in rows(copy, "artifacts", f"flow_run_id = '{run_id}' ORDER BY key")]
    assert bodies == [SECRET, SECRET, json.dumps({"rows": [SECRET]})]


def test_variables_have_names_and_no_values(copy: Copy, api: PrefectApi) -> None:
    body = {"name": f"v{uuid.uuid4().hex[:8]}", "value": SECRET, "tags": ["a", "b"]}
    variable = api.call("POST", "/variables/", body)
    sync_only(copy, "variables")
    [row] = rows(copy, "variables", f"id = '{variable['id']}'")
    assert row["name"] == body["name"]
    assert sorted(copy.values("SELECT value FROM prefect.variables__tags")) == ["a", "b"]
    assert files_with(copy.folder, SECRET) == []
    api.call("DELETE", f"/variables/{variable['id']}")
    sync_only(copy, "variables")
    assert [row["id"] for row in rows(copy, "tombstones", "resource = 'variables'")] == [variable["id"]]


def test_workers_automations_and_limits(copy: Copy, api: PrefectApi, pool: str, proxy: FaultProxy) -> None:
    api.call("POST", f"/work_pools/{quote(pool)}/workers/heartbeat", {"name": "worker of the test"})
    deployment = api.call("POST", "/deployments/", {"name": uuid.uuid4().hex, "flow_id": api.flow()})["id"]
    secret_parts = {"parameters": {"password": SECRET}, "job_variables": {"KEY": SECRET}}
    action = {"type": "run-deployment", "source": "selected", "deployment_id": deployment}
    automation = make_automation(api, [{**action, **secret_parts}])
    tag, name = uuid.uuid4().hex, uuid.uuid4().hex
    api.call("POST", "/concurrency_limits/", {"tag": tag, "concurrency_limit": 3})
    api.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": 4})
    sync_only(copy, "workers", "automations", "concurrency_limits")
    [worker] = rows(copy, "workers", "name = 'worker of the test'")
    assert (worker["status"], worker["work_pool_id"]) == ("ONLINE", pool_id(api, pool))
    [row] = rows(copy, "automations", f"id = '{automation}'")
    [loaded] = json.loads(row["actions"])
    assert {part: loaded[part] for part in action} == action
    assert not loaded.keys() & secret_parts.keys()
    assert json.loads(row["trigger"])["expect"] == ["never"]
    limits = rows(copy, "concurrency_limits", f"name IN ('tag:{tag}', '{name}') ORDER BY concurrency_limit")
    assert [(limit["tag"], limit["concurrency_limit"], limit["active"]) for limit in limits] == [
        (tag, 3, True),
        (None, 4, True),
    ]
    assert files_with(copy.folder, SECRET) == []
    copy.url = proxy.url
    # as of a server with many limits, of which a page of those of tags has few or none
    proxy.inject(replace_json(lambda _: []), "/concurrency_limits/filter")
    sync_only(copy, "concurrency_limits")
    assert rows(copy, "concurrency_limits", f"name = 'tag:{tag}'")[0]["tag"] == tag
    api.call("DELETE", f"/concurrency_limits/tag/{tag}")
    api.call("DELETE", f"/automations/{automation}")
    api.call("DELETE", f"/deployments/{deployment}")


def pool_id(api: PrefectApi, name: str) -> str:
    return str(api.call("GET", f"/work_pools/{quote(name)}")["id"])


def test_what_a_server_does_not_have_is_a_warning(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    api.flow_run("RUNNING")
    copy.url = proxy.url
    proxy.inject(status(404), path="/variables/filter")
    report = copy.sync(extras=("variables", "automations"))
    assert [warning.partition(" (")[0] for warning in report.warnings] == [
        "variables: not loaded, for this server has no such thing"
    ]
    assert report.whole
    assert report.new["flow_runs"] == 1


def test_screen_counts_no_row_of_a_small_table_as_changed(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("RUNNING")
    variable = api.call("POST", "/variables/", {"name": f"v{uuid.uuid4().hex}", "value": 1})["id"]
    report = sync_only(copy, "variables", "flows", "flow_run_history")
    api.call("DELETE", f"/variables/{variable}")
    last = {line.split()[0]: line.split()[-2:] for line in sync_screen(report).splitlines() if line[:1].islower()}
    assert last["variables"] == last["flows"] == ["read", "whole"]
    assert last["flow_run_history"] == ["last", "hours"]


def test_status_of_pools_and_queues_over_time(copy: Copy, api: PrefectApi, pool: str) -> None:
    path = f"/work_pools/{quote(pool)}"
    own = f"work_pool_id = '{pool_id(api, pool)}' ORDER BY seen_at"
    sync_only(copy, "work_pool_status", "work_queue_status")
    api.call("PATCH", f"{path}/queues/default", {"is_paused": True, "concurrency_limit": 5})
    api.outlive_its_second()
    sync_only(copy, "work_pool_status", "work_queue_status")
    sync_only(copy, "work_pool_status", "work_queue_status")
    first, second = rows(copy, "work_queue_status", own)
    assert (first["name"], first["is_paused"], first["concurrency_limit"]) == ("default", False, None)
    assert (second["status"], second["is_paused"], second["concurrency_limit"]) == ("PAUSED", True, 5)
    assert first["work_queue_id"] == second["work_queue_id"]
    # the server's time comes in whole seconds, and is some old
    assert copy.since < first["seen_at"] + seconds(30)
    assert first["seen_at"] < second["seen_at"]
    assert [row["is_paused"] for row in rows(copy, "work_pool_status", own)] == [False]
    api.call("PATCH", f"{path}/queues/default", {"is_paused": False, "concurrency_limit": None})
    api.outlive_its_second()
    sync_only(copy, "work_queue_status")
    assert [row["is_paused"] for row in rows(copy, "work_queue_status", own)] == [False, True, False]


def test_versions_of_a_deployment(copy: Copy, api: PrefectApi) -> None:
    body: Row = {"name": uuid.uuid4().hex, "flow_id": api.flow(), "tags": ["b", "a"], "job_variables": {"K": SECRET}}
    body["schedules"] = [{"schedule": {"cron": "0 0 1 1 *"}, "active": False}]
    id_ = api.call("POST", "/deployments/", body)["id"]
    other = replace_workspace(copy, "it's {other} %s")
    for target in (copy, other):
        target.sync(resources=("deployment_changes",))
    [first] = rows(copy, "deployment_changes", f"id = '{id_}' AND workspace = 'test'")
    assert (json.loads(first["tags"]), first["valid_to"]) == (["a", "b"], None)
    # deployed again as it is: its schedules get new ids, and that is no change
    api.call("POST", "/deployments/", body)
    api.outlive_its_second()
    sync_only(copy, "deployment_changes")
    assert len(rows(copy, "deployment_changes", f"id = '{id_}' AND workspace = 'test'")) == 1
    api.call("PATCH", f"/deployments/{id_}", {"description": "changed"})
    sync_only(copy, "deployment_changes")
    old, new = rows(copy, "deployment_changes", f"id = '{id_}' AND workspace = 'test' ORDER BY valid_from")
    assert (old["description"], new["description"], new["valid_to"]) == (None, "changed", None)
    assert old["valid_from"] == first["valid_from"] < old["valid_to"] == new["valid_from"] <= now()
    assert parse(copy_ceilings(copy)[-1]) == new["valid_from"]
    api.call("DELETE", f"/deployments/{id_}")
    sync_only(copy, "deployment_changes")
    versions = rows(copy, "deployment_changes", f"id = '{id_}'")
    assert [row["valid_to"] is None for row in versions if row["workspace"] == "test"] == [False, False]
    # the other workspace was not read since: what it has is in force there
    assert [row["valid_to"] for row in versions if row["workspace"] != "test"] == [None]
    assert files_with(copy.folder, SECRET) == []


def test_no_deployment_at_all_is_no_version(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    copy.url = proxy.url
    proxy.inject(replace_json(lambda rows: []), "/deployments/filter", times=None)
    api.flow_run("RUNNING")
    assert copy.sync(resources=(*RESOURCES, "deployment_changes")).new["flow_runs"] == 1
    proxy.clear()
    api.call("POST", "/deployments/", {"name": uuid.uuid4().hex, "flow_id": api.flow()})
    sync_only(copy, "deployment_changes")
    in_force = "SELECT count(*) FROM prefect.deployment_changes WHERE valid_to IS NULL"
    assert copy.values(in_force) != [0]
    # all are gone, and the sync takes nothing for granted
    proxy.inject(replace_json(lambda rows: []), "/deployments/filter", times=None)
    copy.sync(resources=("deployment_changes",), full=True)
    assert copy.values(in_force) == [0]


def copy_ceilings(copy: Copy) -> list[str]:
    """Ceilings of the syncs of the workspace, in their order."""
    sql = "SELECT window_end FROM prefect.syncs WHERE workspace = 'test' ORDER BY _dlt_load_id"
    return [time.isoformat() for time in copy.values(sql)]


class OtherWorkspace(Copy):
    """The same server under another name."""

    def sync_options(self, **options: Any) -> Any:
        return replace(super().sync_options(**options), workspace=self.workspace)

    workspace = ""


def replace_workspace(copy: Copy, workspace: str) -> Copy:
    """A copy of the same server into the same dataset, under another name."""
    other = OtherWorkspace(copy.api, copy.folder, copy.since, copy.url, copy.settings)
    other.workspace = workspace
    return other


def test_the_last_deployment_of_a_workspace_is_retired(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    id_ = api.call("POST", "/deployments/", {"name": uuid.uuid4().hex, "flow_id": api.flow()})["id"]
    copy.url = proxy.url
    sync_only(copy, "deployment_changes")
    other = replace_workspace(copy, "other")
    other.sync(resources=("deployment_changes",))
    proxy.inject(replace_json(lambda deployments: []), path="/deployments/filter")
    sync_only(copy, "deployment_changes")
    ends = {row["workspace"]: row["valid_to"] for row in rows(copy, "deployment_changes", f"id = '{id_}'")}
    assert ends["test"] is not None
    assert ends["other"] is None
    proxy.clear()
    api.call("DELETE", f"/deployments/{id_}")


def test_versions_are_refused_where_a_destination_cannot_keep_them(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", (copy.folder / "lake").as_uri())
    options = replace(copy.sync_options(resources=("deployment_changes",)), destination="filesystem", database=None)
    from prefect_runs_pipelines.sync import sync

    with pytest.raises(ConfigurationError, match="deployment_changes needs dlt's merge strategy scd2"):
        sync(options)


def test_a_version_differs_by_what_matters() -> None:
    schedule = {"id": "1", "schedule": {"cron": "* * * * *"}, "active": True}
    deployment = {
        "id": "d",
        "name": "n",
        "tags": ["a", "b"],
        "schedules": [schedule],
        "updated": "2026-01-01T00:00:00Z",
        "status": "READY",
    }

    def hashed(deployment: dict[str, Any], workspace: str = "w") -> str:
        return str(deployment_version(deployment, Shape(DEPLOYMENT_CHANGES, workspace, Privacy()))["row_hash"])

    told = hashed(deployment)

    def same(**changed: Any) -> bool:
        return hashed({**deployment, **changed}) == told

    assert same(
        updated="2026-01-02T00:00:00Z",
        status="NOT_READY",
        last_polled="2026-01-02T00:00:00Z",
        tags=["b", "a"],
        updated_by={"id": 1},
    )
    assert same(last_polled="2026-01-02T00:00:00Z", schedules=[{**schedule, "id": "2"}])
    assert not same(schedules=[{**schedule, "active": False}])
    assert not same(tags=["a"])
    assert not same(paused=True)
    assert hashed(deployment, "other") != told


@pytest.mark.parametrize("beats", [1, 3, 10])
def test_workers_that_come_to_the_front_while_they_are_read_are_all_there(beats: int) -> None:
    """A server sorts them by their last heartbeat."""
    drawn = random.Random(beats)
    order = [f"worker {number}" for number in range(450)]

    class Workers:
        """Stands for a client of a server that has one pool of these workers."""

        def page(self, path: str, body: Row) -> Page:
            if path == "/work_pools/filter":
                return Page([{"id": "pool", "name": "pool"}], full=False)
            asked = order[body["offset"] : body["offset"] + 200]
            # none of them twice, and none of the last page, which would be a reason to read on
            for beating in drawn.sample(order[200:], beats):
                order.remove(beating)
                order.insert(0, beating)
            return Page([{"id": id_} for id_ in asked], full=len(asked) == 200)

    found = [row["id"] for page in workers(cast(PrefectClient, Workers())) for row in page]
    assert sorted(found) == sorted(order)


def test_a_first_load_of_events_that_goes_on_too_late_names_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    day = timedelta(days=1)
    ceiling = now()
    # in the place of a server, of which two weeks would have to be waited for
    server = SimpleNamespace(
        ceiling=ceiling,
        clock=ServerClock(ceiling, ceiling),
        tally=Tally(),
        workspace="w",
        known=None,
        retention=Retention(None, 7 * day),
        client=SimpleNamespace(connections=1),
        loaded=lambda _, page: page,
    )
    monkeypatch.setattr(extras, "read_events", lambda feed, window, at_once: iter(()))
    state: dict[str, Any] = {}
    reader = extras.Extras(cast(Any, server), ReadSettings(), None)
    list(reader.pages("events", state, dict))
    assert server.tally.gaps == []
    del state["watermark"]
    end = ceiling - 9 * day
    state["snapshot"] = snapshot_state(end, Window(ceiling - 12 * day, end))
    list(reader.pages("events", state, dict))
    between = f"{text(ceiling - 12 * day)} and {text(ceiling - 7 * day)}"
    assert server.tally.gaps == [f"events: those between {between}, for the server no longer keeps them"]


def test_a_list_without_order_is_read_until_nothing_can_be_missing() -> None:
    reads: list[int] = []
    orders = [["a", "b", "a"], ["a", "b", "c"]]

    def read(offset: int) -> Page:
        reads.append(offset)
        order = orders[min(reads.count(0) - 1, 1)]
        return Page([{"id": id_} for id_ in order[offset : offset + 2]], full=offset + 2 < len(order))

    assert sorted(row["id"] for row in unordered(read)) == ["a", "b", "c"]
    orders[1] = orders[0]
    reads.clear()
    with pytest.raises(ServerUnavailable):
        unordered(read)
