"""Runs in flight: all of them are read, but many old ones only where something happened to them, or once an hour.

Runs that were killed stay in flight for ever, so old ones only become more. What happens to them mostly ends them,
makes an event or changes their number. An edit, or one that takes the place of another, is seen within the hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from .clock import parse, text
from .paging import Row
from .progress import State
from .run_reader import DAY, RunReader
from .windows import Window

# old: expected longer ago than a day
YOUNG = DAY
OLD_READ_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class OldRuns:
    """What a sync read of old runs in flight: their expected starts, their number, and when, by the server's time."""

    window: Window
    runs: int
    read_at: datetime

    @classmethod
    def from_state(cls, state: State) -> OldRuns:
        """What `state` gave."""
        return cls(Window(parse(state["start"]), parse(state["end"])), state["runs"], parse(state["read_at"]))

    def state(self) -> State:
        """As the pipeline state keeps it."""
        return {
            "start": text(self.window.start),
            "end": text(self.window.end),
            "runs": self.runs,
            "read_at": text(self.read_at),
        }

    def stand(self, reader: RunReader, whole: Window, now: datetime) -> bool:
        """Whether they need not be read again, of those in `whole`: a request, or none when their hour is over."""
        lately = timedelta(0) <= now - self.read_at < OLD_READ_EVERY
        return lately and self.window.start <= whole.start and reader.count_open(self.window) == self.runs


class OpenRuns:
    """The runs in flight that one sync reads.

    Args:
        reader: reads the runs.
        whole: the expected starts of those in flight that matter.
        now: the server's time.
        before: the `state` that the last sync left, if any.
    """

    def __init__(self, reader: RunReader, whole: Window, now: datetime, before: State | None) -> None:
        self._reader = reader
        self._now = now
        old = OldRuns.from_state(before) if before else None
        self._old = old if old and old.stand(reader, whole, now) else None
        self.window = Window(self._old.window.end, whole.end) if self._old else whole
        """The expected starts of the runs that are read."""

    def pages(self) -> Iterator[list[Row]]:
        """Their pages."""
        if self._old:
            yield from self._reader.open(self.window)
            return
        old = Window(self.window.start, self._now - YOUNG)
        ids: set[str] = set()
        for rows in self._reader.open(self.window):
            ids.update(row["id"] for row in rows if parse(row["expected_start_time"]) < old.end)
            yield rows
        # what fits into a page is as soon read as counted
        if len(ids) > self._reader.client.page_size:
            self._old = OldRuns(old, len(ids), self._now)

    def state(self) -> State:
        """What the next sync wants as `before`, when all pages were taken; empty where it is to read all."""
        return self._old.state() if self._old else {}
