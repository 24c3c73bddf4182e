"""Flows that really run: whatever they did, after the next sync every run and every state equals the server's."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import DATABASE, IMPATIENT, SHORT_LOOKBACK_SECONDS, VERSION, Copy
from prefect_api import PrefectApi, as_state, now
from warehouses import CHOSEN

from prefect_runs.event_buffer import EventBuffer
from prefect_runs.windows import Window
from prefect_runs_pipelines.local.server import LocalServer, local_server

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).with_name("real_flows.py")

# real task runs are recorded seconds after the fact, so these copies have the lookback that users have
USUAL_LOOKBACK = {"lookback_minutes": 10.0}

# where there is one task run
TASK_RUN_HISTORY = "SELECT list(name ORDER BY sequence) FROM prefect.task_run_states"


@contextmanager
def playing(server: LocalServer, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs one flow of `real_flows.py`; it does not outlive the block."""
    process = subprocess.Popen(
        [str(server.python), "-P", str(SCRIPT), name, *arguments],
        env=server.environment(),
        cwd=server.home,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        except BaseException:
            # what it waits for will not come
            process.kill()
            raise


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next thing that the script tells."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the script ended with {process.wait()}"
    said: dict[str, Any] = json.loads(line)
    return said


def play(server: LocalServer, name: str, *arguments: str) -> Any:
    """Run one of `real_flows.py` to its end; returns its result."""
    with playing(server, name, *arguments) as process:
        return told(process)["result"]


@dataclass
class Played:
    """The ordinary flows after they ran: their results by name, and a copy that was synced while they ran."""

    results: dict[str, Any]
    copy: Copy

    def task_runs(self, flow_run_id: str) -> list[tuple[str, str, str, int]]:
        """Name without its number, state type, state name and attempts of a flow run's task runs."""
        sql = (
            "SELECT {'n': regexp_replace(name, '-[^-]*$', ''), 't': state_type, 's': state_name, 'c': run_count} "
            f"FROM prefect.task_runs WHERE flow_run_id = '{flow_run_id}' ORDER BY expected_start_time"
        )
        return [tuple(row.values()) for row in self.copy.values(sql)]

    def states(self, kind: str, run_id: str) -> list[str]:
        """Names of the states that a run was in, oldest first."""
        table = f"prefect.{kind}_run_states"
        return self.copy.values(f"SELECT name FROM {table} WHERE {kind}_run_id = '{run_id}' ORDER BY timestamp")


@pytest.fixture(scope="module")
def played(api: PrefectApi, server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    # one process plays them all, for starting one takes seconds
    copy = Copy(api, tmp_path_factory.mktemp("played"), now(), server.url, dict(USUAL_LOOKBACK))
    copy.sync()
    with playing(server, "ordinary_flows") as process:
        while process.poll() is None:
            copy.sync()
            time.sleep(2)
        results = told(process)["result"]
    api.wait_at_rest(copy.since)
    copy.sync()
    return Played(results, copy)


def test_retried_tasks(played: Played) -> None:
    assert played.task_runs(played.results["task_retries"]) == [
        ("succeeds_at_the_third_attempt", "COMPLETED", "Completed", 3),
        ("fails_at_every_attempt", "FAILED", "Failed", 2),
    ]
    played.copy.assert_true()


def test_cached_task(played: Played) -> None:
    assert [name for *_, name, _ in played.task_runs(played.results["cached_task"])] == ["Completed", "Cached"]
    played.copy.assert_true()


def test_subflows_and_the_task_runs_that_stand_for_them(played: Played) -> None:
    parent = played.results["subflows"]
    sql = (
        "SELECT wrapper.state_type FROM prefect.flow_runs child "
        "JOIN prefect.task_runs wrapper ON wrapper.id = child.parent_task_run_id "
        f"WHERE wrapper.flow_run_id = '{parent}' AND wrapper.state_type = child.state_type ORDER BY 1"
    )
    assert played.copy.values(sql) == ["COMPLETED", "FAILED"]
    played.copy.assert_true()


def test_mapped_tasks_of_which_some_fail(played: Played) -> None:
    ends = sorted(name for *_, name, _ in played.task_runs(played.results["mapped_failures"]))
    assert ends == [*["Completed"] * 8, "Failed", "NotReady"]
    played.copy.assert_true()


def test_flow_retried_by_itself(played: Played) -> None:
    run_id = played.results["flow_retry"]
    assert played.states("flow", run_id) == ["Pending", "Running", "AwaitingRetry", "Running", "Completed"]
    assert played.copy.values(f"SELECT run_count FROM prefect.flow_runs WHERE id = '{run_id}'") == [2]
    played.copy.assert_true()


def test_tasks_called_outside_any_flow(played: Played) -> None:
    ids = "', '".join(played.results["outside_any_flow"])
    sql = f"SELECT state_type FROM prefect.task_runs WHERE id IN ('{ids}') AND flow_run_id IS NULL ORDER BY 1"
    assert played.copy.values(sql) == ["COMPLETED", "FAILED"]
    played.copy.assert_true()


def test_task_rolled_back_after_it_completed(played: Played) -> None:
    assert played.task_runs(played.results["transaction_rolled_back"]) == [
        ("write_file", "COMPLETED", "RolledBack", 1),
    ]
    played.copy.assert_true()


def test_flow_killed_and_declared_crashed_after_the_lookback(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    with playing(server, "killed") as process:
        run_id = told(process)["run"]
        assert process.wait() == -9
    api.wait_at_rest(copy.since)
    copy.sync_and_compare()
    assert copy.values("SELECT state_type FROM prefect.flow_runs") == ["RUNNING"]
    copy.outlive_lookback()
    api.set_flow_run(run_id, {"type": "CRASHED", "name": "Crashed", "message": "its process is gone"})
    copy.sync_and_compare()


def test_task_run_that_the_server_cancelled_and_that_ended_all_the_same(
    copy: Copy, api: PrefectApi, server: LocalServer, tmp_path: Path
) -> None:
    """No event tells of the server's own state, and the next event of the client follows the one before it."""
    early = copy
    late, first, parted, without = (
        Copy(api, tmp_path / name, copy.since, copy.url, copy.settings)
        for name in ("late", "first", "parted", "without")
    )
    for one in (late, first, parted, without):
        one.folder.mkdir()
    # without the states of flow runs, of whose cancellation only a sync between the two heard
    without.options["resources"] = ("flow_runs", "task_runs", "task_run_states")
    for one in (early, late, without):
        one.sync()
    task_run = ends_though_cancelled(
        api, server, tmp_path / "go on", between=without.outlive_lookback, meanwhile=early.sync
    )
    assert [state["name"] for state in api.states("task_runs", task_run)].count("Cancelled") == 1
    # the flow run too goes on and completes
    for one in (early, late, first):
        one.sync_and_compare()
        assert one.values(TASK_RUN_HISTORY) == [["Pending", "Running", "Cancelled", "Completed"]]
    without.outlive_lookback()
    assert without.values(TASK_RUN_HISTORY) == [["Pending", "Running", "Cancelled", "Completed"]]
    # without the states of its flow run, of which the warehouse has only the row
    parted.sync(resources=("flow_runs",))
    parted.sync(resources=("task_runs", "task_run_states"))
    assert parted.values(TASK_RUN_HISTORY) == [["Pending", "Running", "Cancelled", "Completed"]]


def test_state_set_through_the_api_that_the_client_passes_over_is_found_by_verify(
    copy: Copy, api: PrefectApi, server: LocalServer, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    with playing(server, "waiting", str(go_on)) as process:
        [task_run] = task_runs_of(api, told(process)["flow_run"])
        api.wait("task_runs", task_run, "Running")
        api.call("POST", f"/task_runs/{task_run}/set_state", {"state": as_state("FAILED"), "force": True})
        go_on.touch()
        process.wait()
    api.wait("task_runs", task_run, "Completed")
    api.wait_for_event_of("task_runs", task_run)
    copy.sync()
    assert copy.values(TASK_RUN_HISTORY) == [["Pending", "Running", "Completed"]]
    assert copy.verify(sweep=True).whole
    assert copy.verify(histories=True, repair=True).whole
    # events tell a full sync no more than they told before
    for _ in range(2):
        assert copy.values(TASK_RUN_HISTORY) == [["Pending", "Running", "Failed", "Completed"]]
        copy.assert_true()
        copy.sync(full=True)


ONCE = ["Pending", "Running", "Completed"]


def test_task_run_that_its_client_executes_twice(
    copy: Copy, api: PrefectApi, server: LocalServer, tmp_path: Path
) -> None:
    """Its second chain of states begins anew, and while it is in flight it has the end of the first."""
    early, between, late = (replace(copy, folder=tmp_path / name) for name in ("early", "between", "late"))
    for one in (early, between, late):
        one.folder.mkdir()
    early.sync()
    files = tmp_path / "first", tmp_path / "second"
    with playing(server, "executed_twice", *map(str, files)) as process:
        [task_run] = task_runs_of(api, told(process)["flow_run"])
        api.wait("task_runs", task_run, "Running")
        early.sync()
        files[0].touch()
        told(process)
        wait_in_flight_again(api, task_run)
        for one in (early, between):
            one.sync_and_compare()
            assert one.values(TASK_RUN_HISTORY) == [[*ONCE, *ONCE[:2]]]
        files[1].touch()
        process.wait()
    api.wait("task_runs", task_run, "Completed")
    api.wait_for_event_of("task_runs", task_run)
    for one in (early, between, late):
        one.sync_and_compare()
        assert one.values(TASK_RUN_HISTORY) == [[*ONCE, *ONCE]]


def wait_in_flight_again(api: PrefectApi, task_run: str) -> None:
    """Wait until the server has the second start of a task run, and its event."""
    deadline = time.monotonic() + 60
    while len(api.states("task_runs", task_run)) < len(ONCE) + 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    row = api.call("GET", f"/task_runs/{task_run}")
    assert (row["state_type"], bool(row["end_time"])) == ("RUNNING", True)
    api.wait_for_event_of("task_runs", task_run)


def test_task_run_in_flight_again_that_the_server_cancels(
    copy: Copy, api: PrefectApi, server: LocalServer, tmp_path: Path
) -> None:
    """No event tells of that, and its end is that of its first execution until then."""
    files = tmp_path / "first", tmp_path / "second"
    files[0].touch()
    with playing(server, "executed_twice", *map(str, files)) as process:
        flow_run = told(process)["flow_run"]
        told(process)
        [task_run] = task_runs_of(api, flow_run)
        wait_in_flight_again(api, task_run)
        copy.sync_and_compare()
        for _ in range(2):
            copy.outlive_lookback()
        assert copy.sync().changed["task_runs"] == 0
        process.kill()
    api.set_task_run(task_run, "CANCELLED", force=True)
    assert copy.sync_and_compare().changed["task_runs"] == 1


@pytest.mark.parametrize("flow_run_begins", ["before", "after"])
def test_task_run_of_a_flow_run_whose_cancellation_a_later_part_reads(
    copy: Copy, api: PrefectApi, server: LocalServer, tmp_path: Path, flow_run_begins: str
) -> None:
    def others_end() -> None:
        for _ in range(8):
            api.complete_flow_run(api.flow_run(None))
        # flow runs are behind, as when only their sync failed
        copy.sync(resources=("task_runs", "task_run_states"))

    copy.settings["chunk_rows"] = 2
    copy.sync()
    if flow_run_begins == "after":
        others_end()
        ends_though_cancelled(api, server, tmp_path / "go on")
    else:
        ends_though_cancelled(api, server, tmp_path / "go on", before=others_end)
    copy.sync_and_compare()
    assert copy.values(TASK_RUN_HISTORY) == [["Pending", "Running", "Cancelled", "Completed"]]


def test_histories_of_a_few_task_runs_among_many_are_not_looked_for_in_the_events_of_all(
    copy: Copy, api: PrefectApi, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "go on"
    go_on.touch()
    with playing(server, "waiting", str(go_on)) as process:
        flow_run = told(process)["flow_run"]
    play(server, "many_tasks", "60")
    [task_run] = task_runs_of(api, flow_run)
    api.wait("task_runs", task_run, "Completed")

    def not_asked(self: EventBuffer, window: Window, more_follows: bool) -> None:
        raise AssertionError("the events of other runs are read")

    monkeypatch.setattr(EventBuffer, "around", not_asked)
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES", '["waiting"]')
    copy.sync()
    names = "SELECT list(name ORDER BY sequence) FROM prefect.task_run_states GROUP BY task_run_id"
    assert copy.values(names) == [["Pending", "Running", "Completed"]]


def test_full_sync_takes_no_deleted_task_run_for_one_that_was_never_recorded(
    unhurried_server: LocalServer, tmp_path: Path
) -> None:
    # not the server of the other tests, which would meet its events for as long as a lookback
    api = PrefectApi(unhurried_server.url)
    copy = Copy(api, tmp_path, now(), api.url, {"lookback_minutes": SHORT_LOOKBACK_SECONDS / 60})
    flow_run = play(unhurried_server, "many_tasks", "1")
    [task_run] = task_runs_of(api, flow_run)
    api.wait("task_runs", task_run, "Completed")
    copy.sync()
    api.call("DELETE", f"/flow_runs/{flow_run}")
    # the lookback is over, after which what was not recorded will not be
    copy.outlive_lookback()
    copy.sync(full=True)
    assert "events_only" not in copy.values(f"SELECT reason FROM prefect.tombstones WHERE id = '{task_run}'")
    api.close()


def nothing() -> None:
    """What happens where nothing is said."""


def ends_though_cancelled(
    api: PrefectApi,
    server: LocalServer,
    go_on: Path,
    before: Callable[[], object] = nothing,
    between: Callable[[], object] = nothing,
    meanwhile: Callable[[], object] = nothing,
) -> str:
    """Id of a task run that goes on and completes after its flow run and it were cancelled.

    `before` that, `between` the two, and `meanwhile`, afterwards, it waits.
    """
    with playing(server, "waiting", str(go_on)) as process:
        flow_run = told(process)["flow_run"]
        [task_run] = task_runs_of(api, flow_run)
        api.wait("task_runs", task_run, "Running")
        before()
        api.set_flow_run(flow_run, "CANCELLED")
        between()
        # the server does so itself after some seconds
        if api.call("GET", f"/task_runs/{task_run}")["state_type"] != "CANCELLED":
            api.set_task_run(task_run, "CANCELLED", force=True)
        meanwhile()
        go_on.touch()
        process.wait()
    api.wait("task_runs", task_run, "Completed")
    return task_run


def task_runs_of(api: PrefectApi, flow_run: str) -> list[str]:
    """Ids of the task runs of a flow run, of which the server is told a moment after they began."""
    deadline = time.monotonic() + 120
    while not (found := api.task_runs_of(flow_run)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return [row["id"] for row in found]


def test_running_flows_paused_or_suspended_and_resumed(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    copy.settings.update(USUAL_LOOKBACK)
    copy.sync()
    with playing(server, "paused") as process:
        paused = told(process)["run"]
        api.wait("flow_runs", paused, "Paused")
        suspended = play(server, "run_suspended")
        copy.sync()
        assert copy.values("SELECT state_name FROM prefect.flow_runs ORDER BY 1") == ["Paused", "Suspended"]
        for run_id in (paused, suspended):
            api.call("POST", f"/flow_runs/{run_id}/resume", {})
        copy.sync()
        play(server, "run_suspended", suspended)
        told(process)
    api.wait_at_rest(copy.since)
    copy.sync_and_compare()
    assert copy.values("SELECT state_name FROM prefect.flow_runs") == ["Completed", "Completed"]
    assert copy.values("SELECT count(*) FROM prefect.task_runs WHERE state_type = 'COMPLETED'") >= [4]


def test_runs_that_a_schedule_makes(copy: Copy, api: PrefectApi) -> None:
    copy.settings["horizon_hours"] = 24 * 365
    copy.sync()
    interval = {"interval": 3600, "anchor_date": now().isoformat()}
    hourly = {"schedule": interval, "active": True, "max_scheduled_runs": 5}
    deployment = {"name": "hourly", "flow_id": api.flow(), "schedules": [hourly]}
    deployment_id = api.call("POST", "/deployments/", deployment)["id"]
    try:
        while not (runs := api.runs("flow_runs", copy.since)):
            assert now() - copy.since < timedelta(seconds=120), "the schedule makes no runs"
            time.sleep(0.5)
        report = copy.sync_and_compare()
    finally:
        # its runs are deleted with it
        api.call("DELETE", f"/deployments/{deployment_id}")
    assert report.new["flow_runs"] >= len(runs)
    assert set(copy.values("SELECT auto_scheduled AND state_type = 'SCHEDULED' FROM prefect.flow_runs")) == {True}


def test_flow_of_250_tasks_synced_all_the_while(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    copy.settings.update(USUAL_LOOKBACK)
    copy.sync()
    loaded: list[int] = []

    def sync_for_a_second() -> None:
        began = time.monotonic()
        if count := copy.sync().rows.get("task_runs", 0):
            loaded.append(count)
            assert copy.values("SELECT count(DISTINCT id) FROM prefect.task_runs") == [count]
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))

    with playing(server, "many_tasks", "250") as process:
        while process.poll() is None:
            sync_for_a_second()
        of_flow = {"flow_runs": {"id": {"any_": [told(process)["result"]]}}}
    completed = {**of_flow, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    while api.call("POST", "/task_runs/count", completed) < 250:
        assert now() - copy.since < timedelta(seconds=600), "the server does not record all task runs"
        sync_for_a_second()
    api.wait_at_rest(copy.since)
    copy.sync_and_compare()
    assert loaded == sorted(loaded)
    assert copy.values("SELECT count(*) FROM prefect.task_runs WHERE state_type = 'COMPLETED'") == [250]


# private use: dlt marks typed values in its own files with characters of this range
MARKS = [chr(code) for code in range(0xF026, 0xF02E)]

ODD_PARAMETERS: dict[str, dict[str, Any]] = {
    "keys": {"a": 1, "A": 2, "id": "x", "my key": 3, "my.key": 4, "a__b": 5, "_dlt_id": "y", "": 6, "'\"\\": 7},
    "text": {"é": "😀 \u0001\u001f\u007f\u2028 \\ ' \" \n\t", "empty": ""},
    "nested": {"list": [[1, [2, {"b": [None, [], {}]}]], {}], "deep": json.loads("[" * 200 + "]" * 200), "null": None},
    "json_in_text": {"object": '{"a": 1}', "number": "1", "null": "null", "quoted": '"x"'},
    # a server answers 500 to every list with a run that has a greater integer
    "numbers": {"floats": [5e-324, 0.1, 1.0], "ints": [2**64 - 1, -(2**63), 0, True]},
    "time": {"iso": "2026-01-01T00:00:00Z", "date": "2026-01-01", "uuid": "00000000-0000-0000-0000-000000000000"},
    "list": {"values": list(range(5000))},
    # the largest that a server takes since 3.6.25
    "large": {"v": "x" * (512 * 1024 - 8)},
}


def test_odd_parameters(copy: Copy, api: PrefectApi) -> None:
    compare_parameters(copy, api, ODD_PARAMETERS)


@pytest.mark.xfail(
    CHOSEN == "sqlite", strict=True, reason="through SQLAlchemy dlt reads such a text in JSON back as a typed value"
)
def test_parameters_that_begin_with_the_marks_that_dlt_gives_to_typed_values(copy: Copy, api: PrefectApi) -> None:
    marked = {mark: [mark, f"{mark}1.5", {f"{mark} k": f"{mark}2020-01-01"}, f"{mark} prod"] for mark in MARKS}
    compare_parameters(copy, api, {"marks": marked})


@pytest.mark.skipif(
    DATABASE == "postgresql",
    reason="PostgreSQL gives -0.0 back as 0.0 and 1e22 as an integer, with which a server answers 500 to every list",
)
def test_floats_that_postgresql_changes(copy: Copy, api: PrefectApi) -> None:
    floats = [1e308, -1e308, -0.0, 1e22]
    run_id = api.flow_run("RUNNING", parameters={"floats": floats})
    copy.sync()
    [loaded] = copy.values(f"SELECT parameters FROM prefect.flow_runs WHERE id = '{run_id}'")
    assert [float(number) for number in json.loads(loaded)["floats"]] == floats
    if copy.warehouse.stores_json_as_it_is:
        assert written(json.loads(loaded)) == written({"floats": floats})
    assert copy.verify(sweep=True).whole


def compare_parameters(copy: Copy, api: PrefectApi, odd: dict[str, dict[str, Any]]) -> None:
    """Copy runs that have these parameters, and compare them to the letter."""
    runs = {name: api.flow_run("RUNNING", parameters=parameters) for name, parameters in odd.items()}
    copy.sync_and_compare()
    for name, run_id in runs.items():
        loaded = copy.values(f"SELECT parameters FROM prefect.flow_runs WHERE id = '{run_id}'")[0]
        # as text, for Python takes 1, 1.0 and True as equal
        assert written(json.loads(loaded)) == written(odd[name]), name


def written(value: Any) -> str:
    """A JSON value as text, the same for equal values only."""
    return json.dumps(value, sort_keys=True)


def test_odd_texts(copy: Copy, api: PrefectApi) -> None:
    texts = ["é😀", " padded ", "\u0001", "'\"\\\n", *MARKS]
    for text in texts:
        api.flow_run({"type": "RUNNING", "name": text, "message": text}, name=text, tags=[text, text * 2])
    copy.sync_and_compare()


@pytest.mark.skipif(DATABASE == "postgresql", reason="PostgreSQL stores no zero character")
def test_zero_character(copy: Copy, api: PrefectApi) -> None:
    text = "zero \u0000 inside"
    run_id = api.flow_run({"type": "RUNNING", "name": text, "message": text}, parameters={"text": text}, tags=[text])
    api.flow_run("RUNNING", name=text)
    copy.sync_and_compare()
    loaded = copy.values(f"SELECT parameters FROM prefect.flow_runs WHERE id = '{run_id}'")[0]
    assert json.loads(loaded) == {"text": text if copy.warehouse.stores_json_as_it_is else text.replace("\0", "")}
    assert copy.verify(sweep=True).whole


@pytest.mark.xfail(strict=True, reason="dlt reads such a text back as bytes")
def test_text_that_begins_with_the_mark_that_dlt_gives_to_bytes(copy: Copy, api: PrefectApi) -> None:
    # U+F02B is a tag in icon fonts; what follows it is valid base64
    api.flow_run("RUNNING", name="\uf02b prod")
    copy.sync_and_compare()


def test_state_message_of_5_megabytes(copy: Copy, api: PrefectApi) -> None:
    copy.sync()
    run_id = api.flow_run("RUNNING")
    copy.sync()
    api.set_flow_run(run_id, {"type": "FAILED", "name": "Failed", "message": "x" * 5_000_000})
    copy.sync_and_compare()


@pytest.fixture
def unhurried_server() -> Iterator[LocalServer]:
    """A server that writes its events every 5 seconds, as servers do."""
    settings = {name: value for name, value in IMPATIENT.items() if "EVENT_PERSISTER" not in name}
    with local_server(VERSION, settings, DATABASE) as running:
        yield running


END_AN_HOUR_EARLIER = {
    "sqlite": "UPDATE flow_run SET end_time = datetime(end_time, '-1 hour') || '.000000'",
    "postgresql": "UPDATE flow_run SET end_time = end_time - interval '1 hour'",
}

# run by the Python of the server, which has the driver
EXECUTE = """
import asyncio, sys, asyncpg

async def execute(url, sql):
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()

asyncio.run(execute(*sys.argv[1:]))
"""


def execute(server: LocalServer, sql: str) -> None:
    """Change what the server stored past the server."""
    if server.database == "postgresql":
        url = server.environment()["PREFECT_SERVER_DATABASE_CONNECTION_URL"].replace("+asyncpg", "")
        server.run("-c", EXECUTE, url, sql)
        return
    with sqlite3.connect(server.home / "prefect.db", timeout=60) as database:
        database.execute(sql)


def test_event_that_shows_up_after_the_sync_that_it_belongs_to(unhurried_server: LocalServer, tmp_path: Path) -> None:
    api = PrefectApi(unhurried_server.url)
    copy = Copy(api, tmp_path, now(), api.url, dict(USUAL_LOOKBACK))
    run_id = api.flow_run("RUNNING")
    api.set_flow_run(run_id, "FAILED")
    # an hour ago, so that only its event tells of the change
    execute(unhurried_server, END_AN_HOUR_EARLIER[DATABASE])
    copy.sync_and_compare()
    body = {"state": {"type": "COMPLETED", "name": "Fixed by hand"}, "force": True}
    api.call("POST", f"/flow_runs/{run_id}/set_state", body)
    copy.sync()
    api.wait_for_event_of("flow_runs", run_id)
    copy.sync_and_compare()
    assert copy.values("SELECT state_name FROM prefect.flow_runs") == ["Fixed by hand"]
    api.close()


def test_logs_an_artifact_and_an_event_of_a_flow_that_failed(copy: Copy, api: PrefectApi, server: LocalServer) -> None:
    run_id = play(server, "logged_and_failed")
    copy.settings.update(USUAL_LOOKBACK, log_failed_only=True, log_level="WARNING", event_prefixes=["shop."])
    api.wait_at_rest(copy.since)
    copy.sync(extras=("logs", "artifacts", "events"))
    own = {"flow_run_id": {"any_": [run_id]}, "level": {"ge_": 30}}
    logs = api.call("POST", "/logs/filter", {"logs": own})
    assert sorted(copy.values("SELECT id FROM prefect.logs")) == sorted(log["id"] for log in logs)
    assert {(30, "of a task"), (40, "of the flow")} <= {(log["level"], log["message"]) for log in logs}
    of_tasks = copy.values("SELECT run.name FROM prefect.logs JOIN prefect.task_runs AS run ON run.id = task_run_id")
    assert [name.partition("-")[0] for name in of_tasks] == ["warns"]
    assert copy.values(
        f"SELECT [key, description, data] FROM prefect.artifacts WHERE flow_run_id = '{run_id}' AND key = 'left'"
    ) == [["left", "by the flow", None]]
    assert copy.values("SELECT event FROM prefect.events WHERE resource_id = 'shop." + run_id + "'") == ["shop.closed"]
    copy.assert_true()
