"""The reads of runs that a sync is made of: what ended, what is open, runs by id, runs by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain

from .client import PrefectClient
from .clock import parse, text
from .exceptions import ServerFailed, UnexpectedReply, described
from .filters import body, wanted_state_types
from .paging import ENDED, EXPECTED, Body, Page, Row, bounds, keyset, overlapping, same_end
from .read_ahead import batches, read_ahead
from .rescue import RunPages
from .rows import check_run
from .settings import STATE_TYPES, STATES_OF, TERMINAL_STATE_TYPES, RunFilters
from .windows import Window

# the server sorts by the newest end only; in parts, what it is about to forget is read before what it will keep
DAY = timedelta(days=1)
FAR_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
IN_FLIGHT_STATE_TYPES = [name for name in STATE_TYPES if name not in TERMINAL_STATE_TYPES]


@dataclass(frozen=True)
class RunKind:
    """What differs between flow runs and task runs in the API."""

    name: str
    one: str
    resource_prefix: str
    """What ids of such runs begin with in events."""
    ends_filterable_since: tuple[int, ...]
    """First server version whose filter knows the runs' `end_time`."""

    @property
    def states(self) -> str:
        """Name of the table of such runs' states."""
        return STATES_OF[self.name]

    @property
    def run_column(self) -> str:
        """Name of the column that holds such a run's id elsewhere."""
        return f"{self.one}_run_id"


FLOW_RUN = RunKind("flow_runs", "flow", "prefect.flow-run", (3, 0, 4))
TASK_RUN = RunKind("task_runs", "task", "prefect.task-run", (3, 6, 22))


