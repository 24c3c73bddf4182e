"""What a first load reads ahead of its time is what it would have read then, and is asked for once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Copy
from fault_proxy import FaultProxy
from prefect_api import PrefectApi

import prefect_runs.event_buffer
import prefect_runs.histories
from prefect_runs.event_buffer import AFTER, BEFORE, ENOUGH, EventBuffer
from prefect_runs.events import EventsRead
from prefect_runs.exceptions import ServerUnavailable
from prefect_runs.histories import Histories
from prefect_runs.run_reader import FLOW_RUN
from prefect_runs.server import Server
from prefect_runs.windows import Window
from prefect_runs_pipelines.target import Target

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KEPT = Window(START, START + 60 * HOUR)
CONNECTIONS = 2
CHUNK = 2


def hours(start: float, end: float) -> Window:
    return Window(START + start * HOUR, START + end * HOUR)


class Feed:
    """Stands in for the events of a server that has one a minute, and many in one hour; notes what it read."""

    def __init__(self) -> None:
        self.read_windows: list[Window] = []
        self.numbers: list[int] = []
        minutes = [START + minute * MINUTE for minute in range(60 * 60)]
        self.states = [SimpleNamespace(state_id=str(time), occurred=time) for time in minutes]

    def burst(self, window: Window, events: int) -> None:
        step = (window.end - window.start) / events
        times = [window.start + number * step for number in range(events)]
        self.states += [SimpleNamespace(state_id=f"burst {time}", occurred=time) for time in times]
        self.states.sort(key=lambda state: state.occurred)

    def within(self, window: Window) -> list[Any]:
        return [state for state in self.states if window.start <= state.occurred < window.end]

    def read(self, window: Window, enough: int) -> EventsRead:
        states = self.within(window)
        if len(states) > enough:
            window, states = Window(window.start, states[enough].occurred), states[:enough]
        self.read_windows.append(window)
        self.numbers.append(len(states))
        return EventsRead(window, [state.occurred for state in states], states)


def held(buffer: EventBuffer, feed: Feed, window: Window, more_follows: bool) -> list[int]:
    """For each piece of `window` its events are those that the server has, and none older or much later; how many."""
    numbers = []
    while not window.empty:
        piece, events = buffer.around(window, more_follows)
        whole = Window(max(piece.start - BEFORE, KEPT.start), min(piece.end + AFTER, KEPT.end))
        found = {event.state_id: event.occurred for event in events}
        due = {state.state_id for state in feed.within(whole)}
        assert due <= found.keys()
        assert min(found.values()) >= whole.start
        assert len(found) <= len(due) + ENOUGH
        assert piece.start == window.start
        assert not piece.empty
        numbers.append(len(found))
        window = window.rest(piece)
    return numbers


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def buffer(feed: Feed) -> EventBuffer:
    events: Any = feed
    buffer = EventBuffer(events, CONNECTIONS)
    buffer.kept = KEPT
    return buffer


def test_events_of_windows_that_follow_each_other(buffer: EventBuffer, feed: Feed) -> None:
    for begin in range(5, 60, 5):
        held(buffer, feed, hours(begin, begin + 5), more_follows=True)
    asked = sorted(feed.read_windows, key=lambda window: window.start)
    assert (asked[0].start, asked[-1].end) == (START + 5 * HOUR - BEFORE, KEPT.end)
    # each once
    assert all(one.end == following.start for one, following in pairwise(asked))


def test_many_events_after_few_are_not_read_at_once(buffer: EventBuffer, feed: Feed) -> None:
    feed.burst(hours(30, 31), 20 * ENOUGH)
    for begin in range(5, 59):
        held(buffer, feed, hours(begin, begin + 1), more_follows=True)
    assert max(feed.numbers) == ENOUGH
    assert sum(feed.numbers) == len(feed.within(hours(5, 60))) + BEFORE // MINUTE


def test_no_more_events_are_held_than_those_of_a_piece(
    buffer: EventBuffer, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are around one, but not those of days, of which most runs may have been deleted."""
    [number] = held(buffer, feed, hours(5, 55), more_follows=True)
    assert number >= len(feed.within(hours(5, 55)))
    buffer.close()
    monkeypatch.setattr(prefect_runs.event_buffer, "HELD", 200)
    numbers = held(buffer, feed, hours(5, 55), more_follows=True)
    assert len(numbers) > 5
    # of a slice that was begun all is read
    assert max(numbers) <= 200 + ENOUGH


