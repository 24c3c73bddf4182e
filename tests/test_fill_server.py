"""The filled server answers like one whose runs happened: asked through its API, never through its database."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fill_server
import pytest
import requests
from fill_server import default_end, fill, filled_server
from run_generator import TIE_RUNS, generate

FLOW_RUNS, TASK_RUNS, DAYS, SEED = 300, 700, 10, 7
PAGE = 200

Json = dict[str, Any]


@dataclass
class Api:
    """The API of a server that was filled up to ``end``."""

    url: str
    end: datetime
    session: requests.Session

    def get(self, path: str, **params: str) -> Any:
        """The body of a GET that must succeed."""
        return self._body(self.session.get(self.url + path, params=params, timeout=30))

    def post(self, path: str, **body: Any) -> Any:
        """The body of a POST that must succeed."""
        return self._body(self.session.post(self.url + path, json=body, timeout=30))

    def all(self, path: str) -> list[Json]:
        """All rows of a filter route: the table stands still, so pages by offset of a unique order lose none."""
        rows: list[Json] = []
        while page := self.post(path, sort="ID_DESC", limit=PAGE, offset=len(rows)):
            rows += page
        return rows

    @staticmethod
    def _body(answer: requests.Response) -> Any:
        assert answer.status_code == 200, answer.text[:500]
        return answer.json()


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    end = default_end()
    filled = filled_server(FLOW_RUNS, TASK_RUNS, days=DAYS, seed=SEED, events=True, end=end)
    with filled as server, requests.Session() as session:
        yield Api(server.url, end, session)


@pytest.fixture(scope="module")
def flow_runs(api: Api) -> list[Json]:
    return api.all("/flow_runs/filter")


@pytest.fixture(scope="module")
def task_runs(api: Api) -> list[Json]:
    return api.all("/task_runs/filter")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_counts_are_the_ones_asked_for(api: Api, flow_runs: list[Json], task_runs: list[Json]) -> None:
    assert api.post("/flow_runs/count") == FLOW_RUNS == len({run["id"] for run in flow_runs})
    assert api.post("/task_runs/count") == TASK_RUNS == len({run["id"] for run in task_runs})


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/flows/filter", 20),
        ("/deployments/filter", 40),
        ("/work_pools/filter", 3),
        ("/work_queues/filter", 6),
    ],
)
def test_the_catalogue_is_listed(api: Api, path: str, rows: int) -> None:
    assert len(api.post(path)) == rows


def test_every_deployment_has_its_flow_schedule_and_pool(api: Api) -> None:
    flows = {flow["id"] for flow in api.post("/flows/filter")}
    for deployment in api.post("/deployments/filter"):
        assert deployment["flow_id"] in flows
        assert len(deployment["schedules"]) == 1
        assert deployment["work_pool_name"]


def test_same_arguments_same_ids(api: Api, flow_runs: list[Json], task_runs: list[Json]) -> None:
    again = list(generate(FLOW_RUNS, TASK_RUNS, api.end, DAYS, SEED).runs)

    assert {run.id for run in again} == {run["id"] for run in flow_runs}
    assert {task.id for run in again for task in run.task_runs} == {run["id"] for run in task_runs}
    assert {run.states[-1].id for run in again} == {run["state_id"] for run in flow_runs}


def test_another_seed_gives_other_ids(api: Api, flow_runs: list[Json]) -> None:
    others = {run.id for run in generate(FLOW_RUNS, TASK_RUNS, api.end, DAYS, SEED + 1).runs}
    assert not others & {run["id"] for run in flow_runs}


def test_more_runs_than_a_page_holds_share_an_expected_start(api: Api, flow_runs: list[Json]) -> None:
    [(at, count)] = Counter(run["expected_start_time"] for run in flow_runs).most_common(1)
    exactly_then = {"expected_start_time": {"after_": at, "before_": at}}

    assert count >= TIE_RUNS > PAGE
    assert api.post("/flow_runs/count", flow_runs=exactly_then) == count
    assert moment(at).minute == moment(at).second == 0


def test_nothing_is_younger_than_an_hour(flow_runs: list[Json], task_runs: list[Json]) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    for run in flow_runs + task_runs:
        times = [run["created"], run["updated"], run["start_time"], run["end_time"], run["state"]["timestamp"]]
        assert all(moment(time) <= hour_ago for time in times if time)


def test_a_few_runs_are_in_flight_and_most_are_over(flow_runs: list[Json]) -> None:
    types = Counter(run["state_type"] for run in flow_runs)

    assert 0 < types["SCHEDULED"] + types["RUNNING"] < FLOW_RUNS * 0.05
    assert types["COMPLETED"] > FLOW_RUNS * 0.8
    assert types["FAILED"] > 0


def test_schedules_make_most_runs_but_the_backfill(flow_runs: list[Json]) -> None:
    by_hour = Counter(run["expected_start_time"] for run in flow_runs)
    tie, _ = by_hour.most_common(1)[0]
    tied = [run["auto_scheduled"] for run in flow_runs if run["expected_start_time"] == tie]
    others = [run["auto_scheduled"] for run in flow_runs if run["expected_start_time"] != tie]

    assert sum(tied) >= 40
    assert sum(others) > len(others) * 0.8


def test_runs_to_come_are_due_in_the_next_hours(flow_runs: list[Json]) -> None:
    now = datetime.now(UTC)
    to_come = [moment(run["expected_start_time"]) for run in flow_runs if run["state_type"] == "SCHEDULED"]
    assert all(now < due < now + timedelta(hours=12) for due in to_come)


def test_flow_run_histories_are_in_order_and_end_in_the_current_state(api: Api, flow_runs: list[Json]) -> None:
    for run in flow_runs:
        states = api.get("/flow_run_states/", flow_run_id=run["id"])
        running = [state for state in states if state["type"] == "RUNNING"]

        assert _times(states) == sorted(set(_times(states)))
        assert states[-1]["id"] == run["state_id"] == run["state"]["id"]
        assert len(running) == run["run_count"]
        assert run["start_time"] == (running[0]["timestamp"] if running else run["end_time"])
        assert run["end_time"] == (None if _in_flight(run) else states[-1]["timestamp"])


def test_a_scheduled_run_passes_through_the_usual_states(api: Api, flow_runs: list[Json]) -> None:
    histories = Counter(
        tuple(state["name"] for state in api.get("/flow_run_states/", flow_run_id=run["id"]))
        for run in flow_runs
        if run["auto_scheduled"]
    )
    usual, _ = histories.most_common(1)[0]

    assert usual == ("Scheduled", "Pending", "Submitting", "Running", "Completed")
    assert any("AwaitingRetry" in names for names in histories)


def test_task_run_histories_lie_within_their_flow_run(api: Api, flow_runs: list[Json], task_runs: list[Json]) -> None:
    parents = {run["id"]: run for run in flow_runs}
    for run in task_runs:
        states = api.get("/task_run_states/", task_run_id=run["id"])
        parent = parents[run["flow_run_id"]]

        assert [state["name"] for state in states][:2] == ["Pending", "Running"]
        assert _times(states) == sorted(set(_times(states)))
        assert states[-1]["id"] == run["state_id"]
        assert run["expected_start_time"] == states[0]["timestamp"]
        assert moment(parent["start_time"]) <= moment(run["start_time"])
        assert run["total_run_time"] >= 0


def test_history_buckets_add_up_to_the_count(api: Api) -> None:
    start = (api.end - timedelta(days=DAYS + 1)).isoformat()
    end = (api.end + timedelta(days=1)).isoformat()
    for kind, rows in (("flow_runs", FLOW_RUNS), ("task_runs", TASK_RUNS)):
        buckets = api.post(f"/{kind}/history", history_start=start, history_end=end, history_interval_seconds=3600)
        assert sum(state["count_runs"] for bucket in buckets for state in bucket["states"]) == rows


def test_events_name_their_states_and_the_state_before(api: Api, flow_runs: list[Json]) -> None:
    states_before: dict[str, str | None] = {}
    unannounced = set()
    for run in flow_runs:
        ids = [state["id"] for state in api.get("/flow_run_states/", flow_run_id=run["id"])]
        states_before |= dict(zip(ids, [None, *ids], strict=False))
        if run["auto_scheduled"]:
            unannounced.add(ids[0])

    events = _events(api, "prefect.flow-run.")

    assert {event["id"] for event in events} <= states_before.keys() - unannounced
    assert all(event["follows"] in (None, states_before[event["id"]]) for event in events)
    assert len([event for event in events if event["follows"]]) > len(events) / 3
    assert all(event["event"].endswith(event["resource"]["prefect.state-name"]) for event in events)


def test_task_run_events_carry_the_task_run(api: Api, task_runs: list[Json]) -> None:
    since = api.end - timedelta(days=7)
    recent = {run["state_id"]: run for run in task_runs if moment(run["state"]["timestamp"]) >= since}
    events = {event["id"]: event for event in _events(api, "prefect.task-run.")}
    # the server cancels the tasks of a cancelled flow run without an event
    announced = [state_id for state_id, run in recent.items() if run["state_type"] != "CANCELLED"]

    assert announced
    assert events.keys() >= set(announced)
    for state_id in announced:
        told, run = events[state_id]["payload"]["task_run"], recent[state_id]
        assert [told[key] for key in ("name", "task_key", "dynamic_key", "run_count", "start_time")] == [
            run[key] for key in ("name", "task_key", "dynamic_key", "run_count", "start_time")
        ]


def test_events_are_found_by_a_related_resource(api: Api, task_runs: list[Json]) -> None:
    newest = max(task_runs, key=lambda run: moment(run["end_time"] or run["start_time"]))
    related = {"id": [f"prefect.flow-run.{newest['flow_run_id']}"]}
    found = api.post("/events/filter", filter={"related": related})
    assert f"prefect.task-run.{newest['id']}" in {event["resource"]["prefect.resource.id"] for event in found["events"]}


def test_the_command_line_fills_an_empty_home_once(tmp_path: Path) -> None:
    sizes = ["--flow-runs", "20", "--task-runs", "30", "--days", "1", "--events"]
    command = [sys.executable, fill_server.__file__, *sizes, "--home", str(tmp_path)]

    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    printed = dict(line.split() for line in output.splitlines()[:-1])

    assert (printed["flow_run"], printed["task_run"]) == ("20", "30")
    assert int(printed["task_run_state"]) > 2 * 30
    assert int(printed["events"]) > 2 * 30
    with pytest.raises(ValueError, match="holds runs already"):
        fill(tmp_path, flow_runs=20, task_runs=30, days=1)


@pytest.mark.parametrize("task_runs", [0, 5])
def test_task_runs_need_flow_runs(task_runs: int) -> None:
    def make() -> list[Any]:
        return list(generate(0, task_runs, default_end()).runs)

    if task_runs:
        with pytest.raises(ValueError, match="at least one flow run"):
            make()
    else:
        assert make() == []


def _times(states: list[Json]) -> list[datetime]:
    return [moment(state["timestamp"]) for state in states]


def _in_flight(run: Json) -> bool:
    return run["state_type"] in ("SCHEDULED", "RUNNING")


def _events(api: Api, prefix: str) -> list[Json]:
    """All events with a prefix, a day at a time, page by page."""
    found: list[Json] = []
    for day in range(8):
        since = api.end - timedelta(days=day + 1)
        occurred = {"since": since.isoformat(), "until": (since + timedelta(days=1)).isoformat()}
        page = api.post("/events/filter", filter={"occurred": occurred, "event": {"prefix": [prefix]}})
        found += page["events"]
        while page["next_page"]:
            page = api.get(page["next_page"].removeprefix(api.url))
            found += page["events"]
    return found
