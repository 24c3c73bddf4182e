"""A dlt source that copies run metadata of a Prefect server (3.x, or Prefect Cloud) and keeps the copy true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dlt
from dlt.extract import DltResource

from .access import Access
from .credentials import PrefectCredentials
from .deployment_changes import scd2
from .dimensions import DIMENSIONS
from .exceptions import (
    AccessRefused,
    ConfigurationError,
    NotFound,
    PrefectRunsError,
    ServerUnavailable,
    TemporaryError,
    UnexpectedReply,
    WarehouseBusy,
)
from .extras import Extras
from .known import Known, Stranger, Version
from .paging import Row
from .privacy import Privacy, PrivacyRules
from .progress import GOES_ON, STATE_KEY, State, unfinished
from .resources import has_rows, require_scd2, resource
from .rows import RunShape, Shape, StateShape, shaped_pages, shaped_with_children
from .sections import refuse_unknown_sections
from .selection import Selection
from .server import RUNS_OF, WHOLE, Server
from .settings import RUN_TABLES, ReadSettings, RunFilters
from .tables import EXTRAS, RECORDS, TABLES

# pages of rows; None where a resource waits for another
Pages = Iterator[list[Row] | None]

# rows at the watermark are told apart by `known`, not by hashes kept in the pipeline state
CURSOR: Any = dlt.sources.incremental("updated", primary_key=())

# read unless others are named; `EXTRAS` only where they are
RESOURCES = tuple(name for name in TABLES if name not in (*RECORDS, *EXTRAS))


@dlt.source(name="prefect_runs", section="prefect_runs")
def prefect_runs(
    credentials: PrefectCredentials = dlt.secrets.value,
    workspace: str | None = dlt.config.value,
    filters: RunFilters = dlt.config.value,
    settings: ReadSettings = dlt.config.value,
    known: Known | None = None,
    selections: Mapping[str, Selection] | None = None,
    access: Access | None = None,
    privacy: PrivacyRules = dlt.config.value,
) -> Sequence[DltResource]:
    """Flow runs, task runs, their state history, and what they belong to.

    Runs are loaded incrementally with `updated` as the cursor, which Prefect cannot filter on: `README.md` beside
    this file says which read finds which change. The watermark moves to the server's time at the sync's start,
    and only when everything before it was read.

    Args:
        credentials: where the server is and how it is reached. What is not configured for dlt is taken from where
            Prefect's own client takes it (`PREFECT_API_URL`, …, the active profile).
        workspace: name in the `workspace` column of every table; by default made from the URL.
        filters: which runs are loaded.
        settings: lookback, bounds, connections, request ceiling, chunks of the first load.
        known: tells what the warehouse holds, so that nothing is loaded twice; see `known.Known`.
        selections: by `flow_runs` and `task_runs`: runs to be read again instead of what changed; the watermark
            stays where it is. Select the resources of these runs and their states, and `tombstones`.
        access: that of the run of the source before, which then may read ahead while its rows are loaded.
        privacy: what of the rows is dropped, hashed or alone kept, before dlt gets them.

    Returns:
        The resources named in `RESOURCES`, `tombstones` and `syncs`; and those in `EXTRAS`, not selected.

    Raises:
        ConfigurationError: on the first read, when the URL or the credentials are wrong.
        ServerUnavailable: the server does not answer, or stays busy through every retry.
        UnexpectedReply: the server answers something that is not understood.
    """
    refuse_unknown_sections()
    filters, settings = filters or RunFilters(), settings or ReadSettings()
    access = access or Access(credentials.connection(), settings)
    server = Server(access, workspace, filters, settings, known, selections)
    rules = Privacy(privacy)
    extras = Extras(server, settings, filters.start)

    def progress(name: str) -> State:
        kept = dlt.current.resource_state(name)
        server.watch_privacy(rules, kept)
        state: State = kept.setdefault(STATE_KEY, {})
        return state

    def runs(name: str) -> DltResource:
        shape = RunShape(TABLES[name], server.workspace, rules)

        def rows(updated: Any = CURSOR) -> Pages:
            # the reads apply the range themselves; dlt's incremental keeps the watermark and filters nothing
            updated.advance(None)
            with server.reading(name):
                for page in server.capture(name).changed_rows(updated, progress(name), shape):
                    yield server.loaded(name, page)

        return resource(rows, TABLES[name])

    def states(name: str, run_kind: str, run_column: str) -> DltResource:
        shape = StateShape(TABLES[name], run_column, server.workspace, rules)

        def rows() -> Pages:
            # the runs that changed are then known, and not asked for a second time; histories of flow runs tell which
            # of those of task runs to doubt
            first = ("flow_runs",) if run_kind == "flow_runs" else ("task_runs", "flow_run_states")
            with server.reading(name):
                yield from server.others_read(*first)
                for page in server.history(run_kind).changed_states(progress(name)):
                    yield server.loaded(name, [shape(state, run_id) for run_id, state in page])

        return resource(rows, TABLES[name])

    def small(name: str) -> DltResource:
        shape = shaped_with_children(TABLES[name], server.workspace, rules)

        def rows() -> Pages:
            runs_came_to = [dlt.current.resource_state(runs).get(STATE_KEY, {}) for runs in RUN_TABLES]
            if server.read_lately(name) and any(GOES_ON & state.keys() for state in runs_came_to):
                return
            with server.reading(name):
                pages = shaped_pages(server.dimension(name), shape)
                for page in server.worth_loading(name, pages, progress(name)):
                    yield server.loaded(name, page)

        return resource(rows, TABLES[name])

    def counts(name: str, run_kind: str) -> DltResource:
        shape = Shape(TABLES[name], server.workspace, rules)

        def rows() -> Pages:
            # whether any of them changed is then known
            yield from server.others_read("flow_runs", "task_runs")
            state = progress(name)
            if server.hourly_counts_stand(run_kind, state):
                return
            with server.reading(name):
                pages = shaped_pages(server.hourly_counts(run_kind, state), shape)
                for page in server.worth_loading(name, pages, state):
                    yield server.loaded(name, page)

        return resource(rows, TABLES[name])

    def extra(name: str) -> DltResource:
        shape = shaped_with_children(TABLES[name], server.workspace, rules)

        def rows() -> Pages:
            # the runs that failed are then known, and not asked for a second time
            yield from server.others_read("flow_runs")
            with server.reading(name):
                yield from extras.pages(name, progress(name), shape)

        return resource(rows, TABLES[name], selected=False)

    def deployment_changes() -> Iterator[Any]:
        require_scd2("deployment_changes")
        shape = Shape(TABLES["deployment_changes"], server.workspace, rules)
        with server.reading("deployment_changes"):
            for page in extras.pages("deployment_changes", progress("deployment_changes"), shape):
                hints = dlt.mark.make_hints(write_disposition=scd2(server.workspace, server.ceiling))
                # without any deployment the table is loaded all the same, if it is there: what it has is retired
                if page or has_rows("deployment_changes"):
                    yield dlt.mark.with_hints(page or dlt.mark.materialize_table_schema(), hints)

    def tombstones() -> Pages:
        shape = Shape(TABLES["tombstones"], server.workspace, rules)
        yield from server.others_read("flow_runs", "task_runs", *RUNS_OF, *WHOLE)
        # an empty table where nothing is gone, so that it can be joined
        yield dlt.mark.materialize_table_schema()
        yield from shaped_pages(server.tombstones(), shape)

    def syncs() -> Pages:
        yield from server.others_read()
        row = server.sync_row()
        server.read_ahead()
        yield [Shape(TABLES["syncs"], server.workspace, rules)(row)]

    return [
        runs("flow_runs"),
        runs("task_runs"),
        states("flow_run_states", "flow_runs", "flow_run_id"),
        states("task_run_states", "task_runs", "task_run_id"),
        *map(small, DIMENSIONS),
        counts("flow_run_history", "flow_runs"),
        counts("task_run_history", "task_runs"),
        *(extra(name) for name in EXTRAS if name != "deployment_changes"),
        resource(deployment_changes, TABLES["deployment_changes"], scd2(server.workspace), selected=False),
        resource(tombstones, TABLES["tombstones"]),
        resource(syncs, TABLES["syncs"]),
    ]


__all__ = [
    "EXTRAS",
    "RECORDS",
    "RESOURCES",
    "Access",
    "AccessRefused",
    "ConfigurationError",
    "Known",
    "NotFound",
    "PrefectCredentials",
    "PrefectRunsError",
    "PrivacyRules",
    "ReadSettings",
    "RunFilters",
    "Selection",
    "ServerUnavailable",
    "Stranger",
    "TemporaryError",
    "UnexpectedReply",
    "Version",
    "WarehouseBusy",
    "prefect_runs",
    "unfinished",
]