def test_server_has_more_events_than_when_the_buffer_was_made(buffer: EventBuffer, feed: Feed) -> None:
    buffer.kept = hours(0, 20)
    for begin in (10, 15):
        _, events = buffer.around(hours(begin, begin + 5), more_follows=True)
    assert events[-1].occurred == START + 20 * HOUR - MINUTE
    buffer.kept = KEPT
    held(buffer, feed, hours(20, 25), more_follows=True)


def test_events_of_the_next_window_are_read_while_nobody_asks(buffer: EventBuffer, feed: Feed) -> None:
    held(buffer, feed, hours(5, 10), more_follows=True)
    deadline = time.monotonic() + 60
    while max(window.end for window in feed.read_windows) < START + 10 * HOUR + AFTER + HOUR:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    buffer.close()


def test_events_after_the_last_window_are_not_read(buffer: EventBuffer, feed: Feed) -> None:
    for begin in (5, 10):
        held(buffer, feed, hours(begin, begin + 5), more_follows=False)
    assert max(window.end for window in feed.read_windows) == START + 15 * HOUR + AFTER


@pytest.mark.parametrize("begin", [1, 40], ids=["back", "far ahead"])
def test_events_of_a_window_elsewhere(buffer: EventBuffer, feed: Feed, begin: int) -> None:
    held(buffer, feed, hours(10, 15), more_follows=True)
    held(buffer, feed, hours(begin, begin + 1), more_follows=True)
    buffer.close()


class Client:
    """Stands in for the client of a server whose runs have a state each; notes whose states it was asked for."""

    connections = CONNECTIONS

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    def get(self, path: str, params: dict[str, str]) -> list[dict[str, str]]:
        assert path == "/flow_run_states/"
        down = self.down
        self.asked.append(params["flow_run_id"])
        if down:
            raise ServerUnavailable("it is down")
        return [{"id": f"state of {params['flow_run_id']}", "timestamp": START.isoformat()}]

    def rows(self, reply: Any, asked: str) -> Any:
        return reply


def test_histories_that_were_begun_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_runs.histories, "BEGUN", 3)
    client: Any = Client()
    histories = Histories(client, FLOW_RUN)
    histories.begin(iter("abcdef"))
    found = list(histories.of("fedcb"))
    assert [run_id for run_id, _ in found] == list("fedcb")
    assert [states[0]["id"] for _, states in found] == [f"state of {run_id}" for run_id in "fedcb"]
    histories.close()
    assert sorted(client.asked) == list("abcdef")
    # what was begun and not taken is dropped
    assert [run_id for run_id, _ in histories.of("a")] == ["a"]
    assert client.asked.count("a") == 2


def test_history_that_could_not_be_begun_is_fetched_when_it_is_wanted() -> None:
    client: Any = Client()
    histories = Histories(client, FLOW_RUN)
    client.down = True
    histories.begin(iter("ab"))
    deadline = time.monotonic() + 60
    while len(client.asked) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.down = False
    assert [run_id for run_id, _ in histories.of("ab")] == ["a", "b"]
    assert sorted(client.asked) == list("aabb")


def test_next_histories_are_fetched_while_a_chunk_is_loaded(
    copy: Copy, api: PrefectApi, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, and the copy is as true as without."""
    runs = {api.flow_run(None) for _ in range(9)}
    for run_id in runs:
        api.complete_flow_run(run_id)
    api.outlive_its_second()
    copy.url = proxy.url
    copy.settings["chunk_rows"] = CHUNK
    load, read_ahead = Target._load_package, Server.read_ahead
    before_loads: list[int] = []
    in_chunks: list[int] = []

    def asked() -> list[str]:
        return [request.query["flow_run_id"] for request in proxy.requests if request.matches("/flow_run_states")]

    def watched(self: Target) -> Any:
        deadline = time.monotonic() + (0 if before_loads else 60)
        while len(asked()) <= in_chunks[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        before_loads.append(len(asked()))
        return load(self)

    def when_runs_are_there(self: Server) -> None:
        in_chunks.append(sum(len(outcome.runs) for outcome in self.capture("flow_runs").outcomes))
        # of what a busy machine has not read by then nothing is begun
        deadline = time.monotonic() + (0 if before_loads else 60)
        while not any(self.capture("flow_runs").runs_ahead) and time.monotonic() < deadline:
            time.sleep(0.01)
        read_ahead(self)

    monkeypatch.setattr(Target, "_load_package", watched)
    monkeypatch.setattr(Server, "read_ahead", when_runs_are_there)
    copy.sync_and_compare()
    assert before_loads[0] > in_chunks[0] > 0
    assert len(before_loads) > 2
    assert runs <= set(asked())
    assert len(asked()) == len(set(asked()))
