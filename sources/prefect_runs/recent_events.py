"""The state-change events of a sync's lookback, each read once over all syncs, late ones included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from .chains import StateEvent
from .clock import parse, text
from .event_ledger import EventLedger, slice_start
from .events import LONGEST_QUERY, EventFeed
from .progress import Plan, State
from .retention import Retention
from .run_reader import RunKind
from .tally import Tally
from .windows import Window

# events of clients whose clocks are ahead, and of the rest of the second that the `Date` header cuts off
EVENTS_AHEAD = timedelta(hours=1)


def recent(since: datetime, now: datetime, lookback: timedelta) -> Window:
    """The time of the events that a sync compares with those it read before, in whole slices of the lookback."""
    return Window(slice_start(since, lookback), now + EVENTS_AHEAD)


class RecentEvents:
    """Reads what no earlier sync read, and remembers in the pipeline state how many events there were.

    Args:
        feed: the events of all runs.
        kind: the runs in question.
        lookback: the setting of that name.
        surely_kept: nobody is asked how long events are kept while less than this is to be read.
        retention: asks how long the server keeps events.
        tally: takes note of events that are gone.
    """

    def __init__(
        self,
        feed: EventFeed,
        kind: RunKind,
        lookback: timedelta,
        surely_kept: timedelta,
        retention: Callable[[], Retention],
        tally: Tally,
    ) -> None:
        self._feed = feed
        self._kind = kind
        self._lookback = lookback
        self._surely_kept = surely_kept
        self._retention = retention
        self._tally = tally

    def read(self, plan: Plan, state: State) -> tuple[list[StateEvent], EventLedger]:
        """The events since `plan.since` that no earlier sync read, of both kinds of run, and the ledger of all."""
        saved = EventLedger.from_state(state["events"], self._lookback) if "events" in state else None
        plan = self._with_unread(plan, state)
        assert plan.since is not None
        whole = recent(plan.since, plan.now, self._lookback)
        begin, end = whole.start, plan.ceiling if plan.rest else whole.end
        self._tell_lost(plan)
        if saved and saved.covers(begin) and plan.ceiling - begin < LONGEST_QUERY:
            # what was read ahead of the clock is counted here, and may lie behind the end of a part
            if not plan.rest and self._feed.total(Window(begin, end)) == saved.count(begin):
                return [], EventLedger(Window(begin, plan.ceiling), saved.slice, saved.since(begin).counts)
            settled = max(saved.settled, begin)
            if self._feed.total(Window(begin, settled)) == saved.count(begin, settled):
                events, newer = self._events_in(Window(settled, end), plan.ceiling)
                return events, saved.extended(newer, begin)
        return self._events_in(Window(begin, end), plan.ceiling)

    def unread(self, plan: Plan, state: State) -> State:
        """What is remembered where the server refuses the events that it gave before: from when on to read them."""
        since = self._with_unread(plan, state).since
        return {"events_since": text(since)} if since and {"events", "events_since"} & state.keys() else {}

    def _with_unread(self, plan: Plan, state: State) -> Plan:
        """`plan`, from the events on that earlier syncs were refused."""
        assert plan.since is not None
        return replace(plan, since=min(plan.since, parse(state.get("events_since", text(plan.since)))))

    def kept_since(self, plan: Plan) -> datetime:
        """From when on the server still has the events that `read` asks for."""
        assert plan.since is not None
        if plan.now - plan.since <= self._surely_kept:
            return plan.since
        return max(plan.since, plan.now - self._retention().events)

    def _tell_lost(self, plan: Plan) -> None:
        assert plan.since is not None
        lost = Window(plan.since, min(self.kept_since(plan), plan.ceiling))
        if not lost.empty:
            self._tally.gap(
                f"{self._kind.name}: changes from one terminal state to another between {text(lost.start)} and "
                f"{text(lost.end)}, for the server keeps events {self._retention().events.days} days; "
                "verify --sweep finds them"
            )

    def _events_in(self, window: Window, ceiling: datetime) -> tuple[list[StateEvent], EventLedger]:
        read = self._feed.read_once(window)
        ledger = EventLedger.of(Window(window.start, ceiling), self._lookback, read.times)
        return read.states, ledger
