"""How long the server keeps things, and what a sync that comes late says and does."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Copy
from prefect_api import PrefectApi, now

from prefect_runs.client import PrefectClient
from prefect_runs.clock import as_utc
from prefect_runs.credentials import PrefectCredentials
from prefect_runs.retention import Retention
from prefect_runs.settings import ReadSettings
from prefect_runs_pipelines.command.screen import status_screen
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.status import status
from prefect_runs_pipelines.target import Target

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def settings(runs: float | None = None, events: float | None = None) -> ReadSettings:
    made = ReadSettings()
    made.runs_kept_days, made.events_kept_days = runs, events
    return made


def told(**server: Any) -> Callable[[], dict[str, Any]]:
    return lambda: server


@pytest.mark.parametrize(
    ("given", "is_cloud", "server", "runs", "events"),
    [
        pytest.param(settings(), False, {}, None, 7, id="a server that says nothing"),
        pytest.param(settings(), False, {"events": {"retention_period": "P30D"}}, None, 30, id="events for a month"),
        pytest.param(
            settings(),
            False,
            {"services": {"db_vacuum": {"enabled": ["events"], "retention_period": "P90D"}}},
            None,
            7,
            id="a vacuum of events only",
        ),
        pytest.param(
            settings(),
            False,
            {"services": {"db_vacuum": {"enabled": ["flow_runs", "events"], "retention_period": "P90D"}}},
            90,
            7,
            id="a vacuum of runs",
        ),
        pytest.param(
            settings(),
            False,
            {"services": {"db_vacuum": {"enabled": True, "retention_period": "PT36H"}}},
            1.5,
            7,
            id="a vacuum of all",
        ),
        pytest.param(settings(), True, {}, 7, 7, id="Cloud's shortest"),
        pytest.param(settings(30, 14), True, {}, 30, 14, id="Cloud, told"),
        pytest.param(settings(60), False, {"events": {"retention_period": "P3D"}}, 60, 3, id="runs told"),
    ],
)
def test_what_the_user_says_then_what_the_server_says(
    given: ReadSettings, is_cloud: bool, server: dict[str, Any], runs: float | None, events: float
) -> None:
    kept = Retention.of(given, is_cloud, told(**server))
    assert kept == Retention(DAY * runs if runs else None, DAY * events)


def test_nobody_is_asked_what_is_known() -> None:
    def never() -> dict[str, Any]:
        raise AssertionError("asked")

    assert Retention.of(settings(3, 4), False, never) == Retention(3 * DAY, 4 * DAY)


@pytest.mark.parametrize(
    ("days", "words"),
    [(1, []), (5, []), (6, ["nearly the 7.0 days that the server keeps runs"]), (8, ["more than the 7.0 days"])],
)
def test_warning_comes_before_the_loss(days: int, words: list[str]) -> None:
    warnings = Retention(7 * DAY, 30 * DAY).warnings(NOW - days * DAY, NOW)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


def test_what_may_be_lost_has_bounds() -> None:
    kept = Retention(7 * DAY, 7 * DAY)
    assert kept.lost(NOW - 7 * DAY, NOW) is None
    lost = kept.lost(NOW - 9 * DAY, NOW)
    assert lost is not None
    assert (lost.start, lost.end) == (NOW - 9 * DAY, NOW - 7 * DAY)
    assert Retention(None, 7 * DAY).lost(NOW - 900 * DAY, NOW) is None


@pytest.mark.parametrize(
    ("runs", "ended", "reason"),
    [(7, 8, "aged_out"), (7, 6, "deleted"), (7, None, "deleted"), (None, 800, "deleted")],
)
def test_reason_goes_by_the_age(runs: int | None, ended: int | None, reason: str) -> None:
    kept = Retention(DAY * runs if runs else None, 7 * DAY)
    assert kept.reason(None if ended is None else NOW - ended * DAY, NOW) == reason


def test_real_server_says_how_long_it_keeps_events(server: LocalServer) -> None:
    client = PrefectClient(PrefectCredentials(api_url=server.url).connection())
    assert Retention.of(settings(), False, client.server_settings) == Retention(None, 7 * DAY)
    assert client.requests_sent == 1


def set_back(copy: Copy, span: timedelta, apart: timedelta = timedelta(0)) -> None:
    """Make the last sync one of long ago; each resource's so much `apart` from the next one's."""
    with Target(copy.sync_options()) as target:
        target.restore()
        with target.pipeline.managed_state(extract_state=True) as state:
            for resource in state["sources"]["prefect_runs"]["resources"].values():
                cursor = resource.get("incremental", {}).get("updated", {})
                if "last_value" in cursor:
                    cursor["last_value"] = as_utc(cursor["last_value"]) - span
                    span += apart
        target.pipeline.normalize()
        target.pipeline.load()


def test_screen_counts_the_last_syncs_in_words(copy: Copy, api: PrefectApi) -> None:
    api.flow_run("COMPLETED")
    copy.sync()
    shown = status(copy.sync_options())
    assert "last sync" in status_screen(shown).splitlines()
    shown.syncs *= 2
    assert "last 2 syncs" in status_screen(shown).splitlines()


def test_sync_that_comes_too_late_names_the_gap_and_reads_what_is_left(copy: Copy, api: PrefectApi) -> None:
    copy.settings["runs_kept_days"] = 3.0
    run_id = api.flow_run("RUNNING")
    copy.sync_and_compare()
    assert status(copy.sync_options()).warnings == []
    set_back(copy, 9 * DAY)
    shown = status(copy.sync_options())
    assert "more than the 3.0 days that the server keeps runs" in shown.warnings[0]
    assert "more than the 7.0 days that the server keeps events" in shown.warnings[1]
    assert f"warning: {shown.warnings[0]}" in status_screen(shown)
    api.set_flow_run(run_id, "COMPLETED")
    report = copy.sync()
    assert not report.whole
    assert any("may be lost" in gap for gap in report.gaps)
    assert any("7 days" in gap for gap in report.gaps)
    copy.assert_true()
    [(start, end)] = copy.values("SELECT (lost_from, lost_until) FROM prefect.syncs WHERE lost_from IS NOT NULL")
    assert timedelta(days=5.9) < end - start < timedelta(days=6.1)
    # the gap is that sync's; the next one is in time
    assert copy.sync().whole
    assert status(copy.sync_options()).warnings == []


def test_sync_that_comes_later_than_a_few_hours_of_retention_names_the_gap(copy: Copy, api: PrefectApi) -> None:
    copy.settings.update(runs_kept_days=0.25, events_kept_days=0.25)
    api.flow_run("COMPLETED")
    copy.sync_and_compare()
    set_back(copy, 0.5 * DAY)
    lost, *without_events = copy.sync().gaps
    assert "runs that ended between" in lost
    assert ["the server keeps events" in gap for gap in without_events] == [True, True]


def test_sync_that_comes_late_warns(copy: Copy, api: PrefectApi) -> None:
    copy.settings["runs_kept_days"] = 3.0
    api.flow_run("COMPLETED")
    copy.sync_and_compare()
    set_back(copy, 2.5 * DAY)
    report = copy.sync()
    assert report.whole
    assert ["nearly the 3.0 days" in warning for warning in report.warnings] == [True]


VACUUM = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "flow_runs",
    # the shortest that the server takes
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "3601",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1",
}


def test_vacuumed_runs_aged_out(tmp_path: Path) -> None:
    """On a server of its own, which is restarted with its vacuum on."""
    home = tmp_path / "home"
    home.mkdir()
    with contextlib.closing(LocalServer(home=home)) as server:
        server.start()
        api = PrefectApi(server.url)
        old, young, deleted = (api.flow_run("PENDING") for _ in range(3))
        task_run = api.task_run("RUNNING", flow_run_id=old)
        for run_id in (old, young, deleted):
            api.complete_flow_run(run_id)
        server.stop()
        with contextlib.closing(sqlite3.connect(home / "prefect.db")) as database, database:
            ended = f"{now() - timedelta(hours=2):%Y-%m-%d %H:%M:%S.%f}"
            database.execute("UPDATE flow_run SET end_time = ? WHERE lower(id) = ?", (ended, old))
        server.start()
        copy = Copy(api, tmp_path, now() - timedelta(hours=3), server.url, {"lookback_minutes": 1 / 60})
        copy.sync_and_compare()
        server.stop()
        with contextlib.closing(LocalServer(home=home, settings=VACUUM)) as vacuumed:
            vacuumed.start()
            copy.api, copy.url = PrefectApi(vacuumed.url), vacuumed.url
            deadline = time.monotonic() + 60
            while len(copy.api.runs("flow_runs", copy.since)) == 3:
                assert time.monotonic() < deadline, "nothing is vacuumed"
                time.sleep(0.5)
            copy.api.call("DELETE", f"/flow_runs/{deleted}")
            report = copy.verify(repair=True)
            assert {drift.run_id: drift.what for drift in report.passes[0].drifts if drift.table == "flow_runs"} == {
                old: "aged_out",
                deleted: "deleted",
            }
            reasons = dict(copy.values("SELECT [id, reason] FROM prefect.tombstones"))
            assert reasons == {old: "aged_out", deleted: "deleted", task_run: "aged_out"}
            assert copy.verify().whole
            copy.assert_true()
            states = f"SELECT type FROM prefect.flow_run_states WHERE flow_run_id = '{old}' ORDER BY timestamp"
            assert copy.values(states) == ["PENDING", "RUNNING", "COMPLETED"]
