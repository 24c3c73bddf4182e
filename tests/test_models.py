"""The models: right on a history worked out by hand, and SQL that other warehouses can read."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import handmade
import pytest
import sqlglot
from command import run_command
from conftest import Copy
from handmade import DEPLOYED, Run, at
from prefect_api import PrefectApi, now, scheduled, seconds
from sqlglot import exp
from warehouses import Answers, answers, postgresql

from prefect_runs import ConfigurationError
from prefect_runs.clock import as_utc
from prefect_runs.tables import ALL_TABLES
from prefect_runs_pipelines.models import DIALECTS, Model, meaning, models, tables_of
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.views import create_views, printed

NAMES = [model.name for model in models()]


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """The history worked out by hand, with the views, in a warehouse whose time zone is not UTC."""
    folder = tmp_path_factory.mktemp("handmade")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgresql(folder)) if request.param == "postgres" else None
        options = handmade.load(folder, request.param)
        assert create_views(options).views == NAMES
        yield stack.enter_context(answers(options, url))


FACTS = {
    "good": {
        "started_by": "schedule",
        "parent_flow_run_id": None,
        "root_flow_run_id": "good",
        "outcome": "completed",
        "attempts": 1,
        "is_first_try_success": True,
        "is_success": True,
        "is_forced": False,
        "queue_seconds": 5,
        "startup_seconds": 10,
        "start_delay_seconds": 15,
        "late_seconds": None,
        "run_seconds": 60,
        "duration_seconds": 60,
        "wall_seconds": 60,
        "is_prefect_success": True,
        "flow_name": "etl",
        "deployment_name": "nightly etl",
        "tags": "nightly",
        "is_live": True,
    },
    "late": {
        "outcome": "failed",
        "attempts": 2,
        "is_first_try_success": False,
        "queue_seconds": 40,
        "startup_seconds": 10,
        "start_delay_seconds": 50,
        # marked at 10:10:15, running at 10:10:50
        "late_seconds": 35,
        # 30 seconds each, and a minute between them
        "run_seconds": 60,
        "wall_seconds": 120,
        "is_prefect_success": False,
    },
    # taken up a second before it was due
    "crashed": {"outcome": "crashed", "queue_seconds": 0, "startup_seconds": 11, "is_prefect_success": False},
    "forced": {"outcome": "failed", "is_forced": True, "is_success": False, "attempts": 1, "wall_seconds": 60},
    "missed": {
        "outcome": None,
        "is_success": None,
        "queue_seconds": None,
        "duration_seconds": None,
        "is_live": False,
        "gone_reason": "deleted",
    },
    "subflow": {
        "started_by": "parent",
        "parent_flow_run_id": "good",
        "root_flow_run_id": "good",
        "outcome": "timed out",
        "duration_seconds": 10,
        "tags": None,
        "deployment_name": None,
    },
}


# what differs from one moment of asking to the next
MOVING = {"_dlt_id", "_dlt_load_id", "seconds_since_success", "copied_until", "as_of"}
PREFIX = "other-"


def test_workspaces_in_one_dataset_have_the_rows_that_each_would_have_alone(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone, both = handmade.load(tmp_path / "alone", "duckdb"), handmade.load(tmp_path, "duckdb")
    # flows, work pools, queues and tags with the same names
    handmade.load(tmp_path, "duckdb", workspace="another", prefix=PREFIX)
    for options in (alone, both):
        create_views(options)
    with answers(alone, None) as of_one, answers(both, None) as of_both:
        for name in NAMES:
            rows = of_one(f"SELECT * FROM prefect.{name}")
            assert {row["workspace"] for row in rows} == {handmade.WORKSPACE}, name
            for workspace in (handmade.WORKSPACE, "another"):
                found = of_both(f"SELECT * FROM prefect.{name} WHERE workspace = '{workspace}'")
                assert settled(found) == settled(rows), f"{name} of {workspace}"


def settled(rows: list[dict[str, Any]]) -> Counter[str]:
    """Rows without what tells workspaces apart, and what moves."""
    kept = [{name: value for name, value in row.items() if name not in {*MOVING, "workspace"}} for row in rows]
    return Counter(re.sub(rf"\b{PREFIX}", "", str(row)) for row in kept)


@pytest.mark.parametrize("run", FACTS)
def test_flow_run_facts(rows: Answers, run: str) -> None:
    [fact] = rows(f"SELECT * FROM prefect.flow_run_facts WHERE id = '{run}'")
    assert {name: fact[name] for name in FACTS[run]} == FACTS[run]


def test_task_run_facts(rows: Answers) -> None:
    found = {row["id"]: row for row in rows("SELECT * FROM prefect.task_run_facts")}
    assert len(found) == 3
    assert all(row["flow_id"] == "flow" and row["deployment_id"] == "deployment" for row in found.values())
    assert found["stands-for"]["child_flow_run_id"] == "subflow"
    assert (found["cached"]["is_cached"], found["cached"]["run_seconds"], found["cached"]["attempts"]) == (True, 0, 0)
    retried = found["retried"]
    assert (retried["attempts"], retried["run_seconds"], retried["wall_seconds"]) == (2, 5, 15)
    assert (retried["is_success"], retried["is_first_try_success"]) == (True, False)


def test_state_transitions_and_attempts(rows: Answers) -> None:
    columns = "name, seconds, previous_name, is_forced"
    sql = f"SELECT {columns} FROM prefect.state_transitions WHERE run_id = '{{}}' ORDER BY number"
    assert [tuple(row.values()) for row in rows(sql.format("late"))] == [
        ("Scheduled", 75, None, False),
        ("Late", 25, "Scheduled", False),
        ("Pending", 10, "Late", False),
        ("Running", 30, "Pending", False),
        ("AwaitingRetry", 60, "Running", False),
        ("Retrying", 30, "AwaitingRetry", False),
        ("Failed", None, "Retrying", False),
    ]
    assert rows(sql.format("forced"))[-1]["is_forced"]
    attempts = "SELECT attempt, seconds, ended_as FROM prefect.run_attempts WHERE run_id = 'late' ORDER BY attempt"
    assert [tuple(row.values()) for row in rows(attempts)] == [(1, 30, "AwaitingRetry"), (2, 30, "Failed")]


def test_daily_figures(rows: Answers) -> None:
    found = {(row["grouped_by"], row["group_name"]): row for row in rows("SELECT * FROM prefect.daily_figures")}
    assert found.keys() == {
        ("all", "all"),
        ("flow", "etl"),
        ("deployment", "nightly etl"),
        ("work_pool", "pool"),
        ("tag", "nightly"),
    }
    deployment = found["deployment", "nightly etl"]
    expected = {
        "runs": 6,
        "ended": 5,
        "completed": 2,
        "failed": 2,
        "crashed": 1,
        "cancelled": 0,
        "success_percent": 40,
        "retries": 1,
        # 60, 60, 20, 60 and 30 seconds
        "run_hours": round(230 / 3600, 3),
        "duration_p50": 60,
        "duration_p90": 60,
        # 15, 50, 10, 5 and 10 seconds; the sixth never started
        "delay_p50": 10,
        "delay_p90": 36,
        "peak_running": 1,
    }
    assert {name: deployment[name] for name in expected} == expected
    # the subflow runs while its parent does
    assert found["flow", "etl"]["peak_running"] == found["all", "all"]["peak_running"] == 2
    assert found["all", "all"]["runs"] == 7
    assert deployment["period_start"] == at("00:00:00").replace(tzinfo=None)


def test_hourly_figures(rows: Answers) -> None:
    columns = "period_start, runs, success_percent"
    sql = f"SELECT {columns} FROM prefect.hourly_figures WHERE grouped_by = 'deployment' ORDER BY 1"
    assert [tuple(row.values()) for row in rows(sql)] == [
        (at("10:00:00").replace(tzinfo=None), 4, 25),
        (at("11:00:00").replace(tzinfo=None), 2, 100),
    ]


def test_failure_episodes(rows: Answers) -> None:
    found = rows("SELECT * FROM prefect.failure_episodes ORDER BY grouped_by, episode")
    assert [(row["grouped_by"], row["episode"], row["failures"]) for row in found] == [
        ("deployment", 1, 3),
        ("flow", 1, 1),
    ]
    deployment, flow = found
    assert as_utc(deployment["broken_at"]) == at("10:12:50")
    assert as_utc(deployment["recovered_at"]) == at("11:00:40")
    assert deployment["seconds_to_recover"] == 47 * 60 + 50
    # its runs without a deployment never completed
    assert flow["recovered_at"] is None


def test_deployment_health(rows: Answers) -> None:
    [health] = rows("SELECT * FROM prefect.deployment_health")
    expected = {
        "last_run_id": "better",
        "last_state_type": "COMPLETED",
        "failures_in_a_row": 0,
        # ten minutes three times, then half an hour twice
        "usual_interval_seconds": 600,
        "is_overdue": True,
        "missed_runs": 1,
        "runs_7d": 5,
        "success_percent_7d": 40,
        "duration_p50_7d": 60,
        "runs_28d": 0,
        "success_percent_28d": None,
    }
    assert {name: health[name] for name in expected} == expected
    assert as_utc(health["last_success_at"]) == at("11:00:40")


def test_queue_hours(rows: Answers) -> None:
    sql = "SELECT * FROM prefect.queue_hours ORDER BY hour"
    ten, eleven = rows(sql)
    assert (ten["runs"], ten["taken_up"], ten["waiting"], ten["marked_late"], ten["queue_p50"]) == (4, 4, 0, 1, 2.5)
    # the one that waits is gone
    assert (eleven["runs"], eleven["taken_up"], eleven["waiting"]) == (2, 1, 0)


def test_data_quality(rows: Answers) -> None:
    found = {row["name"]: row["found"] for row in rows("SELECT * FROM prefect.data_quality")}
    assert found == {
        # not one that the next load went on with
        "syncs with gaps": 2,
        # better; forced is failed now
        "completed flow runs without task runs": 1,
        "task runs of unknown flow runs": 0,
        "flow runs without state history": 0,
        "task runs without state history": 0,
        "task runs known from events alone": 0,
        "flow runs in flight for over a day": 0,
    }


def test_runs_that_the_server_deleted_or_that_are_not_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = ("10:00:00", "SCHEDULED", "Scheduled")
    tomorrow = {"expected_start_time": (now() + timedelta(days=1)).isoformat()}
    ahead = {"next": tomorrow, "cancelled ahead": {**tomorrow, "start_time": at("10:30:00").isoformat()}}
    histories: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
        # its process was killed, so that it ran until somebody deleted it
        "killed": ("10:00:00", [("10:00:05", *handmade.RUNNING)]),
        "cancelled": ("11:00:00", [waits, ("10:30:00", "CANCELLED", "Cancelled")]),
        "missed": ("11:30:00", [waits, ("11:30:15", "SCHEDULED", "Late")]),
        # in the place of one that was deleted before it was due, which no sync noticed before
        "ran in its place": ("11:40:00", [("11:40:05", *handmade.RUNNING), ("11:41:00", *handmade.COMPLETED)]),
        "replaced unnoticed": ("11:40:00", [waits]),
        # in the place of one that was deleted before it was due
        "ran": ("14:00:00", [("14:00:05", *handmade.RUNNING), ("14:01:00", *handmade.COMPLETED)]),
        "replaced": ("14:00:00", [waits]),
        "next": ("15:00:00", [waits]),
        # which gives it a start and an end
        "cancelled ahead": ("15:00:00", [waits, ("10:30:00", "CANCELLED", "Cancelled")]),
    }
    runs = [
        Run(id_, due, states, fields={**DEPLOYED, **ahead.get(id_, {})}) for id_, (due, states) in histories.items()
    ]
    gone = ("killed", "cancelled", "missed", "replaced unnoticed", "replaced")
    monkeypatch.setattr(handmade, "RUNS", runs)
    monkeypatch.setattr(handmade, "GONE", dict.fromkeys(gone, "12:00:00"))
    options = handmade.load(tmp_path, "duckdb")
    create_views(options)
    with answers(options, None) as rows:
        due = rows("SELECT id FROM prefect.flow_run_facts WHERE was_due ORDER BY expected_start_time")
        assert [row["id"] for row in due] == ["killed", "cancelled", "missed", "ran in its place", "ran"]
        [day] = rows("SELECT * FROM prefect.daily_figures WHERE grouped_by = 'deployment'")
        assert (day["runs"], day["ended"], day["cancelled"], day["peak_running"]) == (5, 3, 1, 2)
        assert [row["runs"] for row in rows("SELECT * FROM prefect.queue_hours ORDER BY hour")] == [1, 3, 1]
        [health] = rows("SELECT * FROM prefect.deployment_health")
        assert health["missed_runs"] == 1


WAITS = ("00:00:00", "SCHEDULED", "Scheduled")


@contextlib.contextmanager
def of_runs(
    monkeypatch: pytest.MonkeyPatch,
    histories: Mapping[str, tuple[str, list[tuple[str, str, str]]]],
    synced: str | None = None,
    tasks: Mapping[str, tuple[str, list[tuple[str, str, str]]]] | None = None,
    **fields: dict[str, Any],
) -> Iterator[Answers]:
    """The views of flow runs of the deployment, and of `tasks`: id → due and states; `fields` of some.

    They are `synced` up to then.
    """
    runs = [
        Run(id_, due, states, fields={**DEPLOYED, **fields.get(id_, {})}) for id_, (due, states) in histories.items()
    ]
    runs += [Run(id_, due, states, kind="task") for id_, (due, states) in (tasks or {}).items()]
    monkeypatch.setattr(handmade, "RUNS", runs)
    monkeypatch.setattr(handmade, "GONE", {})
    monkeypatch.setattr(handmade, "WINDOW_END", at(synced).isoformat() if synced else None)
    with handmade.in_memory() as connection:
        yield Answers(connection)


def ran(due: str, end: str, *last: str) -> tuple[str, list[tuple[str, str, str]]]:
    """A run that ended so at `end`."""
    return due, [(due, *handmade.PENDING), (due, *handmade.RUNNING), (end, *(last or handmade.COMPLETED))]


def test_what_was_due_after_the_last_sync_is_neither_missed_nor_late(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = {
        **{f"run {hour}": ran(f"{hour}:00:00", f"{hour}:00:20") for hour in ("08", "09", "10")},
        **{f"next {hour}": (f"{hour}:00:00", [WAITS]) for hour in ("11", "12", "13")},
        "runs": ("10:00:00", [("10:00:00", *handmade.PENDING), ("10:00:00", *handmade.RUNNING)]),
    }
    with of_runs(monkeypatch, histories, synced="10:30:00") as rows:
        [health] = rows("SELECT * FROM prefect.deployment_health")
        assert (health["missed_runs"], health["is_overdue"], health["seconds_since_success"]) == (0, False, 1780)
        assert [row["waiting"] for row in rows("SELECT waiting FROM prefect.queue_hours")] == [0, 0, 0]
        facts = {row["id"]: row for row in rows("SELECT * FROM prefect.flow_run_facts")}
        assert not any(facts[f"next {hour}"]["was_due"] for hour in ("11", "12", "13"))
        assert facts["next 11"]["start_delay_seconds"] == 0
        assert facts["runs"]["run_seconds"] == 1800
    # nor does a later sync of something else tell anything of them
    logs = {"window_end": at("13:30:00").isoformat(), "resources": {"logs": {"read": 1, "loaded": 1}}}
    monkeypatch.setattr(handmade, "SYNCS", [logs])
    with of_runs(monkeypatch, histories, synced="10:30:00") as rows:
        assert rows("SELECT missed_runs FROM prefect.deployment_health") == [{"missed_runs": 0}]
    monkeypatch.setattr(handmade, "SYNCS", [])
    # the same copy, synced later, when they had not begun
    with of_runs(monkeypatch, histories, synced="13:30:00") as rows:
        [health] = rows("SELECT * FROM prefect.deployment_health")
        assert (health["missed_runs"], health["is_overdue"]) == (3, True)


@pytest.mark.parametrize("active", [True, False])
def test_deployment_is_overdue_when_a_schedule_made_a_run_that_was_due_for_long(
    monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    """Not at night, when an hourly one of the day has none, nor when its schedule is switched off."""
    monkeypatch.setattr(handmade, "SCHEDULES", [{"id": "schedule", "active": active}])
    good = {f"run {hour}": ran(f"{hour}:00:00", f"{hour}:00:20") for hour in ("08", "09", "10")}
    for name, histories, overdue in (
        ("night", good, False),
        ("broken", {**good, "failed": ran("12:00:00", "12:01:00", *handmade.FAILED)}, True),
    ):
        with of_runs(monkeypatch, histories, synced="23:00:00") as rows:
            [health] = rows("SELECT is_overdue FROM prefect.deployment_health")
            assert health["is_overdue"] is (overdue if active else None), name


def test_runs_that_crashed_before_they_began_have_no_end_on_old_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = {f"crashed {hour}": (f"{hour}:00:00", [(f"{hour}:00:00", *handmade.CRASHED)]) for hour in ("11", "12")}
    no_end = {id_: {"end_time": None} for id_ in crashed}
    histories = {"good": ran("10:00:00", "10:01:00"), **crashed}
    with of_runs(monkeypatch, histories, **no_end) as rows:
        [health] = rows("SELECT * FROM prefect.deployment_health")
        assert (health["last_run_id"], health["failures_in_a_row"], health["runs_7d"]) == ("crashed 12", 2, 3)
        [episode] = rows("SELECT * FROM prefect.failure_episodes")
        assert (as_utc(episode["broken_at"]), episode["failures"]) == (at("11:00:00"), 2)


def test_pause_is_no_retry_and_a_forced_end_is_no_first_try(monkeypatch: pytest.MonkeyPatch) -> None:
    due, states = ran("10:00:00", "10:05:00")
    paused = [*states[:2], ("10:01:00", "PAUSED", "Paused"), ("10:04:00", *handmade.RUNNING), states[2]]
    fixed = [*states[:2], ("10:02:00", *handmade.FAILED), ("10:04:00", *handmade.COMPLETED)]
    at_once = [*states[:2], ("10:01:00", "RUNNING", "Retrying"), ("10:03:00", "RUNNING", "Retrying"), states[2]]
    back = [*states, ("10:06:00", "COMPLETED", "RolledBack")]
    twice = [*paused[:3], ("10:01:10", *handmade.RUNNING), ("10:01:20", "PAUSED", "Paused")]
    twice += [("10:01:30", *handmade.RUNNING), ("10:01:40", "SCHEDULED", "AwaitingRetry"), *paused[3:]]
    suspended = [*paused[:3], ("10:02:00", "SCHEDULED", "Resuming"), ("10:03:00", *handmade.PENDING), *paused[3:]]
    unnamed = [*fixed[:3], ("10:04:00", "COMPLETED", None)]
    made: dict[str, Any] = {"paused": paused, "fixed": fixed, "at once": at_once, "back": back, "twice": twice}
    made |= {"suspended": suspended, "unnamed": unnamed, "waits": [*paused[:3]], "by hand": fixed[3:]}
    histories = {id_: (due, history) for id_, history in made.items()}
    with of_runs(monkeypatch, histories) as rows:
        columns = "id, retries, is_first_try_success, is_success, is_forced"
        found = {
            id_: values for id_, *values in map(dict.values, rows(f"SELECT {columns} FROM prefect.flow_run_facts"))
        }
        assert found == {
            "paused": [0, True, True, False],
            "fixed": [0, False, True, True],
            "at once": [2, False, True, False],
            "back": [0, True, True, False],
            "twice": [1, False, True, False],
            "suspended": [0, True, True, False],
            "unnamed": [0, False, True, True],
            "waits": [0, None, None, False],
            "by hand": [0, False, True, False],
        }
        sql = "SELECT seconds, ended_as FROM prefect.run_attempts WHERE run_id = 'at once' ORDER BY attempt"
        assert [tuple(row.values()) for row in rows(sql)] == [(60, "Retrying"), (120, "Retrying"), (120, "Completed")]
        [day] = rows("SELECT retries FROM prefect.daily_figures WHERE grouped_by = 'all'")
        assert day["retries"] == 3


def test_run_that_had_ended_before_is_no_first_try(monkeypatch: pytest.MonkeyPatch) -> None:
    due, states = ran("10:00:00", "10:05:00")
    later = [("11:00:00", "SCHEDULED", "AwaitingRetry"), ("11:00:05", *handmade.PENDING)]
    later += [("11:00:10", *handmade.RUNNING), ("11:01:00", *handmade.COMPLETED)]
    made: dict[str, Any] = {
        # its pod did not start
        "crashed first": [(due, *handmade.PENDING), ("10:00:30", *handmade.CRASHED), *later],
        "cancelled first": [WAITS, ("10:00:30", "CANCELLED", "Cancelled"), *later],
        # the pause took too long
        "paused": [*states[:2], ("10:01:00", "PAUSED", "Paused"), ("10:02:00", *handmade.FAILED), *later],
        "paused and ended": [*states[:2], ("10:01:00", "PAUSED", "Paused"), ("10:02:00", *handmade.FAILED)],
        "cancelled in a pause": [
            *states[:2],
            ("10:01:00", "PAUSED", "Paused"),
            ("10:02:00", "SCHEDULED", "Resuming"),
            ("10:03:00", "CANCELLED", "Cancelled"),
        ],
    }
    # the server cancelled it with its flow run, and its client went on
    went_on = [*states[:2], ("10:04:00", "CANCELLED", "Cancelled"), states[2]]
    with of_runs(
        monkeypatch, {id_: (due, history) for id_, history in made.items()}, tasks={"task": (due, went_on)}
    ) as rows:
        columns = "id, retries, is_first_try_success, is_forced"
        sql = f"SELECT {columns} FROM prefect.flow_run_facts UNION ALL SELECT {columns} FROM prefect.task_run_facts"
        found = {id_: values for id_, *values in map(dict.values, rows(sql))}
        assert found == {
            "crashed first": [0, False, False],
            "cancelled first": [0, False, False],
            "paused": [1, False, False],
            "paused and ended": [0, False, False],
            "cancelled in a pause": [0, False, False],
            "task": [0, True, False],
        }
        sql = "SELECT run_id, ends_left, forced_changes, resumes FROM prefect.run_milestones ORDER BY run_id"
        assert [tuple(row.values()) for row in rows(sql)] == [
            ("cancelled first", 1, 0, 0),
            ("cancelled in a pause", 0, 0, 0),
            ("crashed first", 1, 0, 0),
            ("paused", 1, 0, 0),
            ("paused and ended", 0, 0, 0),
            ("task", 0, 0, 0),
        ]


@pytest.mark.parametrize("start", [None, "10:45:00"], ids=["before 3.6.14", "since"])
def test_runs_that_never_ran_have_neither_duration_nor_delay(
    monkeypatch: pytest.MonkeyPatch, start: str | None
) -> None:
    late = [WAITS, ("10:00:15", "SCHEDULED", "Late"), ("10:45:00", "CANCELLED", "Cancelled")]
    cancelled: dict[str, Any] = {f"cancelled {number}": ("10:00:00", late) for number in range(4)}
    fields = {id_: {"start_time": at(start).isoformat() if start else None} for id_ in cancelled}
    good = {f"good {hour}": ran(f"{hour}:00:00", f"{hour}:01:00") for hour in ("08", "09", "10")}
    with of_runs(monkeypatch, {**cancelled, **good}, **fields) as rows:
        [day] = rows("SELECT duration_p50, delay_p90, ended FROM prefect.daily_figures WHERE grouped_by = 'all'")
        assert day == {"duration_p50": 60, "delay_p90": 0, "ended": 7}


def test_without_histories_nothing_is_told_that_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    with of_runs(monkeypatch, {"good": ran("10:00:00", "10:01:00")}) as rows:
        rows("DELETE FROM prefect.flow_run_states RETURNING id")
        [run] = rows("SELECT is_prefect_success, is_late, queue_seconds FROM prefect.flow_run_facts")
        assert set(run.values()) == {None}
        [hour] = rows("SELECT taken_up, marked_late, queue_p50, runs FROM prefect.queue_hours")
        assert tuple(hour.values()) == (None, None, None, 1)
        # nor without task runs
        assert "completed flow runs without task runs" not in {
            row["name"] for row in rows("SELECT name FROM prefect.data_quality")
        }


def test_what_is_gone_is_not_broken_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with of_runs(monkeypatch, {"failed": ran("10:00:00", "10:01:00", *handmade.FAILED)}) as rows:
        assert rows("SELECT gone_at FROM prefect.failure_episodes") == [{"gone_at": None}]
    row = {"resource": "deployments", "id": "deployment", "noticed_at": at("12:00:00").isoformat(), "reason": "deleted"}
    monkeypatch.setattr(handmade, "TOMBSTONES", [row])
    with of_runs(monkeypatch, {"failed": ran("10:00:00", "10:01:00", *handmade.FAILED)}) as rows:
        [episode] = rows("SELECT * FROM prefect.failure_episodes")
        assert (episode["recovered_at"], as_utc(episode["gone_at"])) == (None, at("12:00:00"))


def test_every_column_is_described(rows: Answers) -> None:
    all_models = models()
    for model in all_models:
        columns = rows.columns(f"prefect.{model.name}")
        assert model.columns.keys() <= set(columns)
        assert [name for name in columns if not meaning(model, name, all_models)] == [], model.name


class TestSql:
    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_of_each_dialect_can_be_read_back(self, dialect: str) -> None:
        statements = list(printed(SyncOptions(), dialect))
        assert len(statements) == len(NAMES)
        for name, statement in zip(NAMES, statements, strict=True):
            created = sqlglot.parse_one(statement, read=dialect)
            assert isinstance(created, exp.Create)
            assert created.find(exp.Table).name == name

    @pytest.mark.parametrize(
        ("dialect", "said", "not_said"),
        [
            ("bigquery", ["APPROX_QUANTILES", "UNIX_MICROS", "TO_JSON_STRING"], ["PERCENTILE_CONT", "EPOCH"]),
            (
                "databricks",
                ["PERCENTILE(", "UNIX_MICROS", "CONVERT_TIMEZONE"],
                ["PERCENTILE_CONT", "EPOCH"],
            ),
            ("snowflake", ["EPOCH_MICROSECOND"], ["EPOCH_SECOND"]),
            ("redshift", ["WITHIN GROUP (ORDER BY", "JSON_SERIALIZE"], ["CAST(resources", "value ORDER BY"]),
            ("trino", ["APPROX_PERCENTILE", "TO_UNIXTIME"], ["PERCENTILE_CONT", "TO_UNIXTIME(CAST"]),
            ("clickhouse", ["quantileExactInclusive(", "toFloat64(", "groupArray"], ["PERCENTILE_CONT", "EPOCH"]),
        ],
    )
    def test_says_what_a_dialect_has_no_word_for_in_another_way(
        self, dialect: str, said: list[str], not_said: list[str]
    ) -> None:
        text = "\n".join(printed(SyncOptions(), dialect))
        assert [words for words in said if words not in text] == []
        assert [words for words in not_said if words in text] == []

    def test_of_an_unknown_dialect(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"Unknown dialect 'klingon'\. sqlglot knows athena, bigquery, .*snowflake"
        ):
            list(printed(SyncOptions(), "klingon"))

    def test_is_made_from_tables_of_the_source(self) -> None:
        assert set(tables_of(models())) <= ALL_TABLES.keys()

    def test_every_model_comes_after_what_it_is_made_from(self) -> None:
        seen: set[str] = set()
        for model in models():
            assert model.sources & set(NAMES) <= seen
            seen.add(model.name)

    def test_says_what_it_is(self) -> None:
        assert all(re.match(r"[A-Z].*\.$", model.description) for model in models()), "a sentence each"
        assert all(isinstance(model, Model) and model.layer in ("staging", "marts") for model in models())


def test_figures_are_those_of_the_server(copy: Copy, api: PrefectApi) -> None:
    """What Prefect computes when it is asked: run time and lateness of each run, counts and sums per interval."""
    due = now() - seconds(40)
    copy.since = due - seconds(1)
    made = [api.flow_run(scheduled(due)) for _ in range(3)]
    api.set_flow_run(made[0], "RUNNING")
    for state in ("PENDING", "RUNNING", "FAILED"):
        api.set_flow_run(made[1], state)
    made += [api.flow_run("PENDING") for _ in range(3)]
    for run_id in made[3:]:
        api.complete_flow_run(run_id)
    copy.sync()
    create_views(copy.sync_options())
    ids = {"flow_runs": {"id": {"any_": made}}}
    server = {run["id"]: run for run in api.call("POST", "/flow_runs/filter", ids)}
    columns = "id, run_seconds::VARCHAR, start_delay_seconds::VARCHAR, is_terminal::VARCHAR"
    facts = {id_: own for id_, *own in copy.values(f"SELECT [{columns}] FROM prefect.flow_run_facts") if id_ in made}
    assert facts.keys() == server.keys() == set(made)
    for id_, (run_seconds, delay, is_terminal) in facts.items():
        # what still runs or waits was asked for some seconds later
        tolerance = 0.001 if is_terminal == "true" else 10
        assert float(run_seconds) == pytest.approx(server[id_]["estimated_run_time"], abs=tolerance)
        assert float(delay) == pytest.approx(server[id_]["estimated_start_time_delta"], abs=tolerance)
    average = sum(float(delay) for _, delay, _ in facts.values()) / len(facts)
    assert average == pytest.approx(api.call("POST", "/flow_runs/lateness", ids), abs=10)
    window = {
        "history_start": (copy.since - seconds(3600)).isoformat(),
        "history_end": (now() + seconds(3600)).isoformat(),
        "history_interval_seconds": 86_400,
    }
    told = api.call("POST", "/flow_runs/history", {**ids, **window})
    by_type: Counter[str] = Counter()
    for interval in told:
        for state in interval["states"]:
            by_type[state["state_type"]] += state["count_runs"]
    assert by_type == {"COMPLETED": 3, "FAILED": 1, "RUNNING": 1, "SCHEDULED": 1}
    sql = "SELECT id FROM prefect.flow_run_facts WHERE is_prefect_success"
    assert set(copy.values(sql)) & set(made) == set(made[3:])


class TestCommand:
    def test_makes_views_of_what_was_synced_and_makes_them_anew(self, copy: Copy, api: PrefectApi) -> None:
        failed = api.flow_run("FAILED")
        api.task_run("COMPLETED", flow_run_id=failed)
        assert run_command(copy, "sync").returncode == 0
        for _ in range(2):
            ended = run_command(copy, "models")
            assert ended.returncode == 0, ended.stderr
        assert f"{len(NAMES)} views in {copy.database}" in ended.stdout
        for name in NAMES:
            copy.values(f"SELECT * FROM prefect.{name}")
        assert copy.values(f"SELECT outcome FROM prefect.flow_run_facts WHERE id = '{failed}'") == ["failed"]
        described = "SELECT comment FROM duckdb_views() WHERE view_name = 'flow_run_facts'"
        assert copy.values(described)[-1].startswith("One row a flow run")
        where = "schema_name = 'prefect' AND table_name = 'flow_runs' AND column_name = 'end_time'"
        described = f"SELECT comment FROM duckdb_columns() WHERE {where}"
        assert copy.values(described) == ["When the run entered its terminal state; null while it is in flight."]
        # views are in nobody's way
        running = api.flow_run("RUNNING")
        assert run_command(copy, "sync").returncode == 0
        assert {failed, running} <= set(copy.values("SELECT id FROM prefect.flow_run_facts"))

    def test_takes_no_table_for_empty_that_another_workspace_filled(self, tmp_path: Path) -> None:
        handmade.load(tmp_path, "duckdb")
        # whose pipeline knows of no task runs
        options = handmade.load(tmp_path, "duckdb", only=("missed",), workspace="another", prefix="other-")
        assert create_views(options).missing == ["task_runs__tags"]
        with answers(options, None) as rows:
            assert len(rows("SELECT * FROM prefect.task_run_facts")) == 3

    def test_needs_a_first_load(self, copy: Copy) -> None:
        ended = run_command(copy, "models")
        assert ended.returncode == 2
        assert "prefect-runs sync" in ended.stderr

    def test_prints_them_without_a_destination(self, copy: Copy) -> None:
        ended = run_command(copy, "models", "--print", "--dialect", "snowflake")
        assert ended.returncode == 0
        assert "CREATE OR REPLACE VIEW prefect.flow_run_facts AS" in ended.stdout
        assert not copy.database.exists()
