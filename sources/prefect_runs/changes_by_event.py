"""The runs that the events feed names: those that changed against the clock, and what no other read shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain

from .cancellations import CANCELLED
from .clock import parse, text
from .counted_reads import CountedReads
from .event_ledger import SETTLE, EventLedger
from .exceptions import AccessRefused, NotFound
from .lost_runs import LostTaskRuns
from .news import News
from .outcome import Outcome, RunRef, sift
from .paging import Row
from .progress import Plan, State
from .recent_events import RecentEvents
from .rows import version
from .run_reader import FLOW_RUN, TASK_RUN
from .windows import Window


class ChangesByEvent:
    """What events tell of one kind of run.

    Args:
        reads: reads the runs by id.
        events: gives the events that no earlier sync read.
        lookback: the setting of that name.
        lost: finds the task runs that the server lost, if the warehouse can be asked.
    """

    def __init__(
        self, reads: CountedReads, events: RecentEvents, lookback: timedelta, lost: LostTaskRuns | None
    ) -> None:
        self._reads = reads
        self._reader, self._tally = reads.reader, reads.tally
        self._events = events
        self._lookback = lookback
        self._lost = lost

    def read(self, plan: Plan, state: State, outcome: Outcome, news: News) -> Iterator[list[Row]]:
        """Pages of the runs that events name in a state that neither other reads nor the warehouse have, by id."""
        try:
            events, ledger = self._events.read(plan, state)
        except (NotFound, AccessRefused) as error:
            self._tally.gap(
                f"{self._reader.kind.name}: the server gives no events, so changes from one terminal state to "
                f"another are only found by verify ({error})"
            )
            outcome.remembered.update(self._events.unread(plan, state))
            return
        outcome.events = [event for event in events if event.kind == self._reader.kind.resource_prefix]
        of_flow_runs = [event for event in events if event.kind == FLOW_RUN.resource_prefix]
        outcome.cancelled = {event.run_id for event in of_flow_runs if event.type in CANCELLED}
        latest: dict[str, datetime] = {}
        for event in outcome.events:
            latest[event.run_id] = max(event.occurred, latest.get(event.run_id, event.occurred))
        behind = [run_id for run_id, occurred in latest.items() if news.is_behind(run_id, occurred)]
        answered: set[str] = set()
        for rows in self._reads.pages(self._reader.by_ids(behind)):
            answered.update(row["id"] for row in rows)
            yield sift(news.newer(rows), outcome, news, asked_for=True)
        # a run that is still behind its event was not recorded yet: its events are read again by the next sync
        late = {run_id for run_id in behind if news.is_behind(run_id, latest[run_id])}
        outside, deleted = self._out_of_reach(late - answered, latest)
        unresolved = late - outside - deleted
        outcome.gone |= self._reads.live(deleted)
        next_since = plan.ceiling - self._lookback
        if self._lost:
            # what was not recorded within the lookback will not be
            never = {run_id for run_id in unresolved if latest[run_id] < next_since}
            self._lost.look_up(event for event in outcome.events if event.run_id in never)
        self._tell_unheard(plan, outcome, ledger)
        again = [event.occurred for event in outcome.events if event.run_id in unresolved]
        outcome.events = [event for event in outcome.events if event.run_id not in late]
        if self._reader.kind is TASK_RUN:
            # the server gives a subflow's new state to the task run that stands for it, and no event tells of that
            standing = news.not_seen({event.task_run_id for event in of_flow_runs if event.task_run_id})
            yield from self._reads.anew(standing, outcome, news)
        outcome.remembered["events"] = ledger.without(again).since(next_since).state()

    def _tell_unheard(self, plan: Plan, outcome: Outcome, ledger: EventLedger) -> None:
        """A gap where flow runs changed and the server has no event at all: it answers so too when it keeps none."""
        if self._reader.kind is not FLOW_RUN or ledger.total:
            return
        # by then an event is there; what changed in a lookback is read by every sync of that time
        arrived = plan.ceiling - max(SETTLE, self._lookback / 2)
        heard = Window(max(ledger.window.start, self._events.kept_since(plan)), arrived)
        told = (time for run in outcome.runs if (time := _announced(run)))
        unheard = [time for time in told if heard.start <= time < heard.end]
        if unheard:
            self._tally.gap(
                f"{self._reader.kind.name}: {len(unheard)} changed between {text(heard.start)} and {text(heard.end)}, "
                "and the server has no event of that time, so changes from one terminal state to another are only "
                "found by verify; is its event persister off (PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED)?"
            )

    def _out_of_reach(self, run_ids: set[str], latest: Mapping[str, datetime]) -> tuple[set[str], set[str]]:
        """Those of `run_ids` that no later sync will bring: outside the user's filters, and deleted."""
        if not run_ids:
            return set(), set()
        unfiltered = self._reads.pages(self._reader.unfiltered.by_ids(run_ids)) if self._reader.filtered else ()
        entered = {row["id"]: version(row)[1] for row in chain.from_iterable(unfiltered)}
        outside = {run_id for run_id, time in entered.items() if time is not None and time >= latest[run_id]}
        # a flow run is written before its event; a task run may be written long after
        deleted = run_ids - entered.keys() - self._reader.unreadable if self._reader.kind is FLOW_RUN else set()
        return outside, deleted


def _announced(run: RunRef) -> datetime | None:
    """When a flow run entered its state, if the server makes an event of that: not of what a schedule makes."""
    return parse(run.state["timestamp"]) if run.state and run.state_type != "SCHEDULED" else None