class RunReader:
    """Reads runs of one kind from one server, with the user's filters.

    Every read is complete but for the runs named in `gaps`, or raises.
    """

    def __init__(
        self, client: PrefectClient, kind: RunKind, filters: RunFilters, server: tuple[int, ...] | None
    ) -> None:
        self.client = client
        self.kind = kind
        self.server = server
        self._filters = filters
        self._pages = RunPages(client, kind.name)
        self._end_filterable = server is None or server >= kind.ends_filterable_since

    @property
    def gaps(self) -> list[str]:
        """Runs that the server has and could not give, in words."""
        return self._pages.gaps

    @property
    def unreadable(self) -> set[str]:
        """The ids of runs that the server has and could not give, as far as they are known."""
        return self._pages.unreadable

    @cached_property
    def unfiltered(self) -> RunReader:
        """A reader without the user's filters."""
        whole = RunReader(self.client, self.kind, RunFilters(), self.server)
        whole._pages = self._pages
        return whole

    @property
    def filtered(self) -> bool:
        """Whether the user asked for some runs only."""
        return bool(body(self._filters, self.kind.name, {}))

    @property
    def narrowed(self) -> bool:
        """Whether the user asked for some of the runs by more than their start."""
        return bool(body(self._filters.without_start(), self.kind.name, {}))

    def leaves_out(self, window: Window) -> bool:
        """Whether the user's filters may leave out runs expected in `window`."""
        return self.narrowed or (self.start is not None and self.start > window.start)

    @property
    def start(self) -> datetime | None:
        """The user's bound: runs expected earlier are not wanted."""
        return self._filters.start

    @property
    def state_types(self) -> set[str] | None:
        """The state types that the user asked for; None for all."""
        return wanted_state_types(self._filters)

    def ended(self, window: Window, or_later: bool = True) -> Iterator[list[Row]]:
        """Pages of the runs whose `end_time` is in `window` or later: day by day, for the oldest go first.

        Args:
            or_later: False where `counts_ended`, for those in `window` alone.
        """
        if self._end_filterable:
            days = list(window.parts(DAY)) or [window]
            for day in days[:-1] if or_later else days:
                yield from keyset(self._read_page, ENDED, day.start, day.last)
            if or_later:
                yield from keyset(self._read_page, ENDED, days[-1].start, None)
            return
        since = window.start
        # without a filter on end_time the newest ends are a list that grows in front; a run that was
        # started has an end_time once it is terminal, so none sorts as null
        started = {"state": {"type": {"any_": list(TERMINAL_STATE_TYPES)}}, "start_time": {"is_null_": False}}
        pages = overlapping(lambda offset: self._read_page(ENDED.sort, started, offset), same_end)
        for rows in pages:
            yield [row for row in rows if (_ended(row) or since) >= since]
            if (oldest := _ended(rows[-1])) and oldest < since:
                return

    def open(self, window: Window) -> Iterator[list[Row]]:
        """Pages of the runs expected in `window` that have no `end_time`.

        Those are all runs in flight, all without a state, and (servers before 3.6.14) those that ended before
        they started, which never get an `end_time`.
        """
        return chain.from_iterable(self._keyset_expected(window, own) for own in self._open_conditions())

    def count_open(self, window: Window) -> int:
        """How many runs `open` gives, and how many of them it cannot give."""
        return sum(self._count("expected_start_time", window, own) for own in self._open_conditions())

    def _open_conditions(self) -> list[Body]:
        if self._end_filterable:
            return [{"end_time": {"is_null_": True}}]
        not_started = {"start_time": {"is_null_": True}}
        started = {"start_time": {"is_null_": False}, "state": {"type": {"any_": IN_FLIGHT_STATE_TYPES}}}
        return [not_started, started]

    def expected(self, window: Window) -> list[list[Row]]:
        """All pages of the runs expected in `window`."""
        return list(self._keyset_expected(window, {}))

    def settled_from(self, start: datetime) -> Iterator[list[Row]]:
        """Pages of the runs expected at `start` or later that do not wait for it: cancelled, started early."""
        own = {"state": {"type": {"any_": [name for name in STATE_TYPES if name != "SCHEDULED"]}}}
        return self._keyset_expected(Window(start, FAR_FUTURE), own)

    def count(self, window: Window) -> int:
        """How many runs are expected in `window`."""
        return self._count("expected_start_time", window)

    @property
    def counts_ended(self) -> bool:
        """Whether the server can tell how many runs ended in a window."""
        return self._end_filterable

    def count_ended(self, window: Window) -> int:
        """How many runs have an `end_time` in `window`; only where `counts_ended`."""
        return self._count("end_time", window)

    def _count(self, time: str, window: Window, own: Body | None = None) -> int:
        asked = {**(own or {}), time: bounds(window.start, window.last)}
        path = f"/{self.kind.name}/count"
        count = self.client.post(path, body(self._filters, self.kind.name, asked))
        # the exact type: true is an integer to isinstance
        if type(count) is not int:
            raise UnexpectedReply(f"POST {path} answered {described(count)} where a number was due")
        return count

    def history(self, window: Window, step: timedelta) -> list[Row]:
        """The server's own counts: an item for each `step` of `window`, at most `HISTORY_INTERVALS` of them.

        Each has `interval_start`, `interval_end`, and `states`: `state_type`, `state_name`, `count_runs`, … of the
        runs expected in it, by their present state.
        """
        path = f"/{self.kind.name}/history"
        asked = {
            # by type, for one run without (a row made past the API) would make the whole answer a 500
            **body(self._filters, self.kind.name, {"state": {"type": {"any_": list(STATE_TYPES)}}}),
            "history_start": text(window.start),
            "history_end": text(window.end),
            "history_interval_seconds": step.total_seconds(),
        }
        reply = self.client.post(path, asked)
        if not isinstance(reply, list) or not all(isinstance(item, dict) and "states" in item for item in reply):
            raise UnexpectedReply(f"POST {path} answered {described(reply)} where intervals with states were due")
        return reply

    @cached_property
    def oldest(self) -> datetime | None:
        """The expected start of the oldest run when first asked, or None where there is no run."""
        whole: Body = {"expected_start_time": {}}
        try:
            rows = self._read_page(EXPECTED.sort, whole, 0, limit=1).rows
        except ServerFailed:
            # the oldest itself cannot be read: the oldest that can
            rows = self._read_page(EXPECTED.sort, whole, 0).rows
        return parse(rows[0]["expected_start_time"]) if rows else None

    def by_ids(self, ids: Iterable[str]) -> Iterator[list[Row]]:
        """Pages of the runs with these ids; ids that the server does not have are missing from them."""
        calls = (self._id_call(batch) for batch in batches(sorted(set(ids)), self.client.page_size))
        return read_ahead(calls, self.client.connections)

    def missing(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that the server does not have, or that the filters leave out."""
        missing = set(ids)
        for rows in self.by_ids(missing):
            missing = missing - {row["id"] for row in rows}
        return missing - self.unreadable

    def _id_call(self, ids: list[str]) -> Callable[[], list[Row]]:
        def read() -> list[Row]:
            rows: list[Row] = []
            for page in overlapping(lambda offset: self._read_page("ID_DESC", {"id": {"any_": ids}}, offset)):
                rows.extend(page)
                if len(rows) == len(ids):
                    break
            return rows

        return read

    def _keyset_expected(self, window: Window, own: Body) -> Iterator[list[Row]]:
        def read(sort: str, bounds: Body, offset: int) -> Page:
            return self._read_page(sort, {**own, **bounds}, offset)

        return keyset(read, EXPECTED, window.start, window.last)

    def _read_page(self, sort: str, own: Body, offset: int, limit: int | None = None) -> Page:
        asked = {**body(self._filters, self.kind.name, own), "sort": sort, "offset": offset}
        page = self._pages.read(asked, limit)
        for row in page.rows:
            check_run(row, f"POST /{self.kind.name}/filter")
        return page


def _ended(row: Row) -> datetime | None:
    return parse(row["end_time"]) if row["end_time"] else None
