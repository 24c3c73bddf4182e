"""Runs that a real server stores and cannot write in a page: a sync goes on, with them or with a named gap."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any, cast

import pytest
import requests
from comparison import differences
from conftest import DATABASE, IMPATIENT, VERSION, Copy
from fault_proxy import FaultProxy, status
from prefect_api import PrefectApi, Row

from prefect_runs import ServerUnavailable
from prefect_runs.client import PrefectClient
from prefect_runs.exceptions import ServerFailed
from prefect_runs.paging import Page, overlapping, same_end
from prefect_runs.rescue import NO_RUN, UNREADABLE_RUNS, RunPages
from prefect_runs_pipelines.local.server import LocalServer, local_server

ATTEMPTS = 3
# the first integer that orjson, with which the server writes pages of flow runs, refuses
LARGE = 2**64


def storable(value: Any) -> Any:
    """A value of the server's as the warehouse has it: the integers that dlt cannot hold are text."""
    if isinstance(value, dict):
        return {key: storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    return str(value) if isinstance(value, int) and abs(value) >= LARGE else value


class Runs(PrefectApi):
    """Makes runs of which some cannot be read in pages, and reads all that it made one by one."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.made: list[tuple[str, str]] = []
        self.unreadable: list[tuple[str, str]] = []

    def make(self, kind: str, state: Row | str, **fields: Any) -> str:
        """Id of a new run, for deleting and comparing."""
        run_id = self.flow_run(state, **fields) if kind == "flow_runs" else self.task_run(state, **fields)
        self.made.append((kind, run_id))
        return run_id

    def make_infinite(self, kind: str) -> str:
        """Id of a new run with a label that the server takes and can write nowhere."""
        body = {"state": {"type": "RUNNING", "name": "Running"}, "labels": {"ratio": math.inf}}
        own = {"flow_id": self.flow()} if kind == "flow_runs" else {"task_key": "a", "dynamic_key": uuid.uuid4().hex}
        headers = {"Content-Type": "application/json"}
        # on connections of their own, for the server closes one after a 500
        for _ in range(20):
            reply = requests.post(f"{self.url}/{kind}/", json.dumps({**body, **own}), headers=headers, timeout=60)
            if reply.status_code != 503:
                break
            time.sleep(0.3)
        assert reply.status_code == 201, reply.text
        run_id = str(reply.json()["id"])
        self.unreadable.append((kind, run_id))
        assert requests.get(f"{self.url}/{kind}/{run_id}", timeout=60).status_code == 500
        return run_id

    def runs(self, kind: str, since: datetime) -> list[Row]:
        """All runs of `kind` that were made, as they are to be loaded."""
        return [
            {name: storable(value) for name, value in self.call("GET", f"/{kind}/{run_id}").items()}
            for made_as, run_id in self.made
            if made_as == kind
        ]

    def delete_unreadable(self) -> None:
        """Delete the runs that no route can write."""
        while self.unreadable:
            kind, run_id = self.unreadable.pop()
            self.call("DELETE", f"/{kind}/{run_id}")

    def delete_all(self) -> None:
        """Delete every run that was made."""
        self.delete_unreadable()
        while self.made:
            kind, run_id = self.made.pop()
            self.call("DELETE", f"/{kind}/{run_id}")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", str(ATTEMPTS))
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.01")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """One without other runs, of which some would be in the pages that are counted here."""
    with local_server(VERSION, IMPATIENT, DATABASE) as running:
        yield running


@pytest.fixture
def runs(server: LocalServer, copy: Copy) -> Iterator[Runs]:
    made = Runs(server.url)
    copy.api = made
    yield made
    # nobody else could read a page of this server
    made.delete_all()
    made.close()


@pytest.fixture
def proxy(server: LocalServer, copy: Copy) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        copy.url = running.url
        yield running


def failed(proxy: FaultProxy) -> int:
    """How many requests were answered with 500."""
    return sum(request.status == 500 for request in proxy.requests)


class TestIntegersBeyond64Bits:
    @pytest.mark.parametrize("large", [1, 6], ids=["one run", "half of the runs"])
    def test_first_load_and_later_syncs(self, copy: Copy, runs: Runs, proxy: FaultProxy, large: int) -> None:
        self.make(runs, large)
        report = copy.sync_and_compare()
        assert report.whole
        assert failed(proxy) <= 1 + 6 * large
        # a later sync finds them among what ended and what is open
        self.make(runs, large)
        proxy.requests.clear()
        assert copy.sync_and_compare().whole
        assert failed(proxy) <= 2 * (1 + 6 * 2 * large)
        assert copy.sync_and_compare().changed["flow_runs"] == 0

    def make(self, runs: Runs, large: int) -> None:
        for number in range(12):
            run_id = runs.make("flow_runs", "RUNNING", parameters={"n": LARGE + number if number < large else number})
            runs.make("task_runs", "RUNNING", flow_run_id=run_id)
            if number % 2:
                runs.set_flow_run(run_id, "COMPLETED")

    def test_the_digits_are_kept_wherever_they_are(self, copy: Copy, runs: Runs) -> None:
        huge = -(10**40) - 1
        # pages of task runs are written in another way, and read with all digits
        runs.make("task_runs", "RUNNING", labels={"huge": huge})
        runs.make("flow_runs", "RUNNING", parameters={"list": [{"huge": huge}], "max": LARGE - 1})
        copy.sync_and_compare()
        assert copy.values("SELECT labels->>'huge' FROM prefect.task_runs") == [str(huge)]
        assert copy.values("SELECT parameters->'list'->0->>'huge' FROM prefect.flow_runs") == [str(huge)]
        assert copy.values("SELECT CAST(parameters->'max' AS UBIGINT) FROM prefect.flow_runs") == [LARGE - 1]

    def test_only_runs_with_one(self, copy: Copy, runs: Runs) -> None:
        run_id = runs.make("flow_runs", "RUNNING", parameters={"n": LARGE})
        assert copy.sync_and_compare().whole
        runs.set_flow_run(run_id, "COMPLETED")
        assert copy.sync_and_compare().whole

    def test_more_of_them_than_a_page(self, copy: Copy, runs: Runs) -> None:
        copy.settings["page_size"] = 3
        for number in range(7):
            runs.make("flow_runs", "RUNNING", parameters={"n": LARGE})
            runs.make("flow_runs", "COMPLETED", parameters={"n": number})
        for _ in range(2):
            assert copy.sync_and_compare().whole

    def test_changed_from_one_terminal_state_to_another(self, copy: Copy, runs: Runs) -> None:
        """Found by its event, and read by its id."""
        run_ids = [runs.make("flow_runs", "COMPLETED", parameters={"n": n}) for n in (1, LARGE, 2)]
        copy.sync()
        copy.outlive_lookback()
        for run_id in run_ids:
            runs.set_flow_run(run_id, "FAILED/Judged", force=True)
        assert copy.sync_and_compare().whole


class TestRunsThatNoRouteCanWrite:
    def others(self, runs: Runs, kind: str) -> None:
        for state in ("COMPLETED", "RUNNING"):
            runs.make(kind, state)

    @pytest.mark.parametrize("kind", ["flow_runs", "task_runs"])
    def test_are_named_as_gaps(self, copy: Copy, runs: Runs, kind: str) -> None:
        copy.options["resources"] = ("flow_runs", "task_runs", "task_run_states")
        if kind == "task_runs":
            copy.options["resources"] = ("task_runs", "task_run_states")
        self.others(runs, kind)
        run_id = runs.make_infinite(kind)
        self.others(runs, kind)
        first = copy.sync()
        assert not first.whole
        self.others(runs, kind)
        second = copy.sync()
        for report in (first, second):
            assert len(report.gaps) == 1
            assert kind in report.gaps[0]
        if kind == "flow_runs":
            assert run_id in second.gaps[0]
        assert len(copy.values(f"SELECT id FROM prefect.{kind}")) == 6
        runs.delete_unreadable()
        assert copy.sync().whole
        assert [what for what in differences(runs, copy.warehouse, copy.since) if "_states" not in what] == []

    def test_a_loaded_run_that_cannot_be_read_any_more_is_not_taken_for_deleted(self, copy: Copy, runs: Runs) -> None:
        run_id = runs.make("flow_runs", "RUNNING")
        self.others(runs, "flow_runs")
        copy.sync_and_compare()
        labels = json.dumps({"ratio": math.inf})
        url = f"{runs.url}/flow_runs/{run_id}/labels"
        assert requests.patch(url, labels, headers={"Content-Type": "application/json"}, timeout=60).ok
        for _ in range(2):
            report = copy.sync()
            assert [run_id in gap for gap in report.gaps] == [True]
        assert report.rows["tombstones"] == 0

    def test_without_a_list_of_ids(self, copy: Copy, runs: Runs, proxy: FaultProxy) -> None:
        """As on Prefect Cloud, perhaps: the run cannot be told by its id, and the sync goes on without it."""
        proxy.inject(status(404), "/ui/*", times=None)
        self.others(runs, "flow_runs")
        runs.make("flow_runs", "RUNNING", parameters={"n": LARGE})
        self.others(runs, "flow_runs")
        report = copy.sync()
        assert not report.whole
        assert "flow_runs: the first 1 of " in report.gaps[0]
        assert report.new["flow_runs"] == 4

    def test_too_many_of_them(self, copy: Copy, runs: Runs, proxy: FaultProxy) -> None:
        for _ in range(UNREADABLE_RUNS + 2):
            runs.make_infinite("flow_runs")
        with pytest.raises(ServerUnavailable):
            copy.sync(resources=("flow_runs",))
        # the page, before and after; the runs themselves; and the halves of the page that lead to them
        assert failed(proxy) <= (1 + ATTEMPTS) + (UNREADABLE_RUNS + 1) * (ATTEMPTS + math.log2(UNREADABLE_RUNS + 2) + 1)


class TestHistoriesThatTheServerCannotWrite:
    def refuse(self, proxy: FaultProxy, *run_ids: str) -> None:
        proxy.inject(
            status(500), "/flow_run_states", times=None, when=lambda request: request.query["flow_run_id"] in run_ids
        )

    def test_are_named_as_gaps_until_it_can(self, copy: Copy, runs: Runs, proxy: FaultProxy) -> None:
        run_ids = [runs.make("flow_runs", "RUNNING") for _ in range(3)]
        self.refuse(proxy, run_ids[1])
        [gap] = copy.sync().gaps
        assert gap.startswith(f"flow_run_states: those of run {run_ids[1]} are not loaded")
        assert set(copy.values("SELECT flow_run_id FROM prefect.flow_run_states")) == {run_ids[0], run_ids[2]}
        report = copy.verify(histories=True)
        assert not report.whole
        assert [run_ids[1] in gap for gap in report.passes[0].gaps] == [True]
        proxy.clear()
        assert copy.sync_and_compare().whole

    @pytest.mark.parametrize("unreadable", ["history", "row"])
    def test_nothing_is_proven_of_them_by_a_repair_of_others(
        self, copy: Copy, runs: Runs, proxy: FaultProxy, unreadable: str
    ) -> None:
        run_ids = [runs.make("flow_runs", "RUNNING") for _ in range(3)]
        copy.sync()
        if unreadable == "history":
            self.refuse(proxy, run_ids[1])
        else:
            runs.make_infinite("flow_runs")
            assert not copy.sync().whole
        report = copy.verify(histories=True)
        assert (report.whole, len(report.passes[0].gaps)) == (False, 1)
        copy.change(f"UPDATE prefect.flow_runs SET state_name = 'Odd' WHERE id = '{run_ids[0]}'")
        report = copy.verify(histories=True, repair=True)
        assert [len(done.gaps) for done in report.passes] == [1, 1]
        assert not report.whole

    def test_too_many_of_them(self, copy: Copy, runs: Runs, proxy: FaultProxy) -> None:
        self.refuse(proxy, *(runs.make("flow_runs", "RUNNING") for _ in range(UNREADABLE_RUNS + 1)))
        with pytest.raises(ServerUnavailable):
            copy.sync()
        proxy.clear()
        assert copy.sync_and_compare().whole


class TestBrokenServer:
    @pytest.mark.parametrize("path", [None, "/flow_runs/filter"])
    def test_500_to_everything_is_not_asked_row_by_row(
        self, copy: Copy, runs: Runs, proxy: FaultProxy, path: str | None
    ) -> None:
        for number in range(5):
            runs.make("flow_runs", "RUNNING", parameters={"n": number})
        copy.sync(resources=("flow_runs",))
        proxy.requests.clear()
        proxy.inject(status(500), path, after=1, times=None)
        with pytest.raises(ServerUnavailable, match="answered 500"):
            copy.sync(resources=("flow_runs",))
        # where all fails it is the count of events that fails first, of which nothing is asked by itself
        least = ATTEMPTS if path is None else ATTEMPTS + 1
        assert least <= failed(proxy) <= ATTEMPTS + 2
        proxy.clear()
        copy.sync_and_compare()

    def test_500_to_every_page_with_rows(self, copy: Copy, runs: Runs, proxy: FaultProxy) -> None:
        for number in range(40):
            runs.make("flow_runs", "RUNNING", parameters={"n": number})
        empty = {"id": {"any_": [NO_RUN]}}
        proxy.inject(status(500), "/flow_runs/filter", when=lambda asked: asked.body["flow_runs"] != empty, times=None)
        proxy.inject(status(500), "/flow_runs/????????-*", times=None)
        with pytest.raises(ServerUnavailable, match="answered 500"):
            copy.sync(resources=("flow_runs",))
        assert failed(proxy) <= 60
        proxy.clear()
        copy.sync_and_compare()

    def test_one_500_amid_a_rescue(self, copy: Copy, runs: Runs, proxy: FaultProxy) -> None:
        for number in range(4):
            runs.make("flow_runs", "RUNNING", parameters={"n": LARGE if number == 2 else number})
        for path, after in (("/ui/*", 0), ("/flow_runs/filter", 3), ("/flow_runs/????????-*", 0)):
            proxy.inject(status(500), path, after=after)
        assert copy.sync_and_compare().whole
        assert sum(request.fault is not None for request in proxy.requests) == 3


@pytest.mark.parametrize("place", [0, 1, 7, 8, 28, 29])
def test_a_run_that_cannot_be_written_in_a_list_by_offset(place: int) -> None:
    """As task runs that ended are listed by servers before 3.6.22."""
    task_runs = [{"id": str(number), "end_time": f"2026-01-01T00:00:{number:02}Z"} for number in range(30)]

    class Client:
        page_size = 8

        def page(self, path: str, asked: Row, limit: int | None = None, once: bool = False) -> Page:
            offset, size = asked.get("offset"), limit or self.page_size
            rows = [] if offset is None else task_runs[offset : offset + size]
            if task_runs[place] in rows:
                raise ServerFailed("it holds an infinite number")
            return Page(rows, full=len(rows) == size)

    pages = RunPages(cast("PrefectClient", Client()), "task_runs")
    read = chain.from_iterable(overlapping(lambda offset: pages.read({"offset": offset}, None), same_end))
    assert list(read) == [row for row in task_runs if row is not task_runs[place]]
    assert len(pages.gaps) == 1
