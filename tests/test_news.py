"""Which rows of a sync are worth loading, with and without an answer from the warehouse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_runs.clock import text
from prefect_runs.known import Version
from prefect_runs.news import News
from prefect_runs.paging import Row
from prefect_runs.progress import Plan

HOUR = timedelta(hours=1)
LOOKBACK, HORIZON = timedelta(minutes=10), 24 * HOUR
CEILING = datetime(2026, 1, 2, tzinfo=UTC)
START_VALUE = CEILING - HOUR
LATER = Plan(CEILING, START_VALUE, START_VALUE - LOOKBACK)
FIRST = Plan(CEILING)


def row(updated: datetime, entered: datetime | None = None, expected: datetime | None = None, id_: str = "a") -> Row:
    """A run's row, torn where `entered` is None."""
    state: Any = {"timestamp": text(entered)} if entered else None
    return {"id": id_, "updated": text(updated), "state": state, "expected_start_time": text(expected or updated)}


def news(plan: Plan = LATER, known: dict[str, Version] | None = None) -> News:
    """News of a sync with `plan`."""
    return News(plan, known, LOOKBACK, HORIZON)


@pytest.mark.parametrize(
    ("before", "worth"),
    [
        pytest.param(None, True, id="unknown"),
        pytest.param((START_VALUE, START_VALUE), False, id="the same"),
        pytest.param((START_VALUE - HOUR, START_VALUE), True, id="updated since"),
        pytest.param((START_VALUE, None), True, id="torn before"),
        pytest.param((START_VALUE, START_VALUE - HOUR), True, id="another state"),
    ],
)
def test_news_is_what_the_warehouse_lacks(before: Version | None, worth: bool) -> None:
    known = {"a": before} if before else {}
    assert news(known=known).is_news(row(START_VALUE, START_VALUE)) is worth
    # an old row that the warehouse does not have is as good as a new one
    assert news(known={}).is_news(row(CEILING - 1000 * HOUR))


@pytest.mark.parametrize(
    ("old_row", "worth"),
    [
        pytest.param(row(START_VALUE - LOOKBACK), True, id="updated at the lookback's start"),
        pytest.param(row(START_VALUE - LOOKBACK - HOUR), False, id="updated before"),
        pytest.param(row(START_VALUE - HOUR, expected=START_VALUE + HORIZON), True, id="came within the horizon"),
        pytest.param(row(START_VALUE - HOUR, expected=START_VALUE + HORIZON - HOUR), False, id="was within it before"),
    ],
)
def test_without_a_warehouse_to_ask_news_is_what_is_inside_the_lookback(old_row: Row, worth: bool) -> None:
    assert news().is_news(old_row) is worth
    assert news().is_news(old_row, asked_for=True)
    assert news(FIRST).is_news(old_row)


def test_a_row_that_two_reads_bring_is_seen_once() -> None:
    sync = news()
    first, second = row(START_VALUE), row(START_VALUE, id_="b")
    assert sync.unseen([first]) == [first]
    assert sync.unseen([first, second]) == [second]


def test_a_row_read_by_id_is_newer_only_where_it_differs() -> None:
    sync = news()
    sync.unseen([row(START_VALUE, START_VALUE)])
    assert sync.newer([row(START_VALUE, START_VALUE)]) == []
    moved = row(CEILING, CEILING)
    assert sync.newer([moved]) == [moved]
    assert sync.newer([moved]) == []


@pytest.mark.parametrize(
    ("entered", "behind"),
    [
        pytest.param(START_VALUE - HOUR, True, id="in an earlier state"),
        pytest.param(START_VALUE, False, id="in the event's state"),
        pytest.param(CEILING, False, id="in a later state"),
        pytest.param(None, True, id="torn"),
    ],
)
def test_a_run_is_behind_an_event_that_no_copy_of_it_shows(entered: datetime | None, behind: bool) -> None:
    read, kept = news(known={}), news(known={"a": (START_VALUE, entered)})
    assert read.is_behind("a", START_VALUE)
    read.unseen([row(START_VALUE, entered)])
    assert read.is_behind("a", START_VALUE) is behind
    assert kept.is_behind("a", START_VALUE) is behind
