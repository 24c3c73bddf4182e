"""A backfill loads the runs of a span of time, goes on after it was killed, and leaves the watermark alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from conftest import Copy
from prefect_api import PrefectApi, now, scheduled, seconds

import prefect_runs.snapshot
import prefect_runs_pipelines.target
from prefect_runs import ConfigurationError
from prefect_runs_pipelines.backfill import BackfillOptions, BackfillReport, backfill
from prefect_runs_pipelines.cli import main
from prefect_runs_pipelines.target import Target

# more than two loads take, for each has up to two windows of two rows; and not as many task runs as flow runs, so that
# one of them needs more loads
FLOW_RUNS = 10
TASK_RUNS_EACH = 2


class Killed(Exception):
    """Stands for SIGKILL: what was loaded is loaded."""


@pytest.fixture
def past(copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> tuple[datetime, datetime]:
    """The span of some runs of before the date from which the copy is synced; chunks of three."""
    monkeypatch.setattr(prefect_runs.snapshot, "ROWS_PER_WINDOW", 2)
    monkeypatch.setattr(prefect_runs_pipelines.target, "CHUNK_ROWS", 3)
    start = now()
    for number in range(FLOW_RUNS):
        run_id = api.flow_run("RUNNING", name=f"past {number:02}")
        for _ in range(TASK_RUNS_EACH):
            api.task_run("COMPLETED", flow_run_id=run_id)
    end = now()
    copy.since = end
    api.flow_run("RUNNING", name="present")
    copy.sync_and_compare()
    return start, end


def fill(copy: Copy, start: datetime, end: datetime | None = None, **how: Any) -> BackfillReport:
    return backfill(copy.sync_options(), BackfillOptions(start, end, **how))


def names(copy: Copy) -> list[str]:
    return copy.values("SELECT name FROM prefect.flow_runs ORDER BY _dlt_load_id, name")


def watermarks(copy: Copy) -> dict[str, datetime]:
    with Target(copy.sync_options()) as target:
        target.restore()
        return target.reached().watermarks


def test_span_is_loaded_and_the_watermark_stays(copy: Copy, past: tuple[datetime, datetime]) -> None:
    before = watermarks(copy)
    report = fill(copy, *past)
    assert report.whole
    assert report.new["flow_runs"] == report.new["flow_run_states"] == FLOW_RUNS
    assert report.new["task_runs"] == report.new["task_run_states"] == FLOW_RUNS * TASK_RUNS_EACH
    # task runs need twice as many loads, and flow runs are not read again meanwhile
    chunks = copy.values("SELECT rows_read FROM prefect.syncs WHERE purpose = 'backfill'")
    assert sum(chunks) == sum(report.new.values())
    assert watermarks(copy) == before
    copy.since = past[0]
    copy.assert_true()
    assert copy.values("SELECT DISTINCT purpose FROM prefect.syncs ORDER BY 1") == ["backfill", "sync"]
    # again: nothing is new, nothing is double
    assert set(fill(copy, *past).new.values()) == {0}
    copy.assert_true()


def once(sync_row: Any) -> Any:
    """`sync_row`, which tells what a load did, and is to be called no second time."""
    rows: list[Any] = []

    def only(self: Target, load_id: str) -> Any:
        assert not rows
        rows.append(sync_row(self, load_id))
        return rows[-1]

    return only


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
def test_killed_backfill_goes_on(
    copy: Copy, past: tuple[datetime, datetime], newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loads = Target.load, []

    def load_twice(self: Target, source: Any) -> tuple[str, Mapping[str, int]]:
        if len(loads) == 2:
            raise Killed
        loads.append(load(self, source))
        return loads[-1]

    with monkeypatch.context() as killing:
        killing.setattr(Target, "load", load_twice)
        with pytest.raises(Killed):
            fill(copy, past[0], past[1], newest_first=newest_first)
    _, *loaded = names(copy)
    assert 0 < len(loaded) < FLOW_RUNS
    all_names = sorted(f"past {number:02}" for number in range(FLOW_RUNS))
    assert set(loaded) == set(all_names[-len(loaded) :] if newest_first else all_names[: len(loaded)])
    # a sync in between changes nothing about it, nor does a repair, which reads what differs once
    copy.sync()
    copy.change(f"UPDATE prefect.flow_runs SET state_name = 'Odd' WHERE name = '{loaded[0]}'")
    with monkeypatch.context() as counting:
        counting.setattr(Target, "sync_row", once(Target.sync_row))
        assert copy.verify(repair=True, since=past[0]).whole
    report = fill(copy, past[0], newest_first=newest_first)
    assert report.continued
    assert report.end == past[1]
    assert report.new["flow_runs"] == FLOW_RUNS - len(loaded)
    copy.since = past[0]
    copy.assert_true()


def test_runs_outside_the_span_are_left_alone(copy: Copy, api: PrefectApi) -> None:
    before = api.flow_run("RUNNING")
    start = now()
    inside = api.flow_run("RUNNING")
    end = now()
    api.flow_run(scheduled(now() + seconds(3600)))
    report = fill(copy, start, end)
    assert report.new["flow_runs"] == 1
    assert copy.values("SELECT id FROM prefect.flow_runs") == [inside]
    assert watermarks(copy) == {}
    # the first load is still to come
    copy.sync_and_compare()
    assert before in copy.values("SELECT id FROM prefect.flow_runs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "yesterday"], "is no date"),
        (["--start", "2026-02-01", "--end", "2026-01-01"], "no time between"),
        (["--start", "2026-02-01", "--resources", "flows"], "cannot be backfilled"),
        (["--start", "2026-02-01", "--resources", "flow_run"], "there is no resource"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    copy: Copy, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLT_DATA_DIR", str(copy.folder / "dlt"))
    assert main(["backfill", "--api-url", copy.url, *copy.warehouse.arguments, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_command_says_what_it_did(
    copy: Copy, past: tuple[datetime, datetime], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLT_DATA_DIR", str(copy.folder / "dlt"))
    options = ["--api-url", copy.url, "--workspace", "test", *copy.warehouse.arguments, "--dataset", "other"]
    span = ["--start", past[0].isoformat(), "--end", past[1].isoformat()]
    assert main(["backfill", *options, *span, "--resources", "flow_runs", "--newest-first"]) == 0
    assert re.search(rf"^flow_runs +{FLOW_RUNS} +{FLOW_RUNS}$", capsys.readouterr().out, re.MULTILINE)
    assert main(["backfill", *options, *span, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"]["task_runs"] == FLOW_RUNS * TASK_RUNS_EACH


def test_start_is_needed() -> None:
    with pytest.raises(SystemExit):
        main(["backfill"])


def test_error_is_a_configuration_error(copy: Copy) -> None:
    with pytest.raises(ConfigurationError):
        fill(copy, now(), now() - seconds(1))
