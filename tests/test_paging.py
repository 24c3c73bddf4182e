"""Pages of rows that share a time, and rows that move while they are paged: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from comparison import differences
from conftest import IMPATIENT, Copy
from fault_proxy import FaultProxy, Recorded
from prefect_api import PrefectApi, as_state, now, scheduled, seconds

from prefect_runs.clock import parse, text
from prefect_runs.exceptions import ServerUnavailable
from prefect_runs.paging import ENDED, EXPECTED, Key, Page, Row, keyset, overlapping, same_end, ties
from prefect_runs.windows import Window, counted_windows
from prefect_runs_pipelines.local.server import LocalServer, local_server

SMALL_PAGE, LARGE_PAGE = 7, 1000
KINDS = ("flow_runs", "task_runs")
RUN_TABLES = (*KINDS, "flow_run_states", "task_run_states")
# runs that every test pages over: three small pages of them
RUNS = 20

# nothing may move but what a test moves
STILL = {**IMPATIENT, "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false"}

Read = Callable[[Recorded], bool]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server(settings={**STILL, "PREFECT_API_DEFAULT_LIMIT": str(SMALL_PAGE)}) as running:
        yield running


@pytest.fixture
def proxy(server: LocalServer, copy: Copy) -> Iterator[FaultProxy]:
    """A proxy through which `copy` reads the server."""
    with FaultProxy(server.url) as running:
        copy.url = running.url
        copy.options["resources"] = RUN_TABLES
        yield running


def new_run(api: PrefectApi, kind: str, state: Row | str, **fields: Any) -> str:
    """Id of a new run of `kind`."""
    return api.flow_run(state, **fields) if kind == "flow_runs" else api.task_run(state, **fields)


def set_run(api: PrefectApi, kind: str, run_id: str, state: Row | str) -> None:
    """Force a run into `state`."""
    body = {"state": as_state(state), "force": True}
    assert api.call("POST", f"/{kind}/{run_id}/set_state", body)["status"] == "ACCEPT"


def end_together(server: LocalServer, kind: str, ids: list[str]) -> None:
    """Let runs that ended have ended in one microsecond: there is no way to do so through the API."""
    places = ", ".join("?" * len(ids))
    database = sqlite3.connect(server.home / "prefect.db", timeout=30)
    with database:
        one = f"(SELECT max(end_time) FROM {kind[:-1]} WHERE id IN ({places}))"
        sql = f"UPDATE {kind[:-1]} SET end_time = {one} WHERE id IN ({places})"
        assert database.execute(sql, [*ids, *ids]).rowcount == len(ids)
    database.close()


def read_of(kind: str, sort: str, end_time: bool | None) -> Read:
    """Whether a request is a read of that sort; `end_time`: asks for ended runs, for open ones, or (None) for both."""

    def matches(request: Recorded) -> bool:
        if request.path != f"/{kind}/filter":
            return False
        own = request.body.get(kind, {})
        asked = None if "end_time" not in own else "is_null_" not in own["end_time"]
        return request.body["sort"] == sort and "id" not in own and asked is end_time

    return matches


def true_but_for(copy: Copy, deleted: set[str]) -> list[str]:
    """What differs, except that the warehouse still has the deleted runs and their states."""
    kept = set(deleted)
    ids = ", ".join(f"'{id_}'" for id_ in deleted)
    for one in ("flow", "task"):
        if copy.values(f"SELECT 1 FROM information_schema.tables WHERE table_name = '{one}_run_states'"):
            kept.update(copy.values(f"SELECT id FROM prefect.{one}_run_states WHERE {one}_run_id IN ({ids})"))
    forgotten = [f"{id_} is not on the server" for id_ in kept]
    return [
        what
        for what in differences(copy.api, copy.warehouse, copy.since)
        if not any(what.endswith(ending) for ending in forgotten)
    ]


def test_more_than_a_page_expected_at_one_time(copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
    time = copy.since + seconds(0.1)
    # one before and one after, so that the tie begins and ends inside a page
    for kind in KINDS:
        for offset, runs in ((-0.1, 1), (0, RUNS), (0.1, 1)):
            for _ in range(runs):
                new_run(api, kind, scheduled(time + seconds(offset)))
    report = copy.sync_and_compare()
    assert [report.rows[kind] for kind in KINDS] == [RUNS + 2] * 2
    for kind in KINDS:
        assert any(read_of(kind, "ID_DESC", None)(request) for request in proxy.requests)
    refused = [request for request in proxy.requests if request.status == 422]
    asked = [request.body.get("limit") for request in proxy.requests if request.path.endswith("/filter")]
    # 200 rows once, and then what the server named
    assert [request.body["limit"] for request in refused] == [200]
    assert {limit for limit in asked if limit} <= {1, SMALL_PAGE, 200}


def test_more_than_a_page_ended_at_one_time(
    copy: Copy, api: PrefectApi, proxy: FaultProxy, server: LocalServer
) -> None:
    copy.sync()
    for kind in KINDS:
        new_run(api, kind, "COMPLETED")
        tied = [new_run(api, kind, "FAILED") for _ in range(RUNS)]
        new_run(api, kind, "COMPLETED")
        end_together(server, kind, tied)
    report = copy.sync_and_compare()
    assert [report.new[kind] for kind in KINDS] == [RUNS + 2] * 2
    for kind in KINDS:
        assert any(read_of(kind, "ID_DESC", True)(request) for request in proxy.requests)


def _completed_and_running(api: PrefectApi, server: LocalServer, kind: str) -> list[str]:
    return [new_run(api, kind, "COMPLETED" if index % 2 else "RUNNING") for index in range(RUNS)]


def _ended(api: PrefectApi, server: LocalServer, kind: str) -> list[str]:
    # the newest end is read first
    return [new_run(api, kind, "COMPLETED") for _ in range(RUNS)][::-1]


def _running(api: PrefectApi, server: LocalServer, kind: str) -> list[str]:
    return [new_run(api, kind, "RUNNING") for _ in range(RUNS)]


def _ended_together(api: PrefectApi, server: LocalServer, kind: str) -> list[str]:
    ids = _ended(api, server, kind)
    end_together(server, kind, ids)
    return sorted(ids, reverse=True)


def _expected_together(api: PrefectApi, server: LocalServer, kind: str) -> list[str]:
    time = now()
    return sorted((new_run(api, kind, scheduled(time)) for _ in range(RUNS)), reverse=True)


@pytest.mark.parametrize(
    ("prepare", "first_load", "sort", "end_time"),
    [
        pytest.param(_completed_and_running, True, "EXPECTED_START_TIME_ASC", None, id="snapshot"),
        pytest.param(_expected_together, True, "ID_DESC", None, id="ties in a snapshot"),
        pytest.param(_ended, False, "END_TIME_DESC", True, id="ended"),
        pytest.param(_ended_together, False, "ID_DESC", True, id="ties of ends"),
        pytest.param(_running, False, "EXPECTED_START_TIME_ASC", False, id="open"),
        pytest.param(_expected_together, False, "ID_DESC", False, id="ties of open runs"),
    ],
)
def test_runs_that_change_between_two_pages(
    copy: Copy,
    api: PrefectApi,
    proxy: FaultProxy,
    server: LocalServer,
    prepare: Callable[[PrefectApi, LocalServer, str], list[str]],
    first_load: bool,
    sort: str,
    end_time: bool | None,
) -> None:
    if not first_load:
        copy.sync()
    deleted: set[str] = set()
    untouched: dict[str, set[str]] = {}
    happened: list[str] = []
    for kind in KINDS:
        runs = prepare(api, server, kind)
        to_end = new_run(api, kind, "RUNNING")
        # of the page that was read, and of the one to come
        to_delete, to_move = {*runs[:3], runs[9]}, [runs[4], runs[10]]
        deleted |= to_delete
        untouched[kind] = set(runs) - to_delete - set(to_move)

        def change(
            kind: str = kind, delete: set[str] = to_delete, move: list[str] = to_move, end: str = to_end
        ) -> None:
            for run_id in delete:
                api.call("DELETE", f"/{kind}/{run_id}")
            for run_id in move:
                has_ended = api.call("GET", f"/{kind}/{run_id}")["end_time"] is not None
                set_run(api, kind, run_id, scheduled(now(), "AwaitingRetry") if has_ended else "COMPLETED")
            set_run(api, kind, end, "FAILED")
            new_run(api, kind, "RUNNING")
            new_run(api, kind, "COMPLETED")
            happened.append(kind)

        proxy.before(f"/{kind}/filter", change, after=1, when=read_of(kind, sort, end_time))
    copy.sync()
    assert sorted(happened) == [*KINDS], "there was no second page"
    for kind in KINDS:
        assert untouched[kind] <= set(copy.values(f"SELECT id FROM prefect.{kind}"))
    copy.sync()
    assert true_but_for(copy, deleted) == []


def test_dimensions_of_more_than_a_page_of_which_rows_are_deleted_between_two_pages(
    copy: Copy, api: PrefectApi, proxy: FaultProxy
) -> None:
    copy.options["resources"] = ("flows", "deployments", "work_pools", "work_queues")
    flows = [api.flow(f"page {index:02}") for index in range(RUNS)]
    deployments = [
        api.call("POST", "/deployments/", {"name": f"page {index:02}", "flow_id": flow})["id"]
        for index, flow in enumerate(flows)
    ]
    pools = {
        (name := f"page-{index:02}"): api.call("POST", "/work_pools/", {"name": name, "type": "process"})["id"]
        for index in range(10)
    }
    queues = [
        api.call("POST", "/work_pools/page-09/queues/", {"name": f"queue {index:02}"})["id"] for index in range(RUNS)
    ]

    def delete(*paths: str) -> Callable[[], object]:
        return lambda: [api.call("DELETE", path) for path in paths]

    proxy.before("/deployments/filter", delete(*(f"/deployments/{id_}" for id_ in deployments[:3])), after=2)
    # their deployments are deleted with them
    proxy.before("/flows/filter", delete(*(f"/flows/{id_}" for id_ in flows[3:6])), after=2)
    proxy.before("/work_pools/filter", delete("/work_pools/page-00", "/work_pools/page-01"), after=1)
    proxy.before("/work_queues/filter", delete("/work_pools/page-09/queues/queue 00"), after=2)
    copy.sync()
    for table, wanted in (
        ("flows", [*flows[:3], *flows[6:]]),
        ("deployments", deployments[6:]),
        ("work_pools", [id_ for name, id_ in pools.items() if name > "page-01"]),
        ("work_queues", queues[1:]),
    ):
        loaded = copy.values(f"SELECT id FROM prefect.{table}")
        assert set(wanted) <= set(loaded), table
        assert len(loaded) == len(set(loaded)), table
        assert sum(request.path == f"/{table}/filter" for request in proxy.requests) > 2, table


def test_a_page_larger_than_usual_where_the_server_allows_it(tmp_path: Path) -> None:
    runs = 205
    with local_server(settings={**STILL, "PREFECT_API_DEFAULT_LIMIT": str(LARGE_PAGE)}) as server:
        api = PrefectApi(server.url)
        with FaultProxy(server.url) as proxy:
            copy = Copy(api, tmp_path, now(), proxy.url, {"page_size": LARGE_PAGE})
            options = {"resources": ["flow_runs", "task_runs"]}
            copy.sync(**options)
            for _ in range(runs):
                api.flow_run("COMPLETED")
            assert copy.sync(**options).new["flow_runs"] == runs
            asked = [request for request in proxy.requests if read_of("flow_runs", "END_TIME_DESC", True)(request)]
            assert [(request.status, request.body["limit"]) for request in asked] == [(200, LARGE_PAGE)]
            assert set(copy.values("SELECT id FROM prefect.flow_runs")) == {
                row["id"] for row in api.runs("flow_runs", copy.since)
            }
        api.close()


START = datetime(2026, 1, 1, tzinfo=UTC)


class MovingList:
    """Rows as a server holds them, in memory; every page is followed by random deletes and inserts."""

    def __init__(self, seed: int, key: Key, rows: int, page: int, times: int, moves: float = 0.5) -> None:
        self.key = key
        self._random = random.Random(seed)
        self._page = page
        self._times = times
        self._moves = moves
        self.rows = [self._new() for _ in range(rows)]
        self.always = {row["id"] for row in self.rows}

    def read(self, sort: str, own: Row, offset: int) -> Page:
        """A page as `/filter` answers it; ties are in another order each time, as on PostgreSQL."""
        bounds = own[self.key.column]
        low, high = (
            parse(bounds.get("after_", text(START))),
            parse(bounds.get("before_", text(START.replace(year=2099)))),
        )
        inside = [row for row in self.rows if low <= parse(row[self.key.column]) <= high]
        self._random.shuffle(inside)
        by = "id" if sort == "ID_DESC" else self.key.column
        inside.sort(key=lambda row: row[by], reverse=sort.endswith("DESC"))
        rows = inside[offset : offset + self._page]
        self._move()
        return Page(rows, len(rows) == self._page)

    def _move(self) -> None:
        if self._random.random() > self._moves:
            return
        if self.rows and self._random.random() < 0.6:
            gone = self.rows.pop(self._random.randrange(len(self.rows)))
            self.always.discard(gone["id"])
        else:
            self.rows.append(self._new())

    def _new(self) -> Row:
        time = START + timedelta(microseconds=self._random.randrange(self._times))
        return {"id": f"{self._random.getrandbits(64):016x}", self.key.column: text(time)}


def assert_complete(pages: Iterator[list[Row]], list_: MovingList) -> None:
    """Every row that was there throughout came, none came twice, and no page was empty."""
    came = []
    for rows in pages:
        assert rows
        came += [row["id"] for row in rows]
    assert len(came) == len(set(came))
    assert list_.always <= set(came)


@pytest.mark.parametrize("times", [1, 4, 40, 100_000], ids="{} different times".format)
@pytest.mark.parametrize("key", [ENDED, EXPECTED], ids=lambda key: key.column)
def test_keyset_of_a_moving_list(key: Key, times: int) -> None:
    for seed in range(60):
        list_ = MovingList(seed, key, rows=seed * 2, page=3 + seed % 9, times=times)
        assert_complete(keyset(list_.read, key, START, None), list_)


def test_keyset_keeps_to_its_bounds() -> None:
    list_ = MovingList(1, EXPECTED, rows=50, page=5, times=100)
    low, high = START + timedelta(microseconds=20), START + timedelta(microseconds=60)
    rows = [row for page in keyset(list_.read, EXPECTED, low, high) for row in page]
    assert rows
    assert all(low <= parse(row["expected_start_time"]) <= high for row in rows)


def test_keyset_with_whole_seconds_which_have_no_fraction() -> None:
    times = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"]
    list_ = MovingList(1, EXPECTED, rows=0, page=2, times=1)
    table = [{"id": str(index), "expected_start_time": time} for index, time in enumerate(times)]

    def read(sort: str, own: Row, offset: int) -> Page:
        low = parse(own["expected_start_time"].get("after_", times[0]))
        rows = [row for row in table if parse(row["expected_start_time"]) >= low][offset : offset + 2]
        return Page(rows, len(rows) == 2)

    assert [row["id"] for page in keyset(read, EXPECTED, None, None) for row in page] == ["0", "1", "2", "3"]
    assert list_.rows == []


def test_ties_of_a_moving_list() -> None:
    for seed in range(100):
        list_ = MovingList(seed, ENDED, rows=seed, page=3 + seed % 9, times=1)
        seen = {row["id"] for row in list_.rows[:3]}
        list_.always -= seen
        came = [row["id"] for page in ties(list_.read, ENDED, START, seen) for row in page]
        assert len(came) == len(set(came))
        assert not seen & set(came)
        assert list_.always <= set(came)


def test_overlapping_pages_of_a_moving_list() -> None:
    for seed in range(200):
        list_ = MovingList(seed, EXPECTED, rows=seed, page=3 + seed % 9, times=10**9)
        whole = {"expected_start_time": {}}
        assert_complete(overlapping(lambda offset: list_.read(EXPECTED.sort, whole, offset)), list_)  # noqa: B023


def test_overlapping_pages_by_end_read_the_ties_at_an_edge_again() -> None:
    for seed in range(200):
        list_ = MovingList(seed, ENDED, rows=seed, page=12, times=10**9, moves=0)
        # two rows each, in an order that every page makes anew
        for row in list_.rows[1::2]:
            row["end_time"] = list_.rows[list_.rows.index(row) - 1]["end_time"]
        pages = overlapping(lambda offset: list_.read(ENDED.sort, {"end_time": {}}, offset), same_end)  # noqa: B023
        assert_complete(pages, list_)


def test_a_list_that_moves_without_end_is_given_up() -> None:
    ids = iter(range(10**9))

    def read(offset: int) -> Page:
        return Page([{"id": str(next(ids))} for _ in range(3)], True)

    with pytest.raises(ServerUnavailable, match="changed faster than it could be paged"):
        list(overlapping(read))


@pytest.mark.parametrize("key", [ENDED, EXPECTED], ids=lambda key: key.column)
def test_a_cache_that_answers_one_page_to_all_requests_is_refused(key: Key) -> None:
    list_ = MovingList(1, key, rows=30, page=5, times=10**9, moves=0)
    first = list_.read(key.sort, {key.column: {}}, 0)
    with pytest.raises(ServerUnavailable, match="cache in front"):
        list(keyset(lambda sort, own, offset: first, key, START, None))
    with pytest.raises(ServerUnavailable, match="faster than it could be paged"):
        list(overlapping(lambda offset: first))


def test_counted_windows_of_a_moving_table_hold_every_row() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        times = [START + timedelta(seconds=chance.randrange(1000)) for _ in range(40)]
        whole = Window(START, START + timedelta(seconds=1000))
        table = list(times)

        def count(window: Window, table: list[datetime] = table, chance: random.Random = chance) -> int:
            rows = sum(window.start <= time < window.end for time in table)
            # runs that are made while windows are counted
            table += [START + timedelta(seconds=chance.randrange(1000)) for _ in range(chance.randrange(5))]
            return rows

        windows = list(counted_windows(whole, count, at_most=5))
        assert [window.start for window, _ in windows[1:]] == [window.end for window, _ in windows[:-1]]
        read = [window for window, rows in windows if rows]
        missed = [time for time in times if not any(window.start <= time < window.end for window in read)]
        assert not missed, (
            f"seed {seed}: windows said to be empty hold {len(missed)} of the 40 rows there from the start"
        )
