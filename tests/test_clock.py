"""Times as the API writes them, and back."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pendulum
import pytest

from prefect_runs.clock import as_utc, floor, from_http_date, parse, server_time, text

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z", "2026-01-31T12:00:00+00:00", "2026-01-31T14:00:00+02:00"],
)
def test_one_time_is_written_in_several_ways(written: str) -> None:
    assert parse(written) == NOON
    assert text(parse(written)) == "2026-01-31T12:00:00.000000+00:00"


def test_a_microsecond_is_kept() -> None:
    time = NOON + timedelta(microseconds=1)
    assert parse("2026-01-31T12:00:00.000001Z") == time
    assert parse(text(time)) == time


def test_a_time_in_a_reply_has_a_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        parse("2026-01-31T12:00:00")


@pytest.mark.parametrize(
    "configured",
    [
        "2026-01-31T12:00:00",
        "2026-01-31 12:00",
        "2026-01-31T14:00:00+02:00",
        datetime(2026, 1, 31, 12),
        datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=-5))),
        pendulum.datetime(2026, 1, 31, 12),
    ],
    ids=str,
)
def test_a_configured_time_is_utc_unless_it_says_otherwise(configured: Any) -> None:
    assert as_utc(configured) == NOON
    assert type(as_utc(configured)) is datetime


@pytest.mark.parametrize("configured", ["2026-01-31", date(2026, 1, 31)], ids=["text", "date"])
def test_a_configured_day_begins_at_midnight(configured: Any) -> None:
    assert as_utc(configured) == datetime(2026, 1, 31, tzinfo=UTC)


def test_the_date_header() -> None:
    assert from_http_date("Sat, 31 Jan 2026 12:00:00 GMT") == NOON


@pytest.mark.parametrize("zone", ["", " -0000", " +0000"], ids=["none", "unknown", "by its number"])
def test_the_date_header_is_utc_where_no_other_zone_is_written(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert from_http_date(f"Sat, 31 Jan 2026 12:00:00{zone}") == NOON
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("header", ["", "soon", "31/01/2026 12:00", "Sat, 31 Jan 99999 12:00:00 GMT"])
def test_a_date_header_that_cannot_be_read_is_none(header: str) -> None:
    assert from_http_date(header) is None


@pytest.mark.parametrize(
    ("time", "step", "floored"),
    [
        (NOON, timedelta(hours=1), NOON),
        (NOON - timedelta(microseconds=1), timedelta(hours=1), NOON - timedelta(hours=1)),
        (NOON + timedelta(seconds=59), timedelta(minutes=1), NOON),
        (datetime(1969, 12, 31, 23, 30, tzinfo=UTC), timedelta(hours=1), datetime(1969, 12, 31, 23, tzinfo=UTC)),
    ],
    ids=["on a step", "just before one", "after one", "before 1970"],
)
def test_floor(time: datetime, step: timedelta, floored: datetime) -> None:
    assert floor(time, step) == floored


def test_the_servers_time_is_never_ahead_of_a_clock_here() -> None:
    for minutes in (1, 60, 11 * 60):
        here = NOON - timedelta(minutes=minutes)
        assert server_time(NOON, here) == here
    for hours in (0, 1, 100, -12, -100_000):
        assert server_time(NOON, NOON + timedelta(hours=hours)) == NOON
