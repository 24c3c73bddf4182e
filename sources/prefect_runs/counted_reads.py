"""The reads of one kind of run as a sync makes them: counted, what could not be read told, what is gone noted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .known import Known
from .news import News
from .outcome import Outcome, sift
from .paging import Row
from .run_reader import RunReader
from .settings import STATE_TYPES
from .tally import Tally

KNOWN_STATE_TYPES = {*STATE_TYPES, None}


class CountedReads:
    """Reads runs by `reader`; `known` is what the warehouse has, if it can be asked, and `tally` counts."""

    def __init__(self, reader: RunReader, known: Known | None, tally: Tally) -> None:
        self.reader = reader
        self.known = known
        self.tally = tally

    def pages(self, pages: Iterable[list[Row]]) -> Iterator[list[Row]]:
        """`pages`, counted; what the server could not give becomes a gap."""
        for rows in pages:
            self.tally.read(self.reader.kind.name, len(rows))
            for unknown in {row.get("state_type") for row in rows} - KNOWN_STATE_TYPES:
                self.tally.gap(
                    f"{self.reader.kind.name}: the state type {unknown} is new to this version; runs in it are loaded "
                    "as they are, and may be taken for ended or in flight wrongly"
                )
            yield rows
        for gap in self.reader.gaps:
            self.tally.gap(gap)

    def live(self, ids: set[str]) -> set[str]:
        """Those of `ids` that the warehouse has, as far as it can be asked, and without a tombstone."""
        if not self.known or not ids:
            return set()
        had = self.known.present(self.reader.kind.name, ids)
        return had - self.known.tombstoned(self.reader.kind.name, had)

    def back(self, ids: Iterable[str], outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """The runs with these ids, in the user's filters or not; those that the server does not have are noted."""
        gone = set(ids)
        for rows in self.pages(self.reader.unfiltered.by_ids(gone)):
            gone = gone - {row["id"] for row in rows}
            yield sift(news.newer(rows), outcome, news, asked_for=True)
        outcome.gone |= gone - self.reader.unreadable

    def anew(self, ids: set[str], outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """The runs with these ids: those that the warehouse has as `back` does, others if the user wants them."""
        live = self.live(ids)
        yield from self.back(live, outcome, news)
        for rows in self.pages(self.reader.by_ids(ids - live)):
            yield sift(news.newer(rows), outcome, news, asked_for=True)
