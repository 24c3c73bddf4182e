"""Tombstones of what the server no longer has, and the end of those whose run or row came back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime

from .clock import text
from .known import Known
from .paging import Row
from .read_ahead import batches
from .retention import Reason

# rows of one page
A_PAGE = 1_000
# the reason where a run never had a row
EVENTS_ONLY = "events_only"
# the reason of what the server's own list no longer has
DELETED: Reason = "deleted"


class Tombstones:
    """Makes pages of rows of `tombstones` for one sync.

    Args:
        known: the warehouse.
        noticed_at: the server's time when the sync began.
        reason: why a run is gone that ended then.
    """

    def __init__(self, known: Known, noticed_at: datetime, reason: Callable[[datetime | None], Reason]) -> None:
        self._known = known
        self._noticed_at = noticed_at
        self._reason = reason

    def of_small_table(self, table: str, there: set[str]) -> Iterator[list[Row]]:
        """Of the rows of a table that was read whole: what the server has is `there`."""
        yield [self._made(table, id_, DELETED) for id_ in sorted(self._known.live_ids(table) - there)]
        yield [_ended(table, id_) for id_ in sorted(self._known.tombstoned(table, there))]

    def of_gone(self, runs: Mapping[str, Collection[str]]) -> Iterator[list[Row]]:
        """Of the runs (table → ids) that the server no longer has, and of the task runs that went with them."""
        gone = {table: set(ids) for table, ids in runs.items()}
        # no read shows those that ended long before
        gone.setdefault("task_runs", set()).update(self._known.task_runs_of(gone.get("flow_runs", set())))
        for table, run_ids in gone.items():
            for ids in batches(sorted(run_ids), A_PAGE):
                ends = self._known.ends(table, ids)
                yield [self._made(table, id_, self._reason(ends.get(id_))) for id_ in ids]

    def of_lost(self, table: str, ids: Collection[str]) -> Iterator[list[Row]]:
        """Of the runs that events alone tell of."""
        for batch in batches(sorted(ids), A_PAGE):
            yield [self._made(table, id_, EVENTS_ONLY) for id_ in batch]

    def buried(self, table: str, ids: Iterable[str]) -> set[str]:
        """Those of the runs `ids` that have a tombstone."""
        return {id_ for batch in batches(ids, A_PAGE) for id_ in self._known.tombstoned(table, batch)}

    def ended_of(self, table: str, back: Iterable[str]) -> Iterator[list[Row]]:
        """The end of those of the runs `back`, for the server has them again."""
        for ids in batches(sorted(back), A_PAGE):
            yield [_ended(table, id_) for id_ in ids]

    def _made(self, table: str, id_: str, reason: str) -> Row:
        return {"resource": table, "id": id_, "noticed_at": text(self._noticed_at), "reason": reason}


def _ended(table: str, id_: str) -> Row:
    return {"resource": table, "id": id_, "returned": True}
