"""A sync after a long pause: in parts that are loaded one by one, and the copy is as true as after one reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import pytest
from conftest import SHORT_LOOKBACK_SECONDS, Copy, server_before
from fault_proxy import FaultProxy, unauthorized
from prefect_api import PrefectApi, now, scheduled, seconds
from soundness import unsound
from test_retention import set_back

import prefect_runs.events
import prefect_runs.late_sync
from prefect_runs import ConfigurationError
from prefect_runs.client import PrefectClient
from prefect_runs.clock import as_utc, text
from prefect_runs.credentials import PrefectCredentials
from prefect_runs.event_ledger import EventLedger
from prefect_runs.events import EventFeed
from prefect_runs.progress import Plan
from prefect_runs.recent_events import RecentEvents
from prefect_runs.retention import Retention
from prefect_runs.run_reader import FLOW_RUN
from prefect_runs.tally import Tally
from prefect_runs.told_histories import EVENTS_A_PAGE
from prefect_runs.windows import Window
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.status import status as shown_status

RUNS = ("flow_runs", "task_runs")
CHUNK = 2
# of both kinds together
RUNS_A_PART = 2 * CHUNK

in_parts_only = pytest.mark.skipif(
    server_before("3.6.22"), reason="the server cannot count task runs by their end, so nothing is cut into parts"
)


@dataclass
class Before:
    """Runs that a copy has before the pause, and that change in it."""

    api: PrefectApi
    ends: str
    task_ends: str
    is_retried: str
    is_forced: str
    is_deleted: str
    is_cancelled: str

    @classmethod
    def of(cls, api: PrefectApi) -> Before:
        ended = [api.flow_run("PENDING") for _ in range(2)]
        for run_id in ended:
            api.set_flow_run(run_id, "RUNNING")
            api.set_flow_run(run_id, "FAILED")
        running, other = (api.flow_run("RUNNING") for _ in range(2))
        task_run = api.task_run("RUNNING", flow_run_id=running)
        return cls(api, running, task_run, *ended, other, api.flow_run(scheduled(now() + timedelta(minutes=20))))

    def change(self) -> None:
        """Each in its way, with other runs between them."""
        api = self.api
        some_end(api, 6)
        api.set_flow_run(self.is_retried, scheduled(now(), "AwaitingRetry"), force=True)
        some_end(api, 6)
        api.set_task_run(self.task_ends, "FAILED")
        api.set_flow_run(self.ends, "COMPLETED")
        api.call("DELETE", f"/flow_runs/{self.is_deleted}")
        some_end(api, 6)
        api.set_flow_run(self.is_forced, "COMPLETED/Fixed by hand", force=True)
        api.set_flow_run(self.is_cancelled, "CANCELLED", force=True)
        some_end(api, 6)
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            api.set_flow_run(self.is_retried, state)
        api.flow_run("RUNNING")
        api.task_run("PENDING")
        api.flow_run(scheduled(now() + timedelta(minutes=30)))


def some_end(api: PrefectApi, number: int) -> set[str]:
    """So many runs begin and end: flow runs and task runs in turns; their ids."""
    flow_runs, task_runs = set(), set()
    for _ in range(number // 2):
        flow_run, task_run = api.flow_run(None, tags=["p", "q"]), api.task_run("PENDING")
        api.complete_flow_run(flow_run)
        for state in ("RUNNING", "COMPLETED"):
            api.set_task_run(task_run, state)
        flow_runs.add(flow_run)
        task_runs.add(task_run)
    # a sync that meets few events takes the pause for a short one, and a busy server writes them in any order
    for run_id in flow_runs:
        api.wait_for_event_of("flow_runs", run_id)
    return flow_runs | task_runs


def ceilings(copy: Copy) -> list[datetime]:
    """The ceiling of each load so far."""
    return [as_utc(end) for end in copy.values("SELECT window_end FROM prefect.syncs ORDER BY _dlt_load_id")]


@in_parts_only
def test_every_kind_of_change_in_a_pause(copy: Copy, api: PrefectApi) -> None:
    before = Before.of(api)
    copy.sync_and_compare()
    copy.outlive_lookback()
    before.change()
    copy.settings["chunk_rows"] = CHUNK
    earlier = ceilings(copy)
    report = copy.sync()
    copy.assert_true()
    parts = ceilings(copy)[len(earlier) :]
    assert len(parts) >= 24 // RUNS_A_PART
    assert [*earlier, *parts] == sorted({*earlier, *parts})
    assert report.whole
    assert report.gaps == []
    assert report.window_start == earlier[-1] - seconds(SHORT_LOOKBACK_SECONDS)
    assert report.window_end == parts[-1]
    assert copy.values("SELECT id FROM prefect.tombstones") == [before.is_deleted]
    assert unsound(copy.warehouse) == []
    assert copy.verify(sweep=True).whole
    so_far = len(ceilings(copy))
    report = copy.sync()
    assert len(ceilings(copy)) == so_far + 1
    assert report.changed["flow_runs"] == report.new["flow_runs"] == 0


@in_parts_only
def test_part_that_fails_is_read_by_the_next_sync(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    before = Before.of(api)
    copy.url = proxy.url
    copy.sync_and_compare()
    copy.outlive_lookback()
    before.change()
    copy.settings["chunk_rows"] = CHUNK
    so_far = len(ceilings(copy))
    proxy.inject(unauthorized(), "/admin/version", times=None, after=2)
    with pytest.raises(ConfigurationError):
        copy.sync()
    assert len(ceilings(copy)) == so_far + 2
    shown = shown_status(copy.sync_options())
    assert not shown.first_load_unfinished
    assert "changes up to" in shown.syncs[0]["gaps"][0]
    proxy.clear()
    # what is left to read is no drift
    assert copy.verify().whole
    assert copy.sync().whole
    copy.assert_true()
    assert unsound(copy.warehouse) == []


@in_parts_only
def test_parts_where_most_runs_are_deleted(copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their events are read all the same."""
    copy.sync()
    copy.outlive_lookback()
    for _ in range(10):
        run_id = api.flow_run(None)
        api.complete_flow_run(run_id)
        api.call("DELETE", f"/flow_runs/{run_id}")
    api.wait_for_event_of("flow_runs", api.flow_run("RUNNING"))
    api.outlive_its_second()
    copy.settings["chunk_rows"] = CHUNK
    monkeypatch.setattr(prefect_runs.late_sync, "EVENTS_A_PART", 10)
    so_far = len(ceilings(copy))
    copy.sync_and_compare()
    assert len(ceilings(copy)) > so_far + 2


