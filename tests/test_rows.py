"""Rows of the API become rows of the tables: unknown fields are dropped, fields of another type refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefect_runs.exceptions import UnexpectedReply
from prefect_runs.privacy import Privacy
from prefect_runs.rows import RunShape, Shape, StateShape, TagsShape, is_torn, shaped_with_children, version
from prefect_runs.tables import DEPLOYMENTS, FLOW_RUNS, FLOWS, TABLES, TASK_RUN_STATES, TASK_RUNS

OPEN = Privacy()

TIME = "2026-01-01T00:00:00Z"
RUN = {"id": "run 1", "updated": TIME, "tags": [], "state": None}
STATE = {"id": "state 1", "type": "RUNNING", "name": "Running", "timestamp": TIME, "state_details": {}}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("name", 5, id="number for text"),
        pytest.param("name", {"a": 1}, id="object for text"),
        pytest.param("run_count", "5", id="text for whole number"),
        pytest.param("run_count", 1.5, id="fraction for whole number"),
        pytest.param("run_count", True, id="truth for whole number"),
        pytest.param("total_run_time", "1.5", id="text for number"),
        pytest.param("total_run_time", False, id="truth for number"),
        pytest.param("auto_scheduled", 1, id="number for truth"),
        pytest.param("end_time", 1767225600, id="number for time"),
        pytest.param("end_time", "yesterday", id="text that is no time"),
        pytest.param("end_time", "2026-01-01T00:00:00", id="time without a zone"),
    ],
)
def test_a_field_of_another_type_is_refused(column: str, value: Any) -> None:
    with pytest.raises(UnexpectedReply) as refusal:
        RunShape(FLOW_RUNS, "w", OPEN)({**RUN, column: value})
    for part in ("flow_runs", "run 1", column, type(value).__name__):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    "row",
    [{"name": ["secret"]}, {"tags": [1, "secret"]}, {"end_time": "secret"}, {"state": {"state_details": "secret"}}],
)
def test_a_refusal_does_not_show_the_value_nor_does_what_led_to_it(row: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedReply) as refusal:
        RunShape(FLOW_RUNS, "w", OPEN)({**RUN, **row})
    # dlt writes both into its trace
    assert "secret" not in str(refusal.value)
    assert refusal.value.__context__ is None


@pytest.mark.parametrize("value", [{"a": [1]}, [1, 2], "text", 5, 1.5, True], ids=lambda value: type(value).__name__)
def test_free_form_json_may_hold_anything(value: Any) -> None:
    assert json.loads(Shape(FLOW_RUNS, "w", OPEN)({**RUN, "parameters": value})["parameters"]) == value


def test_whole_numbers_are_fine_as_durations() -> None:
    assert Shape(FLOW_RUNS, "w", OPEN)({**RUN, "total_run_time": 3})["total_run_time"] == 3


def test_unknown_fields_are_dropped_and_nulls_left_out() -> None:
    shaped = RunShape(TASK_RUNS, "w", OPEN)({**RUN, "brand_new": 1, "estimated_run_time": 2.0, "name": None})
    assert shaped == {"id": "run 1", "workspace": "w", "updated": TIME, "tags": [], "state_details": []}


def test_fields_that_hold_secrets_are_dropped() -> None:
    secret = {"job_variables": {"env": {}}, "pull_steps": [], "base_job_template": {}, "data": "secret", "value": 1}
    for name, table in TABLES.items():
        # bodies of artifacts are dropped before, unless they are asked for
        kept = {"id", "workspace", "data"} if name == "artifacts" else {"id", "workspace"}
        shaped = Shape(table, "w", OPEN)({"id": "a", **secret})
        assert shaped.keys() == kept & {column.name for column in table.columns}, name


def test_a_state_of_unknown_name_and_type_is_fine() -> None:
    state = {**STATE, "type": "HIBERNATING", "name": "Wholly new", "message": "m"}
    run = RunShape(FLOW_RUNS, "w", OPEN)(
        {**RUN, "state": state, "state_type": "HIBERNATING", "state_name": "Wholly new"}
    )
    assert (run["state_type"], run["state_name"]) == ("HIBERNATING", "Wholly new")
    assert (run["state_timestamp"], run["state_message"]) == (TIME, "m")


def test_a_torn_row() -> None:
    torn = {**RUN, "state_id": "state 1", "state_type": "RUNNING"}
    assert is_torn(torn)
    assert not is_torn({**torn, "state": STATE})
    assert not is_torn({**RUN, "state_id": None}), "a run without a state is whole"
    assert version(torn)[1] is None
    shaped = RunShape(FLOW_RUNS, "w", OPEN)(torn)
    assert shaped["state_id"] == "state 1"
    assert "state_timestamp" not in shaped
    assert shaped["state_details"] == []


@pytest.mark.parametrize(
    ("details", "says_more"),
    [
        pytest.param(None, False, id="none"),
        pytest.param({}, False, id="empty"),
        pytest.param({"flow_run_id": "f", "task_run_id": "t"}, False, id="the run's own ids"),
        pytest.param({"flow_run_id": "f", "deferred": False, "cache_key": None}, False, id="false and null"),
        pytest.param({"child_flow_run_id": "c"}, True, id="a subflow"),
        pytest.param({"task_run_id": "t", "retriable": True}, True, id="true"),
    ],
)
def test_state_details_are_a_row_only_where_they_say_more(details: Any, says_more: bool) -> None:
    state = {**STATE, "state_details": details}
    run = RunShape(FLOW_RUNS, "w", OPEN)({**RUN, "state": state})
    history = StateShape(TASK_RUN_STATES, "task_run_id", "w", OPEN)(state, "run 1")
    assert history["task_run_id"] == "run 1"
    for shaped in (run, history):
        assert bool(shaped["state_details"]) is says_more
        for row in shaped["state_details"]:
            assert row["state_id"] == "state 1"
            assert not {"flow_run_id", "task_run_id"} & row.keys()


@pytest.mark.parametrize("tags", ["text", {"a": 1}, [1]], ids=["text", "object", "numbers"])
def test_tags_are_a_list_of_texts_or_refused(tags: Any) -> None:
    with pytest.raises(UnexpectedReply, match="row a: tags are"):
        TagsShape(FLOWS, OPEN)({"id": "a", "tags": tags})


def test_children_of_a_deployment() -> None:
    schedule = {"id": "s", "schedule": {"interval": 60}, "active": True, "replaces": "unknown field"}
    shaped = shaped_with_children(DEPLOYMENTS, "w", OPEN)({"id": "d", "tags": ["t"], "schedules": [schedule]})
    assert shaped["tags"] == ["t"]
    assert shaped["schedules"] == [{"id": "s", "schedule": '{"interval":60}', "active": True}]
    assert shaped_with_children(DEPLOYMENTS, "w", OPEN)({"id": "d"})["schedules"] == []


@pytest.mark.parametrize("schedules", [{"a": {}}, "cron", 1, ["cron"], [None], [[]]], ids=str)
def test_children_of_another_type_are_refused(schedules: Any) -> None:
    with pytest.raises(UnexpectedReply, match=r"row d: schedules are a .*, not a list of objects"):
        shaped_with_children(DEPLOYMENTS, "w", OPEN)({"id": "d", "schedules": schedules})
