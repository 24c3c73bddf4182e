"""A sync that comes late, in parts: each reads what changed up to a time of its own, and is loaded before the next.

Memory is then bounded by what changed in a part, or was deleted since, however long the pause was. A part reads as a
sync of that time would have, but for the runs themselves, which are as they are now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from .events import LONGEST_QUERY, EventFeed
from .exceptions import AccessRefused, NotFound
from .recent_events import recent
from .run_reader import RunReader
from .settings import ReadSettings
from .windows import Window, counted_windows, packed

# all events of a part are in memory together
EVENTS_A_PART = 40_000


class LateSync:
    """Tells up to when one load reads.

    Args:
        readers: of each kind of run; called when the server's version is known.
        feed: the events of all runs.
        settings: lookback, and the runs of a chunk.
    """

    def __init__(self, readers: Callable[[], Sequence[RunReader]], feed: EventFeed, settings: ReadSettings) -> None:
        self._readers = readers
        self._feed = feed
        self._settings = settings
        self._ceilings: dict[datetime, datetime] = {}

    def ceiling(self, start_value: datetime, now: datetime) -> datetime:
        """The ceiling of a load that goes on from `start_value`: `now`, unless more than a chunk ended meanwhile."""
        if start_value not in self._ceilings:
            self._ceilings[start_value] = self._part_end(Window(start_value, now))
        return self._ceilings[start_value]

    def _part_end(self, whole: Window) -> datetime:
        readers = self._readers()
        at_most = len(readers) * (self._settings.chunk_rows or 0)
        if not at_most or whole.empty or not all(reader.counts_ended for reader in readers):
            return whole.end
        if self._events_at_most(min(at_most, EVENTS_A_PART), whole):
            return whole.end

        def weight(window: Window) -> int:
            ended = sum(reader.count_ended(window) for reader in readers)
            # what is cut anyway need not be asked for its events
            return ended if ended > at_most else max(ended, self._events(window) * at_most // EVENTS_A_PART)

        # a weight is no sum: only of the first of these windows is it known
        first, _ = next(packed(counted_windows(whole, weight, at_most), at_most))
        return first.end

    def _events(self, window: Window) -> int:
        """How many events a part reads, of runs that are gone too: none where the server gives none."""
        try:
            return sum(self._feed.total(part) for part in window.parts(LONGEST_QUERY))
        except (NotFound, AccessRefused):
            return 0

    def _events_at_most(self, number: int, whole: Window) -> bool:
        """Whether the events tell that so few runs ended, or fewer: a request that the sync makes anyway."""
        lookback = self._settings.lookback
        events = recent(whole.start - lookback, whole.end, lookback)
        # those of before may be gone
        if whole.end - whole.start > self._settings.surely_kept or events.end - events.start > LONGEST_QUERY:
            return False
        try:
            return self._feed.total(events) <= number
        except (NotFound, AccessRefused):
            return False
