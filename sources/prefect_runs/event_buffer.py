"""The events around a window that moves forward: read once, in several slices at a time, dropped behind it.

Where the windows of a first load follow each other, the events of the next ones are read while the runs of one are
looked up in it, and while a chunk is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta

from .chains import StateEvent
from .clock import EVER
from .events import EventFeed, EventsRead
from .read_ahead import read_ahead
from .windows import Window

NEVER = datetime(1, 1, 1, tzinfo=UTC)
# runs may start before they were expected to
BEFORE = timedelta(minutes=10)
# runs that change later than this after they were expected are asked for one by one
AFTER = timedelta(hours=1)
# events of one slice: the last page of each is part empty
EVENTS_PER_SLICE = 500
# of a slice that holds more the rest is read when its turn comes: so much of each is in memory before
ENOUGH = 2 * EVENTS_PER_SLICE
# when so many are held, the runs of their time are looked up before more are read: where most runs of some days were
# deleted, the few that are left have the events of all around them
HELD = 20_000
LONGEST, SHORTEST = timedelta(hours=6), timedelta(seconds=1)

Slice = tuple[Window, EventsRead]
"""A window, and the events that occurred in it, or in the first part of it."""


class EventBuffer:
    """State events for windows of expected start times that ascend.

    Args:
        feed: the events of one kind of run.
        connections: slices read at the same time.
    """

    def __init__(self, feed: EventFeed, connections: int) -> None:
        self.kept = Window(NEVER, NEVER)
        """What the server has: from its retention to now."""
        self._feed = feed
        self._connections = connections
        self._held = self.kept
        self._reading: Generator[Slice, None, None] | None = None
        # what is left of the slice that was read last
        self._rest = self.kept
        self._slice = timedelta(minutes=10)
        self._events: dict[str, StateEvent] = {}

    def around(self, window: Window, more_follows: bool = False) -> tuple[Window, list[StateEvent]]:
        """The first piece of `window`, and the events of that time and an hour after; all of it where these are few.

        Args:
            more_follows: whether the next windows, up to now, are asked for too, and read ahead.
        """
        whole = self._around(window)
        # a backfill may go back in time
        if not self._held.start <= whole.start <= self._held.end:
            self.close()
            self._held = Window(whole.start, whole.start)
        self._events = {id_: event for id_, event in self._events.items() if event.occurred >= whole.start}
        self._held = Window(whole.start, self._held.end)
        while self._held.end < whole.end:
            piece = Window(window.start, self._held.end - AFTER)
            if len(self._events) >= HELD and piece.end - piece.start >= BEFORE:
                return piece, list(self._events.values())
            read = self._read_on(self.kept.end if more_follows else whole.end)
            self._events.update((event.state_id, event) for event in read.states)
            self._held = Window(whole.start, read.window.end)
        return window, list(self._events.values())

    def total(self, window: Window) -> int:
        """How many events that is, held or not."""
        whole = self._around(window)
        return 0 if whole.empty else self._feed.total(whole)

    def close(self) -> None:
        """Drop what is held, and what was read ahead."""
        reading, self._reading = self._reading, None
        self._events, self._held, self._rest = {}, Window(NEVER, NEVER), Window(NEVER, NEVER)
        if reading is not None:
            reading.close()

    def _around(self, window: Window) -> Window:
        return Window(max(window.start, EVER) - BEFORE, window.end + AFTER).within(self.kept)

    def _read_on(self, until: datetime) -> EventsRead:
        """The events that follow what is held: a slice, or a part of one. `until`: where new slices end."""
        if self._rest.empty:
            part, read = self._next_slice(until)
        else:
            part, read = self._rest, self._feed.read(self._rest, ENOUGH)
        self._rest = Window(read.window.end, part.end)
        # by its own length: others were cut since
        density = max(len(read.times), 1) / EVENTS_PER_SLICE
        self._slice = min(max((read.window.end - read.window.start) / density, SHORTEST), LONGEST)
        return read

    def _next_slice(self, until: datetime) -> Slice:
        read = next(self._reading, None) if self._reading else None
        if read is None:
            self._reading = read_ahead(self._calls(until), self._connections, waiting=self._connections // 2)
            read = next(self._reading)
        return read

    def _calls(self, until: datetime) -> Iterator[Callable[[], Slice]]:
        start = self._held.end
        while start < until:
            part = Window(start, min(start + self._slice, until))
            yield lambda part=part: (part, self._feed.read(part, ENOUGH))  # type: ignore[misc]
            start = part.end
