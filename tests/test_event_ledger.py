"""The ledger of events: late arrivals show as a difference, and it stays small."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from prefect_runs.event_ledger import SETTLE, EventLedger, slice_start
from prefect_runs.windows import Window

LOOKBACK = timedelta(minutes=10)
MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
BEGIN = slice_start(NOW - LOOKBACK, LOOKBACK)


def at(minutes: float) -> datetime:
    """That many minutes after the ledger's begin."""
    return BEGIN + minutes * MINUTE


def ledger(*minutes: float) -> EventLedger:
    """A ledger of events at these times."""
    return EventLedger.of(Window(BEGIN, NOW), LOOKBACK, [at(minute) for minute in minutes])


def test_slices_are_a_tenth_of_the_lookback_and_begin_on_whole_ones() -> None:
    assert datetime(2026, 1, 1, 11, 50, tzinfo=UTC) == BEGIN
    assert ledger(0, 0.5, 0.99, 1, 9).counts == {at(0): 3, at(1): 1, at(9): 1}


def test_counts_from_one_slice_to_before_another() -> None:
    events = ledger(0, 0.5, 1, 2, 2.5, 9)
    assert events.count(BEGIN) == 6
    assert events.count(at(1), at(2)) == 1
    assert events.count(at(1), at(3)) == 3


def test_it_comes_back_from_the_pipeline_state() -> None:
    events = ledger(0, 0.5, 9)
    assert EventLedger.from_state(json.loads(json.dumps(events.state())), LOOKBACK) == events


def test_it_is_of_no_use_with_another_lookback() -> None:
    assert EventLedger.from_state(ledger(1).state(), 2 * LOOKBACK) is None


def test_it_stays_small_over_many_syncs() -> None:
    events = ledger()
    for minute in range(1, 2000):
        now = NOW + minute * MINUTE
        begin = slice_start(now - LOOKBACK, LOOKBACK)
        newer = EventLedger.of(Window(events.settled, now), LOOKBACK, [now] * 1000)
        events = events.extended(newer, begin).since(now - LOOKBACK)
        assert events.covers(begin)
    assert len(events.counts) <= 12
    assert len(json.dumps(events.state())) < 800


def test_what_was_read_again_replaces_what_was_read_before() -> None:
    newer = EventLedger.of(Window(at(2), NOW + MINUTE), LOOKBACK, [at(2), at(2.1), at(2.2)])
    events = ledger(0, 1, 1.5, 2).extended(newer, at(1))
    assert events.counts == {at(1): 2, at(2): 3}
    assert events.window == Window(at(1), NOW + MINUTE)


def test_events_without_a_row_are_missing_from_it_so_that_they_are_read_again() -> None:
    assert ledger(0, 0.5, 1).without([at(0.5)]).count(BEGIN) == 2


def test_it_covers_no_time_before_its_window_or_after() -> None:
    assert ledger().covers(BEGIN)
    assert not ledger().covers(BEGIN - MINUTE)
    assert not ledger().covers(NOW + MINUTE)


def test_the_latest_slices_are_not_settled() -> None:
    assert NOW - SETTLE - MINUTE <= ledger().settled <= NOW - SETTLE


def test_a_lookback_of_seconds_has_slices_of_one_second() -> None:
    short = timedelta(seconds=2)
    assert EventLedger.of(Window(BEGIN, NOW), short, []).slice == timedelta(seconds=1)
    assert slice_start(BEGIN + timedelta(seconds=1.7), short) == BEGIN + timedelta(seconds=1)
