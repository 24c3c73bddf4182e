"""Runs in flight: all of them are read, but many old ones only when their number changed, or an hour began.

Runs that were killed stay in flight for ever, so old ones only become more. What happens to them mostly ends them,
makes an event or changes their number. An edit, or one that takes the place of another, is seen within the hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from .clock import in_one_step, parse, text
from .paging import Row
from .progress import State
from .run_reader import DAY, RunReader
from .windows import Window

# old: expected longer ago than this
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


class OpenRuns:
    """The runs in flight that one sync reads.

    Args:
        reader: reads the runs.
        wanted: the expected starts of those in flight that matter.
        now: the server's time.
        before: the `state` that the last sync left; None where it left none, or all are to be read.
    """

    def __init__(self, reader: RunReader, wanted: Window, now: datetime, before: State | None) -> None:
        self._reader = reader
        self._wanted = wanted
        self._now = now
        self._before = OldRuns.from_state(before) if before else None
        self._read: OldRuns | None = None

    @property
    def whole(self) -> Window:
        """The expected starts of the runs that are read, or need not be."""
        if not self._before:
            return self._wanted
        # those that ceased to matter since they were read are read once more
        return Window(min(self._wanted.start, self._before.window.start), self._wanted.end)

    @cached_property
    def window(self) -> Window:
        """The expected starts of the runs that are read; asks how many old ones there are, if they were read lately."""
        old = self._unchanged
        return Window(old.window.end, self._wanted.end) if old else self.whole

    @cached_property
    def _unchanged(self) -> OldRuns | None:
        old = self._before
        if old and in_one_step(old.read_at, self._now, OLD_READ_EVERY):
            return old if self._reader.count_open(old.window) == old.runs else None
        return None

    def pages(self) -> Iterator[list[Row]]:
        """Their pages."""
        old = Window(self._wanted.start, self._now - YOUNG)
        ids: set[str] = set()
        for rows in self._reader.open(self.window):
            ids.update(row["id"] for row in rows if old.start <= parse(row["expected_start_time"]) < old.end)
            yield rows
        # what fits into a page is as soon read as counted
        read = OldRuns(old, len(ids), self._now) if len(ids) > self._reader.client.page_size else None
        self._read = self._unchanged or read

    def state(self) -> State:
        """What the next sync wants as `before`, when all pages were taken; empty where it is to read all."""
        return self._read.state() if self._read else {}
