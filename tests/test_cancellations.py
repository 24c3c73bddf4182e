"""Whether a flow run was cancelled is not taken from what was read of it while it could still be."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from prefect_runs.cancellations import Cancellations
from prefect_runs.chains import StateEvent
from prefect_runs.outcome import Outcome
from prefect_runs.windows import Window

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def cancelled(run_id: str) -> StateEvent:
    return StateEvent("prefect.flow-run", "e", run_id, NOW, None, None, False, "CANCELLED", "Cancelled", None)


def test_flow_run_that_was_in_flight_is_asked_for_again() -> None:
    asked: list[set[str]] = []

    def told(ids: Collection[str], window: Window) -> list[StateEvent]:
        asked.append(set(ids))
        return [cancelled(run_id) for run_id in ids]

    cancellations = Cancellations(None, told)
    running, completed = {"type": "RUNNING"}, {"type": "COMPLETED"}
    cancellations.note([("in flight", running), ("ended", running), ("ended", completed), ("again", completed)])
    # a retry
    cancellations.note([("again", running)])
    of_window = Window(NOW - timedelta(hours=1), NOW)
    outcome = Outcome(in_windows=True)
    assert cancellations.among({"in flight", "ended", "again"}, outcome, of_window) == {"in flight", "again"}
    assert asked == [{"in flight", "again"}]
