"""First loads in chunks: every run in one window, windows of few rows, and nothing read twice between two chunks."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Semaphore
from types import SimpleNamespace
from typing import Any

import pytest

import prefect_runs.snapshot
from prefect_runs.exceptions import ServerUnavailable
from prefect_runs.server_counts import ServerCounts
from prefect_runs.snapshot import Snapshots, planned_windows
from prefect_runs.windows import Window

START = datetime(2026, 1, 1, tzinfo=UTC)
WHOLE = Window(START, START + timedelta(hours=10))
# seconds after START: one by itself, a thousand spread out, many in three seconds, two hundred in one moment
SECONDS = [0.0, *(3600 + number * 7.3 for number in range(1000)), *(30_000 + number / 100 for number in range(300))]
SECONDS += [35_000.5] * 200
TIMES = sorted(START + timedelta(seconds=second) for second in SECONDS)
AT_MOST = 50


class Runs:
    """Stands in for the reader of a server whose runs are expected at `SECONDS`; notes what it was asked for."""

    def __init__(self, intervals_left_out: int = 0) -> None:
        self.client = SimpleNamespace(connections=2)
        self.counts: list[Window] = []
        self.histories: list[Window] = []
        self.read: list[Window] = []
        self._left_out = intervals_left_out

    def count(self, window: Window) -> int:
        self.counts.append(window)
        return bisect_left(TIMES, window.end) - bisect_left(TIMES, window.start)

    def history(self, window: Window, step: timedelta) -> list[dict[str, Any]]:
        self.histories.append(window)
        parts = list(window.parts(step))
        assert len(parts) <= 500
        found = [[{"count_runs": number}] if (number := Runs().count(part)) else [] for part in parts]
        return [{"states": states} for states in found][: len(parts) - self._left_out]

    def expected(self, window: Window) -> list[list[dict[str, Any]]]:
        self.read.append(window)
        times = (START + timedelta(seconds=second) for second in SECONDS)
        return [[{"expected": time} for time in times if window.start <= time < window.end]]


def reader(runs: Runs) -> Any:
    return runs


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("left_out", [0, 400], ids=["all counts", "counts cut short"])
def test_windows_cover_everything_and_hold_few_rows(newest_first: bool, left_out: int) -> None:
    windows = [
        window for window, _ in planned_windows(ServerCounts(reader(Runs(left_out))), WHOLE, AT_MOST, newest_first)
    ]
    ordered = windows[::-1] if newest_first else windows
    assert (ordered[0].start, ordered[-1].end) == (WHOLE.start, WHOLE.end)
    assert all(one.end == next_.start for one, next_ in pairwise(ordered))
    if not left_out:
        held = sorted(Runs().count(window) for window in windows)
        # what happens in one microsecond cannot be cut
        assert held[-1] == 200
        assert held[-2] <= AT_MOST


def test_planning_takes_few_requests() -> None:
    asked = Runs()
    windows = list(planned_windows(ServerCounts(reader(asked)), WHOLE, AT_MOST))
    assert len(windows) > 25
    # one for the whole, one for each interval with too many
    assert len(asked.histories) <= 4


class Overtaxed(Runs):
    """A server that gives up where it would have to look at more than so many runs."""

    def __init__(self, at_most: int) -> None:
        super().__init__()
        self.refused = 0
        self._at_most = at_most

    def count(self, window: Window) -> int:
        return self._refused_beyond(super().count(window))

    def history(self, window: Window, step: timedelta) -> list[dict[str, Any]]:
        self._refused_beyond(Runs().count(window))
        return super().history(window, step)

    def _refused_beyond(self, runs: int) -> int:
        if runs > self._at_most:
            self.refused += 1
            raise ServerUnavailable("canceling statement due to statement timeout")
        return runs


@pytest.mark.parametrize(("at_most", "newest_first"), [(1000, True), (250, False)])
def test_server_that_cannot_count_so_many_is_asked_for_fewer(at_most: int, newest_first: bool) -> None:
    asked = Overtaxed(at_most)
    windows = [window for window, _ in planned_windows(ServerCounts(reader(asked)), WHOLE, AT_MOST, newest_first)]
    ordered = windows[::-1] if newest_first else windows
    assert (ordered[0].start, ordered[-1].end) == (WHOLE.start, WHOLE.end)
    assert all(one.end == next_.start for one, next_ in pairwise(ordered))
    held = sorted(Runs().count(window) for window in windows)
    assert held[-1] == 200
    assert held[-2] <= AT_MOST
    # a few for each length of interval, and what was too much is not asked for again
    assert 1 <= asked.refused <= 15


def test_server_that_answers_nothing_is_not_asked_for_less() -> None:
    asked = Overtaxed(-1)
    with pytest.raises(ServerUnavailable):
        list(planned_windows(ServerCounts(reader(asked)), WHOLE, AT_MOST))
    assert asked.refused == 2


def test_few_runs_are_not_cut_at_all() -> None:
    asked = Runs()
    assert list(planned_windows(ServerCounts(reader(asked)), WHOLE, 10_000)) == [(WHOLE, len(SECONDS))]
    assert asked.histories == []


@pytest.mark.parametrize("with_histories", [False, True])
@pytest.mark.parametrize("newest_first", [False, True])
def test_chunks_go_on_where_the_last_one_ended(newest_first: bool, with_histories: bool) -> None:
    runs = Runs()
    snapshots = Snapshots(reader(runs), Semaphore(2), with_histories)
    rest, rows, chunks = WHOLE, [], 0
    while not rest.empty:
        before = len(rows)
        for read in snapshots.chunk(rest, 100, newest_first):
            rows += [row["expected"] for page in read.pages for row in page]
            rest = rest.rest(read.window, newest_first)
        chunks += 1
        assert rest.empty or len(rows) - before >= 100
    assert sorted(rows) == sorted(START + timedelta(seconds=second) for second in SECONDS)
    assert len(runs.read) == len(set(runs.read))
    assert chunks > 5


@pytest.mark.parametrize("newest_first", [False, True])
def test_last_chunks_are_short(newest_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in one chunk stays whole."""
    monkeypatch.setattr(prefect_runs.snapshot, "ROWS_PER_WINDOW", 50)

    def chunks(chunk_rows: int) -> list[int]:
        snapshots = Snapshots(reader(Runs()), Semaphore(2))
        rest, sizes = WHOLE, []
        while not rest.empty:
            windows = list(snapshots.chunk(rest, chunk_rows, newest_first))
            rest = rest.rest(windows[-1].window, newest_first)
            sizes.append(sum(len(page) for read in windows for page in read.pages))
        return sizes

    assert chunks(len(SECONDS) + 100) == [len(SECONDS)]
    sizes = chunks(600)
    assert sum(sizes) == len(SECONDS)
    assert sizes[0] >= 600
    assert sizes == sorted(sizes, reverse=True)
    # two hundred are expected in one moment
    assert sizes[-1] <= 200


