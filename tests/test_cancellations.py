"""Whether a flow run was cancelled is not taken from what was read of it while it could still be."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest

from prefect_runs.cancellations import CANCELLED, Cancellations
from prefect_runs.chains import StateEvent
from prefect_runs.filters import lets_through
from prefect_runs.outcome import Outcome
from prefect_runs.settings import RunFilters
from prefect_runs.windows import Window

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def cancelled(run_id: str) -> StateEvent:
    return StateEvent("prefect.flow-run", "e", run_id, NOW, None, None, False, "CANCELLED", "Cancelled", None)


def test_flow_run_that_was_in_flight_is_asked_for_again() -> None:
    asked: list[set[str]] = []

    def told(ids: Collection[str], window: Window) -> list[StateEvent]:
        asked.append(set(ids))
        return [cancelled(run_id) for run_id in ids]

    cancellations = Cancellations(None, told, wanted=True, states_read=lambda: True)
    running, completed = {"type": "RUNNING"}, {"type": "COMPLETED"}
    cancellations.note([("in flight", running), ("ended", running), ("ended", completed), ("again", completed)])
    # a retry
    cancellations.note([("again", running)])
    of_window = Window(NOW - timedelta(hours=1), NOW)
    outcome = Outcome(in_windows=True)
    assert cancellations.among({"in flight", "ended", "again"}, outcome, of_window) == {"in flight", "again"}
    assert asked == [{"in flight", "again"}]


def test_states_that_this_load_does_not_read_may_be_old() -> None:
    cancellations = Cancellations(None, lambda ids, _: map(cancelled, ids), wanted=True, states_read=lambda: False)
    cancellations.note([("run", {"type": "COMPLETED"})])
    assert cancellations.among({"run"}, Outcome(), Window(NOW - timedelta(hours=1), NOW)) == {"run"}


@pytest.mark.parametrize(
    ("filters", "all_of_them"),
    [
        (RunFilters(), True),
        (RunFilters(state_types=["CANCELLED", "CANCELLING", "FAILED"]), True),
        (RunFilters(exclude_state_types=["FAILED"]), True),
        (RunFilters(exclude_state_types=["CANCELLED"]), False),
        (RunFilters(state_types=["COMPLETED", "FAILED"]), False),
    ],
)
def test_states_of_flow_runs_tell_nothing_where_filters_leave_the_cancelled_ones_out(
    filters: RunFilters, all_of_them: bool
) -> None:
    """Such a run is read when it is in flight again, and its new states tell of no cancellation."""
    asked: list[set[str]] = []

    def told(ids: Collection[str], window: Window) -> list[StateEvent]:
        asked.append(set(ids))
        return [cancelled(run_id) for run_id in ids]

    cancellations = Cancellations(None, told, lets_through(filters, CANCELLED), states_read=lambda: True)
    cancellations.note([("run", {"type": "COMPLETED"})])
    outcome = Outcome(cancelled={"heard of"})
    found = cancellations.among({"run", "heard of"}, outcome, Window(NOW - timedelta(hours=1), NOW))
    assert found == ({"heard of"} if all_of_them else {"run", "heard of"})
    assert asked == [set() if all_of_them else {"run"}]
