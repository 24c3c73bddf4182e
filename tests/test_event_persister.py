"""A real server whose event persister is off: it answers that there are no events, and all are lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from conftest import IMPATIENT, Copy
from prefect_api import PrefectApi, now, scheduled, seconds

import prefect_runs.changes_by_event
from prefect_runs_pipelines.local.server import LocalServer, local_server

SILENT = {**IMPATIENT, "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false"}
# of which a sync waits half for the event of a change
LOOKBACK = seconds(4)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server(settings=SILENT) as running:
        yield running


def impatient(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_runs.changes_by_event, "SETTLE", seconds(0.5))
    copy.settings["lookback_minutes"] = LOOKBACK / timedelta(minutes=1)


def test_changes_of_which_no_event_tells_are_a_gap(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(copy, monkeypatch)
    copy.sync()
    # of what a schedule makes there is no event anywhere
    api.flow_run(scheduled(now() + seconds(3600)))
    time.sleep(LOOKBACK.total_seconds() / 2 + 1.5)
    assert copy.sync_and_compare().whole
    api.flow_run("COMPLETED")
    time.sleep(LOOKBACK.total_seconds() / 2 + 1.5)
    [gap] = copy.sync_and_compare().gaps
    assert gap.startswith("flow_runs: 1 changed between ")
    assert "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED" in gap
    time.sleep(LOOKBACK.total_seconds())
    copy.sync()
    assert copy.sync().whole


def test_changes_older_than_what_the_server_keeps_of_events_are_another_gap(
    copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(copy, monkeypatch)
    copy.settings["events_kept_days"] = seconds(1) / timedelta(days=1)
    copy.sync()
    api.flow_run("COMPLETED")
    time.sleep(LOOKBACK.total_seconds() / 2 + 1.5)
    gaps = copy.sync_and_compare().gaps
    assert [("keeps events" in gap, "PERSISTER" in gap) for gap in gaps] == [(True, False)] * 2
