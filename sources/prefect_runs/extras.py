"""The resources that are read only where they are asked for, each as pages of the API's rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from dlt.common.json import json

from .artifacts import body, changed_artifacts
from .clock import EVER, parse, text
from .deployment_changes import deployment_version
from .event_log import event_row, read_events
from .events import EventFeed
from .exceptions import NotFound
from .inventory import INVENTORY
from .logs import FailedLogs, Logs
from .paging import Row
from .progress import GOES_ON, State, StateCursor
from .rows import shaped_pages
from .run_reader import DAY
from .server import Server
from .settings import ReadSettings
from .status_changes import status_changes
from .timeline import Part, Timeline
from .windows import Window

STATUS_OF = {"work_pool_status": "work_pools", "work_queue_status": "work_queues"}

Pages = Iterator[list[Row]]
RowShape = Callable[[Row], Row]


class Extras:
    """What one sync of `server` reads beside runs and what they belong to.

    Args:
        server: the server, which is not asked before the first page is.
        settings: which logs and events, how much of them; lookback and chunks.
        start: the user's bound: logs and events of before are not wanted.
    """

    def __init__(self, server: Server, settings: ReadSettings, start: datetime | None) -> None:
        self._server = server
        self._settings = settings
        self._start = start
        self._readers: dict[str, Callable[[State], Pages]] = {
            "logs": self._logs,
            "events": self._events,
            "artifacts": self._artifacts,
            **{name: partial(self._statuses, name) for name in STATUS_OF},
        }
        # `state` remembers what of them was loaded last
        self._compared: dict[str, Callable[[State, RowShape], Pages]] = {
            "deployment_changes": self._deployment_changes,
            **{name: partial(self._inventory, name) for name in INVENTORY},
        }

    def pages(self, name: str, state: State, shape: RowShape) -> Pages:
        """Pages of the rows of resource `name` that are to be loaded, shaped.

        Where the server has no such thing there are none, and a warning in `syncs`.

        Args:
            state: how far the resource came; it moves when the last page was taken.
        """
        try:
            if name in self._compared:
                pages = self._compared[name](state, shape)
            else:
                pages = shaped_pages(self._readers[name](state), shape)
            for page in pages:
                yield self._server.loaded(name, page)
        except NotFound as error:
            # else its first load would be gone on with at once, for ever
            for key in GOES_ON:
                state.pop(key, None)
            self._server.tally.warn(f"{name}: not loaded, for this server has no such thing ({error})")

    def _logs(self, state: State) -> Pages:
        logs = Logs(self._server.client, self._settings.lowest_log_level)
        asked = self._anew(state, self._settings.lowest_log_level, self._settings.log_failed_only)
        if self._settings.log_failed_only:
            capture = self._server.capture("flow_runs")
            return FailedLogs(capture, logs, asked, self._server.tally).new_rows(state)
        return self._timeline("logs", logs.read, self._start or EVER).new_rows(state)

    def _events(self, state: State) -> Pages:
        prefixes, payloads = self._settings.event_prefixes or [], self._settings.event_payloads
        self._anew(state, sorted(prefixes), payloads)
        feed = EventFeed(self._server.client, prefixes)
        read = partial(read_events, feed, at_once=self._server.client.connections)
        # a first load that goes on has no watermark yet
        reached = parse(state["snapshot"]["position"]) if "snapshot" in state else StateCursor(state).start_value
        start = self._events_kept_from(reached)
        for page in self._timeline("events", read, start).new_rows(state):
            yield [event_row(event, payloads) for event in page]

    def _events_kept_from(self, reached: datetime | None) -> datetime:
        """From when on events are wanted that the server still has; a gap where that is later than was `reached`."""
        ceiling = self._server.ceiling
        if reached and ceiling - reached < DAY:
            return self._start or EVER
        kept_from = ceiling - self._server.retention.events
        if reached and reached < kept_from:
            self._server.tally.gap(
                f"events: those between {text(reached)} and {text(kept_from)}, for the server no longer keeps them"
            )
        return max(kept_from, self._start or kept_from)

    def _artifacts(self, state: State) -> Pages:
        self._anew(state, self._settings.artifact_data)
        cursor = StateCursor(state)
        before, lookback = cursor.start_value, self._settings.lookback
        since = before and self._server.clock.read_since(before, lookback)
        for page in self._counted("artifacts", changed_artifacts(self._server.client, since)):
            yield [{**row, "data": body(row) if self._settings.artifact_data else None} for row in page]
        cursor.advance(self._server.ceiling)

    def _statuses(self, name: str, state: State) -> Pages:
        pages = self._counted(name, self._server.dimension(STATUS_OF[name]))
        id_column = f"{STATUS_OF[name].removesuffix('s')}_id"
        return status_changes(pages, state, id_column, text(self._server.ceiling))

    def _inventory(self, name: str, state: State, shape: RowShape) -> Pages:
        pages = shaped_pages(INVENTORY[name](self._server.client), shape)
        return iter(self._server.worth_loading(name, pages, state))

    def _deployment_changes(self, state: State, shape: RowShape) -> Pages:
        """All deployments where any changed, in one page, for what a load lacks is retired; else no page."""
        pages = self._counted("deployment_changes", self._server.dimension("deployments"))
        versions = [deployment_version(row, shape) for page in pages for row in page]
        loaded = _digest(sorted(row["row_hash"] for row in versions))
        if state.get("loaded") != loaded:
            yield versions
            state["loaded"] = loaded

    def _timeline(self, table: str, read: Callable[[Window], Iterator[Part]], start: datetime) -> Timeline:
        server = self._server
        return Timeline(table, read, start, server.clock, self._settings, server.known, server.tally)

    def _counted(self, name: str, pages: Pages) -> Pages:
        for page in pages:
            self._server.tally.read(name, len(page))
            yield page

    def _anew(self, state: State, *what: object) -> str:
        """Forget `state` where other rows are asked for than before; returns what it keeps of those."""
        asked = _digest(self._server.workspace, str(self._start), *what)
        if state.get("asked") != asked:
            state.clear()
            state["asked"] = asked
        return asked


def _digest(*what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
