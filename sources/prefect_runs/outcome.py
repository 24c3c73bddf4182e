"""What one reading of changed runs brought: the runs, their events, and what is left to be read again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from .chains import StateEvent
from .clock import parse
from .news import News
from .paging import Row
from .progress import State
from .rows import is_torn

# a longer message is not kept in memory until the state's turn comes
LONGEST_MESSAGE = 10_000
# a server records a task run after its client began it, by clocks that may differ
CLOCKS_DIFFER = timedelta(minutes=5)


class RunRef(NamedTuple):
    """A run that was read: the state it is in, and whether its row was news.

    `state` is that state in full, where it may serve; `born_with` says that the run was made in it; `begun_again` that
    it was made well before it began: by an execution before its last.
    """

    id: str
    state_id: str | None
    news: bool
    expected: datetime
    state: Row | None
    born_with: bool
    state_type: str | None
    flow_run_id: str | None
    begun_again: bool


@dataclass
class Outcome:
    """What carrying out a plan brought: runs and events read, runs that are gone or torn, what to remember.

    `in_windows`: the runs are all those of windows of expected start, not those that changed. `first_load`: and the
    windows are those of a first load. `are_new`: the warehouse has none of these. `cancelled`: flow runs that were
    cancelled in the time of the events.
    """

    runs: list[RunRef] = field(default_factory=list)
    events: list[StateEvent] = field(default_factory=list)
    in_windows: bool = False
    first_load: bool = False
    are_new: bool = False
    gone: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    remembered: State = field(default_factory=dict)


def sift(rows: list[Row], outcome: Outcome, news: News, asked_for: bool = False, torn_too: bool = False) -> list[Row]:
    """Those of `rows` to load. Torn rows are set aside to be read again; what was read is noted in `outcome`."""
    result = []
    for row in rows:
        if is_torn(row) and not torn_too:
            outcome.torn.add(row["id"])
            continue
        is_news = news.is_news(row, asked_for)
        outcome.runs.append(run_ref(row, is_news, outcome.in_windows))
        if is_news:
            result.append(row)
    return result


def run_ref(row: Row, is_news: bool, in_windows: bool) -> RunRef:
    """What is kept of a row that was read; `in_windows` as in `Outcome`."""
    state = row["state"]
    created, expected = parse(row["created"]), parse(row["expected_start_time"])
    flow_run = "auto_scheduled" in row
    # times of flow runs' states are the server's, or one of its replicas': a state that is not younger than the run is
    # its first, where none that follows another can be so young
    born_with = bool(state and flow_run and state["name"] == "Scheduled" and parse(state["timestamp"]) <= created)
    # a client that executes a task run again writes anew when it was to start
    begun_again = not flow_run and expected - created > CLOCKS_DIFFER
    # of whole windows only what the events lack is kept, for there are many
    serves = state and (born_with or not in_windows) and len(state.get("message") or "") <= LONGEST_MESSAGE
    kept = {name: value for name, value in state.items() if name != "data"} if serves else None
    ids = row["id"], row["state_id"]
    return RunRef(*ids, is_news, expected, kept, born_with, row["state_type"], row.get("flow_run_id"), begun_again)
