"""Verify reads few runs at once, whatever differs and how many; what one side lacks altogether is hardly read."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import prefect_runs.verify
from prefect_runs.drift import Verification
from prefect_runs.holdings import Held
from prefect_runs.settings import HISTORY_INTERVALS, ROWS_PER_WINDOW
from prefect_runs.verify import RUNS_PER_INTERVAL, Verify
from prefect_runs.windows import Window

START = datetime(2026, 1, 1, tzinfo=UTC)
WHOLE = Window(START, START + timedelta(days=2))
PAGE = 200
RUNS = 10_000
# seconds after START when runs are expected
SPREAD = [number * 172_800 / RUNS for number in range(RUNS)]
IN_AN_HOUR = [*SPREAD[:500], *(86_400 + number * 3600 / RUNS for number in range(RUNS))]
IN_A_SECOND = [*SPREAD[:500], *(86_400 + number / RUNS for number in range(RUNS))]
AT_ONCE = [86_400.5] * 2000


def runs(seconds: list[float], state: str = "Completed") -> list[Held]:
    """A run for each of `seconds`."""
    times = [START + timedelta(seconds=second) for second in seconds]
    known = ("COMPLETED", state, state, START, START, START)
    return [Held(str(number), time, *known) for number, time in enumerate(times)]


class Side:
    """The runs of one side, in the order of their expected start; notes how many were read at once."""

    def __init__(self, held: Iterable[Held]) -> None:
        self.all = sorted(held, key=lambda run: run.expected_start_time)
        self.read: list[int] = []
        self._times = [run.expected_start_time for run in self.all]

    def expected_in(self, window: Window) -> list[Held]:
        return self.all[bisect_left(self._times, window.start) : bisect_left(self._times, window.end)]

    def read_in(self, window: Window) -> list[Held]:
        found = self.expected_in(window)
        self.read.append(len(found))
        return found


class Server(Side):
    """Stands in for the reader of a server's runs; counts the requests."""

    kind = SimpleNamespace(name="task_runs")
    client = SimpleNamespace(connections=2)
    state_types = None
    unreadable: Collection[str] = ()
    requests = 0

    def count(self, window: Window) -> int:
        self.requests += 1
        return len(self.expected_in(window))

    def history(self, window: Window, step: timedelta) -> list[dict[str, Any]]:
        self.requests += 1
        parts = list(window.parts(step))
        assert len(parts) <= HISTORY_INTERVALS
        counts = [Counter((run.state_type, run.state_name) for run in self.expected_in(part)) for part in parts]
        return [
            {"states": [{"state_type": type_, "state_name": name, "count_runs": of[type_, name]} for type_, name in of]}
            for of in counts
        ]

    def expected(self, window: Window) -> list[list[dict[str, Any]]]:
        found = self.read_in(window)
        self.requests += len(found) // PAGE + 1
        return [[run._asdict() for run in found]]

    def by_ids(self, ids: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
        asked = set(ids)
        self.requests += -(-len(asked) // PAGE)
        yield [run._asdict() for run in self.all if run.id in asked]


class Warehouse(Side):
    """Stands in for what a warehouse holds."""

    def count(self, table: str, window: Window) -> int:
        return len(self.expected_in(window))

    def states(self, table: str, window: Window) -> Iterator[tuple[datetime, str | None, str | None]]:
        return ((run.expected_start_time, run.state_type, run.state_name) for run in self.expected_in(window))

    def runs(self, table: str, window: Window) -> list[Held]:
        return self.read_in(window)

    def ends(self, table: str, ids: Collection[str]) -> dict[str, datetime | None]:
        return {}


def compared(server: Any, warehouse: Any) -> Counter[str]:
    """How many runs differ, by what differs: of the runs on one side only all, counted once."""
    verify = Verify(server, server, warehouse, WHOLE.end, START, START, lambda ended: "deleted")
    drifts = list(verify._compared(WHOLE, verify._step(WHOLE), Verification("task_runs", WHOLE)))
    named = [drift.run_id for drift in drifts if drift.run_id]
    assert len(named) == len(set(named))
    return sum((Counter({drift.what: drift.runs}) for drift in drifts), Counter())


@pytest.mark.parametrize(
    ("seconds", "at_once"),
    [(SPREAD, RUNS_PER_INTERVAL), (IN_AN_HOUR, RUNS_PER_INTERVAL), (IN_A_SECOND, ROWS_PER_WINDOW), (AT_ONCE, 2000)],
    ids=["spread", "in an hour", "in a second", "in one microsecond"],
)
def test_few_runs_are_read_at_once_where_all_differ(seconds: list[float], at_once: int) -> None:
    server, warehouse = Server(runs(seconds, "Fixed")), Warehouse(runs(seconds))
    assert compared(server, warehouse) == {"changed": len(seconds)}
    assert max(server.read) <= at_once
    assert max(warehouse.read) <= at_once
    # hardly more than their pages
    assert server.requests <= 2 * len(seconds) / PAGE + 40


def test_only_what_differs_is_read_of_many_runs() -> None:
    server, warehouse = Server(runs(IN_AN_HOUR)), Warehouse(runs(IN_AN_HOUR))
    odd = warehouse.all[5000]
    warehouse.all[5000] = odd._replace(state_name="Odd")
    assert compared(server, warehouse) == {"changed": 1}
    assert sum(server.read) < 100
    assert server.requests <= 5


def test_runs_since_a_restored_backup_are_missing_as_one() -> None:
    server, warehouse = Server(runs(SPREAD)), Warehouse(runs(SPREAD[:3000], "Running"))
    found = compared(server, warehouse)
    assert found == {"missing": RUNS - 3000, "changed": 3000}
    assert max(server.read) <= RUNS_PER_INTERVAL
    assert sum(server.read) < 3000 + RUNS_PER_INTERVAL
    assert server.requests <= 2 * 3000 / PAGE + 5


def test_runs_that_a_vacuum_took_cost_a_count() -> None:
    server, warehouse = Server(runs(SPREAD)[3000:]), Warehouse(runs(SPREAD))
    assert compared(server, warehouse) == {"deleted": 3000}
    assert server.requests <= 5


@pytest.mark.parametrize("seconds", [SPREAD, IN_AN_HOUR], ids=["spread", "in an hour"])
def test_so_many_gone_runs_are_looked_at_as_the_server_counts_at_once(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_runs.verify, "RUNS_PER_HISTORY", 1000)
    server, warehouse = Server([]), Warehouse(runs(seconds))
    assert compared(server, warehouse) == {"deleted": len(seconds)}
    assert max(warehouse.read) <= 1000
    # histories of a thousand runs each, and a count for each
    assert server.requests <= 3 * len(seconds) / 1000


def test_gone_runs_among_others_are_looked_up_a_few_at_once() -> None:
    server, warehouse = Server(runs(SPREAD)[::20]), Warehouse(runs(SPREAD))
    assert compared(server, warehouse) == {"deleted": RUNS - len(server.all)}
    assert max(warehouse.read) <= RUNS_PER_INTERVAL
    assert server.requests <= 5 * RUNS / RUNS_PER_INTERVAL
