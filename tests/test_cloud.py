"""Prefect Cloud, by a stand-in made from its documentation, for no account can be had here.

A real server at the path of a workspace, which wants a key, has no routes of an administrator or of the user interface,
and answers no question for the events of more than 14 days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from conftest import Copy
from fault_proxy import FaultProxy, Recorded, status, unauthorized
from prefect_api import PrefectApi

from prefect_runs.clock import as_utc
from prefect_runs_pipelines.command.screen import status_screen, sync_screen, verify_screen
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.status import status as shown_status

KEY = "pnu_0123456789abcdef"
ACCOUNT, WORKSPACE = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-aaaaaaaaaaaa"
LONGEST_QUERY = timedelta(days=14)


def has_no_key(request: Recorded) -> bool:
    return request.headers.get("Authorization") != f"Bearer {KEY}"


def asks_too_much(request: Recorded) -> bool:
    occurred = request.body["filter"]["occurred"]
    return as_utc(occurred["until"]) - as_utc(occurred["since"]) > LONGEST_QUERY


@pytest.fixture
def cloud(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__CREDENTIALS__API_KEY", KEY)
    with FaultProxy(server.url, base=f"/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}") as running:
        running.inject(unauthorized(), times=None, when=has_no_key)
        running.inject(status(404), "/admin/*", times=None)
        running.inject(status(404), "/ui/*", times=None)
        running.inject(status(422), "/events/filter", times=None, when=asks_too_much)
        yield running


def test_workspace_is_copied_changes_followed_and_verified(copy: Copy, api: PrefectApi, cloud: FaultProxy) -> None:
    there = replace(copy, url=cloud.url)
    run_id = api.flow_run("PENDING")
    api.set_flow_run(run_id, "RUNNING")
    deleted = api.flow_run("RUNNING")
    api.task_run("COMPLETED", flow_run_id=run_id)
    first = there.sync_and_compare()
    assert (first.whole, first.server_version) == (True, None)
    assert "(Prefect Cloud)" in sync_screen(first)
    # by its shortest plan, for which plan it is cannot be asked
    assert there.values("SELECT runs_kept_days FROM prefect.syncs") == [7]
    there.outlive_lookback()
    api.set_flow_run(run_id, "COMPLETED")
    api.set_flow_run(run_id, "FAILED/Judged", force=True)
    api.call("DELETE", f"/flow_runs/{deleted}")
    api.outlive_its_second()
    assert there.sync_and_compare().changed["flow_runs"] == 1
    assert there.values("SELECT id FROM prefect.tombstones WHERE resource = 'flow_runs'") == [deleted]
    verified = there.verify(sweep=True)
    assert verified.whole
    assert "(Prefect Cloud)" in verify_screen(verified)
    assert "whole up to" in status_screen(shown_status(there.sync_options()))
    assert {request.path for request in cloud.requests if request.status == 404} == {"/admin/version"}
    assert not any(request.status in (401, 422) for request in cloud.requests)


def test_runs_of_weeks_are_asked_for_in_parts_that_it_answers(
    copy: Copy, api: PrefectApi, cloud: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = replace(copy, url=cloud.url, options={"extras": ("events",)})
    for name in ("EVENTS", "RUNS"):
        # the longest plan
        monkeypatch.setenv(f"SOURCES__PREFECT_RUNS__SETTINGS__{name}_KEPT_DAYS", "30")
    api.flow_run("COMPLETED")
    api.outlive_its_second()
    assert there.sync(start_date=(copy.since - timedelta(days=25)).isoformat()).whole
    assert there.values("SELECT count(*) > 0 FROM prefect.events") == [True]
    assert not any(request.status == 422 for request in cloud.requests)
