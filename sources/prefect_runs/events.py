"""The events feed: names the runs whose state changed, in pages that lose no late event.

An event tells of one state: its id is the state's id, its `occurred` the state's timestamp. Following the API's
`next_page` loses events that arrive between two pages, so pages are cut by `occurred` instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .chains import StateEvent, state_event
from .client import PrefectClient
from .clock import MICROSECOND, parse, text
from .exceptions import ServerUnavailable, UnexpectedReply, described
from .paging import Row, check_inside
from .read_ahead import batches
from .windows import Window

# sent by running flows every few seconds; they tell of no state
HEARTBEAT = "prefect.flow-run.heartbeat"
# one query may span 14 days on Prefect Cloud
LONGEST_QUERY = timedelta(days=7)
# with every page the server counts all events of the window that it is asked for, which makes a long one slow
COUNTED = 500
# runs whose events are asked for in one request
RUNS_ASKED = 50


@dataclass(frozen=True)
class EventsRead:
    """All events of a window: when each occurred, and those that tell of a state."""

    window: Window
    times: list[datetime]
    states: list[StateEvent]


class EventFeed:
    """State changes of runs, both kinds in one list, so that one sync reads it once.

    Args:
        client: the server.
        prefixes: of the events' names.
        resources: the runs in question as events call them; all where they are not named.
    """

    def __init__(self, client: PrefectClient, prefixes: Sequence[str], resources: Sequence[str] = ()) -> None:
        self._client = client
        self._prefixes = list(prefixes)
        self._resources = list(resources)
        self._totals: dict[Window, int] = {}
        self._first_page: tuple[Window, dict[str, Any]] | None = None
        self._remembered: dict[Window, EventsRead] = {}

    def total(self, window: Window) -> int:
        """How many events of these runs the server has in `window`: a request, and none when asked again."""
        if window not in self._totals:
            page = self._page(window)
            self._totals[window] = page["total"]
            # it is the first of those that are read when the number is not the expected one
            self._first_page = window, page
        return self._totals[window]

    def read_once(self, window: Window) -> EventsRead:
        """`read`, remembered for the other kind of run, which asks for the same."""
        if window not in self._remembered:
            self._remembered[window] = self.read(window)
        return self._remembered[window]

    def read(self, window: Window, enough: int | None = None) -> EventsRead:
        """Every event that occurred in `window`, each once, oldest first.

        Args:
            enough: after so many the rest is left; `EventsRead.window` is then the part that was read.
        """
        times: dict[str, datetime] = {}
        states: dict[str, StateEvent] = {}
        texts: dict[str, str] = {}
        for part in window.parts(LONGEST_QUERY):
            for page in self.pages(part):
                times.update((event["id"], parse(event["occurred"])) for event in page)
                told = (_told(event, texts) for event in page)
                states.update((event.state_id, event) for event in told if event)
                # others may have occurred at the same time as the last one
                end = parse(page[-1]["occurred"]) if page else window.start
                if enough is not None and len(times) >= enough and end > window.start:
                    return EventsRead(Window(window.start, end), list(times.values()), list(states.values()))
        return EventsRead(window, list(times.values()), list(states.values()))

    def pages(self, window: Window) -> Iterator[list[Row]]:
        """Pages of every event that occurred in `window`, oldest first; some come twice."""
        start, end = window.start, window.end
        while start < window.end:
            asked = Window(start, end)
            reply = self._begun(asked)
            events = self._events(reply)
            check_inside(start, end, [event["occurred"] for event in events])
            yield events
            if reply["next_page"]:
                first, start = parse(events[0]["occurred"]), parse(events[-1]["occurred"])
                told = Window(first, start), len(events)
                if first == start:
                    yield from self._ties(Window(start, start + MICROSECOND))
                    start += MICROSECOND
                if reply["total"] <= COUNTED:
                    continue
            else:
                start, told = end, (asked, reply["total"])
            end = start + min(_counted_at_once(*told), window.end - start)

    def _ties(self, window: Window) -> Iterator[list[Row]]:
        # more than a page occurred in one microsecond: the only place where the server's own paging is
        # followed, by its token, for its absolute URL is wrong behind a proxy
        reply = self._page(window)
        yield self._events(reply)
        tokens: set[str] = set()
        while reply["next_page"]:
            token = reply["next_page"].partition("page-token=")[2]
            if token in tokens:
                raise ServerUnavailable("the pages of events go in a circle; try again later")
            tokens.add(token)
            reply = _checked(self._client.get("/events/filter/next", {"page-token": token}), "GET /events/filter/next")
            yield self._events(reply)

    def _begun(self, window: Window) -> dict[str, Any]:
        # read once: another thread may count another window meanwhile
        held = self._first_page
        if held and held[0] == window:
            self._first_page = None
            return held[1]
        return self._page(window)

    def _page(self, window: Window) -> dict[str, Any]:
        filter_: dict[str, Any] = {
            "occurred": {"since": text(window.start), "until": text(window.last)},
            "event": {"prefix": self._prefixes, "exclude_name": [HEARTBEAT]},
            "order": "ASC",
        }
        if self._resources:
            filter_["resource"] = {"id": self._resources}
        return _checked(self._client.post("/events/filter", {"filter": filter_}), "POST /events/filter")

    def _events(self, reply: dict[str, Any]) -> list[Row]:
        events = self._client.rows(reply["events"], "POST /events/filter")
        for event in events:
            _check_event(event)
        return events


def _checked(reply: Any, asked: str) -> dict[str, Any]:
    """`reply` as a page of events, whose events are not looked at.

    Raises:
        UnexpectedReply: it is something else.
        ServerUnavailable: it is without events, and yet others are to follow: they were deleted while it was made.
    """
    if not isinstance(reply, dict) or not {"events", "total", "next_page"} <= reply.keys():
        raise UnexpectedReply(f"{asked} answered {described(reply)} where a page of events was due")
    if type(reply["total"]) is not int:
        raise UnexpectedReply(f"{asked} answered {described(reply['total'])} where the number of events was due")
    if not isinstance(reply["next_page"], str | None):
        raise UnexpectedReply(f"{asked} answered {described(reply['next_page'])} where the next page's URL was due")
    if reply["next_page"] and not reply["events"]:
        raise ServerUnavailable(f"{asked} answered a page without events that others are to follow; try again later")
    return reply


def _told(event: Row, texts: dict[str, str]) -> StateEvent | None:
    """`state_event`.

    Raises:
        UnexpectedReply: the event is of another form.
    """
    try:
        return state_event(event, texts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{described(event)} ({type(error).__name__})"
        raise UnexpectedReply(f"POST /events/filter answered an event of another form: {what}") from None


def _check_event(event: Row) -> None:
    """Refuse an event without what every event has.

    Raises:
        UnexpectedReply: it lacks when it occurred, or to what.
    """
    occurred, resource = event.get("occurred"), event.get("resource")
    try:
        parse(occurred)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError, AttributeError):
        raise UnexpectedReply(f"an event has {described(occurred)} where the time it occurred at was due") from None
    if not isinstance(resource, dict) or not isinstance(resource.get("prefect.resource.id"), str):
        raise UnexpectedReply(f"an event has {described(resource)} where the resource that it is about was due")


def states_told(client: PrefectClient, prefix: str, run_ids: Collection[str], window: Window) -> Iterator[StateEvent]:
    """The states that the events of `window` tell of some runs, each run's together; `prefix` is that of its kind."""
    for ids in batches(sorted(run_ids), RUNS_ASKED):
        feed = EventFeed(client, [f"{prefix}."], [f"{prefix}.{run_id}" for run_id in ids])
        yield from feed.read(window).states


def _counted_at_once(window: Window, events: int) -> timedelta:
    """As long as `COUNTED` events last, where they come as in a window that has so many."""
    return max((window.end - window.start) * (COUNTED / max(events, 1)), MICROSECOND)
