"""The events around a window that moves forward: read once, in several slices at a time, dropped behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from .chains import StateEvent
from .events import EventFeed, EventsRead
from .read_ahead import read_ahead
from .windows import Window

# runs may start before they were expected to
BEFORE = timedelta(minutes=10)
# runs that change later than this after they were expected are asked for one by one
AFTER = timedelta(hours=1)
# events of one slice: the last page of each is part empty
EVENTS_PER_SLICE = 500
LONGEST, SHORTEST = timedelta(hours=6), timedelta(seconds=1)


class EventBuffer:
    """State events for windows of expected start times that ascend.

    Args:
        feed: the events of one kind of run.
        kept: what the server has: from its retention to now.
        connections: slices read at the same time.
    """

    def __init__(self, feed: EventFeed, kept: Window, connections: int) -> None:
        self._feed = feed
        self._kept = kept
        self._connections = connections
        self._first = kept.start
        self._read_until: datetime | None = None
        self._slice = timedelta(minutes=10)
        self._events: dict[str, StateEvent] = {}

    def around(self, window: Window) -> list[StateEvent]:
        """The events of the time of `window` and an hour after it."""
        whole = self._around(window)
        start, end = whole.start, whole.end
        if self._read_until and start < self._first:
            # a backfill that goes back in time
            self._events, self._read_until = {}, None
        self._first = start
        self._events = {id_: event for id_, event in self._events.items() if event.occurred >= start}
        self._read(Window(max(start, self._read_until or start), end))
        return self.events

    def total(self, window: Window) -> int:
        """How many events that is, held or not."""
        whole = self._around(window)
        return 0 if whole.empty else self._feed.total(whole)

    def _around(self, window: Window) -> Window:
        return Window(max(window.start - BEFORE, self._kept.start), min(window.end + AFTER, self._kept.end))

    @property
    def events(self) -> list[StateEvent]:
        """The events that are held."""
        return list(self._events.values())

    def _read(self, window: Window) -> None:
        if window.empty:
            return
        for read in read_ahead(self._calls(window), self._connections):
            density = max(len(read.times), 1) / EVENTS_PER_SLICE
            self._slice = min(max(self._slice / density, SHORTEST), LONGEST)
            self._events.update((event.state_id, event) for event in read.states)
        self._read_until = window.end

    def _calls(self, window: Window) -> Iterator[Callable[[], EventsRead]]:
        start = window.start
        while start < window.end:
            part = Window(start, min(start + self._slice, window.end))
            yield lambda part=part: self._feed.read(part)  # type: ignore[misc]
            start = part.end
