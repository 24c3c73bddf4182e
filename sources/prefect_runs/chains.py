"""Chains of states: what run rows and events told of a run, linked from its present state back. Pure: no I/O, no clock.

An event names the state before its own (`follows`), unless more than five minutes lay between; then it still tells
what that state was. A chain that reaches the run's first state, or one that the warehouse has, is a whole history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from .clock import parse
from .paging import Row

# what a state's details hold when nothing else was said; events leave it out
UNSAID = {"deferred": False, "untrackable_result": False, "pause_reschedule": False}


class Place(NamedTuple):
    """Where a state stands in the history of its run; no number where it was loaded before there were any."""

    sequence: int | None
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class StateEvent:
    """That a run entered a state.

    `follows` is the id of the state before, where the event names it; `before` is its type and name, where it tells
    them; `first` says that there was none; `run_count` how often the run had been started; `state` is the whole state,
    where the event tells it (task runs). `flow_run_id` is the task run's flow run, `task_run_id` the task run that
    stands for a subflow in its parent.
    """

    kind: str
    state_id: str
    run_id: str
    occurred: datetime
    follows: str | None
    before: tuple[str, str | None] | None
    first: bool
    type: str
    name: str | None
    state: Row | None
    run_count: int | None = None
    flow_run_id: str | None = None
    task_run_id: str | None = None


def state_event(event: Row, texts: dict[str, str] | None = None) -> StateEvent | None:
    """The API's event, shaped; None where it tells of no state.

    Args:
        texts: those of the events that were shaped before, which name each other and the same few types: what is equal
            is then once in memory.
    """
    once = partial(_once, {} if texts is None else texts)
    resource, payload = event["resource"], event.get("payload") or {}
    kind, _, run_id = resource["prefect.resource.id"].rpartition(".")
    if "prefect.state-type" not in resource:
        return None
    occurred = parse(event["occurred"])
    initial = payload.get("initial_state") or {}
    from_type = (payload.get("intended") or {}).get("from") or initial.get("type")
    run_count = resource.get("prefect.run-count")
    of_task_run = "task_run" in payload
    # said, and not merely left out
    is_first = "intended" in payload and from_type is None and event.get("follows") is None
    return StateEvent(
        once(kind),
        once(event["id"]),
        once(run_id),
        occurred,
        once(event.get("follows")),
        (once(from_type), once(initial.get("name"))) if from_type else None,
        is_first,
        once(resource["prefect.state-type"]),
        once(resource.get("prefect.state-name")),
        _state(event, payload, once, is_first) if of_task_run else None,
        int(run_count) if run_count and run_count.isdecimal() else None,
        once(_related(event, "flow-run")) if of_task_run else None,
        None if of_task_run else once(_related(event, "task-run")),
    )


def _once(texts: dict[str, str], text: Any) -> Any:
    return texts.setdefault(text, text) if isinstance(text, str) else text


def _related(event: Row, role: str) -> str | None:
    """The id of what has this role among what an event names as related."""
    for resource in event.get("related") or ():
        if resource.get("prefect.resource.role") == role:
            return str(resource["prefect.resource.id"]).rpartition(".")[2]
    return None


def _state(event: Row, payload: Row, once: Callable[[Any], Any], is_first: bool) -> Row | None:
    told = payload.get("validated_state") or {}
    if not {"type", "name", "state_details"} <= told.keys():
        return None
    # of a background task the server made the state itself, without a message, before the client told of it
    made_by_server = is_first and told["type"] == "SCHEDULED"
    return {
        "id": once(event["id"]),
        "type": once(told["type"]),
        "name": once(told["name"]),
        "timestamp": event["occurred"],
        "message": (told.get("message") or None) if made_by_server else told.get("message"),
        "state_details": {**UNSAID, **told["state_details"]},
    }


@dataclass(frozen=True)
class Chain:
    """The states of a run that the warehouse lacks, oldest first, each with its number in the run."""

    states: list[Row]
    ids: frozenset[str]


class Chains:
    """Looks histories up in events and in what the warehouse has.

    Args:
        events: state events of one kind of run, any order, each once or more.
        places: state id → where it stands, of states in the warehouse.
        last: run id → the highest number of its states in the warehouse.
    """

    def __init__(
        self, events: Iterable[StateEvent], places: Mapping[str, Place], last: Mapping[str, int] | None = None
    ) -> None:
        self._events = {event.state_id: event for event in events}
        self._places = places
        self._last = last or {}
        self._of_run: dict[str, list[StateEvent]] = {}
        for event in self._events.values():
            self._of_run.setdefault(event.run_id, []).append(event)

    def find(
        self, run_id: str, state_id: str, present: Row | None, born_with: bool, begun_again: bool = False
    ) -> Chain | None:
        """The history of a run that ends in the state `state_id`; None where not all of it was told.

        Args:
            present: that state, where the run's row told it.
            born_with: whether the run was made in that state.
            begun_again: whether the run may have had states before one that says it is the first.
        """
        states: list[Row] = []
        base = 0
        ids = {state_id}
        while (place := self._places.get(state_id)) is None:
            event = self._events.get(state_id)
            state = present if present is not None and present["id"] == state_id else event.state if event else None
            if state is None:
                return None
            states.append(state)
            if born_with and len(states) == 1:
                break
            if event is None:
                return None
            if event.first:
                break
            before = event.follows or self._before(run_id, event)
            if before is None or before in ids:
                return None
            ids.add(before)
            state_id = before
        else:
            # a client follows the last state that it knows of, and the server may have set another since
            if place.sequence is None or place.sequence != self._last.get(run_id, place.sequence):
                return None
            base = place.sequence
        states.reverse()
        if not _ascending(states, place.timestamp if place else None):
            return None
        if place is None and (begun_again or self._has_earlier(run_id, ids, states[-1])):
            return None
        numbered = [{**state, "sequence": base + number} for number, state in enumerate(states, 1)]
        return Chain(numbered, frozenset(ids))

    def _has_earlier(self, run_id: str, ids: set[str], last: Row) -> bool:
        """Whether the run had states before `last` that are not among `ids`: what runs twice begins twice."""
        if run_id in self._last:
            return True
        until = parse(last["timestamp"])
        return any(event.occurred < until and event.state_id not in ids for event in self._of_run.get(run_id, ()))

    def _before(self, run_id: str, event: StateEvent) -> str | None:
        """The run's last state before `event`, if it is the one that the event comes from."""
        earlier = [other for other in self._of_run.get(run_id, ()) if other.occurred < event.occurred]
        last = max(earlier, key=lambda other: other.occurred, default=None)
        if last is None or (last.type, last.name) != event.before or not _is_next(last, event):
            return None
        return last.state_id


def _is_next(before: StateEvent, event: StateEvent) -> bool:
    """Whether the run was not started between two events, as far as they tell: one that is missing may look alike."""
    if before.run_count is None or event.run_count is None:
        return True
    return event.run_count == before.run_count + (event.type == "RUNNING")


def _ascending(states: list[Row], after: datetime | None) -> bool:
    """Whether the states' times agree with their order, so that numbers given later agree with these."""
    times = [parse(state["timestamp"]) for state in states]
    return all(a < b for a, b in zip([after, *times] if after else times, times if after else times[1:], strict=False))
