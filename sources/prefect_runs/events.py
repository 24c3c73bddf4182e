"""The events feed: names the runs whose state changed, in pages that lose no late event.

An event tells of one state: its id is the state's id, its `occurred` the state's timestamp. Following the API's
`next_page` loses events that arrive between two pages, so pages are cut by `occurred` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .client import PrefectClient
from .clock import MICROSECOND, parse, text
from .exceptions import ServerUnavailable, UnexpectedReply
from .paging import Row, check_inside
from .windows import Window

# sent by running flows every few seconds; they tell of no state
HEARTBEAT = "prefect.flow-run.heartbeat"


@dataclass(frozen=True)
class StateEvent:
    """That a run entered a state."""

    state_id: str
    run_id: str
    occurred: datetime


class EventFeed:
    """State changes of runs of one kind."""

    def __init__(self, client: PrefectClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def total(self, window: Window) -> int:
        """How many events of these runs the server has in `window` now (one request)."""
        return int(self._page(window)["total"])

    def read(self, window: Window) -> list[Row]:
        """Every event that occurred in `window`, each once, oldest first."""
        events: dict[str, Row] = {}
        for page in self._pages(window):
            events.update((event["id"], event) for event in page)
        return list(events.values())

    def _pages(self, window: Window) -> Iterator[list[Row]]:
        start = window.start
        while start < window.end:
            reply = self._page(Window(start, window.end))
            events = self._events(reply)
            check_inside(start, window.end, [event["occurred"] for event in events])
            yield events
            if not reply["next_page"]:
                return
            edge = parse(events[-1]["occurred"])
            if parse(events[0]["occurred"]) == edge:
                yield from self._ties(Window(edge, edge + MICROSECOND))
                edge += MICROSECOND
            start = edge

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
            reply = self._client.get("/events/filter/next", {"page-token": token})
            yield self._events(reply)

    def _page(self, window: Window) -> dict[str, Any]:
        filter_ = {
            "occurred": {"since": text(window.start), "until": text(window.last)},
            "event": {"prefix": [self._prefix], "exclude_name": [HEARTBEAT]},
            "order": "ASC",
        }
        reply = self._client.post("/events/filter", {"filter": filter_})
        if not isinstance(reply, dict) or not {"events", "total", "next_page"} <= reply.keys():
            raise UnexpectedReply(f"POST /events/filter answered {str(reply)[:200]} where a page of events was due")
        return reply

    def _events(self, reply: dict[str, Any]) -> list[Row]:
        return self._client.rows(reply["events"], "POST /events/filter")


def state_events(events: list[Row]) -> list[StateEvent]:
    """Those of `events` that tell of a state, shaped."""
    return [
        StateEvent(event["id"], event["resource"]["prefect.resource.id"].rpartition(".")[2], parse(event["occurred"]))
        for event in events
        if "prefect.state-type" in event["resource"]
    ]
