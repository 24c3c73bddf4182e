"""The user's filters beside a read's own bounds, in one request body."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_runs import ConfigurationError, RunFilters
from prefect_runs.filters import body, scope
from prefect_runs.settings import STATE_TYPES

ID = "7a4f5d1e-0d0c-4e6f-9a53-0e8b1d6c2f11"


def filters(**values: Any) -> RunFilters:
    """Filters with these values."""
    made = RunFilters(**values)
    made.on_resolved()
    return made


def test_no_filter_asks_for_everything() -> None:
    assert body(filters(), "flow_runs", {}) == {}
    own = {"end_time": {"after_": "2026-01-01T00:00:00Z"}}
    assert body(filters(), "task_runs", own) == {"task_runs": own}


def test_tags_are_those_of_the_flow_run() -> None:
    own = {"end_time": {"is_null_": True}}
    tags = {"any_": ["a"], "all_": ["b", "c"]}
    asked = filters(tags_any=["a"], tags_all=["b", "c"])
    assert body(asked, "flow_runs", own) == {"flow_runs": {**own, "tags": tags}}
    assert body(asked, "task_runs", own) == {"task_runs": own, "flow_runs": {"tags": tags}}


def test_state_types_narrow_those_of_the_read() -> None:
    own = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    asked = body(
        filters(state_types=["FAILED", "RUNNING", "CRASHED"], exclude_state_types=["CRASHED"]), "flow_runs", own
    )
    assert asked == {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}}
    assert own["state"]["type"]["any_"] == ["COMPLETED", "FAILED", "CRASHED"], "the read's own bounds stay as they are"


def test_excluded_state_types_leave_all_others() -> None:
    asked = body(filters(exclude_state_types=["SCHEDULED"]), "task_runs", {})
    assert asked["task_runs"]["state"]["type"]["any_"] == [name for name in STATE_TYPES if name != "SCHEDULED"]


@pytest.mark.parametrize(
    ("after", "asked"),
    [
        pytest.param(None, "2026-01-31T00:00:00.000000+00:00", id="no bound of its own"),
        pytest.param("2026-01-30T00:00:00Z", "2026-01-31T00:00:00.000000+00:00", id="an earlier one"),
        pytest.param("2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", id="a later one"),
    ],
)
def test_start_date_raises_the_lower_bound_and_keeps_the_upper(after: str | None, asked: str) -> None:
    expected = {"before_": "2027-01-01T00:00:00Z", **({"after_": after} if after else {})}
    narrowed = body(filters(start_date="2026-01-31"), "flow_runs", {"expected_start_time": expected})
    assert narrowed["flow_runs"]["expected_start_time"] == {"before_": "2027-01-01T00:00:00Z", "after_": asked}


@pytest.mark.parametrize(
    ("deployments", "asked"),
    [
        pytest.param(["daily"], {"name": {"any_": ["daily"]}}, id="name"),
        pytest.param([ID], {"id": {"any_": [ID]}}, id="id"),
        pytest.param(
            ["daily", ID], {"operator": "or_", "id": {"any_": [ID]}, "name": {"any_": ["daily"]}}, id="name or id"
        ),
    ],
)
def test_deployments_by_name_and_id(deployments: list[str], asked: Any) -> None:
    assert body(filters(deployments=deployments), "task_runs", {}) == {"deployments": asked}


def test_flow_names() -> None:
    assert body(filters(flow_names=["etl"]), "flow_runs", {}) == {"flows": {"name": {"any_": ["etl"]}}}


def test_scope_differs_when_other_runs_are_asked_for() -> None:
    scopes = [
        scope(filters(), "w"),
        scope(filters(), "another"),
        scope(filters(tags_any=["a"]), "w"),
        scope(filters(tags_all=["a"]), "w"),
        scope(filters(flow_names=["a"]), "w"),
        scope(filters(start_date="2026-01-31"), "w"),
    ]
    assert len(set(scopes)) == len(scopes)
    assert scope(filters(), "w") == scopes[0]


def test_scope_is_the_same_for_one_time_written_in_two_ways() -> None:
    day, time = filters(start_date="2026-01-31"), filters(start_date="2026-01-31T00:00:00Z")
    assert scope(day, "w") == scope(time, "w")


@pytest.mark.parametrize("field", ["state_types", "exclude_state_types"])
def test_an_unknown_state_type_is_refused_with_those_there_are(field: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown state type 'completed'.*COMPLETED"):
        filters(**{field: ["completed"]})


def test_a_start_date_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'soon' is no date"):
        _ = filters(start_date="soon").start
