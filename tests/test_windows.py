"""Window arithmetic: nothing falls between two windows, and none is read twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from prefect_runs.windows import Window, counted_windows, packed

START = datetime(2026, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def window(microseconds: int) -> Window:
    """The window of that length from START on."""
    return Window(START, START + microseconds * MICROSECOND)


def counting(times: list[int], asked: list[Window]) -> Callable[[Window], int]:
    """Counts `times`, microseconds after START, and notes in `asked` what was counted."""

    def count(part: Window) -> int:
        asked.append(part)
        return sum(part.start <= START + time * MICROSECOND < part.end for time in times)

    return count


@pytest.mark.parametrize("length", [1, 2, 3, 1001])
def test_halves_meet_in_the_middle(length: int) -> None:
    left, right = window(length).halves()
    assert (left.start, left.end, right.end) == (START, right.start, window(length).end)
    assert not right.empty


@pytest.mark.parametrize(("length", "spans"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (0, [])])
def test_parts_cover_the_window(length: int, spans: list[int]) -> None:
    parts = list(window(length).parts(4 * MICROSECOND))
    assert [(part.end - part.start) // MICROSECOND for part in parts] == spans
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]


def test_the_last_microsecond_is_inside_and_the_end_is_not() -> None:
    assert window(5).last == START + 4 * MICROSECOND


def test_windows_are_split_until_they_hold_few_rows() -> None:
    times = [0, 1, 2, 3, 50, 51, 52, 99]
    windows = list(counted_windows(window(100), counting(times, asked := []), at_most=3))
    assert windows[0][0].start == START
    assert windows[-1][0].end == window(100).end
    assert all(one.end == next_.start for (one, _), (next_, _) in pairwise(windows))
    count = counting(times, [])
    assert all(count(part) <= 3 for part, _ in windows)
    assert len(asked) == len(windows), "one half of each split is counted, the other is known"


def test_more_rows_in_one_microsecond_than_a_window_is_to_hold() -> None:
    windows = list(counted_windows(window(8), counting([5] * 100, []), at_most=3))
    assert (Window(START + 5 * MICROSECOND, START + 6 * MICROSECOND), 100) in windows


def test_an_empty_window_is_not_counted() -> None:
    assert list(counted_windows(window(0), counting([], asked := []), at_most=3)) == []
    assert asked == []


def test_neighbours_are_packed_while_they_hold_few_rows() -> None:
    intervals = list(zip(window(60).parts(10 * MICROSECOND), [2, 1, 0, 3, 9, 0], strict=True))
    for given in (intervals, intervals[::-1]):
        together = list(packed(given, at_most=3))
        assert sorted(rows for _, rows in together) == [0, 3, 3, 9]
        ascending = sorted((part for part, _ in together), key=lambda part: part.start)
        assert (ascending[0].start, ascending[-1].end) == (START, window(60).end)
        assert all(one.end == next_.start for one, next_ in pairwise(ascending))


def test_the_rest_is_what_was_not_read() -> None:
    first, second = window(10).halves()
    assert window(10).rest(first) == second
    assert window(10).rest(second, newest_first=True) == first


@pytest.mark.parametrize(("seconds", "parts", "step"), [(10, 5, 2), (11, 5, 3), (0.5, 500, 1), (1000, 500, 2)])
def test_a_step_is_whole_seconds(seconds: float, parts: int, step: int) -> None:
    assert Window(START, START + timedelta(seconds=seconds)).step(parts) == timedelta(seconds=step)
