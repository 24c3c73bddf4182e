"""Small tables are loaded when they changed, once a day, and after somebody asked for everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from command import run_command
from conftest import Copy
from fault_proxy import FaultProxy
from prefect_api import PrefectApi

import prefect_runs.server
from prefect_runs.unchanged import unless_unchanged

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PAGES = [[{"id": "a", "name": "etl"}], [{"id": "b", "name": "report"}]]


def test_pages_that_were_loaded_are_not_loaded_again_that_day() -> None:
    state: dict[str, Any] = {}
    assert list(unless_unchanged(PAGES, state, NOON)) == PAGES
    assert list(unless_unchanged(PAGES, state, NOON.replace(hour=23))) == []
    assert list(unless_unchanged(PAGES, state, NOON.replace(day=1, month=2))) == PAGES
    changed = [PAGES[0], [{"id": "b", "name": "reports"}]]
    assert list(unless_unchanged(changed, state, NOON.replace(day=1, month=2))) == changed
    # a row that is gone makes a difference too
    assert list(unless_unchanged(PAGES[:1], state, NOON.replace(day=1, month=2))) == PAGES[:1]


def test_nothing_is_remembered_of_a_read_that_was_broken_off() -> None:
    state: dict[str, Any] = {}
    assert next(unless_unchanged(PAGES, state, NOON)) == PAGES[0]
    assert state == {}


def test_an_idle_sync_loads_no_small_table_and_a_change_does(copy: Copy, api: PrefectApi) -> None:
    def loaded() -> set[str]:
        [resources] = copy.values("SELECT resources FROM prefect.syncs ORDER BY _dlt_load_id DESC LIMIT 1")
        return {name for name, counts in json.loads(resources).items() if counts["loaded"] and name in SMALL}

    api.complete_flow_run(api.flow_run("PENDING"))
    copy.outlive_lookback()
    copy.sync()
    assert loaded() == set()
    name = f"new-{datetime.now(UTC).timestamp()}"
    api.call("POST", "/flows/", {"name": name})
    copy.sync()
    assert loaded() == {"flows"}
    assert name in copy.values("SELECT name FROM prefect.flows")
    copy.change("DELETE FROM prefect.flows")
    assert run_command(copy, "sync", "--full").returncode == 0
    assert name in copy.values("SELECT name FROM prefect.flows")


def test_chunks_of_one_load_share_what_was_read_of_small_tables(
    copy: Copy, api: PrefectApi, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.url = proxy.url
    copy.settings["chunk_rows"] = 2

    def read() -> int:
        return sum(request.path == "/deployments/filter" for request in proxy.requests)

    for _ in range(8):
        api.flow_run("COMPLETED")
    copy.sync_and_compare()
    loads = len(copy.values("SELECT whole FROM prefect.syncs"))
    assert loads > 3
    # and once more by what follows a first load
    assert 1 <= read() <= 2
    copy.sync()
    assert read() <= 3
    monkeypatch.setattr(prefect_runs.server, "LATELY_SECONDS", 0.0)
    proxy.requests.clear()
    assert copy.sync(full=True).whole
    assert read() > 3


SMALL = ("flows", "deployments", "work_pools")
