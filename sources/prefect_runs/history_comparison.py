"""Compares state histories with the endpoint's, run by run: it alone tells what no event and no run's row does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Protocol

from .clock import parse
from .drift import Drift
from .histories import Histories
from .read_ahead import batches
from .run_reader import RunReader
from .snapshot import snapshot
from .windows import Window

# runs whose states are looked up in the warehouse at once
RUNS_COMPARED = 1_000


class HeldHistories(Protocol):
    """What a comparison asks of the warehouse."""

    def numbers(self, table: str, run_ids: Collection[str]) -> Mapping[str, Mapping[str, int | None]]:
        """Run id → state id → number of the state, of the runs `run_ids` of `table` (of runs)."""
        ...


class HistoryComparison:
    """Compares the state histories of one kind of run.

    Args:
        reader: reads the runs, with the user's filters.
        held: the warehouse.
        watermark: up to when the last sync read changes.

    Attributes:
        gaps: what could not be compared, in words.
    """

    def __init__(self, reader: RunReader, held: HeldHistories, watermark: datetime) -> None:
        self._reader = reader
        self._held = held
        self._watermark = watermark
        self._endpoint = Histories(reader.client, reader.kind)
        self.gaps = self._endpoint.gaps

    def differing(self, window: Window) -> Iterator[Drift]:
        """The runs expected in `window`, there on both sides, of which the warehouse lacks a state or its number."""
        for part, _, pages in snapshot(self._reader, window):
            rows = list(chain.from_iterable(pages))
            recent = {row["id"] for row in rows if parse(row["updated"]) >= self._watermark}
            yield from self.among((row["id"] for row in rows), part, recent)

    def among(self, run_ids: Iterable[str], interval: Window, recent: Collection[str] = ()) -> Iterator[Drift]:
        """The same of the runs `run_ids`; those in `recent` changed since the last sync."""
        for batch in batches(run_ids, RUNS_COMPARED):
            held = self._held.numbers(self._reader.kind.name, batch)
            for run_id, states in self._endpoint.of(sorted(held)):
                # the warehouse may know more: of a run that was deleted and made again under its id
                lacking = [state for state in states if held[run_id].get(state["id"]) != state["sequence"]]
                if lacking:
                    # its row may have been read before it moved on; the next sync brings what follows on what is there
                    highest = max((number for number in held[run_id].values() if number), default=0)
                    follow = all(state["sequence"] > highest for state in lacking)
                    later = all(parse(state["timestamp"]) >= self._watermark for state in lacking)
                    new = follow and (run_id in recent or later)
                    yield Drift(self._reader.kind.name, interval, "incomplete history", run_id, since_last_sync=new)
