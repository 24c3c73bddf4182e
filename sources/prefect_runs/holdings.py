"""What verify asks of the warehouse, and a run as either side has it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from .clock import as_utc
from .paging import Row
from .rows import version
from .windows import Window


class Held(NamedTuple):
    """A live run as the warehouse has it, or as the server gave it: what tells two copies apart."""

    id: str
    expected_start_time: datetime
    state_type: str | None
    state_name: str | None
    state_id: str | None
    updated: datetime
    state_timestamp: datetime | None
    end_time: datetime | None


class Holdings(Protocol):
    """What verify asks of the warehouse, about the live runs of one workspace."""

    def oldest(self, table: str) -> datetime | None:
        """The earliest expected start; None where there is no run."""
        ...

    def count(self, table: str, window: Window) -> int:
        """Rows of runs expected in `window`."""
        ...

    def states(self, table: str, window: Window) -> Iterator[tuple[datetime, str | None, str | None]]:
        """Expected start, state type and state name of every row expected in `window`."""
        ...

    def runs(self, table: str, window: Window) -> list[Held]:
        """The rows of the runs expected in `window`."""
        ...

    def rows(self, table: str, window: Window) -> list[Row]:
        """The same with every column and child table, as `comparison.Comparison` takes them."""
        ...

    def ends(self, table: str, ids: Collection[str]) -> Mapping[str, datetime | None]:
        """See `known.Known`."""
        ...

    def without_history(self, table: str, window: Window) -> set[str]:
        """Runs expected in `window` whose present state is not in their state history."""
        ...


def as_held(row: Row) -> Held:
    """What is compared of a row, the API's or the warehouse's."""
    updated, entered = version(row) if "state" in row else (as_utc(row["updated"]), _time(row["state_timestamp"]))
    expected, ended = as_utc(row["expected_start_time"]), _time(row["end_time"])
    return Held(row["id"], expected, row["state_type"], row["state_name"], row["state_id"], updated, entered, ended)


def _time(value: datetime | str | None) -> datetime | None:
    return None if value is None else as_utc(value)


def columns_that_differ(server: Held, held: Held) -> tuple[str, ...]:
    """The names of what two copies of a run do not have in common."""
    return tuple(name for name in Held._fields if getattr(server, name) != getattr(held, name))
