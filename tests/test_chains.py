"""Chains of states: a history is taken from events only where they tell all of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_runs.chains import Chain, Chains, Place, StateEvent, state_event

RUN = "run"
START = datetime(2026, 3, 1, tzinfo=UTC)
HISTORY = ("Pending", "Running", "Retrying", "Completed")


def at(number: int) -> datetime:
    return START + timedelta(seconds=number)


def state(number: int) -> dict[str, Any]:
    name = HISTORY[number]
    return {"id": f"s{number}", "type": name.upper(), "name": name, "timestamp": at(number).isoformat()}


def event(number: int, **changes: Any) -> StateEvent:
    before = (HISTORY[number - 1].upper(), HISTORY[number - 1]) if number else None
    told: dict[str, Any] = {
        "kind": "prefect.task-run",
        "state_id": f"s{number}",
        "run_id": RUN,
        "occurred": at(number),
        "follows": f"s{number - 1}" if number else None,
        "before": before,
        "first": not number,
        "type": HISTORY[number].upper(),
        "name": HISTORY[number],
        "state": state(number),
        "run_count": 1 if number else 0,
    }
    return StateEvent(**{**told, **changes})


def events(**changes: Any) -> list[StateEvent]:
    """Events of the whole history, newest first; the third one changed."""
    return [event(3), event(2, **changes), event(1), event(0)]


def find(told: list[StateEvent], places: dict[str, Place] | None = None, **present: Any) -> Chain | None:
    asked: dict[str, Any] = {"present": None, "born_with": False, **present}
    return Chains(told, places or {}).find(RUN, "s3", **asked)


def numbers(chain: Chain | None) -> list[tuple[str, int]] | None:
    return chain and [(state["id"], state["sequence"]) for state in chain.states]


ALL = [("s0", 1), ("s1", 2), ("s2", 3), ("s3", 4)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(events(), ALL, id="every link"),
        pytest.param(events() + events(), ALL, id="told twice"),
        pytest.param(events(follows=None), ALL, id="no link after five minutes, but the state before fits"),
        pytest.param(events(follows=None, before=("RUNNING", "Other")), None, id="no link, and another name before"),
        pytest.param(
            [event(3), event(2), event(1, follows=None), event(0)], ALL, id="no link to a start, which counts"
        ),
        pytest.param(events(follows=None, run_count=2), None, id="no link, and started once more in between"),
        pytest.param(events(follows="unknown"), None, id="follows a state that nobody told"),
        pytest.param(events(state=None), None, id="a state without its details"),
        pytest.param(events()[:-1], None, id="the first is not told"),
        pytest.param(events()[1:], None, id="the present one is not told"),
        pytest.param(events(follows="s3"), None, id="in a circle"),
        pytest.param(
            [event(3), event(2), event(1, follows=None, before=None, first=True)],
            [("s1", 1), ("s2", 2), ("s3", 3)],
            id="short",
        ),
        pytest.param(
            [event(3), event(2, follows=None, before=None, first=True), event(1), event(0)],
            None,
            id="begun a second time",
        ),
        pytest.param([*events(), event(1, state_id="later", occurred=at(9))], ALL, id="entered another state since"),
        pytest.param(
            [event(3), event(2), event(1, run_id="other"), event(0)], ALL, id="by links, whatever run is named"
        ),
    ],
)
def test_chain_goes_back_to_the_first_state(told: list[StateEvent], expected: list[tuple[str, int]] | None) -> None:
    assert numbers(find(told)) == expected


def test_chain_ends_at_a_state_that_the_warehouse_has() -> None:
    chain = find([event(3), event(2)], {"s1": Place(2, at(1))})
    assert numbers(chain) == [("s2", 3), ("s3", 4)]
    assert chain is not None
    assert chain.ids == {"s1", "s2", "s3"}


def test_chain_from_a_first_state_is_not_whole_where_there_were_states_before() -> None:
    assert Chains(events(), {}, {RUN: 4}).find(RUN, "s3", None, born_with=False) is None
    assert find(events(), begun_again=True) is None
    # one that ends at what the warehouse has goes on from there
    assert numbers(find(events()[:2], {"s1": Place(2, at(1))}, begun_again=True)) == [("s2", 3), ("s3", 4)]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(Place(None, at(1)), id="loaded before there were numbers"),
        pytest.param(Place(2, at(5)), id="later than what follows it"),
    ],
)
def test_state_that_cannot_be_counted_from_ends_no_chain(place: Place) -> None:
    assert find([event(3), event(2)], {"s1": place}) is None


def test_times_that_disagree_with_the_order_make_no_chain() -> None:
    late = {**state(2), "timestamp": at(9).isoformat()}
    assert find(events(state=late)) is None


def test_state_in_the_run_s_row_serves_for_the_present_one() -> None:
    told = {**state(3), "message": "from the row"}
    chain = find([event(3, state=None), event(2), event(1), event(0)], present=told)
    assert numbers(chain) == ALL
    assert chain is not None
    assert chain.states[-1]["message"] == "from the row"


def test_run_in_the_state_it_was_made_in_needs_no_event() -> None:
    assert numbers(find([], present=state(3), born_with=True)) == [("s3", 1)]
    assert find([], present=state(3)) is None


API_EVENT: dict[str, Any] = {
    "id": "s1",
    "occurred": "2026-03-01T00:00:01Z",
    "follows": "s0",
    "resource": {
        "prefect.resource.id": "prefect.task-run.run",
        "prefect.state-type": "RUNNING",
        "prefect.state-name": "Running",
    },
    "payload": {
        "intended": {"from": "PENDING", "to": "RUNNING"},
        "initial_state": {"type": "PENDING", "name": "Pending", "message": "", "state_details": {}},
        "validated_state": {
            "type": "RUNNING",
            "name": "Running",
            "message": "",
            "state_details": {"untrackable_result": True},
            "data": None,
        },
        "task_run": {},
    },
}


def test_event_of_a_task_run_tells_the_whole_state() -> None:
    told = state_event(API_EVENT)
    assert told is not None
    assert (told.kind, told.run_id, told.before) == ("prefect.task-run", "run", ("PENDING", "Pending"))
    assert told.state == {
        "id": "s1",
        "type": "RUNNING",
        "name": "Running",
        "timestamp": "2026-03-01T00:00:01Z",
        "message": "",
        "state_details": {"deferred": False, "untrackable_result": True, "pause_reschedule": False},
    }


def test_event_that_leaves_out_where_it_comes_from_is_no_first_one() -> None:
    payload = {"validated_state": API_EVENT["payload"]["validated_state"], "task_run": {}}
    told = state_event({**API_EVENT, "follows": None, "payload": payload})
    first = state_event({**API_EVENT, "follows": None, "payload": {**payload, "intended": {"from": None}}})
    assert told is not None
    assert first is not None
    assert (told.first, first.first) == (False, True)


def test_first_state_of_a_background_task_has_the_message_that_the_server_gave_it() -> None:
    """Its client tells of it with an empty one, after the server made it without."""
    scheduled = {**API_EVENT["payload"]["validated_state"], "type": "SCHEDULED", "name": "Scheduled"}
    payload = {"validated_state": scheduled, "task_run": {}, "intended": {"from": None}}
    told = state_event({**API_EVENT, "follows": None, "payload": payload})
    assert told is not None
    assert told.state is not None
    assert told.state["message"] is None


def test_event_of_a_flow_run_tells_no_details() -> None:
    payload = {name: value for name, value in API_EVENT["payload"].items() if name != "task_run"}
    told = state_event({**API_EVENT, "payload": payload})
    assert told is not None
    assert told.state is None


def test_event_of_no_state_tells_nothing() -> None:
    assert state_event({**API_EVENT, "resource": {"prefect.resource.id": "prefect.task-run.run"}}) is None
