"""Task runs that a real server told of in events and never recorded: their states are kept, and marked."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from conftest import IMPATIENT, Copy
from prefect_api import PrefectApi, Row, now, scheduled, seconds

import prefect_runs.event_buffer
import prefect_runs.state_history
from prefect_runs_pipelines.local.server import LocalServer, local_server

# as one that was stopped before its recorder had written what it was told
FORGETFUL = {**IMPATIENT, "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false"}
TASK_RUNS = 3
FLOW = f"""
from prefect import flow, task

@task
def work(number: int) -> int:
    return number

@flow
def works() -> None:
    for number in range({TASK_RUNS}):
        work(number)

works()
"""
STATES = ["PENDING", "RUNNING", "COMPLETED"]
CHUNK = 5


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server(settings=FORGETFUL) as running:
        yield running


def run_flow(server: LocalServer, api: PrefectApi) -> list[Row]:
    """Run the flow; the events of its task runs, oldest first."""
    occurred = {"since": now().isoformat(), "until": (now() + timedelta(hours=1)).isoformat()}
    server.run("-c", FLOW)
    deadline = now() + seconds(30)
    asked = {"filter": {"occurred": occurred, "event": {"prefix": ["prefect.task-run."]}, "order": "ASC"}}
    while len(events := api.call("POST", "/events/filter", asked)["events"]) < TASK_RUNS * len(STATES):
        assert now() < deadline
    assert api.call("POST", "/task_runs/count") == 0
    return list(events)


def lost(copy: Copy) -> list[list[str]]:
    """For each run that is known from events alone its states with their numbers."""
    sql = (
        "SELECT list(s.sequence || ' ' || s.type ORDER BY s.timestamp) "
        "FROM prefect.task_run_states AS s JOIN prefect.tombstones AS t "
        "ON t.resource = 'task_runs' AND t.id = s.task_run_id "
        "WHERE t.reason = 'events_only' GROUP BY s.task_run_id"
    )
    return copy.values(sql)


NUMBERED = [f"{number} {state}" for number, state in enumerate(STATES, 1)]


def test_found_by_the_first_load(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    run_flow(server, api)
    copy.settings["lookback_minutes"] = 0.1 / 60
    api.outlive_its_second()
    assert copy.sync().whole
    assert lost(copy) == [NUMBERED] * TASK_RUNS
    assert copy.verify(sweep=True).whole
    assert copy.sync().rows["tombstones"] == TASK_RUNS


@pytest.mark.parametrize("events_held", [1, 20_000], ids=["piece by piece", "at once"])
def test_between_the_chunks_of_a_first_load_and_beside_many_that_are_not(
    copy: Copy, api: PrefectApi, server: LocalServer, monkeypatch: pytest.MonkeyPatch, events_held: int
) -> None:
    """Each chunk goes on where the one before ended; states may take longer to read than all else."""
    copy.settings["lookback_minutes"] = 0.1 / 60
    hour = timedelta(hours=1)
    copy.since = now() - 6 * hour
    # one before the first run that was recorded, one between
    lost_ids = {hours: str(uuid.uuid4()) for hours in (0.5, 3)}
    told = {event["payload"]["validated_state"]["type"]: event for event in run_flow(server, api)}
    for hours, lost_id in lost_ids.items():
        for number, event in enumerate(told[type_] for type_ in STATES):
            resource = {**event["resource"], "prefect.resource.id": f"prefect.task-run.{lost_id}"}
            moved = {"id": str(uuid.uuid4()), "occurred": (copy.since + hours * hour + seconds(number)).isoformat()}
            api.call("POST", "/events", [{**event, **moved, "resource": resource, "follows": None}])
    recorded = [api.task_run(scheduled(copy.since + hours * hour)) for hours in (1, 5) for _ in range(CHUNK)]
    api.outlive_its_second()
    copy.settings["chunk_rows"] = CHUNK
    monkeypatch.setattr(prefect_runs.state_history, "HISTORIES", 1)
    monkeypatch.setattr(prefect_runs.event_buffer, "HELD", events_held)
    assert copy.sync().whole
    for lost_id in lost_ids.values():
        of_lost = f"SELECT type FROM prefect.task_run_states WHERE task_run_id = '{lost_id}'"
        assert copy.values(f"{of_lost} ORDER BY timestamp") == STATES
    assert NUMBERED in lost(copy)
    for run_id in recorded:
        api.call("DELETE", f"/task_runs/{run_id}")


def test_deleted_with_their_flow_run_before_anything_was_loaded(
    copy: Copy, api: PrefectApi, server: LocalServer
) -> None:
    """Their events remain, and do not say that the server ever lacked them."""
    events = run_flow(server, api)
    delete_flow_run(api, events)
    copy.settings["lookback_minutes"] = 0.1 / 60
    api.outlive_its_second()
    report = copy.sync()
    assert report.whole
    assert report.rows["tombstones"] == 0
    assert "task_run_states" not in report.rows


def test_deleted_with_a_flow_run_that_was_loaded(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    copy.settings["lookback_minutes"] = 10
    copy.sync()
    events = run_flow(server, api)
    copy.sync()
    flow_run = delete_flow_run(api, events)
    copy.settings["lookback_minutes"] = 0.1 / 60
    api.outlive_its_second()
    copy.sync(full=True)
    assert copy.values("SELECT id FROM prefect.flow_runs") == [flow_run]
    assert "events_only" not in copy.values("SELECT reason FROM prefect.tombstones")


def delete_flow_run(api: PrefectApi, events: list[Row]) -> str:
    """Delete the flow run of the task runs that events tell of; its id."""
    related = [each["prefect.resource.id"] for each in events[0]["related"]]
    [flow_run] = [name for name in related if name.startswith("prefect.flow-run.")]
    run_id = str(flow_run.removeprefix("prefect.flow-run."))
    api.call("DELETE", f"/flow_runs/{run_id}")
    return run_id


def test_of_a_filtered_copy_nothing_is_guessed(
    copy: Copy, api: PrefectApi, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the user asked for such a run cannot be told."""
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__TAGS_ANY", '["mine"]')
    copy.settings["lookback_minutes"] = 0.1 / 60
    run_flow(server, api)
    api.outlive_its_second()
    copy.sync()
    assert copy.values("SELECT id FROM prefect.tombstones") == []


def test_found_when_the_lookback_is_over(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    """Until then they may still be recorded; and later too, by a server that is told of one once more."""
    copy.settings["lookback_minutes"] = 1.0
    copy.sync()
    events = run_flow(server, api)
    copy.sync()
    assert copy.values("SELECT id FROM prefect.tombstones") == []
    copy.settings["lookback_minutes"] = 10 / 60
    # a busy server shows its events late
    deadline = now() + seconds(120)
    while len(copy.values("SELECT id FROM prefect.tombstones")) < TASK_RUNS:
        assert now() < deadline
        time.sleep(3)
        copy.sync()
    assert lost(copy) == [NUMBERED] * TASK_RUNS

    server.stop()
    recording = LocalServer(home=server.home, settings=IMPATIENT)
    try:
        copy.url = recording.start().url
        api = PrefectApi(copy.url)
        last = {**events[-1], "id": str(uuid.uuid4()), "occurred": now().isoformat()}
        api.call("POST", "/events", [last])
        deadline = now() + seconds(30)
        while api.call("POST", "/task_runs/count") == 0:
            assert now() < deadline
        copy.sync()
        assert copy.values("SELECT count(*) FROM prefect.task_runs") == [1]
        assert lost(copy) == [NUMBERED] * (TASK_RUNS - 1)
        api.close()
    finally:
        recording.stop()
        server.start()