def test_windows_of_both_kinds_of_run_have_the_connections_together() -> None:
    at_once: list[int] = []
    under_way = Counter[str]()

    class Slow(Runs):
        def expected(self, window: Window) -> list[list[dict[str, Any]]]:
            under_way["reads"] += 1
            at_once.append(under_way["reads"])
            time.sleep(0.002)
            under_way["reads"] -= 1
            return super().expected(window)

    turns = Semaphore(2)
    one, other = (Snapshots(reader(Slow()), turns).chunk(WHOLE, 100) for _ in range(2))
    for _ in zip(one, other, strict=True):
        pass
    assert max(at_once) == 2
    # both are read alone too
    assert len(list(Snapshots(reader(Slow()), turns).chunk(WHOLE, None))) > 1
    assert max(at_once) == 2


def test_a_read_that_fails_ends_those_that_wait() -> None:
    asked: list[Window] = []

    class Down(Runs):
        def expected(self, window: Window) -> list[list[dict[str, Any]]]:
            asked.append(window)
            raise ServerUnavailable("it is down")

    turns = Semaphore(1)
    with pytest.raises(ServerUnavailable, match="it is down"):
        list(Snapshots(reader(Down()), turns).chunk(WHOLE, 100))
    assert len(asked) == 1
    assert turns.acquire(blocking=False)


@pytest.mark.parametrize("with_histories", [False, True])
def test_what_was_read_ahead_is_dropped(with_histories: bool) -> None:
    runs = Runs()
    snapshots = Snapshots(reader(runs), Semaphore(2), with_histories)
    last = list(snapshots.chunk(WHOLE, 100))[-1]
    rest = WHOLE.rest(last.window)
    snapshots.close()
    before = runs.read.copy()
    following = next(snapshots.chunk(rest, 100)).window
    assert following.start == rest.start
    assert runs.read.count(following) == before.count(following) + 1