@in_parts_only
def test_long_pause_is_told_once(copy: Copy, api: PrefectApi) -> None:
    copy.settings.update(chunk_rows=CHUNK, runs_kept_days=3.0, events_kept_days=3.0)
    some_end(api, 4)
    copy.sync()
    some_end(api, 12)
    api.outlive_its_second()
    # a first load in chunks leaves the kinds of run at different watermarks
    set_back(copy, timedelta(days=9), apart=seconds(3))
    so_far = len(ceilings(copy))
    report = copy.sync()
    copy.assert_true()
    assert len(ceilings(copy)) > so_far + 1
    assert [warning for warning in report.warnings if "last sync" in warning] == report.warnings
    assert len(report.warnings) == 2
    assert len([gap for gap in report.gaps if "may be lost" in gap]) == 1
    assert not any("sync again" in gap for gap in report.gaps)


@in_parts_only
def test_one_load_where_few_runs_ended(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    """And it costs no request that it did not cost before."""
    copy.url = proxy.url
    copy.settings["chunk_rows"] = CHUNK
    copy.sync()
    some_end(api, CHUNK)
    proxy.requests.clear()
    so_far = len(ceilings(copy))
    copy.sync_and_compare()
    assert len(ceilings(copy)) == so_far + 1
    assert not [
        request
        for request in proxy.requests
        if request.path in ("/flow_runs/count", "/task_runs/count")
        and "end_time" in request.body[request.path.strip("/").partition("/")[0]]
    ]


def test_server_counts_some_hundred_events_at_a_time(
    api: PrefectApi, server: LocalServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every page it counts all events of the window that it is asked for, however long that is."""
    since = now()
    some_end(api, 80)
    last = api.flow_run("RUNNING")
    api.wait_for_event_of("flow_runs", last)
    window = Window(since - timedelta(days=3), now() + timedelta(hours=1))
    client = PrefectClient(PrefectCredentials(api_url=proxy.url).connection())
    # more than the server has of all tests before
    monkeypatch.setattr(prefect_runs.events, "COUNTED", 1_000_000)
    in_one = EventFeed(client, ["prefect.flow-run."]).read(window)
    assert len(in_one.states) > 2 * EVENTS_A_PAGE
    windows = [request.body["filter"]["occurred"] for request in proxy.requests]
    assert {asked["until"] for asked in windows} == {text(window.last)}

    proxy.requests.clear()
    monkeypatch.setattr(prefect_runs.events, "COUNTED", 10)
    feed = EventFeed(client, ["prefect.flow-run."])
    assert sorted(feed.read(window).states, key=str) == sorted(in_one.states, key=str)
    after_the_first = [request.body["filter"]["occurred"] for request in proxy.requests[1:]]
    counted = [feed.total(Window(as_utc(asked["since"]), as_utc(asked["until"]))) for asked in after_the_first]
    # some hold more: after a pause in which nothing happened the next one is longer
    assert median(counted) < 20
    assert len(counted) < len(in_one.states) / 2


@in_parts_only
def test_what_the_warehouse_has_already_is_not_asked_for_by_id(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    """As after a backfill, or a first load that took long."""
    ended = some_end(api, 24)
    api.outlive_its_second()
    copy.url = proxy.url
    copy.settings["chunk_rows"] = CHUNK
    copy.sync()
    assert ended <= {id_ for kind in RUNS for id_ in copy.values(f"SELECT id FROM prefect.{kind}")}
    set_back(copy, timedelta(hours=1))
    proxy.requests.clear()
    so_far = len(ceilings(copy))
    copy.sync_and_compare()
    assert len(ceilings(copy)) > so_far + 24 // RUNS_A_PART - 1
    conditions = [request.body.get(kind, {}) for request in proxy.requests if request.body for kind in RUNS]
    asked = {id_ for condition in conditions for id_ in condition.get("id", {}).get("any_", ())}
    # the hour has runs of other tests too: deleted ones, of which events tell, are asked for rightly
    assert not asked & ended


def test_lost_events_are_named_up_to_the_end_of_each_part(server: LocalServer) -> None:
    """A server that no longer has them says that there are none, as the ledger of a quiet time does."""
    lookback, start = timedelta(minutes=10), now() - timedelta(days=12)
    quiet = EventLedger.of(Window(start - 3 * lookback, start), lookback, [])
    feed = EventFeed(PrefectClient(PrefectCredentials(api_url=server.url).connection()), ["prefect.flow-run."])
    tally = Tally()
    retention = Retention(None, timedelta(days=7))
    events = RecentEvents(feed, FLOW_RUN, lookback, timedelta(days=1), lambda: retention, tally)
    ceiling = start + timedelta(days=2)
    plan = Plan(ceiling, start, start - lookback, rest=Window(ceiling, now()))
    assert events.read(plan, {"events": quiet.state()})[0] == []
    [gap] = tally.gaps
    assert f"between {text(start - lookback)} and {text(ceiling)}" in gap
