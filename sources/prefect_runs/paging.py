"""Paging that loses no row: by value where a value can be asked for, by overlapping offsets where not.

An offset alone loses rows: those that are deleted, retried or started between two pages move the others,
and PostgreSQL gives rows of one timestamp in a different order to each page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .clock import MICROSECOND, parse, text
from .exceptions import ServerUnavailable

Row = dict[str, Any]
Body = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """Rows of one reply, whether the server may have more behind them, and how many in front it could not give."""

    rows: list[Row]
    full: bool
    passed: int = 0


@dataclass(frozen=True)
class Key:
    """The column that pages are cut by, with the sort that orders it."""

    column: str
    sort: str
    descending: bool = False
    unique_sort: str | None = "ID_DESC"
    """An order without ties, for what shares one value of the column; None where there is none to ask for."""


ENDED = Key("end_time", "END_TIME_DESC", descending=True)
EXPECTED = Key("expected_start_time", "EXPECTED_START_TIME_ASC")

# reads a page: sort, filter of the run's own columns, offset
ReadPage = Callable[[str, Body, int], Page]

# times a list may move under an offset read before it is given up
MOVES = 50


def keyset(read: ReadPage, key: Key, low: datetime | None, high: datetime | None) -> Iterator[list[Row]]:
    """Pages of the rows with `low <= key <= high`, each row once, in the order of the key.

    The next page starts at the last page's edge, which is read again: other rows may share it. A row that
    changes its key while the pages are read may come twice or not at all, and such a change is later than
    the sync's ceiling, so the next sync has it.

    Raises:
        ServerUnavailable: a page holds other rows than were asked for.
    """
    at_edge: set[str] = set()
    while True:
        page = read(key.sort, {key.column: bounds(low, high)}, 0)
        check_inside(low, high, [row[key.column] for row in page.rows])
        fresh = [row for row in page.rows if row["id"] not in at_edge]
        if fresh:
            yield fresh
        if not page.full:
            return
        edge = parse(page.rows[-1][key.column])
        tied = parse(page.rows[0][key.column]) == edge
        if tied:
            seen = at_edge | {row["id"] for row in page.rows}
            yield from ties(read, key, edge, seen)
            at_edge = set()
        else:
            at_edge = {row["id"] for row in page.rows if parse(row[key.column]) == edge}
        step = MICROSECOND if tied else 0 * MICROSECOND
        if key.descending:
            high = edge - step
        else:
            low = edge + step


def check_inside(low: datetime | None, high: datetime | None, times: list[str]) -> None:
    """Refuse an ordered page that begins or ends outside of what was asked for: it could be had for ever.

    Raises:
        ServerUnavailable: it does.
    """
    for time in (parse(text_) for text_ in (times[:1] + times[-1:])):
        if (low is not None and time < low) or (high is not None and time > high):
            raise ServerUnavailable(
                f"a page of {low} to {high} holds {time}: an old reply to another request. Is there a cache in front "
                "of the server? Try again later."
            )


def bounds(low: datetime | None, high: datetime | None) -> dict[str, str]:
    """The API's inclusive range filter, exact to the microsecond; nulls are outside any range."""
    range_: dict[str, str] = {}
    if low is not None:
        range_["after_"] = text(low)
    if high is not None:
        range_["before_"] = text(high)
    return range_


def ties(read: ReadPage, key: Key, at: datetime, seen: set[str]) -> Iterator[list[Row]]:
    """Pages of the rows whose key is exactly `at` and whose id is not in `seen`: more than a page of them.

    Ids are unique, so their order is the same on every page, whatever the database.
    """

    def read_at(offset: int) -> Page:
        return read(key.unique_sort or key.sort, {key.column: bounds(at, at)}, offset)

    for rows in overlapping(read_at) if key.unique_sort else [unordered(read_at)]:
        fresh = [row for row in rows if row["id"] not in seen]
        if fresh:
            yield fresh


def unordered(read: Callable[[int], Page]) -> list[Row]:
    """The rows of a list at rest that may come in another order with each page: read until none can be missing.

    Raises:
        ServerUnavailable: some did not come for a long time.
    """
    rows: dict[str, Row] = {}
    for _ in range(MOVES):
        offset, full = 0, True
        while full:
            page = read(offset)
            rows.update((row["id"], row) for row in page.rows)
            offset, full = offset + len(page.rows), page.full
        if len(rows) >= offset:
            return list(rows.values())
    raise ServerUnavailable("a list came in another order with each page; try again later")


def overlapping(
    read: Callable[[int], Page], same_place: Callable[[list[Row]], int] = lambda rows: 1
) -> Iterator[list[Row]]:
    """Pages of an ordered list that can only be read by offset, each row once.

    Each page begins with rows of the page before, or passes over some that the server could not give; where it does
    neither, rows in front were removed and the read steps back until it meets one. `same_place` tells how many rows at
    a page's end belong to one place of the order and so are read again together.

    Raises:
        ServerUnavailable: the list moves faster than it can be read.
    """
    seen: set[str] = set()
    offset, stride, moves = 0, 0, 0
    while True:
        page = read(offset)
        fresh = [row for row in page.rows if row["id"] not in seen]
        # as many new rows in front as would make a page of old ones, or so many fewer that none overlaps
        joins = not offset or page.passed
        if not joins and len(fresh) in (0, len(page.rows)):
            moves += 1
            if moves > MOVES:
                raise ServerUnavailable("a list changed faster than it could be paged; try again later")
        if not joins and len(fresh) == len(page.rows):
            offset = max(0, offset - max(stride, 1))
            continue
        if fresh:
            seen.update(row["id"] for row in fresh)
            yield fresh
        if not page.full:
            return
        stride = max(len(page.rows) - same_place(page.rows), 1)
        offset += page.passed + stride


class Listing:
    """A list that can only be read by offset, and whose rows may change places between two pages.

    Attributes:
        found: ids of the rows that were given.
        requests: pages that were asked for.
    """

    def __init__(self, read: Callable[[int], Page]) -> None:
        self.found: set[str] = set()
        self.requests = 0
        self._ask = read
        self._there = 0

    @property
    def lacks_rows(self) -> bool:
        """Whether the server has more rows than were given: some were in no page."""
        return len(self.found) < self._there

    def pages(self) -> Iterator[list[Row]]:
        """Pages of the rows that were not given yet.

        Raises:
            ServerUnavailable: as `overlapping`.
        """
        return self.unseen(overlapping(self._read))

    def unseen(self, pages: Iterable[list[Row]]) -> Iterator[list[Row]]:
        """What was not given yet of pages that were read in another way."""
        for rows in pages:
            fresh = [row for row in rows if row["id"] not in self.found]
            self.found.update(row["id"] for row in fresh)
            if fresh:
                yield fresh

    def _read(self, offset: int) -> Page:
        page = self._ask(offset)
        self.requests += 1
        self._there = offset + len(page.rows)
        return page


def same_end(rows: list[Row], column: str = "end_time") -> int:
    """Rows at the end of a page that share its last `end_time`; all of them when the whole page does."""
    edge = rows[-1][column]
    return sum(1 for row in rows if row[column] == edge)
