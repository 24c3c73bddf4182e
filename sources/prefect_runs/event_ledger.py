"""How many events of the recent past were read, per slice of time: tells in one request whether any came late.

Pure: no I/O, no clock. Events may occur now and arrive later, so what was read must be compared with what the
server has by now; only counts are kept, for the pipeline state must stay small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .clock import floor, parse, text
from .windows import Window

SLICES = 10
# events are visible 0.1 to 5 seconds after the fact; what is younger than this is read again anyway
SETTLE = timedelta(seconds=30)


@dataclass(frozen=True)
class EventLedger:
    """Events read in `window`, as counts per slice of the lookback."""

    window: Window
    slice: timedelta
    counts: dict[datetime, int]

    @classmethod
    def of(cls, window: Window, lookback: timedelta, occurred: Iterable[datetime]) -> EventLedger:
        """The ledger of events that were read in `window`."""
        slice_ = _slice(lookback)
        return cls(window, slice_, dict(Counter(floor(time, slice_) for time in occurred)))

    @classmethod
    def from_state(cls, state: dict[str, Any], lookback: timedelta) -> EventLedger | None:
        """The ledger that `state` was made from; None where the lookback was another one then."""
        if state["slice"] != _slice(lookback).total_seconds():
            return None
        window = Window(parse(state["start"]), parse(state["end"]))
        counts = {parse(start): count for start, count in state["counts"].items()}
        return cls(window, _slice(lookback), counts)

    def state(self) -> dict[str, Any]:
        """The ledger for the pipeline state: at most a dozen numbers."""
        return {
            "start": text(self.window.start),
            "end": text(self.window.end),
            "slice": self.slice.total_seconds(),
            "counts": {start.isoformat(): count for start, count in sorted(self.counts.items())},
        }

    def covers(self, begin: datetime) -> bool:
        """Whether every slice from `begin` on was read."""
        return self.window.start <= begin <= self.window.end

    @property
    def settled(self) -> datetime:
        """Before this time events are expected to be complete."""
        return floor(self.window.end - SETTLE, self.slice)

    @property
    def total(self) -> int:
        """All events that were read."""
        return sum(self.counts.values())

    def count(self, start: datetime, end: datetime | None = None) -> int:
        """Events read in the slices from `start` to before `end`."""
        return sum(n for slice_, n in self.counts.items() if slice_ >= start and (end is None or slice_ < end))

    def extended(self, newer: EventLedger, start: datetime) -> EventLedger:
        """This ledger from `start` on, its slices replaced by those of `newer` where that one begins."""
        kept = {slice_: n for slice_, n in self.counts.items() if start <= slice_ < newer.window.start}
        return EventLedger(Window(start, newer.window.end), self.slice, {**kept, **newer.counts})

    def without(self, unresolved: Iterable[datetime]) -> EventLedger:
        """This ledger less the events at these times, so that they are read again."""
        counts = Counter(self.counts)
        counts.subtract(floor(time, self.slice) for time in unresolved)
        return EventLedger(self.window, self.slice, dict(counts))

    def since(self, since: datetime) -> EventLedger:
        """Only the slices from the one that holds `since` on."""
        begin = max(floor(since, self.slice), self.window.start)
        kept = {slice_: n for slice_, n in self.counts.items() if slice_ >= begin}
        return EventLedger(Window(begin, self.window.end), self.slice, kept)


def slice_start(since: datetime, lookback: timedelta) -> datetime:
    """The start of the slice that holds `since`: events are read and compared by whole slices."""
    return floor(since, _slice(lookback))


def _slice(lookback: timedelta) -> timedelta:
    return max(timedelta(seconds=round(lookback.total_seconds() / SLICES)), timedelta(seconds=1))
